"""Language models as scorers: teacher forcing in batches, with logits only for the tokens that are scored.

Of a window of 1900 tokens 512 are scored, so the rest is read without computing logits. Models of transformers whose
logits are a matrix product of the last hidden state take a faster path (`evaluation.scorers.torch_scorer`). All other
models, and those in GGUF, read each window in pieces through their key-value cache and return whole rows of logits.

What it is not: it does not plan windows, and is not aware of documents.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from kolmo.bits import to_nats
from kolmo.errors import PredictorError
from kolmo.evaluation.scorers.scorers import LITERAL_ID, ModelIdentity, Tokenised
from kolmo.evaluation.windows.modes import TokenRule
from kolmo.evaluation.windows.passages import Ids, Nats, PassageBatch
from kolmo.predictors.language_models.backends import Logits
from kolmo.predictors.language_models.vocabulary import Vocabulary

CPU_LOGIT_BYTES = 8 << 20  # bytes of logits computed at a time on a CPU: about the size of its caches
CPU_THREAD_TOKENS = 2048  # tokens that one CPU thread reads at a time: the activations of more exceed its caches
CACHE_BYTES = 1 << 30  # bytes of keys and values that all lanes of a batch may take
MAX_LANES = 64  # windows that are read side by side


class TokenScorer:
    """Scores with any backend of a language model (`language_models.backends`), in pieces through its cache.

    Args:
        identity: the identity of the model.
        backend: the model.
        threads: threads for arithmetic; 0: the number that the backend has set.
        logit_bytes: bytes of logits computed at a time.
    """

    whole = False

    def __init__(
        self, identity: ModelIdentity, backend: Any, threads: int = 0, logit_bytes: int = CPU_LOGIT_BYTES
    ) -> None:
        self.identity = identity
        self.backend = backend
        self._threads = threads
        self._logit_bytes = logit_bytes
        self._tree: Any = None

    @property
    def start(self) -> int | None:
        """The token for beginning of text, else that for end of text."""
        start: int = self.backend.start
        return start

    @property
    def window(self) -> int | None:
        """The context length of the model in tokens."""
        window: int | None = self.backend.window
        return window

    def tokenise(self, texts: Sequence[str], how: TokenRule) -> list[Tokenised]:
        """As in `Scorer`."""
        if how == "exact":
            return [tokenise_losslessly(self.backend.vocabulary, text.encode()) for text in texts]
        special = how == "default"
        return [Tokenised(*self.backend.encode(text, special)) for text in texts]

    def budget(self, block: int) -> tuple[int, int]:
        """As in `Scorer`."""
        lanes = max(CACHE_BYTES // max(self.backend.token_bytes * block, 1), 1)
        return min(lanes, MAX_LANES), CPU_THREAD_TOKENS

    @property
    def tree(self) -> Any:
        """The tree over the token ids, without any tolerance of noise."""
        from kolmo.native.dispatch import kernels
        from kolmo.predictors.language_models import grids

        if self._tree is None:
            self._tree = kernels.TokenTree(grids.tables(grids.WITHOUT), self.backend.size)
        return self._tree

    def score(self, batch: PassageBatch) -> list[Nats]:
        """As in `Scorer`."""
        nats: list[list[Nats]] = [[] for _ in batch]
        for lane, rows, targets in self.rows(batch):
            nats[lane].append(self.costs(rows, targets).astype(np.float32))
        return [np.concatenate([*parts, np.zeros(0, np.float32)]) for parts in nats]

    def rows(self, batch: PassageBatch) -> Iterator[tuple[int, Logits, npt.NDArray[np.int32]]]:
        """The index of a passage, logits, shape (n, size), and the n tokens that they predict; in order of its tokens.

        Each passage comes several times, until all of its scored tokens have come.
        """
        backend = self.backend
        texts, reads, begins = padded(batch, backend.start)
        step = max(self._logit_bytes // (len(batch) * backend.size * backend.itemsize), 1)
        if not backend.continues:
            step = texts.shape[1]
        reader = backend.lanes(len(batch), self._threads)
        at, first = 0, int(begins.min())
        while at < texts.shape[1]:
            # Tokens that are only context are read at once; the one row of logits that they give is not used.
            last = min(max(at + step, first if backend.continues else 0), texts.shape[1])
            wanted = last - max(at, first) if last > first else 1
            logits = reader.feed(texts[:, at:last], wanted)
            for lane, passage in enumerate(batch):
                a, b = max(last - wanted, int(begins[lane])), min(last, int(reads[lane]))
                if a < b:
                    rows = np.ascontiguousarray(logits[lane, a - last + wanted : b - last + wanted])
                    yield lane, rows, passage.tokens[a + 1 : b + 1].astype(np.int32)
            at = last

    def costs(self, rows: Logits, targets: npt.NDArray[np.int32]) -> npt.NDArray[np.float64]:
        """Nats of tokens, from their logits: -ln of the probability.

        Raises:
            PredictorError: a logit is not finite.
        """
        try:
            found = self.tree.costs(rows, rows.itemsize, targets, False)
        except ValueError as error:
            raise PredictorError(f"{self.identity.spec} cannot be scored: {error}; try dtype='float32'") from None
        return np.frombuffer(found, np.float64)


def padded(batch: PassageBatch, fill: int) -> tuple[Ids, npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The tokens that each passage reads, as rows of equal length, padded at the end with `fill`.

    Attention is causal, so the padding does not affect the logits before it.

    Returns:
        the tokens, shape (passages, longest); the number of tokens that each passage reads, shape (passages,); and the
        position in each of the first token whose logits are used, shape (passages,).
    """
    reads = np.array([len(passage.tokens) - 1 for passage in batch], np.int64)
    texts = np.full((len(batch), int(reads.max())), fill, np.int64)
    for row, passage in zip(texts, batch, strict=True):
        row[: len(passage.tokens) - 1] = passage.tokens[:-1]
    return texts, reads, reads - np.array([passage.scored for passage in batch], np.int64)


def tokenise_losslessly(vocabulary: Vocabulary, data: bytes) -> Tokenised:
    """Tokenise data so that the tokens restore it exactly. Bytes that no token covers are scored by a context mixer."""
    from kolmo.predictors.language_models.block import score_literal

    tokens = vocabulary.tokenise(data)
    lengths = vocabulary.lengths(tokens.ids).astype(np.int32)
    if not tokens.literals:
        return Tokenised(tokens.ids, lengths)
    places = np.array([place for place, _ in tokens.literals])
    costs = [to_nats(float(score_literal(literal).sum())) for _, literal in tokens.literals]
    nats = np.full(len(tokens.ids), np.nan, np.float32)
    return Tokenised(
        np.insert(tokens.ids, places, LITERAL_ID),
        np.insert(lengths, places, [len(literal) for _, literal in tokens.literals]),
        np.insert(nats, places, costs),
    )
