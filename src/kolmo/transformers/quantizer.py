"""The quantization method `kolmo` of transformers: folders opened, models shrunk in memory, and both saved again.

An opened model is the one that the expanded folder gives, with plain tensors, except that weights of the bitshift
trellis stay codes (`weights.running.resident`). It refers to the file that it came from: `save_pretrained` writes the
codes of that file again, because coding anew would lose anew, and refuses a model whose weights have changed. What it
is not: a reader of tensors (`view`), or the code that streams them (`weights.running.streamed`).
"""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from collections.abc import Iterable
from contextlib import suppress
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers.core_model_loading import (
    WeightConverter,
    WeightRenaming,
    rename_source_key,
    revert_weight_conversion,
)
from transformers.quantizers.base import HfQuantizer

from kolmo.errors import KolmoError
from kolmo.parallel import available_cores
from kolmo.safetensors import read_span
from kolmo.transformers.configuration import KolmoConfig
from kolmo.transformers.view import ShrunkPath
from kolmo.weights.format.reader import ShrunkFile
from kolmo.weights.format.record import KEY
from kolmo.weights.running import resident, streamed
from kolmo.weights.shrink import shrink
from kolmo.weights.sources.dtypes import as_torch, from_torch
from kolmo.weights.sources.folder import WEIGHTS

if TYPE_CHECKING:
    import torch


WILD = "wild_places", "wild_values", "wild_differences"  # buffers of modules that compute with codes
PARAMETRISED = ".parametrizations."  # in names of what torch.nn.utils.parametrize computes a weight from
DEQUANTIZE = "model.dequantize() makes it a plain model, to be saved and shrunk"


