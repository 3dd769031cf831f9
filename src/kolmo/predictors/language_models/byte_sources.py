"""Bytes and numbers, plain or among coded decisions: what a block and a record of a language model consist of.

What it is not: a format; who reads knows what comes next.
"""

from __future__ import annotations

import numpy as np

from kolmo.coder.binary import BinaryDecoder, BinaryEncoder
from kolmo.errors import CorruptError
from kolmo.varints import VarintError, read_varint

EVEN = 1 << 15  # a chance, of 65536


class Source:
    """Reads varints off something that gives bytes."""

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
            ValueError: there are fewer.
        """
        part = self._data[self._at : self._at + size]
        if len(part) < size:
            raise ValueError("they end too early")
        self._at += size
        return part

    def left(self) -> bytes:
        """All that is left."""
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
        for at in range(0, size, 1 << 16):  # a false claim ends where the payload does
            count = 8 * min(size - at, 1 << 16)
            bits = self._decoder.decode_many(np.full(count, EVEN, "<u2").tobytes())
            parts.append(np.packbits(np.frombuffer(bits, np.uint8)).tobytes())
        return b"".join(parts)


def write_bytes(encoder: BinaryEncoder, data: bytes) -> None:
    """Code bytes as they are: eight even decisions each."""
    for at in range(0, len(data), 1 << 16):
        bits = np.unpackbits(np.frombuffer(data, np.uint8)[at : at + (1 << 16)])
        encoder.encode_many(bits.tobytes(), np.full(len(bits), EVEN, "<u2").tobytes())
