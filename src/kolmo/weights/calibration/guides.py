"""The calibration of a checkpoint: which tensors have one, their steps, and their codes.

    samples --network--> moments (moments.py) --> guides: importance of inputs, outputs --> codes (sequence.py)

One common step serves all tensors: that of a weight whose error counts 1. So at each size the total loss is the least,
as the moments estimate it. What it is not: a search; goals try steps as without a calibration.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from kolmo.hyperfunctions.base import Hyperfunction
from kolmo.hyperfunctions.bitshift import Bitshift
from kolmo.hyperfunctions.trellis import Trellis
from kolmo.progress import Progress
from kolmo.weights.calibration.coder import Guide, encode_guided
from kolmo.weights.calibration.factors import Factor, factorise
from kolmo.weights.calibration.moments import Inputs, Moments
from kolmo.weights.calibration.network import Bound
from kolmo.weights.choice.steps import Steps
from kolmo.weights.format.codes import Code, encode
from kolmo.weights.format.record import Coded

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float32]
    Doubles = npt.NDArray[np.float64]

OUTPUT_FLOOR = 0.25  # part of the mean weight of outputs that each output has at least


@dataclass(frozen=True)
class Guides:
    """The calibration of the tensors that have one.

    Attributes:
        moments: of the samples.
        bound: the tensors that the network multiplies by.
        damping: as `Calibration.damping`.
        guides: how errors count, by tensor.
        tables: the weight of errors of embeddings that are nothing else, and are coded as without a calibration.
    """

    moments: Moments
    bound: Mapping[str, Bound]
    damping: float
    guides: Mapping[str, Guide]
    tables: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def make(cls, moments: Moments, bound: Mapping[str, Bound], damping: float) -> Guides:
        """The calibration of all tensors that samples reached."""
        made = cls(moments, bound, damping, {})
        found, tables = {}, {}
        for name, one in bound.items():
            if not moments.inputs.rows.get(name):
                if moments.table.get(name):  # a row is looked up for one in `outputs` tokens, on average
                    tables[name] = moments.table[name] / max(moments.size, 1) / one.inputs / one.outputs
                continue
            squares = moments.squares.get(name, np.zeros(one.outputs)) / max(moments.size, 1)
            mean = float(squares.mean())
            if not 0 < mean < np.inf:
                continue
            importance = moments.importance.get(name)
            if importance is None:
                importance = factorise(made.covariance(name, moments.inputs), damping).importance
            found[name] = Guide(importance, squares + OUTPUT_FLOOR * mean, one.by_input)
        return cls(moments, bound, damping, found, tables)

    def covariance(self, name: str, inputs: Inputs) -> Doubles:
        """The covariance of a tensor's inputs, by the sums of the network as it is, or behind coded layers."""
        one, leader = self.bound[name], inputs.leaders[name]
        covariance = inputs.covariances[leader].astype(np.float64) / inputs.rows[leader]
        squares = float(self.moments.squares[name].mean()) if name in self.moments.squares else 0.0
        if name in self.moments.table and squares > 0:  # looked-up rows: each column counts alone, and each row rarely
            each = self.moments.table[name] / one.inputs / one.outputs / squares
            covariance[np.diag_indices(one.inputs)] += each
        return covariance

    def steps(self, plain: Steps, scales: Mapping[str, float], counts: Mapping[str, int]) -> Steps:
        """The steps of all tensors; those without a weight of errors follow their scales, with as many bits on average.

        Args:
            plain: the steps by scales.
            scales: of all lossy tensors.
            counts: their numbers of weights.
        """
        logs = {name: guide.log_step for name, guide in self.guides.items()}
        logs |= {name: -0.5 * float(np.log2(weight)) for name, weight in self.tables.items()}
        total = sum(counts[name] for name in logs)
        if not total:
            return plain
        bits = sum(counts[name] * (np.log2(scales[name]) - logs[name]) for name in logs) / total
        others = {name: float(np.log2(factor)) for name, factor in plain.factors.items() if name not in logs}
        if rest := sum(counts[name] for name in others):
            apart = sum(counts[name] * (np.log2(scales[name]) - others[name]) for name in others) / rest
            logs |= {name: log + apart - bits for name, log in others.items()}
        everything = sum(counts[name] for name in logs)
        centre = sum(counts[name] * log for name, log in logs.items()) / everything
        return Steps({name: float(2.0 ** (log - centre)) for name, log in logs.items()})

    def sample(self, name: str, rows: Floats) -> Floats:
        """Some rows of a tensor, scaled about as its lines will be, on which steps are tried."""
        if name not in self.guides:
            return rows
        guide = self.guides[name]
        inputs, outputs = guide.exponents
        scales = np.exp2((outputs if guide.by_input else inputs) / 4).astype(np.float32)
        return guide.lines(rows / scales)

    def encode(
        self,
        name: str,
        one: Coded,
        data: bytes,
        weights: Floats,
        function: Hyperfunction,
        scale: float,
        progress: Progress | None,
        factor: Factor | None,
    ) -> Code:
        """Code a tensor, with its calibration and a factorised covariance if it has one."""
        guide = self.guides.get(name)
        if guide is None or factor is None or not isinstance(function, Trellis | Bitshift):
            return encode(one, data, weights, function, scale, progress)
        return encode_guided(one, data, weights, function, scale, guide, factor, progress)