class KolmoQuantizer(HfQuantizer):
    """The hooks that transformers call while they open and save a model.

    Attributes:
        path: path of the shrunk file that the model came from; None before it is known, or if there is none.
        given: the state dict that `save_pretrained` was given, while it runs.
    """

    quantization_config: KolmoConfig

    def __init__(self, quantization_config: KolmoConfig, **kwargs: Any) -> None:
        super().__init__(quantization_config, **kwargs)
        self.path: ShrunkPath | None = None
        self.given: dict[str, Any] | None = None
        self._device_map: dict[str, Any] = {}
        self._names: dict[str, frozenset[str]] = {}  # for tensors of the file, their names in the model, tied ones too
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._conversions: Any = None
        self._kept: dict[
            str, str
        ] = {}  # modules that compute with codes: name of the module, of its tensor in the file
        self._is_own = False  # whether the file was made here, from a model in memory

    def __getstate__(self) -> dict[str, Any]:
        """The state for copies and pickles; it holds the bytes of a file that was made here, and so will be removed."""
        own = Path(self.path).read_bytes() if self._is_own and self.path else None
        return {**self.__dict__, "path": None if own else self.path, "own": own}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """The mirror of `__getstate__`."""
        own = state.pop("own")
        self.__dict__.update(state)
        if own is not None:
            path = self._own_path()
            Path(path).write_bytes(own)
            self.path = ShrunkPath(path)

    @property
    def streams(self) -> bool:
        """Whether layers are decoded when they are used."""
        return self.quantization_config.streamed

    def update_attn_implementation(self, config: Any) -> Any:
        """Set the name of the weights, before transformers look for them."""
        return self._with_name(super().update_attn_implementation(config))

    def update_tp_plan(self, config: Any) -> Any:
        """The same, for versions of transformers that call this one earlier."""
        above: Any = getattr(super(), "update_tp_plan", lambda config: config)
        return self._with_name(above(config))

    def _with_name(self, config: Any) -> Any:
        if self.pre_quantized:
            config.transformers_weights = WEIGHTS
        return config

    def _process_model_before_weight_loading(
        self, model: Any, checkpoint_files: list[str] | None = None, **_: Any
    ) -> Any:
        if not self.pre_quantized and self.streams:
            raise KolmoError(
                f"{type(model).__name__}: is not shrunk, so it cannot be streamed; shrink its folder with kolmo shrink"
            )
        if hasattr(model.config, "transformers_weights"):
            # Else a saved config.json would name the file to transformers without kolmo.
            del model.config.transformers_weights
        if self.pre_quantized and checkpoint_files:
            if len(checkpoint_files) > 1:
                raise KolmoError(
                    f"{checkpoint_files[0]}: is one of several files, but the weights of a shrunk folder are one file"
                )
            self.path = ShrunkPath(checkpoint_files[0])
            self.path.stood_for = self._stood_for(self.path.file)
            checkpoint_files[0] = self.path  # in the list that transformers read the weights from
            self._shapes = {name: tuple(one.shape) for name, one in model.named_parameters()}
        return model

    def _stood_for(self, file: ShrunkFile) -> frozenset[str]:
        """The names of tensors that are not decoded when they are read."""
        if self.streams:
            return frozenset(filter(file.is_coded, file.names))
        keeps = self.quantization_config.resident
        return frozenset(name for name in file.names if keeps and resident.stays_code(file, name))

    def update_weight_conversions(self, weight_conversions: list[Any], model: Any) -> Any:
        """The conversions, unchanged.

        Raises:
            KolmoError: the model is to be streamed, and transformers merge several of its tensors into one; or it is
                to be streamed to several devices.
        """
        if self.path is not None:
            self._names, merged = _targets(weight_conversions, model, self.path.file.names)
            merged &= self.path.stood_for
            if merged and self.streams:
                raise KolmoError(
                    f"{type(model).__name__} merges tensors when it is opened, and cannot be streamed from them; "
                    "before shrinking, save the model with save_pretrained(FOLDER, save_original_format=False)"
                )
            # torch computes a parametrised weight when it is looked at, also while it is being read.
            is_computed = {name for name, there in self._names.items() if any(PARAMETRISED in one for one in there)}
            self.path.stood_for -= merged | is_computed
            self._decode_offloaded()
        return super().update_weight_conversions(weight_conversions, model)

    def validate_environment(self, *_: Any, device_map: Any = None, **__: Any) -> None:
        """Take the device map: called before the model is made, and again when transformers have inferred a map.

        Raises:
            KolmoError: a model would be streamed to several devices.
        """
        self._device_map = device_map if isinstance(device_map, dict) else {}
        self._decode_offloaded()

    def _decode_offloaded(self) -> None:
        """Let nothing stand for tensors that accelerate handles itself where there are several devices.

        It stores what was read of those that it offloads: to the disk, and to the CPU beside a GPU. And it knows tied
        ones by their addresses, which all empty tensors share.
        """
        devices = {module: str(device) for module, device in self._device_map.items()}
        several = {*devices.values()}
        if self.path is None or (len(several) < 2 and "disk" not in several):
            return
        if self.streams:
            raise _several_devices(self.path)
        offloading = {"disk"} if several <= {"cpu", "disk"} else {"disk", "cpu"}
        self.path.stood_for -= {
            name
            for name, there in self._names.items()
            if len(there) > 1 or any(_device_of(one, devices) in offloading for one in there)
        }

    def param_needs_quantization(self, model: Any, param_name: str, **_: Any) -> bool:
        """Whether the shape of a parameter may differ from that in the model, as the shape of a stand-in does."""
        return self.path is not None and bool(self.path.stood_for)

    def _process_model_after_weight_loading(self, model: Any, **_: Any) -> Any:
        if not self.pre_quantized:
            self._make(model)
        elif self.path is not None:
            if not self.path.opened:
                raise KolmoError(f"{self.path}: transformers bypassed kolmo when they read it; leave out disable_mmap")
            if self.path.stood_for:
                names, devices = self._restore_shapes(model, self.path)
                if self.streams:
                    self._stream(model, self.path, names, devices)
                else:
                    self._keep(model, self.path.file, names, devices)
        self._conversions, model._weight_conversions = getattr(model, "_weight_conversions", None), []
        return model

    def _make(self, model: Any) -> None:
        """Shrink a model in memory: its weights become the decoded ones, and the file is kept for `save_pretrained`."""
        self._is_own, path = True, self._own_path()
        state = model.state_dict()
        given = self.quantization_config
        shrink(state, path, given.goal, hyperfunction=given.options, selection=given.selection)
        self.path = ShrunkPath(path)
        file = self.path.file
        kept = self._stood_for(file)
        for name, data in file.read_all(name for name in file.names if file.is_coded(name) and name not in kept):
            kind = file.kind(name)
            state[name].copy_(as_torch(data, kind.dtype, kind.shape))
        if kept:
            devices = {name: value.device for name, value in model.named_parameters(remove_duplicate=False)}
            self._keep(model, file, {name: name for name in kept}, devices)

    def _own_path(self) -> str:
        """The path of a file in a folder that is removed with this object."""
        folder = tempfile.mkdtemp(prefix="kolmo-")
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        return os.path.join(folder, WEIGHTS)

    def _restore_shapes(self, model: Any, path: ShrunkPath) -> tuple[dict[str, str], dict[str, Any]]:
        """Turn stand-ins into parameters of the right shape on device "meta", and read biases again.

        transformers cut the bias of a tied head to the rows of its weight, of which a stand-in has none.

        Returns:
            For the name of each of them, tied ones included, the tensor in the file; and the device that it is for.
        """
        import torch

        names: dict[str, str] = {}
        devices: dict[str, Any] = {}
        stored = {one: name for name, there in self._names.items() for one in there}
        shaped: dict[torch.nn.Parameter, torch.nn.Parameter] = {}
        for name, parameter in model.named_parameters(remove_duplicate=False):
            shape, wanted = tuple(parameter.shape), self._shapes.get(name)
            if original := path.stand_in(parameter):
                names[name], devices[name] = original, parameter.device
                shape = path.file.kind(original).shape
                if parameter not in shaped:
                    empty = torch.empty(shape, dtype=parameter.dtype, device="meta")
                    shaped[parameter] = torch.nn.Parameter(empty, False)
            elif wanted is not None and shape == (0,) != wanted:
                value = torch.zeros(wanted)  # as of a new head, if the file has none
                if name in stored:
                    kind = path.file.kind(stored[name])
                    value = as_torch(path.file.read(stored[name]), kind.dtype, kind.shape)
                parameter.data, shape = value.to(parameter.device, parameter.dtype), tuple(value.shape)
            if wanted not in (None, shape):
                raise KolmoError(f"{path}: {name} has shape {shape} in it, but {wanted} by config.json; get both again")
        for module in model.modules():
            for name, parameter in module._parameters.items():
                module._parameters[name] = shaped.get(parameter, parameter)
        return names, devices

    def _stream(self, model: Any, path: ShrunkPath, names: dict[str, str], devices: dict[str, Any]) -> None:
        """Let the parts of a model be decoded when they are used."""
        if len(set(devices.values())) > 1:
            raise _several_devices(path)
        from kolmo.weights.running.packed import looks_up  # what it takes is not asked to stay: it stays in any case

        first = next(iter(model.parameters()))  # transformers take its device for that of the model
        holders = [one for one in model.modules() if any(value is first for value in one._parameters.values())]
        stay = [] if any(map(looks_up, holders)) else holders
        with suppress(NotImplementedError):  # of models without one, or with several
            if not looks_up(embedding := model.get_input_embeddings()):
                stay.append(embedding)
        device = next(iter(devices.values()), None)
        cache = self.quantization_config.cache
        streamed.stream(model, path.file, names=names, resident=stay, device=device, cache=cache)

    def _keep(self, model: Any, file: ShrunkFile, names: dict[str, str], devices: dict[str, Any]) -> None:
        """Let modules compute with codes; decode what no such module has, and what is not for the CPU."""
        import torch

        here = {name: original for name, original in names.items() if devices[name].type == "cpu"}
        done = resident.replace_modules(model, file, here, self.quantization_config.activations)
        self._kept = {name: names[f"{name}.weight"] for name in done.names}
        decoded: dict[str, torch.nn.Parameter] = {}
        for name, parameter in list(model.named_parameters(remove_duplicate=False)):
            if name not in names:
                continue
            original = file.record.aliases.get(names[name], names[name])
            if original not in decoded:
                kind = file.kind(original)
                value = as_torch(file.read(original, available_cores()), kind.dtype, kind.shape)
                decoded[original] = torch.nn.Parameter(value.to(devices[name], parameter.dtype), requires_grad=False)
            prefix, _, last = name.rpartition(".")
            model.get_submodule(prefix)._parameters[last] = decoded[original]
        model.requires_grad_(False)

    def is_serializable(self, *_: Any, **__: Any) -> bool:
        """Whether the model can be saved."""
        return True

    @property
    def is_trainable(self) -> bool:
        """Whether gradients reach all weights."""
        return not self.streams and not self._kept

    def get_state_dict_and_metadata(
        self, model: Any, *_: Any, **__: Any
    ) -> tuple[dict[str, Any] | None, dict[str, str]]:
        """The tensors that `save_pretrained` writes: those of the file that the model came from, with its codes.

        Raises:
            KolmoError: the weights of the model have changed.
        """
        if getattr(model, "_hf_peft_config_loaded", False):  # only adapters are saved
            return None, {}
        if self.path is None:
            raise KolmoError(f"{type(model).__name__} was not opened from a shrunk file; {DEQUANTIZE}")
        file = self.path.file
        self._compare(model, file)
        found = {}
        with open(file.path, "rb") as source:
            for name, place in file.header.places.items():
                data = read_span(source, file.path, place.begin, place.size)
                found[name] = as_torch(data, place.dtype, place.shape)
        return found, {KEY: file.header.metadata[KEY]}

    def _compare(self, model: Any, file: ShrunkFile) -> None:
        """Refuse a model whose weights differ from those of the file; weights that are not in memory cannot differ."""
        import torch

        state = dict(model.named_parameters()) if self.streams else model.state_dict()
        if self.given is not None:
            if self.streams:
                raise KolmoError(f"{file.path}: a streamed model is saved as its file has it; leave out state_dict")
            tied = model.all_tied_weights_keys
            if lacking := state.keys() - self.given.keys() - {*tied, *tied.values()}:
                raise KolmoError(f"{file.path}: the given state_dict has no {min(lacking)}; {DEQUANTIZE}")
            state = {**state, **self.given}
        for name, original in self._kept.items():
            code, wild = resident.read_code(file, original)
            own = {key: state.pop(f"{name}.{key}").cpu() for key in WILD if f"{name}.{key}" in state}
            same = torch.equal(state.pop(f"{name}.code").cpu(), code) and bool(own) == (wild is not None)
            same = same and (wild is None or all(map(torch.equal, (own[key] for key in WILD[:2]), wild)))
            if not same:
                raise KolmoError(f"{file.path}: the model's {name} has changed since it was read; {DEQUANTIZE}")
        if not self._is_own:  # in a file that was made here, tensors have the names of the model
            model._weight_conversions = self._conversions
        try:
            here = {name: one for name, one in state.items() if not one.is_meta and one.numel()}  # `like` has no rows
            state = revert_weight_conversion(model, here)
        finally:
            model._weight_conversions = []
        prefix = f"{model.base_model_prefix}."
        for name in file.names:
            found = next((one for one in (name, prefix + name, name.removeprefix(prefix)) if one in state), None)
            if found is None:
                continue
            value, kind = state.pop(found), file.kind(name)
            stored = as_torch(file.read(name), kind.dtype, kind.shape).to(value.dtype)
            if stored.shape != value.shape or from_torch(stored) != from_torch(value):
                raise KolmoError(f"{file.path}: the model's {found} has changed since it was read; {DEQUANTIZE}")
        if new := state.keys() - {*model.all_tied_weights_keys}:
            raise KolmoError(f"{file.path}: has no {min(new)}, which the model has; {DEQUANTIZE}")

    def _dequantize(self, model: Any, dtype: torch.dtype | str | None = None) -> Any:
        import torch

        if self.streams:
            raise KolmoError(f"{self.path}: a streamed model is not in memory; open it without streaming")
        model._weight_conversions = self._conversions
        resident.make_plain(model)
        self._kept = {}
        wanted = getattr(torch, dtype) if isinstance(dtype, str) else dtype
        return model if wanted in (None, model.dtype) else model.to(wanted)


def _targets(
    conversions: list[Any], model: Any, names: Iterable[str]
) -> tuple[dict[str, frozenset[str]], frozenset[str]]:
    """For tensors of a file, their names in a model; and those that transformers change by more than names."""
    conversions = deepcopy(conversions)  # they keep a record of their use
    converters = [one for one in conversions if isinstance(one, WeightConverter)]
    renamings = [one for one in conversions if isinstance(one, WeightRenaming)]
    prefix, state, tied = model.base_model_prefix, model.state_dict(), model.all_tied_weights_keys
    found, merged = {}, set()
    for name in names:
        target, pattern = rename_source_key(name, renamings, converters, prefix, state)
        first = tied.get(target, target)
        found[name] = frozenset({first, *(other for other, source in tied.items() if source == first)})
        if pattern is not None:
            merged.add(name)
    return found, frozenset(merged)


def _device_of(name: str, device_map: dict[str, str]) -> str | None:
    """The device of a parameter, by that of the innermost module around it that has one."""
    while name and name not in device_map:
        name = name.rpartition(".")[0]
    return device_map.get(name)


def _several_devices(path: str) -> KolmoError:
    return KolmoError(f"{path}: can be streamed to one device, not to several; choose another device_map")
