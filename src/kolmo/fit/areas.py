"""Areas of ability: the columns of a table with BPC and with scores, and one line for each area.

After Huang et al., "Compression Represents Intelligence Linearly" (2024): three areas, each with a corpus and
benchmarks.

    knowledge & commonsense   Common Crawl   NQ, TriviaQA, ARC-C, HellaSwag, MMLU
    coding                    Python         HumanEval, MBPP, DS-1000
    mathematical reasoning    arXiv math     GSM8K, MATH, SAT-Math, MMLU-Math

The BPC of a model is the mean over corpora; its score is the mean over areas of the mean benchmark score of the area. A
model without one of the numbers of a mean has no mean, since means over different corpora cannot be compared.
What it is not: the statistics of the line (`fit.line`).
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
Groups = tuple[tuple[str, ...], ...]  # groups of columns; a score is the mean over groups of the mean of each group


@dataclass(frozen=True)
class Area:
    """The columns of one area.

    Attributes:
        name: the name to show.
        bpc: the columns with BPC on its corpora; empty if the area only counts in the overall score.
        scores: the columns with scores of its benchmarks.
    """

    name: str
    bpc: tuple[str, ...]
    scores: tuple[str, ...]


@dataclass(frozen=True)
class KnownArea:
    """An area of the paper, and the column names by which it is recognised, as `key` writes them."""

    name: str
    corpora: frozenset[str]
    benchmarks: frozenset[str]
    area: frozenset[str]


KNOWN_AREAS = (
    KnownArea(
        "knowledge & commonsense",
        frozenset({"cc", "commoncrawl"}),
        frozenset({"nq", "naturalquestions", "triviaqa", "arcc", "arcchallenge", "hellaswag", "mmlu"}),
        frozenset({"knowledge", "commonsense", "knowledgecommonsense", "knowledgeandcommonsense"}),
    ),
    KnownArea(
        "coding",
        frozenset({"python", "github"}),
        frozenset({"humaneval", "mbpp", "ds1000"}),
        frozenset({"coding", "code"}),
    ),
    KnownArea(
        "mathematical reasoning",
        frozenset({"arxiv", "arxivmath"}),
        frozenset({"gsm8k", "math", "satmath", "mmlumath"}),
        frozenset({"mathematicalreasoning", "mathreasoning", "maths"}),
    ),
)
SCORE_COLUMNS = frozenset({"score", "averagescore", "avgscore", "meanscore", "benchmarkscore"})
MEASURE_WORDS = frozenset({"score", "scores", "acc", "accuracy"})  # words ignored in the name of a benchmark
AVERAGE_WORDS = frozenset({"average", "avg", "mean", "overall", "all"})
NON_CORPUS_WORDS = MEASURE_WORDS | {"low", "high", "lower", "upper", "min", "max", "ci", "std", "se", "stderr"}


@dataclass(frozen=True)
class Point:
    """A model of the table. `score` is None if the table has none for it."""

    model: str
    family: str
    bpc: float
    score: float | None


@dataclass(frozen=True)
class Study:
    """One line through the models of a table: overall, or of an area or a corpus.

    Attributes:
        name: `overall`, the area's name, or the corpus's column.
        bpc: the columns whose mean is the BPC.
        scores: the columns whose mean is the score, in groups of equal weight.
        points: the models with BPC and score, in the order of the table.
        others: the models with BPC but no score.
        fit: the line through `points`.
        held_out: the errors for each family that is left out in turn.
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
    """All lines of one table.

    Attributes:
        overall: the line over all corpora, which predictions use.
        parts: one line for each area with a corpus; if no area has a score of its own, one for each corpus against the
            overall score (`own_scores` is False then).
        own_scores: whether `parts` have scores of their own.
        notes: a sentence for each thing that was left out.
    """

    overall: Study
    parts: tuple[Study, ...]
    own_scores: bool
    notes: tuple[str, ...]


