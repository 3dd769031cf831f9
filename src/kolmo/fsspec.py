"""fsspec's compression "kolmo" (extension `kmo`): `fsspec.open("data.txt.kmo", "rt", compression="kolmo")`.

Importing this module registers it; `import kolmo` does so by itself where fsspec was imported before. fsspec looks for
compressions in no entry point, so a process must have imported this module; a pickled `OpenFile` (of dask, Ray,
multiprocessing) brings the import with it. What it is not: a file system.
"""

from __future__ import annotations

import copyreg
from typing import IO, Any

from kolmo.errors import MissingExtraError
from kolmo.streams.file import KolmoFile

try:
    from fsspec.compression import compr, register_compression  # type: ignore[import-untyped]
    from fsspec.core import OpenFile  # type: ignore[import-untyped]
except ImportError as error:
    raise MissingExtraError(f"kolmo.fsspec: fsspec is not installed ({error}); pip install fsspec") from None

NAME = "kolmo"


def _open(file: IO[bytes], mode: str = "rb", **options: Any) -> KolmoFile:
    return KolmoFile(file, mode, **options)


def reopen(*arguments: Any) -> Any:
    """What a pickled `OpenFile` with this compression calls: importing this module is what makes it work."""
    return OpenFile(*arguments)


def _reduce(file: Any) -> Any:
    """How pickle takes an `OpenFile` apart: as fsspec says, but through `reopen` where it needs this module."""
    maker, arguments = file.__reduce__()[:2]
    return (reopen, arguments) if file.compression == NAME and maker is OpenFile else (maker, arguments)


if NAME not in compr:
    register_compression(NAME, _open, "kmo")
copyreg.pickle(OpenFile, _reduce)
