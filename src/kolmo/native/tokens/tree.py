"""The tree of tokens in NumPy: masses of ids summed up a balanced tree, and decisions rounded on grids.

Sums go up the tree and are never differences, so that small masses stay as exact as large ones. Results here and in C
(`tree.c`, `heaps.c`) agree up to the rounding that the tolerance covers. Coding is in `reference.py`.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from typing import Any

import numpy as np
import numpy.typing as npt

GROUP = 256  # leaves whose masses are kept apart until their group is known
MIN_LOGIT = {4: -32.0, 8: -64.0}  # lower bound on logits minus the greatest, by itemsize: masses are never 0
SHIFTS = 8  # number of grids
MAX_POINTS = 32766  # boundaries of all grids

Floats = npt.NDArray[np.float64]
Rows = bytes | npt.NDArray[Any]  # C-contiguous


class TokenTree:
    """Ids as leaves of a balanced tree, with the grids that their decisions are rounded on.

    Args:
        tables: the result of `predictors.language_models.grids.tables`.
        vocabulary: number of ids.
    """

    def __init__(self, tables: bytes, vocabulary: int) -> None:
        values = np.frombuffer(tables, np.float64) if len(tables) % 8 == 0 else np.zeros(0)
        if (
            len(values) < 5
            or len(values) != 3 + 2 * values[2]
            or values[2] > MAX_POINTS
            or not 1 <= vocabulary <= 1 << 24
        ):
            raise ValueError("the tables are not those of a token tree")
        self.slack, self.span = float(values[0]), int(values[1])
        rest = values[3:].tolist()
        self.points: list[float] = rest[: len(rest) // 2]
        self.chances = [int(x) for x in rest[len(rest) // 2 :]]
        self.vocabulary = vocabulary
        self.groups = -(-vocabulary // GROUP)
        self.top_leaves = 1 << (self.groups - 1).bit_length()
        self.top_depth = self.top_leaves.bit_length() - 1

    def costs(self, logits: Rows, itemsize: int, targets: Rows, coded: bool) -> bytes:
        """Nats of each row's target, as doubles: -log of its probability, or its cost when coded on the first grid.

        The coder gives each side of a decision at least 2^-16, so very unlikely targets cost less when coded.
        """
        wanted = self.targets(targets)
        rows = self.rows(logits, itemsize, len(wanted))
        if coded:
            meter = Meter(self)
            return np.array(
                [meter.cost(self.masses(row, itemsize), t) for row, t in zip(rows, wanted, strict=True)]
            ).tobytes()
        costs = [
            math.log(float(self.masses(row, itemsize).sum())) + float(row.max()) - float(row[t])
            for row, t in zip(rows, wanted, strict=True)
        ]
        return np.array(costs, np.float64).tobytes()

    def odds(self, logits: Rows, itemsize: int, targets: Rows) -> bytes:
        """Log-odds of each level on the path to each row's target, as doubles; 0 where no decision is taken."""
        wanted = self.targets(targets)
        rows = self.rows(logits, itemsize, len(wanted))
        odds = [Odds(self).path(self.masses(row, itemsize), t) for row, t in zip(rows, wanted, strict=True)]
        return np.array(odds, np.float64).tobytes()

    def place(self, x: float) -> int:
        """Number of points at or below x, minus 1."""
        return bisect_right(self.points, x) - 1

    def chance(self, place: int, shift: int) -> int:
        """Probability of a 1, of 65536, in the cell of a grid."""
        middle = place - (place + SHIFTS - shift) % SHIFTS + SHIFTS // 2
        return self.chances[min(max(middle, 0), len(self.chances) - 1)]

    def near(self, place: int, x: float) -> int:
        """The grids with a boundary within the slack of x, as bits."""
        near = 0
        for i in range(place, max(place - SHIFTS, -1), -1):
            if not x - self.points[i] <= self.slack:
                break
            near |= 1 << i % SHIFTS
        for i in range(place + 1, min(place + SHIFTS + 1, len(self.points))):
            if not self.points[i] - x <= self.slack:
                break
            near |= 1 << i % SHIFTS
        return near

    def targets(self, data: Rows) -> list[int]:
        """Ids, checked."""
        targets: list[int] = np.frombuffer(data, np.int32).tolist()
        for target in targets:
            if not 0 <= target < self.vocabulary:
                raise ValueError(f"target {target} is not in the vocabulary")
        return targets

    def rows(self, logits: Rows, itemsize: int, count: int) -> npt.NDArray[np.floating]:
        """Logits of any float type, shape (count, vocabulary)."""
        if itemsize not in MIN_LOGIT or np.frombuffer(logits, np.uint8).size != count * self.vocabulary * itemsize:
            raise ValueError("needs a row of the vocabulary's logits for each target")
        return np.frombuffer(logits, f"<f{itemsize}").reshape(count, self.vocabulary)

    def masses(self, row: npt.NDArray[np.floating], itemsize: int) -> Floats:
        """exp(logit - greatest), never 0."""
        greatest = float(row.max()) if len(row) else math.nan
        if not math.isfinite(greatest):  # in NumPy the maximum with a NaN is a NaN
            raise ValueError("a logit is not finite")
        return np.exp(np.maximum(row.astype(np.float64) - greatest, MIN_LOGIT[itemsize]))

    def heap(self, masses: Floats, leaves: int) -> list[float]:
        """Sums of all nodes: node k has the children 2k and 2k + 1; missing leaves are empty."""
        level = np.zeros(leaves)
        level[: len(masses)] = masses
        if not (np.isfinite(level).all() and (level >= 0).all() and level.any()):
            raise ValueError("a logit is not finite")
        parts = [level]
        while len(level) > 1:
            level = level[0::2] + level[1::2]
            parts.append(level)
        return [0.0, *(value for part in reversed(parts) for value in part.tolist())]

    def top(self, masses: Floats) -> Floats:
        """Sums of the groups."""
        padded = np.zeros(self.groups * GROUP)
        padded[: len(masses)] = masses
        return np.asarray(padded.reshape(self.groups, GROUP).sum(1))


