"""Populations of documents whose mean cost is known: intervals are drawn from them, in tests and in `intervals.py`."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Population = Callable[[np.random.Generator, int], tuple[Floats, Floats]]


def equal_lengths(random: np.random.Generator, count: int) -> tuple[Floats, Floats]:
    """Pieces of one length; their difficulty is log-normal."""
    lengths = np.full(count, 1900.0)
    return lengths, lengths * 1.8 * np.exp(0.2 * random.standard_normal(count))


def unequal_lengths(random: np.random.Generator, count: int) -> tuple[Floats, Floats]:
    """Log-normal lengths, 90 % of them within a factor of 5; difficulty does not depend on them."""
    lengths = 3000 * np.exp(random.standard_normal(count))
    return lengths, lengths * 1.8 * np.exp(0.25 * random.standard_normal(count))


def short_ones_are_hard(random: np.random.Generator, count: int) -> tuple[Floats, Floats]:
    """Short texts cost more for each character, as there is less before each."""
    scale = random.standard_normal(count)
    lengths = 3000 * np.exp(scale)
    return lengths, lengths * 1.6 * np.exp(-0.15 * scale + 0.2 * random.standard_normal(count))


def heavy_tails(random: np.random.Generator, count: int) -> tuple[Floats, Floats]:
    """Lengths with a power law's tail."""
    lengths = 1000 * (1 + random.pareto(2.5, count))
    return lengths, lengths * 1.8 * np.exp(0.3 * random.standard_normal(count))


def two_models(random: np.random.Generator, count: int) -> tuple[Floats, Floats]:
    """What two models differ by: near 0 and of either sign."""
    lengths = 3000 * np.exp(0.7 * random.standard_normal(count))
    return lengths, lengths * (0.02 + 0.05 * random.standard_normal(count))


POPULATIONS = (equal_lengths, unequal_lengths, short_ones_are_hard, heavy_tails, two_models)


@cache
def truth_of(population: Population) -> float:
    """The ratio of all costs to all lengths, of a sample so large that its error does not matter."""
    lengths, costs = population(np.random.default_rng(11), 4_000_000)
    return float(costs.sum() / lengths.sum())
