"""Scales of the rows and columns of a payload, each a power of the fourth root of 2 (docs/weights-format.md).

    weight = (decoded weight * scale of its row) * scale of its column         binary32, both products rounded

Calibration codes some inputs of a layer, and some outputs, with coarser steps than others. The exponents are the levels
of a one-row payload of the trellis with one state. What it is not: a choice of scales.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from kolmo.errors import CorruptError
from kolmo.hyperfunctions.trellis import Trellis

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float32]
    Exponents = npt.NDArray[np.int64]

PER_OCTAVE = 4  # exponents per factor of 2
MAX_EXPONENT = 64 * PER_OCTAVE  # largest magnitude of an exponent
LEVELS = Trellis(1.0, 1)
ROOTS = np.array([0x3F800000, 0x3F9837F0, 0x3FB504F3, 0x3FD744FD], np.uint32).view(np.float32)  # 2^(0, 1/4, 1/2, 3/4)


def nearest_exponents(scales: npt.NDArray[np.floating]) -> Exponents:
    """The exponents whose scales are nearest to these, which are above 0."""
    found: Exponents = np.rint(PER_OCTAVE * np.log2(np.asarray(scales, np.float64))).astype(np.int64)
    return np.clip(found, -MAX_EXPONENT, MAX_EXPONENT)


def scales_of(exponents: npt.NDArray[np.integer]) -> Floats:
    """The scales, binary32.

    Example:
        >>> scales_of(np.array([0, 4, -8, 2])).tolist()
        [1.0, 2.0, 0.25, 1.4142135381698608]
    """
    found: Floats = np.ldexp(ROOTS[exponents % PER_OCTAVE], exponents // PER_OCTAVE)
    return found


def pack(rows: Exponents, columns: Exponents) -> bytes:
    """The exponents of rows and columns as bytes."""
    return LEVELS.encode_levels(np.concatenate([rows, columns]).astype(np.int32)[None])


def unpack(data: bytes, shape: tuple[int, int]) -> tuple[Exponents, Exponents]:
    """The mirror of `pack`.

    Raises:
        CorruptError: the bytes are damaged, of another shape, or hold an exponent out of bounds.
    """
    LEVELS.check(data)
    found = LEVELS.decode_levels(data, (1, sum(shape)))[0].astype(np.int64)
    if found.size and int(np.abs(found).max()) > MAX_EXPONENT:
        raise CorruptError("a scale of the payload is out of bounds", 0)
    return found[: shape[0]], found[shape[0] :]


def scaled(matrix: Floats, rows: Exponents, columns: Exponents) -> Floats:
    """The weights of a decoded payload, scaled in place."""
    with np.errstate(over="ignore"):  # infinities are for the dtype of the tensor to treat
        matrix *= scales_of(rows)[:, None]
        matrix *= scales_of(columns)[None, :]
    return matrix
