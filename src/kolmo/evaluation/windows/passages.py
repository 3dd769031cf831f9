"""Passages, which are the tokens of one window to be scored, and their grouping into batches.

What it is not: it does not choose windows (`evaluation.windows.windows`) or run models (`evaluation.scorers.scorers`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Ids = npt.NDArray[np.int64]
Nats = npt.NDArray[np.float32]

LENGTH_DIVISOR = 16  # passages of a batch differ in length by at most the longest length divided by this,
MAX_LENGTH_DIFFERENCE_TOKENS = 16  # or by this number of tokens, if that is more

NO_TOKEN_LIMIT = 1 << 40  # tokens of a batch if only its number of passages is limited


@dataclass(frozen=True, eq=False)
class ScoredPassage:
    """The tokens of one window, and which of them are scored.

    Attributes:
        tokens: token ids, shape (n,). All but the last are read, and the last `scored` are scored. For byte predictors
            they are bytes, and all of them may be scored.
        scored: the number of tokens that are scored.
        place: the position of the first scored token among all tokens of the run.
    """

    tokens: Ids
    scored: int
    place: int


PassageBatch = list[ScoredPassage]


def batches(passages: Iterable[ScoredPassage], size: int, tokens: int) -> Iterator[PassageBatch]:
    """Group passages of similar length into batches, the longest first, so that there is little padding.

    Args:
        passages: the passages, in any order.
        size: the largest number of passages in a batch.
        tokens: the largest number of tokens in a batch, padding included; a single passage may exceed it.
    """
    batch: PassageBatch = []
    longest = 0
    for passage in sorted(passages, key=lambda passage: (-len(passage.tokens), passage.place)):
        length = len(passage.tokens)
        near = longest - length <= max(longest // LENGTH_DIVISOR, MAX_LENGTH_DIFFERENCE_TOKENS)
        if batch and (not near or len(batch) == size or (len(batch) + 1) * longest > tokens):
            yield batch
            batch = []
        if not batch:
            longest = length
        batch.append(passage)
    if batch:
        yield batch
