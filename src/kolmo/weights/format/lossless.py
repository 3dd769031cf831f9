"""Lossless coding of floats: a lossy base of levels, and a residual that picks the float within each level's cell.

The base is a payload of the trellis with one state, and the residual has a layout of its own (docs/residual.md, also on
why the two together cost no more than the entropy of the floats). The step is a power of two, so that each cell is a
range of floats with one exponent, and the base alone is a coarser copy of the weights.

What it is not: a coder of files; it sees one matrix, whose weights are finite. The hot loops are kernels; see
kolmo.native.residual.reference.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from kolmo.errors import CorruptError
from kolmo.hyperfunctions.trellis import Trellis
from kolmo.hyperfunctions.trellis_payload import HEADER, STEPS, TILE, checksum
from kolmo.native.dispatch import kernels
from kolmo.progress import Progress
from kolmo.safetensors import BYTES
from kolmo.weights.sources.dtypes import NUMPY, to_floats

if TYPE_CHECKING:
    import numpy.typing as npt

    Integers = npt.NDArray[np.integer[Any]]

BASE = Trellis(1.0, 1)  # decodes every base, since a payload records its step
MANTISSA = {"BF16": 7, "F16": 10, "F32": 23, "F64": 52}  # bits of the mantissa
KIND = {name: i for i, name in enumerate(MANTISSA)}
HEAD = struct.Struct("<BBHI")  # dropped bits, depth and flags, exponent, CRC-32 of everything else
SIZES = struct.Struct("<2I")  # lengths in bytes of a tile's code and of its raw bits
ZEROS, ROWS = 16, 32  # flags beside the depth: some weights are 0; each row drops a number of bits of its own
ROW_COST = 16  # bits that a row must save to drop more than the row before; more than what saying so takes
MAX_DEPTH = 8  # upper bits of a residual that may have contexts
CELLS = 16  # levels whose cells have contexts of their own
OCTAVES = 16  # octaves below the step that have contexts of their own
MAX_OCTAVE = 19  # octaves above the step that a level reaches
SAMPLE_WEIGHTS = 1 << 15  # weights of the sample by which step and depth are chosen
DEPTHS_WITHOUT_GAIN = 2  # depths without a gain after which the search for the depth ends
MAX_PART_BELOW_STEP = 3 / 8  # of the sample
# At most 1/50 of the sample is 4 octaves or more above the step, where levels cost more.
HIGH_OCTAVES, MAX_PART_HIGH = 4, 1 / 50


@dataclass(frozen=True)
class _Floats:
    """A dtype, as exponents and mantissas; the lowest bits of the mantissa that are 0 in all weights are dropped."""

    dtype: str
    dropped: int = 0

    @property
    def kind(self) -> int:
        """The number that the kernels give the dtype."""
        return KIND[self.dtype]

    @property
    def native(self) -> np.dtype[Any]:
        """The unsigned integer of the same width, in the byte order of this machine."""
        return np.dtype(f"u{BYTES[self.dtype]}")

    @property
    def mantissa(self) -> int:
        """Number of mantissa bits that are not dropped."""
        return MANTISSA[self.dtype] - self.dropped

    @property
    def sign(self) -> int:
        """The place of the sign bit."""
        return 8 * BYTES[self.dtype] - 1

    @property
    def bias(self) -> int:
        """The bias of the exponent: the exponent of 1.0."""
        return (1 << self.sign - MANTISSA[self.dtype] - 1) - 1

    def bits(self, data: bytes) -> Integers:
        """The bits of a matrix, as integers."""
        return np.frombuffer(data, f"<u{BYTES[self.dtype]}").astype(self.native, copy=False)


def encode(data: bytes, dtype: str, columns: int, progress: Progress | None = None) -> tuple[bytes, bytes]:
    """Base and residual of a matrix, given as the bytes of its finite weights.

    Raises:
        ValueError: a weight is not finite, or the magnitudes fit no step from 2^-100 to 2^100.
    """
    bits = _Floats(dtype).bits(data)
    magnitudes = bits & bits.dtype.type((1 << _Floats(dtype).sign) - 1)
    used = int(np.bitwise_or.reduce(magnitudes))
    floats = _Floats(dtype, min((used & -used).bit_length() - 1, MANTISSA[dtype]) if used else MANTISSA[dtype])
    if int(magnitudes.max()) >> MANTISSA[dtype] > 2 * floats.bias:
        raise ValueError("a weight is not a finite number")
    sample = magnitudes[:: -(-magnitudes.size // SAMPLE_WEIGHTS) | 1] >> floats.dropped
    exponent = _exponent(sample, int(magnitudes.max()) >> MANTISSA[dtype], floats)
    step = 2.0 ** (exponent - floats.bias)
    weights = np.frombuffer(data, NUMPY["F64"]) if dtype == "F64" else to_floats(data, dtype)
    levels = (weights * (1 / step)).astype(np.int32)
    code = Trellis(step, 1).encode_levels(levels.reshape(-1, columns))
    settings = floats.dropped, exponent, _depth(sample, floats, exponent, bits.size), int(not magnitudes.all())
    counts = _row_counts(magnitudes.reshape(-1, columns), floats.dropped, MANTISSA[dtype])
    tiles = []
    for at in range(0, bits.size, TILE):
        tile = bits[at : at + TILE]
        rows = counts[at // columns : -(-(at + tile.size) // columns)].tobytes()
        tiles.append(kernels.residual_encode(floats.kind, *settings, columns, at % columns, tile.tobytes(), rows))
        if progress:
            progress(tile.size)
    return code, _pack(*settings, int(counts.size > 0), tiles, (bits.size // columns, columns))


def decode(code: bytes, rest: bytes, dtype: str, shape: tuple[int, int], threads: int = 1) -> bytes:
    """The mirror of `encode`: the bytes of a matrix.

    Raises:
        CorruptError: a payload is damaged, has another shape, or the two do not belong together.
    """
    dropped, exponent, depth, zeros, rows, tiles = _unpack(rest, shape)
    floats, columns = _Floats(dtype), shape[1]
    if dropped > floats.mantissa or not 1 <= exponent <= 2 * floats.bias or depth > MAX_DEPTH or rows > 1:
        raise CorruptError("the header of the residual is not one of this version, or it is for another dtype", 0)
    levels = BASE.decode_levels(code, shape, threads).reshape(-1)
    if _step(code) != 2.0 ** (exponent - floats.bias):
        raise CorruptError("the residual has another step than its base", 0)
    out = np.empty(levels.size, floats.native)

    def work(i: int) -> None:
        tile, phase = levels[i * TILE : (i + 1) * TILE].tobytes(), i * TILE % columns
        settings = floats.kind, dropped, exponent, depth, zeros, rows, columns, phase
        found = kernels.residual_decode(*settings, tile, *tiles[i])
        out[i * TILE : (i + 1) * TILE] = np.frombuffer(found, floats.native)

    _each(work, range(len(tiles)), threads)
    return out.astype(out.dtype.newbyteorder("<"), copy=False).tobytes()


def decode_base(code: bytes, shape: tuple[int, int], threads: int = 1) -> npt.NDArray[np.float32]:
    """A matrix with loss, from its base alone: the middle of each weight's cell.

    Raises:
        CorruptError: the payload is damaged, or has another shape.
    """
    levels = BASE.decode_levels(code, shape, threads)
    middles: npt.NDArray[np.float32] = ((levels + 0.5 * np.sign(levels)) * _step(code)).astype(np.float32)
    return middles


def hyperfunction_of(code: bytes) -> Trellis:
    """The hyperfunction of a base, as a record names it."""
    return Trellis(_step(code), 1)


def _step(code: bytes) -> float:
    """The step of a base."""
    step: float = HEADER.unpack_from(code)[3]
    return step


def _exponent(sample: Integers, highest: int, floats: _Floats) -> int:
    """The step, as the biased exponent that it has as one of these floats."""
    there = sample[sample > 0]
    exponents = (there >> floats.mantissa).astype(np.int64) if there.size else np.array([highest])
    # The part of the weights below 2^(e + 1), the least magnitude with the next exponent, for each exponent e:
    below = np.cumsum(np.bincount(exponents, minlength=2 * floats.bias + 2)) / exponents.size
    by_low = int(np.searchsorted(below, MAX_PART_BELOW_STEP, "right"))
    by_high = 1 + int(np.searchsorted(below, 1 - MAX_PART_HIGH)) - HIGH_OCTAVES
    least, most = (math.frexp(step)[1] - 1 + floats.bias for step in STEPS)
    exponent = max(min(max(by_low, by_high), most), highest - MAX_OCTAVE, least, 1)
    if exponent > most:
        raise ValueError("the weights are too large for any step")
    return min(exponent, 2 * floats.bias)


def _row_counts(magnitudes: Integers, dropped: int, mantissa: int) -> npt.NDArray[np.uint8]:
    """The number of bits that each row drops; empty where rows of their own are not worth it.

    A row that changes the number says so in about ROW_COST / 2 bits, and so does the one that changes it back.
    """
    used = np.bitwise_or.reduce(magnitudes, 1)
    alive, columns = used > 0, magnitudes.shape[1]  # a row of zeros fits any number
    lowest = np.frexp(np.where(alive, used & -used, 1).astype(np.float64))[1] - 1  # exponent of a power of two
    able = np.where(alive, np.minimum(lowest, mantissa), dropped).astype(np.uint8)
    saved = (able - dropped) * float(columns)
    if saved[saved > ROW_COST].sum() <= 4 * ROW_COST:
        return np.zeros(0, np.uint8)
    now = dropped
    for i in np.flatnonzero(alive).tolist():
        most = int(able[i])
        if most < now or (most - now) * columns > ROW_COST:
            now = most
        able[i] = now
    last = np.maximum.accumulate(np.where(alive, np.arange(alive.size), 0))
    return np.where(alive.cumsum() > 0, able[last], np.uint8(dropped))


def _depth(sample: Integers, floats: _Floats, exponent: int, count: int) -> int:
    """The number of upper bits of residuals that are worth contexts, which each tile learns anew.

    A context that occurs n times saves n (1 - H) bits, where H is the entropy of the next bit, and costs log2(n) / 2
    bits to learn.
    """
    octave = (sample >> floats.mantissa).astype(np.int64) - exponent
    level = np.where(octave < 0, 0, 1 << np.clip(octave, 0, MAX_OCTAVE))
    whole = (sample & sample.dtype.type((1 << floats.mantissa) - 1)).astype(np.int64) | 1 << floats.mantissa
    level = np.where((octave > 0) & (octave <= 4), whole >> np.maximum(floats.mantissa - octave, 0), level)
    group = np.where(octave < 0, CELLS + np.clip(-octave, 1, OCTAVES), np.minimum(level, CELLS))
    left = np.where(octave < 0, floats.mantissa, floats.mantissa - octave)
    alive = sample > 0
    each = min(count, TILE) / max(sample.size, 1)
    node, saved, best, depth = np.ones(sample.size, np.int64), 0.0, 0.0, 0
    for k in range(MAX_DEPTH):
        alive &= left > k
        bit = whole[alive] >> left[alive] - k - 1 & 1
        ones = np.bincount(group[alive] << MAX_DEPTH | node[alive], bit)
        met = np.bincount(group[alive] << MAX_DEPTH | node[alive])
        ones, met = ones[met > 0], met[met > 0]
        p = np.clip(ones / met, 1e-9, 1 - 1e-9)
        entropy = -p * np.log2(p) - (1 - p) * np.log2(1 - p) + 0.72 / met  # Miller and Madow 1955
        saved += float((each * met * (1 - entropy) - np.log2(each * met + 1) / 2).sum())
        node[alive] = node[alive] << 1 | bit
        if saved > best + each * sample.size / 1000:
            best, depth = saved, k + 1
        elif k >= depth + DEPTHS_WITHOUT_GAIN:
            break
    return depth


def _pack(
    dropped: int,
    exponent: int,
    depth: int,
    zeros: int,
    rows: int,
    tiles: Iterable[tuple[bytes, bytes]],
    shape: tuple[int, int],
) -> bytes:
    sizes = b"".join(SIZES.pack(len(code), len(bits)) for code, bits in tiles)
    body = sizes + b"".join(code + bits for code, bits in tiles)
    head = dropped, depth + ZEROS * zeros + ROWS * rows, exponent
    return HEAD.pack(*head, checksum(HEAD.pack(*head, 0), body, shape)) + body


def _unpack(rest: bytes, shape: tuple[int, int]) -> tuple[int, int, int, int, int, list[tuple[bytes, bytes]]]:
    """The mirror of `_pack`."""
    if len(rest) < HEAD.size:
        raise CorruptError(f"a residual of {len(rest)} bytes ends within its header", len(rest))
    dropped, flags, exponent, expected = HEAD.unpack_from(rest)
    if checksum(HEAD.pack(dropped, flags, exponent, 0), rest[HEAD.size :], shape) != expected:
        raise CorruptError("the residual is damaged, or not of this shape: its checksum differs", 0)
    count = -(-shape[0] * shape[1] // TILE)
    at = HEAD.size + count * SIZES.size
    if at > len(rest):
        raise CorruptError(f"the residual is too short for a matrix of {shape[0]} x {shape[1]}", len(rest))
    tiles = []
    for code, bits in SIZES.iter_unpack(rest[HEAD.size : at]):
        tiles.append((rest[at : at + code], rest[at + code : at + code + bits]))
        at += code + bits
    if at != len(rest):
        raise CorruptError(f"the residual is not that of a matrix of {shape[0]} x {shape[1]}", len(rest))
    return dropped, exponent, flags % ZEROS, flags % ROWS // ZEROS, flags // ROWS, tiles


def _each(work: Callable[[int], None], items: range, threads: int) -> None:
    if threads > 1 and len(items) > 1:
        with ThreadPoolExecutor(min(threads, len(items))) as pool:
            list(pool.map(work, items))
    else:
        for i in items:
            work(i)
