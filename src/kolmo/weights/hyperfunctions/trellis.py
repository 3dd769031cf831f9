"""The trellis: dependent quantisation with one step, coded by adaptive binary decisions.

Trellis-coded quantisation (Marcellin and Fischer 1990; entropy-coded: Fischer and Wang 1992), as "dependent
quantisation" in VVC and ISO/IEC 15938-17: a state machine says which half of the levels a weight may take, so that the
levels of neighbours pack space better than a grid does. docs/trellis.md holds the algorithm and the payload's layout.

What it is not: it takes the step as given and looks at one matrix, by squared error alone; which step, or what a weight
is worth to a model, is asked elsewhere. The hot loops are kernels; see kolmo.native.reference_trellis.
"""

from __future__ import annotations

import math
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from kolmo.errors import CorruptError
from kolmo.native.dispatch import kernels
from kolmo.weights.hyperfunctions.base import Tick

if TYPE_CHECKING:
    import numpy.typing as npt

    Integers = npt.NDArray[np.int32]
    Floats = npt.NDArray[np.float32]

TILE = 1 << 18  # weights that decode on their own: columns are learned within a tile, so not too few
SAMPLE = 4  # tiles that train the first probabilities
LINE = 128  # weights between two of one column at least: the Viterbi search looks back as far
SLOPE = 19661  # 0.3 squared steps a bit, times 65536: with the offsets, the best at 2 to 4 bits
GRAIN = 64  # offsets are in this part of a step
CLASSES, PLACES, UNARY = 24, 9, 18
LARGEST = (1 << 20) - 8  # level that an encoder uses
STEPS = 2.0**-100, 2.0**100
HEADER = struct.Struct("<BBHf6bI")  # log2 of the states, flags, start, step, offsets, CRC-32 of all else
ENOUGH = 24  # decisions of a context that pay for its byte


