"""Pictures without headers: the length of a row and the bytes of a pixel, by what resembles what (docs/image.md).

Integers only, so that all machines decide alike. What it is not: certain; the writer tries a guess before it uses it.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

MIN_BYTES = 256
MAX_LAG = 1 << 13  # bytes of a row that is looked for, at most
PLACES = 320  # bytes that are compared with those before them
COARSE_PLACES = 64  # the same, for the first look
FINE_PLACES = 2000  # the same, to tell the best from its neighbours
PAIRS = 512  # bytes that are compared with any others
SMOOTH = (3, 4)  # of a picture: differences to a neighbour, at most this part of differences to any byte
PATCH_STRIDE = 64  # of the patches of papers (Deletang et al. 2024)
PATCH_BYTES = 2048
MAX_GUESSES = 2


def guess_layouts(data: bytes) -> list[tuple[int, int]]:
    """(stride, channels) under which the data might be pixels of 8 bits, the best first; empty where none is likely."""
    if len(data) < MIN_BYTES:
        return []
    values = np.frombuffer(data, np.uint8).astype(np.int32)
    pairs = np.arange(PAIRS) * (len(values) - 1) // PAIRS
    far = np.abs(values[pairs] - values[(pairs + len(values) // 2 + 7 * np.arange(PAIRS)) % len(values)]).sum()
    if not far:
        return []
    near = {channels: _distance(values, channels) for channels in (1, 3, 4)}
    # Grey pixels resemble their neighbours most; in colours without much chroma, the next byte resembles as well.
    channels = min(near, key=lambda c: (near[c] * (5 if c == 1 else 4), c))
    found = []
    if (
        len(data) == PATCH_BYTES
        and 20 * min(near[1], _distance(values, PATCH_STRIDE)) * PAIRS <= 19 * int(far) * PLACES
    ):
        found.append((PATCH_STRIDE, 1))
    if near[channels] * SMOOTH[1] * PAIRS > int(far) * SMOOTH[0] * PLACES:
        return found
    for stride in _strides(values, channels):
        is_smooth = _distance(values, stride) * SMOOTH[1] * PAIRS <= int(far) * SMOOTH[0] * PLACES
        if is_smooth and (stride, channels) not in found:
            found.append((stride, channels))
    return found[:MAX_GUESSES]


def _places(size: int, lag: int, count: int) -> npt.NDArray[np.int64]:
    """Places spread over the data, from `lag` on."""
    return lag + (size - lag) * (2 * np.arange(count) + 1) // (2 * count)


def _distance(values: npt.NDArray[np.int32], lag: int, count: int = PLACES) -> int:
    """Sum of the absolute differences of `count` bytes to those `lag` before them."""
    at = _places(len(values), lag, count)
    return int(np.abs(values[at] - values[at - lag]).sum())


def _strides(values: npt.NDArray[np.int32], channels: int) -> list[int]:
    """Lengths of a row that resemble best, the best first."""
    most = min(MAX_LAG, len(values) // 2)
    least = 8 * channels
    if most <= least:
        return []
    lags = np.arange(least, most + 1)
    at = _places(len(values), most, COARSE_PLACES)
    coarse = np.abs(values[at][:, None] - values[at[:, None] - lags]).sum(0)
    best = lags[np.argsort(coarse, kind="stable")[:12]].tolist()
    close = {lag for stride in best for lag in (stride, stride // 2, stride // 3) if lag >= least}
    scores = sorted((_distance(values, lag, FINE_PLACES), lag) for lag in close)
    lowest, row = scores[0]
    # A multiple of the row resembles nearly as well as the row.
    for score, lag in scores:
        if 3 * lag < 2 * row and 8 * score <= 9 * lowest:
            row = lag
    return [row, *(lag for _, lag in scores if lag != row)]
