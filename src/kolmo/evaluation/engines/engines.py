"""The protocol of engines, which score batches, and the engine that scores them in this process.

An engine returns results in any order; the caller puts them in place (`evaluation.run_state`). The other engines are
`workers` and `ray_engine` beside this module. What it is not: it does not form batches.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from typing import Protocol

from kolmo.evaluation.scorers.scorers import EvaluatedModel, Scorer, Tokenised, named
from kolmo.evaluation.windows.modes import TokenRule
from kolmo.evaluation.windows.passages import Nats, PassageBatch


class Engine(EvaluatedModel, Protocol):
    """One model, of which several copies may run side by side."""

    @property
    def workers(self) -> int:
        """The number of batches that are scored at the same time."""
        ...

    def run(self, batches: Iterable[PassageBatch]) -> Generator[tuple[PassageBatch, list[Nats]], None, None]:
        """Score batches, and yield each with its nats, in any order. Batches are drawn only as they are needed.

        Raises:
            PredictorError: the model fails, or all workers have ended.
        """
        ...

    def close(self) -> None:
        """Release the model and all workers."""
        ...


class LocalEngine:
    """One model in this process. Any error that it raises becomes a `PredictorError` with its name."""

    workers = 1

    def __init__(self, scorer: Scorer) -> None:
        self._scorer = scorer
        self.identity = scorer.identity
        self.start, self.window, self.whole = scorer.start, scorer.window, scorer.whole

    def tokenise(self, texts: Sequence[str], how: TokenRule) -> list[Tokenised]:
        """As in `Scorer`."""
        with named(self.identity.spec):
            return self._scorer.tokenise(texts, how)

    def budget(self, block: int) -> tuple[int, int]:
        """As in `Scorer`."""
        with named(self.identity.spec):
            return self._scorer.budget(block)

    def score(self, batch: PassageBatch) -> list[Nats]:
        """As in `Scorer`."""
        with named(self.identity.spec):
            return self._scorer.score(batch)

    def run(self, batches: Iterable[PassageBatch]) -> Generator[tuple[PassageBatch, list[Nats]], None, None]:
        """As in `Engine`; results come in the order of the batches."""
        for batch in batches:
            yield batch, self.score(batch)

    def close(self) -> None:
        """Close the scorer, if it has a method `close`."""
        close = getattr(self._scorer, "close", None)
        if close:
            close()
