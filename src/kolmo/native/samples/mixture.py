"""Mixtures of distributions of a sample (docs/samples.md, "Mixtures"): the specification of sample_mixture.{h,c}.

Integers alone. A sample is coded from its top bit down: each bit halves an interval of values, and its logit follows
from the weights of all samples below the two ends and the middle.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kolmo.native import tables

COMPONENTS = 8
REACH, STEPS = tables.SIGMOID_REACH, tables.SIGMOID_STEPS
MIN_SCALE, MAX_SCALE = -5 * 1024, 26 * 1024  # of log2 of a scale in samples, in 1/1024
MAX_BITS = 24
FULL_WEIGHT = 1 << 22


def sample_log2(value: int) -> int:
    """log2 of a non-negative integer in 1/1024, from its leading one and the ten bits below it; 0 for 0."""
    if not value:
        return 0
    n = value.bit_length() - 1
    return n * 1024 + (tables.logarithms()[(value << 10 >> n) - 1024] * 23637 >> 16)


def _natural(value: int) -> int:
    n = value.bit_length() - 1
    return n * 2839 + tables.logarithms()[(value << 10 >> n) - 1024]


def sample_split(low: int, middle: int, high: int) -> int:
    """ln(P(middle <= sample < high) / P(low <= sample < middle)) in 1/256, from the weights below the three values.

    Args:
        low: of the interval's lower end, as `SampleMixture.below` gives it.
        middle: of its middle.
        high: of its upper end; the three increase.

    Returns:
        The logit, within +-2047.
    """
    return min(max((_natural(high - middle) - _natural(middle - low) + 8) >> 4, -2047), 2047)


@dataclass(frozen=True)
class SampleMixture:
    """A weighted sum of logistic distributions, and a uniform one of 2^-13 of their weight.

    Attributes:
        bits: of a sample, 1 to 24: values from -2^(bits-1) to 2^(bits-1) - 1.
        location: of each component, in 1/256 of a sample, within +-2^33.
        scale: log2 of each component's scale in samples, in 1/1024, `MIN_SCALE` to `MAX_SCALE`.
        weight: of each component, 0 to 2^22, one at least 2^22.

    Example:
        >>> one = SampleMixture.one(8, 3 * 256, 1024)  # around the sample 3, with a scale of two samples
        >>> one.logit(-128, 3, 128) > 0 > one.logit(-128, 4, 128)
        True
    """

    bits: int
    location: Sequence[int]
    scale: Sequence[int]
    weight: Sequence[int]

    @classmethod
    def one(cls, bits: int, location: int, scale: int) -> SampleMixture:
        """One component, from a prediction and its scale; values outside the bounds are moved to them."""
        near = min(max(location, -(1 << 33)), 1 << 33)
        return cls(bits, (near,), (min(max(scale, MIN_SCALE), MAX_SCALE),), (FULL_WEIGHT,))

    def below(self, value: int) -> int:
        """The weight of all samples below a value: 0 at the least value, increasing strictly to the greatest plus 1."""
        least, total = -(1 << self.bits - 1), sum(self.weight)
        if value <= least:
            return 0
        uniform = (total << 19 >> self.bits) * (value - least)
        if value >= -least:
            return (total << 32) + uniform
        place, table, most = value * 256 - 128, tables.sigmoid(), REACH << 20
        weight = uniform
        for location, scale, share in zip(self.location, self.scale, self.weight, strict=True):
            whole, fraction = divmod(scale - MIN_SCALE, 1024)
            wide = (place - location) * tables.exp2_weights()[fraction] >> whole + 5
            i, part = divmod(min(max(wide, -most), most - 1) + most, 1 << 15)
            weight += share * (table[i] + ((table[i + 1] - table[i]) * part >> 15))
        return weight

    def logit(self, low: int, middle: int, high: int) -> int:
        """ln(P(middle <= sample < high) / P(low <= sample < middle)) in 1/256, within +-2047."""
        return sample_split(self.below(low), self.below(middle), self.below(high))


def sample_masses(bits: int, location: bytes, scale: bytes, weight: bytes, samples: bytes) -> tuple[bytes, bytes]:
    """Weights of samples under a mixture for each, and the weights of all values: for code lengths and tests.

    Args:
        bits: of a sample.
        location: int64, (samples, 8), native byte order, as `SampleMixture` has them.
        scale: int32, (samples, 8).
        weight: uint32, (samples, 8).
        samples: int32, (samples,).

    Returns:
        uint64 of each sample: the weight of its value, and of all values.

    Raises:
        ValueError: the arrays do not belong together, or contain values that a mixture does not have.
    """
    values = np.frombuffer(samples, "=i4")
    shape = (len(values), COMPONENTS)
    try:
        locations = np.frombuffer(location, "=i8").reshape(shape)
        scales = np.frombuffer(scale, "=i4").reshape(shape)
        weights = np.frombuffer(weight, "=u4").reshape(shape)
    except ValueError:
        raise ValueError("the arrays of mixtures do not belong together") from None
    edge = 1 << bits - 1 if 1 <= bits <= MAX_BITS else 0
    far = np.abs(np.clip(locations, -(1 << 40), 1 << 40)) > 1 << 33
    out = ((values < -edge) | (values >= edge)).any() or far.any() or (scales < MIN_SCALE).any()
    if (
        out
        or (scales > MAX_SCALE).any()
        or (weights > FULL_WEIGHT).any()
        or (weights.max(1, initial=0) < FULL_WEIGHT).any()
    ):
        raise ValueError("a value that mixtures do not have")
    own: npt.NDArray[np.uint64] = np.empty(len(values), np.uint64)
    whole = np.empty(len(values), np.uint64)
    for i, value in enumerate(values.tolist()):
        mixture = SampleMixture(bits, locations[i].tolist(), scales[i].tolist(), weights[i].tolist())
        own[i] = mixture.below(value + 1) - mixture.below(value)
        whole[i] = mixture.below(edge)
    return own.tobytes(), whole.tobytes()
