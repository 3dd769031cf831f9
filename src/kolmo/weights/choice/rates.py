"""The bits of each tensor where a hyperfunction has a fixed rate: a few whole numbers of bits to choose from.

A tensor of scale a (the mean magnitude) that would have step s with the trellis takes about log2(a / s) + 1.8 bits
there; here it gets the whole number next to that. So steps by scales or by sensitivities (`steps`, `sensitivity`)
choose rates too, and a smaller common step gives one tensor after the other one bit more. What it is not: a measure
of losses.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from kolmo.errors import KolmoError
from kolmo.hyperfunctions.base import Hyperfunction, Resident
from kolmo.hyperfunctions.families import STEP_OCTAVES
from kolmo.weights.choice.steps import Steps
from kolmo.weights.format.record import Coded

ENTROPY_CODED_PART = 1.03  # bytes of a tensor without a fixed rate, relative to its bits; the whole is coded in the end


def bits_at(scale: float, step: float, rates: Sequence[int]) -> int:
    """The bits of a weight, of those on offer, for a tensor of this scale that would have this step."""
    wanted = math.floor(math.log2(scale / step) + STEP_OCTAVES + 0.5)
    return min(max(wanted, rates[0]), rates[-1])


def bounds(scales: Mapping[str, float], steps: Steps, rates: Sequence[int]) -> tuple[float, float]:
    """Base-2 logarithms of a common step that gives every tensor the most bits, and of one that gives it the least."""
    logs = [math.log2(scale / steps.of(name, 1.0)) + STEP_OCTAVES for name, scale in scales.items()]
    return min(logs) - rates[-1], max(logs) - rates[0]


def size_of(function: Hyperfunction, one: Coded, bits: int) -> int:
    """Bytes of the payload of a tensor; an estimate where its hyperfunction has no fixed rate."""
    if isinstance(function, Resident):
        return min(function.size(one.matrix), one.size)
    return min(int(ENTROPY_CODED_PART * bits * one.count / 8) + 1, one.size)


def within(
    budget: float,
    cost: Callable[[str, int], float],
    scales: Mapping[str, float],
    steps: Steps,
    rates: Sequence[int],
) -> dict[str, int]:
    """The bits of each tensor: all have the least, then one after another gets one more, as long as the budget allows.

    Args:
        budget: upper bound on the sum of costs.
        cost: of a tensor with so many bits a weight.
        scales: of the tensors.
        steps: what their steps would be.
        rates: bits to choose from, in order.

    Raises:
        KolmoError: the least costs more.
    """
    found = dict.fromkeys(scales, rates[0])
    left = budget - math.fsum(cost(name, rates[0]) for name in found)
    if left < 0:
        raise KolmoError(f"{rates[0]} bits a weight, the least that there are, already take more")
    logs = {name: math.log2(scale / steps.of(name, 1.0)) for name, scale in scales.items()}
    turns = [(bits - logs[name], name, bits) for name in logs for bits in rates[1:]]
    for _, name, bits in sorted(turns):
        more = cost(name, bits) - cost(name, found[name])
        if found[name] == bits - 1 and more <= left:
            found[name] = bits
            left -= more
    return found
