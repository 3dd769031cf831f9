"""Texts, pictures and sounds of data sets, through the `datasets` library: a row is read when it is asked for.

Files within rows are taken as they are and decoded by `modalities.decoding`, since the library would decode sounds to
floats. What it is not: a reader of documents (`kolmo.corpus`), which has columns for names and dates.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kolmo.corpus.extras import extra
from kolmo.corpus.hub import quiet, told
from kolmo.corpus.layouts import choose_split
from kolmo.corpus.specs import HUB, PARTS
from kolmo.errors import KolmoError

TABLES = frozenset({".parquet", ".arrow"})  # files of data sets
TEXT_COLUMNS = ("content", "text")
LOCAL_ENDINGS = frozenset(
    {".parquet", ".arrow", ".zip", ".gz", ".tar", ".flac", ".wav", ".png", ".jpg", ".txt", ".jsonl"}
)


def spec_of(place: str | Path, suffixes: frozenset[str]) -> str | None:
    """The data set that a place names, or None: it is a file, a folder with files that end so, or not there.

    Args:
        place: a path, `FOLDER:CONFIG@SPLIT`, or `ORG/NAME:CONFIG@SPLIT` of the hub. What exists is a path.
        suffixes: of the files that are wanted, such as .png.
    """
    path = Path(place)
    if path.is_file():
        return str(place) if path.suffix.lower() in TABLES else None
    if path.is_dir():
        found = {one.suffix.lower() for one in path.rglob("*")}
        return str(place) if found & TABLES and not found & suffixes else None
    match = PARTS.fullmatch(str(place))
    if match is None:
        return None
    base, config, split = match.groups()
    if os.path.isdir(base):
        return str(place) if config or split else None
    named = HUB.fullmatch(base) and Path(base).suffix.lower() not in LOCAL_ENDINGS | suffixes
    return str(place) if named else None


def texts(spec: str) -> Iterator[bytes]:
    """The text of each row as UTF-8, with a line end where it has none: column `content` or `text`, or the only text.

    Raises:
        KolmoError: there is no such data set or column, or no network.
        MissingExtraError: `datasets` is not installed.
    """
    rows, column = _opened(spec, "Value")
    for row in _rows(rows, spec):
        text = row[column]
        if text:
            yield (text if text.endswith("\n") else text + "\n").encode()


def media(spec: str, feature: str) -> Iterator[tuple[str, bytes]]:
    """Name and content of the file in each row.

    Args:
        spec: the data set.
        feature: Image or Audio; the first column of this type is taken.

    Raises:
        KolmoError: there is no such data set, it has no such column, or there is no network.
        MissingExtraError: `datasets` is not installed.
    """
    rows, column = _opened(spec, feature)
    for number, row in enumerate(_rows(rows, spec)):
        cell = row[column]
        if not cell:
            continue
        content = cell.get("bytes")
        if content is None:
            with told(spec), open(cell["path"], "rb") as file:
                content = file.read()
        yield f"{spec}, row {number}", content


def _opened(spec: str, feature: str) -> tuple[Any, str]:
    """The rows with one column, whose files are not decoded; and the column's name."""
    library = extra("datasets", spec)
    match = PARTS.fullmatch(spec)
    if os.path.exists(spec) or match is None:
        base, config, split = spec, None, None
    else:
        base, config, split = match.groups()
    with told(spec), quiet():
        builder = _builder(library, base, config)
        names = [str(name) for name in builder.info.splits or builder.config.data_files or ()]
        rows = builder.as_streaming_dataset(split=choose_split(names or [split or "train"], split, spec))
        features = rows.features or rows._resolve_features().features
        column = _column(features, feature, spec)
        rows = rows.select_columns([column])
        if feature != "Value":
            rows = rows.cast_column(column, getattr(library, feature)(decode=False))
    return rows, column


def _builder(library: Any, base: str, config: str | None) -> Any:
    path = Path(base)
    if path.suffix.lower() in TABLES and path.is_file():
        return library.load_dataset_builder(path.suffix[1:].lower(), data_files=str(path))
    return library.load_dataset_builder(str(path.resolve()) if path.is_dir() else base, config)


def _rows(rows: Any, spec: str) -> Iterator[dict[str, Any]]:
    iterator = iter(rows)
    while True:
        with told(spec), quiet():
            row = next(iterator, None)
        if row is None:
            return
        yield row


def _column(features: Any, feature: str, spec: str) -> str:
    names = [name for name, kind in features.items() if type(kind).__name__ == feature]
    if feature == "Value":
        names = [name for name in names if features[name].dtype in ("string", "large_string")]
        names = [name for name in TEXT_COLUMNS if name in names] or (names if len(names) == 1 else [])
    if not names:
        wanted = {"Value": "text", "Image": "pictures", "Audio": "sounds"}[feature]
        raise KolmoError(f"{spec}: has no column of {wanted} among {', '.join(features)}; name another data set")
    return str(names[0])
