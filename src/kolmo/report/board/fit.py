"""Bits per character against benchmark scores: the published line, and where the models of a leaderboard lie on it.

The line is that of Huang et al., "Compression Represents Intelligence Linearly" (2024), through their published models
(`fit`). A model's place on it means what theirs do only where it was measured as they were: on their
corpora, in mode paper with their block and stride. Elsewhere it is a rough guess, and the page says so.

What it is not: it draws nothing (`board.figure`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kolmo.errors import KolmoError
from kolmo.fit import Fit, Prediction, fit
from kolmo.fit.areas import Point, study
from kolmo.fit.table import published

if TYPE_CHECKING:
    from kolmo.report.board.models import Scores
    from kolmo.report.board.sections import Entry, Section

CORPORA = frozenset({"cc", "python", "arxiv_math"})
BLOCK, STRIDE = 1900, 512
LARGEST = 1e6  # of bits per character
LEAST = 3  # models of one's own with a score, for a line of their own


@dataclass(frozen=True)
class Placed:
    """A model of the leaderboard.

    Attributes:
        name: of its entry.
        bpc: bits per character, the mean over corpora.
        predicted: what the published line says of it, at 95 %.
        covered: whether published models lie to both sides of it.
        score: what the user's table says of it, or None.
    """

    name: str
    bpc: float
    predicted: Prediction
    covered: bool
    score: float | None

    @property
    def drawn(self) -> bool:
        """Whether the line says anything of it: scores go from 0 to 1."""
        return 0 <= self.predicted.score <= 1


@dataclass(frozen=True)
class Scatter:
    """What there is to draw.

    Attributes:
        fit: the published line.
        points: published models with a score.
        others: published models without one.
        section: title of the section that `placed` are of; "" where there are none.
        exact: whether that was measured as the published models were.
        placed: its models, best first.
        scored: those with a score of the user's.
        own: the line through these, where there are enough.
        note: why there is none, where the user gave scores; else "".
    """

    fit: Fit
    points: tuple[Point, ...]
    others: tuple[Point, ...]
    section: str
    exact: bool
    placed: tuple[Placed, ...]
    own: Fit | None
    note: str

    @property
    def scored(self) -> tuple[tuple[Placed, float], ...]:
        """The models with a score of the user's."""
        return tuple((one, one.score) for one in self.placed if one.score is not None)

    @property
    def fractions(self) -> bool:
        """Whether the user's scores are on the scale of the published ones, 0 to 1."""
        return all(0 <= score <= 1 for _, score in self.scored)


def is_exact(section: Section) -> bool:
    """Whether a section's averages are what the published models have."""
    names = {column.name for column in section.columns}
    return (section.mode, section.block, section.stride) == ("paper", BLOCK, STRIDE) and names == CORPORA


def scatter(sections: Sequence[Section], scores: Scores) -> Scatter:
    """The published line, and on it the models of the section that comes closest to how the line was measured.

    Args:
        sections: of a leaderboard, the largest first.
        scores: the user's.
    """
    overall = study(published()).overall
    ranked = [one for one in sections if one.measure == "bits_per_character" and _placeable(one)]
    section = next((one for one in ranked if is_exact(one)), None) or next(iter(ranked), None)
    placed = []
    for entry in _placeable(section):
        bpc = entry.averages["bits_per_character"]
        assert bpc is not None
        placed.append(
            Placed(entry.name, bpc, overall.fit.predict(bpc), overall.fit.covers(bpc), scores.of(entry.model))
        )
    own, note = None, ""
    pairs = [(one.bpc, one.score) for one in placed if one.score is not None]
    if scores.name:
        try:
            own = fit([bpc for bpc, _ in pairs], [score for _, score in pairs])
        except KolmoError as error:
            note = f"{scores.name}: {error}"
            if len(pairs) < LEAST:
                note = f"{scores.name} has a score for {len(pairs)} of these models; a line of their own needs {LEAST}"
    exact = section is not None and is_exact(section)
    return Scatter(
        overall.fit, overall.points, overall.others, section.title if section else "", exact, tuple(placed), own, note
    )


def _placeable(section: Section | None) -> tuple[Entry, ...]:
    found = section.models if section else ()
    return tuple(one for one in found if (bpc := one.averages["bits_per_character"]) is not None and bpc < LARGEST)
