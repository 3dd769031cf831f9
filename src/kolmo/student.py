"""Student's t distribution: quantiles at any number of degrees of freedom, whole or not.

What it is not: it knows no data (`evaluation.results.intervals`, `fit.line`).
"""

from __future__ import annotations

import math
from functools import lru_cache
from statistics import NormalDist

MIN_DIVISOR = 1e-300  # in place of a zero divisor
MAX_FRACTION_TERMS = 10_000  # of a continued fraction, at most; about 3 sqrt(freedom) are needed
FRACTION_TOLERANCE = 1e-15  # relative change at which the continued fraction ends
NORMAL_FREEDOM = 1e7  # degrees of freedom from which the quantile is the normal distribution's, to within 1e-7


@lru_cache(maxsize=4096)
def student_t(probability: float, freedom: float) -> float:
    """The quantile of Student's t distribution, to about ten digits.

        P(|T| > t) = I(freedom / (freedom + t^2); freedom / 2, 1 / 2)

    where I is the regularised incomplete beta function. The root is found in the angle theta with
    t = sqrt(freedom) tan(theta), by Newton's steps within a bracket.

    Args:
        probability: that T is at most the quantile, between 0 and 1.
        freedom: degrees of freedom, above 0.

    Raises:
        ValueError: they are not.

    Example:
        >>> round(student_t(0.975, 4), 4)
        2.7764
    """
    if not 0 < probability < 1 or not freedom > 0:
        raise ValueError(f"no quantile {probability} at {freedom} degrees of freedom")
    wanted = 2 * min(probability, 1 - probability)  # P(|T| > t)
    if wanted == 1:
        return 0.0
    sign = math.copysign(1.0, probability - 0.5)
    start = -NormalDist().inv_cdf(wanted / 2)
    if freedom >= NORMAL_FREEDOM:
        return sign * start
    scale = 2 / math.exp(math.lgamma(freedom / 2) + math.lgamma(0.5) - math.lgamma(freedom / 2 + 0.5))
    low, high = 0.0, math.pi / 2
    theta = math.atan(start / math.sqrt(freedom))
    for _ in range(200):
        excess = _beyond(theta, freedom) - wanted
        if excess > 0:
            low = theta
        else:
            high = theta
        # The derivative of P(|T| > t) by theta is -scale cos(theta)^(freedom - 1).
        slope = scale * math.cos(theta) ** (freedom - 1)
        following = theta + excess / slope if slope > MIN_DIVISOR else math.nan
        if not low < following < high:
            following = (low + high) / 2
        if abs(following - theta) <= 1e-15 * theta or not low < following < high:
            break
        theta = following
    return sign * math.sqrt(freedom) * math.tan(theta)


def _beyond(theta: float, freedom: float) -> float:
    """P(|T| > sqrt(freedom) tan(theta))."""
    square = math.cos(theta) ** 2  # freedom / (freedom + t^2)
    a, b = freedom / 2, 0.5
    front = math.exp(
        math.lgamma(a + b)
        - math.lgamma(a)
        - math.lgamma(b)
        + a * math.log(max(square, MIN_DIVISOR))
        + math.log(max(math.sin(theta), MIN_DIVISOR))
    )
    if square < (a + 1) / (a + b + 2):
        return front * _fraction(square, a, b) / a
    return 1 - front * _fraction(math.sin(theta) ** 2, b, a) / b


def _fraction(x: float, a: float, b: float) -> float:
    """The continued fraction of the incomplete beta function (Abramowitz and Stegun, 26.5.8), by Lentz's method."""
    c, d = 1.0, 1 / _apart(1 - (a + b) * x / (a + 1))
    found = d
    for m in range(1, MAX_FRACTION_TERMS):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        d, c = 1 / _apart(1 + even * d), _apart(1 + even / c)
        found *= d * c
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        d, c = 1 / _apart(1 + odd * d), _apart(1 + odd / c)
        found *= d * c
        if abs(d * c - 1) < FRACTION_TOLERANCE:
            break
    return found


def _apart(value: float) -> float:
    """The value, kept away from zero."""
    return value if abs(value) > MIN_DIVISOR else MIN_DIVISOR
