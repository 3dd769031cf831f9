"""The bytes of each token, read from a tokenizer's description.

Bytes in vocabularies are after Radford et al., "Language Models are Unsupervised Multitask Learners" (2019), a
printable character for each, and after Kudo and Richardson, "SentencePiece" (2018), U+2581 for a space and `<0xNN>`
for a byte.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

BYTE = re.compile("<0x([0-9A-Fa-f]{2})>")


def parts_of(part: Any) -> Iterator[dict[str, Any]]:
    """A normalizer, pre-tokenizer or decoder, and the parts of it where it is a sequence."""
    if part:
        yield part
        for name in ("normalizers", "pretokenizers", "decoders"):
            for inner in part.get(name, ()):
                yield from parts_of(inner)


def read_table(facts: dict[str, Any], size: int) -> tuple[list[bytes], list[int]]:
    """Bytes of each token below `size`; and the tokens with bytes, of equal ones first the one that fills gaps."""
    model = facts["model"]
    words = model["vocab"]
    pairs = list(words.items()) if isinstance(words, dict) else [(text, i) for i, (text, _) in enumerate(words)]
    vocabulary = dict(pairs)
    spell = _speller(facts)
    table = [b""] * size
    ranks = [0] * size
    for text, token in pairs:
        if token < size:
            table[token], ranks[token] = spell(text)
    unknown = vocabulary.get(model.get("unk_token"), model.get("unk_id"))
    if unknown is not None and unknown < size:
        table[unknown] = b""
    for added in facts["added_tokens"]:
        token, text = added["id"], added["content"]
        if token < size and added["special"]:
            table[token] = b""
        elif token < size and vocabulary.get(text) != token:
            table[token], ranks[token] = text.encode(), 1
    used = [token for token in range(size) if table[token]]
    return table, sorted(used, key=lambda token: (ranks[token], token))


def _speller(facts: dict[str, Any]) -> Callable[[str], tuple[bytes, int]]:
    """A function from a token's text to its bytes, and to its rank among tokens with the same bytes."""
    model = facts["model"]
    parts = [part for name in ("normalizer", "pre_tokenizer", "decoder") for part in parts_of(facts.get(name))]
    types = {part["type"] for part in parts}
    byte_of = byte_alphabet() if "ByteLevel" in types else None
    spaces = [part["replacement"] for part in parts if part["type"] == "Metaspace"]
    for part in parts:
        if part["type"] == "Replace" and "String" in part["pattern"]:
            pattern, content = part["pattern"]["String"], part["content"]
            spaces += [content] if pattern == " " and content else [pattern] if content == " " and pattern else []
    fallback = "ByteFallback" in types or model.get("byte_fallback", False)
    prefix = model.get("continuing_subword_prefix")
    suffix = model.get("end_of_word_suffix") or next((p["suffix"] for p in parts if p["type"] == "BPEDecoder"), None)

    def spell(text: str) -> tuple[bytes, int]:
        byte = BYTE.fullmatch(text) if fallback else None
        if byte:
            return bytes.fromhex(byte[1]), 3
        rank, end = 0, b""
        if prefix and text.startswith(prefix) and text != prefix:
            text, rank = text[len(prefix) :], 2
        if suffix and text.endswith(suffix):
            text, end = text[: -len(suffix)], b" "  # in prose, a space follows most words
        if byte_of and all(character in byte_of for character in text):
            return bytes([byte_of[character] for character in text]) + end, rank
        for space in spaces:
            text = text.replace(space, " ")
        return text.encode() + end, rank

    return spell


def byte_alphabet() -> dict[str, int]:
    """The byte for which each printable character stands in GPT-2's vocabulary, and in all of type ByteLevel."""
    own = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = iter(range(256, 512))
    return {chr(byte) if byte in own else chr(next(others)): byte for byte in range(256)}
