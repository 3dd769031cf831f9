"""Models in ONNX: every way to store a tensor, back to the same graph, files that lie."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import kolmo
from kolmo.cli import group
from kolmo.errors import CorruptError, FormatError, KolmoError, MissingExtraError, ShrinkWarning
from kolmo.native.dispatch import SLOW
from kolmo.weights.sources.checkpoint import open_checkpoint
from kolmo.weights.sources.onnx import DTYPES, GRAPH

onnx: Any = pytest.importorskip("onnx", reason="onnx is not installed; pip install 'kolmo-codelength[onnx]'")

WAY: dict[str, Any] = {"hyperfunction": "torus"} if SLOW else {"goal": kolmo.Step(0.01)}
MATRIX = (np.random.default_rng(0).standard_normal((48, 40)) * 0.1).astype(np.float32)


def graph_of(*tensors: Any) -> Any:
    """A model that multiplies by the first of its tensors."""
    value = onnx.helper.make_tensor_value_info
    kinds = onnx.TensorProto
    node = onnx.helper.make_node("MatMul", ["x", tensors[0].name], ["y"])
    inside = onnx.helper.make_graph([node], "g", [value("x", 1, [1, 48])], [value("y", 1, [1, 40])], tensors)
    assert kinds.FLOAT == 1
    return onnx.helper.make_model(inside, producer_name="a test")


def matrix(name: str = "w") -> Any:
    return onnx.numpy_helper.from_array(MATRIX, name)


def save(path: Path, *tensors: Any) -> Path:
    path.write_bytes(graph_of(*tensors).SerializeToString())
    return path


def as_raw(model: Any) -> Any:
    """All initialisers with raw data, as they come back."""
    for tensor in model.graph.initializer:
        if tensor.data_type in DTYPES:
            array = onnx.numpy_helper.to_array(tensor)
            for field in ("float_data", "int32_data", "int64_data", "double_data", "uint64_data", "raw_data"):
                tensor.ClearField(field)
            tensor.raw_data = array.tobytes()
    return model


def test_round_trip(tmp_path: Path) -> None:
    path = save(tmp_path / "m.onnx", matrix(), onnx.numpy_helper.from_array(np.arange(5), "shape"))
    report = kolmo.shrink(path, tmp_path / "small", **WAY)
    assert {one.name: one.kind for one in report.tensors} == {"w": "coded", "shape": "raw", GRAPH: "raw"}
    result = CliRunner().invoke(
        group, ["expand", str(tmp_path / "small"), "-o", str(tmp_path / "again.onnx")], standalone_mode=False
    )
    assert result.return_value == 0
    again, before = onnx.load(tmp_path / "again.onnx"), onnx.load(path)
    onnx.checker.check_model(again)
    decoded = kolmo.load(tmp_path / "small")
    np.testing.assert_array_equal(onnx.numpy_helper.to_array(again.graph.initializer[0]), decoded["w"])
    assert float(np.abs(decoded["w"] - MATRIX).max()) < 0.02
    again.graph.initializer[0].CopyFrom(before.graph.initializer[0])
    assert again == before
    kolmo.expand(tmp_path / "small", tmp_path / "again.safetensors")
    assert set(open_checkpoint(tmp_path / "again.safetensors").tensors) == {"w", "shape", GRAPH}


def test_constant_nodes(tmp_path: Path) -> None:
    """Weights in Constant nodes are coded as initialisers are; shapes and scalars stay in the graph."""
    model = graph_of(matrix())
    tensor = model.graph.initializer[0]
    small = onnx.numpy_helper.from_array(np.arange(4), "few")
    for name, value in (("w", tensor), ("few", small)):
        node = onnx.helper.make_node("Constant", [], [name], value=value)
        model.graph.node.insert(0, node)
    model.graph.node[1].attribute[0].t.name = ""  # the output's name counts
    del model.graph.initializer[:]
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    report = kolmo.shrink(tmp_path / "m.onnx", tmp_path / "small", **WAY)
    assert {one.name: one.kind for one in report.tensors} == {"w": "coded", GRAPH: "raw"}
    kolmo.expand(tmp_path / "small", tmp_path / "again.onnx")
    again = onnx.load(tmp_path / "again.onnx")
    onnx.checker.check_model(again)
    found = {node.output[0]: node.attribute[0].t for node in again.graph.node if node.op_type == "Constant"}
    np.testing.assert_array_equal(onnx.numpy_helper.to_array(found["w"]), kolmo.load(tmp_path / "small")["w"])
    np.testing.assert_array_equal(onnx.numpy_helper.to_array(found["few"]), np.arange(4))
    assert not report.warnings


def test_what_stays_raw_is_said(tmp_path: Path) -> None:
    big = np.random.default_rng(1).standard_normal(1 << 18).astype(np.float32)
    model = graph_of(matrix())
    node = onnx.helper.make_node("Constant", [], ["list"], value_floats=big.tolist())
    model.graph.node.insert(0, node)
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    with pytest.warns(ShrinkWarning, match="stay raw"):
        kolmo.shrink(tmp_path / "m.onnx", tmp_path / "small", **WAY)


@pytest.mark.parametrize("number", sorted(DTYPES))
@pytest.mark.parametrize("raw", [True, False])
def test_every_dtype_and_field(tmp_path: Path, number: int, raw: bool) -> None:
    kind = onnx.helper.tensor_dtype_to_np_dtype(number)
    values = np.array([[0, 1, 2], [3, 4, 0.5]]).astype(kind)
    if raw:
        tensor = onnx.helper.make_tensor("t", number, [2, 3], values.tobytes(), raw=True)
    else:
        tensor = onnx.helper.make_tensor("t", number, [2, 3], values.reshape(-1))
    path = save(tmp_path / "m.onnx", matrix(), tensor)
    found = open_checkpoint(path).tensors["t"]
    assert (found.dtype, found.shape, found.read()) == (DTYPES[number], (2, 3), values.tobytes())
    kolmo.shrink(path, tmp_path / "small", selection=kolmo.Selection(keep=["w"]))
    kolmo.expand(tmp_path / "small", tmp_path / "again.onnx")
    assert onnx.load(tmp_path / "again.onnx") == as_raw(onnx.load(path))


def test_negative_numbers_in_wide_fields(tmp_path: Path) -> None:
    tensor = onnx.helper.make_tensor("t", onnx.TensorProto.INT8, [2], [-1, 5])
    assert open_checkpoint(save(tmp_path / "m.onnx", matrix(), tensor)).tensors["t"].read() == b"\xff\x05"


def test_what_safetensors_lack_stays_in_the_graph(tmp_path: Path) -> None:
    words = onnx.helper.make_tensor("words", onnx.TensorProto.STRING, [2], [b"a", b"b"])
    path = save(tmp_path / "m.onnx", matrix(), words)
    kolmo.shrink(path, tmp_path / "small", selection=kolmo.Selection(keep=["w"]))
    assert set(kolmo.load(tmp_path / "small")) == {"w", GRAPH}
    kolmo.expand(tmp_path / "small", tmp_path / "again.onnx")
    assert onnx.load(tmp_path / "again.onnx") == onnx.load(path)


def test_external_data(tmp_path: Path) -> None:
    onnx.save(graph_of(matrix()), tmp_path / "m.onnx", save_as_external_data=True, location="m.data", size_threshold=0)
    assert (tmp_path / "m.data").stat().st_size >= MATRIX.nbytes
    assert open_checkpoint(tmp_path / "m.onnx").tensors["w"].read() == MATRIX.tobytes()
    kolmo.shrink(tmp_path / "m.onnx", tmp_path / "small", selection=kolmo.Selection(keep=["w"]))
    kolmo.expand(tmp_path / "small", tmp_path / "again.onnx")
    assert onnx.load(tmp_path / "again.onnx") == graph_of(matrix())
    (tmp_path / "m.data").write_bytes(b"short")
    with pytest.raises(CorruptError, match=r"ends behind the end of 'm\.data'"):
        open_checkpoint(tmp_path / "m.onnx").tensors["w"].read()
    (tmp_path / "m.data").unlink()
    (tmp_path / "m.data").symlink_to("/dev/zero")
    with pytest.raises(CorruptError, match="not a plain file"):
        open_checkpoint(tmp_path / "m.onnx").tensors["w"].read()
    (tmp_path / "m.data").unlink()
    with pytest.raises(FileNotFoundError):
        open_checkpoint(tmp_path / "m.onnx").tensors["w"].read()


def external(**entries: str) -> Any:
    tensor = matrix()
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=value)
    return tensor


def changed(change: Callable[[Any], Any]) -> Any:
    tensor = matrix()
    change(tensor)
    return tensor


@pytest.mark.parametrize(
    "make",
    [
        lambda: external(location="../secret"),
        lambda: external(location="/etc/passwd"),
        lambda: external(location="a/b"),
        lambda: external(location=".."),
        lambda: external(location="a\0b"),
        lambda: external(),
        lambda: external(location="beside", offset="-1"),
        lambda: external(location="beside", offset="9" * 30),
        lambda: external(location="beside", offset="999999"),
        lambda: external(location="beside", length="5"),
        lambda: changed(lambda one: setattr(one, "raw_data", b"abc")),
        lambda: changed(lambda one: one.ClearField("raw_data")),
        lambda: changed(lambda one: one.dims.append(1 << 40)),
        lambda: changed(lambda one: one.dims.append(-1)),
        lambda: changed(lambda one: one.dims.extend([1] * 40)),
        lambda: changed(lambda one: setattr(one, "name", "")),
        lambda: changed(lambda one: setattr(one, "name", GRAPH)),
        lambda: changed(lambda one: setattr(one, "name", "__metadata__")),
        lambda: changed(lambda one: setattr(one, "data_type", 8)),
        lambda: changed(lambda one: setattr(one.segment, "begin", 1)),
    ],
)
def test_initialisers_that_lie(tmp_path: Path, make: Callable[[], Any]) -> None:
    (tmp_path / "beside").write_bytes(bytes(MATRIX.nbytes))
    (tmp_path.parent / "secret").write_bytes(bytes(MATRIX.nbytes))
    tensor = make()
    path = save(tmp_path / "m.onnx", matrix("other"), tensor)
    if tensor.data_type == 8:  # stays in the graph, whatever it is
        assert set(open_checkpoint(path).tensors) == {"other", GRAPH}
        return
    with pytest.raises(FormatError) as caught:
        kolmo.shrink(path, tmp_path / "small", **WAY)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "small").exists()


def test_two_of_one_name(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="taken or reserved"):
        open_checkpoint(save(tmp_path / "m.onnx", matrix(), matrix()))


@pytest.mark.parametrize("data", [b"\xff" * 100, b"\x08\x07", b"\x08\x07\x12" + b"\xff" * 50])
def test_no_model(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "m.onnx").write_bytes(data)
    with pytest.raises(CorruptError, match=r"m\.onnx: is not a model in ONNX"):
        open_checkpoint(tmp_path / "m.onnx")


def test_cut_and_flipped(tmp_path: Path) -> None:
    """Whatever the damage, an error of ours or a checkpoint."""
    path, r = save(tmp_path / "m.onnx", matrix()), np.random.default_rng(0)
    whole = path.read_bytes()
    for _ in range(200):
        data = bytearray(whole[: int(r.integers(0, len(whole)))] if r.random() < 0.3 else whole)
        for _ in range(3):
            if data:
                data[int(r.integers(0, min(len(data), 200)))] = int(r.integers(0, 256))
        path.write_bytes(bytes(data))
        try:
            for tensor in open_checkpoint(path).tensors.values():
                assert len(tensor.read()) == tensor.size
        except (KolmoError, FileNotFoundError):
            pass


def test_graph_and_tensors_that_differ(tmp_path: Path) -> None:
    """A shrunk file whose graph is of another model, or none."""
    other = {"w": MATRIX.astype(np.float16), GRAPH: np.frombuffer(graph_of(matrix()).SerializeToString(), np.uint8)}
    for values in (other, {**other, GRAPH: np.frombuffer(b"nonsense", np.uint8)}):
        kolmo.shrink(values, tmp_path / "small", force=True, selection=kolmo.Selection(keep=["w"]))
        with pytest.raises(CorruptError):
            kolmo.expand(tmp_path / "small", tmp_path / "again.onnx")
    kolmo.shrink({"w": MATRIX}, tmp_path / "small", force=True, selection=kolmo.Selection(keep=["w"]))
    with pytest.raises(FormatError, match="not made from a model in ONNX"):
        kolmo.expand(tmp_path / "small", tmp_path / "again.onnx")
    assert not (tmp_path / "again.onnx").exists()


def test_missing_onnx(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "m.onnx", matrix())
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'kolmo-codelength\[onnx\]'"):
        open_checkpoint(path)
