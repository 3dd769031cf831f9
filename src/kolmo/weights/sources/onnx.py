"""Models in ONNX: their initialisers and constants as tensors, and the model again from these.

    model.onnx --Graph--> tensors by name, and one more, `GRAPH`: the model without the bytes of these tensors
    tensors, GRAPH --assemble--> a model with all its weights inside

Initialisers of the main graph count, and large values of its Constant nodes, by the names of their outputs. Those of
graphs within it, of functions, and of types that safetensors lack, stay in `GRAPH`; `Graph.notes` says so where they
are many bytes.
A file is hostile: bytes are compared with what dtype and shape say before any are handed out, and external data are
read from plain files in the same folder alone. What it is not: it runs no model; onnx is there for its messages.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from math import prod
from pathlib import Path
from typing import Any

from kolmo.errors import CorruptError, FormatError, KolmoError, MissingExtraError
from kolmo.foreign import quoted, reason
from kolmo.installing import install
from kolmo.safetensors import MAX_DIMENSIONS, Kind, is_shape, read_span

GRAPH = "model.onnx"  # the tensor's name
SUFFIX = ".onnx"
LARGEST = (1 << 31) - 1  # bytes of a message
EXTERNAL = 1  # in `data_location`
LEAST = 1024  # numbers of a constant; smaller ones are shapes and scalars, and stay in the graph
NOTED = 1 << 20  # bytes of a graph that are more than nodes take
DTYPES = {  # numbers of TensorProto.DataType
    1: "F32",
    2: "U8",
    3: "I8",
    4: "U16",
    5: "I16",
    6: "I32",
    7: "I64",
    9: "BOOL",
    10: "F16",
    11: "F64",
    12: "U32",
    13: "U64",
    14: "C64",
    16: "BF16",
    17: "F8_E4M3",
    18: "F8_E4M3FNUZ",
    19: "F8_E5M2",
    20: "F8_E5M2FNUZ",
    24: "F8_E8M0",
}
FIELDS = {  # of numbers in a message, and what one of them holds; all other dtypes are in int32_data
    "F32": ("float_data", "<f4"),
    "C64": ("float_data", "<f4"),
    "F64": ("double_data", "<f8"),
    "I64": ("int64_data", "<i8"),
    "U32": ("uint64_data", "<u4"),
    "U64": ("uint64_data", "<u8"),
    "I32": ("int32_data", "<i4"),
}
WIDTHS = {1: "<u1", 2: "<u2"}
DATA = ("raw_data", "float_data", "int32_data", "int64_data", "double_data", "uint64_data")


class Graph:
    """A model in ONNX, opened.

    Attributes:
        kinds: of all tensors, `GRAPH` among them.
        notes: what stays raw.

    Raises:
        FormatError: an initialiser has no name, or one that another has or that is not free.
        CorruptError: it is no such model, or an initialiser contradicts itself.
        MissingExtraError: onnx is not installed.
        OSError: it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with open(path, "rb") as file:
            self._model = _parsed(file.read(LARGEST + 1), str(path))
        self._tensors: dict[str, Any] = {}
        self.kinds: dict[str, Kind] = {}
        for name, tensor in _tensors(self._model):
            shape = list(tensor.dims)
            if not name or name in self.kinds or name in (GRAPH, "__metadata__"):
                raise FormatError(
                    f"{path}: an initialiser is called {quoted(name)}, as another is, or none may be; rename it"
                )
            if tensor.data_type not in DTYPES:
                continue
            if not is_shape(shape) or len(shape) > MAX_DIMENSIONS or tensor.HasField("segment"):
                raise CorruptError(f"{path}: initialiser {quoted(name)} has a shape that cannot be; get it again")
            self._tensors[name] = tensor
            self.kinds[name] = Kind(DTYPES[tensor.data_type], tuple(shape))
        self._skeleton = self._bare()
        self.kinds[GRAPH] = Kind("U8", (len(self._skeleton),))
        self.notes = () if len(self._skeleton) < NOTED else (_note(len(self._skeleton)),)

    def read(self, name: str) -> bytes:
        """A tensor's bytes, little-endian.

        Raises:
            CorruptError: there are not as many as dtype and shape say, or they are not where they may be.
            OSError: a file of external data cannot be read.
        """
        if name == GRAPH:
            return self._skeleton
        tensor, kind = self._tensors[name], self.kinds[name]
        data = self._external(name, tensor, kind) if tensor.data_location == EXTERNAL else _inline(tensor, kind.dtype)
        if len(data) != kind.size:
            raise CorruptError(
                f"{self._path}: initialiser {quoted(name)} has {len(data)} bytes, not {kind.size}; get it again"
            )
        return data

    def _external(self, name: str, tensor: Any, kind: Kind) -> bytes:
        where = f"{self._path}: initialiser {quoted(name)}"
        entries = {entry.key: entry.value for entry in tensor.external_data}
        location = entries.get("location", "")
        file = self._path.parent / location
        if (
            not location
            or location != Path(location).name
            or location in (".", "..")
            or "\\" in location
            or "\0" in location
        ):
            raise CorruptError(f"{where} is in {quoted(location)}, which is no file beside the model; put it there")
        if file.is_symlink() or (file.exists() and not file.is_file()):
            raise CorruptError(f"{where} is in {quoted(location)}, which is no plain file; copy it there")
        begin, size = entries.get("offset", "0"), entries.get("length", str(kind.size))
        if not begin.isdecimal() or len(begin) > 18 or size != str(kind.size):
            raise CorruptError(
                f"{where} is at {quoted(begin, 20)} for {quoted(size, 20)} bytes, and has {kind.size}; get it again"
            )
        with open(file, "rb") as opened:
            if int(begin) + kind.size > os.fstat(opened.fileno()).st_size:
                raise CorruptError(f"{where} ends behind the end of {quoted(location)}; get both again")
            return read_span(opened, file, int(begin), kind.size)

    def _bare(self) -> bytes:
        """The model without the bytes that `read` gives."""
        bare = type(self._model)()
        bare.CopyFrom(self._model)
        for name, tensor in _tensors(bare):
            if name in self._tensors:
                for field in (*DATA, "external_data", "data_location"):
                    tensor.ClearField(field)
        data: bytes = bare.SerializeToString(deterministic=True)
        return data


