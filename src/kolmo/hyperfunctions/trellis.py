"""The trellis: dependent quantisation with one step, coded by adaptive binary decisions.

Trellis-coded quantisation (Marcellin and Fischer 1990; entropy-coded: Fischer and Wang 1992), as "dependent
quantisation" in VVC and ISO/IEC 15938-17: a state machine says which half of the levels a weight may take, so that the
levels of neighbours pack space better than a grid does. docs/trellis.md holds the algorithm and the payload's layout.

What it is not: it takes the step as given and looks at one matrix, by squared error alone; which step, or what a weight
is worth to a model, is asked elsewhere. The hot loops are kernels; see kolmo.native.trellis.reference.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from kolmo.errors import CorruptError
from kolmo.native.dispatch import kernels
from kolmo.progress import Progress

if TYPE_CHECKING:
    import numpy.typing as npt

    Integers = npt.NDArray[np.int32]
    Floats = npt.NDArray[np.float32]

TILE = 1 << 18  # weights that decode on their own: columns are learned within a tile, so not too few
SAMPLE = 4  # tiles that train the first probabilities
LINE = 128  # weights between two of one column at least: the Viterbi search looks back as far
LEAST_ERROR: dict[str, Any] = {"rate": 0.3, "centred": True}  # what gives the least squared error for the bits
RATE = 0.1  # squared steps a bit: more is less squared error for the bits, and costs networks more than it saves
GRAIN = 64  # offsets are in this part of a step
CLASSES, PLACES, UNARY = 24, 9, 18
LARGEST = (1 << 20) - 8  # level that an encoder uses
STEPS = 2.0**-100, 2.0**100
HEADER = struct.Struct("<BBHf6bI")  # log2 of the states, flags, start, step, offsets, CRC-32 of all else
TABLE, HOLES = 1, 2  # flags: first probabilities follow; weights that are exactly 0 are holes
HOLE = -(1 << 31)  # in place of a level
RARE = 256  # weights to an exact 0 above which it is no hole, but coded as any other: decoding holes takes time
ENOUGH = 24  # decisions of a context that pay for its byte


@dataclass(frozen=True)
class Trellis:
    """Weights as levels of one step along a trellis.

    Args:
        step: distance of two levels; a weight's error is about half of it.
        states: of the trellis: 8, or 64 for 0.17 dB less error at four times the encoder's work; 1 is no trellis but a
            plain uniform quantiser, 1 dB worse, whose levels are all integers.
        rate: squared steps that the encoder gives for a bit; 0 takes the nearest path. No reader needs it.
        centred: take each level for the mean of its weights. That has less squared error (`LEAST_ERROR`), but weights
            come back smaller on the whole, which costs networks more (docs/trellis.md).

    Raises:
        ValueError: no such step or number of states.
    """

    step: float
    states: int = 8
    rate: float = RATE
    centred: bool = False

    def __post_init__(self) -> None:
        if self.states not in (1, 8, 64):
            raise ValueError(f"{self.states} states; choose 8 or 64, or 1 for none")
        if not 0 <= self.rate <= 1:
            raise ValueError(f"rate {self.rate}; choose one from 0 to 1")
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

    def encode(self, weights: npt.NDArray[np.float32], progress: Progress | None = None) -> bytes:
        """The payload of a matrix; see `Hyperfunction.encode`."""
        flat = self._checked(weights)
        tiles = [self._grid(flat[at : at + TILE]) for at in range(0, flat.size, TILE)]
        holes = self.states > 1 and flat.size - int(np.count_nonzero(flat)) > flat.size // RARE
        if holes:
            for i, x in enumerate(tiles):
                x[flat[i * TILE : i * TILE + x.size] == 0] = HOLE
        walk = self._walk(tiles, holes, weights.shape[1], 256)
        table = self._learn(walk, tiles)
        levels = []
        for x in tiles:
            levels.append(walk.quantise(x, table, self.rate))
            if progress:
                progress(x.size)
        offsets = _offsets(tiles, levels) if self.centred else [0] * 6
        return self._payload(walk, levels, offsets, weights.shape)

    def quantise_rows(self, weights: npt.NDArray[np.float32]) -> npt.NDArray[np.int32]:
        """Levels of a matrix of which each row is a walk of its own, so that a row's levels need no others'.

        Raises:
            ValueError: as `encode`.
        """
        flat = self._checked(weights)
        grid = self._grid(flat)
        walk = self._walk([grid], False, weights.shape[1], 256)
        table = self._learn(walk, [grid[at : at + TILE] for at in range(0, grid.size, TILE)])
        rows = [walk.quantise(row, table, self.rate) for row in grid.reshape(weights.shape)]
        return np.stack(rows) if rows else np.zeros(weights.shape, np.int32)

    def encode_levels(self, levels: npt.NDArray[np.int32]) -> bytes:
        """The payload of a matrix of levels; its weights are these times the step, without offsets.

        Raises:
            ValueError: not two dimensions, or a level that its state does not take.
        """
        if levels.ndim != 2:
            raise ValueError(f"a matrix has two dimensions, this one {levels.ndim}; reshape it")
        flat = np.ascontiguousarray(levels, np.int32).reshape(-1)
        tiles = [flat[at : at + TILE] for at in range(0, flat.size, TILE)]
        walk = self._walk(tiles, bool((flat == HOLE).any()), levels.shape[1], 1)
        return self._payload(walk, tiles, [0] * 6, levels.shape)

    def _checked(self, weights: Floats) -> Floats:
        """The weights in a row."""
        if weights.ndim != 2:
            raise ValueError(f"a matrix has two dimensions, this one {weights.ndim}; reshape it")
        if not np.isfinite(weights).all():
            raise ValueError("a weight is not a finite number; store this matrix as it is, or repair it")
        flat = np.ascontiguousarray(weights, np.float32).reshape(-1)
        if flat.size and float(np.abs(flat).max()) / self.step >= LARGEST:
            raise ValueError(f"step {self.step} is too small for a weight of {np.abs(flat).max()}; take a larger one")
        return flat

    def _learn(self, walk: _Walk, tiles: list[Integers]) -> bytes:
        """First probabilities for the search, of a few tiles."""
        table = _default(self.states)
        for _ in range(2):
            chosen = tiles[:: -(-len(tiles) // SAMPLE)] if tiles else []
            table = _trained(self.states, sum(walk.count(walk.quantise(x, table, self.rate)) for x in chosen))
        return table

    def _walk(self, tiles: list[Integers], holes: bool, columns: int, grain: int) -> _Walk:
        """Where the walk starts: at half of the mean magnitude of levels, of which each is `grain` in the tiles."""
        solid = [x[x != HOLE] for x in tiles] if holes else tiles
        count = max(sum(x.size for x in solid), 1)
        loudness = sum(int(np.abs(x).sum(dtype=np.int64)) for x in solid) * 64 // grain
        return _Walk(self.states, holes, min(max(loudness // count, 1), 16384), columns)

    def _payload(self, walk: _Walk, levels: list[Integers], offsets: list[int], shape: tuple[int, ...]) -> bytes:
        packed = _pack(_trained(self.states, counts := sum(walk.count(n) for n in levels)), counts)
        coded = [walk.encode(n, _unpack(packed, self.states)[0]) for n in levels]
        if len(levels) < 2:
            plain = [walk.encode(n, _default(self.states)) for n in levels]
            if sum(map(len, plain)) <= len(packed) + sum(map(len, coded)):
                packed, coded = b"", plain
        body = packed + struct.pack(f"<{len(coded)}I", *map(len, coded)) + b"".join(coded)
        flags = TABLE * (packed != b"") + HOLES * walk.holes
        head = (self.states.bit_length() - 1, flags, walk.start, self.step, *offsets)
        return HEADER.pack(*head, checksum(HEADER.pack(*head, 0), body, shape)) + body

    def decode(self, payload: bytes, shape: tuple[int, int], threads: int = 1) -> npt.NDArray[np.float32]:
        """The matrix; see `Hyperfunction.decode`. Step and states are the payload's."""
        found = _Payload.parse(payload, shape)
        out = np.empty(shape[0] * shape[1], np.float32)

        def keep(at: int, levels: Integers) -> None:
            _weights(levels, found.walk.holes, found.step, found.offsets, out[at : at + levels.size])

        found.each(keep, threads)
        return out.reshape(shape)

    def decode_levels(self, payload: bytes, shape: tuple[int, int], threads: int = 1) -> npt.NDArray[np.int32]:
        """The matrix of levels; holes are -2^31. Raises as `decode`."""
        found = _Payload.parse(payload, shape)
        out = np.empty(shape[0] * shape[1], np.int32)

        def keep(at: int, levels: Integers) -> None:
            out[at : at + levels.size] = levels

        found.each(keep, threads)
        return out.reshape(shape)

    def _grid(self, weights: Floats) -> Integers:
        """Weights with 256 to the step."""
        return np.rint(weights.astype(np.float64) / self.step * 256).astype(np.int32)


