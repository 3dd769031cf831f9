"""A whole run on sounds: folders and settings in, a folder with an exact network of samples out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from kolmo.errors import KolmoError
from kolmo.native.dispatch import kernels
from kolmo.predictors.embedded.sample_network import FILE, SampleShape, SampleWeights
from kolmo.training.base_run import Job
from kolmo.training.media.run import MediaRun
from kolmo.training.monitor import Monitor
from kolmo.training.networks.samples import quantise
from kolmo.training.products import card
from kolmo.training.products.folder import RunFolder
from kolmo.training.sounds.data import SoundSource, open_sounds
from kolmo.training.sounds.trainer import Piece, SampleTrainer, score

PRODUCT = "samples.safetensors"  # in a run's folder


def open_run(job: Job, folder: RunFolder, device: str, monitor: Monitor) -> SampleRun:
    """Read the sounds of a job.

    Raises:
        KolmoError: sounds, settings or folder do not fit together, or are not there.
    """
    if job.validate or not isinstance(job.shape, SampleShape):
        raise KolmoError("networks of samples are validated on held-out sounds; leave out the argument validate")
    with monitor.phase("reading the sounds"):
        sources = open_sounds(job.sources, folder.path)
    trainer = SampleTrainer(job.shape, job.settings, sources, folder, save_every=job.save_every, monitor=monitor)
    return SampleRun(job, folder, sources, trainer)


class SampleRun(MediaRun[SampleWeights]):
    """A network of samples in training, in its folder."""

    product, medium, material, file = PRODUCT, "sounds", card.SOUNDS, FILE

    def __init__(self, job: Job, folder: RunFolder, sources: Sequence[SoundSource], trainer: SampleTrainer) -> None:
        super().__init__(job, folder, sources, trainer)
        self.trainer = trainer

    def export(self) -> SampleWeights:
        """The exact network of the model."""
        return quantise(self.trainer.model)

    def scored_bytes(self) -> int:
        """Bytes of the held-out pieces that are scored."""
        return sum(len(own) * bits // 8 for parts in self.trainer.pieces.values() for own, _, bits in parts)

    def exact_scores(self, network: SampleWeights) -> dict[str, float]:
        """Bits per byte of the held-out pieces under the exact network, by name."""
        return exact_scores(network, self.trainer.pieces)


def exact_scores(network: SampleWeights, pieces: dict[str, list[Piece]]) -> dict[str, float]:
    """Bits per byte of pieces under the exact network, by name."""
    exact = kernels.SampleNetwork(network.config, network.weights)

    def cost(piece: Piece) -> float:
        own, other, bits = piece
        samples = own.tobytes()
        mixtures = exact.predict(samples, None if other is None else other.tobytes(), bits)
        chosen, all_values = kernels.sample_masses(bits, *mixtures, samples)
        ratio = np.frombuffer(all_values, np.uint64) / np.frombuffer(chosen, np.uint64)
        return float(np.log2(ratio).sum())

    return score(pieces, cost)


__all__ = ["PRODUCT", "SampleRun", "exact_scores", "open_run"]
