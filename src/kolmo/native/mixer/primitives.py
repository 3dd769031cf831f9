"""What every mixer is made of, in NumPy: the specification of primitives.h and primitives_loop.h.

Integers throughout, so that C gives the same bits at any vector width. docs/context-mixing.md explains each part.
Users: the context mixer (`reference.py`), and the mixers of pictures and sounds.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from kolmo.native.tables import SQUASH_SIZE

MASK = 0xFFFFFFFF
NODES = 15  # bit histories in the binary tree of a nibble
TREES = 4  # trees in a bucket
BUCKET = 64
HALF = SQUASH_SIZE // 2
WEIGHT_BOUND = 15 << 27

Int = npt.NDArray[np.int64]


def mix(a: int, b: int) -> int:
    """The 32-bit hash of two 32-bit values that every context uses."""
    h = (a * 0x2F0B4C47 ^ (b + 0x9E3779B9 & MASK) * 0x85EBCA6B) & MASK
    h ^= h >> 15
    h = h * 0xC2B2AE35 & MASK
    return h ^ h >> 13


class Tables:
    """The constants of `tables.packed()`, unpacked: `cm_tables` in C."""

    def __init__(self, packed: bytes) -> None:
        self.stretch: Int = np.frombuffer(packed, "=i2", 4096).astype(np.int64)
        self.squash: Int = np.frombuffer(packed, "=u2", SQUASH_SIZE, 8192).astype(np.int64)
        automaton = np.frombuffer(packed, np.uint8, 512, 8192 + 2 * SQUASH_SIZE)
        self.next = automaton.reshape(256, 2).T.copy()
        self.priority: list[int] = np.frombuffer(packed, np.uint8, 256, 8704 + 2 * SQUASH_SIZE).tolist()
        self.kinds = packed[8960 + 2 * SQUASH_SIZE : 9216 + 2 * SQUASH_SIZE]
        self.reciprocal: Int = np.frombuffer(packed, "=u2", 1024, 9216 + 2 * SQUASH_SIZE).astype(np.int64)


def find_tree(memory: npt.NDArray[np.uint8], buckets: int, priority: list[int], hashed: int) -> int:
    """Index in the memory of a hashed context's tree, minus 1: its own, or a new one for that with the least priority.

    The memory begins with `buckets` buckets of 64 bytes; the tree's nodes are numbered from 1 on.
    """
    bucket = hashed % buckets * BUCKET
    check = hashed >> 24
    trees = bucket + TREES - 1
    checks: list[int] = memory[bucket : bucket + TREES].tolist()
    if check in checks:
        return trees + checks.index(check) * NODES
    roots = memory[trees + 1 : trees + 1 + TREES * NODES : NODES].tolist()
    least = min(range(TREES), key=lambda k: priority[roots[k]])
    memory[bucket + least] = check
    tree = trees + least * NODES
    memory[tree + 1 : tree + 1 + NODES] = 0
    return tree


class AdaptiveMap:
    """An adaptive probability map: a curve over the stretched probability, for each of many contexts."""

    def __init__(self, curves: Int, rows: int) -> None:
        self._table = np.tile(curves, (rows // len(curves), 1))
        self._at = (0, 0)

    def refine(self, row: int, s: int) -> int:
        """The 16-bit probability that the row's curve gives for `s`, in the stretch domain."""
        low, fraction = divmod(min(max(s, -2943), 2943) + 2944, 256)
        self._at = (row, low + (fraction >> 7))
        t = self._table[row]
        return int(t[low] * (256 - fraction) + t[low + 1] * fraction) >> 8

    def update(self, y: int, shift: int = 5) -> None:
        """Move the nearer knot of the last `refine` towards the bit, by 2^-shift of the distance."""
        v = int(self._table[self._at])
        self._table[self._at] = v + ((65535 + (1 << shift) - 1 - v if y else -v) >> shift)


def rates(reciprocal: Int, errors: Int, rate: int, boost: int) -> Int:
    """The rates of weight sets: each falls with the sum of the set's errors, from about rate + boost to rate."""
    now: Int = rate + (boost * reciprocal[np.minimum(15 + (errors >> 16), 1022)] >> 12)
    return now


def count_errors(errors: Int, at: Int, error: Int) -> None:
    """Add the errors of predictions, in 2^-16, to the sums of their weight sets."""
    sums = errors[at]
    errors[at] = sums + np.where(sums < 1 << 26, np.abs(error), 0)


def move(reciprocal: Int, maps: Int, at: Int, y: int, limit: int) -> None:
    """Move averaging probabilities (22 bits, with a 10-bit count) towards the bit."""
    v = maps[at]
    count, p = v & 1023, v >> 10
    p = p + (((1 << 22) - 1 if y else 0) - p) * reciprocal[count] // 65536
    maps[at] = p << 10 | count + (count < limit)


def dot(weights: Int, x: Int) -> Int:
    """Dot products along the last axis, in the stretch domain; sums wrap at 32 bits, as in C."""
    sums: Int = (((weights >> 16) @ x + (1 << 31)) % (1 << 32) - (1 << 31)) >> 11
    return np.minimum(np.maximum(sums, 1 - HALF), HALF - 1)


def bounded(weights: Int) -> Int:
    """Weights within +-15."""
    return np.minimum(np.maximum(weights, -WEIGHT_BOUND), WEIGHT_BOUND)
