"""The mixer of pictures in NumPy: the specification of pixel_mixer*.{h,c} and the fallback where no C was built.

    neighbours --> predictions --> distributions --> logits of the bit -+
               --> contexts --> slots --> cells ------------------------+--> mixers --> final mixer --> two maps --> p
               --> guesses ---------------------------------------------+

docs/image.md explains each part. All sums are sums of integers.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

from kolmo.native.coder.reference import BinaryDecoder, BinaryEncoder
from kolmo.native.mixer.primitives import HALF, MASK, AdaptiveMap, Tables, bounded, dot, mix
from kolmo.native.network.reference import network_stretch
from kolmo.native.pixel_mixer import shapes
from kolmo.native.pixel_mixer.contexts import Surroundings
from kolmo.native.pixel_mixer.neighbourhood import Planes, least_squares
from kolmo.native.pixels.network import PixelNetwork
from kolmo.native.tables import CURVE_KNOTS, SQUASH_SIZE, logistic

WHOLE, SPACE = 1 << 28, 1 << 10
NOTHING = 1 << 31  # an average of no events
CELL_LIMIT, PADDING_LIMIT = 1000, 255
Int = npt.NDArray[np.int64]
Code = Callable[[int, int, int], int]


class Spread:
    """The distribution of a byte, turned so that value (base + s) modulo 256 has the symbol s."""

    def __init__(self, base: int, center: int, inverse: int, sums: list[int] | None) -> None:
        self._base, self._center, self._inverse, self._sums = base, center, inverse, sums
        self._whole, self._space = (sums[256], 0) if sums else (WHOLE, SPACE)
        self._start = self._below(base)
        self.low, self.high = 0, self._whole + 256 * self._space

    def _below(self, value: int) -> int:
        """Weight of the values below `value`, 0..256: the tails belong to the first and the last value."""
        if value <= 0:
            return 0
        if self._sums:
            return self._sums[value]
        z = ((16 * value - 8 - self._center) * self._inverse >> 16) + 65536
        if value >= 256 or z >= 131072:
            return WHOLE
        if z < 0:
            return 0
        low, high = logistic()[z >> 6], logistic()[(z >> 6) + 1]
        return low + (high - low >> 6) * (z & 63)

    def before(self, symbol: int) -> int:
        """Weight of the symbols below `symbol`, 0..256."""
        value = self._base + symbol
        if value <= 256:
            return self._below(value) - self._start + self._space * symbol
        return self._whole - self._start + self._below(value - 256) + self._space * symbol


class PixelMixer:
    """A model of the bytes of one picture; `kolmo.predictors.embedded.kinds.image_model` explains the arguments."""

    def __init__(self, config: bytes, base: bytes, tables: bytes, prior: bytes, network: PixelNetwork | None) -> None:
        if tables != shapes.packed():
            raise ValueError("the configuration, the tables or the prior do not fit the kernel")
        values: tuple[int, ...] = struct.unpack(f"={17 + shapes.CATALOGUE}i", config)
        self._size, self._stride, self._channels, *order = values[:7]
        n = values[7]
        self._contexts = values[8 : 8 + n]
        self._selectors, slot_bits, guess_bits, *rates = values[8 + shapes.CATALOGUE :]
        self._rate, self._rate_start, self._rate_shift, self._final_rate, self._slot_limit, with_network = rates
        self._order = order[: self._channels]
        if not 1 <= self._channels <= shapes.TURNS or not self._channels <= self._stride <= shapes.MAX_STRIDE:
            raise ValueError("the configuration, the tables or the prior do not fit the kernel")
        if sorted(self._order) != list(range(self._channels)) or self._size < 1:
            raise ValueError("the configuration, the tables or the prior do not fit the kernel")
        if bool(with_network) != (network is not None):
            raise TypeError("the configuration does not fit the network")
        self._network, self._direction = network, ""
        self._tables = constants = Tables(base)
        self._stretch: list[int] = constants.stretch.tolist()
        self._squash: list[int] = constants.squash.tolist()
        self._reciprocal: list[int] = constants.reciprocal.tolist()
        self._buckets = shapes.buckets()

        rows = self._rows = 3 if self._channels >= 3 else 1
        inputs = self._inputs = shapes.inputs_of(n)
        s = self._selectors
        learned = np.frombuffer(prior, "=i4").astype(np.int64)
        sizes = [256 * n, shapes.GUESSES * shapes.CONFIDENCES, rows * shapes.PREDICTORS * shapes.SCALES]
        sizes += [rows * s * inputs, rows * shapes.FINAL_INPUTS, rows * shapes.SETS * shapes.TAPS]
        if len(learned) != sum(sizes):
            raise ValueError("the configuration, the tables or the prior do not fit the kernel")
        cells, guesses, scales, weights, final, began = np.split(learned, np.cumsum(sizes)[:-1])
        self._cells: list[int] = (cells & MASK).tolist()
        self._guess_map: list[int] = (guesses & MASK).tolist()
        turns = [turn if turn < rows else 0 for turn in range(self._channels)]
        self._scales: list[list[list[int]]] = scales.reshape(rows, shapes.PREDICTORS, -1)[turns].tolist()
        chosen = weights.reshape(rows, s, inputs)[turns]
        self._weights = [np.repeat(chosen[:, j], shapes.SELECTOR_SIZES[j], axis=0) for j in range(s)]
        self._final = np.repeat(final.reshape(rows, -1)[turns], 256, axis=0)
        curve = constants.squash[HALF - 2944 + 256 * np.arange(CURVE_KNOTS)]
        self._maps = [AdaptiveMap(curve.reshape(1, -1), 8192) for _ in range(2)]

        self._width = self._stride // self._channels
        self._planes = Planes(self._width, self._channels)
        squares = least_squares(self._planes, rows, began)
        self._around = Surroundings(self._planes, squares, guess_bits)
        self._slots = np.full(((1 << slot_bits) // 64, 16), NOTHING, np.uint32)
        self._slots[:, 0] = 0
        self._bytes = bytearray(self._size + shapes.TURNS)
        self._position = self._coded = 0
        self._padding: dict[int, int] = {}
        self._x = np.zeros(inputs, np.int64)
        self._x[n + 2 * shapes.SPREADS + shapes.GUESSES] = 256  # a constant input: the bias
        self._y = np.zeros(shapes.FINAL_INPUTS, np.int64)

    def encode(self, encoder: BinaryEncoder, data: bytes) -> None:
        """Code the picture's next rows and learn from them."""
        self._begin("encode", len(data))

        def code(y: int, p: int, at: int) -> int:
            encoder.encode(y, p)
            return y

        self._run(data, len(data), code)

    def decode(self, decoder: BinaryDecoder, size: int) -> bytes:
        """Decode the picture's next rows and learn from them: the mirror of `encode`."""
        self._begin("decode", size, after="costs")
        first = self._position
        self._run(bytes(size), size, lambda y, p, at: decoder.decode(p))
        return bytes(self._bytes[first : first + size])

    def costs(self, data: bytes) -> bytes:
        """16-bit probability (in 2^-16) of each coded bit, 8 for each byte, in the machine's byte order."""
        self._begin("costs", len(data))
        found = np.zeros(8 * len(data), "=u2")

        def code(y: int, p: int, at: int) -> int:
            found[at] = p if y else 65536 - p
            return y

        self._run(data, len(data), code)
        return found.tobytes()

    def _begin(self, direction: str, size: int, after: str = "") -> None:
        left = self._size - self._position
        if self._direction not in ("", direction, after):
            raise ValueError("a model codes in one direction only")
        if not 0 <= size <= left:
            raise ValueError("more bytes than the model was started for")
        if size % self._stride and size != left:
            raise ValueError("a picture is coded in whole rows")
        self._direction = direction

    def _run(self, data: bytes, size: int, code: Code) -> None:
        """Code rows; `code` takes a bit (when decoding, 0), the probability of a 1, and the bit's place."""
        for first in range(0, size, self._stride):
            end = min(first + self._stride, size)
            self._planes.begin_row()
            for at in self._places(end - first):
                byte = data[first + at]
                if at < self._width * self._channels:
                    byte = self._code_byte(byte, code, 8 * (first + at))
                else:
                    byte = self._code_padding(byte, at, code, 8 * (first + at))
                self._bytes[self._position + at] = byte
            self._position += end - first
            self._planes.row += 1

    def _places(self, size: int) -> Iterator[int]:
        """Offsets of a row's bytes in the order of coding; `planes` are set to each."""
        planes, channels = self._planes, self._channels
        for planes.x in range(min(self._width, -(-size // channels))):
            for planes.turn, offset in enumerate(self._order):
                if planes.x * channels + offset < size:
                    yield planes.x * channels + offset
                else:
                    planes.skip()
        yield from range(self._width * channels, size)

    def _code_padding(self, byte: int, at: int, code: Code, place: int) -> int:
        """A byte behind the pixels of a row, by the one above it."""
        above = self._bytes[self._position + at - self._stride] if self._planes.row else 0
        c0 = 1
        for bit in range(8):
            average = self._padding.get(above * 256 + c0, NOTHING)
            y = code(byte >> (7 - bit) & 1, min(max(average >> 16, 1), 65535), place + bit)
            self._padding[above * 256 + c0] = self._moved(average, y, PADDING_LIMIT)
            c0 = c0 << 1 | y
        return c0 & 255

    def _moved(self, average: int, y: int, limit: int) -> int:
        """An averaging probability (22 bits, with a 10-bit count), moved towards the bit."""
        count, p = average & 1023, average >> 10
        p += (((1 << 22) - 1 if y else 0) - p) * self._reciprocal[count] >> 16
        return p << 10 | count + (count < limit)

    def _code_byte(self, byte: int, code: Code, place: int) -> int:
        around, turn = self._around, self._planes.turn
        around.begin()
        self._hashes = [mix(mix(v, k), turn) for k, v in ((k, around.context(k)) for k in self._contexts)]
        self._begin_spreads()
        around.find_guesses()
        span = 1 << self._rate_shift
        self._rate_now = self._rate + self._rate_start * span // (span + self._coded)
        symbol = byte - around.base & 255
        c0, low, high = 1, 0, 256
        for bit in range(8):
            if bit in (0, 4):
                self._plant(c0 if bit else 0)
            middle = low + high >> 1
            p = self._predict(c0, bit, middle)
            y = code(symbol >> (7 - bit) & 1, p, place + bit)
            self._update(y)
            low, high = (middle, high) if y else (low, middle)
            c0 = c0 << 1 | y
        byte = c0 + around.base & 255
        for k, predicted in enumerate(around.predicted):
            scales, step = self._scales[turn][k], around.scale_at[k]
            scales[step] += (abs(16 * byte - predicted) << 12) - scales[step] >> 7
        around.learn(byte)
        self._coded += 1
        return byte

    def _begin_spreads(self) -> None:
        around, planes = self._around, self._planes
        self._spreads = []
        for k, predicted in enumerate(around.predicted):
            scale = self._scales[planes.turn][k][around.scale_at[k]]
            self._spreads.append(Spread(around.base, predicted, (11356 << 16) // ((scale >> 12) + 2), None))
        if self._network is None:
            return
        found = self._network.predict(
            bytes(self._bytes), self._stride, self._channels, self._order, planes.row, planes.x, planes.turn
        )
        weights = np.frombuffer(found, "=u4")[256:].astype(np.int64)
        self._spreads.append(Spread(around.base, 0, 0, [0, *np.cumsum(weights).tolist()]))

    def _plant(self, nibble: int) -> None:
        """Set each context's slots for the next nibble; `nibble` is 0, or 16 + the first nibble."""
        self._slot = []
        for h in self._hashes:
            h = mix(h, nibble) if nibble else h
            slot = h % len(self._slots)
            if self._slots[slot, 0] != h >> 16 | 1:
                self._slots[slot] = NOTHING
                self._slots[slot, 0] = h >> 16 | 1
            self._slot.append(slot)

    def _predict(self, c0: int, bit: int, middle: int) -> int:
        """Probability that the next bit is 1, in 2^-16; `c0` is a leading one and the symbol's bits so far."""
        n, x, around, turn = len(self._contexts), self._x, self._around, self._planes.turn
        self._node = c0 if bit < 4 else 1 << (bit - 4) | c0 & (1 << (bit - 4)) - 1
        self._cell = []
        for i, slot in enumerate(self._slot):
            average = int(self._slots[slot, self._node])
            step = self._stretch[average >> 20] + 2048 >> 7
            self._cell.append(256 * i + 32 * self._buckets[average & 1023] + step)
            x[i] = self._stretch[self._cells[self._cell[-1]] >> 20] if average & 1023 else 0
        self._middle = [spread.before(middle) for spread in self._spreads]
        for k, (spread, weight) in enumerate(zip(self._spreads, self._middle, strict=True)):
            s = network_stretch(weight - spread.low + 1, spread.high - weight + 1)
            x[n + k] = s
            x[n + shapes.SPREADS + k] = self._squash[s + HALF] - 32768 >> 6
        best = int(x[n + len(self._spreads) - 1]) if self._network else int(x[n + 5])
        self._guessed, agree = [-1] * shapes.GUESSES, 0
        for k, (guess, confidence) in enumerate(zip(around.guesses, around.confidences, strict=True)):
            symbol = guess - around.base & 255
            x[n + 2 * shapes.SPREADS + k] = 0
            if guess < 0 or (symbol | 256) >> (8 - bit) != c0:
                continue
            self._guessed[k] = symbol >> (7 - bit) & 1
            s = self._stretch[self._guess_map[k * shapes.CONFIDENCES + confidence] >> 20]
            x[n + 2 * shapes.SPREADS + k] = s if self._guessed[k] else -s
            agree += 1
        coarse = around.level >> 2
        sets = (
            c0,
            (around.level >> 1) * 8 + bit,
            (best + 2048 >> 7) * 8 + bit,
            around.texture,
            (int(x[n]) + 2048 >> 8) * 16 + (int(x[n + 1]) + 2048 >> 8),
            (agree * 8 + bit) * 8 + coarse,
        )
        self._sets = [turn * shapes.SELECTOR_SIZES[j] + sets[j] for j in range(self._selectors)]
        self._chosen = np.stack([w[k] for w, k in zip(self._weights, self._sets, strict=True)])
        self._y[: self._selectors] = dot(self._chosen, x)
        self._p = self._tables.squash[self._y[: self._selectors] + HALF]
        self._final_set = self._final[turn * 256 + c0]
        s = int(dot(self._final_set, self._y))
        self._mixed = self._squash[s + SQUASH_SIZE // 2]
        p0 = self._maps[0].refine((turn * 256 + c0) * 8 + coarse, s)
        p1 = self._maps[1].refine(((around.center >> 5) * 4 + turn) * 256 + c0, s)
        return min(max(2 * self._mixed + p0 + p1 + 2 >> 2, 1), 65535)

    def _update(self, y: int) -> None:
        for refiner in self._maps:
            refiner.update(y, 6)
        error = ((y << 16) - self._mixed) * self._final_rate + 4096 >> 13
        self._final_set[:] = bounded(self._final_set + self._y * error)
        errors = ((y << 16) - self._p) * self._rate_now + 4096 >> 13
        chosen = bounded(self._chosen + errors[:, None] * self._x)
        for weights, k, row in zip(self._weights, self._sets, chosen, strict=True):
            weights[k] = row
        for slot, cell in zip(self._slot, self._cell, strict=True):
            self._slots[slot, self._node] = self._moved(int(self._slots[slot, self._node]), y, self._slot_limit)
            self._cells[cell] = self._moved(self._cells[cell], y, CELL_LIMIT)
        for k, bit in enumerate(self._guessed):
            if bit >= 0:
                at = k * shapes.CONFIDENCES + self._around.confidences[k]
                self._guess_map[at] = self._moved(self._guess_map[at], int(bit == y), CELL_LIMIT)
        for spread, weight in zip(self._spreads, self._middle, strict=True):
            if y:
                spread.low = weight
            else:
                spread.high = weight
