"""Language models as scorers: teacher forcing in batches, logits only where a token is scored.

Of a window of 1900 tokens 512 are scored, so the rest is read without asking for logits. Models of transformers whose
logits are a plain product go a shorter way (`evaluation.scorers.torch_scorer`); all others, and models in GGUF, read
window by window in pieces, through their cache, and give whole rows of logits.

What it is not: it makes no windows, and knows nothing of documents.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from kolmo.bits import to_nats
from kolmo.errors import PredictorError
from kolmo.evaluation.scorers.scorers import LITERAL, Identity, Tokenised
from kolmo.evaluation.windows.modes import Texts
from kolmo.evaluation.windows.passages import Batch, Ids, Nats
from kolmo.predictors.language_models.vocabulary import Vocabulary

PIECE = 8 << 20  # bytes of logits at a time on a CPU, about what its caches hold
CPU_TOKENS = 2048  # that a CPU's thread reads at once: more leave its caches


class TokenScorer:
    """Any backend of a language model (`language_models.backends`): reads in pieces, through its cache.

    Args:
        identity: of the model.
        backend: the model.
        threads: of arithmetic; 0: as they are.
        piece: bytes of logits at a time.
    """

    whole = False

    def __init__(self, identity: Identity, backend: Any, threads: int = 0, piece: int = PIECE) -> None:
        self.identity = identity
        self.backend = backend
        self._threads = threads
        self._piece = piece
        self._tree: Any = None

    @property
    def start(self) -> int | None:
        """Beginning of text, or else its end."""
        start: int = self.backend.start
        return start

    @property
    def window(self) -> int | None:
        """Tokens that the model sees."""
        window: int | None = self.backend.window
        return window

    def tokenise(self, texts: Sequence[str], how: Texts) -> list[Tokenised]:
        """As in `Scorer`."""
        if how == "exact":
            return [tokenise_losslessly(self.backend.vocabulary, text.encode()) for text in texts]
        special = how == "default"
        return [Tokenised(*self.backend.encode(text, special)) for text in texts]

    def budget(self, block: int) -> tuple[int, int]:
        """As in `Scorer`."""
        lanes = max((1 << 30) // max(self.backend.token_bytes * block, 1), 1)  # a gigabyte of keys and values
        return min(lanes, 64), CPU_TOKENS

    def score(self, batch: Batch) -> list[Nats]:
        """As in `Scorer`."""
        from kolmo.native.dispatch import kernels
        from kolmo.predictors.language_models import grids

        backend = self.backend
        if self._tree is None:
            self._tree = kernels.TokenTree(grids.tables(grids.WITHOUT), backend.size)
        texts, reads, begins = padded(batch, backend.start)
        nats = [np.empty(passage.scored, np.float32) for passage in batch]
        step = max(self._piece // (len(batch) * backend.size * backend.itemsize), 1)
        if not backend.continues:
            step = texts.shape[1]
        reader = backend.lanes(len(batch), self._threads)
        at, first = 0, int(begins.min())
        while at < texts.shape[1]:
            # What is only context is read at once; it gives a row of logits that nobody needs.
            last = min(max(at + step, first if backend.continues else 0), texts.shape[1])
            wanted = last - max(at, first) if last > first else 1
            logits = reader.feed(texts[:, at:last], wanted)
            for lane, passage in enumerate(batch):
                a, b = max(last - wanted, int(begins[lane])), min(last, int(reads[lane]))
                if a < b:
                    rows = np.ascontiguousarray(logits[lane, a - last + wanted : b - last + wanted])
                    place = a - int(begins[lane])
                    targets = passage.tokens[len(passage.tokens) - passage.scored :][place : place + b - a]
                    nats[lane][place : place + b - a] = self._costs(rows, targets)
            at = last
        return nats

    def _costs(self, rows: npt.NDArray[np.floating[Any]], targets: Ids) -> npt.NDArray[np.float64]:
        try:
            found = self._tree.costs(rows, rows.itemsize, targets.astype(np.int32), False)
        except ValueError as error:
            raise PredictorError(f"{self.identity.spec} cannot be scored: {error}; try dtype='float32'") from None
        return np.frombuffer(found, np.float64)


def padded(batch: Batch, fill: int) -> tuple[Ids, npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """What passages read, as rows that end in `fill`.

    Models look back only, so what stands behind a row's end changes nothing before it.

    Returns:
        texts, shape (passages, longest); how many tokens of each are read, shape (passages,); and the place in each of
        the first token whose logits count, shape (passages,).
    """
    reads = np.array([len(passage.tokens) - 1 for passage in batch], np.int64)
    texts = np.full((len(batch), int(reads.max())), fill, np.int64)
    for row, passage in zip(texts, batch, strict=True):
        row[: len(passage.tokens) - 1] = passage.tokens[:-1]
    return texts, reads, reads - np.array([passage.scored for passage in batch], np.int64)


def tokenise_losslessly(vocabulary: Vocabulary, data: bytes) -> Tokenised:
    """Tokens that give the data back, and the bytes that none covers, at what a small context mixer makes of them."""
    from kolmo.predictors.language_models.block import score_literal

    tokens = vocabulary.tokenise(data)
    lengths = vocabulary.lengths(tokens.ids).astype(np.int32)
    if not tokens.literals:
        return Tokenised(tokens.ids, lengths)
    places = np.array([place for place, _ in tokens.literals])
    costs = [to_nats(float(score_literal(literal).sum())) for _, literal in tokens.literals]
    nats = np.full(len(tokens.ids), np.nan, np.float32)
    return Tokenised(
        np.insert(tokens.ids, places, LITERAL),
        np.insert(lengths, places, [len(literal) for _, literal in tokens.literals]),
        np.insert(nats, places, costs),
    )
