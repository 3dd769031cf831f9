"""What a tensor's values say: weights that may be coded with loss, numbers on a grid, or neither.

    weights     many magnitudes about a common scale; a few wild ones among them stay as they are
    a grid      constants, masks of two values, ternary weights, whole numbers: multiples of one float, coded exactly
    neither     rows or columns that repeat, sines beside cosines, many infinities, large whole numbers, magnitudes that
                no step fits: kept as it is

The scale is the mean magnitude of the weights up to 16 times their median, so no outlier sets the step of the others.
What it is not: it knows names of tensors (`groups`) as little as networks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float32]

WILD = 4096.0  # scales: a larger weight is none of a trained matrix; it is stored as it is, as are infinities and NaN
MOST_WILD = 1 / 256  # of a tensor's weights; with more, it is no matrix of weights
TYPICAL = 16.0  # scales: what a tensor's error is judged by, beside its whole error
SCALES = 2.0**-80, 2.0**80  # outside of these, steps would leave what payloads can name
SAMPLE = 1 << 16  # weights for the median
ROWS, NEAR_ONE = 64, 0.02  # rows that are looked at for sines and cosines; what sums of squares may differ from 1
FEW_LEVELS = 2  # of a grid that is no grid of whole numbers: constants, masks, ternary weights
MOST_LEVEL = 1 << 19  # of any grid: what the trellis codes


@dataclass(frozen=True)
class Nature:
    """What a tensor is.

    Attributes:
        scale: of weights; else 0.
        grid: the step that all values are multiples of, where they are to be coded exactly; else 0.
        wild: weights that are stored as they are.
    """

    scale: float = 0.0
    grid: float = 0.0
    wild: int = 0


NEITHER = Nature()


def nature(values: Floats, columns: int) -> Nature:
    """Of a tensor's values, in binary32, as a matrix of so many columns."""
    finite = np.isfinite(values)
    if finite.all():
        if grid := grid_of(values):
            return Nature(grid=grid)
        matrix = values.reshape(-1, columns)
        if _repeats(matrix) or _are_waves(matrix) or bool((values == np.rint(values)).all()):
            return NEITHER
    scale = _scale(values, finite)
    wild = int(values.size - np.count_nonzero(np.abs(values) <= WILD * scale)) if scale else 0
    if not SCALES[0] <= scale <= SCALES[1] or wild > MOST_WILD * values.size:
        return NEITHER
    return Nature(scale, wild=wild)


def grid_of(values: Floats) -> float:
    """The float that all values are small multiples of, or 1 if all are whole numbers; 0 if none is known, or no step.

    A tensor of zeros has the grid 1.
    """
    magnitudes = np.abs(values)
    largest = float(magnitudes.max(initial=0.0))
    if not largest:
        return 1.0
    least = float(magnitudes.min(initial=np.inf, where=magnitudes > 0))
    if SCALES[0] <= least <= SCALES[1] and largest / least < FEW_LEVELS + 0.5:
        levels = np.rint(magnitudes / np.float32(least))
        if bool((levels * np.float32(least) == magnitudes).all()):
            return least
    return 1.0 if largest < MOST_LEVEL and bool((values == np.rint(values)).all()) else 0.0


def is_wild(values: Floats, scale: float) -> npt.NDArray[np.bool_]:
    """Which weights are stored as they are; NaN are."""
    found: npt.NDArray[np.bool_] = ~(np.abs(values) <= np.float32(WILD * scale))
    return found


def _repeats(matrix: Floats) -> bool:
    """Whether all rows are equal, or all columns: a vector that was spread out, no weights."""
    return bool((matrix[:, :1] == matrix).all() or (matrix[:1] == matrix).all())


def _are_waves(matrix: Floats) -> bool:
    """Whether squares of pairs, neighbours or the halves of a row, add up to 1: sines and cosines of positions."""
    rows, columns = matrix.shape
    if columns % 2 or rows < 2:
        return False
    squares = np.square(matrix[:: -(-rows // ROWS)].astype(np.float64))
    pairs = squares[:, ::2] + squares[:, 1::2], squares[:, : columns // 2] + squares[:, columns // 2 :]
    return any(bool((np.abs(sums - 1) <= NEAR_ONE).all()) for sums in pairs)


def _scale(values: Floats, finite: npt.NDArray[np.bool_]) -> float:
    """The mean magnitude of weights that are not 0, without those above 16 medians; 0 if there are none."""
    some = slice(None, None, -(-values.size // SAMPLE) | 1)
    sample = np.abs(values[some][finite[some]])
    sample = sample[sample > 0]
    if sample.size < SAMPLE // 64:  # few of them are not 0: look at all
        sample = np.abs(values[finite & (values != 0)])
    if not sample.size:
        return 0.0
    middle = float(np.median(sample))
    return float(sample[sample <= TYPICAL * middle].mean(dtype=np.float64)) if math.isfinite(middle) else 0.0
