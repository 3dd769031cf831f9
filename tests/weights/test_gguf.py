"""GGUF files without a loss: C against its specification, every type, whole files, hostile input."""

from __future__ import annotations

import hashlib
import importlib
import json
import struct
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import numpy as np
import pytest
from click.testing import CliRunner

import kolmo
from helpers.gguf_bytes import bytes_of, small_file
from helpers.implementations import IMPLEMENTATIONS, NATIVE
from kolmo.cli import group
from kolmo.errors import CorruptError, FormatError, KolmoError, TruncatedError
from kolmo.native import reference
from kolmo.native.dispatch import SLOW
from kolmo.weights.gguf import coding, file, layout
from kolmo.weights.gguf.coding import Part
from kolmo.weights.gguf.fields import TYPES, WEIGHTS

DRAW = np.random.default_rng(0)
FUZZ = Path(__file__).resolve().parents[2] / "fuzz"


def arguments(bits: int, count: int, is_weights: bool) -> tuple[int, int, int, bytes, bytes, bytes, bytes]:
    """Arguments of the kernels before the symbols."""
    if not is_weights:
        return bits, 100, 8, bytes_of(count), b"", b"", b""
    groups = -(-count // 32)
    steps = DRAW.integers(-1000, 1 << 20, groups)
    steps[:2] = 0, (1 << 50) - 1
    offsets = DRAW.integers(-1000, 1 << 22, groups)
    values = np.arange(-3, (1 << bits) - 3).astype(np.int16)
    return bits, 100, 32, b"", steps.tobytes(), offsets.tobytes(), values.tobytes()


@pytest.mark.skipif(NATIVE is None, reason="the C kernels were not built")
@pytest.mark.parametrize("bits", [1, 4, 5, 8])
@pytest.mark.parametrize("is_weights", [False, True])
def test_c_equals_the_reference(bits: int, is_weights: bool) -> None:
    assert NATIVE is not None
    fixed = arguments(bits, 700, is_weights)
    symbols = np.minimum(DRAW.geometric(0.2, 700) - 1, (1 << bits) - 1).astype(np.uint8).tobytes()
    code = NATIVE.quants_encode(*fixed, symbols)
    assert code == reference.quants_encode(*fixed, symbols)
    for kernels in (NATIVE, reference):
        assert kernels.quants_decode(*fixed, code, 700) == symbols


@pytest.mark.parametrize("kernels", IMPLEMENTATIONS)
def test_what_the_kernels_refuse(kernels: ModuleType) -> None:
    fixed = arguments(4, 64, True)
    plain = arguments(4, 64, False)
    code = kernels.quants_encode(*fixed, bytes(64))
    large = np.array([1 << 50, 0], np.int64).tobytes()
    refused: list[tuple[Any, ...]] = [
        (0, *fixed[1:]),
        (9, *fixed[1:]),
        (4, 0, *fixed[2:]),
        (4, 100, 0, *fixed[3:]),
        (*fixed[:3], bytes(64), *fixed[4:]),
        (*fixed[:4], fixed[4][:8], *fixed[5:]),
        (*fixed[:4], large, *fixed[5:]),
        (*fixed[:6], fixed[6][:-2]),
        (*fixed[:6], np.full(16, 257, np.int16).tobytes()),
        (*plain[:3], bytes(63), *plain[4:]),
        (*plain[:6], bytes(32)),
    ]
    for wrong in refused:
        with pytest.raises(ValueError, match="do not fit"):
            kernels.quants_encode(*wrong, bytes(64))
        with pytest.raises(ValueError, match="do not fit"):
            kernels.quants_decode(*wrong, code, 64)
    with pytest.raises(ValueError, match="do not fit"):
        kernels.quants_encode(*fixed, b"\x10" * 64)
    code = kernels.quants_encode(*fixed, bytes(range(16)) * 4)
    for other in (code[:8], code + b"\1" * 9):
        with pytest.raises(CorruptError, match="not of this length"):
            kernels.quants_decode(*fixed, other, 64)


@pytest.mark.parametrize("kind", TYPES)
def test_every_bit_of_a_block_is_in_one_field(kind: int) -> None:
    block = TYPES[kind]
    met = np.zeros((block.size, 8), int)
    for one in block.fields:
        for piece in one.pieces:
            for at, shift in zip(piece.bytes, piece.shifts, strict=True):
                met[at, shift : shift + piece.width] += 1
    assert (met == 1).all()
    assert [one.count for one in block.fields if one.name == WEIGHTS] == [block.weights] * (block.scales is not None)
    data = bytes_of(4 * block.size)
    part = Part(0, kind, 2 * block.weights, len(data))
    assert part.is_possible
    for given in (data, bytes(len(data))):
        code = coding.encode(part, given)
        assert coding.decode(Part(0, kind, part.columns, part.size, len(code)), code) == given
    assert len(code) < len(data)  # zeros


@pytest.mark.parametrize(("kind", "name"), [(2, "Q4_0"), (3, "Q4_1"), (6, "Q5_0"), (7, "Q5_1"), (8, "Q8_0")])
def test_fields_are_those_of_the_gguf_package(kind: int, name: str) -> None:
    quants = pytest.importorskip("gguf.quants")
    weights = DRAW.standard_normal((3, 64)).astype(np.float32)
    data = quants.quantize(weights, quants.GGMLQuantizationType[name])
    blocks, block = np.ascontiguousarray(data).reshape(-1, TYPES[kind].size), TYPES[kind]
    symbols = {one.name: one.unpack(blocks) for one in block.fields}
    assert block.scales is not None
    steps, offsets = block.scales(symbols)
    found = (np.array(block.values)[symbols[WEIGHTS]] * steps - offsets) / 2.0**24
    assert np.allclose(found.reshape(3, 64), quants.dequantize(data, quants.GGMLQuantizationType[name]), atol=1e-6)


@pytest.mark.parametrize("kind", [10, 11, 12, 13, 14, 20, 23, 39])
def test_steps_are_those_of_the_gguf_package(kind: int) -> None:
    quants = pytest.importorskip("gguf.quants")
    block = TYPES[kind]
    blocks = DRAW.integers(0, 256, (8, block.size)).astype(np.uint8)
    for one in block.fields:  # finite scales
        if one.name.endswith("high"):
            blocks[:, one.pieces[0].bytes] = DRAW.integers(0x20, 0x30, (8, 1))
        if one.name == "e":
            blocks[:, 0] = DRAW.integers(100, 130, 8)
    symbols = {one.name: one.unpack(blocks) for one in block.fields}
    assert block.scales is not None
    steps, offsets = block.scales(symbols)
    values = np.array(block.values)[symbols[WEIGHTS]].reshape(8, -1, block.group)
    found = values * steps[:, :, None] - offsets[:, :, None]
    wanted = quants.dequantize(blocks, quants.GGMLQuantizationType(kind)).reshape(found.shape)
    assert np.corrcoef(found.ravel(), wanted.ravel())[0, 1] > 0.999999


@pytest.fixture
def made(tmp_path: Path) -> Path:
    (tmp_path / "m.gguf").write_bytes(small_file())
    return tmp_path / "m.gguf"


def test_files(made: Path) -> None:
    small, again = made.with_name("small"), made.with_name("again")
    shrunk = file.shrink(made, small, threads=2)
    assert set(shrunk.by_type()) == {"Q8_0", "F32", "Q4_K", "F16", "rest"}
    assert file.open_shrunk(small) == shrunk
    assert shrunk.packed_size == small.stat().st_size
    assert kolmo.expand(small, again) == made.stat().st_size
    assert again.read_bytes() == made.read_bytes()
    assert shrunk.by_type()["F16"][1:] == (4096, 4096)  # stored
    with pytest.raises(KolmoError, match="exists"):
        file.expand(small, again)
    with pytest.raises(KolmoError, match="same file"):
        file.shrink(made, made, force=True)
    with pytest.raises(KolmoError, match="read whole"):
        kolmo.load(small)
    with pytest.raises(KolmoError, match="no bases"):
        kolmo.expand(small, again, base=True)


def test_in_python(made: Path) -> None:
    small, again = made.with_name("small"), made.with_name("again")
    report = kolmo.shrink(made, small, kolmo.Lossless())
    assert kolmo.expand(small, again) == report.raw_size == made.stat().st_size
    assert again.read_bytes() == made.read_bytes()
    assert report.lossless
    assert (report.size, report.content) == (small.stat().st_size, hashlib.sha256(made.read_bytes()).hexdigest())
    assert {one.name: (one.kind, one.count) for one in report.tensors}["Q4_K"] == ("coded", 256 * 40)
    assert report.coded.count == 64 * 80 + 64 * 24 + 256 * 40 + 64 * 32
    assert report.lines()[-1].endswith("lossless")
    with pytest.raises(KolmoError, match="exists"):
        kolmo.shrink(str(made), small, kolmo.Lossless())
    with pytest.raises(ValueError, match="byte by byte"):
        kolmo.shrink(made, again, kolmo.Lossless(), selection=kolmo.Selection("f32"))
    with pytest.raises(KolmoError, match="shrink it without a loss"):
        kolmo.shrink(made, again)


def test_a_source_that_changes(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encode = coding.encode

    def changed(part: Part, data: bytes) -> bytes:
        return encode(part, bytes([data[0] ^ 1]) + data[1:])

    monkeypatch.setattr(coding, "encode", changed)
    with pytest.raises(KolmoError, match="changed while it was read"):
        file.shrink(made, made.with_name("small"))
    assert not made.with_name("small").exists()


def test_rows_in_parts(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coding, "PART_WEIGHTS", 64 * 7)
    monkeypatch.setattr(layout, "PART_WEIGHTS", 64 * 7)
    shrunk = file.shrink(made, made.with_name("small"))
    assert [one.size for one in shrunk.parts if one.kind == 8] == [7 * 68] * 11 + [3 * 68]
    file.expand(shrunk.path, made.with_name("again"))
    assert made.with_name("again").read_bytes() == made.read_bytes()


def test_commands(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*given: str) -> Any:
        return CliRunner().invoke(group, list(given), standalone_mode=False)

    monkeypatch.chdir(made.parent)
    assert run("shrink", "m.gguf", "-o", "s", "--lossless").return_value == 0
    assert run("expand", "s", "-o", "back.gguf").return_value == 0
    assert Path("back.gguf").read_bytes() == made.read_bytes()
    assert "SHA-256" in run("info", "s").output
    assert json.loads(run("info", "s", "--json").output)["types"]["Q4_K"]["size"] == 144 * 40
    assert isinstance(run("shrink", "m.gguf", "-o", "t", "--lossless", "--exact", "*").exception, click.UsageError)
    lossy = run("shrink", "m.gguf", "-o", "t")
    assert lossy.return_value == 1
    assert "shrink it without a loss" in lossy.output


def test_hostile_headers(tmp_path: Path) -> None:
    good, path = small_file(), tmp_path / "m"
    count = struct.pack("<Q", 1 << 60)
    kind = good.index(b"tokens") + 6
    offset = good.index(b"embed") + 5 + 4 + 16 + 4
    hostile: list[tuple[bytes, type[KolmoError], str]] = [
        (good[:3], TruncatedError, "within its header"),
        (b"GGML" + good[4:], FormatError, "not a GGUF"),
        (good[:4] + b"\0\0\0\3" + good[8:], FormatError, "byte order"),
        (good[:8] + count + good[16:], FormatError, "within its header|dimensions"),
        (good[:16] + count + good[24:], KolmoError, "within its header|not known"),
        (good[:24] + count + good[32:], TruncatedError, "within its header"),
        (good[: kind + 8] + count + good[kind + 16 :], TruncatedError, "within its header"),
        (good[:kind] + b"\x63" + good[kind + 1 :], FormatError, "type 99"),
        (good[:offset] + count + good[offset + 8 :], TruncatedError, "before its last tensor"),
        (good[: len(good) - 20000], TruncatedError, "before its last tensor"),
        (good.replace(struct.pack("<II", 4, 64), struct.pack("<II", 4, 65)), FormatError, "alignment"),
    ]
    for data, error, message in hostile:
        path.write_bytes(data)
        with open(path, "rb") as opened, pytest.raises(error, match=message):
            layout.read_layout(opened, "m")
        with pytest.raises(error):
            file.shrink(path, tmp_path / "s")
    assert not (tmp_path / "s").exists()
    overlapping = good[:offset] + struct.pack("<Q", 0) + good[offset + 8 :]  # of a small tensor, which is in no part
    path.write_bytes(overlapping)
    file.shrink(path, tmp_path / "s")
    file.expand(tmp_path / "s", tmp_path / "t")
    assert (tmp_path / "t").read_bytes() == overlapping


def changed(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    record = json.loads(header["__metadata__"][file.KEY])
    change(record)
    header["__metadata__"][file.KEY] = json.dumps(record)
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + length :])


@pytest.mark.parametrize(
    "change",
    [
        lambda record: record.update(version=2),
        lambda record: record.update(version="1"),
        lambda record: record.update(more=1),
        lambda record: record.update(size=record["size"] + 1),
        lambda record: record.update(size=-1),
        lambda record: record.update(rest=[1, 2, 3]),
        lambda record: record["rest"].__setitem__(1, record["rest"][1] - 1),
        lambda record: record["parts"][0].__setitem__(0, 1 << 50),
        lambda record: record["parts"][0].__setitem__(1, 77),
        lambda record: record["parts"][0].__setitem__(2, 0),
        lambda record: record["parts"][0].__setitem__(2, 1 << 40),
        lambda record: record["parts"][0].__setitem__(3, 34),
        lambda record: record["parts"][0].__setitem__(4, 0),
        lambda record: record["parts"][0].append(0),
        lambda record: record["parts"].reverse(),
        lambda record: record.update(parts=7),
        lambda record: record.update(sha256="00"),
        lambda record: record["parts"][1].__setitem__(1, 24),
    ],
)
def test_hostile_records(made: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    small = made.with_name("small")
    file.shrink(made, small)
    changed(small, change)
    with pytest.raises(FormatError):
        file.expand(small, made.with_name("again"))
    assert not made.with_name("again").exists()


def test_flipped_bytes_are_noticed(made: Path) -> None:
    small = made.with_name("small")
    shrunk = file.shrink(made, small)
    data = bytearray(small.read_bytes())
    at = shrunk.codes + shrunk.rest[1]
    for place in (shrunk.codes + 60, at, at + 2000, at + shrunk.parts[0].stored + 3, len(data) - 1):
        data[place] ^= 4
        small.write_bytes(data)
        with pytest.raises(CorruptError):
            file.expand(small, made.with_name("again"))
        data[place] ^= 4
    kolmo.shrink({"a": np.zeros(4, np.float32)}, made.with_name("other"))
    with pytest.raises(FormatError, match="not a GGUF file that kolmo shrank"):
        file.open_shrunk(made.with_name("other"))


@pytest.mark.skipif(SLOW, reason="slow without the C kernels")
def test_the_fuzz_target_finds_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A few mutations of each seed, the same in every run, of several outcomes; what comes back otherwise is found."""
    monkeypatch.syspath_prepend(str(FUZZ))
    fuzzing, target = importlib.import_module("fuzzing"), importlib.import_module("gguf_files")
    target.seeds(tmp_path)
    monkeypatch.setattr(fuzzing, "MUTATIONS", 12)
    found = list(fuzzing.inputs([tmp_path]))
    assert len(found) == 26
    outcomes = {fuzzing.outcome(target.check, data) for _, data in found}
    assert len(outcomes) > 8  # what a search without atheris goes by
    monkeypatch.setattr(file, "expand", lambda source, path, **given: Path(path).write_bytes(b"other"))
    with pytest.raises(AssertionError, match="another file"):
        target.check(found[0][1])
