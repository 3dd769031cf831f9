"""Sections of a leaderboard: which results share a table, in which order, and by how much they differ.

Numbers of two evaluation rules never share a table: a section has one mode, block and stride. Compressors, and
predictors that score whole documents, do not have a block; they appear as references in every section of mode strict.
Within a section a corpus is one version of it (identified by its digest): the one that most models were evaluated on.
Results on other versions are kept and marked, and compared with nothing.

What it is not: it reads no results (`board.results`), and computes no metric (`kolmo.evaluation`).
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from kolmo.errors import KolmoError
from kolmo.evaluation.results.results import Result, compare
from kolmo.evaluation.results.store import RowStore
from kolmo.evaluation.windows.modes import MODES
from kolmo.report.board.models import Facts
from kolmo.report.board.results import MEASURES, CheckedResult, CorpusVersion, Numbers

PUBLISHED = "published"  # kind of an entry with numbers from a paper


@dataclass(frozen=True, eq=False)
class Cell:
    """A model on a corpus.

    Attributes:
        result: where its rows are; None for a published number.
        values: metrics by name.
        column: the version of the corpus that it was evaluated on, which may differ from the section's.
        current: whether it is the section's version.
        seen: "all" or "part": how much of the corpus is not newer than the model's training data; else "".
    """

    result: Result | None
    values: Numbers
    column: CorpusVersion
    current: bool
    seen: str


@dataclass(frozen=True, eq=False)
class Entry:
    """A model: a row of a section.

    Attributes:
        name: name of the model; if two models of the section share one, with what tells them apart.
        model, spec, kind: as the result records them.
        reference: whether it is a reference: a compressor or a predictor of bytes, shown for comparison.
        dtype: dtype of the model's arithmetic; "" if it has none.
        parameters, vocabulary: numbers of parameters and tokens; None if unknown.
        facts: facts about the model from a table of models.
        cells: results by name of the corpus.
        averages: means of metrics over all corpora of the section; None if one is missing.
    """

    name: str
    model: str
    spec: str
    kind: str
    reference: bool
    dtype: str
    parameters: int | None
    vocabulary: int | None
    facts: Facts
    cells: Mapping[str, Cell]
    averages: Numbers


@dataclass(frozen=True)
class Gap:
    """Difference of a model to the best one, in bits per character (`evaluation.results.results.compare`)."""

    value: float
    low: float | None
    high: float | None
    wins: float
    documents: int

    @property
    def clear(self) -> bool:
        """Whether the interval is known and excludes 0."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


@dataclass(frozen=True, eq=False)
class Section:
    """One table: a mode, a block, a stride.

    Attributes:
        mode, block, stride: the evaluation rule; block 0: whole documents.
        measure: the metric that models are ranked by.
        columns: corpora.
        entries: models and references, best first.
        best: name of the entry with the fewest bits per character on each corpus that two entries have.
        gaps: difference to the best entry, by corpus and name of the entry.
        notes: sentences about the table.
    """

    mode: str
    block: int
    stride: int
    measure: str
    columns: tuple[CorpusVersion, ...]
    entries: tuple[Entry, ...]
    best: Mapping[str, str]
    gaps: Mapping[tuple[str, str], Gap]
    notes: tuple[str, ...]

    @property
    def title(self) -> str:
        """The rule in words."""
        if not self.block:
            return f"Mode {self.mode}, documents whole"
        return f"Mode {self.mode}, block {self.block:,}" + (f", stride {self.stride:,}" if self.stride else "")

    @property
    def measured(self) -> tuple[Entry, ...]:
        """The entries that were evaluated here: not those with published numbers."""
        return tuple(entry for entry in self.entries if entry.kind != PUBLISHED)

    @property
    def models(self) -> tuple[Entry, ...]:
        """The measured entries that are not references."""
        return tuple(entry for entry in self.measured if not entry.reference)


# Sections


