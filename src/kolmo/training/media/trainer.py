"""What the trainings of networks of pixels and of samples share: how often and how they validate."""

from __future__ import annotations

from typing import Any, ClassVar

import torch

from kolmo.training.loop import MAX_VALIDATIONS, MIN_VALIDATIONS, SECONDS_BETWEEN_VALIDATIONS, Loop
from kolmo.training.monitor import Monitor
from kolmo.training.products.folder import RunFolder
from kolmo.training.settings import Settings


class MediaTrainer(Loop):
    """A network in training. A subclass defines `model` and `optimisers`, and `held_out_scores` in place of `measure`.

    Args:
        settings: see there.
        folder: takes log and checkpoint.
        save_every: seconds of training between checkpoints.
        monitor: is told of steps, phases and log lines, and may stop the training.
    """

    max_validations: ClassVar[int] = MAX_VALIDATIONS  # of a run, evenly spaced; the last one is at its end

    def __init__(self, settings: Settings, folder: RunFolder, save_every: float, monitor: Monitor | None) -> None:
        super().__init__(settings, folder, save_every, monitor)
        wanted = settings.budget.amount / SECONDS_BETWEEN_VALIDATIONS if settings.budget.unit == "seconds" else 0
        self.validations = int(min(max(wanted, MIN_VALIDATIONS), self.max_validations))

    def held_out_scores(self) -> dict[str, float]:
        """Bits per byte of the held-out data under the model as it is, by name."""
        raise NotImplementedError

    @torch.no_grad()
    def measure(self) -> dict[str, Any]:
        """Bits per byte of the held-out data, with integer weights."""
        quantised, self.model.quantised = self.model.quantised, True
        try:
            with self.monitor.phase("validating"):
                return {"validation": self.held_out_scores()}
        finally:
            self.model.quantised = quantised


__all__ = ["MediaTrainer"]
