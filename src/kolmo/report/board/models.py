"""Facts about models from tables: training cutoffs, families, benchmark scores.

A row of a table describes a model if it has the model's name, with or without folder and organisation, in any case; a
`*` in it matches any text. The name of a GGUF file may end in its quantisation.

What it is not: it guesses nothing. A model that is not in a table has no cutoff; cutoffs.csv contains cutoffs that the
makers of the models published, each with its source.
"""

from __future__ import annotations

import calendar
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from kolmo.errors import KolmoError
from kolmo.fit.areas import SCORE_COLUMNS, known_areas, means_of
from kolmo.fit.table import Table, TableRow, key, parse_table, read_table
from kolmo.foreign import quoted

CUTOFFS = "cutoffs.csv"
DAY = re.compile(r"(\d{4})(?:-(\d\d)(?:-(\d\d))?)?", re.ASCII)
QUANTISED = re.compile(r"[.-](?:i?q\d[a-z0-9_]*|bf16|f16|f32)$", re.ASCII)


@dataclass(frozen=True)
class Facts:
    """Facts about a model; empty if unknown.

    Attributes:
        cutoff: last day of the model's training data, YYYY-MM-DD.
        stated: the cutoff as in the table: a year, a month or a day.
        family, licence, url: text that is shown.
        parameters: number of parameters.
    """

    cutoff: str = ""
    stated: str = ""
    family: str = ""
    licence: str = ""
    url: str = ""
    parameters: int | None = None


class ModelTable:
    """Facts about models: a table of the user's, and the table of the package.

    Args:
        path: path of the user's table, or None.

    Raises:
        KolmoError: the file is not a table of models, or contains a cutoff that is not a date.
    """

    def __init__(self, path: str | Path | None = None) -> None:
        self._rows = [(name, _facts(row)) for name, row in _named(_read(path))] if path is not None else []

    def of(self, model: str) -> Facts:
        """Facts about a model; each cell of the user's table takes precedence over the package's."""
        mine = next((facts for name, facts in self._rows if matches(name, model)), Facts())
        ours = next((facts for name, facts in _shipped() if matches(name, model)), Facts())
        dated = mine if mine.cutoff else ours
        return Facts(
            cutoff=dated.cutoff,
            stated=dated.stated,
            family=mine.family or ours.family,
            licence=mine.licence or ours.licence,
            url=mine.url or ours.url,
            parameters=mine.parameters or ours.parameters,
        )


@dataclass(frozen=True)
class Scores:
    """Benchmark scores of models.

    Attributes:
        name: path of the table; "" without one.
        columns: description of the columns that were averaged.
        rows: pairs of a model's name and its score.
    """

    name: str = ""
    columns: str = ""
    rows: tuple[tuple[str, float], ...] = field(default=())

    @classmethod
    def read(cls, path: str | Path | None, columns: Sequence[str] = ()) -> Scores:
        """The scores of a table: the mean of `columns`, else of its column `score`, else over the areas of the paper.

        Raises:
            KolmoError: the file is not a table, or does not contain scores.
        """
        if path is None:
            return cls()
        table = _read(path)
        groups = [[table.column(column) for column in columns]] if columns else _groups(table)
        means = [means_of([table.numbers(column) for column in group]) for group in groups]
        found = []
        for model, values in zip(table.models(), zip(*means, strict=True), strict=True):
            numbers = [value for value in values if value is not None]
            if len(numbers) == len(values):
                found.append((model, math.fsum(numbers) / len(numbers)))
        if not found:
            wanted = ", ".join(column for group in groups for column in group)
            raise KolmoError(f"{table.name}: has no model with all its scores; fill in {wanted}")
        words = [group[0] if len(group) == 1 else f"mean of {', '.join(group)}" for group in groups]
        return cls(str(path), words[0] if len(words) == 1 else f"mean over {len(words)} areas", tuple(found))

    def of(self, model: str) -> float | None:
        """The score of a model."""
        return next((score for name, score in self.rows if matches(name, model)), None)


