"""Products with a payload of the bitshift trellis in NumPy: the specification of the kernels in this folder.

A row of weights is a cyclic string of bits; the state of a weight is L bits of it, and a multiplication turns the state
into an integer from -126 to 126 (docs/bitshift.md, "Values"). Activations are rounded to integers, so that a product is
a sum of integers: the same bits on any machine, with any number of threads and of rows at once.

What it is not: a coder. Any words are valid weights; kolmo.hyperfunctions chooses them.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

HEADER = struct.Struct("<BBBBIfI")  # log2 of states, bits, flags, 0, seed, scale, CRC-32
GROUP = 16  # rows whose words are interleaved
PERIOD = 32  # weights after which a row is at the start of a word again
FACTOR = 0x379B28F5
MASK = 0x3F3F3F3F
OFFSET = 126
MAX_COLUMNS = 1 << 17
LEAST = np.float32(2.0**-100)  # a row of activations below it counts as zeros
OCTAVE = np.array([2.0 ** (i / 16) for i in range(16)]).astype(np.float32)
MISFIT = "the arguments do not fit the kernel"

Rows = bytes | npt.NDArray[np.generic]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Parts:
    """A payload, taken apart.

    Attributes:
        log_states: bits of a state.
        bits: bits of a weight.
        rotated: whether activations are rotated first.
        seed: of the rotation.
        words: uint32, (rows, words of a row).
        factors: binary32, one for each row.
    """

    log_states: int
    bits: int
    rotated: bool
    seed: int
    words: npt.NDArray[np.uint32]
    factors: Floats


def bitshift_product(payload: Rows, rows: int, columns: int, x: Rows, threads: int = 1, /) -> bytearray:
    """The product of the matrix with rows of activations.

    Args:
        payload: the payload of a matrix of shape (rows, columns).
        rows: of the matrix.
        columns: of the matrix.
        x: native binary32, (count, columns).
        threads: number of threads; without effect here.

    Returns:
        Native binary32, (count, rows). All of a row is NaN if an activation, rotated, is not a finite number.

    Raises:
        ValueError: sizes or values do not fit.
    """
    parts = take_apart(payload, rows, columns)
    given = _floats(x, columns)
    if threads < 1:
        raise ValueError(MISFIT)
    count = given.shape[0] if columns else 0
    with np.errstate(over="ignore", invalid="ignore"):
        turned = rotate(given, parts.seed) if parts.rotated and columns else given
        finite = np.asarray(np.isfinite(turned).all(1))
        top = np.abs(np.where(finite[:, None], turned, 0)).max(1, initial=0)
        quiet = top < LEAST
        per_unit = np.float32(127) / np.where(quiet, np.float32(1), top)
        scaled = np.where((finite & ~quiet)[:, None], turned, 0) * per_unit[:, None]
    q = np.rint(scaled).astype(np.int64)
    sums = q @ values(parts, columns).astype(np.int64).T
    unit = np.where(quiet, np.float32(0), top) / np.float32(127)
    y = sums.astype(np.float32) * (unit[:, None] * parts.factors[None, :])
    y[quiet] = 0
    y[~finite] = np.nan
    assert y.dtype == np.float32
    assert y.shape == (count, rows)
    return bytearray(y.tobytes())


def bitshift_rows(payload: Rows, rows: int, columns: int, places: Rows, restore: int, threads: int = 1, /) -> bytearray:
    """Some rows of the matrix.

    Args:
        payload: as for `bitshift_product`.
        rows: likewise.
        columns: likewise.
        places: native int64, numbers of rows, in any order.
        restore: 1 to turn rotated rows back; 0 for the rows as they are coded.
        threads: number of threads; without effect here.

    Returns:
        Native binary32, (number of places, columns).

    Raises:
        ValueError: sizes or values do not fit.
    """
    parts = take_apart(payload, rows, columns)
    data = np.frombuffer(places, np.uint8)
    if data.size % 8:
        raise ValueError(MISFIT)
    wanted = data.view(np.int64)
    if threads < 1 or (wanted.size and not 0 <= int(wanted.min()) <= int(wanted.max()) < rows):
        raise ValueError(MISFIT)
    some = Parts(parts.log_states, parts.bits, parts.rotated, parts.seed, parts.words[wanted], parts.factors[wanted])
    found = values(some, columns).astype(np.float32) * some.factors[:, None]
    if restore and parts.rotated and columns:
        found = rotate_back(found, parts.seed)
    return bytearray(found.tobytes())


def bitshift_rotate(x: Rows, columns: int, seed: int, back: int, threads: int = 1, /) -> bytearray:
    """Rows of numbers, rotated, or turned back.

    Args:
        x: native binary32, (count, columns).
        columns: length of a row, at least 1.
        seed: of the signs, 32 bits.
        back: 1 to turn back.
        threads: number of threads; without effect here.

    Raises:
        ValueError: sizes or values do not fit.
    """
    if not 1 <= columns <= MAX_COLUMNS or not 0 <= seed < 1 << 32 or threads < 1:
        raise ValueError(MISFIT)
    with np.errstate(over="ignore", invalid="ignore"):
        return bytearray((rotate_back if back else rotate)(_floats(x, columns), seed).tobytes())


def take_apart(payload: Rows, rows: int, columns: int) -> Parts:
    """The parts of a payload of a matrix of shape (rows, columns).

    Raises:
        ValueError: it is not one.
    """
    data = np.frombuffer(payload, np.uint8)
    if rows < 0 or not 0 <= columns <= MAX_COLUMNS or data.size < HEADER.size:
        raise ValueError(MISFIT)
    log_states, bits, flags, zero, seed, scale, _ = HEADER.unpack(data[: HEADER.size].tobytes())
    if log_states not in (12, 16) or bits not in (2, 3, 4) or flags > 1 or zero:
        raise ValueError(MISFIT)
    row_words = -(-columns // PERIOD) * bits
    if data.size != HEADER.size + 4 * rows * row_words + rows:
        raise ValueError(MISFIT)
    stored = data[HEADER.size : data.size - rows].view("<u4") if row_words else np.zeros(0, np.uint32)
    words = np.empty((rows, row_words), np.uint32)
    for first in range(0, rows, GROUP):
        height = min(GROUP, rows - first)
        block = stored[first * row_words : (first + height) * row_words]
        words[first : first + height] = block.reshape(row_words, height).T
    return Parts(log_states, bits, bool(flags), seed, words, _factors(np.float32(scale), data[data.size - rows :]))


def _factors(scale: np.float32, exponents: npt.NDArray[np.uint8]) -> Floats:
    steps = scale * OCTAVE[exponents & 15]
    octaves = np.ldexp(np.float32(1), (exponents >> 4).astype(np.int32) - 15).astype(np.float32)
    return np.where(exponents == 0, np.float32(0), steps * octaves)


def values(parts: Parts, columns: int) -> npt.NDArray[np.int16]:
    """The integers of a matrix, (rows, columns)."""
    words, bits, length = parts.words, parts.bits, parts.log_states
    if not words.size:
        return np.zeros((words.shape[0], columns), np.int16)
    following = np.roll(words, -1, axis=1)  # the string is cyclic
    pairs = words.astype(np.uint64) << np.uint64(32) | following
    at = np.arange(columns) * bits
    shifts = (64 - length - at % 32).astype(np.uint64)
    states = (pairs[:, at // 32] >> shifts[None, :]).astype(np.uint32) & np.uint32((1 << length) - 1)
    return value_of(states)


def value_of(states: npt.NDArray[np.uint32]) -> npt.NDArray[np.int16]:
    """The integer of each state."""
    masked = np.asarray(states, np.uint32) * np.uint32(FACTOR) & np.uint32(MASK)
    sums: npt.NDArray[np.int16] = np.ascontiguousarray(masked)[..., None].view(np.uint8).sum(-1, dtype=np.int16)
    return sums - np.int16(OFFSET)


def signs(columns: int, seed: int) -> Floats:
    """The signs of a rotation: 1 or -1 for each column."""
    u = np.arange(columns, dtype=np.uint32) + np.uint32(seed)
    u = u * np.uint32(0x9E3779B1)
    u ^= u >> np.uint32(15)
    u = u * np.uint32(0x85EBCA77)
    u ^= u >> np.uint32(13)
    u = u * np.uint32(0xC2B2AE3D)
    return np.where(u >> np.uint32(31), np.float32(-1), np.float32(1))


def rotate(x: Floats, seed: int) -> Floats:
    """Rows of shape (count, columns), rotated: one or two Walsh-Hadamard transforms that overlap, each after signs.

    Without the signs between them, two transforms whose places differ by a power of two cancel for the most part.
    """
    columns = x.shape[1]
    m = 1 << (columns.bit_length() - 1)
    found = x * signs(columns, seed)
    found[:, :m] = _hadamard(found[:, :m])
    if m < columns:
        found *= signs(columns, seed)
        found[:, columns - m :] = _hadamard(found[:, columns - m :])
    return found


def rotate_back(x: Floats, seed: int) -> Floats:
    """The mirror of `rotate`: the same transforms, the second first, and signs after each."""
    columns = x.shape[1]
    m = 1 << (columns.bit_length() - 1)
    found = x.copy()
    if m < columns:
        found[:, columns - m :] = _hadamard(found[:, columns - m :])
        found *= signs(columns, seed)
    found[:, :m] = _hadamard(found[:, :m])
    return found * signs(columns, seed)


def _hadamard(x: Floats) -> Floats:
    """The Walsh-Hadamard transform of rows whose length is a power of two, over the root of that length."""
    count, m = x.shape
    distance = 1
    while distance < m:
        pairs = x.reshape(count, m // (2 * distance), 2, distance)
        x = np.stack([pairs[:, :, 0] + pairs[:, :, 1], pairs[:, :, 0] - pairs[:, :, 1]], axis=2).reshape(count, m)
        distance *= 2
    return x * np.float32(1 / np.sqrt(np.float64(m)))


def _floats(x: Rows, columns: int) -> Floats:
    """Binary32 numbers as rows of `columns`."""
    size = np.asarray(x).nbytes if isinstance(x, np.ndarray) else len(x)
    if size % (4 * columns) if columns else size:
        raise ValueError(MISFIT)
    return np.frombuffer(x, np.float32).reshape(-1 if columns else 0, columns)
