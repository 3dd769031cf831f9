"""The codebook of the torus: the points of its line, and the one that is nearest to a place; nothing is stored."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.uint32]


MIN_ROWS = 6  # rows below which the gap of the missing columns is too wide for the argument of `bands`


@dataclass(frozen=True)
class Codebook:
    """The U points of the line and the centre, in cells: the square is [0, N] x [0, N], its centre (N / 2, N / 2).

    Entry 0 is the centre. Entry k + 1 is p_k, at column a = k div N and row b = k mod N: (a + b / N, b). For N = 3:

        y = 2 |. . 3 . . 6 . . 9|
        y = 1 |. 2 . . 5 . . 8 .|   entry 0 is at (1.5, 1.5)
        y = 0 |1 . . 4 . . 7 . .|

    Without a square number of points, columns at the right are missing, in the upper rows one more than in the lower.
    """

    points: int

    @property
    def rows(self) -> int:
        """N, the rows, and the columns of a full row."""
        return math.isqrt(self.points - 1) + 1

    def bands(self) -> list[tuple[int, int, int]]:
        """Rows that `nearest` takes together: (first, last, columns).

        In a band the nearest point is in one of the two rows beside the place, or in the band's outermost row. For let
        such a row's nearest point be dx away along the row. Another row lies m rows farther across, which adds m^2 or
        more to the squared distance; it can save at most dx^2 <= 1/4 amid a row, and 2 dx m / N beyond a row's end.
        There dx <= 1, and dx <= 3 where columns are missing: then each row is a band until N is 6.
        """
        rows = self.rows
        columns, longer = divmod(self.points, rows)
        if not longer and columns == rows:
            return [(0, rows - 1, rows)]
        if rows < MIN_ROWS:
            return [(b, b, columns + (b < longer)) for b in range(rows) if columns + (b < longer)]
        return [(0, longer - 1, columns + 1), (longer, rows - 1, columns)] if longer else [(0, rows - 1, columns)]

    def nearest(self, x: Floats, y: Floats) -> tuple[Indices, Floats]:
        """The entry nearest to each place of the square, the lowest of equally near ones, and |dx| + |dy| to it.

        Places and distances in cells, all arrays of shape (n,).
        """
        rows = self.rows
        along, across = np.abs(x - rows / 2), np.abs(y - rows / 2)
        error, least = along + across, along * along + across * across
        best = np.full(len(x), -1.0)  # k, as a float; -1 is the centre
        below = np.floor(y)
        for first, last, columns in self.bands():
            for up in range(min(2, last - first + 1)):
                row = np.clip(below + up, first, last)
                place = x - row / rows
                column = np.clip(np.ceil(place - 0.5), 0, columns - 1)
                along, across = np.abs(place - column), np.abs(y - row)
                distance = along * along + across * across
                k = column * rows + row
                nearer = (distance < least) | ((distance == least) & (k < best))
                best = np.where(nearer, k, best)
                error = np.where(nearer, along + across, error)
                least = np.minimum(distance, least)
        return (best + 1).astype(np.uint32), error

    def places(self, entries: Indices) -> tuple[Floats, Floats]:
        """Where entries are, relative to the centre, in cells: the mirror of `nearest`."""
        rows = self.rows
        k = entries.astype(np.float64) - 1
        row = k - rows * np.floor(k / rows)  # exact: k < 2^20
        centre = entries == 0
        x, y = k / rows - rows / 2, row - rows / 2
        x[centre], y[centre] = 0, 0
        return x, y