def build_sections(found: Sequence[CheckedResult]) -> list[Section]:
    """Sections of all results, those with most models first."""
    groups: dict[tuple[str, int, int], list[CheckedResult]] = {}
    for one in found:
        groups.setdefault((one.mode, one.block, one.stride), []).append(one)
    strict = [rule for rule in groups if rule[0] == "strict" and rule[1]]
    whole = [one for rule in list(groups) if rule[0] == "strict" and not rule[1] for one in groups.pop(rule)]
    used: set[str] = set()  # corpora that some section shows the references of
    for rule in strict:
        corpora = {one.corpus.name for one in groups[rule]}
        used |= corpora
        groups[rule] = groups[rule] + [one for one in whole if one.corpus.name in corpora]
    alone = [one for one in whole if one.corpus.name not in used]
    if alone:
        groups["strict", 0, 0] = alone
    sections = [_section(*rule, members) for rule, members in groups.items()]
    order = list(MODES)
    return sorted(
        sections,
        key=lambda one: (
            not one.models,
            -len(one.models),
            order.index(one.mode) if one.mode in order else len(order),
            -one.block,
            -one.stride,
            one.mode,
        ),
    )


def _section(mode: str, block: int, stride: int, found: Sequence[CheckedResult]) -> Section:
    names = sorted({one.corpus.name for one in found}, key=corpus_order)
    columns = [_column([one for one in found if one.corpus.name == name]) for name in names]
    measured = any(one.values["bits_per_character"] is not None for one in found)
    measure = "bits_per_character" if measured else "token_perplexity"
    groups: dict[tuple[str, str, str], list[CheckedResult]] = {}
    for one in found:
        groups.setdefault((one.model, one.kind, one.settings), []).append(one)
    labels = _labels([members[0] for members in groups.values()])
    entries = [_entry(label, members, columns) for label, members in zip(labels, groups.values(), strict=True)]
    best, gaps = _gaps(entries, columns) if measured else ({}, {})
    notes = list(_notes(measure, columns, entries))
    return Section(mode, block, stride, measure, tuple(columns), ranked(entries, measure), best, gaps, tuple(notes))


def ranked(entries: Sequence[Entry], measure: str) -> tuple[Entry, ...]:
    """Entries by their average, and those without one by their number on the first corpus, best first."""
    return tuple(sorted(entries, key=lambda one: (_cost(one.averages[measure]), _cost(_some(one, measure)), one.name)))


def corpus_order(name: str) -> tuple[int, str]:
    """Key to sort corpora by: those of the paper first, in its order, then others by name."""
    paper = ("cc", "python", "arxiv_math")
    return (paper.index(name) if name in paper else len(paper), name)


def _column(found: Sequence[CheckedResult]) -> CorpusVersion:
    """The version of a corpus that most models were evaluated on; of several, the one with most documents."""
    asked = [one for one in found if not one.reference] or found
    times = Counter(one.corpus.digest for one in asked)
    return max(
        (one.corpus for one in asked), key=lambda column: (times[column.digest], column.documents, column.digest)
    )


def _entry(label: str, found: Sequence[CheckedResult], columns: Sequence[CorpusVersion]) -> Entry:
    first = found[0]
    cells = {}
    for column in columns:
        here = [one for one in found if one.corpus.name == column.name]
        if here:
            one = max(here, key=lambda one: (one.corpus.digest == column.digest, one.finished, str(one.result.folder)))
            current = one.corpus.digest == column.digest
            cells[column.name] = Cell(one.result, one.values, one.corpus, current, _seen(one.corpus, one.facts.cutoff))
    averages: dict[str, float | None] = {}
    for measure in MEASURES:
        values = [cell.values[measure] for cell in cells.values() if cell.current]
        numbers = [value for value in values if value is not None]
        averages[measure] = math.fsum(numbers) / len(numbers) if len(numbers) == len(columns) else None
    return Entry(
        label,
        first.model,
        first.spec,
        first.kind,
        first.reference,
        first.dtype,
        first.parameters,
        first.vocabulary,
        first.facts,
        cells,
        averages,
    )


