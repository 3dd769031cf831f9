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
MAX_BITS_PER_CHARACTER = 1e6  # a model above this is not drawn
MIN_SCORED_MODELS = 3  # models with a score of the user's that a line of their own needs


@dataclass(frozen=True)
class PlacedModel:
    """A model of the leaderboard.

    Attributes:
        name: of its entry.
        bpc: bits per character, the mean over corpora.
        predicted: its score by the published line, with a 95 % interval.
        covered: whether published models lie to both sides of it.
        score: its score in the user's table, or None.
    """

    name: str
    bpc: float
    predicted: Prediction
    covered: bool
    score: float | None

    @property
    def drawn(self) -> bool:
        """Whether the predicted score lies between 0 and 1, so that the model can be drawn."""
        return 0 <= self.predicted.score <= 1


@dataclass(frozen=True)
class Scatter:
    """Everything that the picture of scores shows.

    Attributes:
        fit: the published line.
        points: published models with a score.
        others: published models without one.
        section: title of the section that contains `placed`; "" if there is none.
        exact: whether that section was measured as the published models were.
        placed: the models of the section, best first.
        scored: those with a score of the user's.
        own: the line through the models with a score of the user's, if there are enough.
        note: why there is no line through the user's scores, if the user gave scores; else "".
    """

    fit: Fit
    points: tuple[Point, ...]
    others: tuple[Point, ...]
    section: str
    exact: bool
    placed: tuple[PlacedModel, ...]
    own: Fit | None
    note: str

    @property
    def scored(self) -> tuple[tuple[PlacedModel, float], ...]:
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
            PlacedModel(entry.name, bpc, overall.fit.predict(bpc), overall.fit.covers(bpc), scores.of(entry.model))
        )
    own, note = None, ""
    pairs = [(one.bpc, one.score) for one in placed if one.score is not None]
    if scores.name:
        try:
            own = fit([bpc for bpc, _ in pairs], [score for _, score in pairs])
        except KolmoError as error:
            note = f"{scores.name}: {error}"
            if len(pairs) < MIN_SCORED_MODELS:
                note = (
                    f"{scores.name} has a score for {len(pairs)} of these models; a line of their own needs "
                    f"{MIN_SCORED_MODELS}"
                )
    exact = section is not None and is_exact(section)
    return Scatter(
        overall.fit, overall.points, overall.others, section.title if section else "", exact, tuple(placed), own, note
    )


def _placeable(section: Section | None) -> tuple[Entry, ...]:
    found = section.models if section else ()
    return tuple(
        one for one in found if (bpc := one.averages["bits_per_character"]) is not None and bpc < MAX_BITS_PER_CHARACTER
    )
