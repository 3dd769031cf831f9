"""The step that makes a file as large as wished: found on a sample, then corrected by the whole.

What it is not: it knows neither files nor models; sizes come from the functions it is given.
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
    Make = Callable[[str, float], Hyperfunction]  # of a tensor, with the common step

TOLERANCE = 0.004  # of the size wished for: what may stay unused
NUDGE = 0.1  # octaves
ROUNDS, PASSES = 40, 12  # of the search on the sample, over the whole


def estimate(samples: Samples, make: Make, threads: int, step: float) -> float:
    """Bytes of all codes with a common step, each sample standing for its tensor."""

    def work(name: str, progress: Progress) -> float:
        one, sample = samples[name]
        try:
            return min(len(make(name, step).encode(sample)) / sample.size * one.count, one.size)
        except ValueError:  # too small a step
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
    """Code with the common step whose codes fit the budget best, and never exceed it; returns their bytes.

    Args:
        samples: of the tensors to be coded.
        make: a hyperfunction of a tensor and the common step.
        code: codes everything with a step, in place of what was coded before; returns the bytes.
        budget: bytes for all codes.
        scale: mean magnitude of the weights.
        bounds: logarithms, to base 2, of the least and the largest step.
        threads: samples coded at once.

    Raises:
        KolmoError: even the coarsest step takes more.
    """
    low, high = bounds
    guess = math.log2(scale) + 1.6 - 8 * budget / max(sum(one.count for one, _ in samples.values()), 1)
    measure = partial(estimate, samples, make, threads)
    place = _solve(partial(_scaled, measure, 1.0), budget, low, high, guess)
    best: tuple[int, float] | None = None
    last = 0
    finest, coarsest = low, high
    for _ in range(PASSES):
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
            place = (max(finest, coarsest - NUDGE) + min(coarsest, finest + NUDGE)) / 2
    if best is None:
        raise KolmoError(f"the coarsest step still takes {last} bytes, and {budget} are left for weights")
    if last != best[0]:
        code(best[1])
    return best[0]


def _scaled(measure: Callable[[float], float], ratio: float, place: float) -> float:
    return ratio * measure(2.0**place)


def _solve(size: Callable[[float], float], budget: float, low: float, high: float, guess: float) -> float:
    """Where a falling function is just under a budget, or the end that is nearest to that."""
    aim = (1 - TOLERANCE / 2) * budget
    finest, coarsest = low, high
    known: dict[float, float] = {}
    place = min(max(guess, low), high)
    for turn in range(ROUNDS):
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
        else:  # about one bit a weight for each octave, and a little more, to have both sides
            place = min(finest + 0.3, high) if found > aim else max(coarsest - 0.3, low)
    return place
