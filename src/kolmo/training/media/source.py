"""Folders of pictures or of sounds to train and to validate on.

What it is not: it knows neither medium; `pictures.data` and `sounds.data` decode the files.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt

from kolmo.errors import KolmoError
from kolmo.training.source_files import source_files

HELD_OUT_EVERY = 10  # every tenth file is held out, or the last one of fewer

Item = TypeVar("Item", bound=npt.NDArray[np.generic])  # a picture or a sound
Data = TypeVar("Data")  # several of them, as a sampler takes them


@dataclass(frozen=True)
class MediaSource(Generic[Data]):
    """A folder of pictures or of sounds. Every tenth of them is held out for validation.

    Attributes:
        name: of the folder.
        weight: share of the pixels or samples that are trained on, in any unit.
        learned, held_out: contents of the files.
        size: bytes of the files.
        sha256: of the names, sizes and contents of the files, hexadecimal.
        count: number of the files that are used.
    """

    name: str
    weight: float
    learned: Data
    held_out: Data
    size: int
    sha256: str
    count: int

    def describe(self) -> dict[str, Any]:
        """What tells sources apart, ready for JSON."""
        return {"name": self.name, "weight": self.weight, "bytes": self.size, "sha256": self.sha256}


@dataclass(frozen=True)
class Medium(Generic[Item, Data]):
    """How files of a medium are read.

    Attributes:
        name: of the medium, for messages.
        usable: which of its files are used, for messages.
        suffixes: of its files.
        decode: the content of a file; raises a `KolmoError` that names the file.
        amount: pixels or samples of a content.
        limit: the most pixels or samples of a source; files beyond are left out.
        least: rows or samples of each channel of the smallest content that is used.
        gather: contents as a sampler takes them.
    """

    name: str
    usable: str
    suffixes: frozenset[str]
    decode: Callable[[Path], Item]
    amount: Callable[[Item], int]
    limit: int
    least: int
    gather: Callable[[Sequence[Item]], Data]


def open_media(
    sources: Sequence[tuple[Path, float | None]], medium: Medium[Item, Data], run: Path | None = None
) -> tuple[MediaSource[Data], ...]:
    """Open the data of a run: all files of the medium under each folder.

    Args:
        sources: folders with their weights; None everywhere: by their numbers of pixels or samples.
        medium: of the files.
        run: the folder of the run, whose files are left out.

    Raises:
        KolmoError: a folder has fewer than two files or is that of the run, a file cannot be read, or two folders have
            the same name.
    """
    names = [path.resolve().name for path, _ in sources]
    for name in names:
        if names.count(name) > 1:
            raise KolmoError(
                f"{name}: two folders have this name, which their results go by; rename one, or link to it"
            )
    return tuple(_open(path, weight, medium, run) for path, weight in sources)


def _open(folder: Path, weight: float | None, medium: Medium[Item, Data], run: Path | None) -> MediaSource[Data]:
    digest, size, items, amount = hashlib.sha256(), 0, list[Item](), 0
    for path in _files(folder, medium, run):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(folder).as_posix()}\0{len(content)}\0".encode() + content)
        item = medium.decode(path)
        size, amount = size + len(content), amount + medium.amount(item)
        if amount > medium.limit:
            break
        if len(item) >= medium.least:
            items.append(item)
    if len(items) < 2:
        raise KolmoError(
            f"{folder}: {len(items)} {medium.usable} are too few to train on; give a folder with two or more"
        )
    held = range(HELD_OUT_EVERY - 1, len(items), HELD_OUT_EVERY) or range(len(items) - 1, len(items))
    return MediaSource(
        name=folder.resolve().name,
        weight=sum(map(medium.amount, items)) if weight is None else weight,
        learned=medium.gather([item for number, item in enumerate(items) if number not in held]),
        held_out=medium.gather([items[number] for number in held]),
        size=size,
        sha256=digest.hexdigest(),
        count=len(items),
    )


def _files(folder: Path, medium: Medium[Item, Data], run: Path | None) -> Iterator[Path]:
    if not folder.is_dir():
        raise KolmoError(f"{folder}: not a folder; name one with {medium.name} to train on")
    for path in source_files(folder, run):
        if path.suffix.lower() in medium.suffixes:
            yield path


__all__ = ["MediaSource", "Medium", "open_media"]
