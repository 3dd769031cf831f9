"""Matrices as small integers with a scale for each group of a row, and the integers packed into words.

The layout is that of `pack-quantized` in compressed-tensors (docs/shrink.md, "For vLLM"). What it is not: a writer of
files.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from kolmo.weights.sources.dtypes import from_floats, to_floats

if TYPE_CHECKING:
    import numpy.typing as npt

    from kolmo.weights.sources.dtypes import Floats

WORD_BITS = 32
SHARES = {8: (1.0,), 4: (1.0, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7)}  # bits -> parts of the largest scale that are tried


def quantise(
    matrix: Floats, bits: int, group: int, dtype: str, step: float | None = None
) -> tuple[npt.NDArray[np.int8], Floats]:
    """Integers and scales whose products are close to a matrix.

    The scale of a group is that of the least squared error among a few: those with which the largest weight, or a part
    of it, is the largest integer, and the step of a grid on which the weights may already lie.

    Args:
        matrix: finite numbers, (rows, columns).
        bits: 4 or 8 for each integer; they are from -2^(bits - 1) to 2^(bits - 1) - 1.
        group: number of columns that share a scale; it divides the columns.
        dtype: "F32", "F16" or "BF16": the scales are rounded to it.
        step: distance between the levels of the weights, if they have some.

    Returns:
        Integers (rows, columns), and scales (rows, columns // group), each above 0.

    Example:
        >>> integers, scales = quantise(np.float32([[0.5, -1.5, 4.0, 0.0]]), 4, 2, "F32", 0.5)
        >>> integers.tolist(), scales.tolist()
        ([[1, -3, 7, 0]], [[0.5, 0.5333333611488342]])
    """
    rows, columns = matrix.shape
    groups = matrix.reshape(rows, columns // group, group)
    least, most = -(1 << bits - 1), (1 << bits - 1) - 1
    largest = np.abs(groups).max(2, keepdims=True)
    tried = [largest * np.float32(share / (most + 0.5)) for share in SHARES[bits]]
    if step is not None:
        tried.insert(0, np.full_like(largest, step))
    best = np.full_like(largest, np.inf)
    integers, scales = np.zeros(groups.shape, np.int8), np.ones_like(largest)
    for scale in tried:
        scale = to_floats(from_floats(scale, dtype), dtype).reshape(scale.shape)
        scale[scale == 0] = 1  # of weights that are all 0, or too small for the dtype
        found = np.clip(np.rint(groups / scale), least, most)
        error = np.square(found * scale - groups).sum(2, keepdims=True)
        better = error < best
        np.copyto(best, error, where=better)
        np.copyto(scales, scale, where=better)
        np.copyto(integers, found, where=better, casting="unsafe")
    return integers.reshape(rows, columns), scales[..., 0]


def words_of(columns: int, bits: int) -> int:
    """Number of 32-bit words that a row of so many integers takes."""
    return -(-columns * bits // WORD_BITS)


def pack(integers: npt.NDArray[np.int8], bits: int) -> bytes:
    """Integers (rows, columns) as words of 32 bits, row by row, the first integer in the lowest bits.

    To each 2^(bits - 1) is added, so that none is negative. A row ends with zeros up to a whole word. Words are
    little-endian.

    Example:
        >>> pack(np.int8([[-8, 7, 0]]), 4).hex()
        'f0080000'
    """
    rows, columns = integers.shape
    filled = np.zeros((rows, words_of(columns, bits) * WORD_BITS // bits), np.uint8)
    filled[:, :columns] = integers.astype(np.int16) + (1 << bits - 1)
    return (filled if bits == 8 else filled[:, ::2] | filled[:, 1::2] << 4).tobytes()
