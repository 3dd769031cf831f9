"""The coarsest step whose loss stays within a limit, whatever the loss is: found by measuring, and in few measurements.

A small loss is about proportional to the square of the step, so the search draws lines through logarithms of both.
What it is not: it knows no loss; `bpc` is one, and any function of decoded tensors is another.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    pass


UNUSED = 0.05  # of what may be lost: near enough
NEAREST = math.log2(1.01)  # octaves between a step within the limit and one beyond it: near enough
POWER = 2.0  # of the step that a small loss grows with
LEAP = 2.0  # octaves up from one trial to the next, at most; and down, where nothing is known
TRIALS = 24
HALVING = 6  # trials after which the interval is halved, since the loss is no smooth function of the step


@dataclass(frozen=True)
class Trial:
    """What a step makes: bytes of the file, and the loss."""

    step: float
    size: int
    loss: float


@dataclass(frozen=True)
class Budget:
    """A limit, and what was spent of it.

    Attributes:
        limit: of the loss.
        before: the loss before anything was coded; that of pruning alone, where weights were pruned.
        loss: of the finished file, decoded.
        trials: in order.
        factors: of the steps of kinds of tensors, where these were measured.
        facts: what else the loss says of itself.
    """

    limit: float
    before: float
    loss: float
    trials: tuple[Trial, ...]
    factors: Mapping[str, float]
    facts: Mapping[str, Any]

    @property
    def steady(self) -> bool:
        """Whether the loss grew with the step, but for a tenth of what may be lost."""
        losses = [one.loss for one in sorted(self.trials, key=lambda one: one.step)]
        return all(b > a - 2 * UNUSED * (self.limit - self.before) for a, b in pairwise(losses))

    def record(self) -> dict[str, Any]:
        """For JSON."""
        trials = [asdict(one) for one in self.trials]
        return {
            "limit": self.limit,
            "before": self.before,
            "loss": self.loss,
            "trials": trials,
            "steady": self.steady,
            "factors": dict(self.factors),
            "facts": dict(self.facts),
        }

    def lines(self) -> list[str]:
        """For people: what was tried, then what came of it."""
        rows = [f"{'Step':>12}  {'Bytes':>12}  {'Loss':>10}"]
        rows += [f"{one.step:12.6g}  {one.size:12}  {one.loss:+10.5f}" for one in self.trials]
        if self.factors:
            least, most = min(self.factors.values()), max(self.factors.values())
            rows.append(f"steps by sensitivity: {least:.3g} to {most:.3g} times these")
        if not self.steady:
            rows.append("the loss does not grow steadily: this is too little, or too foreign, to tell such steps apart")
        facts = self.facts
        if not facts:
            return [*rows, f"loss {self.loss:.6g} of at most {self.limit:g}, {self.before:.6g} before coding"]
        spread = "" if facts["low"] is None else f", 95 % {facts['low']:+.5f} to {facts['high']:+.5f}"
        return [
            *rows,
            f"{facts['corpus']}: {facts['before']:.4f} => {facts['after']:.4f} bits/char, {self.loss:+.5f}{spread}, of "
            f"at most {self.limit:+g}; mode {facts['mode']}, documents: {facts['documents']}",
        ]


def check(
    loss: object = None,
    max_loss: float | None = None,
    max_delta_bpc: float | None = None,
    corpus: object = None,
    sensitivities: bool = False,
    **others: object,
) -> None:
    """Refuse settings of a budget that lack each other.

    Raises:
        ValueError: they do.
    """
    if (loss is None) != (max_loss is None):
        raise ValueError("loss and max_loss go together; give both, or neither")
    if max_delta_bpc is None:
        for name, value in {"corpus": corpus, **others}.items():
            if value is not None:
                raise ValueError(f"{name} is for max_delta_bpc; give that, or leave {name} out")
    elif corpus is None:
        raise ValueError("max_delta_bpc is measured on a corpus; give one")
    elif not 0 < max_delta_bpc < math.inf:
        raise ValueError(f"max_delta_bpc = {max_delta_bpc}: bits a character are above 0")
    if sensitivities and max_delta_bpc is None and max_loss is None:
        raise ValueError("sensitivities are for max_delta_bpc and max_loss; give one of these")
    if max_loss is not None and not math.isfinite(max_loss):
        raise ValueError(f"max_loss = {max_loss}: a limit is a finite number")


def chosen(trials: Collection[Trial], limit: float) -> Trial | None:
    """The one of the coarsest step within the limit."""
    return max((one for one in trials if one.loss <= limit), key=lambda one: one.step, default=None)


def search(
    measure: Callable[[float], Trial], limit: float, before: float, low: float, high: float, guess: float
) -> list[Trial]:
    """Try steps until one is near enough below the limit, or between two that are near enough to each other.

    Args:
        measure: tries a step.
        limit: of the loss.
        before: the loss at step 0, at most `limit`.
        low: logarithm, to base 2, of the least step.
        high: that of the largest.
        guess: that of the first.
    """
    room = limit - before
    aim = math.log2((1 - UNUSED / 2) * room) if room > 0 else -math.inf
    trials: list[Trial] = []
    fine: tuple[float, float] | None = None  # the coarsest step within the limit, and the logarithm of what it loses
    coarse: tuple[float, float] | None = None  # the finest beyond it
    place = min(max(guess, low), high)
    while len(trials) < TRIALS:
        found = measure(2.0**place)
        trials.append(found)
        lost = found.loss - before
        point = place, math.log2(lost) if 0 < lost < math.inf else -math.inf if lost <= 0 else math.inf
        if found.loss <= limit:
            fine = point
            if place >= high or 0 < (1 - UNUSED) * room <= lost:
                break
        else:
            coarse = point
            if place <= low:
                break
        if fine and coarse and coarse[0] - fine[0] < NEAREST:
            break
        place = min(max(_next(fine, coarse, aim, len(trials)), low), high)
    return trials


def _next(fine: tuple[float, float] | None, coarse: tuple[float, float] | None, aim: float, turn: int) -> float:
    """Where to look: on the line through both sides, or on one of the usual slope through the one that there is."""
    if fine and coarse:
        width = coarse[0] - fine[0]
        part = 0.5
        if math.isfinite(aim) and math.isfinite(coarse[1]) and turn < HALVING:
            slope = (coarse[1] - fine[1]) / width if math.isfinite(fine[1]) else POWER
            part = 1 - (coarse[1] - aim) / (slope * width) if slope > 0 else 0.5
        return fine[0] + width * min(max(part, 0.05), 0.95)
    known = fine or coarse
    assert known is not None
    leap = (aim - known[1]) / POWER if math.isfinite(known[1]) and math.isfinite(aim) else LEAP if fine else -LEAP
    return known[0] + (min(max(leap, NEAREST), LEAP) if fine else min(leap, -NEAREST))
