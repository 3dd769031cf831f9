"""Small models of transformers in folders, for benchmarks and tests: one that tells stories, tiny ones at random."""

from __future__ import annotations

import importlib
import importlib.util
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from kolmo.predictors.language_models.pretrained import quiet

STORIES = Path(__file__).parents[2] / "tests" / "models" / "stories260K"
FAMILIES = ("gpt2", "gpt_neox", "llama", "mamba", "mistral", "qwen2", "rwkv")
TOKENS = 299  # and an end of text
LOGITS = 304  # as many models have: a few more than their tokenizer has tokens
CONTEXT = 128


TEXT = """The sea was calm that morning, and the boats lay still in the harbour. "Will it rain?" asked the boy. "No,"
said his father, "not today; the wind is from the east." They rowed out past the light, 3 miles or so, and let down
the nets.

By noon there were 42 fish in the boat: herring, cod, and one that neither of them knew. It had a blue back and
a white belly, and looked at them (so the boy thought) as if it had something to say. Où est le café? Là-bas, à côté.
Straße, Ærø, naïve, señor; 東京 and Москва are far away. The boy asked again, and again the father said: not today.

def harbour(boats):
    for boat in boats:
        if boat.nets:
\t\t\treturn [fish for fish in boat.nets if fish != None]

They sold the fish, bought bread and salt, and walked home along the shore while the light went out of the sky.
"""


def llama2c() -> ModuleType:
    """The example that converts models of llama2.c."""
    path = Path(__file__).parents[2] / "examples" / "llama2c.py"
    spec = importlib.util.spec_from_file_location("llama2c", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def stories(folder: Path) -> Path:
    """The model of tests/models/README.md, converted into `folder` where it is not there yet."""
    if not (folder / "tokenizer_config.json").exists():
        llama2c().convert(STORIES / "stories260K.bin", STORIES / "tok512.bin", folder)
    return folder


@cache
def byte_level(size: int = 600) -> Any:
    """GPT-2: bytes as printable characters, and an end of text that is special; `size` tokens at most without it."""
    import tokenizers

    made = tokenizers.Tokenizer(tokenizers.models.BPE())
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = tokenizers.decoders.ByteLevel()
    made.post_processor = tokenizers.processors.ByteLevel(trim_offsets=False)
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=size, initial_alphabet=sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet()), show_progress=False
    )
    made.train_from_iterator([TEXT], trainer)
    made.add_special_tokens(["<|endoftext|>"])
    return made


def tiny(folder: Path, family: str) -> Path:
    """A model of a family, two layers of width 32, with random weights that are always the same."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = _model(family)
        for values in model.parameters():  # larger than for training: a network that is sure of itself, at random
            if values.dim() >= 2:
                torch.nn.init.normal_(values, 0, 0.3)
    model.eval()
    with quiet():
        model.save_pretrained(folder)
    byte_level(TOKENS).save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}\n', "utf-8")
    return folder


def _model(family: str) -> Any:
    transformers: Any = importlib.import_module("transformers")
    end = byte_level(TOKENS).token_to_id("<|endoftext|>")
    common: dict[str, Any] = {"vocab_size": LOGITS, "bos_token_id": end, "eos_token_id": end, "use_cache": True}
    layers = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "max_position_embeddings": CONTEXT}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
    configs: dict[str, Any] = {
        "gpt2": lambda: transformers.GPT2Config(n_embd=32, n_layer=2, n_head=4, n_positions=CONTEXT, **common),
        "gpt_neox": lambda: transformers.GPTNeoXConfig(num_attention_heads=4, **layers, **common),
        "llama": lambda: transformers.LlamaConfig(**heads, **layers, **common),
        "mamba": lambda: transformers.MambaConfig(hidden_size=32, state_size=8, num_hidden_layers=2, **common),
        "mistral": lambda: transformers.MistralConfig(sliding_window=32, **heads, **layers, **common),
        "qwen2": lambda: transformers.Qwen2Config(**heads, **layers, **common),
        "rwkv": lambda: transformers.RwkvConfig(
            hidden_size=32, attention_hidden_size=32, num_hidden_layers=2, context_length=CONTEXT, **common
        ),
    }
    return transformers.AutoModelForCausalLM.from_config(configs[family]())
