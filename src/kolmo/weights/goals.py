"""Goals of `kolmo.shrink`: how small a file is to become, or how much it may lose; each chooses the steps itself.

    Bits(3)                            3 bits per coded weight on average
    Step(0.002)                        one quantisation step for all tensors
    Bytes(16 << 20)                    a file of at most 16 MiB
    MaxLoss(0.08, loss)                the smallest file whose loss is at most 0.08
    MaxDeltaBpc(0.01, "texts/")        the smallest file that loses at most 0.01 bits per character on a corpus
    Lossless()                         every tensor exact

`Selection` names the tensors that stay exact, and the weights that are pruned. What it is not: a coder; `choice.coding`
codes with the steps that a goal tries.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kolmo.errors import KolmoError
from kolmo.hyperfunctions.families import BitshiftOptions, FamilyOptions, TrellisOptions
from kolmo.progress import Phases
from kolmo.weights.choice.coding import Coding
from kolmo.weights.choice.goal import Goal, Outcome, Selection
from kolmo.weights.choice.losses import Loss, LossLimit, LossSearch, search_by_loss
from kolmo.weights.choice.sizes import code_without_loss, search_by_size, search_rates_by_bits, search_rates_by_size

__all__ = [
    "DEFAULT_GOAL",
    "Bits",
    "Bytes",
    "FixedParameters",
    "Goal",
    "Lossless",
    "MaxDeltaBpc",
    "MaxLoss",
    "Selection",
    "Step",
    "agreed",
]


def _check_positive(name: str, value: float) -> None:
    if not 0 < value < math.inf:
        raise ValueError(f"{name} = {value}: it must be a finite number above 0")


@dataclass(frozen=True)
class Bits(Goal):
    """A number of bits per coded weight on average, whole payloads counted.

    Raises:
        ValueError: `bits` is not above 0, or not finite.

    Examples:
        >>> import numpy as np
        >>> weights = {"weight": np.random.default_rng(1).standard_normal((256, 256)).astype(np.float32)}
        >>> report = kolmo.shrink(weights, "small", kolmo.Bits(2.5))
        >>> round(report.coded.bits, 1)
        2.5
    """

    bits: float

    def __post_init__(self) -> None:
        _check_positive("bits", self.bits)

    @property
    def needs_samples(self) -> bool:
        """See `Goal`."""
        return True

    def check(self, options: FamilyOptions, selection: Selection) -> None:
        """See `Goal`."""
        super().check(options, selection)
        rates = options.rates
        if rates and not rates[0] <= self.bits <= rates[-1]:
            raise ValueError(f"bits = {self.bits}: {options.name} has {rates[0]} to {rates[-1]} bits a weight")

    def reach(self, coding: Coding, allowed: LossLimit | None) -> Outcome:
        """See `Goal`."""
        if not coding.survey.count:
            return Outcome((code_without_loss(coding),))
        if coding.options.rates:
            return Outcome(search_rates_by_bits(coding, self.bits))
        budget = int(self.bits * coding.survey.count / 8)
        return Outcome(search_by_size(coding, f"{self.bits} bits a weight", budget, lambda: coding.packer.lossy_size))


@dataclass(frozen=True)
class Bytes(Goal):
    """An upper bound on the size of the whole file, in bytes; the file is as large as that allows.

    Raises:
        ValueError: `target_bytes` is not above 0, or not finite.

    Examples:
        >>> import numpy as np
        >>> weights = {"weight": np.random.default_rng(1).standard_normal((256, 256)).astype(np.float32)}
        >>> report = kolmo.shrink(weights, "small", kolmo.Bytes(20_000))
        >>> 19_900 <= report.size <= 20_000
        True
    """

    target_bytes: int

    def __post_init__(self) -> None:
        _check_positive("target_bytes", self.target_bytes)

    @property
    def needs_samples(self) -> bool:
        """See `Goal`."""
        return True

    def reach(self, coding: Coding, allowed: LossLimit | None) -> Outcome:
        """See `Goal`."""
        if not coding.survey.count:
            note = code_without_loss(coding)
            if (size := coding.packer.size) > self.target_bytes:
                raise KolmoError(
                    f"{coding.checkpoint.name}: {self.target_bytes} bytes are too few: no tensor is a matrix of "
                    f"weights, and all of them take {size}; allow more"
                )
            return Outcome((note,))
        if coding.options.rates:
            return Outcome(search_rates_by_size(coding, self.target_bytes))
        fixed = coding.fixed_size
        wanted = f"{self.target_bytes} bytes"
        budget = self.target_bytes - fixed
        return Outcome(search_by_size(coding, wanted, budget, lambda: coding.packer.size - fixed))


@dataclass(frozen=True)
class Step(Goal):
    """One quantisation step, the distance between two levels, for all tensors.

    Raises:
        ValueError: `step` is not above 0, or not finite.

    Examples:
        >>> import numpy as np
        >>> weights = {"weight": np.random.default_rng(1).standard_normal((256, 256)).astype(np.float32)}
        >>> report = kolmo.shrink(weights, "small", kolmo.Step(0.25))
        >>> report.tensors[0].step
        0.25
    """

    step: float

    def __post_init__(self) -> None:
        _check_positive("step", self.step)

    @property
    def needs_step(self) -> bool:
        """See `Goal`."""
        return True

    def check(self, options: FamilyOptions, selection: Selection) -> None:
        """See `Goal`."""
        super().check(options, selection)
        options.at(self.step)  # which refuses steps out of its range

    def reach(self, coding: Coding, allowed: LossLimit | None) -> Outcome:
        """See `Goal`."""
        coding.with_function(coding.options.at(self.step))
        return Outcome()


@dataclass(frozen=True)
class MaxLoss(Goal):
    """The smallest file whose loss is at most a limit.

    Args:
        max_loss: the limit.
        loss: called with the decoded tensors by name, each of which is decoded when it is looked up; returns a number
            that increases with the step: an error rate, 1 - Dice.
        framework: of these tensors: "np", as `kolmo.load` returns them, or "pt"; by default that of the source.
        sensitivities: measure the loss of each kind of tensors first, and choose its step by that. This takes one
            more measurement for each kind.

    Raises:
        ValueError: `max_loss` is not finite, `loss` is not a function, or the framework is unknown.

    Examples:
        >>> import numpy as np
        >>> weights = {"weight": np.random.default_rng(1).standard_normal((256, 256)).astype(np.float32)}
        >>> def loss(decoded):
        ...     return float(np.abs(decoded["weight"] - weights["weight"]).mean())
        >>> report = kolmo.shrink(weights, "small", kolmo.MaxLoss(0.1, loss))
        >>> 0.09 < report.budget.loss <= 0.1
        True
    """

    max_loss: float
    loss: Loss
    framework: str | None = None
    sensitivities: bool = False

    def __post_init__(self) -> None:
        if not math.isfinite(self.max_loss):
            raise ValueError(f"max_loss = {self.max_loss}: a limit is a finite number")
        if not callable(self.loss):
            raise ValueError(f"loss is of type {type(self.loss).__name__}; give a function of decoded tensors")
        if self.framework not in (None, "np", "pt"):
            raise ValueError(f"framework = {self.framework!r} is not known; choose np or pt")

    def prepare(self, source: Any, framework: str, progress: Phases | None) -> LossLimit | None:
        """See `Goal`."""
        return LossLimit(self.loss, self.max_loss, self.framework or framework, self.sensitivities)

    def reach(self, coding: Coding, allowed: LossLimit | None) -> Outcome:
        """See `Goal`."""
        return _reach_loss(coding, allowed)


@dataclass(frozen=True)
class MaxDeltaBpc(Goal):
    """The smallest file by which a language model loses at most so many bits per character on a corpus.

    The source is a folder of transformers with its tokenizer.

    Args:
        max_delta_bpc: bits per character, above 0.
        corpus: a spec (docs/corpora.md) or a `Corpus`, as for `kolmo.evaluate`.
        mode: the rule of evaluation; strict if None.
        limit: upper bound on the number of documents.
        device: where the model is evaluated, cpu or cuda; if None, cuda where there is one.
        sensitivities: as for `MaxLoss`.

    Raises:
        ValueError: `max_delta_bpc` is not above 0, or not finite.

    Examples:
        >>> goal = kolmo.MaxDeltaBpc(0.01, "texts/", limit=100)
        >>> goal.max_delta_bpc  # then kolmo.shrink("folder", "small", goal)
        0.01
    """

    max_delta_bpc: float
    corpus: Any
    mode: str | None = None
    limit: int | None = None
    device: str | None = None
    sensitivities: bool = False

    def __post_init__(self) -> None:
        _check_positive("max_delta_bpc", self.max_delta_bpc)
        if self.corpus is None:
            raise ValueError("max_delta_bpc is measured on a corpus; give one")

    def prepare(self, source: Any, framework: str, progress: Phases | None) -> LossLimit | None:
        """See `Goal`; the model and the corpus are opened."""
        from kolmo.weights.choice.bpc import BitsPerCharacter

        if not isinstance(source, str | Path):
            raise KolmoError("max_delta_bpc needs a folder of transformers; for a model in memory, take MaxLoss")
        loss = BitsPerCharacter(
            source, self.corpus, mode=self.mode, limit=self.limit, device=self.device, progress=progress
        )
        return LossLimit(loss, self.max_delta_bpc, "pt", self.sensitivities, loss.facts)

    def reach(self, coding: Coding, allowed: LossLimit | None) -> Outcome:
        """See `Goal`."""
        return _reach_loss(coding, allowed)


@dataclass(frozen=True)
class Lossless(Goal):
    """Every tensor comes back exact to the bit, whatever float it holds; steps are chosen for the least size.

    Examples:
        >>> import numpy as np
        >>> weights = {"weight": np.random.default_rng(1).standard_normal((256, 256)).astype(np.float32)}
        >>> report = kolmo.shrink(weights, "exact", kolmo.Lossless())
        >>> bool((kolmo.load("exact")["weight"] == weights["weight"]).all())
        True
    """

    @property
    def is_exact(self) -> bool:
        """See `Goal`."""
        return True

    def check(self, options: FamilyOptions, selection: Selection) -> None:
        """See `Goal`."""
        if options != TrellisOptions():
            raise ValueError(
                "Lossless and a hyperfunction with options of its own exclude each other; give one of them"
            )
        if selection.prune:
            raise ValueError("Lossless and prune exclude each other; give one of them")

    def reach(self, coding: Coding, allowed: LossLimit | None) -> Outcome:
        """See `Goal`."""
        coding.exactly()
        return Outcome()


@dataclass(frozen=True)
class FixedParameters(Goal):
    """Not a goal to choose: a hyperfunction without a step, which codes everything as it is."""

    def check(self, options: FamilyOptions, selection: Selection) -> None:
        """See `Goal`."""

    def reach(self, coding: Coding, allowed: LossLimit | None) -> Outcome:
        """See `Goal`."""
        coding.with_function(coding.options.at(None))
        return Outcome()


DEFAULT_GOAL = Bits(4.0)


def agreed(goal: Goal, options: FamilyOptions, selection: Selection, calibrated: bool = False) -> Goal:
    """The given goal, checked; in place of the default one, none for a family of hyperfunctions without steps.

    Args:
        goal: the goal.
        options: the family of hyperfunctions.
        selection: what is coded and pruned.
        calibrated: whether there is a calibration.

    Raises:
        ValueError: goal, options and selection contradict each other.
        TypeError: the goal is not one.
    """
    if not isinstance(goal, Goal):
        raise TypeError(f"goal = {goal!r} is not a goal; give one such as kolmo.Bits(3) or kolmo.Lossless()")
    found = FixedParameters() if goal is DEFAULT_GOAL and not (options.has_step or options.rates) else goal
    found.check(options, selection)
    if calibrated:
        _check_calibrated(found, options, selection)
    return found


def _check_calibrated(goal: Goal, options: FamilyOptions, selection: Selection) -> None:
    if not isinstance(options, TrellisOptions | BitshiftOptions) or options.least_error:
        raise ValueError("calibrate needs the trellis or bitshift, without least_error; leave one of them out")
    if selection.prune:
        raise ValueError("calibrate and prune exclude each other; give one of them")
    if goal.is_exact or isinstance(goal, Step):
        what = "Lossless" if goal.is_exact else "Step"
        raise ValueError(
            f"calibrate and {what} exclude each other, since a calibration chooses steps; give one of them"
        )
    if getattr(goal, "sensitivities", False):
        raise ValueError("calibrate and sensitivities exclude each other, since both weigh tensors; give one of them")


def _reach_loss(coding: Coding, allowed: LossLimit | None) -> Outcome:
    assert allowed is not None
    if not coding.survey.count:
        return Outcome((code_without_loss(coding),), LossSearch(allowed))
    return Outcome((), search_by_loss(coding, allowed))
