"""Modules of torch that compute with small weights: the codes stay in memory, and no weight is decoded for long.

Modules whose weights are payloads of the bitshift trellis are replaced by those of `modules`; all other tensors of the
file are read as plain ones. What it is not: the modules themselves, or a reader of folders (`kolmo.transformers`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kolmo.errors import KolmoError, MissingExtraError
from kolmo.foreign import quoted
from kolmo.installing import install
from kolmo.weights.format.codes import wild_weights
from kolmo.weights.format.reader import ShrunkFile
from kolmo.weights.running.activations import INTEGERS
from kolmo.weights.running.triton_product import GPU
from kolmo.weights.sources.dtypes import as_torch

if TYPE_CHECKING:
    import torch

    from kolmo.weights.running.modules import Wild

HYPERFUNCTION = "bitshift"


@dataclass
class ResidentModules:
    """What `resident` did.

    Attributes:
        file: the file with the weights.
        names: names of the modules that were replaced.
        code_bytes: memory of their codes, those of tied modules counted once.
    """

    file: ShrunkFile
    names: list[str]
    code_bytes: int


def resident(
    module: torch.nn.Module,
    source: str | Path | ShrunkFile,
    *,
    names: Mapping[str, str] | None = None,
    activations: str = INTEGERS,
) -> ResidentModules:
    """Let a module compute with the codes of a shrunk checkpoint: memory holds the codes, not the weights.

    `Linear`, `Conv1d`, `Conv2d` (of one group), `Embedding` and transformers' `Conv1D` whose weights were coded with
    `--method bitshift` are replaced by modules that compute with the code, on the CPU or a GPU. All other tensors are
    decoded into the parameters and buffers of the module, which may be on device "meta".

    Args:
        module: any module; it is changed in place, and is then only for inference.
        source: the file that `kolmo.shrink` made from the state dict of the module.
        names: for each parameter and buffer to read, its name in the file; by default all, under their own names.
        activations: `"int8"` rounds activations to 8 bits, for exact products in integers (docs/bitshift.md); `"float"`
            decodes weights tile by tile, and rounds no activation.

    Raises:
        KolmoError: the file lacks a parameter, or has it in another shape.
        CorruptError, FormatError: as for `kolmo.load`.
        MissingExtraError: torch is not installed.
        ValueError: `activations` is unknown.
        OSError: the file cannot be read.

    Examples:
        >>> import torch
        >>> net = torch.nn.Sequential(torch.nn.Linear(128, 64), torch.nn.ReLU(), torch.nn.Linear(64, 64)).eval()
        >>> _ = kolmo.shrink(net, "net.kolmo", kolmo.Bits(3), hyperfunction="bitshift")
        >>> done = kolmo.resident(net, "net.kolmo")  # then net(x), as before
        >>> done.names, done.code_bytes  # 12,288 weights, 49,152 bytes in binary32
        (['0', '2'], 4768)
    """
    try:
        import torch  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(f"modules with small weights need torch ({error}); {install('hf')}") from None
    file = source if isinstance(source, ShrunkFile) else ShrunkFile(source)
    names = {name: name for name in module.state_dict()} if names is None else names
    replaced = replace_modules(module, file, names, activations)
    _read_others(module, file, names)
    module.requires_grad_(False)
    return replaced


def replace_modules(
    module: torch.nn.Module, file: ShrunkFile, names: Mapping[str, str], activations: str = INTEGERS
) -> ResidentModules:
    """Replace the modules within a module whose weights can stay codes.

    Args:
        module: the module; itself it is not replaced.
        file: the file with the weights.
        names: as for `resident`.
        activations: as for `resident`.
    """
    import torch

    codes: dict[str, tuple[torch.Tensor, Wild | None]] = {}
    made: dict[torch.nn.Module, torch.nn.Module] = {}
    found = []
    unreadable = {  # their weights are used without calls of the modules that have them
        child for one in module.modules() if isinstance(one, torch.nn.MultiheadAttention) for child in one.modules()
    }
    for prefix, inner in list(module.named_modules(remove_duplicate=False)):
        name = names.get(f"{prefix}.weight")
        if not prefix or name is None or inner in unreadable or not stays_code(file, name):
            continue
        if inner not in made:
            maker = _maker(inner)
            weight: Any = getattr(inner, "weight", None)
            if maker is None or tuple(weight.shape) != file.kind(name).shape:
                continue
            stored = file.record.aliases.get(name, name)
            if stored not in codes:
                codes[stored] = read_code(file, stored)
            device = weight.device
            with file.placed(stored):
                made[inner] = maker(codes[stored][0], inner, activations, codes[stored][1])
            if device.type in GPU:
                made[inner].to(device)
        parent, _, last = prefix.rpartition(".")
        module.get_submodule(parent)._modules[last] = made[inner]
        found.append(prefix)
    return ResidentModules(file, found, sum(code.numel() for code, _ in codes.values()))


def make_plain(module: torch.nn.Module) -> None:
    """Replace all modules that compute with codes by plain ones with the decoded weights: the mirror of the above."""
    import torch

    from kolmo.weights.running.modules import Resident

    weights: dict[int, torch.nn.Parameter] = {}  # tied modules have the same code
    for prefix, inner in list(module.named_modules(remove_duplicate=False)):
        if not isinstance(inner, Resident):
            continue
        key = id(inner.code)
        if key not in weights:
            weights[key] = torch.nn.Parameter(inner.weight, requires_grad=False)
        inner.plain.weight, inner.plain.bias = weights[key], inner.bias
        parent, _, last = prefix.rpartition(".")
        module.get_submodule(parent)._modules[last] = inner.plain.train(inner.training)


def stays_code(file: ShrunkFile, name: str) -> bool:
    """Whether a tensor is coded with the bitshift trellis."""
    one = file.record.coded.get(file.record.aliases.get(name, name))
    function = None if one is None else file.record.function_of(one)
    return one is not None and function is not None and function.name == HYPERFUNCTION


def read_code(file: ShrunkFile, name: str) -> tuple[torch.Tensor, Wild | None]:
    """The payload of a coded tensor, uint8 in one dimension, and its wild weights.

    The payload's own checksum is compared where it is used.

    Raises:
        CorruptError: it has other parameters than its record, or the places of wild weights are impossible.
    """
    import torch

    from kolmo.weights.running.modules import Wild

    name = file.record.aliases.get(name, name)
    one = file.record.coded[name]
    data = file.read_code(name)
    code = torch.frombuffer(bytearray(data[: len(data) - one.tail]), dtype=torch.uint8)
    with file.placed(name):
        if function := file.record.function_of(one):
            function.check(data)
        if not one.wild:
            return code, None
        places, values = wild_weights(one, data)
    return code, Wild(torch.from_numpy(places), torch.from_numpy(values).view(torch.int32))


def _maker(inner: Any) -> Any:
    """The class of the module that stands for one of exactly this type; None if there is none."""
    import torch

    from kolmo.weights.running import modules

    kind: Any = type(inner)
    if kind is torch.nn.Linear:
        return modules.ResidentLinear
    if kind is torch.nn.Embedding and inner.max_norm is None:
        return modules.ResidentEmbedding
    if kind in (torch.nn.Conv1d, torch.nn.Conv2d) and inner.groups == 1:
        return modules.ResidentConv
    if kind.__name__ == "Conv1D" and kind.__module__.startswith("transformers."):
        return modules.ResidentTransposed
    return None


def _read_others(module: torch.nn.Module, file: ShrunkFile, names: Mapping[str, str]) -> None:
    """Decode all tensors that are still parameters or buffers of the module."""
    import torch

    values: dict[str, torch.nn.Parameter] = {}
    for prefix, inner in module.named_modules():
        for holder in (inner._parameters, inner._buffers):
            for last, one in list(holder.items()):
                name = names.get(f"{prefix}.{last}".lstrip("."))
                if one is None or name is None:
                    continue
                kind = file.kind(name)
                if kind.shape != tuple(one.shape):
                    there = f"{kind.shape} in the file, but {tuple(one.shape)} in the module"
                    raise KolmoError(
                        f"{file.path}: tensor {quoted(name)} has shape {there}; take the module that the file is from"
                    )
                stored = file.record.aliases.get(name, name)
                device = "cpu" if one.is_meta else one.device
                if holder is inner._buffers or stored not in values:
                    value = as_torch(file.read(name), kind.dtype, kind.shape).to(device, one.dtype)
                    if holder is inner._buffers:
                        holder[last] = value
                        continue
                    values[stored] = torch.nn.Parameter(value, requires_grad=False)
                holder[last] = values[stored]
