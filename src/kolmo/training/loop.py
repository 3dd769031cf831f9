"""The training loop: batches in, a better model and a log out, until the budget is spent.

`Loop` is what all trainings share; `Trainer` is that of models of text, `pictures.trainer` that of pixels. What it is
not: it opens no text and makes no product; `run` does, around it.
"""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from kolmo.bits import LN2
from kolmo.errors import KolmoError
from kolmo.training.early_stop import MIN_TAIL_STEPS, TAIL_FROM, EarlyStop, tail_progress, tail_steps
from kolmo.training.monitor import Monitor, Status
from kolmo.training.networks.models import ModelShape, build
from kolmo.training.optim import Optimisers
from kolmo.training.products.folder import RunFolder
from kolmo.training.settings import Settings
from kolmo.training.texts.data import Sampler, TrainingCorpus
from kolmo.training.texts.feed import Feed
from kolmo.training.texts.vocabulary import ByteVocabulary, Vocabulary
from kolmo.training.validation import Stop, beginnings, count, count_scored, select, size, validate

LOG_EVERY = 50  # steps,
LOG_EARLY = (1, 2, 5, 10, 20)  # and these
MAX_VALIDATIONS, MIN_VALIDATIONS = 32, 4  # of a run, evenly spaced; the last one is at its end
SECONDS_BETWEEN_VALIDATIONS = 60  # in a run that takes minutes
MIN_SCORED_SYMBOLS = 2048  # of each piece, in each validation; a short run validates less often instead
# Symbols that validations score, for each one that is trained on: a model reads about three times as fast as it learns.
VALIDATION_SHARE, LAST_SHARE = 0.2, 0.1  # all but the last one together; the last one
VALIDATION_TIME, LAST_TIME = 0.1, 0.05  # the same in time, with a budget of time
VALIDATIONS_PER_DOUBLING = 2  # of the epochs, besides those that are evenly spaced


