"""The training loop: batches in, a better model and a log out, until the budget is spent.

What it is not: it opens no text and makes no product; `run` does, around it.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from kolmo.errors import KolmoError
from kolmo.native.reference_network import Hasher
from kolmo.training.data import Corpus, Passage, Sampler
from kolmo.training.folder import RunFolder
from kolmo.training.models import GatedRecurrent, Model, Shape, build
from kolmo.training.optim import Optimisers
from kolmo.training.settings import Settings
from kolmo.training.vocabulary import ByteVocabulary, Vocabulary
from kolmo.training.watch import Status, Watcher

LOG_EVERY = 50  # steps,
LOG_EARLY = (1, 2, 5, 10, 20)  # and these
VALIDATIONS = 32  # in a run, evenly spaced
LEAST_VALIDATIONS, MINUTE = 4, 60  # one a minute in a run of minutes, where 32 would take longer than the training
VALIDATION_STEPS = 1024  # symbols of each lane at once, for models that take any number
IGNORED = -100  # a symbol that is no target


class Trainer:
    """A model in training.

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
        watcher: hears of all that happens.
    """

    def __init__(
        self,
        shape: Shape,
        settings: Settings,
        corpus: Corpus,
        folder: RunFolder,
        *,
        vocabulary: Vocabulary | None = None,
        device: str = "cpu",
        save_every: float = 120.0,
        watcher: Watcher | None = None,
    ) -> None:
        torch.manual_seed(settings.seed)
        self.settings, self.corpus, self.folder = settings, corpus, folder
        self.vocabulary: Vocabulary = vocabulary or ByteVocabulary()
        self.watcher = watcher or Watcher()
        self.save_every = save_every
        self.model = build(shape).to(device)
        self.feed = Feed(self.model, settings.lanes, device)
        self.state: Any = self.model.start(settings.lanes)
        self.sampler = Sampler(corpus.sources, settings.lanes, settings.steps, settings.seed, self.vocabulary.line_end)
        self.optimisers = Optimisers(self.model, settings)
        self.dtype: torch.dtype = getattr(torch, settings.dtype)
        self.step = self.seen = self.validated = 0
        self.spent = 0.0  # seconds
        self.losses: list[Tensor] = []  # since the last log entry, bits per byte
        self.bits: float | None = None
        self.began = 0, 0.0  # `seen` and `spent` when this sitting began

    @property
    def progress(self) -> float:
        """Part of the budget that is spent; 1 or more: all."""
        return self.settings.budget.progress(seconds=self.spent, seen=self.seen, steps=self.step)

    def run(self) -> bool:
        """Train until the budget is spent, or the watcher says stop; save; whether it is spent."""
        saved = self.step, self.spent
        while True:
            if self.watcher.stop():
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
            self.save()
        return True

    def validation(self, stop: Callable[[], bool]) -> dict[str, float]:
        """Bits per byte of each passage, by name; empty when stopped."""
        scores = {}
        for passage in self.corpus.passages():
            score = validate(self.model, passage, self.vocabulary, self.dtype, stop)
            if score is None:
                return {}
            scores[passage.name] = score
        return scores

    def save(self) -> None:
        """Write the checkpoint."""
        content = {
            "model": self.model.state_dict(),
            "optimisers": self.optimisers.state(),
            "sampler": json.dumps(self.sampler.state()),
            "hasher": self.feed.state(),
            "state": getattr(self.state, "layers", []),
            "spent": self.spent,
            "step": self.step,
            "seen": self.seen,
            "validated": self.validated,
            "losses": torch.stack(self.losses) if self.losses else torch.zeros(0),
        }
        self.folder.save(content)

    def restore(self, saved: dict[str, Any]) -> None:
        """Go on from a checkpoint.

        Raises:
            KolmoError: it is that of another run.
        """
        try:
            self.model.load_state_dict(saved["model"])
            self.optimisers.restore(saved["optimisers"])
            self.sampler.restore(json.loads(saved["sampler"]))
            self.feed.restore(saved["hasher"])
            if saved["state"]:
                self.state.layers = [h.to(self.feed.device) for h in saved["state"]]
            self.spent, self.step = float(saved["spent"]), int(saved["step"])
            self.seen = int(saved.get("seen", self.step * self.settings.lanes * self.settings.steps))
            self.validated = int(saved.get("validated", self._due()))
            self.losses = list(saved.get("losses", torch.zeros(0)).to(self.feed.device))
        except (KeyError, IndexError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise KolmoError(f"{self.folder.checkpoint}: the checkpoint of another run ({reason.strip()})") from None
        self.folder.rewind(self.step)
        if any(entry["step"] == self.step and "validation" in entry for entry in self.folder.entries()):
            self.validated = max(self.validated, self._due())  # killed after validating, before it was saved
        self.began = self.seen, self.spent

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
        self.losses.append(loss.detach() * (targets.numel() / size / math.log(2)))
        self.step += 1
        self.seen += size
        if self.step % LOG_EVERY == 0 or self.step in LOG_EARLY:
            self._log()
        self.spent += time.perf_counter() - began
        self.watcher.tick(self.status())

    def _log(self) -> None:
        self.bits = float(torch.stack(self.losses).mean())
        self.losses.clear()
        if not math.isfinite(self.bits):
            raise KolmoError(f"{self.folder.path}: the loss is no number after {self.step} steps; lower --rate")
        self._note({"train": self.bits})

    def _due(self) -> int:
        """Validations that belong before this place."""
        budget, count = self.settings.budget, VALIDATIONS
        if budget.unit == "seconds":
            count = min(max(int(budget.amount // MINUTE), LEAST_VALIDATIONS), VALIDATIONS)
        return int(min(self.progress, 1.0) * count + 1e-9)

    def _validate(self) -> None:
        if self.losses and self.progress >= 1:
            self._log()
        if scores := self.validation(self.watcher.stop):
            self._note({"validation": scores})
            self.validated = self._due()

    def _note(self, content: dict[str, Any]) -> None:
        entry = {"step": self.step, "seconds": round(self.spent, 1), "bytes": self.seen, **content}
        self.folder.append(entry)
        self.watcher.note(entry)


class Feed:
    """Brings symbols to the device, with the entries of a recurrent network's hashed tables."""

    def __init__(self, model: Model, lanes: int, device: torch.device | str) -> None:
        self.device = torch.device(device)
        self.hasher = Hasher(model.shape.tables, lanes) if isinstance(model, GatedRecurrent) else None

    def move(self, array: npt.NDArray[Any]) -> Tensor:
        """A tensor of the device."""
        return torch.from_numpy(array).to(self.device, non_blocking=True)

    def take(self, symbols: npt.NDArray[Any]) -> tuple[Tensor, Tensor]:
        """Symbols (steps, lanes) and their entries (tables, steps, lanes), int64; follows the lanes."""
        wide = symbols.astype(np.int64)
        hashes = self.hasher.step(symbols) if self.hasher else np.zeros((0, *symbols.shape), np.int64)
        return self.move(wide), self.move(hashes)

    def reset(self, lanes: npt.NDArray[np.bool_]) -> None:
        """Forget the lanes that a mask marks."""
        if self.hasher:
            self.hasher.reset(lanes)

    def state(self) -> list[Tensor]:
        """What `restore` needs."""
        if not self.hasher:
            return []
        parts = self.hasher.past, self.hasher.word, self.hasher.inside
        return [torch.from_numpy(np.ascontiguousarray(part)) for part in parts]

    def restore(self, state: list[Tensor]) -> None:
        """Go on from a `state`."""
        if self.hasher:
            self.hasher.past, self.hasher.word, self.hasher.inside = (part.numpy() for part in state)


