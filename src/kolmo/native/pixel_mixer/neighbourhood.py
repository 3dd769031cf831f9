"""Planes of a picture, and its least-squares predictions, in NumPy: the specification of pixel_least_squares.h.

The elimination is in binary64, each element by one chain of operations in a fixed order, so that C gives the same bits.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from kolmo.native.pixel_mixer.shapes import GREY, PREDICTORS, SETS, TAPS, neighbours

MARGIN = 8  # columns that planes have beside the picture
LOCAL = 2  # sets with a matrix for every block of columns
BLOCK = 4  # columns of a block
FRESH = 64  # columns between solutions of the set with one matrix
RIDGE = 250  # observations that the prior's weights count as

Int = npt.NDArray[np.int64]


class Planes:
    """Values and errors around the current byte: rings of rows with margins, for each turn."""

    def __init__(self, width: int, turns: int) -> None:
        self.width, self.turns = width, turns
        self.row = self.x = self.turn = 0
        columns = width + 2 * MARGIN
        self.values = np.full((turns, 4, columns), 128, np.int64)
        self.errors = np.full((turns, PREDICTORS, 2, columns), 16, np.int64)
        self.signs = np.zeros((turns, 2, columns), np.int64)

    def value(self, turn: int, up: int, right: int) -> int:
        """The value in a plane, rows up and columns to the right of the current pixel."""
        return int(self.values[turn, (self.row - up) % 4, MARGIN + self.x + right])

    def error(self, turn: int, predictor: int, up: int, right: int) -> int:
        """The absolute error of a prediction in 1/4, at most 255."""
        return int(self.errors[turn, predictor, (self.row - up) % 2, MARGIN + self.x + right])

    def sign(self, turn: int, up: int, right: int) -> int:
        """The error of the centre."""
        return int(self.signs[turn, (self.row - up) % 2, MARGIN + self.x + right])

    def mean(self, turn: int) -> int:
        """Eight times the weighted mean of the nearest neighbours."""
        value = self.value
        return 3 * value(turn, 0, -1) + 3 * value(turn, 1, 0) + value(turn, 1, 1) + value(turn, 1, -1)

    def begin_row(self) -> None:
        """Set the columns beside the picture."""
        if not self.row:
            self.values[:, 0, :MARGIN] = 128
            return
        end = MARGIN + self.width
        for planes in (self.values, self.errors, self.signs):
            ring = planes.shape[-2]
            now, before = planes[..., self.row % ring, :], planes[..., (self.row - 1) % ring, :]
            now[..., :MARGIN] = before[..., MARGIN : MARGIN + 1]
            before[..., end:] = before[..., end - 1 : end]

    def learn(self, byte: int, errors: list[int], sign: int) -> None:
        """Store the byte of the current turn, the errors of its predictions, and that of the centre."""
        at = MARGIN + self.x
        self.values[self.turn, self.row % 4, at] = byte
        self.errors[self.turn, :, self.row % 2, at] = errors
        self.signs[self.turn, self.row % 2, at] = sign
        if self.row == 0:  # above the first row, the values of the row itself
            self.values[self.turn, 1:, at + 1 : at + 5] = byte

    def skip(self) -> None:
        """A turn of a last pixel that has no byte."""
        at = MARGIN + self.x
        self.values[self.turn, self.row % 4, at] = self.value(self.turn, 0, -1)
        self.errors[self.turn, :, self.row % 2, at] = 0
        self.signs[self.turn, self.row % 2, at] = 0


class LeastSquares:
    """The prediction of a turn's bytes from one set of neighbours."""

    def __init__(self, planes: Planes, turn: int, number: int, began: Int) -> None:
        self._planes, self._number = planes, number
        kind = min(turn, 3) if planes.turns >= 3 else GREY
        places = neighbours(kind, number)
        self._places = [(place[0] + (turn if kind == GREY else 0), *place[1:]) for place in places]
        self._turns = [place[0] for place in self._places]
        self._count, self._turn = len(places), turn
        self._began = began[: len(places)].astype(np.float64) * (RIDGE / 65536.0)
        self._weights = np.zeros(len(places), np.int64)
        blocks = planes.width // BLOCK + 3 if number < LOCAL else 1
        self._matrices = np.zeros((blocks, len(places), TAPS), np.int32)
        self._x = np.zeros(TAPS, np.int64)
        self._mean = 0

    def predict(self, means: list[int]) -> int:
        """The prediction of the current byte in 1/16; `means` of all turns."""
        self._refresh()
        value = self._planes.value
        self._mean = means[self._turn]
        self._x[: self._count] = [8 * value(*place) - means[place[0]] for place in self._places]
        total = int(self._weights @ self._x[: self._count])
        return min(max((total >> 15) + 2 * self._mean, 0), 16 * 255)

    def learn(self, byte: int, energy: int) -> None:
        """Add the products of a pixel, which count the less the worse its surroundings are predicted."""
        x = self._x
        x[self._count] = 8 * byte - self._mean
        factors = x[: self._count] * (4096 // (energy + 3)) >> 4
        block = self._planes.x // BLOCK + 1 if self._number < LOCAL else 0
        self._matrices[block] += (factors[:, None] * x >> 6).astype(np.int32)

    def _refresh(self) -> None:
        """New weights, where it is time for them; the matrix then forgets a part."""
        x = self._planes.x
        if self._number >= LOCAL:
            if x % FRESH:
                return
            own = self._matrices[0]
            total = own.copy()
            own -= own >> 6
        else:
            if x % BLOCK:
                return
            block = x // BLOCK
            own = self._matrices[block + 1]
            total = self._matrices[block] + own + self._matrices[block + 2]
            own -= own >> (3 if self._number else 2)
        with np.errstate(all="ignore"):
            self._solve(total.astype(np.float64))

    def _solve(self, a: npt.NDArray[np.float64]) -> None:
        """Solve the normal equations by elimination without pivoting; the prior counts as `RIDGE` observations."""
        n = self._count
        a[:, n] = a[:, n] + self._began
        diagonal = np.arange(n)
        a[diagonal, diagonal] = a[diagonal, diagonal] + RIDGE
        inverse = np.zeros(n)
        for k in range(n):
            if a[k, k] > RIDGE // 2:
                inverse[k] = 1.0 / a[k, k]
            factors = a[k, k + 1 : n] * inverse[k]
            a[k + 1 :] = a[k + 1 :] - factors[:, None] * a[k]
        right: npt.NDArray[Any] = a[:, n].copy()
        for j in reversed(range(n)):
            v = float(right[j] * inverse[j])
            if not v > -8.0:  # also where a hostile picture made it not a number
                v = -8.0
            v = min(v, 8.0)
            self._weights[j] = int(v * 65536.0)
            right[:j] = right[:j] - a[:j, j] * v


def least_squares(planes: Planes, rows: int, began: Int) -> list[list[LeastSquares]]:
    """The predictions of each turn; `began`: the prior's weights, (rows, SETS, TAPS)."""
    parts = began.reshape(rows, SETS, TAPS)
    return [
        [LeastSquares(planes, turn, number, parts[turn if turn < rows else 0, number]) for number in range(SETS)]
        for turn in range(planes.turns)
    ]