@dataclass(frozen=True)
class Trellis:
    """Weights as levels of one step along a trellis.

    Args:
        step: distance of two levels; a weight's error is about half of it.
        states: of the trellis: 8, or 64 for 0.17 dB less error at four times the encoder's work.

    Raises:
        ValueError: no such step or number of states.
    """

    step: float
    states: int = 8

    def __post_init__(self) -> None:
        if self.states not in (8, 64):
            raise ValueError(f"{self.states} states; choose 8 or 64")
        if not STEPS[0] <= self.step <= STEPS[1]:
            raise ValueError(f"step {self.step}; choose one from 2^-100 to 2^100")
        object.__setattr__(self, "step", float(np.float32(self.step)))

    @property
    def name(self) -> str:
        """The name that files record."""
        return "trellis"

    @property
    def version(self) -> int:
        """Version of the payload."""
        return 1

    @property
    def parameters(self) -> dict[str, int | float]:
        """What makes it again."""
        return {"step": self.step, "states": self.states}

    def encode(self, weights: npt.NDArray[np.float32], tick: Tick | None = None) -> bytes:
        """The payload of a matrix; see `Hyperfunction.encode`."""
        if weights.ndim != 2:
            raise ValueError(f"a matrix has two dimensions, this one {weights.ndim}; reshape it")
        if not np.isfinite(weights).all():
            raise ValueError("a weight is not a finite number; store this matrix as it is, or repair it")
        flat = np.ascontiguousarray(weights, np.float32).reshape(-1)
        if flat.size and float(np.abs(flat).max()) / self.step >= LARGEST:
            raise ValueError(f"step {self.step} is too small for a weight of {np.abs(flat).max()}; take a larger one")
        tiles = [self._grid(flat[at : at + TILE]) for at in range(0, flat.size, TILE)]
        loudness = sum(int(np.abs(x).sum(dtype=np.int64)) for x in tiles)
        walk = _Walk(self.states, min(max(loudness // (4 * max(flat.size, 1)), 1), 16384), weights.shape[1])
        table = first = _default()
        for _ in range(2):
            chosen = tiles[:: -(-len(tiles) // SAMPLE)] if tiles else []
            table = _trained(sum(walk.count(walk.quantise(x, table)) for x in chosen))
        levels = []
        for x in tiles:
            levels.append(walk.quantise(x, table))
            if tick:
                tick(x.size)
        packed = _pack(_trained(counts := sum(walk.count(n) for n in levels)), counts)
        coded = [walk.encode(n, _unpack(packed)[0]) for n in levels]
        if len(tiles) < 2:
            plain = [walk.encode(n, first) for n in levels]
            if sum(map(len, plain)) <= len(packed) + sum(map(len, coded)):
                packed, coded = b"", plain
        sums = sum((_residuals(x, n) for x, n in zip(tiles, levels, strict=True)), np.zeros((2, 6), np.int64))
        offsets = [_offset(int(total), int(count)) for total, count in sums.T]
        body = packed + struct.pack(f"<{len(coded)}I", *map(len, coded)) + b"".join(coded)
        head = (self.states.bit_length() - 1, int(packed != b""), walk.start, self.step, *offsets)
        return HEADER.pack(*head, checksum(HEADER.pack(*head, 0), body, weights.shape)) + body

    def decode(self, payload: bytes, shape: tuple[int, int], threads: int = 1) -> npt.NDArray[np.float32]:
        """The matrix; see `Hyperfunction.decode`. Step and states are the payload's."""
        if len(payload) < HEADER.size:
            raise CorruptError(f"a trellis payload of {len(payload)} bytes ends within its head", len(payload))
        bits, flags, start, step, *offsets, digest = HEADER.unpack_from(payload)
        body = payload[HEADER.size :]
        if checksum(HEADER.pack(bits, flags, start, step, *offsets, 0), body, shape) != digest:
            raise CorruptError("the trellis payload is damaged, or not of this shape: its checksum differs", 0)
        if bits not in (3, 6) or flags > 1 or start > 16384 or not STEPS[0] <= step <= STEPS[1]:
            raise CorruptError("the trellis payload's head is not one of this version", 0)
        table, at = _unpack(body) if flags else (_default(), 0)
        rows, columns = shape
        if (len(body) - at) // 4 < -(-rows * columns // TILE):
            raise CorruptError(f"the trellis payload is too short for a matrix of {rows} x {columns}", len(payload))
        spans = [min(TILE, rows * columns - first) for first in range(0, rows * columns, TILE)]
        sizes = struct.unpack_from(f"<{len(spans)}I", body, at)
        at += 4 * len(spans)
        if at + sum(sizes) != len(body):
            raise CorruptError(f"the trellis payload is not that of a matrix of {rows} x {columns}", at + HEADER.size)
        starts = np.cumsum([at, *sizes]).tolist()
        walk = _Walk(1 << bits, start, columns)
        out = np.empty(rows * columns, np.float32)

        def tile(i: int) -> None:
            levels = walk.decode(body[starts[i] : starts[i + 1]], table, spans[i])
            out[i * TILE : i * TILE + spans[i]] = _weights(levels, step, offsets)

        if threads > 1 and len(spans) > 1:
            with ThreadPoolExecutor(min(threads, len(spans))) as pool:
                list(pool.map(tile, range(len(spans))))
        else:
            for i in range(len(spans)):
                tile(i)
        return out.reshape(rows, columns)

    def _grid(self, weights: Floats) -> Integers:
        """Weights with 256 to the step."""
        return np.rint(weights.astype(np.float64) / self.step * 256).astype(np.int32)


@dataclass(frozen=True)
class _Walk:
    """The kernels with what all tiles of a matrix share."""

    states: int
    start: int
    columns: int

    @property
    def _shared(self) -> tuple[int, bytes, int, int]:
        columns = max(self.columns, 1)
        return self.states, _logs(), self.start, columns * -(-LINE // columns)

    def quantise(self, weights: Integers, table: bytes) -> Integers:
        return np.frombuffer(kernels.trellis_quantise(*self._shared, weights.tobytes(), _costs(table), SLOPE), np.int32)

    def count(self, levels: Integers) -> npt.NDArray[np.int64]:
        counts = np.frombuffer(kernels.trellis_count(*self._shared, levels.tobytes()), np.uint32)
        return counts.astype(np.int64).reshape(2 * CLASSES, PLACES, 2)

    def encode(self, levels: Integers, table: bytes) -> bytes:
        return kernels.trellis_encode(*self._shared, levels.tobytes(), table)

    def decode(self, data: bytes, table: bytes, count: int) -> Integers:
        return np.frombuffer(kernels.trellis_decode(*self._shared, data, table, count), np.int32)


@cache
def _logs() -> bytes:
    """floor(4 log2(x / 16 + 1)) of an activity x (64 to a level), by x >> 2; integers alone."""
    return bytes(((i + 4) ** 4).bit_length() - 9 for i in range(8192))


@cache
def _default() -> bytes:
    """First probabilities, of 256, of "larger": geometric, with the mean of the class."""
    table = bytearray()
    for c in range(CLASSES):
        root = math.floor((2**24 << (c + 3)) ** (1 / 3))  # 64 (activity / 16 + 1) / 4, to be made exact
        root += (root + 1) ** 3 <= 2**24 << (c + 3)
        root -= root**3 > 2**24 << (c + 3)
        activity = root // 16 - 16
        table += bytes([min(max(256 * activity // (activity + 128), 1), 255)]) * PLACES
    return bytes(table) * 2


def checksum(head: bytes, body: bytes, shape: tuple[int, ...]) -> int:
    """CRC-32 of a payload whose checksum is 0, and of the shape, without which it says nothing."""
    return zlib.crc32(struct.pack("<2Q", *shape), zlib.crc32(body, zlib.crc32(head)))


def _trained(counts: Any) -> bytes:
    """First probabilities from counts of decisions, leaning on the default ones where these are few."""
    default = np.frombuffer(_default(), np.uint8).astype(np.int64).reshape(-1, PLACES)
    zeros, ones = np.moveaxis(counts + np.zeros((2 * CLASSES, PLACES, 2), np.int64), 2, 0)
    table: bytes = np.clip((256 * ones + 4 * default) // (zeros + ones + 4), 1, 255).astype(np.uint8).tobytes()
    return table


def _pack(table: bytes, counts: Any) -> bytes:
    """The rows from the first class in use to the last; of each, as many places as are worth it."""
    used = np.minimum.accumulate(counts.sum(2) >= ENOUGH, 1).sum(1) if isinstance(counts, np.ndarray) else None
    if used is None or not used.any():
        return b""
    classes = np.flatnonzero(used.reshape(2, CLASSES).any(0))
    first, last = int(classes[0]), int(classes[-1])
    out = bytearray([first, last - first + 1])
    for odd in (0, CLASSES):
        for row in range(odd + first, odd + last + 1):
            out += bytes([used[row]]) + table[row * PLACES : row * PLACES + int(used[row])]
    return bytes(out)


def _unpack(body: bytes) -> tuple[bytes, int]:
    """The first probabilities, and where what follows them begins."""
    table = bytearray(_default())
    if not body:
        return bytes(table), 0
    at = 2
    if len(body) < 2 or body[0] + body[1] > CLASSES:
        raise CorruptError("the trellis payload's probabilities are damaged", HEADER.size)
    for odd in (0, CLASSES):
        for row in range(odd + body[0], odd + body[0] + body[1]):
            count = body[at] if at < len(body) else PLACES + 1
            values = body[at + 1 : at + 1 + count]
            if count > PLACES or len(values) < count or 0 in values:
                raise CorruptError("the trellis payload's probabilities are damaged", HEADER.size + at)
            table[row * PLACES : row * PLACES + count] = values
            at += 1 + count
    return bytes(table), at


@cache
def _bits() -> tuple[int, ...]:
    """Code length of a decision by its probability of 256, in 1/256 bit; integers alone."""
    return (0, *(256 * 8 - ((p**256).bit_length() - 1) for p in range(1, 256)))


def _costs(table: bytes) -> bytes:
    """Costs of all magnitudes with their signs, in each row of contexts."""
    bits = _bits()
    costs = np.zeros((2 * CLASSES, UNARY + 1), np.int32)
    for row in range(2 * CLASSES):
        more = 0
        for value in range(UNARY + 1):
            p = table[row * PLACES + min(value, PLACES - 1)]
            sign = 256 * (value > 0 or row >= CLASSES)
            costs[row, value] = (more + sign + (bits[256 - p] if value < UNARY else 0)) * SLOPE >> 8
            more += bits[p]
    return costs.tobytes()


def _residuals(x: Integers, levels: Integers) -> npt.NDArray[np.int64]:
    """Sums of what levels lack in magnitude, 256 to the step, and numbers: (2, 6), of even and odd magnitudes."""
    magnitude = np.abs(levels)
    value = np.minimum(magnitude - 1 >> 1, 2)
    lack = (x - 256 * levels) * np.sign(levels)
    kinds = [(magnitude & 1 == odd) & (value == v) & (levels != 0) for odd in (0, 1) for v in range(3)]
    return np.array([[int(lack[k].sum(dtype=np.int64)) for k in kinds], [int(k.sum()) for k in kinds]])


def _offset(total: int, count: int) -> int:
    """Mean lack, rounded to 1 / GRAIN of a step."""
    per = 256 // GRAIN * max(count, 1)
    return min(max((2 * total + per) // (2 * per), -96), 96)


def _weights(levels: Integers, step: float, offsets: list[int]) -> Floats:
    """The step times (n + offset sgn n): one multiplication in binary64, rounded to binary32."""
    near = 512
    inside = not levels.size or (int(levels.max()) < near and int(levels.min()) >= -near)
    n = np.arange(-near, near) if inside else levels.astype(np.int64)
    magnitude = np.abs(n)
    kind = np.minimum(magnitude - 1 >> 1, 2) + 3 * (magnitude & 1)
    shifted = GRAIN * n + np.sign(n) * np.array(offsets)[np.where(n == 0, 0, kind)]
    values: Floats = (shifted * (step / GRAIN)).astype(np.float32)
    return values[levels + near] if inside else values
