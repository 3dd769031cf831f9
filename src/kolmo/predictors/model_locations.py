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
from kolmo.targets import replacing

MAX_LOCATIONS = 1000  # models; the oldest entries go first


def index() -> Path:
    """The file that holds the locations, in the user's folder for caches."""
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or str(Path.home() / "AppData" / "Local")
    else:
        base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "kolmo" / "models.json"


def remember(marks: bytes, place: Path) -> None:
    """Record where the model with these marks is. A cache that cannot be written is not an error."""
    # RuntimeError: the user has no home folder; KolmoError: a folder has the index's name.
    with suppress(OSError, RuntimeError, KolmoError):
        places = _read(index())
        found = str(place.resolve())
        if places.get(marks.hex()) == found:
            return
        places.pop(marks.hex(), None)
        places[marks.hex()] = found
        while len(places) > MAX_LOCATIONS:
            places.pop(next(iter(places)))
        _write(places)


def known() -> dict[str, str]:
    """Location of each recorded model, by its marks in hexadecimal, the oldest first."""
    with suppress(RuntimeError):  # the user has no home folder
        return _read(index())
    return {}


def forget(what: str) -> int:
    """Remove the entries of a location, or of marks in hexadecimal; returns how many there were.

    Raises:
        OSError: the index cannot be written.
    """
    places = known()
    kept = {marks: place for marks, place in places.items() if what != marks and os.path.abspath(what) != place}
    if len(kept) < len(places):
        _write(kept)
    return len(places) - len(kept)


def recall(marks: bytes) -> str | None:
    """Where the model with these marks was, if it is still there."""
    with suppress(OSError, RuntimeError):
        place = _read(index()).get(marks.hex())
        if place is not None and os.path.exists(place):
            return place
    return None


def _write(places: dict[str, str]) -> None:
    path = index()
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        file.write(json.dumps(places, indent=1).encode())


def _read(path: Path) -> dict[str, str]:
    try:
        places = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(places, dict):
        return {}
    return {key: place for key, place in places.items() if isinstance(place, str)}
