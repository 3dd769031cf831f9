"""The network that predicts pixels: shape, weights, and their file (docs/pixels.md).

What it is not: the kernel (`kolmo.native`: PixelNetwork), or the training (`kolmo.training`).
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import stat
from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Any

from kolmo.errors import PredictorError
from kolmo.foreign import quoted
from kolmo.safetensors import HeaderError, Place, header_length, parse_header, write_header
from kolmo.targets import replacing

FORMAT, VERSION = "kolmo-pixels", "1"
MAX_HEADER_BYTES = 1 << 14
MAX_LAYERS, MAX_HIDDEN = 8, 512
KINDS = ("grey", "green", "red", "blue")
DIFFERENCES = (44, 68, 82, 83)  # inputs of the linear prediction, by kind;
MORE_INPUTS = 7  # more of the first product
RESIDUALS = 512
MAX_FLOAT_BITS = 0x49800000  # 2^20 in binary32: up to it, no operation overflows
# Optional metadata for people, as patterns; the fingerprint does not cover it.
ABOUT = {"pictures": "[^\n]{1,1000}", "trained_bytes": "[0-9]{1,18}", "bits_per_byte": "[0-9]{1,4}\\.[0-9]{1,9}"}


@dataclass(frozen=True)
class PixelShape:
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

    @property
    def parameters(self) -> int:
        """Number of learned parameters: weights and biases, without quantisation steps."""
        return sum(prod(shape) for name, _, shape in self.tensors() if not name.endswith("_scale"))

    def config(self) -> bytes:
        """In the layout that `kernels.PixelNetwork` takes: 32-bit integers in the machine's order."""
        return array("i", [self.hidden, self.layers]).tobytes()

    def metadata(self) -> dict[str, str]:
        """The shape as a file's metadata."""
        return {"hidden": str(self.hidden), "layers": str(self.layers)}

    def tensors(self) -> list[tuple[str, str, tuple[int, ...]]]:
        """Name, dtype and shape of all tensors, in the order of docs/pixels.md."""
        hidden, found = self.hidden, list[tuple[str, str, tuple[int, ...]]]()
        for kind, count in zip(KINDS, DIFFERENCES, strict=True):
            found.append((f"linear.{kind}", "I16", (count,)))
            found += _matrix(f"first.{kind}", hidden, count + MORE_INPUTS)
            found.append((f"first.{kind}_bias", "F32", (hidden,)))
        for k in range(self.layers):
            found += [*_matrix(f"layer.{k}", hidden, hidden), (f"layer.{k}_bias", "F32", (hidden,))]
        return [*found, *_matrix("head", RESIDUALS, hidden), ("head_bias", "F32", (len(KINDS), RESIDUALS))]

    def places(self) -> dict[str, Place]:
        """Places of all tensors, one after another, from 0 on."""
        places, at = {}, 0
        for name, dtype, shape in self.tensors():
            places[name] = Place(dtype, shape, at)
            at += places[name].size
        return places


def _matrix(name: str, rows: int, columns: int) -> list[tuple[str, str, tuple[int, ...]]]:
    return [(name, "I8", (rows, columns)), (f"{name}_scale", "F32", (rows,))]


@dataclass(frozen=True)
class PixelWeights:
    """A network that predicts pixels.

    Attributes:
        shape: its sizes.
        weights: all tensors in the order of docs/pixels.md, as in the file, without padding.
        about: metadata for people (`ABOUT`).

    Raises:
        PredictorError: docs/pixels.md does not allow a size or a value.
    """

    shape: PixelShape
    weights: bytes
    about: Mapping[str, str] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        problem = self.shape.problem() or _value_problem(self) or _about_problem(self.about)
        if problem:
            raise PredictorError(f"not a network of docs/pixels.md: {problem}")

    @cached_property
    def config(self) -> bytes:
        """The shape in the layout that `kernels.PixelNetwork` takes."""
        return self.shape.config()

    @cached_property
    def fingerprint(self) -> bytes:
        """SHA-256 over shape and tensors."""
        return hashlib.sha256(",".join(self.shape.metadata().values()).encode() + self.weights).digest()


def load(source: str | Path | bytes) -> PixelWeights:
    """Read a network from a file, or from a file's bytes.

    Raises:
        PredictorError: the network cannot be read, or does not conform to docs/pixels.md.
    """
    where = "the network of pixels" if isinstance(source, bytes) else str(source)
    try:
        return _parse(source if isinstance(source, bytes) else _read(Path(source)))
    except OSError as error:
        raise PredictorError(f"{where}: {error.strerror}; name a network that `kolmo train` exported") from None
    except (HeaderError, PredictorError) as error:
        raise PredictorError(f"{where}: {error}; the file is damaged, or from a newer version: get it again") from None


