"""The parts of a streamed module, which are decoded one by one, and the parameters in them.

What it is not: the code that decodes them (`streamed`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from threading import RLock
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from kolmo.weights.running.packed import PackedTensor

    Holder = tuple[torch.nn.Module, str]


@dataclass
class StreamedParameter:
    """A parameter that is read from the file.

    Attributes:
        name: its name in the file.
        empty: a placeholder with its shape and dtype (`packed.Placeholder`).
        device: the device that it is decoded to.
        holders: the modules that have it, each with its name there.
        packed: its weights in memory; None if they are decoded from the file.
    """

    name: str
    empty: torch.nn.Parameter
    device: Any
    holders: Sequence[Holder]
    packed: PackedTensor | None = None

    def put(self, parameter: torch.nn.Parameter) -> None:
        """Set the parameter in all modules that have it."""
        for module, name in self.holders:
            module._parameters[name] = parameter

    def withdraw(self) -> None:
        """Replace it by the placeholder, and take over a dtype or a device that it was given, as by `module.half()`."""
        module, name = self.holders[0]
        now = module._parameters[name]
        if now is not None and not now.is_meta:
            self.device = now.device
            if now.dtype != self.empty.dtype:
                self.empty.data = self.empty.data.to(now.dtype)
        self.put(self.empty)


@dataclass(eq=False)
class Part:
    """A module whose parameters are decoded together while calls of it run.

    Attributes:
        module: the module.
        weights: the parameters of it and of the modules within it.
        users: number of calls that run.
        filled: whether the parameters are decoded.
        stays: whether they stay decoded after the first call.
        lock: guards `users` and `filled`.
    """

    module: torch.nn.Module
    weights: list[StreamedParameter] = field(default_factory=list)
    users: int = 0
    filled: bool = False
    stays: bool = False
    lock: Any = field(default_factory=RLock)

    def __getstate__(self) -> dict[str, Any]:
        """The state for copies and pickles, which begin without calls and with nothing decoded."""
        return {**self.__dict__, "lock": None, "users": 0, "filled": False}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """The mirror of `__getstate__`."""
        self.__dict__.update(state, lock=RLock())

    @property
    def packed(self) -> bool:
        """Whether all of its parameters are packed."""
        return all(weight.packed is not None for weight in self.weights)

    @property
    def size(self) -> int:
        """Bytes of its parameters, decoded."""
        return sum(weight.empty.numel() * weight.empty.element_size() for weight in self.weights)


def default_parts(module: torch.nn.Module) -> list[torch.nn.Module]:
    """The members of the outermost lists and sequences, and the children beside these.

    A module without a `forward`, like `ParameterList`, is not a part, because nothing tells when it is used.
    """
    import torch

    lists = (torch.nn.ModuleList, torch.nn.Sequential, torch.nn.ModuleDict)

    def divide(one: torch.nn.Module, within: bool) -> Iterator[torch.nn.Module]:
        is_list = isinstance(one, lists) or type(one).forward is torch.nn.Module.forward
        if one is module or is_list or (not within and any(isinstance(inner, lists) for inner in one.modules())):
            for child in one.children():
                yield from divide(child, within or is_list)
        else:
            yield one

    return list(dict.fromkeys(divide(module, False)))
