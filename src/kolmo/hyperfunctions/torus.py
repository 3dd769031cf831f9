"""The hyperfunction `torus`: two weights are a place on a square, an integer is a moment of a line that winds over it.

"Hyper-Compression" (Fan et al., 2024, arXiv:2409.00592), as published: reader, writer and baseline. Weights pair up.
Moment k of the line p_k = (k l / N^2 mod l, k l / N mod l) stands for the pairs that p_k is nearest to; the square of
side l lies around the mean of all pairs, N = ceil(sqrt(U)), k < U. A pair outside is drawn in towards the centre, by
one factor for each ring around the square. docs/torus.md has every step, and what the publication leaves open.

What it is not: a good quantiser. The line draws a sheared square grid, so this is uniform scalar quantisation at a
fixed rate, and one outlier determines the rings for all weights: it is 7.6 dB above the Gaussian bound, `trellis` less
than one. It searches no tree, because the nearest point of the grid can be computed.
"""

from __future__ import annotations

import math
import operator
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

import numpy as np
import numpy.typing as npt

from kolmo.errors import CorruptError
from kolmo.hyperfunctions.torus_codebook import Codebook, Floats, Indices

if TYPE_CHECKING:
    from kolmo.progress import Progress


CHUNK = 1 << 13  # pairs per pass; a multiple of 8, so that the bits of each chunk fill whole bytes
MIN_WEIGHTS = 10  # a matrix of fewer weights stays raw
MAX_POINTS = 1 << 20
MAX_CLASSES = 255
SIDES = (1e-30, 1e30)  # bounds of a side, within which binary64 neither overflows nor loses digits of a binary32
RAW, CODED = 0, 1  # values of the first byte of a payload
HEADER = struct.Struct("<BBBBId2f2f")  # CODED, C, width, padding, U, l, centre, farthest pair: 32 bytes
MAX_BINARY32 = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Torus:
    """The published hyperfunction. The defaults are those for language models; `PRESETS` has all published settings.

    Args:
        side: l, the side of the square, in units of the weights.
        points: U, number of moments of the line, 1 to 2^20.
        classes: upper bound on the number of rings around the square, 1 to 255.
        threshold: mean absolute error at which no further ring is tried.
        limit: mean absolute error above which a matrix stays raw; 0 means no limit.

    Raises:
        ValueError: an argument is out of its range.

    Example:
        >>> weights = np.linspace(-0.04, 0.04, 12, dtype=np.float32).reshape(3, 4)
        >>> payload = Torus().encode(weights)
        >>> float(np.abs(Torus().decode(payload, (3, 4)) - weights).max()) < 0.01
        True
    """

    side: float = 0.1
    points: int = 1600
    classes: int = 3
    threshold: float = 0.001
    limit: float = 0.006

    name = "torus"
    version = 1

    def __post_init__(self) -> None:
        for what, value, most in (("points", self.points, MAX_POINTS), ("classes", self.classes, MAX_CLASSES)):
            if not 1 <= operator.index(value) <= most:
                raise ValueError(f"{what} = {value}, not 1 to {most}")
        if not SIDES[0] <= self.side <= SIDES[1]:
            raise ValueError(f"side = {self.side}, not {SIDES[0]} to {SIDES[1]}")
        if not (0 <= self.threshold < math.inf and 0 <= self.limit < math.inf):
            raise ValueError(f"threshold = {self.threshold}, limit = {self.limit}: not finite numbers from 0 on")

    @property
    def parameters(self) -> dict[str, int | float]:
        """All five numbers."""
        return {
            "side": self.side,
            "points": self.points,
            "classes": self.classes,
            "threshold": self.threshold,
            "limit": self.limit,
        }

    def encode(self, weights: npt.NDArray[np.float32], progress: Progress | None = None) -> bytes:
        """The payload: 32 bytes, then bit_length(largest index) bits per pair; or raw, four bytes per weight.

        Raises:
            ValueError: the array does not have two dimensions, or a weight is not a finite number.
        """
        coded = self.encode_within(weights, self.limit or math.inf, progress)
        return coded or bytes([RAW]) + _checked(weights).astype("<f4").tobytes()

    def encode_within(
        self, weights: npt.NDArray[np.float32], limit: float, progress: Progress | None = None
    ) -> bytes | None:
        """The payload of a matrix whose mean absolute error is at most `limit`; None of others, and of few weights.

        Raises:
            ValueError: as for `encode`.
        """
        flat = _checked(weights)
        if flat.size >= MIN_WEIGHTS:
            return self._encode(flat, limit, progress)
        if progress:
            progress(flat.size)
        return None

    def decode(self, payload: bytes, shape: tuple[int, int], threads: int = 1) -> npt.NDArray[np.float32]:
        """The matrix, exact to the bit on any machine: each operation is elementwise in binary64.

        `threads` has no effect. Sizes follow from the shape, not from what the payload claims.

        Raises:
            CorruptError: the payload is damaged, cut short, or has another shape.
        """
        size = operator.index(shape[0]) * operator.index(shape[1])
        if payload[:1] == bytes([RAW]):
            _check_size(payload, 1 + 4 * size)
            raw = np.frombuffer(payload, "<f4", offset=1).astype(np.float32)
            if not np.isfinite(raw).all():
                _corrupt("a raw weight is not a finite number", 1)
            return raw.reshape(shape)
        if payload[:1] != bytes([CODED]) or size < MIN_WEIGHTS:
            _corrupt(
                f"its first byte is {payload[:1].hex() or 'missing'}, not 00, nor 01 of {MIN_WEIGHTS} weights or more",
                0,
            )
        return _decode(payload, size).reshape(shape)

    def check(self, payload: bytes) -> None:
        """See `Hyperfunction.check`: side, points, and at most `classes` rings; a raw payload has none of these."""
        if payload[:1] != bytes([CODED]) or len(payload) < HEADER.size:
            return  # raw, or too short to be a payload, as `decode` will report
        _, classes, _, _, points, side, *_ = HEADER.unpack_from(payload)
        if (points, side) != (self.points, self.side) or classes > self.classes:
            _corrupt(f"{points} points, side {side} and {classes} rings are not those of its record", 1)

    def _encode(self, flat: npt.NDArray[np.float32], limit: float, progress: Progress | None) -> bytes | None:
        """The payload of a vector, or None where its error exceeds `limit`."""
        size, book = flat.size, Codebook(self.points)
        if size % 2:
            flat = np.append(flat, np.float32(flat.mean(dtype=np.float64)))
        pairs = flat.reshape(-1, 2)
        centre = np.array([pairs[:, i].mean(dtype=np.float64) for i in (0, 1)], np.float32)

        indices = np.zeros(len(pairs), np.uint32)
        outside = np.zeros(len(pairs), np.bool_)
        half, cell = self.side / 2, self.side / book.rows
        total, square, farthest = 0.0, -1.0, centre
        for first, x, y in _chunks(pairs, centre):
            last = first + len(x)
            distance = x * x + y * y
            most = int(distance.argmax())
            if distance[most] > square:
                square, farthest = float(distance[most]), pairs[first + most]
            inside = (np.abs(x) <= half) & (np.abs(y) <= half)
            outside[first:last] = ~inside
            entries, error = book.nearest(x[inside] / cell + book.rows / 2, y[inside] / cell + book.rows / 2)
            indices[first:last][inside] = entries
            total += float(error.sum()) * cell
            if progress:
                progress(min(2 * last, size) - 2 * first)

        classes = 0
        if outside.any():
            target = self.threshold * flat.size - total
            classes, outer, error_outside = self._best_rings(
                pairs[outside], centre, math.sqrt(square), target, progress
            )
            indices[outside] = outer
            total += error_outside
        if total > limit * flat.size:
            return None
        width = max(1, int(indices.max()).bit_length())
        numbers = map(float, (*centre, *farthest))
        head = HEADER.pack(CODED, classes, width, size % 2, self.points, self.side, *numbers)
        return head + b"".join(_pack(indices[first : first + CHUNK], width) for first in range(0, len(pairs), CHUNK))

    def _best_rings(
        self,
        pairs: npt.NDArray[np.float32],
        centre: npt.NDArray[np.float32],
        far: float,
        target: float,
        progress: Progress | None,
    ) -> tuple[int, Indices, float]:
        """C, the indices of pairs outside the square, and the sum of their errors.

        C is the smallest one whose error is at most `target`, else the one of least error, the smallest of equal ones.
        """
        best: tuple[int, Indices, float] | None = None
        for classes in range(1, self.classes + 1):
            indices, error = self._in_rings(pairs, centre, _radii(self.side, far, classes), progress)
            if best is None or error < best[2]:
                best = classes, indices, error
            if error <= target:
                break
        assert best
        return best

    def _in_rings(
        self, pairs: npt.NDArray[np.float32], centre: npt.NDArray[np.float32], radii: Floats, progress: Progress | None
    ) -> tuple[Indices, float]:
        """The indices of pairs outside the square, and the sum of their errors, with rings of these radii."""
        book = Codebook(self.points)
        cells = self.side / book.rows * (radii / radii[0])  # size of a cell in each ring, once it is stretched back
        indices, total = np.zeros(len(pairs), np.uint32), 0.0
        for first, x, y in _chunks(pairs, centre):
            ring = 1 + np.searchsorted(radii[1:-1], np.sqrt(x * x + y * y))  # the first whose radius is not below
            cell = cells[ring]
            entries, error = book.nearest(x / cell + book.rows / 2, y / cell + book.rows / 2)
            indices[first : first + len(x)] = entries + ring.astype(np.uint32) * np.uint32(self.points + 1)
            total += float((error * cell).sum())
            if progress:
                progress(0)
        return indices, total


