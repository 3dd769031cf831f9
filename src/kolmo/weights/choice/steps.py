"""The step of each tensor, of one number for all: steps follow scales, half-way.

    step of tensor t = s * scale of t ^ (1/2), and no tensor more than a bit a weight from the median one

With one step for all, tensors of small weights become zeros where others are ten times larger; with equal bits for
all, those that need few take too many. docs/benchmarks/weights.md, "Steps", has both, and what lies between.
What it is not: it knows no loss; where one is measured, `sensitivity` says more.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

PART = 0.5  # of a scale's logarithm that its tensor's step follows
FARTHEST = 1.0  # octaves of a step, in units of its tensor's scale, from the median of all weights
BOUNDS = 2.0**-99, 2.0**99  # of a step


@dataclass(frozen=True)
class Steps:
    """What the common step is multiplied by, of each tensor; the geometric mean over all weights is 1.

    Attributes:
        factors: by name.
    """

    factors: Mapping[str, float]

    def of(self, name: str, step: float) -> float:
        """A tensor's step."""
        return min(max(self.factors.get(name, 1.0) * step, BOUNDS[0]), BOUNDS[1])

    def times(self, others: Mapping[str, float]) -> Steps:
        """These, multiplied by what was measured."""
        return Steps({name: factor * others.get(name, 1.0) for name, factor in self.factors.items()})


def by_scales(scales: Mapping[str, float], counts: Mapping[str, int], part: float = PART) -> Steps:
    """Steps that follow scales.

    Args:
        scales: mean magnitudes of tensors, above 0.
        counts: their weights.
        part: 0 is one step for all, 1 equal bits for all.
    """
    logs = {name: math.log2(scale) for name, scale in scales.items()}
    middle = _median(logs, counts)
    found = {}
    for name, log in logs.items():
        apart = min(max((part - 1) * (log - middle), -FARTHEST), FARTHEST)
        found[name] = log - middle + apart
    centre = _mean(found, counts)
    return Steps({name: 2.0 ** (log - centre) for name, log in found.items()})


def _median(logs: Mapping[str, float], counts: Mapping[str, int]) -> float:
    left = sum(counts[name] for name in logs) / 2
    for log, name in sorted((log, name) for name, log in logs.items()):
        left -= counts[name]
        if left <= 0:
            return log
    return 0.0


def _mean(logs: Mapping[str, float], counts: Mapping[str, int]) -> float:
    total = sum(counts[name] for name in logs)
    return math.fsum(counts[name] * log for name, log in logs.items()) / total if total else 0.0
