"""The network that predicts pixels: shape, weights, and their file (docs/pixels.md).

What it is not: the kernel (`kolmo.native`: PixelNetwork), or the training (`kolmo.training`).
"""

from __future__ import annotations

from dataclasses import dataclass

from kolmo.predictors.embedded.layered_network import LayeredShape, LayeredWeights, NetworkFile, Tensor, about_patterns

FORMAT = "kolmo-pixels"
MAX_LAYERS, MAX_HIDDEN = 8, 512
KINDS = ("grey", "green", "red", "blue")
DIFFERENCES = (44, 68, 82, 83)  # inputs of the linear prediction, by kind;
MORE_INPUTS = 7  # more of the first product
RESIDUALS = 512


@dataclass(frozen=True)
class PixelShape(LayeredShape):
    """Sizes of a network that predicts pixels.

    Attributes:
        hidden: width of all layers, a multiple of 64 from 64 to 512.
        layers: residual layers after the first one, 0 to 8.

    Example:
        >>> PixelShape().parameters
        63189
    """

    hidden: int = 64
    layers: int = 2

    def problem(self) -> str | None:
        """A message if docs/pixels.md does not allow the shape, else None."""
        if not 64 <= self.hidden <= MAX_HIDDEN or self.hidden % 64:
            return f"a width of {self.hidden}, not a multiple of 64 from 64 to {MAX_HIDDEN}"
        return None if 0 <= self.layers <= MAX_LAYERS else f"{self.layers} layers, not 0 to {MAX_LAYERS}"

    def tensors(self) -> list[Tensor]:
        """Name, dtype and shape of all tensors, in the order of docs/pixels.md."""
        hidden, found = self.hidden, list[Tensor]()
        for kind, count in zip(KINDS, DIFFERENCES, strict=True):
            found.append((f"linear.{kind}", "I16", (count,)))
            found += _matrix(f"first.{kind}", hidden, count + MORE_INPUTS)
            found.append((f"first.{kind}_bias", "F32", (hidden,)))
        for k in range(self.layers):
            found += [*_matrix(f"layer.{k}", hidden, hidden), (f"layer.{k}_bias", "F32", (hidden,))]
        return [*found, *_matrix("head", RESIDUALS, hidden), ("head_bias", "F32", (len(KINDS), RESIDUALS))]


def _matrix(name: str, rows: int, columns: int) -> list[Tensor]:
    return [(name, "I8", (rows, columns)), (f"{name}_scale", "F32", (rows,))]


@dataclass(frozen=True)
class PixelWeights(LayeredWeights[PixelShape]):
    """A network that predicts pixels; attributes and errors are those of `LayeredWeights`."""

    page = "docs/pixels.md"
    limits = {"I8": 127, "I16": 1 << 15}  # noqa: RUF012
    patterns = about_patterns("pictures")


FILE = NetworkFile(FORMAT, "pixels", PixelShape(MAX_HIDDEN, MAX_LAYERS), PixelWeights)
load, dump, save = FILE.load, FILE.dump, FILE.save

__all__ = ["FILE", "PixelShape", "PixelWeights", "dump", "load", "save"]
