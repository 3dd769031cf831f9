"""Rows: the cost of each token of one document under one model. All metrics are computed from rows.

What it is not: it does not store rows (`evaluation.results.store`) or compute metrics (`evaluation.results.metrics`).
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

WHITE_SPACE = re.compile(r"\s+")


@dataclass(eq=False)
class Row:
    """A document and its costs under one model, in one mode.

    Attributes:
        document: the index of the document in the corpus, from 0.
        key: a cache key of 16 hexadecimal digits: a hash of what the costs depend on besides model and mode, which is
            the text and, if documents are joined to a stream, all texts before it.
        name, subset, date: the labels of the document in the corpus.
        characters, bytes, words: the size of the whole text in code points, in bytes of UTF-8, and in pieces between
            white space, as lm-evaluation-harness counts words.
        token_ids: token ids, shape (n,), int32; -1 for bytes that no token covers.
        token_bytes: the number of bytes that each token covers, shape (n,), int32; 0 for special tokens.
        token_nats: -ln p of each token, shape (n,), float32; NaN for a token that was not scored.
        content: the text, or None if it was not kept.
        token_memory_nats: the same as `token_nats` with a memory beside the model; None if it was scored without one.
    """

    document: int
    key: str
    name: str
    subset: str
    date: str
    characters: int
    bytes: int
    words: int
    token_ids: npt.NDArray[np.int32]
    token_bytes: npt.NDArray[np.int32]
    token_nats: npt.NDArray[np.float32]
    content: str | None = None
    token_memory_nats: npt.NDArray[np.float32] | None = None

    @property
    def scored(self) -> npt.NDArray[np.bool_]:
        """Which tokens were scored."""
        return ~np.isnan(self.token_nats)

    @property
    def tokens(self) -> int:
        """The number of scored tokens."""
        return int(self.scored.sum())

    @property
    def nats(self) -> float:
        """The sum of the costs, in float64."""
        return float(np.nansum(self.token_nats, dtype=np.float64))

    @property
    def memory_nats(self) -> float | None:
        """The sum of the costs with a memory, in float64; None without one."""
        costs = self.token_memory_nats
        return None if costs is None else float(np.nansum(costs, dtype=np.float64))


def count_words(text: str) -> int:
    """The number of pieces between white space, including empty ones at the ends.

    Example:
        >>> count_words("one two ")
        3
    """
    return len(WHITE_SPACE.split(text))


def document_key(text: str, before: str = "") -> str:
    """The key of a text in a stream after the document with the key `before`; "" if the text is scored on its own."""
    return hashlib.sha256(before.encode() + b"\0" + text.encode()).hexdigest()[:16]
