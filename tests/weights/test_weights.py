"""Shrunk checkpoints: round trips, sizes reached, exact tensors exact, damaged and hostile files, the commands."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import resource
import struct
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import IO, Any

import click
import numpy as np
import numpy.typing as npt
import pytest
from click.testing import CliRunner, Result
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import kolmo
from kolmo.cli import group
from kolmo.errors import CorruptError, FormatError, KolmoError, MissingExtraError
from kolmo.hyperfunctions import TrellisOptions
from kolmo.hyperfunctions.torus import Torus
from kolmo.native.dispatch import SLOW
from kolmo.safetensors import lay_out, read_header, read_span, write_header
from kolmo.targets import TargetExistsError
from kolmo.weights.format.groups import columns_of, is_coded
from kolmo.weights.format.reader import ShrunkFile
from kolmo.weights.sources.checkpoint import open_checkpoint
from kolmo.weights.sources.dtypes import from_floats, to_floats

Arrays = dict[str, npt.NDArray[Any]]
WAY: dict[str, Any] = {"hyperfunction": "torus"} if SLOW else {"goal": kolmo.Step(0.01)}  # one that is fast here
pytestmark = pytest.mark.filterwarnings("ignore::kolmo.errors.ShrinkWarning")  # of weights lost on purpose
kernels = pytest.mark.skipif(SLOW, reason="a trellis of so many weights takes minutes without the C kernels")


def model(scale: float = 0.05) -> Arrays:
    """A small network of every kind of tensor."""
    r = np.random.default_rng(1)
    return {
        "embed.weight": (r.standard_normal((96, 48)) * scale).astype(np.float16),
        "conv.weight": (r.standard_normal((24, 8, 3, 3)) * scale).astype(np.float32),
        "line.weight": (r.standard_normal((32, 16, 5)) * scale).astype(np.float32),
        "experts.up": (r.standard_normal((3, 20, 32)) * scale).astype(np.float64),
        "layer.0.weight": (r.standard_normal((64, 32)) * scale).astype(np.float32),
        "layer.0.bias": r.standard_normal((64, 32)).astype(np.float32),
        "norm.weight": r.standard_normal(2048).astype(np.float16),
        "tiny.weight": r.standard_normal((4, 4)).astype(np.float32),
        "position_ids": np.arange(2048).reshape(2, 1024),
        "flag": np.array(True),
        "empty": np.zeros((0, 5), np.float32),
        "broken.weight": np.full((40, 40), np.inf, np.float32),
    }


CODED = {"embed.weight", "conv.weight", "line.weight", "experts.up", "layer.0.weight"}


def write_safetensors(path: Path, tensors: dict[str, tuple[str, tuple[int, ...], bytes]]) -> None:
    places = lay_out((name, dtype, shape) for name, (dtype, shape, _) in tensors.items())
    path.write_bytes(write_header({"format": "pt"}, places) + b"".join(data for _, _, data in tensors.values()))


def plain(path: Path, arrays: Arrays) -> None:
    kinds = {"float16": "F16", "float32": "F32", "float64": "F64", "int64": "I64", "bool": "BOOL"}
    write_safetensors(path, {k: (kinds[v.dtype.name], v.shape, v.tobytes()) for k, v in arrays.items()})


@pytest.fixture
def shrunk(tmp_path: Path) -> Path:
    kolmo.shrink({**model(), "head.weight": model()["embed.weight"]}, tmp_path / "m", **WAY)
    return tmp_path / "m"


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(group, list(map(str, arguments)), standalone_mode=False)


def status_of(result: Result) -> int:
    if result.exception:
        assert isinstance(result.exception, click.UsageError)
        return result.exception.exit_code
    assert isinstance(result.return_value, int)
    return result.return_value


@pytest.mark.parametrize(
    "settings",
    [
        {"hyperfunction": "torus"},
        pytest.param({"goal": kolmo.Step(0.01)}, marks=kernels),
        pytest.param({"goal": kolmo.Step(0.02), "hyperfunction": TrellisOptions(states=64)}, marks=kernels),
    ],
)
def test_round_trip(tmp_path: Path, settings: dict[str, Any]) -> None:
    before = model()
    report = kolmo.shrink(before, tmp_path / "m", **settings)
    after = kolmo.load(tmp_path / "m")
    assert set(after) == set(before)
    assert {one.name for one in report.tensors if one.kind == "coded"} == CODED
    for name, array in before.items():
        assert (after[name].dtype, after[name].shape) == (array.dtype, array.shape)
        if name not in CODED:
            np.testing.assert_array_equal(after[name], array)
            continue
        (one,) = [one for one in report.tensors if one.name == name]
        lost = np.square(after[name].astype(np.float64) - array).sum() / np.square(array.astype(np.float64)).sum()
        assert one.relative_error == pytest.approx(lost, rel=1e-4)
        assert 0 < lost < 0.06
        assert one.gap is not None
        assert -0.1 < one.gap < 10
    assert report.size == (tmp_path / "m").stat().st_size
    assert (tmp_path / "m").stat().st_mode & 0o777 == 0o666 & ~_umask()
    assert os.listdir(tmp_path) == ["m"]


def _umask() -> int:
    os.umask(mask := os.umask(0))
    return mask


@kernels
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.integers(1, 40), min_size=1, max_size=5),
    st.sampled_from(["F64", "F32", "F16", "BF16"]),
    st.floats(1e-4, 100),
    st.integers(0, 2**32 - 1),
)
def test_any_shape_and_dtype(tmp_path: Path, shape: list[int], dtype: str, scale: float, seed: int) -> None:
    values = np.random.default_rng(seed).standard_normal(shape).astype(np.float32) * np.float32(scale)
    if values.size > 1 << 16:
        values = values[:1]
    data = from_floats(values.reshape(-1), dtype)
    write_safetensors(tmp_path / "in", {"w": (dtype, values.shape, data)})
    kolmo.shrink(tmp_path / "in", tmp_path / "m", kolmo.Step(scale / 5), force=True)
    file = ShrunkFile(tmp_path / "m")
    assert (file.kind("w").dtype, file.kind("w").shape) == (dtype, values.shape)
    after = file.read("w")
    if "w" in file.record.coded:
        error = to_floats(after, dtype) - to_floats(data, dtype)
        assert float(np.sqrt(np.square(error).mean())) < 0.8 * scale / 5
    else:
        assert after == data
    kolmo.expand(tmp_path / "m", tmp_path / "out", force=True)
    expanded = open_checkpoint(tmp_path / "out")
    assert expanded.metadata == {"format": "pt"}
    assert (expanded.tensors["w"].dtype, expanded.tensors["w"].read()) == (dtype, after)


def test_views() -> None:
    assert [columns_of(s) for s in [(9, 7), (64, 32, 3, 3), (64, 32, 5), (8, 64, 32), (4, 3, 2, 2, 2)]] == [
        7,
        288,
        160,
        32,
        24,
    ]
    assert not is_coded("w", "F32", (2048, 1))
    assert not is_coded("a.running_mean", "F32", (64, 64))
    assert not is_coded("layers.gain", "F32", (4, 2, 256))  # of all norms at once
    assert not is_coded("w", "I32", (64, 64))
    assert is_coded("debias.weight", "BF16", (64, 64))
    assert not is_coded("head.weight", "BF16", (64, 64), ["head.*"])


def test_bfloat16_rounds_to_even_and_stays_finite() -> None:
    bits = np.array([0x3F808000, 0x3F818000, 0x3F808001, 0x7F7FFFFF, 0xFF7FFFFF, 0x80000000], np.uint32)
    halves = np.frombuffer(from_floats(bits.view(np.float32), "BF16"), "<u2")
    assert halves.tolist() == [0x3F80, 0x3F82, 0x3F81, 0x7F7F, 0xFF7F, 0x8000]
    assert np.frombuffer(from_floats(np.array([1e6, -1e6], np.float32), "F16"), "<f2").tolist() == [65504, -65504]


@kernels
@pytest.mark.parametrize("wished", [30_000, 60_000, 120_000])
def test_target_bytes(tmp_path: Path, wished: int) -> None:
    r = np.random.default_rng(2)
    parts = {f"layers.{i}.weight": (r.standard_normal((256, 128)) * 2.0**-i).astype(np.float32) for i in range(6)}
    report = kolmo.shrink(parts, tmp_path / "m", kolmo.Bytes(wished))
    assert 0.995 * wished <= report.size == (tmp_path / "m").stat().st_size <= wished


@kernels
def test_bits(tmp_path: Path) -> None:
    report = kolmo.shrink({"w": np.random.default_rng(3).standard_normal((512, 300))}, tmp_path / "m", kolmo.Bits(3))
    assert 2.985 <= report.coded.bits <= 3
    assert report.coded.gap is not None
    assert report.coded.gap < 1
    small = kolmo.shrink(model(), tmp_path / "n")
    assert 3.9 <= small.coded.bits <= 4


@kernels
def test_size_out_of_reach(tmp_path: Path) -> None:
    least = kolmo.shrink(model(), tmp_path / "m", kolmo.Step(100)).size
    (tmp_path / "m").unlink()
    for size, reason in ((1500, "what is not coded takes"), (least - 60, "the coarsest step still takes")):
        with pytest.raises(KolmoError, match=f"{size} bytes .*{reason}"):
            kolmo.shrink(model(), tmp_path / "m", kolmo.Bytes(size))
    assert os.listdir(tmp_path) == []
    report = kolmo.shrink(model(), tmp_path / "m", kolmo.Bytes(10**6))  # more than it ever takes
    assert report.coded.relative_error == pytest.approx(0, abs=1e-9)


@kernels
def test_a_given_step_is_that_of_all(tmp_path: Path) -> None:
    kolmo.shrink(model(), tmp_path / "m", kolmo.Step(0.02))
    file = ShrunkFile(tmp_path / "m")
    heads = {struct.unpack_from("<4xf", (tmp_path / "m").read_bytes(), file.span(name)[0]) for name in CODED}
    assert heads == {(float(np.float32(0.02)),)}
    assert [one.parameters for one in file.record.hyperfunctions] == [{"step": 0.02, "states": 8}]


@kernels
def test_tied_and_kept(tmp_path: Path) -> None:
    one = model()["layer.0.weight"]
    report = kolmo.shrink({"a": one, "b": one.copy(), "c": one.astype(np.float64)}, tmp_path / "m", kolmo.Step(0.01))
    assert [t.kind for t in report.tensors] == ["coded", "coded", "tied"]
    found = kolmo.load(tmp_path / "m")
    assert found["a"] is found["b"]
    kolmo.shrink({"a": one, "b": one}, tmp_path / "n", kolmo.Step(0.01), selection=kolmo.Selection(keep=["b"]))
    found = kolmo.load(tmp_path / "n")
    np.testing.assert_array_equal(found["b"], one)
    assert not np.array_equal(found["a"], one)
    kolmo.expand(tmp_path / "m", tmp_path / "out")
    assert set(open_checkpoint(tmp_path / "out").tensors) == {"a", "b", "c"}


def test_a_name_that_the_codes_take(tmp_path: Path) -> None:
    one = model()["layer.0.weight"]
    with pytest.raises(KolmoError, match=r"'kolmo\.codes'.*rename"):
        kolmo.shrink({"kolmo.codes": one}, tmp_path / "m")
    with pytest.raises(FormatError, match="rename"):
        kolmo.shrink({"__metadata__": one}, tmp_path / "m", force=True)


@kernels
@pytest.mark.parametrize("each", [False, True])
def test_prune(tmp_path: Path, each: bool) -> None:
    r = np.random.default_rng(4)
    parts = {"small": r.standard_normal((200, 100)) * 0.1, "large": r.standard_normal((200, 100))}
    report = kolmo.shrink(
        parts, tmp_path / "m", kolmo.Step(1e-4), selection=kolmo.Selection(prune=0.4, prune_each=each)
    )
    pruned = {one.name: one.pruned / one.count for one in report.tensors}
    assert report.coded.pruned / 40000 == pytest.approx(0.4, abs=0.001)
    assert pruned["large"] == pytest.approx(0.4, abs=0.001) if each else pruned["large"] < 0.1 < pruned["small"]
    after = kolmo.load(tmp_path / "m")["small"]
    assert np.mean(np.abs(after) < 5e-4) > 0.3


def test_shards(tmp_path: Path) -> None:
    folder, arrays = tmp_path / "model", model()
    folder.mkdir()
    names = sorted(arrays)
    for number, part in enumerate((names[:5], names[5:])):
        plain(folder / f"part-{number}.safetensors", {name: arrays[name] for name in part})
    index = {name: f"part-{int(name in names[5:])}.safetensors" for name in names}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    kolmo.shrink(folder, tmp_path / "m", **WAY)
    plain(tmp_path / "whole.safetensors", arrays)
    kolmo.shrink(tmp_path / "whole.safetensors", tmp_path / "n", **WAY)
    contents = [ShrunkFile(tmp_path / x).record.content(ShrunkFile(tmp_path / x).header.places) for x in "mn"]
    assert contents[0] == contents[1]
    with pytest.raises(KolmoError, match="lies in"):
        kolmo.shrink(folder, folder / "part-0.safetensors", force=True)
    for bad, reason in ({"flag": "../whole.safetensors"}, "not an index"), ({"nothing": "part-0.safetensors"}, "lacks"):
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": bad}))
        with pytest.raises(CorruptError, match=reason):
            open_checkpoint(folder)
    (folder / "model.safetensors.index.json").unlink()
    with pytest.raises(FormatError, match="several"):
        open_checkpoint(folder)


def test_tensors_that_an_index_leaves_out_are_taken(tmp_path: Path) -> None:
    one, two, stale = (np.full((2, 3), value, np.float32) for value in (1, 2, 3))
    plain(tmp_path / "a.safetensors", {"listed": one, "more": two})
    plain(tmp_path / "b.safetensors", {"other": two, "listed": stale})
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"listed": "a.safetensors", "other": "b.safetensors"}}))
    found = open_checkpoint(tmp_path)
    assert {name: tensor.read() for name, tensor in found.tensors.items()} == {
        "listed": one.tobytes(),  # of two, the one that the index names
        "other": two.tobytes(),
        "more": two.tobytes(),
    }
    assert found.notes == (f"{index.name} leaves out 1 tensor of its shards ('more'), taken all the same",)
    plain(tmp_path / "b.safetensors", {"other": two, "more": stale})
    with pytest.raises(
        CorruptError, match=r"does not say which of a\.safetensors and b\.safetensors has tensor 'more'"
    ):
        open_checkpoint(tmp_path)


def test_keys_that_become_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"the dictionary: '1' is the name of two tensors, once as str; rename"):
        kolmo.shrink({1: np.zeros(2), "1": np.ones(2)}, tmp_path / "small")
    assert not list(tmp_path.iterdir())


@kernels
def test_threads_make_no_difference(tmp_path: Path) -> None:
    for threads in (1, 3):
        kolmo.shrink(model(), tmp_path / str(threads), kolmo.Bits(3), threads=threads)
    assert (tmp_path / "1").read_bytes() == (tmp_path / "3").read_bytes()
    one, three = (kolmo.load(tmp_path / "1", threads=n) for n in (1, 3))
    assert all(np.array_equal(one[name], three[name]) for name in one)


def test_partial_load(shrunk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = kolmo.load(shrunk)
    spans = []

    def read(file: IO[bytes], path: Path, begin: int, size: int) -> bytes:
        spans.append((begin, size))
        return read_span(file, path, begin, size)

    monkeypatch.setattr("kolmo.weights.format.reader.read_span", read)
    found = kolmo.load(shrunk, ["head.weight", "flag"])
    assert list(found) == ["head.weight", "flag"]
    np.testing.assert_array_equal(found["head.weight"], whole["head.weight"])
    file = ShrunkFile(shrunk)
    assert sorted(spans) == sorted(map(file.span, ("embed.weight", "flag")))
    with pytest.raises(KolmoError, match="no tensor 'nothing'"):
        kolmo.load(shrunk, ["nothing"])
    with pytest.raises(ValueError, match="np or pt"):
        kolmo.load(shrunk, framework="tf")


@kernels
def test_the_format_page(shrunk: Path) -> None:
    """The file as docs/weights-format.md describes it, read without this package."""
    data = shrunk.read_bytes()
    length = struct.unpack_from("<Q", data)[0]
    header = json.loads(data[8 : 8 + length])
    record = json.loads(header.pop("__metadata__")["kolmo"])
    assert (8 + length) % 8 == 0
    assert record["version"] == 1
    assert record["hyperfunctions"] == [["trellis", 1, ["step", "states"], [0.01, 8]]]
    assert {tuple(entry[5:]) for entry in record["coded"].values()} == {(0,)}
    spans = sorted(tuple(entry["data_offsets"]) for entry in header.values())
    assert (spans[0][0], spans[-1][1]) == (0, len(data) - 8 - length)
    assert all(one[1] == two[0] for one, two in pairwise(spans))
    assert all(header[name]["data_offsets"][0] % 8 == 0 for name in record["raw"] if header[name]["dtype"] == "I64")
    values = kolmo.load(shrunk)
    lines = {}
    assert header.pop("kolmo.codes")["shape"] == [sum(entry[3] for entry in record["coded"].values())]
    kinds = {name: (entry["dtype"], entry["shape"], record["raw"][name]) for name, entry in header.items()}
    kinds |= {name: (entry[0], entry[1], entry[4]) for name, entry in record["coded"].items()}
    for name, (dtype, shape, checksum) in kinds.items():
        assert checksum == hashlib.sha256(values[name].tobytes()).hexdigest()[:16]
        lines[name] = f"{dtype}\t{','.join(map(str, shape))}\t{checksum}\n"
    assert record["aliases"] == {"head.weight": "embed.weight"}
    lines["head.weight"] = lines["embed.weight"]
    text = "".join(f"{name}\t{lines[name]}" for name in sorted(lines))
    assert hashlib.sha256(text.encode()).hexdigest() == record["sha256"]


def test_safetensors_reads_it(shrunk: Path, tmp_path: Path) -> None:
    library = pytest.importorskip("safetensors.numpy")
    raw = library.load_file(shrunk)
    np.testing.assert_array_equal(raw["norm.weight"], model()["norm.weight"])
    kolmo.expand(shrunk, tmp_path / "out")
    ours = kolmo.load(shrunk)
    theirs = library.load_file(tmp_path / "out")
    assert set(ours) == set(theirs)
    assert all(np.array_equal(ours[name], theirs[name]) for name in ours)


@kernels
def test_torch(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    weight = torch.randn(64, 48).bfloat16()
    state = {"a.weight": weight, "b.weight": weight, "t.weight": torch.randn(48, 64).t(), "steps": torch.tensor(3)}
    state["f8"] = torch.randn(8).to(torch.float8_e4m3fn)
    torch.save({"state_dict": state, "epoch": 1}, tmp_path / "m.pt")
    old = {name: tensor for name, tensor in state.items() if name != "f8"}  # which that kind of file cannot hold
    torch.save(old, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    kolmo.shrink(tmp_path / "old.pt", tmp_path / "old", kolmo.Step(0.1))
    assert set(kolmo.load(tmp_path / "old")) == set(old)
    for source in (tmp_path / "m.pt", state):
        kolmo.shrink(source, tmp_path / "m", kolmo.Step(0.1), force=True)
        found = kolmo.load(tmp_path / "m", framework="pt")
        assert {name: (x.dtype, x.shape) for name, x in found.items()} == {
            name: (x.dtype, x.shape) for name, x in state.items()
        }
        assert found["a.weight"] is found["b.weight"]
        assert float((found["t.weight"] - state["t.weight"]).abs().max()) < 0.2
        assert torch.equal(found["f8"].view(torch.uint8), state["f8"].view(torch.uint8))
        assert kolmo.load(tmp_path / "m")["a.weight"].dtype == np.float32
    (tmp_path / "bad.pt").write_bytes(b"\x80\x02cos\nsystem\n(S'false'\ntR.")
    with pytest.raises(CorruptError, match="weights alone"):
        open_checkpoint(tmp_path / "bad.pt")
    odd = (tmp_path / "old.pt").read_bytes().replace(b".\x80\x02", b".\x80\x13", 2)  # protocols that torch warns of
    (tmp_path / "odd.pt").write_bytes(odd)
    with warnings.catch_warnings(record=True) as told, contextlib.suppress(CorruptError):
        warnings.simplefilter("always")
        open_checkpoint(tmp_path / "odd.pt")
    assert not told


def test_missing_torch(tmp_path: Path, shrunk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingExtraError, match="pip install"):
        kolmo.load(shrunk, framework="pt")
    (tmp_path / "m.pt").write_bytes(b"PK\x03\x04")
    with pytest.raises(MissingExtraError, match="pip install"):
        kolmo.shrink(tmp_path / "m.pt", tmp_path / "out")


def test_a_weight_too_large_for_the_step_stays_exact(tmp_path: Path) -> None:
    one = model()["layer.0.weight"]
    one[0, 0] = 1e6
    kolmo.shrink({"w": one}, tmp_path / "m", kolmo.Step(0.01))
    found = kolmo.load(tmp_path / "m")["w"]
    assert found[0, 0] == np.float32(1e6)
    assert np.abs(found - one).max() < 0.02
    assert ShrunkFile(tmp_path / "m").record.coded["w"].wild == 1


def test_existing_target(tmp_path: Path, shrunk: Path) -> None:
    before = shrunk.read_bytes()
    with pytest.raises(TargetExistsError):
        kolmo.shrink(model(), shrunk)
    with pytest.raises(TargetExistsError):
        kolmo.expand(shrunk, _made(tmp_path / "there"))
    with pytest.raises(KolmoError, match="same file"):
        kolmo.expand(shrunk, shrunk, force=True)
    with pytest.raises(FormatError, match="shrunk already"):
        kolmo.shrink(shrunk, tmp_path / "n")
    assert shrunk.read_bytes() == before


def _made(path: Path) -> Path:
    path.write_bytes(b"")
    return path


def opened(path: Path) -> None:
    for name in (file := ShrunkFile(path)).names:
        file.read(name)


def rewritten(path: Path, change: Callable[[dict[str, Any], dict[str, Any]], None]) -> None:
    """Change header and record of a file; its tensors stay."""
    data = path.read_bytes()
    length = struct.unpack_from("<Q", data)[0]
    header = json.loads(data[8 : 8 + length])
    record = json.loads(header["__metadata__"]["kolmo"])
    change(header, record)
    header["__metadata__"]["kolmo"] = json.dumps(record)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length :])


def entry(record: dict[str, Any], changes: dict[int, Any]) -> None:
    """Change the record's entry of a coded tensor: dtype, shape, columns, length, checksum, index, second part."""
    found = record["coded"]["conv.weight"]
    for place, value in changes.items():
        found[place:] = [value, *found[place + 1 :]]


