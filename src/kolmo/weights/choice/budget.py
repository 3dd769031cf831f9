"""The coarsest step whose loss stays within a limit, for any measurable loss, found with few measurements.

A small loss is about proportional to the square of the step, so the search draws lines through the logarithms of both.
What it is not: a loss. `losses` measures one, by the tensors that a step gives.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

UNUSED_PART = 0.05  # part of the allowed loss that may stay unused
MIN_OCTAVES = math.log2(1.01)  # distance in octaves at which a step within the limit and one beyond it are close enough
POWER = 2.0  # a small loss is proportional to the step to this power
MAX_LEAP_OCTAVES = 2.0  # largest change of the step from one trial to the next
MAX_TRIALS = 24
INTERPOLATED_TRIALS = 6  # later trials halve the interval, because the loss is not a smooth function of the step


@dataclass(frozen=True)
class Trial:
    """One step that was tried.

    Attributes:
        step: the common step.
        size: size of the file in bytes.
        loss: the loss.
    """

    step: float
    size: int
    loss: float


@dataclass(frozen=True)
class LossBudget:
    """A limit of the loss, and what was found below it.

    Attributes:
        limit: upper bound on the loss.
        before: the loss before anything was coded; where weights were pruned, the loss by pruning alone.
        loss: the loss of the finished file, decoded.
        trials: the steps that were tried, in order.
        factors: factors of the steps by kind of tensor, where sensitivities were measured.
        facts: further facts that the loss reports about itself.
    """

    limit: float
    before: float
    loss: float
    trials: tuple[Trial, ...]
    factors: Mapping[str, float]
    facts: Mapping[str, Any]

    @property
    def is_monotone(self) -> bool:
        """Whether the loss increased with the step; decreases by a tenth of the allowed loss do not count."""
        losses = [one.loss for one in sorted(self.trials, key=lambda one: one.step)]
        return all(b > a - 2 * UNUSED_PART * (self.limit - self.before) for a, b in pairwise(losses))

    def record(self) -> dict[str, Any]:
        """The budget as JSON values."""
        return {
            "limit": self.limit,
            "before": self.before,
            "loss": self.loss,
            "trials": [asdict(one) for one in self.trials],
            "monotone": self.is_monotone,
            "factors": dict(self.factors),
            "facts": dict(self.facts),
        }

    def lines(self) -> list[str]:
        """A table of the trials, then the result, as lines of text."""
        rows = [f"{'Step':>12}  {'Bytes':>12}  {'Loss':>10}"]
        rows += [f"{one.step:12.6g}  {one.size:12}  {one.loss:+10.5f}" for one in self.trials]
        if self.factors:
            least, most = min(self.factors.values()), max(self.factors.values())
            rows.append(f"steps by sensitivity: {least:.3g} to {most:.3g} times these")
        if not self.is_monotone:
            rows.append(
                "the loss does not increase monotonically with the step: the corpus is too small, or too unlike the "
                "training data, to compare steps this close"
            )
        facts = self.facts
        if not facts:
            return [*rows, f"loss {self.loss:.6g} of at most {self.limit:g}, {self.before:.6g} before coding"]
        spread = "" if facts["low"] is None else f", 95 % {facts['low']:+.5f} to {facts['high']:+.5f}"
        return [
            *rows,
            f"{facts['corpus']}: {facts['before']:.4f} => {facts['after']:.4f} bits/char, {self.loss:+.5f}{spread}, of "
            f"at most {self.limit:+g}; mode {facts['mode']}, documents: {facts['documents']}",
        ]


def chosen(trials: Collection[Trial], limit: float) -> Trial | None:
    """The trial of the coarsest step within the limit."""
    return max((one for one in trials if one.loss <= limit), key=lambda one: one.step, default=None)


def search(
    measure: Callable[[float], Trial], limit: float, before: float, low: float, high: float, guess: float
) -> list[Trial]:
    """Try steps until one loses almost what is allowed, or until the interval between two steps is narrow enough.

    Args:
        measure: tries a step.
        limit: upper bound on the loss.
        before: the loss at step 0, at most `limit`.
        low: base-2 logarithm of the least step.
        high: base-2 logarithm of the largest step.
        guess: base-2 logarithm of the first step.
    """
    room = limit - before
    aim = math.log2((1 - UNUSED_PART / 2) * room) if room > 0 else -math.inf
    trials: list[Trial] = []
    fine: tuple[float, float] | None = None  # the coarsest step within the limit, and the logarithm of its loss
    coarse: tuple[float, float] | None = None  # the finest step beyond it
    place = min(max(guess, low), high)
    while len(trials) < MAX_TRIALS:
        found = measure(2.0**place)
        trials.append(found)
        lost = found.loss - before
        point = place, math.log2(lost) if 0 < lost < math.inf else -math.inf if lost <= 0 else math.inf
        if found.loss <= limit:
            fine = point
            if place >= high or 0 < (1 - UNUSED_PART) * room <= lost:
                break
        else:
            coarse = point
            if place <= low:
                break
        if fine and coarse and coarse[0] - fine[0] < MIN_OCTAVES:
            break
        place = min(max(_next_place(fine, coarse, aim, len(trials)), low), high)
    return trials


def _next_place(fine: tuple[float, float] | None, coarse: tuple[float, float] | None, aim: float, turn: int) -> float:
    """Where to look next: on the line through both points, or on a line of the usual slope through the only one."""
    if fine and coarse:
        width = coarse[0] - fine[0]
        part = 0.5
        if math.isfinite(aim) and math.isfinite(coarse[1]) and turn < INTERPOLATED_TRIALS:
            slope = (coarse[1] - fine[1]) / width if math.isfinite(fine[1]) else POWER
            part = 1 - (coarse[1] - aim) / (slope * width) if slope > 0 else 0.5
        return fine[0] + width * min(max(part, 0.05), 0.95)
    known = fine or coarse
    assert known is not None
    if math.isfinite(known[1]) and math.isfinite(aim):
        leap = (aim - known[1]) / POWER
    else:
        leap = MAX_LEAP_OCTAVES if fine else -MAX_LEAP_OCTAVES
    return known[0] + (min(max(leap, MIN_OCTAVES), MAX_LEAP_OCTAVES) if fine else min(leap, -MIN_OCTAVES))
