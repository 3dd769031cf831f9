"""The general kinds: data that the context mixer of a level codes, and data that looks random.

What they are not: text that is predicted with a network, whose kind is in `predictors.embedded.neural`.
"""

from __future__ import annotations

from collections.abc import Mapping

from kolmo.predictors.embedded import context_mixing
from kolmo.predictors.embedded.context_mixing import EXPANSION, ContextMixingModel, Shape, digest_of, mixer_memory
from kolmo.predictors.embedded.kinds.base import Kind


class Plain(Kind):
    """Data of no special kind, coded by a level's context mixer.

    Args:
        levels: level -> shape, and log2 of the most bytes of its trees.
    """

    name = "plain"
    code = 1

    def __init__(self, levels: Mapping[int, tuple[Shape, int]]) -> None:
        self._levels = levels

    def model(self, level: int, size: int, parameters: tuple[int, ...] = ()) -> ContextMixingModel:
        """See `Kind.model`."""
        shape, bits = self._levels[level]
        return context_mixing.start(shape, size, bits)

    def memory(self, level: int, size: int) -> int:
        """See `Kind.memory`."""
        shape, bits = self._levels[level]
        return mixer_memory(shape, size, bits)

    def expansion(self, level: int) -> int:
        """See `Kind.expansion`."""
        return EXPANSION[self._levels[level][0].name]

    def digest(self, level: int) -> bytes:
        """See `Kind.digest`."""
        return digest_of(*self._levels[level])


class Quick(Plain):
    """Data that looks random, coded by the mixer of level 4, or of the level where that is faster."""

    name = "packed"
    code = 2

    def __init__(self) -> None:
        super().__init__(
            {level: context_mixing.LEVELS[min(level, 4)] for level in context_mixing.LEVELS},
        )


PLAIN = Plain.code
QUICK = Quick.code
