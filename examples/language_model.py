r"""Two language models made smaller: bits per character and perplexity on text that they have not seen.

    KOLMO_DATA=DIR python examples/language_model.py

stories260K is a Llama of 260,000 parameters (tests/models/README.md), which examples/llama2c.py converts for
transformers; it reads examples/sample.txt. The other is a Transformer in FOLDER/lm, trained by

    kolmo train DIR/train/wiki_en.txt=0.7 DIR/train/novels_en.txt=0.3 --model transformer-3.2m \
        --vocabulary bpe:1024 --window 512 --lanes 8 --threads 1 --budget 27m -o FOLDER/lm

and reads WikiText-2's test text. Of each text these are the first 32,768 characters, in the windows of
`kolmo eval --stride 256`.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import llama2c
import numpy as np
import torch
from common import PERPLEXITY, SMOKE_STEPS, Subject, main, place, train
from torch import Tensor
from torch.nn import functional

from kolmo.errors import KolmoError, MissingExtraError
from kolmo.evaluation.windows.windows import strict
from kolmo.installing import install
from kolmo.training.networks.models import load
from kolmo.training.networks.transformer import Transformer, TransformerShape
from kolmo.training.texts.vocabulary import BytePairs, ByteVocabulary

HERE = Path(__file__).parent
STORIES = HERE.parent / "tests" / "models" / "stories260K"
CHARACTERS = 1 << 15  # of each text: seconds a form
PRUNE = 0.5

Predict = Callable[[Tensor], Tensor]  # logits (n, symbols) of the symbol after each of n


@torch.inference_mode()
def nats(predict: Predict, tokens: Tensor, context: int, start: Tensor) -> float:
    """Code length of tokens, (n,), in nats; `start`, (1,) or (0,), stands before each window.

    Without a start nothing predicts the first token, which is left out.
    """
    total = 0.0
    for window in strict(len(tokens), context, context // 2):
        reads = torch.cat([start, tokens[window.first : window.last - 1]])
        scored = min(window.scored, len(reads))
        wanted = tokens[window.last - scored : window.last]
        total += float(functional.cross_entropy(predict(reads)[-scored:], wanted, reduction="sum"))
    return total


def scores(text: str, tokens: int, found: float) -> dict[str, float]:
    """Both metrics of a text whose tokens cost so many nats."""
    return {"bits/char": found / math.log(2) / len(text), PERPLEXITY: math.exp(found / tokens)}


def stories(options: argparse.Namespace, text: str) -> Subject:
    """stories260K, as transformers has it. Its start token stands before the text."""
    try:
        from transformers import AutoModelForCausalLM, AutoTokenizer
    except ImportError as error:
        raise MissingExtraError(f"stories260K needs transformers ({error}); {install('hf')}") from None
    folder = options.folder / "stories260K"
    if not (folder / "tokenizer_config.json").exists():
        llama2c.convert(STORIES / "stories260K.bin", STORIES / "tok512.bin", folder)
    module: Any = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=False)
    ids = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)(text, verbose=False).input_ids
    start, tokens = torch.tensor(ids[:1]), torch.tensor(ids[1:])
    context = module.config.max_position_embeddings

    def measure() -> dict[str, float]:
        found = nats(lambda reads: module(reads[None]).logits[0], tokens, context, start)
        return scores(text, len(tokens), found)

    return Subject("stories260K", module, "llm", PRUNE, measure)


def transformer(module: Transformer, vocabulary: BytePairs | ByteVocabulary, text: str) -> Subject:
    """A model of `kolmo train`. The first token, before which it sees nothing, costs as much as any other could."""
    symbols = vocabulary.encode(np.frombuffer(text.encode(), np.uint8))
    tokens = torch.from_numpy(symbols.astype(np.int64))

    module.eval()

    def measure() -> dict[str, float]:
        found = nats(lambda reads: module(reads[:, None], reads, None)[:, 0], tokens, module.reach, tokens[:0])
        return scores(text, len(tokens), found + math.log(vocabulary.size))

    return Subject("Transformer 3.2M", module, "llm", PRUNE, measure)


def trained(folder: Path, text: str) -> Subject:
    """The Transformer of a run's folder.

    Raises:
        KolmoError: there is none.
    """
    if not (folder / "config.json").exists():
        raise KolmoError(f"{folder}: no trained Transformer is there; --help has the command that makes it")
    module = load(folder)
    if not isinstance(module, Transformer):
        raise KolmoError(f"{folder}: holds another kind of model; --help has the command that makes a Transformer")
    vocabulary = BytePairs.load((folder / "tokenizer.json").read_text("utf-8"), "bpe")
    return transformer(module, vocabulary, text)


def made(text: str) -> Subject:
    """A tiny Transformer over bytes that learned a little of the text itself."""
    module = Transformer(TransformerShape(layers=2, width=32, heads=2, context=64))
    symbols = torch.from_numpy(np.frombuffer(text.encode(), np.uint8).astype(np.int64))

    def loss(step: int) -> Tensor:
        lanes = symbols[:520].view(8, 65).T
        return functional.cross_entropy(module(lanes[:-1], lanes, None).flatten(0, 1), lanes[1:].flatten())

    train(module, loss, steps=SMOKE_STEPS, rate=0.01, path=None)
    return transformer(module, ByteVocabulary(), text)


def subjects(options: argparse.Namespace) -> Iterator[Subject]:
    """Both models; of --smoke, stories260K and one that was hardly trained, on a page."""
    sample = (HERE / "sample.txt").read_text("utf-8")
    if options.smoke:
        yield from (stories(options, sample[:300]), made(sample[:600]))
        return
    yield stories(options, sample[:CHARACTERS])
    text = place(options, "bench", "text", "wiki.test.raw").read_text("utf-8")[:CHARACTERS]
    yield trained(options.folder / "lm", text)


if __name__ == "__main__":
    main(__doc__, subjects)
