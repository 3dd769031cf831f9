"""The network that predicts samples of sound as a torch module, in training (docs/samples.md).

Activations are integers always, as the exact network's are; `quantised` makes the weights integers too.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from kolmo.bits import LN2
from kolmo.native.samples.mixture import COMPONENTS
from kolmo.native.samples.network import FLAG, FUNCTIONS, GUESSES, INPUTS, LAGS, OTHER, OUTPUTS, SampleNetwork
from kolmo.predictors.embedded.sample_network import MAX_COEFFICIENT, SampleShape, SampleWeights
from kolmo.training.networks.cells import straight_through

INPUT_SCALE = 32.0  # integers of the inputs for each unit of the floating-point network,
STEP_SCALE = 16.0  # and of what the products after the first one take
LEVELS = 127  # the largest integer of a weight
LINEAR_UNIT = 1 << 16  # of the linear functions' coefficients
UNIFORM = 2.0**-13  # weight of the uniform distribution
LEAST_SPREAD = -5 * LN2  # of the logarithm of a component's scale
LINEAR_STEP = 0.3  # a coefficient of the linear functions for each unit of its parameter: how fast they learn
RESONANCE = (1.8, -0.85)  # first coefficients of most predictions


@dataclass(frozen=True)
class Batch:
    """Samples, and what they are predicted from.

    Attributes:
        past: the samples before, newest first, (n, 256) or more.
        other: the other channel's, that of the same time first, (n, 16); zeros where there is none.
        bits: of each sample, (n,).
        stereo: 1 where there is another channel, (n,).
        target: the samples, (n,).
    """

    past: Tensor
    other: Tensor
    bits: Tensor
    stereo: Tensor
    target: Tensor


class SampleModel(nn.Module):
    """Predicts samples from those before them: see `native/samples/network.py`.

    Args:
        shape: sizes.
    """

    def __init__(self, shape: SampleShape) -> None:
        super().__init__()
        self.shape = shape
        self.quantised = False
        width = shape.width
        self.functions = nn.Parameter(_first_functions() / LINEAR_STEP)
        self.first = nn.Parameter(_uniform(width, INPUTS))
        self.first_bias = nn.Parameter(torch.zeros(width))
        self.deeper = nn.Parameter(
            torch.stack([_uniform(width, width) for _ in range(shape.layers - 1)] or [torch.zeros(0)])
        )
        self.deeper_bias = nn.Parameter(torch.zeros(shape.layers - 1, width))
        self.head = nn.Parameter(0.3 * _uniform(OUTPUTS, width))
        parts = [torch.linspace(-0.5, 0.5, COMPONENTS), torch.linspace(-2, 0.5, COMPONENTS)]
        self.head_bias = nn.Parameter(torch.cat([*parts, torch.zeros(OUTPUTS - 2 * COMPONENTS)]))

    def forward(self, batch: Batch) -> Tensor:
        """Nats of each sample, (n,)."""
        location, spread, weight = self.mixture(batch)
        narrow = torch.exp(-spread)
        target, edge = batch.target.float()[:, None], 2.0 ** (batch.bits.float()[:, None] - 1)
        lowest, highest = target <= -edge, target >= edge - 1
        below = functional.logsigmoid((location - target + 0.5) * narrow).masked_fill(lowest, 0)
        above = functional.logsigmoid((target + 0.5 - location) * narrow).masked_fill(highest, 0)
        # s(b) - s(a) = s(b) s(-a) (1 - e^(a - b)), the logistic function s, which is precise in its tails
        between = torch.log(-torch.expm1(-narrow.clamp(min=1e-7))).masked_fill(lowest | highest, 0)
        mixed = torch.logsumexp(below + above + between + weight.log_softmax(1), 1)
        return -torch.logaddexp(mixed, float(np.log(UNIFORM)) - batch.bits * LN2)

    def mixture(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Locations in samples, logarithms of scales, and logits of weights of the components, each (n, 8)."""
        x, y, stereo = batch.past.float(), batch.other.float(), batch.stereo.float()[:, None]
        functions = LINEAR_STEP * self.functions
        if self.quantised:
            functions = straight_through((functions * LINEAR_UNIT).round() / LINEAR_UNIT, functions)
        seen = torch.cat([x[:, :LAGS], y], 1) @ functions.T
        guess, moved = seen[:, :1], seen[:, 1:GUESSES] - seen[:, :1]
        d1 = x[:, :-1] - x[:, 1:]
        d2 = d1[:, :32] - d1[:, 1:33]
        d3 = d2[:, :31] - d2[:, 1:]
        size = d1.abs()
        sums = torch.stack([size[:, :32].sum(1), d2.abs().sum(1), d3.abs().sum(1)], 1)
        whole = sums.amin(1, keepdim=True) + 8
        unit = whole / 32
        y1 = y[:, :8] - y[:, 1:9]
        differences = [
            x[:, :LAGS] - guess,
            d1[:, :24],
            d2[:, :12],
            moved,
            seen[:, GUESSES:],
            x[:, :32].mean(1, True),
            y1,
        ]
        relative = torch.cat(differences, 1) / unit
        windows = size[:, :16].cumsum(1)
        ratios = [
            *(32 / n * windows[:, n - 1 : n] + 8 for n in (1, 2, 4, 8, 16)),
            sums + 8,
            2 * size[:, :240].unflatten(1, (15, 16)).sum(2) + 8,
            torch.where(stereo > 0, 4 * y1.abs().sum(1, keepdim=True) + 8, whole),
        ]
        level = torch.log1p(8 * unit)
        flags = [FLAG * (batch.bits <= 8).float()[:, None], FLAG * stereo]
        inputs = torch.cat(
            [
                16 * relative.sign() * relative.abs().log1p(),
                16 * (torch.cat(ratios, 1) / whole).log(),
                8 * level,
                32 * level,
                *flags,
            ],
            1,
        ).clamp(-127, 127)
        u = straight_through(inputs.round(), inputs) / INPUT_SCALE
        h = torch.addmm(self.first_bias, u, self._weight(self.first).T).relu()
        for weight, bias in zip(self._weight(self.deeper), self.deeper_bias, strict=self.shape.layers > 1):
            h = h + torch.addmm(bias, _rounded(h), weight.T).relu()
        outputs = torch.addmm(self.head_bias, _rounded(h), self._weight(self.head).T)
        shift, spread, logit, share = outputs.split([COMPONENTS] * 3 + [GUESSES - 1], 1)
        location = guess + (share * moved).sum(1, keepdim=True) + shift * unit
        return location, (spread + unit.log()).clamp(min=LEAST_SPREAD), logit

    def _weight(self, weight: Tensor) -> Tensor:
        if not self.quantised or not weight.numel():
            return weight
        step = weight.detach().abs().amax(-1, keepdim=True).clamp_min(1e-12) / LEVELS
        return straight_through((weight / step).round() * step, weight)

    def matrices(self) -> list[nn.Parameter]:
        """Parameters that are products' weights, (..., out, in): those that orthogonalised updates are for."""
        return [self.first, *([self.deeper] if self.shape.layers > 1 else [])]

    def rest(self) -> list[nn.Parameter]:
        """All other parameters."""
        deeper = [self.deeper_bias] if self.shape.layers > 1 else []
        return [self.functions, self.first_bias, self.head, self.head_bias, *deeper]

    def lookups(self) -> list[nn.Parameter]:
        """Hashed tables: none."""
        return []

    def describe(self) -> dict[str, Any]:
        """The shape, ready for JSON."""
        return {"kind": "samples", **asdict(self.shape)}


