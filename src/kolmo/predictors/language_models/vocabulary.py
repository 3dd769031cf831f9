"""Bytes as tokens of a language model's own vocabulary, and back, for any tokenizer of the `tokenizers` library.

A tokenizer prepares text for a model, and need not be invertible: many change case, compose accents, drop spaces, or
have no token for some characters. Here any bytes come back exactly. Decoding is a table, token -> bytes, read once from
the tokenizer's description; its `decode` is never called. Encoding lets the tokenizer split the text, and keeps a token
only where the data holds that token's bytes:

    data      |The|_|cat|_|☺|_|sat|
    tokens    |the| |cat| |?| |sat|     from a tokenizer with lower case only, without spaces, and without the smiley
    kept            |cat|     |sat|
    result    T|he|_|cat|_|☺|_|sat|    between them the longest tokens that match, such as "he", and literal bytes

So exactness does not depend on the bytes assumed of a token, or on the tokenizer's offsets: errors only cost bits.

What it is not: a trainer of tokenizers (`kolmo.training.texts.vocabulary`).
"""

from __future__ import annotations

import hashlib
import json
import re
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from kolmo.errors import CorruptError, MissingExtraError, PredictorError
from kolmo.installing import install
from kolmo.native.memory.reference import BEGINS_FIELD, ENDS_LINE
from kolmo.predictors.guard import guarded
from kolmo.predictors.language_models.token_table import byte_alphabet, parts_of, read_table

if TYPE_CHECKING:
    import tokenizers

PIECE_BYTES = 1 << 16  # bytes that the tokenizer is given at once
BATCH_PIECES = 16  # pieces that the tokenizer's threads share
NOT_TEXT_RATIO = 4  # a piece is not tokenised where more than one byte in four is outside UTF-8
MAX_FILLER_BYTES = 32  # length of the longest token that fills gaps
MAX_TOKENS = 1 << 22  # size of the largest vocabulary; those in use have up to 2^18 tokens
LINE = re.compile(rb"(?s:.*)\n(?=\S)")  # up to the last end of a line that text follows
WORD = re.compile(rb"(?s:.*)\S(?=\s)")  # up to the last end of a word
NOT_UTF8 = re.compile("[\udc80-\udcff]")  # a byte outside UTF-8, as `surrogateescape` represents it
SPACE_DROPPING = (
    "BertPreTokenizer",
    "CharDelimiterSplit",
    "Whitespace",
    "WhitespaceSplit",
)  # pre-tokenizers that drop spaces


@dataclass(frozen=True, eq=False)
class Tokens:
    """A content as tokens, and the bytes between them that no token covers.

    Attributes:
        ids: tokens, shape (n,), int32.
        literals: (place, bytes), the bytes before token number `place`, 0..n; places ascend strictly, none is empty.
    """

    ids: npt.NDArray[np.int32]
    literals: tuple[tuple[int, bytes], ...]


