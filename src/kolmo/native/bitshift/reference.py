"""The search of the bitshift trellis in NumPy: the specification of search.c and its vector paths.

A row is a cyclic string of bits; the state of weight t is `states_log` of them from `bits * t` on, and a multiplication
turns it into an integer. `bitshift_search` finds the string of least squared error (Viterbi 1967; for trellises of
shifted states: Mao and Gray 2010; with tails that meet: Tseng et al., "QTIP", 2024). Costs are integers of 16 bits,
which saturate, so that every path of instructions finds the same string. What it is not: a choice of scales, which
kolmo.hyperfunctions.bitshift makes.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from kolmo.native.bitshift_product.reference import MAX_COLUMNS, MISFIT, value_of

SEAM = 64  # weights before and after the seam that are searched first
MAX_COST = 0xFFFF

Integers = npt.NDArray[np.int32]


def bitshift_search(states_log: int, bits: int, width: int, columns: int, targets: bytes, /) -> tuple[bytes, bytes]:
    """The words of rows, and the values of their weights.

    Args:
        states_log: base-2 logarithm of the number of states, 12 or 16.
        bits: bits of a weight: 2, 3 or 4.
        width: weights of a row, the free ones included: a multiple of 32.
        columns: weights of a row from here on are free: any value is right. Less than 32 are free.
        targets: native int16, (rows, width): what the values should be, in units of 2^-(4 + bits).

    Returns:
        Native uint32 of shape (rows, bits * width / 32), the string of each row, the first bit of each word the most
        significant; and int8 of shape (rows, width), the values that the string stands for.

    Raises:
        ValueError: sizes or values do not fit.
    """
    fits = states_log in (12, 16) and 2 <= bits <= 4 and 32 <= width <= MAX_COLUMNS and width % 32 == 0
    if not fits or not width - 32 < columns <= width or columns < 0 or len(targets) % (2 * width):
        raise ValueError(MISFIT)
    rows = np.frombuffer(targets, np.int16).reshape(-1, width)
    table = value_of(np.arange(1 << states_log, dtype=np.uint32)).astype(np.int32)
    newest = np.zeros(rows.shape, np.int32)
    for row, found in zip(rows, newest, strict=True):
        found[:] = _search_row(table, states_log, bits, columns, row)
    words, values = strings(newest, states_log, bits)
    return words.tobytes(), values.tobytes()


def strings(newest: Integers, states_log: int, bits: int) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.int8]]:
    """The words and the values of rows, of which the newest bits of each state are known.

    Args:
        newest: (rows, width).
        states_log: base-2 logarithm of the number of states.
        bits: bits of a weight.

    Returns:
        Words of shape (rows, bits * width / 32), and values of shape (rows, width).
    """
    rows, width = newest.shape
    places = bits * np.arange(width)
    text = np.zeros((rows, bits * width), np.uint8)
    for i in range(bits):  # the first bit is the highest
        text[:, (places + states_log - bits + i) % text.shape[1]] = newest >> bits - 1 - i & 1
    states = np.zeros((rows, width), np.uint32)
    for i in range(states_log):
        states = states << np.uint32(1) | text[:, (places + i) % text.shape[1]]
    words = np.packbits(text, axis=1).view(">u4").astype(np.uint32)
    return words, value_of(states).astype(np.int8)


def _search_row(table: Integers, states_log: int, bits: int, columns: int, row: npt.NDArray[np.int16]) -> Integers:
    """The newest bits of each state of the best cyclic path."""
    sets = 1 << states_log - bits
    half = min(row.size // 2, SEAM)
    free = np.arange(row.size) >= columns
    around = np.r_[row.size - half : row.size, :half]
    costs, choices = _extend(table, bits, np.zeros(sets, np.int32), row[around], free[around])
    seam, _ = _trace(choices[half:], bits, int(np.argmin(costs)))
    costs = np.where(np.arange(sets) == seam, 0, MAX_COST)
    costs, choices = _extend(table, bits, costs.astype(np.int32), row, free)
    return _trace(choices, bits, seam)[1]


def _extend(
    table: Integers, bits: int, costs: Integers, targets: npt.NDArray[np.int16], free: npt.NDArray[np.bool_]
) -> tuple[Integers, npt.NDArray[np.int64]]:
    """The costs of paths after some weights, and which of the states before each set of states is the best.

    A state is (oldest bits p, the others j); those after it are 2^bits j and up: a set, whose states share the cost

        after [j] = min over p of (before [(p, j) >> bits] + cost of (p, j)) - the least cost before
    """
    unit, sets = 16 << bits, costs.size
    choices = np.zeros((targets.size, sets), np.int64)
    for t, target in enumerate(targets.tolist()):
        apart = np.zeros_like(table) if free[t] else np.clip(target - unit * table, -(1 << 15), (1 << 15) - 1)
        here = np.minimum(np.repeat(costs, 1 << bits) + (apart * apart + (1 << 14) >> 15), MAX_COST)
        choices[t] = here.reshape(1 << bits, sets).argmin(0)  # of equal ones the first
        costs = here.reshape(1 << bits, sets).min(0) - costs.min()
    return costs, choices


def _trace(choices: npt.NDArray[np.int64], bits: int, end: int) -> tuple[int, Integers]:
    """The set of the first state on the path that leads to a set, and the newest bits of each state on it."""
    sets = choices.shape[1]
    newest = np.zeros(choices.shape[0], np.int32)
    for t in range(choices.shape[0] - 1, -1, -1):
        state = int(choices[t, end]) * sets + end
        newest[t] = state & (1 << bits) - 1
        end = state >> bits
    return end, newest
