"""The network of docs/neural.md in NumPy: the specification of network*.{h,c} and the fallback where no C was built.

Sums are sums of integers; all else is elementwise in binary32, one rounding for each operation written. So the C
kernel, at any vector width, and torch, on any device, give the same bits, for any number of lanes and steps at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from kolmo.native import tables as constants

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
f32 = np.float32

MAX_LAYERS, MAX_TABLES, MAX_WIDTH = 32, 8, 1024
ORDERS = (0, 2, 3, 4)  # of a hashed table
MAX_FLOAT = 2.0**20  # greatest magnitude of a float in the file: up to it, no operation overflows
SUMS = 512
BATCH_ROWS = 512  # lanes times steps computed at a time

SPREAD = np.uint32(0x9E3779B1)
WORD = np.uint32(0x2F0B4C47)
LOWER = np.arange(256, dtype=np.uint32)
LOWER[65:91] += 32
LETTER = np.zeros(256, bool)
LETTER[97:123] = LETTER[65:91] = LETTER[128:] = True


class Hasher:
    """Follows lanes of bytes and computes the entry of each table after each byte (docs/neural.md, "Hashed tables").

    Args:
        tables: (order, log2 of the entries) of each; order 0 is the current word.
        lanes: their number.
    """

    def __init__(self, tables: Sequence[tuple[int, int]], lanes: int) -> None:
        self.tables = tuple(tables)
        self.past = np.zeros(lanes, np.uint32)  # the last four bytes, newest lowest
        self.word = np.zeros(lanes, np.uint32)
        self.inside = np.zeros(lanes, bool)

    def reset(self, lanes: npt.NDArray[np.bool_]) -> None:
        """Forget the lanes that a mask marks."""
        self.past[lanes] = 0
        self.word[lanes] = 0
        self.inside[lanes] = False

    def step(self, symbols: Bytes) -> npt.NDArray[np.int64]:
        """Entries after these bytes, (tables, steps, lanes); `symbols` is (steps, lanes)."""
        past = np.empty(symbols.shape, np.uint32)
        words = np.empty(symbols.shape, np.uint32)
        for t, row in enumerate(symbols):
            wide = row.astype(np.uint32)
            self.past = self.past << np.uint32(8) | wide
            letter = LETTER[row]
            grown = (np.where(self.inside, self.word, np.uint32(0)) + LOWER[row] + np.uint32(1)) * WORD
            self.word = np.where(letter, grown, self.word)
            self.inside = letter
            past[t] = self.past
            words[t] = np.where(letter, grown, self.word + (wide + np.uint32(1)) * SPREAD)
        out = np.empty((len(self.tables), *symbols.shape), np.int64)
        for k, (order, bits) in enumerate(self.tables):
            key = words if order == 0 else past & np.uint32((1 << 8 * order) - 1)
            key = (key ^ key >> np.uint32(15)) * SPREAD
            out[k] = (key ^ key >> np.uint32(13)) * WORD >> np.uint32(32 - bits)
        return out


def normalise(x: Floats, scale: float) -> Floats:
    """Rows scaled to a root mean square of `scale`, as integers within +-127 (held as floats)."""
    near = np.clip(x * f32(4096), f32(-67108864), f32(67108864))
    i = ((near + f32(12582912)) - f32(12582912)).astype(np.int64)
    total = (i * i).sum(-1, keepdims=True)
    m = (total.astype(np.float64) * (1 / (x.shape[-1] * 2.0**24))).astype(f32)
    by = f32(scale) / np.sqrt(m + f32(2.0**-20))
    u: Floats = np.rint(np.clip(x * by, f32(-127), f32(127)))
    return u


def squeeze(t: Floats) -> Floats:
    """Algebraic sigmoid: 0.5 + 0.5 t / sqrt(1 + t^2)."""
    s: Floats = f32(0.5) + (f32(0.5) * t) / np.sqrt(f32(1) + t * t)
    return s


def network_stretch(zeros: int, ones: int) -> int:
    """ln(p / (1 - p)) in steps of 1/256 within +-2047, from the weights of a zero and of a one (both positive)."""
    return min(max((_ln(ones) - _ln(zeros) + 8) >> 4, -2047), 2047)


def _ln(s: int) -> int:
    n = s.bit_length() - 1
    return n * 2839 + constants.logarithms()[(s << 10 >> n) - 1024]


class Network:
    """Weights of a network, shared by all lanes.

    Args:
        config: layers, state, embedding, slot, number of tables, then order and bits of each: int32, native order.
        weights: all tensors of docs/neural.md's table, in its order, as in the file, without padding.

    Raises:
        ValueError: sizes or values that docs/neural.md does not allow.
    """

    def __init__(self, config: bytes, weights: bytes) -> None:
        if len(config) % 4 or not 20 <= len(config) <= 4 * (5 + 2 * MAX_TABLES):
            raise ValueError(_CONFIGURATION)
        layers, state, embedding, slot, count, *rest = np.frombuffer(config, "=i4").tolist()
        self.layers, self.state, self.embedding_width, self.slot = layers, state, embedding, slot
        self.tables: list[tuple[int, int]] = list(zip(rest[::2], rest[1::2], strict=False))
        self.width = width = embedding + slot * count
        if (
            len(rest) != 2 * count
            or not 1 <= layers <= MAX_LAYERS
            or not all(0 < v <= MAX_WIDTH and v % 64 == 0 for v in (state, width))
            or not all(0 <= v <= MAX_WIDTH and v % 32 == 0 for v in (embedding, slot))
            or embedding == 0
            or (count and slot == 0)
            or not all(order in ORDERS and 4 <= bits <= 24 for order, bits in self.tables)
        ):
            raise ValueError(_CONFIGURATION)
        size = 256 * (embedding + 4) + sum((slot // 2 + 2) << bits for _, bits in self.tables)
        size += layers * (4 * state * width + 16 * state + 4 * width) + 256 * (width + 8)
        if len(weights) != size:
            raise ValueError(f"the weights do not fit the kernel: {len(weights)} bytes, not {size}")
        take = _Tensors(weights)
        self.embedding = take.integers(256, embedding).astype(f32) * take.floats(256)[:, None]
        self.slots = [(take.nibbles(1 << bits, slot), take.halves(1 << bits)) for _, bits in self.tables]
        self.inward, self.outward = [], []
        for _ in range(layers):
            self.inward.append((take.integers(3 * state, width), take.floats(3 * state), take.floats(state)))
            self.outward.append((take.integers(width, state), take.floats(width)))
        self.head = take.integers(256, width), take.floats(256), take.floats(256)

    def start(self, lanes: int) -> NetworkLanes:
        """Lanes before their first byte.

        Raises:
            ValueError: not 1..65536 lanes.
        """
        return NetworkLanes(self, lanes)


class NetworkLanes:
    """The state of a number of lanes: recurrent states, and the last bytes."""

    def __init__(self, network: Network, lanes: int) -> None:
        if not 1 <= lanes <= 65536:
            raise ValueError(f"1 to 65536 lanes, not {lanes}")
        self.network, self.lanes = network, lanes
        self._states = np.zeros((network.layers, lanes, network.state), f32)
        self._hasher = Hasher(network.tables, lanes)

    def step(self, symbols: bytes, first: int = 0, last: int | None = None) -> bytes:
        """Read `symbols`, steps x lanes bytes; the caller adds the line end before the first.

        Only lanes `first` .. `last` - 1 advance, by default all; the sums of the others are zeros.

        Returns:
            Partial sums of the weights of the byte after each: uint32, native order, steps x lanes x 512.

        Raises:
            ValueError: the length of `symbols` is not a multiple of the number of lanes, or there are no such lanes.
        """
        last = self.lanes if last is None else last
        if len(symbols) % self.lanes:
            raise ValueError(f"{len(symbols)} bytes are not a whole number of steps of {self.lanes} lanes")
        if not 0 <= first < last <= self.lanes:
            raise ValueError(f"lanes {first} to {last} are not among {self.lanes}")
        part, all_lanes = slice(first, last), self._hasher
        here = np.frombuffer(symbols, np.uint8).reshape(-1, self.lanes)[:, part]
        sums = np.zeros((len(here), self.lanes, SUMS), np.uint32)
        hasher = Hasher(all_lanes.tables, last - first)
        hasher.past, hasher.word, hasher.inside = all_lanes.past[part], all_lanes.word[part], all_lanes.inside[part]
        size = max(BATCH_ROWS // (last - first), 1)
        for at in range(0, len(here), size):
            rows = here[at : at + size]
            sums[at : at + size, part] = self._run(rows, hasher.step(rows), part)
        all_lanes.past[part], all_lanes.word[part], all_lanes.inside[part] = hasher.past, hasher.word, hasher.inside
        return sums.tobytes()

    def _run(self, symbols: Bytes, entries: npt.NDArray[np.int64], part: slice) -> npt.NDArray[np.uint32]:
        n = self.network
        slots = [table[e] * scale[e][..., None] for (table, scale), e in zip(n.slots, entries, strict=True)]
        x = np.concatenate([n.embedding[symbols], *slots], -1)
        for (in_, in_scale, bias), (out, out_scale), states in zip(n.inward, n.outward, self._states, strict=True):
            z = product(normalise(x, 24), in_) * in_scale
            r, c, g = np.split(z, 3, -1)
            k = squeeze(r + bias)
            h = np.empty_like(c)
            last = states[part]
            for t in range(len(h)):
                last = h[t] = last + k[t] * (c[t] - last)
            states[part] = last
            y = (h * g) * squeeze(g)
            x = x + product(normalise(y, 16), out) * out_scale
        head, head_scale, head_bias = n.head
        return weigh(product(normalise(x, 24), head) * head_scale + head_bias)


def product(u: Floats, weights: Floats) -> Floats:
    """Rows of weights . rows of u: integers held as floats, whose partial sums stay below 2^24, exact in any order."""
    return u @ weights.T


def weigh(logits: Floats) -> npt.NDArray[np.uint32]:
    """Each byte's weight and the partial sums of weights, (..., 512), from logits in nats, (..., 256)."""
    d = (logits - logits.max(-1, keepdims=True)) * f32(1.44269504)
    q = (-np.rint(np.clip(d * f32(1024), f32(-24576), f32(0)))).astype(np.uint32)
    exp2 = np.array(constants.exp2_weights(), np.uint32)
    sums = np.zeros((*logits.shape[:-1], SUMS), np.uint32)
    sums[..., 256:] = np.maximum(exp2[q & np.uint32(1023)] >> (q >> np.uint32(10)), np.uint32(1))
    for n in (128, 64, 32, 16, 8, 4, 2, 1):
        sums[..., n : 2 * n] = sums[..., 2 * n : 4 * n : 2] + sums[..., 2 * n + 1 : 4 * n : 2]
    return sums


