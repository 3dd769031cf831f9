"""Passages: what a model is handed to score, and how they are put together into batches.

What it is not: it decides no windows (`evaluation.windows.windows`) and runs no model (`evaluation.scorers.scorers`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Ids = npt.NDArray[np.int64]
Nats = npt.NDArray[np.float32]

SLACK = 16  # passages in a batch differ in length by one part in so many, at most
SHORT = 16  # or by so many tokens


@dataclass(frozen=True, eq=False)
class Passage:
    """Tokens of a window, and the place of what is scored.

    Attributes:
        tokens: shape (n,); all but the last are read, the last `scored` are scored. For
            predictors of bytes they are bytes, and all may be scored.
        scored: how many.
        place: of the first token that is scored, among all tokens of the run.
    """

    tokens: Ids
    scored: int
    place: int


Batch = list[Passage]


def batches(passages: Iterable[Passage], size: int, tokens: int) -> Iterator[Batch]:
    """Batches of passages of much the same length, the longest first, so that little is padded.

    Args:
        passages: in any order.
        size: passages of a batch, at most.
        tokens: tokens of a batch, with padding, at most; one passage always goes.
    """
    batch: Batch = []
    longest = 0
    for passage in sorted(passages, key=lambda passage: (-len(passage.tokens), passage.place)):
        length = len(passage.tokens)
        near = longest - length <= max(longest // SLACK, SHORT)
        if batch and (not near or len(batch) == size or (len(batch) + 1) * longest > tokens):
            yield batch
            batch = []
        if not batch:
            longest = length
        batch.append(passage)
    if batch:
        yield batch
