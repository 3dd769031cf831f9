"""A whole run on pictures: folders and settings in, a folder with an exact network of pixels out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from kolmo.errors import KolmoError
from kolmo.native.pixels.network import Inputs
from kolmo.predictors.embedded.pixel_network import FILE, PixelShape, PixelWeights
from kolmo.training.base_run import Job
from kolmo.training.media.run import MediaRun
from kolmo.training.monitor import Monitor
from kolmo.training.networks.exact_pixels import ExactPixels
from kolmo.training.networks.pixels import quantise
from kolmo.training.pictures.data import PictureSource, open_pictures
from kolmo.training.pictures.trainer import PixelTrainer, score
from kolmo.training.products import card
from kolmo.training.products.folder import RunFolder

PRODUCT = "pixels.safetensors"  # in a run's folder


def open_run(job: Job, folder: RunFolder, device: str, monitor: Monitor) -> PixelRun:
    """Read the pictures of a job.

    Raises:
        KolmoError: pictures, settings or folder do not fit together, or are not there.
    """
    if job.validate or not isinstance(job.shape, PixelShape):
        raise KolmoError("networks of pixels are validated on held-out pictures; leave out the argument validate")
    with monitor.phase("reading the pictures"):
        sources = open_pictures(job.sources, folder.path)
    trainer = PixelTrainer(job.shape, job.settings, sources, folder, save_every=job.save_every, monitor=monitor)
    return PixelRun(job, folder, sources, trainer)


class PixelRun(MediaRun[PixelWeights]):
    """A network of pixels in training, in its folder."""

    product, medium, material, file = PRODUCT, "pictures", card.PICTURES, FILE

    def __init__(self, job: Job, folder: RunFolder, sources: Sequence[PictureSource], trainer: PixelTrainer) -> None:
        super().__init__(job, folder, sources, trainer)
        self.trainer = trainer

    def export(self) -> PixelWeights:
        """The exact network of the model."""
        return quantise(self.trainer.model)

    def scored_bytes(self) -> int:
        """Bytes of the held-out pictures that are scored."""
        return sum(len(values) for parts in self.trainer.samples.values() for _, _, values in parts)

    def exact_scores(self, network: PixelWeights) -> dict[str, float]:
        """Bits per byte of the held-out pictures under the exact network, by name."""
        exact = ExactPixels(network)

        def cost(kind: int, found: Inputs, values: npt.NDArray[np.int64]) -> float:
            sums = exact.run(kind, found).numpy()
            chosen = np.take_along_axis(sums, 256 + values[:, None], 1)[:, 0]
            return float(np.log2(sums[:, 1] / chosen).sum())

        return score(self.trainer.samples, cost)


__all__ = ["PRODUCT", "PixelRun", "open_run"]
