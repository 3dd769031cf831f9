"""How often 95 % intervals of bits per character hold the population's value, by method and number of documents.

    python benchmarks/intervals.py

draws documents from the populations of tests/test_intervals.py and prints the table of docs/evaluation.md. Percentiles,
BCa (Efron, 1987) and the studentised bootstrap (with the linearised variance) draw documents with replacement; "t" is
Student's with n - 1 degrees of freedom and the jackknife's variance.
"""

from __future__ import annotations

from collections.abc import Callable
from statistics import NormalDist

import numpy as np

from harness.populations import POPULATIONS, Floats, truth_of
from kolmo.evaluation.results.intervals import ratio_interval
from kolmo.student import student_t

TIMES, DRAWS, SIZES, TAIL = 1000, 1000, (3, 5, 10, 40), 0.025
Ends = tuple[float, float]
RANDOM = np.random.default_rng(17)


def percentiles(y: Floats, x: Floats) -> Ends:
    """Quantiles of the ratio over draws."""
    drawn = RANDOM.integers(0, len(x), (DRAWS, len(x)))
    low, high = np.quantile(y[drawn].sum(1) / x[drawn].sum(1), [TAIL, 1 - TAIL])
    return float(low), float(high)


def bca(y: Floats, x: Floats) -> Ends:
    """Quantiles, moved for bias and acceleration."""
    drawn = RANDOM.integers(0, len(x), (DRAWS, len(x)))
    ratios = y[drawn].sum(1) / x[drawn].sum(1)
    normal = NormalDist()
    below = float(np.mean(ratios < y.sum() / x.sum()))
    bias = normal.inv_cdf(min(max(below, 1 / DRAWS), 1 - 1 / DRAWS))
    left = (y.sum() - y) / (x.sum() - x)
    away = left.mean() - left
    speed = float((away**3).sum() / max(6 * (away**2).sum() ** 1.5, 1e-300))
    ends = []
    for tail in (TAIL, 1 - TAIL):
        moved = bias + normal.inv_cdf(tail)
        ends.append(float(np.quantile(ratios, normal.cdf(bias + moved / (1 - speed * moved)))))
    return ends[0], ends[1]


def studentised(y: Floats, x: Floats) -> Ends:
    """Quantiles of the draws' own t."""
    ratio = y.sum() / x.sum()
    error = np.sqrt(((y - ratio * x) ** 2).sum()) / x.sum()
    drawn = RANDOM.integers(0, len(x), (DRAWS, len(x)))
    a, b = y[drawn], x[drawn]
    ratios = a.sum(1) / b.sum(1)
    errors = np.sqrt(((a - ratios[:, None] * b) ** 2).sum(1)) / b.sum(1)
    t = (ratios - ratio)[errors > 0] / errors[errors > 0]
    low, high = np.quantile(t, [TAIL, 1 - TAIL])
    return float(ratio - high * error), float(ratio - low * error)


def jackknife(y: Floats, x: Floats) -> Ends:
    """Student's t with n - 1 degrees of freedom."""
    count, ratio = len(x), y.sum() / x.sum()
    left = (y.sum() - y) / (x.sum() - x)
    half = student_t(1 - TAIL, count - 1) * np.sqrt((count - 1) / count * ((left - ratio) ** 2).sum())
    return float(ratio - half), float(ratio + half)


def kolmo(y: Floats, x: Floats) -> Ends:
    """What `kolmo eval` prints."""
    found = ratio_interval(y, x)
    assert found is not None
    return found.low, found.high


METHODS: dict[str, Callable[[Floats, Floats], Ends]] = {
    "percentiles of a bootstrap": percentiles,
    "BCa bootstrap": bca,
    "studentised bootstrap": studentised,
    "t, jackknife": jackknife,
    "**kolmo**": kolmo,
}


def main() -> None:
    """Print the table."""
    print("| documents | method | " + " | ".join(one.__name__.replace("_", " ") for one in POPULATIONS) + " |")
    print("|---:|---|" + "---:|" * len(POPULATIONS))
    for size in SIZES:
        held = {method: dict.fromkeys(POPULATIONS, 0) for method in METHODS}
        for population in POPULATIONS:
            random, truth = np.random.default_rng(29), truth_of(population)
            for _ in range(TIMES):
                x, y = population(random, size)
                for method, ends in METHODS.items():
                    low, high = ends(y, x)
                    held[method][population] += low <= truth <= high
        for method, counts in held.items():
            shown = " | ".join(f"{100 * counts[one] / TIMES:.1f}" for one in POPULATIONS)
            print(f"| {size} | {method} | {shown} |", flush=True)


if __name__ == "__main__":
    main()
