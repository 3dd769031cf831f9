"""The nature of a tensor, by its values: weights that may be coded with loss, numbers on a grid, or neither.

    weights     many magnitudes near a common scale; a few wild ones among them are stored unchanged
    a grid      constants, masks of two values, ternary weights, whole numbers: multiples of one float, coded exactly
    neither     rows or columns that repeat, sines beside cosines, many infinities, large whole numbers, magnitudes that
                no step fits: the tensor stays raw

The scale is the mean magnitude of the weights up to 16 times their median, so that outliers do not determine the step
of the other weights. What it is not: a judge by names; `groups` looks at these.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float32]

# Magnitude in scales above which a weight is wild: it is stored unchanged, like infinities and NaN.
WILD_SCALES = 4096.0
MAX_WILD_PART = 1 / 256  # of a tensor's weights; a tensor with more wild weights is not a matrix of weights
TYPICAL_SCALES = 16.0  # magnitude in scales up to which weights count for the typical error
SCALES = 2.0**-80, 2.0**80  # bounds of a scale; beyond them, steps would not fit into payloads
MEDIAN_WEIGHTS = 1 << 16  # weights of the sample for the median
WAVE_ROWS = 64  # number of rows that are examined for sines and cosines
WAVE_TOLERANCE = 0.02  # largest difference from 1 of a sum of squares of sine and cosine
MAX_LEVELS = 2  # positive levels of a grid whose step is not 1: constants, masks, ternary weights
MAX_GRID_LEVEL = 1 << 19  # largest level of any grid, which the trellis can code


@dataclass(frozen=True)
class Nature:
    """The nature of a tensor.

    Attributes:
        scale: the scale of its weights; 0 if it does not hold weights.
        grid: the step of which all values are multiples; 0 if there is none.
        wild: number of weights that are stored unchanged.
    """

    scale: float = 0.0
    grid: float = 0.0
    wild: int = 0


NEITHER = Nature()


def nature(values: Floats, columns: int) -> Nature:
    """The nature of a tensor with these values, binary32, viewed as a matrix with this number of columns."""
    finite = np.isfinite(values)
    if finite.all():
        if grid := grid_of(values):
            return Nature(grid=grid)
        matrix = values.reshape(-1, columns)
        if _repeats(matrix) or _are_waves(matrix) or bool((values == np.rint(values)).all()):
            return NEITHER
    scale = _scale(values, finite)
    wild = int(values.size - np.count_nonzero(np.abs(values) <= WILD_SCALES * scale)) if scale else 0
    if not SCALES[0] <= scale <= SCALES[1] or wild > MAX_WILD_PART * values.size:
        return NEITHER
    return Nature(scale, wild=wild)


def grid_of(values: Floats) -> float:
    """The float of which all values are small multiples, or 1 if all are whole numbers; 0 if there is no such float.

    A tensor of zeros has the grid 1.
    """
    magnitudes = np.abs(values)
    largest = float(magnitudes.max(initial=0.0))
    if not largest:
        return 1.0
    least = float(magnitudes.min(initial=np.inf, where=magnitudes > 0))
    if SCALES[0] <= least <= SCALES[1] and largest / least < MAX_LEVELS + 0.5:
        levels = np.rint(magnitudes / np.float32(least))
        if bool((levels * np.float32(least) == magnitudes).all()):
            return least
    return 1.0 if largest < MAX_GRID_LEVEL and bool((values == np.rint(values)).all()) else 0.0


def is_wild(values: Floats, scale: float) -> npt.NDArray[np.bool_]:
    """Which weights are wild; NaN are."""
    found: npt.NDArray[np.bool_] = ~(np.abs(values) <= np.float32(WILD_SCALES * scale))
    return found


def _repeats(matrix: Floats) -> bool:
    """Whether all rows are equal, or all columns: a vector that was broadcast, not weights."""
    return bool((matrix[:, :1] == matrix).all() or (matrix[:1] == matrix).all())


def _are_waves(matrix: Floats) -> bool:
    """Whether the squares of pairs (neighbours, or the halves of a row) add up to 1: sines and cosines of positions."""
    rows, columns = matrix.shape
    if columns % 2 or rows < 2:
        return False
    squares = np.square(matrix[:: -(-rows // WAVE_ROWS)].astype(np.float64))
    pairs = squares[:, ::2] + squares[:, 1::2], squares[:, : columns // 2] + squares[:, columns // 2 :]
    return any(bool((np.abs(sums - 1) <= WAVE_TOLERANCE).all()) for sums in pairs)


def _scale(values: Floats, finite: npt.NDArray[np.bool_]) -> float:
    """The mean magnitude of weights that are not 0 and at most 16 times the median; 0 if there are none."""
    some = slice(None, None, -(-values.size // MEDIAN_WEIGHTS) | 1)
    sample = np.abs(values[some][finite[some]])
    sample = sample[sample > 0]
    if sample.size < MEDIAN_WEIGHTS // 64:  # few of the sampled weights are not 0: use all weights
        sample = np.abs(values[finite & (values != 0)])
    if not sample.size:
        return 0.0
    middle = float(np.median(sample))
    return float(sample[sample <= TYPICAL_SCALES * middle].mean(dtype=np.float64)) if math.isfinite(middle) else 0.0
