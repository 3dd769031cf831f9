"""A shrunk checkpoint read: as arrays, or as a plain safetensors file.

What it is not: the format (`packing`, `record`). Every tensor's digest is compared before it is handed out.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from kolmo.codec.pipeline import Report as Tick
from kolmo.errors import KolmoError, MissingExtraError
from kolmo.targets import Attributes
from kolmo.weights.dtypes import as_numpy, as_torch
from kolmo.weights.folder import open_target
from kolmo.weights.packing import ShrunkFile
from kolmo.weights.safetensors import BYTES, lay_out, write_header


def load(
    path: str | Path, names: Iterable[str] | None = None, *, framework: str = "np", threads: int = 0
) -> dict[str, Any]:
    """The tensors of a shrunk checkpoint, by name.

    Args:
        path: a file or a folder that `kolmo.shrink` wrote.
        names: those wanted; nothing else of the file is read. All, if None.
        framework: `"np"` for arrays, where bfloat16 becomes float32 and 8-bit floats their bytes; `"pt"` for torch.
        threads: 0 is one for each core.

    Returns:
        Arrays; tied tensors are the same object.

    Raises:
        CorruptError: the file is damaged.
        FormatError: it is no shrunk checkpoint, or one of a later version.
        KolmoError: a name is not there.
        MissingExtraError: torch is asked for and not installed.
        ValueError: another framework.
        OSError: the file cannot be read.
    """
    if framework not in ("np", "pt"):
        raise ValueError(f"framework {framework!r} is not known; choose np or pt")
    if framework == "pt":
        _need_torch()
    make = as_numpy if framework == "np" else as_torch
    file = ShrunkFile(path)
    wanted = file.names if names is None else list(dict.fromkeys(names))
    aliases = file.record.aliases
    kinds = {aliases.get(name, name): file.kind(name) for name in wanted}
    found = {name: make(data, kinds[name].dtype, kinds[name].shape) for name, data in file.read_all(kinds, threads)}
    return {name: found[aliases.get(name, name)] for name in wanted}


def expand(
    source: str | Path, target: str | Path, *, threads: int = 0, force: bool = False, report: Tick | None = None
) -> int:
    """Write a plain safetensors file: every tensor under its name, in its dtype; returns the bytes.

    Of a folder with a config.json a folder is made, as by `kolmo.shrink`.

    Raises:
        CorruptError, FormatError: as `load`.
        TargetExistsError: the target exists and `force` is not set.
        OSError: reading or writing failed; nothing half-written stays.
    """
    file, path = ShrunkFile(source), os.fspath(target)
    if os.path.exists(path) and os.path.samefile(file.path, path):
        raise KolmoError(f"{path}: input and output are the same file; choose another")
    kinds = {name: file.kind(name) for name in file.names}
    names = sorted(kinds, key=lambda name: (-BYTES[kinds[name].dtype], name))
    header = write_header(file.record.metadata, lay_out((name, kinds[name].dtype, kinds[name].shape) for name in names))
    with open_target(source, path, force, shrunk=False) as sink:
        sink.file.write(header)
        for _, data in file.read_all(names, threads, report):
            sink.file.write(data)
        sink.keep(Attributes())
    return len(header) + sum(map(file.raw_size, names))


def _need_torch() -> None:
    try:
        import torch  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(f"tensors of torch need torch ({error}); pip install 'kolmo[hf]'") from None
