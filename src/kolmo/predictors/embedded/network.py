"""A network of the predictors `neural` and `network` as a safetensors file (docs/neural.md): shape, weights, priors.

The priors are those of the mixers that read the network's predictions; a file may go without them. What it is not: it
predicts nothing (`kolmo.native`: Network) and trains nothing (`kolmo.training`).
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
from typing import TYPE_CHECKING, Any, NamedTuple

from kolmo.errors import PredictorError
from kolmo.foreign import quoted
from kolmo.safetensors import HeaderError, Place, header_length, parse_header, parse_object, write_header
from kolmo.targets import replacing

if TYPE_CHECKING:
    import numpy.typing as npt

FORMAT, PLAIN, PATHS = "kolmo-network", "1", "2"  # versions: integers as they are; those of layers as indices of a path
MAX_LAYERS, MAX_TABLES, MAX_WIDTH = 32, 8, 1024
ORDERS = (0, 2, 3, 4)  # of a hashed table; 0 is the current word
LIMIT = 2.0**20  # of a float: with it, nothing overflows
MAX_HEADER_BYTES = 1 << 16  # the header of the largest shape takes a third of it
LARGEST = 1 << 30  # bytes of a file that is read
DTYPES = {"I8": "i1", "U8": "u1", "I16": "<i2", "U16": "<u2", "F16": "<f2", "F32": "<f4"}  # NumPy's name of each
# Priors of the mixers, in this order: name, contexts, weights. Version of their shapes; curves are alike in all.
PRIORS = (
    ("fast", 5, 2 * 16 + 16),
    ("light", 13, 5 * 32 + 16),
    ("full", 29, 9 * 64 + 16),
    ("large", 36, 12 * 80 + 16),
)
PRIOR_VERSION = "1"
MATCHES, CURVES = 32, 257 * 24
HEAVIEST = 15 << 11  # of a prior's weights, 15 in units of 2^-11: beyond it the mixer's sums could overflow
# What a file may say of its network for people, and in which form; the fingerprint does not cover it.
ABOUT = {"texts": "[^\n]{1,1000}", "trained_bytes": "[0-9]{1,18}", "bits_per_byte": "[0-9]{1,4}\\.[0-9]{1,9}"}


class TensorPlace(NamedTuple):
    """A tensor of the file: where its bytes lie among those of all tensors in the page's order."""

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
        """Width of what the layers pass on."""
        return self.embedding + self.slot * len(self.tables)

    @property
    def products(self) -> int:
        """Products of weights and inputs that a byte takes."""
        return (4 * self.layers * self.state + 256) * self.width

    @property
    def parameters(self) -> int:
        """Numbers that are learned: weights, table entries, biases; no steps of quantisation."""
        sizes = ((place, prod(place.shape)) for place in self.tensors())
        return sum(2 * size if place.dtype == "U8" else size for place, size in sizes if "_scale" not in place.name)

    def problem(self) -> str | None:
        """What the page does not allow, or None."""
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
        """As a file names it."""
        tables = ",".join(f"{order}:{bits}" for order, bits in self.tables)
        numbers = {name: str(getattr(self, name)) for name in ("layers", "state", "embedding", "slot")}
        return {**numbers, "tables": tables}

    def tensors(self) -> list[TensorPlace]:
        """All tensors in the page's order."""
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
    """Tensors of all priors in the page's order; of each, together, what `context_mixing.pack_prior` deflates."""
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
    """A network: its shape, and all tensors' bytes in the page's order.

    Attributes:
        shape: its sizes.
        weights: bytes of the network's tensors.
        priors: bytes of the priors' tensors, or none.
        about: what the file says of it for people: keys and forms of `ABOUT`.

    Raises:
        PredictorError: a size or a value that the page does not allow.
    """

    shape: NetworkShape
    weights: bytes
    priors: bytes = b""
    about: Mapping[str, str] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        problem = self.shape.problem() or _size_problem(self) or _value_problem(self) or _about_problem(self.about)
        if problem:
            raise PredictorError(f"no network of docs/neural.md: {problem}")

    @cached_property
    def config(self) -> bytes:
        """The shape as `kernels.Network` takes it."""
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
        return _view(self.weights, place)

    def prior(self, name: str) -> bytes | None:
        """The prior of a mixer of `PRIORS`, as `context_mixing.inflated_prior` has it; None without priors."""
        places = [place for place in prior_tensors() if place.name.startswith(f"prior.{name}.")]
        return self.priors[places[0].begin : places[-1].end] or None


def load(source: str | Path | bytes) -> Weights:
    """Read a network from a file, or from a file's bytes.

    Raises:
        PredictorError: it cannot be read, or is not exactly what docs/neural.md describes.
    """
    where = "the network" if isinstance(source, bytes) else str(source)
    try:
        if isinstance(source, bytes):
            data, layout = source, _open(source, len(source))
        else:
            data, layout = _read(Path(source))
        bytes_of = memoryview(data)[layout.begin :]
        weights = b"".join(bytes_of[place.begin : place.end] for place in layout.tensors)
        priors = b"".join(bytes_of[place.begin : place.end] for place in layout.priors)
        weights = _followed(layout.shape, weights) if layout.version == PATHS else weights
        return Weights(layout.shape, weights, priors, layout.about)
    except OSError as error:
        raise PredictorError(f"{where}: {error.strerror}; name a network that `kolmo train` exported") from None
    except (_RefusedError, PredictorError) as error:
        raise PredictorError(f"{where}: {error}; the file is damaged, or from a newer version: get it again") from None


