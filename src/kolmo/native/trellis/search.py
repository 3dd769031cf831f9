"""The search for the levels of the trellis in NumPy and Python: the specification of its C code in trellis/bindings.c.

`trellis_quantise` finds the path (Viterbi) of least squared error plus code length through a tile, and `trellis_resume`
through a part of one, whose weights depend on the levels before. docs/trellis.md has the argument. What it is not: a
part of any format; a reader follows every path.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kolmo.native.trellis.reference import (
    CLASSES,
    CODES,
    DELAY,
    HOLE,
    MAX_ACTIVE_LEVEL,
    MAX_LEVEL,
    MAX_TILE,
    MISFIT,
    UNARY,
    Columns,
    check,
    row_of,
)

MAX_COST = 1 << 29  # cost of a state that no path has reached
COSETS = (0, 2, 1, 3)  # n mod 4, in the order: quantiser, bit

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
    check(states, holes, logs, start, period, len(weights) // 4)
    if len(weights) % 4 or len(costs) != 8 * CLASSES * (UNARY + 1) or not 0 <= slope <= 65536:
        raise ValueError(MISFIT)
    table = np.frombuffer(costs, np.int32).reshape(2 * CLASSES, UNARY + 1).astype(np.int64)
    x = np.frombuffer(weights, np.int32).tolist()
    if table.min() < 0 or table.max() >= 1 << 24 or any(not _fits(v, holes) for v in x):
        raise ValueError(MISFIT)
    return _quantise(states, logs, start, period, x, table, slope).tobytes()


def trellis_resume(
    states: int,
    logs: bytes,
    start: int,
    at: int,
    state: int,
    row: int,
    columns: bytes,
    weights: bytes,
    costs: bytes,
    slope: int,
    /,
) -> tuple[bytes, int, int, bytes]:
    """The levels of the next weights of a tile without holes, at most one for each column, and the place behind them.

    Args:
        states: number of states of the trellis: 1, 8 or 64.
        logs: table of logarithms of activities, `LOGS` bytes.
        start: activity at the start of the tile.
        at: number of weights before.
        state: the state behind them.
        row: the activity of the row behind them.
        columns: the activities of the columns, native uint16, one for each of a period.
        weights: as for `trellis_quantise`.
        costs: as for `trellis_quantise`.
        slope: as for `trellis_quantise`.

    Returns:
        Levels, state, activity of the row, activities of the columns.

    Raises:
        ValueError: sizes or values do not fit.
    """
    check(states, 0, logs, start, len(columns) // 2, len(weights) // 4)
    period = len(columns) // 2
    if len(weights) % 4 or len(costs) != 8 * CLASSES * (UNARY + 1) or not 0 <= slope <= 65536 or len(columns) % 2:
        raise ValueError(MISFIT)
    table = np.frombuffer(costs, np.int32).reshape(2 * CLASSES, UNARY + 1).astype(np.int64)
    x = np.frombuffer(weights, np.int32).tolist()
    values = np.frombuffer(columns, np.uint16).tolist()
    most = 64 * MAX_ACTIVE_LEVEL
    if table.min() < 0 or table.max() >= 1 << 24 or len(x) > period or any(not _fits(v, 0) for v in x):
        raise ValueError(MISFIT)
    if not (0 <= at <= MAX_TILE and 0 <= state < states and 0 <= row <= most and max(values) <= most):
        raise ValueError(MISFIT)
    begin = _Place(at, state, row, Columns(period, period, start))
    begin.columns.values = values
    levels = _quantise(states, logs, start, period, x, table, slope, begin)
    feedback, input_mask = CODES[states]
    for i, level in enumerate(levels.tolist()):
        activity = min(abs(level), MAX_ACTIVE_LEVEL) * 64
        state = state >> 1 ^ (state & 1) * feedback ^ (level >> 1 & 1) * input_mask
        row += (activity - row) >> 5
        begin.columns.learn(at + i, activity)
    return levels.tobytes(), state, row, np.array(begin.columns.values, np.uint16).tobytes()


@dataclass(frozen=True)
class _Place:
    """Where a search begins within a tile: what the weights before left behind."""

    at: int
    state: int
    row: int
    columns: Columns


def _quantise(
    states: int,
    logs: bytes,
    start: int,
    period: int,
    x: list[int],
    table: npt.NDArray[np.int64],
    slope: int,
    begin: _Place | None = None,
) -> Integers:
    """The search, from the start of a tile or from a place within it, where no column comes twice."""
    if states == 1:
        return _quantise_alone(logs, start, period, x, table, slope, begin)
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
    best = begin.state if begin else 0
    cost[best] = 0
    row = np.full(states, begin.row if begin else start, np.int64)
    columns = begin.columns if begin else Columns(min(period, len(x)) if x else 1, period, start)
    first = begin.at if begin else 0
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
            base = int(log[columns.at(first + i) >> 2])
            rows = row_of(everyone & 1, base + log[row >> 2])
            even = int(row_of(np.int64(0), base + log[row[best] >> 2]))
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
        if not begin and i % DELAY == DELAY - 1 and i >= 2 * DELAY - 1:
            for n in back(i, known)[: i - DELAY + 1 - known]:
                if n != HOLE:
                    columns.learn(known, min(abs(n), MAX_ACTIVE_LEVEL) * 64)
                known += 1
    return np.array(back(len(x) - 1, 0), np.int32)


def _quantise_alone(
    logs: bytes,
    start: int,
    period: int,
    x: list[int],
    table: npt.NDArray[np.int64],
    slope: int,
    begin: _Place | None,
) -> Integers:
    """With one state: for each weight alone the nearest level, or the next one towards zero."""
    columns = Columns(min(period, len(x)) if x else 1, period, start)
    if begin:  # no column comes twice, so that the caller's columns need not learn yet
        columns = Columns(period, period, start)
        columns.values = list(begin.columns.values)
    first, row, levels = begin.at if begin else 0, begin.row if begin else start, []
    for i, value in enumerate(x, first):
        if value == HOLE:
            levels.append(HOLE)
            continue
        costs = table[int(row_of(np.int64(0), np.int64(logs[columns.at(i) >> 2] + logs[row >> 2])))]
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
    return np.array(levels, np.int32)


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
