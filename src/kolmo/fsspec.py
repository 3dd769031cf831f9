"""fsspec's compression "kolmo" (extension `kmo`): `fsspec.open("data.txt.kmo", "rt", compression="kolmo")`.

Importing this module registers it; `import kolmo` does so by itself where fsspec was imported before. What it
is not: a file system.
"""

from __future__ import annotations

from typing import IO, Any

from kolmo.errors import MissingExtraError
from kolmo.streams.file import KolmoFile

try:
    from fsspec.compression import compr, register_compression  # type: ignore[import-untyped]
except ImportError as error:
    raise MissingExtraError(f"kolmo.fsspec: fsspec is not installed ({error}); pip install fsspec") from None


def _open(file: IO[bytes], mode: str = "rb", **options: Any) -> KolmoFile:
    return KolmoFile(file, mode, **options)


if "kolmo" not in compr:
    register_compression("kolmo", _open, "kmo")
