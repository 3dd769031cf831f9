"""The coding of a checkpoint, which is repeated with every step that is tried.

What it is not: a search. Goals (`kolmo.weights.goals`) decide with which steps it is done.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kolmo.hyperfunctions.base import Hyperfunction
from kolmo.hyperfunctions.families import FamilyOptions
from kolmo.progress import Phases
from kolmo.weights.calibration.guides import Guides
from kolmo.weights.calibration.sequence import Calibrated
from kolmo.weights.choice import rates
from kolmo.weights.choice.steps import Steps, by_scales
from kolmo.weights.choice.survey import Survey
from kolmo.weights.format.lossless import BASE
from kolmo.weights.format.record import Coded
from kolmo.weights.format.writer import Packer
from kolmo.weights.sources.checkpoint import Checkpoint

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


@dataclass(frozen=True)
class Coding:
    """A checkpoint, what is known of it, and the file that its codes go to.

    Attributes:
        checkpoint: the tensors.
        survey: what one read of them found.
        packer: the file in the making.
        options: the family of hyperfunctions that codes them.
        threads: number of tensors that are coded at once.
        phases: shows progress.
        calibrated: the calibration, if there is one.
    """

    checkpoint: Checkpoint
    survey: Survey
    packer: Packer
    options: FamilyOptions
    threads: int
    phases: Phases
    calibrated: Calibrated | None = None

    @property
    def guides(self) -> Guides | None:
        """How errors count, if there is a calibration."""
        return self.calibrated.guides if self.calibrated else None

    @property
    def fixed_size(self) -> int:
        """Bytes of the file that depend on no step."""
        return self.packer.overhead + self.packer.fixed

    def steps(self) -> Steps:
        """The steps of the lossy tensors, by their scales or by the calibration."""
        plain = by_scales(self.survey.scales, self.survey.counts)
        return self.guides.steps(plain, self.survey.scales, self.survey.counts) if self.guides else plain

    def samples(self) -> dict[str, tuple[Coded, npt.NDArray[np.float32]]]:
        """Some weights of each lossy tensor, on which steps are tried."""
        found = self.survey.samples()
        if self.guides:
            return {name: (one, self.guides.sample(name, rows)) for name, (one, rows) in found.items()}
        return found

    def with_step(self, step: float, steps: Steps) -> None:
        """Code with a common step, which each lossy tensor multiplies by its own factor."""
        self.with_functions(self.functions(step, steps))

    def functions(self, step: float, steps: Steps) -> dict[str, Hyperfunction]:
        """The hyperfunctions of the lossy tensors for a common step; of the rate next to it, if rates are fixed."""
        return {name: self.function(name, steps.of(name, step)) for name in steps.factors}

    def function(self, name: str, step: float) -> Hyperfunction:
        """The hyperfunction of a tensor for a step of its own."""
        if not self.options.rates:
            return self.options.at(step)
        return self.of_rate(name, rates.bits_at(self.survey.scales[name], step, self.options.rates))

    def of_rate(self, name: str, bits: int) -> Hyperfunction:
        """The hyperfunction of a tensor for a fixed number of bits a weight."""
        one = self.survey.record.coded[name]
        return self.options.at_rate(bits, one.columns, self.survey.scales[name], is_kernel=one.columns != one.shape[-1])

    def bounds(self, steps: Steps) -> tuple[float, float]:
        """Base-2 logarithms of the least and the largest common step that is worth trying."""
        if not self.options.rates:
            return self.survey.bounds(steps)
        return rates.bounds(self.survey.scales, steps, self.options.rates)

    def with_functions(self, own: Mapping[str, Hyperfunction]) -> None:
        """Code with a hyperfunction for each lossy tensor."""
        self.with_function(self.options.at(1.0 if self.options.has_step else None), own)

    def exactly(self) -> None:
        """Code all tensors for exact bytes."""
        self.with_function(BASE, exact=True)

    def with_function(
        self, function: Hyperfunction, own: Mapping[str, Hyperfunction] | None = None, *, exact: bool = False
    ) -> None:
        """Code with one hyperfunction, or with a tensor's own one where there is one."""
        with self.phases("coding", 4 * self.survey.count) as progress:

            def in_bytes(weights: int) -> None:
                assert progress is not None
                progress(4 * weights)

            counted = in_bytes if progress else None
            calibrated = self.calibrated if own is not None else None
            encode = calibrated.encoder(own, self.threads, counted) if calibrated and own else None
            self.packer.code(function, self.survey.prune, counted, own=own, exact=exact, encode=encode)
