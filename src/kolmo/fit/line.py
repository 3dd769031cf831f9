"""A score from a code length: the straight line of "Compression Represents Intelligence Linearly" (Huang et al., 2024).

    score = intercept + slope * BPC       rho: Pearson's coefficient       e = sqrt(sum(residual^2) / n)

Least squares over models, one point each; rho and e are defined as in that paper. In addition: the expected score of a
model that is not in the table, with a prediction interval, and the error on a family of models that is left out.

What it is not: it does not evaluate models, read tables (`fit.table`) or choose columns (`fit.areas`). Nor is the line
a law: an interval is valid for one more model like those of the table, within their range of sizes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from kolmo.errors import KolmoError
from kolmo.fit.table import Table, published, read_table
from kolmo.student import student_t

__all__ = ["Fit", "HeldOut", "Prediction", "Table", "fit", "leave_one_family_out", "published", "read_table"]

MIN_MODELS = 3  # models that a line needs; two points always lie on one
MIN_RANGE = 1e-9  # range of BPC or scores below which they count as equal
MAX_VALUE = 1e9  # largest absolute BPC or score, so that squares stay finite


@dataclass(frozen=True)
class Prediction:
    """The expected score of a model, and the prediction interval of its score."""

    score: float
    low: float
    high: float


@dataclass(frozen=True)
class Fit:
    """A line, and how well it fits.

    Attributes:
        slope: the change of the score for one bit per character.
        intercept: the score at BPC 0.
        rho: Pearson's correlation coefficient, -1 to 1.
        error: e, the root of the mean squared residual; the divisor is the number of models.
        count: the number of models.
        mean: the mean of their BPC.
        spread: the sum of squared differences of their BPC from the mean.
        lowest, highest: the lowest and highest BPC of the models.
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
        """The expected score of one more model, with its prediction interval.

            s * t * sqrt(1 + 1/n + (bpc - mean)^2 / spread)   to either side,   s^2 = sum(residual^2) / (n - 2)

        where t is the quantile (1 + level) / 2 of Student's t with n - 2 degrees of freedom. Residuals are assumed to
        be normal, independent and of constant variance; models of one family are not quite independent.

        Args:
            bpc: bits per character of the model, measured like those of the table.
            level: the probability that the interval contains the score of a new model, between 0 and 1.

        Raises:
            KolmoError: `bpc` is not finite or past 1e9, or `level` is not between 0 and 1.
        """
        if not abs(bpc) <= MAX_VALUE:
            raise KolmoError(f"{bpc} is not a BPC; give a number like 0.42")
        if not 0.5 <= (1 + level) / 2 < 1 or level <= 0:
            raise KolmoError(f"{level} is not a confidence level; give one between 0 and 1, like 0.95")
        freedom = self.count - 2
        sigma = self.error * math.sqrt(self.count / freedom)
        distance = (bpc - self.mean) / math.sqrt(self.spread)
        margin = sigma * student_t((1 + level) / 2, freedom) * math.sqrt(1 + 1 / self.count + distance * distance)
        score = self.score(bpc)
        return Prediction(score, score - margin, score + margin)

    def covers(self, bpc: float) -> bool:
        """Whether `bpc` lies within the range of the models; outside, a prediction is an extrapolation."""
        return self.lowest <= bpc <= self.highest

    def __str__(self) -> str:
        start, step = (f"{number:#.4g}".rstrip(".") for number in (self.intercept, abs(self.slope)))
        return f"score = {start} {'-' if self.slope < 0 else '+'} {step} * BPC"


def fit(bpc: Sequence[float], scores: Sequence[float]) -> Fit:
    """Fit the line of least squares, score ~ BPC.

    Args:
        bpc: bits per character of each model.
        scores: the score of each model, all on the same scale.

    Raises:
        KolmoError: there are fewer than 3 models, a number is not finite or exceeds 1e9, or all BPC or all scores are
            equal.
    """
    if len(bpc) != len(scores):
        raise KolmoError(f"there are {len(bpc)} BPC and {len(scores)} scores; give one of each for every model")
    x, y = [float(value) for value in bpc], [float(value) for value in scores]
    count = len(x)
    if count < MIN_MODELS:
        raise KolmoError(f"a line needs {MIN_MODELS} models with BPC and score, not {count}; add models")
    for value in x + y:
        if not abs(value) <= MAX_VALUE:  # NaN too
            raise KolmoError(f"{value} is out of range for a BPC or a score; correct it, or leave the model out")
    for values, name in ((x, "BPC"), (y, "scores")):
        if max(values) - min(values) <= MIN_RANGE:
            raise KolmoError(f"all {name} of {count} models are equal, so they define no line; add other models")
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
    """The errors of one family against a line through all other families.

    Attributes:
        family: the family that is left out.
        count: the number of its models.
        fit: the line through all other models.
        error: the root of the mean squared residual of its models against that line.
        bias: the mean of these residuals; positive if the family scores better than its BPC predicts.
    """

    family: str
    count: int
    fit: Fit
    error: float
    bias: float


@dataclass(frozen=True)
class HeldOut:
    """The errors of predictions for families that are left out of the fit.

    Attributes:
        families: each family that can be left out, in the order of their first models.
        skipped: families without which the other models define no line.
        count: the number of predicted models.
        error: the root of the mean squared residual of all predicted models; NaN if there are none.
    """

    families: tuple[FamilyOut, ...]
    skipped: tuple[str, ...]
    count: int
    error: float


def leave_one_family_out(bpc: Sequence[float], scores: Sequence[float], families: Sequence[str]) -> HeldOut:
    """Fit the line without each family in turn, and measure the residuals of its models against that line.

    Args:
        bpc: bits per character of each model.
        scores: the score of each model.
        families: the family of each model.
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
