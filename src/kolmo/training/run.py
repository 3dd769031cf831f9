"""A whole run: texts and settings in, a folder with a trained model out; the same call goes on where it was left.

`train` is what `kolmo train` calls.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kolmo.errors import KolmoError, MissingExtraError
from kolmo.foreign import printable, short
from kolmo.installing import install, installed_version
from kolmo.predictors.embedded.network import Weights
from kolmo.predictors.embedded.network_file import save
from kolmo.predictors.embedded.own_network import PRODUCT, open_network
from kolmo.progress import Progress
from kolmo.targets import replacing
from kolmo.training.loop import Trainer
from kolmo.training.monitor import Monitor, Status
from kolmo.training.networks.models import GatedRecurrent, ModelShape, fill
from kolmo.training.networks.transformer import Transformer, TransformerShape
from kolmo.training.products import card, curve
from kolmo.training.products.export import quantise
from kolmo.training.products.folder import RunFolder
from kolmo.training.products.priors import with_priors
from kolmo.training.settings import Settings
from kolmo.training.texts.cache import prepare
from kolmo.training.texts.data import TrainingCorpus, open_training_corpus
from kolmo.training.texts.vocabulary import Vocabulary
from kolmo.training.validation import beginnings, count_scored, exact_scores, size

DRAW_EVERY = 60.0  # seconds between pictures
BF16_UNITS = {"avx512_bf16", "amx_bf16"}  # flags in /proc/cpuinfo


@dataclass(frozen=True)
class Job:
    """What to train on what, and where.

    Attributes:
        folder: of the run.
        shape: of the model; a vocabulary of its own replaces the size in it.
        sources: files or folders, with weights or (all of them) without.
        settings: see there; the dtype `auto` is chosen by the machine.
        validate: files for validation alone.
        init: first weights: a run's folder, a checkpoint or a product; its name goes into the settings.
        device: `auto`, `cpu` or `cuda`.
        threads: 0: as many as torch thinks best.
        save_every: seconds of training between checkpoints.
        command: for the record.
    """

    folder: Path
    shape: ModelShape
    sources: Sequence[tuple[Path, float | None]]
    settings: Settings
    validate: Sequence[Path] = ()
    init: Path | None = None
    device: str = "auto"
    threads: int = 0
    save_every: float = 120.0
    command: str = "kolmo.training.run.train(...)"


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes:
        finished: the budget is spent and the product is there; else the run can go on.
        product: the model's file, once finished.
        progress: part of the budget that is spent, 0 to 1.
        seen: bytes trained on.
        seconds: of training.
        scores: bits per byte of each text: `float`, and `exact` of a recurrent network.
    """

    finished: bool
    product: Path | None
    progress: float
    seen: int
    seconds: float
    scores: dict[str, dict[str, float]]


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
        job = dataclasses.replace(job, settings=_settle(job, folder, device))
        with monitor.phase("reading the texts"):
            texts = open_training_corpus(job.sources, job.validate)
        folder.check(_describe(job, texts))
        if isinstance(job.shape, TransformerShape):
            _require_safetensors()
        vocabulary, corpus = prepare(texts, job.settings.vocabulary, folder.tokenizer, folder.tokens)
        if isinstance(job.shape, TransformerShape):
            job = dataclasses.replace(job, shape=dataclasses.replace(job.shape, vocabulary=vocabulary.size))
        with _enough_memory():
            return _Run(job, folder, texts, corpus, vocabulary, device, monitor).go()


class _Run:
    """A trainer in its folder."""

    def __init__(
        self,
        job: Job,
        folder: RunFolder,
        texts: TrainingCorpus,
        corpus: TrainingCorpus,
        vocabulary: Vocabulary,
        device: str,
        monitor: Monitor,
    ) -> None:
        self.job, self.folder, self.texts = job, folder, texts
        self.monitor = _Drawing(monitor, self.draw)
        self.trainer = Trainer(
            job.shape,
            job.settings,
            corpus,
            folder,
            vocabulary=vocabulary,
            device=device,
            save_every=job.save_every,
            monitor=self.monitor,
        )
        self.description = {"model": self.trainer.model.describe(), **_describe(job, texts)}

    def go(self) -> Outcome:
        """Begin or go on, train, and finish."""
        self.folder.check(self.description)
        saved = self.folder.load()
        if saved is not None:
            self.trainer.restore(saved)
            if digest := self.folder.begun().get("init_sha256"):
                self.description["init_sha256"] = digest
        else:
            self.folder.rewind(-1)
            if self.job.init is not None:
                fill(self.trainer.model, self.job.init)
                self.description["init_sha256"] = _digest(self.job.init)
        self.folder.begin(self.description)
        finished = self.trainer.run()
        self.draw()
        status = self.trainer.status()
        product, scores = (self._product() or self._finish()) if finished else (None, {})
        return Outcome(finished, product, status.progress, status.seen, status.seconds, scores)

    def draw(self) -> None:
        """Write the picture, where that is possible."""
        settings = self.job.settings
        try:
            curve.draw(
                self.folder.entries(),
                self.folder.curve,
                self.folder.path.resolve().name,
                settings.lanes * settings.steps,
            )
        except MissingExtraError as error:
            self.monitor.say_once(str(error))

    def _product(self) -> tuple[Path, dict[str, dict[str, float]]] | None:
        """What `_finish` returned, where it has been called after the last step."""
        entries = self.folder.entries()
        if not entries or "product" not in entries[-1] or not self.folder.card.exists():
            return None
        product = self.folder.path / str(entries[-1]["product"])
        return (product, entries[-1]["scores"]) if product.exists() else None

    def _finish(self) -> tuple[Path, dict[str, dict[str, float]]]:
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
        text = card.write(
            self.description,
            product=product.name,
            parameters=sum(p.numel() for p in model.parameters()),
            size=product.stat().st_size,
            trained={"seconds": trainer.spent, "bytes": trainer.seen, "steps": trainer.step},
            scores=scores,
            scored=(
                size(beginnings(trainer.passages, each), trainer.vocabulary),
                size(trainer.passages, trainer.vocabulary),
            ),
            network=network,
        )
        with replacing(self.folder.card, durable=True) as file:
            file.write(text.encode())
        self.folder.append({"step": trainer.step, "bytes": trainer.seen, "product": product.name, "scores": scores})
        return product, scores

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


