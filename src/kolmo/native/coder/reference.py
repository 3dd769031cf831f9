"""The arithmetic coder in plain Python: the specification of `coder.h` and the fallback where no C was built.

Encoder and decoder are mirror images; docs/format.md holds the arithmetic and its invariants. All state is integer.
"""

from __future__ import annotations

import numpy as np

from kolmo.errors import CorruptError

TOP = 1 << 24  # renormalise below this
MASK32 = 0xFFFFFFFF
# Zero bytes a decoder may read past the payload: 4 for its window, 4 that the encoder left off.
MAX_OVERRUN_BYTES = 8
REMAP_ENTRIES = 4096  # entries of a table of replaced probabilities


class BinaryEncoder:
    """Codes binary decisions into bytes. `encode` or `encode_many` any number of times, then `finish` once."""

    def __init__(self) -> None:
        self._low = 0  # 33 bits: bit 32 is a carry not yet propagated
        self._range = MASK32
        self._held = -1  # the last byte, held back for a carry; -1 before the first
        self._run = 0  # 0xFF bytes held back behind it
        self._out = bytearray()
        self._finished = False

    def encode(self, bit: int, p1: int) -> None:
        """Code `bit` with probability `p1` / 65536 of being 1.

        Raises:
            ValueError: `p1` is not in 1..65535, or the encoder is finished.
        """
        _check(p1)
        self._check_open()
        bound = self._range * p1 >> 16
        if bit:
            self._range = bound
        else:
            self._low += bound
            self._range -= bound
        while self._range < TOP:
            self._shift()
            self._range = self._range << 8 & MASK32

    def encode_many(self, bits: bytes, p1: bytes) -> None:
        """Code a bit per byte of `bits` (0 or 1), with `p1` as little-endian 16-bit probabilities, one a bit."""
        for bit, p in zip(bits, np.frombuffer(p1, "<u2").tolist(), strict=True):
            self.encode(bit, p)

    def size(self) -> int:
        """Bytes written so far, held ones included (the final size is at most 4 more)."""
        return len(self._out) + (self._held >= 0) + self._run

    def adopt(self, other: BinaryEncoder) -> None:
        """Go on from where another encoder is, which is finished then.

        Raises:
            ValueError: this one has coded something, or either is finished.
            TypeError: the other one is not such an encoder.
        """
        if not isinstance(other, BinaryEncoder):
            raise TypeError(f"an encoder adopts an encoder, not {type(other).__name__}")
        self._check_open()
        other._check_open()
        if self is other or self._low or self._range != MASK32 or self._held >= 0:
            raise ValueError("only an encoder that has coded nothing adopts another")
        self.__dict__.update(other.__dict__)
        other._finished = True

    def finish(self) -> bytes:
        """Close the interval and return all bytes: of the values in it, the one that ends in most zero bytes."""
        self._check_open()
        self._finished = True
        top = self._low + self._range - 1
        keep = 0  # bytes of the window that are written; the rest are zeros that the decoder supplies
        while top >> (32 - 8 * keep) << (32 - 8 * keep) < self._low:
            keep += 1
        self._low = top >> (32 - 8 * keep) << (32 - 8 * keep)
        for _ in range(keep + 1):
            self._shift()
        return bytes(self._out)

    def _check_open(self) -> None:
        if self._finished:
            raise ValueError("the encoder is finished")

    def _shift(self) -> None:
        carry = self._low >> 32
        byte = self._low >> 24 & 0xFF
        if carry or byte != 0xFF:
            if self._held >= 0:
                self._out.append(self._held + carry & 0xFF)
            self._out.extend(bytes([0xFF + carry & 0xFF]) * self._run)
            self._run = 0
            self._held = byte
        else:
            self._run += 1
        self._low = (self._low & 0x00FFFFFF) << 8


class BinaryDecoder:
    """Decodes what `BinaryEncoder` wrote, given the same probabilities in the same order.

    With `remap` each probability p1 is replaced by entry p1 >> 4 of that table (4,096 little-endian 16-bit numbers
    in 1..65535) before the bit is decoded. No payload is written that way: it is for sampling, where the payload is
    random and the table makes likely bits likelier (`predictors.choice.bit_temperature`).

    Raises:
        ValueError: `remap` has another size, or a number of it is not in 1..65535.
    """

    def __init__(self, payload: bytes, remap: bytes | None = None) -> None:
        self._remap: list[int] | None = None
        if remap is not None:
            if len(remap) != 2 * REMAP_ENTRIES:
                raise ValueError(f"remap has {len(remap)} bytes, not {2 * REMAP_ENTRIES}")
            self._remap = np.frombuffer(remap, "<u2").tolist()
            for p1 in self._remap:
                _check(p1)
        self._payload = payload
        self._next = 0
        self._range = MASK32
        self._code = 0
        for _ in range(4):
            self._pull()

    def decode(self, p1: int) -> int:
        """Decode one bit that was coded with probability `p1` / 65536 of being 1.

        Raises:
            CorruptError: more bits are read than the payload can hold.
            ValueError: `p1` is not in 1..65535.
        """
        _check(p1)
        if self._remap is not None:
            p1 = self._remap[p1 >> 4]
        bound = self._range * p1 >> 16
        if self._code < bound:
            bit = 1
            self._range = bound
        else:
            bit = 0
            self._code -= bound
            self._range -= bound
        while self._range < TOP:
            self._pull()
            self._range = self._range << 8 & MASK32
        return bit

    def decode_many(self, p1: bytes) -> bytes:
        """Decode one bit per little-endian 16-bit probability in `p1`; returns a byte (0 or 1) for each."""
        return bytes(self.decode(p) for p in np.frombuffer(p1, "<u2").tolist())

    def _pull(self) -> None:
        byte = 0
        if self._next < len(self._payload):
            byte = self._payload[self._next]
        elif self._next >= len(self._payload) + MAX_OVERRUN_BYTES:
            raise CorruptError("the coded data ends too early")
        self._next += 1
        self._code = (self._code << 8 | byte) & MASK32


def _check(p1: int) -> None:
    if not 1 <= p1 <= 65535:
        raise ValueError(f"probability {p1} is not in 1..65535")