class Loop:
    """A model in training: budget, log, validations and checkpoints.

    A subclass sets `model`, `optimisers` and `validations`, and defines `learn`, `measure`, `content` and `fill`.

    Args:
        settings: see there.
        folder: takes log and checkpoint.
        save_every: seconds of training between checkpoints.
        monitor: is told of steps, phases and log lines, and may stop the training.
    """

    model: Any
    optimisers: Any
    validations: int  # in the run

    def __init__(self, settings: Settings, folder: RunFolder, save_every: float, monitor: Monitor | None) -> None:
        torch.manual_seed(settings.seed)
        self.settings, self.folder = settings, folder
        self.monitor = monitor or Monitor()
        self.save_every = save_every
        self.step = self.seen = self.validated = 0
        self.spent = 0.0  # seconds
        self.losses: list[Tensor] = []  # since the last log entry, bits per byte
        self.bits: float | None = None
        self.began = 0, 0.0  # `seen` and `spent` when this sitting began
        self.early = EarlyStop()
        self.tail: tuple[int, int] | None = None  # where the end of the schedule began early, and its steps

    def learn(self, progress: float) -> tuple[Tensor, int]:
        """One batch: its bits per byte, and its bytes."""
        raise NotImplementedError

    def measure(self) -> dict[str, Any]:
        """What the log says of a validation; empty when stopped."""
        raise NotImplementedError

    def content(self) -> dict[str, Any]:
        """What a checkpoint holds besides model, optimisers and progress."""
        raise NotImplementedError

    def fill(self, saved: dict[str, Any]) -> None:
        """Take it back."""
        raise NotImplementedError

    @property
    def progress(self) -> float:
        """Place in the schedule: the part of the budget that is spent; 1 or more: all."""
        if self.tail is not None:
            return tail_progress(self.step - self.tail[0], self.tail[1])
        return self.settings.budget.progress(seconds=self.spent, seen=self.seen, steps=self.step)

    def run(self) -> bool:
        """Train until the budget is spent, or the monitor stops it; save; whether it is spent."""
        saved = self.step, self.spent
        while True:
            if self.monitor.stop():
                self.save()
                return False
            if self._due() > self.validated:
                self._validate()
            elif self.progress >= 1:
                break
            else:
                self._learn()
                if self.spent - saved[1] >= self.save_every:
                    self.save()
                    saved = self.step, self.spent
        if self.step != saved[0]:
            with self.monitor.phase("saving"):
                self.save()
        return True

    def save(self) -> None:
        """Write the checkpoint."""
        self.folder.save(
            {
                "model": self.model.state_dict(),
                "optimisers": self.optimisers.state(),
                "spent": self.spent,
                "step": self.step,
                "seen": self.seen,
                "validated": self.validated,
                "losses": torch.stack(self.losses) if self.losses else torch.zeros(0),
                "early": self.early.state(),
                "tail": self.tail,
                **self.content(),
            }
        )

    def restore(self, saved: dict[str, Any]) -> None:
        """Go on from a checkpoint.

        Raises:
            KolmoError: it is that of another run.
        """
        with self._of_this_run():
            self.model.load_state_dict(saved["model"])
            self.optimisers.restore(saved["optimisers"])
            self.fill(saved)
            self.spent, self.step = float(saved["spent"]), int(saved["step"])
            self.seen = int(saved.get("seen", self.step * self.settings.lanes * self.settings.steps))
            self.early.restore(saved["early"])
            if saved["tail"] is not None:
                begun, steps = map(int, saved["tail"])
                if not (0 <= begun <= self.step and 1 <= steps <= max(begun, MIN_TAIL_STEPS)):
                    raise ValueError("an end of the schedule that cannot be")
                self.tail = begun, steps
            self.validated = min(int(saved.get("validated", self._due())), self._due())
            self.losses = list(saved.get("losses", torch.zeros(0)).to(next(self.model.parameters()).device))
        self.folder.rewind(self.step)
        done = [entry for entry in self.folder.entries() if entry["step"] == self.step and "validation" in entry]
        if done and self.validated < self._due():  # killed after validating, before it was saved
            self.validated = self._due()
            self._judge(done[-1])
        self.began = self.seen, self.spent

    @contextmanager
    def _of_this_run(self) -> Iterator[None]:
        """Say in one line that what a checkpoint held does not fit."""
        try:
            yield
        except (KeyError, IndexError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise KolmoError(f"{self.folder.checkpoint}: the checkpoint of another run ({reason.strip()})") from None

    @property
    def trained(self) -> dict[str, Any]:
        """How much, for a card: `seconds`, `bytes` and `steps`, and the step that it went back to, or None."""
        back = self.early.step if self.tail is not None else None
        return {"seconds": self.spent, "bytes": self.seen, "steps": self.step, "back_to": back}

    def status(self) -> Status:
        """How far it is."""
        seen, spent = self.seen - self.began[0], self.spent - self.began[1]
        progress = min(self.progress, 1.0)
        left = self.spent * (1 - progress) / progress if progress else math.inf
        return Status(progress, self.step, self.seen, self.spent, seen / max(spent, 1e-9), left, self.bits)

    def _learn(self) -> None:
        """One batch."""
        began = time.perf_counter()
        progress = self.progress
        self.model.quantised = progress >= self.settings.quantise_from
        bits, size = self.learn(progress)
        self.losses.append(bits)
        self.step += 1
        self.seen += size
        if self.step % LOG_EVERY == 0 or self.step in LOG_EARLY:
            self._log()
        self.spent += time.perf_counter() - began
        self.monitor.step(self.status())

    def _log(self) -> None:
        self.bits = float(torch.stack(self.losses).mean())
        self.losses.clear()
        if not math.isfinite(self.bits):
            raise KolmoError(
                f"{self.folder.path}: the loss is not a number after {self.step} steps; lower the argument rate"
            )
        self._note({"train": self.bits})

    def epochs(self) -> float:
        """Epochs so far; 0 where that is not known."""
        return 0.0

    def _due(self) -> int:
        """Validations that belong before this place.

        Besides those that are evenly spaced, there are some for each doubling of the epochs.
        """
        epochs = self.epochs()
        again = int(VALIDATIONS_PER_DOUBLING * math.log2(epochs) + 1 + 1e-9) if epochs >= 1 else 0
        return int(min(self.progress, 1.0) * self.validations + 1e-9) + again

    def _validate(self) -> None:
        if self.losses and self.progress >= 1:
            self._log()
        if entry := self.measure():
            self._note(entry)
            self.validated = self._due()
            self._judge(entry)

    def _judge(self, entry: dict[str, Any]) -> None:
        """Go back to the best weights, and to the end of the schedule, where validations say so."""
        if not self.settings.early_stop or self.tail is not None or self.progress >= TAIL_FROM:
            self.early.take()  # not needed any more: the last checkpoint is without it
            return
        if not self.early.judge(self.step, entry, self._weights):
            return
        best = min(self.early.step or 0, self.step)
        content = self.early.take()
        with self._of_this_run():  # it may come from a checkpoint
            self.model.load_state_dict(content["model"])
            self.optimisers.restore(content["optimisers"])
        self.tail = self.step, tail_steps(best)
        self.validated = self._due()
        if not any("back_to" in entry for entry in self.folder.entries()):  # one may have been killed after this
            self._note({"back_to": best})
        self.monitor.say(
            f"{self.folder.path}: what is held out has become worse since step {best}, so the rest of the budget would "
            f"do harm: back to the weights of that step, and to the end of the schedule"
        )

    def _weights(self) -> dict[str, Any]:
        """A copy of model and optimisers."""
        return copy.deepcopy({"model": self.model.state_dict(), "optimisers": self.optimisers.state()})

    def _note(self, content: dict[str, Any]) -> None:
        entry = {"step": self.step, "seconds": round(self.spent, 1), "bytes": self.seen, **content}
        self.folder.append(entry)
        self.monitor.note(entry)


class Trainer(Loop):
    """A model of text in training.

    With a budget of steps or bytes, the result depends on settings, texts and threads alone, however often the training
    was interrupted.

    Args:
        shape: of the model.
        settings: see there.
        corpus: texts, in the vocabulary's symbols.
        folder: takes log and checkpoint.
        vocabulary: of the symbols.
        device: of torch.
        save_every: seconds of training between checkpoints.
        monitor: is told of steps, phases and log lines, and may stop the training.
    """

    def __init__(
        self,
        shape: ModelShape,
        settings: Settings,
        corpus: TrainingCorpus,
        folder: RunFolder,
        *,
        vocabulary: Vocabulary | None = None,
        device: str = "cpu",
        save_every: float = 120.0,
        monitor: Monitor | None = None,
    ) -> None:
        super().__init__(settings, folder, save_every, monitor)
        self.corpus = corpus
        self.vocabulary: Vocabulary = vocabulary or ByteVocabulary()
        self.model = build(shape).to(device)
        self.feed = Feed(self.model, settings.lanes, device)
        self.state: Any = self.model.start(settings.lanes)
        self.sampler = Sampler(corpus.sources, settings.lanes, settings.steps, settings.seed, self.vocabulary.line_end)
        self.optimisers = Optimisers(self.model, settings)
        self.dtype: torch.dtype = getattr(torch, settings.dtype)
        self.passages = corpus.passages()
        self.validations = self._validations()
        self.pace: float | None = None  # symbols a second of the last validation

    def validation(self, stop: Stop, each: int | None = None) -> dict[str, float]:
        """Bits per byte of each passage, by name; empty when stopped.

        Args:
            stop: asked now and then.
            each: symbols of each piece to score, from its first on; None is all of them.
        """
        passages = beginnings(self.passages, each)
        with self.monitor.phase("validating", count_scored(passages)) as progress:
            return validate(self.model, passages, self.vocabulary, self.dtype, stop, progress) or {}

    def portion(self) -> int | None:
        """Symbols of each held-out piece that a validation should score at this place; None is all of them.

        With a budget of steps or bytes, it does not depend on the clock.
        """
        settings, last, progress = self.settings, self.progress >= 1, min(self.progress, 1.0)
        trained = self.step * settings.lanes * settings.steps
        share = LAST_SHARE if last else VALIDATION_SHARE / self.validations
        symbols = share * trained / progress if progress else 0.0  # of all that the budget allows
        if settings.budget.unit == "seconds" and self.pace is not None:
            part = LAST_TIME if last else VALIDATION_TIME / self.validations
            symbols = min(symbols, part * settings.budget.amount * self.pace)
        return select(self.passages, symbols)

    def learn(self, progress: float) -> tuple[Tensor, int]:
        """One batch."""
        symbols, jumped = self.sampler.batch()
        self.feed.reset(jumped)
        self.state.reset(self.feed.move(jumped))
        text, hashes = self.feed.take(symbols[:-1])
        targets = self.feed.move(symbols[1:].astype(np.int64))
        logits = self.model(text, hashes, self.state, self.dtype)
        loss = functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
        loss.backward()
        self.optimisers.step(progress)
        size = int(self.vocabulary.lengths[symbols[1:]].sum())
        return loss.detach() * (targets.numel() / size / LN2), size

    def epochs(self) -> float:
        """Epochs so far of the text that is read most often."""
        symbols = self.step * self.settings.lanes * self.settings.steps
        return max(
            symbols * part / len(source.text)
            for part, source in zip(self.sampler.odds, self.corpus.sources, strict=True)
        )

    def measure(self) -> dict[str, Any]:
        """Scores of a portion of the held-out text."""
        each, began = self.portion(), time.perf_counter()
        scores = self.validation(self.monitor.stop, each)
        if not scores:
            return {}
        passages = beginnings(self.passages, each)
        self.pace = count(passages) / max(time.perf_counter() - began, 1e-9)
        scored, whole = (size(found, self.vocabulary) for found in (passages, self.passages))
        return {"validation": scores, "scored": scored, "held_out": whole, "piece": each}

    def content(self) -> dict[str, Any]:
        """Where the texts are, and what the network remembers of them."""
        return {
            "sampler": json.dumps(self.sampler.state()),
            "hasher": self.feed.state(),
            "state": getattr(self.state, "layers", []),
        }

    def fill(self, saved: dict[str, Any]) -> None:
        """Take it back."""
        self.sampler.restore(json.loads(saved["sampler"]))
        self.feed.restore(saved["hasher"])
        if saved["state"]:
            self.state.layers = [h.to(self.feed.device) for h in saved["state"]]

    def _validations(self) -> int:
        """Number of validations in the run."""
        budget, settings = self.settings.budget, self.settings
        if budget.unit == "seconds":
            wanted = budget.amount / SECONDS_BETWEEN_VALIDATIONS
        else:
            symbols = budget.amount * (settings.lanes * settings.steps if budget.unit == "steps" else 1)
            wanted = VALIDATION_SHARE * symbols / count(beginnings(self.passages, MIN_SCORED_SYMBOLS))
        return int(min(max(wanted, MIN_VALIDATIONS), MAX_VALIDATIONS))


__all__ = ["Feed", "Loop", "Trainer"]
