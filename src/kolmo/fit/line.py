"""A score from a code length: the straight line of "Compression Represents Intelligence Linearly" (Huang et al., 2024).

    score = intercept + slope * BPC       rho: Pearson's coefficient       e = sqrt(sum(residual^2) / n)

Least squares over models, one point each; rho and e as that paper has them. Beyond it: the score to expect of a model
that is not among them, with an interval, and how far the line misses a family of models that it has not seen.

What it is not: it measures no model, reads no table (`fit.table`) and knows no column (`fit.areas`). Nor is the line a
law: an interval holds for one more model like those of the table, of the sizes that the table has.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from kolmo.errors import KolmoError
from kolmo.fit.table import Table, published, read_table
from kolmo.student import student_t

__all__ = ["Fit", "HeldOut", "Prediction", "Table", "fit", "leave_one_family_out", "published", "read_table"]

MIN_MODELS = 3  # models: through two points any line is exact
EQUAL = 1e-9  # numbers no further apart than this are one number
MAX_VALUE = 1e9  # of a BPC or a score, so that squares stay finite


@dataclass(frozen=True)
class Prediction:
    """The score to expect, and the interval that one new model's score lies in at the level asked for."""

    score: float
    low: float
    high: float


@dataclass(frozen=True)
class Fit:
    """A line, and how well it fits.

    Attributes:
        slope: score for each bit per character.
        intercept: the score at BPC 0.
        rho: Pearson's coefficient, -1 to 1.
        error: e, root of the mean squared residual; the divisor is the number of models.
        count: models.
        mean: of their BPC.
        spread: sum of squared distances of their BPC from the mean.
        lowest: BPC among them.
        highest: BPC among them.
    """

    slope: float
    intercept: float
    rho: float
    error: float
    count: int
    mean: float
    spread: float
    lowest: float
    highest: float

    def score(self, bpc: float) -> float:
        """The score on the line."""
        return self.intercept + self.slope * bpc

    def predict(self, bpc: float, level: float = 0.95) -> Prediction:
        """The score of one more model, with its prediction interval.

            s * t * sqrt(1 + 1/n + (bpc - mean)^2 / spread)   to either side,   s^2 = sum(residual^2) / (n - 2)

        where t is the quantile (1 + level) / 2 of Student's t with n - 2 degrees of freedom. It supposes residuals
        that are normal, independent and equally wide everywhere; models of one family are not quite independent.

        Args:
            bpc: of the model, measured as those of the table.
            level: part of new models whose score the interval holds, between 0 and 1.

        Raises:
            KolmoError: `bpc` is not finite or past 1e9, or `level` is not between 0 and 1.
        """
        if not abs(bpc) <= MAX_VALUE:
            raise KolmoError(f"{bpc} is not a BPC; give a number like 0.42")
        if not 0.5 <= (1 + level) / 2 < 1 or level <= 0:
            raise KolmoError(f"{level} is not a level of an interval; give one between 0 and 1, like 0.95")
        freedom = self.count - 2
        sigma = self.error * math.sqrt(self.count / freedom)
        distance = (bpc - self.mean) / math.sqrt(self.spread)
        margin = sigma * student_t((1 + level) / 2, freedom) * math.sqrt(1 + 1 / self.count + distance * distance)
        score = self.score(bpc)
        return Prediction(score, score - margin, score + margin)

    def covers(self, bpc: float) -> bool:
        """Whether `bpc` lies within those of the models; beyond, a prediction is an extrapolation."""
        return self.lowest <= bpc <= self.highest

    def __str__(self) -> str:
        start, step = (f"{number:#.4g}".rstrip(".") for number in (self.intercept, abs(self.slope)))
        return f"score = {start} {'-' if self.slope < 0 else '+'} {step} * BPC"


def fit(bpc: Sequence[float], scores: Sequence[float]) -> Fit:
    """The line of least squares, score ~ BPC.

    Args:
        bpc: bits per character of each model.
        scores: of the same models, on any one scale.

    Raises:
        KolmoError: fewer than 3 models, a number that is not finite or past 1e9, or all BPC or all scores equal.
    """
    if len(bpc) != len(scores):
        raise KolmoError(f"{len(bpc)} BPC and {len(scores)} scores are not pairs; give one of each for every model")
    x, y = [float(value) for value in bpc], [float(value) for value in scores]
    count = len(x)
    if count < MIN_MODELS:
        raise KolmoError(f"a line needs {MIN_MODELS} models with BPC and score, not {count}; add models")
    for value in x + y:
        if not abs(value) <= MAX_VALUE:  # NaN too
            raise KolmoError(f"{value} is neither BPC nor score; correct it, or leave the model out")
    for values, name in ((x, "BPC"), (y, "scores")):
        if max(values) - min(values) <= EQUAL:
            raise KolmoError(f"all {name} of {count} models are equal, so there is not a line; add other models")
    mean_x, mean_y = math.fsum(x) / count, math.fsum(y) / count
    dx, dy = [value - mean_x for value in x], [value - mean_y for value in y]
    xx, yy, xy = (math.fsum(a * b for a, b in zip(u, v, strict=True)) for u, v in ((dx, dx), (dy, dy), (dx, dy)))
    slope = xy / xx
    squares = math.fsum((b - slope * a) ** 2 for a, b in zip(dx, dy, strict=True))
    return Fit(
        slope=slope,
        intercept=mean_y - slope * mean_x,
        rho=max(-1.0, min(1.0, xy / math.sqrt(xx) / math.sqrt(yy))),
        error=math.sqrt(squares / count),
        count=count,
        mean=mean_x,
        spread=xx,
        lowest=min(x),
        highest=max(x),
    )


@dataclass(frozen=True)
class FamilyOut:
    """What a line through all other families says of one.

    Attributes:
        family: the one left out.
        count: its models.
        fit: the line through all others.
        error: root of the mean squared residual of its models against that line.
        bias: mean of these residuals; above 0 the family scores better than its BPC lets expect.
    """

    family: str
    count: int
    fit: Fit
    error: float
    bias: float


@dataclass(frozen=True)
class HeldOut:
    """How well lines predict families that they have not seen.

    Attributes:
        families: each that could be left out, in the order of their first models.
        skipped: those without which too little is left for a line.
        count: models predicted.
        error: root of the mean squared residual of all of them; NaN where there are none.
    """

    families: tuple[FamilyOut, ...]
    skipped: tuple[str, ...]
    count: int
    error: float


def leave_one_family_out(bpc: Sequence[float], scores: Sequence[float], families: Sequence[str]) -> HeldOut:
    """Fit without each family in turn, and see how far its models lie from that line.

    Args:
        bpc: bits per character of each model.
        scores: of the same models.
        families: of the same models.
    """
    points = list(zip(bpc, scores, families, strict=True))
    out, skipped, squares = [], [], []
    for family in dict.fromkeys(families):
        kept = [(x, y) for x, y, name in points if name != family]
        try:
            line = fit([x for x, _ in kept], [y for _, y in kept])
        except KolmoError:
            skipped.append(family)
            continue
        residuals = [y - line.score(x) for x, y, name in points if name == family]
        own = [residual * residual for residual in residuals]
        count = len(own)
        out.append(FamilyOut(family, count, line, math.sqrt(math.fsum(own) / count), math.fsum(residuals) / count))
        squares += own
    error = math.sqrt(math.fsum(squares) / len(squares)) if squares else math.nan
    return HeldOut(tuple(out), tuple(skipped), len(squares), error)