def function(record: dict[str, Any], changes: dict[int, Any]) -> None:
    """Change the only group of the table of hyperfunctions: name, version, names of parameters, their values."""
    for place, value in changes.items():
        record["hyperfunctions"][0][place] = value


def another(record: dict[str, Any], *added: Any) -> None:
    """Give the last coded tensor a hyperfunction of its own: a row of the first group, or a group."""
    group = record["hyperfunctions"] if len(added) > 1 else record["hyperfunctions"][0]
    group.append(list(added) if len(added) > 1 else added[0])
    record["coded"][list(record["coded"])[-1]][5] = 1


HOSTILE: dict[str, Callable[[dict[str, Any], dict[str, Any]], Any]] = {
    "newer": lambda h, r: r.update(version=2),
    "no version": lambda h, r: r.pop("version"),
    "true version": lambda h, r: r.update(version=True),
    "more": lambda h, r: r.update(more=1),
    "empty": lambda h, r: [r.pop(key) for key in list(r)],
    "list": lambda h, r: r.update(coded=[]),
    "no list": lambda h, r: r["coded"].update({"conv.weight": {}}),
    "too short": lambda h, r: r["coded"]["conv.weight"].pop(),
    "more of one": lambda h, r: entry(r, {6: {"wild": 1}, 7: 1}),
    "no size": lambda h, r: entry(r, {3: 0}),
    "another size": lambda h, r: entry(r, {3: 77}),
    "no codes": lambda h, r: h.pop("kolmo.codes"),
    "unknown function": lambda h, r: function(r, {0: "os"}),
    "unknown function of one tensor": lambda h, r: another(r, "os", 1, [], []),
    "a function that is a number": lambda h, r: function(r, {0: 7}),
    "function's version": lambda h, r: function(r, {1: 9}),
    "another version of one tensor": lambda h, r: another(r, "trellis", 2, ["step", "states"], [0.5, 8]),
    "true function's version": lambda h, r: function(r, {1: True}),
    "parameters": lambda h, r: function(r, {3: ["1", 8]}),
    "parameters are an object": lambda h, r: function(r, {3: {"step": 0.01, "states": 8}}),
    "names of parameters are an object": lambda h, r: function(r, {2: {}}),
    "a name of a parameter is a number": lambda h, r: function(r, {2: ["step", 1]}),
    "a name of a parameter twice": lambda h, r: function(r, {2: ["step", "step"]}),
    "names of parameters in another order": lambda h, r: function(r, {2: ["states", "step"], 3: [8, 0.01]}),
    "a value is missing": lambda h, r: another(r, [0.5]),
    "a value too many": lambda h, r: another(r, [0.5, 8, 1]),
    "a parameter is missing": lambda h, r: function(r, {2: ["step"], 3: [0.01]}),
    "a parameter is unknown": lambda h, r: function(r, {2: ["step", "states", "rate"], 3: [0.01, 8, 0.1]}),
    "a parameter that is not in its shortest form": lambda h, r: another(r, [0.10000000149011612, 8]),
    "not a number": lambda h, r: another(r, [float("nan"), 8]),
    "infinite": lambda h, r: another(r, [float("inf"), 8]),
    "huge parameter": lambda h, r: function(r, {3: [10**400, 8]}),
    "a function is an object": lambda h, r: r["hyperfunctions"].__setitem__(0, {"name": "trellis"}),
    "a function is too short": lambda h, r: r["hyperfunctions"][0].pop(),
    "a group twice": lambda h, r: another(r, "trellis", 1, ["step", "states"], [0.5, 8]),
    "a group of nothing": lambda h, r: r["hyperfunctions"].append(["torus", 1, list(Torus().parameters)]),
    "huge shape": lambda h, r: entry(r, {1: [1 << 29, 1 << 29], 2: 1 << 29}),
    "overflow": lambda h, r: entry(r, {1: [1 << 62, 1 << 62]}),
    "many zeros": lambda h, r: entry(r, {1: [1 << 14, 1 << 14], 2: 1 << 14}),
    "negative": lambda h, r: entry(r, {1: [-24, -72]}),
    "no columns": lambda h, r: entry(r, {2: 0}),
    "other columns": lambda h, r: entry(r, {2: 5}),
    "integers": lambda h, r: entry(r, {0: "I32"}),
    "verbatim": lambda h, r: entry(r, {5: None}),
    "verbatim, and not": lambda h, r: entry(r, {5: None, 6: {"wild": 1}}),
    "second part is a number": lambda h, r: entry(r, {6: 7}),
    "second part is empty": lambda h, r: entry(r, {6: {}}),
    "second part is unknown": lambda h, r: entry(r, {6: {"rotated": 1}}),
    "a dangling index": lambda h, r: entry(r, {5: 1}),
    "a huge index": lambda h, r: entry(r, {5: 1 << 70}),
    "a negative index": lambda h, r: entry(r, {5: -1}),
    "an index that is true": lambda h, r: entry(r, {5: True}),
    "an index that is a fraction": lambda h, r: entry(r, {5: 0.5}),
    "an index that is a name": lambda h, r: entry(r, {5: "trellis"}),
    "no functions": lambda h, r: r.update(hyperfunctions=[]),
    "functions are an object": lambda h, r: r.update(hyperfunctions={}),
    "a function that no tensor uses": lambda h, r: r["hyperfunctions"][0].append([2.0, 8]),
    "more functions than tensors": lambda h, r: r["hyperfunctions"][0].extend([2.0**n, 8] for n in range(9)),
    "a function twice": lambda h, r: another(r, r["hyperfunctions"][0][3]),
    "more wild ones than bytes": lambda h, r: entry(r, {6: {"wild": 1 << 20}}),
    "wild ones in a residual": lambda h, r: entry(r, {6: {"wild": 1, "base": 9}}),
    "a negative number of wild ones": lambda h, r: entry(r, {6: {"wild": -1}}),
    "checksum": lambda h, r: entry(r, {4: "0" * 16}),
    "raw checksum": lambda h, r: r["raw"].update(flag="0" * 16),
    "alias to nothing": lambda h, r: r["aliases"].update({"head.weight": "x"}),
    "alias to itself": lambda h, r: r["aliases"].update({"head.weight": "head.weight"}),
    "alias of a tensor": lambda h, r: r["aliases"].update({"flag": "norm.weight"}),
    "missing": lambda h, r: r["raw"].pop("flag"),
    "twice": lambda h, r: r["raw"].update({"conv.weight": "0" * 16}),
    "unknown dtype": lambda h, r: h["flag"].update(dtype="Q7"),
    "dtype is a list": lambda h, r: h["flag"].update(dtype=["U8"]),
    "other size": lambda h, r: h["norm.weight"].update(shape=[2047]),
    "overlap": lambda h, r: h["flag"].update(data_offsets=[0, 1]),
    "negative offsets": lambda h, r: h["flag"].update(data_offsets=[-1, 0]),
    "dimensions": lambda h, r: h["empty"].update(shape=[0] * 99),
    "no place": lambda h, r: h.update(flag=None),
    "one more": lambda h, r: h.update(x={"dtype": "U8", "shape": [0], "data_offsets": [0, 0]}),
}


