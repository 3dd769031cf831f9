"""The safetensors layout: eight bytes of length, a JSON header that names tensors and their places, then their bytes.

Needs neither the library of that name nor NumPy. A header is untrusted until `parse_header` has returned: from then on
every place lies within the file and agrees with its dtype and shape, and the tensors fill the file without gaps.

Stricter than the library, on purpose: a key that occurs twice (JSON readers choose different ones), a field besides
dtype, shape and data_offsets, metadata that are null, more than 32 dimensions (NumPy has no more), and a size that
overflows when its zeros are left out are refused. Dtypes of less than a byte are not supported.

What it is not: it decodes no tensor.
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

MAX_HEADER_BYTES = 100_000_000  # the library's limit
MAX_DIMENSIONS = 32
MAX_COUNT = 1 << 60  # numbers in a tensor, so that its size in bytes fits 63 bits
BYTES = {  # dtype -> bytes of a number
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"), 1),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 2),
    **dict.fromkeys(("U32", "I32", "F32"), 4),
    **dict.fromkeys(("U64", "I64", "F64", "C64"), 8),
}


class NotSafetensorsError(FormatError):
    """The first bytes are not those of a safetensors file."""


class HeaderError(ValueError):
    """What is wrong with a header: a clause such as "its header is not JSON"; the caller adds file and remedy."""


class UnknownDtypeError(HeaderError):
    """A dtype that is not in `BYTES`; the file may be sound."""


class MissingBytesError(HeaderError):
    """The file ends before its tensors do."""


@dataclass(frozen=True)
class Kind:
    """A tensor's dtype, as safetensors names it, and its shape."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def count(self) -> int:
        """How many numbers the tensor holds."""
        return prod(self.shape)

    @property
    def size(self) -> int:
        """Bytes of the tensor."""
        return self.count * BYTES[self.dtype]


@dataclass(frozen=True)
class Place(Kind):
    """A tensor in a file: `begin` is the offset of its first byte, from the start of the file."""

    begin: int


@dataclass(frozen=True)
class Header:
    """The content of a header."""

    metadata: dict[str, str]
    places: dict[str, Place]


def read_header(path: Path) -> Header:
    """The header of a file, checked against the file's size.

    Raises:
        NotSafetensorsError: the file is not a safetensors file.
        FormatError: a tensor has an unknown dtype.
        TruncatedError: the file ends before its header or its tensors do.
        CorruptError: the header contradicts itself or the file.
        OSError: the file cannot be read.
    """
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        length = header_length(file.read(8))
        if length is None:
            raise NotSafetensorsError(f"{path}: is not a safetensors file; name another")
        if length > size - 8:
            raise TruncatedError(f"{path}: ends within its header, of {length} bytes; get it again", size)
        text = file.read(length)
    try:
        return parse_header(text, size)
    except UnknownDtypeError as error:
        raise FormatError(f"{path}: {error}, which is not known here; leave it out") from None
    except MissingBytesError as error:
        raise TruncatedError(f"{path}: {error}; get it again", size) from None
    except HeaderError as error:
        raise CorruptError(f"{path}: is damaged: {error}; get it again", 0) from None


def header_length(head: bytes, limit: int = MAX_HEADER_BYTES) -> int | None:
    """Bytes of the JSON text of a file that begins with `head`, 8 bytes or more.

    Returns None where no safetensors file begins so, or where the text would have more bytes than `limit`.
    """
    length: int = struct.unpack_from("<Q", head)[0] if len(head) >= 8 else 0
    return length if 2 <= length <= limit else None


def parse_header(text: bytes, size: int) -> Header:
    """The content of a header's JSON text, checked against a file of `size` bytes.

    Raises:
        UnknownDtypeError: a tensor has a dtype that is not in `BYTES`.
        MissingBytesError: the file ends before its tensors do.
        HeaderError: the text is not a header, or contradicts itself or the size.
    """
    header = parse_object(text)
    metadata = header.pop("__metadata__", {})
    if not (isinstance(metadata, dict) and all(isinstance(value, str) for value in metadata.values())):
        raise HeaderError("its metadata are not strings")
    for string in (*header, *metadata, *metadata.values()):
        if not _is_unicode(string):
            raise HeaderError(f"its header has half a surrogate pair in {quoted(string)}")
    data = 8 + len(text)
    places = {name: _place(name, entry, data) for name, entry in header.items()}
    at, last = data, ""
    for name, place in sorted(places.items(), key=lambda item: (item[1].begin, item[1].size)):
        if place.begin != at:
            raise HeaderError(
                f"tensor {quoted(name)} begins at byte {place.begin}, but {last or 'the header'} ends at {at}"
            )
        at, last = at + place.size, quoted(name)
    if at > size:
        raise MissingBytesError(f"ends at byte {size}, its tensors at {at}")
    if at < size:
        raise HeaderError(f"its tensors end at byte {at}, the file at {size}")
    return Header(metadata, places)


