"""A `Board` for other programs: Markdown, CSV (long and wide), OpenCompass's summary, JSON.

    long         a row for each model, corpus and subset ("" is the whole corpus), with all metrics
    wide         the largest section with bits per character alone, a row for each model, a column CORPUS_bpc for each
                 corpus, and `score` where a table of scores was given: what `kolmo fit` reads
    opencompass  dataset, version, metric, mode, then a column for each model

What it is not: it writes no files (`cli.report`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from kolmo.errors import KolmoError
from kolmo.fit.table import family_of
from kolmo.foreign import csv_table, markdown_text
from kolmo.report.board.contents import Board
from kolmo.report.board.fit import is_exact
from kolmo.report.board.results import MEASURES
from kolmo.report.board.sections import PUBLISHED, Cell, Entry, Section
from kolmo.report.board.table import subsets_of
from kolmo.report.board.words import compact

COUNTS = ("documents", "characters", "bytes", "words", "tokens", "nats")
METRICS = (
    "bits_per_character",
    "low",
    "high",
    "bits_per_byte",
    "bits_per_token",
    "compression_rate",
    "token_perplexity",
    "byte_perplexity",
    "word_perplexity",
    "min_k",
)
OPENCOMPASS = {  # the corpora's names there, in its order
    "arxiv_math": "llm_compression-arxiv_math",
    "cc": "llm_compression-commoncraw",
    "python": "llm_compression-python",
}


# CSV


def long_csv(board: Board) -> str:
    """All metrics, a row for each model, corpus and subset."""
    names = ["model", "corpus", "subset", "mode", "block", "stride", "dtype", "kind", *COUNTS, *METRICS]
    names += ["parameters", "vocabulary", "first_date", "last_date", "corpus_digest", "compared", "spec"]
    return csv_table([names, *([row.get(name) for name in names] for row in _long_rows(board))])


def _long_rows(board: Board) -> Iterator[dict[str, Any]]:
    done: set[str] = set()  # a reference is in several sections
    for section in board.sections:
        for entry in section.entries:
            for cell in entry.cells.values():
                if cell.result is None:
                    yield _published_row(section, entry, cell)
                    continue
                if str(cell.result.folder) in done and entry.reference:
                    continue
                done.add(str(cell.result.folder))
                rule = cell.result.record["mode"]
                about = {
                    "model": entry.name,
                    "corpus": cell.column.name,
                    "mode": section.mode,
                    "block": rule["block"],
                    "stride": rule["stride"],
                    "dtype": entry.dtype,
                    "kind": entry.kind,
                    "parameters": entry.parameters,
                    "vocabulary": entry.vocabulary,
                    "first_date": cell.column.first,
                    "last_date": cell.column.last,
                    "corpus_digest": cell.column.digest,
                    "compared": "yes" if cell.current else "no: another version of the corpus",
                    "spec": entry.spec,
                }
                wanted = (*COUNTS, *METRICS)
                yield {**about, **{name: cell.result.metrics.get(name) for name in wanted}}
                for subset, facts in subsets_of(cell).items():
                    yield {**about, "subset": subset, **{name: facts.get(name) for name in wanted}}


def _published_row(section: Section, entry: Entry, cell: Cell) -> dict[str, Any]:
    return {
        "model": entry.name,
        "corpus": cell.column.name,
        "mode": section.mode,
        "block": section.block,
        "stride": section.stride,
        "kind": entry.kind,
        "parameters": entry.parameters,
        "compared": "no: published",
        "bits_per_character": cell.values["bits_per_character"],
    }


def wide_csv(board: Board) -> str:
    """A row for each model of one section, as `kolmo fit` reads it.

    Raises:
        KolmoError: no section has bits per character.
    """
    section = wide_section(board)
    entries = section.models or section.entries
    scores = [board.scores.of(entry.model) for entry in entries]
    scored = any(score is not None for score in scores)
    header = ["model", "family", "parameters", *(f"{column.name}_bpc" for column in section.columns)]
    rows: list[list[Any]] = [header + ["score"] * scored]
    for entry, score in zip(entries, scores, strict=True):
        numbers = [_current(entry.cells.get(column.name)) for column in section.columns]
        family = entry.facts.family or family_of(entry.model)
        rows.append([entry.name, family, entry.parameters, *numbers, *[score] * scored])
    return csv_table(rows)


def wide_section(board: Board) -> Section:
    """The section that the wide table is of: that of the published line where it is there, else the largest.

    Raises:
        KolmoError: no section has bits per character.
    """
    ranked = [one for one in board.sections if one.measure == "bits_per_character"]
    if not ranked:
        raise KolmoError("no results hold bits per character, which the wide table is of; evaluate in mode strict")
    return next((one for one in ranked if is_exact(one) and one.models), ranked[0])


def opencompass_csv(board: Board) -> str:
    """Bits per character in the format of OpenCompass's summaries, with its names where its corpora were taken.

    There, `version` is a hash of the prompt; here, of the corpus. Its mode of these corpora is "unknown".
    """
    sections = [one for one in board.sections if one.measure == "bits_per_character"]
    models = list(dict.fromkeys(entry.name for section in sections for entry in section.entries))
    rows = [["dataset", "version", "metric", "mode", *models]]
    for section in sorted(sections, key=lambda one: not _is_theirs(one)):
        theirs = _is_theirs(section)
        order = list(OPENCOMPASS)
        columns = sorted(
            section.columns,
            key=lambda column: order.index(column.name) if theirs and column.name in order else len(order),
        )
        entries = {entry.name: entry for entry in section.entries}
        for column in columns:
            known = theirs and column.name in OPENCOMPASS
            rule = f"{section.mode}-{section.block}-{section.stride}"
            head = [OPENCOMPASS[column.name] if known else column.name, column.digest[:6], "bpc"]
            values = [_current(entries[name].cells.get(column.name)) if name in entries else None for name in models]
            rows.append([*head, "unknown" if known else rule, *("-" if v is None else f"{v:.4f}" for v in values)])
    return csv_table(rows)


def _is_theirs(section: Section) -> bool:
    """Whether OpenCompass's llm_compression has this rule."""
    return (section.mode, section.block, section.stride) == ("paper", 1900, 512)


