"""A shrunk checkpoint, decoded: as arrays, as a plain safetensors file, or as the model in ONNX that it was made from.

What it is not: the format (`reader`, `record`). The checksum of every tensor is compared before it is returned.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from kolmo.errors import FormatError, KolmoError, MissingExtraError
from kolmo.installing import install
from kolmo.parallel import available_cores
from kolmo.progress import Progress
from kolmo.safetensors import BYTES, Kind, lay_out, write_header
from kolmo.targets import Attributes, Target
from kolmo.weights.format.reader import ShrunkFile
from kolmo.weights.gguf import file as gguf
from kolmo.weights.sources.dtypes import as_numpy, as_torch
from kolmo.weights.sources.folder import open_target
from kolmo.weights.sources.hyper_compression import PublishedFolder, is_published
from kolmo.weights.sources.onnx import GRAPH, SUFFIX, assemble


def load(
    path: str | Path,
    names: Iterable[str] | None = None,
    *,
    framework: str = "np",
    base: bool = False,
    threads: int = 0,
) -> dict[str, Any]:
    """The tensors of a shrunk checkpoint, by name.

    Args:
        path: a file or a folder that `kolmo.shrink` wrote.
        names: names of the wanted tensors, or one name; nothing else of the file is read. All tensors if None.
        framework: `"np"` for arrays, in which bfloat16 becomes float32 and 8-bit floats their bytes; `"pt"` for torch.
        base: for a lossless file, read only the bases: a third of the bytes, and weights with an error.
        threads: number of threads; 0 is one for each core.

    Returns:
        Arrays by name; tied tensors are the same object.

    Raises:
        CorruptError: the file is damaged.
        FormatError: the file is not a shrunk checkpoint, or it needs a later version of kolmo.
        KolmoError: there is no tensor of a name, or `base` is set and the file is not lossless.
        MissingExtraError: torch is needed and not installed.
        ValueError: the framework is unknown.
        OSError: the file cannot be read.

    Examples:
        >>> import numpy as np
        >>> weights = {"weight": np.random.default_rng(1).standard_normal((64, 64)).astype(np.float32)}
        >>> report = kolmo.shrink(weights, "exact.safetensors", kolmo.Lossless())
        >>> bool((kolmo.load("exact.safetensors")["weight"] == weights["weight"]).all())
        True
    """
    if framework not in ("np", "pt"):
        raise ValueError(f"framework {framework!r} is not known; choose np or pt")
    if framework == "pt":
        _need_torch()
    make = as_numpy if framework == "np" else as_torch
    file = _open(path, base)
    wanted = file.names if names is None else list(dict.fromkeys([names] if isinstance(names, str) else names))
    aliases = file.record.aliases
    kinds = {aliases.get(name, name): file.kind(name) for name in wanted}
    read = file.read_all(kinds, threads, base=base)
    found = {name: make(data, kinds[name].dtype, kinds[name].shape) for name, data in read}
    return {name: found[aliases.get(name, name)] for name in wanted}


def expand(
    source: str | Path,
    target: str | Path,
    *,
    base: bool = False,
    threads: int = 0,
    force: bool = False,
    progress: Progress | None = None,
) -> int:
    """Write a plain safetensors file with every tensor under its name, in its dtype; returns its size in bytes.

    Of a GGUF file that was shrunk without a loss, write that file.

    Args:
        source: a file or a folder that `kolmo.shrink` wrote; for a folder with a config.json, a folder is written. Or a
            folder of the published code of Hyper-Compression (docs/torus.md), whose tensors are parameter.0 and so on.
        target: the file or folder to write. A name that ends in .onnx gives the model in ONNX that was shrunk, with
            its initialisers inside.
        base: as for `load`.
        threads: as for `load`.
        force: overwrite the target.
        progress: called with the number of bytes just decoded.

    Raises:
        CorruptError, FormatError, KolmoError: as for `load`; or the target ends in .onnx, and the source was not a
            model in ONNX.
        TargetExistsError: the target exists and `force` is not set.
        OSError: reading or writing failed; no half-written file is left.

    Examples:
        >>> import numpy as np
        >>> weights = {"weight": np.random.default_rng(1).standard_normal((64, 64)).astype(np.float32)}
        >>> report = kolmo.shrink(weights, "small.safetensors")
        >>> kolmo.expand("small.safetensors", "model.safetensors") > 4 * 64 * 64
        True
    """
    if gguf.is_shrunk(source):
        if base:
            raise KolmoError(f"{source}: is a GGUF file without a loss, which has no bases; read it without `base`")
        return gguf.expand(source, target, threads=threads, force=force, progress=progress)
    if is_published(source):
        return _expand_published(source, os.fspath(target), base, force, progress)
    file, path = _open(source, base), os.fspath(target)
    if os.path.exists(path) and os.path.samefile(file.path, path):
        raise KolmoError(f"{path}: input and output are the same file; choose another")
    kinds = {name: file.kind(name) for name in file.names}
    if path.endswith(SUFFIX):
        return _expand_onnx(file, kinds, path, base, force, progress)
    names = sorted(kinds, key=lambda name: (-BYTES[kinds[name].dtype], name))
    header = write_header(file.record.metadata, lay_out((name, kinds[name].dtype, kinds[name].shape) for name in names))
    with open_target(source, path, force, shrunk=False) as sink:
        sink.file.write(header)
        for _, data in file.read_all(names, threads, progress, base=base):
            sink.file.write(data)
        sink.keep(Attributes())
    return len(header) + sum(map(file.raw_size, names))


def _open(path: str | Path, base: bool) -> ShrunkFile:
    if gguf.is_shrunk(path):
        raise KolmoError(f"{path}: is a GGUF file without a loss, which is only read whole; use kolmo expand")
    file = ShrunkFile(path)
    if base and not any(one.base for one in file.record.coded.values()):
        raise KolmoError(f"{path}: has no residuals, so it has no bases; read it without `base`")
    return file


def _expand_published(source: str | Path, path: str, base: bool, force: bool, progress: Progress | None) -> int:
    if base:
        raise KolmoError(f"{source}: is a folder of Hyper-Compression, which has no bases; read it without `base`")
    folder = PublishedFolder(source)
    kinds = enumerate(folder.parameters)
    header = write_header({}, lay_out((f"parameter.{number}", one.dtype, one.shape) for number, one in kinds))
    with Target(path, force) as sink:
        sink.file.write(header)
        for number, one in enumerate(folder.parameters):
            sink.file.write(folder.read(number).astype("<f4").tobytes())
            if progress:
                progress(one.size)
        sink.keep(Attributes())
    return len(header) + folder.raw_size


def _expand_onnx(
    file: ShrunkFile, kinds: Mapping[str, Kind], path: str, base: bool, force: bool, progress: Progress | None
) -> int:
    if kinds.get(GRAPH, Kind("", ())).dtype != "U8":
        raise FormatError(f"{file.path}: was not made from a model in ONNX; expand it to a name in .safetensors")

    def read(name: str) -> bytes:
        data = file.read(name, available_cores(), base=base)
        if progress:
            progress(len(data))
        return data

    with Target(path, force) as sink:
        data = assemble(read(GRAPH), kinds, read, str(file.path))
        sink.file.write(data)
        sink.keep(Attributes())
    return len(data)


def _need_torch() -> None:
    try:
        import torch  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(f"tensors of torch need torch ({error}); {install('hf')}") from None
