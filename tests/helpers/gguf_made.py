"""Models in GGUF files: one that tells stories, and tiny ones that know nothing."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from harness.models import STORIES, llama2c
from helpers.tokenizers_made import byte_level

NORMAL, UNKNOWN, CONTROL, ADDED, UNUSED, BYTE = range(1, 7)  # types of tokens
SPECIAL = [("<unk>", 0.0, UNKNOWN), ("<s>", 0.0, CONTROL), ("</s>", 0.0, CONTROL)]
BYTES = [(f"<0x{byte:02X}>", 0.0, BYTE) for byte in range(256)]
WORDS = ("the", "boy", "fish", "sea", "boat", "and", "was", "said", "in", "th", "he", "an", "ing", "er", "ou", "e", "s")
CONTEXT = 128

Weights = dict[str, np.ndarray[Any, Any]]
Words = list[tuple[str, float, int]]  # text, score, type


def stories(path: Path) -> Path:
    """The model of tests/models/README.md; llama.cpp rotates as llama2.c does, so nothing is turned."""
    example = llama2c()
    shape, found = example.read_model(STORIES / "stories260K.bin")
    tokens = example.read_tokenizer(STORIES / "tok512.bin", shape.vocabulary)
    weights: Weights = {"token_embd": found["embedding"], "output_norm": found["rms_final"]}
    names = {
        "attn_norm": "rms_attention",
        "attn_q": "q",
        "attn_k": "k",
        "attn_v": "v",
        "attn_output": "o",
        "ffn_norm": "rms_hidden",
        "ffn_gate": "w1",
        "ffn_down": "w2",
        "ffn_up": "w3",
    }
    for layer in range(shape.layers):
        weights |= {f"blk.{layer}.{here}": found[there][layer] for here, there in names.items()}
    words = SPECIAL + BYTES + [(text, score, NORMAL) for text, score in tokens[259:]]
    sizes = (shape.width, shape.hidden, shape.layers, shape.heads, shape.kv_heads, shape.context)
    return write(path, sizes, weights, words)


def tiny(path: Path, words: Words | None = None, **facts: Any) -> Path:
    """Two layers with random weights that are always the same; SentencePiece unless `facts` say else."""
    words = words or spm_words()
    random = np.random.default_rng(1)
    width, context = facts.pop("width", 32), facts.pop("context", CONTEXT)

    def matrix(rows: int, columns: int) -> np.ndarray[Any, Any]:
        return random.normal(
            0, 1.7 / columns**0.5, (rows, columns)
        )  # larger than for training: sure of itself, at random

    weights: Weights = {"token_embd": matrix(len(words), width), "output_norm": np.ones(width)}
    for layer in range(2):
        sizes = {"attn_q": (width, width), "attn_k": (width // 2, width), "attn_v": (width // 2, width)}
        sizes |= {"attn_output": (width, width), "ffn_gate": (2 * width, width)}
        sizes |= {"ffn_down": (width, 2 * width), "ffn_up": (2 * width, width)}
        weights |= {f"blk.{layer}.{name}": matrix(*shape) for name, shape in sizes.items()}
        weights |= {f"blk.{layer}.{name}": np.ones(width) for name in ("attn_norm", "ffn_norm")}
    return write(path, (width, 2 * width, 2, 4, 2, context), weights, words, **facts)


def spm_words(extra: Iterable[tuple[str, float, int]] = ()) -> Words:
    """SentencePiece: bytes, letters, and a few words."""
    parts = dict.fromkeys([*"abcdefghijklmnopqrstuvwxyz.,▁é", *WORDS, "▁t", "▁the", "▁b", "▁bo", "bo", "▁boat"])
    return SPECIAL + BYTES + [(text, -float(k), NORMAL) for k, text in enumerate(parts)] + list(extra)


def byte_level_facts(pre: str = "gpt-2") -> tuple[Words, dict[str, Any]]:
    """The words and facts of a GPT-2 tokenizer."""
    facts = json.loads(byte_level(299).to_str())
    vocabulary = sorted(facts["model"]["vocab"].items(), key=lambda item: item[1])
    words = [(text, 0.0, NORMAL) for text, _ in vocabulary] + [("<|endoftext|>", 0.0, CONTROL)]
    merges = [" ".join(pair) if isinstance(pair, list) else pair for pair in facts["model"]["merges"]]
    return words, {"model": "gpt2", "pre": pre, "merges": merges, "bos": len(words) - 1, "eos": len(words) - 1}


def mamba(path: Path) -> Path:
    """Two layers that carry a state along, of width 32, with random weights that are always the same."""
    from gguf import GGUFWriter

    random, words = np.random.default_rng(1), spm_words()

    def matrix(*shape: int) -> np.ndarray[Any, Any]:
        return random.normal(0, 0.3, shape)

    weights: Weights = {"token_embd.weight": matrix(len(words), 32), "output_norm.weight": np.ones(32)}
    for layer in range(2):
        made = {"attn_norm.weight": np.ones(32), "ssm_in.weight": matrix(128, 32), "ssm_conv1d.weight": matrix(64, 4)}
        made |= {"ssm_conv1d.bias": matrix(64), "ssm_x.weight": matrix(18, 64), "ssm_dt.weight": matrix(64, 2)}
        made |= {"ssm_dt.bias": matrix(64), "ssm_a": -np.exp(matrix(64, 8)), "ssm_d": np.ones(64)}
        weights |= {
            f"blk.{layer}.{name}": values for name, values in (made | {"ssm_out.weight": matrix(32, 64)}).items()
        }
    writer = GGUFWriter(path, "mamba")
    writer.add_context_length(1 << 20)
    writer.add_embedding_length(32)
    writer.add_feed_forward_length(0)
    writer.add_head_count(0)
    writer.add_block_count(2)
    writer.add_ssm_conv_kernel(4)
    writer.add_ssm_inner_size(64)
    writer.add_ssm_state_size(8)
    writer.add_ssm_time_step_rank(2)
    writer.add_layer_norm_rms_eps(1e-5)
    return _finish(writer, weights, words)


def write(path: Path, sizes: tuple[int, ...], weights: Weights, words: Words, **facts: Any) -> Path:
    """A model of the architecture llama. sizes: width, hidden, layers, heads, heads of keys, context."""
    from gguf import GGUFWriter

    width, hidden, layers, heads, kv_heads, context = sizes
    writer = GGUFWriter(path, "llama", split_max_tensors=facts.get("split_max_tensors", 0))
    writer.add_embedding_length(width)
    writer.add_feed_forward_length(hidden)
    writer.add_block_count(layers)
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_context_length(context)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(width // heads)
    if "causal" in facts:
        writer.add_causal_attention(facts["causal"])
    return _finish(writer, {f"{name}.weight": values for name, values in weights.items()}, words, **facts)


def _finish(writer: Any, weights: Weights, words: Words, **facts: Any) -> Path:
    """Add tokenizer and weights, and write the file."""
    writer.add_tokenizer_model(facts.get("model", "llama"))
    writer.add_tokenizer_pre(facts.get("pre", "default"))
    writer.add_token_list([text for text, _, _ in words])
    writer.add_token_scores([score for _, score, _ in words])
    writer.add_token_types([kind for _, _, kind in words])
    if "merges" in facts:
        writer.add_token_merges(facts["merges"])
    writer.add_bos_token_id(facts.get("bos", 1))
    writer.add_eos_token_id(facts.get("eos", 2))
    for name, values in weights.items():
        writer.add_tensor(name, np.ascontiguousarray(values, np.float32))
    path = Path(writer.path)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
