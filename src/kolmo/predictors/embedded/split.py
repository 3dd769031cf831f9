"""Divides data without known headers into text, plain data, and data that looks random (docs/kinds.md).

It uses integers only, so that all machines decide alike. What it is not: part of the format; files store the result.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby, pairwise

from kolmo.native.dispatch import kernels
from kolmo.predictors.embedded.gate import (
    SAMPLE_BYTES,
    are_good,
    is_packed,
    looks_packed,
    samples_of,
    should_use_network,
)
from kolmo.predictors.embedded.kinds.base import Segment
from kolmo.predictors.embedded.kinds.general import PLAIN, QUICK
from kolmo.predictors.embedded.kinds.segments import TEXT

PACKED_WINDOW = 1 << 13  # bytes that are judged as a whole whether they look random
MIN_PACKED = 2 * PACKED_WINDOW  # the least run that becomes a segment
TEXT_WINDOW = 1 << 16  # bytes that are judged as a whole whether they are text
SAMPLES = 4  # of a window of text
EDGE_BYTES = 1 << 9  # to which the edge of a run that looks random is found


def split(data: bytes, kernel: Callable[[], kernels.Network]) -> list[Segment]:
    """Segments of the kinds text, plain and packed; `kernel` returns the network, where it is needed.

    >>> split(bytes(5000), kernel=lambda: None)
    [Segment(code=1, first=0, size=5000, parameters=())]
    """
    if len(data) < 2 * MIN_PACKED:
        return [Segment(_code(data, kernel), 0, len(data))]
    segments: list[Segment] = []
    for packed, first, last in _runs(data):
        if packed:
            segments.append(Segment(QUICK, first, last - first))
        else:
            segments += _texts(data, first, last, kernel)
    return segments


def _code(data: bytes, kernel: Callable[[], kernels.Network]) -> int:
    """The kind of data that is taken for one piece."""
    return QUICK if looks_packed(data) else TEXT if should_use_network(data, kernel) else PLAIN


def _runs(data: bytes) -> list[tuple[bool, int, int]]:
    """Runs of windows: whether they look random, first byte, end. A lone window that looks random does not count.

    What lies between two runs that look random may be short: they are one stream all the same.
    """
    count = len(data) // PACKED_WINDOW
    edges = [PACKED_WINDOW * k for k in range(count)] + [len(data)]
    flags: list[bool] = []
    for packed, group in groupby(_window_is_packed(data[a:b]) for a, b in pairwise(edges)):
        length = len(list(group))
        flags += [packed and length * PACKED_WINDOW >= MIN_PACKED] * length
    runs: list[tuple[bool, int, int]] = []
    first = window = 0
    for packed, group in groupby(flags):
        window += len(list(group))
        last = len(data) if window == count else _edge(data, first, edges[window], packed)
        runs.append((packed, first, last))
        first = last
    return runs


def _window_is_packed(window: bytes) -> bool:
    middle = (len(window) - SAMPLE_BYTES) // 2
    return all(is_packed(window[at : at + SAMPLE_BYTES]) for at in (0, middle, len(window) - SAMPLE_BYTES))


def _edge(data: bytes, first: int, near: int, packed: bool) -> int:
    """Where a run from `first` on ends that is `packed` or not, within a window before `near` or behind it."""
    for at in range(max(near - PACKED_WINDOW, first + EDGE_BYTES), near + PACKED_WINDOW, EDGE_BYTES):
        if is_packed(data[at : at + EDGE_BYTES]) != packed:
            return at
    return near


def _texts(data: bytes, first: int, last: int, kernel: Callable[[], kernels.Network]) -> list[Segment]:
    """Segments of text and of plain data: windows of which the network predicts samples well, and others.

    A window is text where it has two good samples, or one beside such a window.
    """
    piece = data[first:last]
    if len(piece) < 2 * TEXT_WINDOW:
        return [Segment(_code(piece, kernel), first, len(piece))]
    count = len(piece) // TEXT_WINDOW
    edges = [first + len(piece) * k // count for k in range(count + 1)]
    windows = [samples_of(data[a:b], SAMPLES) for a, b in pairwise(edges)]
    good = _good_counts(windows, kernel)
    text = [n >= 2 or (n == 1 and max(good[max(k - 1, 0) : k + 2]) >= 2) for k, n in enumerate(good)]
    segments = []
    window = 0
    for is_text, group in groupby(text):
        length = len(list(group))
        a, b = edges[window], edges[window + length]
        segments.append(Segment(TEXT if is_text else PLAIN, a, b - a))
        window += length
    return segments


def _good_counts(windows: Sequence[Sequence[bytes]], kernel: Callable[[], kernels.Network]) -> list[int]:
    """How many samples of each window the network predicts well."""
    flat = [sample for window in windows for sample in window]
    flags = are_good(flat, kernel)
    counts, at = [], 0
    for window in windows:
        counts.append(sum(flags[at : at + len(window)]))
        at += len(window)
    return counts
