"""The interface between a training and whoever shows or stops it; light, so the command line imports it at once."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from kolmo.progress import Progress, no_phases


@dataclass(frozen=True)
class Status:
    """How far a training is.

    Attributes:
        progress: part of the budget, 0 to 1.
        step: batches done.
        seen: bytes trained on.
        seconds: of training, validation apart, over all sittings.
        rate: bytes per second in this sitting.
        left: seconds of training to come.
        bits: training loss when last logged, bits per byte.
    """

    progress: float
    step: int
    seen: int
    seconds: float
    rate: float
    left: float
    bits: float | None


class Monitor:
    """Is called by a training as it goes. This base class shows nothing and never stops the training."""

    def step(self, status: Status) -> None:
        """A step of training is done."""

    def phase(self, name: str, total: int = 0) -> AbstractContextManager[Progress | None]:
        """A phase other than steps of training begins: a `kolmo.progress.Phases`.

        Args:
            name: one to three words: `reading`, `validating`, `exporting`.
            total: symbols that the phase will work through; 0 where it cannot tell.
        """
        return no_phases(name, total)

    def note(self, entry: dict[str, Any]) -> None:
        """A line was added to the log of the run."""

    def say(self, message: str) -> None:
        """Show a line to the user."""

    def stop(self) -> bool:
        """Whether the training should save and return after the current step."""
        return False
