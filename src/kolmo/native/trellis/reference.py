"""Trellis-coded quantisation in NumPy and Python: the specification of trellis.h and trellis/bindings.c.

A level is an integer n, in units of the step. States whose lowest bit is 0 take even levels, the others odd ones, and
the next state depends on n mod 4: Ungerboeck's codes (1982) as a shift register with feedback, used for quantisation as
by Marcellin and Fischer (1990). With one state a single quantiser has all levels. Weights that must stay exactly 0 are
holes in the walk. `trellis_quantise` finds the path (Viterbi) of least squared error plus code length; encoder and
decoder follow it with the same adaptive contexts. docs/trellis.md has the argument and all constants.

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
DELAY = 64  # levels between two updates of the columns; a line is at least twice as long
MAX_TILE = 1 << 20  # levels in one call
HOLE = -(1 << 31)  # stands in place of a level
DENSITIES = 16  # contexts of holes
MAX_DENSITY = 4096  # the density where all weights are holes
MAX_COST = 1 << 29  # cost of a state that no path has reached
COSETS = (0, 2, 1, 3)  # n mod 4, in the order: quantiser, bit
MISFIT = "the arguments do not fit the kernel"

Integers = npt.NDArray[np.int32]


def trellis_quantise(
    states: int, holes: int, logs: bytes, start: int, period: int, weights: bytes, costs: bytes, slope: int, /
) -> bytes:
    """The levels of least squared error plus cost, as native int32.

    Args:
        states: number of states of the trellis: 1, 8 or 64.
        holes: 1 if weights may be `HOLE`; their levels are `HOLE` too.
        logs: table of logarithms of activities, `LOGS` bytes.
        start: activity at the start.
        period: distance in levels between two levels of one column.
        weights: native int32, in 1/256 of a step.
        costs: native int32, (2 * CLASSES, UNARY + 1): cost of each magnitude with its sign, in 1/65536 of a squared
            step.
        slope: cost of a bit, in the same unit.

    Raises:
        ValueError: sizes or values do not fit.
    """
    _check(states, holes, logs, start, period, len(weights) // 4)
    if len(weights) % 4 or len(costs) != 8 * CLASSES * (UNARY + 1) or not 0 <= slope <= 65536:
        raise ValueError(MISFIT)
    table = np.frombuffer(costs, np.int32).reshape(2 * CLASSES, UNARY + 1).astype(np.int64)
    x = np.frombuffer(weights, np.int32).tolist()
    if table.min() < 0 or table.max() >= 1 << 24 or any(not _fits(v, holes) for v in x):
        raise ValueError(MISFIT)
    if states == 1:
        return _quantise_alone(logs, start, period, x, table, slope)
    feedback, input_mask = CODES[states]
    came_from: list[list[tuple[int, int]]] = [[] for _ in range(states)]  # (state, coset), by target state
    for s in range(states):
        for bit in (0, 1):
            came_from[s >> 1 ^ (s & 1) * feedback ^ bit * input_mask].append((s, (s & 1) * 2 + bit))
    origin = np.array(came_from)[:, :, 0]
    coset = np.array(came_from)[:, :, 1]
    everyone = np.arange(states)
    log = np.frombuffer(logs, np.uint8).astype(np.int64)
    cost = np.full(states, MAX_COST, np.int64)
    cost[0] = 0
    row = np.full(states, start, np.int64)
    columns = _Columns(min(period, len(x)) if x else 1, period, start)
    best = 0
    came: list[npt.NDArray[np.int64]] = []
    choices: list[list[int]] = []
    known = 0

    def back(last: int, first: int) -> list[int]:
        """The levels of the best path from `first` to `last`."""
        s, path = best, []
        for j in range(last, first - 1, -1):
            if x[j] == HOLE:
                path.append(HOLE)
                continue
            turn = int(came[j][s])
            path.append(choices[j][coset[s, turn]])
            s = int(origin[s, turn])
        return path[::-1]

    for i, value in enumerate(x):
        if value == HOLE:
            choices.append([])
            came.append(everyone)
        else:
            base = int(log[columns.at(i) >> 2])
            rows = _row(everyone & 1, base + log[row >> 2])
            even = int(_row(np.int64(0), base + log[row[best] >> 2]))
            levels, error, place = _candidates(value, table[even], table[even + CLASSES], slope)
            choices.append(levels)
            activity = np.array([min(abs(n), MAX_ACTIVE_LEVEL) * 64 for n in levels])
            paths = cost[origin] + np.array(error)[coset] + table[rows[origin], np.array(place)[coset]]
            turn = (paths[:, 1] < paths[:, 0]).astype(np.int64)
            came.append(turn)
            chosen = origin[everyone, turn]
            row = row[chosen] + (activity[coset[everyone, turn]] - row[chosen] >> 5)
            cost = paths[everyone, turn]
            best = int(cost.argmin())
            cost = np.minimum(cost - cost[best], MAX_COST)
        if i % DELAY == DELAY - 1 and i >= 2 * DELAY - 1:
            for n in back(i, known)[: i - DELAY + 1 - known]:
                if n != HOLE:
                    columns.learn(known, min(abs(n), MAX_ACTIVE_LEVEL) * 64)
                known += 1
    return np.array(back(len(x) - 1, 0), np.int32).tobytes()


def _quantise_alone(
    logs: bytes, start: int, period: int, x: list[int], table: npt.NDArray[np.int64], slope: int
) -> bytes:
    """With one state: for each weight alone the nearest level, or the next one towards zero."""
    columns = _Columns(min(period, len(x)) if x else 1, period, start)
    row, levels = start, []
    for i, value in enumerate(x):
        if value == HOLE:
            levels.append(HOLE)
            continue
        costs = table[int(_row(np.int64(0), np.int64(logs[columns.at(i) >> 2] + logs[row >> 2])))]
        nearest = abs(value) + 127 >> 8
        totals = [
            ((abs(value) - level * 256) ** 2 + int(costs[min(level, UNARY)]) + _tail(level) * slope, -level)
            for level in range(nearest, max(nearest - 2, -1), -1)
        ]
        chosen = -min(totals)[1]
        levels.append(-chosen if value < 0 else chosen)
        activity = min(chosen, MAX_ACTIVE_LEVEL) * 64
        row += (activity - row) >> 5
        columns.learn(i, activity)
    return np.array(levels, np.int32).tobytes()


def trellis_count(states: int, holes: int, logs: bytes, start: int, period: int, levels: bytes, /) -> bytes:
    """How often the decision of each context was 0 and 1: native uint32, (2 * CLASSES, PLACES, 2)."""
    _check(states, holes, logs, start, period, len(levels) // 4)
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
    _check(states, holes, logs, start, period, len(levels) // 4)
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
    _check(states, holes, logs, start, period, count)
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
    columns, densities = _Columns(width, period, start), _Columns(width, period, MAX_DENSITY // 2)
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
        at = int(_row(np.int64(odd), np.int64(logs[columns.at(i) >> 2] + logs[row >> 2])))
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


class _Columns:
    """A running mean for each column, which adapts faster in the first lines of a tile."""

    def __init__(self, width: int, period: int, start: int) -> None:
        self._values = [start] * width
        self._period = period

    def at(self, i: int) -> int:
        return self._values[i % self._period]

    def learn(self, i: int, value: int) -> None:
        line, column = divmod(i, self._period)
        shift = 2 if line < 4 else 3 if line < 8 else 4 if line < 32 else 5
        self._values[column] += (value - self._values[column]) >> shift


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


def _candidates(
    x: int, even: npt.NDArray[np.int64], odd: npt.NDArray[np.int64], slope: int
) -> tuple[list[int], list[int], list[int]]:
    """For each coset: a level, its squared error plus the cost of its exp-Golomb part, its place in a row of costs.

    The level is the nearest one, or the next one towards zero if the difference in cost outweighs that in error.
    """
    levels, errors, places = [], [], []
    for i, coset in enumerate(COSETS):
        costs = odd if i >> 1 else even
        nearest = ((x - coset * 256 + 512) >> 10) * 4 + coset
        best: tuple[int, int, int, int] | None = None
        for level in (nearest, nearest + (-4 if nearest > 0 else 4)):
            value = abs(level) >> 1
            error = (x - level * 256) ** 2 + _tail(value) * slope
            total = error + int(costs[min(value, UNARY)])
            if best is None or total < best[0]:
                best = total, level, error, min(value, UNARY)
        assert best is not None
        levels.append(best[1])
        errors.append(best[2])
        places.append(best[3])
    return levels, errors, places


def _tail(value: int) -> int:
    """Number of bits of the exp-Golomb part."""
    return 2 * ((value - UNARY + 1).bit_length() - 1) + 1 if value >= UNARY else 0


def _fits(x: int, holes: int) -> bool:
    return bool(holes) if x == HOLE else abs(x) // 256 < MAX_LEVEL - 4


def _row(odd: npt.NDArray[np.int64] | np.int64, total: npt.NDArray[np.int64] | np.int64) -> npt.NDArray[np.int64]:
    """The row of contexts: the quantiser, and the class of the activity whose two logarithms have the sum `total`."""
    return np.asarray(odd * CLASSES + np.clip((total * 3 >> 3) - 3, 0, CLASSES - 1))


def _levels(data: bytes) -> Integers:
    if len(data) % 4:
        raise ValueError(MISFIT)
    return np.frombuffer(data, np.int32).copy()


def _check(states: int, holes: int, logs: bytes, start: int, period: int, count: int) -> None:
    fits = states in CODES and holes in (0, 1) and len(logs) == LOGS and max(logs) <= 64
    if not (fits and 0 <= start <= 64 * MAX_ACTIVE_LEVEL and period >= 2 * DELAY and 0 <= count <= MAX_TILE):
        raise ValueError(MISFIT)
