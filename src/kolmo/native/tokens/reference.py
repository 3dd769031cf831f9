"""Tokens as binary decisions, in NumPy: the specification of `tokens.h` and the fallback where no C was built.

The masses of ids, exp(logit), are summed up a balanced tree over the ids; a token is the path down to its leaf. Sums go
up the tree and are never differences, so that small masses stay as exact as large ones. Log-odds of decisions are
rounded on one of eight grids, which a number coded for each span of tokens selects
(`predictors.language_models.grids`). Results here and in C agree up to the rounding that the tolerance covers, so that
each decodes what the other wrote.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from typing import Any

import numpy as np
import numpy.typing as npt

from kolmo.errors import CorruptError
from kolmo.native.coder.reference import BinaryDecoder, BinaryEncoder

GROUP = 256  # leaves whose masses are kept apart until their group is known
MIN_LOGIT = {4: -32.0, 8: -64.0}  # lower bound on logits minus the greatest, by itemsize: masses are never 0
SHIFTS = 8  # number of grids
MAX_CHOICES = 65536  # most choices of grids for a span

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
        if len(values) < 5 or len(values) != 3 + 2 * values[2] or not 1 <= vocabulary <= 1 << 24:
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
            meter = _Meter(self)
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
        odds = [_Odds(self).path(self.masses(row, itemsize), t) for row, t in zip(rows, wanted, strict=True)]
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


class _Path:
    """The walk down a heap, which all classes below share."""

    def __init__(self, tree: TokenTree) -> None:
        self._tree = tree

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

    def _walk(self, masses: Floats, target: int) -> None:
        first = target // GROUP * GROUP
        self._group(self._tree.top(masses), target // GROUP)
        self._leaf(target // GROUP, masses[first : first + GROUP], target % GROUP)


class _Meter(_Path):
    """Adds up the cost of a path on the first grid."""

    def cost(self, masses: Floats, target: int) -> float:
        """Cost in nats."""
        self._nats = 0.0
        self._walk(masses, target)
        return self._nats

    def _decide(self, level: int, x: float, right: bool) -> int:
        p1 = self._tree.chance(self._tree.place(x), 0)
        self._nats -= math.log((p1 if right else 65536 - p1) / 65536)
        return int(right)


class _Odds(_Path):
    """Records the log-odds of a path."""

    def path(self, masses: Floats, target: int) -> list[float]:
        """Log-odds of each level."""
        self._odds = [0.0] * (self._tree.top_depth + GROUP.bit_length() - 1)
        self._walk(masses, target)
        return self._odds

    def _decide(self, level: int, x: float, right: bool) -> int:
        self._odds[level] = x
        return int(right)


class _Again:
    """Adaptive probability that the next choice of grids is taken, from earlier spans."""

    def __init__(self) -> None:
        self.seen = self.again = 0

    def chance(self) -> int:
        """Probability of a 1, of 65536."""
        return min(max((self.again + 3 << 16) // (self.seen + 4), 1), 65535)

    def update(self, again: int) -> None:
        """Learn from a decision."""
        self.seen += 1
        self.again += again


class TokenEncoder(_Path):
    """Codes tokens into a payload."""

    def __init__(self, tree: TokenTree) -> None:
        super().__init__(tree)
        self._coder = BinaryEncoder()
        self._again = _Again()
        self._tokens = 0  # number of tokens of the span so far
        self._made: list[tuple[int, int]] = []  # place and bit of each decision of the span
        self._near: list[tuple[int, int]] = []  # index of a decision, and the grids with a boundary too near to it

    def encode(self, logits: Rows, itemsize: int, targets: Rows) -> None:
        """Code a target for each row of logits (a C-contiguous array, or bytes).

        Raises:
            OverflowError: a span has no choice of grids that keeps its decisions from a boundary; use shorter spans.
        """
        tree = self._tree
        wanted = tree.targets(targets)
        for row, target in zip(tree.rows(logits, itemsize, len(wanted)), wanted, strict=True):
            masses = tree.masses(row, itemsize)
            first = target // GROUP * GROUP
            self._encode(tree.top(masses), masses[first : first + GROUP], target)

    def encode_sums(self, top: Rows, leaf: Rows, targets: Rows) -> None:
        """Like `encode`, from sums that a device computed: of all groups, and of the leaves of the target's group."""
        tree = self._tree
        wanted = tree.targets(targets)
        tops = np.frombuffer(top, np.float64).reshape(len(wanted), tree.groups)
        leaves = np.frombuffer(leaf, np.float64).reshape(len(wanted), GROUP)
        for row, masses, target in zip(tops, leaves, wanted, strict=True):
            self._encode(row, masses, target)

    def _encode(self, top: Floats, leaf: Floats, target: int) -> None:
        group = self._group(top, target // GROUP)
        self._leaf(group, leaf, target % GROUP)
        if self._tree.span:
            self._tokens += 1
            if self._tokens == self._tree.span:
                self._encode_span()

    def _decide(self, level: int, x: float, right: bool) -> int:
        tree = self._tree
        place = tree.place(x)
        if not tree.span:
            self._coder.encode(int(right), tree.chance(place, 0))
            return int(right)
        near = tree.near(place, x)
        if near:
            self._near.append((len(self._made), near))
        self._made.append((place, int(right)))
        return int(right)

    def _encode_span(self) -> None:
        """Code the first choice without a decision too near to a boundary, and then the decisions."""
        if not self._tokens:
            return
        for choice in range(MAX_CHOICES):
            if not any(near >> shift_of(choice, decision) & 1 for decision, near in self._near):
                break
        else:
            raise OverflowError("no choice of grids keeps all decisions of a span from a boundary")
        for k in range(choice + 1):
            again = int(k < choice)
            self._coder.encode(again, self._again.chance())
            self._again.update(again)
        for decision, (place, bit) in enumerate(self._made):
            self._coder.encode(bit, self._tree.chance(place, shift_of(choice, decision)))
        self._made.clear()
        self._near.clear()
        self._tokens = 0

    def choices(self) -> int:
        """Number of spans so far, each with a choice of grids."""
        return self._again.seen - self._again.again

    def finish(self) -> bytes:
        """Code the last span, close the interval and return all bytes."""
        self._encode_span()
        return self._coder.finish()


class TokenDecoder(_Path):
    """Decodes what `TokenEncoder` wrote, given nearly the same logits."""

    def __init__(self, tree: TokenTree, payload: bytes) -> None:
        super().__init__(tree)
        self._coder = BinaryDecoder(payload)
        self._again = _Again()
        self._tokens = self._choice = self._made = 0

    def decode(self, logits: Rows, itemsize: int) -> int:
        """The next token, from one row of logits.

        Raises:
            CorruptError: the payload ends too early, or a span has no choice of grids.
        """
        tree = self._tree
        masses = tree.masses(tree.rows(logits, itemsize, 1)[0], itemsize)
        group = self.group(tree.top(masses))
        return self._leaf(group, masses[group * GROUP : group * GROUP + GROUP])

    def group(self, top: Rows) -> int:
        """The next token's group, from the sums of all groups."""
        if self._tree.span:
            if self._tokens == 0:
                self._choice, self._made = self._decode_choice(), 0
            self._tokens = (self._tokens + 1) % self._tree.span
        return self._group(np.frombuffer(top, np.float64))

    def leaf(self, group: int, masses: Rows) -> int:
        """The next token, from the masses of its group's leaves."""
        return self._leaf(group, np.frombuffer(masses, np.float64))

    def _decode_choice(self) -> int:
        for choice in range(MAX_CHOICES):
            again = self._coder.decode(self._again.chance())
            self._again.update(again)
            if not again:
                return choice
        raise CorruptError("a span of tokens has no choice of grids")

    def _decide(self, level: int, x: float, right: bool) -> int:
        tree = self._tree
        shift = 0
        if tree.span:
            shift = shift_of(self._choice, self._made)
            self._made += 1
        return self._coder.decode(tree.chance(tree.place(x), shift))
