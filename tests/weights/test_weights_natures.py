"""Tensors that shrink stores unchanged, and its warnings: masks, indices, outliers; steps by scale; kinds of file."""

from __future__ import annotations

import io
import json
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from click.testing import CliRunner, Result

import kolmo
from kolmo.cli import group
from kolmo.errors import CorruptError, FormatError, KolmoError, ShrinkWarning
from kolmo.hyperfunctions.torus import Torus
from kolmo.native.dispatch import SLOW
from kolmo.weights.choice.steps import by_scales
from kolmo.weights.choice.values import Nature, nature
from kolmo.weights.format.reader import ShrunkFile
from kolmo.weights.sources.dtypes import from_floats, to_floats

Arrays = dict[str, npt.NDArray[Any]]
kernels = pytest.mark.skipif(SLOW, reason="a trellis of so many weights takes minutes without the C kernels")
R = np.random.default_rng(5)
LOWEST = float(np.finfo(np.float32).min)


def normal(*shape: int, scale: float = 0.05) -> npt.NDArray[np.float32]:
    return (R.standard_normal(shape) * scale).astype(np.float32)


def network() -> Arrays:
    return {"up.weight": normal(96, 64), "down.weight": normal(64, 96, scale=0.02)}


def upper(value: float, size: int = 64) -> npt.NDArray[np.float32]:
    """An additive mask."""
    return np.triu(np.full((size, size), value, np.float32), 1)


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(group, [str(one) for one in arguments], standalone_mode=False)


