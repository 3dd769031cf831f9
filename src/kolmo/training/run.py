"""A whole run: data and settings in, a folder with a trained model out; the same call goes on where it was left.

`train` is what `kolmo train` calls.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import torch

from kolmo.errors import MissingExtraError
from kolmo.foreign import printable, short
from kolmo.installing import install
from kolmo.predictors.embedded.network import Weights
from kolmo.predictors.embedded.network_file import save
from kolmo.predictors.embedded.own_network import PRODUCT, open_network
from kolmo.predictors.embedded.pixel_network import PixelShape
from kolmo.predictors.embedded.sample_network import SampleShape
from kolmo.targets import replacing
from kolmo.training.base_run import (
    Job,
    Outcome,
    Run,
    choose_device,
    choose_dtype,
    describe,
    enough_memory,
    settle,
)
from kolmo.training.loop import Trainer
from kolmo.training.monitor import Monitor
from kolmo.training.networks.models import GatedRecurrent
from kolmo.training.networks.transformer import Transformer, TransformerShape, name_of
from kolmo.training.pictures.run import open_run as open_pixel_run
from kolmo.training.products import card, transformers_folder
from kolmo.training.products.export import quantise
from kolmo.training.products.folder import RunFolder
from kolmo.training.products.priors import with_priors
from kolmo.training.sounds.run import open_run as open_sample_run
from kolmo.training.texts.cache import prepare
from kolmo.training.texts.data import TrainingCorpus, open_training_corpus
from kolmo.training.validation import beginnings, count_scored, exact_scores, size


def train(job: Job, monitor: Monitor | None = None) -> Outcome:
    """Train until the budget is spent or the monitor stops it; go on with what the folder holds.

    Raises:
        KolmoError: texts, settings or folder do not fit together, or are not there.
    """
    monitor = monitor or Monitor()
    if job.threads:
        torch.set_num_threads(job.threads)
    device = choose_device(job.device)
    folder = RunFolder(job.folder)
    with folder.locked():
        job = dataclasses.replace(job, settings=settle(job, folder, device))
        shape = job.shape
        if isinstance(shape, PixelShape | SampleShape):
            with enough_memory():
                if isinstance(shape, PixelShape):
                    return open_pixel_run(job, folder, device, monitor).go()
                return open_sample_run(job, folder, device, monitor).go()
        with monitor.phase("reading the texts"):
            texts = open_training_corpus(job.sources, job.validate, folder.path)
        description = _describe(job, texts)
        folder.check(description)
        if isinstance(shape, TransformerShape):
            _require_safetensors()
        vocabulary, corpus = prepare(texts, job.settings.vocabulary, folder.tokenizer, folder.tokens)
        if isinstance(shape, TransformerShape):
            shape = dataclasses.replace(shape, vocabulary=vocabulary.size)
            job = dataclasses.replace(job, shape=shape)
        with enough_memory():
            trainer = Trainer(
                shape,
                job.settings,
                corpus,
                folder,
                vocabulary=vocabulary,
                device=device,
                save_every=job.save_every,
                monitor=monitor,
            )
            return _TextRun(job, folder, texts, trainer, description).go()


class _TextRun(Run):
    """A model of text in training, in its folder."""

    def __init__(
        self, job: Job, folder: RunFolder, texts: TrainingCorpus, trainer: Trainer, description: dict[str, Any]
    ) -> None:
        super().__init__(job, folder, trainer, description)
        self.texts, self.trainer = texts, trainer

    def finish(self) -> tuple[Path, dict[str, dict[str, float]]]:
        """Write the product and its card."""
        trainer, model = self.trainer, self.trainer.model
        found, each = self._last_validation()
        scores = {name: {"float": bits} for name, bits in found.items()}
        network: Weights | None = None
        if isinstance(model, GatedRecurrent):
            product = self.folder.path / PRODUCT
            with self.monitor.phase("exporting"):
                network = quantise(model)
            for name, bits in self._exact_scores(network, each).items():
                scores[name]["exact"] = bits
            network = self._with_priors(network)
            network = dataclasses.replace(network, about=_about(self.texts, trainer.seen, scores))
            save(network, product)
            open_network(str(product))  # so that it is known here
        else:
            product = self.folder.path / "model.safetensors"
            with self.monitor.phase("exporting"):
                _save_floats(model, product)
                if model.rotary:
                    self._export(model)
        text = card.write(
            self.description,
            product=product.name,
            parameters=sum(p.numel() for p in model.parameters()),
            size=product.stat().st_size,
            trained=trainer.trained,
            scores=scores,
            scored=(
                size(beginnings(trainer.passages, each), trainer.vocabulary),
                size(trainer.passages, trainer.vocabulary),
            ),
            hash_=network.fingerprint if network else None,
        )
        with replacing(self.folder.card, durable=True) as file:
            file.write(text.encode())
        self.folder.append({"step": trainer.step, "bytes": trainer.seen, "product": product.name, "scores": scores})
        return product, scores

    def _export(self, model: Transformer) -> None:
        """Write the folder of transformers, and how it was trained."""
        settings, trainer = self.job.settings, self.trainer
        training = {
            "model": name_of(model.shape),
            "vocabulary": model.shape.vocabulary,
            "texts": [printable(source.name) for source in self.texts.sources],
            "steps": trainer.step,
            "bytes": trainer.seen,
            "bytes_before": transformers_folder.seen_before(self.job.init),
            "lanes": settings.lanes,
            "window": settings.steps,
            "seconds": round(trainer.spent, 1),
        }
        tokenizer = None if settings.vocabulary == "bytes" else self.folder.tokenizer.read_text("utf-8")
        folder = self.folder.path / transformers_folder.FOLDER
        transformers_folder.export(model, folder, tokenizer, training)

    def _last_validation(self) -> tuple[dict[str, float], int | None]:
        """Bits per byte by name, and the symbols of each piece that they are of (None: all), at the last step."""
        for entry in reversed(self.folder.entries()):
            if "validation" in entry and entry["step"] == self.trainer.step:
                return dict(entry["validation"]), entry.get("piece")
        each = self.trainer.portion()
        return self.trainer.validation(lambda: False, each), each

    def _with_priors(self, network: Weights) -> Weights:
        """The network with priors of the mixers that will read its predictions, from the held-out pieces."""
        pieces = [piece.tobytes() for source in self.texts.sources for piece in source.passage().pieces]
        with self.monitor.phase("learning the priors"):
            return with_priors(network, pieces, self.trainer.seen)

    def _exact_scores(self, weights: Weights, each: int | None) -> dict[str, float]:
        """The same of the exact network, on the same text."""
        passages = beginnings(self.texts.passages(), each)
        with self.monitor.phase("scoring the exact network", count_scored(passages)) as progress:
            return exact_scores(weights, passages, self.trainer.feed.device, progress)


def _about(texts: TrainingCorpus, seen: int, scores: dict[str, dict[str, float]]) -> dict[str, str]:
    """What the network's file says of it: texts, bytes, and the mean of its bits per byte, by the texts' weights."""
    names = printable(", ".join(source.name for source in texts.sources))
    total = sum(source.weight for source in texts.sources)
    bits = sum(source.weight / total * scores[source.name]["exact"] for source in texts.sources)
    return {"texts": short(names, 1000), "trained_bytes": str(seen), "bits_per_byte": f"{min(bits, 32.0):.4f}"}


def _describe(job: Job, texts: TrainingCorpus) -> dict[str, Any]:
    """All of a run's description but its model."""
    sources = [source.describe() for source in texts.sources]
    return {**describe(job), "sources": sources, "validate": list(texts.extra_facts)}


def _require_safetensors() -> None:
    try:
        import safetensors.torch  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(f"Transformers need safetensors ({error}); {install('train')}") from None


def _save_floats(model: Transformer, path: Path) -> None:
    from safetensors.torch import save as pack

    content = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    with replacing(path, durable=True) as file:
        file.write(pack(content, {"format": "pt"}))


__all__ = ["Job", "Outcome", "choose_device", "choose_dtype", "train"]