def _seen(corpus: CorpusVersion, cutoff: str) -> str:
    if not cutoff or not corpus.last:
        return ""
    return "all" if corpus.last <= cutoff else "part" if corpus.first and corpus.first <= cutoff else ""


def _labels(found: Sequence[CheckedResult]) -> list[str]:
    """A unique name for each result."""
    ways: tuple[Callable[[CheckedResult], str], ...] = (
        lambda one: one.model,
        lambda one: f"{one.model} ({one.dtype or one.kind})",
        lambda one: f"{one.model} ({one.spec})",
        lambda one: f"{one.model} ({one.dtype or one.kind}, {_short(one.settings)})",
    )
    labels = [ways[0](one) for one in found]
    for way in ways[1:]:
        times = Counter(labels)
        labels = [label if times[label] == 1 else way(one) for label, one in zip(labels, found, strict=True)]
    times = Counter(labels)
    return [label if times[label] == 1 else f"{label} {k}" for k, label in enumerate(labels, 1)]


def _short(settings: str) -> str:
    return hashlib.sha256(settings.encode("utf-8", "backslashreplace")).hexdigest()[:6]


def _cost(value: float | None) -> float:
    return math.inf if value is None else value


def _some(entry: Entry, measure: str) -> float | None:
    """A value to rank entries without an average by: that of the first corpus."""
    return next((cell.values[measure] for cell in entry.cells.values() if cell.current), None)


# Differences


def _gaps(
    entries: Sequence[Entry], columns: Sequence[CorpusVersion]
) -> tuple[dict[str, str], dict[tuple[str, str], Gap]]:
    best, gaps = {}, {}
    for column in columns:
        found = [
            (value, entry.cells[column.name], entry.name)
            for entry in entries
            if column.name in entry.cells
            and entry.cells[column.name].current
            and (value := entry.cells[column.name].values["bits_per_character"]) is not None
        ]
        if len(found) < 2:
            continue
        found.sort(key=lambda one: (one[0], one[2]))
        _, first, name = found[0]
        best[column.name] = name
        for _, cell, other in found[1:]:
            gap = _gap(cell.result, first.result)
            if gap is not None:
                gaps[column.name, other] = gap
    return best, gaps


def _gap(one: Result | None, other: Result | None) -> Gap | None:
    """None if the tables are missing, or share fewer than two documents."""
    if one is None or other is None:
        return None
    RowStore(one.folder)  # says which extra is missing
    try:
        with np.errstate(divide="ignore", invalid="ignore"):
            found = compare(one, other)
    except (FileNotFoundError, KolmoError, ValueError, ZeroDivisionError):
        return None
    if not math.isfinite(found["value"]) or found["documents"] < 2:
        return None
    return Gap(*(found[name] for name in ("value", "low", "high", "wins", "documents")))


def _notes(measure: str, columns: Sequence[CorpusVersion], entries: Sequence[Entry]) -> Iterable[str]:
    if measure == "token_perplexity":
        yield (
            "This mode scores part of each text, so there are no bits per character: perplexities per token compare "
            "models of one tokenizer alone."
        )
    for column in columns:
        others = [entry for entry in entries if column.name in entry.cells and not entry.cells[column.name].current]
        if others:
            names = ", ".join(entry.name for entry in others)
            versions = sorted({entry.cells[column.name].column.digest for entry in others})
            yield (
                f"{column.name}: {names} had another version of it (digest {', '.join(versions)}, not "
                f"{column.digest}); marked \u2020, ranked nowhere, and in no average."
            )
        if column.repeated:
            yield (
                f"{column.name}: {column.repeated:,} of {column.documents:,} documents repeat the text of an earlier "
                "one."
            )
    if any(cell.seen for entry in entries for cell in entry.cells.values()):
        yield (
            "\u25b2: the corpus, or part of it, is from before the end of the model's training data, and may have been "
            "in it."
        )
    lacking = [entry for entry in entries if any(column.name not in entry.cells for column in columns)]
    if lacking:
        yield (
            f"{len(lacking)} of {len(entries)} were not evaluated on every corpus; averages are over all corpora, so "
            "these have none."
        )
