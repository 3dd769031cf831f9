"""The trellis: dependent quantisation with one step, coded by adaptive binary decisions.

Trellis-coded quantisation (Marcellin and Fischer 1990; entropy-coded: Fischer and Wang 1992), as "dependent
quantisation" in VVC and ISO/IEC 15938-17: a state machine says which half of the levels a weight may take, so that the
levels of neighbours pack space better than a grid does. docs/trellis.md holds the algorithm and the payload's layout.

What it is not: it does not choose the step and has no access to a model. It codes one matrix with a given step, and
its only measure is the squared error. The hot loops are kernels; see kolmo.native.trellis.reference.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from kolmo.errors import CorruptError
from kolmo.hyperfunctions.trellis_payload import (
    HEADER,
    HOLE,
    HOLES,
    STEPS,
    TABLE,
    TILE,
    Payload,
    Walk,
    checksum,
    pack_table,
    unpack_table,
)
from kolmo.hyperfunctions.trellis_tables import default_table, trained_table
from kolmo.progress import Progress

if TYPE_CHECKING:
    import numpy.typing as npt

    Integers = npt.NDArray[np.int32]
    Floats = npt.NDArray[np.float32]


TRAINING_TILES = 4  # number of tiles on which the first probabilities are trained
LEAST_ERROR: dict[str, Any] = {"rate": 0.3, "centred": True}  # settings for the least squared error at a given size
# Price of a bit in squared steps. A higher price gives less squared error at a given size, but networks lose more.
RATE = 0.1
OFFSETS_PER_STEP = 64  # offsets are whole multiples of 1/64 of a step
MAX_LEVEL = (1 << 20) - 8  # largest magnitude of a level that an encoder uses
# If there are more than 256 weights to one exact 0, zeros are coded like all other weights: holes take time to decode.
WEIGHTS_PER_HOLE = 256


@dataclass(frozen=True)
class Trellis:
    """Weights as multiples of one step, chosen along a trellis.

    Args:
        step: distance between two levels, rounded to binary32; the error of a weight is about half of it.
        states: number of states of the trellis: 8, or 64 for 0.17 dB less error at four times the work. 1 is a plain
            uniform quantiser without a trellis, 1 dB worse, whose levels are all integers.
        rate: price of a bit in squared steps, for the encoder; 0 takes the nearest path. Readers do not need it.
        centred: decode each level as the mean of its weights. That gives less squared error (`LEAST_ERROR`), but the
            decoded weights are smaller on average, which costs networks more (docs/trellis.md).

    Raises:
        ValueError: the step, the number of states or the rate is out of its range.

    Example:
        >>> weights = np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4)
        >>> payload = Trellis(0.25).encode(weights)
        >>> float(np.abs(Trellis(0.25).decode(payload, (3, 4)) - weights).max()) < 0.5
        True
    """

    step: float
    states: int = 8
    rate: float = RATE
    centred: bool = False

    def __post_init__(self) -> None:
        if self.states not in (1, 8, 64):
            raise ValueError(f"states = {self.states} is not known; choose 8 or 64, or 1 for none")
        if not 0 <= self.rate <= 1:
            raise ValueError(f"rate = {self.rate} is out of range; choose one from 0 to 1")
        # Rounded first: the decimal number that records 2^-100 is a little below it.
        step = float(np.float32(self.step)) if abs(self.step) < 2 * STEPS[1] else self.step
        if not STEPS[0] <= step <= STEPS[1]:
            raise ValueError(f"step = {self.step} is out of range; choose one from 2^-100 to 2^100")
        object.__setattr__(self, "step", step)

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
        """Step and states; the step is the shortest decimal number that rounds to it."""
        return {"step": float(str(np.float32(self.step))), "states": self.states}

    def encode(self, weights: npt.NDArray[np.float32], progress: Progress | None = None) -> bytes:
        """The payload of a matrix; see `Hyperfunction.encode`."""
        flat = self._checked(weights)
        tiles = [self._grid(flat[at : at + TILE]) for at in range(0, flat.size, TILE)]
        holes = self.states > 1 and flat.size - int(np.count_nonzero(flat)) > flat.size // WEIGHTS_PER_HOLE
        if holes:
            for i, x in enumerate(tiles):
                x[flat[i * TILE : i * TILE + x.size] == 0] = HOLE
        walk = self.walk(tiles, holes, weights.shape[1], 256)
        table = self.learn(walk, tiles)
        levels = []
        for x in tiles:
            levels.append(walk.quantise(x, table, self.rate))
            if progress:
                progress(x.size)
        offsets = _offsets(tiles, levels) if self.centred else [0] * 6
        return self.payload(walk, levels, offsets, weights.shape)

    def quantise_rows(self, weights: npt.NDArray[np.float32]) -> npt.NDArray[np.int32]:
        """The levels of a matrix whose rows are quantised independently of each other.

        Raises:
            ValueError: as for `encode`.
        """
        flat = self._checked(weights)
        grid = self._grid(flat)
        walk = self.walk([grid], False, weights.shape[1], 256)
        table = self.learn(walk, [grid[at : at + TILE] for at in range(0, grid.size, TILE)])
        rows = [walk.quantise(row, table, self.rate) for row in grid.reshape(weights.shape)]
        return np.stack(rows) if rows else np.zeros(weights.shape, np.int32)

    def encode_levels(self, levels: npt.NDArray[np.int32]) -> bytes:
        """The payload of a matrix of levels. The weights are the levels times the step, without offsets.

        Raises:
            ValueError: the array does not have two dimensions, or a level is not allowed in the state where it stands.
        """
        if levels.ndim != 2:
            raise ValueError(f"a matrix has two dimensions, this one {levels.ndim}; reshape it")
        flat = np.ascontiguousarray(levels, np.int32).reshape(-1)
        tiles = [flat[at : at + TILE] for at in range(0, flat.size, TILE)]
        walk = self.walk(tiles, bool((flat == HOLE).any()), levels.shape[1], 1)
        return self.payload(walk, tiles, [0] * 6, levels.shape)

    def tiles(self, weights: Floats) -> list[Integers]:
        """For encoders. The tiles of a matrix, in units of 1/256 of a step.

        Raises:
            ValueError: as for `encode`, or a weight is too large for the step.
        """
        flat = self._checked(weights)
        return [self._grid(flat[at : at + TILE]) for at in range(0, flat.size, TILE)]

    def _checked(self, weights: Floats) -> Floats:
        """The weights as a vector, checked."""
        if weights.ndim != 2:
            raise ValueError(f"a matrix has two dimensions, this one {weights.ndim}; reshape it")
        if not np.isfinite(weights).all():
            raise ValueError("a weight is not a finite number; store this matrix as it is, or repair it")
        flat = np.ascontiguousarray(weights, np.float32).reshape(-1)
        if flat.size and float(np.abs(flat).max()) / self.step >= MAX_LEVEL:
            raise ValueError(f"step {self.step} is too small for a weight of {np.abs(flat).max()}; take a larger one")
        return flat

    def learn(self, walk: Walk, tiles: list[Integers]) -> bytes:
        """For encoders. First probabilities for the search, trained on a few tiles."""
        table = default_table(self.states)
        for _ in range(2):
            chosen = tiles[:: -(-len(tiles) // TRAINING_TILES)] if tiles else []
            table = trained_table(self.states, sum(walk.count(walk.quantise(x, table, self.rate)) for x in chosen))
        return table

    def walk(self, tiles: list[Integers], holes: bool, columns: int, grain: int) -> Walk:
        """For encoders. The walk over all tiles, which starts at half of the mean magnitude of levels.

        Args:
            tiles: levels in units of 1 / grain.
            holes: whether zeros are holes.
            columns: of the matrix.
            grain: number of units per level.
        """
        solid = [x[x != HOLE] for x in tiles] if holes else tiles
        count = max(sum(x.size for x in solid), 1)
        loudness = sum(int(np.abs(x).sum(dtype=np.int64)) for x in solid) * 64 // grain
        return Walk(self.states, holes, min(max(loudness // count, 1), 16384), columns)

    def payload(self, walk: Walk, levels: list[Integers], offsets: list[int], shape: tuple[int, ...]) -> bytes:
        """For encoders. The payload of tiles of levels."""
        packed = pack_table(trained_table(self.states, counts := sum(walk.count(n) for n in levels)), counts)
        coded = [walk.encode(n, unpack_table(packed, self.states)[0]) for n in levels]
        if len(levels) < 2:
            plain = [walk.encode(n, default_table(self.states)) for n in levels]
            if sum(map(len, plain)) <= len(packed) + sum(map(len, coded)):
                packed, coded = b"", plain
        body = packed + struct.pack(f"<{len(coded)}I", *map(len, coded)) + b"".join(coded)
        flags = TABLE * (packed != b"") + HOLES * walk.holes
        head = (self.states.bit_length() - 1, flags, walk.start, self.step, *offsets)
        return HEADER.pack(*head, checksum(HEADER.pack(*head, 0), body, shape)) + body

    def check(self, payload: bytes) -> None:
        """See `Hyperfunction.check`: step and states."""
        if len(payload) < HEADER.size:
            return  # too short to be a payload, as `decode` will report
        states_log, _, _, step, *_ = HEADER.unpack_from(payload)
        if (1 << min(states_log, 16), step) != (self.states, self.step):
            raise CorruptError("the trellis payload has another step or number of states than its record", 0)

    def decode(self, payload: bytes, shape: tuple[int, int], threads: int = 1) -> npt.NDArray[np.float32]:
        """The matrix; see `Hyperfunction.decode`. Step and states are those that the payload records."""
        found = Payload.parse(payload, shape)
        out = np.empty(shape[0] * shape[1], np.float32)

        def keep(at: int, levels: Integers) -> None:
            weights_of(levels, found.walk.holes, found.step, found.offsets, out[at : at + levels.size])

        found.each(keep, threads)
        return out.reshape(shape)

    def decode_tiles(self, payload: bytes, shape: tuple[int, int], threads: int = 1) -> Iterator[Floats]:
        """The weights in consecutive tiles, few of which are in memory at once; raises as `decode` does."""
        found = Payload.parse(payload, shape)

        def work(tile: tuple[int, int, bytes]) -> Floats:
            levels = found.walk.decode(tile[2], found.table, tile[1])
            out = np.empty(levels.size, np.float32)
            weights_of(levels, found.walk.holes, found.step, found.offsets, out)
            return out

        if threads == 1 or len(found.tiles) == 1:
            yield from map(work, found.tiles)
            return
        with ThreadPoolExecutor(threads) as pool:
            for first in range(0, len(found.tiles), 2 * threads):
                yield from pool.map(work, found.tiles[first : first + 2 * threads])

    def decode_levels(self, payload: bytes, shape: tuple[int, int], threads: int = 1) -> npt.NDArray[np.int32]:
        """The matrix of levels, with -2^31 for holes; raises as `decode` does."""
        found = Payload.parse(payload, shape)
        out = np.empty(shape[0] * shape[1], np.int32)

        def keep(at: int, levels: Integers) -> None:
            out[at : at + levels.size] = levels

        found.each(keep, threads)
        return out.reshape(shape)

    def _grid(self, weights: Floats) -> Integers:
        """The weights in units of 1/256 of a step."""
        return np.rint(weights.astype(np.float64) / self.step * 256).astype(np.int32)


def _residuals(x: Integers, levels: Integers) -> npt.NDArray[np.int64]:
    """Sums of the magnitudes that levels lack, in 1/256 of a step, and counts: (2, 6), for even and odd magnitudes."""
    x, levels = x[levels != HOLE], levels[levels != HOLE]
    magnitude = np.abs(levels)
    value = np.minimum(magnitude - 1 >> 1, 2)
    lack = (x - 256 * levels) * np.sign(levels)
    kinds = [(magnitude & 1 == odd) & (value == v) & (levels != 0) for odd in (0, 1) for v in range(3)]
    return np.array([[int(lack[k].sum(dtype=np.int64)) for k in kinds], [int(k.sum()) for k in kinds]])


def _offsets(tiles: list[Integers], levels: list[Integers]) -> list[int]:
    """What levels of each kind lack on average, in units of 1 / OFFSETS_PER_STEP of a step."""
    sums = sum((_residuals(x, n) for x, n in zip(tiles, levels, strict=True)), np.zeros((2, 6), np.int64))
    found = []
    for total, count in sums.T.tolist():
        per = 256 // OFFSETS_PER_STEP * max(count, 1)
        found.append(min(max((2 * total + per) // (2 * per), -96), 96))
    return found


def weights_of(levels: Integers, holes: bool, step: float, offsets: list[int], out: Floats) -> None:
    """The step times (n + offset sgn n): one multiplication in binary64, rounded to binary32; 0 for holes."""
    if holes:
        levels = np.where(levels == HOLE, np.int32(0), levels)
    near = 512
    inside = not levels.size or (int(levels.max()) < near and int(levels.min()) >= -near)
    n = np.arange(-near, near) if inside else levels.astype(np.int64)
    magnitude = np.abs(n)
    kind = np.minimum(magnitude - 1 >> 1, 2) + 3 * (magnitude & 1)
    shifted = OFFSETS_PER_STEP * n + np.sign(n) * np.array(offsets)[np.where(n == 0, 0, kind)]
    values: Floats = (shifted * (step / OFFSETS_PER_STEP)).astype(np.float32)
    if inside:
        np.take(values, levels + near, out=out, mode="clip")  # all are inside: only "raise" would take a copy
    else:
        out[:] = values