def parse_object(text: bytes) -> dict[str, Any]:
    """The JSON object of a header's text, whose values are not checked.

    Raises:
        HeaderError: the text is not a JSON object, or has a key twice.
    """
    try:
        header = json.loads(text.decode(), object_pairs_hook=reject_duplicate_keys, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise HeaderError(f"its header is not JSON ({error})") from None
    if not isinstance(header, dict):
        raise HeaderError("its header is not a JSON object")
    return header


def lay_out(tensors: Iterable[tuple[str, str, tuple[int, ...]]], begin: int = 0) -> dict[str, Place]:
    """Places of (name, dtype, shape), one after another, from `begin` on."""
    places = {}
    for name, dtype, shape in tensors:
        places[name] = Place(dtype, shape, begin)
        begin += places[name].size
    return places


def write_header(metadata: Mapping[str, str], places: Mapping[str, Place], room: int = 0) -> bytes:
    """The bytes of a file before its tensors, at least `room` of them; places count from their end.

    Raises:
        FormatError: the header would be larger than readers accept.
    """
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    for name, place in places.items():
        offsets = place.begin, place.begin + place.size
        header[name] = {"dtype": place.dtype, "shape": place.shape, "data_offsets": offsets}
    text = json.dumps(header, separators=(",", ":")).encode()
    text = text.ljust(max(room - 8, len(text) + -len(text) % 8))
    if len(text) > MAX_HEADER_BYTES:
        raise FormatError(f"a header of {len(text)} bytes is more than safetensors allows; divide the checkpoint")
    return struct.pack("<Q", len(text)) + text


def read_span(file: IO[bytes], path: Path, begin: int, size: int) -> bytes:
    """`size` bytes of a file, from `begin` on.

    Raises:
        TruncatedError: the file has become shorter.
    """
    file.seek(begin)
    data = file.read(size)
    if len(data) != size:
        raise TruncatedError(
            f"{path}: ends at byte {begin + len(data)}, amid a tensor; get it again", begin + len(data)
        )
    return data


def reject_duplicate_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The pairs of a JSON object as a dictionary: the `object_pairs_hook` of `json.loads`.

    Raises:
        ValueError: a key occurs twice.
    """
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key twice")
    return found


def is_shape(value: Any) -> bool:
    """Whether a JSON value is a list of sizes whose product, zeros left out, is below `MAX_COUNT`."""
    return _are_sizes(value) and prod(n or 1 for n in value) < MAX_COUNT


def _is_unicode(string: str) -> bool:
    """Whether a string is one of UTF-8; JSON's escapes can also write half a surrogate pair."""
    try:
        string.encode()
    except UnicodeEncodeError:
        return False
    return True


def _are_sizes(value: Any) -> bool:
    if not isinstance(value, list) or len(value) > MAX_DIMENSIONS:
        return False
    return all(type(n) is int and 0 <= n < MAX_COUNT for n in value)


def _place(name: str, entry: Any, data: int) -> Place:
    shown = f"tensor {quoted(name)}"
    if not isinstance(entry, dict) or sorted(entry) != ["data_offsets", "dtype", "shape"]:
        raise HeaderError(f"{shown} lacks dtype, shape or data_offsets, or has more")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in BYTES:
        raise UnknownDtypeError(f"{shown} has dtype {quoted(dtype, 20)}")
    if not is_shape(shape) or not _are_sizes(offsets) or len(offsets) != 2:
        raise HeaderError(f"{shown} has an impossible shape or impossible offsets")
    place = Place(dtype, tuple(shape), data + offsets[0])
    if offsets[1] - offsets[0] != place.size:
        raise HeaderError(f"{shown} has {offsets[1] - offsets[0]} bytes, not {place.size}")
    return place


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number")