def _uniform(rows: int, inputs: int) -> Tensor:
    return (2 * torch.rand(rows, inputs) - 1) / inputs**0.5


def _first_functions() -> Tensor:
    """Predictions of order 0, 2 and 3, and by a resonance, without and with the other channel; then its residuals."""
    base, found = torch.tensor(RESONANCE), torch.zeros(FUNCTIONS, LAGS + OTHER)
    found[:GUESSES, :2] = base
    found[1, :2] = torch.tensor([1.0, 0.0])
    found[2, :2] = torch.tensor([2.0, -1.0])
    found[3, :3] = torch.tensor([3.0, -3.0, 1.0])
    beside = torch.tensor([1.0, *(-base).tolist()])
    found[4, LAGS : LAGS + 3] = 0.5 * beside
    found[5, LAGS : LAGS + 3] = beside
    found[5:GUESSES, :LAGS] += 0.05 * torch.randn(GUESSES - 5, LAGS)
    for j in range(GUESSES, FUNCTIONS):
        lag = j - GUESSES
        found[j, lag] = 1
        found[j, lag + 1 : lag + 3] = -base
    return found + 0.003 * torch.randn_like(found)


def _rounded(x: Tensor) -> Tensor:
    """Activations as the integers 0 to 127 of the exact network, in units of `STEP_SCALE`; no gradient beyond."""
    near = x.clamp(max=127.0 / STEP_SCALE)
    return straight_through((near * STEP_SCALE).round() / STEP_SCALE, near)


