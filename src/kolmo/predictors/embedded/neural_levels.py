"""Levels of the predictors `neural` (5 to 9) and `network` (1 to 9): the mixer that uses a network's predictions.

A tiny network takes 2 to 3 microseconds a byte, of which the mixers of levels 5 to 9 would be two thirds or more of the
whole. Levels 1 to 4 have mixers with fewer contexts. docs/neural.md specifies all of them.

What it is not: the mixers' inputs and weight sets, which are those of `predictors.context_mixing` and the kernels.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from kolmo.predictors.embedded import context_mixing
from kolmo.predictors.embedded.context_mixing import Shape


@dataclass(frozen=True)
class Level:
    """Shapes of a mixer with and without a network; log2 of the most bytes of their trees; least bytes of a lane."""

    shape: Shape
    plain: Shape
    table_bits: int
    lane: int
    most_lanes: int


FULL = replace(
    context_mixing.FULL,
    name="neural-full",
    contexts=(*(c for c in context_mixing.FULL.contexts if c not in (18, 29)), 5, 31, 35, 37, 38, 39, 42, 46),
    selectors=(1, 2, 3, 4, 5, 6, 7, 13, 15),
    boost=1600,
    final_rate=45,
    final_boost=360,
    network=True,
)
LARGE = replace(
    context_mixing.LARGE,
    name="neural-large",
    contexts=(*(c for c in context_mixing.LARGE.contexts if c not in (5, 18)), 34, 36, 37, 38, 39),  # 41
    selectors=(1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 13, 15),
    boost=1600,
    final_rate=45,
    final_boost=360,
    network=True,
)
# The kernels compile a path of its own for the counts of each of these two; their inputs fill vectors too.
FAST = replace(FULL, name="neural-fast", contexts=(1, 2, 3, 5, 8), selectors=(1, 14))
LIGHT = replace(
    FULL,
    name="neural-light",
    contexts=(1, 2, 3, 4, 6, 8, 9, 15, 17, 19, 20, 25, 45),
    selectors=(1, 14, 2, 3, 6),
)
SHAPES = (FAST, LIGHT, FULL, LARGE)
LEVELS = {
    5: Level(FULL, context_mixing.LARGE, 27, 1 << 21, 4),
    6: Level(FULL, context_mixing.LARGE, 28, 1 << 30, 1),
    7: Level(LARGE, context_mixing.LARGE, 27, 1 << 30, 1),
    8: Level(LARGE, context_mixing.LARGE, 28, 1 << 30, 1),
    9: Level(LARGE, context_mixing.LARGE, 29, 1 << 30, 1),
}
# Of `network` alone: the network that ships takes several times as long as any mixer.
SMALL_LEVELS = {
    1: Level(FAST, context_mixing.FAST, 22, 1 << 21, 4),
    2: Level(LIGHT, context_mixing.LIGHT, 22, 1 << 21, 4),
    3: Level(LIGHT, context_mixing.LIGHT, 24, 1 << 21, 4),
    4: Level(LIGHT, context_mixing.MEDIUM, 26, 1 << 21, 4),
}

__all__ = ["FAST", "FULL", "LARGE", "LEVELS", "LIGHT", "SHAPES", "SMALL_LEVELS", "Level"]
