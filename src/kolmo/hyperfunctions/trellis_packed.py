"""Levels of a trellis in memory, packed: they decode fast and from any place on (docs/trellis.md, "Packed levels").

    packed = PackedLevels.of(payload, shape)
    packed.unpack(table, first, count)          table: the weight of each level

What it is not: a payload; no file contains it.
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from kolmo.hyperfunctions.trellis import weights_of
from kolmo.hyperfunctions.trellis_payload import HOLE, Payload
from kolmo.native.dispatch import kernels

if TYPE_CHECKING:
    import numpy.typing as npt

MAX_LEVEL = 1 << 15  # a level of this magnitude is not packed, because a table of weights would be large
HEAD_WORDS = 8  # the bit of a head at which the number of words before begins


@dataclass(frozen=True)
class PackedLevels:
    """The levels of a matrix, packed.

    Attributes:
        states: number of states whose parities follow from the levels; 1 if there is no trellis, or if there are holes.
        heads, widths, words: as `trellis_pack` makes them, of all tiles.
        values: binary32, the weights of the levels from -T to T - 1, where T is half of their number.
    """

    states: int
    heads: bytes
    widths: bytes
    words: bytes
    values: npt.NDArray[np.float32]

    @classmethod
    def of(cls, payload: bytes, shape: tuple[int, int], threads: int = 1) -> PackedLevels | None:
        """The levels of a payload; None if one of them is too large.

        Args:
            payload: of the trellis.
            shape: rows and columns of its matrix.
            threads: number of threads.

        Raises:
            CorruptError: as `Trellis.decode`.
        """
        found = Payload.parse(payload, shape)
        states = 1 if found.walk.holes else found.walk.states

        def work(tile: tuple[int, int, bytes]) -> tuple[bytes, bytes, bytes] | None:
            levels = found.walk.decode(tile[2], found.table, tile[1])
            if found.walk.holes:
                levels = np.where(levels == HOLE, np.int32(0), levels)
            if levels.size and int(np.abs(levels).max()) >= MAX_LEVEL:
                return None
            return kernels.trellis_pack(states, levels.tobytes())

        with ThreadPoolExecutor(threads) as pool:
            tiles = list(pool.map(work, found.tiles))
        packed = [tile for tile in tiles if tile is not None]
        if len(packed) < len(tiles):
            return None
        heads = _joined((head, len(words)) for head, _, words in packed)
        widths, words = (b"".join(tile[i] for tile in packed) for i in (1, 2))
        half = int(states > 1)
        reach = 1 << max(max(widths, default=0) + half - 1, 1)
        values = np.empty(2 * reach, np.float32)
        weights_of(np.arange(-reach, reach, dtype=np.int32), False, found.step, found.offsets, values)
        return cls(states, heads, widths, words, values)

    @property
    def size(self) -> int:
        """Number of bytes in memory."""
        return len(self.heads) + len(self.widths) + len(self.words)

    def unpack(self, table: bytes, first: int, count: int) -> bytearray:
        """Weights from any place on.

        Args:
            table: the weights of the levels, of which `values` are the numbers, in any dtype of 1, 2, 4 or 8 bytes.
            first: place of the first weight in the matrix, in the order of rows.
            count: number of weights.

        Returns:
            The weights in the dtype of the table.
        """
        size = len(table) // self.values.size
        return kernels.trellis_unpack(self.states, self.heads, self.widths, self.words, table, size, first, count)


def _joined(tiles: Iterable[tuple[bytes, int]]) -> bytes:
    """The heads of consecutive tiles, each given with the number of bytes of its words."""
    found, before = [], 0
    for heads, size in tiles:
        found.append(np.frombuffer(heads, np.uint64) + np.uint64(before << HEAD_WORDS))
        before += size // 8
    return b"".join(one.tobytes() for one in found)
