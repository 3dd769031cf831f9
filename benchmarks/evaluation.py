"""Evaluation, measured: speed and memory beside the published loop, agreement with it, and what numbers depend on.

    KOLMO_DATA=DIR python benchmarks/evaluation.py --markdown docs/benchmarks/evaluation.md

The published loop is that of "Compression Represents Intelligence Linearly": windows of a joined stream through the
whole model, cross entropy over all logits, all but the last ones masked. It is written again here from its description.
Each side runs in a process of its own, so that its peak of memory is its own; sides take turns. A speed is the tokens
that were scored over wall-clock seconds from texts to number, without loading the model. Models have random weights
where only time and memory are measured. Texts: $KOLMO_DATA/bench/text/wiki.test.raw, in documents of 20,000 characters.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from harness.report import machine

BLOCK, STRIDE, BATCH = 1900, 512, 8
LENGTH = 20_000  # characters of a document
SIDES = {
    "published loop, batch 8": ("published", BATCH),
    "kolmo eval --batch-size 8": ("kolmo", BATCH),
    "kolmo eval": ("kolmo", None),
}


def documents(path: Path, characters: int) -> list[str]:
    """The head of a text, cut."""
    text = path.read_bytes().decode("utf-8", "replace")[:characters]
    return [text[k : k + LENGTH] for k in range(0, len(text), LENGTH)]


# -- models --


def make_model(folder: Path, text: Path, vocabulary: int, width: int, layers: int) -> None:
    """A Llama with random weights and a BPE tokenizer of a real text."""
    import torch
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=min(vocabulary, 32000), special_tokens=["<s>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    tokenizer.train([str(text)], trainer)
    torch.manual_seed(1)
    config = transformers.LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=width * 8 // 3,
        num_hidden_layers=layers,
        num_attention_heads=width // 32,
        max_position_embeddings=2048,
        bos_token_id=0,
        eos_token_id=0,
    )
    model: Any = transformers.LlamaForCausalLM(config)
    model.save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(
        '{"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>"}\n', "utf-8"
    )


# -- sides: one process each --


def published(folder: Path, texts: list[str], dtype: str, batch: int, block: int, stride: int) -> dict[str, Any]:
    """The published loop."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype), trust_remote_code=False)
    model.eval()
    began = time.perf_counter()
    stream = np.concatenate([np.array(tokenizer.encode(text, verbose=False), np.int64) for text in texts])
    count = math.floor((len(stream) - block - 1) / stride + 1)
    losses = []
    scored = 0
    with torch.no_grad():
        for first in range(0, count, batch):
            numbers = range(first, min(first + batch, count))
            windows = torch.from_numpy(np.stack([stream[k * stride : k * stride + block + 1] for k in numbers]))
            mask = torch.zeros(len(windows), block, dtype=torch.bool)
            for row, k in zip(mask, numbers, strict=True):
                row[0 if k == 0 else -stride :] = True
            targets = windows[:, 1:].masked_fill(~mask, -1)
            logits = model(windows[:, :-1]).logits.float()
            losses.append(
                torch.nn.functional.cross_entropy(
                    logits.reshape(-1, logits.size(-1)), targets.reshape(-1), ignore_index=-1, reduction="sum"
                ).item()
            )
            scored += int(mask.sum())
    nats = float(np.array(losses).sum())
    characters = sum(map(len, texts))
    return {"nats": nats, "tokens": scored, "seconds": time.perf_counter() - began, "bpc": nats / characters / LN2}


def kolmo(folder: Path, texts: list[str], dtype: str, batch: int | None, block: int, stride: int) -> dict[str, Any]:
    """`kolmo eval --mode paper`."""
    from kolmo.corpus import Corpus, Document
    from kolmo.evaluation.evaluate import EvaluationPlan, evaluate_model
    from kolmo.evaluation.scorers.scorers import ScorerOptions

    plan = EvaluationPlan("paper", block, stride, batch, ScorerOptions(dtype))
    corpus = Corpus("texts", "texts", [Document(text) for text in texts])
    with tempfile.TemporaryDirectory() as output:
        (result,) = evaluate_model(f"hf:{folder}", [corpus], plan, Path(output))
    return found_in(result)


