"""The step that makes a file of a wanted size: found on a sample, then corrected by coding the whole.

What it is not: a reader of files or models; it gets sizes from the functions that it is given.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING

from kolmo.errors import KolmoError
from kolmo.hyperfunctions.base import Hyperfunction
from kolmo.parallel import Pipeline, ordered_map
from kolmo.progress import Progress
from kolmo.weights.format.record import Coded

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Samples = Mapping[str, tuple[Coded, npt.NDArray[np.float32]]]
    Make = Callable[[str, float], Hyperfunction]  # the hyperfunction of a tensor, for a common step

TOLERANCE = 0.004  # part of the wanted size that may stay unused
NUDGE_OCTAVES = 0.1  # change of the step where the sample misleads
MAX_ROUNDS = 40  # steps that are tried on the sample
MAX_PASSES = 12  # steps with which the whole is coded


def estimate(samples: Samples, make: Make, threads: int, step: float) -> float:
    """Bytes of all codes with a common step, estimated from a sample of each tensor."""

    def work(name: str, progress: Progress) -> float:
        one, sample = samples[name]
        try:
            return min(len(make(name, step).encode(sample)) / sample.size * one.count, one.size)
        except ValueError:  # the step is too small
            return one.size

    pipeline: Pipeline[str, float] = Pipeline(work, threads=threads)
    return sum(ordered_map(pipeline, ((name, 0) for name in samples)))


def find_step(
    samples: Samples,
    make: Make,
    code: Callable[[float], int],
    budget: int,
    scale: float,
    bounds: tuple[float, float],
    threads: int,
) -> int:
    """Code with the common step whose size comes closest to the budget without exceeding it; returns that size.

    Args:
        samples: rows of each tensor that is to be coded.
        make: the hyperfunction of a tensor, for a common step.
        code: codes everything with a common step, in place of what was coded before; returns the size in bytes.
        budget: upper bound on the size, in bytes.
        scale: mean magnitude of the weights.
        bounds: base-2 logarithms of the least and the largest step.
        threads: number of samples that are coded at once.

    Raises:
        KolmoError: the size exceeds the budget with the coarsest step.
    """
    low, high = bounds
    guess = math.log2(scale) + 1.6 - 8 * budget / max(sum(one.count for one, _ in samples.values()), 1)
    measure = partial(estimate, samples, make, threads)
    place = _solve(partial(_scaled, measure, 1.0), budget, low, high, guess)
    best: tuple[int, float] | None = None
    last = 0
    finest, coarsest = low, high
    for _ in range(MAX_PASSES):
        step = 2.0**place
        last = code(step)
        if last <= budget:
            coarsest = place
            if best is None or last > best[0]:
                best = last, step
            if last >= (1 - TOLERANCE) * budget or place <= low:
                return last
        else:
            finest = place
            if place >= high:
                break
        if coarsest - finest < 1e-6:
            break
        ratio = last / max(measure(step), 1)
        place = _solve(partial(_scaled, measure, ratio), budget, low, high, place)
        if not finest < place < coarsest:  # the sample misleads
            place = (max(finest, coarsest - NUDGE_OCTAVES) + min(coarsest, finest + NUDGE_OCTAVES)) / 2
    if best is None:
        raise KolmoError(f"the coarsest step still takes {last} bytes, and {budget} are left for weights")
    if last != best[0]:
        code(best[1])
    return best[0]


def _scaled(measure: Callable[[float], float], ratio: float, place: float) -> float:
    return ratio * measure(2.0**place)


def _solve(size: Callable[[float], float], budget: float, low: float, high: float, guess: float) -> float:
    """The place where a decreasing function is just below a budget, or the bound that is nearest to it."""
    aim = (1 - TOLERANCE / 2) * budget
    finest, coarsest = low, high
    known: dict[float, float] = {}
    place = min(max(guess, low), high)
    for turn in range(MAX_ROUNDS):
        found = known[place] = size(place)
        if abs(found - aim) <= TOLERANCE / 8 * budget:
            break
        if found > aim:
            finest = place
        else:
            coarsest = place
        if coarsest - finest < 1e-6 or (place in (low, high) and (place == low) == (found < aim)):
            break
        if finest in known and coarsest in known:
            above, below = known[finest], known[coarsest]
            part = (above - aim) / max(above - below, 1e-9) if turn % 3 < 2 else 0.5
            place = finest + (coarsest - finest) * min(max(part, 0.02), 0.98)
        else:  # one octave is about one bit per weight; a little more brackets the budget
            place = min(finest + 0.3, high) if found > aim else max(coarsest - 0.3, low)
    return place
