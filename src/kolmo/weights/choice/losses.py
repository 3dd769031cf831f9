"""Any loss of decoded tensors: how it is measured for a step, and the search for the coarsest step within a limit.

What it is not: a loss. `bpc` is one, and any function of decoded tensors is another.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from kolmo.errors import FormatError, KolmoError
from kolmo.hyperfunctions.base import Hyperfunction
from kolmo.safetensors import Kind
from kolmo.weights.choice.budget import LossBudget, Trial, chosen, search
from kolmo.weights.choice.coding import Coding
from kolmo.weights.choice.sensitivity import factors, kind_of
from kolmo.weights.choice.steps import Steps
from kolmo.weights.format.groups import to_matrix
from kolmo.weights.format.reader import ShrunkFile
from kolmo.weights.sources.dtypes import as_numpy, as_torch, from_floats, to_floats

GUESS_OCTAVES = 2.4  # octaves from the mean magnitude of the weights down to the step of about 4 bits


class DecodedTensors(Mapping[str, Any]):
    """The tensors of a model by name, each decoded when it is looked up.

    Args:
        kinds: dtype and shape of each tensor.
        read: returns the bytes of a tensor, by its name.
        coded: names of the tensors that are coded, and so may differ from the source.
        exact: whether no tensor differs from the source, because nothing was coded or pruned yet.
        framework: "np" or "pt", as for `kolmo.load`.
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


Loss = Callable[[DecodedTensors], float]


@dataclass(frozen=True)
class LossLimit:
    """A loss with an upper bound.

    Attributes:
        loss: the loss.
        limit: the upper bound.
        framework: of the tensors that the loss takes: "np" or "pt".
        sensitivities: whether each kind of tensors is measured alone first, so that it gets a step of its own.
        facts: what the loss reports about its last call.
    """

    loss: Loss
    limit: float
    framework: str = "np"
    sensitivities: bool = False
    facts: Callable[[], Mapping[str, Any]] = dict

    def of_file(self, path: str, threads: int) -> float:
        """The loss of a finished file.

        Raises:
            KolmoError: it exceeds the limit.
        """
        file = ShrunkFile(path)
        coded = {name for name in file.names if file.is_coded(name)}
        kinds = {name: file.kind(name) for name in file.names}
        tensors = DecodedTensors(kinds, lambda name: file.read(name, threads), coded, framework=self.framework)
        found = float(self.loss(tensors))
        if not found <= self.limit:
            raise KolmoError(
                f"the loss of the file, measured once more, is {found:.6g}, above {self.limit:g}: the measurement is "
                "not repeatable; measure on a CPU, or allow more"
            )
        return found


@dataclass(frozen=True)
class LossSearch:
    """What the search for a step found.

    Attributes:
        allowed: the loss and its limit.
        before: the loss before anything was coded.
        trials: the steps that were tried.
        factors: factors of the steps by kind of tensor, where sensitivities were measured.
    """

    allowed: LossLimit
    before: float = 0.0
    trials: tuple[Trial, ...] = ()
    factors: Mapping[str, float] | None = None

    def settle(self, path: str, threads: int) -> LossBudget:
        """Measure the finished file.

        Raises:
            KolmoError: its loss exceeds the limit.
        """
        loss = self.allowed.of_file(path, threads)
        return LossBudget(self.allowed.limit, self.before, loss, self.trials, self.factors or {}, self.allowed.facts())


def search_by_loss(coding: Coding, allowed: LossLimit) -> LossSearch:
    """Code with the coarsest step whose loss is within the limit.

    Raises:
        KolmoError: the limit is exceeded without coding, or with every step.
    """
    name, survey, limit = coding.checkpoint.name, coding.survey, allowed.limit
    measured = _Measurement(coding, allowed)
    before = measured.before()
    if not before <= limit:
        pruned = any(survey.thresholds.values())
        what, remedy = ("pruning alone", "prune less") if pruned else ("the model before coding", "check the loss")
        raise KolmoError(f"{name}: {what} has a loss of {before:.6g}, above {limit:g}; {remedy}, or allow more")
    steps = coding.steps()
    low, high = coding.bounds(steps)
    guess = math.log2(survey.scale) - GUESS_OCTAVES
    found: dict[str, float] = {}
    if allowed.sensitivities:
        found = factors(survey.counts, lambda names: measured.of_some(names, steps, 2.0**guess) - before)
        steps = steps.times(found)
        low, high = coding.bounds(steps)
    trials = search(lambda step: measured.trial(step, steps), limit, before, low, high, guess)
    best = chosen(trials, limit)
    if best is None:
        raise KolmoError(f"{name}: a loss of {limit:g} is exceeded with every step; allow more")
    if trials[-1] is not best:
        coding.with_step(best.step, steps)
    return LossSearch(allowed, before, tuple(trials), {kind_of(name): factor for name, factor in found.items()})


class _Measurement:
    """The loss where coded tensors are decoded in one way or another, and all others come from the source."""

    def __init__(self, coding: Coding, allowed: LossLimit) -> None:
        self._coding, self._allowed = coding, allowed
        self._record, self._source = coding.survey.record, coding.checkpoint
        self._is_pruned = any(coding.survey.thresholds.values())
        self._stored = {name: self._record.aliases.get(name, name) for name in self._source.tensors}
        self._last: tuple[dict[str, Hyperfunction], Trial] | None = None
        self._coded = {name for name, stored in self._stored.items() if stored in self._record.coded}

    def _loss(self, read: Callable[[str], bytes], *, exact: bool = False) -> float:
        """The loss where coded tensors are what `read` returns."""
        source = self._source.tensors

        def read_any(name: str) -> bytes:
            return read(self._stored[name]) if name in self._coded else source[name].read()

        tensors = DecodedTensors(source, read_any, self._coded, exact=exact, framework=self._allowed.framework)
        return float(self._allowed.loss(tensors))

    def _uncoded(self, name: str) -> bytes:
        """The bytes of a tensor, pruned but not coded."""
        tensor = self._source.tensors[name]
        if not self._is_pruned:
            return tensor.read()
        weights = self._coding.survey.prune(name, to_floats(tensor.read(), tensor.dtype))
        return from_floats(weights, tensor.dtype)

    def before(self) -> float:
        """The loss where nothing is coded."""
        return self._loss(self._uncoded, exact=not self._is_pruned)

    def of_some(self, names: Collection[str], steps: Steps, step: float) -> float:
        """The loss where only these tensors are coded."""

        def read(name: str) -> bytes:
            one, data = self._record.coded[name], self._uncoded(name)
            if name not in names:
                return data
            function = self._coding.function(name, steps.of(name, step))
            try:
                payload = function.encode(to_matrix(to_floats(data, one.dtype), one.columns))
            except ValueError:  # a wild weight, which makes no difference here
                return data
            return from_floats(function.decode(payload, one.matrix), one.dtype)

        return self._loss(read)

    def trial(self, step: float, steps: Steps) -> Trial:
        """Code everything with a common step, and measure; not twice in a row with the same hyperfunctions."""
        functions = self._coding.functions(step, steps)
        if self._last is not None and self._last[0] == functions:
            return replace(self._last[1], step=step)
        self._last = None
        try:
            self._coding.with_functions(functions)
        except FormatError:  # the step is so coarse that no reader would accept the file
            return Trial(step, self._coding.fixed_size, math.inf)
        found = Trial(step, self._coding.packer.size, self._loss(self._coding.packer.decoded_tensor))
        self._last = functions, found
        return found
