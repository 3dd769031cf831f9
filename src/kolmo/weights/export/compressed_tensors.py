"""A model's folder as one of compressed-tensors, which vLLM and transformers load: integers and scales in safetensors.

Only the matrices of the layers become integers; the embedding, the output and all vectors stay as they are. The layout
is "pack-quantized" (docs/shrink.md, "For vLLM"). What it is not: a user of the package compressed-tensors.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kolmo.errors import FormatError, KolmoError
from kolmo.foreign import quoted
from kolmo.progress import Progress
from kolmo.safetensors import BYTES, Kind, lay_out, write_header
from kolmo.targets import Attributes
from kolmo.weights.export.architectures import BLOCK
from kolmo.weights.export.packed import pack, quantise, words_of
from kolmo.weights.export.source import Exported, Source, open_source
from kolmo.weights.sources.dtypes import FLOATS, SLAB, from_floats, to_floats
from kolmo.weights.sources.folder import ModelTarget

TYPES = {"int8": 8, "int4": 4}  # bits of an integer
GROUPS = (128, 64, 32)  # columns that share a scale; the first that divides all matrices is taken
KNOWN = (  # values of model_type; all matrices in the layers of these are of class Linear
    *("llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text", "phi3"),
    *("stablelm", "olmo2", "granite", "smollm3", "gpt_neox"),
)
IGNORED = ["lm_head", "embed_out"]  # modules of that class that stay as they are: the output, by both of its names


def export(
    folder: str | Path,
    target: str | Path,
    *,
    kind: str = "int8",
    base: bool = False,
    threads: int = 0,
    force: bool = False,
    progress: Progress | None = None,
) -> Exported:
    """Write the model of a folder as a folder of compressed-tensors.

    Args:
        folder: with a config.json, and weights that `kolmo.shrink` or transformers wrote.
        target: the folder to write.
        kind: the type of the matrices, one of `TYPES`.
        base: as for `kolmo.load`.
        threads: number of threads that decode; 0 is one for each core.
        force: overwrite the target.
        progress: called with the number of bytes just decoded.

    Raises:
        FormatError: the architecture is not known here, or it is not a folder of a model.
        CorruptError: a file of the folder is damaged.
        KolmoError: weights are not finite, or the target lies in the folder.
        TargetExistsError: the target exists and `force` is not set.
        ValueError: the type is unknown.
        OSError: reading or writing failed; no half-written folder is left.

    Example:
        >>> export("no-such-folder", "small")
        Traceback (most recent call last):
        kolmo.errors.FormatError: no-such-folder: is not a folder with a config.json; name the model's folder
    """
    if kind not in TYPES:
        raise ValueError(f"type {kind!r} is not known; choose one of {', '.join(TYPES)}")
    source = open_source(folder, base=base, threads=threads)
    path = os.fspath(target)
    if os.path.isfile(path):
        raise KolmoError(f"{path}: is a file, and compressed-tensors are a folder; choose another name")
    packing = _packing_of(source, TYPES[kind])
    made: dict[str, Kind] = {}
    for name, of in source.kinds.items():
        made.update(packing.tensors(name) if name in packing.names else {name: of})
    names = sorted(made, key=lambda name: (-BYTES[made[name].dtype], name))  # so that all are aligned
    places = lay_out((name, made[name].dtype, made[name].shape) for name in names)
    header = write_header({"format": "pt"}, places)
    ends = {name: len(header) + place.begin for name, place in places.items()}
    with ModelTarget(folder, path, force, quantisation=packing.quantisation()) as sink:
        sink.file.write(header)
        for name, data in source.read(list(source.kinds), progress):
            for one, piece in packing.pieces(name, data) if name in packing.names else [(name, data)]:
                sink.file.seek(ends[one])
                sink.file.write(piece)
                ends[one] += len(piece)
        sink.keep(Attributes())
    return Exported(max(ends.values()), error=packing.error / (packing.power or 1.0))


@dataclass
class _Packing:
    """What becomes of the matrices of a model.

    Attributes:
        source: the model.
        names: of the matrices that become integers.
        bits: of an integer.
        group: number of columns that share a scale; None for all.
        error, power: squares of the errors, and of the weights, of what was packed so far.
    """

    source: Source
    names: frozenset[str]
    bits: int
    group: int | None
    error: float = 0.0
    power: float = 0.0

    def tensors(self, name: str) -> dict[str, Kind]:
        """What a matrix becomes: names, dtypes and shapes."""
        of = self.source.kinds[name]
        rows, columns = of.shape
        return {
            f"{name}_packed": Kind("I32", (rows, words_of(columns, self.bits))),
            f"{name}_scale": Kind("F32" if of.dtype == "F64" else of.dtype, (rows, columns // (self.group or columns))),
            f"{name}_shape": Kind("I64", (2,)),
        }

    def pieces(self, name: str, data: bytes) -> Iterator[tuple[str, bytes]]:
        """The bytes of these tensors, some rows after the others, so that the work takes little memory.

        Raises:
            KolmoError: a weight is not a finite number.
        """
        of, (packed, scale, shape) = self.source.kinds[name], self.tensors(name).items()
        rows, columns = of.shape
        count, size = max(1, SLAB // columns), columns * BYTES[of.dtype]
        yield shape[0], np.array(of.shape, "<i8").tobytes()
        for begin in range(0, rows * size, count * size):
            slab = to_floats(data[begin : begin + count * size], of.dtype).reshape(-1, columns)
            if not np.isfinite(slab).all():
                raise KolmoError(
                    f"{self.source.name}: {quoted(name)} has weights that are not finite; make a GGUF file of it"
                )
            group, dtype = self.group or columns, scale[1].dtype
            integers, scales = quantise(slab, self.bits, group, dtype, self.source.steps.get(name))
            yield packed[0], pack(integers, self.bits)
            yield scale[0], from_floats(scales, dtype)
            errors = integers * np.repeat(scales, group, axis=1) - slab
            self.error += float(np.square(errors).sum(dtype=np.float64))
            self.power += float(np.square(slab).sum(dtype=np.float64))

    def quantisation(self) -> dict[str, Any]:
        """The `quantization_config` of config.json."""
        weights: dict[str, Any] = {"num_bits": self.bits, "type": "int", "symmetric": True, "dynamic": False}
        weights |= {"strategy": "group" if self.group else "channel", "group_size": self.group}
        scheme = {"targets": ["Linear"], "weights": weights, "input_activations": None, "output_activations": None}
        return {
            "quant_method": "compressed-tensors",
            "format": "pack-quantized",
            "quantization_status": "compressed",
            "config_groups": {"group_0": scheme},
            "ignore": IGNORED,
            "kv_cache_scheme": None,
            "global_compression_ratio": None,
        }


def _packing_of(source: Source, bits: int) -> _Packing:
    """Which matrices of a model become integers, and how many columns share a scale.

    Raises:
        FormatError: the architecture is not one of `KNOWN`, or a tensor of a layer is neither a vector nor a matrix of
            floats.
    """
    name = source.config.values.get("model_type")
    if not isinstance(name, str) or name not in KNOWN:
        where, known = source.config.path, ", ".join(KNOWN)
        raise FormatError(
            f"{where}: model_type {quoted(name)} cannot become compressed-tensors here; those that can: {known}"
        )
    names = {name for name, of in source.kinds.items() if BLOCK.search(name) and len(of.shape) > 1}
    for name in sorted(names):
        of = source.kinds[name]
        if of.dtype not in FLOATS or len(of.shape) > 2 or not of.count or not name.endswith(".weight"):
            raise FormatError(f"{source.name}: {quoted(name)} is not a matrix of floats, of which integers are made")
    if not names:
        raise FormatError(f"{source.name}: has no matrices in layers, of which integers are made; get it again")
    fitting = (group for group in GROUPS if not any(source.kinds[name].shape[1] % group for name in names))
    return _Packing(source, frozenset(names), bits, next(fitting, None))
