"""The network of docs/samples.md in NumPy: the specification of sample_*.{h,c}, and the fallback where no C was built.

It has no state: a prediction depends on the samples before it alone. Sums are sums of integers; all else is elementwise
in binary32, one rounding for each operation written.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from kolmo.native import tables
from kolmo.native.samples.mixture import COMPONENTS, MAX_BITS, MAX_SCALE, MIN_SCALE

Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]
f32 = np.float32

PAST, OTHER = 256, 16  # samples of the channel, and of the other channel, that a prediction depends on
LAGS = 32  # of these, how many the linear functions have coefficients for
GUESSES, FUNCTIONS = 8, 24  # linear functions that predict the sample; all of them
INPUTS = 128
OUTPUTS = 3 * COMPONENTS + GUESSES - 1
MAX_WIDTH, MAX_LAYERS = 256, 8
MAX_COEFFICIENT = 1 << 20  # 16, as coefficients have 16 binary places
MAX_FLOAT = 2.0**20  # greatest magnitude of a float in the file: up to it, no operation overflows
MOST = 1 << 29  # bound of a difference in 1/32 of a sample
FLAG = 64.0  # input where a statement is true
BATCH = 4096  # samples predicted at a time

# ln(m) for 1 <= m < 2: coefficients of a polynomial, highest power first.
LN = [
    f32(float.fromhex(c))
    for c in ("-0x1.bd681cp-5", "0x1.bc58cap-2", "-0x1.70caa6p+0", "0x1.657baap+1", "-0x1.bb526cp+0")
]
LN_2 = f32(float.fromhex("0x1.62e430p-1"))


def natural(value: Integers) -> Floats:
    """About ln(value), 1 <= value < 2^31: within 10^-4, the same bits everywhere."""
    bits = value.astype(np.int32).astype(f32).view(np.int32)
    exponent = ((bits >> 23) - 127).astype(f32)
    m = ((bits & 0x7FFFFF) | 0x3F800000).view(f32)
    p = LN[0] * m + LN[1]
    for c in LN[2:]:
        p = p * m + c
    result: Floats = exponent * LN_2 + p
    return result


@dataclass(frozen=True)
class _View:
    """What predictions of a number of samples depend on.

    Attributes:
        past: the samples before, newest first, int64, (samples, PAST).
        other: the other channel's, that of the same time first, int64, (samples, OTHER); zeros without another channel.
        functions: the linear functions in 2^-16 of a sample, int64, (samples, FUNCTIONS).
        unit: 32 times the unit that differences are measured in, int64, (samples,).
        inputs: of the first layer, integers held as floats, (samples, INPUTS).
    """

    past: Integers
    other: Integers
    functions: Integers
    unit: Integers
    inputs: Floats


def look(past: Integers, other: Integers, coefficients: npt.NDArray[np.int32], *, stereo: bool, bits: int) -> _View:
    """The inputs of the network (docs/samples.md, "Inputs"); arguments as attributes of the result."""
    x, y = past, other
    seen = np.concatenate([x[:, :LAGS], y], 1).astype(
        np.float64
    )  # integers; all sums below 2^53, so exact in any order
    functions: Integers = (seen @ coefficients.astype(np.float64).T).astype(np.int64)
    d1 = x[:, :-1] - x[:, 1:]
    d2 = d1[:, :32] - d1[:, 1:33]
    d3 = d2[:, :31] - d2[:, 1:]
    size = np.abs(d1)
    sums = np.stack([size[:, :32].sum(1), np.abs(d2).sum(1), np.abs(d3).sum(1)], 1)
    unit: Integers = sums.min(1) + 8
    slow = np.clip(functions >> 11, -MOST, MOST)
    y1 = y[:, :8] - y[:, 1:9]
    differences = np.concatenate(
        [
            32 * x[:, :LAGS] - slow[:, :1],
            32 * d1[:, :24],
            32 * d2[:, :12],
            slow[:, 1:GUESSES] - slow[:, :1],
            slow[:, GUESSES:],
            x[:, :32].sum(1, keepdims=True),
            32 * y1,
        ],
        1,
    )
    differences = np.clip(differences, -MOST, MOST)
    relative = np.sign(differences).astype(f32) * (
        f32(16) * (natural(unit[:, None] + np.abs(differences)) - natural(unit)[:, None])
    )
    windows = np.cumsum(size[:, :16], 1)
    ratios = np.concatenate(
        [
            np.stack([32 // n * windows[:, n - 1] + 8 for n in (1, 2, 4, 8, 16)], 1),
            sums + 8,
            2 * size[:, :240].reshape(-1, 15, 16).sum(2) + 8,
            4 * np.abs(y1).sum(1, keepdims=True) + 8 if stereo else unit[:, None],
        ],
        1,
    )
    ratio = f32(16) * (natural(np.minimum(ratios, 1 << 30)) - natural(unit)[:, None])
    level = natural(unit + 4) - natural(np.full_like(unit, 4))
    flags = [np.full(len(x), FLAG if true else 0, f32) for true in (bits <= 8, stereo)]
    values = np.concatenate([relative, ratio, np.stack([f32(8) * level, f32(32) * level, *flags], 1)], 1)
    inputs: Floats = np.rint(np.clip(values, f32(-127), f32(127)))
    return _View(past, other, functions, unit, inputs)


class SampleNetwork:
    """Weights of a network that predicts samples.

    Args:
        config: width of the hidden layers and their number: int32, native byte order.
        weights: all tensors of docs/samples.md's table, in its order, as in the file, without padding.

    Raises:
        ValueError: sizes or values that docs/samples.md does not allow.
    """

    def __init__(self, config: bytes, weights: bytes) -> None:
        if len(config) != 8:
            raise ValueError(_CONFIGURATION)
        width, layers = np.frombuffer(config, "=i4").tolist()
        if not (64 <= width <= MAX_WIDTH and width % 64 == 0 and 1 <= layers <= MAX_LAYERS):
            raise ValueError(_CONFIGURATION)
        size = (
            4 * FUNCTIONS * (LAGS + OTHER)
            + width * (INPUTS + 8)
            + (layers - 1) * width * (width + 8)
            + OUTPUTS * (width + 8)
        )
        if len(weights) != size:
            raise ValueError(f"the weights do not fit the kernel: {len(weights)} bytes, not {size}")
        self.width, self.layers, self._weights, self._at = width, layers, weights, 0
        self.coefficients = (
            self._read("<i4", FUNCTIONS * (LAGS + OTHER)).reshape(FUNCTIONS, LAGS + OTHER).astype(np.int32)
        )
        _check(bool((np.abs(self.coefficients.astype(np.int64)) <= MAX_COEFFICIENT).all()))
        self.matrices = [self._matrix(rows, inputs) for rows, inputs in shapes(width, layers)]

    def _matrix(self, rows: int, inputs: int) -> tuple[Floats, Floats, Floats]:
        values = self._read("i1", rows * inputs)
        _check(values.min() >= -127)
        return values.reshape(rows, inputs).astype(f32), self._floats(rows), self._floats(rows)

    def _floats(self, count: int) -> Floats:
        values = self._read("<f4", count).astype(f32)
        _check(bool((np.abs(values) <= f32(MAX_FLOAT)).all()))
        return values

    def _read(self, dtype: str, count: int) -> npt.NDArray[Any]:
        values: npt.NDArray[Any] = np.frombuffer(self._weights, dtype, count, self._at)
        self._at += values.nbytes
        return values

    def predict(self, samples: bytes, other: bytes | None, bits: int) -> tuple[bytes, bytes, bytes]:
        """The distribution of each sample of a channel, given those before it.

        Args:
            samples: int32, native byte order, within -2^(bits-1) .. 2^(bits-1) - 1.
            other: the other channel's samples, as many, all known up to the same time; None where there is none.
            bits: of a sample, 1 to 24.

        Returns:
            Locations (int64), scales (int32) and weights (uint32) of mixtures, native byte order, each (samples, 8):
            see `SampleMixture`.

        Raises:
            ValueError: no such bits, samples out of their range, or another number of them in the other channel.
        """
        x = _samples(samples, bits)
        y = None if other is None else _samples(other, bits)
        if y is not None and len(x) != len(y):
            raise ValueError("both channels have equally many samples")
        parts = [self._mixtures(x, y, at, min(at + BATCH, len(x)), bits) for at in range(0, len(x), BATCH)]
        location, scale, weight = zip(*parts, strict=True) if parts else ((), (), ())
        return b"".join(location), b"".join(scale), b"".join(weight)

    def _mixtures(
        self, x: Integers, y: Integers | None, first: int, last: int, bits: int
    ) -> tuple[bytes, bytes, bytes]:
        at = np.arange(first, last)
        padded = np.concatenate([np.zeros(PAST, np.int64), x])
        past = padded[at[:, None] + PAST - np.arange(1, PAST + 1)]
        beside = np.zeros((len(at), OTHER), np.int64)
        if y is not None:
            beside = np.concatenate([np.zeros(OTHER, np.int64), y])[at[:, None] + OTHER - np.arange(OTHER)]
        view = look(past, beside, self.coefficients, stereo=y is not None, bits=bits)
        location, scale, weight = mixtures(view, self.outputs(view.inputs))
        return location.tobytes(), scale.tobytes(), weight.tobytes()

    def outputs(self, inputs: Floats) -> Floats:
        """The last layer's outputs, (samples, OUTPUTS), from the first one's inputs."""
        (first, first_scale, first_bias), *hidden, (head, head_scale, head_bias) = self.matrices
        h = np.maximum(product(inputs, first) * first_scale + first_bias, f32(0))
        for weights, scale, bias in hidden:
            h = h + np.maximum(product(act(h), weights) * scale + bias, f32(0))
        result: Floats = product(act(h), head) * head_scale + head_bias
        return result


def shapes(width: int, layers: int) -> list[tuple[int, int]]:
    """Rows and inputs of each matrix."""
    return [(width, INPUTS), *[(width, width)] * (layers - 1), (OUTPUTS, width)]


def act(h: Floats) -> Floats:
    """What a layer multiplies: 16 times its input, rounded, 0 to 127."""
    u: Floats = np.rint(np.clip(h * f32(16), f32(0), f32(127)))
    return u


def product(u: Floats, weights: Floats) -> Floats:
    """Rows of weights . rows of u: integers held as floats, whose partial sums stay below 2^24, exact in any order."""
    return u @ weights.T


def mixtures(view: _View, o: Floats) -> tuple[Integers, npt.NDArray[np.int32], npt.NDArray[np.uint32]]:
    """Locations, scales and weights of the components, each (samples, 8), from the last layer's outputs."""
    shift, spread, logit, share = np.split(o, [COMPONENTS, 2 * COMPONENTS, 3 * COMPONENTS], 1)
    guess = view.functions[:, :GUESSES] >> 8
    near = np.zeros(len(o), f32)
    for j in range(1, GUESSES):
        near = near + share[:, j - 1] * (guess[:, j] - guess[:, 0]).astype(f32)
    step = (8 * view.unit).astype(f32)
    far = f32(2.0**33)
    away = np.clip(near[:, None] + shift * step[:, None], -far, far)
    location = np.clip(guess[:, :1] + away.astype(np.int64), -(1 << 33), 1 << 33)
    doublings = np.rint(np.clip(spread * f32(1477.3197), f32(-65536), f32(65536))).astype(np.int64)
    scale = np.clip(doublings + _log2(view.unit)[:, None] - 5 * 1024, MIN_SCALE, MAX_SCALE).astype(np.int32)
    d = (logit - logit.max(1, keepdims=True)) * f32(1.44269504)
    q = (-np.rint(np.clip(d * f32(1024), f32(-24576), f32(0)))).astype(np.uint32)
    weight = np.array(tables.exp2_weights(), np.uint32)[q & np.uint32(1023)] >> (q >> np.uint32(10))
    return location, scale, weight


def _log2(value: Integers) -> Integers:
    """`sample_log2` of positive integers below 2^53."""
    exponent = np.frexp(value.astype(np.float64))[1].astype(np.int64) - 1
    below = (value << 10 >> exponent) & 1023
    result: Integers = exponent * 1024 + (np.array(tables.logarithms(), np.int64)[below] * 23637 >> 16)
    return result


def _samples(samples: bytes, bits: int) -> Integers:
    if not 1 <= bits <= MAX_BITS:
        raise ValueError(f"samples have 1 to {MAX_BITS} bits, not {bits}")
    values = np.frombuffer(samples, "=i4").astype(np.int64)
    if ((values < -(1 << bits - 1)) | (values >= 1 << bits - 1)).any():
        raise ValueError(f"samples that have more than {bits} bits")
    return values


_CONFIGURATION = "the configuration does not fit the kernel"


def _check(allowed: bool) -> None:
    if not allowed:
        raise ValueError("the weights do not fit the kernel: a value is out of its range")
