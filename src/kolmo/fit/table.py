"""Tables of models, read from CSV or JSON. Every error names the line of the table.

A table has one row per model and a name for each column. An empty cell is a missing number.
What it is not: it does not decide which columns hold BPC and which scores (`fit.areas`).
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kolmo.errors import KolmoError
from kolmo.foreign import quoted, short, uncomputed

MAX_TABLE_BYTES = 16 << 20  # size of a table
PUBLISHED_FILE = "published.csv"
MODEL_COLUMNS = ("model", "modelname", "name")  # as `key` writes them
FAMILY_COLUMNS = ("family", "modelfamily")
ROW_LISTS = ("models", "rows", "results")  # keys of a JSON object under which its rows may be
DELIMITERS = ",;\t"

Cell = str | float | None


@dataclass(frozen=True)
class TableRow:
    """The cells of one model, and their place in the file for errors."""

    place: str
    cells: dict[str, Cell]


@dataclass(frozen=True)
class Table:
    """A table of models.

    Attributes:
        name: the name of the file, for errors.
        columns: the names of the columns in the order of the file; columns without a name are ignored.
        rows: the rows, one per model.
    """

    name: str
    columns: tuple[str, ...]
    rows: tuple[TableRow, ...]

    def column(self, name: str) -> str:
        """The column with this name, else the only one that differs from it just in case and punctuation.

        Raises:
            KolmoError: there is no such column.
        """
        if name in self.columns:
            return name
        alike = [column for column in self.columns if key(column) == key(name)]
        if len(alike) != 1:
            raise KolmoError(f"{self.name}: has no column {quoted(name)}; it has {short(', '.join(self.columns), 300)}")
        return alike[0]

    def numbers(self, column: str) -> list[float | None]:
        """The numbers of a column, one per row; None for an empty cell.

        Raises:
            KolmoError: a cell is not a number; the message names its line.
        """
        return [_number(row, column) for row in self.rows]

    def models(self) -> list[str]:
        """The name of the model of each row.

        Raises:
            KolmoError: there is no such column, or a cell of it is empty.
        """
        column = next((column for column in self.columns if key(column) in MODEL_COLUMNS), None)
        if column is None:
            raise KolmoError(
                f"{self.name}: has no column 'model'; add one (it has {short(', '.join(self.columns), 300)})"
            )
        names = [_text(row.cells.get(column)) for row in self.rows]
        for row, name in zip(self.rows, names, strict=True):
            if not name:
                raise KolmoError(f"{row.place}: has no model name; fill in its column {quoted(column)}")
        return names

    def families(self) -> list[str]:
        """The family of each row: its cell in the column `family`, else the letters that the model's name begins with.

        Names that differ only in case are the same family, in the spelling of its first model.
        """
        column = next((column for column in self.columns if key(column) in FAMILY_COLUMNS), None)
        seen: dict[str, str] = {}
        found = []
        for row, model in zip(self.rows, self.models(), strict=True):
            family = (_text(row.cells.get(column)) if column else "") or family_of(model)
            found.append(seen.setdefault(family.casefold(), family))
        return found


def key(name: str) -> str:
    """A name without case and punctuation, so that "SAT-Math" and "sat_math" are equal."""
    return "".join(c for c in name.casefold() if c.isalnum())


def family_of(model: str) -> str:
    """The letters that a model's name begins with, without its folder: Qwen for `hf:Qwen/Qwen2.5-7B`."""
    name = re.split(r"[/\\:]", model.rstrip("/\\"))[-1]
    match = re.match(r"[^\W\d_]+", name)
    return match[0] if match else name


def published() -> Table:
    """The 28 models of the paper and of its later leaderboard, 18 of them with a score.

    BPC are those of the leaderboard of https://github.com/hkust-nlp/llm-compression-intelligence. Scores, the average
    over the three areas on a scale of 0 to 1, were read off the paper's figure, to about 0.001. Families were assigned
    for kolmo.
    """
    return parse_table((Path(__file__).parent / PUBLISHED_FILE).read_bytes(), PUBLISHED_FILE)


def read_table(path: str | Path) -> Table:
    """Read a table from a file; see `parse_table`.

    Raises:
        KolmoError: the file is not a table.
        OSError: the file cannot be read.
    """
    with open(path, "rb") as file:
        return parse_table(file.read(MAX_TABLE_BYTES + 1), str(path))


