"""A whole run on sounds: folders and settings in, a folder with an exact network of samples out."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from kolmo.errors import KolmoError
from kolmo.foreign import printable, short
from kolmo.native.dispatch import kernels
from kolmo.predictors.embedded.sample_network import SampleShape, SampleWeights, save
from kolmo.targets import replacing
from kolmo.training.base_run import Job, Run, describe
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
        sources = open_sounds(job.sources)
    trainer = SampleTrainer(job.shape, job.settings, sources, folder, save_every=job.save_every, monitor=monitor)
    return SampleRun(job, folder, sources, trainer)


class SampleRun(Run):
    """A network of samples in training, in its folder."""

    def __init__(self, job: Job, folder: RunFolder, sources: Sequence[SoundSource], trainer: SampleTrainer) -> None:
        facts = [source.describe() for source in sources]
        super().__init__(job, folder, trainer, {**describe(job), "sources": facts, "validate": []})
        self.sources, self.trainer = sources, trainer

    def finish(self) -> tuple[Path, dict[str, dict[str, float]]]:
        """Write the exact network and its card."""
        trainer, product = self.trainer, self.folder.path / PRODUCT
        scores = {name: {"float": bits} for name, bits in trainer.measure()["validation"].items()}
        with self.monitor.phase("exporting"):
            network = quantise(trainer.model)
        with self.monitor.phase("scoring the exact network"):
            for name, bits in exact_scores(network, trainer.pieces).items():
                scores[name]["exact"] = bits
        names = short(printable(", ".join(source.name for source in self.sources)), 1000)
        mean = sum(score["exact"] for score in scores.values()) / len(scores)
        about = {"sounds": names, "trained_bytes": str(trainer.seen), "bits_per_byte": f"{min(mean, 32.0):.4f}"}
        network = dataclasses.replace(network, about=about)
        save(network, product)
        scored = sum(len(own) * bits // 8 for parts in trainer.pieces.values() for own, _, bits in parts)
        text = card.write(
            self.description,
            product=product.name,
            parameters=network.shape.parameters,
            size=product.stat().st_size,
            trained={"seconds": trainer.spent, "bytes": trainer.seen, "steps": trainer.step},
            scores=scores,
            scored=(scored, scored),
            hash_=network.fingerprint,
            material=card.SOUNDS,
        )
        with replacing(self.folder.card, durable=True) as file:
            file.write(text.encode())
        self.folder.append({"step": trainer.step, "bytes": trainer.seen, "product": product.name, "scores": scores})
        return product, scores


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
