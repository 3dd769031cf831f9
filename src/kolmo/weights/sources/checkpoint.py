"""Checkpoints, tensor by tensor: safetensors files and folders, torch state dicts and modules, ONNX, dictionaries.

What it is not: it loads nothing until a tensor is asked for, executes no pickle (`weights_only`), and writes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from kolmo.errors import CorruptError, FormatError, MissingExtraError
from kolmo.foreign import quoted
from kolmo.installing import install
from kolmo.predictors.embedded.network_file import FORMAT as NETWORK
from kolmo.safetensors import Kind, Place, read_span
from kolmo.weights.sources.dtypes import from_numpy, from_torch, numpy_dtype, torch_dtype
from kolmo.weights.sources.kinds import ONNX, SAFETENSORS, TORCH, header_of, kind_of_file
from kolmo.weights.sources.onnx import SUFFIX, Graph

WEIGHTS = ("model.safetensors", "pytorch_model.bin")  # whole, or in shards with an index; the first that is there
WITHIN = ("state_dict", "model_state_dict", "model")  # where training loops put the weights
REMEDY = "name a safetensors file, a folder of them, a torch state dict, or a model in ONNX"
LARGEST_INDEX = 100_000_000


@dataclass(frozen=True)
class Tensor(Kind):
    """A tensor that can be read: its bytes, little-endian, when asked for."""

    read: Callable[[], bytes]


@dataclass(frozen=True)
class Checkpoint:
    """All tensors of a model, by name, what its files say beside, and whose they are: "np", or "pt" of torch.

    `buffers` are those that a module says are no weights; `notes` are what a person should know of the source.
    """

    name: str
    tensors: dict[str, Tensor]
    metadata: dict[str, str]
    framework: str = "np"
    buffers: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """Bytes of all tensors."""
        return sum(tensor.size for tensor in self.tensors.values())


def open_checkpoint(source: Any) -> Checkpoint:
    """A checkpoint from a file, a folder, a dictionary of arrays of NumPy or tensors of torch, or a module of torch.

    Raises:
        FormatError: it is none, or is one that kolmo shrank.
        CorruptError: it is damaged, or incomplete.
        MissingExtraError: it needs torch, which is not installed.
        OSError: it cannot be read.
    """
    if isinstance(source, Mapping):
        return _from_dictionary("the dictionary", source)
    if hasattr(source, "state_dict"):
        found = _from_dictionary(f"the {type(source).__name__}", source.state_dict())
        buffers = getattr(source, "named_buffers", dict)
        return replace(found, buffers=frozenset(name for name, _ in buffers()))
    path = Path(source)
    return _from_folder(path) if path.is_dir() else _from_file(path)


def _from_folder(folder: Path) -> Checkpoint:
    for name in WEIGHTS:
        if (folder / name).exists():
            return _from_file(folder / name)
        if (index := folder / f"{name}.index.json").exists():
            return _from_shards(folder, index)
    found = sorted(folder.glob("*.safetensors"))
    if len(found) == 1:
        return _from_file(found[0])
    what = "several safetensors files, and no index" if found else f"neither {WEIGHTS[0]} nor its index"
    raise FormatError(f"{folder}: has {what}; name the file")


def _from_shards(folder: Path, index: Path) -> Checkpoint:
    try:
        if index.stat().st_size > LARGEST_INDEX:
            raise ValueError("too long")
        parts = json.loads(index.read_bytes())["weight_map"]
        if not all(isinstance(part, str) and part == Path(part).name for part in parts.values()):
            raise ValueError("a shard that is no name of a file beside it")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CorruptError(f"{index}: is no index of shards ({error}); get it again") from None
    shards = {part: _from_file(folder / part) for part in sorted(set(parts.values()))}
    tensors, metadata = {}, {}
    for name, part in parts.items():
        if name not in shards[part].tensors:
            raise CorruptError(
                f"{folder / part}: lacks tensor {quoted(name)}, which {index.name} names; get both again"
            )
        tensors[name] = shards[part].tensors[name]
    for shard in shards.values():
        metadata.update(shard.metadata)
    return Checkpoint(str(folder), tensors, metadata)


def _from_file(path: Path) -> Checkpoint:
    kind = kind_of_file(path)
    if kind == TORCH:
        return _from_dictionary(str(path), _unpickled(path))
    if kind == ONNX or (not kind and path.suffix == SUFFIX):
        return _from_onnx(path)
    if kind != SAFETENSORS and path.suffix != ".safetensors":
        what = f"is {kind}" if kind else "begins as no kind of weights that are known here"
        raise FormatError(f"{path}: {what}; {REMEDY}" if ";" not in what else f"{path}: {what}, or {REMEDY}")
    header = header_of(path)
    if "kolmo" in header.metadata:
        raise FormatError(f"{path}: is shrunk already; kolmo expand makes a checkpoint of it again")
    if header.metadata.get("format") == NETWORK:
        raise FormatError(f"{path}: is a network of kolmo train, which is small already; keep it as it is")
    tensors = {name: Tensor(p.dtype, p.shape, _reader(path, p)) for name, p in header.places.items()}
    return Checkpoint(str(path), tensors, header.metadata)


def _from_onnx(path: Path) -> Checkpoint:
    graph = Graph(path)
    tensors = {name: Tensor(kind.dtype, kind.shape, partial(graph.read, name)) for name, kind in graph.kinds.items()}
    return Checkpoint(str(path), tensors, {}, notes=graph.notes)


def _reader(path: Path, place: Place) -> Callable[[], bytes]:
    def read() -> bytes:
        with open(path, "rb") as file:
            return read_span(file, path, place.begin, place.size)

    return read


def _unpickled(path: Path) -> Mapping[str, Any]:
    """What a torch file holds, mapped into memory where its kind allows that."""
    with open(path, "rb") as file:  # missing or forbidden: said as of all files
        zipped = file.read(4) == b"PK\x03\x04"
    try:
        import torch
    except ImportError as error:
        raise MissingExtraError(f"{path}: is read with torch ({error}); {install('hf')}") from None
    how: dict[str, Any] = {"map_location": "cpu", "weights_only": True}
    try:
        if path.suffix == ".safetensors":  # by which torch would go
            with open(path, "rb") as file:
                found = torch.load(file, **how)
        else:
            found = torch.load(path, mmap=zipped, **how)
    except Exception as error:  # of many kinds: pickle, zip, unicode, torch's own
        reason = str(error).partition("\n")[0][:120]
        raise CorruptError(f"{path}: torch cannot load it as weights alone ({reason}); {REMEDY}") from None
    for key in WITHIN:
        if isinstance(found, Mapping) and isinstance(found.get(key), Mapping):
            found = found[key]
            break
    if not isinstance(found, Mapping):
        raise FormatError(f"{path}: holds a {type(found).__name__}, no state dict; {REMEDY}")
    return found


def _from_dictionary(name: str, values: Mapping[str, Any]) -> Checkpoint:
    if "__metadata__" in values:
        raise FormatError(f"{name}: has a tensor '__metadata__', a name that safetensors need; rename it")
    tensors = {str(key): _from_value(f"{name}: {quoted(key)}", value) for key, value in values.items()}
    return Checkpoint(name, tensors, {}, "pt" if any(hasattr(value, "detach") for value in values.values()) else "np")


def _from_value(where: str, value: Any) -> Tensor:
    import numpy as np

    try:
        if hasattr(value, "detach"):
            if what := _not_plain(value):
                raise FormatError(f"{where} is {what}")
            return Tensor(torch_dtype(value), tuple(value.shape), lambda: from_torch(value))
        array = np.asarray(value)
        dtype = numpy_dtype(array)
    except (KeyError, ValueError):
        kind = getattr(value, "dtype", type(value).__name__)
        raise FormatError(f"{where} is a {kind}, no tensor that safetensors know; leave it out") from None
    return Tensor(dtype, array.shape, lambda: from_numpy(array))


def _not_plain(tensor: Any) -> str | None:
    """What a tensor of torch is, if it has no plain memory to read, and what to do."""
    import torch

    if tensor.is_meta:
        return "on device meta, without its numbers; load the weights first"
    if tensor.is_quantized:
        return "quantised by torch; give its dequantize(), or the model that it was made of"
    if tensor.is_nested:
        return "a nested tensor; give its parts, each under a name of its own"
    if tensor.layout != torch.strided:
        return f"sparse ({str(tensor.layout).removeprefix('torch.')}); give its to_dense()"
    if type(tensor).__torch_dispatch__ is not torch.Tensor.__torch_dispatch__:
        return f"a {type(tensor).__name__}, which is not a plain tensor; give one that is"
    return None
