"""Early stopping: a training that begins to overfit goes back to its best weights, and to the end of its schedule.

Most budgets are many epochs of a small text, and from some epoch on held-out text costs more with each. What it is not:
it does not know whether the best weights would have become better with other rates.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

PATIENCE = 4  # validations in a row that must be worse than the best one,
MARGIN = 0.02  # by more than this part of it: less is chance
TAIL_FROM = 0.85  # place in the schedule from which on it goes on with the best weights
MIN_TAIL_STEPS = 8


class EarlyStop:
    """The best validation so far, what stood there, and how many since were worse.

    Attributes:
        step: of the best validation; None before the first.
        bits: of it, the mean over texts.
    """

    def __init__(self) -> None:
        self.step: int | None = None
        self.bits = 0.0
        self._piece: int | None = None
        self._worse = 0
        self._content: dict[str, Any] = {}

    def judge(self, step: int, entry: dict[str, Any], content: Callable[[], dict[str, Any]]) -> bool:
        """Take a validation in; whether the training should go back.

        Args:
            step: of the validation.
            entry: of the log: bits per byte as `validation`, and how much of each text was scored as `piece`, as only
                validations of the same are compared.
            content: copies what is to be put back.
        """
        scores, piece = entry["validation"].values(), entry.get("piece")
        bits = sum(scores) / len(scores)
        if self.step is None or piece != self._piece or bits < self.bits:
            self.step, self.bits, self._piece, self._worse = step, bits, piece, 0
            self._content = content()
        else:
            self._worse = self._worse + 1 if bits > self.bits * (1 + MARGIN) else 0
        return self._worse >= PATIENCE

    def take(self) -> dict[str, Any]:
        """What stood at the best validation, once."""
        content, self._content = self._content, {}
        return content

    def state(self) -> dict[str, Any]:
        """What `restore` needs."""
        return {
            "step": self.step,
            "bits": self.bits,
            "piece": self._piece,
            "worse": self._worse,
            "content": self._content,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a `state`."""
        self.step = None if state["step"] is None else int(state["step"])
        self.bits, self._worse = float(state["bits"]), int(state["worse"])
        self._piece, self._content = state["piece"], dict(state["content"])


def tail_steps(best: int) -> int:
    """Steps of the end of a schedule, of the length that it would have had if it had been made for the best step."""
    return max(round(best * (1 - TAIL_FROM) / TAIL_FROM), MIN_TAIL_STEPS)


def tail_progress(done: int, steps: int) -> float:
    """Place in the schedule after so many steps of its end."""
    return 1 - (1 - TAIL_FROM) * (1 - done / steps)


__all__ = ["MIN_TAIL_STEPS", "TAIL_FROM", "EarlyStop", "tail_progress", "tail_steps"]
