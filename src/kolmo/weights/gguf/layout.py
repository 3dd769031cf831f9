"""Where the tensors of a GGUF file are: its header, checked against the file, and nothing more.

The header's metadata are skipped, not kept. What it is not: the `gguf` package, which is not needed here.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from math import prod
from typing import IO

from kolmo.errors import FormatError, TruncatedError
from kolmo.weights.gguf.coding import PART_WEIGHTS, Part, row_bytes

MAGIC = b"GGUF"
VERSIONS = 2, 3
SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}  # type of a value -> its bytes
STRING, ARRAY = 8, 9
MAX_NESTING = 4  # of arrays
ALIGNMENT_KEY = b"general.alignment"
MAX_DIMENSIONS = 8
MIN_PART_BYTES = 4096  # smaller tensors are coded with the rest of the file
UINT32 = 4


@dataclass(frozen=True)
class Layout:
    """What `read_layout` finds.

    Attributes:
        size: of the file in bytes.
        parts: rows of tensors, in order, without overlap; all other bytes are the rest of the file.
        tensors: number of tensors in the header.
    """

    size: int
    parts: tuple[Part, ...]
    tensors: int


def read_layout(file: IO[bytes], name: str) -> Layout:
    """The layout of a GGUF file.

    Args:
        file: at its beginning; must seek.
        name: of the file, for errors.

    Raises:
        FormatError: it is not such a file, or of a version or byte order that is not known.
        TruncatedError: it ends within its header, or before a tensor does.
    """
    head = _Head(file, name)
    if head.take(4) != MAGIC:
        raise FormatError(f"{name}: is not a GGUF file; name another")
    version = head.number("<I")
    if version not in VERSIONS:
        raise FormatError(
            f"{name}: is a GGUF file of version {version} or of another byte order; convert it to version 3"
        )
    tensors, values = head.number("<Q"), head.number("<Q")
    alignment = 32
    for _ in range(values):
        key, kind = head.string(), head.number("<I")
        if key == ALIGNMENT_KEY and kind == UINT32:
            alignment = head.number("<I")
        else:
            head.skip_value(kind)
    found = []
    for _ in range(tensors):
        head.string()
        dimensions = head.number("<I")
        if dimensions > MAX_DIMENSIONS:
            raise FormatError(f"{name}: has a tensor of {dimensions} dimensions; it is damaged, so get it again")
        shape = [head.number("<Q") for _ in range(dimensions)]
        found.append((shape, head.number("<I"), head.number("<Q")))
    if not alignment or alignment & (alignment - 1):
        raise FormatError(f"{name}: has an alignment of {alignment} bytes; it is damaged, so get it again")
    start = -(-head.at // alignment) * alignment
    return Layout(head.size, tuple(_parts(found, start, head.size, name)), tensors)


def _parts(found: list[tuple[list[int], int, int]], start: int, size: int, name: str) -> list[Part]:
    parts, end = [], start
    for shape, kind, offset in sorted(found, key=lambda one: one[2]):
        columns, begin = shape[0] if shape else 1, start + offset
        row = row_bytes(kind, columns)
        whole = row * prod(shape[1:])
        if begin + whole > size:
            raise TruncatedError(f"{name}: ends at byte {size}, before its last tensor does; get it again", size)
        if whole < MIN_PART_BYTES or begin < end:  # small, of another type, or over another tensor
            continue
        step = max(PART_WEIGHTS // columns, 1) * row
        parts += [Part(at, kind, columns, min(step, begin + whole - at)) for at in range(begin, begin + whole, step)]
        end = begin + whole
    return parts


class _Head:
    """Reads a header field by field, and never more than the file has."""

    def __init__(self, file: IO[bytes], name: str) -> None:
        self._file, self._name = file, name
        self.size = os.fstat(file.fileno()).st_size
        self.at = 0

    def take(self, count: int) -> bytes:
        self._check(count)
        data = self._file.read(count)
        self.at += count
        return data

    def number(self, layout: str) -> int:
        found: int = struct.unpack(layout, self.take(struct.calcsize(layout)))[0]
        return found

    def string(self) -> bytes:
        return self.take(self.number("<Q"))

    def skip_value(self, kind: int, nesting: int = 0) -> None:
        if kind in SIZES:
            self._skip(SIZES[kind])
        elif kind == STRING:
            self._skip(self.number("<Q"))
        elif kind == ARRAY and nesting < MAX_NESTING:
            kind, count = self.number("<I"), self.number("<Q")
            if kind in SIZES:
                self._skip(SIZES[kind] * count)
                return
            self._check(8 * count)  # the least that so many strings or arrays take
            for _ in range(count):
                self.skip_value(kind, nesting + 1)
        else:
            raise FormatError(f"{self._name}: has a value of type {kind}, which is not known; get it again")

    def _skip(self, count: int) -> None:
        self._check(count)
        self._file.seek(count, os.SEEK_CUR)
        self.at += count

    def _check(self, count: int) -> None:
        if count > self.size - self.at:
            raise TruncatedError(f"{self._name}: ends at byte {self.size}, within its header; get it again", self.size)
