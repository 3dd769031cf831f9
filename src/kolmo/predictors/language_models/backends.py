"""The interface of a language model that codes: a vocabulary, and logits of texts that it reads in lockstep.

`SlidingLanes` read a text through a window that slides over it: their cache forgets its oldest tokens, and the others
are not read again. After Xiao et al., "Efficient Streaming Language Models with Attention Sinks" (ICLR 2024): the first
tokens stay, since models attend to them whatever they are, and positions are counted in the cache, so that none is
beyond the trained ones. When the cache is full, a quarter is dropped behind the first tokens; the rest move up, which a
model with rotary positions supports by turning its keys. Encoder and decoder drop after the same tokens, so both
compute the same.

What it is not: an implementation. `torch_models.backend` runs transformers, `gguf_models.backend` llama.cpp.
"""

from __future__ import annotations

from typing import Any, Protocol, cast

import numpy as np
import numpy.typing as npt

from kolmo.predictors.language_models.vocabulary import Vocabulary

Ids = npt.NDArray[np.int32]
Logits = npt.NDArray[np.floating[Any]]

MAX_LOGITS_BYTES = 1 << 26  # bytes of logits that are in memory at once
GROUP = 256  # tokens whose masses are summed first (native/tokens/tokens.h)
FIRST_TOKENS = 4  # most tokens that stay, the start token included
DROPPED_PART = 4  # when the window is full, context / DROPPED_PART tokens are dropped


class Lanes(Protocol):
    """Texts that a model reads in lockstep."""

    def feed(self, tokens: npt.NDArray[np.int64], wanted: int) -> Logits:
        """Read tokens, shape (lanes, length); logits after the last `wanted`, (lanes, wanted, size), C-contiguous.

        float32 or float64, in nats up to a constant of each row.
        """
        ...


class Sums(Protocol):
    """Logits that stay on their device; only sums of their masses, exp(logit - greatest), are copied to the host."""

    def top(self) -> npt.NDArray[np.float64]:
        """Sums over the groups of 256 tokens, shape (lanes, wanted, groups)."""
        ...

    def leaf(self, groups: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """Masses of the tokens of one group each, for groups of shape (lanes, wanted): (lanes, wanted, 256)."""
        ...


class DeviceLanes(Lanes, Protocol):
    """Lanes whose logits need not leave their device."""

    def feed_sums(self, tokens: npt.NDArray[np.int64], wanted: int) -> Sums:
        """Like `feed`, but the logits stay on the device."""
        ...


class Backend(Protocol):
    """A network that is loaded."""

    @property
    def sums(self) -> bool:
        """Whether its lanes are `DeviceLanes`, so that coding does without whole rows of logits."""
        ...

    @property
    def vocabulary(self) -> Vocabulary:
        """Tokens and their bytes."""
        ...

    @property
    def size(self) -> int:
        """Logits of a row."""
        ...

    @property
    def start(self) -> int:
        """The token before the first."""
        ...

    @property
    def window(self) -> int | None:
        """Length in tokens of the model's context window; None where there is no limit."""
        ...

    @property
    def itemsize(self) -> int:
        """Bytes of a logit, 4 or 8."""
        ...

    @property
    def continues(self) -> bool:
        """Whether lanes that have read some tokens may then read several at once."""
        ...

    @property
    def slides(self) -> bool:
        """Whether its lanes are `SlidingReader`s."""
        ...

    @property
    def token_bytes(self) -> int:
        """Bytes of a token's keys and values in the cache."""
        ...

    def lanes(self, count: int, threads: int) -> Lanes:
        """New lanes, which have read nothing."""
        ...


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
