"""Several sizes of the torus's codebook, tried in order for each matrix until the error is small enough, as published.

What it is not: something that files record. They record the `Torus` that was chosen.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from kolmo.hyperfunctions.torus import CODED, HEADER, MIN_WEIGHTS, Torus

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from kolmo.progress import Progress


@dataclass(frozen=True)
class TorusSeries:
    """A torus with one of several numbers of points: the first whose error is at most the target, else the last.

    After the last one only the limit of the torus decides, above which a matrix stays raw.

    Args:
        torus: everything but the number of points.
        points: the numbers of points, in the order in which they are tried; at least one, none of them twice.
        target: mean absolute error at which no further number is tried; at most the limit of the torus.

    Raises:
        ValueError: an argument is out of its range.

    Example:
        >>> import numpy as np
        >>> series = TorusSeries(Torus(), (4, 1600))
        >>> [series.chosen(series.encode(np.full((3, 4), x, np.float32) + at)).points
        ...  for x, at in [(0.02, 0), (0.02, np.linspace(0, 0.01, 12).reshape(3, 4))]]
        [4, 1600]
    """

    torus: Torus
    points: tuple[int, ...]
    target: float = 0.001

    name = "torus"
    version = 1

    def __post_init__(self) -> None:
        if not self.points or len(set(self.points)) != len(self.points):
            raise ValueError(f"points = {self.points}: give at least one, and none of them twice")
        if not 0 <= self.target < math.inf:
            raise ValueError(f"target = {self.target}, not a finite number from 0 on")
        if 0 < self.torus.limit < self.target:
            raise ValueError(
                f"target = {self.target}, above the limit {self.torus.limit}, from which matrices stay raw"
            )
        _ = self.tori

    @property
    def tori(self) -> list[Torus]:
        """A torus for each number of points."""
        return [replace(self.torus, points=points) for points in self.points]

    @property
    def parameters(self) -> dict[str, int | float]:
        """Those of the first torus; files have those of the chosen one."""
        return self.tori[0].parameters

    def encode(self, weights: npt.NDArray[np.float32], progress: Progress | None = None) -> bytes:
        """The payload of the torus that is chosen; see `Torus.encode`.

        Raises:
            ValueError: as for `Torus.encode`.
        """
        *first, last = self.tori
        for torus in first if weights.size >= MIN_WEIGHTS else ():
            if payload := torus.encode_within(weights, self.target, progress):
                return payload
            progress = _silent(progress)
        return last.encode(weights, progress)

    def chosen(self, payload: bytes) -> Torus:
        """The torus that made a payload; the first of a raw one, and of points that are not in the series."""
        if payload[:1] == bytes([CODED]) and len(payload) >= HEADER.size:
            points = HEADER.unpack_from(payload)[4]
            if points in self.points:
                return replace(self.torus, points=points)
        return self.tori[0]

    def decode(self, payload: bytes, shape: tuple[int, int], threads: int = 1) -> npt.NDArray[np.float32]:
        """See `Torus.decode`.

        Raises:
            CorruptError: as for `Torus.decode`.
        """
        return self.chosen(payload).decode(payload, shape, threads)

    def check(self, payload: bytes) -> None:
        """See `Hyperfunction.check`: as the torus that was chosen, which must be one of the series."""
        self.chosen(payload).check(payload)


def _silent(progress: Progress | None) -> Progress | None:
    """A callback that may still stop the work, but counts no weight a second time."""
    if progress is None:
        return None
    return lambda weights: progress(0)
