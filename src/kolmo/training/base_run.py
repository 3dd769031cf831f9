"""What all runs share: a job, its folder, and a trainer that begins or goes on there and leaves a product.

What it is not: it knows no data; `run` and `pictures.run` open them and define `finish`.
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
from kolmo.installing import installed_version
from kolmo.progress import Progress
from kolmo.training.loop import Loop
from kolmo.training.monitor import Monitor, Status
from kolmo.training.networks.models import AnyShape, fill
from kolmo.training.products import curve
from kolmo.training.products.folder import RunFolder
from kolmo.training.settings import Settings

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
    shape: AnyShape
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


class Run:
    """A trainer in its folder. A subclass defines `finish`.

    Args:
        job: what to do.
        folder: of the run.
        trainer: of the model; its monitor becomes one that draws the curve.
        description: of the run, without its model.
    """

    def __init__(self, job: Job, folder: RunFolder, trainer: Loop, description: dict[str, Any]) -> None:
        self.job, self.folder, self.loop = job, folder, trainer
        self.monitor = trainer.monitor = Drawing(trainer.monitor, self.draw)
        self.description = {"model": trainer.model.describe(), **description}

    def finish(self) -> tuple[Path, dict[str, dict[str, float]]]:
        """Write the product and its card; the product, and its scores."""
        raise NotImplementedError

    def go(self) -> Outcome:
        """Begin or go on, train, and finish."""
        self.folder.check(self.description)
        saved = self.folder.load()
        if saved is not None:
            self.loop.restore(saved)
            if digest := self.folder.begun().get("init_sha256"):
                self.description["init_sha256"] = digest
        else:
            self.folder.rewind(-1)
            if self.job.init is not None:
                fill(self.loop.model, self.job.init)
                self.description["init_sha256"] = digest_of(self.job.init)
        self.folder.begin(self.description)
        finished = self.loop.run()
        self.draw()
        status = self.loop.status()
        product, scores = (self._product() or self.finish()) if finished else (None, {})
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
        """What `finish` returned, where it has been called after the last step."""
        entries = self.folder.entries()
        if not entries or "product" not in entries[-1] or not self.folder.card.exists():
            return None
        product = self.folder.path / str(entries[-1]["product"])
        return (product, entries[-1]["scores"]) if product.exists() else None


class Drawing(Monitor):
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
def enough_memory() -> Iterator[None]:
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


def settle(job: Job, folder: RunFolder, device: str) -> Settings:
    """The settings with nothing left open; what the machine chose when the run began stays."""
    settings = job.settings
    if settings.dtype == "auto":
        begun = folder.begun().get("settings", {}).get("dtype")
        settings = dataclasses.replace(settings, dtype=begun or choose_dtype(device))
    if not 0 < settings.rate < math.inf:
        raise KolmoError(f"a rate of {settings.rate} trains nothing; give a number above 0")
    return dataclasses.replace(settings, init=job.init.name if job.init else None)


def describe(job: Job) -> dict[str, Any]:
    """What a run's description says of all but its model and its data."""
    return {
        "settings": job.settings.describe(),
        "command": job.command,
        "versions": {
            "kolmo": installed_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
    }


def digest_of(path: Path) -> str:
    """SHA-256 of first weights, hexadecimal; empty where there is no file."""
    path = path / "checkpoint.pt" if path.is_dir() else path
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


__all__ = ["Job", "Outcome", "Run", "choose_device", "choose_dtype", "describe", "enough_memory", "settle"]
