"""Tokens as binary decisions, in NumPy: the specification of `tokens.h` and the fallback where no C was built.

The masses of ids, exp(logit), are summed up a balanced tree over the ids; a token is the path down to its leaf. Sums go
up the tree and are never differences, so that small masses stay as exact as large ones. Log-odds of decisions are
rounded on one of two staggered grids (`predictors.grids`). Here and in C they agree up to the rounding that the
tolerance covers, so that each decodes what the other wrote.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from typing import Any

import numpy as np
import numpy.typing as npt

from kolmo.native.reference_coder import BinaryDecoder, BinaryEncoder

GROUP = 256  # leaves whose masses are kept apart until their group is known
LEAST = {4: -32.0, 8: -64.0}  # of logits below the greatest, by itemsize: masses are never 0
DEPTH = 32

Floats = npt.NDArray[np.float64]
Rows = bytes | npt.NDArray[Any]  # C-contiguous


class TokenTree:
    """Ids as leaves of a balanced tree, with the grids that their decisions are rounded on.

    Args:
        tables: what `predictors.grids.tables` makes.
        vocabulary: ids.
    """

    def __init__(self, tables: bytes, vocabulary: int) -> None:
        values = np.frombuffer(tables, np.float64) if len(tables) % 8 == 0 else np.zeros(0)
        if len(values) < 8 or len(values) != 6 + 2 * values[2] + 2 * values[3] or not 1 <= vocabulary <= 1 << 24:
            raise ValueError("these are no grids of a token tree")
        self.slack, self.rarity = float(values[0]), int(values[1])
        a, b = int(values[2]), int(values[3])
        rest = values[4:].tolist()
        self.bounds = rest[:a], rest[a : a + b]
        chances = [int(x) for x in rest[a + b :]]
        self.chances = chances[: a + 1], chances[a + 1 :]
        self.vocabulary = vocabulary
        self.groups = -(-vocabulary // GROUP)
        self.top_leaves = 1 << (self.groups - 1).bit_length()
        self.top_depth = self.top_leaves.bit_length() - 1

    def costs(self, logits: Rows, itemsize: int, targets: Rows, coded: bool) -> bytes:
        """Nats of each row's target, as doubles: -log of its probability, or what coding it on grid A costs.

        The coder gives no side of a decision less than 2^-16, so that very unlikely targets cost less when coded.
        """
        wanted = self.targets(targets)
        rows = self.rows(logits, itemsize, len(wanted))
        if coded:
            meter = _Meter(self)
            return np.array(
                [meter.cost(self.masses(row, itemsize), t) for row, t in zip(rows, wanted, strict=True)]
            ).tobytes()
        costs = [
            math.log(float(self.masses(row, itemsize).sum())) + float(row.max()) - float(row[t])
            for row, t in zip(rows, wanted, strict=True)
        ]
        return np.array(costs, np.float64).tobytes()

    def targets(self, data: Rows) -> list[int]:
        """Ids, checked."""
        targets: list[int] = np.frombuffer(data, np.int32).tolist()
        for target in targets:
            if not 0 <= target < self.vocabulary:
                raise ValueError(f"target {target} is not in the vocabulary")
        return targets

    def rows(self, logits: Rows, itemsize: int, count: int) -> npt.NDArray[np.floating]:
        """Logits of any float type, shape (count, vocabulary)."""
        if itemsize not in LEAST or np.frombuffer(logits, np.uint8).size != count * self.vocabulary * itemsize:
            raise ValueError("needs a row of the vocabulary's logits for each target")
        return np.frombuffer(logits, f"<f{itemsize}").reshape(count, self.vocabulary)

    def masses(self, row: npt.NDArray[np.floating], itemsize: int) -> Floats:
        """exp(logit - greatest), never 0."""
        greatest = float(row.max()) if len(row) else math.nan
        if not math.isfinite(greatest):  # a NaN is greater than all in NumPy
            raise ValueError("a logit is no finite number")
        return np.exp(np.maximum(row.astype(np.float64) - greatest, LEAST[itemsize]))

    def heap(self, masses: Floats, leaves: int) -> list[float]:
        """Sums of all nodes: node k has the children 2k and 2k + 1; missing leaves are empty."""
        level = np.zeros(leaves)
        level[: len(masses)] = masses
        if not (np.isfinite(level).all() and (level >= 0).all() and level.any()):
            raise ValueError("a logit is no finite number")
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


class _Path:
    """What encoder and decoder share: the flags seen so far, by level, and the way down a heap."""

    def __init__(self, tree: TokenTree) -> None:
        self._tree = tree
        self._seen = [0] * DEPTH
        self._raised = [0] * DEPTH

    def flags(self) -> int:
        """Decisions so far that lay near a boundary."""
        return sum(self._raised)

    def _flag_chance(self, level: int) -> int:
        p = (self._raised[level] + 1 << 16) // (self._seen[level] + (1 << self._tree.rarity))
        return min(max(p, 1), 32768)

    def _flag_seen(self, level: int, raised: int) -> None:
        self._seen[level] += 1
        self._raised[level] += raised

    def _decide(self, level: int, x: float, right: bool) -> int:
        raise NotImplementedError

    def _descend(self, masses: Floats, leaves: int, first: int, width: int, level: int, place: int) -> int:
        heap = self._tree.heap(masses, leaves)
        node, low, span = 1, 0, leaves
        while node < leaves:
            span //= 2
            bit = 0
            if first + (low + span) * width < self._tree.vocabulary:  # else the right half is empty
                bit = self._decide(level, math.log(heap[2 * node + 1] / heap[2 * node]), place >= low + span)
            node = 2 * node + bit
            low += span * bit
            level += 1
        return low

    def _group(self, top: Floats, place: int = 0) -> int:
        return self._descend(top, self._tree.top_leaves, 0, GROUP, 0, place)

    def _leaf(self, group: int, leaf: Floats, place: int = 0) -> int:
        first = group * GROUP
        return first + self._descend(leaf, GROUP, first, 1, self._tree.top_depth, place)


class _Meter(_Path):
    """Adds up what a path costs on grid A."""

    def cost(self, masses: Floats, target: int) -> float:
        """Nats."""
        self._nats = 0.0
        first = target // GROUP * GROUP
        self._group(self._tree.top(masses), target // GROUP)
        self._leaf(target // GROUP, masses[first : first + GROUP], target % GROUP)
        return self._nats

    def _decide(self, level: int, x: float, right: bool) -> int:
        p1 = self._tree.chances[0][bisect_right(self._tree.bounds[0], x)]
        self._nats -= math.log((p1 if right else 65536 - p1) / 65536)
        return int(right)


class TokenEncoder(_Path):
    """Codes tokens into bytes of their own."""

    def __init__(self, tree: TokenTree) -> None:
        super().__init__(tree)
        self._coder = BinaryEncoder()

    def encode(self, logits: Rows, itemsize: int, targets: Rows) -> None:
        """Code a target for each row of logits (a C-contiguous array, or bytes)."""
        tree = self._tree
        wanted = tree.targets(targets)
        for row, target in zip(tree.rows(logits, itemsize, len(wanted)), wanted, strict=True):
            masses = tree.masses(row, itemsize)
            first = target // GROUP * GROUP
            self._encode(tree.top(masses), masses[first : first + GROUP], target)

    def encode_sums(self, top: Rows, leaf: Rows, targets: Rows) -> None:
        """The same from sums that a device made: of all groups, and of the leaves of the target's group."""
        tree = self._tree
        wanted = tree.targets(targets)
        tops = np.frombuffer(top, np.float64).reshape(len(wanted), tree.groups)
        leaves = np.frombuffer(leaf, np.float64).reshape(len(wanted), GROUP)
        for row, masses, target in zip(tops, leaves, wanted, strict=True):
            self._encode(row, masses, target)

    def _encode(self, top: Floats, leaf: Floats, target: int) -> None:
        group = self._group(top, target // GROUP)
        self._leaf(group, leaf, target % GROUP)

    def _decide(self, level: int, x: float, right: bool) -> int:
        tree = self._tree
        grid = 0
        bounds = tree.bounds[0]
        cell = bisect_right(bounds, x)
        if tree.slack >= 0:
            near = (cell > 0 and x - bounds[cell - 1] <= tree.slack) or (
                cell < len(bounds) and bounds[cell] - x <= tree.slack
            )
            grid = int(near)
            self._coder.encode(grid, self._flag_chance(level))
            self._flag_seen(level, grid)
            if grid:
                cell = bisect_right(tree.bounds[1], x)
        self._coder.encode(int(right), tree.chances[grid][cell])
        return int(right)

    def finish(self) -> bytes:
        """Close the interval and return all bytes."""
        return self._coder.finish()


class TokenDecoder(_Path):
    """Decodes what `TokenEncoder` wrote, given nearly the same logits."""

    def __init__(self, tree: TokenTree, payload: bytes) -> None:
        super().__init__(tree)
        self._coder = BinaryDecoder(payload)

    def decode(self, logits: Rows, itemsize: int) -> int:
        """The next token, from one row of logits.

        Raises:
            CorruptError: the payload ends too early.
        """
        tree = self._tree
        masses = tree.masses(tree.rows(logits, itemsize, 1)[0], itemsize)
        group = self._group(tree.top(masses))
        return self._leaf(group, masses[group * GROUP : group * GROUP + GROUP])

    def group(self, top: Rows) -> int:
        """The next token's group, from the sums of all groups."""
        return self._group(np.frombuffer(top, np.float64))

    def leaf(self, group: int, masses: Rows) -> int:
        """The next token, from the masses of its group's leaves."""
        return self._leaf(group, np.frombuffer(masses, np.float64))

    def _decide(self, level: int, x: float, right: bool) -> int:
        tree = self._tree
        grid = 0
        if tree.slack >= 0:
            grid = self._coder.decode(self._flag_chance(level))
            self._flag_seen(level, grid)
        return self._coder.decode(tree.chances[grid][bisect_right(tree.bounds[grid], x)])
