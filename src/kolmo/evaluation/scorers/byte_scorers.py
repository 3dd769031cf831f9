"""Predictors of bytes, and classical compressors, as scorers: a document at once, from a fresh state.

What it is not: it adds nothing to a predictor's `score`, and measures a compressor by what it writes.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from kolmo.bits import to_nats
from kolmo.errors import PredictorError
from kolmo.evaluation.scorers.scorers import LITERAL, Identity, Tokenised
from kolmo.evaluation.windows.modes import Texts
from kolmo.evaluation.windows.passages import Batch, Nats, Passage
from kolmo.predictors.base import Predictor
from kolmo.predictors.classical.compressors import Classical
from kolmo.predictors.registry import resolve


class ByteScorer:
    """A predictor whose symbols are bytes, such as the embedded one. Every byte is a token."""

    start = None
    window = None
    whole = True

    def __init__(self, spec: str, predictor: Predictor, threads: int = 0) -> None:
        self._predictor = predictor
        self._threads = threads or os.cpu_count() or 1
        settings = {"predictor": predictor.name, "version": predictor.version, "hash": predictor.fingerprint().hex()}
        self.identity = Identity(spec, spec, "predictor", settings)

    def tokenise(self, texts: Sequence[str], how: Texts) -> list[Tokenised]:
        """Its bytes."""
        found = []
        for text in texts:
            ids = np.frombuffer(text.encode(), np.uint8).astype(np.int32)
            found.append(Tokenised(ids, np.ones(len(ids), np.int32)))
        return found

    def budget(self, block: int) -> tuple[int, int]:
        """A document for each thread; the kernels leave the interpreter to others."""
        return self._threads, 1 << 40

    def score(self, batch: Batch) -> list[Nats]:
        """As in `Scorer`."""
        with ThreadPoolExecutor(self._threads) as pool:
            return list(pool.map(self._score, batch))

    def _score(self, passage: Passage) -> Nats:
        data = passage.tokens.astype(np.uint8).tobytes()
        return to_nats(self._predictor.start(len(data)).score(data)).astype(np.float32)


class ClassicalScorer(ByteScorer):
    """A compressor. It cannot tell what a byte costs: a document is one token, at the size of its compressed file."""

    def __init__(self, spec: str, predictor: Classical) -> None:
        super().__init__(spec, predictor)
        self._classical = predictor
        settings = {"predictor": spec, "hash": predictor.fingerprint().hex()}
        self.identity = Identity(spec, spec.partition(":")[2], "classical", settings)

    def tokenise(self, texts: Sequence[str], how: Texts) -> list[Tokenised]:
        """One token, whose cost is known already."""
        found = []
        for text in texts:
            data = text.encode()
            nats = np.array([to_nats(8.0 * len(self._classical.compress(data)))], np.float32)
            found.append(Tokenised(np.array([LITERAL], np.int32), np.array([len(data)], np.int32), nats))
        return found

    def score(self, batch: Batch) -> list[Nats]:
        """Nothing is left to score."""
        raise AssertionError


def open_bytes(spec: str, threads: int = 0) -> ByteScorer:
    """The scorer of a predictor's spec.

    Args:
        spec: of a predictor of bytes, or a compressor.
        threads: documents at once; 0: as many as there are cores.

    Raises:
        PredictorError: there is none.
    """
    predictor = resolve(spec)
    if isinstance(predictor, Classical):
        return ClassicalScorer(spec, predictor)
    if predictor.exclusive:
        raise PredictorError(f"{spec} is not a predictor of bytes; give a language model as hf: or gguf:")
    return ByteScorer(spec, predictor, threads)