def quantise(model: SampleModel) -> SampleWeights:
    """The exact network whose weights are those that the model computes with when `quantised`.

    Raises:
        PredictorError: a shape that docs/samples.md does not allow, or a weight that is not finite.
    """

    def numbers(parameter: Tensor) -> np.ndarray[Any, np.dtype[np.float64]]:
        return parameter.detach().double().cpu().numpy()

    whole = np.rint(numbers(model.functions) * (LINEAR_STEP * LINEAR_UNIT)).clip(-MAX_COEFFICIENT, MAX_COEFFICIENT)
    parts = [whole.astype("<i4").tobytes()]
    layers: list[tuple[Tensor, Tensor, float]] = [(model.first, model.first_bias, INPUT_SCALE)]
    layers += [(model.deeper[k], model.deeper_bias[k], STEP_SCALE) for k in range(model.shape.layers - 1)]
    for weight, bias, unit in [*layers, (model.head, model.head_bias, STEP_SCALE)]:
        found = numbers(weight)
        step = np.maximum(np.abs(found).max(-1), 1e-12) / LEVELS
        parts.append(np.rint(found / step[:, None]).astype(np.int8).tobytes())
        parts += [(step / unit).astype("<f4").tobytes(), numbers(bias).astype("<f4").tobytes()]
    return SampleWeights(model.shape, b"".join(parts))


def floats(weights: SampleWeights) -> dict[str, Tensor]:
    """Parameters of a `SampleModel` from the exact network's integers: `quantise` the other way."""
    read = SampleNetwork(weights.config, weights.weights)
    (first, first_scale, first_bias), *deeper, (head, head_scale, head_bias) = read.matrices

    def matrix(weight: Any, scale: Any, unit: float) -> Tensor:
        return torch.from_numpy(weight * scale[:, None] * np.float32(unit))

    found = {
        "functions": torch.from_numpy((read.coefficients / (LINEAR_STEP * LINEAR_UNIT)).astype(np.float32)),
        "first": matrix(first, first_scale, INPUT_SCALE),
        "first_bias": torch.from_numpy(first_bias.copy()),
        "head": matrix(head, head_scale, STEP_SCALE),
        "head_bias": torch.from_numpy(head_bias.copy()),
        "deeper": torch.zeros(1, 0),
        "deeper_bias": torch.zeros(0, weights.shape.width),
    }
    if deeper:
        found["deeper"] = torch.stack([matrix(weight, scale, STEP_SCALE) for weight, scale, _ in deeper])
        found["deeper_bias"] = torch.stack([torch.from_numpy(bias.copy()) for _, _, bias in deeper])
    return found


__all__ = ["Batch", "SampleModel", "floats", "quantise"]
