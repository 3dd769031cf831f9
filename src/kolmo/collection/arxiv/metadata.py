"""What is known of papers beside their text: the record of one, and a table of records by identifier.

Records come from a snapshot in JSON lines (as Kaggle publishes arXiv's metadata) or from OAI-PMH (see `harvest`); the
table is an SQLite file, so that memory stays bounded however many papers there are.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from typing import Any

from kolmo.collection.arxiv.ids import parse_id
from kolmo.corpus.dates import day_of

GROUP = "math"  # part of the primary category before its dot; that of math-ph is math-ph
DATE = re.compile(r"[A-Z][a-z]{2}, (\d{1,2}) ([A-Z][a-z]{2}) (\d{4}) \d\d:\d\d:\d\d GMT", re.ASCII)
MONTHS = {
    name: f"{number:02}"
    for number, name in enumerate(
        ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"), 1
    )
}
INSERTED = 5000  # records at once


@dataclass(frozen=True)
class Paper:
    """A paper's metadata.

    Attributes:
        id: as arXiv's metadata has it, such as "math/0001001" or "2610.00001".
        title: on one line.
        authors: as arXiv has them, in one text.
        abstract: on one line.
        doi: or "".
        licence: its URL, or "".
        journal_ref: where it was published, or "".
        categories: the primary one first.
        versions: day of each version, "YYYY-MM-DD", the first one's first; "" where it is not known.
    """

    id: str
    title: str = ""
    authors: str = ""
    abstract: str = ""
    doi: str = ""
    licence: str = ""
    journal_ref: str = ""
    categories: tuple[str, ...] = ()
    versions: tuple[str, ...] = ()

    @property
    def primary(self) -> str:
        """The primary category; "" where there is none."""
        return self.categories[0] if self.categories else ""

    @property
    def is_mathematics(self) -> bool:
        """Whether the part of the primary category before its dot is "math".

        >>> paper_of({"id": "2610.00001", "categories": "math-ph math.MP"}).is_mathematics
        False
        """
        return _is_mathematics(self.categories)

    @property
    def created(self) -> str:
        """The day of the first version."""
        return self.versions[0] if self.versions else ""

    def version_at(self, day: str) -> int:
        """The version that was the newest on a day: 1 for v1; the last one where the day is ""."""
        known = [number for number, made in enumerate(self.versions, 1) if not day or made <= day]
        return known[-1] if known else 1

    def meta(self, version: int) -> dict[str, Any]:
        """The beginning of the document's meta."""
        updated = self.versions[version - 1] if 0 < version <= len(self.versions) else ""
        return {
            "id": self.id,
            "version": version,
            "title": self.title,
            "authors": self.authors,
            "abstract": self.abstract,
            "doi": self.doi,
            "licence": self.licence,
            "journal_ref": self.journal_ref,
            "categories": list(self.categories),
            "created": self.created,
            "updated": updated,
        }


def paper_of(record: Mapping[str, Any]) -> Paper | None:
    """The paper of a record of the snapshot; None if it has no identifier.

    Of papers that are not mathematics only identifier and categories are taken: most are of this kind,
    and they are dropped.

    Args:
        record: id, title, authors, abstract, doi, license, journal-ref, categories (one text), versions (objects with
            `version` and `created`).
    """
    name = parse_id(_line(record.get("id")))
    if name is None:
        return None
    categories = record.get("categories")
    if isinstance(categories, str):
        categories = categories.split()
    categories = tuple(map(str, categories)) if isinstance(categories, list | tuple) else ()
    if not _is_mathematics(categories):
        return Paper(name.name, categories=categories)
    last = day_of({"date": record.get("update_date")})
    return Paper(
        id=name.name,
        title=_line(record.get("title")),
        authors=_line(record.get("authors")),
        abstract=_line(record.get("abstract")),
        doi=_line(record.get("doi")),
        licence=_line(record.get("license")),
        journal_ref=_line(record.get("journal-ref")),
        categories=categories,
        versions=_days(record.get("versions")) or ((last,) if last else ()),
    )


class PaperTable:
    """Papers by identifier, in a file.

    Of papers that are not mathematics only the primary category is kept, to say why they are dropped.
    """

    def __init__(self, path: str) -> None:
        self._path = path

    def write(self, papers: Iterable[Paper]) -> int:
        """Make the file; of two records of one paper the later counts. Returns how many papers it holds."""
        with closing(sqlite3.connect(self._path)) as connection:
            connection.executescript(
                "pragma journal_mode = off; pragma synchronous = off; drop table if exists paper;"
                "create table paper (id text primary key, category text, record text) without rowid;"
            )
            rows = []
            for paper in papers:
                record = json.dumps(asdict(paper), ensure_ascii=False) if paper.is_mathematics else None
                rows.append((paper.id, paper.primary, record))
                if len(rows) == INSERTED:
                    connection.executemany("insert or replace into paper values (?, ?, ?)", rows)
                    rows.clear()
            connection.executemany("insert or replace into paper values (?, ?, ?)", rows)
            connection.commit()
            return int(connection.execute("select count(*) from paper").fetchone()[0])

    def __enter__(self) -> PaperTable:
        self._connection = sqlite3.connect(f"file:{_quoted(self._path)}?mode=ro&immutable=1", uri=True)
        return self

    def __exit__(self, *error: object) -> None:
        self._connection.close()

    def find(self, name: str) -> Paper | str | None:
        """The paper of an identifier; its primary category where it is not mathematics; None where it is not known."""
        row = self._connection.execute("select category, record from paper where id = ?", (name,)).fetchone()
        if row is None:
            return None
        category, record = row
        if record is None:
            return str(category)
        fields = json.loads(record)
        return Paper(**{**fields, "categories": tuple(fields["categories"]), "versions": tuple(fields["versions"])})


def _is_mathematics(categories: Sequence[str]) -> bool:
    return bool(categories) and categories[0].partition(".")[0] == GROUP


def _quoted(path: str) -> str:
    from urllib.parse import quote

    return quote(path)


def _line(value: Any) -> str:
    """A value on one line, half surrogate pairs replaced."""
    if value is None:
        return ""
    text = " ".join(str(value).split())
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def _days(versions: Any) -> tuple[str, ...]:
    if not isinstance(versions, list | tuple):
        return ()
    return tuple(_day(one.get("created")) for one in versions if isinstance(one, Mapping))


def _day(value: Any) -> str:
    """The day of a version's date, which arXiv writes in one form; of another form what `day_of` finds."""
    if isinstance(value, str) and (match := DATE.fullmatch(value)):
        day, year, month = int(match[1]), match[3], MONTHS.get(match[2])
        if month is not None and 1 <= day <= 28:  # whether the month has more days, day_of knows
            return f"{year}-{month}-{day:02}"
    return day_of({"date": value})
