"""A model of llama2.c as a folder that transformers opens.

    python examples/llama2c.py MODEL.bin TOKENIZER.bin FOLDER

reads the first format of https://github.com/karpathy/llama2.c (seven numbers, then all weights in binary32) and that
project's form of a SentencePiece tokenizer, and writes `config.json`, `model.safetensors`, `tokenizer.json` and
`tokenizer_config.json`. tests/models/ holds a model to try it on.

What it is not: it reads neither quantised models nor the formats with a magic number, and runs no model.
"""

from __future__ import annotations

import json
import struct
import sys
from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from kolmo.errors import FormatError, KolmoError, MissingExtraError
from kolmo.installing import install

HEADER = struct.Struct("<7i")
SPECIAL = ("<unk>", "<s>", "</s>")  # tokens 0, 1, 2; then follow the 256 bytes
BYTES = tuple(f"<0x{byte:02X}>" for byte in range(256))
LONGEST = 256  # bytes of a token; in use are up to 48
REMEDY = "get the file again, or name one that llama2.c's export.py wrote as version 0"
TOKENIZER_REMEDY = "get the file again, or name one that llama2.c's tokenizer.py wrote for this model"

Array = npt.NDArray[np.float32]


class Shape(NamedTuple):
    """The numbers at the beginning of a model."""

    width: int
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    vocabulary: int
    context: int
    tied: bool  # the classifier is the embedding

    def tensors(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Name and shape of each array in the file's order; nobody needs the rotations any more."""
        layers, width, hidden, vocabulary = self.layers, self.width, self.hidden, self.vocabulary
        inner = width // self.heads * self.kv_heads
        yield "embedding", (vocabulary, width)
        yield "rms_attention", (layers, width)
        yield "q", (layers, width, width)
        yield "k", (layers, inner, width)
        yield "v", (layers, inner, width)
        yield "o", (layers, width, width)
        yield "rms_hidden", (layers, width)
        yield "w1", (layers, hidden, width)
        yield "w2", (layers, width, hidden)
        yield "w3", (layers, hidden, width)
        yield "rms_final", (width,)
        yield "rotations", (2, self.context, width // self.heads // 2)
        if not self.tied:
            yield "classifier", (vocabulary, width)


def convert(model: Path, tokenizer: Path, folder: Path) -> None:
    """Write the model into the folder, which is made if need be.

    Raises:
        FormatError: one of the two files is not what llama2.c writes.
        MissingExtraError: safetensors is not installed.
    """
    try:
        from safetensors.numpy import save_file
    except ImportError as error:
        raise MissingExtraError(f"the weights need safetensors ({error}); {install('hf')}") from None
    shape, weights = read_model(model)
    tokens = read_tokenizer(tokenizer, shape.vocabulary)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(dict(name_weights(shape, weights)), folder / "model.safetensors", {"format": "pt"})
    texts = {
        "config.json": config(shape),
        "generation_config.json": {"bos_token_id": 1, "eos_token_id": 2},
        "tokenizer.json": describe_tokenizer(tokens),
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "unk_token": SPECIAL[0],
            "bos_token": SPECIAL[1],
            "eos_token": SPECIAL[2],
            "clean_up_tokenization_spaces": False,
            "model_max_length": shape.context,
        },
    }
    for name, facts in texts.items():
        (folder / name).write_text(json.dumps(facts, ensure_ascii=False, indent=1) + "\n", "utf-8")


def read_model(path: Path) -> tuple[Shape, dict[str, Array]]:
    """The shape, and the file's arrays, mapped rather than read.

    Raises:
        FormatError: the file is not as long as its first numbers say, or they make no model.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(HEADER.size)
    if len(head) < HEADER.size:
        raise FormatError(f"{path}: {size} bytes are no model; {REMEDY}")
    width, hidden, layers, heads, kv_heads, vocabulary, context = numbers = HEADER.unpack(head)
    shape = Shape(width, hidden, layers, heads, kv_heads, abs(vocabulary), context, vocabulary > 0)
    if min(shape[:7]) < 1 or width % heads or width // heads % 2 or heads % kv_heads:
        raise FormatError(f"{path}: the sizes {', '.join(map(str, numbers))} make no model; {REMEDY}")
    wanted = HEADER.size + 4 * sum(prod(dimensions) for _, dimensions in shape.tensors())
    if size != wanted:
        raise FormatError(f"{path}: {size} bytes, but a model of these sizes has {wanted}; {REMEDY}")
    values = np.memmap(path, "<f4", "r", HEADER.size)
    weights: dict[str, Array] = {}
    at = 0
    for name, dimensions in shape.tensors():
        weights[name] = values[at : at + prod(dimensions)].reshape(dimensions)
        at += prod(dimensions)
    return shape, weights


def read_tokenizer(path: Path, count: int) -> list[tuple[str, float]]:
    """Text and score of each token: of a SentencePiece model, with U+2581 for a space.

    Raises:
        FormatError: the file does not hold `count` tokens and nothing else, as SentencePiece makes them for Llama.
    """
    data = path.read_bytes()
    tokens: list[tuple[str, float]] = []
    at = 4  # the longest token's length comes first; nobody needs it
    while at < len(data) and len(tokens) < count:
        if len(data) - at < 8:
            raise FormatError(f"{path}: token {len(tokens)} is cut short at byte {at}; {TOKENIZER_REMEDY}")
        score, length = struct.unpack_from("<fi", data, at)
        text = data[at + 8 : at + 8 + length] if 0 < length <= LONGEST else b""
        if not text or len(text) < length or not np.isfinite(score):
            raise FormatError(
                f"{path}: token {len(tokens)} at byte {at} has length {length}, score {score}; {TOKENIZER_REMEDY}"
            )
        try:
            tokens.append((text.decode().replace(" ", "▁"), score))
        except UnicodeDecodeError:
            raise FormatError(f"{path}: token {len(tokens)} at byte {at} is no UTF-8; {TOKENIZER_REMEDY}") from None
        at += 8 + length
    if len(tokens) != count or at != len(data):
        raise FormatError(
            f"{path}: {len(tokens)} tokens in {at} of {len(data)} bytes, not {count} in all; {TOKENIZER_REMEDY}"
        )
    tokens[:3] = [(text.strip("\n"), score) for text, score in tokens[:3]]  # llama2.c puts lines' ends around them
    texts = [text for text, _ in tokens]
    if tuple(texts[:259]) != SPECIAL + BYTES:
        raise FormatError(f"{path}: tokens 0 to 258 are not <unk>, <s>, </s> and the bytes; {TOKENIZER_REMEDY}")
    last = {word: token for token, word in enumerate(texts)}
    for token, word in enumerate(texts):
        if last[word] != token:
            raise FormatError(f"{path}: tokens {token} and {last[word]} are both {word!r}; {TOKENIZER_REMEDY}")
    return tokens


def config(shape: Shape) -> dict[str, Any]:
    """`config.json`."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": shape.width,
        "intermediate_size": shape.hidden,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.width // shape.heads,
        "vocab_size": shape.vocabulary,
        "max_position_embeddings": shape.context,
        "tie_word_embeddings": shape.tied,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "attention_bias": False,
        "mlp_bias": False,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "torch_dtype": "float32",
    }


