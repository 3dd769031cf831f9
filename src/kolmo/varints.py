"""Unsigned integers of variable length: LEB128, seven bits a byte, the lowest first.

Only the shortest form of a value is read, so that each value has one form (docs/format.md, "Conventions").
"""

from __future__ import annotations

from collections.abc import Callable

MAX_VARINT = (1 << 63) - 1  # fits nine bytes, and a signed integer of 64 bits


class VarintError(ValueError):
    """The bytes are not a varint, or its value is above the limit; the message is a predicate: "is larger than 9"."""


def varint(value: int) -> bytes:
    r"""Unsigned LEB128 of `value`, in 0 .. 2^63 - 1.

    Raises:
        ValueError: the value is out of range.

    Example:
        >>> varint(300)
        b'\xac\x02'
    """
    if not 0 <= value <= MAX_VARINT:
        raise ValueError(f"{value} does not fit a varint (0 .. 2^63 - 1)")
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def read_varint(next_byte: Callable[[], int], limit: int = MAX_VARINT) -> int:
    r"""The value of the varint that begins at the next byte; the mirror of `varint`.

    Args:
        next_byte: returns the next byte of the input, 0 to 255; at most nine are read. Its errors pass through.
        limit: the largest value that is accepted, at most 2^63 - 1.

    Raises:
        VarintError: the value is above the limit, or is written longer than needed.

    Example:
        >>> read_varint(iter(b"\xac\x02").__next__)
        300
    """
    value = 0
    for shift in range(0, 63, 7):
        byte = next_byte()
        value |= (byte & 0x7F) << shift
        if value > limit:
            break
        if byte < 0x80:
            if byte == 0 and shift:
                raise VarintError("is written longer than needed")
            return value
    raise VarintError("is larger than " + ("2^63 - 1" if limit == MAX_VARINT else str(limit)))
