"""Byte predictors and classical compressors as scorers. Each document is scored on its own, from a fresh state.

What it is not: it does not split documents into windows; costs are those of `Model.score`, or compressed sizes.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from kolmo.bits import to_nats
from kolmo.errors import PredictorError
from kolmo.evaluation.scorers.scorers import LITERAL_ID, ModelIdentity, Tokenised
from kolmo.evaluation.windows.modes import TokenRule
from kolmo.evaluation.windows.passages import NO_TOKEN_LIMIT, Nats, PassageBatch, ScoredPassage
from kolmo.parallel import available_cores
from kolmo.predictors.base import Predictor
from kolmo.predictors.classical.compressors import Classical
from kolmo.predictors.registry import resolve


class ByteScorer:
    """A predictor whose symbols are bytes, such as the embedded one. Every byte is a token.

    Args:
        spec: the specification of the predictor.
        predictor: the predictor.
        threads: documents that are scored at the same time; 0: as many as the machine has cores.
    """

    start = None
    window = None
    whole = True

    def __init__(self, spec: str, predictor: Predictor, threads: int = 0) -> None:
        self._predictor = predictor
        self._threads = threads or available_cores()
        settings = {"predictor": predictor.name, "version": predictor.version, "hash": predictor.fingerprint().hex()}
        self.identity = ModelIdentity(spec, spec, "predictor", settings)

    def tokenise(self, texts: Sequence[str], how: TokenRule) -> list[Tokenised]:
        """The UTF-8 bytes of each text."""
        found = []
        for text in texts:
            ids = np.frombuffer(text.encode(), np.uint8).astype(np.int32)
            found.append(Tokenised(ids, np.ones(len(ids), np.int32)))
        return found

    def budget(self, block: int) -> tuple[int, int]:
        """As in `Scorer`: one document for each thread, since the kernels release the interpreter's lock."""
        return self._threads, NO_TOKEN_LIMIT

    def score(self, batch: PassageBatch) -> list[Nats]:
        """As in `Scorer`."""
        with ThreadPoolExecutor(self._threads) as pool:
            return list(pool.map(self._score, batch))

    def _score(self, passage: ScoredPassage) -> Nats:
        data = passage.tokens.astype(np.uint8).tobytes()
        return to_nats(self._predictor.start(len(data)).score(data)).astype(np.float32)


class ClassicalScorer(ByteScorer):
    """A compressor. It gives no cost per byte, so a document is one token that costs its compressed size."""

    def __init__(self, spec: str, predictor: Classical) -> None:
        super().__init__(spec, predictor)
        self._classical = predictor
        settings = {"predictor": spec, "hash": predictor.fingerprint().hex()}
        self.identity = ModelIdentity(spec, spec.partition(":")[2], "classical", settings)

    def tokenise(self, texts: Sequence[str], how: TokenRule) -> list[Tokenised]:
        """One token for each text, whose cost is known already."""
        found = []
        for text in texts:
            data = text.encode()
            nats = np.array([to_nats(8.0 * len(self._classical.compress(data)))], np.float32)
            found.append(Tokenised(np.array([LITERAL_ID], np.int32), np.array([len(data)], np.int32), nats))
        return found

    def score(self, batch: PassageBatch) -> list[Nats]:
        """Never called: every token has its cost from `tokenise`."""
        raise AssertionError


def open_bytes(spec: str, threads: int = 0) -> ByteScorer:
    """Open the scorer of a byte predictor or a compressor.

    Args:
        spec: the specification of the predictor or compressor.
        threads: documents that are scored at the same time; 0: as many as the machine has cores.

    Raises:
        PredictorError: the predictor does not exist, or is a language model.
    """
    predictor = resolve(spec)
    if isinstance(predictor, Classical):
        return ClassicalScorer(spec, predictor)
    if predictor.exclusive:
        raise PredictorError(f"{spec} is not a byte predictor; give a language model as hf: or gguf:")
    return ByteScorer(spec, predictor, threads)
