"""The first look at a checkpoint: what is coded, tied and pruned, and a sample to choose a step by.

What it is not: it codes and writes nothing. A tensor for each thread is in memory; of all, numbers and the sample.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from kolmo.errors import KolmoError
from kolmo.hyperfunctions.base import Hyperfunction
from kolmo.parallel import Pipeline, ordered_map
from kolmo.progress import Progress
from kolmo.weights.choice.steps import Steps
from kolmo.weights.choice.values import NEITHER, TYPICAL, Nature, is_wild, nature
from kolmo.weights.format.groups import columns_of, is_coded
from kolmo.weights.format.packing import CAPACITY, WORKING, digest
from kolmo.weights.format.record import CODES, Coded, Record
from kolmo.weights.sources.checkpoint import Checkpoint
from kolmo.weights.sources.dtypes import SLAB, to_floats

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float32]

SAMPLE = 1 << 20  # weights of the whole sample, about
LEAST_SAMPLE = 1 << 12  # of a tensor
BLOCKS = 8  # of rows, across a tensor
FINEST = 19.9  # octaves from the largest weight down to the least step: more levels than the trellis has
FINE = 11  # bits of a binary32 that the histogram of magnitudes leaves out: 1/4096 of a magnitude
SMALLEST_ALIAS = 1024  # numbers; smaller tensors are equal by chance, such as norms of ones


@dataclass(frozen=True)
class Look:
    """What is known of a tensor after one read. All but the digest is of coded ones; magnitudes are without wild ones.

    Attributes:
        digest: of its bytes.
        coded: whether it is coded.
        nature: what its values are.
        power: sum of squares; `typical` that of the weights up to `values.TYPICAL` scales.
        largest: magnitude.
        threshold: below which weights become 0, where each tensor is pruned alone.
        sample: rows, wild weights 0.
        histogram: of magnitudes, for a threshold.
    """

    digest: str
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
    """The plan of a file, and what choosing a step needs.

    Attributes:
        record: with all tensors in their places; digests of the coded ones are to come.
        looks: at each coded tensor.
        thresholds: magnitudes below which its weights become 0.
    """

    record: Record
    looks: dict[str, Look]
    thresholds: dict[str, float]

    @property
    def count(self) -> int:
        """Weights that are coded with loss."""
        return sum(self.counts.values())

    @property
    def lossy(self) -> list[str]:
        """Coded tensors that lose something: those on no grid."""
        return [name for name, look in self.looks.items() if not look.nature.grid]

    @property
    def grids(self) -> dict[str, float]:
        """Steps of those that are on one."""
        return {name: look.nature.grid for name, look in self.looks.items() if look.nature.grid}

    @property
    def scales(self) -> dict[str, float]:
        """Of the lossy ones."""
        return {name: self.looks[name].nature.scale for name in self.lossy}

    @property
    def counts(self) -> dict[str, int]:
        """Weights of the lossy ones."""
        return {name: self.record.coded[name].count for name in self.lossy}

    @property
    def scale(self) -> float:
        """The geometric mean of their scales, over all weights."""
        counts = self.counts
        logs = math.fsum(counts[name] * math.log2(scale) for name, scale in self.scales.items())
        return float(2.0 ** (logs / max(sum(counts.values()), 1)))

    def bounds(self, steps: Steps) -> tuple[float, float]:
        """Logarithms, to base 2, of the least and the largest common step that make a difference."""
        largest = [
            math.log2(self.looks[name].largest / steps.of(name, 1.0)) for name in self.lossy if self.looks[name].largest
        ]
        return (min(largest) - FINEST, max(largest) + 2) if largest else (0.0, 0.0)

    def prune(self, name: str, weights: Floats) -> Floats:
        """A tensor's weights, the small ones 0."""
        threshold = np.float32(self.thresholds[name])
        return weights if not threshold else np.where(np.abs(weights) < threshold, np.float32(0), weights)

    def samples(self) -> dict[str, tuple[Coded, Floats]]:
        """Of each lossy tensor, rows to try a step on, pruned."""
        found = {}
        for name in self.lossy:
            sample = self.looks[name].sample
            assert sample is not None
            found[name] = self.record.coded[name], self.prune(name, sample)
        return found