def matches(pattern: str, model: str) -> bool:
    """Whether a row of that name describes the model."""
    names = {_plain(model), _bare(model), QUANTISED.sub("", _bare(model))}
    wanted = _plain(pattern)
    if "*" not in wanted:
        return wanted in names or _bare(pattern) in names
    expression = re.compile(".*".join(map(re.escape, wanted.split("*"))), re.DOTALL)
    return any(expression.fullmatch(name) for name in names)


def _plain(name: str) -> str:
    return name.strip().casefold()


def _bare(name: str) -> str:
    """The name without organisation, folders and kind."""
    return re.split(r"[/\\:]", _plain(name).rstrip("/\\"))[-1]


def _read(path: str | Path) -> Table:
    if Path(path).is_dir():
        raise KolmoError(f"{path}: is a folder; name a table in it")
    return read_table(path)


@cache
def _shipped() -> tuple[tuple[str, Facts], ...]:
    table = parse_table(Path(__file__).with_name(CUTOFFS).read_bytes(), CUTOFFS)
    return tuple((name, _facts(row)) for name, row in _named(table))


def _named(table: Table) -> list[tuple[str, TableRow]]:
    return list(zip(table.models(), table.rows, strict=True))


def _facts(row: TableRow) -> Facts:
    cells = {key(column): cell for column, cell in row.cells.items()}

    def text(*names: str) -> str:
        found = next((cells[name] for name in names if cells.get(name) not in (None, "")), "")
        return str(int(found)) if isinstance(found, float) and found == int(found) else str(found).strip()

    stated = text("cutoff", "trainingcutoff", "knowledgecutoff")
    return Facts(
        cutoff=_end(stated, row.place),
        stated=stated,
        family=text("family"),
        licence=text("licence", "license"),
        url=_address(text("url"), row.place),
        parameters=_size(text("parameters", "params"), row.place),
    )


def _end(stated: str, place: str) -> str:
    """The last day of a year, a month or a day."""
    if not stated:
        return ""
    match = DAY.fullmatch(stated)
    try:
        if match is None:
            raise ValueError
        year, month = int(match[1]), int(match[2] or 12)
        last = calendar.monthrange(year, month)[1] if 1 <= month <= 12 and year else 0
        day = int(match[3] or last)
        if not 1 <= day <= last:
            raise ValueError
    except ValueError:
        raise KolmoError(
            f"{place}: cutoff is {quoted(stated, 40)}, not a date; write it like 2023-12 or 2023-12-31"
        ) from None
    return f"{year:04}-{month:02}-{day:02}"


def _address(text: str, place: str) -> str:
    """An address that a page may link to."""
    if text and not text.lower().startswith(("https://", "http://")):
        raise KolmoError(
            f"{place}: url is {quoted(text, 40)}; write one that begins with https://, or leave the cell empty"
        )
    return text


def _size(text: str, place: str) -> int | None:
    """A number of parameters: 7000000000, 7e9, 7B."""
    if not text:
        return None
    match = re.fullmatch(r"([0-9.,]+(?:[eE][0-9]+)?)\s*([kKmMbBtT]?)", text)
    try:
        value = float(match[1].replace(",", "")) * 10.0 ** (3 * " kmbt".index(match[2].lower() or " ")) if match else 0
    except (ValueError, OverflowError):
        value = 0
    if not 1 <= value < 1e18:
        raise KolmoError(f"{place}: parameters is {quoted(text, 40)}, not a number; write it like 7000000000 or 7B")
    return round(value)


def _groups(table: Table) -> list[list[str]]:
    ready = [column for column in table.columns if key(column) in SCORE_COLUMNS]
    if ready:
        return [ready[:1]]
    areas = known_areas(table, ())
    if not areas:
        names = ", ".join(table.columns)
        raise KolmoError(
            f"{table.name}: has no column that is known to have scores; name one in the argument score (it has {names})"
        )
    return [list(area.scores) for area in areas]
