"""The file of a network: a safetensors file with its shape, weights and priors (docs/neural.md, "The file")."""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from kolmo.errors import PredictorError
from kolmo.foreign import quoted
from kolmo.predictors.embedded.network import (
    ABOUT,
    NetworkShape,
    TensorPlace,
    Weights,
    about_problem,
    prior_tensors,
    view,
)
from kolmo.safetensors import HeaderError, Place, header_length, parse_header, parse_object, write_header
from kolmo.targets import replacing

if TYPE_CHECKING:
    import numpy.typing as npt

FORMAT, PLAIN, PATHS = "kolmo-network", "1", "2"  # versions: integers as they are; those of layers as indices of a path
MAX_HEADER_BYTES = 1 << 16  # the header of the largest shape takes a third of it
MAX_FILE_BYTES = 1 << 30  # size of the largest file that is read
PRIOR_VERSION = "1"


def load(source: str | Path | bytes) -> Weights:
    """Read a network from a file, or from a file's bytes.

    Raises:
        PredictorError: the network cannot be read, or does not conform to docs/neural.md.
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
    """Whether the metadata of a file identify it as a network, even if the rest is damaged.

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
    """The file of a network as bytes: version 2 where the matrices of all layers are paths along the trellis."""
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
    """The reason to refuse a file; `load` adds its name."""


class _Layout(NamedTuple):
    """The contents of a header: shape, version, offset of the tensors' bytes, range of each tensor, in order."""

    shape: NetworkShape
    version: str
    about: dict[str, str]
    begin: int
    tensors: list[TensorPlace]
    priors: list[TensorPlace]


def _read(path: Path) -> tuple[bytes, _Layout]:
    """The bytes of a file. Nothing is read beyond the header unless header and size agree."""
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "Not a regular file")
    with path.open("rb") as file:
        head = file.read(8 + MAX_HEADER_BYTES)
        layout = _open(head, status.st_size)
        if status.st_size > MAX_FILE_BYTES:
            raise _RefusedError(f"it has {status.st_size} bytes, and at most {MAX_FILE_BYTES} are read")
        data = head + file.read(max(status.st_size - len(head), 0))
    if len(data) != status.st_size:
        raise _RefusedError(f"it has {len(data)} bytes, not {status.st_size}")
    return data, layout


def _text(head: bytes) -> bytes:
    """The JSON text of the header, from the first bytes of a file."""
    length = header_length(head, min(MAX_HEADER_BYTES, max(len(head) - 8, 0)))
    if length is None:
        raise _RefusedError("it does not begin as a safetensors file of a network")
    return head[8 : 8 + length]


def _open(head: bytes, size: int) -> _Layout:
    """The layout of a file of `size` bytes; `head` are its first bytes, which include the header."""
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
    """The range of a tensor among the bytes of all tensors, which start at offset `begin`."""
    found = places.get(place.name)
    if found is None or (found.dtype, found.shape) != (place.dtype, place.shape):
        raise _RefusedError(f"tensor {quoted(place.name)} is not {place.dtype} of shape {list(place.shape)}")
    return place._replace(begin=found.begin - begin, end=found.begin - begin + found.size)


def _metadata(metadata: Any) -> tuple[NetworkShape, str, dict[str, str], bool]:
    """Shape, version, metadata for people, and whether there are priors."""
    names = ("format", "version", "layers", "state", "embedding", "slot", "tables")
    if not isinstance(metadata, dict) or metadata.get("format") != FORMAT:
        raise _RefusedError("it is not a network of kolmo: its metadata do not name the format 'kolmo-network'")
    if metadata.get("version") not in (PLAIN, PATHS):
        raise _RefusedError(f"its version is {quoted(metadata.get('version'), 20)}, not {PLAIN!r} or {PATHS!r}")
    if metadata.get("priors", PRIOR_VERSION) != PRIOR_VERSION:
        raise _RefusedError(f"its priors are of version {quoted(metadata['priors'], 20)}, not {PRIOR_VERSION!r}")
    about = {name: metadata[name] for name in ABOUT if name in metadata}
    allowed = {*names, *about, "priors"}
    if not set(names) <= set(metadata) <= allowed or not all(isinstance(value, str) for value in metadata.values()):
        raise _RefusedError(f"its metadata are not the strings {', '.join(names)}")
    if problem := about_problem(about):
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


def _matrices(shape: NetworkShape) -> list[TensorPlace]:
    """The layers' matrices."""
    return [place for place in shape.tensors() if place.name.startswith("layer.") and place.dtype == "I8"]


def _followed(shape: NetworkShape, tensors: bytes) -> bytes:
    """Tensors with indices replaced by the levels of their paths: 2 index, plus 1 in odd states (docs/neural.md)."""
    found = bytearray(tensors)
    for place in _matrices(shape):
        indices = view(tensors, place)
        if indices.min() < -64 or indices.max() > 63:
            raise _RefusedError(f"tensor {place.name!r} has indices beyond -64..63")
        found[place.begin : place.end] = (2 * indices + _odd(indices)).tobytes()
    return bytes(found)


def _indices(shape: NetworkShape, tensors: bytes) -> bytes | None:
    """The mirror of `_followed`; None where a matrix is not a path."""
    found = bytearray(tensors)
    for place in _matrices(shape):
        levels = view(tensors, place)
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


__all__ = ["dump", "is_network", "load", "save"]
