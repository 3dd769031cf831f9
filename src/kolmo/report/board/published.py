"""Published models as rows of a leaderboard, beside one's own results in mode paper.

They are the models of Huang et al., "Compression Represents Intelligence Linearly" (2024), and of its later leaderboard
(`fit.published`). Their numbers have three decimals and no intervals, and their documents were not scored here, so
nothing is paired with them; they are marked as published everywhere.

What it is not: the line through their benchmark scores (`board.fit`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from kolmo.fit.table import TableRow, published
from kolmo.report.board.fit import BLOCK, STRIDE
from kolmo.report.board.models import ModelTable
from kolmo.report.board.results import MEASURES, CorpusVersion
from kolmo.report.board.sections import PUBLISHED, Cell, Entry, Section, corpus_order, ranked

COLUMNS = {"cc": "common_crawl", "python": "python", "arxiv_math": "arxiv_math"}  # corpus -> column of the table
NOTE = (
    "Published: Huang et al., 2024, and their leaderboard, to three decimals, by their own script in bfloat16, which "
    "may be off by 0.3 %. Whether a corpus of the same name here has the same texts was not checked."
)


def with_published(sections: Sequence[Section], known: ModelTable) -> list[Section]:
    """The sections, with the published models in that of mode paper; where there is none, it is added at the end.

    Args:
        sections: of the user's results.
        known: facts about models.
    """
    rule = ("paper", BLOCK, STRIDE)
    result, found = [], False
    for section in sections:
        if (section.mode, section.block, section.stride) == rule:
            found = True
            section = _joined(section, known)
        result.append(section)
    if not found:
        empty = Section(*rule, "bits_per_character", (), (), {}, {}, ())
        result.append(_joined(empty, known))
    return result


def _joined(section: Section, known: ModelTable) -> Section:
    """A section with the published models, and with columns for all corpora that they have."""
    here = {column.name: column for column in section.columns}
    lacking = [CorpusVersion(name, "", 0, 0, "", "") for name in COLUMNS if name not in here]
    columns = sorted([*section.columns, *lacking], key=lambda column: corpus_order(column.name))
    table = published()
    rows = [_entry(row, name, columns, known) for name, row in zip(table.models(), table.rows, strict=True)]
    own = [replace(entry, averages=dict.fromkeys(MEASURES)) if lacking else entry for entry in section.entries]
    return replace(
        section, columns=tuple(columns), entries=ranked([*own, *rows], section.measure), notes=(*section.notes, NOTE)
    )


def _entry(row: TableRow, name: str, columns: Sequence[CorpusVersion], known: ModelTable) -> Entry:
    cells = {}
    for column in columns:
        if column.name in COLUMNS:
            values = dict.fromkeys((*MEASURES, "low", "high"))
            cell = row.cells[COLUMNS[column.name]]
            cells[column.name] = Cell(None, {**values, "bits_per_character": float(cell or "nan")}, column, True, "")
    averages: dict[str, float | None] = dict.fromkeys(MEASURES)
    if len(cells) == len(columns):
        numbers = [cell.values["bits_per_character"] or 0.0 for cell in cells.values()]
        averages["bits_per_character"] = sum(numbers) / len(numbers)
    facts = known.of(name)
    return Entry(name, name, "", PUBLISHED, False, "", facts.parameters, None, facts, cells, averages)
