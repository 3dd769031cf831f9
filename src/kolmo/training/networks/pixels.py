"""The network that predicts pixels as a torch module, in training (docs/pixels.md).

Activations are integers always, as the exact network's are; `quantised` makes the weights integers too.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from kolmo.native.pixels.network import DIFFERENCES, INPUTS, RESIDUALS, TURNS, Inputs, PixelNetwork, squeezed
from kolmo.predictors.embedded.pixel_network import PixelShape, PixelWeights
from kolmo.training.networks.cells import straight_through

INPUT_SCALE = 46.0  # integers of the inputs for each unit of the floating-point network,
STEP_SCALE = 24.0  # and of what the products after the first one take
LEVELS = 127  # the largest integer of a weight
LINEAR_UNIT = 1 << 14  # of the linear prediction's coefficients
FIRST_SLOPE = 6.0  # residuals that an untrained network holds e times less probable


class PixelModel(nn.Module):
    """Predicts bytes of pictures from their neighbours: see `native/pixels/network.py`, kind by kind of byte.

    Args:
        shape: sizes.
    """

    def __init__(self, shape: PixelShape) -> None:
        super().__init__()
        self.shape = shape
        self.quantised = False
        hidden, layers = shape.hidden, shape.layers
        self.linear = nn.ParameterList(torch.zeros(DIFFERENCES[turn]) for turn in TURNS)
        self.first = nn.ParameterList(torch.randn(hidden, INPUTS[turn]) / INPUTS[turn] ** 0.5 for turn in TURNS)
        self.first_bias = nn.Parameter(torch.zeros(len(TURNS), hidden))
        self.deeper = nn.Parameter(torch.randn(layers, hidden, hidden) * (0.5 / hidden**0.5))
        self.deeper_bias = nn.Parameter(torch.zeros(layers, hidden))
        self.head = nn.Parameter(torch.zeros(RESIDUALS, hidden))
        slope = -torch.arange(-RESIDUALS // 2, RESIDUALS // 2).abs() / FIRST_SLOPE
        self.head_bias = nn.Parameter(slope.repeat(len(TURNS), 1))
        values = torch.arange(RESIDUALS) + torch.arange(RESIDUALS // 2)[:, None]
        outside = torch.zeros(values.shape).masked_fill_(values // 256 != 1, -torch.inf)
        self.register_buffer("outside", outside, persistent=False)  # of the 256 values, by the centre

    def forward(self, kind: int, found: Inputs, values: Tensor) -> Tensor:
        """Nats of bytes of a kind, (n,).

        Args:
            kind: index of `TURNS`.
            found: what the network is computed from, of n bytes.
            values: the bytes, int64 (n,).
        """
        differences, guess = torch.from_numpy(found.differences), torch.from_numpy(found.guess)
        linear = self.linear[kind]
        if self.quantised:
            linear = straight_through((linear * LINEAR_UNIT).round().clamp(-32768, 32767) / LINEAR_UNIT, linear)
        shift = differences.float() @ linear
        mean = (256 * (guess + shift)).clamp(0, 65280)
        whole = mean.detach().floor().long()
        centre, fraction = whole >> 8, straight_through((whole & 255) / 256, mean / 256)
        near = ((whole + 128) >> 8) - guess
        inputs = np.concatenate(
            [
                squeezed(found.differences),
                np.where(found.known, np.int8(127), np.int8(0)),
                np.maximum(found.guess - 128, -127)[:, None],
                squeezed(near.numpy())[:, None],
            ],
            1,
            dtype=np.float32,
        )
        u = torch.from_numpy(inputs) / INPUT_SCALE
        x = torch.addmm(self.first_bias[kind], u, self._weight(self.first[kind]).T).relu()
        for weight, bias in zip(self._weight(self.deeper), self.deeper_bias, strict=True):
            x = x + torch.addmm(bias, _rounded(x), weight.T).relu()
        logits = torch.addmm(self.head_bias[kind], _rounded(x), self._weight(self.head).T)
        return _Nats.apply(logits, fraction, self.outside[centre], values - centre + 256)  # type: ignore[no-any-return, no-untyped-call, index]

    def _weight(self, weight: Tensor) -> Tensor:
        if not self.quantised:
            return weight
        step = weight.detach().abs().amax(-1, keepdim=True).clamp_min(1e-12) / LEVELS
        return straight_through((weight / step).round() * step, weight)

    def matrices(self) -> list[nn.Parameter]:
        """Parameters that are products' weights, (..., out, in): those that orthogonalised updates are for."""
        return [*self.first, *([self.deeper] if self.shape.layers else [])]

    def rest(self) -> list[nn.Parameter]:
        """All other parameters."""
        return [
            *self.linear,
            self.first_bias,
            self.head,
            self.head_bias,
            *([self.deeper_bias] if self.shape.layers else []),
        ]

    def lookups(self) -> list[nn.Parameter]:
        """Hashed tables: none."""
        return []

    def describe(self) -> dict[str, Any]:
        """The shape, ready for JSON."""
        return {"kind": "pixels", **asdict(self.shape)}


