"""Folders of the published code: written here by the layout of docs/torus.md, read back, and damaged in every way."""

from __future__ import annotations

import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from click.testing import CliRunner

import kolmo
from kolmo.cli import group
from kolmo.errors import CorruptError, FormatError, KolmoError
from kolmo.safetensors import read_header
from kolmo.weights.sources.hyper_compression import CHUNK, PublishedFolder, is_published

Array = npt.NDArray[Any]
WEIGHTS = (np.random.default_rng(5).standard_normal((33, 3, 3)) * 0.04).astype(np.float32)
FEW = np.arange(3, dtype=np.float32)


def points_of(points: int, side: float) -> Array:
    """The published line and its centre, one step after another, relative to the lower left corner."""
    rows = int(np.ceil(np.sqrt(points)))
    found = [(side / 2, side / 2)]
    for k in range(points):
        row, column = k % rows, k // rows
        y = row * side / rows
        if points == 225 and k and row == 0:
            y = side  # its step is a little too short: the lowest row is reached from below
        found.append((column * side / rows + row * side / rows**2, y))
    return np.array(found)


def bits_of(indices: list[int], width: int) -> tuple[str, bytes]:
    """BITS_ZEROS of a file's name, and its bytes."""
    text = "".join(format(index, f"0{width}b") for index in indices)
    zeros = -len(text) % 8
    text = "0" * zeros + text
    return f"{width}_{zeros}", bytes(int(text[at : at + 8], 2) for at in range(0, len(text), 8))


Entry = tuple[tuple[int, ...], list[int], int, int, tuple[float, float], tuple[float, float]]


def write(root: Path, sizes: list[int], entries: list[Entry | Array]) -> Path:
    """A folder; an entry is (shape, indices, which size, C, centre, farthest pair), or the array of a raw parameter."""
    inner = root / "Compressed_Dir"
    inner.mkdir(parents=True)
    (inner / "num_inner_list.bin").write_bytes(struct.pack(f"<{len(sizes)}Q", *sizes))
    lists: dict[str, bytes] = dict.fromkeys(("if_padding", "num_inner_index", "class_list"), b"")
    lists |= dict.fromkeys(("center_node_list", "farthest_node_list"), b"")
    for number, entry in enumerate(entries):
        if isinstance(entry, np.ndarray):
            shape, choice, rings, centre, farthest, padding = entry.shape, 0, 0, (0.0, 0.0), (0.0, 0.0), 0
            ends, data = "0_0", entry.astype("<f4").tobytes()
        else:
            shape, indices, choice, rings, centre, farthest = entry
            padding = int(np.prod(shape)) % 2
            ends, data = bits_of(indices, max(1, max(indices).bit_length()))
        (inner / "_".join([*map(str, (number, *shape)), f"{ends}.bin"])).write_bytes(data)
        for name, more in (("if_padding", padding), ("num_inner_index", choice), ("class_list", rings)):
            lists[name] += bytes([more])
        lists["center_node_list"] += struct.pack("<2f", *centre)
        lists["farthest_node_list"] += struct.pack("<2f", *farthest)
    for name, data in lists.items():
        (inner / f"{name}.bin").write_bytes(data)
    return root


def encoded(weights: Array, points: int, side: float, rings: int) -> tuple[list[int], tuple[float, ...]]:
    """Indices by a search over all points, with centre and farthest pair: as published, in plain steps."""
    flat = np.append(weights.reshape(-1), [weights.mean()] * (weights.size % 2)).astype(np.float64).reshape(-1, 2)
    centre = flat.mean(0).astype(np.float32).astype(np.float64)
    distances = np.hypot(*(flat - centre).T)
    farthest = flat[distances.argmax()].astype(np.float32)
    half, far = side / 2, float(np.hypot(*(farthest.astype(np.float64) - centre)))
    found = []
    for pair, distance in zip(flat - centre, distances, strict=True):
        ring = 0
        if rings and np.abs(pair).max() > half:
            ring = next((c for c in range(1, rings) if distance <= half + c * (far - half) / rings), rings)
        drawn = pair * half / (half + ring * (far - half) / max(rings, 1))
        nearest = int(np.square(points_of(points, side) - half - drawn).sum(1).argmin())
        found.append(nearest + ring * (points + 1))
    return found, (*map(float, centre), *map(float, farthest))


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    entries: list[Entry | Array] = []
    for choice, points in ((0, 225), (1, 1600)):
        indices, (a, b, c, d) = encoded(WEIGHTS, points, 0.1, 3)
        entries.append((WEIGHTS.shape, indices, choice, 3, (a, b), (c, d)))
    return write(tmp_path_factory.mktemp("published") / "UNet_l_01", [225, 1600], [*entries, FEW, np.array(7.5)])


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / original.name))


