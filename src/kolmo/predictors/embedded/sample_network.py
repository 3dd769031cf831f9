"""The network that predicts samples of sound: shape, weights, and their file (docs/samples.md).

What it is not: the kernel (`kolmo.native`: SampleNetwork), or the training (`kolmo.training`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from kolmo.predictors.embedded.layered_network import LayeredShape, LayeredWeights, NetworkFile, Tensor, about_patterns

FORMAT = "kolmo-samples"
MAX_WIDTH, MAX_LAYERS = 256, 8
FUNCTIONS, COEFFICIENTS = 24, 48  # linear functions of the past, and coefficients of each
INPUTS, OUTPUTS = 128, 31
MAX_COEFFICIENT = 1 << 20
SHIPPED = Path(__file__).parent / "networks" / "samples.safetensors"


@dataclass(frozen=True)
class SampleShape(LayeredShape):
    """Sizes of a network that predicts samples.

    Attributes:
        width: of all hidden layers, a multiple of 64 from 64 to 256.
        layers: hidden layers, the first one included, 1 to 8.

    Example:
        >>> SampleShape().parameters
        54687
    """

    width: int = 128
    layers: int = 3

    def problem(self) -> str | None:
        """A message if docs/samples.md does not allow the shape, else None."""
        if not 64 <= self.width <= MAX_WIDTH or self.width % 64:
            return f"a width of {self.width}, not a multiple of 64 from 64 to {MAX_WIDTH}"
        return None if 1 <= self.layers <= MAX_LAYERS else f"{self.layers} layers, not 1 to {MAX_LAYERS}"

    def tensors(self) -> list[Tensor]:
        """Name, dtype and shape of all tensors, in the order of docs/samples.md."""
        found: list[Tensor] = [("functions", "I32", (FUNCTIONS, COEFFICIENTS))]
        names = [*(f"layer.{k}" for k in range(self.layers)), "head"]
        for k, name in enumerate(names):
            rows, inputs = OUTPUTS if name == "head" else self.width, self.width if k else INPUTS
            found += [(name, "I8", (rows, inputs)), (f"{name}_scale", "F32", (rows,)), (f"{name}_bias", "F32", (rows,))]
        return found


@dataclass(frozen=True)
class SampleWeights(LayeredWeights[SampleShape]):
    """A network that predicts samples; attributes and errors are those of `LayeredWeights`."""

    page = "docs/samples.md"
    limits = {"I8": 127, "I32": MAX_COEFFICIENT}  # noqa: RUF012
    patterns = about_patterns("sounds")


FILE = NetworkFile(FORMAT, "samples", SampleShape(MAX_WIDTH, MAX_LAYERS), SampleWeights)
load, dump, save = FILE.load, FILE.dump, FILE.save


@cache
def shipped() -> SampleWeights:
    """The network of the package.

    Raises:
        PredictorError: its file is missing or damaged.
    """
    return load(SHIPPED)


__all__ = ["FILE", "SampleShape", "SampleWeights", "dump", "load", "save", "shipped"]
