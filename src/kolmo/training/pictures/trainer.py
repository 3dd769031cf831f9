"""The training of a network that predicts pixels: random bytes of pictures in, a better network and a log out."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from kolmo.bits import LN2
from kolmo.native.pixels.network import TURNS, Inputs
from kolmo.predictors.embedded.pixel_network import PixelShape
from kolmo.training.media.trainer import MediaTrainer
from kolmo.training.monitor import Monitor
from kolmo.training.networks.pixels import PixelModel
from kolmo.training.optim import Optimisers
from kolmo.training.pictures.data import PictureSource, PixelSampler
from kolmo.training.products.folder import RunFolder
from kolmo.training.settings import Settings

MAX_VALIDATIONS = 10  # of a run
MEASURED_BYTES = 5_000  # of each source and kind, the same ones in every validation
MEASURED_AT_ONCE = 2_500
MEASURED_SEED = 9

Sample = tuple[int, Inputs, npt.NDArray[np.int64]]  # kind, inputs, bytes
Cost = Callable[[int, Inputs, npt.NDArray[np.int64]], float]  # bits of all of them


class PixelTrainer(MediaTrainer):
    """A network of pixels in training.

    Args:
        shape: of the network.
        settings: see there; `lanes` bytes of each kind are a batch.
        sources: of pictures.
        folder: takes log and checkpoint.
        save_every: seconds of training between checkpoints.
        monitor: is told of steps, phases and log lines, and may stop the training.
    """

    max_validations = MAX_VALIDATIONS

    def __init__(
        self,
        shape: PixelShape,
        settings: Settings,
        sources: Sequence[PictureSource],
        folder: RunFolder,
        *,
        save_every: float = 120.0,
        monitor: Monitor | None = None,
    ) -> None:
        super().__init__(settings, folder, save_every, monitor)
        self.model = PixelModel(shape)
        self.optimisers = Optimisers(self.model, settings)
        self.sampler = PixelSampler(sources, settings.lanes, settings.seed)
        self.samples = draw_samples(sources)

    def learn(self, progress: float) -> tuple[Tensor, int]:
        """One batch."""
        costs, size, batch = torch.zeros(()), 0, list(self.sampler.batch())
        for kind, found, values in batch:
            loss = self.model(kind, found, torch.from_numpy(values)).mean() / len(batch)
            loss.backward()
            costs, size = costs + loss.detach(), size + len(values)
        self.optimisers.step(progress)
        return costs / LN2, size

    def held_out_scores(self) -> dict[str, float]:
        """Bits per byte of the held-out samples, by name."""
        return score(self.samples, self._cost)

    def _cost(self, kind: int, found: Inputs, values: npt.NDArray[np.int64]) -> float:
        return float(self.model(kind, found, torch.from_numpy(values)).double().sum()) / LN2

    def content(self) -> dict[str, Any]:
        """Where chance is."""
        return {"sampler": json.dumps(self.sampler.state())}

    def fill(self, saved: dict[str, Any]) -> None:
        """Take it back."""
        self.sampler.restore(json.loads(saved["sampler"]))


def draw_samples(sources: Sequence[PictureSource]) -> dict[str, list[Sample]]:
    """Bytes of held-out pictures, by what they are: patches in grey, and whole pictures in colour, of each source."""
    rng, found = np.random.default_rng(MEASURED_SEED), dict[str, list[Sample]]()
    for source in sources:
        grey, colour = source.held_out
        found[f"{source.name}, grey patches"] = [(0, *grey.look(grey.draw(rng, MEASURED_BYTES, 1.0), 0))]
        if colour is not None:
            found[f"{source.name}, colour"] = [
                (kind, *colour.look(colour.draw(rng, MEASURED_BYTES, 0.0), kind)) for kind in range(1, len(TURNS))
            ]
    return found


def score(samples: dict[str, list[Sample]], cost: Cost) -> dict[str, float]:
    """Bits per byte of samples, by name."""
    scores = {}
    for name, parts in samples.items():
        bits = sum(
            cost(kind, found.part(at, at + MEASURED_AT_ONCE), values[at : at + MEASURED_AT_ONCE])
            for kind, found, values in parts
            for at in range(0, len(values), MEASURED_AT_ONCE)
        )
        scores[name] = bits / sum(len(values) for _, _, values in parts)
    return scores


__all__ = ["PixelTrainer", "draw_samples", "score"]