def test_the_published_points_are_read(folder: Path) -> None:
    """Within the error of each codebook: with exact points, the pairs on the upper edge would be a side away."""
    found = PublishedFolder(folder)
    assert found.packed_size == sum(path.stat().st_size for path in (folder / "Compressed_Dir").iterdir())
    assert [one.shape for one in found.parameters] == [(33, 3, 3), (33, 3, 3), (3,), ()]
    coarse, fine = (np.abs(found.read(number) - WEIGHTS) for number in (0, 1))
    assert 0.001 < coarse.mean() < 0.005
    assert 0.0005 < fine.mean() < 0.002
    assert coarse.max() < 0.02
    assert (found.read(2) == FEW).all()
    assert found.read(3) == 7.5


def test_by_hand(tmp_path: Path) -> None:
    """The case of docs/torus.md, "By hand"; its side is an argument, where the name has none."""
    indices = [1, 4, 2, 4, 2 + 5, 4 + 5]
    write(tmp_path / "m", [4], [((4, 3), indices, 0, 1, (0.0, 0.0), (-1.5, 0.0))])
    assert (tmp_path / "m" / "Compressed_Dir" / "0_4_3_4_0.bin").read_bytes() == bytes([0x14, 0x24, 0x79])
    found = PublishedFolder(tmp_path / "m", side=1.0).read(0).reshape(-1, 2)
    wanted = [(-0.5, -0.5), (0.25, 0), (-0.25, 0), (0.25, 0), (-0.75, 0), (0.75, 0)]
    assert np.allclose(found, wanted, atol=1e-7)
    with pytest.raises(FormatError, match="does not end in the side"):
        PublishedFolder(tmp_path / "m")


def test_the_lowest_row_of_225_points_lies_above(tmp_path: Path) -> None:
    entry: Entry = ((10,), [16, 31, 1, 15, 17], 0, 0, (0.0, 0.0), (0.0, 0.0))
    found = PublishedFolder(write(tmp_path / "m_l_01", [225], [entry])).read(0).reshape(-1, 2)
    cell = 0.1 / 15
    assert np.allclose(found[:, 0] + 0.05, [cell, 2 * cell, 0, 14 / 15 * cell, (1 + 1 / 15) * cell], atol=1e-8)
    assert np.allclose(found[:, 1] + 0.05, [0.1, 0.1, 0, 14 * cell, cell], atol=1e-8)


def test_more_than_a_chunk(tmp_path: Path) -> None:
    """Indices at any bit of a byte, over the border of chunks."""
    count = 2 * CHUNK + 3
    indices = [int(k) for k in np.random.default_rng(1).integers(0, 226, count)]
    indices[0] = 225  # eight bits would need no lead
    indices[1] = 226 + 40  # nine
    entry: Entry = ((count, 2), indices, 0, 1, (0.0, 0.0), (0.1, 0.0))
    found = PublishedFolder(write(tmp_path / "m_l_01", [225], [entry])).read(0)
    places = points_of(225, 0.1) - 0.05
    wanted = places[np.array(indices) % 226] * np.where(np.array(indices) > 225, 2, 1)[:, None]
    assert np.allclose(found, wanted, atol=1e-7)


@pytest.mark.parametrize("inner", ["", "Compressed_Dir"])
def test_expand(folder: Path, tmp_path: Path, inner: str) -> None:
    assert is_published(folder / inner)
    assert not is_published(tmp_path)
    result = CliRunner().invoke(group, ["expand", str(folder / inner), "-o", str(tmp_path / "out.safetensors")])
    assert result.exit_code == 0, result.output
    places = read_header(tmp_path / "out.safetensors").places
    assert {name: (one.dtype, one.shape) for name, one in places.items()} == {
        "parameter.0": ("F32", (33, 3, 3)),
        "parameter.1": ("F32", (33, 3, 3)),
        "parameter.2": ("F32", (3,)),
        "parameter.3": ("F32", ()),
    }
    data, found = (tmp_path / "out.safetensors").read_bytes(), PublishedFolder(folder)
    for number, place in enumerate(places.values()):
        assert data[place.begin : place.begin + place.size] == found.read(number).tobytes()
    with pytest.raises(KolmoError, match="has no bases"):
        kolmo.expand(folder, tmp_path / "other", base=True)


def test_names(folder: Path) -> None:
    found = PublishedFolder(folder)
    arrays = found.arrays(["a", "b", "c", "d"])
    assert [*arrays] == ["a", "b", "c", "d"]
    assert (arrays["b"] == found.read(1)).all()
    with pytest.raises(FormatError, match="has 4 parameters, not 2"):
        found.arrays(["a", "b"])


