"""From a trained network to the exact one: integer weights, a step for each row (docs/neural.md, "The file").

The layers' matrices are paths along the trellis of 8 states: they deflate to a bit a weight less than the nearest
integers would, and the network predicts as well.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from kolmo.hyperfunctions.trellis import Trellis
from kolmo.predictors.embedded.network import Weights
from kolmo.training.networks.models import INPUT_SCALE, LEVELS, STATE_SCALE, TABLE_LEVELS, GatedRecurrent

Array = npt.NDArray[Any]


def quantise(model: GatedRecurrent) -> Weights:
    """The exact network whose weights are those that the model computes with when `quantised`.

    Raises:
        PredictorError: a shape that the page does not allow, or a weight that is not finite.
    """
    shape = model.shape
    parts: list[Array] = [*_rows(_numbers(model.embedding), 1.0)]
    for table in model.tables:
        parts += _nibbles(_numbers(table))
    inward, outward, bias = _numbers(model.inward), _numbers(model.outward), _numbers(model.bias)
    for layer in range(shape.layers):
        parts += [*_paths(inward[layer].reshape(-1, shape.width), INPUT_SCALE), bias[layer].astype("<f4")]
        parts += [*_paths(outward[layer, 0], STATE_SCALE)]
    parts += [*_rows(_numbers(model.head), INPUT_SCALE), _numbers(model.head_bias).astype("<f4")]
    return Weights(shape, b"".join(part.tobytes() for part in parts))


def _numbers(parameter: Tensor) -> Array:
    return parameter.detach().double().cpu().numpy()


def _rows(weight: Array, fold: float) -> tuple[Array, Array]:
    """8-bit integers, and the step of each row over `fold`, the scale of what they are multiplied with."""
    step = _step(weight)
    return np.rint(weight / step[:, None]).astype(np.int8), (step / fold).astype("<f4")


def _paths(weight: Array, fold: float) -> tuple[Array, Array]:
    """As `_rows`, each row along the trellis; its step is the one that then fits best."""
    step = _step(weight)
    levels = Trellis(1.0, rate=0.3).quantise_rows((weight / step[:, None]).astype(np.float32))
    squares = (levels * levels).sum(-1)
    step = np.where(squares, (weight * levels).sum(-1) / np.maximum(squares, 1), step)
    return levels.astype(np.int8), (step / fold).astype("<f4")


def _step(weight: Array) -> Array:
    step: Array = np.abs(weight).max(-1) / LEVELS
    step[step == 0] = 1e-12  # a row of zeros
    return step


def _nibbles(table: Array) -> list[Array]:
    """4-bit integers, two a byte, and the step of each row: rounded first, so that integers fit what is stored."""
    step = (np.abs(table).max(-1) / TABLE_LEVELS).astype("<f2")
    wide = step.astype(np.float64)[:, None]
    values = (
        np.rint(np.divide(table, wide, out=np.zeros_like(table), where=wide > 0)).clip(-TABLE_LEVELS, TABLE_LEVELS) + 8
    )
    pairs = values.astype(np.uint8)
    return [pairs[:, ::2] | pairs[:, 1::2] << 4, step]


__all__ = ["quantise"]
