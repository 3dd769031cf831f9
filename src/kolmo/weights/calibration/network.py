"""The modules of a network that hold coded tensors, and how their inputs meet these weights.

    torch.nn.Linear, Conv1D of transformers     a row of inputs at a time
    torch.nn.Conv1d, Conv2d without groups      a patch at a time, (in kh kw) numbers
    torch.nn.Embedding                          one row of the weight at a time: all columns are independent

What it is not: a change of the network. Hooks are set for one pass and removed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kolmo.weights.sources.checkpoint import Checkpoint
from kolmo.weights.sources.dtypes import as_torch

if TYPE_CHECKING:
    import torch


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
        layers = [module for module in modules if is_layer(module)]
        by_input = any(type(module).__name__ == "Conv1D" for module in layers)
        tables = [module for module in modules if type(module).__name__ == "Embedding"]
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