def dump(weights: PixelWeights) -> bytes:
    """The file of a network as bytes."""
    metadata = {"format": FORMAT, "version": VERSION, **weights.shape.metadata(), **weights.about}
    return write_header(metadata, weights.shape.places()) + weights.weights


def save(weights: PixelWeights, path: str | Path) -> None:
    """Write a network to a file, whole or not at all."""
    with replacing(path, durable=True) as file:
        file.write(dump(weights))


def _read(path: Path) -> bytes:
    """The bytes of a file that may be a network: not one byte more than the largest has."""
    largest = 8 + MAX_HEADER_BYTES + _size(PixelShape(MAX_HIDDEN, MAX_LAYERS))
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise OSError(errno.EINVAL, "Not a regular file")
    with path.open("rb") as file:
        data = file.read(largest + 1)
    if len(data) > largest:
        raise HeaderError(f"it has more than {largest} bytes, which no network of pixels has")
    return data


def _parse(data: bytes) -> PixelWeights:
    length = header_length(data, min(MAX_HEADER_BYTES, max(len(data) - 8, 0)))
    if length is None:
        raise HeaderError("it does not begin as a safetensors file of a network")
    header = parse_header(data[8 : 8 + length], len(data))
    shape, about = _metadata(header.metadata)
    wanted = shape.tensors()
    if strange := set(header.places).difference(name for name, _, _ in wanted):
        raise HeaderError(f"tensor {quoted(min(strange), 40)} is none of a network's")
    parts = []
    for name, dtype, sizes in wanted:
        found = header.places.get(name)
        if found is None or (found.dtype, found.shape) != (dtype, sizes):
            raise HeaderError(f"tensor {quoted(name)} is not {dtype} of shape {list(sizes)}")
        parts.append(data[found.begin : found.begin + found.size])
    return PixelWeights(shape, b"".join(parts), about)


def _metadata(metadata: dict[str, str]) -> tuple[PixelShape, dict[str, str]]:
    """The shape, and the metadata for people."""
    if metadata.get("format") != FORMAT:
        raise HeaderError(f"it is not a network of pixels: its metadata do not name the format {FORMAT!r}")
    if metadata.get("version") != VERSION:
        raise HeaderError(f"its version is {quoted(metadata.get('version'), 20)}, not {VERSION!r}")
    names = {"format", "version", "hidden", "layers"}
    about = {name: metadata[name] for name in ABOUT if name in metadata}
    if not names <= set(metadata) <= names | set(about):
        raise HeaderError(f"its metadata are not the strings {', '.join(sorted(names))}")
    for name in ("hidden", "layers"):
        if not re.fullmatch("0|[1-9][0-9]{0,3}", metadata[name], re.ASCII):
            raise HeaderError(f"its {name} is {quoted(metadata[name], 20)}")
    shape = PixelShape(int(metadata["hidden"]), int(metadata["layers"]))
    if problem := shape.problem():
        raise HeaderError(f"its metadata claim {problem}")
    return shape, about


def _about_problem(about: Mapping[str, str]) -> str | None:
    for name, value in about.items():
        if name not in ABOUT or not re.fullmatch(ABOUT[name], value, re.ASCII):
            return f"its metadata have {quoted(name, 20)}: {quoted(value, 40)}"
    return None


def _size(shape: PixelShape) -> int:
    return sum(place.size for place in shape.places().values())


def _value_problem(weights: PixelWeights) -> str | None:
    """A message about the first value that docs/pixels.md does not allow, or None."""
    if len(weights.weights) != _size(weights.shape):
        return f"{len(weights.weights)} bytes of tensors, not {_size(weights.shape)}"
    import numpy as np

    for name, place in weights.shape.places().items():
        part = weights.weights[place.begin : place.begin + place.size]
        wrong: Any = False
        if place.dtype == "I8":
            wrong = np.frombuffer(part, np.int8) == -128
        elif place.dtype == "F32":
            wrong = (np.frombuffer(part, "<u4") & 0x7FFFFFFF) > MAX_FLOAT_BITS
        if np.any(wrong):
            return f"value {int(np.flatnonzero(wrong)[0])} of tensor {name!r} is out of its range"
    return None


__all__ = ["PixelShape", "PixelWeights", "dump", "load", "save"]
