"""The survey of a checkpoint: which tensors are coded, tied and pruned, and a sample by which a step is chosen.

What it is not: a coder; it writes nothing. Memory holds one tensor per thread, and of all tensors a few numbers and the
sample.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from kolmo.errors import KolmoError
from kolmo.parallel import Pipeline, ordered_map
from kolmo.progress import Progress
from kolmo.weights.choice.steps import Steps
from kolmo.weights.choice.values import NEITHER, TYPICAL_SCALES, Nature, is_wild, nature
from kolmo.weights.format.codes import CAPACITY_BYTES, WORKING_BYTES, checksum_of
from kolmo.weights.format.groups import columns_of, is_coded
from kolmo.weights.format.record import CODES, Coded, Record
from kolmo.weights.sources.checkpoint import Checkpoint
from kolmo.weights.sources.dtypes import SLAB, to_floats

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float32]

SAMPLE_WEIGHTS = 1 << 20  # weights of the samples of all tensors together, approximately
MIN_TENSOR_SAMPLE = 1 << 12  # weights of the sample of one tensor
BLOCKS = 8  # blocks of rows that a sample takes, spread over the tensor
MAX_LEVEL_OCTAVES = 19.9  # octaves from the largest weight down to the least step; the trellis has no more levels
DROPPED_BITS = 11  # low bits of a binary32 that the histogram of magnitudes drops: 1/4096 of a magnitude
MIN_ALIAS_COUNT = 1024  # numbers in a tied tensor; smaller tensors, such as norms of ones, are often equal by chance


@dataclass(frozen=True)
class Look:
    """What one read of a tensor found: for a tensor that will not be coded, only the checksum.

    Wild weights count for nothing but `nature`.

    Attributes:
        checksum: of the bytes of the tensor.
        coded: whether the tensor will be coded.
        nature: the nature of its values.
        power: sum of squares of its weights.
        typical: the same for the weights up to `values.TYPICAL_SCALES` scales.
        largest: largest magnitude.
        threshold: magnitude below which its weights become 0, where each tensor is pruned alone.
        sample: some rows, with 0 in place of wild weights.
        histogram: of magnitudes, from which a threshold for all tensors follows.
    """

    checksum: str
    coded: bool
    nature: Nature = NEITHER
    power: float = 0.0
    typical: float = 0.0
    largest: float = 0.0
    threshold: float = 0.0
    sample: Floats | None = None
    histogram: npt.NDArray[np.int64] | None = None


@dataclass(frozen=True)
class Survey:
    """The plan of a file, and the facts by which a step is chosen.

    Attributes:
        record: all tensors, coded, raw or tied; the checksums of coded ones are not known yet.
        looks: what was found of each coded tensor.
        thresholds: for each coded tensor, the magnitude below which its weights become 0.
    """

    record: Record
    looks: dict[str, Look]
    thresholds: dict[str, float]

    @property
    def count(self) -> int:
        """Number of weights that are coded with loss."""
        return sum(self.counts.values())

    @property
    def lossy(self) -> list[str]:
        """The names of the tensors that are coded with loss: those on no grid."""
        return [name for name, look in self.looks.items() if not look.nature.grid]

    @property
    def grids(self) -> dict[str, float]:
        """The steps of the tensors that are on a grid."""
        return {name: look.nature.grid for name, look in self.looks.items() if look.nature.grid}

    @property
    def scales(self) -> dict[str, float]:
        """The scales of the lossy tensors."""
        return {name: self.looks[name].nature.scale for name in self.lossy}

    @property
    def counts(self) -> dict[str, int]:
        """The numbers of weights of the lossy tensors."""
        return {name: self.record.coded[name].count for name in self.lossy}

    @property
    def scale(self) -> float:
        """The geometric mean of the scales of the lossy tensors, over all their weights."""
        counts = self.counts
        logs = math.fsum(counts[name] * math.log2(scale) for name, scale in self.scales.items())
        return float(2.0 ** (logs / max(sum(counts.values()), 1)))

    def bounds(self, steps: Steps) -> tuple[float, float]:
        """Base-2 logarithms of the least and the largest common step that is worth trying."""
        largest = [
            math.log2(self.looks[name].largest / steps.of(name, 1.0)) for name in self.lossy if self.looks[name].largest
        ]
        return (min(largest) - MAX_LEVEL_OCTAVES, max(largest) + 2) if largest else (0.0, 0.0)

    def prune(self, name: str, weights: Floats) -> Floats:
        """The weights of a tensor with the small ones made 0."""
        threshold = np.float32(self.thresholds[name])
        return weights if not threshold else np.where(np.abs(weights) < threshold, np.float32(0), weights)

    def samples(self) -> dict[str, tuple[Coded, Floats]]:
        """Some rows of each lossy tensor, pruned, on which steps are tried."""
        found = {}
        for name in self.lossy:
            sample = self.looks[name].sample
            assert sample is not None
            found[name] = self.record.coded[name], self.prune(name, sample)
        return found


def survey(
    source: Checkpoint,
    *,
    keep: Sequence[str] = (),
    prune: float = 0.0,
    prune_each: bool = False,
    sampled: bool = True,
    exact: bool = False,
    threads: int = 1,
    progress: Progress | None = None,
) -> Survey:
    """Read every tensor once.

    Args:
        source: the tensors.
        keep: globs of names of tensors that stay raw.
        prune: part of the coded weights that become 0, the smallest of the whole model.
        prune_each: prune the smallest of each tensor instead.
        sampled: whether samples are needed.
        exact: all tensors will be coded exactly, so that it does not matter which ones hold weights.
        threads: number of tensors that are read at once.
        progress: called with the number of bytes just read.

    Raises:
        KolmoError: a tensor cannot be read.
    """
    if CODES in source.tensors:
        raise KolmoError(f"{source.name}: has a tensor {CODES!r}, a name that is reserved in shrunk files; rename it")
    wanted = {
        name: name not in source.buffers and is_coded(name, tensor.dtype, tensor.shape, keep)
        for name, tensor in source.tensors.items()
    }
    size = max(SAMPLE_WEIGHTS // max(sum(wanted.values()), 1), MIN_TENSOR_SAMPLE) if sampled else 0

    def work(name: str, progress: Progress) -> Look:
        tensor = source.tensors[name]
        data = tensor.read()
        look = Look(checksum_of(data), False)
        if wanted[name]:
            values, columns = to_floats(data, tensor.dtype), columns_of(tensor.shape)
            found = Nature(1.0) if exact else nature(values, columns)
            if found.grid:
                look = replace(look, coded=True, nature=found)
            elif found.scale and (not exact or np.isfinite(values).all()):
                look = _look(Look(look.checksum, True, found), values, columns, size, prune, prune_each)
        progress(len(data))
        return look

    pipeline: Pipeline[str, Look] = Pipeline(work, threads=threads, capacity=CAPACITY_BYTES, progress=progress)
    items = ((name, WORKING_BYTES * tensor.count) for name, tensor in source.tensors.items())
    looks: dict[str, Look] = {}
    coded: dict[str, Coded] = {}
    raw: dict[str, str] = {}
    aliases: dict[str, str] = {}
    firsts: dict[tuple[str, tuple[int, ...], str], str] = {}
    histogram: npt.NDArray[np.int64] = np.zeros(1 << 31 - DROPPED_BITS, np.int64)
    for (name, tensor), look in zip(source.tensors.items(), ordered_map(pipeline, items), strict=True):
        first = firsts.setdefault((tensor.dtype, tensor.shape, look.checksum), name)
        lossy = first in looks and not looks[first].nature.grid
        same = not lossy or look.coded  # an exact tensor is not tied to a lossy one
        if first != name and tensor.count >= MIN_ALIAS_COUNT and same:
            aliases[name] = first
        elif look.coded:
            coded[name] = Coded(tensor.dtype, tensor.shape, columns_of(tensor.shape), "0" * len(look.checksum))
            if look.histogram is not None:
                histogram += look.histogram
            looks[name] = replace(look, histogram=None)
        else:
            raw[name] = look.checksum
    whole = 0.0 if prune_each or not prune else _threshold(histogram, prune)
    thresholds = {name: looks[name].threshold if prune_each else whole for name in coded}
    thresholds |= {name: 0.0 for name, look in looks.items() if look.nature.grid}
    return Survey(Record((), coded, raw, aliases, source.metadata), looks, thresholds)


def _look(known: Look, weights: Floats, columns: int, sample: int, prune: float, prune_each: bool) -> Look:
    scale = known.nature.scale
    if known.nature.wild:
        weights = np.where(is_wild(weights, scale), np.float32(0), weights)
    threshold, histogram = 0.0, None
    if prune and prune_each:
        place = min(int(prune * weights.size), weights.size - 1)
        threshold = float(np.partition(np.abs(weights), place)[place])
    elif prune:
        histogram = np.bincount(np.abs(weights).view(np.uint32) >> DROPPED_BITS, minlength=1 << 31 - DROPPED_BITS)
    power = typical = 0.0
    for at in range(0, weights.size, SLAB):
        squares = np.square(weights[at : at + SLAB], dtype=np.float64)
        power += float(squares.sum())
        typical += float(squares.sum(where=squares <= (TYPICAL_SCALES * scale) ** 2))
    largest = max(float(weights.max()), -float(weights.min()))
    rows = _rows(weights.reshape(-1, columns), sample) if sample else None
    return replace(
        known, power=power, typical=typical, largest=largest, threshold=threshold, sample=rows, histogram=histogram
    )


def _rows(matrix: Floats, size: int) -> Floats:
    """Evenly spread blocks of rows with about `size` weights; all rows of a small matrix."""
    height = -(-size // (BLOCKS * matrix.shape[1]))
    if matrix.shape[0] <= height * BLOCKS:
        return matrix
    starts = np.linspace(0, matrix.shape[0] - height, BLOCKS).astype(int)
    return np.concatenate([matrix[start : start + height] for start in starts])


def _threshold(histogram: npt.NDArray[np.int64], prune: float) -> float:
    """The largest magnitude of the histogram such that at most this part of all magnitudes is smaller."""
    below = np.concatenate([[0], np.cumsum(histogram)])
    place = int(np.searchsorted(below, prune * below[-1], "right")) - 1
    return float(np.array(min(place, 0x7F800000 >> DROPPED_BITS) << DROPPED_BITS, np.uint32).view(np.float32))