def shift_of(choice: int, decision: int) -> int:
    """The grid of a span's decision."""
    h = choice * 0x9E3779B1 + decision * 0x85EBCA77 & 0xFFFFFFFF
    h = (h ^ h >> 15) * 0xC2B2AE3D & 0xFFFFFFFF
    return h >> 29


class Path:
    """The walk down a heap, which all classes below share."""

    def __init__(self, tree: TokenTree) -> None:
        self.tree = tree

    def _decide(self, level: int, x: float, right: bool) -> int:
        raise NotImplementedError

    def _pass(self) -> None:
        """A level without a decision."""

    def _descend(self, masses: Floats, leaves: int, first: int, width: int, level: int, place: int) -> int:
        heap = self.tree.heap(masses, leaves)
        node, low, span = 1, 0, leaves
        while node < leaves:
            span //= 2
            bit = 0
            if first + (low + span) * width < self.tree.vocabulary:  # else the right half is empty
                bit = self._decide(level, math.log(heap[2 * node + 1] / heap[2 * node]), place >= low + span)
            else:
                self._pass()
            node = 2 * node + bit
            low += span * bit
            level += 1
        return low

    def _group(self, top: Floats, place: int = 0) -> int:
        return self._descend(top, self.tree.top_leaves, 0, GROUP, 0, place)

    def _leaf(self, group: int, leaf: Floats, place: int = 0) -> int:
        first = group * GROUP
        return first + self._descend(leaf, GROUP, first, 1, self.tree.top_depth, place)

    def _walk(self, masses: Floats, target: int) -> None:
        first = target // GROUP * GROUP
        self._group(self.tree.top(masses), target // GROUP)
        self._leaf(target // GROUP, masses[first : first + GROUP], target % GROUP)


class Meter(Path):
    """Adds up the cost of a path on the first grid."""

    def cost(self, masses: Floats, target: int) -> float:
        """Cost in nats."""
        self._nats = 0.0
        self._walk(masses, target)
        return self._nats

    def _decide(self, level: int, x: float, right: bool) -> int:
        p1 = self.tree.chance(self.tree.place(x), 0)
        self._nats -= math.log((p1 if right else 65536 - p1) / 65536)
        return int(right)


class Odds(Path):
    """Records the log-odds of a path."""

    def path(self, masses: Floats, target: int) -> list[float]:
        """Log-odds of each level."""
        self._odds = [0.0] * (self.tree.top_depth + GROUP.bit_length() - 1)
        self._walk(masses, target)
        return self._odds

    def _decide(self, level: int, x: float, right: bool) -> int:
        self._odds[level] = x
        return int(right)
