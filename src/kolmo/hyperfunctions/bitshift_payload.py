"""The payload of the bitshift trellis: its header, and views of its words and exponents (docs/bitshift.md, "Layout").

What it is not: a search, or a product. It says what a payload holds, and takes apart and puts together its layout.
"""

from __future__ import annotations

import math
import struct
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from kolmo.errors import CorruptError

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float32]
    Words = npt.NDArray[np.uint32]
    Bytes = npt.NDArray[np.uint8]


HEADER = struct.Struct("<4BIfI")  # log2 of the states, bits, flags, 0, seed, scale, CRC-32 of all else
ROTATED = 1  # flag
STATES_LOGS = 12, 16
BITS = 2, 3, 4  # bits of a weight
GROUP = 16  # rows whose words stand side by side
ALIGNMENT = 32  # the number of columns is filled up to a multiple of this
MAX_COLUMNS = 1 << 17
SCALES = 2.0**-100, 2.0**100  # bounds of a scale that is not 0
EXPONENTS_PER_OCTAVE = 16
MAX_EXPONENT = 255
OCTAVES: Floats = (2.0 ** (np.arange(EXPONENTS_PER_OCTAVE) / EXPONENTS_PER_OCTAVE)).astype(np.float32)


def width_of(columns: int) -> int:
    """The number of columns with those that fill the last word of each row."""
    return -(-columns // ALIGNMENT) * ALIGNMENT


def payload_size(bits: int, shape: tuple[int, int]) -> int:
    """The length in bytes of the payload of a matrix of this shape."""
    rows, columns = shape
    return HEADER.size + rows * (bits * width_of(columns) // 8 + 1)


@dataclass(frozen=True)
class Payload:
    """A payload that was checked against its shape.

    Attributes:
        states_log: base-2 logarithm of the number of states.
        bits: bits of a weight.
        rotated: whether the coded matrix is a rotated one.
        seed: of the rotation; 0 if there is none.
        scale: unit of the factors.
        shape: (rows, columns) of the matrix.
        words: uint32, little-endian, (rows * words_per_row,): the words in the order of the payload, a view of it.
        exponents: uint8, (rows,): a view of the payload.
    """

    states_log: int
    bits: int
    rotated: bool
    seed: int
    scale: float
    shape: tuple[int, int]
    words: Words
    exponents: Bytes

    @property
    def width(self) -> int:
        """Columns with those that fill the last word."""
        return width_of(self.shape[1])

    @property
    def words_per_row(self) -> int:
        """Number of words of a row."""
        return self.bits * self.width // 32

    @property
    def factors(self) -> Floats:
        """What the values of each row are multiplied by: (rows,)."""
        return factors_of(self.scale, self.exponents)

    def rows(self, indices: npt.NDArray[np.int64]) -> Words:
        """The words of rows, shape (len(indices), words_per_row): a copy.

        Args:
            indices: of rows, each from 0 to rows - 1.
        """
        group = indices // GROUP
        height = np.minimum(GROUP, self.shape[0] - group * GROUP)
        first = group * GROUP * self.words_per_row + indices % GROUP
        places = first[:, None] + height[:, None] * np.arange(self.words_per_row)
        found: Words = self.words[places].astype(np.uint32, copy=False)
        return found

    @classmethod
    def parse(cls, payload: bytes | memoryview, shape: tuple[int, int]) -> Payload:
        """A payload, checked; nothing of the size of the matrix is allocated.

        Raises:
            CorruptError: the payload is damaged, or it does not have this shape.
        """
        rows, columns = shape
        if len(payload) < HEADER.size:
            raise CorruptError(f"a bitshift payload of {len(payload)} bytes ends within its header", len(payload))
        states_log, bits, flags, zero, seed, scale, expected = HEADER.unpack_from(payload)
        body = memoryview(payload)[HEADER.size :]
        if checksum(HEADER.pack(states_log, bits, flags, zero, seed, scale, 0), body, shape) != expected:
            raise CorruptError("the bitshift payload is damaged, or not of this shape: its checksum differs", 0)
        is_known = states_log in STATES_LOGS and bits in BITS and flags in (0, ROTATED) and not zero
        is_scale = (scale == 0 and not math.copysign(1, scale) < 0) or SCALES[0] <= scale <= SCALES[1]
        if not is_known or not is_scale or (seed and not flags):
            raise CorruptError("the header of the bitshift payload is not one of this version", 0)
        if columns > MAX_COLUMNS:
            raise CorruptError(f"a bitshift payload has at most {MAX_COLUMNS} columns, not {columns}", 0)
        if len(payload) != payload_size(bits, shape):
            raise CorruptError(f"the bitshift payload is not that of a matrix of {rows} x {columns}", len(payload))
        words = np.frombuffer(body, "<u4", (len(body) - rows) // 4)
        exponents = np.frombuffer(body, np.uint8, rows, len(body) - rows)
        return cls(states_log, bits, bool(flags), seed, scale, shape, words, exponents)


def pack(
    states_log: int, bits: int, seed: int | None, scale: float, shape: tuple[int, int], words: Words, exponents: Bytes
) -> bytes:
    """The payload of words of shape (rows, words_per_row), and exponents of shape (rows,).

    Args:
        states_log: base-2 logarithm of the number of states.
        bits: bits of a weight.
        seed: of the rotation; None if there is none.
        scale: unit of the factors.
        shape: of the matrix.
        words: the bits of each row, those of the first weights first and highest.
        exponents: of each row.
    """
    groups = [words[at : at + GROUP].T.astype("<u4").tobytes() for at in range(0, words.shape[0], GROUP)]
    body = b"".join(groups) + exponents.tobytes()
    head = (states_log, bits, 0 if seed is None else ROTATED, 0, seed or 0, scale)
    return HEADER.pack(*head, checksum(HEADER.pack(*head, 0), body, shape)) + body


def factors_of(scale: float, exponents: Bytes) -> Floats:
    """The factor of each exponent: two products in binary32; 0 for exponent 0."""
    octave = np.ldexp(np.float32(1), (exponents >> 4).astype(np.int32) - 15)
    found = (np.float32(scale) * OCTAVES[exponents & 15]) * octave
    return np.where(exponents == 0, np.float32(0), found)


def checksum(head: bytes, body: bytes | memoryview, shape: tuple[int, ...]) -> int:
    """CRC-32 of a payload whose own checksum is set to 0, and of its shape."""
    return zlib.crc32(struct.pack("<2Q", *shape), zlib.crc32(body, zlib.crc32(head)))
