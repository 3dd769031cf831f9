"""The search of the bitshift trellis with feedback in NumPy: the specification of feedback.c and its vector paths.

    cost of a row = sum over weights i of  importance_i (error_i + sum over j < i of error_j feedback_ji)^2

The error of a weight is its target minus its value. What errors add to later targets depends on the path, so each path
of the search has that of its own errors (per-survivor processing: Raheli et al. 1995), for the next `NEAR` weights; by
then nearly all paths agree, and what the best one has decided adds to targets further on. All numbers are binary32, and
no sum is over a vector, so every path of instructions finds the same string. What it is not: a choice of scales.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from kolmo.native.bitshift.reference import strings
from kolmo.native.bitshift_product.reference import MAX_COLUMNS, MISFIT, Rows, value_of

NEAR = 32  # weights before one whose errors each path has for itself
NEVER = np.float32(1e30)  # the cost of a path that does not begin at the seam

Floats = npt.NDArray[np.float32]


def bitshift_feedback_search(
    states_log: int, bits: int, width: int, seams: Rows, targets: Rows, importance: Rows, feedback: Rows, /
) -> tuple[bytes, bytes]:
    """The words of rows, and the values of their weights.

    Args:
        states_log: base-2 logarithm of the number of states, 12 or 16.
        bits: bits of a weight: 2, 3 or 4.
        width: weights of a row: a multiple of 32.
        seams: native uint32, (rows,): the first `states_log - bits` bits of each row, at which it begins and ends.
        targets: native binary32, (rows, width): what the values should be.
        importance: native binary32, (width,): of the error of each weight; 0 for free ones.
        feedback: native binary32, (width, width), of which only what is above the diagonal counts.

    Returns:
        As `bitshift_search`.

    Raises:
        ValueError: sizes or values do not fit.
    """
    if states_log not in (12, 16) or not 2 <= bits <= 4 or not 32 <= width <= MAX_COLUMNS or width % 32:
        raise ValueError(MISFIT)
    begins, wanted, weights, b = (np.frombuffer(one, np.uint8) for one in (seams, targets, importance, feedback))
    rows = begins.size // 4
    if begins.size % 4 or wanted.size != 4 * rows * width or weights.size != 4 * width or b.size != 4 * width * width:
        raise ValueError(MISFIT)
    if (begins.view(np.uint32) >> np.uint32(states_log - bits)).any():
        raise ValueError(MISFIT)
    table = value_of(np.arange(1 << states_log, dtype=np.uint32)).astype(np.float32)
    matrix = b.view(np.float32).reshape(width, width)
    newest = np.zeros((rows, width), np.int32)
    for row, seam, found in zip(
        wanted.view(np.float32).reshape(rows, width), begins.view(np.uint32).tolist(), newest, strict=True
    ):
        found[:] = _follow(table, bits, seam, row, weights.view(np.float32), matrix)
    words, values = strings(newest, states_log, bits)
    return words.tobytes(), values.tobytes()


def _follow(
    table: Floats, bits: int, seam: int, targets: Floats, importance: Floats, feedback: Floats
) -> npt.NDArray[np.int32]:
    """The newest bits of each state of the best path that begins and ends at a set of states."""
    width, sets = targets.size, table.size >> bits
    costs = np.where(np.arange(sets) == seam, np.float32(0), NEVER)
    near = np.zeros((sets, NEAR), np.float32)  # what errors of a path add to the next targets, at place % NEAR
    far = np.zeros(width, np.float32)
    choices = np.zeros((width, sets), np.int64)
    least = np.float32(0)
    for i, target in enumerate(targets):
        slot = i % NEAR
        wanted = np.repeat(target + far[i] + near[:, slot], 1 << bits)
        apart = wanted - table
        here = np.repeat(costs - least, 1 << bits) + importance[i] * (apart * apart)
        choices[i] = here.reshape(1 << bits, sets).argmin(0)  # of equal ones the first
        costs = here.reshape(1 << bits, sets).min(0)
        states = choices[i] * sets + np.arange(sets)
        errors = target - table[states]
        following = np.arange(i + 1, min(i + NEAR, width - 1) + 1)
        shares = np.zeros(NEAR, np.float32)
        shares[following % NEAR] = feedback[i, following]
        near = near[states >> bits] + errors[:, None] * shares
        near[:, slot] = errors * shares[slot]
        at = int(costs.argmin())
        least = costs[at]
        if i >= NEAR:
            state = _back(choices, bits, i, i - NEAR, at)
            far[i + 1 :] += (targets[i - NEAR] - table[state]) * feedback[i - NEAR, i + 1 :]
    newest = np.zeros(width, np.int32)
    for i in range(width - 1, -1, -1):
        state = _back(choices, bits, i, i, seam)
        newest[i] = state & (1 << bits) - 1
        seam = state >> bits
    return newest


def _back(choices: npt.NDArray[np.int64], bits: int, last: int, first: int, at: int) -> int:
    """The state of weight `first` on the best path to a set after weight `last`."""
    state = 0
    for t in range(last, first - 1, -1):
        state = int(choices[t, at]) * choices.shape[1] + at
        at = state >> bits
    return state
