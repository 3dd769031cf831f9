"""A shrunk checkpoint read: as arrays, as a plain safetensors file, or as the model in ONNX that it was.

What it is not: the format (`packing`, `record`). Every tensor's digest is compared before it is handed out.
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
from kolmo.weights.format.packing import ShrunkFile
from kolmo.weights.sources.dtypes import as_numpy, as_torch
from kolmo.weights.sources.folder import open_target
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
        names: those wanted; nothing else of the file is read. All, if None.
        framework: `"np"` for arrays, where bfloat16 becomes float32 and 8-bit floats their bytes; `"pt"` for torch.
        base: of a lossless file, read the bases alone: a third of it, and weights with an error.
        threads: 0 is one for each core.

    Returns:
        Arrays; tied tensors are the same object.

    Raises:
        CorruptError: the file is damaged.
        FormatError: it is no shrunk checkpoint, or one of a later version.
        KolmoError: a name is not there, or a base is asked for of a file that is not lossless.
        MissingExtraError: torch is asked for and not installed.
        ValueError: another framework.
        OSError: the file cannot be read.

    Examples:
        >>> import numpy as np
        >>> weights = {"weight": np.random.default_rng(1).standard_normal((64, 64)).astype(np.float32)}
        >>> report = kolmo.shrink(weights, "exact.safetensors", lossless=True)
        >>> bool((kolmo.load("exact.safetensors")["weight"] == weights["weight"]).all())
        True
    """
    if framework not in ("np", "pt"):
        raise ValueError(f"framework {framework!r} is not known; choose np or pt")
    if framework == "pt":
        _need_torch()
    make = as_numpy if framework == "np" else as_torch
    file = _open(path, base)
    wanted = file.names if names is None else list(dict.fromkeys(names))
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
    """Write a plain safetensors file: every tensor under its name, in its dtype; returns the bytes.

    `base` is that of `load`. Of a folder with a config.json a folder is made, as by `kolmo.shrink`. A target that ends
    in .onnx becomes the model in ONNX that was shrunk, its initialisers inside.

    Raises:
        CorruptError, FormatError, KolmoError: as `load`; ONNX is asked for, and the source was none.
        TargetExistsError: the target exists and `force` is not set.
        OSError: reading or writing failed; nothing half-written stays.

    Examples:
        >>> import numpy as np
        >>> weights = {"weight": np.random.default_rng(1).standard_normal((64, 64)).astype(np.float32)}
        >>> report = kolmo.shrink(weights, "small.safetensors")
        >>> kolmo.expand("small.safetensors", "model.safetensors") > 4 * 64 * 64
        True
    """
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
    file = ShrunkFile(path)
    if base and not any(one.base for one in file.record.coded.values()):
        raise KolmoError(f"{path}: has no residuals that a base could do without; read it as it is")
    return file


def _expand_onnx(
    file: ShrunkFile, kinds: Mapping[str, Kind], path: str, base: bool, force: bool, progress: Progress | None
) -> int:
    if kinds.get(GRAPH, Kind("", ())).dtype != "U8":
        raise FormatError(f"{file.path}: was no model in ONNX before; expand it to a name in .safetensors")

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
