"""The files of the networks of pixels and of samples: what is written is read, and nothing else."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kolmo.errors import PredictorError
from kolmo.predictors.embedded import pixel_network, sample_network
from kolmo.predictors.embedded.layered_network import LayeredShape, LayeredWeights, NetworkFile

DTYPES = {"I8": "i1", "I16": "<i2", "I32": "<i4", "F32": "<f4"}


@dataclass(frozen=True)
class Case:
    """A kind of network.

    Attributes:
        file: its format.
        shape, weights: its classes.
        width: the name of its first size.
        wrong: a tensor, and bytes that it must not begin with.
    """

    file: NetworkFile[Any, Any]
    shape: type[Any]
    weights: type[LayeredWeights[Any]]
    width: str
    wrong: tuple[tuple[str, bytes], ...]

    def make(self, shape: LayeredShape, seed: int = 1, **more: Any) -> LayeredWeights[Any]:
        """A network of random weights."""
        rng, parts = np.random.default_rng(seed), []
        for place in shape.places().values():
            values = rng.normal(size=place.count) * (1e-3 if place.dtype == "F32" else 40)
            parts.append(np.clip(values, -127, 127).astype(DTYPES[place.dtype]).tobytes())
        return self.weights(shape, b"".join(parts), **more)


FLOATS = (("head_scale", struct.pack("<f", 2.0**21)), ("head_bias", b"\0\0\xc0\x7f"))
CASES = {
    "pixels": Case(
        pixel_network.FILE,
        pixel_network.PixelShape,
        pixel_network.PixelWeights,
        "hidden",
        (("first.red", b"\x80"), *FLOATS),
    ),
    "samples": Case(
        sample_network.FILE,
        sample_network.SampleShape,
        sample_network.SampleWeights,
        "width",
        (("functions", struct.pack("<i", -(1 << 20) - 1)), ("layer.0", b"\x80"), *FLOATS),
    ),
}
each_kind = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


@each_kind
def test_a_file_comes_back(case: Case, tmp_path: Path) -> None:
    (material,) = set(case.weights.patterns) - {"trained_bytes", "bits_per_byte"}
    about = {material: "a, b", "trained_bytes": "7", "bits_per_byte": "3.1"}
    weights = case.make(case.shape(128, 1), about=about)
    case.file.save(weights, tmp_path / "network.safetensors")
    found = case.file.load(tmp_path / "network.safetensors")
    assert found == weights
    assert found.about == about
    assert found.fingerprint == weights.fingerprint != case.make(case.shape(128, 1), 2).fingerprint
    assert case.file.load(case.file.dump(found)) == weights


def of_metadata(**changes: str) -> Callable[[dict[str, Any], Case], Any]:
    """A change of a header's metadata; `size` stands for the name of the first size."""

    def change(header: dict[str, Any], case: Case) -> None:
        header["__metadata__"].update({case.width if key == "size" else key: v for key, v in changes.items()})

    return change


HEADERS: dict[str, Callable[[dict[str, Any], Case], Any]] = {
    "format": of_metadata(format="kolmo-network"),
    "version": of_metadata(version="2"),
    "size": of_metadata(size="064"),
    "large": of_metadata(size="4096"),
    "other shape": of_metadata(size="128"),
    "layers": of_metadata(layers="9"),
    "more metadata": of_metadata(x="y"),
    "about": of_metadata(trained_bytes="-1"),
    "no metadata": lambda header, _: header.pop("__metadata__"),
    "strange tensor": lambda header, _: header.update(x=header.pop("head")),
    "dtype": lambda header, _: header["head"].update(dtype="U8"),
}
FILES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "short": lambda data: data[:-1],
    "long": lambda data: data + b"\0",
    "header": lambda _: b"\xff" * 16,
    "claim": lambda _: struct.pack("<Q", 1 << 60) + b"{}",
    "not JSON": lambda _: struct.pack("<Q", 2) + b"{]",
}


@each_kind
@pytest.mark.parametrize("name", [*HEADERS, *FILES])
def test_hostile_files_are_refused(case: Case, name: str, tmp_path: Path) -> None:
    data = case.file.dump(case.make(case.shape(64, 1)))
    if name in FILES:
        data = FILES[name](data)
    else:
        length = struct.unpack("<Q", data[:8])[0]
        header = json.loads(data[8 : 8 + length])
        HEADERS[name](header, case)
        text = json.dumps(header).encode()
        data = struct.pack("<Q", len(text)) + text + data[8 + length :]
    path = tmp_path / "network.safetensors"
    path.write_bytes(data)
    for source in (path, data):
        with pytest.raises(PredictorError, match="get it again"):
            case.file.load(source)


@each_kind
def test_values_out_of_their_range_are_refused(case: Case) -> None:
    shape = case.shape(64, 1)
    good, places = case.make(shape).weights, shape.places()
    for name, bad in case.wrong:
        at = places[name].begin
        with pytest.raises(PredictorError, match=f"tensor '{name}'"):
            case.weights(shape, good[:at] + bad + good[at + len(bad) :])


@each_kind
def test_files_that_are_none(case: Case, tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(PredictorError, match="kolmo train"):
            case.file.load(path)
