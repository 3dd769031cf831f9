"""The payload of the trellis: its header, its tiles, and the kernels that write and read them."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from kolmo.errors import CorruptError
from kolmo.hyperfunctions.trellis_tables import CLASSES, PLACES, activity_logs, default_table, level_costs
from kolmo.native.dispatch import kernels

if TYPE_CHECKING:
    import numpy.typing as npt

    Integers = npt.NDArray[np.int32]
    Floats = npt.NDArray[np.float32]


TILE = 1 << 18  # weights per tile; a tile decodes on its own and learns its columns anew, so it is not small
LINE = 128  # least distance, in weights, between two weights of one column: the Viterbi search looks back this far
STEPS = 2.0**-100, 2.0**100  # bounds of a step
HEADER = struct.Struct("<BBHf6bI")  # log2 of the states, flags, start, step, offsets, CRC-32 of all else
TABLE, HOLES = 1, 2  # flags: first probabilities follow; weights that are exactly 0 are holes
MIN_DECISIONS = 24  # decisions of a context that make its stored probability worth a byte
HOLE = -(1 << 31)  # stands in place of a level where a weight is exactly 0


@dataclass(frozen=True)
class Place:
    """A place within a tile, for a search that gets its weights line by line.

    Attributes:
        at: number of weights before it.
        state: of the trellis.
        row: activity of the row.
        columns: activities of the columns, uint16.
    """

    at: int
    state: int
    row: int
    columns: bytes


@dataclass(frozen=True)
class Walk:
    """The kernels, with the arguments that all tiles of a matrix share."""

    states: int
    holes: bool
    start: int
    columns: int

    @property
    def _shared(self) -> tuple[int, int, bytes, int, int]:
        columns = max(self.columns, 1)
        return self.states, int(self.holes), activity_logs(), self.start, columns * -(-LINE // columns)

    def quantise(self, weights: Integers, table: bytes, rate: float) -> Integers:
        """The levels of a tile whose weights are given in 1/256 of a step."""
        slope = round(rate * 65536)
        costs = level_costs(table, self.states, slope)
        return np.frombuffer(kernels.trellis_quantise(*self._shared, weights.tobytes(), costs, slope), np.int32)

    def begin(self) -> Place:
        """The start of a tile."""
        columns = np.full(self._shared[4], self.start, np.uint16)
        return Place(0, 0, self.start, columns.tobytes())

    def resume(self, place: Place, weights: Integers, costs: bytes, rate: float) -> tuple[Integers, Place]:
        """The levels of at most a line of weights, in 1/256 of a step, and the place in the tile behind them."""
        states, _, logs, start, _ = self._shared
        given = place.at, place.state, place.row, place.columns
        slope = round(rate * 65536)
        found = kernels.trellis_resume(states, logs, start, *given, weights.tobytes(), costs, slope)
        levels, state, row, columns = found
        return np.frombuffer(levels, np.int32), Place(place.at + weights.size, state, row, columns)

    def count(self, levels: Integers) -> npt.NDArray[np.int64]:
        """How often each decision of each context is taken: shape (2 CLASSES, PLACES, 2)."""
        counts = np.frombuffer(kernels.trellis_count(*self._shared, levels.tobytes()), np.uint32)
        return counts.astype(np.int64).reshape(2 * CLASSES, PLACES, 2)

    def encode(self, levels: Integers, table: bytes) -> bytes:
        """The code of a tile of levels."""
        return kernels.trellis_encode(*self._shared, levels.tobytes(), table)

    def decode(self, data: bytes, table: bytes, count: int) -> Integers:
        """The levels of a tile: the mirror of `encode`."""
        return np.frombuffer(kernels.trellis_decode(*self._shared, data, table, count), np.int32)


@dataclass(frozen=True)
class Payload:
    """A payload that was checked against its shape, as tiles."""

    walk: Walk
    step: float
    offsets: list[int]
    table: bytes
    tiles: list[tuple[int, int, bytes]]  # first weight, number of weights, code

    @classmethod
    def parse(cls, payload: bytes, shape: tuple[int, int]) -> Payload:
        """A payload, checked.

        Raises:
            CorruptError: the payload is damaged, or it does not have this shape.
        """
        if len(payload) < HEADER.size:
            raise CorruptError(f"a trellis payload of {len(payload)} bytes ends within its header", len(payload))
        bits, flags, start, step, *offsets, expected = HEADER.unpack_from(payload)
        body = payload[HEADER.size :]
        if checksum(HEADER.pack(bits, flags, start, step, *offsets, 0), body, shape) != expected:
            raise CorruptError("the trellis payload is damaged, or not of this shape: its checksum differs", 0)
        if bits not in (0, 3, 6) or flags > TABLE + HOLES or start > 16384 or not STEPS[0] <= step <= STEPS[1]:
            raise CorruptError("the header of the trellis payload is not one of this version", 0)
        table, at = unpack_table(body, 1 << bits) if flags & TABLE else (default_table(1 << bits), 0)
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
        return cls(Walk(1 << bits, bool(flags & HOLES), start, columns), step, offsets, table, tiles)

    def each(self, keep: Callable[[int, Integers], None], threads: int) -> None:
        """Call `keep` with the place of each tile's first level, and the levels."""

        def work(tile: tuple[int, int, bytes]) -> None:
            first, count, code = tile
            keep(first, self.walk.decode(code, self.table, count))

        if threads > 1 and len(self.tiles) > 1:
            with ThreadPoolExecutor(min(threads, len(self.tiles))) as pool:
                list(pool.map(work, self.tiles))
        else:
            for tile in self.tiles:
                work(tile)


def checksum(head: bytes, body: bytes, shape: tuple[int, ...]) -> int:
    """CRC-32 of a payload whose own checksum is set to 0, and of its shape."""
    return zlib.crc32(struct.pack("<2Q", *shape), zlib.crc32(body, zlib.crc32(head)))


def pack_table(table: bytes, counts: Any) -> bytes:
    """The rows from the first class in use to the last; of each row as many places as have enough decisions."""
    used = np.minimum.accumulate(counts.sum(2) >= MIN_DECISIONS, 1).sum(1) if isinstance(counts, np.ndarray) else None
    if used is None or not used.any():
        return b""
    classes = np.flatnonzero(used.reshape(2, CLASSES).any(0))
    first, last = int(classes[0]), int(classes[-1])
    out = bytearray([first, last - first + 1])
    for odd in (0, CLASSES):
        for row in range(odd + first, odd + last + 1):
            out += bytes([used[row]]) + table[row * PLACES : row * PLACES + int(used[row])]
    return bytes(out)


def unpack_table(body: bytes, states: int) -> tuple[bytes, int]:
    """The first probabilities, and where the rest of the body begins."""
    table = bytearray(default_table(states))
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
