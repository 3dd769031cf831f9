"""Filtered rows of PNG pictures, and their pixels: the specification of rows.h.

PNG puts a byte with the number of a filter before each row, and codes each byte of the row as its difference to what
the filter expects from the byte to the left, the byte above and the one to the left of that (PNG specification, "Filter
algorithms"). `split_rows` undoes the filters, so that a model of pictures sees pixels; `join_rows` applies them again.
Any bytes are split and joined again; a number that is no filter expects 0.

What it is not: a reader of PNG files, or the choice of a filter.
"""

from __future__ import annotations

MISFIT = "the arguments do not fit the kernel"
MAX_ROW = 1 << 15


def split_rows(content: bytes, row: int, pixel: int, /) -> bytes:
    """The filters of all rows, then the pixels of all rows.

    Args:
        content: rows of 1 + `row` bytes; the last one may be shorter.
        row: bytes of the pixels of a row, 1 to 32,768.
        pixel: bytes of a pixel, 1 to `row`.

    Returns:
        as many bytes as `content`.

    Raises:
        ValueError: a parameter is out of its limits.

    Examples:
        >>> split_rows(bytes([1, 10, 1, 1, 2, 5, 5, 5]), 3, 1).hex(" ")
        '01 02 0a 0b 0c 0f 10 11'
    """
    count = _count(content, row, pixel)
    filters, pixels = bytearray(), bytearray()
    for first in range(0, count * (row + 1), row + 1):
        kind = content[first]
        filters.append(kind)
        for at, value in enumerate(content[first + 1 : first + 1 + row]):
            pixels.append(value + _expected(kind, pixels, at, row, pixel) & 255)
    return bytes(filters + pixels)


def join_rows(apart: bytes, row: int, pixel: int, /) -> bytes:
    """The inverse of `split_rows`, with the same arguments and errors."""
    count = _count(apart, row, pixel)
    pixels = apart[count:]
    content = bytearray()
    for k in range(count):
        content.append(apart[k])
        before = bytearray(pixels[: k * row])
        for at, value in enumerate(pixels[k * row : (k + 1) * row]):
            content.append(value - _expected(apart[k], before, at, row, pixel) & 255)
            before.append(value)
    return bytes(content)


def _count(content: bytes, row: int, pixel: int) -> int:
    if not 1 <= pixel <= row <= MAX_ROW:
        raise ValueError(MISFIT)
    return -(-len(content) // (row + 1))


def _expected(kind: int, pixels: bytearray, at: int, row: int, pixel: int) -> int:
    """What a filter expects of the byte that follows `pixels`, the one of its row at `at`."""
    here = len(pixels)
    left = pixels[here - pixel] if at >= pixel else 0
    above = pixels[here - row] if here >= row else 0
    corner = pixels[here - row - pixel] if here >= row and at >= pixel else 0
    if kind == 1:
        return left
    if kind == 2:
        return above
    if kind == 3:
        return left + above >> 1
    if kind != 4:
        return 0
    total = left + above - corner
    return min((left, above, corner), key=lambda value: abs(total - value))  # the first of equals
