"""The first look at a checkpoint: what is coded, tied and pruned, and a sample to choose a step by.

What it is not: it codes and writes nothing. A tensor for each thread is in memory; of all, numbers and the sample.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from kolmo.codec.pipeline import Pipeline, Report, ordered_map
from kolmo.errors import KolmoError
from kolmo.hyperfunctions.base import Hyperfunction
from kolmo.weights.checkpoint import Checkpoint
from kolmo.weights.dtypes import SLAB, to_floats
from kolmo.weights.groups import columns_of, is_coded
from kolmo.weights.packing import CAPACITY, WORKING, digest
from kolmo.weights.record import CODES, Coded, Record

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float32]

SAMPLE = 1 << 20  # weights of the whole sample, about
LEAST_SAMPLE = 1 << 12  # of a tensor
BLOCKS = 8  # of rows, across a tensor
FINE = 11  # bits of a binary32 that the histogram of magnitudes leaves out: 1/4096 of a magnitude
SMALLEST_ALIAS = 1024  # numbers; smaller tensors are equal by chance, such as norms of ones


@dataclass(frozen=True)
class Look:
    """What is known of a tensor after one read. Magnitudes are of finite weights of a coded tensor, else 0."""

    digest: str
    finite: bool
    power: float = 0.0
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
        """Coded weights."""
        return sum(one.count for one in self.record.coded.values())

    def prune(self, name: str, weights: Floats) -> Floats:
        """A tensor's weights, the small ones 0."""
        threshold = np.float32(self.thresholds[name])
        return weights if not threshold else np.where(np.abs(weights) < threshold, np.float32(0), weights)

    def samples(self) -> list[tuple[Coded, Floats]]:
        """Of each coded tensor, rows to try a step on, pruned."""
        found = []
        for name, one in self.record.coded.items():
            sample = self.looks[name].sample
            assert sample is not None
            found.append((one, self.prune(name, sample)))
        return found


def survey(
    source: Checkpoint,
    hyperfunction: Hyperfunction,
    *,
    keep: Sequence[str] = (),
    prune: float = 0.0,
    prune_each: bool = False,
    sampled: bool = True,
    threads: int = 1,
    report: Report | None = None,
) -> Survey:
    """Read every tensor once.

    Args:
        source: what to shrink.
        hyperfunction: that the record will name.
        keep: globs of names that stay raw.
        prune: part of the coded weights that become 0, the smallest of all.
        prune_each: the smallest of each tensor instead.
        sampled: whether a sample is wanted.
        threads: tensors read at once.
        report: called with the bytes done.

    Raises:
        KolmoError: a tensor cannot be read.
    """
    if CODES in source.tensors:
        raise KolmoError(f"{source.name}: has a tensor {CODES!r}, a name that shrunk files need; rename it")
    wanted = {name: is_coded(name, tensor.dtype, tensor.shape, keep) for name, tensor in source.tensors.items()}
    size = max(SAMPLE // max(sum(wanted.values()), 1), LEAST_SAMPLE) if sampled else 0

    def work(name: str, tick: Report) -> Look:
        tensor = source.tensors[name]
        data = tensor.read()
        look = Look(digest(data), False)
        if wanted[name]:
            look = _look(look.digest, to_floats(data, tensor.dtype), columns_of(tensor.shape), size, prune, prune_each)
        tick(len(data))
        return look

    pipeline: Pipeline[str, Look] = Pipeline(work, threads=threads, capacity=CAPACITY, report=report)
    items = ((name, WORKING * tensor.count) for name, tensor in source.tensors.items())
    looks: dict[str, Look] = {}
    coded: dict[str, Coded] = {}
    raw: dict[str, str] = {}
    aliases: dict[str, str] = {}
    firsts: dict[tuple[str, tuple[int, ...], str], str] = {}
    histogram: npt.NDArray[np.int64] = np.zeros(1 << 31 - FINE, np.int64)
    for (name, tensor), look in zip(source.tensors.items(), ordered_map(pipeline, items), strict=True):
        first = firsts.setdefault((tensor.dtype, tensor.shape, look.digest), name)
        same = first not in coded or look.finite  # what is to stay exact is not tied to what is not
        if first != name and tensor.count >= SMALLEST_ALIAS and same:
            aliases[name] = first
        elif look.finite:
            coded[name] = Coded(tensor.dtype, tensor.shape, columns_of(tensor.shape), "0" * len(look.digest))
            if look.histogram is not None:
                histogram += look.histogram
            looks[name] = replace(look, histogram=None)
        else:
            raw[name] = look.digest
    whole = 0.0 if prune_each or not prune else _threshold(histogram, prune)
    thresholds = {name: looks[name].threshold if prune_each else whole for name in coded}
    return Survey(Record(hyperfunction, coded, raw, aliases, source.metadata), looks, thresholds)


def _look(known: str, weights: Floats, columns: int, sample: int, prune: float, prune_each: bool) -> Look:
    if not np.isfinite(weights).all():
        return Look(known, False)
    threshold, histogram = 0.0, None
    if prune and prune_each:
        place = min(int(prune * weights.size), weights.size - 1)
        threshold = float(np.partition(np.abs(weights), place)[place])
    elif prune:
        histogram = np.bincount(np.abs(weights).view(np.uint32) >> FINE, minlength=1 << 31 - FINE)
    slabs = (weights[at : at + SLAB] for at in range(0, weights.size, SLAB))
    power = sum(float(np.square(slab, dtype=np.float64).sum()) for slab in slabs)
    largest = max(float(weights.max()), -float(weights.min()))
    rows = _rows(weights.reshape(-1, columns), sample) if sample else None
    return Look(known, True, power, largest, threshold, rows, histogram)


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
