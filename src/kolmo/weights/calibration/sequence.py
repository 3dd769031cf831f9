"""All tensors of a network coded with given steps, block by block, behind the coded blocks (docs/calibration.md).

    first          looked-up tensors: coded, and put into the network
    each block     samples run through the original network and behind the coded blocks
                   covariances of inputs, and what changed inputs do --> codes --> decoded, put into the network

The codes of each block are kept in the work folder, one file for each tensor in a folder of these steps, so that an
interrupted run goes on behind the last complete block. What it is not: a choice of steps, or a file of codes for
readers.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING
from zipfile import BadZipFile

import numpy as np

from kolmo.hyperfunctions.base import Hyperfunction, restore
from kolmo.parallel import Pipeline, ordered_map
from kolmo.predictors.guard import guarded
from kolmo.progress import Progress
from kolmo.targets import replacing
from kolmo.weights.calibration.blocks import Blocks, Walk
from kolmo.weights.calibration.factors import Factor, correction, factorise
from kolmo.weights.calibration.guides import Guides
from kolmo.weights.calibration.moments import Inputs, recording
from kolmo.weights.calibration.network import Held, Sample, inference
from kolmo.weights.choice.survey import Survey
from kolmo.weights.format.codes import CAPACITY_BYTES, WORKING_BYTES, Code, decode
from kolmo.weights.format.record import Coded
from kolmo.weights.format.writer import Encode
from kolmo.weights.sources.checkpoint import Checkpoint
from kolmo.weights.sources.dtypes import to_floats

if TYPE_CHECKING:
    import numpy.typing as npt
    import torch

    Floats = npt.NDArray[np.float32]

MAX_PARTS = 4  # parts of a block that are coded one after the other; more, as of experts, are coded with the last one
COUNTS = ("base", "wild", "scales", "transposed")  # of a `Code`, as its file has them


@dataclass(frozen=True)
class Network:
    """A network and what it is called with.

    Attributes:
        model: the network.
        samples: what it is called with.
        folder: where it was read; None for the caller's own module.
    """

    model: torch.nn.Module
    samples: Sequence[Sample]
    folder: str | None = None

    def guard(self) -> AbstractContextManager[None]:
        """Turns errors of a model that was read into one line; those of the caller's own module are the caller's."""
        return guarded(self.folder, "the model fails on the samples", passing=OSError) if self.folder else nullcontext()


@dataclass(frozen=True)
class Calibrated:
    """A network that is coded behind its own errors.

    Attributes:
        network: the network, with its original weights between two calls.
        blocks: its blocks.
        guides: how errors count.
        checkpoint: the tensors.
        survey: what one read of them found.
        folder: of the codes.
    """

    network: Network
    blocks: Blocks
    guides: Guides
    checkpoint: Checkpoint
    survey: Survey
    folder: Path

    def encoder(self, own: Mapping[str, Hyperfunction], threads: int, progress: Progress | None) -> Encode:
        """Code all tensors that the network holds; returns the function that a `Packer` takes.

        Args:
            own: the hyperfunctions of all tensors.
            threads: number of tensors that are coded at once.
            progress: called with the number of weights just done.

        Raises:
            KolmoError: an activation is not finite.
            PredictorError: a model that was read fails.
            OSError: codes cannot be kept.
        """
        made = _Pass(self, own, threads, progress)
        with self.network.guard(), inference(self.network.model):
            made.run()

        def encode(
            name: str,
            one: Coded,
            data: bytes,
            weights: Floats,
            function: Hyperfunction,
            scale: float,
            progress: Progress | None,
        ) -> Code:
            if name in self.guides.bound:
                return made.kept(name)
            return self.guides.encode(name, one, data, weights, function, scale, progress, None)

        return encode


class _Pass:
    """All blocks coded once, with given hyperfunctions."""

    def __init__(
        self, calibrated: Calibrated, own: Mapping[str, Hyperfunction], threads: int, progress: Progress | None
    ) -> None:
        self._given, self._own, self._threads, self._progress = calibrated, own, threads, progress
        facts = [[name, function.name, function.version, function.parameters] for name, function in own.items()]
        self._folder = calibrated.folder / hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]
        bound, network, blocks = calibrated.guides.bound, calibrated.network, calibrated.blocks
        self._places = {name: self._folder / f"{k}.npz" for k, name in enumerate(bound)}
        self._held = Held(bound, calibrated.checkpoint, kept=network.folder is None)
        self._original, self._changed = (Walk(network.model, blocks, network.samples) for _ in range(2))

    def run(self) -> None:
        """Code what is not in the folder yet, or damaged there, block by block."""
        self._folder.mkdir(exist_ok=True)
        for name, place in self._places.items():
            if place.exists() and not self._is_intact(name):
                place.unlink()
        blocks, coded = self._given.blocks, self._given.survey.record.coded
        last = max((k for k, names in enumerate(blocks.names) if self._missing(names)), default=-1)
        if self._progress:
            self._progress(sum(coded[name].count for name, place in self._places.items() if place.exists()))
        try:
            self._code(blocks.first, self._given.guides.moments.inputs)
            if last >= 0:
                self._put(blocks.first)
            for k in range(last + 1):
                parts = self._parts(blocks.names[k])
                for names, following in zip(parts, [*parts[1:], []], strict=True):
                    self._code(names, self._inputs(k, names, following))
                    self._put(names)
                self._held.release(blocks.names[k])
                for number in range(len(self._given.network.samples)) if k < last else ():
                    self._changed.run(k, number)
        finally:
            self._held.restore()

    def _inputs(self, block: int, names: Sequence[str], following: Sequence[str]) -> Inputs:
        """The inputs of some tensors of a block, behind everything that is coded, if their codes are missing.

        Args:
            block: which one.
            names: the tensors.
            following: those that are coded next in the block; if there are none, the original samples pass the block.
        """
        found, missing, everything = Inputs(), bool(self._missing(names)), self._given.guides.bound
        within = self._given.blocks.within(block, {name: everything[name] for name in names})
        until = everything[following[0]].layers[0] if following else None
        for number in range(len(self._given.network.samples)) if missing or not following else ():
            with self._held.originally(), recording(within if missing else {}) as rows:
                self._original.run(block, number, until=until, stays=bool(following))
            if missing:
                with found.watching(within, rows):
                    self._changed.run(block, number, until=until, stays=True)
        return found

    def _is_intact(self, name: str) -> bool:
        """Whether the code of a tensor in the folder can be read."""
        try:
            self.kept(name)
        except (OSError, ValueError, KeyError, EOFError, BadZipFile):
            return False
        return True

    def _missing(self, names: Iterable[str]) -> list[str]:
        """Those of these tensors whose codes are not in the folder."""
        return [name for name in names if not self._places[name].exists()]

    def _parts(self, names: Sequence[str]) -> list[list[str]]:
        """The tensors of a block that are coded together: those of shared inputs, in the order of their first calls."""
        leaders = self._given.guides.moments.inputs.leaders
        parts: dict[str, list[str]] = {}
        for name in leaders:
            if name in names:
                parts.setdefault(leaders[name], []).append(name)
        found = list(parts.values())
        last = [name for part in found[MAX_PARTS - 1 :] for name in part]
        rest = [name for name in names if name not in leaders]  # no sample reached them
        if last or not found:
            return [*found[: MAX_PARTS - 1], [*last, *rest]]
        return [*found[:-1], [*found[-1], *rest]]

    def _code(self, names: Iterable[str], inputs: Inputs) -> None:
        """Code tensors whose inputs are known, where they are not in the folder."""
        guides, coded = self._given.guides, self._given.survey.record.coded
        groups: dict[str, list[str]] = {}
        for name in self._missing(names):
            leader = name if name in guides.moments.table else inputs.leaders.get(name, name)
            groups.setdefault(leader, []).append(name)
        for members in groups.values():
            factor, change = self._factor(members[0], inputs)

            def work(
                name: str, progress: Progress, factor: Factor | None = factor, change: Floats | None = change
            ) -> Code:
                data = self._given.checkpoint.tensors[name].read()
                weights = to_floats(data, coded[name].dtype)
                if change is not None:
                    weights = _changed(weights, change, guides.bound[name].by_input)
                scale = self._given.survey.scales[name]
                return guides.encode(name, coded[name], data, weights, self._own[name], scale, progress, factor)

            pipeline = Pipeline(work, threads=self._threads, capacity=CAPACITY_BYTES, progress=self._progress)
            items = ((name, WORKING_BYTES * coded[name].count) for name in members)
            for name, code in zip(members, ordered_map(pipeline, items), strict=True):
                self._keep(name, code)

    def _factor(self, name: str, inputs: Inputs) -> tuple[Factor | None, Floats | None]:
        """The factorised covariance of a tensor's inputs, and the change of its weights; none without samples."""
        guides = self._given.guides
        if name not in guides.guides or not inputs.rows.get(name):
            return None, None
        covariance, leader = guides.covariance(name, inputs), inputs.leaders[name]
        factor = factorise(covariance, guides.damping)
        if leader not in inputs.shifts:
            return factor, None
        shift = inputs.shifts[leader].astype(np.float64) / inputs.rows[leader]
        return factor, correction(covariance, shift, factor)

    def _put(self, names: Iterable[str]) -> None:
        """Put what a reader will decode into the network."""
        for name in names:
            code = self.kept(name)
            extra = {key: getattr(code, key) for key in COUNTS}
            one = replace(self._given.survey.record.coded[name], stored=len(code.data), **extra)
            self._held.put(name, decode(one, code.data, code.by, self._threads))

    def _keep(self, name: str, code: Code) -> None:
        by = None if code.by is None else [code.by.name, code.by.parameters]
        counts = [getattr(code, key) for key in COUNTS]
        with replacing(self._places[name]) as file:
            np.savez(file, data=np.frombuffer(code.data, np.uint8), by=np.array(json.dumps(by)), counts=counts)

    def kept(self, name: str) -> Code:
        """The code of a tensor that is in the folder: the mirror of `_keep`."""
        with self._places[name].open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            by = json.loads(str(file["by"]))
            counts = dict(zip(COUNTS, map(int, file["counts"]), strict=True))
            return Code(file["data"].tobytes(), None if by is None else restore(*by), **counts)


def _changed(weights: Floats, change: Floats, by_input: bool) -> Floats:
    """The weights W + W C of a tensor, in a vector; of one with a row for each input, W + C^T W."""
    n = len(change)
    if by_input:
        matrix = weights.reshape(n, -1)
        found = matrix + change.T @ matrix
    else:
        matrix = weights.reshape(-1, n)
        found = matrix + matrix @ change
    return np.ascontiguousarray(found, np.float32).reshape(-1)
