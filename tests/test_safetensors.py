"""The safetensors reader and writer against the `safetensors` library: valid files both ways, and hostile headers."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from kolmo.errors import KolmoError
from kolmo.safetensors import (
    BYTES,
    MAX_DIMENSIONS,
    HeaderError,
    Kind,
    NotSafetensorsError,
    Place,
    header_length,
    lay_out,
    parse_header,
    read_header,
    read_span,
    write_header,
)

library = pytest.importorskip("safetensors")

NAMES = st.text(st.characters(codec="utf-8"), max_size=12).filter(lambda name: name != "__metadata__")
KINDS = st.builds(Kind, st.sampled_from(sorted(BYTES)), st.lists(st.integers(0, 4), max_size=4).map(tuple))
FILES = st.dictionaries(NAMES, KINDS, max_size=6)
METADATA = st.dictionaries(NAMES, NAMES, max_size=3)

# What the library accepts and we refuse, with the words of our refusal; the module's docstring says why.
STRICTER = (
    "a key twice",
    "lacks dtype, shape or data_offsets, or has more",
    "has dtype",
    "has an impossible shape",
    "metadata are not",
)


def content(kinds: dict[str, Kind]) -> bytes:
    return bytes(i % 251 for i in range(sum(kind.size for kind in kinds.values())))


@given(FILES, METADATA)
def test_the_library_reads_what_we_write(kinds: dict[str, Kind], metadata: dict[str, str]) -> None:
    places = lay_out((name, kind.dtype, kind.shape) for name, kind in kinds.items())
    data = content(kinds)
    found = dict(library.deserialize(write_header(metadata, places) + data))
    assert set(found) == set(kinds)
    for name, place in places.items():
        assert (found[name]["dtype"], tuple(found[name]["shape"])) == (place.dtype, place.shape)
        assert bytes(found[name]["data"]) == data[place.begin : place.begin + place.size]


LIBRARY_DTYPES = {"BOOL": "bool", "U8": "uint8", "I16": "int16", "F16": "float16", "F32": "float32", "I64": "int64"}
WRITTEN = st.builds(Kind, st.sampled_from(sorted(LIBRARY_DTYPES)), st.lists(st.integers(0, 4), max_size=4).map(tuple))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(NAMES, WRITTEN, max_size=6), METADATA)
def test_we_read_what_the_library_writes(tmp_path: Path, kinds: dict[str, Kind], metadata: dict[str, str]) -> None:
    numpy = pytest.importorskip("numpy")
    from safetensors.numpy import save

    arrays = {
        name: numpy.arange(kind.count).reshape(kind.shape).astype(LIBRARY_DTYPES[kind.dtype])
        for name, kind in kinds.items()
    }
    path = tmp_path / "written"
    path.write_bytes(save(arrays, metadata or None))
    header = read_header(path)
    assert header.metadata == metadata
    assert {name: Kind(place.dtype, place.shape) for name, place in header.places.items()} == kinds
    with open(path, "rb") as file:
        for name, place in header.places.items():
            assert read_span(file, path, place.begin, place.size) == arrays[name].tobytes()


def ours(data: bytes) -> str | None:
    """Our refusal of a file, or None."""
    length = header_length(data[:8])
    if length is None or length > len(data) - 8:
        return "length"
    try:
        parse_header(data[8 : 8 + length], len(data))
    except HeaderError as error:
        return str(error)
    return None


def theirs(data: bytes) -> str | None:
    """The library's refusal of a file, or None."""
    try:
        library.deserialize(data)
    except library.SafetensorError as error:
        return str(error)
    return None


def agree(data: bytes) -> None:
    """What we accept the library accepts; what we alone refuse is in `STRICTER`."""
    mine, other = ours(data), theirs(data)
    if mine is None:
        assert other is None, f"only the library refuses: {other}"
    elif other is None:
        assert any(words in mine for words in STRICTER), f"only we refuse: {mine}"


