"""The network of docs/pixels.md in NumPy: the specification of pixel_network.{h,c}, and the fallback without C.

Sums are sums of integers; all else is elementwise in binary32, one rounding for each operation written. So the C kernel
and torch give the same bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from kolmo.native import tables as constants
from kolmo.native.network.reference import MAX_FLOAT, weigh

Bytes = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
f32 = np.float32

TURNS = ("grey", "green", "red", "blue")
MAX_LAYERS, MAX_HIDDEN = 8, 512
RESIDUALS = 512  # rows of the head: row r is the residual r - 256
# Neighbours as (rows down, columns to the right), of the predicted byte's own channel and of the others.
OWN = tuple(
    (down, right)
    for down, columns in (
        (0, range(-6, 0)),
        (-1, range(-6, 7)),
        (-2, range(-5, 6)),
        (-3, range(-4, 5)),
        (-4, range(-2, 3)),
    )
    for right in columns
)
OTHER = ((0, -1), (-1, 0), (-1, -1), (-1, 1), (0, -2), (-2, 0), (-1, -2), (-1, 2), (-2, -1), (-2, 1), (0, -3), (-2, 2))
FLAGS = ((0, -1), (0, -2), (-1, 0), (-1, -1), (-1, 1))
_DOWN, _RIGHT = np.array(OWN).T
_WEST, _NORTH, _CORNER = (OWN.index(place) for place in ((0, -1), (-1, 0), (-1, -1)))
_OTHER, _FLAGS = np.array([OWN.index(p) for p in OTHER]), np.array([OWN.index(p) for p in FLAGS])
DIFFERENCES = {  # inputs of the linear prediction, by turn
    "grey": len(OWN),
    "green": len(OWN) + 2 * len(OTHER),
    "red": len(OWN) + 3 * len(OTHER) + 2,
    "blue": len(OWN) + 3 * len(OTHER) + 3,
}
INPUTS = {turn: count + len(FLAGS) + 2 for turn, count in DIFFERENCES.items()}  # of the first product


@dataclass(frozen=True)
class Places:
    """Bytes to predict, all of the same turn, each with the rectangle of pixels that its neighbours are taken from.

    Attributes:
        at: offsets of their pixels in the data, (n,).
        stride: bytes from a row to the next, a number or (n,).
        row, column: places in the rectangle, (n,).
        columns: of the rectangle, a number or (n,).
    """

    at: Ints
    stride: int | Ints
    row: Ints
    column: Ints
    columns: int | Ints


@dataclass(frozen=True)
class Inputs:
    """What the network is computed from.

    Attributes:
        differences: (n, DIFFERENCES), within +-255.
        known: the FLAGS neighbours that are there, bool (n, 5).
        guess: 0 to 255, (n,).
    """

    differences: npt.NDArray[np.int32]
    known: npt.NDArray[np.bool_]
    guess: npt.NDArray[np.int32]

    def part(self, first: int, last: int) -> Inputs:
        """Those of some of the bytes."""
        return Inputs(self.differences[first:last], self.known[first:last], self.guess[first:last])


def inputs(data: Bytes, places: Places, channels: int, order: Sequence[int], turn: int) -> Inputs:
    """Differences and guesses at places of a picture, from bytes that are coded before them.

    Args:
        data: the picture.
        places: of the bytes.
        channels: bytes of a pixel.
        order: offset in a pixel of the byte that is coded in each turn.
        turn: of the bytes.
    """
    down, right = places.row[:, None] + _DOWN, places.column[:, None] + _RIGHT
    known = (down >= 0) & (right >= 0) & (right < np.reshape(places.columns, (-1, 1)))
    near = places.at[:, None] + np.reshape(places.stride, (-1, 1)) * _DOWN + channels * _RIGHT
    near[~known] = 0
    colour = channels >= 3 and turn < 3

    def around(t: int) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
        plane = data[order[t] :]
        values = plane[near].astype(np.int32)
        return values, _median(*_filled(values, known, 128))

    own, guess = around(turn)
    if not colour:
        return Inputs(_masked(own - guess[:, None], known), known[:, _FLAGS], guess)
    some, extra = known[:, _OTHER], []
    relative: npt.NDArray[np.int32] | None = None
    plain = guess
    for t in range(3):
        if t == turn:
            continue
        values, other = around(t)
        if t < turn:
            here = data[order[t] :][places.at].astype(np.int32)
            extra += [_masked(values[:, _OTHER] - here[:, None], some), (here - other)[:, None]]
        else:
            extra += [_masked(values[:, _OTHER] - other[:, None], some)]
        if t == 0:
            guess = np.clip(here + _median(*_filled(own - values, known, 0)), 0, 255)
            relative = (own - values)[:, _OTHER] - (guess - here)[:, None]
    if relative is not None:
        extra += [_masked(relative, some), (plain - guess)[:, None]]
    differences = np.concatenate([_masked(own - guess[:, None], known), *extra], 1)
    return Inputs(np.clip(differences, -255, 255), known[:, _FLAGS], guess)


def _masked(values: npt.NDArray[np.int32], known: npt.NDArray[np.bool_]) -> npt.NDArray[np.int32]:
    return np.where(known, values, 0)


def _filled(values: npt.NDArray[np.int32], known: npt.NDArray[np.bool_], missing: int) -> tuple[Any, Any, Any]:
    """West, north and north-west, with what stands in for those that are not there."""
    has_west, has_north, has_corner = (known[:, k] for k in (_WEST, _NORTH, _CORNER))
    west, north, corner = (values[:, k] for k in (_WEST, _NORTH, _CORNER))
    west = np.where(has_west, west, np.where(has_north, north, missing))
    north = np.where(has_north, north, west)
    return west, north, np.where(has_corner, corner, np.where(has_west, west, north))


def _median(west: Any, north: Any, corner: Any) -> npt.NDArray[np.int32]:
    """The median of west, north, and west + north - corner (Martucci 1990, "MED")."""
    found: npt.NDArray[np.int32] = np.clip(west + north - corner, np.minimum(west, north), np.maximum(west, north))
    return found


def squeezed(differences: npt.NDArray[Any]) -> npt.NDArray[np.int8]:
    """Differences within +-255 as 8-bit integers: by their logarithm, `tables.squeezed`."""
    found: npt.NDArray[np.int8] = np.array(constants.squeezed(), np.int8)[differences + 255]
    return found


class PixelNetwork:
    """Weights of a network.

    Args:
        config: hidden, layers: int32, native order.
        weights: all tensors of docs/pixels.md's table, in its order, as in the file, without padding.

    Raises:
        ValueError: sizes or values that docs/pixels.md does not allow.
    """

    def __init__(self, config: bytes, weights: bytes) -> None:
        hidden, layers = np.frombuffer(config, "=i4").tolist() if len(config) == 8 else (0, 0)
        if not (64 <= hidden <= MAX_HIDDEN and hidden % 64 == 0 and 0 <= layers <= MAX_LAYERS):
            raise ValueError("the configuration does not fit the kernel")
        self.hidden, self.layers = hidden, layers
        size = sum(2 * DIFFERENCES[turn] + hidden * (INPUTS[turn] + 8) for turn in TURNS)
        size += layers * hidden * (hidden + 8) + RESIDUALS * (hidden + 4 + 4 * len(TURNS))
        if len(weights) != size:
            raise ValueError(f"the weights do not fit the kernel: {len(weights)} bytes, not {size}")
        take = _Tensors(weights)
        self.first = []
        for turn in TURNS:
            linear = take.read("<i2", DIFFERENCES[turn]).astype(np.float64)
            self.first.append((linear, take.integers(hidden, INPUTS[turn]), take.floats(hidden), take.floats(hidden)))
        self.deeper = [(take.integers(hidden, hidden), take.floats(hidden), take.floats(hidden)) for _ in range(layers)]
        self.head = take.integers(RESIDUALS, hidden), take.floats(RESIDUALS)
        self.head_bias = take.floats(len(TURNS) * RESIDUALS).reshape(len(TURNS), RESIDUALS)

    def predict(
        self, data: bytes, stride: int, channels: int, order: Sequence[int], row: int, column: int, turn: int
    ) -> bytes:
        """The sums of one byte: uint32, native order, 512 of them. Arguments: see pixel_network.h.

        Raises:
            ValueError: the picture has no such byte, or not the bytes before it.
        """
        _check_picture(stride, channels, order)
        columns = stride // channels
        at = row * stride + column * channels
        if not (row >= 0 and 0 <= column < columns and 0 <= turn < channels and at + channels <= len(data)):
            raise ValueError("the picture has no such byte")
        places = Places(np.array([at]), stride, np.array([row]), np.array([column]), columns)
        return self.run(np.frombuffer(data, np.uint8), places, channels, order, turn).tobytes()

    def score(self, data: bytes, stride: int, channels: int, order: Sequence[int]) -> bytes:
        """The weight of each byte and the sum of all weights before it: uint32, native order, (bytes, 2).

        The data are in the order of the file; a last row or pixel that is not whole, and bytes of a row beyond its last
        pixel, have weights of 1 and sums of 256.

        Raises:
            ValueError: there is no such picture.
        """
        _check_picture(stride, channels, order)
        picture, columns = np.frombuffer(data, np.uint8), stride // channels
        found = np.tile(np.array([1, 256], np.uint32), (len(picture), 1))
        row, rest = np.divmod(np.arange(len(picture) // channels * channels, dtype=np.int64), stride)
        column, offset = np.divmod(rest, channels)
        at = row * stride + column * channels
        whole = (offset == 0) & (column < columns) & (at + channels <= len(picture))
        at, row, column = at[whole], row[whole], column[whole]
        for turn in range(channels):
            for begin in range(0, len(at), 4096):
                part = slice(begin, begin + 4096)
                where = at[part] + order[turn]
                sums = self.run(
                    picture, Places(at[part], stride, row[part], column[part], columns), channels, order, turn
                )
                values = picture[where].astype(np.int64)
                found[where, 0] = np.take_along_axis(sums, 256 + values[:, None], 1)[:, 0]
                found[where, 1] = sums[:, 1]
        return found.tobytes()

    def run(
        self, data: Bytes, places: Places, channels: int, order: Sequence[int], turn: int
    ) -> npt.NDArray[np.uint32]:
        """Sums of the bytes of a turn at many places, (n, 512)."""
        kind = turn + 1 if channels >= 3 and turn < 3 else 0
        return self.weigh(kind, inputs(data, places, channels, order, turn))

    def weigh(self, kind: int, found: Inputs) -> npt.NDArray[np.uint32]:
        """Sums of bytes of a kind, an index of `TURNS`, (n, 512)."""
        linear, weights, scale, bias = self.first[kind]
        shift = (found.differences.astype(np.float64) @ linear).astype(np.int64) >> 6
        guess = found.guess.astype(np.int64)
        mean = np.clip(256 * guess + shift, 0, 65280)
        near = ((mean + 128) >> 8) - guess
        u = np.concatenate(
            [
                squeezed(found.differences),
                np.where(found.known, np.int8(127), np.int8(0)),
                np.maximum(guess - 128, -127)[:, None].astype(np.int8),
                squeezed(near)[:, None],
            ],
            1,
        )
        x = np.maximum(_affine(u, weights, scale, bias), f32(0))
        for deeper in self.deeper:
            x = x + np.maximum(_affine(_rounded(x), *deeper), f32(0))
        head, head_scale = self.head
        logits = _affine(_rounded(x), head, head_scale, self.head_bias[kind])
        whole, fraction = mean >> 8, (mean & 255).astype(f32) * f32(1 / 256)
        rows = 256 - whole[:, None] + np.arange(256)
        here, below = np.take_along_axis(logits, rows, 1), np.take_along_axis(logits, rows - 1, 1)
        return weigh(here + fraction[:, None] * (below - here))


def _affine(u: npt.NDArray[Any], weights: Floats, scale: Floats, bias: Floats) -> Floats:
    """Sums of integers, which are held as floats and stay below 2^24, scaled and shifted."""
    found: Floats = (u.astype(f32) @ weights.T) * scale + bias
    return found


def _rounded(x: Floats) -> Floats:
    found: Floats = np.rint(np.minimum(x, f32(127)))  # x >= 0
    return found


def _check_picture(stride: int, channels: int, order: Sequence[int]) -> None:
    if not (1 <= channels <= 4 and channels <= stride < 1 << 31):
        raise ValueError(f"{channels} channels in rows of {stride} bytes are not a picture")
    if sorted(order) != list(range(channels)):
        raise ValueError(f"{list(order)} is not an order of {channels} channels")


class _Tensors:
    """Reads tensors one after another, and refuses values that docs/pixels.md does not allow."""

    def __init__(self, weights: bytes) -> None:
        self._weights = weights
        self._at = 0

    def integers(self, rows: int, columns: int) -> Floats:
        values = self.read("i1", rows * columns)
        _check(values.size == 0 or values.min() >= -127)
        return values.reshape(rows, columns).astype(f32)

    def floats(self, count: int) -> Floats:
        values = self.read("<f4", count).astype(f32)
        _check(bool((np.abs(values) <= f32(MAX_FLOAT)).all()))
        return values

    def read(self, dtype: str, count: int) -> npt.NDArray[Any]:
        values: npt.NDArray[Any] = np.frombuffer(self._weights, dtype, count, self._at)
        self._at += values.nbytes
        return values


def _check(allowed: bool) -> None:
    if not allowed:
        raise ValueError("the weights do not fit the kernel: a value is out of its range")


__all__ = ["PixelNetwork"]
