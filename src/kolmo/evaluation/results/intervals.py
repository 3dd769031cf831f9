"""Confidence intervals of a ratio of sums over documents, for 3 or more documents.

    R = sum y_i / sum x_i        y: bits of a document, or the difference of two models on it; x: its characters

Documents are treated as independent draws from one population. With the leverage h_i = x_i / sum x of a document, and
its scaled residual u_i = (y_i - R x_i) / sum x:

1. Variance: s^2 = sum u_i^2 / (1 - h_i). A squared residual is too small by about that factor, since R was fitted to
   it (MacKinnon and White, 1985: HC2).
2. Degrees of freedom: those of s^2 by Satterthwaite's formula, as in Bell and McCaffrey (2002), under the assumption
   that the standard deviation of a document's cost grows in proportion to its length. Equal lengths give n - 1. If one
   document has most of the text, there are few, and the interval by Student's t is wide.
3. Skewness: Hall's monotone cubic transformation (1992, "On the removal of skewness by transformation"). With
   k = sum u_i^3 / (sum u_i^2)^(3/2), a quantile t becomes g(t) = 3/k (cbrt(1 + k (t - k/6)) - 1), and the interval is

        R - s g(t_high)  to  R - s g(-t_high)

Percentile bootstrap intervals have much lower coverage than their nominal level for few documents; docs/evaluation.md
compares both. What it is not: a bootstrap; it draws no random numbers.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from kolmo.student import student_t

MIN_DOCUMENTS = 3  # documents with different texts that an interval needs; two do not estimate a variance well
DEFAULT_LEVEL = 0.95  # probability that an interval contains the value of the population
MIN_SKEWNESS = 1e-6  # skewness below which the transformation is the identity, to within rounding


class Interval(NamedTuple):
    """The lower and upper end of a confidence interval."""

    low: float
    high: float


def ratio_interval(
    numerators: npt.ArrayLike,
    denominators: npt.ArrayLike,
    *,
    groups: npt.ArrayLike | None = None,
    level: float = DEFAULT_LEVEL,
) -> Interval | None:
    """The confidence interval of sum(numerators) / sum(denominators) over documents.

    Args:
        numerators: the numerator of each document, shape (n,).
        denominators: the denominator of each document, shape (n,), at least 0.
        groups: a label of each document, such as a hash of its text, shape (n,): documents with the same label count as
            one draw. None: all documents are different draws.
        level: the confidence level, between 0 and 1.

    Returns:
        the interval; None for fewer than 3 draws with a denominator above 0.

    Raises:
        ValueError: the level is not between 0 and 1.

    Example:
        >>> low, high = ratio_interval([10.0, 21.0, 29.0], [1, 2, 3])
        >>> low < 10 < high
        True
    """
    if not 0 < level < 1:
        raise ValueError(f"{level} is not a confidence level; give one between 0 and 1, like 0.95")
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
    return Interval(ratio - spread * _skewed_quantile(t, skewness), ratio - spread * _skewed_quantile(-t, skewness))


def _freedom(share: npt.NDArray[np.float64], lifted: npt.NDArray[np.float64]) -> float:
    """Satterthwaite's degrees of freedom of sum(lifted u^2), where u = (I - share 1') e and sd(e_i) = share_i.

    They are trace(G)^2 / sum G_ij^2, with G_ij = sqrt(lifted_i lifted_j) M_ij and

        M_ij = share_i share_j W - share_i w_j - w_i share_j + [i = j] w_i,    w = share^2,  W = sum w

    The double sum factors into sums of powers, so that the time is linear in the number of documents.
    """
    w = share**2
    total = float(w.sum())
    diagonal = lifted * (w * (1 - 2 * share) + share**2 * total)
    without = lifted * (share**2 * total - 2 * share * w)  # the diagonal without the term [i = j] w_i
    a, b, c = (float((lifted * part).sum()) for part in (share**2, share * w, w**2))
    everything = total**2 * a**2 + 2 * a * c + 2 * b**2 - 4 * total * a * b
    squares = everything - float((without**2).sum()) + float((diagonal**2).sum())
    return float(diagonal.sum()) ** 2 / squares


def _skewed_quantile(t: float, skewness: float) -> float:
    """The inverse of Hall's transformation: the quantile `t` corrected for the skewness of the estimate."""
    if abs(skewness) < MIN_SKEWNESS:
        return t
    return float(3 / skewness * (np.cbrt(1 + skewness * (t - skewness / 6)) - 1))
