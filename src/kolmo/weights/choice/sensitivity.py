"""Steps by sensitivity: tensors whose errors cost more get finer steps, others coarser ones, at the same total size.

Suppose that coding a kind of tensors, n weights in all, with a step s loses c s^2. Among all steps of equal total size,
the loss is least where c s^2 / n is equal for all kinds, so s is proportional to sqrt(n / c). Each c takes one
measurement. What it is not: a measurement; the caller provides the losses.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Mapping

MIN_LOSS_PART = (
    0.25  # lower bound on a kind's loss per weight, as a part of the mean; noise can make it smaller, even 0
)
MAX_FACTOR = 4.0  # largest factor between a step and the common step
NUMBER = re.compile(r"(?<=\.)\d+(?=\.)")


def kind_of(name: str) -> str:
    """A tensor's name without the numbers of layers and experts."""
    return NUMBER.sub("*", f".{name}.")[1:-1]


def factors(counts: Mapping[str, int], lost: Callable[[Collection[str]], float]) -> dict[str, float]:
    """Factors of the common step, one per tensor; their geometric mean over all weights is about 1.

    Args:
        counts: number of weights of each tensor.
        lost: the loss that coding only these tensors adds.
    """
    kinds: dict[str, list[str]] = {}
    for name in counts:
        kinds.setdefault(kind_of(name), []).append(name)
    sizes = {kind: sum(counts[name] for name in names) for kind, names in kinds.items()}
    losses = {kind: max(lost(names), 0.0) for kind, names in kinds.items()}
    total, mean = sum(sizes.values()), math.fsum(losses.values())
    if not 0 < mean < math.inf:
        return dict.fromkeys(counts, 1.0)
    logs = {kind: math.log2(max(losses[kind] / sizes[kind], MIN_LOSS_PART * mean / total)) for kind in kinds}
    middle = math.fsum(sizes[kind] * logs[kind] for kind in kinds) / total
    found = {kind: min(max(2.0 ** ((middle - logs[kind]) / 2), 1 / MAX_FACTOR), MAX_FACTOR) for kind in kinds}
    return {name: found[kind] for kind, names in kinds.items() for name in names}
