"""The search of the trellis, one row at a time: each row may depend on what became of the rows before it.

    lines = TrellisLines(Trellis(0.01), guide)
    decoded = lines.quantise(row)                row after row
    payload = lines.payload()                    an ordinary payload of the trellis

Calibration feeds the error of each row back into the later ones, so it has no row before the earlier ones are decided.
The search ends with each row: the next one starts from the best state. Readers see no difference. What it is not: a
judge of errors; it takes each row as it is given.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from kolmo.hyperfunctions.trellis import MAX_LEVEL, Trellis
from kolmo.hyperfunctions.trellis_payload import TILE
from kolmo.hyperfunctions.trellis_tables import level_costs

if TYPE_CHECKING:
    import numpy.typing as npt


class TrellisLines:
    """A payload in the making.

    Args:
        trellis: step, states and price of a bit; `centred` does not apply.
        guide: a matrix of the shape of the payload and about its values, on which first probabilities are trained:
            the rows before anything is fed back.

    Raises:
        ValueError: the guide has no two dimensions, or a weight that is not finite or too large for the step.

    Example:
        >>> weights = np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4)
        >>> lines = TrellisLines(Trellis(0.25), weights)
        >>> decoded = np.stack([lines.quantise(row) for row in weights])
        >>> bool((Trellis(0.25).decode(lines.payload(), (3, 4)) == decoded).all())
        True
    """

    def __init__(self, trellis: Trellis, guide: npt.NDArray[np.float32]) -> None:
        tiles = trellis.tiles(guide)
        self._trellis, self._shape = trellis, guide.shape
        self._walk = trellis.walk(tiles, False, guide.shape[1], 256)
        table = trellis.learn(self._walk, tiles)
        self._costs = level_costs(table, trellis.states, round(trellis.rate * 65536))
        self._levels = np.zeros(guide.size, np.int32)
        self._at, self._place = 0, self._walk.begin()

    def quantise(self, row: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
        """The weights that a reader will decode for the next row, binary32.

        Args:
            row: its weights. Weights that are too large for the step get the largest level.
        """
        grid = np.rint(np.asarray(row, np.float64) * (256 / self._trellis.step))
        x = np.clip(grid, -256 * MAX_LEVEL, 256 * MAX_LEVEL).astype(np.int32)
        begin = self._at
        while x.size:  # a row may lie in several tiles
            if self._place.at == TILE:
                self._place = self._walk.begin()
            part, x = x[: TILE - self._place.at], x[TILE - self._place.at :]
            levels, self._place = self._walk.resume(self._place, part, self._costs, self._trellis.rate)
            self._levels[self._at : self._at + part.size] = levels
            self._at += part.size
        return (self._levels[begin : self._at] * self._trellis.step).astype(np.float32)

    def payload(self) -> bytes:
        """The payload, after the last row."""
        tiles = [self._levels[at : at + TILE] for at in range(0, self._levels.size, TILE)]
        return self._trellis.payload(self._walk, tiles, [0] * 6, self._shape)
