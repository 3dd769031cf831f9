"""Units of code length: nats (natural logarithms) and bits.

What it is not: it measures nothing; callers bring the code length.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Amount = TypeVar("Amount", float, npt.NDArray[np.float64], npt.NDArray[np.float32])

LN2 = math.log(2.0)  # nats in a bit


def to_bits(nats: Amount) -> Amount:
    """Code lengths in bits, from nats; of one number, or of an array of any shape.

    Example:
        >>> to_bits(LN2)
        1.0
    """
    return nats / LN2


def to_nats(bits: Amount) -> Amount:
    """Code lengths in nats, from bits: the inverse of `to_bits`.

    Example:
        >>> to_nats(1.0) == LN2
        True
    """
    return bits * LN2


def bits_per(unit: float, nats: float) -> float:
    """Bits for each of `unit` characters, bytes or tokens whose code lengths add up to `nats`.

    Raises:
        ZeroDivisionError: there is no unit.

    Example:
        >>> bits_per(2, 3 * LN2)
        1.5
    """
    return nats / (unit * LN2)