def parse_table(data: bytes, name: str) -> Table:
    """Parse a table: JSON if the data begins with a brace or a bracket, else CSV.

    CSV is in UTF-8, with or without a byte order mark, and has commas, semicolons or tabs; the first line that is not
    blank names the columns. JSON is a list of objects, an object with such a list under `models`, `rows` or `results`,
    or one object per line. A nested object gives columns `outer_inner`.

    Args:
        data: the content of the file.
        name: the name of the file, for errors.

    Raises:
        KolmoError: the data is neither CSV nor JSON, has no rows, or is larger than 16 MiB.
    """
    if len(data) > MAX_TABLE_BYTES:
        raise KolmoError(f"{name}: is larger than {MAX_TABLE_BYTES >> 20} MiB; a table of models has a line for each")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise KolmoError(f"{name}: is not UTF-8 at byte {error.start}; save the table as CSV in UTF-8") from None
    parse = _parse_json if text.lstrip()[:1] in ("{", "[") else _parse_csv
    table = parse(text, name)
    if not table.rows:
        raise KolmoError(f"{name}: has no rows; a table has a line of column names, then a line for each model")
    return table


def _parse_csv(text: str, name: str) -> Table:
    first = next((line for line in text.splitlines() if line.strip()), "")
    delimiter = max(DELIMITERS, key=first.count)  # the comma if the line has none of them
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True)
    header: list[str] | None = None
    rows = []
    line = 1
    try:
        for cells in reader:
            place = f"{name}:{line}"  # the first line of the row: a quoted cell may span several
            line = reader.line_num + 1
            cells = [uncomputed(cell).strip() for cell in cells]
            if not any(cells):
                continue
            if header is None:
                header = [" ".join(cell.split()) for cell in cells]
                _check_columns(header, place)
            elif any(cells[len(header) :]):
                raise KolmoError(f"{place}: has {len(cells)} cells for {len(header)} columns; quote cells with commas")
            else:
                rows.append(
                    TableRow(place, {column: cell for column, cell in zip(header, cells, strict=False) if column})
                )
    except csv.Error as error:
        raise KolmoError(f"{name}:{line}: is not CSV ({error}); correct the line") from None
    return Table(name, tuple(column for column in header or () if column), tuple(rows))


def _check_columns(header: Sequence[str], place: str) -> None:
    named = [column for column in header if column]
    twice = next((column for column in named if named.count(column) > 1), None)
    if twice is not None:
        raise KolmoError(f"{place}: has two columns {quoted(twice)}; rename one")


def _parse_json(text: str, name: str) -> Table:
    try:
        content = json.loads(text)
    except RecursionError:
        raise KolmoError(f"{name}: is nested too deeply for a table; give a list of objects") from None
    except ValueError as error:
        try:
            content = [json.loads(line) for line in text.splitlines() if line.strip()]
        except (ValueError, RecursionError):
            place = f"{name}:{error.lineno}" if isinstance(error, json.JSONDecodeError) else name
            raise KolmoError(f"{place}: is not JSON ({error}); correct it, or give CSV") from None
    if isinstance(content, dict):
        content = next((content[held] for held in ROW_LISTS if isinstance(content.get(held), list)), [content])
    if not isinstance(content, list) or not all(isinstance(record, dict) for record in content):
        raise KolmoError(f"{name}: is not a table; give a list of objects, one per model")
    rows = tuple(TableRow(f"{name}, model {n}", _flat(record)) for n, record in enumerate(content, 1))
    return Table(name, tuple(dict.fromkeys(column for row in rows for column in row.cells)), rows)


def _flat(record: dict[str, Any]) -> dict[str, Cell]:
    flat: dict[str, Cell] = {}
    for name, value in record.items():
        for column, cell in (
            [(f"{name}_{inner}", cell) for inner, cell in value.items()] if isinstance(value, dict) else [(name, value)]
        ):
            column = " ".join(column.split())
            if isinstance(cell, bool):
                flat[column] = str(cell)
            elif cell is None or isinstance(cell, str | int | float):
                flat[column] = cell if cell is None or isinstance(cell, str) else _float(cell)
    return flat


def _float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:  # an integer of hundreds of digits
        return math.inf


def _text(cell: Cell) -> str:
    return "" if cell is None else " ".join(str(cell).split())


def _number(row: TableRow, column: str) -> float | None:
    cell = row.cells.get(column)
    if cell is None or (isinstance(cell, str) and not cell.strip()):
        return None
    try:
        number = math.nan if isinstance(cell, str) and "_" in cell else float(cell)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        shown = cell if isinstance(cell, float) else repr(cell[:40])
        raise KolmoError(f"{row.place}: {column} is {shown}, not a number; correct it, or leave the cell empty")
    return number