@pytest.mark.parametrize("change", HOSTILE.values(), ids=HOSTILE)
def test_hostile_records(shrunk: Path, change: Callable[[dict[str, Any], dict[str, Any]], Any]) -> None:
    rewritten(shrunk, lambda header, record: None)
    opened(shrunk)
    rewritten(shrunk, change)
    with pytest.raises(FormatError, match=str(shrunk)):
        opened(shrunk)


@kernels
def test_parameters_of_another_payload(shrunk: Path) -> None:
    """A record that is sound in itself, but names another step or another hyperfunction than one payload has."""
    torus = Torus().parameters
    for added in ([[0.5, 8]], [[0.01, 64]], ["torus", 1, list(torus), list(torus.values())]):
        before = shrunk.read_bytes()
        rewritten(shrunk, lambda header, record, added=added: another(record, *added))  # type: ignore[misc]
        with pytest.raises(CorruptError, match=str(shrunk)):
            opened(shrunk)
        shrunk.write_bytes(before)
    opened(shrunk)


def test_a_long_table_takes_no_quadratic_time(shrunk: Path) -> None:
    """50,000 tensors that are not there, each with a hyperfunction of its own: refused within seconds."""

    def change(header: dict[str, Any], record: dict[str, Any]) -> None:
        one = next(iter(record["coded"].values()))
        record["coded"] = {str(n): [*one[:5], n] for n in range(50_000)}
        rows = [[float(n + 1), 8] for n in range(50_000)]
        record["hyperfunctions"] = [["trellis", 1, ["step", "states"], *rows]]

    rewritten(shrunk, change)
    start = time.perf_counter()
    with pytest.raises(CorruptError):
        opened(shrunk)
    assert time.perf_counter() - start < 20


