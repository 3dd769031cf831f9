"""Constants of the mixer of pictures that C and NumPy share: neighbours, sizes, the logistic function (docs/image.md).

What it is not: the choice of a shape, or priors, which are in `kolmo.predictors.embedded.kinds`.
"""

from __future__ import annotations

from array import array
from functools import cache

from kolmo.native.tables import logarithms, logistic

TURNS = 4  # bytes of a pixel, at most
TAPS = 24  # of a set of neighbours, and the value that they predict
SETS = 3  # least-squares predictions
PREDICTORS = 7
SPREADS = PREDICTORS + 1  # distributions: of the predictors, and the network's
CATALOGUE = 17  # contexts that a shape picks from
GUESSES = 4
CONFIDENCES = 16
SCALES = 64
SELECTOR_SIZES = (256, 128, 256, 256, 256, 320)  # weight sets of each selector, for each turn
FINAL_INPUTS = 16
MAX_STRIDE = 1 << 15
GREY = TURNS  # kind of set: of a picture without colour
COUNT_LIMITS = (1, 2, 3, 5, 9, 20, 60)  # counts below these are in the first, second ... bucket

# Neighbours of a byte in the plane of its own turn, the nearest first: rows up, columns to the right.
NEAR = (
    *((0, -1), (1, 0), (1, -1), (1, 1), (0, -2), (2, 0), (1, 2), (1, -2), (2, -1), (2, 1), (0, -3), (3, 0)),
    *((2, 2), (2, -2), (1, 3), (1, -3), (3, -1), (3, 1), (2, 3), (2, -3), (0, -4), (3, 2), (3, -2)),
)
# For each set and turn, how many neighbours there are of a picture without colour, and of turns 0, 1 and 2.
_GREY = (18, 6, 23)
_COLOUR = (
    ((12, 4, 4), (4, 10, 4), (4, 4, 8)),
    ((6, 1, 1), (2, 5, 1), (2, 2, 4)),
    ((11, 6, 6), (6, 10, 5), (5, 5, 10)),
)


@cache
def neighbours(kind: int, number: int) -> tuple[tuple[int, int, int], ...]:
    """The neighbours of least-squares set `number` by the kind of byte: a colour's turn, 3 for a fourth byte, `GREY`.

    Each is (turn, rows up, columns to the right). `GREY` has turn 0 for the byte's own.
    """
    if kind >= 3:
        return tuple((kind % GREY, up, right) for up, right in NEAR[: _GREY[number]])
    counts = _COLOUR[number][kind]
    order = (kind, *(turn for turn in range(3) if turn != kind))
    return tuple(
        place
        for turn in order
        for place in (*[(turn, 0, 0)] * (turn < kind), *((turn, up, right) for up, right in NEAR[: counts[turn]]))
    )


def inputs_of(contexts: int) -> int:
    """Inputs of the first layer: of contexts, twice of distributions, of guesses, a bias; padded for vectors."""
    return contexts + 2 * SPREADS + GUESSES + 1 + 7 & ~7


@cache
def buckets() -> bytes:
    """Bucket of each count, 0 to 1023."""
    return bytes(sum(count >= limit for limit in COUNT_LIMITS) for count in range(1024))


@cache
def packed() -> bytes:
    """The constants in the layout of `pm_tables` in pixel_mixer.h, in the machine's byte order."""
    counts, taps = bytearray(), array("b")
    for number in range(SETS):
        for kind in range(TURNS + 1):
            places = neighbours(kind, number)
            counts.append(len(places))
            padded = [*places, *[(0, 0, 0)] * (TAPS - len(places))]
            taps.extend(value for place in padded for value in place)
    data = logistic().tobytes() + array("I", list(buckets())).tobytes() + bytes(counts) + taps.tobytes()
    return data + bytes(-len(data) % 2) + logarithms().tobytes()
