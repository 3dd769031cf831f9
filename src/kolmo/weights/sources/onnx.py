"""Models in ONNX: their initialisers and constants as tensors, and the model again from these.

    model.onnx --Graph--> tensors by name, and one more, `GRAPH`: the model without the bytes of these tensors
    tensors, GRAPH --assemble--> a model with all its weights inside

Tensors are the initialisers of the main graph, and large values of its Constant nodes, under the names of their
outputs. Those of inner graphs and functions, and those of types that safetensors lack, stay in `GRAPH`; `Graph.notes`
reports it if they are large. A file is hostile: the number of bytes is compared with dtype and shape before any are
returned, and external data are read only from plain files in the same folder. What it is not: a runtime; the package
onnx is needed only for its messages.
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

GRAPH = "model.onnx"  # name of the tensor that holds the model without the bytes of the others
SUFFIX = ".onnx"
MAX_MESSAGE_BYTES = (1 << 31) - 1
EXTERNAL = 1  # value of `data_location`
MIN_CONSTANT = 1024  # a constant of fewer numbers is a shape or a scalar, and stays in the graph
MIN_NOTED_BYTES = 1 << 20  # size of a graph from which a note reports it; nodes alone take less
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
FIELDS = {  # field of a message that holds the numbers, and their dtype there; all other dtypes are in int32_data
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
        kinds: dtypes and shapes of all tensors, `GRAPH` included.
        notes: a sentence about what stays raw, if that is large.

    Raises:
        FormatError: an initialiser has no name, the name of another one, or a reserved name.
        CorruptError: the file is not a model in ONNX, or an initialiser contradicts itself.
        MissingExtraError: onnx is not installed.
        OSError: the file cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with open(path, "rb") as file:
            self._model = _parsed(file.read(MAX_MESSAGE_BYTES + 1), str(path))
        self._tensors: dict[str, Any] = {}
        self.kinds: dict[str, Kind] = {}
        for name, tensor in _tensors(self._model):
            shape = list(tensor.dims)
            if not name or name in self.kinds or name in (GRAPH, "__metadata__"):
                raise FormatError(
                    f"{path}: an initialiser has the name {quoted(name)}, which is taken or reserved; rename it"
                )
            if tensor.data_type not in DTYPES:
                continue
            if not is_shape(shape) or len(shape) > MAX_DIMENSIONS or tensor.HasField("segment"):
                raise CorruptError(f"{path}: initialiser {quoted(name)} has an impossible shape; get it again")
            self._tensors[name] = tensor
            self.kinds[name] = Kind(DTYPES[tensor.data_type], tuple(shape))
        self._skeleton = self._bare()
        self.kinds[GRAPH] = Kind("U8", (len(self._skeleton),))
        self.notes = () if len(self._skeleton) < MIN_NOTED_BYTES else (_note(len(self._skeleton)),)

    def read(self, name: str) -> bytes:
        """The bytes of a tensor, little-endian.

        Raises:
            CorruptError: their number contradicts dtype and shape, or they are in a file outside of the folder.
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
            raise CorruptError(f"{where} is in {quoted(location)}, which is not a file beside the model; put it there")
        if file.is_symlink() or (file.exists() and not file.is_file()):
            raise CorruptError(f"{where} is in {quoted(location)}, which is not a plain file; copy it there")
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
        """The model without the bytes that `read` returns."""
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
        kinds: dtypes and shapes of all tensors.
        read: returns the bytes of a tensor, by its name.
        where: name of the file, for errors.

    Raises:
        CorruptError: graph and tensors contradict each other.
        KolmoError: the model would be larger than a file in ONNX can be.
    """
    model = _parsed(graph, where)
    wanted = [(name, one) for name, one in _tensors(model) if name in kinds]
    if len(graph) + sum(kinds[name].size + 16 for name, _ in wanted) > MAX_MESSAGE_BYTES:
        raise KolmoError(f"{where}: is above 2 GiB, the limit of a single file in ONNX; expand it to safetensors")
    for name, tensor in wanted:
        kind = kinds[name]
        if DTYPES.get(tensor.data_type) != kind.dtype or tuple(tensor.dims) != kind.shape:
            raise CorruptError(
                f"{where}: initialiser {quoted(name)} has another dtype or shape than its tensor; get it again"
            )
        tensor.raw_data = read(name)
    data: bytes = model.SerializeToString(deterministic=True)
    return data


def _parsed(data: bytes, where: str) -> Any:
    try:
        import onnx
        from google.protobuf.message import DecodeError
    except ImportError as error:
        raise MissingExtraError(f"{where}: needs onnx ({error}); {install('onnx')}") from None
    model = onnx.ModelProto()
    try:
        if len(data) > MAX_MESSAGE_BYTES:
            raise DecodeError("more than 2 GiB")
        model.ParseFromString(data)
    except DecodeError as error:
        raise CorruptError(f"{where}: is not a model in ONNX, or damaged ({reason(error)}); get it again", 0) from None
    if not model.HasField("graph"):
        raise CorruptError(f"{where}: is not a model in ONNX: it has no graph; name another file", 0)
    return model


def _tensors(model: Any) -> Iterator[tuple[str, Any]]:
    """Initialisers of the main graph, and large values of its Constant nodes, with their names."""
    for tensor in model.graph.initializer:
        yield tensor.name, tensor
    for node in model.graph.node:
        if node.op_type == "Constant" and node.domain in ("", "ai.onnx") and len(node.output) == 1:
            for attribute in node.attribute:
                if attribute.name == "value" and attribute.HasField("t") and prod(attribute.t.dims) >= MIN_CONSTANT:
                    yield node.output[0], attribute.t


def _note(size: int) -> str:
    return (
        f"{size} bytes of the model in ONNX stay raw: its graph, with what inner graphs, functions, lists of numbers "
        "and types that safetensors lack hold"
    )


def _inline(tensor: Any, dtype: str) -> bytes:
    """The bytes within a message: raw, or as a list of numbers."""
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
