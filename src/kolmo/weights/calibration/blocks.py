"""The blocks of a network, one after the other: all samples pass one block before any of them enters the next.

    blocks = find(model, bound, samples[0])
    walk = Walk(model, blocks, samples)
    walk.run(0, 0); walk.run(0, 1); ...        block 0 on all samples
    walk.run(1, 0); ...                        block 1, on what block 0 returned

The network itself is called each time. Its earlier blocks return what they returned before, and the call ends when the
block has run, so that masks, positions and whatever else lies between blocks are the network's own. What it is not: an
order of modules that someone wrote down; the first sample shows whether blocks get the same inputs as in a whole run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from kolmo.weights.calibration.network import Bound, Sample, call
from kolmo.weights.running.parts import default_parts

if TYPE_CHECKING:
    import torch


class _PassedError(BaseException):
    """The block has run. Not an `Exception`, which a network might catch."""


@dataclass(frozen=True)
class Blocks:
    """The blocks of a network.

    Attributes:
        modules: the blocks that have layers, in the order of their calls; the network itself if it has none.
        names: for each block, the tensors that are multiplied in it and nowhere else, in the order of `bound`.
        first: all other tensors: looked-up ones, those of several blocks, and all of a network without blocks.
        keeps_all: whether a block needs more than what the block before it returned.
    """

    modules: tuple[torch.nn.Module, ...]
    names: tuple[tuple[str, ...], ...]
    first: tuple[str, ...]
    keeps_all: bool = False

    @classmethod
    def whole(cls, model: torch.nn.Module, bound: Mapping[str, Bound]) -> Blocks:
        """One block, which is measured as it is."""
        return cls((model,), ((),), tuple(bound))

    def within(self, block: int, bound: Mapping[str, Bound]) -> dict[str, Bound]:
        """The tensors of layers that are in a block, with these layers alone."""
        inside = set(self.modules[block].modules())
        found = {}
        for name, one in bound.items():
            if layers := [module for module in one.layers if module in inside]:
                found[name] = replace(one, layers=layers, tables=[])
        return found


def find(model: torch.nn.Module, bound: Mapping[str, Bound], sample: Sample) -> Blocks:
    """The blocks of a network: the members of its outermost lists and sequences, and the modules beside these.

    The whole network is one block if a layer is outside of all blocks, if a block is not called exactly once, or if a
    block gets other inputs than in a whole run.
    """
    layers = {module for one in bound.values() for module in one.layers}
    parts = [part for part in default_parts(model) if not layers.isdisjoint(part.modules())]
    homes = Counter(module for part in parts for module in part.modules() if module in layers)
    if len(parts) < 2 or set(homes.values()) != {1} or homes.keys() != layers:
        return Blocks.whole(model, bound)
    calls = _calls_of(model, parts, sample)
    order = [part for part, _ in calls]
    if len(order) != len(parts) or set(order) != set(parts):
        return Blocks.whole(model, bound)
    home = {module: k for k, part in enumerate(order) for module in part.modules()}
    names: list[list[str]] = [[] for _ in order]
    first: list[str] = []
    for name, one in bound.items():
        places = {home[module] for module in one.layers}
        (first if one.tables or len(places) != 1 else names[places.pop()]).append(name)
    for keeps_all in (False, True):
        found = Blocks(tuple(order), tuple(map(tuple, names)), tuple(first), keeps_all)
        if _is_right(model, found, sample, [given for _, given in calls]):
            return found
    return Blocks.whole(model, bound)


def _calls_of(model: torch.nn.Module, parts: Sequence[torch.nn.Module], sample: Sample) -> list[tuple[Any, Any]]:
    """The calls of these modules in a whole run, with copies of their inputs."""
    import torch

    found = []

    def hook(module: torch.nn.Module, given: Any, named: Any) -> None:
        found.append((module, _copied((given, named))))

    hooks = [part.register_forward_pre_hook(hook, with_kwargs=True) for part in parts]
    try:
        with torch.no_grad():
            call(model, sample)
    finally:
        for one in hooks:
            one.remove()
    return found


def _is_right(model: torch.nn.Module, blocks: Blocks, sample: Sample, wanted: Sequence[Any]) -> bool:
    """Whether each block gets, bit by bit, the inputs that it has in a whole run."""
    import torch
    from torch.utils._pytree import tree_leaves

    walk, same = Walk(model, blocks, [sample]), []

    def hook(expected: Any, _: torch.nn.Module, given: Any, named: Any) -> None:
        pairs = zip(tree_leaves(expected), tree_leaves((given, named)), strict=True)
        same.append(all(torch.equal(a, b) for a, b in pairs if isinstance(a, torch.Tensor)))

    for k, (module, expected) in enumerate(zip(blocks.modules, wanted, strict=True)):
        handle = module.register_forward_pre_hook(partial(hook, expected), with_kwargs=True)
        try:
            walk.run(k, 0)
        except Exception:  # what lies between blocks may fail on anything but its own values
            return False
        finally:
            handle.remove()
        if same != [True] * (k + 1):
            return False
    return True


class Walk:
    """Samples on their way through a network, all behind the same block.

    Args:
        model: the network.
        blocks: its blocks.
        samples: what it is called with.
    """

    def __init__(self, model: torch.nn.Module, blocks: Blocks, samples: Sequence[Sample]) -> None:
        self._model, self._blocks, self._samples = model, blocks, samples
        self._returned: list[dict[int, Any]] = [{} for _ in samples]

    def run(self, block: int, number: int, *, until: torch.nn.Module | None = None, stays: bool = False) -> None:
        """Run a block on a sample that has passed all blocks before it.

        Args:
            block: which one.
            number: of the sample.
            until: a layer in the block whose call ends the run.
            stays: the sample stays before the block.
        """
        import torch

        modules, returned = self._blocks.modules, self._returned[number]
        found: list[Any] = []

        def behind(k: int, own: Any, *given: Any, **named: Any) -> Any:
            place = k if self._blocks.keeps_all else 0
            if place not in returned:  # this sample did not reach it when it was its turn
                return own(*given, **named)
            return _copied(returned[place])  # it may be changed in place

        def here(own: Any, *given: Any, **named: Any) -> Any:
            found.append(own(*given, **named))
            raise _PassedError

        def end(*_: Any) -> None:
            raise _PassedError

        handle = until.register_forward_pre_hook(end) if until is not None else None
        forwards = {modules[k]: partial(behind, k, modules[k].forward) for k in range(block)}
        forwards[modules[block]] = partial(here, modules[block].forward)
        try:
            with torch.no_grad(), _replaced(forwards), suppress(_PassedError):
                call(self._model, self._samples[number])
        finally:
            if handle is not None:
                handle.remove()
        if found and not stays:
            returned[block if self._blocks.keeps_all else 0] = found[0]


@contextmanager
def _replaced(forwards: Mapping[torch.nn.Module, Any]) -> Iterator[None]:
    """Other forward functions of modules, until the block ends."""
    own = {module: vars(module).get("forward") for module in forwards}
    try:
        for module, forward in forwards.items():
            vars(module)["forward"] = forward
        yield
    finally:
        for module, forward in own.items():
            if forward is None:
                vars(module).pop("forward", None)
            else:
                vars(module)["forward"] = forward


def _copied(value: Any) -> Any:
    """A nest of tuples, lists and dictionaries with copies of its tensors."""
    import torch
    from torch.utils._pytree import tree_map

    return tree_map(lambda leaf: leaf.clone() if isinstance(leaf, torch.Tensor) else leaf, value)
