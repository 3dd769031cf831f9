"""Context mixing in NumPy: the specification of context_mixing*.h and the fallback where no C was built.

    histories --maps--> stretch --mixers, one weight set for each selector--> stretch --final mixer--> two maps --> p

All contexts of a bit are one vector here. Integers throughout: the C kernel, at any vector width, gives the same bits.
docs/context-mixing.md explains each part and names its source.
"""

from __future__ import annotations

import struct
from itertools import pairwise

import numpy as np

from kolmo.native.binary.contexts import PROGRAM, PROGRAM_SELECTORS, Binary
from kolmo.native.coder.reference import BinaryDecoder, BinaryEncoder
from kolmo.native.mixer.history import History, Shared, match_bucket
from kolmo.native.mixer.lines import LINES, LINES_SELECTORS
from kolmo.native.mixer.primitives import (
    BUCKET,
    HALF,
    MASK,
    NODES,
    AdaptiveMap,
    Tables,
    bounded,
    count_errors,
    dot,
    find_tree,
    mix,
    move,
    rates,
)
from kolmo.native.tables import (
    CATALOGUE,
    CURVE_KNOTS,
    FINAL_INPUTS,
    FIRST_NETWORK_SELECTOR,
    MATCH_BUCKETS,
    MAX_SELECTORS,
    SELECTOR_SIZES,
)

ORDER1 = 17 * NODES  # a byte's trees where they are not hashed
APM_ROWS = 1 << 16  # of the map of order 1
APM_HASHED = 1 << 14  # of that of order 2


