"""What runs on pictures and on sounds share: a trainer in its folder leaves an exact network and its card.

What it is not: it opens no files; `pictures.run` and `sounds.run` do.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Generic

from kolmo.foreign import printable, short
from kolmo.predictors.embedded.layered_network import NetworkFile, Weights
from kolmo.targets import replacing
from kolmo.training.base_run import Job, Run, describe
from kolmo.training.media.source import MediaSource
from kolmo.training.media.trainer import MediaTrainer
from kolmo.training.products import card
from kolmo.training.products.folder import RunFolder


class MediaRun(Run, Generic[Weights]):
    """A network of pixels or of samples in training, in its folder.

    A subclass defines the class attributes, `export`, `exact_scores` and `scored_bytes`.

    Attributes:
        product: name of the network's file.
        file: its format.
        material: how the card speaks of the data.
        medium: the data's name in the network's metadata.
    """

    product: ClassVar[str]
    file: NetworkFile[Any, Weights]
    material: ClassVar[card.Material]
    medium: ClassVar[str]

    def __init__(self, job: Job, folder: RunFolder, sources: Sequence[MediaSource[Any]], trainer: MediaTrainer) -> None:
        facts = [source.describe() for source in sources]
        super().__init__(job, folder, trainer, {**describe(job), "sources": facts, "validate": []})
        self.sources = sources

    def export(self) -> Weights:
        """The exact network of the model."""
        raise NotImplementedError

    def exact_scores(self, network: Weights) -> dict[str, float]:
        """Bits per byte of the held-out data under the exact network, by name."""
        raise NotImplementedError

    def scored_bytes(self) -> int:
        """Bytes of the held-out data that are scored."""
        raise NotImplementedError

    def finish(self) -> tuple[Path, dict[str, dict[str, float]]]:
        """Write the exact network and its card."""
        trainer, product = self.loop, self.folder.path / self.product
        scores = {name: {"float": bits} for name, bits in trainer.measure()["validation"].items()}
        with self.monitor.phase("exporting"):
            network = self.export()
        with self.monitor.phase("scoring the exact network"):
            for name, bits in self.exact_scores(network).items():
                scores[name]["exact"] = bits
        names = short(printable(", ".join(source.name for source in self.sources)), 1000)
        mean = sum(score["exact"] for score in scores.values()) / len(scores)
        about = {self.medium: names, "trained_bytes": str(trainer.seen), "bits_per_byte": f"{min(mean, 32.0):.4f}"}
        network = dataclasses.replace(network, about=about)
        self.file.save(network, product)
        scored = self.scored_bytes()
        text = card.write(
            self.description,
            product=product.name,
            parameters=network.shape.parameters,
            size=product.stat().st_size,
            trained=trainer.trained,
            scores=scores,
            scored=(scored, scored),
            hash_=network.fingerprint,
            material=self.material,
        )
        with replacing(self.folder.card, durable=True) as file:
            file.write(text.encode())
        self.folder.append({"step": trainer.step, "bytes": trainer.seen, "product": product.name, "scores": scores})
        return product, scores


__all__ = ["MediaRun"]
