"""The modules of a network that hold coded tensors, and how their inputs meet these weights.

    torch.nn.Linear, Conv1D of transformers     a row of inputs at a time
    torch.nn.Conv1d, Conv2d without groups      a patch at a time, (in kh kw) numbers
    torch.nn.Embedding                          one row of the weight at a time: all columns are independent

`Held` puts coded weights in the place of the original ones for a while. What it is not: a run of the network.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kolmo.weights.sources.checkpoint import Checkpoint
from kolmo.weights.sources.dtypes import as_torch

if TYPE_CHECKING:
    import torch

Sample = Any  # a tensor, a tuple of arguments, or a dictionary of keyword arguments


@dataclass
class Bound:
    """A coded tensor and the modules that multiply by it.

    Attributes:
        name: of the tensor in the checkpoint.
        inputs: number of inputs of its matrix.
        outputs: number of outputs.
        by_input: whether the tensor has one row per input.
        layers: modules that multiply inputs by it.
        tables: embeddings that look up its rows.
    """

    name: str
    inputs: int
    outputs: int
    by_input: bool = False
    layers: list[torch.nn.Module] = field(default_factory=list)
    tables: list[torch.nn.Module] = field(default_factory=list)


def parameter_of(model: Any, held: Mapping[str, torch.Tensor], name: str, tensor: torch.Tensor) -> torch.Tensor | None:
    """The parameter of a model that holds exactly a tensor of its checkpoint; None if there is none.

    The parameter has the name of the tensor if there is one of this name, else any.

    Args:
        model: whose `base_model_prefix`, if it has one, checkpoints may leave out of names or put before them.
        held: the state dict of the model.
        name: of the tensor.
        tensor: its values.
    """
    import torch

    prefix = f"{getattr(model, 'base_model_prefix', '')}."
    for key in (name, prefix + name, name.removeprefix(prefix)):
        if key in held:
            found = held[key]
            same = found.shape == tensor.shape and torch.equal(found, tensor.to(found))
            return found if same else None
    others = (other for other in held.values() if other.shape == tensor.shape)  # transformers rename some
    return next((other for other in others if torch.equal(other, tensor.to(other))), None)


def bind(model: torch.nn.Module, checkpoint: Checkpoint, names: Iterable[str]) -> dict[str, Bound]:
    """The tensors of these names that modules of known kinds hold; all others cannot be calibrated."""
    held, users = model.state_dict(), _users(model)
    found = {}
    for name in names:
        source = checkpoint.tensors[name]
        weight = parameter_of(model, held, name, as_torch(source.read(), source.dtype, source.shape))
        if weight is None:
            continue
        modules = users.get((weight.data_ptr(), tuple(weight.shape)), [])
        known = [module for module in modules if module._parameters.get("weight") is not None]
        layers = [module for module in known if is_layer(module)]
        by_input = any(type(module).__name__ == "Conv1D" for module in layers)
        tables = [module for module in known if type(module).__name__ == "Embedding"]
        rows, columns = weight.shape[0], weight[0].numel()
        if len(layers) + len(tables) == len(modules) > 0 and not (by_input and len(modules) > 1):
            inputs, outputs = (rows, columns) if by_input else (columns, rows)
            found[name] = Bound(name, inputs, outputs, by_input, layers, tables)
    return found


def _users(model: torch.nn.Module) -> dict[tuple[int, tuple[int, ...]], list[torch.nn.Module]]:
    """The modules that have a parameter of a name other than bias, by the memory and shape of the parameter."""
    found: dict[tuple[int, tuple[int, ...]], list[torch.nn.Module]] = {}
    for module in model.modules():
        for parameter in module._parameters.values():
            if parameter is not None and parameter.dim() > 1:
                found.setdefault((parameter.data_ptr(), tuple(parameter.shape)), []).append(module)
    return found


def is_layer(module: torch.nn.Module) -> bool:
    """Whether the inputs of a module meet its weight as rows or patches."""
    import torch

    if isinstance(module, torch.nn.Conv1d | torch.nn.Conv2d):
        return module.groups == 1 and module.padding_mode == "zeros" and not isinstance(module.padding, str)
    return isinstance(module, torch.nn.Linear) or (type(module).__name__ == "Conv1D" and hasattr(module, "nf"))


class Held:
    """The weights of a network, some of which are replaced by coded ones.

    Args:
        bound: the tensors and the modules that have them.
        checkpoint: their original values.
        kept: whether the network is the caller's, so that its own memory comes back; else it is read again.
    """

    def __init__(self, bound: Mapping[str, Bound], checkpoint: Checkpoint, *, kept: bool) -> None:
        self._bound, self._checkpoint, self._kept = bound, checkpoint, kept
        self._originals: dict[str, list[torch.Tensor]] = {}
        self._replaced: list[str] = []

    def _parameters(self, name: str) -> list[torch.nn.Parameter]:
        one = self._bound[name]
        return [module._parameters["weight"] for module in one.layers + one.tables]  # type: ignore[misc]

    def _set(self, name: str, data: bytes) -> None:
        kind = self._checkpoint.tensors[name]
        value = as_torch(data, kind.dtype, kind.shape)
        for parameter in self._parameters(name):
            parameter.data = value = value.to(parameter)

    def put(self, name: str, data: bytes) -> None:
        """Replace a tensor by one with these bytes, in the dtype of the checkpoint."""
        self._originals[name] = [parameter.data for parameter in self._parameters(name)]
        self._replaced.append(name)
        self._set(name, data)

    def release(self, names: Iterable[str]) -> None:
        """Free the memory of original tensors that `originally` need not bring back any more."""
        for name in () if self._kept else names:
            self._originals.pop(name, None)

    @contextmanager
    def originally(self) -> Iterator[None]:
        """Until the block ends, tensors that were not released have their original values."""
        replaced = [
            (parameter, value)
            for name, values in self._originals.items()
            for parameter, value in zip(self._parameters(name), values, strict=True)
        ]
        coded = [parameter.data for parameter, _ in replaced]
        try:
            for parameter, value in replaced:
                parameter.data = value
            yield
        finally:
            for (parameter, _), value in zip(replaced, coded, strict=True):
                parameter.data = value

    def restore(self) -> None:
        """Give the network all its original weights."""
        while self._replaced:
            name = self._replaced.pop()
            if name not in self._originals:
                self._set(name, self._checkpoint.tensors[name].read())
                continue
            for parameter, value in zip(self._parameters(name), self._originals.pop(name), strict=True):
                parameter.data = value


def call(model: torch.nn.Module, sample: Sample) -> Any:
    """Call a network with a sample."""
    if isinstance(sample, Mapping):
        return model(**sample)
    return model(*sample) if isinstance(sample, tuple) else model(sample)


@contextmanager
def inference(model: torch.nn.Module) -> Iterator[None]:
    """No dropout, and no gradients of weights, until the block ends."""
    modes = {module: module.training for module in model.modules()}
    wanted = {parameter: parameter.requires_grad for parameter in model.parameters()}
    model.eval()
    model.requires_grad_(False)
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training
        for parameter, required in wanted.items():
            parameter.requires_grad_(required)


def rows_of(module: torch.nn.Module, given: torch.Tensor) -> torch.Tensor:
    """The inputs of a layer as rows of binary32: (samples, inputs)."""
    import torch

    values = given.detach().float()
    if isinstance(module, torch.nn.Conv1d):
        values = values.unsqueeze(-2)
        values = values if values.dim() == 4 else values.unsqueeze(0)
        kernel, dilation, stride = (1, module.kernel_size[0]), (1, module.dilation[0]), (1, module.stride[0])
        patches = torch.nn.functional.unfold(values, kernel, dilation, (0, int(module.padding[0])), stride)
    elif isinstance(module, torch.nn.Conv2d):
        values = values if values.dim() == 4 else values.unsqueeze(0)
        assert not isinstance(module.padding, str)  # as `is_layer` requires
        settings = module.kernel_size, module.dilation, module.padding, module.stride
        patches = torch.nn.functional.unfold(values, *settings)
    else:
        return values.reshape(-1, values.shape[-1])
    return patches.transpose(1, 2).reshape(-1, patches.shape[1])


def squares_of(module: torch.nn.Module, gradient: torch.Tensor) -> torch.Tensor:
    """The sums of the squares of a gradient for each output of a module, binary64."""
    import torch

    squares = gradient.detach().double().square()
    if isinstance(module, torch.nn.Conv1d | torch.nn.Conv2d):
        axis = -1 - len(module.kernel_size)
        return squares.movedim(axis, -1).reshape(-1, squares.shape[axis]).sum(0)
    return squares.reshape(-1, squares.shape[-1]).sum(0)
