"""What a training tells as it goes, and what it asks; light, so that the command line can import it at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


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


class Watcher:
    """What a training tells, and asks, as it goes; this one says nothing and never stops it."""

    def tick(self, status: Status) -> None:
        """A step is done."""

    def phase(self, name: str, done: float = 0.0) -> None:
        """What is being done from here on, other than steps of training, which `tick` tells.

        Args:
            name: in a word or two: `reading`, `validating`, `exporting`.
            done: part of this phase that is done, 0 to 1; call again with a larger one as it goes on.
        """

    def note(self, entry: dict[str, Any]) -> None:
        """A line was added to the log."""

    def say(self, message: str) -> None:
        """A line for the person."""

    def stop(self) -> bool:
        """Whether to save and leave, after the step at hand."""
        return False