def is_network(path: str | Path) -> bool:
    """Whether a file says that it is a network: its metadata do, be it whole or not.

    Example:
        >>> is_network(__file__)
        False
    """
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            return False
        with open(path, "rb") as file:
            header = parse_object(_text(file.read(8 + MAX_HEADER_BYTES)))
        return bool(header.get("__metadata__", {}).get("format") == FORMAT)
    except (OSError, ValueError, _RefusedError, AttributeError):
        return False


def dump(weights: Weights) -> bytes:
    """A network as the bytes of a file, of version 2 where all its layers' matrices are paths along the trellis."""
    shape, indices = weights.shape, _indices(weights.shape, weights.weights)
    version = PLAIN if indices is None else PATHS
    metadata = {"format": FORMAT, "version": version, **shape.metadata(), **weights.about}
    places, size = shape.tensors(), len(weights.weights)
    if weights.priors:
        metadata["priors"] = PRIOR_VERSION
        places += [place._replace(begin=place.begin + size, end=place.end + size) for place in prior_tensors()]
    header = write_header(metadata, {place.name: Place(place.dtype, place.shape, place.begin) for place in places})
    return header + (weights.weights if indices is None else indices) + weights.priors


def save(weights: Weights, path: str | Path) -> None:
    """Write a network to a file, whole or not at all."""
    with replacing(path, durable=True) as file:
        file.write(dump(weights))


class _RefusedError(Exception):
    """What is wrong with a file; `load` adds which file."""


class _Layout(NamedTuple):
    """What a header says: shape, version, where tensors' bytes begin, and where each lies from there, in order."""

    shape: NetworkShape
    version: str
    about: dict[str, str]
    begin: int
    tensors: list[TensorPlace]
    priors: list[TensorPlace]


def _read(path: Path) -> tuple[bytes, _Layout]:
    """A file's bytes. Nothing is read beyond its header unless header and size agree."""
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "Not a regular file")
    with path.open("rb") as file:
        head = file.read(8 + MAX_HEADER_BYTES)
        layout = _open(head, status.st_size)
        if status.st_size > LARGEST:
            raise _RefusedError(f"it has {status.st_size} bytes, and at most {LARGEST} are read")
        data = head + file.read(max(status.st_size - len(head), 0))
    if len(data) != status.st_size:
        raise _RefusedError(f"it has {len(data)} bytes, not {status.st_size}")
    return data, layout


def _text(head: bytes) -> bytes:
    """The JSON text of the header of a file that begins with these bytes."""
    length = header_length(head, min(MAX_HEADER_BYTES, max(len(head) - 8, 0)))
    if length is None:
        raise _RefusedError("it does not begin as a safetensors file of a network")
    return head[8 : 8 + length]


def _open(head: bytes, size: int) -> _Layout:
    """What the header of a file of `size` bytes says; `head` are its first bytes, the whole header among them."""
    text = _text(head)
    try:
        header = parse_header(text, size)
    except HeaderError as error:
        raise _RefusedError(str(error)) from None
    shape, version, about, has_priors = _metadata(header.metadata)
    begin = 8 + len(text)
    wanted = [*shape.tensors(), *(prior_tensors() if has_priors else [])]
    if strange := set(header.places).difference(place.name for place in wanted):
        raise _RefusedError(f"tensor {quoted(min(strange), 40)} is none of a network's")
    found = [_found(place, header.places, begin) for place in wanted]
    count = len(shape.tensors())
    return _Layout(shape, version, about, begin, found[:count], found[count:])


def _found(place: TensorPlace, places: Mapping[str, Place], begin: int) -> TensorPlace:
    """Where a tensor lies among the bytes of all tensors, which start at offset `begin` of the file."""
    found = places.get(place.name)
    if found is None or (found.dtype, found.shape) != (place.dtype, place.shape):
        raise _RefusedError(f"tensor {quoted(place.name)} is not {place.dtype} of shape {list(place.shape)}")
    return place._replace(begin=found.begin - begin, end=found.begin - begin + found.size)


