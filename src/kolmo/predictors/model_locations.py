"""Where on this machine the models are that files name by their hashes.

A file records a model's name and hashes, and no path: a path reveals more about the writer than a file should, and is
of no use on another machine. So each model that is opened here is recorded in a small file of the user's cache, and
found again by its marks, which are bytes of its hashes (`predictors.language_models.records`). What it is not: a cache
of models. Only their locations are kept; where they are lost, the reader gives the location again.
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import suppress
from pathlib import Path

from kolmo.errors import KolmoError
from kolmo.targets import LOCK, locked, replacing

MAX_LOCATIONS = 1000  # models; the oldest entries go first


def cache_folder() -> Path:
    """Kolmo's folder among the user's folders for caches; it may not exist yet.

    Raises:
        RuntimeError: the user has no home folder.
    """
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or str(Path.home() / "AppData" / "Local")
    else:
        base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "kolmo"


def index() -> Path:
    """The file that holds the locations, in the user's folder for caches."""
    return cache_folder() / "models.json"


def remember(marks: bytes, place: Path) -> None:
    """Record where the model with these marks is. A cache that cannot be written is not an error."""
    # RuntimeError: the user has no home folder; KolmoError: a folder has the index's name.
    with suppress(OSError, RuntimeError, KolmoError):
        add_entry(index(), marks.hex(), str(place.resolve()), MAX_LOCATIONS)


def known() -> dict[str, str]:
    """Location of each recorded model, by its marks in hexadecimal, the oldest first."""
    with suppress(RuntimeError):  # the user has no home folder
        return read_entries(index())
    return {}


def forget(what: str) -> int:
    """Remove the entries of a location, or of marks in hexadecimal; returns how many there were.

    Raises:
        OSError: the index cannot be written.
    """
    if not known():
        return 0
    with locked(f"{index()}{LOCK}"):
        places = known()
        kept = {marks: place for marks, place in places.items() if what != marks and os.path.abspath(what) != place}
        if len(kept) < len(places):
            write_entries(index(), kept)
        return len(places) - len(kept)


def recall(marks: bytes) -> str | None:
    """Where the model with these marks was, if it is still there."""
    with suppress(OSError, RuntimeError):
        place = read_entries(index()).get(marks.hex())
        if place is not None and os.path.exists(place):
            return place
    return None


def add_entry(path: Path, name: str, value: str, most: int) -> None:
    """Put an entry into a file of entries, as the newest; of more than `most` the oldest are dropped.

    Raises:
        OSError, KolmoError: the file cannot be written.
    """
    if read_entries(path).get(name) == value:
        return
    with locked(f"{path}{LOCK}"):  # else an entry that another process adds meanwhile would be lost
        entries = read_entries(path)
        entries.pop(name, None)
        entries[name] = value
        while len(entries) > most:
            entries.pop(next(iter(entries)))
        write_entries(path, entries)


def write_entries(path: Path, entries: dict[str, str]) -> None:
    """Write a file of entries, whose folder is made where there is none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        file.write(json.dumps(entries, indent=1).encode())


def read_entries(path: Path) -> dict[str, str]:
    """The entries of a file, the oldest first; none where it is missing or damaged."""
    try:
        entries = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(entries, dict):
        return {}
    return {name: value for name, value in entries.items() if isinstance(value, str)}
