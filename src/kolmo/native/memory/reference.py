"""Memory beside a language model, in Python: the specification of `token_memory.h`, with the same bits.

What the tokens of a block so far say about the next one is mixed, decision by decision, with what the model says
(docs/memory.md). A token is a path down the balanced tree of `native/tokens`. Integers throughout.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from kolmo.native.mixer.primitives import HALF, Tables, bounded, count_errors, dot, mix, move, rates

GRAMS = (1, 2, 4, 6)  # contexts of so many tokens before
CONTEXTS = len(GRAMS) + 2  # and two of the field of the line
NEAR, KEPT = 15, 7  # tokens that are kept of a context of one token, and of a longer one
REACHES = (7, 2)  # tokens that have to be equal for a match: a long one, a short one
LENGTHS = 32  # buckets of a match's length
QUANTA = 6  # of a count
PARTS = 4  # of the tree's levels
INPUTS, SETS, FINAL = 24, 4, 8  # of the first layer, its weight sets, inputs of the second
ENDS_LINE, BEGINS_FIELD = 1, 2  # bits of what a token is
NONE = 0xFFFFFFFF  # no token
RATE, BOOST, FINAL_RATE, FINAL_BOOST = 120, 600, 20, 100
LIMIT, FREQUENT_LIMIT = 1022, 60
COUNTS = (0, 10, 20, 35, 65, 120)  # ten times what a quantum stands for
MOST = 65535  # of a match's length
MAX_LANES, MAX_TOKENS = 1 << 24, 1 << 30

Int = npt.NDArray[np.int64]


class Lane:
    """The history of one lane: its place in the block, its matches, and the line that it is in."""

    def __init__(self, first: int, end: int) -> None:
        self.first = self.at = first
        self.end = end
        self.match = [0] * len(REACHES)
        self.length = [0] * len(REACHES)
        self.field = self.begun = self.line = 0


class Memory:
    """The memory of all lanes of a block.

    Args:
        tables: `native.tables.packed()`.
        kinds: what each token of the vocabulary is, a byte each.
        lengths: number of tokens in each lane, in the order of the block.
        remembered: size of the tables in tokens.

    For each token of a lane: `begin`; down the tree `predict` and `update`, or `skip` where a level has no decision;
    `end`.
    """

    def __init__(self, tables: bytes, kinds: bytes, lengths: list[int], remembered: int) -> None:
        self._tables = Tables(tables)
        self._kinds = kinds
        groups = -(-len(kinds) // 256)
        self.levels = levels = (groups - 1).bit_length() + 8
        ends = np.cumsum(lengths).tolist()
        self.lanes = [Lane(end - length, end) for end, length in zip(ends, lengths, strict=True)]
        count = ends[-1]
        near, self._bits, self._match_bits = table_bits(count, remembered)
        self._near_mask = (1 << near) - 1
        self._known = [NONE] * (count + 1)
        self._matches: list[dict[int, int]] = [{} for _ in REACHES]
        self._followers: list[dict[int, tuple[int, list[int]]]] = [{} for _ in range(CONTEXTS)]
        self._frequent: dict[int, int] = {}
        self._histories: Int = np.tile(_histories(), (CONTEXTS, 1))
        at = np.arange(LENGTHS * PARTS) // PARTS
        self._lengths: Int = np.tile(_probability(at + 2, at + 3), (len(REACHES), 1))
        sizes = (16 * levels, 256, 4096, 32 * levels)
        self._offsets: Int = np.array([0, sizes[0], sum(sizes[:2]), sum(sizes[:3])], np.int64)
        row = np.zeros(INPUTS, np.int64)
        row[2 : 4 + 2 * CONTEXTS + 2 * len(REACHES) : 2] = 8 << 20
        row[0] = 1 << 27
        self._weights: Int = np.tile(row, (sum(sizes), 1))
        self._errors: Int = np.zeros(sum(sizes), np.int64)
        self._final: Int = np.zeros((2 * levels, FINAL), np.int64)
        self._final[:, :SETS] = (1 << 27) // SETS
        self._final_errors: Int = np.zeros(2 * levels, np.int64)
        squash = self._tables.squash[1:]
        self._stretch = (np.searchsorted(squash, np.arange(65536), "right") - HALF).clip(1 - HALF, HALF - 1)
        self._x: Int = np.zeros(INPUTS, np.int64)
        self._x[4 + 2 * CONTEXTS + 2 * len(REACHES)] = 256

    def begin(self, lane: int) -> None:
        """Before a lane's next token."""
        self._lane = here = self.lanes[lane]
        known, at, hashed, reach = self._known, here.at, 0, 0
        self._lists: list[list[int]] = []
        for k, far in enumerate(GRAMS):
            while reach < far:
                reach += 1
                hashed = mix(hashed, known[at - reach] if at - here.first >= reach else NONE)
            self._lists.append(self._find(k, hashed))
        self._lists.append(self._find(len(GRAMS), mix(here.field, here.begun)))
        self._lists.append(self._find(len(GRAMS) + 1, mix(mix(here.line, here.field), here.begun)))
        self._expected = [self._match(k) for k in range(len(REACHES))]
        self._possible = [list(kept) for kept in self._lists]
        self.low, self._span, self._node, self._level = 0, 1 << self.levels - 1, 1, 0

    def predict(self, chance: int) -> int:
        """The mixture's probability of a 1, of 65536, for a decision with the model's; the bit must follow."""
        x, level, low, span = self._x, self._level, self.low, self._span
        part = level * PARTS // self.levels
        x[:2] = self._stretch[chance], chance - 32768 >> 5
        x[2 : 4 + 2 * CONTEXTS + 2 * len(REACHES)] = 0
        some = sure = contexts = deepest = 0
        self._history: list[tuple[int, int]] = []
        for k, possible in enumerate(self._possible):
            if not possible:
                continue
            right = sum(kept & 255 for kept in possible if (kept >> 8) - low >= span)
            left = sum(kept & 255 for kept in possible) - right
            newest = int((possible[0] >> 8) - low >= span)
            at = ((_quantum(right) * QUANTA + _quantum(left)) * 2 + newest) * PARTS + part
            self._history.append((k, at))
            self._input(2 + 2 * k, int(self._histories[k, at]), 1)
            some |= 1 << k
            sure |= not left or not right
            contexts += 1
            deepest = k + 1 if k < len(GRAMS) else deepest
        frequent = self._frequent.get(self._node, 1 << 31)
        if frequent & 1023:
            self._input(2 + 2 * CONTEXTS, frequent, 1)
        bits = [0] * len(REACHES)  # 0: none, else the expected bit plus 1
        self._matched: list[tuple[int, int, int]] = []
        longest = 0
        for k, expected in enumerate(self._expected):
            if not 0 <= expected - low < 2 * span:
                continue
            bit = int(expected - low >= span)
            bucket = _bucket(self._lane.length[k])
            at = bucket * PARTS + part
            bits[k] = bit + 1
            self._matched.append((k, at, bit))
            self._input(4 + 2 * CONTEXTS + 2 * k, int(self._lengths[k, at]), 1 if bit else -1)
            longest = max(longest, bucket)
        long, short = bits
        selected = (
            level * 16 + (1 + min(longest, 14) if long or short else 0),
            (some >> 1 & 15) * 8 + sure + 2 * (long > 0) + 4 * (short > 0),
            min(max((int(x[0]) + HALF) // 384, 0), 15) * 256 + deepest * 16 + long * 4 + short,
            level * 32 + (self._expected[0] != NONE) + 2 * (short > 0) + 4 * contexts,
        )
        self._selected = self._offsets + np.array(selected, np.int64)
        outputs = dot(self._weights[self._selected], x)
        self._p: Int = self._squash(outputs)
        self._outputs: Int = np.concatenate([outputs, np.zeros(FINAL - SETS, np.int64)])
        self._set = np.array([2 * level + bool(long or short or some)])
        self._mixed = int(self._squash(dot(self._final[self._set], self._outputs))[0])
        return self._mixed

    def update(self, y: int) -> None:
        """Learn from the decision's bit, and go down."""
        reciprocal = self._tables.reciprocal
        error: Int = (y << 16) - np.array([self._mixed])
        rate = rates(reciprocal, self._final_errors[self._set], FINAL_RATE, FINAL_BOOST)
        step = (error * rate + (1 << 12) >> 13)[:, None]
        self._final[self._set] = bounded(self._final[self._set] + self._outputs * step)
        count_errors(self._final_errors, self._set, error)
        errors: Int = (y << 16) - self._p
        rate = rates(reciprocal, self._errors[self._selected], RATE, BOOST)
        step = (errors * rate + (1 << 12) >> 13)[:, None]
        self._weights[self._selected] = bounded(self._weights[self._selected] + self._x * step)
        count_errors(self._errors, self._selected, errors)
        for k, at in self._history:
            move(reciprocal, self._histories[k], np.array([at]), y, LIMIT)
        for k, at, bit in self._matched:
            move(reciprocal, self._lengths[k], np.array([at]), int(bit == y), LIMIT)
        frequent = np.array([self._frequent.get(self._node, 1 << 31)])
        move(reciprocal, frequent, np.array([0]), y, FREQUENT_LIMIT)
        self._frequent[self._node] = int(frequent[0])
        self._descend(y)

    def skip(self) -> None:
        """A level without a decision: only the left half has tokens."""
        self._descend(0)

    def end(self) -> None:
        """After the last decision: learn the token, which is `low`."""
        here, token = self._lane, self.low
        for k, kept in enumerate(self._lists):
            _keep(kept, KEPT if k else NEAR, token)
        self._known[here.at] = token
        here.at += 1
        if self._kinds[token] & ENDS_LINE:
            here.field = here.begun = here.line = 0
        elif self._kinds[token] & BEGINS_FIELD:
            here.line = here.line if here.field else here.begun
            here.field += 1
            here.begun = mix(0, token)
        else:
            here.begun = mix(here.begun, token)
        for k, expected in enumerate(self._expected):
            if expected == token:
                here.length[k] = min(here.length[k] + 1, MOST)
                here.match[k] += 1
            elif expected != NONE:
                here.length[k] = 0

    def _descend(self, y: int) -> None:
        self.low += self._span if y else 0
        low, span = self.low, self._span
        self._possible = [[kept for kept in part if 0 <= (kept >> 8) - low < span] for part in self._possible]
        self._span //= 2
        self._node = 2 * self._node + y
        self._level += 1

    def _input(self, at: int, probability: int, sign: int) -> None:
        p = probability >> 16
        self._x[at : at + 2] = sign * self._stretch[p], sign * (p - 32768 >> 5)

    def _squash(self, s: Int) -> Int:
        p: Int = self._tables.squash[np.clip(s, 1 - HALF, HALF - 1) + HALF].clip(1, 65535)
        return p

    def _find(self, k: int, hashed: int) -> list[int]:
        """The followers of a context; another context's make room."""
        table = self._followers[k]
        at = hashed & (self._near_mask if k == 0 else (1 << self._bits) - 1)
        check, kept = table.get(at, (0, []))
        if check == hashed:
            return table.setdefault(at, (check, kept))[1]
        if k:
            beside, others = table.get(at ^ 1, (0, []))
            if beside == hashed:
                return table.setdefault(at ^ 1, (beside, others))[1]
            if _first_count(others) < _first_count(kept):
                at ^= 1
        table[at] = (hashed, [])
        return table[at][1]

    def _match(self, k: int) -> int:
        """The token that a match predicts, `NONE` without one."""
        here, known, reach = self._lane, self._known, REACHES[k]
        at, done = here.at, here.at - here.first
        if here.length[k] and known[here.match[k]] == NONE:
            here.length[k] = 0
        if done >= reach:
            hashed = k
            for d in range(1, reach + 1):
                hashed = mix(hashed, known[at - d])
            entry = hashed >> 32 - self._match_bits
            place = self._matches[k].get(entry, 0)
            if not here.length[k] and place and known[place] != NONE:
                length = 0
                while length < min(32, place, done) and known[place - 1 - length] == known[at - 1 - length]:
                    length += 1
                if length >= reach:
                    here.match[k], here.length[k] = place, length
            self._matches[k][entry] = at
        return known[here.match[k]] if here.length[k] else NONE


def table_bits(count: int, remembered: int) -> tuple[int, int, int]:
    """log2 of the entries: of the contexts of one token, of each longer context, of each kind of matches.

    Args:
        count: tokens of the block.
        remembered: size of the tables in tokens.

    Example:
        >>> table_bits(100_000, 1 << 14)
        (14, 13, 17)
    """
    remembered = min(remembered, count)
    sizes = (remembered, 16), (remembered // 2, 24), (count, 24)
    near, far, match = (min(max((size - 1).bit_length(), 8) if size > 0 else 8, most) for size, most in sizes)
    return near, far, match


def table_bytes(count: int, remembered: int, vocabulary: int) -> int:
    """Bytes that the tables of a memory take, within a mebibyte.

    Example:
        >>> table_bytes(1 << 20, 1 << 20, 50_000) >> 20
        105
    """
    near, far, match = table_bits(count, remembered)
    levels = (-(-vocabulary // 256) - 1).bit_length() + 8
    followers = (64 << near) + (CONTEXTS - 1) * (32 << far)
    return followers + len(REACHES) * (4 << match) + 4 * count + (4 << levels) + vocabulary + (1 << 20)


def _probability(numerator: Int, denominator: Int) -> Int:
    """Probabilities (22 bits) that six events stand behind (10 bits)."""
    return np.asarray(4194303 * numerator // denominator << 10 | 6)


def _histories() -> Int:
    counts = np.array(COUNTS)
    right = np.repeat(counts, QUANTA * 2 * PARTS)
    left = np.tile(np.repeat(counts, 2 * PARTS), QUANTA)
    return _probability(right + 1, right + left + 2)


def _quantum(n: int) -> int:
    return n if n < 3 else 3 if n < 5 else 4 if n < 9 else 5


def _bucket(length: int) -> int:
    if length < 32:
        return length if length < 16 else 16 + (length - 16) // 4
    return 20 + (length - 32) // 48 if length < 512 else 31


def _first_count(kept: list[int]) -> int:
    return kept[0] & 255 if kept else 0


def _keep(kept: list[int], most: int, token: int) -> None:
    """Put a token first in a list; a new one takes the place of the one with the least count, the oldest of these."""
    at = next((i for i, other in enumerate(kept) if other >> 8 == token), None)
    count = 1
    if at is not None:
        count = (kept.pop(at) & 255) + 1
        count = 128 if count > 255 else count
    elif len(kept) == most:
        least = min(other & 255 for other in kept)
        kept.pop(max(i for i, other in enumerate(kept) if other & 255 == least))
    kept.insert(0, token << 8 | count)
    for i in range(1, len(kept)):
        n = kept[i] & 255
        kept[i] -= (n + 2) // 4 if n > 2 else 0
