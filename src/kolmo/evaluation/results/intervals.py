"""Confidence intervals of a ratio of sums over documents, from 3 documents on.

    R = sum y_i / sum x_i        y: nats of a document, or what two models differ by on it; x: its characters

Documents are taken for independent draws from one population. With h_i = x_i / sum x, the share of a document, and
u_i = (y_i - R x_i) / sum x, by which it moves the ratio:

1. Variance: s^2 = sum u_i^2 / (1 - h_i). A residual is too small by about that factor, since R was fitted to it
   (MacKinnon and White, 1985: HC2).
2. Degrees of freedom: of s^2 by Satterthwaite's formula, as in Bell and McCaffrey (2002), where the spread of what a
   document costs grows as its length. Equal lengths give n - 1; where one document holds most of the text, there are
   hardly any, and Student's t is wide.
3. Skewness: Hall's monotone cubic transformation (1992, "On the removal of skewness by transformation"). With
   k = sum u_i^3 / (sum u_i^2)^(3/2), a quantile t becomes g(t) = 3/k (cbrt(1 + k (t - k/6)) - 1), and the interval is

        R - s g(t_high)  to  R - s g(-t_high)

Percentiles of a bootstrap hold far less than they promise while documents are few; docs/evaluation.md has both,
measured. What it is not: it knows no models, and draws no random numbers.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from kolmo.student import student_t

MIN_DOCUMENTS = 3  # with different texts: of two, nobody can tell a spread from chance
LEVEL = 0.95
MIN_SKEWNESS = 1e-6  # skewness below which the transformation is the identity, to within rounding


class Interval(NamedTuple):
    """Both ends of an interval."""

    low: float
    high: float


def ratio_interval(
    numerators: npt.ArrayLike,
    denominators: npt.ArrayLike,
    *,
    groups: npt.ArrayLike | None = None,
    level: float = LEVEL,
) -> Interval | None:
    """The confidence interval of sum(numerators) / sum(denominators) over documents.

    Args:
        numerators: of each document, shape (n,).
        denominators: of each document, shape (n,), none below 0.
        groups: what equal documents have in common, such as a hash of their texts, shape (n,): these are one draw.
        level: part of such intervals that hold the population's ratio, between 0 and 1.

    Returns:
        low and high; None for fewer than 3 draws with a denominator above 0.

    Raises:
        ValueError: the level is not between 0 and 1.

    Example:
        >>> low, high = ratio_interval([10.0, 21.0, 29.0], [1, 2, 3])
        >>> low < 10 < high
        True
    """
    if not 0 < level < 1:
        raise ValueError(f"{level} is not a level of an interval; give one between 0 and 1, like 0.95")
    y: npt.NDArray[np.float64] = np.asarray(numerators, np.float64)
    x: npt.NDArray[np.float64] = np.asarray(denominators, np.float64)
    if groups is not None:
        _, places = np.unique(np.asarray(groups), return_inverse=True)
        y, x = (np.bincount(places, values).astype(np.float64) for values in (y, x))
    y, x = y[x > 0], x[x > 0]
    if len(x) < MIN_DOCUMENTS:
        return None
    whole = x.sum()
    ratio = float(y.sum() / whole)
    share = x / whole
    moved = (y - ratio * x) / whole
    squares = float((moved**2).sum())
    lifted = 1 / np.maximum(1 - share, np.finfo(np.float64).eps)
    spread = math.sqrt(float((moved**2 * lifted).sum()))
    if not spread > 0:
        return Interval(ratio, ratio)
    t = student_t((1 + level) / 2, _freedom(share, lifted))
    skewness = float((moved**3).sum()) / squares**1.5
    return Interval(ratio - spread * _straightened(t, skewness), ratio - spread * _straightened(-t, skewness))


def _freedom(share: npt.NDArray[np.float64], lifted: npt.NDArray[np.float64]) -> float:
    """Satterthwaite's degrees of freedom of sum(lifted u^2), where u = (I - share 1') e, and e_i varies as share_i.

    They are trace(G)^2 / sum G_ij^2, with G_ij = sqrt(lifted_i lifted_j) M_ij and

        M_ij = share_i share_j W - share_i w_j - w_i share_j + [i = j] w_i,    w = share^2,  W = sum w

    The double sum falls apart into sums of powers, so that the time grows as the number of documents.
    """
    w = share**2
    total = float(w.sum())
    diagonal = lifted * (w * (1 - 2 * share) + share**2 * total)
    without = lifted * (share**2 * total - 2 * share * w)  # the same as the rest of the matrix is
    a, b, c = (float((lifted * part).sum()) for part in (share**2, share * w, w**2))
    everything = total**2 * a**2 + 2 * a * c + 2 * b**2 - 4 * total * a * b
    squares = everything - float((without**2).sum()) + float((diagonal**2).sum())
    return float(diagonal.sum()) ** 2 / squares


def _straightened(t: float, skewness: float) -> float:
    """Hall's transformation, inverted: what a quantile is where the estimate is skewed."""
    if abs(skewness) < MIN_SKEWNESS:
        return t
    return float(3 / skewness * (np.cbrt(1 + skewness * (t - skewness / 6)) - 1))
