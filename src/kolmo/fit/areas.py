"""Areas of ability: which columns of a table hold BPC, which hold scores, and one line for each area.

After Huang et al., "Compression Represents Intelligence Linearly" (2024): three areas, each a corpus and benchmarks.

    knowledge & commonsense   Common Crawl   NQ, TriviaQA, ARC-C, HellaSwag, MMLU
    coding                    Python         HumanEval, MBPP, DS-1000
    mathematical reasoning    arXiv math     GSM8K, MATH, SAT-Math, MMLU-Math

A model's BPC is the mean over corpora, its score the mean over areas of the area's mean benchmark score. A model that
lacks a number that a mean needs has no such mean, since means over different corpora cannot be compared.
What it is not: it does no statistics; that is `fit`.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from kolmo.errors import KolmoError
from kolmo.fit.line import Fit, HeldOut, fit, leave_one_family_out
from kolmo.fit.table import Table, key

OVERALL = "overall"
Groups = tuple[tuple[str, ...], ...]  # columns: the mean over groups of the group's mean


@dataclass(frozen=True)
class Area:
    """Columns that belong together.

    Attributes:
        name: for people.
        bpc: columns of its corpora; none where the area counts in the overall score alone.
        scores: columns of its benchmarks.
    """

    name: str
    bpc: tuple[str, ...]
    scores: tuple[str, ...]


@dataclass(frozen=True)
class Known:
    """Names by which an area of the paper is recognised, as `key` writes them."""

    name: str
    corpora: frozenset[str]
    benchmarks: frozenset[str]
    area: frozenset[str]


KNOWN = (
    Known(
        "knowledge & commonsense",
        frozenset({"cc", "commoncrawl"}),
        frozenset({"nq", "naturalquestions", "triviaqa", "arcc", "arcchallenge", "hellaswag", "mmlu"}),
        frozenset({"knowledge", "commonsense", "knowledgecommonsense", "knowledgeandcommonsense"}),
    ),
    Known(
        "coding",
        frozenset({"python", "github"}),
        frozenset({"humaneval", "mbpp", "ds1000"}),
        frozenset({"coding", "code"}),
    ),
    Known(
        "mathematical reasoning",
        frozenset({"arxiv", "arxivmath"}),
        frozenset({"gsm8k", "math", "satmath", "mmlumath"}),
        frozenset({"mathematicalreasoning", "mathreasoning", "maths"}),
    ),
)
SCORES = frozenset({"score", "averagescore", "avgscore", "meanscore", "benchmarkscore"})
MEASURES = frozenset({"score", "scores", "acc", "accuracy"})  # words that a benchmark's column may add
AVERAGES = frozenset({"average", "avg", "mean", "overall", "all"})
NO_CORPUS = MEASURES | {"low", "high", "lower", "upper", "min", "max", "ci", "std", "se", "stderr"}


@dataclass(frozen=True)
class Point:
    """A model of the table. `score` is None where the table has none."""

    model: str
    family: str
    bpc: float
    score: float | None


@dataclass(frozen=True)
class Study:
    """One line through the models of a table: overall, or of an area or a corpus.

    Attributes:
        name: `overall`, the area's name, or the corpus's column.
        bpc: columns whose mean is the BPC.
        scores: columns whose mean is the score, in groups that weigh the same.
        points: models with BPC and score, in the order of the table.
        others: models with BPC alone.
        fit: the line through `points`.
        held_out: without each family in turn.
    """

    name: str
    bpc: tuple[str, ...]
    scores: Groups
    points: tuple[Point, ...]
    others: tuple[Point, ...]
    fit: Fit
    held_out: HeldOut


@dataclass(frozen=True)
class Studies:
    """All that one table says.

    Attributes:
        overall: the line that predictions come from.
        parts: one for each area with a corpus; where no area has a score of its own, one for each corpus, all against
            the overall score (`own_scores` is False then).
        own_scores: whether `parts` have scores of their own.
        notes: what was left out, a sentence each.
    """

    overall: Study
    parts: tuple[Study, ...]
    own_scores: bool
    notes: tuple[str, ...]


def study(table: Table, *, bpc: Sequence[str] = (), score: Sequence[str] = (), areas: Sequence[Area] = ()) -> Studies:
    """Fit score ~ BPC over the models of a table, and for each area or corpus on its own.

    Args:
        table: a row a model.
        bpc: columns whose mean is the BPC; by default those of `areas`, else all that `bpc_columns` finds.
        score: columns whose mean is the score; by default the mean over `areas`, else a column `score` or
            `average_score` where there is one, else the mean over the areas that are found.
        areas: in place of those that `known_areas` finds.

    Raises:
        KolmoError: a column is missing or holds no numbers, or no line can be fitted; the message names the table.
    """
    areas = [
        Area(area.name, tuple(map(table.column, area.bpc)), tuple(map(table.column, area.scores))) for area in areas
    ]
    given = [column for area in areas for column in area.bpc]
    corpora = tuple(dict.fromkeys(table.column(column) for column in bpc or given)) or bpc_columns(table)
    if score:
        chosen: Groups = (tuple(dict.fromkeys(map(table.column, score))),)
    elif areas:
        chosen = tuple(area.scores for area in areas)
    else:
        areas = known_areas(table, corpora)
        chosen = _scores(table, areas)
    overall = _fitted(table, OVERALL, corpora, chosen)
    notes = []
    missing = len(table.rows) - len(overall.points) - len(overall.others)
    if missing:
        notes.append(f"{missing} of {len(table.rows)} models lack a BPC and are left out")
    twice = [model for model, count in Counter(table.models()).items() if count > 1]
    if twice:
        notes.append(f"{' and '.join(twice[:2])} in several rows: each row counts as a model")
    notes += _scales(table, [column for group in chosen for column in group])
    own = any(area.bpc for area in areas)
    parts = [area for area in areas if area.bpc]
    wanted = [(area.name, area.bpc, (area.scores,)) for area in parts] if own else [(c, (c,), chosen) for c in corpora]
    fitted = []
    for name, columns, scores in wanted:
        if (columns, scores) == (corpora, chosen):
            continue
        try:
            fitted.append(_fitted(table, name, columns, scores))
        except KolmoError as error:
            notes.append(f"no line for {name}: {str(error).removeprefix(f'{table.name}: ')}")
    return Studies(overall, tuple(fitted), own, tuple(notes))


def bpc_columns(table: Table) -> tuple[str, ...]:
    """Columns of the paper's corpora (cc, common_crawl, python, github, arxiv_math), and all that say bpc.

    A corpus's name may end in a number, as `cc_2026` does, and have any more words where `bpc` is one of them;
    `bits_per_character` says the same. Averages count only where nothing else is there, since they are rounded.

    Raises:
        KolmoError: there are none.
    """
    found = [column for column in table.columns if _known_corpus(column) or _says_bpc(column)]
    averages = [column for column in found if not set(_words(column)) - {"bpc"} - AVERAGES]
    if not found:
        names = ", ".join(table.columns)
        raise KolmoError(f"{table.name}: has no column known to hold BPC; name it by the argument bpc (it has {names})")
    return tuple(column for column in found if column not in averages) or tuple(averages[:1])


def known_areas(table: Table, corpora: Sequence[str]) -> list[Area]:
    """The paper's areas for which a table has scores: benchmarks, else a column with the area's own name.

    Args:
        table: its columns are looked through.
        corpora: columns with BPC; each area takes those that are its own.
    """
    areas = []
    for known in KNOWN:
        free = [column for column in table.columns if column not in corpora]
        scores = [column for column in free if _measured(column) in known.benchmarks]
        scores = scores or [column for column in free if _measured(column) in known.area]
        if scores:
            own = tuple(column for column in corpora if _known_corpus(column) is known)
            areas.append(Area(known.name, own, tuple(scores)))
    return areas


def _scores(table: Table, areas: Sequence[Area]) -> Groups:
    ready = [column for column in table.columns if key(column) in SCORES]
    if ready:
        return (tuple(ready[:1]),)
    if not areas:
        names = ", ".join(table.columns)
        raise KolmoError(
            f"{table.name}: has no column known to hold scores; name it by the argument score (it has {names})"
        )
    return tuple(area.scores for area in areas)


def _fitted(table: Table, name: str, bpc: tuple[str, ...], scores: Groups) -> Study:
    """A study of the rows that have a BPC.

    Raises:
        KolmoError: a cell is not a number, or the rows give no line.
    """
    x = means_of([table.numbers(column) for column in bpc])
    y = means_of([means_of([table.numbers(column) for column in group]) for group in scores])
    rows = zip(table.models(), table.families(), x, y, strict=True)
    points = [Point(model, family, a, b) for model, family, a, b in rows if a is not None]
    full = [(point, point.score) for point in points if point.score is not None]
    with_bpc, values = [point.bpc for point, _ in full], [score for _, score in full]
    try:
        line = fit(with_bpc, values)
    except KolmoError as error:
        raise KolmoError(f"{table.name}: {error}") from None
    held_out = leave_one_family_out(with_bpc, values, [point.family for point, _ in full])
    others = tuple(point for point in points if point.score is None)
    return Study(name, bpc, scores, tuple(point for point, _ in full), others, line, held_out)


def _scales(table: Table, columns: Sequence[str]) -> list[str]:
    """A warning where some scores seem to be fractions and others percentages."""
    largest = {column: max((value or 0.0 for value in table.numbers(column)), default=0.0) for column in columns}
    fractions = [column for column, value in largest.items() if 0 < value <= 1]
    percentages = [column for column, value in largest.items() if value > 2]
    if not (fractions and percentages):
        return []
    return [f"scores of {fractions[0]} end at 1 and those of {percentages[0]} do not; put all on one scale"]


def means_of(columns: Sequence[Sequence[float | None]]) -> list[float | None]:
    """The mean of each row over columns; None where one is missing."""
    means: list[float | None] = []
    for row in zip(*columns, strict=True):
        values = [value for value in row if value is not None]
        means.append(math.fsum(values) / len(values) if len(values) == len(row) else None)
    return means


def _words(column: str) -> list[str]:
    short = re.sub(r"bits[\W_]+per[\W_]+char(acter)?", "bpc", column.casefold())
    return [word for word in re.split(r"[\W_]+", short) if word]


def _measured(column: str) -> str:
    return "".join(word for word in _words(column) if word not in MEASURES)


def _says_bpc(column: str) -> bool:
    words = set(_words(column))
    return "bpc" in words and not words & NO_CORPUS


def _known_corpus(column: str) -> Known | None:
    words = [word for word in _words(column) if word != "bpc"]
    if set(words) & (NO_CORPUS | AVERAGES):
        return None
    for n, start in enumerate(accumulate(words), 1):  # of "common crawl 2026": "common", "commoncrawl", ...
        if _says_bpc(column) or all(re.search(r"\d", word) for word in words[n:]):
            for known in KNOWN:
                if start in known.corpora:
                    return known
    return None
