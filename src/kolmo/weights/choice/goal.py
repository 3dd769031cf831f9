"""The base of all goals of `kolmo.shrink`, and the selection of the weights that they apply to.

What it is not: a goal; see `kolmo.weights.goals`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from kolmo.hyperfunctions.families import FamilyOptions
from kolmo.progress import Phases
from kolmo.weights.choice.coding import Coding
from kolmo.weights.choice.losses import LossLimit, LossSearch


@dataclass(frozen=True)
class Selection:
    """Which weights are coded, and which of them become 0 first.

    Args:
        keep: globs of names of tensors that stay exact.
        prune: part of the coded weights, from 0 to below 1, that become 0 before coding: the smallest in magnitude.
        prune_each: prune this part of each tensor, not of the whole model.

    Raises:
        ValueError: `prune` is out of its range.

    Examples:
        >>> kolmo.Selection(keep="lm_head*", prune=0.5).keep
        ('lm_head*',)
    """

    keep: Sequence[str] = ()
    prune: float = 0.0
    prune_each: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "keep", (self.keep,) if isinstance(self.keep, str) else tuple(self.keep))
        if not 0 <= self.prune < 1:
            raise ValueError(f"prune = {self.prune}: a part of the weights is from 0 to below 1")


class Outcome(NamedTuple):
    """What came of a goal.

    Attributes:
        notes: sentences that the report repeats.
        search: the search for a step by its loss, if there was one.
    """

    notes: tuple[str, ...] = ()
    search: LossSearch | None = None


class Goal:
    """The base of all goals: a frozen dataclass that validates itself."""

    @property
    def needs_samples(self) -> bool:
        """Whether steps are tried on samples of the tensors."""
        return False

    @property
    def needs_step(self) -> bool:
        """Whether there must be a step; else a hyperfunction with a choice of rates will do."""
        return False

    @property
    def is_exact(self) -> bool:
        """Whether every tensor comes back exact."""
        return False

    def check(self, options: FamilyOptions, selection: Selection) -> None:
        """Check that the goal can be reached with these options and this selection.

        Raises:
            ValueError: it cannot.
        """
        if not options.has_step and (self.needs_step or not options.rates):
            raise ValueError(
                f"{self} needs a hyperfunction with a step, and {options.name} has none; leave the goal out, or take "
                "the trellis"
            )
        if options.rates and selection.prune:
            raise ValueError(f"{options.name} does not keep weights that are 0; leave prune out, or take the trellis")

    def prepare(self, source: Any, framework: str, progress: Phases | None) -> LossLimit | None:
        """Prepare the measurement of a loss, before anything is read; None for goals without one.

        Args:
            source: what is to be shrunk.
            framework: "np" or "pt", that of the source.
            progress: shows the phases and their bytes.

        Raises:
            KolmoError: the loss cannot be measured.
        """
        return None

    def reach(self, coding: Coding, allowed: LossLimit | None) -> Outcome:
        """Code with the steps that reach the goal.

        Raises:
            KolmoError: no step does.
        """
        raise NotImplementedError
