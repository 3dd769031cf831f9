"""The step of each tensor, derived from one common step: steps follow scales half-way.

    step of tensor t = s * (scale of t)^(1/2), and no tensor more than one bit per weight from the median weight

With one step for all, tensors of small weights become zeros where other weights are ten times larger; with equal bits
for all, tensors that need few bits take too many. docs/benchmarks/weights.md, "Steps", compares both and what lies
between. What it is not: a use of a loss; where one is measured, `sensitivity` refines the steps.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

SCALE_EXPONENT = 0.5  # power of the scale that the step is proportional to
MAX_OCTAVES = 1.0  # largest distance of log2(step / scale) from its median over all weights
BOUNDS = 2.0**-99, 2.0**99  # bounds of a step


@dataclass(frozen=True)
class Steps:
    """Factors of the common step, one per tensor; their geometric mean over all weights is 1.

    Attributes:
        factors: by name of the tensor.
    """

    factors: Mapping[str, float]

    def of(self, name: str, step: float) -> float:
        """The step of a tensor, for this common step."""
        return min(max(self.factors.get(name, 1.0) * step, BOUNDS[0]), BOUNDS[1])

    def times(self, others: Mapping[str, float]) -> Steps:
        """These factors, multiplied by measured ones."""
        return Steps({name: factor * others.get(name, 1.0) for name, factor in self.factors.items()})


def by_scales(scales: Mapping[str, float], counts: Mapping[str, int], part: float = SCALE_EXPONENT) -> Steps:
    """Steps that follow scales.

    Args:
        scales: mean magnitude of each tensor, above 0.
        counts: number of weights of each tensor.
        part: 0 gives one step for all, 1 equal bits for all.
    """
    logs = {name: math.log2(scale) for name, scale in scales.items()}
    middle = _median(logs, counts)
    found = {}
    for name, log in logs.items():
        apart = min(max((part - 1) * (log - middle), -MAX_OCTAVES), MAX_OCTAVES)
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