def _metadata(metadata: Any) -> tuple[NetworkShape, str, dict[str, str], bool]:
    """Shape, version, what is for people, and whether there are priors."""
    names = ("format", "version", "layers", "state", "embedding", "slot", "tables")
    if not isinstance(metadata, dict) or metadata.get("format") != FORMAT:
        raise _RefusedError("it is no network of kolmo's: its metadata name no format 'kolmo-network'")
    if metadata.get("version") not in (PLAIN, PATHS):
        raise _RefusedError(f"its version is {quoted(metadata.get('version'), 20)}, not {PLAIN!r} or {PATHS!r}")
    if metadata.get("priors", PRIOR_VERSION) != PRIOR_VERSION:
        raise _RefusedError(f"its priors are of version {quoted(metadata['priors'], 20)}, not {PRIOR_VERSION!r}")
    about = {name: metadata[name] for name in ABOUT if name in metadata}
    allowed = {*names, *about, "priors"}
    if not set(names) <= set(metadata) <= allowed or not all(isinstance(value, str) for value in metadata.values()):
        raise _RefusedError(f"its metadata are not the strings {', '.join(names)}")
    if problem := _about_problem(about):
        raise _RefusedError(problem)
    for name in names[2:6]:
        if not re.fullmatch("0|[1-9][0-9]{0,3}", metadata[name]):
            raise _RefusedError(f"its {name} is {quoted(metadata[name], 20)}")
    if not re.fullmatch("(0|[2-4]):[1-9][0-9]?(,(0|[2-4]):[1-9][0-9]?)*|", metadata["tables"]):
        raise _RefusedError(f"its tables are {quoted(metadata['tables'])}")
    pairs = [pair.split(":") for pair in metadata["tables"].split(",") if pair]
    tables = tuple((int(order), int(bits)) for order, bits in pairs)
    layers, state, embedding, slot = (int(metadata[name]) for name in names[2:6])
    shape = NetworkShape(layers, state, embedding, slot, tables)
    problem = shape.problem()
    if problem:
        raise _RefusedError(f"its metadata claim {problem}")
    return shape, metadata["version"], about, "priors" in metadata


def _about_problem(about: Mapping[str, str]) -> str | None:
    for name, value in about.items():
        if name not in ABOUT or not re.fullmatch(ABOUT[name], value):
            return f"it says of itself {quoted(name, 20)}: {quoted(value, 40)}"
    return None


def _matrices(shape: NetworkShape) -> list[TensorPlace]:
    """The layers' matrices."""
    return [place for place in shape.tensors() if place.name.startswith("layer.") and place.dtype == "I8"]


def _followed(shape: NetworkShape, tensors: bytes) -> bytes:
    """Tensors with the integers of paths for their indices: 2 index, and 1 more in odd states (docs/neural.md)."""
    found = bytearray(tensors)
    for place in _matrices(shape):
        indices = _view(tensors, place)
        if indices.min() < -64 or indices.max() > 63:
            raise _RefusedError(f"tensor {place.name!r} has indices beyond -64..63")
        found[place.begin : place.end] = (2 * indices + _odd(indices)).tobytes()
    return bytes(found)


def _indices(shape: NetworkShape, tensors: bytes) -> bytes | None:
    """The mirror of `_followed`; None where a matrix is no path."""
    found = bytearray(tensors)
    for place in _matrices(shape):
        levels = _view(tensors, place)
        indices = levels >> 1
        if ((levels & 1) != _odd(indices)).any():
            return None
        found[place.begin : place.end] = indices.tobytes()
    return bytes(found)


def _odd(indices: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """1 where a path's state is odd, int8: each row is a path, from state 0."""
    import numpy as np

    from kolmo.native.trellis.reference import CODES

    feedback, put = CODES[8]
    rows = np.ascontiguousarray(indices.T)
    state, odd = np.zeros(len(indices), np.int8), np.empty_like(rows)
    for column, index in enumerate(rows):
        odd[column] = state & 1
        state = state >> 1 ^ feedback * odd[column] ^ put * (index & 1)
    return odd.T


def _size_problem(weights: Weights) -> str | None:
    wanted = weights.shape.tensors()[-1].end
    if len(weights.weights) != wanted:
        return f"{len(weights.weights)} bytes of tensors, not {wanted}"
    wanted = prior_tensors()[-1].end
    if weights.priors and len(weights.priors) != wanted:
        return f"{len(weights.priors)} bytes of priors, not {wanted}"
    return None


def _value_problem(weights: Weights) -> str | None:
    """The first value that the page does not allow."""
    import numpy as np

    for place in weights.shape.tensors():
        values = _view(weights.weights, place)
        if place.dtype == "I8":
            wrong, allowed = values == -128, "-127..127"
        elif place.dtype == "U8":
            wrong, allowed = ((values & 15) == 0) | (values < 16), "1..15 in both halves"
        else:
            wrong, allowed = ~(np.abs(values.astype(np.float32)) <= LIMIT), "finite and within +-2^20"
        if wrong.any():
            at = int(np.flatnonzero(wrong)[0])
            return f"value {at} of tensor {place.name!r} is {values.flat[at]}, not {allowed}"
    for place in prior_tensors() if weights.priors else ():
        values = _view(weights.priors, place)
        if place.dtype == "I16" and (np.abs(values.astype(np.int32)) > HEAVIEST).any():
            return f"a value of tensor {place.name!r} is not within +-{HEAVIEST}"
    return None


def _view(tensors: bytes, place: TensorPlace) -> npt.NDArray[Any]:
    import numpy as np

    values: npt.NDArray[Any] = np.frombuffer(tensors, DTYPES[place.dtype], prod(place.shape), place.begin)
    return values.reshape(place.shape)


__all__ = ["NetworkShape", "Weights", "dump", "is_network", "load", "prior_tensors", "save"]
