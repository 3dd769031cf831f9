"""Units of code length: nats, bits, bits per character, bits per byte, compression rate.

What it is not: it measures nothing; callers bring the code length.
"""

from __future__ import annotations

import math

LN2 = math.log(2.0)


def nats_to_bits(nats: float) -> float:
    """A code length in bits, from nats (natural logarithms)."""
    return nats / LN2


def bits_to_nats(bits: float) -> float:
    """A code length in nats, from bits."""
    return bits * LN2


def bits_per_character(bits: float, text: str) -> float:
    """Code length in bits per character (Unicode code point) of `text`.

    Raises:
        ValueError: the text is empty.
    """
    return _per(bits, len(text), "characters")


def bits_per_byte(bits: float, size: int) -> float:
    """Code length in bits per byte of a content of `size` bytes (of UTF-8, for a text).

    Raises:
        ValueError: the size is not positive.
    """
    return _per(bits, size, "bytes")


def compression_rate(packed_size: int, raw_size: int) -> float:
    """Packed bytes per raw byte: 0.25 is a quarter of the size, above 1 is growth.

    Raises:
        ValueError: the raw size is not positive.
    """
    return _per(packed_size, raw_size, "bytes")


def _per(amount: float, count: int, unit: str) -> float:
    if count <= 0:
        raise ValueError(f"a rate needs at least one of its {unit}, not {count}")
    return amount / count