class ContextMixer:
    """A context-mixing model of one block; `kolmo.predictors.embedded.context_mixing` explains the arguments."""

    def __init__(self, config: bytes, tables: bytes, prior: bytes, size: int) -> None:
        self._set_up(config, tables, prior, size, 1, 0)

    def _set_up(self, config: bytes, tables: bytes, prior: bytes, size: int, lanes: int, network_inputs: int) -> None:
        values: tuple[int, ...] = struct.unpack(f"={2 + CATALOGUE + MAX_SELECTORS + 11}i", config)
        n, s = values[:2]
        self._context = values[2 : 2 + n]
        self._selector = values[2 + CATALOGUE : 2 + CATALOGUE + s]
        table_bits, match_bits, match_minimum, *numbers = values[2 + CATALOGUE + MAX_SELECTORS : -3]
        self._binary = Binary(values[-3:], self._context, self._selector)
        self._rate, self._boost, self._final_rate, self._final_boost, self._map_limit = numbers
        self._size, self._direction = size, ""

        self._tables = constants = Tables(tables)
        self._stretch, self._squash = constants.stretch, constants.squash
        self._lanes = lanes_of(constants.kinds, match_bits, match_minimum, size, lanes)
        self._history = self._lanes[0]

        # One memory for all trees: the buckets, then those of order 0 and order 1.
        self._buckets = (1 << table_bits) // BUCKET
        self._order0 = self._buckets * BUCKET
        self._memory = np.zeros(self._order0 + 257 * ORDER1, np.uint8)
        self._hash = [0] * n
        self._tree = np.zeros(n, np.int64)

        self._inputs = inputs = 2 * n + 3 + network_inputs + 7 & ~7
        learned = np.frombuffer(prior, "=i4").astype(np.int64)
        parts = np.cumsum([256 * n, MATCH_BUCKETS, s * inputs, FINAL_INPUTS, 256 * CURVE_KNOTS])
        maps, match_map, weights, final, curves, curve = np.split(learned, parts)
        self._maps, self._match_map = maps & MASK, match_map & MASK
        sizes = [SELECTOR_SIZES[j] for j in self._selector]
        self._weights = np.repeat(weights.reshape(s, inputs), sizes, axis=0)  # the sets of all selectors
        self._first_set = np.cumsum([0, *sizes[:-1]]).tolist()
        self._errors = np.zeros(sum(sizes), np.int64)  # of each weight set: the sum of its errors, see `rates`
        self._final = np.tile(final, (256, 1))
        self._final_errors = np.zeros(256, np.int64)
        self._refiners = [AdaptiveMap(curves.reshape(256, -1), APM_ROWS)]
        if s > 1:  # a model with one selector is meant to be fast, and has only the first map
            self._refiners.append(AdaptiveMap(curve.reshape(1, -1), APM_HASHED))
        self._rows = np.arange(n) * 256
        self._x = np.zeros(inputs, np.int64)
        self._x[2 * n + 2] = 256  # a constant input: the bias
        self._y = np.zeros(FINAL_INPUTS, np.int64)

    def encode(self, encoder: BinaryEncoder, data: bytes) -> None:
        """Code the block's next bytes and learn from them."""
        self._begin("encode", len(data))
        for byte in data:
            self._encode_byte(encoder, byte)

    def decode(self, decoder: BinaryDecoder, size: int) -> bytes:
        """Decode the block's next bytes and learn from them: the mirror of `encode`.

        It may go on after `costs`, too: decoding random bits after a prompt is drawing a sample.
        """
        self._begin("decode", size, after="costs")
        start = self._history.position
        for _ in range(size):
            self._decode_byte(decoder)
        return bytes(self._history.bytes.bytes[start:])

    def costs(self, data: bytes) -> bytes:
        """16-bit probability (in 2^-16) of each coded bit, 8 for each byte, in the machine's byte order."""
        self._begin("costs", len(data))
        return np.array([self._score_byte(byte) for byte in data], "=u2").tobytes()

    def _encode_byte(self, encoder: BinaryEncoder, byte: int) -> None:
        self._begin_byte()
        c0 = 1
        for bit in range(8):
            p = self._predict(c0, bit)
            y = byte >> (7 - bit) & 1
            encoder.encode(y, p)
            self._update(y)
            c0 = c0 << 1 | y
        self._learn_byte(byte)

    def _decode_byte(self, decoder: BinaryDecoder) -> int:
        self._begin_byte()
        c0 = 1
        for bit in range(8):
            y = decoder.decode(self._predict(c0, bit))
            self._update(y)
            c0 = c0 << 1 | y
        self._learn_byte(c0 & 255)
        return c0 & 255

    def _score_byte(self, byte: int) -> list[int]:
        """Probability of each coded bit."""
        self._begin_byte()
        c0, costs = 1, []
        for bit in range(8):
            p = self._predict(c0, bit)
            y = byte >> (7 - bit) & 1
            costs.append(p if y else 65536 - p)
            self._update(y)
            c0 = c0 << 1 | y
        self._learn_byte(byte)
        return costs

    def _learn_byte(self, byte: int) -> None:
        self._history.learn(byte)
        self._history.lines.learn(self._history.bytes.__getitem__, self._history.position, byte)
        self._binary.learn(self._history.position, byte)

    def _begin(self, direction: str, size: int, after: str = "") -> None:
        if self._direction not in ("", direction, after):
            raise ValueError("a model codes in one direction only")
        if not 0 <= size <= self._size - self._history.position:
            raise ValueError("more bytes than the model was started for")
        self._direction = direction

    def _begin_byte(self) -> None:
        history = self._history
        history.learn_match()
        values = [*history.contexts(), *self._network_contexts()]
        values += [0] * (LINES - len(values))
        values += history.lines.contexts(history.bytes.__getitem__, history.position, history.last4 & 255)
        values += [0] * (PROGRAM - len(values))
        values += self._binary.contexts(history.bytes.__getitem__, history.position, history.last4)
        self._hash = [mix(values[c], c) for c in self._context]
        self._plant(0)
        self._apm_row = mix(history.last4 & 0xFFFF, 0)

    def _network_contexts(self) -> list[int]:
        """Values of contexts that depend on a network's prediction; none without a network."""
        return []

    def _read_network_bit(self, c0: int) -> int:
        """Set the inputs of a network; returns its logit of the next bit in the stretch domain, 0 without a network."""
        return 0

    def _select_by_network(self, selector: int, c0: int, bit: int) -> int:
        raise ValueError(f"selector {selector} needs a network")

    def _plant(self, nibble: int) -> None:
        """Set each context's tree for the next nibble; `nibble` is 0, or 16 + the first nibble."""
        direct = (nibble - 15 if nibble else 0) * NODES - 1
        for i, context in enumerate(self._context):
            if context == 0:
                self._tree[i] = self._order0 + direct
            elif context == 1:
                self._tree[i] = self._order0 + (1 + (self._history.last4 & 255)) * ORDER1 + direct
            else:
                self._tree[i] = find_tree(
                    self._memory,
                    self._buckets,
                    self._tables.priority,
                    mix(self._hash[i], nibble) if nibble else self._hash[i],
                )

    def _predict(self, c0: int, bit: int) -> int:
        """Probability that the next bit is 1, in 2^-16; `c0` is a leading one and the byte's bits so far."""
        if bit == 4:
            self._plant(c0)
        n, history, x = len(self._context), self._history, self._x
        node = c0 if bit < 4 else 1 << (bit - 4) | c0 & (1 << (bit - 4)) - 1
        self._at = self._tree + node
        self._state = self._memory[self._at]
        self._map_at = self._rows + self._state
        p = self._maps[self._map_at] >> 20
        x[:n] = self._stretch[p]
        x[n : 2 * n] = p - 2048 >> 2
        order = int(np.count_nonzero(self._state[2:9]))
        self._expected_bit = -1
        x[2 * n] = x[2 * n + 1] = 0
        if history.expected >= 0 and (history.expected | 256) >> (8 - bit) == c0:
            self._expected_bit = history.expected >> (7 - bit) & 1
            self._match_at = match_bucket(history.match_length)
            q = int(self._match_map[self._match_at]) >> 20
            sign = 1 if self._expected_bit else -1
            x[2 * n] = sign * self._stretch[q]
            x[2 * n + 1] = sign * (q - 2048 >> 2)
        self._network_logit = self._read_network_bit(c0)
        self._sets = [
            first
            + (
                self._binary.select(selector, c0, bit)
                if selector >= PROGRAM_SELECTORS
                else history.lines.select(selector, bit)
                if selector >= LINES_SELECTORS
                else self._select_by_network(selector, c0, bit)
                if selector >= FIRST_NETWORK_SELECTOR
                else history.select(selector, c0, bit, order, self._expected_bit)
            )
            for first, selector in zip(self._first_set, self._selector, strict=True)
        ]
        self._chosen = self._weights[self._sets]
        self._y[: len(self._sets)] = dot(self._chosen, x)
        self._p = self._squash[self._y[: len(self._sets)] + HALF]
        s = int(self._y[0])
        if len(self._selector) > 1:
            self._final_at = c0
            self._final_set = self._final[c0]
            s = int(dot(self._final_set, self._y))
        self._mixed = mixed = int(self._squash[s + HALF])
        p1 = self._refiners[0].refine(c0 | (history.last4 & 255) << 8, s)
        p2 = p1 if len(self._refiners) < 2 else self._refiners[1].refine((self._apm_row ^ c0 * 0x9E35) % APM_HASHED, s)
        return min(max(self._blend(mixed, p1, p2), 1), 65535)

    def _blend(self, mixed: int, p1: int, p2: int) -> int:
        return 2 * mixed + 3 * p1 + 3 * p2 + 4 >> 3

    def _update(self, y: int) -> None:
        for refiner in self._refiners:
            refiner.update(y)
        if len(self._selector) > 1:
            at, wrong = np.array([self._final_at]), np.array([(y << 16) - self._mixed])
            rate = rates(self._tables.reciprocal, self._final_errors[at], self._final_rate, self._final_boost)
            self._final_set[:] = bounded(self._final_set + self._y * (wrong * rate + 4096 >> 13))
            count_errors(self._final_errors, at, wrong)
        sets, wrong = np.array(self._sets), (y << 16) - self._p
        errors = wrong * rates(self._tables.reciprocal, self._errors[sets], self._rate, self._boost) + 4096 >> 13
        count_errors(self._errors, sets, wrong)
        # Online gradient descent on the code length (Mattern 2013): error times input.
        self._weights[self._sets] = bounded(self._chosen + errors[:, None] * self._x)
        move(self._tables.reciprocal, self._maps, self._map_at, y, self._map_limit)
        self._memory[self._at] = self._tables.next[y][self._state]
        if self._expected_bit >= 0:
            move(self._tables.reciprocal, self._match_map, np.array([self._match_at]), self._expected_bit == y, 1022)


def lanes_of(kinds: bytes, match_bits: int, match_minimum: int, size: int, lanes: int) -> list[History]:
    """Lanes of equal length, the last ones shorter, that together are a block of `size` bytes."""
    shared = Shared(match_bits)
    length = -(-size // lanes)
    edges = [min(length * k, size) for k in range(lanes + 1)]
    return [History(kinds, match_bits, match_minimum, shared, size, origin, end) for origin, end in pairwise(edges)]
