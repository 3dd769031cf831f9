"""The step that makes a file as large as wished: found on a sample, then corrected by the whole.

What it is not: it knows neither files nor models; sizes come from the functions it is given.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from kolmo.codec.pipeline import Pipeline, Report, ordered_map
from kolmo.errors import KolmoError
from kolmo.hyperfunctions.base import Hyperfunction
from kolmo.weights.record import Coded

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Samples = Sequence[tuple[Coded, npt.NDArray[np.float32]]]

TOLERANCE = 0.004  # of the size wished for: what may stay unused
FINEST = 19.9  # octaves from the largest weight down to the least step: more levels than the trellis has
NUDGE = 0.1  # octaves
ROUNDS, PASSES = 40, 12  # of the search on the sample, over the whole


def estimate(samples: Samples, make: Callable[[float], Hyperfunction], threads: int, step: float) -> float:
    """Bytes of all codes with a step, each sample standing for its tensor."""
    function = make(step)

    def work(item: tuple[Coded, npt.NDArray[np.float32]], tick: Report) -> float:
        one, sample = item
        try:
            return min(len(function.encode(sample)) / sample.size * one.count, one.size)
        except ValueError:  # too small a step
            return one.size

    pipeline: Pipeline[tuple[Coded, npt.NDArray[np.float32]], float] = Pipeline(work, threads=threads)
    return sum(ordered_map(pipeline, ((item, 0) for item in samples)))


def find_step(
    samples: Samples,
    make: Callable[[float], Hyperfunction],
    code: Callable[[float], int],
    budget: int,
    power: float,
    largest: float,
    threads: int,
) -> int:
    """Code with the step whose codes fit the budget best, and never exceed it; returns their bytes.

    Args:
        samples: of the tensors to be coded.
        make: a hyperfunction of a step.
        code: codes everything with a step, in place of what was coded before; returns the bytes.
        budget: bytes for all codes.
        power: mean square of the weights.
        largest: magnitude of a weight.
        threads: samples coded at once.

    Raises:
        KolmoError: even the coarsest step takes more.
    """
    largest = largest or 1.0
    low, high = math.log2(largest) - FINEST, math.log2(largest) + 2
    guess = math.log2(math.sqrt(power) or largest) + 1.3 - 8 * budget / max(sum(one.count for one, _ in samples), 1)
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