@pytest.mark.parametrize(("name", "side"), [("m_l_01", 0.1), ("a_b_l_08", 0.8), ("m_l_0025", 0.025), ("m_l_125", 1.25)])
def test_the_side_by_the_name(tmp_path: Path, name: str, side: float) -> None:
    entry: Entry = ((10,), [1, 2, 1, 1, 1], 0, 0, (0.0, 0.0), (0.0, 0.0))
    found = PublishedFolder(write(tmp_path / name, [4], [entry])).read(0)
    assert np.allclose(found[:4], [-side / 2, -side / 2, -side / 4, 0], atol=1e-7)


def edit(name: str, change: Callable[[bytes], bytes]) -> Callable[[Path], object]:
    return lambda inner: (inner / name).write_bytes(change((inner / name).read_bytes()))


def rename(old: str, new: str) -> Callable[[Path], object]:
    return lambda inner: (inner / old).rename(inner / new)


def remove(name: str) -> Callable[[Path], object]:
    return lambda inner: (inner / name).unlink()


FIRST = "0_33_3_3_10_6.bin"
DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    **{
        f"no {name}": (remove(f"{name}.bin"), f"{name}.bin: is missing")
        for name in (
            "if_padding",
            "num_inner_index",
            "class_list",
            "center_node_list",
            "farthest_node_list",
            "num_inner_list",
        )
    },
    **{
        f"short {name}": (edit(f"{name}.bin", lambda data: data[:-1]), f"{name}.bin: does not have")
        for name in ("if_padding", "num_inner_index", "class_list", "center_node_list", "farthest_node_list")
    },
    "long list": (edit("class_list.bin", lambda data: data + b"\0"), "class_list.bin: does not have the 4 bytes"),
    "short sizes": (edit("num_inner_list.bin", lambda data: data[:-1]), "has 15 bytes"),
    "no sizes": (edit("num_inner_list.bin", lambda data: b""), "has 0 bytes"),
    "size of zero": (edit("num_inner_list.bin", lambda data: bytes(16)), "is not 1 to"),
    "huge size": (edit("num_inner_list.bin", lambda data: b"\xff" * 16), "is not 1 to"),
    "no parameter": (remove("2_3_0_0.bin"), "has no parameter 2"),
    "short parameter": (edit(FIRST, lambda data: data[:-1]), "is not a file of 187 bytes"),
    "a huge shape": (rename(FIRST, f"0_{10**17}_10_0.bin"), "is not a file of"),
    "an impossible shape": (rename(FIRST, f"0_{10**17}_{10**17}_10_6.bin"), "is not named"),
    "many dimensions": (rename(FIRST, f"0{'_1' * 40}_10_6.bin"), "is not named"),
    "wide": (rename(FIRST, "0_33_3_3_40_0.bin"), "cannot have 40 bits"),
    "wrong lead": (rename(FIRST, "0_33_3_3_10_3.bin"), "behind 3 zeros"),
    "nonsense": (rename(FIRST, "0_33_x.bin"), "is not named"),
    "twice": (lambda inner: shutil.copy(inner / FIRST, inner / f"0{FIRST}"), "is parameter 0, as"),
    "a folder": (lambda inner: (inner / "4_3_0_0.bin").mkdir(), "is not a file"),
    "a pipe": (lambda inner: os.mkfifo(inner / "4_3_0_0.bin"), "is not a file"),
    "bits before the first": (edit(FIRST, lambda data: b"\xff" + data[1:]), "before its first index"),
    "index too large": (edit(FIRST, lambda data: data[:50] + b"\xff" * 4 + data[54:]), "an index 1023, not below 904"),
    "no such codebook": (edit("num_inner_index.bin", lambda data: b"\2" + data[1:]), "has codebook 2"),
    "padding": (edit("if_padding.bin", lambda data: b"\0" + data[1:]), "and padding 0"),
    "no rings": (edit("class_list.bin", lambda data: b"\0" + data[1:]), "not below 226"),
    "near": (edit("farthest_node_list.bin", lambda data: bytes(len(data))), "a farthest pair at distance"),
    "not a number": (edit("center_node_list.bin", lambda data: b"\xff" * len(data)), "at distance nan"),
}


@pytest.mark.parametrize(("damage", "message"), DAMAGE.values(), ids=DAMAGE.keys())
def test_damage_is_told_in_a_line(folder: Path, damage: Callable[[Path], object], message: str) -> None:
    damage(folder / "Compressed_Dir")
    with pytest.raises(CorruptError, match=r"Compressed_Dir.*; get the whole folder again") as caught:
        kolmo.expand(folder, folder.parent / "out")
    assert message in str(caught.value)
    assert not (folder.parent / "out").exists()


def test_other_files_are_left_aside(folder: Path) -> None:
    (folder / "Compressed_Dir" / ".DS_Store").write_bytes(b"x")
    (folder / "Back_Params.pth").write_bytes(b"x")
    assert len(PublishedFolder(folder).parameters) == 4