def changed(array: npt.NDArray[np.float32], value: float, count: int = 1) -> npt.NDArray[np.float32]:
    """With a few other values in it."""
    found = array.copy()
    found.reshape(-1)[:: found.size // count][:count] = value
    return found


ALIEN: dict[str, npt.NDArray[np.float32]] = {
    "mask of -65504": upper(-65504),
    "mask of -1e9": upper(-1e9),
    "mask of -10000": upper(-10000.0),
    "mask of finfo.min": upper(LOWEST),
    "mask of -inf": upper(-np.inf),
    "mask of ones": upper(1.0),
    "indices": R.integers(0, 50000, (64, 64)).astype(np.float32),
    "large indices": R.integers(0, 1 << 24, (64, 64)).astype(np.float32),
    "positions": np.tile(np.arange(64, dtype=np.float32) / 7, (64, 1)),
    "tiny": normal(64, 64, scale=1e-38),
    "denormal": normal(64, 64, scale=1e-42),
    "huge": normal(64, 64, scale=1e37),
    "zeros": np.zeros((64, 64), np.float32),
    "a constant": np.full((64, 64), 0.1, np.float32),
    "a negative constant": np.full((64, 64), -3.7e-5, np.float32),
    "a constant of each row": np.repeat(normal(64, 1), 64, 1),
    "a constant of each column": np.repeat(normal(1, 64), 64, 0),
    "ternary": (R.integers(-1, 2, (64, 64)) * 0.0371).astype(np.float32),
    "not numbers": np.full((64, 64), np.nan, np.float32),
    "sines": np.concatenate(
        [f(np.outer(np.arange(64), 1e-4 ** (np.arange(32) / 32))) for f in (np.sin, np.cos)], 1
    ).astype(np.float32),
}


@kernels
@pytest.mark.parametrize("name", ALIEN)
def test_what_is_not_weights_stays_and_costs_the_others_nothing(tmp_path: Path, name: str) -> None:
    """Each array beside a network: it comes back exact, and the network as without it."""
    alone = network()
    before = kolmo.shrink(alone, tmp_path / "alone", kolmo.Bits(3))
    report = kolmo.shrink({**alone, "alien": ALIEN[name]}, tmp_path / "m", kolmo.Bits(3))
    assert kolmo.load(tmp_path / "m")["alien"].tobytes() == ALIEN[name].tobytes()
    wanted = {one.name: one.relative_error for one in before.tensors}
    for one in report.tensors:
        if one.name in wanted:
            assert one.relative_error == pytest.approx(wanted[one.name], rel=0.05)


@kernels
@pytest.mark.parametrize("name", ALIEN)
@pytest.mark.parametrize("dtype", ["F16", "BF16", "F32", "F64"])
def test_what_is_not_weights_comes_back_without_a_loss(tmp_path: Path, name: str, dtype: str) -> None:
    import ml_dtypes

    types = {"F16": np.float16, "BF16": ml_dtypes.bfloat16, "F32": np.float32, "F64": np.float64}
    with np.errstate(all="ignore"):  # what is too large for half precision is infinite there
        given = ALIEN[name].astype(types[dtype])
    kolmo.shrink({"alien": given}, tmp_path / "m", kolmo.Lossless())
    assert ShrunkFile(tmp_path / "m").read("alien") == given.tobytes()


@kernels
@pytest.mark.parametrize("exponent", [-44, -40, -36, -33, -31, -30, -29, -28, 28, 29, 30, 31, 36, 38])
def test_small_and_large_weights_without_a_loss(tmp_path: Path, exponent: int) -> None:
    """Among them those whose step is the least or the largest that there is."""
    given = (normal(64, 64).astype(np.float64) * 10.0**exponent).astype(np.float32)
    for number, array in enumerate((given, np.abs(given) * np.abs(normal(64, 64)), -given)):
        kolmo.shrink({"a": array}, tmp_path / f"m{number}", kolmo.Lossless())
        assert kolmo.load(tmp_path / f"m{number}")["a"].tobytes() == array.tobytes()


@kernels
def test_a_file_that_cannot_be_opened_replaces_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kolmo.shrink(network(), tmp_path / "m", kolmo.Bits(3))
    before = (tmp_path / "m").read_bytes()

    def refuse(path: str) -> ShrunkFile:
        raise FormatError(f"{path}: a step that is out of range")

    monkeypatch.setattr("kolmo.weights.shrink.ShrunkFile", refuse)
    with pytest.raises(FormatError, match="out of range"):
        kolmo.shrink(network(), tmp_path / "m", kolmo.Bits(4), force=True)
    assert (tmp_path / "m").read_bytes() == before
    assert [one.name for one in tmp_path.iterdir()] == ["m"]


@kernels
def test_a_file_in_the_folder_that_is_shrunk_is_refused_each_time(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    kolmo.shrink(network(), tmp_path / "m", kolmo.Bits(3))
    kolmo.expand(tmp_path / "m", folder / "model.safetensors")
    for _ in range(2):
        with pytest.raises(KolmoError, match=r"lies in .*model, which is the source"):
            kolmo.shrink(folder, folder / "small.kolmo", force=True)
    assert [one.name for one in folder.iterdir()] == ["model.safetensors"]


@kernels
def test_one_name_is_one_tensor(tmp_path: Path) -> None:
    kolmo.shrink(network(), tmp_path / "m", kolmo.Bits(3))
    assert list(kolmo.load(tmp_path / "m", "up.weight")) == ["up.weight"]


@kernels
@pytest.mark.parametrize("dtype", ["F16", "BF16", "F64"])
def test_constants_and_masks_of_other_dtypes(tmp_path: Path, dtype: str) -> None:
    import ml_dtypes

    types = {"F16": np.float16, "BF16": ml_dtypes.bfloat16, "F64": np.float64}
    for value in (0.0, 0.1, -65504.0):
        given = np.full((40, 40), value).astype(types[dtype])
        kolmo.shrink({**network(), "c": given}, tmp_path / "m", kolmo.Bits(3), force=True)
        assert ShrunkFile(tmp_path / "m").read("c") == given.tobytes()
        assert ShrunkFile(tmp_path / "m").stored_size("c") < 300 or dtype == "F64"


@kernels
@pytest.mark.parametrize("value", [1e6, 1e9, -1e30, LOWEST, np.inf, -np.inf, np.nan, 3.0])
@pytest.mark.parametrize("count", [1, 5])
@pytest.mark.parametrize("way", [{"goal": kolmo.Bits(3)}, {"goal": kolmo.Step(0.01)}, {"hyperfunction": "torus"}])
def test_outliers_stay_and_their_neighbours_live(tmp_path: Path, value: float, count: int, way: dict[str, Any]) -> None:
    arrays = {**network(), "odd.weight": changed(normal(96, 64), value, count)}
    report = kolmo.shrink(arrays, tmp_path / "m", **way)
    found, tame = kolmo.load(tmp_path / "m")["odd.weight"], arrays["odd.weight"] != np.float32(value)
    tame &= np.isfinite(arrays["odd.weight"])
    if "hyperfunction" not in way or value != 3.0:  # which the torus distorts, as published
        left = found[tame] - arrays["odd.weight"][tame]
        assert np.square(left).mean() < 0.08 * np.square(arrays["odd.weight"][tame]).mean()
    if value != 3.0:  # as far from the others as a trained matrix may have it: coded as all are
        assert found[~tame].tobytes() == arrays["odd.weight"][~tame].tobytes()
        assert next(one.wild for one in report.tensors if one.name == "odd.weight") == count
    assert not report.warnings


@kernels
def test_wild_weights_in_other_dtypes(tmp_path: Path) -> None:
    given = changed(normal(64, 64), np.inf, 3)
    double = given.astype(np.float64)
    double[5, 5] = 1e300
    data = from_floats(np.where(np.isinf(given), np.float32(1), given), "BF16")
    assert to_floats(data, "BF16").max() == 1.0
    kolmo.shrink({"half": given.astype(np.float16), "double": double}, tmp_path / "m", kolmo.Bits(4))
    found = kolmo.load(tmp_path / "m")
    assert np.isinf(found["half"]).sum() == 3
    assert found["double"][5, 5] == 1e300
    assert np.isinf(found["double"]).sum() == 3


@kernels
@pytest.mark.parametrize("at", ["first", "last", "order"])
def test_damaged_places_of_wild_weights(tmp_path: Path, at: str) -> None:
    """A file whose checksum was made to fit: what is out of place is still refused."""
    from kolmo.weights.format.codes import decode

    kolmo.shrink({"w": changed(normal(64, 64), np.inf, 2)}, tmp_path / "m", kolmo.Step(0.01))
    file = ShrunkFile(tmp_path / "m")
    one, (begin, size) = file.record.coded["w"], file.span("w")
    code = bytearray((tmp_path / "m").read_bytes()[begin : begin + size])
    tail = len(code) - one.tail
    if at == "order":
        code[tail : tail + 16] = code[tail + 8 : tail + 16] + code[tail : tail + 8]
    else:
        struct.pack_into("<Q", code, tail + 8 * (at == "last"), 1 << 40)
    with pytest.raises(CorruptError, match="places of wild weights"):
        decode(one, bytes(code), file.record.function_of(one))


@kernels
def test_each_tensor_names_its_own_parameters(tmp_path: Path) -> None:
    """Steps follow scales, so the tensors of one file have several; each payload has the step that its record names."""
    arrays = {f"layers.{k}.weight": normal(64, 64, scale=2.0**-k) for k in range(4)}
    report = kolmo.shrink({**arrays, "flipped": -arrays["layers.1.weight"]}, tmp_path / "m", kolmo.Bits(3))
    file, data = ShrunkFile(tmp_path / "m"), (tmp_path / "m").read_bytes()
    assert len(file.record.hyperfunctions) == 4
    assert file.hyperfunction("flipped") == file.hyperfunction("layers.1.weight")
    for one in report.tensors:
        function = file.hyperfunction(one.name)
        assert function is not None
        assert (one.hyperfunction, one.parameters) == ("trellis", function.parameters)
        assert one.step is not None
        assert np.float32(one.step) == struct.unpack_from("<4xf", data, file.span(one.name)[0])[0]
    steps = [one.step for one in report.tensors if one.step]
    assert report.step == pytest.approx(float(np.exp(np.mean(np.log(steps)))))
    assert f"trellis: step {min(steps):.5g} to {max(steps):.5g}, states 8" in report.summary()


@kernels
def test_two_hyperfunctions_in_one_file(tmp_path: Path) -> None:
    kolmo.shrink({"z": np.zeros((64, 64), np.float32), **network()}, tmp_path / "m", hyperfunction=Torus())
    record = ShrunkFile(tmp_path / "m").record
    assert [one.name for one in record.hyperfunctions] == ["trellis", "torus"]
    assert {name: one.by for name, one in record.coded.items()} == {"z": 0, "up.weight": 1, "down.weight": 1}
    assert record.hyperfunctions[1].parameters == Torus().parameters
    assert not kolmo.load(tmp_path / "m")["z"].any()


@kernels
def test_steps_follow_scales(tmp_path: Path) -> None:
    """Tensors of very different scale: none dies, and small ones take fewer bits."""
    arrays = {f"layers.{k}.weight": normal(64, 64, scale=4.0**-k) for k in range(6)}
    report = kolmo.shrink(arrays, tmp_path / "m", kolmo.Bits(3))
    assert not report.warnings
    assert max(one.worst_error for one in report.tensors) < 0.2
    bits = [one.bits for one in report.tensors]
    assert bits == pytest.approx(sorted(bits, reverse=True), rel=0.01)
    assert bits[0] - bits[-1] < 2.5
    assert report.coded.bits == pytest.approx(3, rel=0.01)
    file = ShrunkFile(tmp_path / "m")
    functions = [file.hyperfunction(one.name) for one in report.tensors]
    assert [one.parameters["step"] for one in functions if one] == [one.step for one in report.tensors]
    steps = by_scales({"a": 1.0, "b": 0.25}, {"a": 10, "b": 10}).factors
    assert steps["a"] / steps["b"] == pytest.approx(2)
    assert steps["a"] * steps["b"] == pytest.approx(1)
    far = by_scales({"a": 1.0, "b": 2.0**-40}, {"a": 10, "b": 5}).factors
    assert far["a"] / far["b"] == pytest.approx(2.0**39)


@kernels
def test_a_module_declares_its_buffers(tmp_path: Path) -> None:
    torch: Any = pytest.importorskip("torch")
    module = torch.nn.Linear(64, 64)
    module.register_buffer("table", torch.randn(64, 64))
    kolmo.shrink(module, tmp_path / "m", kolmo.Bits(3))
    found = kolmo.load(tmp_path / "m", framework="pt")
    assert torch.equal(found["table"], module.table)
    assert not torch.equal(found["weight"], module.weight)


def test_natures() -> None:
    assert nature(normal(64, 64).reshape(-1), 64).scale == pytest.approx(0.04, rel=0.1)
    assert nature(changed(normal(64, 64), 1e9).reshape(-1), 64).scale == pytest.approx(0.04, rel=0.1)
    assert nature(np.zeros(4096, np.float32), 64) == Nature(grid=1.0)
    assert nature(np.full(4096, -0.1, np.float32), 64) == Nature(grid=float(np.float32(0.1)))
    sparse = normal(64, 64) * (R.random((64, 64)) < 0.002)
    assert nature(sparse.astype(np.float32).reshape(-1), 64).scale > 0


@kernels
def test_warnings(tmp_path: Path) -> None:
    """Of a tensor that is gone: in Python, at the command line even in a pipe, in JSON; -q silences."""
    arrays = {"big.weight": normal(64, 64), "small.weight": normal(64, 64, scale=0.0005)}
    with pytest.warns(ShrinkWarning, match=r"1 tensor has .*small\.weight \(1\.00\)"):
        report = kolmo.shrink(arrays, tmp_path / "m", kolmo.Step(0.02))
    assert "small.weight 100 %" in "\n".join(report.lines())
    assert report.record()["warnings"] == report.warnings != []
    with pytest.warns(ShrinkWarning):  # an outlier in the tensor makes its whole error look small
        kolmo.shrink({"w": changed(normal(64, 64, scale=0.001), 1.5)}, tmp_path / "m", kolmo.Step(0.02), force=True)
    from test_weights import plain

    plain(tmp_path / "in.safetensors", arrays)
    made = run("shrink", tmp_path / "in.safetensors", "-o", tmp_path / "out", "--step", "0.02", "--json", "-f")
    assert made.return_value == 0
    assert "small.weight (1.00)" in made.stderr
    assert "small.weight" in json.loads(made.stdout)["warnings"][0]
    made = run("shrink", tmp_path / "in.safetensors", "-o", tmp_path / "out", "--step", "0.02", "-q", "-f")
    assert (made.return_value, made.output) == (0, "")


@kernels
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_target_above_the_source_loses_nothing(tmp_path: Path, dtype: str) -> None:
    arrays = {name: value.astype(dtype) for name, value in network().items()}
    from test_weights import plain

    plain(tmp_path / "in.safetensors", arrays)
    size = (tmp_path / "in.safetensors").stat().st_size
    for target in (size, 2 * size, 1 << 40):
        with pytest.warns(ShrinkWarning, match="the file is exact"):
            report = kolmo.shrink(tmp_path / "in.safetensors", tmp_path / "m", kolmo.Bytes(target), force=True)
        assert report.size <= size
        found = kolmo.load(tmp_path / "m")
        for name, value in arrays.items():
            assert found[name].tobytes() == value.tobytes()
    with pytest.warns(ShrinkWarning, match="the file is exact"):
        kolmo.shrink(arrays, tmp_path / "m", kolmo.Bits(40), force=True)
    near = kolmo.shrink(arrays, tmp_path / "m", kolmo.Bytes(size // 2), force=True)
    assert 0.98 * (size // 2) < near.size <= size // 2
    with pytest.warns(ShrinkWarning, match="no tensor is a matrix of weights"):
        kolmo.shrink({"bias": normal(2000)}, tmp_path / "m", kolmo.Bits(3), force=True)
    with pytest.raises(KolmoError, match="too few"):
        kolmo.shrink({"bias": normal(2000)}, tmp_path / "m", kolmo.Bytes(3000), force=True)


def numpy_file(path: Path) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, a=normal(3, 3))
    path.write_bytes(buffer.getvalue())


def zip_file(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("a.txt", "text")


class Evil:
    """What no reader may run."""

    def __reduce__(self) -> Any:
        return (print, ("this ran",))


FOREIGN: dict[str, tuple[bytes | Callable[[Path], None], str]] = {
    "GGUF": (b"GGUF" + struct.pack("<IQQ", 3, 1, 1) + bytes(50), "a GGUF file"),
    "GGML": (b"GGML" + bytes(50), "a GGML file"),
    "HDF5": (b"\x89HDF\r\n\x1a\n" + bytes(50), "an HDF5 file"),
    "NumPy": (b"\x93NUMPY\x01\x00" + bytes(50), "an array of NumPy"),
    "gzip": (b"\x1f\x8b\x08" + bytes(50), "a gzip file"),
    "pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
    "page": (b"<!DOCTYPE html><html>", "HTML"),
    "TFLite": (b"\x1c\0\0\0TFL3" + bytes(50), "TensorFlow Lite"),
    "empty": (b"", "empty"),
    "text": (b"just some text that is not weights at all", "any known kind of weights"),
    "random": (bytes(R.integers(0, 256, 999, dtype=np.uint8) | 1), "any known kind of weights"),
    "archive": (kolmo.compress(b"hello"), "an archive of kolmo"),
}


@pytest.mark.parametrize("suffix", [".th", ".bin", ".safetensors", ".onnx", "", ".gguf"])
@pytest.mark.parametrize("kind", FOREIGN)
def test_other_kinds_of_file(tmp_path: Path, kind: str, suffix: str) -> None:
    """One clear line, whatever the name; by every verb that opens weights."""
    content, what = FOREIGN[kind]
    path = tmp_path / f"model{suffix}"
    assert isinstance(content, bytes)
    path.write_bytes(content)
    with pytest.raises(KolmoError) as caught:
        kolmo.shrink(path, tmp_path / "out", kolmo.Step(0.1))
    assert what in str(caught.value) or suffix in (".safetensors", ".onnx")
    out = str(tmp_path / "out")
    for verb in (["shrink", str(path), "-o", out], ["info", str(path)], ["expand", str(path), "-o", out]):
        done = run(*verb)
        assert done.return_value == 1
        assert len(done.stderr.splitlines()) == 1
        assert "would have" not in done.stderr
        assert str(path) in done.stderr
    assert not (tmp_path / "out").exists()


@kernels
@pytest.mark.parametrize("suffix", [".th", ".pth", ".bin", "", ".safetensors", ".onnx", ".weights"])
@pytest.mark.parametrize("zipped", [False, True])
def test_torch_files_by_any_name(tmp_path: Path, suffix: str, zipped: bool) -> None:
    torch: Any = pytest.importorskip("torch")
    path = tmp_path / f"model{suffix}"
    state = {name: torch.from_numpy(value) for name, value in network().items()}
    torch.save({"state_dict": state, "epoch": 3}, path, _use_new_zipfile_serialization=zipped)
    kolmo.shrink(path, tmp_path / "out", kolmo.Bits(4))
    assert set(kolmo.load(tmp_path / "out")) == set(state)


@kernels
def test_safetensors_by_any_name(tmp_path: Path) -> None:
    from test_weights import plain

    for suffix in (".bin", ".pt", ".onnx", ""):
        plain(tmp_path / f"m{suffix}", network())
        kolmo.shrink(tmp_path / f"m{suffix}", tmp_path / "out", kolmo.Bits(4), force=True)


@pytest.mark.parametrize("suffix", [".th", ".bin", "", ".safetensors"])
def test_pickles_run_nothing(tmp_path: Path, suffix: str, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("torch")
    for protocol in (2, 4):
        (tmp_path / f"evil{suffix}").write_bytes(pickle.dumps({"w": Evil()}, protocol))
        with pytest.raises(KolmoError):
            kolmo.shrink(tmp_path / f"evil{suffix}", tmp_path / "out", kolmo.Step(0.1))
    assert "this ran" not in capsys.readouterr().out


@pytest.mark.parametrize(("make", "name"), [(numpy_file, "a.npz"), (zip_file, "a.zip"), (zip_file, "a.th")])
def test_archives(tmp_path: Path, make: Callable[[Path], None], name: str) -> None:
    pytest.importorskip("torch")
    make(tmp_path / name)
    with pytest.raises(FormatError, match="arrays of NumPy" if name == "a.npz" else "torch cannot load"):
        kolmo.shrink(tmp_path / name, tmp_path / "out", kolmo.Step(0.1))


def strange() -> dict[str, Any]:
    torch: Any = pytest.importorskip("torch")
    matrix = torch.randn(64, 64)
    nested = torch.nested.nested_tensor([torch.randn(3, 64), torch.randn(5, 64)], layout=torch.jagged)
    return {
        "sparse_coo": matrix.to_sparse(),
        "sparse_csr": matrix.to_sparse_csr(),
        "meta": matrix.to("meta"),
        "quantised": torch.quantize_per_tensor(matrix, 0.1, 0, torch.qint8),
        "nested": nested,
    }


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["sparse_coo", "sparse_csr", "meta", "quantised", "nested"])
def test_tensors_without_plain_memory(tmp_path: Path, kind: str) -> None:
    with pytest.raises(KolmoError, match=rf"'odd\.{kind}' is .*(give|load)") as caught:
        kolmo.shrink({f"odd.{kind}": strange()[kind]}, tmp_path / "out", kolmo.Step(0.1))
    assert len(str(caught.value).splitlines()) == 1
    assert not (tmp_path / "out").exists()


@kernels
def test_conjugates_and_negatives(tmp_path: Path) -> None:
    torch: Any = pytest.importorskip("torch")
    value = torch.randn(64, 64, dtype=torch.complex64)
    kolmo.shrink({"c": value.conj(), "n": value.conj().imag}, tmp_path / "m", kolmo.Step(0.01))
    found = kolmo.load(tmp_path / "m", framework="pt")
    assert torch.equal(found["c"], value.conj().resolve_conj())
    assert (found["n"] + value.imag).abs().max() < 0.02