@dataclass(frozen=True)
class _Walk:
    """The kernels with what all tiles of a matrix share."""

    states: int
    holes: bool
    start: int
    columns: int

    @property
    def _shared(self) -> tuple[int, int, bytes, int, int]:
        columns = max(self.columns, 1)
        return self.states, int(self.holes), _logs(), self.start, columns * -(-LINE // columns)

    def quantise(self, weights: Integers, table: bytes, rate: float) -> Integers:
        slope = round(rate * 65536)
        costs = _costs(table, self.states, slope)
        return np.frombuffer(kernels.trellis_quantise(*self._shared, weights.tobytes(), costs, slope), np.int32)

    def count(self, levels: Integers) -> npt.NDArray[np.int64]:
        counts = np.frombuffer(kernels.trellis_count(*self._shared, levels.tobytes()), np.uint32)
        return counts.astype(np.int64).reshape(2 * CLASSES, PLACES, 2)

    def encode(self, levels: Integers, table: bytes) -> bytes:
        return kernels.trellis_encode(*self._shared, levels.tobytes(), table)

    def decode(self, data: bytes, table: bytes, count: int) -> Integers:
        return np.frombuffer(kernels.trellis_decode(*self._shared, data, table, count), np.int32)


@dataclass(frozen=True)
class _Payload:
    """A payload that was checked against its shape, tile by tile."""

    walk: _Walk
    step: float
    offsets: list[int]
    table: bytes
    tiles: list[tuple[int, int, bytes]]  # first weight, number of weights, code

    @classmethod
    def parse(cls, payload: bytes, shape: tuple[int, int]) -> _Payload:
        if len(payload) < HEADER.size:
            raise CorruptError(f"a trellis payload of {len(payload)} bytes ends within its head", len(payload))
        bits, flags, start, step, *offsets, digest = HEADER.unpack_from(payload)
        body = payload[HEADER.size :]
        if checksum(HEADER.pack(bits, flags, start, step, *offsets, 0), body, shape) != digest:
            raise CorruptError("the trellis payload is damaged, or not of this shape: its checksum differs", 0)
        if bits not in (0, 3, 6) or flags > TABLE + HOLES or start > 16384 or not STEPS[0] <= step <= STEPS[1]:
            raise CorruptError("the trellis payload's head is not one of this version", 0)
        table, at = _unpack(body, 1 << bits) if flags & TABLE else (_default(1 << bits), 0)
        rows, columns = shape
        if (len(body) - at) // 4 < -(-rows * columns // TILE):
            raise CorruptError(f"the trellis payload is too short for a matrix of {rows} x {columns}", len(payload))
        firsts = range(0, rows * columns, TILE)
        sizes = struct.unpack_from(f"<{len(firsts)}I", body, at)
        at += 4 * len(firsts)
        if at + sum(sizes) != len(body):
            raise CorruptError(f"the trellis payload is not that of a matrix of {rows} x {columns}", at + HEADER.size)
        tiles = []
        for first, size in zip(firsts, sizes, strict=True):
            tiles.append((first, min(TILE, rows * columns - first), body[at : at + size]))
            at += size
        return cls(_Walk(1 << bits, bool(flags & HOLES), start, columns), step, offsets, table, tiles)

    def each(self, keep: Callable[[int, Integers], None], threads: int) -> None:
        """Hand each tile's levels over, and where its first one stands."""

        def work(tile: tuple[int, int, bytes]) -> None:
            first, count, code = tile
            keep(first, self.walk.decode(code, self.table, count))

        if threads > 1 and len(self.tiles) > 1:
            with ThreadPoolExecutor(min(threads, len(self.tiles))) as pool:
                list(pool.map(work, self.tiles))
        else:
            for tile in self.tiles:
                work(tile)


@cache
def _logs() -> bytes:
    """floor(4 log2(x / 16 + 1)) of an activity x (64 to a level), by x >> 2; integers alone."""
    return bytes(((i + 4) ** 4).bit_length() - 9 for i in range(8192))


@cache
def _default(states: int) -> bytes:
    """First probabilities, of 256, of "larger": geometric, with the mean of the class."""
    table = bytearray()
    for c in range(CLASSES):
        root = math.floor((2**24 << (c + 3)) ** (1 / 3))  # 64 (activity / 16 + 1) / 4, to be made exact
        root += (root + 1) ** 3 <= 2**24 << (c + 3)
        root -= root**3 > 2**24 << (c + 3)
        activity = root // 16 - 16
        mean = 128 if states > 1 else 64  # activity of value 1
        table += bytes([min(max(256 * activity // (activity + mean), 1), 255)]) * PLACES
    return bytes(table) * 2


def checksum(head: bytes, body: bytes, shape: tuple[int, ...]) -> int:
    """CRC-32 of a payload whose checksum is 0, and of the shape, without which it says nothing."""
    return zlib.crc32(struct.pack("<2Q", *shape), zlib.crc32(body, zlib.crc32(head)))


def _trained(states: int, counts: Any) -> bytes:
    """First probabilities from counts of decisions, leaning on the default ones where these are few."""
    default = np.frombuffer(_default(states), np.uint8).astype(np.int64).reshape(-1, PLACES)
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


def _unpack(body: bytes, states: int) -> tuple[bytes, int]:
    """The first probabilities, and where what follows them begins."""
    table = bytearray(_default(states))
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


@lru_cache(maxsize=64)  # the rows and tiles of a matrix share one table, and a search takes less time than this loop
def _costs(table: bytes, states: int, slope: int) -> bytes:
    """Costs of all magnitudes with their signs, in each row of contexts."""
    bits = _bits()
    costs = np.zeros((2 * CLASSES, UNARY + 1), np.int32)
    for row in range(2 * CLASSES if states > 1 else CLASSES):
        more = 0
        for value in range(UNARY + 1):
            p = table[row * PLACES + min(value, PLACES - 1)]
            sign = 256 * (value > 0 or row >= CLASSES)
            costs[row, value] = (more + sign + (bits[256 - p] if value < UNARY else 0)) * slope >> 8
            more += bits[p]
    return costs.tobytes()


def _residuals(x: Integers, levels: Integers) -> npt.NDArray[np.int64]:
    """Sums of what levels lack in magnitude, 256 to the step, and numbers: (2, 6), of even and odd magnitudes."""
    x, levels = x[levels != HOLE], levels[levels != HOLE]
    magnitude = np.abs(levels)
    value = np.minimum(magnitude - 1 >> 1, 2)
    lack = (x - 256 * levels) * np.sign(levels)
    kinds = [(magnitude & 1 == odd) & (value == v) & (levels != 0) for odd in (0, 1) for v in range(3)]
    return np.array([[int(lack[k].sum(dtype=np.int64)) for k in kinds], [int(k.sum()) for k in kinds]])


def _offsets(tiles: list[Integers], levels: list[Integers]) -> list[int]:
    """What levels of each kind lack on average, rounded to 1 / GRAIN of a step."""
    sums = sum((_residuals(x, n) for x, n in zip(tiles, levels, strict=True)), np.zeros((2, 6), np.int64))
    found = []
    for total, count in sums.T.tolist():
        per = 256 // GRAIN * max(count, 1)
        found.append(min(max((2 * total + per) // (2 * per), -96), 96))
    return found


def _weights(levels: Integers, holes: bool, step: float, offsets: list[int], out: Floats) -> None:
    """The step times (n + offset sgn n): one multiplication in binary64, rounded to binary32. Of holes, 0."""
    if holes:
        levels = np.where(levels == HOLE, np.int32(0), levels)
    near = 512
    inside = not levels.size or (int(levels.max()) < near and int(levels.min()) >= -near)
    n = np.arange(-near, near) if inside else levels.astype(np.int64)
    magnitude = np.abs(n)
    kind = np.minimum(magnitude - 1 >> 1, 2) + 3 * (magnitude & 1)
    shifted = GRAIN * n + np.sign(n) * np.array(offsets)[np.where(n == 0, 0, kind)]
    values: Floats = (shifted * (step / GRAIN)).astype(np.float32)
    if inside:
        np.take(values, levels + near, out=out, mode="clip")  # all are inside: only "raise" would take a copy
    else:
        out[:] = values
