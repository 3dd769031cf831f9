"""Tables of the trellis: first probabilities, and costs of levels for the encoder. All are computed from integers."""

from __future__ import annotations

import math
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Integers = npt.NDArray[np.int32]
    Floats = npt.NDArray[np.float32]


CLASSES = 24  # classes of activity
PLACES = 9  # decisions of a level that have contexts of their own
UNARY = 18  # values from here on end in an exp-Golomb code


@cache
def activity_logs() -> bytes:
    """floor(4 log2(x / 16 + 1)) of an activity x, in 1/64 of a level, at place x >> 2; integers alone."""
    return bytes(((i + 4) ** 4).bit_length() - 9 for i in range(8192))


@cache
def default_table(states: int) -> bytes:
    """First probabilities of the decision "larger", in 1/256: geometric, with the mean of the class."""
    table = bytearray()
    for c in range(CLASSES):
        root = math.floor((2**24 << (c + 3)) ** (1 / 3))  # an estimate of 64 (activity / 16 + 1) / 4, made exact below
        root += (root + 1) ** 3 <= 2**24 << (c + 3)
        root -= root**3 > 2**24 << (c + 3)
        activity = root // 16 - 16
        mean = 128 if states > 1 else 64  # activity of value 1
        table += bytes([min(max(256 * activity // (activity + mean), 1), 255)]) * PLACES
    return bytes(table) * 2


def trained_table(states: int, counts: Any) -> bytes:
    """First probabilities from counts of decisions, close to the default ones where there are few decisions."""
    default = np.frombuffer(default_table(states), np.uint8).astype(np.int64).reshape(-1, PLACES)
    zeros, ones = np.moveaxis(counts + np.zeros((2 * CLASSES, PLACES, 2), np.int64), 2, 0)
    table: bytes = np.clip((256 * ones + 4 * default) // (zeros + ones + 4), 1, 255).astype(np.uint8).tobytes()
    return table


@cache
def _bits() -> tuple[int, ...]:
    """Code length of a decision in 1/256 bit, by its probability in 1/256; integers alone."""
    return (0, *(256 * 8 - ((p**256).bit_length() - 1) for p in range(1, 256)))


@lru_cache(maxsize=64)  # the rows and tiles of a matrix share one table, and a search takes less time than this loop
def level_costs(table: bytes, states: int, slope: int) -> bytes:
    """Costs of all magnitudes with their signs, for each row of contexts."""
    bits = _bits()
    costs = np.zeros((2 * CLASSES, UNARY + 1), np.int32)
    for row in range(2 * CLASSES if states > 1 else CLASSES):
        more = 0
        for value in range(UNARY + 1):
            p = table[row * PLACES + min(value, PLACES - 1)]
            sign = 256 * (value > 0 or row >= CLASSES)
            costs[row, value] = (more + sign + (bits[256 - p] if value < UNARY else 0)) * slope >> 8
            more += bits[p]
    return costs.tobytes()
