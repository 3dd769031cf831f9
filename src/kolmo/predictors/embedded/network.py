"""A network of the predictors `neural` and `network` (docs/neural.md): shape, weights, priors.

The priors are those of the mixers that use the network's predictions; they are optional. What it is not: the kernel
(`kolmo.native`: Network), the file (`predictors.embedded.network_file`), or the training (`kolmo.training`).
"""

from __future__ import annotations

import hashlib
import re
from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from typing import TYPE_CHECKING, Any, NamedTuple

from kolmo.errors import PredictorError
from kolmo.foreign import quoted
from kolmo.native.tables import FINAL_INPUTS
from kolmo.predictors.embedded import neural_levels

if TYPE_CHECKING:
    import numpy.typing as npt

MAX_LAYERS, MAX_TABLES, MAX_WIDTH = 32, 8, 1024
ORDERS = (0, 2, 3, 4)  # orders of a hashed table; 0 is the current word
MAX_FLOAT = 2.0**20  # greatest magnitude of a float: up to it, no operation overflows
DTYPES = {"I8": "i1", "U8": "u1", "I16": "<i2", "U16": "<u2", "F16": "<f2", "F32": "<f4"}  # NumPy's names
# Priors of the mixers, in this order: name, contexts, weights; curves are alike in all.
PRIORS = tuple(
    (shape.name.removeprefix("neural-"), len(shape.contexts), len(shape.selectors) * shape.inputs + FINAL_INPUTS)
    for shape in neural_levels.SHAPES
)
MATCHES, CURVES = 32, 257 * 24
MAX_PRIOR_WEIGHT = 15 << 11  # greatest weight of a prior, 15 in units of 2^-11: beyond it the mixer's sums may overflow
# Optional metadata for people, as patterns; the fingerprint does not cover it.
ABOUT = {"texts": "[^\n]{1,1000}", "trained_bytes": "[0-9]{1,18}", "bits_per_byte": "[0-9]{1,4}\\.[0-9]{1,9}"}


