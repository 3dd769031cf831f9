"""Rows: what a model's tokens of one document cost. The one record that all metrics come from.

What it is not: a file (`evaluation.results.store`), or a metric (`evaluation.results.metrics`).
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

WORDS = re.compile(r"\s+")


@dataclass(eq=False)
class Row:
    """A document and its costs under one model, in one mode.

    Attributes:
        document: its place in the corpus, from 0.
        key: 16 hexadecimal digits of a hash of what its costs depend on beside model and mode: its text and, where
            documents are joined to a stream, all texts before it.
        name, subset, date: as in the corpus.
        characters, bytes, words: of its whole text: code points, UTF-8, pieces between white space (as
            lm-evaluation-harness counts them).
        token_ids: shape (n,), int32; -1 for bytes that no token covers.
        token_bytes: shape (n,), int32: bytes of the text that each token stands for; 0 for special tokens.
        token_nats: shape (n,), float32: -ln p of each token; NaN where it was not scored.
        content: the text, or None where it is not kept.
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

    @property
    def scored(self) -> npt.NDArray[np.bool_]:
        """Which tokens were scored."""
        return ~np.isnan(self.token_nats)

    @property
    def tokens(self) -> int:
        """How many tokens were scored."""
        return int(self.scored.sum())

    @property
    def nats(self) -> float:
        """Their sum, in float64."""
        return float(np.nansum(self.token_nats, dtype=np.float64))


def count_words(text: str) -> int:
    """Pieces between white space, with the empty ones at the ends."""
    return len(WORDS.split(text))


def document_key(text: str, before: str = "") -> str:
    """The key of a text, behind the documents whose last has the key `before`."""
    return hashlib.sha256(before.encode() + b"\0" + text.encode()).hexdigest()[:16]
