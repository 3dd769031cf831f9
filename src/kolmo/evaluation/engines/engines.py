"""Engines: where batches are scored. Here: in this process. Others: `workers` and `ray_engine` beside this module.

An engine's results come in any order; who runs it puts them in their places. What it is not: it makes no batches.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from typing import Protocol

from kolmo.evaluation.scorers.scorers import EvaluatedModel, Scorer, Tokenised, named
from kolmo.evaluation.windows.modes import Texts
from kolmo.evaluation.windows.passages import Batch, Nats


class Engine(EvaluatedModel, Protocol):
    """One model, in as many copies as there are places to run it."""

    @property
    def workers(self) -> int:
        """Batches that are scored at once."""
        ...

    def run(self, batches: Iterable[Batch]) -> Generator[tuple[Batch, list[Nats]], None, None]:
        """Score batches, in any order. They are drawn as they are needed, never all at once.

        Raises:
            PredictorError: the model fails, or no worker is left.
        """
        ...

    def close(self) -> None:
        """Let the model go."""
        ...


class LocalEngine:
    """One model, in this process. Whatever it raises becomes a `PredictorError` that names it."""

    workers = 1

    def __init__(self, scorer: Scorer) -> None:
        self._scorer = scorer
        self.identity = scorer.identity
        self.start, self.window, self.whole = scorer.start, scorer.window, scorer.whole

    def tokenise(self, texts: Sequence[str], how: Texts) -> list[Tokenised]:
        """As in `Scorer`."""
        with named(self.identity.spec):
            return self._scorer.tokenise(texts, how)

    def budget(self, block: int) -> tuple[int, int]:
        """As in `Scorer`."""
        with named(self.identity.spec):
            return self._scorer.budget(block)

    def score(self, batch: Batch) -> list[Nats]:
        """As in `Scorer`."""
        with named(self.identity.spec):
            return self._scorer.score(batch)

    def run(self, batches: Iterable[Batch]) -> Generator[tuple[Batch, list[Nats]], None, None]:
        """As in `Engine`, in order."""
        for batch in batches:
            yield batch, self.score(batch)

    def close(self) -> None:
        """Close the scorer, where there is something to close."""
        close = getattr(self._scorer, "close", None)
        if close:
            close()