def study(table: Table, *, bpc: Sequence[str] = (), score: Sequence[str] = (), areas: Sequence[Area] = ()) -> Studies:
    """Fit score ~ BPC over the models of a table, and for each area or corpus on its own.

    Args:
        table: the table of models.
        bpc: the columns whose mean is the BPC; default: those of `areas`, else those that `bpc_columns` finds.
        score: the columns whose mean is the score; default: the mean over `areas`, else a column `score` or
            `average_score`, else the mean over the areas that `known_areas` finds.
        areas: the areas; default: those that `known_areas` finds.

    Raises:
        KolmoError: a column is missing or has cells that are not numbers, or no line can be fitted; the message names
            the table.
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
    """The columns of the paper's corpora (cc, common_crawl, python, github, arxiv_math), and all with the word bpc.

    The name of a corpus may end in a number, like `cc_2026`, and may have any further words if `bpc` is one of them;
    `bits_per_character` is the same as `bpc`. Averages are used only if there is no other column, since they are
    rounded.

    Raises:
        KolmoError: the table has no such column.
    """
    found = [column for column in table.columns if _known_corpus(column) or _has_bpc(column)]
    averages = [column for column in found if not set(_words(column)) - {"bpc"} - AVERAGE_WORDS]
    if not found:
        names = ", ".join(table.columns)
        raise KolmoError(
            f"{table.name}: has no column that is known to have BPC; name one in the argument bpc (it has {names})"
        )
    return tuple(column for column in found if column not in averages) or tuple(averages[:1])


def known_areas(table: Table, corpora: Sequence[str]) -> list[Area]:
    """The areas of the paper for which a table has scores: of benchmarks, else in a column with the area's name.

    Args:
        table: the table of models.
        corpora: the columns with BPC, which are assigned to their areas.
    """
    areas = []
    for known in KNOWN_AREAS:
        free = [column for column in table.columns if column not in corpora]
        scores = [column for column in free if _benchmark_key(column) in known.benchmarks]
        scores = scores or [column for column in free if _benchmark_key(column) in known.area]
        if scores:
            own = tuple(column for column in corpora if _known_corpus(column) is known)
            areas.append(Area(known.name, own, tuple(scores)))
    return areas


def _scores(table: Table, areas: Sequence[Area]) -> Groups:
    ready = [column for column in table.columns if key(column) in SCORE_COLUMNS]
    if ready:
        return (tuple(ready[:1]),)
    if not areas:
        names = ", ".join(table.columns)
        raise KolmoError(
            f"{table.name}: has no column that is known to have scores; name one in the argument score (it has {names})"
        )
    return tuple(area.scores for area in areas)


def _fitted(table: Table, name: str, bpc: tuple[str, ...], scores: Groups) -> Study:
    """Fit one line to the rows with a BPC.

    Raises:
        KolmoError: a cell is not a number, or the rows define no line.
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
    """A warning if some scores seem to be fractions and others percentages."""
    largest = {column: max((value or 0.0 for value in table.numbers(column)), default=0.0) for column in columns}
    fractions = [column for column, value in largest.items() if 0 < value <= 1]
    percentages = [column for column, value in largest.items() if value > 2]
    if not (fractions and percentages):
        return []
    return [f"scores of {fractions[0]} are at most 1 and those of {percentages[0]} are not; convert all to one scale"]


def means_of(columns: Sequence[Sequence[float | None]]) -> list[float | None]:
    """The mean of each row over columns; None if a number is missing."""
    means: list[float | None] = []
    for row in zip(*columns, strict=True):
        values = [value for value in row if value is not None]
        means.append(math.fsum(values) / len(values) if len(values) == len(row) else None)
    return means


def _words(column: str) -> list[str]:
    short = re.sub(r"bits[\W_]+per[\W_]+char(acter)?", "bpc", column.casefold())
    return [word for word in re.split(r"[\W_]+", short) if word]


def _benchmark_key(column: str) -> str:
    return "".join(word for word in _words(column) if word not in MEASURE_WORDS)


def _has_bpc(column: str) -> bool:
    words = set(_words(column))
    return "bpc" in words and not words & NON_CORPUS_WORDS


def _known_corpus(column: str) -> KnownArea | None:
    words = [word for word in _words(column) if word != "bpc"]
    if set(words) & (NON_CORPUS_WORDS | AVERAGE_WORDS):
        return None
    for n, start in enumerate(accumulate(words), 1):  # of "common crawl 2026": "common", "commoncrawl", ...
        if _has_bpc(column) or all(re.search(r"\d", word) for word in words[n:]):
            for known in KNOWN_AREAS:
                if start in known.corpora:
                    return known
    return None
