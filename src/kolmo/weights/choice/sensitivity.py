"""Steps by what errors cost: sensitive tensors get finer steps, others coarser ones, at the same bits in all.

Let coding a kind of tensors, n weights, at a step s lose c s^2. Of all steps that take the same bits, those lose least
for which c s^2 / n is the same for all kinds: s goes by sqrt(n / c). Each c is one measurement.
What it is not: it knows no loss and no step, only ratios.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Mapping

LEAST = 0.25  # of the mean loss of a weight: less is not believed, as noise can make it 0
FARTHEST = 4.0  # from the common step
NUMBER = re.compile(r"(?<=\.)\d+(?=\.)")


def kind_of(name: str) -> str:
    """A tensor's name without the numbers of layers and experts."""
    return NUMBER.sub("*", f".{name}.")[1:-1]


def factors(counts: Mapping[str, int], lost: Callable[[Collection[str]], float]) -> dict[str, float]:
    """By what the common step is multiplied, of each tensor; the geometric mean over all weights is about 1.

    Args:
        counts: weights of each tensor.
        lost: what is lost where these tensors alone are coded.
    """
    kinds: dict[str, list[str]] = {}
    for name in counts:
        kinds.setdefault(kind_of(name), []).append(name)
    sizes = {kind: sum(counts[name] for name in names) for kind, names in kinds.items()}
    losses = {kind: max(lost(names), 0.0) for kind, names in kinds.items()}
    total, mean = sum(sizes.values()), math.fsum(losses.values())
    if not 0 < mean < math.inf:
        return dict.fromkeys(counts, 1.0)
    logs = {kind: math.log2(max(losses[kind] / sizes[kind], LEAST * mean / total)) for kind in kinds}
    middle = math.fsum(sizes[kind] * logs[kind] for kind in kinds) / total
    found = {kind: min(max(2.0 ** ((middle - logs[kind]) / 2), 1 / FARTHEST), FARTHEST) for kind in kinds}
    return {name: found[kind] for kind, names in kinds.items() for name in names}
