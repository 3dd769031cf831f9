"""Window rules: which tokens a model reads together, and which of them are scored.

A model reads at most `block` tokens before it predicts one. Longer texts are read in overlapping windows, so that every
token but the first ones has at least `block - stride` tokens of context, and each is scored once:

    12 tokens, 0 to b, block 8, stride 3, mode `strict`; s is the start token, which is context and is never scored:

    reads              scores
    s 0123456          01234567
    s    3456789       89a
    s     456789a      b           the last window has as much context as the others

After Huang et al., "Compression Represents Intelligence Linearly" (2024), section 2.3 and its published script
(`paper`), and the rules of other evaluators, to reproduce their numbers (`rolling`, `chunks`, `halves`). Every rule
takes the number of tokens (`count`), `block` and `stride`, and yields windows in order.

What it is not: it does not handle tokens or models, only positions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple


class Window(NamedTuple):
    """One window: the tokens `first` to `last - 1`, of which the last `scored` are scored. The last one is not read.

    Attributes:
        first: the position of the first token.
        last: one past the position of the last token.
        scored: the number of tokens that are scored, at the end of the window.
        start: whether the model reads the start token before the window.
    """

    first: int
    last: int
    scored: int
    start: bool


WindowRule = Callable[[int, int, int], Iterator[Window]]


def strict(count: int, block: int, stride: int) -> Iterator[Window]:
    """Score all tokens; every window begins with the start token, which counts towards `block`."""
    done = min(count, block)
    if count:
        yield Window(0, done, done, True)
    while done < count:
        scored = min(stride, count - done)
        done += scored
        yield Window(done - block, done, scored, True)


def paper(count: int, block: int, stride: int) -> Iterator[Window]:
    """Full windows of `block + 1` tokens: floor((count - block - 1) / stride + 1) of them.

    The first window scores its tokens 1 to `block`, every other its last `stride` tokens. Token 0 and the tokens after
    the last full window are not scored.
    """
    for first in range(0, count - block, stride):
        yield Window(first, first + block + 1, stride if first else block, False)


def rolling(count: int, block: int, stride: int) -> Iterator[Window]:
    """The rule of lm-evaluation-harness: disjoint windows; the last is extended back to full length.

    The start token precedes only the first window. `stride` is not used.
    """
    done = min(count, block)
    if count:
        yield Window(0, done, done, True)
    while done < count:
        scored = min(block, count - done)
        done += scored
        yield Window(done - block - 1, done, scored, False)


def chunks(count: int, block: int, stride: int) -> Iterator[Window]:
    """The rule of uncheatable_eval before its `bos_mode`: chunks of `block` tokens, the first of each not scored.

    `stride` is not used.
    """
    for first in range(0, count, block):
        last = min(first + block, count)
        if last - first > 1:
            yield Window(first, last, last - first - 1, False)


def chunks_after_start(count: int, block: int, stride: int) -> Iterator[Window]:
    """The rule of uncheatable_eval since its `bos_mode`: chunks of `block` tokens after the start token, all scored.

    `stride` is not used.
    """
    for first in range(0, count, block):
        last = min(first + block, count)
        yield Window(first, last, last - first, True)


def full_chunks(count: int, block: int, stride: int) -> Iterator[Window]:
    """The rule of papers on quantised weights: full chunks of `block` tokens, the first of each not scored.

    Nothing is read before a chunk, and the tokens after the last full one are lost. `stride` is not used.
    """
    for first in range(0, count - block + 1, block):
        yield Window(first, first + block, block - 1, False)


def halves(count: int, block: int, stride: int) -> Iterator[Window]:
    """The rule of llama.cpp's perplexity: full chunks of `block` tokens, of which the second half is scored.

    The start token replaces the first token of each chunk. Of 512 tokens the last 255 are scored. `stride` is not used.
    """
    for first in range(0, count - block + 1, block):
        yield Window(first + 1, first + block, block - block // 2 - 1, True)


def whole(count: int, block: int, stride: int) -> Iterator[Window]:
    """One window with all tokens, for predictors without a limit. `block` and `stride` are not used."""
    if count:
        yield Window(0, count, count, True)
