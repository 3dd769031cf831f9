"""Readers and writers of bytes and numbers, plain or coded: the elements of a language model's block and record.

What it is not: a format; the caller determines the order of the elements.
"""

from __future__ import annotations

import numpy as np

from kolmo.coder.binary import BinaryDecoder, BinaryEncoder
from kolmo.errors import CorruptError
from kolmo.varints import VarintError, read_varint

EVEN_CHANCE = 1 << 15  # probability 1/2, in units of 2^-16


class Source:
    """Reads varints from any source of bytes."""

    def take(self, size: int) -> bytes:
        """The next `size` bytes."""
        raise NotImplementedError

    def varint(self, limit: int) -> int:
        """The next number in unsigned LEB128.

        Raises:
            CorruptError: it is above `limit`, or written longer than needed.
        """
        try:
            return read_varint(lambda: self.take(1)[0], limit)
        except VarintError as error:
            raise CorruptError(f"a number in it {error}") from None


class PlainSource(Source):
    """Bytes in memory."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def take(self, size: int) -> bytes:
        """The next `size` bytes.

        Raises:
            ValueError: fewer bytes are left.
        """
        part = self._data[self._at : self._at + size]
        if len(part) < size:
            raise ValueError("the record ends too early")
        self._at += size
        return part

    def left(self) -> bytes:
        """All bytes that are left."""
        return self.take(len(self._data) - self._at)


class CodedSource(Source):
    """Bytes that `write_bytes` coded."""

    def __init__(self, decoder: BinaryDecoder) -> None:
        self._decoder = decoder

    def take(self, size: int) -> bytes:
        """The next `size` bytes.

        Raises:
            CorruptError: the payload ends before them.
        """
        parts = []
        for at in range(0, size, 1 << 16):  # in pieces, so that a false size stops at the end of the payload
            count = 8 * min(size - at, 1 << 16)
            bits = self._decoder.decode_many(np.full(count, EVEN_CHANCE, "<u2").tobytes())
            parts.append(np.packbits(np.frombuffer(bits, np.uint8)).tobytes())
        return b"".join(parts)


def write_bytes(encoder: BinaryEncoder, data: bytes) -> None:
    """Code bytes uncompressed: eight decisions of even chance each."""
    for at in range(0, len(data), 1 << 16):
        bits = np.unpackbits(np.frombuffer(data, np.uint8)[at : at + (1 << 16)])
        encoder.encode_many(bits.tobytes(), np.full(len(bits), EVEN_CHANCE, "<u2").tobytes())
