"""Modules of torch that run from a shrunk checkpoint: each part is decoded when it is used, and dropped after it.

    part 1 runs          part 2 runs          part 3 runs
    part 2 is decoded    part 3 is decoded    part 1 is decoded, for the next pass

Memory holds what is not coded and about two parts; codes are read from the file, which the system caches as far as
there is room. The outputs are those of the whole module, to the bit. Which part comes next is learned from what came
next before, so that any order will do, of parts that are used twice too. What it is not: it trains nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from threading import Lock, RLock
from typing import TYPE_CHECKING, Any, NoReturn

from kolmo.errors import KolmoError, MissingExtraError
from kolmo.foreign import quoted
from kolmo.installing import install
from kolmo.parallel import available_cores
from kolmo.weights.format.packing import ShrunkFile
from kolmo.weights.sources.dtypes import as_torch

if TYPE_CHECKING:
    import torch

    Holder = tuple[torch.nn.Module, str]

PASSING = ("_lock", "_pool", "_ahead", "_filled", "_follows", "_last")  # of a stream, not of its copies


@dataclass
class Weight:
    """A parameter to be read from the file.

    Attributes:
        name: in the file.
        empty: stands for it, with its shape and dtype, on device "meta".
        device: that it is decoded to.
        holders: modules that have it, each with its name there.
    """

    name: str
    empty: torch.nn.Parameter
    device: Any
    holders: Sequence[Holder]

    def put(self, parameter: torch.nn.Parameter) -> None:
        """Give it to all that hold it."""
        for module, name in self.holders:
            module._parameters[name] = parameter

    def withdraw(self) -> None:
        """Take it from them, and note what dtype and device it was given meanwhile, as by `module.half()`."""
        module, name = self.holders[0]
        now = module._parameters[name]
        if now is not None and not now.is_meta:
            self.device = now.device
            if now.dtype != self.empty.dtype:
                self.empty.data = self.empty.data.to(now.dtype)
        self.put(self.empty)


@dataclass(eq=False)
class Part:
    """A module that is decoded as a whole while calls of it run.

    Attributes:
        module: itself.
        weights: that it, or modules within it, have.
        users: calls that run.
        filled: whether its weights are there.
        lock: for these two.
    """

    module: torch.nn.Module
    weights: list[Weight] = field(default_factory=list)
    users: int = 0
    filled: bool = False
    lock: Any = field(default_factory=RLock)

    def __getstate__(self) -> dict[str, Any]:
        """For copies and pickles, which begin with no call and nothing decoded."""
        return {**self.__dict__, "lock": None, "users": 0, "filled": False}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """The mirror of `__getstate__`."""
        self.__dict__.update(state, lock=RLock())

    @property
    def size(self) -> int:
        """Bytes of its weights, decoded."""
        return sum(weight.empty.numel() * weight.empty.element_size() for weight in self.weights)


def stream(
    module: torch.nn.Module,
    source: str | Path | ShrunkFile,
    *,
    parts: Iterable[torch.nn.Module] | None = None,
    resident: Iterable[torch.nn.Module] = (),
    names: Mapping[str, str] | None = None,
    device: Any = None,
    threads: int = 0,
) -> Stream:
    """Let a module run from a shrunk checkpoint; its parameters may be on device "meta" before, and mostly are after.

    Weights come in the dtype and on the device of the parameters that they are for. What is not coded, and coded
    weights that belong to no part, are read at once and stay.

    Args:
        module: any; it is changed in place.
        source: what `kolmo.shrink` made of the module's state dict.
        parts: modules within it that are decoded one by one, whose weights are used through their `forward` alone. By
            default the members of its outermost lists and sequences, and the children beside these.
        resident: modules whose own parameters stay decoded.
        names: of the parameters and buffers to read, in the file; by default all, under their own names.
        device: for parameters on "meta"; by default the CPU.
        threads: that decode a part; 0 is one for each core.

    Returns:
        What does it, with numbers; also `module.kolmo_stream`.

    Raises:
        KolmoError: the file lacks a parameter, or has it in another shape.
        CorruptError, FormatError: as `kolmo.load`.
        MissingExtraError: torch is not installed.
        OSError: the file cannot be read.

    Examples:
        >>> import torch
        >>> network = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.Linear(64, 64))
        >>> report = kolmo.shrink(network, "small.safetensors")
        >>> streamed = kolmo.stream(network, "small.safetensors")
        >>> network(torch.zeros(1, 64)).shape
        torch.Size([1, 64])
    """
    try:
        import torch  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(f"streaming needs torch ({error}); {install('hf')}") from None
    file = source if isinstance(source, ShrunkFile) else ShrunkFile(source)
    found = Stream(file, threads, device or "cpu")
    found._take(module, list(default_parts(module) if parts is None else parts), set(resident), names)
    return found


def default_parts(module: torch.nn.Module) -> list[torch.nn.Module]:
    """The members of the outermost lists and sequences, and the children beside these."""
    import torch

    lists = (torch.nn.ModuleList, torch.nn.Sequential, torch.nn.ModuleDict)

    def divide(one: torch.nn.Module, within: bool) -> Iterator[torch.nn.Module]:
        is_list = isinstance(one, lists)
        if one is module or is_list or (not within and any(isinstance(inner, lists) for inner in one.modules())):
            for child in one.children():
                yield from divide(child, within or is_list)
        else:
            yield one

    return list(dict.fromkeys(divide(module, False)))


class Stream:
    """The parts of a module, filled and emptied as they are used; made by `stream`. Calls may run side by side.

    Attributes:
        file: where the weights are.
        parts: that are decoded one by one.
        most: bytes of decoded parts that were in memory at once, at most.
        decoded: how often a part was decoded because it was called; `foreseen`: because it was expected, and rightly.
    """

    def __init__(self, file: ShrunkFile, threads: int, device: Any) -> None:
        self.file = file
        self.parts: list[Part] = []
        self.most = self.decoded = self.foreseen = 0
        self._threads, self._device = threads or available_cores(), device
        self._begin()

    def __getstate__(self) -> dict[str, Any]:
        """For copies and pickles, which read the same file: what is decoded does not go with them."""
        return {name: value for name, value in self.__dict__.items() if name not in PASSING}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """The mirror of `__getstate__`."""
        self.__dict__.update(state)
        self._begin()

    def _begin(self) -> None:
        """What a copy has of its own: `PASSING`."""
        self._lock = Lock()  # for all below, and the numbers above
        self._pool = ThreadPoolExecutor(1, "kolmo-stream")
        self._ahead: dict[Part, Future[list[torch.nn.Parameter]]] = {}
        self._filled: set[Part] = set()
        self._follows: dict[tuple[Part | None, Part | None], Part] = {}
        self._last: tuple[Part | None, Part | None] = None, None

    def _take(
        self,
        module: torch.nn.Module,
        parts: list[torch.nn.Module],
        resident: set[torch.nn.Module],
        names: Mapping[str, str] | None,
    ) -> None:
        """Read what stays, and empty the parts."""
        names = {name: name for name in module.state_dict()} if names is None else names
        self.parts = [Part(one) for one in parts]
        owners = {inner: part for part in reversed(self.parts) for inner in part.module.modules()}
        stay: list[Weight] = []
        for weight in self._weights(module, names):
            streamed = self.file.is_coded(weight.name) and all(
                holder in owners and holder not in resident for holder, _ in weight.holders
            )
            if not streamed:
                stay.append(weight)
                continue
            weight.put(weight.empty)
            for part in dict.fromkeys(owners[holder] for holder, _ in weight.holders):
                own = [(holder, name) for holder, name in weight.holders if owners[holder] is part]
                part.weights.append(Weight(weight.name, weight.empty, weight.device, own))
        for weight, parameter in zip(stay, self._decode(stay), strict=True):
            weight.put(parameter)
        self._read_buffers(module, names)
        module.requires_grad_(False)
        self.parts = [part for part in self.parts if part.weights]
        for part in self.parts:
            part.module.register_forward_pre_hook(Entering(self, part), prepend=True, with_kwargs=True)
            part.module.register_forward_hook(Leaving(self, part), always_call=True)
        module.register_state_dict_pre_hook(_refuse_state_dict)
        module.kolmo_stream = self  # type: ignore[assignment]

    def _weights(self, module: torch.nn.Module, names: Mapping[str, str]) -> list[Weight]:
        """The parameters to read, each once with all that hold it."""
        import torch

        groups: dict[torch.nn.Parameter, list[tuple[str, Holder]]] = {}
        for prefix, inner in module.named_modules():
            for name, parameter in inner._parameters.items():
                if parameter is not None:
                    groups.setdefault(parameter, []).append((f"{prefix}.{name}".lstrip("."), (inner, name)))
        found = []
        for parameter, holders in groups.items():
            wanted = [names[name] for name, _ in holders if name in names]
            if not wanted:
                continue
            name = next((name for name in wanted if name in self.file), wanted[0])
            if (shape := self.file.kind(name).shape) != tuple(parameter.shape):
                there = f"{shape} in the file, {tuple(parameter.shape)} in the module"
                raise KolmoError(
                    f"{self.file.path}: tensor {quoted(name)} is {there}; take the module that it was made of"
                )
            empty = torch.nn.Parameter(torch.empty_like(parameter, device="meta"), requires_grad=False)
            device = self._device if parameter.is_meta else parameter.device
            found.append(Weight(name, empty, device, [holder for _, holder in holders]))
        return found

    def _read_buffers(self, module: torch.nn.Module, names: Mapping[str, str]) -> None:
        for name, buffer in module.named_buffers():
            if name in names:
                prefix, _, last = name.rpartition(".")
                kind = self.file.kind(names[name])
                device = self._device if buffer.is_meta else buffer.device
                value = as_torch(self.file.read(names[name]), kind.dtype, kind.shape)
                module.get_submodule(prefix)._buffers[last] = value.to(device, buffer.dtype)
            elif buffer.is_meta:
                raise KolmoError(
                    f"{self.file.path}: has no buffer {quoted(name)}; make the module on a device, not on meta"
                )

    def _decode(self, weights: Sequence[Weight]) -> list[torch.nn.Parameter]:
        """One after another, by all threads each: what decoding needs beside is that of one tensor."""
        import torch

        found = []
        for weight in weights:
            kind = self.file.kind(weight.name)
            value = as_torch(self.file.read(weight.name, self._threads), kind.dtype, kind.shape)
            found.append(torch.nn.Parameter(value.to(weight.device, weight.empty.dtype), requires_grad=False))
        return found

    def enter(self, part: Part, given: Iterable[Any]) -> None:
        """A call of a part begins, with these arguments.

        Raises:
            KolmoError: one of them requires gradients.
        """
        import torch

        if torch.is_grad_enabled() and any(getattr(value, "requires_grad", False) for value in given):
            raise KolmoError(
                f"{self.file.path}: streamed weights are for inference alone, and these inputs require gradients; "
                "use torch.no_grad(), or load the model whole"
            )
        with part.lock:
            part.users += 1
            if not part.filled:
                self._fill(part)
        self._look_ahead(part)

    def leave(self, part: Part) -> None:
        """A call of a part is over."""
        with part.lock:
            part.users = max(part.users - 1, 0)  # it was not entered if an input was refused
            if not part.users and self._follows.get(self._last) is not part:
                self._empty(part)

    def _fill(self, part: Part) -> None:
        with self._lock:
            future = self._ahead.pop(part, None)
            self.decoded += future is None
            self.foreseen += future is not None
        values = self._decode(part.weights) if future is None else future.result()
        for weight, value in zip(part.weights, values, strict=True):
            if value.dtype != weight.empty.dtype:  # the module was cast since
                value.data = value.data.to(weight.empty.dtype)
            weight.put(value)
        part.filled = True
        with self._lock:
            self._filled.add(part)
            self._count()

    def _empty(self, part: Part) -> None:
        if part.filled:
            for weight in part.weights:
                weight.withdraw()
            part.filled = False
            with self._lock:
                self._filled.discard(part)

    def _look_ahead(self, part: Part) -> None:
        """Note what came, drop what was expected wrongly, and decode what came next the last time."""
        with self._lock:
            self._follows[self._last] = part
            self._last = self._last[1], part
            expected = self._follows.get(self._last)
            for other in [other for other in self._ahead if other is not expected]:
                self._ahead.pop(other).cancel()
            if expected is not None and expected not in self._filled and expected not in self._ahead:
                self._ahead[expected] = self._pool.submit(self._decode, expected.weights)
                self._count()
            idle = [other for other in self._filled if other is not part and not other.users]
        for other in idle:  # it was expected once more, and is not
            with other.lock:
                if not other.users and other is not expected:
                    self._empty(other)

    def _count(self) -> None:
        self.most = max(self.most, sum(part.size for part in {*self._filled, *self._ahead}))


@dataclass(eq=False)
class Entering:
    """The hook before a part's forward; a class, as modules are copied and pickled with their hooks."""

    stream: Stream
    part: Part

    def __call__(self, module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """As torch calls it."""
        self.stream.enter(self.part, chain(args, kwargs.values()))


@dataclass(eq=False)
class Leaving:
    """The hook after it."""

    stream: Stream
    part: Part

    def __call__(self, *_: object) -> None:
        """As torch calls it."""
        self.stream.leave(self.part)


def _refuse_state_dict(module: torch.nn.Module, *_: object) -> NoReturn:
    where = module.kolmo_stream.file.path  # type: ignore[union-attr]
    raise KolmoError(f"{where}: a streamed module has no state dict, as its weights are not in memory; use kolmo.load")