@kernels
def test_other_rows(shrunk: Path) -> None:
    rewritten(shrunk, lambda header, record: entry(record, {2: 36}))
    with pytest.raises(CorruptError, match=r"'conv.weight': .*shape"):
        opened(shrunk)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"1234567",
        struct.pack("<Q", 1 << 63),
        struct.pack("<Q", 100_000_001),
        struct.pack("<Q", 50) + b"{}",
        struct.pack("<Q", 2) + b"[]",
        struct.pack("<Q", 2) + b"{}",
        struct.pack("<Q", 4) + b"\xff\xfe{}",
        struct.pack("<Q", 100_000) + b"[" * 100_000,
        struct.pack("<Q", 34) + b'{"__metadata__":{"kolmo":NaN}}    ',
        struct.pack("<Q", 30) + b'{"a":{},"a":{}}               ',
    ],
)
def test_hostile_headers(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "m").write_bytes(data)
    with pytest.raises(FormatError, match=str(tmp_path / "m")):
        opened(tmp_path / "m")


def test_flipped_and_cut(shrunk: Path) -> None:
    data, whole = shrunk.read_bytes(), kolmo.load(shrunk)
    r = np.random.default_rng(5)
    for at in [*range(0, len(data), 61), *r.integers(0, len(data), 100)]:
        shrunk.write_bytes(data[:at] + bytes([data[at] ^ 1 << int(r.integers(8))]) + data[at + 1 :])
        try:
            found = kolmo.load(shrunk, threads=1)
        except KolmoError:
            continue
        assert all(np.array_equal(found[name], whole[name]) for name in whole if name in found)
    for at in [*range(0, len(data), 997), len(data) - 1]:
        shrunk.write_bytes(data[:at])
        with pytest.raises(FormatError):
            ShrunkFile(shrunk)
    shrunk.write_bytes(data + b"\0")
    with pytest.raises(CorruptError, match="end at byte"):
        ShrunkFile(shrunk)


