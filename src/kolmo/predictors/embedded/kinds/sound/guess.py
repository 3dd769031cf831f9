"""Sound without a header: layouts under which neighbouring samples are alike.

Integers only, on a few thousand bytes, so cheap, and the same on all machines. What it is not: a decision; the writer
tries the layouts that this finds (`choice.py`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

PLACES = 3  # of a piece that are looked at
PLACE_BYTES = 2048  # of each
MIN_BYTES = 256
SMALL_BYTES = 1 << 12  # of data that is tried as 8-bit sound in any case: noise and near silence are not alike
ONE_SIDED_GAIN = 8  # as `GAINS`, of small data whose upper bits are equal: sounds of 7 bits, some texts
FAR = 37  # frames between samples that are not neighbours
LAYOUTS = ((16, 1, 0), (16, 2, 0), (16, 1, 1), (16, 2, 1), (8, 1, 0), (8, 2, 0))  # bits, channels, big
GAINS = {
    8: 16,
    16: 12,
}  # sixteenths of a bit by which a sample is nearer to its neighbour, or a prediction, than to others


def guess_sounds(data: bytes) -> list[tuple[int, ...]]:
    """Parameters of the kind `audio` that fit a piece of data, the best first; none where it is no sound."""
    import numpy as np

    if len(data) < MIN_BYTES:
        return []
    size = min(PLACE_BYTES, len(data))
    starts = sorted({(len(data) - size) * i // (PLACES - 1) // 24 * 24 for i in range(PLACES)})
    pieces = [np.frombuffer(data, np.uint8, size, start).astype(np.int64) for start in starts]
    upper = sum(int((piece >= 128).sum()) for piece in pieces)
    if not 15 * size * len(pieces) > 16 * upper > size * len(pieces):  # not on both sides of 0, as text
        near, far = _mean_costs(pieces, 0, 8, 1, 0, 1)
        return [(8, 1, 0, 1, 0)] if len(data) <= SMALL_BYTES and near + ONE_SIDED_GAIN <= far else []
    found: list[tuple[int, tuple[int, ...]]] = []  # cost of a byte, parameters
    for bits, channels, big in LAYOUTS:
        for shift in range(bits // 8):
            costs = [_mean_costs(pieces, shift, bits, channels, big, plain) for plain in range(1 + (bits == 8))]
            near, far = min(costs)
            plain = costs.index((near, far))  # samples of the other sign jump where these pass 0
            if near + GAINS[bits] <= far or (len(data) <= SMALL_BYTES and (bits, channels) == (8, 1)):
                found.append((near * 8 // bits, (bits, channels, big, plain, -shift % (bits // 8 * channels))))
    found.sort()
    wide = [parameters for _, parameters in found if parameters[0] > 8]
    narrow = [parameters for _, parameters in found if parameters[0] == 8]
    return [*wide[:1], *narrow[:1], *[p for p in wide if p[1] != wide[0][1]][:1]]


def _mean_costs(
    pieces: list[npt.NDArray[np.int64]], shift: int, bits: int, channels: int, big: int, plain: int
) -> tuple[int, int]:
    """What `_costs` says of samples that begin at a byte of each piece, on average."""
    costs = [_costs(_samples(piece[shift:], bits, big, plain), channels) for piece in pieces]
    near, far = (sum(cost[k] for cost in costs) // len(pieces) for k in (0, 1))
    return near, far


def _samples(piece: npt.NDArray[np.int64], bits: int, big: int, plain: int) -> npt.NDArray[np.int64]:
    if bits == 8:
        return piece if plain else (piece ^ 128) - 128
    pairs = piece[: len(piece) // 2 * 2].reshape(-1, 2)
    value = pairs[:, 1 - big] * 256 + pairs[:, big]
    return (value ^ 32768) - 32768


def _costs(x: npt.NDArray[np.int64], channels: int) -> tuple[int, int]:
    """Mean logarithms of the distance of a sample from its neighbour or a line, and from others: in 1/16 of a bit."""
    first = x[channels:] - x[:-channels]
    second = first[channels:] - first[:-channels]
    lag = FAR * channels
    return min(_logarithm(first), _logarithm(second)), _logarithm(x[lag:] - x[:-lag])


def _logarithm(values: npt.NDArray[np.int64]) -> int:
    """Mean of log2(1 + 2 |value|), in 1/16."""
    import numpy as np

    exponents = np.frexp(2.0 * np.abs(values) + 1)[1] - 1  # exact: the values have less than 53 bits
    return int(exponents.sum(dtype=np.int64)) * 16 // max(len(values), 1)