class _Drawing(Monitor):
    """Passes everything on, and draws the curve after a validation, now and then."""

    def __init__(self, monitor: Monitor, draw: Callable[[], None]) -> None:
        self._monitor, self._draw = monitor, draw
        self._drawn, self._said = time.monotonic(), False
        self._over = False  # then the last picture is drawn anyway

    def step(self, status: Status) -> None:
        """Pass it on."""
        self._over = status.progress >= 1
        self._monitor.step(status)

    def phase(self, name: str, total: int = 0) -> AbstractContextManager[Progress | None]:
        """Pass it on."""
        return self._monitor.phase(name, total)

    def say(self, message: str) -> None:
        """Pass it on."""
        self._monitor.say(message)

    def stop(self) -> bool:
        """Ask."""
        return self._monitor.stop()

    def note(self, entry: dict[str, Any]) -> None:
        """Draw, where it is time."""
        self._monitor.note(entry)
        if "validation" in entry and not self._over and time.monotonic() - self._drawn > DRAW_EVERY:
            self._draw()
            self._drawn = time.monotonic()

    def say_once(self, message: str) -> None:
        """A line for the person, the first time."""
        if not self._said:
            self._said = True
            self.say(message)


@contextmanager
def _enough_memory() -> Iterator[None]:
    """Turn torch's several ways to run out of memory into one line."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, MemoryError | torch.cuda.OutOfMemoryError) or "allocate memory" in str(error):
            raise KolmoError(
                "not enough memory; lower the argument lanes or the argument window, or use a smaller model"
            ) from None
        raise


def choose_device(name: str) -> str:
    """The device that a name stands for; `auto` is the GPU where there is one.

    Raises:
        KolmoError: it is not there.
    """
    there = torch.cuda.is_available()
    if name == "cuda" and not there:
        raise KolmoError("torch finds no CUDA device here; use device='cpu'")
    return "cuda" if there and name != "cpu" else "cpu"


def choose_dtype(device: str) -> str:
    """bfloat16 on a GPU and on processors with instructions for its products; elsewhere it would be slower."""
    if device == "cuda":
        return "bfloat16"
    try:
        flags = Path("/proc/cpuinfo").read_text("ascii", "replace").split()
    except OSError:
        flags = []
    return "bfloat16" if BF16_UNITS.intersection(flags) else "float32"


def _about(texts: TrainingCorpus, seen: int, scores: dict[str, dict[str, float]]) -> dict[str, str]:
    """What the network's file says of it: texts, bytes, and the mean of its bits per byte, by the texts' weights."""
    names = printable(", ".join(source.name for source in texts.sources))
    total = sum(source.weight for source in texts.sources)
    bits = sum(source.weight / total * scores[source.name]["exact"] for source in texts.sources)
    return {"texts": short(names, 1000), "trained_bytes": str(seen), "bits_per_byte": f"{min(bits, 32.0):.4f}"}


def _settle(job: Job, folder: RunFolder, device: str) -> Settings:
    """The settings with nothing left open; what the machine chose when the run began stays."""
    settings = job.settings
    if settings.dtype == "auto":
        begun = folder.begun().get("settings", {}).get("dtype")
        settings = dataclasses.replace(settings, dtype=begun or choose_dtype(device))
    if not 0 < settings.rate < math.inf:
        raise KolmoError(f"a rate of {settings.rate} trains nothing; give a number above 0")
    return dataclasses.replace(settings, init=job.init.name if job.init else None)


def _describe(job: Job, texts: TrainingCorpus) -> dict[str, Any]:
    """All of a run's description but its model."""
    return {
        "settings": job.settings.describe(),
        "sources": [source.describe() for source in texts.sources],
        "validate": list(texts.extra_facts),
        "command": job.command,
        "versions": {
            "kolmo": installed_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
    }


def _digest(path: Path) -> str:
    path = path / "checkpoint.pt" if path.is_dir() else path
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


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