@kernels
def test_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    plain(tmp_path / "in.safetensors", model())
    done = run("shrink", "in.safetensors", "-o", "m", "--bits", "3", "--exact", "line.*")
    assert status_of(done) == 0
    assert "layer.0.weight" in done.output
    assert " bits a number; trellis: step 0.0" in done.output.splitlines()[-2]
    assert "% of their tensor's root mean square (median of tensors), most in " in done.output.splitlines()[-1]
    done = run("shrink", "in.safetensors", "-o", "m")
    assert status_of(done) == 1
    assert "already exists" in done.output
    done = run("shrink", "in.safetensors", "-o", "m", "-f", "--json", "--target-bytes", "42K", "--prune", "0.1")
    record = json.loads(done.stdout)
    assert record["size"] == (tmp_path / "m").stat().st_size
    assert 0.99 * 43008 < record["size"] <= 43008
    assert run("shrink", "in.safetensors", "-o", "m", "-f", "-q", "--method", "torus").output == ""
    information = json.loads(run("info", "--json", "m").stdout)
    assert information["hyperfunctions"] == ["torus"]
    assert "SHA-256" in run("info", "m", "-v").output
    assert status_of(run("info", "in.safetensors", "nothing")) == 1
    done = run("expand", "m", "-o", "out", "--json")
    assert json.loads(done.stdout)["raw_size"] == (tmp_path / "out").stat().st_size
    assert status_of(run("expand", "m", "-o", "out")) == 1
    assert status_of(run("expand", "m", "-o", "out", "-f", "-q")) == 0
    assert sorted(os.listdir()) == ["in.safetensors", "m", "out"]
    for wrong in (["--bits", "3", "--step", "1"], ["--preset", "llm"], ["--bits", "0"], ["--target-bytes", "x"]):
        assert status_of(run("shrink", "in.safetensors", "-o", "n", *wrong)) == 2


