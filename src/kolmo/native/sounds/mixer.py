"""The mixer of sound in NumPy: the specification of sound_mixer.{h,c} and sound_loop.h (docs/audio.md).

    predictions --logistic distributions--> logits of the bit --mixers, one weight set for each selector--> final mixer
    --> two maps --> p

Integers, but for least squares (`filters.py`) and the distances of a distribution, which are elementwise binary64.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from kolmo.native.coder.reference import BinaryDecoder, BinaryEncoder
from kolmo.native.mixer.primitives import (
    BUCKET,
    HALF,
    MASK,
    AdaptiveMap,
    Tables,
    bounded,
    dot,
    find_tree,
    mix,
    move,
)
from kolmo.native.samples.mixture import SampleMixture, sample_split
from kolmo.native.samples.network import OTHER, PAST, SampleNetwork, look, mixtures
from kolmo.native.sounds.filters import Filter, Stage, within
from kolmo.native.tables import CURVE_KNOTS, SQUASH_SIZE

Int = npt.NDArray[np.int64]

FILTERS, STAGES = 4, 3  # most filters and stages
SPANS = 3  # averages of each prediction's error, over about 8, 32 and 128 samples
CONTEXTS = 6  # hashed contexts, all or none
SELECTOR_SETS = (192, 128, 2048, 768, 576)  # weight sets
STORED = 1  # the selector of which a prior has all sets
FINAL_INPUTS, FINAL_SETS = 8, 128
FAR = 1 << 20  # most distance of a value from a prediction, in 1/256 of a scale
CURVE_ROWS = (2048, 6144)
TRENDS = (3, 5, 7, 9, 11, 14, 20)  # bounds of `trend`
DISTANCES = (
    32,
    96,
    192,
    320,
    512,
    768,
    1280,
)  # bounds of a middle's distance from the last prediction, in 1/256 of a scale
NUMBERS = 5 + 1 + 4 * FILTERS + 2 + 2 * STAGES + 1 + 2 + 5  # of a configuration


class _Channel:
    """The adaptive predictors of one channel."""

    def __init__(self, config: _Config) -> None:
        predictions = config.predictions
        both = config.channels > 1
        self.filters = [
            Filter(own + (other if both else 0), every, forget, 12, 1.0) for own, other, every, forget in config.filters
        ]
        self.final = Filter(predictions, 1, config.final_forget, 16, 16.0)
        self.final.weights[predictions - 2] = 1 << 20
        self.stages = [Stage(taps, step) for taps, step in config.stages]
        self.error = [[1 << config.bits + 12] * SPANS for _ in range(predictions)]  # in 2^-18 of a sample
        self.count = 0
        self.past: Int = np.zeros(PAST, np.int64)  # newest first

    def push(self, value: int) -> None:
        """A new sample."""
        self.past = np.concatenate([[value], self.past[:-1]])
        self.count += 1


class _Config:
    """The numbers of `sound_config`, in its order."""

    def __init__(self, config: bytes) -> None:
        numbers = iter(struct.unpack(f"={NUMBERS}i", config))

        def take(count: int) -> list[int]:
            return [next(numbers) for _ in range(count)]

        self.bits, self.channels, self.big, self.plain, self.phase = take(5)
        count = next(numbers)
        columns = [take(FILTERS)[:count] for _ in range(4)]
        self.filters = list(zip(*columns, strict=True))
        self.base, stages = take(2)
        self.stages = list(zip(take(STAGES)[:stages], take(STAGES)[:stages], strict=True))
        self.final_forget, self.contexts, self.table_bits = take(3)
        self.rate, self.rate_start, self.rate_shift, self.final_rate, self.map_limit = take(5)
        self.predictions = len(self.filters) + len(self.stages) + 1


class SoundMixer:
    """A model of one stream of sound; `kolmo.predictors.embedded.kinds.audio` explains the arguments."""

    def __init__(
        self, config: bytes, tables: bytes, softplus: bytes, prior: bytes, size: int, network: SampleNetwork | None
    ) -> None:
        self._config = c = _Config(config)
        self._network, self._size, self._direction = network, size, ""
        self._tables = Tables(tables)
        self._softplus: Int = np.frombuffer(softplus, "=u2").astype(np.int64)
        self._experts = SPANS * c.predictions
        self._inputs = inputs = self._experts + (network is not None) + 1 + 2 * c.contexts + 7 & ~7
        learned = np.frombuffer(prior, "=i4").astype(np.int64)
        stored = [count if j == STORED else 1 for j, count in enumerate(SELECTOR_SETS)]
        parts = np.cumsum([256 * c.contexts, *[count * inputs for count in stored]])
        maps, *weights, final = np.split(learned, parts)
        self._maps: Int = maps & MASK
        sets = [
            np.tile(part.reshape(-1, inputs), (count // kept, 1))
            for part, count, kept in zip(weights, SELECTOR_SETS, stored, strict=True)
        ]
        self._weights: Int = np.concatenate(sets)
        self._first_set: Int = np.cumsum([0, *SELECTOR_SETS[:-1]])
        self._final: Int = np.tile(final, (FINAL_SETS, 1))
        straight = self._tables.squash[HALF - 2944 + 256 * np.arange(CURVE_KNOTS)].reshape(1, -1)
        self._curves = [AdaptiveMap(straight, rows) for rows in CURVE_ROWS]
        self._buckets = (1 << c.table_bits) // BUCKET
        self._memory: npt.NDArray[np.uint8] = np.zeros(1 << c.table_bits if c.contexts else 0, np.uint8)
        self._channels = [_Channel(c) for _ in range(c.channels)]
        self._position = self._coded = 0

    def encode(self, encoder: BinaryEncoder, data: bytes) -> None:
        """Code the stream's next samples and learn from them."""
        self._begin("encode", len(data))

        def code(y: int, p: int) -> int:
            encoder.encode(y, p)
            return y

        self._code(data, len(data), code)

    def decode(self, decoder: BinaryDecoder, size: int) -> bytes:
        """Decode the stream's next samples and learn from them: the mirror of `encode`."""
        self._begin("decode", size, after="costs")
        return self._code(None, size, lambda _, p: decoder.decode(p))

    def costs(self, data: bytes) -> bytes:
        """16-bit probability (in 2^-16) of each coded bit, 8 for each byte, in the machine's byte order."""
        self._begin("costs", len(data))
        costs: list[int] = []

        def code(y: int, p: int) -> int:
            costs.append(p if y else 65536 - p)
            return y

        rows = np.empty((len(data), 8), "=u2")
        self._code(data, len(data), code, lambda places: _set_rows(rows, places, costs))
        return rows.tobytes()

    def _begin(self, direction: str, size: int, after: str = "") -> None:
        if self._direction not in ("", direction, after):
            raise ValueError("a model codes in one direction only")
        end, sample = self._position + size, self._config.bits // 8
        ends = end == self._size or (end + self._config.phase) % sample == 0 or end + sample > self._size
        if size < 0 or end > self._size or not ends:
            raise ValueError("more bytes than the model was started for, or a part of a sample")
        self._direction = direction

    def _code(
        self,
        data: bytes | None,
        size: int,
        code: Callable[[int, int], int],
        done: Callable[[range], None] | None = None,
    ) -> bytes:
        """Code `size` bytes; `code` codes a bit (0 where it is not known) with a probability, and returns it.

        `done` is called with the places of the bytes that were coded, in the order in which they were.
        """
        out = bytearray(data or bytes(size))
        sample, at = self._config.bits // 8, 0
        while at < size:
            place = self._position + self._config.phase
            whole = place % sample == 0 and self._size - self._position >= sample
            count = sample if whole else 1
            places = range(at, at + count) if self._config.big else range(at + count - 1, at - 1, -1)
            value = int.from_bytes(bytes(out[k] for k in places), "big")
            if whole:
                value = self._code_sample(place // sample % self._config.channels, value, code)
            else:
                bits = [code(value >> k & 1, 1 << 15) for k in range(7, -1, -1)]
                value = int("".join(map(str, bits)), 2)
            for k, byte in zip(places, value.to_bytes(count, "big"), strict=True):
                out[k] = byte
            if done:
                done(places)
            at += count
            self._position += count
        return bytes(out)

    def _code_sample(self, c: int, value: int, code: Callable[[int, int], int]) -> int:
        config = self._config
        bits, half = config.bits, 1 << config.bits - 1
        top = 0 if config.plain else half
        value ^= top
        self._predict(c)
        self._spread(c)
        self._look(c)
        self._low, self._width = -half, 2 * half
        self._below, self._above = self._levels(-half)[0], self._levels(half)[0]
        if self._network:
            self._mixture = self._ask_network(c, self._network)
            self._mass_below, self._mass_above = 0, self._mixture.below(half)
        span = 1 << config.rate_shift
        rate = config.rate + config.rate_start * span // (span + self._coded)
        known = 1
        for bit in range(bits):
            y = code(value >> bits - 1 - bit & 1, self._predict_bit(c, bit, known))
            self._update_bit(y, rate)
            known = known << 1 | y
        self._learn(c, self._low)
        self._coded += 1
        return (known ^ top) & (1 << bits) - 1

    def _predict(self, c: int) -> None:
        """Predictions of the next sample of channel c, in 1/256 of a sample."""
        config, h = self._config, self._channels[c]
        most = 1 << config.bits + 7
        beside = self._channels[c - 1 if c else 1].past if config.channels > 1 else None
        self._predictions = []
        for f, (own, other, _, _) in zip(h.filters, config.filters, strict=True):
            f.x = h.past[:own] if beside is None else np.concatenate([h.past[:own], beside[:other]])
            self._predictions.append(within(f.predict(), most))
        so_far = self._predictions[config.base]
        self._corrections = []
        for stage in h.stages:
            self._corrections.append(stage.predict())
            so_far = within(so_far + self._corrections[-1] * 16, most)
            self._predictions.append(so_far)
        h.final.x = np.array([*(p >> 4 for p in self._predictions), 16], np.int64)
        self._predictions.append(within(h.final.predict(), most))

    def _spread(self, c: int) -> None:
        """Logistic distributions around each prediction, with three scales each."""
        scales = [max((size >> 10) * 185 >> 8, 8) for sizes in self._channels[c].error for size in sizes]
        self._place = np.repeat(np.array(self._predictions, np.float64), SPANS)
        self._sharpness = 256.0 / np.array(scales, np.float64)

    def _levels(self, value: int) -> tuple[Int, int]:
        """Logits' parts at the boundary below a value; and |z| of the last prediction, in 1/256."""
        z = np.abs(float(value * 256 - 128) - self._place) * self._sharpness
        distance = np.minimum(z, float(FAR)).astype(np.int64)
        return distance * 8 + self._softplus[np.minimum(distance, len(self._softplus) - 1)], int(distance[-SPANS])

    def _look(self, c: int) -> None:
        """What selectors and contexts are computed from."""
        h, half = self._channels[c], 1 << self._config.bits - 1
        error = h.error[-1]
        self._centre = self._predictions[-1] + 128 >> 8
        self._size_now = error[0] >> 10
        ratio = self._size_now * 8 // ((error[2] >> 10) + 1)
        self._level = min(max((self._size_now * 16 + 1).bit_length() - 5, 0), 23)
        self._trend = sum(ratio >= bound for bound in TRENDS)
        shift = max(self._level - 5, 0)
        centre, last, before = self._centre + half, int(h.past[0]) + half, int(h.past[1]) + half
        near = centre >> shift
        self._hash = [
            mix(c, 0),
            mix(near, 1),
            mix(last >> shift // 2, 2),
            mix(mix(centre >> shift + 1, self._level), 3 + (self._trend << 8)),
            mix(mix(last >> shift, before >> shift), 4),
            mix(mix(near, (last - before & MASK) >> shift), 5),
        ][: self._config.contexts]

    def _ask_network(self, c: int, network: SampleNetwork) -> SampleMixture:
        other: Int = np.zeros((1, OTHER), np.int64)
        if c:  # one sample ahead: the sample of the same time is known
            other = self._channels[c - 1].past[None, :OTHER]
        past, bits = self._channels[c].past[None], self._config.bits
        view = look(past, other, network.coefficients, stereo=c > 0, bits=bits)
        location, scale, weight = mixtures(view, network.outputs(view.inputs))
        return SampleMixture(bits, location[0].tolist(), scale[0].tolist(), weight[0].tolist())

    def _predict_bit(self, c: int, bit: int, known: int) -> int:
        middle = self._low + self._width // 2
        self._middle, away = self._levels(middle)
        x = np.zeros(self._inputs, np.int64)
        n = self._experts
        x[:n] = np.clip((self._below - self._above) >> 4, -2047, 2047)
        upper = int(middle * 256 - 128 >= self._predictions[-1])
        x[n] = -256 if upper else 256
        if self._config.contexts:
            if bit % 4 == 0:
                hashes = [mix(h, known) for h in self._hash]
                self._trees = np.array(
                    [find_tree(self._memory, self._buckets, self._tables.priority, h) for h in hashes]
                )
            self._history = self._trees + (1 << bit % 4 | known & (1 << bit % 4) - 1)
            self._at = 256 * np.arange(CONTEXTS) + self._memory[self._history]
            p = self._maps[self._at] >> 20
            x[n + 1 : n + 1 + 2 * CONTEXTS : 2] = self._tables.stretch[p]
            x[n + 2 : n + 2 + 2 * CONTEXTS : 2] = p - 2048 >> 2
        if self._network:
            self._mass_middle = self._mixture.below(middle)
            x[n + 1 + 2 * self._config.contexts] = sample_split(self._mass_below, self._mass_middle, self._mass_above)
        self._x = x
        distance = sum(away >= bound for bound in DISTANCES)
        ratio = max(((self._width << 15) // (self._size_now + 1)).bit_length() - 1, 0)
        wide = min(max(ratio - 4, 0), 15)
        nearby = wide * 8 + distance
        partial = 1 << bit % 8 | known & (1 << bit % 8) - 1
        sets = (
            bit * 8 + c,
            nearby,
            (wide * 16 + min(self._level, 15)) * 8 + self._trend,
            bit // 8 * 256 + partial,
            self._level * 24 + bit,
        )
        self._sets = self._first_set + np.array(sets)
        self._y = np.zeros(FINAL_INPUTS, np.int64)
        self._y[: len(sets)] = dot(self._weights[self._sets], x)
        self._p = self._tables.squash[self._y[: len(sets)] + HALF]
        self._final_set = nearby
        s = int(dot(self._final[nearby], self._y))
        self._mixed = int(self._tables.squash[s + SQUASH_SIZE // 2])
        side = nearby * 2 + upper
        p0 = self._curves[0].refine(side * 8 + self._trend, s)
        p1 = self._curves[1].refine(self._level * 256 + side, s)
        return min(max(2 * self._mixed + p0 + p1 + 2 >> 2, 1), 65535)

    def _update_bit(self, y: int, rate: int) -> None:
        for curve in self._curves:
            curve.update(y)
        error = ((y << 16) - self._mixed) * self._config.final_rate + 4096 >> 13
        self._final[self._final_set] = bounded(self._final[self._final_set] + self._y * error)
        errors = ((y << 16) - self._p) * rate + 4096 >> 13
        self._weights[self._sets] = bounded(self._weights[self._sets] + errors[:, None] * self._x)
        if self._config.contexts:
            move(self._tables.reciprocal, self._maps, self._at, y, self._config.map_limit)
            self._memory[self._history] = self._tables.next[y][self._memory[self._history]]
        self._width //= 2
        if y:
            self._low += self._width
            self._below = self._middle
            self._mass_below = self._mass_middle if self._network else 0
        else:
            self._above = self._middle
            self._mass_above = self._mass_middle if self._network else 0

    def _learn(self, c: int, value: int) -> None:
        """Learn the sample that the predictions were made of."""
        config, h = self._config, self._channels[c]
        first = int(self._tables.reciprocal[min(h.count, 1022)])
        for sizes, prediction in zip(h.error, self._predictions, strict=True):
            size = abs(value * 256 - prediction) << 10
            for s in range(SPANS):
                sizes[s] += (size - sizes[s]) * max(65536 >> 3 + 2 * s, first) >> 16
        for f in h.filters:
            f.learn(value)
        rest = value * 256 - self._predictions[config.base] >> 4
        for stage, correction in zip(h.stages, self._corrections, strict=True):
            stage.learn(rest, correction)
            rest -= correction
        h.final.learn(value * 16)
        h.push(value)


def _set_rows(rows: npt.NDArray[np.uint16], places: range, costs: list[int]) -> None:
    """Put the costs of bytes at their places."""
    for place, k in zip(places, range(0, len(costs), 8), strict=True):
        rows[place] = costs[k : k + 8]
    costs.clear()