class TensorPlace(NamedTuple):
    """A tensor of the file: the range of its bytes among those of all tensors, in the order of docs/neural.md."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


@dataclass(frozen=True)
class NetworkShape:
    """Sizes of a gated linear recurrent network over bytes (docs/neural.md).

    Attributes:
        layers: recurrent layers.
        state: width of a layer's state, a multiple of 64.
        embedding: width of a byte's embedding.
        slot: width of an entry of each hashed table; embedding + slot * len(tables) is the network's width.
        tables: (order, log2 of the entries) of each hashed table; order 0 is the current word.
    """

    layers: int = 5
    state: int = 384
    embedding: int = 128
    slot: int = 64
    tables: tuple[tuple[int, int], ...] = ((2, 14), (3, 15), (4, 15), (0, 15))

    @property
    def width(self) -> int:
        """Width of the vectors between layers."""
        return self.embedding + self.slot * len(self.tables)

    @property
    def products(self) -> int:
        """Number of products of weights and inputs for each byte."""
        return (4 * self.layers * self.state + 256) * self.width

    @property
    def parameters(self) -> int:
        """Number of learned parameters: weights, table entries, biases, without quantisation steps."""
        sizes = ((place, prod(place.shape)) for place in self.tensors())
        return sum(2 * size if place.dtype == "U8" else size for place, size in sizes if "_scale" not in place.name)

    def problem(self) -> str | None:
        """A message if docs/neural.md does not allow the shape, else None."""
        if not 1 <= self.layers <= MAX_LAYERS:
            return f"{self.layers} layers, not 1 to {MAX_LAYERS}"
        if len(self.tables) > MAX_TABLES:
            return f"{len(self.tables)} tables, not 0 to {MAX_TABLES}"
        least = 32 if self.tables else 0
        if self.embedding < 32 or self.embedding % 32 or not least <= self.slot <= MAX_WIDTH or self.slot % 32:
            return f"an embedding of {self.embedding} and slots of {self.slot}, not multiples of 32"
        for what, size in (("a state", self.state), ("a width", self.width)):
            if not 64 <= size <= MAX_WIDTH or size % 64:
                return f"{what} of {size}, not a multiple of 64 from 64 to {MAX_WIDTH}"
        for order, bits in self.tables:
            if order not in ORDERS or not 4 <= bits <= 24:
                return f"a table {order}:{bits}, not of order 0, 2, 3 or 4 with 4 to 24 bits"
        return None

    def config(self) -> bytes:
        """In the layout that `kernels.Network` takes: 32-bit integers in the machine's order."""
        tables = [number for table in self.tables for number in table]
        return array("i", [self.layers, self.state, self.embedding, self.slot, len(self.tables), *tables]).tobytes()

    def metadata(self) -> dict[str, str]:
        """The shape as a file's metadata."""
        tables = ",".join(f"{order}:{bits}" for order, bits in self.tables)
        numbers = {name: str(getattr(self, name)) for name in ("layers", "state", "embedding", "slot")}
        return {**numbers, "tables": tables}

    def tensors(self) -> list[TensorPlace]:
        """All tensors, in the order of docs/neural.md."""
        state, width = self.state, self.width
        wanted: list[tuple[str, str, tuple[int, ...]]] = [("embedding", "I8", (256, self.embedding))]
        wanted.append(("embedding_scale", "F32", (256,)))
        for k, (_, bits) in enumerate(self.tables):
            wanted.append((f"table.{k}", "U8", (1 << bits, self.slot // 2)))
            wanted.append((f"table.{k}_scale", "F16", (1 << bits,)))
        for k in range(self.layers):
            wanted.append((f"layer.{k}.in", "I8", (3 * state, width)))
            wanted.append((f"layer.{k}.in_scale", "F32", (3 * state,)))
            wanted.append((f"layer.{k}.bias", "F32", (state,)))
            wanted.append((f"layer.{k}.out", "I8", (width, state)))
            wanted.append((f"layer.{k}.out_scale", "F32", (width,)))
        wanted += [("head", "I8", (256, width)), ("head_scale", "F32", (256,)), ("head_bias", "F32", (256,))]
        places, at = [], 0
        for name, dtype, shape in wanted:
            end = at + prod(shape) * int(DTYPES[dtype][-1])
            places.append(TensorPlace(name, dtype, shape, at, end))
            at = end
        return places


def prior_tensors() -> list[TensorPlace]:
    """Tensors of all priors in the order of docs/neural.md; `context_mixing.pack_prior` deflates those of one prior."""
    places, at = [], 0
    for name, contexts, weights in PRIORS:
        averages = 256 * contexts + MATCHES
        parts = (("probabilities", "U16", averages), ("counts", "U8", averages), ("weights", "I16", weights))
        for part, dtype, count in (*parts, ("curves", "U16", CURVES)):
            end = at + count * int(DTYPES[dtype][-1])
            places.append(TensorPlace(f"prior.{name}.{part}", dtype, (count,), at, end))
            at = end
    return places


@dataclass(frozen=True)
class Weights:
    """A network: its shape, and the bytes of all tensors in the order of docs/neural.md.

    Attributes:
        shape: the sizes of the network.
        weights: bytes of the network's tensors.
        priors: bytes of the priors' tensors; empty without priors.
        about: metadata for people, with the keys and patterns of `ABOUT`.

    Raises:
        PredictorError: docs/neural.md does not allow a size or a value.
    """

    shape: NetworkShape
    weights: bytes
    priors: bytes = b""
    about: Mapping[str, str] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        problem = self.shape.problem() or _size_problem(self) or _value_problem(self) or about_problem(self.about)
        if problem:
            raise PredictorError(f"not a network of docs/neural.md: {problem}")

    @cached_property
    def config(self) -> bytes:
        """The shape in the layout that `kernels.Network` takes."""
        return self.shape.config()

    @cached_property
    def fingerprint(self) -> bytes:
        """SHA-256 over shape and tensors, those of the priors last."""
        digest = hashlib.sha256(",".join(self.shape.metadata().values()).encode())
        digest.update(self.weights)
        digest.update(self.priors)
        return digest.digest()

    def tensor(self, name: str) -> npt.NDArray[Any]:
        """One of the network's tensors."""
        (place,) = [place for place in self.shape.tensors() if place.name == name]
        return view(self.weights, place)

    def prior(self, name: str) -> bytes | None:
        """The prior of a mixer of `PRIORS`, as `context_mixing.inflated_prior` has it; None without priors."""
        places = [place for place in prior_tensors() if place.name.startswith(f"prior.{name}.")]
        return self.priors[places[0].begin : places[-1].end] or None


def about_problem(about: Mapping[str, str]) -> str | None:
    for name, value in about.items():
        if name not in ABOUT or not re.fullmatch(ABOUT[name], value):
            return f"its metadata have {quoted(name, 20)}: {quoted(value, 40)}"
    return None


def _size_problem(weights: Weights) -> str | None:
    wanted = weights.shape.tensors()[-1].end
    if len(weights.weights) != wanted:
        return f"{len(weights.weights)} bytes of tensors, not {wanted}"
    wanted = prior_tensors()[-1].end
    if weights.priors and len(weights.priors) != wanted:
        return f"{len(weights.priors)} bytes of priors, not {wanted}"
    return None


def _value_problem(weights: Weights) -> str | None:
    """A message about the first value that docs/neural.md does not allow, or None."""
    import numpy as np

    for place in weights.shape.tensors():
        values = view(weights.weights, place)
        if place.dtype == "I8":
            wrong, allowed = values == -128, "-127..127"
        elif place.dtype == "U8":
            wrong, allowed = ((values & 15) == 0) | (values < 16), "1..15 in both halves"
        else:
            wrong, allowed = ~(np.abs(values.astype(np.float32)) <= MAX_FLOAT), "finite and within +-2^20"
        if wrong.any():
            at = int(np.flatnonzero(wrong)[0])
            return f"value {at} of tensor {place.name!r} is {values.flat[at]}, not {allowed}"
    for place in prior_tensors() if weights.priors else ():
        values = view(weights.priors, place)
        if place.dtype == "I16" and (np.abs(values.astype(np.int32)) > MAX_PRIOR_WEIGHT).any():
            return f"a value of tensor {place.name!r} is not within +-{MAX_PRIOR_WEIGHT}"
    return None


def view(tensors: bytes, place: TensorPlace) -> npt.NDArray[Any]:
    import numpy as np

    values: npt.NDArray[Any] = np.frombuffer(tensors, DTYPES[place.dtype], prod(place.shape), place.begin)
    return values.reshape(place.shape)


__all__ = ["NetworkShape", "Weights", "prior_tensors"]