ENTRY: dict[str, Any] = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
HOSTILE = {
    "sound": ({"a": ENTRY}, 8),
    "nothing": ({}, 0),
    "gap": ({"a": {**ENTRY, "data_offsets": [4, 12]}}, 12),
    "overlap": ({"a": ENTRY, "b": {**ENTRY, "data_offsets": [4, 12]}}, 12),
    "aliases": ({"a": ENTRY, "b": ENTRY}, 8),
    "empty tensors": ({"a": ENTRY, **{n: {**ENTRY, "shape": [0], "data_offsets": [8, 8]} for n in "bc"}}, 8),
    "an empty tensor within another": ({"a": ENTRY, "b": {**ENTRY, "shape": [0], "data_offsets": [4, 4]}}, 8),
    "bytes after": ({"a": ENTRY}, 9),
    "bytes missing": ({"a": ENTRY}, 7),
    "offsets backwards": ({"a": {**ENTRY, "data_offsets": [8, 0]}}, 8),
    "wrong size": ({"a": {**ENTRY, "shape": [3]}}, 8),
    "negative": ({"a": {**ENTRY, "shape": [-2]}}, 8),
    "fraction": ({"a": {**ENTRY, "shape": [2.0]}}, 8),
    "true": ({"a": {**ENTRY, "shape": [True, 2]}}, 8),
    "overflow": ({"a": {**ENTRY, "shape": [1 << 32, 1 << 32, 2]}}, 8),
    "overflow with a zero": ({"a": {**ENTRY, "shape": [1 << 40, 1 << 40, 0], "data_offsets": [0, 0]}}, 0),
    "more than 64 bits": ({"a": {**ENTRY, "shape": [1 << 70]}}, 8),
    "dimensions": ({"a": {**ENTRY, "shape": [*[1] * MAX_DIMENSIONS, 2]}}, 8),
    "unknown dtype": ({"a": {**ENTRY, "dtype": "F128"}}, 8),
    "half a byte": ({"a": {**ENTRY, "dtype": "F4", "shape": [16]}}, 8),
    "more fields": ({"a": {**ENTRY, "more": 1}}, 8),
    "fewer fields": ({"a": {"dtype": "F32", "shape": [2]}}, 8),
    "three offsets": ({"a": {**ENTRY, "data_offsets": [0, 4, 8]}}, 8),
    "no object": ({"a": [1]}, 8),
    "metadata of numbers": ({"__metadata__": {"n": 1}}, 0),
    "metadata is a list": ({"__metadata__": []}, 0),
    "metadata is null": ({"__metadata__": None}, 0),
    "a surrogate": ({"\ud800": ENTRY}, 8),
}


@pytest.mark.parametrize(("header", "size"), HOSTILE.values(), ids=HOSTILE)
def test_hostile_headers(header: Any, size: int) -> None:
    text = json.dumps(header).encode()
    agree(struct.pack("<Q", len(text)) + text + bytes(size))


@pytest.mark.parametrize(
    "text",
    [
        b'{"a":1,"a":1}',
        b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}',
        b'{"__metadata__":{"a":"1","a":"2"}}',
        b"{}x",
        b" {}",
        b"{}  \n ",
        b"[]",
        b"{",
        b'{"a":NaN}',
        b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"a":' + b"9" * 10_000 + b"}",
        b'{"\xff":1}',
        b'\xef\xbb\xbf{"a":1}',
    ],
    ids=lambda text: repr(text[:24]),
)
def test_hostile_texts(text: bytes) -> None:
    for size in (0, 8):
        agree(struct.pack("<Q", len(text)) + text + bytes(size))


@given(st.data())
@example(None)
def test_damaged_files(data: st.DataObject | None) -> None:
    kinds = {"a": Kind("F32", (2, 3)), "b": Kind("BF16", (5,)), "c": Kind("U8", ())}
    whole = bytearray(write_header({"k": "v"}, lay_out((n, k.dtype, k.shape) for n, k in kinds.items())))
    whole += content(kinds)
    if data is None:
        assert ours(bytes(whole)) is None
    else:
        for _ in range(data.draw(st.integers(1, 3))):
            whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
        del whole[data.draw(st.integers(0, len(whole))) :]
    agree(bytes(whole))


def test_errors_name_the_file_and_the_remedy(tmp_path: Path) -> None:
    path = tmp_path / "x"
    for data, kind, words in (
        (b"", NotSafetensorsError, "is not a safetensors file; name another"),
        (struct.pack("<Q", 1 << 60), NotSafetensorsError, "is not a safetensors file; name another"),
        (struct.pack("<Q", 100) + b"{}", KolmoError, "ends within its header, of 100 bytes; get it again"),
        (write_header({}, {"a": Place("F32", (2,), 0)}), KolmoError, "its tensors at .*; get it again"),
        (write_header({}, {}) + b"x", KolmoError, "is damaged: its tensors end at byte 16, the file at 17; get it"),
    ):
        path.write_bytes(data)
        with pytest.raises(kind, match=f"^{path}: .*{words}"):
            read_header(path)
