"""A whole run on pictures: folders and settings in, a folder with an exact network of pixels out."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from kolmo.errors import KolmoError
from kolmo.foreign import printable, short
from kolmo.native.pixels.network import Inputs
from kolmo.predictors.embedded.pixel_network import PixelShape, PixelWeights, save
from kolmo.targets import replacing
from kolmo.training.base_run import Job, Run, describe
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
        sources = open_pictures(job.sources)
    trainer = PixelTrainer(job.shape, job.settings, sources, folder, save_every=job.save_every, monitor=monitor)
    return PixelRun(job, folder, sources, trainer)


class PixelRun(Run):
    """A network of pixels in training, in its folder."""

    def __init__(self, job: Job, folder: RunFolder, sources: Sequence[PictureSource], trainer: PixelTrainer) -> None:
        facts = [source.describe() for source in sources]
        super().__init__(job, folder, trainer, {**describe(job), "sources": facts, "validate": []})
        self.sources, self.trainer = sources, trainer

    def finish(self) -> tuple[Path, dict[str, dict[str, float]]]:
        """Write the exact network and its card."""
        trainer, product = self.trainer, self.folder.path / PRODUCT
        scores = {name: {"float": bits} for name, bits in trainer.measure()["validation"].items()}
        with self.monitor.phase("exporting"):
            network = quantise(trainer.model)
        for name, bits in self._exact_scores(network).items():
            scores[name]["exact"] = bits
        names = short(printable(", ".join(source.name for source in self.sources)), 1000)
        mean = sum(score["exact"] for score in scores.values()) / len(scores)
        about = {"pictures": names, "trained_bytes": str(trainer.seen), "bits_per_byte": f"{min(mean, 32.0):.4f}"}
        network = dataclasses.replace(network, about=about)
        save(network, product)
        scored = sum(len(values) for parts in trainer.samples.values() for _, _, values in parts)
        text = card.write(
            self.description,
            product=product.name,
            parameters=network.shape.parameters,
            size=product.stat().st_size,
            trained={"seconds": trainer.spent, "bytes": trainer.seen, "steps": trainer.step},
            scores=scores,
            scored=(scored, scored),
            hash_=network.fingerprint,
            material=card.PICTURES,
        )
        with replacing(self.folder.card, durable=True) as file:
            file.write(text.encode())
        self.folder.append({"step": trainer.step, "bytes": trainer.seen, "product": product.name, "scores": scores})
        return product, scores

    def _exact_scores(self, network: PixelWeights) -> dict[str, float]:
        exact = ExactPixels(network)

        def cost(kind: int, found: Inputs, values: npt.NDArray[np.int64]) -> float:
            sums = exact.run(kind, found).numpy()
            chosen = np.take_along_axis(sums, 256 + values[:, None], 1)[:, 0]
            return float(np.log2(sums[:, 1] / chosen).sum())

        with self.monitor.phase("scoring the exact network"):
            return score(self.trainer.samples, cost)


__all__ = ["PRODUCT", "PixelRun", "open_run"]
