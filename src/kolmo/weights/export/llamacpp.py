"""A model's folder as one GGUF file for llama.cpp; one tensor after the other, so that memory holds few of them.

What it is not: the way back of a GGUF file that was shrunk without a loss (`kolmo.weights.gguf`).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kolmo.errors import CorruptError, KolmoError, MissingExtraError
from kolmo.foreign import printable, quoted
from kolmo.installing import install
from kolmo.progress import Progress
from kolmo.targets import Attributes, Target
from kolmo.weights.export.architectures import EMBEDDING, POSITIONS, Model, Move, moves
from kolmo.weights.export.families import model_of
from kolmo.weights.export.source import Exported, Source, open_source
from kolmo.weights.export.tokens import Vocabulary, vocabulary_of
from kolmo.weights.sources.dtypes import to_floats

if TYPE_CHECKING:
    from kolmo.weights.sources.dtypes import Floats

TYPES = ("f32", "f16", "bf16", "q8_0")
FILE_TYPES = {"f32": "ALL_F32", "f16": "MOSTLY_F16", "bf16": "MOSTLY_BF16", "q8_0": "MOSTLY_Q8_0"}
LARGEST = {"f16": 65504.0, "q8_0": 65504.0 * 127}  # magnitudes; the scale of a block of Q8_0 is a binary16
Q8_BLOCK = 32
SUFFIX = ".gguf"


def export(
    folder: str | Path,
    target: str | Path,
    *,
    kind: str = "f16",
    base: bool = False,
    threads: int = 0,
    force: bool = False,
    progress: Progress | None = None,
) -> Exported:
    """Write the model of a folder as a GGUF file.

    Args:
        folder: as for `open_source`.
        target: the file to write.
        kind: the type of the matrices, one of `TYPES`. Vectors and tables of positions are binary32 in all of them;
            matrices whose row length is not a multiple of 32 are binary16 in q8_0.
        base: as for `open_source`.
        threads: as for `open_source`.
        force: overwrite the target.
        progress: called with the number of bytes just decoded.

    Raises:
        MissingExtraError: the package gguf is not installed.
        FormatError: llama.cpp does not know the architecture or the tokenizer, or not as it is here.
        CorruptError: a file of the folder is damaged.
        KolmoError: the target is not a regular file, or one of the model, or weights are beyond the range of the type.
        TargetExistsError: the target exists and `force` is not set.
        ValueError: the type is unknown.
        OSError: reading or writing failed; no half-written file is left.

    Example:
        >>> export("no-such-folder", "model.gguf")
        Traceback (most recent call last):
        kolmo.errors.FormatError: no-such-folder: is not a folder with a config.json, of which GGUF is made; ...
    """
    if kind not in TYPES:
        raise ValueError(f"type {kind!r} is not known; choose one of {', '.join(TYPES)}")
    source = open_source(folder, base=base, threads=threads)
    try:
        import gguf
    except ImportError as error:
        raise MissingExtraError(f"GGUF files need the package gguf ({error}); {install('gguf')}") from None
    config = source.config
    model = model_of(config)
    steps = moves(model, source.kinds, source.tied, source.name)
    rows = next(step.shape[0] for step in steps if step.target == EMBEDDING)
    if rows != config.whole("vocab_size", default=rows):
        raise CorruptError(f"{config.path}: vocab_size is not the {rows} rows of the embedding; get both again")
    vocabulary = vocabulary_of(Path(folder), config, rows)
    path = os.fspath(target)
    if os.path.isfile(path) and not path.endswith(SUFFIX) and Path(path).resolve().parent == Path(folder).resolve():
        raise KolmoError(f"{path}: is a file of the model; choose another name")
    with Target(path, force) as sink:
        if not sink.whole:
            raise KolmoError(f"{path}: is not a regular file, in which alone GGUF can be written; name one")
        writer = gguf.GGUFWriter(sink.place, model.architecture)
        try:
            _describe(writer, printable(Path(folder).resolve().name), kind, rows, model, vocabulary)
            _write(writer, kind, model, steps, source, progress)
        finally:
            writer.close()
        size = os.path.getsize(sink.place)
        sink.keep(Attributes())
    return Exported(size, model.notes + vocabulary.notes)


def _describe(writer: Any, name: str, kind: str, rows: int, model: Model, vocabulary: Vocabulary) -> None:
    from gguf import GGML_QUANT_VERSION, LlamaFileType

    writer.add_type("model")
    writer.add_name(name)
    writer.add_file_type(LlamaFileType[FILE_TYPES[kind]])
    writer.add_quantization_version(GGML_QUANT_VERSION)
    writer.add_vocab_size(rows)
    model.add_to(writer)
    vocabulary.add_to(writer)


def _write(writer: Any, kind: str, model: Model, steps: list[Move], source: Source, progress: Progress | None) -> None:
    """The directory, then tensor after tensor."""
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, quants

    made = model.made()
    for name, values in made.items():
        writer.add_tensor_info(name, values.shape, values.dtype, values.nbytes)
    types = [GGMLQuantizationType[_type_of(step, kind).upper()] for step in steps]
    for step, type_ in zip(steps, types, strict=True):
        weights, size = GGML_QUANT_SIZES[type_]
        count = int(np.prod(step.shape, dtype=np.int64)) // weights * size
        writer.add_tensor_info(step.target, step.shape, np.dtype(np.float32), count, raw_dtype=type_)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for values in made.values():
        writer.write_tensor_data(values)
    data_of = source.read([step.source for step in steps], progress)
    for step, type_, (_, data) in zip(steps, types, data_of, strict=True):
        found = source.kinds[step.source]
        values = step.apply(to_floats(data, found.dtype).reshape(found.shape))
        _check_range(values, _type_of(step, kind), step.source, source.name)
        writer.write_tensor_data(quants.quantize(values, type_))


def _type_of(step: Move, kind: str) -> str:
    if len(step.shape) < 2 or step.target == POSITIONS:
        return "f32"
    return "f16" if kind == "q8_0" and step.shape[-1] % Q8_BLOCK else kind


def _check_range(values: Floats, kind: str, name: str, where: str) -> None:
    largest = LARGEST.get(kind)
    if largest is not None and values.size and max(-float(values.min()), float(values.max())) > largest:
        raise KolmoError(
            f"{where}: {quoted(name)} has weights beyond the range of {kind}; choose kind='bf16' or kind='f32'"
        )