def harness(folder: Path, texts: list[str], dtype: str, batch: int, block: int, stride: int) -> dict[str, Any]:
    """lm-evaluation-harness: its rolling log-likelihood, whose windows are disjoint."""
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    model: Any = HFLM(pretrained=str(folder), device="cpu", dtype=dtype, batch_size=batch, max_length=block)
    began = time.perf_counter()
    requests = [Instance(request_type="loglikelihood_rolling", doc={}, arguments=(t,), idx=0) for t in texts]
    nats = -sum(model.loglikelihood_rolling(requests, disable_tqdm=True))
    seconds = time.perf_counter() - began
    tokens = sum(len(model.tok_encode(text)) for text in texts)
    return {"nats": nats, "tokens": tokens, "seconds": seconds, "bpc": nats / sum(map(len, texts)) / LN2}


def kolmo_rolling(folder: Path, texts: list[str], dtype: str, batch: int, block: int, stride: int) -> dict[str, Any]:
    """`kolmo eval --mode lm-eval`."""
    import kolmo as package
    from kolmo.evaluation.evaluate import texts as corpus_of

    result = package.evaluate(
        f"hf:{folder}", corpus_of("texts", texts), mode="lm-eval", block_size=block, batch_size=batch, dtype=dtype
    )[0]
    return found_in(result)


def found_in(result: Any) -> dict[str, Any]:
    """What is compared of a result."""
    run = result.record["run"]
    return {
        "nats": result.metrics["nats"],
        "tokens": run["tokens"],
        "seconds": run["seconds"],
        "bpc": result.bits_per_character,
    }


LN2 = math.log(2)
FAMILIES = {"stories260K": (500, 128), "llama": (120, 40), "gpt2": (120, 40), "gpt_neox": (96, 32)}  # block, stride
WORK: dict[str, Any] = {"published": published, "kolmo": kolmo, "harness": harness, "kolmo_rolling": kolmo_rolling}


