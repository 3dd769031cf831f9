"""Intervals hold what they promise: by simulation, and by cases with known answers."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from harness.populations import POPULATIONS, Floats, Population, truth_of, unequal_lengths
from kolmo.evaluation.results.intervals import ratio_interval
from kolmo.evaluation.results.metrics import difference, interval
from kolmo.student import student_t

DRAWS = 1000  # of each population and size: a standard deviation is 0.7 %


def covered(population: Population, documents: int, held: Callable[[Floats, Floats], Any]) -> float:
    random, truth, inside = np.random.default_rng(13), truth_of(population), 0
    for _ in range(DRAWS):
        x, y = population(random, documents)
        low, high = held(y, x)
        inside += low <= truth <= high
    return inside / DRAWS


@pytest.mark.parametrize("documents", [5, 10, 40])
@pytest.mark.parametrize("population", POPULATIONS, ids=lambda population: population.__name__)
def test_coverage(population: Population, documents: int) -> None:
    assert 0.93 - 0.014 < covered(population, documents, ratio_interval) < 0.97 + 0.014  # two standard deviations


def test_the_bootstrap_s_percentiles_do_not_cover() -> None:
    """What stood here before: the simulation tells a method that holds from one that does not."""
    random = np.random.default_rng(1)

    def percentiles(y: Floats, x: Floats) -> Any:
        drawn = random.integers(0, len(x), (400, len(x)))
        return np.quantile(y[drawn].sum(1) / x[drawn].sum(1), [0.025, 0.975])

    assert covered(unequal_lengths, 5, percentiles) < 0.85


def test_equal_lengths_without_skewness_are_student_s() -> None:
    costs = np.array([1.0, 2.0, 3.0, 4.0, 5.0])
    found = ratio_interval(costs, np.ones(5))
    assert found is not None
    half = 2.7764451051977987 * math.sqrt(2.5 / 5)  # t of 4 degrees of freedom, standard error of the mean
    assert found == pytest.approx((3 - half, 3 + half))


def test_one_document_of_most_of_the_text_leaves_it_open() -> None:
    lengths = np.array([100.0] * 9 + [1e6])
    costs = lengths * np.linspace(1, 2, 10)
    found = ratio_interval(costs, lengths)
    assert found is not None
    assert found.high - found.low > 1e-5 * 2
    even = ratio_interval(np.linspace(1, 2, 10), np.ones(10))
    assert even is not None
    assert even.high - even.low == pytest.approx(2 * 2.262 * np.std(np.linspace(1, 2, 10), ddof=1) / 10**0.5, rel=1e-3)


@pytest.mark.parametrize("count", [0, 1, 2])
def test_no_interval_of_fewer_than_three(count: int) -> None:
    lengths = np.arange(1.0, count + 1)
    assert ratio_interval(lengths * 2, lengths) is None
    assert interval(lengths, lengths) == (None, None)
    if count:
        found = difference(lengths, lengths * 2, lengths)
        assert (found.low, found.high, found.wins, found.documents) == (None, None, 1.0, count)
    repeated = np.tile(lengths, 5)
    assert interval(repeated, repeated, [f"{k}" for k in range(count)] * 5) == (None, None)


def test_no_spread_is_an_interval_of_one_point() -> None:
    lengths = np.array([100.0, 200.0, 300.0])
    assert ratio_interval(0 * lengths, lengths) == (0.0, 0.0)
    found = difference(lengths, lengths, lengths)
    assert (found.value, found.low, found.high, found.wins) == (0.0, 0.0, 0.0, 0.0)


def test_bits_are_not_below_zero() -> None:
    low, high = interval([0.1, 90.0, 0.1], [100, 100, 100])
    assert low == 0
    assert high is not None
    assert high > 0.4


def test_differences_mirror_and_levels_nest() -> None:
    random = np.random.default_rng(5)
    lengths, costs = unequal_lengths(random, 12)
    others = costs * random.uniform(0.9, 1.05, 12)
    one, other = difference(costs, others, lengths), difference(others, costs, lengths)
    assert one.low is not None
    assert one.high is not None
    assert (other.low, other.high) == pytest.approx((-one.high, -one.low))
    assert one.wins + other.wins == pytest.approx(1)
    narrow = difference(costs, others, lengths, level=0.5)
    assert narrow.low is not None
    assert narrow.high is not None
    assert one.low < narrow.low < narrow.high < one.high
    scaled = difference(costs * 7, others * 7, lengths * 7)
    assert (scaled.low, scaled.high) == pytest.approx((one.low, one.high))
    with pytest.raises(ValueError, match="is not a confidence level"):
        difference(costs, others, lengths, level=1.0)


def test_degrees_of_freedom_by_the_whole_matrix() -> None:
    """The sums of powers are those of the matrix that they stand for."""
    from kolmo.evaluation.results.intervals import _freedom

    lengths = np.random.default_rng(2).lognormal(0, 1.2, 9)
    share = lengths / lengths.sum()
    lifted = 1 / (1 - share)
    maker = np.eye(9) - share[:, None]
    spread = maker @ np.diag(share**2) @ maker.T
    whole = np.sqrt(lifted)[:, None] * spread * np.sqrt(lifted)
    assert _freedom(share, lifted) == pytest.approx(np.trace(whole) ** 2 / (whole**2).sum())
    even = np.full(7, 1 / 7)
    assert _freedom(even, 1 / (1 - even)) == pytest.approx(6)


@pytest.mark.parametrize(
    ("freedom", "value"),
    [(1, 12.706204736174694), (2.5, 3.57465485), (4, 2.7764451051977987), (1e9, 1.9599639845400545)],
)
def test_student_s_t_at_any_freedom(freedom: float, value: float) -> None:
    assert student_t(0.975, freedom) == pytest.approx(value, rel=1e-7)
    between = student_t(0.975, freedom * 1.01)
    assert between <= student_t(0.975, freedom)
