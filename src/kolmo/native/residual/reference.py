"""Residuals in Python: the specification of residual.h and residual/bindings.c.

The magnitude of a float is an integer, exponent above mantissa, in the order of the floats. With a step that is a power
of two, the level of a weight (its magnitude over the step, rounded towards zero) is the upper bits of that integer, and
the residual the lower ones. Below one step there are many octaves: the exponent comes first, then mantissa and sign.
docs/residual.md has the argument and all constants.

What it is not: a coder of payloads; kolmo.weights.format.lossless has these, and chooses the step.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from kolmo.errors import CorruptError
from kolmo.native.coder.reference import BinaryDecoder, BinaryEncoder

KINDS = ((2, 7, 254), (2, 10, 30), (4, 23, 254), (8, 52, 2046))  # bytes, bits of the mantissa, largest exponent
MAX_DEPTH = 8  # upper bits of a residual that may have contexts
CELLS = 16  # levels whose cells have contexts of their own
OCTAVES = 16  # octaves below the step that have decisions of their own
COUNT_BITS = 6  # raw bits of the number of bits that a row drops
FAR_BITS = 11  # raw bits of an octave further below
START = 128  # activity at the start
RATE = 4  # activities adapt by 2^-RATE
MAX_ACTIVE_LEVEL = 511  # larger levels count as this one for activity
MAX_OCTAVE = 19  # octave of the largest level
MAX_LEVEL = 1 << 20
MAX_TILE = 1 << 20  # weights in one call
MISFIT = "the arguments do not fit the kernel"
MISMATCH = "the coded residuals are not those of these levels"


def residual_encode(
    kind: int,
    dropped: int,
    exponent: int,
    depth: int,
    zeros: int,
    period: int,
    phase: int,
    values: bytes,
    counts: bytes,
    /,
) -> tuple[bytes, bytes]:
    """The coded residuals of a tile: the code of decisions, and raw bits.

    Args:
        kind: kind of float, a place in `KINDS`.
        dropped: number of lowest bits of the mantissa that are 0 in all values; with `counts` any number.
        exponent: biased exponent of the step.
        depth: number of upper bits of a residual that have contexts.
        zeros: 1 if there are zeros; with 0 they are possible, but cost more.
        period: distance in values between two values of one column.
        phase: place of the first value in its row.
        values: finite floats, as native unsigned integers.
        counts: what stands in the place of `dropped` in each row, whole or in part, one byte each; or empty.

    Raises:
        ValueError: sizes or values do not fit.
    """
    size, mantissa, largest = _fit(kind, dropped, exponent, depth, period, phase)
    rows = -(-(len(values) // size + phase) // period) if values else 0
    if len(values) % size or len(values) // size > MAX_TILE or (counts and len(counts) != rows):
        raise ValueError(MISFIT)
    sign = 8 * size - 1
    walk = _Walk(exponent, mantissa, dropped, depth, bool(zeros), bool(counts), period, phase, len(values) // size)
    coder, raw = BinaryEncoder(), _BitWriter()

    def decide(bit: int, chance: int) -> int:
        coder.encode(bit, chance)
        return bit

    for i, value in enumerate(np.frombuffer(values, f"=u{size}").tolist()):
        if not walk.begin(counts[(i + phase) // period] if counts else 0, decide, raw.put):
            raise ValueError(MISFIT)
        magnitude, dropped, bits = value & (1 << sign) - 1, walk.dropped, mantissa - walk.dropped
        above = (magnitude >> mantissa) - exponent
        if magnitude >> mantissa > largest or magnitude & (1 << dropped) - 1 or above > MAX_OCTAVE:
            raise ValueError(MISFIT)
        magnitude >>= dropped
        whole = 1 << bits | magnitude & (1 << bits) - 1
        level = 0 if above < 0 else whole >> bits - above if above <= bits else whole << above - bits
        walk.visit(level, value >> sign, magnitude, decide, raw.put)
    return coder.finish(), raw.finish()


def residual_decode(
    kind: int,
    dropped: int,
    exponent: int,
    depth: int,
    zeros: int,
    rows: int,
    period: int,
    phase: int,
    levels: bytes,
    code: bytes,
    bits: bytes,
    /,
) -> bytes:
    """The values that `residual_encode` coded, given their levels (native int32): the mirror of it.

    `rows` is 1 if there were `counts`, else 0.

    Raises:
        CorruptError: code or bits end too early or too late, or a level does not belong to such a float.
    """
    size, mantissa, largest = _fit(kind, dropped, exponent, depth, period, phase)
    if len(levels) // 4 > MAX_TILE:
        raise ValueError(MISFIT)
    sign, numbers = 8 * size - 1, np.frombuffer(levels[: len(levels) // 4 * 4], np.int32).tolist()
    if len(levels) % 4 or any(abs(level) > MAX_LEVEL for level in numbers):
        raise CorruptError(MISMATCH)
    walk = _Walk(exponent, mantissa, dropped, depth, bool(zeros), bool(rows), period, phase, len(numbers))
    coder, raw = BinaryDecoder(code), _BitReader(bits)
    values = []

    def decide(_: int, chance: int) -> int:
        return coder.decode(chance)

    def get(_: int, count: int) -> int:
        return raw.get(count)

    try:
        for level in numbers:
            if not walk.begin(0, decide, get) or (level and exponent + abs(level).bit_length() - 1 > largest):
                raise CorruptError(MISMATCH)
            magnitude, negative = walk.visit(abs(level), int(level < 0), None, decide, get)
            values.append(magnitude << walk.dropped | negative << sign)
    except CorruptError:
        raise CorruptError(MISMATCH) from None
    if coder._next < len(code) or not raw.finished:
        raise CorruptError(MISMATCH)
    return np.array(values, f"=u{size}").tobytes()


class _Walk:
    """The contexts, and the order of decisions and raw bits, which encoder and decoder share."""

    def __init__(
        self,
        exponent: int,
        mantissa: int,
        dropped: int,
        depth: int,
        zeros: bool,
        rows: bool,
        period: int,
        phase: int,
        count: int,
    ) -> None:
        self._exponent, self._mantissa, self._depth, self._zeros = exponent, mantissa, depth, zeros
        self.dropped = dropped
        self._rows, self._changed = rows, 0
        self._left = 0 if rows else -1  # values before the next row begins
        self._length = period - phase  # of the next row in values
        self._row = START
        self._columns = [START] * max(min(period, count), 1)
        self._period, self._at = period, 0
        self._odds: dict[tuple[int, ...], list[int]] = {}

    def begin(self, count: int, decide: Callable[[int, int], int], raw: Callable[[int, int], int]) -> bool:
        """Before each value: the number of dropped bits of a row that begins here; False if it is impossible.

        The encoder passes that number, the decoder anything.
        """
        if not self._left:
            self._left, self._length = self._length, self._period
            self._changed = self._choose((4, self._changed), int(count != self.dropped), decide)
            if self._changed:
                self.dropped = raw(count, COUNT_BITS)
        self._left -= self._rows
        return self.dropped <= self._mantissa

    def visit(
        self,
        level: int,
        negative: int,
        magnitude: int | None,
        decide: Callable[[int, int], int],
        raw: Callable[[int, int], int],
    ) -> tuple[int, int]:
        """Magnitude and sign of the next value.

        The encoder passes all arguments. The decoder passes None as the magnitude, and any sign for level 0;
        `decide(bit, chance)` and `raw(bits, count)` then return the coded bits, and ignore the given ones.
        """
        m, known = self._mantissa - self.dropped, magnitude is not None
        given = 0 if magnitude is None else magnitude
        if level:
            octave = level.bit_length() - 1
            rest = m - octave
            head = (level << rest if rest >= 0 else level >> -rest) + (self._exponent + octave - 1 << m)
            found = head | self._lower(min(level, CELLS), max(rest, 0), given, decide, raw)
        else:
            activity = (self._row * self._columns[self._at]).bit_length()
            if self._zeros and self._choose((0, activity), int(given == 0), decide):
                found, negative = 0, self._choose((1,), negative, decide)
            else:
                octave, below = 0, self._exponent - 1 - (given >> m)
                while octave < OCTAVES and self._choose((2, activity, octave), int(below > octave), decide):
                    octave += 1
                if octave == OCTAVES:
                    octave += raw(below - octave if known else 0, FAR_BITS)
                if octave >= self._exponent:
                    raise CorruptError(MISMATCH)
                group = CELLS + 1 + min(octave, OCTAVES - 1)
                found = self._exponent - 1 - octave << m
                lower = self._lower(group, m, given << 1 | negative, decide, raw, 1)
                found, negative = found | lower >> 1, lower & 1
        new = min(level, MAX_ACTIVE_LEVEL) * 64
        self._row += new - self._row >> RATE
        self._columns[self._at] += new - self._columns[self._at] >> RATE
        self._at = (self._at + 1) % self._period
        return found, negative

    def _lower(
        self,
        group: int,
        count: int,
        bits: int,
        decide: Callable[[int, int], int],
        raw: Callable[[int, int], int],
        more: int = 0,
    ) -> int:
        """The lowest `count` bits, of which the upper ones have contexts, and `more` bits after them."""
        node, left, found = 1, count, 0
        while left and count - left < self._depth:
            left -= 1
            bit = self._choose((3, group, node), bits >> left + more & 1, decide)
            found |= bit << left + more
            node = node << 1 | bit
        return found | raw(bits & (1 << left + more) - 1, left + more)

    def _choose(self, context: tuple[int, ...], bit: int, decide: Callable[[int, int], int]) -> int:
        """A decision; its probability adapts like those of the trellis."""
        odds = self._odds.setdefault(context, [1 << 21, 1 << 21])
        bit = decide(bit, sum(odds) >> 7)
        for i, rate in enumerate((7, 10)):
            odds[i] += (1 << 22) - odds[i] >> rate if bit else -(odds[i] >> rate)
        return bit


class _BitWriter:
    """Raw bits, the lowest first."""

    def __init__(self) -> None:
        self._held, self._count, self._out = 0, 0, bytearray()

    def put(self, bits: int, count: int) -> int:
        self._held |= bits << self._count
        self._count += count
        whole = self._count // 8
        self._out += (self._held & (1 << 8 * whole) - 1).to_bytes(whole, "little")
        self._held >>= 8 * whole
        self._count -= 8 * whole
        return bits

    def finish(self) -> bytes:
        return bytes(self._out) + self._held.to_bytes(self._count > 0, "little")


class _BitReader:
    """The mirror of `_BitWriter`."""

    def __init__(self, data: bytes) -> None:
        self._data, self._next, self._held, self._count = data, 0, 0, 0

    def get(self, count: int) -> int:
        while self._count < count:
            if self._next == len(self._data):
                raise CorruptError(MISMATCH)
            self._held |= self._data[self._next] << self._count
            self._next, self._count = self._next + 1, self._count + 8
        bits = self._held & (1 << count) - 1
        self._held >>= count
        self._count -= count
        return bits

    @property
    def finished(self) -> bool:
        """Whether all bits were read, and the rest of the last byte is zeros."""
        return self._next == len(self._data) and not self._held


def _fit(kind: int, dropped: int, exponent: int, depth: int, period: int, phase: int) -> tuple[int, int, int]:
    """The kind of float, if all arguments fit it."""
    if 0 <= kind < len(KINDS) and 0 <= depth <= MAX_DEPTH and 0 <= phase < period:
        size, mantissa, largest = KINDS[kind]
        if 0 <= dropped <= mantissa and 1 <= exponent <= largest:
            return size, mantissa, largest
    raise ValueError(MISFIT)