def side(name: str, folder: Path, text: Path, characters: int, dtype: str, batch: int | None) -> dict[str, Any]:
    """Run a side in a process of its own."""
    command = [sys.executable, __file__, "--side", name, "--folder", str(folder), "--text", str(text)]
    command += ["--characters", str(characters), "--dtype", dtype, "--batch", str(batch or 0)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def run_side(options: argparse.Namespace) -> None:
    """In that process."""
    from tqdm import tqdm

    tqdm.disable = True
    texts = documents(options.text, options.characters)
    found = WORK[options.side](options.folder, texts, options.dtype, options.batch or None, BLOCK, STRIDE)
    found["peak"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps(found))


# -- parts of the report --


def table(head: list[str], rows: list[list[str]]) -> str:
    """Markdown."""
    lines = [head, ["---" if k == 0 else "---:" for k in range(len(head))], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def speed(folder: Path, text: Path, characters: int, dtype: str, repeat: int) -> list[list[str]]:
    """Rows: each side's speed and peak."""
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in SIDES}
    for _ in range(repeat):
        for name, (work, batch) in SIDES.items():
            found[name].append(side(work, folder, text, characters, dtype, batch))
    rows = []
    base = found["published loop, batch 8"]
    for name, runs in found.items():
        rates = [one["tokens"] / one["seconds"] for one in runs]
        against = [mine / (one["tokens"] / one["seconds"]) for mine, one in zip(rates, base, strict=True)]
        peak = statistics.median(one["peak"] for one in runs)
        rows.append(
            [
                name,
                dtype,
                f"{runs[0]['tokens']:,}",
                f"{statistics.median(rates):,.0f}",
                f"{statistics.median(against):.2f}",
                f"{peak / 2**20:,.0f}",
                f"{peak / statistics.median(one['peak'] for one in base):.2f}",
                f"{runs[0]['bpc']:.6f}",
            ]
        )
    return rows


def rolling(folder: Path, text: Path, characters: int, repeat: int) -> list[list[str]]:
    """Rows: lm-evaluation-harness's own number by both."""
    rows = []
    for name, work in (("lm-evaluation-harness", "harness"), ("kolmo eval --mode lm-eval", "kolmo_rolling")):
        runs = [side(work, folder, text, characters, "float32", BATCH) for _ in range(repeat)]
        rate = statistics.median(one["tokens"] / one["seconds"] for one in runs)
        peak = statistics.median(one["peak"] for one in runs)
        rows.append([name, f"{runs[0]['tokens']:,}", f"{rate:,.0f}", f"{peak / 2**20:,.0f}", f"{runs[0]['bpc']:.6f}"])
    return rows


def agreement(work: Path, text: Path) -> list[list[str]]:
    """Rows: paper mode against the published loop, real text, float32, several families."""
    from harness.models import stories, tiny

    rows = []
    for family, (block, stride) in FAMILIES.items():
        folder = work / family
        folder.mkdir(exist_ok=True)
        if family == "stories260K":
            stories(folder)
        else:
            tiny(folder, family)
        texts = documents(text, 120_000)
        right = published(folder, texts, "float32", 8, block, stride)
        mine = kolmo(folder, texts, "float32", 8, block, stride)
        difference = abs(mine["nats"] - right["nats"]) / right["nats"]
        rows.append(
            [
                family,
                f"{block}/{stride}",
                f"{right['tokens']:,}",
                f"{mine['tokens']:,}",
                f"{right['bpc']:.7f}",
                f"{mine['bpc']:.7f}",
                f"{difference:.1e}",
            ]
        )
    return rows


def stability(work: Path, text: Path) -> list[list[str]]:
    """Rows: strict mode over batch sizes, and over lengths of the cache."""
    from kolmo.evaluation import run
    from kolmo.evaluation.engines.engines import LocalEngine
    from kolmo.evaluation.evaluate import texts
    from kolmo.evaluation.opening import open_scorer
    from kolmo.evaluation.results.store import RowStore
    from kolmo.evaluation.scorers.scorers import Scorer
    from kolmo.evaluation.scorers.token_scorers import TokenScorer
    from kolmo.evaluation.windows.modes import MODES

    corpus = texts("texts", [part[: 500 * (k + 1)] for k, part in enumerate(documents(text, 240_000))])

    def score(scorer: Scorer, family: str, batch: int) -> Any:
        block, stride = FAMILIES[family]
        mode = MODES["strict"].sized(block, stride)
        with tempfile.TemporaryDirectory() as folder:
            found = run.scan(corpus, stream=False)
            return run.run(LocalEngine(scorer), corpus, mode, RowStore(Path(folder)), found, batch_size=batch)[
                "metrics"
            ]

    rows = []
    for family in FAMILIES:
        scorer = open_scorer(f"hf:{work / family}")
        assert isinstance(scorer, TokenScorer)
        values = [score(scorer, family, batch) for batch in (1, 8, 32)]
        nats = [one["nats"] for one in values]
        backend = scorer.backend
        pieces = [
            TokenScorer(scorer.identity, backend, logit_bytes=8 * 4 * backend.size * tokens)
            for tokens in (16, 64, 1 << 20)
        ]
        through = [score(piece, family, 8)["nats"] for piece in pieces]
        spread = (max(nats) - min(nats)) / nats[0]
        cached = max(abs(value - nats[0]) for value in through) / nats[0]
        rows.append([family, f"{values[0]['bits_per_character']:.7f}", f"{spread:.1e}", f"{cached:.1e}"])
    return rows


def worked_case() -> list[list[str]]:
    """Rows: full windows of a stream, by the published formula and by ours."""
    from kolmo.evaluation.windows.windows import paper

    rows = []
    for count in (1900, 1901, 10_000, 1_000_000):
        found = list(paper(count, BLOCK, STRIDE))
        formula = max(math.floor((count - BLOCK - 1) / STRIDE + 1), 0)
        scored = sum(window.scored for window in found)
        lost = f"{count - 1 - scored:,}" if found else "all: an error"
        rows.append([f"{count:,}", f"{formula:,}", f"{len(found):,}", f"{scored:,}", lost])
    return rows


def published_fit() -> str:
    """The line through the published table."""
    from kolmo.fit import published
    from kolmo.fit.areas import study

    found = study(published()).overall.fit
    return (
        f"`kolmo fit`: {found.count} models, rho = {found.rho:.4f}, e = {found.error:.4f}, score = "
        f"{found.intercept:.4f} - {-found.slope:.4f} BPC. The published figure says -0.940 and 0.028.\n"
    )


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--markdown", type=Path)
    parser.add_argument("--characters", type=int, default=80_000)
    parser.add_argument("--side", choices=list(WORK), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    data = Path(os.environ.get("KOLMO_DATA", "."))
    parser.add_argument("--text", type=Path, default=data / "bench/text/wiki.test.raw")
    parser.add_argument("--dtype", default="float32", help=argparse.SUPPRESS)
    parser.add_argument("--batch", type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        run_side(options)
        return
    text: Path = options.text
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        narrow, small, large = work / "narrow", work / "small", work / "large"
        make_model(narrow, text, 32_000, 128, 4)
        make_model(small, text, 32_000, 288, 6)
        make_model(large, text, 152_000, 288, 6)
        head = ["", "dtype", "tokens scored", "tokens/s", "times", "peak MiB", "part", "bits/char"]
        parts = [
            "# Evaluation, measured\n",
            "The docstring of `benchmarks/evaluation.py` describes what is measured. Compare ratios, not absolute "
            "speeds; the programs are run in turns.\n",
            "```\nKOLMO_DATA=DIR python benchmarks/evaluation.py --markdown docs/benchmarks/evaluation.md\n```\n",
            "## Speed and memory beside the published loop\n",
            f"Block {BLOCK}, stride {STRIDE}; Llamas with random weights. The larger the last "
            "layer is within the model, the more computation kolmo saves.\n"
            "\n**4 layers, width 128, vocabulary 32,000**\n",
            table(
                head,
                speed(narrow, text, options.characters, "bfloat16", options.repeat)
                + speed(narrow, text, options.characters, "float32", options.repeat),
            ),
            "\n**6 layers, width 288 (as stories15M), vocabulary 32,000**\n",
            table(
                head,
                speed(small, text, options.characters, "bfloat16", options.repeat)
                + speed(small, text, options.characters, "float32", options.repeat),
            ),
            "\n**6 layers, width 288, vocabulary 152,000**\n",
            table(head, speed(large, text, options.characters // 4, "bfloat16", 1)),
            "\n## The number of lm-evaluation-harness from both programs\n",
            f"Rolling log-likelihood, disjoint windows of {BLOCK} tokens, batch {BATCH}, vocabulary 32,000.\n",
            table(
                ["", "tokens scored", "tokens/s", "peak MiB", "bits/char"],
                rolling(small, text, 100_000, options.repeat),
            ),
            "\n## Agreement with the published loop\n",
            "`--mode paper --dtype float32` on real text. Models: stories260K, and tiny ones with random weights.\n",
            table(
                ["model", "block/stride", "tokens, loop", "tokens, kolmo", "loop", "kolmo", "relative difference"],
                agreement(work, text),
            ),
            "\nWindows of a stream in mode paper; token 0 is never scored.\n",
            table(["tokens", "windows, formula", "windows, kolmo", "tokens scored", "tokens lost"], worked_case()),
            "\n## The linear fit of the published table\n",
            published_fit(),
            "\n## Numerical stability of mode strict\n",
            "Relative spread over batches of 1, 8 and 32 windows; and between windows that are read at once and in "
            "pieces of 16 or 64 tokens through the cache.\n",
            table(["model", "bits/char", "batches", "lengths of the cache"], stability(work, text)),
            "\n## Machine\n",
            "\n".join(f"- {name}: {value}" for name, value in machine().items()),
        ]
    import torch
    import transformers

    parts.append(f"- torch {torch.__version__}, transformers {transformers.__version__}")
    report = "\n".join(parts) + "\n"
    print(report)
    if options.markdown:
        options.markdown.write_text(report, "utf-8")


if __name__ == "__main__":
    main()
