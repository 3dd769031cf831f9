"""GPTQ as a baseline: groups of 128 inputs with a scale and a zero point each, inputs in order of their variance.

The algorithm of Frantar et al. (2023) with static groups: scales and zero points are those of rounding to nearest, so
that no table of groups is stored. What it is not: the code of any package; nothing is packed, and a size is what the
usual layout takes: a number for each weight, binary16 and a number for each group. Layers are quantised for the inputs
that the original network gives them, not for those behind quantised layers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from kolmo.weights.calibration.network import Bound, rows_of

if TYPE_CHECKING:
    import numpy.typing as npt
    import torch

    Floats = npt.NDArray[np.float32]

GROUP = 128
DAMPING = 0.01  # part of the mean variance
BLOCK = 64  # inputs between two products with the inverse


def covariances(
    model: torch.nn.Module, bound: Mapping[str, Bound], samples: Iterable[Mapping[str, Any]]
) -> dict[str, Floats]:
    """Sums of x^T x over the inputs x of the layers of each tensor, of those that the samples reach.

    Args:
        model: of transformers.
        bound: its layers, by tensor.
        samples: what it is called with.
    """
    import torch

    sums: dict[str, torch.Tensor] = {}
    last: list[Any] = [None, ""]  # inputs, and the name of their sum: the next layers may have the same
    leaders: dict[str, str] = {}
    head = model.get_output_embeddings()  # type: ignore[operator]

    def enter(name: str) -> Any:
        def hook(module: torch.nn.Module, given: tuple[torch.Tensor, ...]) -> Any:
            if given[0] is not last[0]:
                rows = rows_of(module, given[0])
                sums[name] = sums.get(name, torch.zeros(())) + rows.T @ rows
                last[:] = given[0], name
            leaders[name] = last[1]
            return (given[0][:, -1:],) if module is head else None  # logits are not needed

        return hook

    hooks = [layer.register_forward_pre_hook(enter(name)) for name, one in bound.items() for layer in one.layers]
    with torch.inference_mode():
        for sample in samples:
            model(**sample)
    for hook in hooks:
        hook.remove()
    return {name: sums[leader].numpy() for name, leader in leaders.items()}


def gptq(weights: Floats, covariance: npt.NDArray[np.floating], bits: int) -> Floats:
    """The decoded weights of a matrix.

    Args:
        weights: (outputs, inputs).
        covariance: of the inputs, (inputs, inputs), or a multiple of it.
        bits: of a weight.
    """
    rows, columns = weights.shape
    scale, zero = np.empty_like(weights), np.empty_like(weights)
    for at in range(0, columns, GROUP):
        part = weights[:, at : at + GROUP]
        low, high = np.minimum(part.min(1), 0), np.maximum(part.max(1), 0)
        step = np.maximum((high - low) / (2**bits - 1), 1e-8).astype(np.float16).astype(np.float32)
        step = np.maximum(step, np.float32(6e-8))
        scale[:, at : at + GROUP] = step[:, None]
        zero[:, at : at + GROUP] = np.clip(np.rint(-low / step), 0, 2**bits - 1)[:, None]
    h = np.asarray(covariance, np.float64).copy()
    dead = np.diagonal(h) <= 0
    h[dead, dead] = 1
    h[np.diag_indices(columns)] += DAMPING * np.diagonal(h).mean()
    order = np.argsort(-np.diagonal(h), kind="stable")
    inverse = np.linalg.inv(h[order][:, order])
    upper = np.linalg.cholesky((inverse + inverse.T) / 2).T.astype(np.float32)
    left, done = weights[:, order].astype(np.float32).copy(), np.empty_like(weights)
    for begin in range(0, columns, BLOCK):
        end = min(begin + BLOCK, columns)
        errors = np.empty((rows, end - begin), np.float32)
        for i in range(begin, end):
            step, middle = scale[:, order[i]], zero[:, order[i]]
            level = np.clip(np.rint(left[:, i] / step) + middle, 0, 2**bits - 1)
            decoded = (level - middle) * step
            errors[:, i - begin] = (left[:, i] - decoded) / upper[i, i]
            left[:, i + 1 : end] -= np.outer(errors[:, i - begin], upper[i, i + 1 : end])
            done[:, order[i]] = decoded
        left[:, end:] -= errors @ upper[begin:end, end:]
    return done


def stored_bits(shape: tuple[int, int], bits: int) -> int:
    """Bits that a matrix takes: its numbers, and a scale and a zero point for each group."""
    rows, columns = shape
    return rows * (columns * bits + -(-columns // GROUP) * (16 + bits))