def test_full_disk(tmp_path: Path) -> None:
    plain(tmp_path / "in.safetensors", model())
    kolmo.shrink(tmp_path / "in.safetensors", tmp_path / "m", **WAY)
    limit = 20_000

    def small() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    command = [sys.executable, "-B", "-m", "kolmo"]
    environment = {**os.environ, "PYTHONPATH": str(Path(kolmo.__file__).parents[1])}
    for verb, source in (("shrink", "in.safetensors"), ("expand", "m")):
        arguments = [*command, verb, str(tmp_path / source), "-o", str(tmp_path / "out")]
        arguments += ["--method", "torus"] if verb == "shrink" else []
        done = subprocess.run(arguments, capture_output=True, preexec_fn=small, env=environment, timeout=60)
        assert done.returncode == 1
        assert done.stderr.decode().startswith(f"kolmo: {tmp_path / 'out'}: File too large")
    assert sorted(os.listdir(tmp_path)) == ["in.safetensors", "m"]


def test_header_of_a_file_beyond_a_gibibyte(tmp_path: Path) -> None:
    half = (3 << 29,)  # bytes: the product of a tensor's two offsets is above 2^60
    places = lay_out([("a", "U8", half), ("b", "U8", half)])
    path = tmp_path / "large.safetensors"
    with path.open("wb") as file:
        file.write(header := write_header({}, places))
        file.truncate(len(header) + 2 * half[0])  # sparse
    assert read_header(path).places["b"].begin == len(header) + half[0]


@pytest.mark.parametrize("verb", ["shrink", "expand"])
def test_an_output_that_cannot_be_is_named_itself(verb: str, shrunk: Path, tmp_path: Path) -> None:
    source = tmp_path / "in"
    kolmo.expand(shrunk, source)
    given = source if verb == "shrink" else shrunk
    place = tmp_path / "nowhere" / "out"
    done = subprocess.run(
        [sys.executable, "-m", "kolmo", verb, str(given), "-o", str(place)], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"kolmo: {place}: No such file or directory; check the name\n"
    assert isinstance(run(verb, given, "-o", "-").exception, click.UsageError)


def test_a_flag_is_named_as_it_was_given(tmp_path: Path) -> None:
    given = (["--target-bytes", "9", "--bits", "3"], ["--least-error", "--method", "torus"])
    for flags, name in zip(given, ("--target-bytes", "--least-error"), strict=True):
        result = run("shrink", "in", "-o", tmp_path / "m", *flags)
        assert isinstance(result.exception, click.UsageError)
        assert name in result.exception.message
