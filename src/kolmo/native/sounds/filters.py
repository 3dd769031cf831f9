"""Adaptive predictions of samples in NumPy: the specification of sound_filters.h (docs/audio.md, "Predictions").

Sums that a prediction consists of are sums of integers. Least squares is elementwise binary64, one rounding for each
operation written, in the order written, so C gives the same bits at any vector width.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Int = npt.NDArray[np.int64]
Double = npt.NDArray[np.float64]

WEIGHT_BITS = 20  # binary places of a filter's weights
MAX_WEIGHT = 2000.0
TINY = 2.0**-150  # vanishes but in zeros: a long silence would leave subnormal numbers, which are slow
STAGE_BITS = 22  # of a stage's
MAX_STAGE_WEIGHT = 1 << 26
MAX_GAIN = 2147483647.0


def within(value: int, most: int) -> int:
    """The value, within +-most."""
    return min(max(value, -most), most)


class Filter:
    """Least squares with forgetting: weights that would have predicted the samples so far best; the newest count most.

    Args:
        order: number of inputs.
        every: samples after which weights are computed again.
        forget: share of all sums that each new sample takes away, in 2^-16.
        shift: from a product of weight and input to 1/256 of a sample.
        least: what is added to the sums of squares, so that weights are bounded.
    """

    def __init__(self, order: int, every: int, forget: int, shift: int, least: float) -> None:
        self.order, self._every, self._shift, self._least = order, every, shift, least
        self._keep = (65536 - forget) * 2.0**-16
        self._products: Double = np.zeros((order, order))
        self._targets: Double = np.zeros(order)
        self._waiting = self._seen = 0
        self.weights: Int = np.zeros(order, np.int64)
        self.x: Int = np.zeros(order, np.int64)

    def predict(self) -> int:
        """The prediction from `x`, in 1/256 of a sample."""
        return int(self.weights @ self.x) >> self._shift

    def learn(self, target: int) -> None:
        """Learn that `x` led to a target, in the unit of `x`."""
        x, y = self.x.astype(np.float64) + TINY, float(target) + TINY
        self._products = self._products * self._keep + np.outer(x, x)
        self._targets = self._targets * self._keep + x * y
        self._waiting += 1
        self._seen += 1
        if self._waiting >= self._every or self._waiting > self._seen >> 4:  # early weights improve fast
            self._waiting = 0
            self._solve()

    def _solve(self) -> None:
        """Gaussian elimination without pivots; only the upper triangle is read. Where it fails, the weights stay."""
        n = self.order
        ridge = self._least + float(self._products[0, 0]) * 2.0**-44
        a, y = self._products.copy(), self._targets.copy()
        a[np.arange(n), np.arange(n)] += ridge
        inverse = [0.0] * n
        for k in range(n):
            pivot = float(a[k, k])
            if not pivot > ridge * 0.5:
                return
            inverse[k] = 1.0 / pivot
            factor = a[k, k + 1 :] * inverse[k]
            a[k + 1 :, k + 1 :] -= factor[:, None] * a[k, k + 1 :]
            y[k + 1 :] -= factor * y[k]
        for k in range(n - 1, -1, -1):
            y[k] = y[k] * inverse[k]
            if not -MAX_WEIGHT < y[k] < MAX_WEIGHT:
                return
            y[:k] -= a[:k, k] * y[k]
        self.weights = np.rint(y * 2.0**WEIGHT_BITS).astype(np.int64)


class Stage:
    """Normalised least mean squares: each sample moves the weights along its inputs, by its error over their power.

    Args:
        taps: number of inputs, the newest targets.
        step: size of a step, in 2^-16.
    """

    def __init__(self, taps: int, step: int) -> None:
        self._step = step * 2.0**22
        self._power = 0
        self._weights: Int = np.zeros(taps, np.int64)
        self._x: Int = np.zeros(taps, np.int64)

    def predict(self) -> int:
        """The prediction of the next target, in 1/16 of a sample."""
        return within(int(self._weights @ self._x) >> STAGE_BITS, 1 << 28)

    def learn(self, target: int, predicted: int) -> None:
        """Learn a target, which becomes the newest input."""
        newest = within(target, 1 << 26)
        error = float(within(target - predicted, 1 << 30))
        gain = int(min(max(error * self._step / float(self._power + 256 * len(self._x)), -MAX_GAIN), MAX_GAIN))
        moved = self._weights + (gain * self._x + (1 << 15) >> 16)
        self._weights = np.clip(moved, -MAX_STAGE_WEIGHT, MAX_STAGE_WEIGHT)
        self._power += newest * newest - int(self._x[-1]) ** 2
        self._x = np.concatenate([[newest], self._x[:-1]])