def name_weights(shape: Shape, weights: dict[str, Array]) -> Iterator[tuple[str, Array]]:
    """Each tensor under the name that transformers has for it."""
    yield "model.embed_tokens.weight", _own(weights["embedding"])
    for layer in range(shape.layers):
        at = f"model.layers.{layer}"
        yield f"{at}.input_layernorm.weight", _own(weights["rms_attention"][layer])
        yield f"{at}.self_attn.q_proj.weight", turn(weights["q"][layer], shape.heads)
        yield f"{at}.self_attn.k_proj.weight", turn(weights["k"][layer], shape.kv_heads)
        yield f"{at}.self_attn.v_proj.weight", _own(weights["v"][layer])
        yield f"{at}.self_attn.o_proj.weight", _own(weights["o"][layer])
        yield f"{at}.post_attention_layernorm.weight", _own(weights["rms_hidden"][layer])
        yield f"{at}.mlp.gate_proj.weight", _own(weights["w1"][layer])
        yield f"{at}.mlp.down_proj.weight", _own(weights["w2"][layer])
        yield f"{at}.mlp.up_proj.weight", _own(weights["w3"][layer])
    yield "model.norm.weight", _own(weights["rms_final"])
    if not shape.tied:
        yield "lm_head.weight", _own(weights["classifier"])


def turn(rows: Array, heads: int) -> Array:
    """Rows of a query's or key's matrix in the order that transformers rotates them in.

    llama2.c rotates rows (0, 1), (2, 3), ... of a head by one angle each; transformers the rows (0, n / 2),
    (1, n / 2 + 1), ...
    """
    pairs = rows.reshape(heads, -1, 2, rows.shape[1])
    return _own(pairs.swapaxes(1, 2).reshape(rows.shape))


def describe_tokenizer(tokens: list[tuple[str, float]]) -> dict[str, Any]:
    """`tokenizer.json`: byte-pair encoding, a space first, bytes for characters that no token has."""
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {
                "id": token,
                "content": text,
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
                "special": True,
            }
            for token, text in enumerate(SPECIAL)
        ],
        "normalizer": {
            "type": "Sequence",
            "normalizers": [
                {"type": "Prepend", "prepend": "▁"},
                {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
            ],
        },
        "pre_tokenizer": None,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [
                {"SpecialToken": {"id": "<s>", "type_id": 0}},
                {"Sequence": {"id": "A", "type_id": 0}},
                {"SpecialToken": {"id": "<s>", "type_id": 1}},
                {"Sequence": {"id": "B", "type_id": 1}},
            ],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}},
        },
        "decoder": {
            "type": "Sequence",
            "decoders": [
                {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
                {"type": "ByteFallback"},
                {"type": "Fuse"},
                {"type": "Strip", "content": " ", "start": 1, "stop": 0},
            ],
        },
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": SPECIAL[0],
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": True,
            "byte_fallback": True,
            "ignore_merges": False,
            "vocab": {text: token for token, (text, _) in enumerate(tokens)},
            "merges": merges(tokens),
        },
    }


def merges(tokens: list[tuple[str, float]]) -> list[list[str]]:
    """Pairs in the order of merging. SentencePiece joins the pair whose whole has the highest score."""
    ids = {text: token for token, (text, _) in enumerate(tokens)}
    first = len(SPECIAL) + len(BYTES)
    found = []
    for token, (text, score) in enumerate(tokens[first:], first):
        for cut in range(1, len(text)):
            left, right = ids.get(text[:cut], 0), ids.get(text[cut:], 0)
            if left >= first and right >= first:
                found.append((-score, token, left, right))
    return [[tokens[left][0], tokens[right][0]] for _, _, left, right in sorted(found)]


def _own(values: Array) -> Array:
    return np.ascontiguousarray(values, np.float32)


def main() -> None:
    """Convert what the command line names."""
    if len(sys.argv) != 4:
        sys.exit("usage: python examples/llama2c.py MODEL.bin TOKENIZER.bin FOLDER")
    try:
        convert(*map(Path, sys.argv[1:]))
    except (KolmoError, OSError) as error:
        sys.exit(f"llama2c: {error}")


if __name__ == "__main__":
    main()
