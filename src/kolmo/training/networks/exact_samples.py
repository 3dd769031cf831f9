"""The exact network of samples in torch, on any device: the bits of `native/samples/network.py` (docs/samples.md).

Products of integers are matrix products in binary32, or binary64 where sums are larger, exact because every partial sum
is an integer that they hold. All else is one torch operation for each operation of the page, so that none is fused.
"""

from __future__ import annotations

import torch
from torch import Tensor

from kolmo.native import tables
from kolmo.native.samples.mixture import COMPONENTS, MAX_SCALE, MIN_SCALE
from kolmo.native.samples.network import FLAG, GUESSES, LAGS, LN, LN_2, MOST, SampleNetwork
from kolmo.predictors.embedded.sample_network import SampleWeights

COEFFICIENTS = [float(c) for c in LN]


class ExactSamples:
    """Weights of a network of samples on a device.

    Args:
        weights: as a file holds them.
        device: where to compute.
    """

    def __init__(self, weights: SampleWeights, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        read = SampleNetwork(weights.config, weights.weights)
        self.functions = torch.from_numpy(read.coefficients.copy()).double().to(self.device)
        self.matrices = [tuple(torch.from_numpy(a.copy()).to(self.device) for a in part) for part in read.matrices]
        self.exp2 = torch.tensor(tables.exp2_weights().tolist(), device=self.device)
        self.log = torch.tensor(tables.logarithms().tolist(), device=self.device)

    @torch.no_grad()
    def run(self, past: Tensor, other: Tensor | None, bits: int) -> tuple[Tensor, Tensor, Tensor]:
        """Locations, scales and weights of mixtures, int64 (n, 8), as `SampleNetwork.predict` makes them.

        Args:
            past: the samples before, newest first, int64 (n, 256).
            other: the other channel's, that of the same time first, int64 (n, 16); None where there is none.
            bits: of a sample.
        """
        precision = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("highest")
        try:
            return self._run(past.to(self.device), None if other is None else other.to(self.device), bits)
        finally:
            torch.set_float32_matmul_precision(precision)

    def _run(self, x: Tensor, other: Tensor | None, bits: int) -> tuple[Tensor, Tensor, Tensor]:
        y = torch.zeros(len(x), 16, dtype=torch.int64, device=self.device) if other is None else other
        functions = (torch.cat([x[:, :LAGS], y], 1).double() @ self.functions.T).long()
        d1 = x[:, :-1] - x[:, 1:]
        d2 = d1[:, :32] - d1[:, 1:33]
        size, d3, y1 = d1.abs(), d2[:, :31] - d2[:, 1:], y[:, :8] - y[:, 1:9]
        sums = torch.stack([size[:, :32].sum(1), d2.abs().sum(1), d3.abs().sum(1)], 1)
        unit = sums.amin(1, keepdim=True) + 8
        slow = (functions >> 11).clamp(-MOST, MOST)
        differences = torch.cat(
            [
                32 * x[:, :LAGS] - slow[:, :1],
                32 * d1[:, :24],
                32 * d2[:, :12],
                slow[:, 1:GUESSES] - slow[:, :1],
                slow[:, GUESSES:],
                x[:, :32].sum(1, keepdim=True),
                32 * y1,
            ],
            1,
        ).clamp(-MOST, MOST)
        base = _natural(unit)
        relative = differences.sign().float() * (16 * (_natural(unit + differences.abs()) - base))
        windows = size[:, :16].cumsum(1)
        ratios = torch.cat(
            [
                torch.stack([32 // n * windows[:, n - 1] + 8 for n in (1, 2, 4, 8, 16)], 1),
                sums + 8,
                2 * size[:, :240].unflatten(1, (15, 16)).sum(2) + 8,
                unit if other is None else 4 * y1.abs().sum(1, keepdim=True) + 8,
            ],
            1,
        ).clamp(max=1 << 30)
        ratio = 16 * (_natural(ratios) - base)
        level = _natural(unit + 4) - _natural(torch.full_like(unit, 4))
        flags = [torch.full_like(base, FLAG if true else 0) for true in (bits <= 8, other is not None)]
        u = torch.cat([relative, ratio, 8 * level, 32 * level, *flags], 1).clamp(-127, 127).round()
        return self._mixtures(functions, unit, self._outputs(u))

    def _outputs(self, u: Tensor) -> Tensor:
        (first, first_scale, first_bias), *hidden, (head, head_scale, head_bias) = self.matrices
        h = ((u @ first.T) * first_scale + first_bias).clamp_min(0)
        for weights, scale, bias in hidden:
            h = h + ((_act(h) @ weights.T) * scale + bias).clamp_min(0)
        return (_act(h) @ head.T) * head_scale + head_bias

    def _mixtures(self, functions: Tensor, unit: Tensor, outputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        shift, spread, logit, share = outputs.split([COMPONENTS] * 3 + [GUESSES - 1], 1)
        guess = functions[:, :GUESSES] >> 8
        near = torch.zeros(len(unit), device=self.device)
        for j in range(1, GUESSES):
            near = near + share[:, j - 1] * (guess[:, j] - guess[:, 0]).float()
        away = (near[:, None] + shift * (8 * unit).float()).clamp(-(2.0**33), 2.0**33)
        location = (guess[:, :1] + away.long()).clamp(-(1 << 33), 1 << 33)
        exponent = torch.frexp(unit.double())[1].long() - 1
        doublings = exponent * 1024 + (self.log[((unit << 10) >> exponent) & 1023] * 23637 >> 16) - 5 * 1024
        scale = ((spread * 1477.3197).clamp(-65536, 65536).round().long() + doublings).clamp(MIN_SCALE, MAX_SCALE)
        d = (logit - logit.amax(1, keepdim=True)) * 1.44269504
        q = -(d * 1024).clamp(-24576, 0).round().long()
        return location, scale, self.exp2[q & 1023] >> (q >> 10)


def _natural(value: Tensor) -> Tensor:
    bits = value.float().view(torch.int32)
    m = ((bits & 0x7FFFFF) | 0x3F800000).view(torch.float32)
    p = COEFFICIENTS[0] * m + COEFFICIENTS[1]
    for c in COEFFICIENTS[2:]:
        p = p * m
        p = p + c
    return ((bits >> 23) - 127).float() * float(LN_2) + p


def _act(h: Tensor) -> Tensor:
    return (h * 16).clamp(0, 127).round()


__all__ = ["ExactSamples"]