class Vocabulary:
    """The tokens of a tokenizer and the bytes that they stand for. Immutable; threads may share it.

    Special tokens (beginning and end of text, padding, the unknown word) and ids that the tokenizer does not have stand
    for no bytes and are never used. Where a text contains the name of a special token, it is ordinary text.

    Args:
        tokenizer: of the `tokenizers` library; `.backend_tokenizer` of a fast tokenizer of transformers. Not changed.
        size: how many logits the model has; tokens from this number on are never used.

    Raises:
        PredictorError: `size` is not 1 to 2^22.
    """

    name = "a tokenizer"  # for messages
    piece = 0  # bytes that the tokenizer is given at once; 0: PIECE_BYTES

    def __init__(self, tokenizer: tokenizers.Tokenizer, size: int) -> None:
        if not 1 <= size <= MAX_TOKENS:
            raise PredictorError(
                f"a vocabulary of {size} tokens, not 1 to {MAX_TOKENS}; the model's configuration is damaged"
            )
        self._description: str = tokenizer.to_str()
        self._set_table(*read_table(json.loads(self._description), size))

    def _set_table(self, table: list[bytes], preferred: list[int]) -> None:
        """Set the bytes of each token, and the tokens with bytes; of equal ones the first is used to fill gaps."""
        self.size, self._bytes, self._preferred = len(table), table, preferred
        self._lengths = np.array([*map(len, table), 0], np.int64)  # and 0 for ids outside the vocabulary
        self._kinds: bytes | None = None

    @cached_property
    def table_hash(self) -> bytes:
        """First 8 bytes of a SHA-256 over the table, which is all that decoding depends on.

        The hash covers `size`, then the length of each token from 0 to size - 1 in bytes (0: no bytes), all as 32-bit
        little-endian numbers, then the bytes of all tokens, joined.
        """
        lengths = np.array([self.size, *self._lengths[:-1]], "<u4")
        return hashlib.sha256(lengths.tobytes() + b"".join(self._bytes)).digest()[:8]

    def bytes_of(self, token: int) -> bytes:
        """The bytes that a token stands for; empty where it stands for none."""
        return self._bytes[token] if 0 <= token < self.size else b""

    def kinds(self, size: int) -> bytes:
        """What each token below `size` is, for the memory (docs/memory.md): 1, it ends a line; 2, it begins a field."""
        if self._kinds is None or len(self._kinds) != size:
            self._kinds = bytes(_kind(self.bytes_of(token)) for token in range(size))
        return self._kinds

    def lengths(self, ids: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """Number of bytes that each token stands for, in the shape of `ids`."""
        numbers = np.asarray(ids, np.int64)
        known: npt.NDArray[np.int64] = self._lengths[
            np.where((numbers >= 0) & (numbers < self.size), numbers, self.size)
        ]
        return known

    def tokenise(self, data: bytes) -> Tokens:
        """Data as tokens; `join` returns the data. The same data gives the same tokens.

        All tokens are below `size` and stand for at least one byte each.

        Raises:
            PredictorError: the tokenizer fails, or returns an inconsistent result.
        """
        out = _Output()
        waiting: list[bytes] = []
        with guarded(self.name, "its tokenizer fails"):
            for piece in pieces(data, self.piece):
                waiting.append(piece)
                if len(waiting) == BATCH_PIECES:
                    self._tokenise(waiting, out)
                    waiting.clear()
            self._tokenise(waiting, out)
        return out.tokens()

    def join(self, tokens: Tokens) -> bytes:
        """The data of these tokens: the mirror of `tokenise`.

        Raises:
            CorruptError: a token stands for no bytes, or a literal has an invalid place or no bytes.
        """
        count = len(tokens.ids)
        empty = np.flatnonzero(self.lengths(tokens.ids) == 0)
        if empty.size:
            raise CorruptError(
                f"token {tokens.ids[empty[0]]}, number {empty[0]}, stands for no bytes; the data is damaged"
            )
        texts = [self._bytes[token] for token in tokens.ids.tolist()]
        parts: list[bytes] = []
        before, done = -1, 0
        for place, literal in tokens.literals:
            if not before < place <= count or not literal:
                raise CorruptError(
                    f"{len(literal)} literal bytes before token number {place} of {count}, after those before number "
                    f"{before}; the data is damaged"
                )
            parts += texts[done:place]
            parts.append(literal)
            before = done = place
        return b"".join(parts + texts[done:])

    def _tokenise(self, pieces: list[bytes], out: _Output) -> None:
        texts = [_text(piece) for piece in pieces]
        encodings = iter(self._encode([text for text in texts if text is not None]))
        for piece, text in zip(pieces, texts, strict=True):
            encoding = None if text is None else next(encodings)
            if encoding is None:
                self._cover(piece, out)
            elif self._is_exact(encoding.ids, piece):
                out.ids.extend(encoding.ids)
            else:
                self._keep(encoding.ids, encoding.offsets, piece, out)

    def _encode(self, texts: list[str]) -> list[Any]:
        """The tokenizer's encoding of each text; None where it refuses, as tokenizers without an unknown word do."""
        try:
            return list(self._own.encode_batch(texts, add_special_tokens=False))
        except BaseException as error:
            if not _is_of_tokenizers(error):
                raise
            return [None] if len(texts) == 1 else [found for text in texts for found in self._encode([text])]

    def _is_exact(self, ids: list[int], piece: bytes) -> bool:
        if ids and max(ids) >= self.size:
            return False
        texts = [self._bytes[token] for token in ids]
        return all(texts) and b"".join(texts) == piece

    def _keep(self, ids: list[int], offsets: list[tuple[int, int]], piece: bytes, out: _Output) -> None:
        """Keep the tokens whose bytes the piece holds, in order and at their offsets; cover the bytes between them.

        offsets: first and last + 1 of the characters that a token stands for.
        """
        begins = _begins(piece)
        at = 0
        for token, (first, last) in zip(ids, offsets, strict=True):
            text = self._bytes[token] if token < self.size else b""
            end = begins[last]
            if not text or end <= at:
                continue
            place = max(at, begins[first])
            if not piece.startswith(text, place):
                place = end - len(text)  # the token begins with a space that the tokenizer dropped and added again
                if place < at or not piece.startswith(text, place):
                    continue
            if place > at:
                self._cover(piece[at:place], out)
            out.ids.append(token)
            at = place + len(text)
        if at < len(piece):
            self._cover(piece[at:], out)

    def _cover(self, data: bytes, out: _Output) -> None:
        """Take the longest token that matches, repeatedly; bytes that no token matches are literals."""
        tokens, lengths_of = self._longest
        shortest = (2, 1)
        at = covered = 0
        while at < len(data):
            for length in lengths_of.get(data[at : at + 3], shortest):
                token = tokens.get(data[at : at + length])
                if token is None:
                    continue
                if at > covered:
                    out.literals.append((len(out.ids), data[covered:at]))
                out.ids.append(token)
                at = covered = at + len(self._bytes[token])
                break
            else:
                at += 1
        if at > covered:
            out.literals.append((len(out.ids), data[covered:]))

    @cached_property
    def _longest(self) -> tuple[dict[bytes, int], dict[bytes, tuple[int, ...]]]:
        """Tokens by their bytes; and by the first three bytes of a token the lengths to try, longest first."""
        tokens: dict[bytes, int] = {}
        lengths: dict[bytes, set[int]] = {}
        for token in self._preferred:
            text = self._bytes[token]
            if 0 < len(text) <= MAX_FILLER_BYTES:
                tokens.setdefault(text, token)
                if len(text) > 2:
                    lengths.setdefault(text[:3], {1, 2}).add(len(text))
        return tokens, {begin: tuple(sorted(found, reverse=True)) for begin, found in lengths.items()}

    @cached_property
    def _own(self) -> tokenizers.Tokenizer:
        """The tokenizer, changed so that it adds and cuts nothing, and treats names of special tokens as text."""
        from tokenizers import Tokenizer

        own = Tokenizer.from_str(json.dumps(_plain(json.loads(self._description)), ensure_ascii=False))
        own.encode_special_tokens = True
        return own


def _kind(data: bytes) -> int:
    if b"\n" in data:
        return ENDS_LINE
    word = any(byte > 127 or chr(byte).isalnum() for byte in data)
    return BEGINS_FIELD if data and (not word or data[:1] in b" \t") else 0


class _Output:
    """The tokens and literals found so far."""

    def __init__(self) -> None:
        self.ids = array("i")
        self.literals: list[tuple[int, bytes]] = []

    def tokens(self) -> Tokens:
        joined: dict[int, list[bytes]] = {}
        for place, literal in self.literals:
            joined.setdefault(place, []).append(literal)
        literals = tuple((place, b"".join(parts)) for place, parts in joined.items())
        return Tokens(np.array(self.ids, np.int32), literals)


def load_tokenizer(folder: Path) -> tokenizers.Tokenizer:
    """The tokenizer of a model's folder, from its `tokenizer.json`.

    Raises:
        PredictorError: the folder has no tokenizer.json, or it cannot be read.
        MissingExtraError: the `tokenizers` library is not installed.
    """
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise MissingExtraError(f"a model's tokenizer needs tokenizers ({error}); {install('hf')}") from None
    path = folder / "tokenizer.json"
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        raise PredictorError(
            f"{folder}: no tokenizer.json; load the model's tokenizer with transformers and save it there with "
            "save_pretrained"
        ) from None
    except OSError as error:
        raise PredictorError(f"{path}: {error.strerror}; make it readable") from None
    except UnicodeDecodeError as error:
        raise PredictorError(f"{path}: not UTF-8 at byte {error.start}; get the file again") from None
    try:
        return Tokenizer.from_str(text)
    except BaseException as error:
        if not _is_of_tokenizers(error):
            raise
        raise PredictorError(f"{path}: not a tokenizer ({' '.join(str(error).split())}); get the file again") from None


def _is_of_tokenizers(error: BaseException) -> bool:
    """Whether an error is from `tokenizers`: a plain Exception, or a panic of Rust, which is not an Exception."""
    return isinstance(error, Exception) or type(error).__name__ == "PanicException"


def pieces(data: bytes, size: int = 0) -> Iterator[bytes]:
    """The data in pieces of at most `size` bytes (0: PIECE_BYTES), split after a line, a word or a character."""
    size, at = size or PIECE_BYTES, 0
    while len(data) - at > size:
        least, most = at + size // 2, at + size
        found = LINE.match(data, least, most + 1) or WORD.match(data, least, most + 1)
        end = found.end() if found else most
        if not found:
            within = next((k for k in range(4) if data[most - k] & 0xC0 != 0x80), 0)  # bytes since a character began
            end = most - within
        yield data[at:end]
        at = end
    if at < len(data):
        yield data[at:]


def _text(piece: bytes) -> str | None:
    """The piece as text, with U+FFFD for each byte outside UTF-8; None where there are too many of them."""
    text, strange = NOT_UTF8.subn("\ufffd", piece.decode("utf-8", "surrogateescape"))
    return None if strange * NOT_TEXT_RATIO > len(piece) else text


def _begins(piece: bytes) -> list[int]:
    """Offset in bytes of each character of `_text`, and of the end."""
    units = piece.decode("utf-8", "surrogateescape").encode("utf-32-le", "surrogatepass")
    codes = np.frombuffer(units, "<u4")
    lengths = 1 + (codes >= 0x80).astype(np.int64) + (codes >= 0x800) + (codes >= 0x10000)
    lengths[(codes >= 0xDC80) & (codes <= 0xDCFF)] = 1
    return [0, *np.cumsum(lengths).tolist()]


def _plain(facts: dict[str, Any]) -> dict[str, Any]:
    """A tokenizer's description without the parts that add to a text or truncate it; changes `facts`."""
    for name in ("truncation", "padding", "post_processor"):
        facts[name] = None
    facts["normalizer"] = _without_prepend(facts.get("normalizer"))
    if "dropout" in facts["model"]:
        facts["model"]["dropout"] = None
    dropped = False
    for part in parts_of(facts.get("pre_tokenizer")):
        if dropped:
            break  # spaces were dropped: the one added before each word replaces them
        dropped = part["type"] in SPACE_DROPPING or part.get("behavior") == "Removed"
        if "prepend_scheme" in part:
            part["prepend_scheme"] = "never"
        if "add_prefix_space" in part:
            part["add_prefix_space"] = False
    return facts


def _without_prepend(part: Any) -> Any:
    if part and part["type"] == "Sequence":
        kept = [_without_prepend(inner) for inner in part["normalizers"]]
        return {**part, "normalizers": [inner for inner in kept if inner]}
    return None if part and part["type"] == "Prepend" else part


__all__ = ["Tokens", "Vocabulary", "byte_alphabet", "load_tokenizer"]
