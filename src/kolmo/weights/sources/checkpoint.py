"""Checkpoints, tensor by tensor: safetensors files and folders, torch state dicts and modules, ONNX, dictionaries.

Nothing is loaded before a tensor is read, and no pickle is executed (`weights_only`). What it is not: a writer.
"""

from __future__ import annotations

import json
import warnings
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

WEIGHTS = (
    "model.safetensors",
    "pytorch_model.bin",
)  # whole, or in shards with an index; the first one counts
WITHIN = ("state_dict", "model_state_dict", "model")  # keys under which training loops store the weights
REMEDY = "name a safetensors file, a folder of them, a torch state dict, or a model in ONNX"
MAX_INDEX_BYTES = 100_000_000


@dataclass(frozen=True)
class Tensor(Kind):
    """A tensor of a checkpoint; `read` returns its bytes, little-endian."""

    read: Callable[[], bytes]


@dataclass(frozen=True)
class Checkpoint:
    """All tensors of a model.

    Attributes:
        name: name of the source, for messages.
        tensors: the tensors by name.
        metadata: the metadata of safetensors files.
        framework: "np", or "pt" if the tensors are of torch.
        buffers: names of the tensors that a module of torch declares as buffers.
        notes: sentences about the source for the report.
    """

    name: str
    tensors: dict[str, Tensor]
    metadata: dict[str, str]
    framework: str = "np"
    buffers: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """Number of bytes of all tensors."""
        return sum(tensor.size for tensor in self.tensors.values())


def open_checkpoint(source: Any) -> Checkpoint:
    """A checkpoint from a file, a folder, a dictionary of arrays of NumPy or tensors of torch, or a module of torch.

    Raises:
        FormatError: the source is not a checkpoint, or kolmo has shrunk it already.
        CorruptError: the source is damaged or incomplete.
        MissingExtraError: torch or onnx is needed, and not installed.
        OSError: the source cannot be read.
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
    """All tensors of the shards that an index names, also those that it leaves out: transformers load these too."""
    try:
        if index.stat().st_size > MAX_INDEX_BYTES:
            raise ValueError("too long")
        parts = json.loads(index.read_bytes())["weight_map"]
        if not all(isinstance(part, str) and part == Path(part).name for part in parts.values()):
            raise ValueError("the name of a shard is not that of a file beside it")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CorruptError(f"{index}: is not an index of shards ({error}); get it again") from None
    shards = {part: _from_file(folder / part) for part in sorted(set(parts.values()))}
    tensors, metadata = {}, {}
    for name, part in parts.items():
        if name not in shards[part].tensors:
            raise CorruptError(
                f"{folder / part}: lacks tensor {quoted(name)}, which {index.name} lists; get both again"
            )
        tensors[name] = shards[part].tensors[name]
    unlisted: dict[str, str] = {}
    for part, shard in shards.items():
        for name in sorted(shard.tensors.keys() - parts.keys()):
            if name in unlisted:
                raise CorruptError(
                    f"{index}: does not say which of {unlisted[name]} and {part} has tensor {quoted(name)}, which both "
                    "hold; get them again"
                )
            unlisted[name] = part
        metadata.update(shard.metadata)
    tensors.update((name, shards[unlisted[name]].tensors[name]) for name in sorted(unlisted))
    notes: tuple[str, ...] = ()
    if unlisted:
        count = f"{len(unlisted)} tensor{'s' * (len(unlisted) > 1)}"
        notes = (f"{index.name} leaves out {count} of its shards ({quoted(min(unlisted))}), taken all the same",)
    return Checkpoint(str(folder), tensors, metadata, notes=notes)


def _from_file(path: Path) -> Checkpoint:
    kind = kind_of_file(path)
    if kind == TORCH:
        return _from_dictionary(str(path), _unpickled(path))
    if kind == ONNX or (not kind and path.suffix == SUFFIX):
        return _from_onnx(path)
    if kind != SAFETENSORS and path.suffix != ".safetensors":
        what = f"is {kind}" if kind else "does not begin like any known kind of weights"
        raise FormatError(f"{path}: {what}; {REMEDY}" if ";" not in what else f"{path}: {what}, or {REMEDY}")
    header = header_of(path)
    if "kolmo" in header.metadata:
        raise FormatError(f"{path}: is shrunk already; kolmo expand restores a checkpoint from it")
    if header.metadata.get("format") == NETWORK:
        raise FormatError(f"{path}: is a network of kolmo train, which is small already; use it as it is")
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
    """The state dict of a torch file, mapped into memory where the kind of the file allows that."""
    with open(path, "rb") as file:  # a missing or forbidden file gets the same error as any other
        zipped = file.read(4) == b"PK\x03\x04"
    try:
        import torch
    except ImportError as error:
        raise MissingExtraError(f"{path}: needs torch ({error}); {install('hf')}") from None
    how: dict[str, Any] = {"map_location": "cpu", "weights_only": True}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch, about the file; what matters is whether it can be loaded
            if path.suffix == ".safetensors":  # torch would judge the file by this name
                with open(path, "rb") as file:
                    found = torch.load(file, **how)
            else:
                found = torch.load(path, mmap=zipped, **how)
    except Exception as error:  # pickle, zip, unicode or one of torch
        reason = str(error).partition("\n")[0][:120]
        raise CorruptError(f"{path}: torch cannot load it as weights alone ({reason}); {REMEDY}") from None
    for key in WITHIN:
        if isinstance(found, Mapping) and isinstance(found.get(key), Mapping):
            found = found[key]
            break
    if not isinstance(found, Mapping):
        raise FormatError(f"{path}: holds a {type(found).__name__}, not a state dict; {REMEDY}")
    return found


def _from_dictionary(name: str, values: Mapping[str, Any]) -> Checkpoint:
    if "__metadata__" in values:
        raise FormatError(f"{name}: has a tensor '__metadata__', a name that is reserved in safetensors; rename it")
    tensors: dict[str, Tensor] = {}
    for key, value in values.items():
        where = f"{name}: {quoted(key)}"
        if str(key) in tensors:
            raise FormatError(f"{where} is the name of two tensors, once as {type(key).__name__}; rename one of them")
        tensors[str(key)] = _from_value(where, value)
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
        raise FormatError(
            f"{where} is a {kind}, which is not a tensor that safetensors can hold; leave it out"
        ) from None
    return Tensor(dtype, array.shape, lambda: from_numpy(array))


def _not_plain(tensor: Any) -> str | None:
    """If a tensor of torch has no plain memory to read: what it is, and what to do. Else None."""
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