def _current(cell: Cell | None) -> float | None:
    return cell.values["bits_per_character"] if cell is not None and cell.current else None


# Markdown


def markdown(board: Board) -> str:
    """A table for each section: models, corpora with half of their intervals, averages."""
    parts = [f"# {markdown_text(board.title)}\n"]
    for section in board.sections:
        name, digits = MEASURES[section.measure]
        parts.append(f"## {markdown_text(section.title)}\n\n{name.capitalize()}; lower is better.\n")
        several = len(section.columns) > 1
        heads = ["model", *(markdown_text(column.name) for column in section.columns), *["average"] * several]
        extra = section.measure == "bits_per_character"
        heads += ["bits/byte", "Min-20 %"] if extra else ["Min-20 %"]
        sized = any(entry.parameters for entry in section.entries)
        heads += ["parameters"] * sized
        rows = [heads, ["---", *["---:"] * (len(heads) - 1)]]
        for entry in section.entries:
            label = markdown_text(entry.name)
            kind = "reference" if entry.reference else PUBLISHED if entry.kind == PUBLISHED else ""
            row = [f"*{label}* ({kind})" if kind else label]
            row += [_marked(section, entry, column.name, digits) for column in section.columns]
            row += [_digits(entry.averages[section.measure], digits)] * several
            row += [_digits(entry.averages["bits_per_byte"], 4)] * extra + [_digits(entry.averages["min_k"], 3)]
            row += [compact(entry.parameters) if entry.parameters else ""] * sized
            rows.append(row)
        parts.append("\n".join(f"| {' | '.join(row)} |" for row in rows) + "\n")
        if section.notes:
            parts.append("\n".join(f"- {markdown_text(note)}" for note in section.notes) + "\n")
    return "\n".join(parts)


def _marked(section: Section, entry: Entry, corpus: str, digits: int) -> str:
    cell = entry.cells.get(corpus)
    if cell is None:
        return ""
    text = _digits(cell.values[section.measure], digits)
    low, high = cell.values["low"], cell.values["high"]
    if section.measure == "bits_per_character" and low is not None and high is not None:
        text += f" ±{(high - low) / 2:.{digits}f}"
    if section.best.get(corpus) == entry.name:
        text = f"**{text}**"
    return text + ("" if cell.current else " †") + (" ▲" if cell.seen else "")


def _digits(value: float | None, digits: int) -> str:
    return "" if value is None else "∞" if math.isinf(value) else f"{value:.{digits}f}"


# JSON


def record(board: Board) -> dict[str, Any]:
    """Sections, models and differences, and the places on the published line."""
    found = board.scatter
    return {
        "title": board.title,
        "sections": [_section(section) for section in board.sections],
        "predictions": [
            {
                "model": one.name,
                "bpc": one.bpc,
                "score": one.predicted.score,
                "low": one.predicted.low,
                "high": one.predicted.high,
                "extrapolated": not one.covered,
                "measured_score": one.score,
            }
            for one in found.placed
        ],
        "predictions_exact": found.exact,
        "predictions_of": found.section,
    }


def _section(section: Section) -> dict[str, Any]:
    return {
        "mode": section.mode,
        "block": section.block,
        "stride": section.stride,
        "measure": section.measure,
        "corpora": [
            {
                "name": column.name,
                "digest": column.digest,
                "documents": column.documents,
                "characters": column.characters,
                "first_date": column.first,
                "last_date": column.last,
                "best": section.best.get(column.name),
            }
            for column in section.columns
        ],
        "models": [
            {
                "model": entry.name,
                "spec": entry.spec,
                "reference": entry.reference,
                "published": entry.kind == PUBLISHED,
                "average": _json(entry.averages[section.measure]),
                "values": {name: _json(cell.values[section.measure]) for name, cell in entry.cells.items()},
                "other_versions": [name for name, cell in entry.cells.items() if not cell.current],
                "may_be_contaminated": [name for name, cell in entry.cells.items() if cell.seen],
                "differences": {
                    corpus: {"value": gap.value, "low": gap.low, "high": gap.high}
                    for (corpus, name), gap in section.gaps.items()
                    if name == entry.name
                },
            }
            for entry in section.entries
        ],
        "notes": list(section.notes),
    }


def _json(value: float | None) -> float | None:
    return value if value is None or math.isfinite(value) else None
