"""A window that slides: lanes whose cache forgets its oldest tokens, without reading the others again.

After Xiao et al., "Efficient Streaming Language Models with Attention Sinks" (ICLR 2024): the first tokens stay, since
models attend to them whatever they are, and positions are counted in the cache, so that none is beyond the trained
ones. When the cache is full, a quarter is dropped behind the first tokens; the rest move up, which a model with rotary
positions supports by turning its keys. Encoder and decoder drop after the same tokens, so both compute the same.

What it is not: the change of a cache, which is the backend's (`SlidingReader.drop`).
"""

from __future__ import annotations

from typing import Protocol, cast

import numpy as np
import numpy.typing as npt

from kolmo.predictors.language_models.backends import Backend, DeviceLanes, Lanes, Logits, Sums

FIRST_TOKENS = 4  # most tokens that stay, the start token included
DROPPED_PART = 4  # when the window is full, context / DROPPED_PART tokens are dropped


class SlidingReader(Lanes, Protocol):
    """Lanes that can forget."""

    def drop(self, first: int, count: int) -> None:
        """Forget `count` tokens behind the `first` ones; those behind them move up by as many positions."""
        ...


class SlidingLanes:
    """Lanes of a backend that slides (`Backend.slides`).

    Args:
        backend: the network.
        count: number of lanes.
        threads: of the backend.
        context: most tokens in the cache, at least 4.
    """

    def __init__(self, backend: Backend, count: int, threads: int, context: int) -> None:
        self._reader = cast(SlidingReader, backend.lanes(count, threads))
        self._context, self._held = context, 0
        self._step = context // DROPPED_PART
        self._first = min(FIRST_TOKENS, self._step)

    @property
    def room(self) -> int:
        """Most tokens that may be read at once."""
        return self._context - self._held or self._step

    def feed(self, tokens: npt.NDArray[np.int64], wanted: int) -> Logits:
        """Read tokens (lanes, length), at most `room`; logits after the last `wanted`, (lanes, wanted, size)."""
        self._take(tokens.shape[1])
        return self._reader.feed(tokens, wanted)

    def feed_sums(self, tokens: npt.NDArray[np.int64], wanted: int) -> Sums:
        """Like `feed`, but the logits stay on the device."""
        self._take(tokens.shape[1])
        return cast(DeviceLanes, self._reader).feed_sums(tokens, wanted)

    def _take(self, tokens: int) -> None:
        assert tokens <= self.room
        if self._held == self._context:
            self._reader.drop(self._first, self._step)
            self._held -= self._step
        self._held += tokens