@torch.no_grad()
def validate(
    model: Model,
    passage: Passage,
    vocabulary: Vocabulary,
    dtype: torch.dtype,
    stop: Callable[[], bool] = lambda: False,
) -> float | None:
    """Bits per byte on the pieces of a passage, but for their first symbols; None when stopped.

    A recurrent network reads each piece from a fresh state, with integer weights; a Transformer sees what its context
    holds, window after window.
    """
    symbols, targets = _side_by_side(passage)
    if model.reach is not None:
        symbols, targets = _windows(symbols, targets, model.reach)
    feed = Feed(model, symbols.shape[1], next(model.parameters()).device)
    state: Any = model.start(symbols.shape[1])
    quantised, model.quantised = model.quantised, True
    nats = torch.zeros((), dtype=torch.float64, device=feed.device)
    try:
        for part, right in _portions(symbols, targets, model.reach):
            if stop():
                return None
            logits = model(*feed.take(part), state, dtype)
            wanted = feed.move(right.astype(np.int64)).flatten()
            nats += functional.cross_entropy(logits.flatten(0, 1), wanted, reduction="sum", ignore_index=IGNORED)
    finally:
        model.quantised = quantised
    size = sum(int(vocabulary.lengths[piece[1:]].sum()) for piece in passage.pieces)
    return float(nats) / math.log(2) / size


Columns = tuple[npt.NDArray[Any], npt.NDArray[Any]]  # symbols and targets, (steps, lanes)


def _side_by_side(passage: Passage) -> Columns:
    """Pieces as lanes, the shorter ones filled up with what is not measured."""
    longest = max(len(piece) for piece in passage.pieces) - 1
    symbols = np.zeros((longest, len(passage.pieces)), passage.pieces[0].dtype)
    targets = np.full(symbols.shape, IGNORED, np.int64)
    for lane, piece in enumerate(passage.pieces):
        symbols[: len(piece) - 1, lane], targets[: len(piece) - 1, lane] = piece[:-1], piece[1:]
    return symbols, targets


def _windows(symbols: npt.NDArray[Any], targets: npt.NDArray[Any], reach: int) -> Columns:
    """Every window of `reach` steps as a lane of its own."""
    steps = -(-len(symbols) // reach) * reach
    more = ((0, steps - len(symbols)), (0, 0))
    symbols, targets = np.pad(symbols, more), np.pad(targets, more, constant_values=IGNORED)
    return tuple(x.T.reshape(-1, reach).T for x in (symbols, targets))  # type: ignore[return-value]


def _portions(symbols: npt.NDArray[Any], targets: npt.NDArray[Any], reach: int | None) -> Any:
    """What fits in memory at once: some steps of all lanes, or with a `reach` some lanes."""
    if reach is None:
        for at in range(0, len(symbols), VALIDATION_STEPS):
            yield symbols[at : at + VALIDATION_STEPS], targets[at : at + VALIDATION_STEPS]
        return
    lanes = max(1, 4 * VALIDATION_STEPS // reach)
    for at in range(0, symbols.shape[1], lanes):
        yield symbols[:, at : at + lanes], targets[:, at : at + lanes]
