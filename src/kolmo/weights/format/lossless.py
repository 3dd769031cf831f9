"""Floats to the last bit: a base of levels along one step, and residuals that say which of its cell each weight is.

The base is a payload of the trellis with one state, the residual a payload of its own; docs/residual.md has the layout
and why the two together cost no more than the floats' entropy. The step is a power of two, so each cell is a range of
floats of one exponent, and a base read alone is a coarser copy of the weights.

What it is not: it knows one matrix and no file; tensors with infinities are not for it. The hot loops are kernels; see
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
from kolmo.hyperfunctions.trellis import HEADER, STEPS, TILE, Trellis, checksum
from kolmo.native.dispatch import kernels
from kolmo.progress import Progress
from kolmo.safetensors import BYTES
from kolmo.weights.sources.dtypes import NUMPY, to_floats

if TYPE_CHECKING:
    import numpy.typing as npt

    Integers = npt.NDArray[np.integer[Any]]

BASE = Trellis(1.0, 1)  # what decodes every base: its step is the payload's
MANTISSA = {"BF16": 7, "F16": 10, "F32": 23, "F64": 52}
KIND = {name: i for i, name in enumerate(MANTISSA)}
HEAD = struct.Struct("<BBHI")  # dropped, depth and zeros, exponent, CRC-32 of all else
SIZES = struct.Struct("<2I")  # of a tile's code and bits
ZEROS = 16  # flag beside the depth
DEEPEST, CELLS, OCTAVES, HIGHEST = 8, 16, 16, 19
SAMPLE = 1 << 15  # weights that choose step and depth
PATIENCE = 2  # depths without a gain
BELOW = 3 / 8  # of the sample: as many at most are below the step
LOUD, SELDOM = 4, 1 / 50  # of the sample: at most so many are as many octaves above the step, where levels cost more


@dataclass(frozen=True)
class _Floats:
    """A dtype, as exponents and mantissas, without the lowest bits of these that are 0 in all weights."""

    dtype: str
    dropped: int = 0

    @property
    def kind(self) -> int:
        """As the kernels number them."""
        return KIND[self.dtype]

    @property
    def native(self) -> np.dtype[Any]:
        """Of the bits, in the order of this machine."""
        return np.dtype(f"u{BYTES[self.dtype]}")

    @property
    def mantissa(self) -> int:
        """Bits of it that are left."""
        return MANTISSA[self.dtype] - self.dropped

    @property
    def sign(self) -> int:
        """The place of its bit."""
        return 8 * BYTES[self.dtype] - 1

    @property
    def bias(self) -> int:
        """Of the exponent: that of 1."""
        return (1 << self.sign - MANTISSA[self.dtype] - 1) - 1

    def bits(self, data: bytes) -> Integers:
        """Of a matrix, as integers."""
        return np.frombuffer(data, f"<u{BYTES[self.dtype]}").astype(self.native, copy=False)


def encode(data: bytes, dtype: str, columns: int, progress: Progress | None = None) -> tuple[bytes, bytes]:
    """The payloads of base and residual of a matrix, given as the bytes of its finite weights.

    Raises:
        ValueError: magnitudes that no step from 2^-100 to 2^100 fits.
    """
    bits = _Floats(dtype).bits(data)
    magnitudes = bits & bits.dtype.type((1 << _Floats(dtype).sign) - 1)
    used = int(np.bitwise_or.reduce(magnitudes))
    floats = _Floats(dtype, min((used & -used).bit_length() - 1, MANTISSA[dtype]) if used else MANTISSA[dtype])
    sample = magnitudes[:: -(-magnitudes.size // SAMPLE) | 1] >> floats.dropped  # odd, so of all columns
    exponent = _exponent(sample, int(magnitudes.max()) >> MANTISSA[dtype], floats)
    step = 2.0 ** (exponent - floats.bias)
    weights = np.frombuffer(data, NUMPY["F64"]) if dtype == "F64" else to_floats(data, dtype)
    levels = (weights * (1 / step)).astype(np.int32)
    code = Trellis(step, 1).encode_levels(levels.reshape(-1, columns))
    settings = floats.dropped, exponent, _depth(sample, floats, exponent, bits.size), int(not magnitudes.all())
    tiles = []
    for at in range(0, bits.size, TILE):
        tile = bits[at : at + TILE]
        tiles.append(kernels.residual_encode(floats.kind, *settings, columns, tile.tobytes()))
        if progress:
            progress(tile.size)
    return code, _pack(*settings, tiles, (bits.size // columns, columns))


def decode(code: bytes, rest: bytes, dtype: str, shape: tuple[int, int], threads: int = 1) -> bytes:
    """The mirror of `encode`: the bytes of a matrix.

    Raises:
        CorruptError: a payload is damaged, of another shape, or they do not belong together.
    """
    dropped, exponent, depth, zeros, tiles = _unpack(rest, shape)
    floats = _Floats(dtype)
    if dropped > floats.mantissa or not 1 <= exponent <= 2 * floats.bias or depth > DEEPEST or zeros > 1:
        raise CorruptError("the residual's head is not one of this version, or of another dtype", 0)
    levels = BASE.decode_levels(code, shape, threads).reshape(-1)
    if _step(code) != 2.0 ** (exponent - floats.bias):
        raise CorruptError("the residual is of another step than its base", 0)
    out = np.empty(levels.size, floats.native)

    def work(i: int) -> None:
        tile = levels[i * TILE : (i + 1) * TILE].tobytes()
        found = kernels.residual_decode(floats.kind, dropped, exponent, depth, zeros, shape[1], tile, *tiles[i])
        out[i * TILE : (i + 1) * TILE] = np.frombuffer(found, floats.native)

    _each(work, range(len(tiles)), threads)
    return out.astype(out.dtype.newbyteorder("<"), copy=False).tobytes()


def decode_base(code: bytes, shape: tuple[int, int], threads: int = 1) -> npt.NDArray[np.float32]:
    """The middle of each weight's cell: what the base alone knows of a matrix.

    Raises:
        CorruptError: the payload is damaged, or of another shape.
    """
    levels = BASE.decode_levels(code, shape, threads)
    middles: npt.NDArray[np.float32] = ((levels + 0.5 * np.sign(levels)) * _step(code)).astype(np.float32)
    return middles


def _step(code: bytes) -> float:
    """Of a base that was decoded."""
    step: float = HEADER.unpack_from(code)[3]
    return step


def _exponent(sample: Integers, highest: int, floats: _Floats) -> int:
    """The step, as the biased exponent that it has as one of these floats."""
    there = sample[sample > 0]
    exponents = (there >> floats.mantissa).astype(np.int64) if there.size else np.array([highest])
    # The part of the weights below 2^(e + 1), which is the least magnitude with the next exponent:
    below = np.cumsum(np.bincount(exponents, minlength=2 * floats.bias + 2)) / exponents.size
    few = int(np.searchsorted(below, BELOW, "right"))
    seldom = 1 + int(np.searchsorted(below, 1 - SELDOM)) - LOUD
    least, most = (math.frexp(step)[1] - 1 + floats.bias for step in STEPS)
    exponent = max(min(max(few, seldom), most), highest - HIGHEST, least, 1)
    if exponent > most:
        raise ValueError("weights too large for any step")
    return min(exponent, 2 * floats.bias)


def _depth(sample: Integers, floats: _Floats, exponent: int, count: int) -> int:
    """How many upper bits of residuals are worth contexts, which each tile learns anew.

    A context that is met n times saves n (1 - H) bits, H the entropy of what follows, and costs log2(n) / 2 to learn.
    """
    octave = (sample >> floats.mantissa).astype(np.int64) - exponent
    level = np.where(octave < 0, 0, 1 << np.clip(octave, 0, HIGHEST))
    whole = (sample & sample.dtype.type((1 << floats.mantissa) - 1)).astype(np.int64) | 1 << floats.mantissa
    level = np.where((octave > 0) & (octave <= 4), whole >> np.maximum(floats.mantissa - octave, 0), level)
    group = np.where(octave < 0, CELLS + np.clip(-octave, 1, OCTAVES), np.minimum(level, CELLS))
    left = np.where(octave < 0, floats.mantissa, floats.mantissa - octave)
    alive = sample > 0
    each = min(count, TILE) / max(sample.size, 1)
    node, saved, best, depth = np.ones(sample.size, np.int64), 0.0, 0.0, 0
    for k in range(DEEPEST):
        alive &= left > k
        bit = whole[alive] >> left[alive] - k - 1 & 1
        ones = np.bincount(group[alive] << DEEPEST | node[alive], bit)
        met = np.bincount(group[alive] << DEEPEST | node[alive])
        ones, met = ones[met > 0], met[met > 0]
        p = np.clip(ones / met, 1e-9, 1 - 1e-9)
        entropy = -p * np.log2(p) - (1 - p) * np.log2(1 - p) + 0.72 / met  # Miller and Madow 1955
        saved += float((each * met * (1 - entropy) - np.log2(each * met + 1) / 2).sum())
        node[alive] = node[alive] << 1 | bit
        if saved > best + each * sample.size / 1000:
            best, depth = saved, k + 1
        elif k >= depth + PATIENCE:
            break
    return depth


def _pack(
    dropped: int, exponent: int, depth: int, zeros: int, tiles: Iterable[tuple[bytes, bytes]], shape: tuple[int, int]
) -> bytes:
    sizes = b"".join(SIZES.pack(len(code), len(bits)) for code, bits in tiles)
    body = sizes + b"".join(code + bits for code, bits in tiles)
    head = dropped, depth + ZEROS * zeros, exponent
    return HEAD.pack(*head, checksum(HEAD.pack(*head, 0), body, shape)) + body


def _unpack(rest: bytes, shape: tuple[int, int]) -> tuple[int, int, int, int, list[tuple[bytes, bytes]]]:
    """The mirror of `_pack`."""
    if len(rest) < HEAD.size:
        raise CorruptError(f"a residual of {len(rest)} bytes ends within its head", len(rest))
    dropped, flags, exponent, digest = HEAD.unpack_from(rest)
    if checksum(HEAD.pack(dropped, flags, exponent, 0), rest[HEAD.size :], shape) != digest:
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
    return dropped, exponent, flags % ZEROS, flags // ZEROS, tiles


def _each(work: Callable[[int], None], items: range, threads: int) -> None:
    if threads > 1 and len(items) > 1:
        with ThreadPoolExecutor(min(threads, len(items))) as pool:
            list(pool.map(work, items))
    else:
        for i in items:
            work(i)
