"""Language models with the memory of `kolmo compress` beside them (docs/memory.md): each token is scored both ways.

A document is the unit: its memory begins empty, and learns its tokens in order. They are read in the windows of mode
strict; the windows of one document follow each other, and those of several are read side by side.

    document --windows--> logits --+--> nats of the model alone
                                   +--> chances of decisions, on the finest grid --memory, token after token--> nats

What it is not: the size of a file, which also pays for the tolerance of noise.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from kolmo.evaluation.scorers.scorers import ModelIdentity
from kolmo.evaluation.scorers.token_scorers import CPU_THREAD_TOKENS, MAX_LANES, TokenScorer
from kolmo.evaluation.windows.passages import Ids, Nats, PassageBatch, ScoredPassage, batches
from kolmo.evaluation.windows.windows import strict
from kolmo.predictors.language_models.records import MEMORY

MEMORY_TOKENS = 1 << MEMORY  # size of a document's memory: the default of `kolmo compress`
VERSION = 1  # of the memory, part of the key of stored costs
BATCH_TOKENS = 32 * CPU_THREAD_TOKENS  # tokens of the documents that are read side by side


class MemoryScorer(TokenScorer):
    """A language model and its memory. A passage is a whole document after the start token, all of it scored.

    Args:
        identity: the identity of the model; the memory becomes part of its settings.
        backend: the model.
        block: the largest number of tokens that the model reads before it predicts one.
        stride: the number of tokens that each window after the first scores.
        threads: threads for arithmetic; 0: the number that the backend has set.
    """

    def __init__(self, identity: ModelIdentity, backend: Any, block: int, stride: int, threads: int = 0) -> None:
        memory = {"tokens": MEMORY_TOKENS, "version": VERSION}
        settings = {**identity.settings, "memory": memory}
        super().__init__(
            ModelIdentity(identity.spec, identity.name, identity.kind, settings, identity.facts), backend, threads
        )
        self._block = min(block, self.window or block)
        self._stride = min(stride, self._block)

    def budget(self, block: int) -> tuple[int, int]:
        """As in `Scorer`: documents that are read side by side, and their tokens."""
        return MAX_LANES, BATCH_TOKENS

    def score(self, batch: PassageBatch) -> list[Nats]:
        """Nats of each token alone, and with the memory: arrays of shape (passage.scored, 2)."""
        from kolmo.native.dispatch import kernels

        documents = [passage.tokens[1:] for passage in batch]
        keepers = [kernels.TokenEncoder(self.tree, True) for _ in documents]
        found = [np.empty((len(ids), 2), np.float32) for ids in documents]
        done = [0] * len(documents)
        for windows in self._windows(documents):
            for part in batches(windows, *super().budget(self._block)):
                for lane, rows, targets in self.rows(part):
                    document = part[lane].place
                    first = done[document]
                    done[document] = last = first + len(targets)
                    found[document][first:last, 0] = self.costs(rows, targets)
                    keepers[document].encode(rows, rows.itemsize, targets)
        for nats, keeper in zip(found, keepers, strict=True):
            nats[:, 1] = self._with_memory(len(nats), keeper)
        return found

    def _windows(self, documents: list[Ids]) -> Iterator[list[ScoredPassage]]:
        """The first windows of all documents, then the second, and so on; the place of each is its document's index."""
        planned = [strict(len(ids), self._block, self._stride) for ids in documents]
        while windows := [(place, window) for place, rest in enumerate(planned) if (window := next(rest, None))]:
            yield [
                ScoredPassage(
                    np.concatenate([[self.backend.start], documents[place][window.first : window.last]]),
                    window.scored,
                    place,
                )
                for place, window in windows
            ]

    def _with_memory(self, count: int, keeper: Any) -> Nats:
        """Nats of a document's tokens, whose decisions an encoder keeps."""
        from kolmo.native import tables
        from kolmo.native.dispatch import kernels

        size = self.backend.size
        lengths = np.array([count], np.int32).tobytes()
        memory = kernels.TokenMemory(
            self.tree, tables.packed(), self.backend.vocabulary.kinds(size), lengths, MEMORY_TOKENS
        )
        return np.frombuffer(memory.costs([keeper], 0)).astype(np.float32)
