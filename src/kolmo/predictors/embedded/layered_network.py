"""What the networks of pixels and of samples share: a shape of two numbers, tensors, and their file.

The file is a safetensors file (docs/pixels.md, docs/samples.md). `pixel_network` and `sample_network` define shapes,
tensors and ranges of values. What it is not: the network of text, whose file is larger (`network`, `network_file`).
"""

from __future__ import annotations

import dataclasses
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
from typing import ClassVar, Generic, TypeVar

from kolmo.errors import PredictorError
from kolmo.foreign import quoted
from kolmo.safetensors import HeaderError, Place, header_length, parse_header, write_header
from kolmo.targets import replacing

VERSION = "1"
MAX_HEADER_BYTES = 1 << 14
MAX_FLOAT_BITS = 0x49800000  # 2^20 in binary32: up to it, no operation overflows
INTEGERS = {"I8": "i1", "I16": "<i2", "I32": "<i4"}  # NumPy's names

Tensor = tuple[str, str, tuple[int, ...]]  # name, dtype, shape


def about_patterns(material: str) -> dict[str, str]:
    """Patterns of metadata for people: what a network was trained on, by name and in bytes, and how good it is."""
    return {material: "[^\n]{1,1000}", "trained_bytes": "[0-9]{1,18}", "bits_per_byte": "[0-9]{1,4}\\.[0-9]{1,9}"}


class LayeredShape:
    """Sizes of a network. A subclass is a frozen dataclass whose fields are integers, in the order of the kernel."""

    def problem(self) -> str | None:
        """A message if the format's page does not allow the shape, else None."""
        raise NotImplementedError

    def tensors(self) -> list[Tensor]:
        """Name, dtype and shape of all tensors, in the order of the format's page."""
        raise NotImplementedError

    @property
    def parameters(self) -> int:
        """Number of learned parameters: weights and biases, without quantisation steps."""
        return sum(prod(shape) for name, _, shape in self.tensors() if not name.endswith("_scale"))

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """Names of the sizes."""
        return tuple(size.name for size in dataclasses.fields(cls))  # type: ignore[arg-type]  # of each subclass

    def config(self) -> bytes:
        """In the layout that the kernel takes: 32-bit integers in the machine's order."""
        return array("i", [getattr(self, name) for name in self.names()]).tobytes()

    def metadata(self) -> dict[str, str]:
        """The shape as a file's metadata."""
        return {name: str(getattr(self, name)) for name in self.names()}

    def places(self) -> dict[str, Place]:
        """Places of all tensors, one after another, from 0 on."""
        places, at = {}, 0
        for name, dtype, shape in self.tensors():
            places[name] = Place(dtype, shape, at)
            at += places[name].size
        return places

    @property
    def size(self) -> int:
        """Bytes of all tensors."""
        return sum(place.size for place in self.places().values())


Shape = TypeVar("Shape", bound=LayeredShape)


@dataclass(frozen=True)
class LayeredWeights(Generic[Shape]):
    """A network: its sizes, and its tensors. A subclass defines `page`, `limits` and `patterns`.

    Attributes:
        page: of the documentation, which specifies the network.
        limits: greatest magnitude of an integer, by dtype.
        patterns: optional metadata for people, as patterns; the fingerprint does not cover it.
        shape: its sizes.
        weights: all tensors in the order of the page, as in the file, without padding.
        about: metadata for people, as `patterns` allows.

    Raises:
        PredictorError: the page does not allow a size or a value.
    """

    page: ClassVar[str]
    limits: ClassVar[Mapping[str, int]]
    patterns: ClassVar[Mapping[str, str]]

    shape: Shape
    weights: bytes
    about: Mapping[str, str] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        problem = self.shape.problem() or self._value_problem() or self._about_problem()
        if problem:
            raise PredictorError(f"not a network of {self.page}: {problem}")

    @cached_property
    def config(self) -> bytes:
        """The shape in the layout that the kernel takes."""
        return self.shape.config()

    @cached_property
    def fingerprint(self) -> bytes:
        """SHA-256 over shape and tensors."""
        return hashlib.sha256(",".join(self.shape.metadata().values()).encode() + self.weights).digest()

    def _about_problem(self) -> str | None:
        for name, value in self.about.items():
            if name not in self.patterns or not re.fullmatch(self.patterns[name], value, re.ASCII):
                return f"its metadata have {quoted(name, 20)}: {quoted(value, 40)}"
        return None

    def _value_problem(self) -> str | None:
        """A message about the first value that the page does not allow, or None."""
        if len(self.weights) != self.shape.size:
            return f"{len(self.weights)} bytes of tensors, not {self.shape.size}"
        import numpy as np

        for name, place in self.shape.places().items():
            part = self.weights[place.begin : place.begin + place.size]
            if place.dtype == "F32":
                wrong = (np.frombuffer(part, "<u4") & 0x7FFFFFFF) > MAX_FLOAT_BITS
            else:
                wrong = np.abs(np.frombuffer(part, INTEGERS[place.dtype]).astype(np.int64)) > self.limits[place.dtype]
            if np.any(wrong):
                return f"value {int(np.flatnonzero(wrong)[0])} of tensor {name!r} is out of its range"
        return None


