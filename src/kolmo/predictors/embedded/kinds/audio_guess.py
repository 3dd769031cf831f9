"""Sound without a header: layouts under which neighbouring samples are alike.

Integers only, on a few thousand bytes, so cheap, and the same on all machines. What it is not: a decision; the writer tries the
layouts that this finds (`choice.py`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

PLACES = 4  # of a piece that are looked at
PLACE_BYTES = 4096  # of each
MIN_BYTES = 256
FAR = 37  # frames between samples that are not neighbours
GAIN = 10  # sixteenths of a bit a sample by which neighbours must be nearer to each other than others, on a logarithmic scale
QUIET = 12  # sixteenths of a bit a sample below which a piece is silence
LAYOUTS = ((16, 1, 0), (16, 2, 0), (16, 1, 1), (16, 2, 1), (8, 1, 0), (8, 2, 0))  # bits, channels, big
MOST = 3  # layouts that are worth a trial


def guess_sounds(data: bytes) -> list[tuple[int, ...]]:
    """Parameters of the kind `audio` that fit a piece of data, the best first; none where it is no sound."""
    import numpy as np

    if len(data) < MIN_BYTES:
        return []
    size = min(PLACE_BYTES, len(data))
    starts = sorted({(len(data) - size) * i // max(PLACES - 1, 1) // 24 * 24 for i in range(PLACES)})
    pieces = [np.frombuffer(data, np.uint8, size, start).astype(np.int64) for start in starts]
    found: list[tuple[int, tuple[int, ...]]] = []
    for bits, channels, big in LAYOUTS:
        for shift in range(bits // 8):
            for plain in (0, 1) if bits == 8 else (0,):
                near = far = 0
                for piece in pieces:
                    a, b = _costs(_samples(piece[shift:], bits, big, plain), channels)
                    near, far = near + a, far + b
                near, far = near // len(pieces), far // len(pieces)
                if near + GAIN <= far and far >= QUIET:
                    phase = -shift % (bits // 8 * channels)
                    # a gain counts for each sample: per byte, layouts compare
                    found.append(((near - far) * 8 // bits, (bits, channels, big, plain, phase)))
    return [parameters for _, parameters in sorted(found)[:MOST]]


def _samples(piece: npt.NDArray[np.int64], bits: int, big: int, plain: int) -> npt.NDArray[np.int64]:
    if bits == 8:
        return piece if plain else (piece ^ 128) - 128
    pairs = piece[: len(piece) // 2 * 2].reshape(-1, 2)
    value = pairs[:, 1 - big] * 256 + pairs[:, big]
    return (value ^ 32768) - 32768


def _costs(x: npt.NDArray[np.int64], channels: int) -> tuple[int, int]:
    """Mean logarithm of the distance of neighbours, at best of a linear prediction, and of other samples: in 1/16 of a bit."""
    first = x[channels:] - x[:-channels]
    second = first[channels:] - first[:-channels]
    lag = FAR * channels
    return min(_logarithm(first), _logarithm(second)), _logarithm(x[lag:] - x[:-lag])


def _logarithm(values: npt.NDArray[np.int64]) -> int:
    """Mean of log2(1 + 2 |value|), in 1/16."""
    import numpy as np

    sizes = (2 * np.abs(values) + 1).astype(np.uint32)
    exponent = np.zeros(len(sizes), np.int64)
    for step in (16, 8, 4, 2, 1):
        large = sizes >= np.uint32(1 << step)
        exponent += step * large
        sizes = np.where(large, sizes >> np.uint32(step), sizes)
    return int(exponent.sum() * 16 // max(len(values), 1))
