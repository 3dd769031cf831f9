"""Records and arrays of numbers, found by statistics: integers only, so that all machines find the same.

What it is not: a decision. What it finds is tried on a part of the data (`choice.py`).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

SAMPLE_BYTES = 1 << 14  # that are looked at
MIN_BYTES = 256
MAX_RECORD = 1 << 12  # bytes of a record that is found
CONTRAST = 3  # an array's highest byte has so many times fewer values than its lowest
LIKENESS = 2  # bytes at the same place in values differ less in how many values they have
VOTES = 24  # a record's length is the distance of one in so many pairs of bytes and the equal pair before
SMOOTH_VALUES = 1 << 12  # of an array, that are looked at for rows
MAX_ROW = 1 << 10  # values of a row that is found


class Array(NamedTuple):
    """Numbers: bytes of each, order of the bytes (0 little, 1 big endian), bytes before the first."""

    width: int
    order: int
    offset: int


def array_layouts(data: bytes) -> list[Array]:
    """How some data might be an array of numbers: the bytes of a number differ in how many values they have."""
    rows = min(len(data), SAMPLE_BYTES) // 8
    if rows * 8 < MIN_BYTES:
        return []
    table = np.frombuffer(data, np.uint8, rows * 8).reshape(rows, 8)
    # The number of equally frequent values, in sixteenths, that would have as many coincidences.
    spread = [16 * rows * rows // int(np.square(np.bincount(table[:, k], minlength=256)).sum()) for k in range(8)]
    for width in (2, 4, 8):
        groups = [spread[k::width] for k in range(width)]
        means = [sum(group) // len(group) for group in groups]
        alike = all(max(group) <= LIKENESS * min(group) for group in groups)
        if alike and max(means) >= CONTRAST * min(means):
            least = min(means)
            if means[-1] * 8 <= least * 9:
                big = [Array(width, 1, 0)] if means[0] * CONTRAST <= max(means) else []
                return [Array(width, 0, 0), *big]
            if means[0] * 8 <= least * 9:
                return [Array(width, 1, 0), Array(width, 0, 1), Array(width, 0, 0)]
            return [Array(width, 0, means.index(least) + 1)]
    return []


def looks_float(data: bytes, array: Array) -> bool:
    """Whether the highest bytes of an array are signs and usual exponents of binary32 or binary64."""
    if array.width < 4:
        return False
    first = array.offset + (array.width - 1 if array.order == 0 else 0)
    tops = np.frombuffer(data[first : SAMPLE_BYTES : array.width], np.uint8) & 127
    usual = int(((tops >= 0x37) & (tops <= 0x48)).sum())
    return (usual + int((tops == 0).sum())) * 10 >= len(tops) * 9 and usual * 10 >= len(tops) * 6


def with_rows(data: bytes, arrays: list[Array]) -> list[tuple[int, ...]]:
    """Parameters of arrays: as they are, or as records of some numbers, if such resemble each other."""
    width, order, offset = arrays[0]
    found: list[tuple[int, ...]] = [(array.width, *array) for array in arrays]
    values = _values(data, arrays[0])
    far = min(MAX_ROW, len(values) // 4)
    if far < 3:
        return found
    kept = len(values) - far
    steps = np.array([int(np.abs(values[far:] - values[far - k : far - k + kept]).sum()) for k in range(1, far)])
    # The shortest distance that is nearly the best; its half must be worse, or the numbers just change slowly.
    row = 2 + int(np.flatnonzero(steps[1:] * 8 <= int(steps[1:].min()) * 9)[0])
    if int(steps[row - 1]) * 4 < 3 * int(steps[row // 2 - 1]):
        records = [(row * width, width, order, offset)]
        if width == 8 or offset:
            records.append((row * width, min(width, 4), 0, 0))
        return [*records, (row * width, 2, 1, 0) if offset and width > 2 else found[0]]
    return found


def record_layouts(data: bytes) -> list[tuple[int, ...]]:
    """Parameters of records: the usual distance of equal pairs of bytes is their length."""
    size = min(len(data), SAMPLE_BYTES)
    if size < MIN_BYTES:
        return []
    sample = np.frombuffer(data, np.uint8, size).astype(np.uint16)
    pairs = sample[:-1] << 8 | sample[1:]
    places = np.argsort(pairs, kind="stable")
    gaps = np.diff(places)[np.diff(pairs[places]) == 0]
    votes = np.bincount(gaps[gaps <= MAX_RECORD], minlength=3)
    runs, total = int(votes[1]), len(gaps)
    votes[:2] = 0
    length = int(votes.argmax())
    if int(votes[length]) * VOTES < max(total - runs, MIN_BYTES):
        return [
            (width, width, 0, 0) for width in (4, 8) if _multiples(gaps, width) * 4 >= (total - runs) * 3 > MIN_BYTES
        ]
    widths = [width for width in (8, 4, 2) if length % width == 0]
    found: list[tuple[int, ...]] = [(length, width, 0, 0) for width in widths[:1]]
    found += [(length, 1, 0, 0)]
    return found + [(length, width, 1, 0) for width in widths[-1:]]


def _multiples(gaps: npt.NDArray[np.int64], width: int) -> int:
    return int((gaps % width == 0).sum())


def _values(data: bytes, array: Array) -> npt.NDArray[np.int64]:
    """The numbers of an array, or 32 bits of them, from the highest byte that varies."""
    width, order, offset = array
    whole = (min(len(data), SMOOTH_VALUES * width + offset) - offset) // width
    table = np.frombuffer(data, np.uint8, max(whole, 0) * width, offset).reshape(-1, width)
    table = table if order else table[:, ::-1]
    varies = np.flatnonzero((table != table[:1]).any(axis=0))
    first = int(varies[0]) if len(varies) else 0
    values = np.zeros(len(table), np.int64)
    for k in range(first, min(width, first + 4)):
        values = values << 8 | table[:, k]
    bits = 8 * min(width - first, 4)
    return values if first else values - (values >> bits - 1 << bits)