PRESETS = {
    "llm": Torus(side=0.1, points=1600, classes=3, threshold=0.001, limit=0.006),
    "unet": Torus(side=0.1, points=225, classes=3, threshold=0.001, limit=0.0),
    "mobilenet": Torus(side=0.8, points=1600, classes=4, threshold=0.001, limit=0.0),
}


def _decode(payload: bytes, size: int) -> npt.NDArray[np.float32]:
    """The vector of a coded payload."""
    if len(payload) < HEADER.size:
        _corrupt(f"its header has {len(payload)} bytes, not {HEADER.size}", len(payload))
    _, classes, width, odd, points, side, x0, y0, x1, y1 = HEADER.unpack_from(payload)
    if odd != size % 2 or not 1 <= points <= MAX_POINTS or not SIDES[0] <= side <= SIDES[1]:
        _corrupt(f"padding {odd}, {points} points, side {side} are impossible", 3)
    far = math.sqrt((x1 - x0) * (x1 - x0) + (y1 - y0) * (y1 - y0))
    if not math.isfinite(far) or (classes and far <= side / 2):
        _corrupt(f"a farthest pair at distance {far} has no rings around side {side}", 16)
    count, end = (size + 1) // 2, (points + 1) * (classes + 1)
    if not 1 <= width <= (end - 1).bit_length():
        _corrupt(f"{width} bits a pair, with {points} points and {classes} rings", 2)
    _check_size(payload, HEADER.size + (count * width + 7) // 8)

    book, radii = Codebook(points), _radii(side, far, classes)
    cells = side / book.rows * (radii / radii[0])
    out = np.empty((count, 2), np.float32)
    largest = 0
    for first in range(0, count, CHUNK):
        last = min(first + CHUNK, count)
        offset = HEADER.size + first * width // 8
        indices = _unpack(payload, offset, last - first, width)
        largest = max(largest, int(indices.max()))
        if largest >= end:
            _corrupt(f"index {largest} of a pair from number {first} on, not below {end}", offset)
        ring = indices // np.uint32(points + 1)
        x, y = book.places(indices - ring * np.uint32(points + 1))
        cell = cells[ring]
        out[first:last, 0] = np.clip(x * cell + x0, -MAX_BINARY32, MAX_BINARY32)
        out[first:last, 1] = np.clip(y * cell + y0, -MAX_BINARY32, MAX_BINARY32)
    if width != max(1, largest.bit_length()):
        _corrupt(f"{width} bits a pair, for indices up to {largest}", 2)
    return out.reshape(-1)[:size]


def _radii(side: float, far: float, classes: int) -> Floats:
    """r_c = l/2 + c (far - l/2) / C for c = 0..C; only l/2 if there are no rings."""
    half = side / 2
    radii: Floats = half + np.arange(classes + 1.0) * ((far - half) / max(classes, 1))
    return radii


def _chunks(pairs: npt.NDArray[np.float32], centre: npt.NDArray[np.float32]) -> Iterator[tuple[int, Floats, Floats]]:
    """(first, x, y) for each `CHUNK` pairs, relative to the centre."""
    for first in range(0, len(pairs), CHUNK):
        chunk = pairs[first : first + CHUNK].astype(np.float64)
        yield first, chunk[:, 0] - float(centre[0]), chunk[:, 1] - float(centre[1])


def _pack(indices: Indices, width: int) -> bytes:
    """Indices, `width` bits each, the most significant first; zeros fill the last byte."""
    bits = np.unpackbits(indices.astype(">u4").view(np.uint8)).reshape(-1, 32)
    return np.packbits(bits[:, 32 - width :]).tobytes()


def _unpack(payload: bytes, offset: int, count: int, width: int) -> Indices:
    """`count` indices from an offset on: the mirror of `_pack`.

    Raises:
        CorruptError: the bits that fill the last byte are not zero.
    """
    size = (count * width + 7) // 8
    packed = np.frombuffer(payload, np.uint8, size, offset)
    if size * 8 > count * width and packed[-1] & ((1 << (size * 8 - count * width)) - 1):
        _corrupt("bits after the last pair are not zero", offset + size - 1)
    bits = np.zeros((count, 32), np.uint8)
    bits[:, 32 - width :] = np.unpackbits(packed, count=count * width).reshape(count, width)
    return np.packbits(bits).view(">u4").astype(np.uint32)


def _checked(weights: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """The weights as a vector, row by row."""
    if weights.ndim != 2:
        raise ValueError(f"weights of shape {weights.shape}, not two dimensions; reshape to (rows, columns)")
    flat = np.ascontiguousarray(weights, np.float32).reshape(-1)
    finite = np.isfinite(flat)
    if not finite.all():
        row, column = divmod(int(finite.argmin()), weights.shape[1])
        raise ValueError(
            f"the weight at row {row}, column {column} is {weights[row, column]}; only finite numbers can be coded"
        )
    return flat


def _check_size(payload: bytes, size: int) -> None:
    if len(payload) != size:
        _corrupt(f"it has {len(payload)} bytes, but its shape needs {size}", min(len(payload), size))


def _corrupt(what: str, offset: int) -> NoReturn:
    raise CorruptError(f"damaged payload of torus, at offset {offset}: {what}; get a fresh copy of the file", offset)