def survey(
    source: Checkpoint,
    hyperfunction: Hyperfunction,
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
        source: what to shrink.
        hyperfunction: that the record will name.
        keep: globs of names that stay raw.
        prune: part of the coded weights that become 0, the smallest of all.
        prune_each: the smallest of each tensor instead.
        sampled: whether a sample is wanted.
        exact: all is to come back exact, so that it does not matter which tensors are weights.
        threads: tensors read at once.
        progress: called with the bytes done.

    Raises:
        KolmoError: a tensor cannot be read.
    """
    if CODES in source.tensors:
        raise KolmoError(f"{source.name}: has a tensor {CODES!r}, a name that shrunk files need; rename it")
    wanted = {
        name: name not in source.buffers and is_coded(name, tensor.dtype, tensor.shape, keep)
        for name, tensor in source.tensors.items()
    }
    size = max(SAMPLE // max(sum(wanted.values()), 1), LEAST_SAMPLE) if sampled else 0

    def work(name: str, progress: Progress) -> Look:
        tensor = source.tensors[name]
        data = tensor.read()
        look = Look(digest(data), False)
        if wanted[name]:
            values, columns = to_floats(data, tensor.dtype), columns_of(tensor.shape)
            found = Nature(1.0) if exact else nature(values, columns)
            if found.grid:
                look = replace(look, coded=True, nature=found)
            elif found.scale and (not exact or np.isfinite(values).all()):
                look = _look(Look(look.digest, True, found), values, columns, size, prune, prune_each)
        progress(len(data))
        return look

    pipeline: Pipeline[str, Look] = Pipeline(work, threads=threads, capacity=CAPACITY, progress=progress)
    items = ((name, WORKING * tensor.count) for name, tensor in source.tensors.items())
    looks: dict[str, Look] = {}
    coded: dict[str, Coded] = {}
    raw: dict[str, str] = {}
    aliases: dict[str, str] = {}
    firsts: dict[tuple[str, tuple[int, ...], str], str] = {}
    histogram: npt.NDArray[np.int64] = np.zeros(1 << 31 - FINE, np.int64)
    for (name, tensor), look in zip(source.tensors.items(), ordered_map(pipeline, items), strict=True):
        first = firsts.setdefault((tensor.dtype, tensor.shape, look.digest), name)
        lossy = first in looks and not looks[first].nature.grid
        same = not lossy or look.coded  # what is to stay exact is not tied to what is not
        if first != name and tensor.count >= SMALLEST_ALIAS and same:
            aliases[name] = first
        elif look.coded:
            coded[name] = Coded(tensor.dtype, tensor.shape, columns_of(tensor.shape), "0" * len(look.digest))
            if look.histogram is not None:
                histogram += look.histogram
            looks[name] = replace(look, histogram=None)
        else:
            raw[name] = look.digest
    whole = 0.0 if prune_each or not prune else _threshold(histogram, prune)
    thresholds = {name: looks[name].threshold if prune_each else whole for name in coded}
    thresholds |= {name: 0.0 for name, look in looks.items() if look.nature.grid}
    return Survey(Record((hyperfunction,), coded, raw, aliases, source.metadata), looks, thresholds)


def _look(known: Look, weights: Floats, columns: int, sample: int, prune: float, prune_each: bool) -> Look:
    scale = known.nature.scale
    if known.nature.wild:
        weights = np.where(is_wild(weights, scale), np.float32(0), weights)
    threshold, histogram = 0.0, None
    if prune and prune_each:
        place = min(int(prune * weights.size), weights.size - 1)
        threshold = float(np.partition(np.abs(weights), place)[place])
    elif prune:
        histogram = np.bincount(np.abs(weights).view(np.uint32) >> FINE, minlength=1 << 31 - FINE)
    power = typical = 0.0
    for at in range(0, weights.size, SLAB):
        squares = np.square(weights[at : at + SLAB], dtype=np.float64)
        power += float(squares.sum())
        typical += float(squares.sum(where=squares <= (TYPICAL * scale) ** 2))
    largest = max(float(weights.max()), -float(weights.min()))
    rows = _rows(weights.reshape(-1, columns), sample) if sample else None
    return replace(
        known, power=power, typical=typical, largest=largest, threshold=threshold, sample=rows, histogram=histogram
    )


def _rows(matrix: Floats, size: int) -> Floats:
    """Blocks of rows, evenly spread, of `size` weights or a little more; all of a small matrix."""
    height = -(-size // (BLOCKS * matrix.shape[1]))
    if matrix.shape[0] <= height * BLOCKS:
        return matrix
    starts = np.linspace(0, matrix.shape[0] - height, BLOCKS).astype(int)
    return np.concatenate([matrix[start : start + height] for start in starts])


def _threshold(histogram: npt.NDArray[np.int64], prune: float) -> float:
    """The largest of the histogram's magnitudes that no more than this part of all are below."""
    below = np.concatenate([[0], np.cumsum(histogram)])
    place = int(np.searchsorted(below, prune * below[-1], "right")) - 1
    return float(np.array(min(place, 0x7F800000 >> FINE) << FINE, np.uint32).view(np.float32))
