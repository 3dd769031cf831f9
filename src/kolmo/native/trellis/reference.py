"""Trellis-coded quantisation in NumPy and Python: the specification of trellis.h and trellis/bindings.c.

A level is an integer n, in units of the step. States whose lowest bit is 0 take even levels, the others odd ones, and
the next state depends on n mod 4: Ungerboeck's codes (1982) as a shift register with feedback, used for quantisation as
by Marcellin and Fischer (1990). With one state a single quantiser has all levels. Weights that must stay exactly 0 are
holes in the walk. `search.py` finds the path; encoder and decoder follow it with the same adaptive contexts.
docs/trellis.md has the argument and all constants.

What it is not: a coder of weights. It sees only levels and integers; kolmo.hyperfunctions.trellis has steps, offsets,
tiles and the payload.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from kolmo.errors import CorruptError
from kolmo.native.coder.reference import BinaryDecoder, BinaryEncoder

CODES = {1: (0, 0), 8: (5, 2), 64: (33, 10)}  # number of states: feedback, input
CLASSES = 24  # classes of activity
PLACES = 9  # decisions of a magnitude that have contexts of their own
UNARY = 18  # values from here on end in an exp-Golomb code
CONTEXTS = 2 * CLASSES * PLACES
MAX_LEVEL = 1 << 20
MAX_ACTIVE_LEVEL = 511  # larger levels count as this one for activity
LOGS = 8192  # length in bytes of the table of logarithms
DELAY = 64  # levels between two updates of the columns in a search; a line is at least twice as long
MAX_TILE = 1 << 20  # levels in one call
HOLE = -(1 << 31)  # stands in place of a level
DENSITIES = 16  # contexts of holes
MAX_DENSITY = 4096  # the density where all weights are holes
MISFIT = "the arguments do not fit the kernel"

Integers = npt.NDArray[np.int32]


def trellis_count(states: int, holes: int, logs: bytes, start: int, period: int, levels: bytes, /) -> bytes:
    """How often the decision of each context was 0 and 1: native uint32, (2 * CLASSES, PLACES, 2)."""
    check(states, holes, logs, start, period, len(levels) // 4)
    counts = np.zeros((CONTEXTS, 2), np.uint32)
    half = int(states > 1)

    def visit(level: int, odd: int, context: int) -> int:
        value = abs(level) >> half
        for k in range(min(value + 1, UNARY)):
            counts[context + min(k, PLACES - 1), int(value > k)] += 1
        return level

    _walk(states, holes, logs, start, period, _levels(levels), visit, _is_hole)
    return counts.tobytes()


def trellis_encode(
    states: int, holes: int, logs: bytes, start: int, period: int, levels: bytes, table: bytes, /
) -> bytes:
    """The coded levels. `table` has the first probability of a 1 in each context, in 1/256."""
    check(states, holes, logs, start, period, len(levels) // 4)
    probabilities = _Probabilities(table)
    coder = BinaryEncoder()
    half = int(states > 1)

    def code_hole(level: int, context: int) -> bool:
        coder.encode(int(level == HOLE), probabilities.of(context))
        probabilities.learn(context, level == HOLE)
        return level == HOLE

    def visit(level: int, odd: int, context: int) -> int:
        value = abs(level) >> half
        for k in range(min(value + 1, UNARY)):
            place = context + min(k, PLACES - 1)
            coder.encode(int(value > k), probabilities.of(place))
            probabilities.learn(place, value > k)
        if value >= UNARY:
            rest = value - UNARY + 1
            bits = rest.bit_length() - 1
            for _ in range(bits):
                coder.encode(1, 32768)
            coder.encode(0, 32768)
            for k in reversed(range(bits)):
                coder.encode(rest >> k & 1, 32768)
        if level:
            coder.encode(int(level < 0), 32768)
        return level

    _walk(states, holes, logs, start, period, _levels(levels), visit, code_hole)
    return coder.finish()


def trellis_decode(
    states: int, holes: int, logs: bytes, start: int, period: int, data: bytes, table: bytes, count: int, /
) -> bytes:
    """The `count` levels that `trellis_encode` coded: the mirror of it.

    Raises:
        CorruptError: the data end too early or too late.
    """
    check(states, holes, logs, start, period, count)
    probabilities = _Probabilities(table)
    coder = BinaryDecoder(data)
    levels = np.zeros(count, np.int32)
    half = int(states > 1)

    def code_hole(level: int, context: int) -> bool:
        hole = bool(coder.decode(probabilities.of(context)))
        probabilities.learn(context, hole)
        return hole

    def visit(level: int, odd: int, context: int) -> int:
        value = 0
        while value < UNARY:
            place = context + min(value, PLACES - 1)
            more = coder.decode(probabilities.of(place))
            probabilities.learn(place, bool(more))
            if not more:
                break
            value += 1
        if value == UNARY:
            bits = 0
            while coder.decode(32768):
                bits += 1
                if bits > 20:
                    raise CorruptError("the coded levels do not end where they should")
            rest = 1
            for _ in range(bits):
                rest = rest << 1 | coder.decode(32768)
            value += rest - 1
        level = (value << half) + odd
        return -level if level and coder.decode(32768) else level

    try:
        _walk(states, holes, logs, start, period, levels, visit, code_hole)
    except CorruptError:
        raise CorruptError("the coded levels do not end where they should") from None
    if coder._next < len(data):
        raise CorruptError("the coded levels do not end where they should")
    return levels.tobytes()


def _walk(
    states: int,
    holes: int,
    logs: bytes,
    start: int,
    period: int,
    levels: Integers,
    visit: Callable[[int, int, int], int],
    code_hole: Callable[[int, int], bool],
) -> None:
    """Follow the state and the activities along the levels.

    `code_hole(level, context)` returns whether a level is a hole. For all others `visit(level, odd, context)` returns
    the level.
    """
    feedback, input_mask = CODES[states]
    width = min(period, len(levels)) if len(levels) else 1
    columns, densities = Columns(width, period, start), Columns(width, period, MAX_DENSITY // 2)
    state, row, density, half = 0, start, MAX_DENSITY // 2, int(states > 1)
    for i, level in enumerate(levels.tolist()):
        if holes:
            density_class = (density + densities.at(i)) * DENSITIES // (2 * MAX_DENSITY)
            hole = code_hole(level, CONTEXTS + min(density_class, DENSITIES - 1))
            density += ((MAX_DENSITY if hole else 0) - density) >> 5
            densities.learn(i, MAX_DENSITY if hole else 0)
            if hole:
                levels[i] = HOLE
                continue
        odd = state & half
        if level and (level & half != odd or abs(level) > MAX_LEVEL):
            raise ValueError(MISFIT)
        at = int(row_of(np.int64(odd), np.int64(logs[columns.at(i) >> 2] + logs[row >> 2])))
        level = visit(level, odd, at * PLACES)
        if level & half != odd:
            raise ValueError(MISFIT)
        levels[i] = level
        activity = min(abs(level), MAX_ACTIVE_LEVEL) * 64
        state = state >> 1 ^ odd * feedback ^ (level >> 1 & 1) * input_mask
        row += (activity - row) >> 5
        columns.learn(i, activity)


def _is_hole(level: int, context: int) -> bool:
    return level == HOLE


class Columns:
    """A running mean for each column, which adapts faster in the first lines of a tile."""

    def __init__(self, width: int, period: int, start: int) -> None:
        self.values = [start] * width
        self._period = period

    def at(self, i: int) -> int:
        """The activity of the column of level i of a tile."""
        return self.values[i % self._period]

    def learn(self, i: int, value: int) -> None:
        """Take the activity of level i into the mean of its column."""
        line, column = divmod(i, self._period)
        shift = 2 if line < 4 else 3 if line < 8 else 4 if line < 32 else 5
        self.values[column] += (value - self.values[column]) >> shift


class _Probabilities:
    """Adaptive probabilities in 2^-22: each is the mean of a fast and a slow estimate."""

    def __init__(self, table: bytes) -> None:
        if len(table) != CONTEXTS or 0 in table:
            raise ValueError(MISFIT)
        self._fast = [p << 14 for p in table]
        self._fast += [(2 * i + 1) * ((1 << 21) // DENSITIES) for i in range(DENSITIES)]
        self._slow = self._fast.copy()

    def of(self, i: int) -> int:
        return (self._fast[i] + self._slow[i]) >> 7

    def learn(self, i: int, bit: bool) -> None:
        fast, slow = self._fast[i], self._slow[i]
        if bit:
            self._fast[i] = fast + ((1 << 22) - fast >> 7)
            self._slow[i] = slow + ((1 << 22) - slow >> 10)
        else:
            self._fast[i] = fast - (fast >> 7)
            self._slow[i] = slow - (slow >> 10)


def row_of(odd: npt.NDArray[np.int64] | np.int64, total: npt.NDArray[np.int64] | np.int64) -> npt.NDArray[np.int64]:
    """The row of contexts: the quantiser, and the class of the activity whose two logarithms have the sum `total`."""
    return np.asarray(odd * CLASSES + np.clip((total * 3 >> 3) - 3, 0, CLASSES - 1))


def _levels(data: bytes) -> Integers:
    if len(data) % 4:
        raise ValueError(MISFIT)
    return np.frombuffer(data, np.int32).copy()


def check(states: int, holes: int, logs: bytes, start: int, period: int, count: int) -> None:
    """Check the arguments that all functions share.

    Raises:
        ValueError: they do not fit.
    """
    fits = states in CODES and holes in (0, 1) and len(logs) == LOGS and max(logs) <= 64
    if not (fits and 0 <= start <= 64 * MAX_ACTIVE_LEVEL and period >= 2 * DELAY and 0 <= count <= MAX_TILE):
        raise ValueError(MISFIT)
