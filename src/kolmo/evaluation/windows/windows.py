"""Windows: which tokens a model reads at once, and which of them it is asked for.

A model reads at most `block` tokens before it predicts one. Longer texts are read in windows that overlap, so that
every token but the first ones has at least `block - stride` tokens before it, and each is scored once:

    12 tokens, 0 to b, block 8, stride 3, mode `strict`; s is the start, which conditions and is never scored:

    reads              scores
    s 0123456          01234567
    s    3456789       89a
    s     456789a      b           the last window reaches back as far as the others

After Huang et al., "Compression Represents Intelligence Linearly" (2024), section 2.3 and its published script
(`paper`), and the rules of other evaluators, for their numbers (`rolling`, `chunks`, `halves`).

What it is not: it knows no model and no text, only how many tokens there are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple


class Window(NamedTuple):
    """The model reads (the start and) tokens `first` to `last - 1`; the last `scored` up to `last` are scored.

    Attributes:
        first: place of the first token that is read, or scored.
        last: place behind the last token that is scored; that one is not read.
        scored: how many are scored.
        start: whether the start is read before them.
    """

    first: int
    last: int
    scored: int
    start: bool


Plan = Callable[[int, int, int], Iterator[Window]]


def strict(count: int, block: int, stride: int) -> Iterator[Window]:
    """All of `count` tokens of a document; the start stands before every window, and counts as one of `block`."""
    done = min(count, block)
    if count:
        yield Window(0, done, done, True)
    while done < count:
        scored = min(stride, count - done)
        done += scored
        yield Window(done - block, done, scored, True)


def paper(count: int, block: int, stride: int) -> Iterator[Window]:
    """Full windows of `block + 1` tokens: floor((count - block - 1) / stride + 1). Token 0 and the tail go unscored.

    The first scores its tokens 1 to `block`, each other its last `stride`.
    """
    for first in range(0, count - block, stride):
        yield Window(first, first + block + 1, stride if first else block, False)


def rolling(count: int, block: int, stride: int) -> Iterator[Window]:
    """As lm-evaluation-harness: disjoint, the last reaches back; the start stands before the first alone.

    `stride` plays no part.
    """
    done = min(count, block)
    if count:
        yield Window(0, done, done, True)
    while done < count:
        scored = min(block, count - done)
        done += scored
        yield Window(done - block - 1, done, scored, False)


def chunks(count: int, block: int, stride: int) -> Iterator[Window]:
    """As uncheatable_eval before its `bos_mode`: chunks of `block` tokens, whose first goes unscored.

    `stride` plays no part.
    """
    for first in range(0, count, block):
        last = min(first + block, count)
        if last - first > 1:
            yield Window(first, last, last - first - 1, False)


def chunks_after_start(count: int, block: int, stride: int) -> Iterator[Window]:
    """As uncheatable_eval since its `bos_mode`: chunks of `block` tokens behind the start, all of which are scored.

    `stride` plays no part.
    """
    for first in range(0, count, block):
        last = min(first + block, count)
        yield Window(first, last, last - first, True)


def halves(count: int, block: int, stride: int) -> Iterator[Window]:
    """As llama.cpp's perplexity: full chunks, the start in place of their first token, the second half is scored.

    Of 512 tokens that is the last 255. `stride` plays no part.
    """
    for first in range(0, count - block + 1, block):
        yield Window(first + 1, first + block, block - block // 2 - 1, True)


def whole(count: int, block: int, stride: int) -> Iterator[Window]:
    """One window without limit, for predictors that need none."""
    if count:
        yield Window(0, count, count, True)
