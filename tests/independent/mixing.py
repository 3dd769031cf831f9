"""The mixer of docs/context-mixing.md: trees, maps, weight sets, curves; a bit at a time."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import mul
from typing import Protocol

from independent.arithmetic import Decoder
from independent.damage import check
from independent.history import CONTEXTS, History, Shared
from independent.shapes import Shape, bits_for
from independent.tables import RECIPROCAL, H, histories, squash, squash_table, stretch_table

HEAVIEST = 15 << 27


def wrapped(x: int) -> int:
    """The number modulo 2^32, signed."""
    return (x + (1 << 31) & 0xFFFFFFFF) - (1 << 31)


@dataclass
class Prior:
    """Trained values that a mixer starts from."""

    maps: list[list[int]]  # p of 22 bits, by source and history
    counts: list[list[int]]
    weights: list[list[int]]  # a set for each selector, then the final one
    curves: list[list[int]]

    @staticmethod
    def of(content: bytes, shape: Shape) -> Prior:
        """From the inflated content of a file."""
        n, m = len(shape.contexts), len(shape.selectors)
        averages, weights = 256 * n + 32, m * shape.inputs + 16
        check(len(content) == 3 * averages + 2 * weights + 2 * 257 * 24, "the length of a prior")
        values = struct.unpack(f"<{averages}H{averages}B{weights}h{257 * 24}H", content)
        probabilities = [64 * value + 32 for value in values[:averages]]
        counts = list(values[averages : 2 * averages])
        for context in range(n):
            probabilities[256 * context], counts[256 * context] = 1 << 21, 1023
        heavy = [value << 16 for value in values[2 * averages : 2 * averages + weights]]
        knots = list(values[-257 * 24 :])
        starts = range(0, averages, 256)
        return Prior(
            [probabilities[at : at + 256] for at in starts],
            [counts[at : at + 256] for at in starts],
            [heavy[at : at + shape.inputs] for at in range(0, weights, shape.inputs)],
            [knots[at : at + 24] for at in range(0, len(knots), 24)],
        )

    @staticmethod
    def read(file: bytes, shape: Shape) -> Prior:
        """From a file of the package."""
        return Prior.of(zlib.decompress(file), shape)


class Trees:
    """Bit histories: trees of 15 nodes, those of contexts from 2 on in hashed buckets."""

    def __init__(self, table_bits: int) -> None:
        self.buckets = 1 << table_bits - 6
        self.memory: dict[int, tuple[list[int], list[bytearray]]] = {}
        self.direct: dict[tuple[int, int, int], bytearray] = {}
        self.counts = [sum(pair) for pair in histories()[0]]

    def own(self, context: int, index: int, nibble: int) -> bytearray:
        """A tree of context 0 or 1; nibble is 0 for the high one, else c0."""
        return self.direct.setdefault((context, index, nibble), bytearray(16))

    def find(self, h: int) -> bytearray:
        """The tree of a hash, at the price of another one."""
        checks, trees = self.memory.setdefault(h % self.buckets, ([0] * 4, [bytearray(16) for _ in range(4)]))
        check = h >> 24
        if check in checks:
            return trees[checks.index(check)]
        priorities = [self.counts[tree[1]] for tree in trees]
        least = priorities.index(min(priorities))
        checks[least] = check
        trees[least][:] = bytes(16)
        return trees[least]


class Layer:
    """Weight sets of one selector, each with its own rate."""

    def __init__(self, start: list[int], rates: tuple[int, int]) -> None:
        self.start, (self.base, self.boost) = start, rates
        self.sets: dict[int, tuple[list[int], list[int]]] = {}
        self.weights: list[int] = []
        self.errors = [0]
        self.output = 0

    def mix(self, chosen: int, inputs: list[int]) -> int:
        """The output y of the chosen set."""
        self.weights, self.errors = self.sets.setdefault(chosen, (self.start.copy(), [0]))
        total = wrapped(sum(map(mul, [w >> 16 for w in self.weights], inputs)))
        self.output = min(max(total >> 11, -3071), 3071)
        return self.output

    def learn(self, bit: int, inputs: list[int]) -> None:
        """Move the set that took part."""
        wrong = 65536 * bit - squash(self.output)
        rate = self.base + (self.boost * RECIPROCAL[min(15 + (self.errors[0] >> 16), 1022)] >> 12)
        if self.errors[0] < 1 << 26:
            self.errors[0] += abs(wrong)
        e = wrong * rate + 4096 >> 13
        self.weights[:] = [min(max(w + x * e, -HEAVIEST), HEAVIEST) for w, x in zip(self.weights, inputs, strict=True)]


class Curves:
    """One of the two adaptive maps."""

    def __init__(self, start: Callable[[int], list[int]]) -> None:
        self.start = start
        self.rows: dict[int, list[int]] = {}
        self.row: list[int] = []
        self.nearer = 0

    def refine(self, s: int, row: int) -> int:
        """The probability at s."""
        if row not in self.rows:
            self.rows[row] = self.start(row).copy()
        self.row = self.rows[row]
        t = min(max(s, -2943), 2943) + 2944
        k, f = t >> 8, t & 255
        self.nearer = k + (f >= 128)
        return self.row[k] * (256 - f) + self.row[k + 1] * f >> 8

    def learn(self, bit: int) -> None:
        """Move the nearer knot."""
        v = self.row[self.nearer]
        self.row[self.nearer] = v + ((65566 - v if bit else -v) >> 5)


@dataclass
class Bits:
    """The byte that is being decoded, so far."""

    c0: int = 1
    bit: int = 0
    known: int = 0  # how many of the contexts 2..8 of the list have a history
    guess: int = -1  # the bit that the match expects, -1 for none


class Source(Protocol):
    """What adds contexts, selectors and inputs of its own: a network, or the contexts of a kind."""

    def begin(self, history: History) -> None:
        """Before each byte."""

    def context(self, number: int, history: History) -> int:
        """The value of a context that is not in the catalogue."""

    def inputs(self, now: Bits) -> list[int]:
        """Inputs after the bias."""

    def selector(self, number: int, now: Bits) -> int:
        """The set of a selector that is not in the catalogue."""


def select(number: int, now: Bits, h: History) -> int:
    """The set of a selector of the page's list."""
    bit, match = now.bit, h.match
    if number == 0:
        return 0
    if number == 1:
        level = 0 if now.guess < 0 else 1 if match.length < 16 else 2 if match.length < 32 else 3
        return (now.known * 4 + level) * 8 + bit
    if number == 2:
        return now.c0
    if number == 3:
        return h.c1 + 256 * (0 if bit < 2 else 1 if bit < 5 else 2)
    if number == 4:
        return h.c4 >> 8 & 255
    if number == 5:
        if now.guess < 0:
            return 1024 + (h.c1 >> 5) * 8 + bit
        return match.bucket * 32 + (match.expected >> 5) * 2 + now.guess
    if number == 6:
        return (h.classes & 255) * 8 + bit
    if number == 7:
        return min(h.column, 255) * 8 + bit
    if number == 8:
        return (h.class_runs & 255) * 8 + bit
    if number == 9:
        return (h.position % h.records.record) % 128 * 8 + bit if h.records.record else bit
    if number == 10:
        return (h.punctuation & 255) * 8 + bit
    if number == 11:
        return max(match.expected, 0)
    if number == 16:
        order = h.lines.order if h.lines.alike else 3
        return (min(h.lines.agreed, 15) * 4 + order) * 8 + bit
    check(number == 17, f"selector {number}")
    return min(h.lines.field, 31) * 8 + bit