def assemble(graph: bytes, kinds: Mapping[str, Kind], read: Callable[[str], bytes], where: str) -> bytes:
    """A model in ONNX with all tensors inside.

    Args:
        graph: the model without them.
        kinds: of all tensors that there are.
        read: the bytes of one, by its name.
        where: for errors.

    Raises:
        CorruptError: graph and tensors contradict each other.
        KolmoError: it would be larger than a file in ONNX can be.
    """
    model = _parsed(graph, where)
    wanted = [(name, one) for name, one in _tensors(model) if name in kinds]
    if len(graph) + sum(kinds[name].size + 16 for name, _ in wanted) > LARGEST:
        raise KolmoError(f"{where}: is above 2 GiB, which no single file in ONNX may be; expand it to safetensors")
    for name, tensor in wanted:
        kind = kinds[name]
        if DTYPES.get(tensor.data_type) != kind.dtype or tuple(tensor.dims) != kind.shape:
            raise CorruptError(f"{where}: initialiser {quoted(name)} is another than its tensor; get it again")
        tensor.raw_data = read(name)
    data: bytes = model.SerializeToString(deterministic=True)
    return data


def _parsed(data: bytes, where: str) -> Any:
    try:
        import onnx
        from google.protobuf.message import DecodeError
    except ImportError as error:
        raise MissingExtraError(f"{where}: is read with onnx ({error}); {install('onnx')}") from None
    model = onnx.ModelProto()
    try:
        if len(data) > LARGEST:
            raise DecodeError("more than 2 GiB")
        model.ParseFromString(data)
    except DecodeError as error:
        raise CorruptError(f"{where}: is no model in ONNX, or damaged ({reason(error)}); get it again", 0) from None
    if not model.HasField("graph"):
        raise CorruptError(f"{where}: is no model in ONNX: it has no graph; name another file", 0)
    return model


def _tensors(model: Any) -> Iterator[tuple[str, Any]]:
    """Initialisers of the main graph, and large values of its Constant nodes, by name."""
    for tensor in model.graph.initializer:
        yield tensor.name, tensor
    for node in model.graph.node:
        if node.op_type == "Constant" and node.domain in ("", "ai.onnx") and len(node.output) == 1:
            for attribute in node.attribute:
                if attribute.name == "value" and attribute.HasField("t") and prod(attribute.t.dims) >= LEAST:
                    yield node.output[0], attribute.t


def _note(size: int) -> str:
    return (
        f"{size} bytes of the model in ONNX stay raw: its graph, with what inner graphs, functions, lists of numbers "
        "and types that safetensors lack hold"
    )


def _inline(tensor: Any, dtype: str) -> bytes:
    """The bytes within a message: raw, or numbers one by one."""
    import numpy as np

    from kolmo.safetensors import BYTES

    if tensor.HasField("raw_data"):
        data: bytes = tensor.raw_data
        return data
    if dtype in FIELDS:
        field, code = FIELDS[dtype]
        numbers = np.array(getattr(tensor, field), np.uint64 if field == "uint64_data" else code)
    else:
        code = WIDTHS[BYTES[dtype]]
        numbers = np.array(tensor.int32_data, np.int64) & (1 << 8 * BYTES[dtype]) - 1
    return numbers.astype(code).tobytes()
