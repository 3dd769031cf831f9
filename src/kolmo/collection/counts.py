"""What each step of a pipeline took, kept and dropped, by reason; summed over shards in any order.

What it is not: a measure of time or memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from kolmo.errors import KolmoError


@dataclass
class StepCounts:
    """Documents (or records) of one step.

    Attributes:
        taken: that came in, lost ones included.
        dropped: of these, by reason.
        tallies: what else was counted, such as documents by language; no part of the balance.
    """

    taken: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    tallies: dict[str, int] = field(default_factory=dict)

    @property
    def kept(self) -> int:
        """Documents that went on."""
        return self.taken - sum(self.dropped.values())

    def record(self) -> dict[str, Any]:
        """As the manifest has it: reasons sorted, tallies only where there are some."""
        found: dict[str, Any] = {"in": self.taken, "kept": self.kept, "dropped": dict(sorted(self.dropped.items()))}
        if self.tallies:
            found["tallies"] = dict(sorted(self.tallies.items()))
        return found


class Counts:
    """The counts of steps, in the order in which the steps were first counted.

    Example:
        >>> counts = Counts()
        >>> counts.take("length"); counts.drop("length", "short"); counts.take("length")
        >>> counts.record()
        {'length': {'in': 2, 'kept': 1, 'dropped': {'short': 1}}}
    """

    def __init__(self) -> None:
        self.steps: dict[str, StepCounts] = {}

    def take(self, step: str, count: int = 1) -> None:
        """So many documents came into a step."""
        self._of(step).taken += count

    def drop(self, step: str, reason: str, count: int = 1) -> None:
        """So many of those that the step took do not go on."""
        dropped = self._of(step).dropped
        dropped[reason] = dropped.get(reason, 0) + count

    def lose(self, step: str, reason: str, count: int = 1) -> None:
        """Records were lost before the step could take them: they count as taken and dropped."""
        self.take(step, count)
        self.drop(step, reason, count)

    def tally(self, step: str, what: str, count: int = 1) -> None:
        """Count something that is not a drop."""
        tallies = self._of(step).tallies
        tallies[what] = tallies.get(what, 0) + count

    def add(self, other: Counts) -> None:
        """The counts of another shard, too."""
        for name, theirs in other.steps.items():
            mine = self._of(name)
            mine.taken += theirs.taken
            for into, of in ((mine.dropped, theirs.dropped), (mine.tallies, theirs.tallies)):
                for key, count in of.items():
                    into[key] = into.get(key, 0) + count

    def record(self) -> dict[str, Any]:
        """As the manifest has them."""
        return {name: step.record() for name, step in self.steps.items()}

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Counts:
        """The counts of a record.

        Raises:
            KolmoError: it is not one.
        """
        counts = cls()
        try:
            for name, step in record.items():
                counts.steps[name] = StepCounts(int(step["in"]), dict(step["dropped"]), dict(step.get("tallies", {})))
        except (KeyError, TypeError, ValueError, AttributeError):
            raise KolmoError("the counts of a shard are damaged; remove the stage's folder and run again") from None
        return counts

    def _of(self, step: str) -> StepCounts:
        return self.steps.setdefault(step, StepCounts())
