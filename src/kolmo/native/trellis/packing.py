"""Packed levels in NumPy and Python: the specification of trellis/packing.c (docs/trellis.md, "Packed levels").

    levels, blocks of 64  ->  heads, one to 16 blocks | widths, one to a block | words: the bit planes of the blocks

The states of the trellis are not stored: their lowest bits follow from one plane, by a division of polynomials over
GF(2). What it is not: a coder for files; nothing is entropy coded.
"""

from __future__ import annotations

import sys

import numpy as np
import numpy.typing as npt

from kolmo.native.trellis.reference import CODES, MAX_TILE, MISFIT

BLOCK = 64  # levels
GROUP = 16  # blocks to a head
MAX_PLANES = 16  # of the levels themselves, so that tables of weights are small
WORD = (1 << BLOCK) - 1


def trellis_pack(states: int, levels: bytes, /) -> tuple[bytes, bytes, bytes]:
    """Heads, widths and words of the levels of a tile, from its first on; native uint64, uint8 and uint64.

    Raises:
        ValueError: a level is too large, or not allowed in the state where it stands.
    """
    if states not in CODES or len(levels) % 4 or len(levels) // 4 > MAX_TILE:
        raise ValueError(MISFIT)
    half = int(states > 1)
    count = len(levels) // 4
    blocks = -(-count // BLOCK)
    n = np.zeros(blocks * BLOCK, np.int64)
    n[:count] = np.frombuffer(levels, np.int32)
    m = (n >> half).reshape(blocks, BLOCK)
    widths = np.zeros(blocks, np.int64)
    for width in range(1, MAX_PLANES - half + 1):  # of a block: one more than the largest that is too small
        widths[((m < -(1 << width - 1)) | (m >= 1 << width - 1)).any(1)] = width + 1
    widths[(widths < 2) & m.any(1)] = 2
    if (widths > MAX_PLANES - half).any():
        raise ValueError(MISFIT)
    biased = m + np.where(widths > 0, 1 << np.maximum(widths - 1, 0), 0)[:, None]
    planes = np.stack([_plane(biased >> j & 1) for j in range(MAX_PLANES)], 1)
    words = planes[np.arange(MAX_PLANES) < widths[:, None]]
    begins = np.cumsum(widths) - widths
    heads, state = [], 0
    parities = _plane((n & half).reshape(blocks, BLOCK)).tolist()
    for block, cosets in enumerate(_plane(m & 1).tolist()):
        if block % GROUP == 0:
            heads.append(int(begins[block]) << 8 | state)
        odd, state = _divided(states, cosets, state)
        if (odd ^ parities[block]) & (1 << min(count - block * BLOCK, BLOCK)) - 1:
            raise ValueError(MISFIT)
    return np.array(heads, np.uint64).tobytes(), widths.astype(np.uint8).tobytes(), words.tobytes()


def trellis_unpack(
    states: int,
    heads: bytes,
    widths: bytes,
    words: bytes,
    values: bytes,
    size: int,
    first: int,
    count: int,
    /,
) -> bytearray:
    """`count` levels from level `first` on, each replaced by its entry of a table: the mirror of `trellis_pack`.

    Args:
        states: as for `trellis_pack`.
        heads: of all blocks.
        widths: likewise.
        words: likewise.
        values: the table, of the levels from -T to T - 1.
        size: of an entry, in bytes: 1, 2, 4 or 8.
        first: where to begin.
        count: number of levels.

    Raises:
        ValueError: the arguments do not fit each other, or a level is not in the table.
    """
    half = int(states > 1)
    fits = states in CODES and size in (1, 2, 4, 8) and len(values) >= 4 * size and len(values) % (4 * size) == 0
    fits = fits and len(heads) == 8 * -(-len(widths) // GROUP) and len(words) % 8 == 0
    if not (fits and first >= 0 and count >= 0 and first + count <= len(widths) * BLOCK):
        raise ValueError(MISFIT)
    table = np.frombuffer(values, f"u{size}")
    middle = table.size // 2
    planes = np.frombuffer(words, np.uint64).tolist()
    begin = first // (BLOCK * GROUP) * GROUP
    found = np.empty((-(-(first + count) // BLOCK) - begin, BLOCK), table.dtype)
    at = state = 0
    for block in range(begin, begin + len(found)):
        if block % GROUP == 0:
            at, state = divmod(int.from_bytes(heads[block // GROUP * 8 :][:8], sys.byteorder), 256)
        width = widths[block]
        bias = 1 << min(width + half - 1, 30) if width else 0
        if bias > min(middle, 1 << MAX_PLANES - 1) or at + width > len(planes) or state >= states:
            raise ValueError(MISFIT)
        own = planes[at : at + width]
        if half:
            odd, state = _divided(states, own[0] if own else 0, state)
            own = [odd, *own]
        at += width
        numbers = sum((_bits(plane) << j for j, plane in enumerate(own)), np.zeros(BLOCK, np.int64))
        found[block - begin] = table[numbers - bias + middle]
    return bytearray(found.reshape(-1)[first - begin * BLOCK :][:count].tobytes())


def _divided(states: int, cosets: int, state: int) -> tuple[int, int]:
    """The lowest bits of the states along a block, and the state behind it."""
    feedback, input_mask = CODES[states]
    product = state
    for j in range(6):
        if input_mask >> j & 1:
            product ^= cosets << j + 1
    odd = product & WORD
    power = 1
    while power < BLOCK:  # a factor p(x^power), p(x) = 1 + x F(x)
        factor = odd
        for j in range(6):
            if feedback >> j & 1:
                factor ^= odd << power * (j + 1)
        odd = factor & WORD
        power *= 2
    for j in range(6):
        if feedback >> j & 1:
            product ^= odd << j + 1
    return odd, product >> BLOCK


def _plane(bits: npt.NDArray[np.int64]) -> npt.NDArray[np.uint64]:
    """Each row of 64 bits as a number, the first as its lowest bit."""
    return np.packbits(bits.astype(np.uint8), axis=1, bitorder="little").view("<u8").reshape(-1).astype(np.uint64)


def _bits(plane: int) -> npt.NDArray[np.int64]:
    return np.unpackbits(np.frombuffer(plane.to_bytes(8, "little"), np.uint8), bitorder="little").astype(np.int64)
