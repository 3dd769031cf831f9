"""The files of a folder that a run trains on.

What it is not: it reads none of them; `texts.data` and `media.source` do.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from kolmo.errors import KolmoError


def source_files(folder: Path, run: Path | None = None) -> Iterator[Path]:
    """All files under a folder in the order of their paths.

    Files and folders whose names begin with a dot are left out. So is the folder of the run, which changes while the
    run trains: with it, the run could not go on, since its sources would no longer be those that it was begun with.

    Args:
        folder: a source of the run.
        run: the folder of the run; it need not exist.

    Raises:
        KolmoError: both are the same folder.
    """
    own = None if run is None else run.resolve()
    root = folder.resolve()
    if own == root:
        raise KolmoError(f"{folder}: is the folder of the run as well as a source; choose another folder for the run")
    for path in sorted(folder.rglob("*")):
        inner = path.relative_to(folder)
        hidden = any(part.startswith(".") for part in inner.parts)
        if not hidden and path.is_file() and not (own and (root / inner).is_relative_to(own)):
            yield path


__all__ = ["source_files"]
