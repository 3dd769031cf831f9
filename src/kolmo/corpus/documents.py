"""A document, a corpus of them, and how a record of a data set becomes a document.

What it is not: it opens no files.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, time
from typing import Any

from kolmo.corpus.dates import day_of
from kolmo.errors import KolmoError

MAX_LISTED_SUBSETS = 10  # subsets that a message lists
LISTED = 30  # columns
LONG = 60  # characters of a column's name that it shows


@dataclass(frozen=True)
class Columns:
    """Which columns (fields of JSON) of a record a document is made from, where it is not the default ones.

    Attributes:
        text: of the text; None: `content`, or else `text`.
        name: of the document's name; None: its file and place.
        date: of its date; None: the first that holds a day (see `dates`).
        optional: whether a record may lack the last two. The first of a file may not, so that a wrong name is noticed.
    """

    text: str | None = None
    name: str | None = None
    date: str | None = None
    optional: bool = False

    @property
    def named(self) -> tuple[str, ...]:
        """Those that were asked for."""
        return tuple(column for column in (self.text, self.name, self.date) if column is not None)


DEFAULT_COLUMNS = Columns()


@dataclass(frozen=True)
class Document:
    """A text to evaluate.

    Attributes:
        content: exactly as published: line ends, byte order mark and all.
        subset: such as "cc", "python", "arxiv_math"; "" where nothing says.
        name: its place in the corpus: a path, "file.jsonl:17" (lines from 1), "row 17" (rows from 0).
        meta: what else is known of it, as in the published data set.
        day: its date as a column says that was asked for, "" for none; None: the meta says.
    """

    content: str
    subset: str = ""
    name: str = ""
    meta: Mapping[str, Any] = field(default_factory=dict)
    day: str | None = None

    @property
    def date(self) -> str:
        """The day it was made or published, as "YYYY-MM-DD" (see `dates`); "" where the meta has none."""
        return day_of(self.meta) if self.day is None else self.day


@dataclass
class Corpus:
    """Documents in order, read anew by each iteration; those without content are dropped.

    Attributes:
        name: short, for results: "cc".
        source: the spec, and for a data set of the hub its revision, for people.
        documents: what reads them; any collection of documents does.
        limit: so many documents at most, of those that remain.
        subset: the only one to keep.
        skipped: files that the last iteration passed over, each with the reason.
    """

    name: str
    source: str
    documents: Iterable[Document]
    limit: int | None = None
    subset: str | None = None
    skipped: list[str] = field(default_factory=list)

    def __iter__(self) -> Iterator[Document]:
        """The documents.

        Raises:
            KolmoError: one cannot be read, or there are none.
        """
        count, others = 0, dict[str, None]()
        for document in self.documents:
            if not document.content:
                continue
            if self.subset is not None and document.subset != self.subset:
                if len(others) < MAX_LISTED_SUBSETS:
                    others[document.subset[:50]] = None
                continue
            yield document
            count += 1
            if count == self.limit:
                return
        if others and not count:
            subsets = ", ".join(json.dumps(name) for name in others)
            raise KolmoError(
                f"{self.source}: no document is of the subset {json.dumps(self.subset)}; there is {subsets}"
            )
        if not count:
            raise KolmoError(f"{self.source}: holds no text; name another corpus")


def document_of(record: Mapping[str, Any], name: str, where: str, columns: Columns = DEFAULT_COLUMNS) -> Document:
    """A document from a record with the fields `content` (or `text`), `subset` and `meta`; others join the meta.

    Args:
        record: as read; the meta may be a mapping, or the JSON text of one.
        name: the document's, where no column has it.
        where: file and place, for errors.
        columns: other fields to take.

    Raises:
        KolmoError: it lacks a column that was asked for, has no content, or one that is not Unicode text.
    """
    for column in columns.named:
        if column not in record and (column == columns.text or not columns.optional):
            raise KolmoError(no_column(where, column, record))
    key = columns.text if columns.text is not None else ("content" if record.get("content") is not None else "text")
    content = record.get(key)
    if not isinstance(content, str):
        if columns.text is not None:
            raise KolmoError(f"{where}: column {_shown(key)} has no string; name another, or remove the record")
        raise KolmoError(
            f"{where}: has no string `content` (or `text`); name the column that has the text, or remove the record "
            f"(there is: {_list(record)})"
        )
    subset = record.get("subset")
    subset = "" if subset is None else str(subset)
    if columns.name is not None and record.get(columns.name) is not None:
        name = str(record[columns.name])
    day = None if columns.date is None else day_of({"date": record.get(columns.date)})
    for text in (content, subset, name):
        _check_unicode(text, where)
    others = {field: value for field, value in record.items() if field not in (key, "subset", "meta")}
    return Document(content, subset, name, {**others, **_mapping(record.get("meta"))}, day)


def document_of_text(content: str, name: str, where: str, columns: Columns = DEFAULT_COLUMNS) -> Document:
    """A document from a string that stands where a record might.

    Raises:
        KolmoError: a column was asked for, or it is not Unicode text.
    """
    if columns.named:
        raise KolmoError(f"{where}: is a string, which has no column {_shown(columns.named[0])}; ask for none")
    _check_unicode(content, where)
    return Document(content, name=name)


def no_column(where: str, column: str, there: Iterable[Any]) -> str:
    """The message that a column is not among those that are there."""
    return f"{where}: has no column {_shown(column)}; there is: {_list(there)}"


def _list(columns: Iterable[Any]) -> str:
    names = [_shown(str(column)) for column in columns]
    return ", ".join(names[:LISTED] + [f"and {len(names) - LISTED} more"] * (len(names) > LISTED)) or "none"


def _shown(name: str) -> str:
    """A name as a message shows it: quoted, short, on one line."""
    return json.dumps(name if len(name) <= LONG else f"{name[:LONG]}...", ensure_ascii=False)


def plain(value: Any) -> Any:
    """The value with what JSON has: days and times as ISO 8601, other strangers as their text."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    return str(value)


def _check_unicode(text: str, where: str) -> None:
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise KolmoError(
                f"{where}: character {error.start} is half of a surrogate pair, which no text holds; "
                "mend or remove the record"
            ) from None


def _mapping(meta: Any) -> Mapping[str, Any]:
    if meta is None or isinstance(meta, Mapping):
        return meta or {}
    if isinstance(meta, str):
        try:
            parsed = json.loads(meta)
        except (ValueError, RecursionError):
            parsed = None
        if isinstance(parsed, dict):
            return parsed
    return {"meta": meta}
