"""The search for the step that makes a size: without a loss where the size allows it, else by `search`.

What it is not: a choice of the size, which a goal makes.
"""

from __future__ import annotations

from collections.abc import Callable

from kolmo.errors import KolmoError
from kolmo.hyperfunctions.base import Hyperfunction
from kolmo.weights.choice import rates
from kolmo.weights.choice.coding import Coding
from kolmo.weights.choice.search import find_step

# If the budget is at least this part of the bytes of the uncoded weights, it is tried whether all fit without a loss.
MIN_EXACT_PART = 0.6
MAX_RATE_PASSES = 8  # with which the whole is coded; estimates are wrong only for tensors without a fixed rate
MIN_USED_PART = 0.98  # part of a budget; if less is used, there is a note


def code_without_loss(coding: Coding) -> str:
    """Code a checkpoint that has no tensor to be coded with loss; returns a note about that."""
    coding.with_functions({})
    size = coding.packer.size
    return (
        f"no tensor is a matrix of weights, so nothing was coded with loss: the file is exact, and takes {size} bytes"
    )


def search_by_size(coding: Coding, wanted: str, budget: int, size: Callable[[], int]) -> tuple[str, ...]:
    """Code with the step that makes a size, or exactly where that fits.

    Args:
        coding: what is coded.
        wanted: the wanted size, in words.
        budget: upper bound, in bytes, on what `size` returns.
        size: the size of what was coded last.

    Returns:
        Notes about what came of it.

    Raises:
        KolmoError: no step makes the size.
    """
    name, survey = coding.checkpoint.name, coding.survey
    if budget <= 0:
        raise KolmoError(f"{name}: {wanted} are too few: what is not coded takes {coding.fixed_size}; allow more")
    uncoded = sum(survey.record.coded[one].size for one in survey.lossy)
    if budget >= MIN_EXACT_PART * uncoded and not any(survey.thresholds.values()):
        coding.exactly()
        if size() <= budget:
            whole = coding.packer.size
            return (f"{wanted} leave room for every weight without a loss: the file is exact, and takes {whole} bytes",)
    steps = coding.steps()

    def code(step: float) -> int:
        coding.with_step(step, steps)
        return size()

    def make(tensor: str, step: float) -> Hyperfunction:
        return coding.function(tensor, steps.of(tensor, step))

    bounds = survey.bounds(steps)
    try:
        used = find_step(coding.samples(), make, code, budget, survey.scale, bounds, coding.threads)
    except KolmoError as error:
        raise KolmoError(f"{name}: {wanted} cannot be reached: {error}; allow more") from None
    return _unused(coding, wanted, used, budget)


def search_rates_by_bits(coding: Coding, bits: float) -> tuple[str, ...]:
    """Code with fixed rates whose mean over all weights is `bits`, or a little less.

    All have it if it is one of them, except with a calibration, which knows which tensors need more. Factors and
    filled-up columns come on top. Returns notes about what came of it.
    """
    offered, counts = coding.options.rates, coding.survey.counts
    if bits in offered and not coding.guides:
        found = dict.fromkeys(counts, int(bits))
    else:
        scales, steps = coding.survey.scales, coding.steps()
        found = rates.within(bits * coding.survey.count, lambda name, b: b * counts[name], scales, steps, offered)
    coding.with_functions({name: coding.of_rate(name, b) for name, b in found.items()})
    used = sum(b * counts[name] for name, b in found.items())
    return _unused(coding, f"{bits} bits a weight", used, bits * coding.survey.count)


def search_rates_by_size(coding: Coding, target: int) -> tuple[str, ...]:
    """Code with the fixed rates that make a file of at most `target` bytes. Returns notes about what came of it.

    Raises:
        KolmoError: the least rates make a larger file.
    """
    name, survey, coded = coding.checkpoint.name, coding.survey, coding.survey.record.coded
    steps, budget = coding.steps(), target - coding.fixed_size

    def cost(tensor: str, bits: int) -> int:
        return rates.size_of(coding.of_rate(tensor, bits), coded[tensor], bits)

    for _ in range(MAX_RATE_PASSES):
        try:
            found = rates.within(budget, cost, survey.scales, steps, coding.options.rates)
        except KolmoError as error:
            raise KolmoError(f"{name}: {target} bytes cannot be reached: {error}; allow more") from None
        coding.with_functions({tensor: coding.of_rate(tensor, bits) for tensor, bits in found.items()})
        if (size := coding.packer.size) <= target:
            return _unused(coding, f"{target} bytes", size, target)
        budget -= size - target
    raise KolmoError(f"{name}: {target} bytes cannot be reached; allow more")


def _unused(coding: Coding, wanted: str, used: float, budget: float) -> tuple[str, ...]:
    """A note, if much of a budget is unused."""
    if used >= MIN_USED_PART * budget:
        return ()
    bits = 8 * coding.packer.lossy_size / coding.survey.count
    return (f"only {bits:.3g} bits a weight of {wanted} could be used",)
