"""The search for the step that makes a size: without a loss where the size allows it, else by `search`.

What it is not: a choice of the size, which a goal makes.
"""

from __future__ import annotations

from collections.abc import Callable

from kolmo.errors import KolmoError
from kolmo.hyperfunctions.base import Hyperfunction
from kolmo.weights.choice.coding import Coding
from kolmo.weights.choice.search import find_step

# If the budget is at least this part of the bytes of the uncoded weights, it is tried whether all fit without a loss.
MIN_EXACT_PART = 0.6
MIN_USED_PART = 0.98  # part of a budget; if less is used, there is a note


def code_without_loss(coding: Coding) -> str:
    """Code a checkpoint that has no tensor to be coded with loss; returns a note about that."""
    coding.with_function(coding.options.at(1.0))
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
        return coding.options.at(steps.of(tensor, step))

    bounds = survey.bounds(steps)
    try:
        used = find_step(coding.samples(), make, code, budget, survey.scale, bounds, coding.threads)
    except KolmoError as error:
        raise KolmoError(f"{name}: {wanted} cannot be reached: {error}; allow more") from None
    if used < MIN_USED_PART * budget:
        bits = 8 * coding.packer.lossy_size / survey.count
        return (f"only {bits:.3g} bits a weight of {wanted} could be used",)
    return ()
