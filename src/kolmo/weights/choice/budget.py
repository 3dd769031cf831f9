"""The coarsest step whose loss stays within a limit, whatever the loss is: found by measuring, and in few measurements.

A small loss is about proportional to the square of the step, so the search draws lines through logarithms of both.
What it is not: it knows no loss; `bpc` is one, and any function of decoded tensors is another.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from kolmo.errors import FormatError, KolmoError
from kolmo.safetensors import Kind
from kolmo.weights.choice.sensitivity import factors, kind_of
from kolmo.weights.choice.steps import by_scales
from kolmo.weights.format.groups import to_matrix
from kolmo.weights.format.packing import Packer, ShrunkFile
from kolmo.weights.sources.dtypes import as_numpy, as_torch, from_floats, to_floats

if TYPE_CHECKING:
    from kolmo.hyperfunctions.base import Hyperfunction
    from kolmo.weights.choice.steps import Steps
    from kolmo.weights.choice.survey import Survey
    from kolmo.weights.sources.checkpoint import Checkpoint

UNUSED = 0.05  # of what may be lost: near enough
NEAREST = math.log2(1.01)  # octaves between a step within the limit and one beyond it: near enough
POWER = 2.0  # of the step that a small loss grows with
LEAP = 2.0  # octaves up from one trial to the next, at most; and down, where nothing is known
TRIALS = 24
HALVING = 6  # trials after which the interval is halved, since the loss is no smooth function of the step
GUESS = 2.4  # octaves from the mean magnitude of the weights down to the step of about 4 bits


class State(Mapping[str, Any]):
    """A model's tensors by name, each decoded when it is asked for.

    Args:
        kinds: dtypes and shapes.
        read: a tensor's bytes, by its name.
        coded: names of the tensors that are coded, and so may differ from the source's.
        exact: whether they do not: nothing was coded or pruned yet.
        framework: "np" or "pt", as in `kolmo.load`.
    """

    def __init__(
        self,
        kinds: Mapping[str, Kind],
        read: Callable[[str], bytes],
        coded: Collection[str],
        *,
        exact: bool = False,
        framework: str = "np",
    ) -> None:
        self.coded, self.exact = frozenset(coded), exact
        self._kinds, self._read = kinds, read
        self._make = as_torch if framework == "pt" else as_numpy

    def __getitem__(self, name: str) -> Any:
        kind = self._kinds[name]
        return self._make(self._read(name), kind.dtype, kind.shape)

    def __iter__(self) -> Iterator[str]:
        return iter(self._kinds)

    def __len__(self) -> int:
        return len(self._kinds)


Loss = Callable[[State], float]


@dataclass(frozen=True)
class Trial:
    """What a step makes: bytes of the file, and the loss."""

    step: float
    size: int
    loss: float


@dataclass(frozen=True)
class Budget:
    """A limit, and what was spent of it.

    Attributes:
        limit: of the loss.
        before: the loss before anything was coded; that of pruning alone, where weights were pruned.
        loss: of the finished file, decoded.
        trials: in order.
        factors: of the steps of kinds of tensors, where these were measured.
        facts: what else the loss says of itself.
    """

    limit: float
    before: float
    loss: float
    trials: tuple[Trial, ...]
    factors: Mapping[str, float]
    facts: Mapping[str, Any]

    @property
    def steady(self) -> bool:
        """Whether the loss grew with the step, but for a tenth of what may be lost."""
        losses = [one.loss for one in sorted(self.trials, key=lambda one: one.step)]
        return all(b > a - 2 * UNUSED * (self.limit - self.before) for a, b in pairwise(losses))

    def record(self) -> dict[str, Any]:
        """For JSON."""
        trials = [asdict(one) for one in self.trials]
        return {
            "limit": self.limit,
            "before": self.before,
            "loss": self.loss,
            "trials": trials,
            "steady": self.steady,
            "factors": dict(self.factors),
            "facts": dict(self.facts),
        }

    def lines(self) -> list[str]:
        """For people: what was tried, then what came of it."""
        rows = [f"{'Step':>12}  {'Bytes':>12}  {'Loss':>10}"]
        rows += [f"{one.step:12.6g}  {one.size:12}  {one.loss:+10.5f}" for one in self.trials]
        if self.factors:
            least, most = min(self.factors.values()), max(self.factors.values())
            rows.append(f"steps by sensitivity: {least:.3g} to {most:.3g} times these")
        if not self.steady:
            rows.append("the loss does not grow steadily: this is too little, or too foreign, to tell such steps apart")
        facts = self.facts
        if not facts:
            return [*rows, f"loss {self.loss:.6g} of at most {self.limit:g}, {self.before:.6g} before coding"]
        spread = "" if facts["low"] is None else f", 95 % {facts['low']:+.5f} to {facts['high']:+.5f}"
        return [
            *rows,
            f"{facts['corpus']}: {facts['before']:.4f} => {facts['after']:.4f} bits/char, {self.loss:+.5f}{spread}, of "
            f"at most {self.limit:+g}; mode {facts['mode']}, documents: {facts['documents']}",
        ]


def check(
    loss: object = None,
    max_loss: float | None = None,
    max_delta_bpc: float | None = None,
    corpus: object = None,
    sensitivities: bool = False,
    **others: object,
) -> None:
    """Refuse settings of a budget that lack each other.

    Raises:
        ValueError: they do.
    """
    if (loss is None) != (max_loss is None):
        raise ValueError("loss and max_loss go together; give both, or neither")
    if max_delta_bpc is None:
        for name, value in {"corpus": corpus, **others}.items():
            if value is not None:
                raise ValueError(f"{name} is for max_delta_bpc; give that, or leave {name} out")
    elif corpus is None:
        raise ValueError("max_delta_bpc is measured on a corpus; give one")
    elif not 0 < max_delta_bpc < math.inf:
        raise ValueError(f"max_delta_bpc = {max_delta_bpc}: bits a character are above 0")
    if sensitivities and max_delta_bpc is None and max_loss is None:
        raise ValueError("sensitivities are for max_delta_bpc and max_loss; give one of these")
    if max_loss is not None and not math.isfinite(max_loss):
        raise ValueError(f"max_loss = {max_loss}: a limit is a finite number")


def spend(
    source: Checkpoint,
    found: Survey,
    packer: Packer,
    make: Callable[[float], Hyperfunction],
    code: Callable[[float, Steps], int],
    loss: Loss,
    limit: float,
    framework: str,
    sensitivities: bool,
) -> tuple[float, tuple[Trial, ...], dict[str, float]]:
    """Code with the coarsest step whose loss is within the limit.

    Args:
        source: the tensors.
        found: the survey of them; some are coded.
        packer: holds what was coded last.
        make: a hyperfunction of a step.
        code: codes everything into the packer, with a common step and what it is multiplied by, of each tensor;
            returns the bytes of all codes but the fixed ones.
        loss: of decoded tensors.
        limit: of the loss.
        framework: of the tensors that the loss is given.
        sensitivities: whether each kind of tensors is measured alone first, to have a step of its own.

    Returns:
        the loss before coding, the trials, and factors of steps by the kinds of tensors, if they are measured.

    Raises:
        KolmoError: the limit is exceeded without coding, or with any step.
    """
    record = found.record
    first = {name: record.aliases.get(name, name) for name in source.tensors}  # of tied ones
    coded = {name for name in source.tensors if first[name] in record.coded}
    pruned = any(found.thresholds.values())

    def lost(read: Callable[[str], bytes], *, exact: bool = False) -> float:
        """The loss where coded tensors are what `read` gives."""

        def any_tensor(name: str) -> bytes:
            return read(first[name]) if name in coded else source.tensors[name].read()

        return float(loss(State(source.tensors, any_tensor, coded, exact=exact, framework=framework)))

    def uncoded(name: str) -> bytes:
        tensor = source.tensors[name]
        if not pruned:
            return tensor.read()
        return from_floats(found.prune(name, to_floats(tensor.read(), tensor.dtype)), tensor.dtype)

    before = lost(uncoded, exact=not pruned)
    if not before <= limit:
        what, remedy = ("pruning alone", "prune less") if pruned else ("the model before coding", "measure it so")
        raise KolmoError(f"{source.name}: {what} has a loss of {before:.6g}, above {limit:g}; {remedy}, or allow more")
    steps = by_scales(found.scales, found.counts)
    low, high = found.bounds(steps)
    guess = math.log2(found.scale) - GUESS

    def alone(names: Collection[str]) -> float:
        """What coding these alone loses."""

        def read(name: str) -> bytes:
            one, data = record.coded[name], uncoded(name)
            if name not in names:
                return data
            function = make(steps.of(name, 2.0**guess))
            try:
                payload = function.encode(to_matrix(to_floats(data, one.dtype), one.columns))
            except ValueError:  # a wild weight, which does not count here
                return data
            return from_floats(function.decode(payload, one.matrix), one.dtype)

        return lost(read) - before

    measured = factors(found.counts, alone) if sensitivities else {}
    steps = steps.times(measured)

    def size_at(step: float) -> int:
        return packer.overhead + packer.fixed + code(step, steps)

    def measure(step: float) -> Trial:
        try:
            size = size_at(step)
        except FormatError:  # so coarse that no reader would take it
            return Trial(step, packer.overhead + packer.fixed, math.inf)
        return Trial(step, size, lost(packer.decoded_tensor))

    trials = search(measure, limit, before, low, high, guess)
    best = chosen(trials, limit)
    if best is None:
        raise KolmoError(f"{source.name}: a loss of {limit:g} is exceeded with every step; allow more")
    if trials[-1] is not best:
        size_at(best.step)
    return before, tuple(trials), {kind_of(name): factor for name, factor in measured.items()}


def settle(path: str, loss: Loss, limit: float, framework: str, threads: int) -> float:
    """The loss of a finished file.

    Raises:
        KolmoError: it exceeds the limit.
    """
    file = ShrunkFile(path)
    aliases = file.record.aliases
    coded = {name for name in file.names if aliases.get(name, name) in file.record.coded}
    kinds = {name: file.kind(name) for name in file.names}
    found = float(loss(State(kinds, lambda name: file.read(name, threads), coded, framework=framework)))
    if not found <= limit:
        raise KolmoError(
            f"the file's loss, measured once more, is {found:.6g}, above {limit:g}: measuring is not repeatable; "
            "measure on a CPU, or allow more"
        )
    return found


def chosen(trials: Collection[Trial], limit: float) -> Trial | None:
    """The one of the coarsest step within the limit."""
    return max((one for one in trials if one.loss <= limit), key=lambda one: one.step, default=None)


def search(
    measure: Callable[[float], Trial], limit: float, before: float, low: float, high: float, guess: float
) -> list[Trial]:
    """Try steps until one is near enough below the limit, or between two that are near enough to each other.

    Args:
        measure: tries a step.
        limit: of the loss.
        before: the loss at step 0, at most `limit`.
        low: logarithm, to base 2, of the least step.
        high: that of the largest.
        guess: that of the first.
    """
    room = limit - before
    aim = math.log2((1 - UNUSED / 2) * room) if room > 0 else -math.inf
    trials: list[Trial] = []
    fine: tuple[float, float] | None = None  # the coarsest step within the limit, and the logarithm of what it loses
    coarse: tuple[float, float] | None = None  # the finest beyond it
    place = min(max(guess, low), high)
    while len(trials) < TRIALS:
        found = measure(2.0**place)
        trials.append(found)
        lost = found.loss - before
        point = place, math.log2(lost) if 0 < lost < math.inf else -math.inf if lost <= 0 else math.inf
        if found.loss <= limit:
            fine = point
            if place >= high or 0 < (1 - UNUSED) * room <= lost:
                break
        else:
            coarse = point
            if place <= low:
                break
        if fine and coarse and coarse[0] - fine[0] < NEAREST:
            break
        place = min(max(_next(fine, coarse, aim, len(trials)), low), high)
    return trials


def _next(fine: tuple[float, float] | None, coarse: tuple[float, float] | None, aim: float, turn: int) -> float:
    """Where to look: on the line through both sides, or on one of the usual slope through the one that there is."""
    if fine and coarse:
        width = coarse[0] - fine[0]
        part = 0.5
        if math.isfinite(aim) and math.isfinite(coarse[1]) and turn < HALVING:
            slope = (coarse[1] - fine[1]) / width if math.isfinite(fine[1]) else POWER
            part = 1 - (coarse[1] - aim) / (slope * width) if slope > 0 else 0.5
        return fine[0] + width * min(max(part, 0.05), 0.95)
    known = fine or coarse
    assert known is not None
    leap = (aim - known[1]) / POWER if math.isfinite(known[1]) and math.isfinite(aim) else LEAP if fine else -LEAP
    return known[0] + (min(max(leap, NEAREST), LEAP) if fine else min(leap, -NEAREST))
