"""Rate against the place in the context: how much cheaper a model's bytes become as it sees more of a chunk.

After Deletang et al. (2024), figure 3: there the context is in-context learning's only memory; an adaptive predictor
learns from it too. Bytes of a chunk are pooled in places 0, 1, 2-3, 4-7, and so on.

What it is not: a size of packed data; costs are code lengths, which coding follows within a few bits a chunk.
"""

from __future__ import annotations

import itertools
from dataclasses import asdict, dataclass
from typing import Any

from kolmo.bench.paper.codecs import Predicted
from kolmo.modalities.chunks import ChunkSet
from kolmo.progress import Progress


@dataclass(frozen=True)
class Curve:
    """Bits of a byte by its place in the chunk.

    Attributes:
        codec: label of the predictor.
        modality: of the data.
        places: the first place of each pool.
        bits: mean bits of the bytes in each pool, over all chunks.
    """

    codec: str
    modality: str
    places: tuple[int, ...]
    bits: tuple[float, ...]

    def record(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def edges(size: int) -> list[int]:
    """The first place of each pool of a chunk of so many bytes, and the end.

    >>> edges(10)
    [0, 1, 2, 4, 8, 10]
    """
    found = [0]
    place = 1
    while place < size:
        found.append(place)
        place *= 2
    return [*found, size]


def curve(codec: Predicted, data: ChunkSet, progress: Progress | None = None) -> Curve:
    """Score the chunks, each from a fresh state."""
    import numpy as np

    size = len(data.chunks[0])
    total = np.zeros(size)
    for chunk in data.chunks:
        total += codec.score(chunk)
        if progress:
            progress(size)
    pools = edges(size)
    bits = [float(total[a:b].mean()) / len(data.chunks) for a, b in itertools.pairwise(pools)]
    return Curve(codec.label, data.modality, tuple(pools[:-1]), tuple(round(value, 5) for value in bits))
