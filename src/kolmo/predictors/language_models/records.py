"""What a file records about the language model that it needs.

What it is not: the model. A record is read and shown without it (`kolmo list`).
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from kolmo.errors import PredictorError
from kolmo.foreign import short
from kolmo.predictors.language_models.byte_sources import PlainSource
from kolmo.varints import varint

DTYPES = ("float32", "float64", "bfloat16", "float16")  # files record the index into this tuple
CHUNK = 4096  # most tokens of a lane, where a record of version 1 or 2 names no number
AUTO = 0  # in place of a chunk: the writer of each block chooses the number of its lanes, and the block records it
CONTEXT = 4096  # most tokens of the context window, by default,
SLIDING_CONTEXT = 2048  # and of one that slides, which is nearly full all the time
PARTS = ("weights", "configuration", "tokenizer")
VERSION = 3  # of the predictors; 2: without chosen chunks and sliding windows; 1: without a memory too
MEMORY = 20  # log2 of the size of the memory in tokens, by default
MAX_MEMORY = 25  # log2 of the largest memory
HAS_SIZES = 64  # bit of the first byte: context and chunk follow, since they are not the usual ones
HAS_MEMORY = 128  # bit of the first byte, from version 2 on: the memory and the lanes that share it follow
COMMIT, TEXT = 1, 2  # encodings of a revision


def _usual(version: int, way: int) -> tuple[int, int]:
    """What a record of this version writes for context and chunk, where it leaves them out."""
    if version < VERSION:
        return CONTEXT, CHUNK
    return CONTEXT << 1 if way else SLIDING_CONTEXT << 1 | 1, AUTO  # models of transformers mostly slide


def memory_bits(tokens: int | None) -> int:
    """log2 of a memory's size in tokens, rounded up; 0 without one.

    Args:
        tokens: as a user gives it: None for the default, 0 for none.

    Raises:
        PredictorError: the size is negative, or too large.

    Example:
        >>> memory_bits(1_000_000), memory_bits(0)
        (20, 0)
    """
    if tokens is None:
        return MEMORY
    if not 0 <= tokens <= 1 << MAX_MEMORY:
        raise PredictorError(
            f"a memory holds 0 to {1 << MAX_MEMORY} tokens, not {tokens}; change the argument memory_tokens"
        )
    return max((tokens - 1).bit_length(), 1) if tokens else 0


@dataclass(frozen=True)
class Record:
    """What a file records about its model: the predictor's parameters.

    Attributes:
        spec: id, or the name of the folder or file without the path to it (see `predictors.model_locations`).
        revision: of an id: the commit.
        marks: 4 bytes: the first byte of each of the hashes of weights, configuration and tokenizer, and of all.
        dtype: of the arithmetic.
        context: length of the context window in tokens, 0 without a limit.
        chunk: most tokens of a lane; AUTO: each block says how many lanes it has.
        way: the way to compute, where there are several: 1 or 2; else 0.
        rest: the next 4 bytes of the hash of all. They are the predictor's fingerprint, which a file stores elsewhere.
        memory: log2 of the size of the memory in tokens (docs/memory.md); 0 without one.
        lanes: with a memory, most lanes that are read at once, and so share it in a fixed order; else 0.
        slides: whether a window that is full slides (`backends.SlidingLanes`); else its later half is read again.
    """

    spec: str
    revision: str
    marks: bytes
    dtype: str
    context: int
    chunk: int
    way: int = 0
    rest: bytes = bytes(4)
    memory: int = 0
    lanes: int = 0
    slides: bool = False

    @classmethod
    def of(
        cls,
        spec: str,
        revision: str,
        hashes: tuple[bytes, bytes, bytes],
        dtype: str,
        context: int,
        chunk: int,
        way: int = 0,
        memory: int = 0,
        slides: bool = False,
    ) -> Record:
        """The record of a model that is open, from the hashes of its weights, configuration and tokenizer."""
        whole = hashlib.sha256(b"".join(hashes)).digest()
        marks = b"".join(part[:1] for part in hashes) + whole[:1]
        return cls(spec, revision, marks, dtype, context, chunk, way, whole[1:5], memory, slides=slides)

    def to_bytes(self) -> bytes:
        """The parameters that a file stores, as docs/language-models.md specifies them."""
        revision = self.revision.encode()
        how = 0
        if re.fullmatch("[0-9a-f]{40}", self.revision):
            how, revision = COMMIT, bytes.fromhex(self.revision)
        elif revision:
            how, revision = TEXT, varint(len(revision)) + revision
        context = self.context << 1 | self.slides if self.version == VERSION else self.context
        sizes = b"" if (context, self.chunk) == _usual(self.version, self.way) else varint(context) + varint(self.chunk)
        memory = bytes([self.memory, self.lanes]) if self.memory else b""
        first = DTYPES.index(self.dtype) | self.way << 2 | how << 4
        first |= (HAS_SIZES if sizes else 0) | (HAS_MEMORY if memory else 0)
        return bytes([first]) + self.marks + revision + sizes + memory + self.spec.encode()

    @classmethod
    def from_bytes(cls, data: bytes, version: int) -> Record:
        """From a file.

        Args:
            data: the parameters.
            version: of the predictor.

        Raises:
            ValueError: no version up to this one writes such a record.
        """
        source = PlainSource(data)
        first = source.take(1)[0]
        marks = source.take(4)
        how, revision = first >> 4 & 3, ""
        if how == COMMIT:
            revision = source.take(20).hex()
        elif how == TEXT:
            revision = source.take(source.varint(len(data))).decode()
        way = first >> 2 & 3
        context, chunk = _usual(version, way)
        if first & HAS_SIZES:
            context, chunk = source.varint(1 << 31), source.varint(1 << 31)
        memory, lanes = source.take(2) if first & HAS_MEMORY else (0, 0)
        slides = version == VERSION and bool(context & 1)
        context >>= version == VERSION
        name, dtype = source.left().decode(), DTYPES[first & 3]
        record = cls(name, revision, marks, dtype, context, chunk, way, bytes(4), memory, lanes, slides)
        good = record.memory <= MAX_MEMORY and (record.memory == 0) == (record.lanes == 0)
        good &= context >= 4 or not slides
        if record.version != version or not good or record.to_bytes() != data:
            raise ValueError("the record is damaged, or from a newer version")
        return record

    def describe(self) -> str:
        """One line about the model, for `kolmo list`."""
        revision = f", revision {short(self.revision)}" if self.revision else ""
        context = f"context {self.context}{', sliding' * self.slides}" if self.context else "no limit of context"
        chunks = f"chunks of {self.chunk} tokens" if self.chunk else "chunks as each block says"
        memory = f"memory of {1 << self.memory} tokens, {self.lanes} lanes at most" if self.memory else "no memory"
        return f"{short(self.spec)}{revision}, hash {self.marks.hex()}, {self.dtype}, {context}, {chunks}, {memory}"

    @property
    def version(self) -> int:
        """Version of the predictor that a file with this record needs."""
        return VERSION if self.chunk == AUTO or self.slides else 2 if self.memory else 1

    @property
    def reach(self) -> int:
        """Most tokens in a lane's cache; of models with a recurrent state, whose size does not grow, a guess."""
        return min(filter(None, (self.context, self.chunk)), default=CONTEXT)

    def differences(self, here: Record) -> list[str]:
        """Which parts of the model here differ from the writer's, in words."""
        marks = list(zip(PARTS, here.marks, self.marks, strict=False))
        found = [f"its {part} (hash {a:02x}... here, {b:02x}... in the file)" for part, a, b in marks if a != b]
        return found or (["part of it"] if self.marks != here.marks else [])
