"""Any loss of decoded tensors, and the coarsest step whose loss stays within a limit."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from kolmo.errors import FormatError, KolmoError
from kolmo.weights.choice.budget import Trial, chosen, search
from kolmo.weights.choice.sensitivity import factors, kind_of
from kolmo.weights.choice.steps import by_scales
from kolmo.weights.format.groups import to_matrix
from kolmo.weights.format.reader import ShrunkFile
from kolmo.weights.format.writer import Packer
from kolmo.weights.sources.dtypes import as_numpy, as_torch, from_floats, to_floats
from kolmo.weights.sources.safetensors import Kind

if TYPE_CHECKING:
    from kolmo.hyperfunctions.base import Hyperfunction
    from kolmo.weights.choice.steps import Steps
    from kolmo.weights.choice.survey import Survey
    from kolmo.weights.sources.checkpoint import Checkpoint


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
