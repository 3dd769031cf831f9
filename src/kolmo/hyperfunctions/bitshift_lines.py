"""The search of the bitshift trellis, one row at a time: each row may depend on what became of the rows before it.

    lines = BitshiftLines(Bitshift(3), guide)
    decoded = lines.quantise(row)                row after row
    payload = lines.payload()                    an ordinary payload of the bitshift trellis

For calibrations, as `TrellisLines`. What it is not: a judge of errors; it takes each row as it is given.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from kolmo.hyperfunctions.bitshift import Bitshift, BitshiftRows

if TYPE_CHECKING:
    import numpy.typing as npt


class BitshiftLines:
    """A payload in the making.

    Args:
        function: the bitshift trellis; `unbiased` does not apply.
        guide: a matrix of the shape of the payload and about its values, from which the unit of factors is taken.

    Raises:
        ValueError: as for `Bitshift.encode`.

    Example:
        >>> weights = np.random.default_rng(1).standard_normal((3, 64)).astype(np.float32)
        >>> lines = BitshiftLines(Bitshift(4), weights)
        >>> decoded = np.stack([lines.quantise(row) for row in weights])
        >>> bool((Bitshift(4).decode(lines.payload(), (3, 64)) == decoded).all())
        True
    """

    def __init__(self, function: Bitshift, guide: npt.NDArray[np.float32]) -> None:
        self._function, self._rows = function, BitshiftRows(replace(function, unbiased=False), guide)

    def quantise(self, row: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
        """The weights that a reader will decode for the next row, binary32."""
        decoded = self._rows.code(self._function.turned(np.asarray(row, np.float32)[None]))
        line: npt.NDArray[np.float32] = self._function.turned(decoded, back=True)[0]
        return line

    def payload(self) -> bytes:
        """The payload, after the last row."""
        return self._rows.payload()
