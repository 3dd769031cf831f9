"""The safetensors layout: a header that names tensors and their places, then their bytes, without gaps.

What it is not: it decodes no tensor, and needs neither the library of that name nor NumPy. A header is hostile until
`read_header` has returned: then every place lies within the file, and fits dtype and shape.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import IO, Any, NoReturn

from kolmo.errors import CorruptError, FormatError, TruncatedError
from kolmo.foreign import quoted
from kolmo.weights.sources.kinds import LONGEST_HEADER, ONNX, SAFETENSORS, TORCH, kind_of

MOST_DIMENSIONS, LARGEST = 32, 1 << 60
BYTES = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"), 1),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 2),
    **dict.fromkeys(("U32", "I32", "F32"), 4),
    **dict.fromkeys(("U64", "I64", "F64", "C64"), 8),
}


@dataclass(frozen=True)
class Kind:
    """What a tensor is: its dtype as safetensors names it, and its shape."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def count(self) -> int:
        """Numbers in it."""
        return prod(self.shape)

    @property
    def size(self) -> int:
        """Its bytes."""
        return self.count * BYTES[self.dtype]


@dataclass(frozen=True)
class Place(Kind):
    """A tensor in a file: where its bytes begin."""

    begin: int


@dataclass(frozen=True)
class Header:
    """What a file says of itself."""

    metadata: dict[str, str]
    places: dict[str, Place]


def read_header(path: Path) -> Header:
    """The header of a file, checked against the file.

    Raises:
        TruncatedError, CorruptError: the file is cut short, or its header contradicts itself or the file.
        FormatError: it is no safetensors file, or has a dtype that is not known here.
        OSError: it cannot be read.
    """
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        head = file.read(8)
        length = struct.unpack("<Q", head)[0] if len(head) == 8 else 0
        if not 2 <= length <= LONGEST_HEADER:
            raise FormatError(f"{path}: is not a safetensors file{_instead(head + file.read(8), path)}")
        if length > size - 8:
            raise TruncatedError(f"{path}: ends within its header, of {length} bytes; get it again", size)
        text = file.read(length)
    try:
        header = json.loads(text.decode(), object_pairs_hook=without_twins, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        _corrupt(path, f"its header is no JSON ({error})")
    if not isinstance(header, dict):
        _corrupt(path, "its header is no JSON object")
    metadata = header.pop("__metadata__", {})
    if not (isinstance(metadata, dict) and all(isinstance(value, str) for value in metadata.values())):
        _corrupt(path, "its metadata are not strings")
    places = {name: _place(path, name, entry, 8 + length) for name, entry in header.items()}
    at, last = 8 + length, ""
    for name, place in sorted(places.items(), key=lambda item: (item[1].begin, item[1].size)):
        if place.begin != at:
            _corrupt(
                path, f"tensor {quoted(name)} begins at byte {place.begin}, but {last or 'the header'} ends at {at}"
            )
        at, last = at + place.size, repr(name[:80])
    if at > size:
        raise TruncatedError(f"{path}: ends at byte {size}, its tensors at {at}; get it again", size)
    if at < size:
        _corrupt(path, f"its tensors end at byte {at}, the file at {size}")
    return Header(metadata, places)


def lay_out(tensors: Iterable[tuple[str, str, tuple[int, ...]]], begin: int = 0) -> dict[str, Place]:
    """Places of (name, dtype, shape), one after another."""
    places = {}
    for name, dtype, shape in tensors:
        places[name] = Place(dtype, shape, begin)
        begin += places[name].size
    return places


def write_header(metadata: Mapping[str, str], places: Mapping[str, Place], room: int = 0) -> bytes:
    """A header with its length before it, of `room` bytes in all at least; places count from its end."""
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    for name, place in places.items():
        offsets = place.begin, place.begin + place.size
        header[name] = {"dtype": place.dtype, "shape": place.shape, "data_offsets": offsets}
    text = json.dumps(header, separators=(",", ":")).encode()
    text = text.ljust(max(room - 8, len(text) + -len(text) % 8))
    if len(text) > LONGEST_HEADER:
        raise FormatError(f"a header of {len(text)} bytes is more than safetensors allows; divide the checkpoint")
    return struct.pack("<Q", len(text)) + text


def read_span(file: IO[bytes], path: Path, begin: int, size: int) -> bytes:
    """Bytes of a file.

    Raises:
        TruncatedError: it has become shorter.
    """
    file.seek(begin)
    data = file.read(size)
    if len(data) != size:
        raise TruncatedError(
            f"{path}: ends at byte {begin + len(data)}, amid a tensor; get it again", begin + len(data)
        )
    return data


def without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object's pairs as a dictionary, for `json.loads`; a key twice is a ValueError."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key twice")
    return found


def is_shape(value: Any) -> bool:
    """Whether it is a list of sizes that can be multiplied."""
    return _are_sizes(value) and prod(n or 1 for n in value) < LARGEST


def _are_sizes(value: Any) -> bool:
    if not isinstance(value, list) or len(value) > MOST_DIMENSIONS:
        return False
    return all(type(n) is int and 0 <= n < LARGEST for n in value)


def _place(path: Path, name: str, entry: Any, data: int) -> Place:
    shown = f"tensor {quoted(name)}"
    if not isinstance(entry, dict) or sorted(entry) != ["data_offsets", "dtype", "shape"]:
        _corrupt(path, f"{shown} has no dtype, shape and data_offsets, or has more")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in BYTES:
        raise FormatError(f"{path}: {shown} is of dtype {quoted(dtype, 20)}, which is not known here; leave it out")
    if not is_shape(shape) or not _are_sizes(offsets) or len(offsets) != 2:
        _corrupt(path, f"{shown} has a shape or offsets that cannot be")
    place = Place(dtype, tuple(shape), data + offsets[0])
    if offsets[1] - offsets[0] != place.size:
        _corrupt(path, f"{shown} has {offsets[1] - offsets[0]} bytes, not {place.size}")
    return place


def _instead(head: bytes, path: Path) -> str:
    """What it is, and what to do."""
    what = kind_of(head, path.name)
    if what in (SAFETENSORS, TORCH, ONNX):
        what = f"a file of {what}" if what != SAFETENSORS else ""
    return f", but {what}" if ";" in what else f", but {what}; name another" if what else "; name another"


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")


def _corrupt(path: Path, what: str) -> NoReturn:
    raise CorruptError(f"{path}: is damaged: {what}; get it again", 0)