Weights = TypeVar("Weights", bound=LayeredWeights)  # type: ignore[type-arg]  # of any shape


@dataclass(frozen=True)
class NetworkFile(Generic[Shape, Weights]):
    """The file of a network of layers.

    Attributes:
        format: name of the format, in the file's metadata.
        what: what is predicted, for messages.
        largest: the largest shape.
        weights: class of the network.
    """

    format: str
    what: str
    largest: Shape
    weights: type[Weights]

    def load(self, source: str | Path | bytes) -> Weights:
        """Read a network from a file, or from a file's bytes.

        Raises:
            PredictorError: the network cannot be read, or does not conform to its page.
        """
        where = f"the network of {self.what}" if isinstance(source, bytes) else str(source)
        try:
            return self._parse(source if isinstance(source, bytes) else self._read(Path(source)))
        except OSError as error:
            raise PredictorError(f"{where}: {error.strerror}; name a network that `kolmo train` exported") from None
        except (HeaderError, PredictorError) as error:
            raise PredictorError(
                f"{where}: {error}; the file is damaged, or from a newer version: get it again"
            ) from None

    def dump(self, weights: Weights) -> bytes:
        """The file of a network as bytes."""
        shape = weights.shape
        metadata = {"format": self.format, "version": VERSION, **shape.metadata(), **weights.about}
        return write_header(metadata, shape.places()) + weights.weights

    def save(self, weights: Weights, path: str | Path) -> None:
        """Write a network to a file, whole or not at all."""
        with replacing(path, durable=True) as file:
            file.write(self.dump(weights))

    def _read(self, path: Path) -> bytes:
        """The bytes of a file that may be a network: not one byte more than the largest has."""
        largest = 8 + MAX_HEADER_BYTES + self.largest.size
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise OSError(errno.EINVAL, "Not a regular file")
        with path.open("rb") as file:
            data = file.read(largest + 1)
        if len(data) > largest:
            raise HeaderError(f"it has more than {largest} bytes, which no network of {self.what} has")
        return data

    def _parse(self, data: bytes) -> Weights:
        length = header_length(data, min(MAX_HEADER_BYTES, max(len(data) - 8, 0)))
        if length is None:
            raise HeaderError("it does not begin as a safetensors file of a network")
        header = parse_header(data[8 : 8 + length], len(data))
        shape, about = self._metadata(header.metadata)
        wanted = shape.tensors()
        if strange := set(header.places).difference(name for name, _, _ in wanted):
            raise HeaderError(f"tensor {quoted(min(strange), 40)} is none of a network's")
        parts = []
        for name, dtype, sizes in wanted:
            found = header.places.get(name)
            if found is None or (found.dtype, found.shape) != (dtype, sizes):
                raise HeaderError(f"tensor {quoted(name)} is not {dtype} of shape {list(sizes)}")
            parts.append(data[found.begin : found.begin + found.size])
        return self.weights(shape, b"".join(parts), about)

    def _metadata(self, metadata: dict[str, str]) -> tuple[Shape, dict[str, str]]:
        """The shape, and the metadata for people."""
        if metadata.get("format") != self.format:
            raise HeaderError(
                f"it is not a network of {self.what}: its metadata do not name the format {self.format!r}"
            )
        if metadata.get("version") != VERSION:
            raise HeaderError(f"its version is {quoted(metadata.get('version'), 20)}, not {VERSION!r}")
        sizes = self.largest.names()
        names = {"format", "version", *sizes}
        about = {name: metadata[name] for name in self.weights.patterns if name in metadata}
        if not names <= set(metadata) <= names | set(about):
            raise HeaderError(f"its metadata are not the strings {', '.join(sorted(names))}")
        for name in sizes:
            if not re.fullmatch("0|[1-9][0-9]{0,3}", metadata[name], re.ASCII):
                raise HeaderError(f"its {name} is {quoted(metadata[name], 20)}")
        shape = type(self.largest)(*(int(metadata[name]) for name in sizes))
        if problem := shape.problem():
            raise HeaderError(f"its metadata claim {problem}")
        return shape, about


__all__ = ["LayeredShape", "LayeredWeights", "NetworkFile", "Tensor", "Weights", "about_patterns"]