_CONFIGURATION = "the configuration does not fit the kernel"


class _Tensors:
    """Reads tensors one after another, and refuses values that docs/neural.md does not allow."""

    def __init__(self, weights: bytes) -> None:
        self._weights = weights
        self._at = 0

    def integers(self, rows: int, columns: int) -> Floats:
        values = self._read("i1", rows * columns)
        _check(values.min() >= -127)
        return values.reshape(rows, columns).astype(f32)

    def nibbles(self, rows: int, columns: int) -> npt.NDArray[np.int8]:
        pairs = self._read("u1", rows * columns // 2).reshape(rows, columns // 2, 1)
        values = np.concatenate([pairs & 15, pairs >> 4], -1).reshape(rows, columns)
        _check(values.min() >= 1)
        return values.astype(np.int8) - np.int8(8)

    def floats(self, count: int) -> Floats:
        return self._finite(self._read("<f4", count))

    def halves(self, count: int) -> Floats:
        return self._finite(self._read("<f2", count))

    def _finite(self, values: npt.NDArray[Any]) -> Floats:
        wide = values.astype(f32)
        _check(bool((np.abs(wide) <= f32(MAX_FLOAT)).all()))
        return wide

    def _read(self, dtype: str, count: int) -> npt.NDArray[Any]:
        values: npt.NDArray[Any] = np.frombuffer(self._weights, dtype, count, self._at)
        self._at += values.nbytes
        return values


def _check(allowed: bool) -> None:
    if not allowed:
        raise ValueError("the weights do not fit the kernel: a value is out of its range")


__all__ = ["Hasher", "Network", "NetworkLanes", "network_stretch"]