class Mixer:
    """A model of one stream."""

    def __init__(self, shape: Shape, most: int, size: int, prior: Prior, sources: Sequence[Source] = ()) -> None:
        n = len(shape.contexts)
        self.shape, self.sources, self.n = shape, sources, n
        self.maps = [row.copy() for row in prior.maps]
        self.counts = [row.copy() for row in prior.counts]
        self.trees = Trees(bits_for(8 * n * size, 16, most))
        lanes = max(len(sources), 1)
        shared = Shared(size, bits_for(size, 10, 21))
        length = -(-size // lanes)
        self.ends = [min((lane + 1) * length, size) for lane in range(lanes)]
        self.lanes = [History(shared, min(lane * length, size)) for lane in range(lanes)]
        self.history = self.lanes[0]
        self.source = sources[0] if sources else None
        self.layers = [Layer(start, shape.rates[0]) for start in prior.weights[: len(shape.selectors)]]
        self.final = Layer(prior.weights[-1], shape.rates[1])
        self.first = Curves(lambda row: prior.curves[row & 255])
        self.second = Curves(lambda row: prior.curves[256])
        self.following = histories()[1]
        self.stretch = stretch_table()
        squash_table()

    def value(self, number: int) -> int:
        """The value of a context."""
        if number in CONTEXTS:
            return CONTEXTS[number](self.history)
        assert self.source
        return self.source.context(number, self.history)

    def decode(self, coder: Decoder, steps: int) -> bytes:
        """The block's bytes after so many bytes of each lane."""
        for _ in range(steps):
            for lane, (history, end) in enumerate(zip(self.lanes, self.ends, strict=True)):
                if history.position < end:
                    self.history, self.source = history, self.sources[lane] if self.sources else None
                    history.learn(self.decode_byte(coder))
        return bytes(self.history.data)

    def decode_byte(self, coder: Decoder) -> int:
        """The next byte of a lane."""
        self.history.begin()
        if self.source:
            self.source.begin(self.history)
        hashes = [H(self.value(k), k) if k > 1 else 0 for k in self.shape.contexts]
        trees: list[bytearray] = []
        now = Bits()
        for now.bit in range(8):
            if now.bit % 4 == 0:
                high = now.bit == 0
                trees = [
                    self.trees.own(k, self.history.c1 if k else 0, 0 if high else now.c0)
                    if k < 2
                    else self.trees.find(h if high else H(h, now.c0))
                    for k, h in zip(self.shape.contexts, hashes, strict=True)
                ]
            node = now.c0 if now.bit < 4 else now.c0 & (1 << now.bit - 4) - 1 | 1 << now.bit - 4
            now.c0 = now.c0 << 1 | self.code(coder, now, trees, node)
        return now.c0 & 255

    def code(self, coder: Decoder, now: Bits, trees: list[bytearray], node: int) -> int:
        """Predict, decode and learn one bit."""
        n, match = self.n, self.history.match
        states = [tree[node] for tree in trees]
        now.known = sum(state > 0 for state in states[2:9])
        now.guess = -1
        if match.length and (match.expected | 256) >> 8 - now.bit == now.c0:
            now.guess = match.expected >> 7 - now.bit & 1
        inputs = [0] * self.shape.inputs
        for i, state in enumerate(states):
            q = self.maps[i][state] >> 10
            inputs[i], inputs[n + i] = self.stretch[q], q - 2048 >> 2
        if now.guess >= 0:
            q = self.maps[n][match.bucket] >> 10
            sign = 1 if now.guess else -1
            inputs[2 * n], inputs[2 * n + 1] = sign * self.stretch[q], sign * (q - 2048 >> 2)
        inputs[2 * n + 2] = 256
        if self.source:
            for i, x in enumerate(self.source.inputs(now)):
                inputs[2 * n + 3 + i] = x
        outputs = [
            layer.mix(self.set_of(number, now), inputs)
            for number, layer in zip(self.shape.selectors, self.layers, strict=True)
        ]
        outputs += [0] * (16 - len(outputs))
        single = len(self.layers) == 1
        s = outputs[0] if single else self.final.mix(now.c0, outputs)
        p1 = self.first.refine(s, now.c0 + 256 * self.history.c1)
        p2 = p1
        if not single:
            p2 = self.second.refine(s, (H(self.history.c4 & 0xFFFF, 0) ^ now.c0 * 0x9E35) % 2**14)
        rest = p1 + p2
        p = 2 * squash(s) + rest + 2 >> 2 if self.shape.networked else 2 * squash(s) + 3 * rest + 4 >> 3
        bit = coder.bit(min(max(p, 1), 65535))

        for layer in self.layers:
            layer.learn(bit, inputs)
        self.first.learn(bit)
        if not single:
            self.final.learn(bit, outputs)
            self.second.learn(bit)
        for i, state in enumerate(states):
            self.average(i, state, bit, 500)
            trees[i][node] = self.following[state][bit]
        if now.guess >= 0:
            self.average(n, match.bucket, int(bit == now.guess), 1022)
        return bit

    def average(self, source: int, place: int, bit: int, limit: int) -> None:
        """Move an average of a map."""
        p, count = self.maps[source][place], self.counts[source][place]
        target = (1 << 22) - 1 if bit else 0
        self.maps[source][place] = p + ((target - p) * RECIPROCAL[count] >> 16)
        if count < limit:
            self.counts[source][place] = count + 1

    def set_of(self, number: int, now: Bits) -> int:
        """The set of a selector."""
        if number in range(12, 16) or number >= 20:
            assert self.source
            return self.source.selector(number, now)
        return select(number, now, self.history)