def _rounded(x: Tensor) -> Tensor:
    """Activations as the integers 0 to 127 of the exact network, in units of `STEP_SCALE`; no gradient beyond."""
    return straight_through((x * STEP_SCALE).round().clamp(max=127) / STEP_SCALE, x.clamp(max=127.5 / STEP_SCALE))


class _Nats(torch.autograd.Function):
    """Nats of the row `target` of (n, 512) logits between rows and the ones before them, with few passes over memory.

    Row k has the logit L[k] + fraction (L[k - 1] - L[k]) + outside[k]; row 0 is always outside.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, fraction: Tensor, outside: Tensor, target: Tensor) -> Tensor:
        between = outside
        between[:, 1:] += torch.lerp(logits[:, 1:], logits[:, :-1], fraction[:, None])
        top = between.amax(1, keepdim=True)
        wanted = between.gather(1, target[:, None]) - top
        p = between.sub_(top).exp_()
        total = p.sum(1, keepdim=True)
        ctx.save_for_backward(logits, fraction, p, total, target)
        return (total.log() - wanted)[:, 0]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, None]:  # type: ignore[override]
        logits, fraction, p, total, target = ctx.saved_tensors
        p = p * (gradient[:, None] / total)
        p.scatter_add_(1, target[:, None], -gradient[:, None])
        back = p[:, 1:] * fraction[:, None]
        slope = (p[:, 1:] * (logits[:, :-1] - logits[:, 1:])).sum(1)
        p[:, 1:] -= back
        p[:, :-1] += back
        return p, slope, None, None


def quantise(model: PixelModel) -> PixelWeights:
    """The exact network whose weights are those that the model computes with when `quantised`.

    Raises:
        PredictorError: a shape that docs/pixels.md does not allow, or a weight that is not finite.
    """
    parts: list[bytes] = []

    def numbers(parameter: Tensor) -> np.ndarray[Any, np.dtype[np.float64]]:
        return parameter.detach().double().cpu().numpy()

    def matrix(weight: Tensor, unit: float) -> None:
        found = numbers(weight)
        step = np.maximum(np.abs(found).max(-1), 1e-12) / LEVELS
        parts.append(np.rint(found / step[:, None]).astype(np.int8).tobytes())
        parts.append((step * unit).astype("<f4").tobytes())

    def bias(values: Tensor, unit: float) -> None:
        parts.append((numbers(values) * unit).astype("<f4").tobytes())

    for kind in range(len(TURNS)):
        coefficients = np.rint(numbers(model.linear[kind]) * LINEAR_UNIT).clip(-32768, 32767)
        parts.append(coefficients.astype("<i2").tobytes())
        matrix(model.first[kind], STEP_SCALE / INPUT_SCALE)
        bias(model.first_bias[kind], STEP_SCALE)
    for k in range(model.shape.layers):
        matrix(model.deeper[k], 1.0)
        bias(model.deeper_bias[k], STEP_SCALE)
    matrix(model.head, 1 / STEP_SCALE)
    bias(model.head_bias, 1.0)
    return PixelWeights(model.shape, b"".join(parts))


def floats(weights: PixelWeights) -> dict[str, Tensor]:
    """Parameters of a `PixelModel` from the exact network's integers: `quantise` the other way."""
    read = PixelNetwork(weights.config, weights.weights)
    found: dict[str, Tensor] = {}

    def matrix(weight: Any, scale: Any, unit: float) -> Tensor:
        return torch.from_numpy(weight * scale[:, None] / np.float32(unit))

    for kind, (linear, weight, scale, _) in enumerate(read.first):
        found[f"linear.{kind}"] = torch.from_numpy((linear / LINEAR_UNIT).astype(np.float32))
        found[f"first.{kind}"] = matrix(weight, scale, STEP_SCALE / INPUT_SCALE)
    found["first_bias"] = torch.from_numpy(np.stack([part[3] for part in read.first])) / STEP_SCALE
    hidden, layers = weights.shape.hidden, weights.shape.layers
    deeper = [matrix(weight, scale, 1.0) for weight, scale, _ in read.deeper]
    found["deeper"] = torch.stack(deeper) if layers else torch.zeros(0, hidden, hidden)
    biases = [torch.from_numpy(bias / np.float32(STEP_SCALE)) for _, _, bias in read.deeper]
    found["deeper_bias"] = torch.stack(biases) if layers else torch.zeros(0, hidden)
    found["head"] = matrix(*read.head, 1 / STEP_SCALE)
    found["head_bias"] = torch.from_numpy(read.head_bias.copy())
    return found


__all__ = ["PixelModel", "floats", "quantise"]
