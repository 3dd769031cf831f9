"""The quantization method `kolmo` of transformers: folders opened, models shrunk in memory, and both saved again.

A model that was opened is the one that the expanded folder gives, of plain tensors. It keeps in mind the file that it
came from: `save_pretrained` writes the codes of that again, as coding anew would lose anew, and refuses where
the weights are others by now. What it is not: it reads no tensor (`view`), and streams none
(`weights.running.streamed`).
"""

from __future__ import annotations

import inspect
import os
import shutil
import tempfile
import weakref
from collections.abc import Sequence
from copy import deepcopy
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import AutoModelForCausalLM, PreTrainedModel, modeling_utils
from transformers.core_model_loading import (
    WeightConverter,
    WeightRenaming,
    rename_source_key,
    revert_weight_conversion,
)
from transformers.quantizers import auto
from transformers.quantizers.base import HfQuantizer
from transformers.utils.quantization_config import QuantizationConfigMixin

from kolmo.errors import FormatError, KolmoError
from kolmo.foreign import quoted
from kolmo.predictors.language_models.pretrained import check_weights, open_pretrained
from kolmo.safetensors import read_span
from kolmo.transformers.view import ShrunkPath, View
from kolmo.weights.format.packing import ShrunkFile
from kolmo.weights.format.record import KEY, VERSION
from kolmo.weights.running import streamed
from kolmo.weights.shrink import shrink
from kolmo.weights.sources.dtypes import as_torch, from_torch
from kolmo.weights.sources.folder import METHOD, VARIANT, WEIGHTS

if TYPE_CHECKING:
    import torch

UNDIVIDED = 1 << 62  # bytes of a shard, at most: a shrunk checkpoint is one file
FETCHING = ("revision", "cache_dir", "token", "subfolder", "local_files_only", "force_download")
DEQUANTIZE = "model.dequantize() makes it a plain model, to be saved and shrunk"


class KolmoConfig(QuantizationConfigMixin):
    """How weights are quantised, or are to be.

    Args:
        bits, step, states, prune, keep: for a model that is not shrunk yet, as for `kolmo.shrink`.
        streamed: for one that is: decode its layers as they are used, as `stream` does.
        version: of the format.

    Raises:
        FormatError: the version is a later one.
    """

    def __init__(
        self,
        bits: float | None = None,
        *,
        step: float | None = None,
        states: int = 8,
        prune: float = 0.0,
        keep: Sequence[str] = (),
        streamed: bool = False,
        version: int = VERSION,
    ) -> None:
        if version != VERSION:
            raise FormatError(
                f"config.json: names version {quoted(version)} of kolmo, here is {VERSION}; install a newer one"
            )
        self.quant_method: Any = METHOD
        self.version = version
        self.streamed = streamed
        self.settings: dict[str, Any] = {
            "bits": bits,
            "step": step,
            "states": states,
            "prune": prune,
            "keep": list(keep),
        }

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], return_unused_kwargs: bool = False, **kwargs: Any) -> Any:
        """From a config.json, or from `stream`."""
        made = cls(version=config_dict.get("version", 0), streamed=bool(config_dict.get("streamed", False)))
        return (made, kwargs) if return_unused_kwargs else made

    def to_dict(self) -> dict[str, Any]:
        """For a config.json: what does not depend on how it is opened."""
        return {"quant_method": self.quant_method, "version": self.version}

    def get_loading_attributes(self) -> dict[str, Any]:
        """What counts of a configuration that is given for a model that has its own."""
        return {"streamed": self.streamed}


class KolmoQuantizer(HfQuantizer):
    """What transformers ask while they open and save a model.

    Attributes:
        path: of the shrunk file that the model came from; None before, and where it came from none.
    """

    quantization_config: KolmoConfig

    def __init__(self, quantization_config: KolmoConfig, **kwargs: Any) -> None:
        super().__init__(quantization_config, **kwargs)
        self.path: ShrunkPath | None = None
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._conversions: Any = None
        self._is_own = False  # whether the file was made here, of a model in memory

    def __getstate__(self) -> dict[str, Any]:
        """For copies and pickles: with a file that was made here go its bytes, as it is removed with this object."""
        own = Path(self.path).read_bytes() if self._is_own and self.path else None
        return {**self.__dict__, "path": None if own else self.path, "own": own}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """The mirror of `__getstate__`."""
        own = state.pop("own")
        self.__dict__.update(state)
        if own is not None:
            path = self._own_path()
            Path(path).write_bytes(own)
            self.path = ShrunkPath(path, False)

    @property
    def streams(self) -> bool:
        """Whether layers are decoded as they are used."""
        return self.quantization_config.streamed

    def update_attn_implementation(self, config: Any) -> Any:
        """Name the weights, before transformers look for them."""
        return self._with_name(super().update_attn_implementation(config))

    def update_tp_plan(self, config: Any) -> Any:
        """The same, in versions that ask this before."""
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
                f"{type(model).__name__}: is not shrunk, so it cannot be streamed; kolmo shrink its folder"
            )
        if hasattr(model.config, "transformers_weights"):
            del model.config.transformers_weights  # a saved config.json shall not lead transformers alone to the file
        if self.pre_quantized and checkpoint_files:
            if len(checkpoint_files) > 1:
                raise KolmoError(
                    f"{checkpoint_files[0]}: is one of several files; the weights of a shrunk folder are one"
                )
            self.path = ShrunkPath(checkpoint_files[0], self.streams)
            checkpoint_files[0] = self.path  # in the list that transformers read from
            self._shapes = {name: tuple(one.shape) for name, one in model.named_parameters()}
        return model

    def update_weight_conversions(self, weight_conversions: list[Any], model: Any) -> Any:
        """As they are; but what is merged from several tensors cannot be streamed.

        Raises:
            KolmoError: a streamed model's tensors are merged.
        """
        if self.path is not None and self.streams and _merges(weight_conversions, self.path.file):
            raise KolmoError(
                f"{type(model).__name__} merges tensors when it is opened, and cannot be streamed from them; before "
                "shrinking, save the model with save_pretrained(FOLDER, save_original_format=False)"
            )
        return super().update_weight_conversions(weight_conversions, model)

    def param_needs_quantization(self, model: Any, param_name: str, **_: Any) -> bool:
        """Whether a parameter's shape may differ from the model's, as that of stand-ins does."""
        return self.path is not None and self.streams

    def _process_model_after_weight_loading(self, model: Any, **_: Any) -> Any:
        if not self.pre_quantized:
            self._make(model)
        elif self.path is not None:
            if not self.path.opened:
                raise KolmoError(f"{self.path}: transformers read it past kolmo; leave out disable_mmap")
            if self.streams:
                self._stream(model, self.path)
        self._conversions, model._weight_conversions = getattr(model, "_weight_conversions", None), []
        return model

    def _make(self, model: Any) -> None:
        """Shrink a model in memory: its weights become what the codes decode to, and the file is kept for saving."""
        self._is_own, path = True, self._own_path()
        state = model.state_dict()
        shrink(state, path, **self.quantization_config.settings)
        self.path = ShrunkPath(path, False)
        file = self.path.file
        for name, data in file.read_all(filter(file.is_coded, file.names)):
            kind = file.kind(name)
            state[name].copy_(as_torch(data, kind.dtype, kind.shape))

    def _own_path(self) -> str:
        """A file in a folder that goes with this object."""
        folder = tempfile.mkdtemp(prefix="kolmo-")
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        return os.path.join(folder, WEIGHTS)

    def _stream(self, model: Any, path: ShrunkPath) -> None:
        """Stand-ins become parameters of their shape on device "meta", which are decoded when they are used."""
        import torch

        names: dict[str, str] = {}
        shaped: dict[torch.nn.Parameter, torch.nn.Parameter] = {}
        devices = set()
        for name, parameter in model.named_parameters():
            shape, wanted = tuple(parameter.shape), self._shapes[name]
            if original := path.stand_in(parameter):
                names[name] = original
                shape = path.file.kind(original).shape
                shaped[parameter] = torch.nn.Parameter(torch.empty(shape, dtype=parameter.dtype, device="meta"), False)
                devices.add(parameter.device)
            if shape != wanted:
                raise KolmoError(f"{path}: {name} is {shape} in it, {wanted} by config.json; get both again")
        if len(devices) > 1:
            raise KolmoError(f"{path}: is streamed to one device, not to {len(devices)}; choose another device_map")
        for module in model.modules():
            for name, parameter in module._parameters.items():
                module._parameters[name] = shaped.get(parameter, parameter)
        first = next(iter(model.parameters()))  # where it is, transformers take the model to be
        resident = [one for one in model.modules() if any(value is first for value in one._parameters.values())]
        resident.append(model.get_input_embeddings())
        device = devices.pop() if devices else None
        streamed.stream(model, path.file, names=names, resident=resident, device=device)

    def is_serializable(self, *_: Any, **__: Any) -> bool:
        """Whether it can be saved."""
        return True

    @property
    def is_trainable(self) -> bool:
        """Whether gradients reach all weights."""
        return not self.streams

    def get_state_dict_and_metadata(
        self, model: Any, *_: Any, **__: Any
    ) -> tuple[dict[str, Any] | None, dict[str, str]]:
        """What `save_pretrained` writes: the tensors of the file that the model came from, codes as they are.

        Raises:
            KolmoError: the model's weights are others by now.
        """
        if getattr(model, "_hf_peft_config_loaded", False):  # adapters alone are saved
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
        """Refuse a model that has other weights than the file; those that are not in memory have not changed."""
        state = dict(model.named_parameters()) if self.streams else model.state_dict()
        if not self._is_own:  # a file that was made here has the model's own names
            model._weight_conversions = self._conversions
        try:
            state = revert_weight_conversion(model, {name: one for name, one in state.items() if not one.is_meta})
        finally:
            model._weight_conversions = []
        prefix = f"{model.base_model_prefix}."
        for name in file.names:
            own = next((one for one in (name, prefix + name, name.removeprefix(prefix)) if one in state), None)
            if own is None:
                continue
            value, kind = state.pop(own), file.kind(name)
            stored = as_torch(file.read(name), kind.dtype, kind.shape).to(value.dtype)
            if stored.shape != value.shape or from_torch(stored) != from_torch(value):
                raise KolmoError(f"{file.path}: the model's {own} has changed since it was read; {DEQUANTIZE}")
        if new := state.keys() - {*model.all_tied_weights_keys}:
            raise KolmoError(f"{file.path}: has no {min(new)}, which the model has; {DEQUANTIZE}")

    def _dequantize(self, model: Any, dtype: torch.dtype | str | None = None) -> Any:
        import torch

        if self.streams:
            raise KolmoError(f"{self.path}: a streamed model is not in memory; open it whole")
        model._weight_conversions = self._conversions
        wanted = getattr(torch, dtype) if isinstance(dtype, str) else dtype
        return model if wanted in (None, model.dtype) else model.to(wanted)


def stream(folder: str | Path, model_class: Any = AutoModelForCausalLM, **given: Any) -> Any:
    """A model whose layers are decoded as they are used: about two of them are in memory, and what is not coded.

    The input embedding is in memory, too. For inference alone; outputs are those of the whole model, to the bit.

    Args:
        folder: a shrunk folder, or its id on the hub.
        model_class: whose `from_pretrained` opens it.
        given: for `from_pretrained`; code of a model's own is not run, so `trust_remote_code` cannot be True.

    Raises:
        KolmoError: it is not shrunk, cannot be streamed, lacks tensors, or needs code of its own.
    """
    if given.pop("trust_remote_code", None):
        raise KolmoError(f"{folder}: kolmo runs no code of a model's own; leave out trust_remote_code")
    given.setdefault("local_files_only", False)
    fetching = {name: given[name] for name in FETCHING if name in given}
    config = given.pop("config", None) or open_pretrained("AutoConfig", folder, "its configuration", **fetching)
    quantised = getattr(config, "quantization_config", None)
    if not isinstance(quantised, dict) or quantised.get("quant_method") != METHOD:
        raise KolmoError(f"{folder}: is not shrunk; kolmo shrink makes a folder of it that can be streamed")
    config.quantization_config = {**quantised, "streamed": True}
    told = given.pop("output_loading_info", False)
    model, found = open_pretrained(model_class, folder, config=config, output_loading_info=True, **given)
    check_weights(folder, found)
    return (model, found) if told else model


def _merges(conversions: list[Any], file: ShrunkFile) -> bool:
    """Whether any of a file's coded tensors is made into another by more than its name."""
    conversions = deepcopy(conversions)  # as they note what they were used for
    converters = [one for one in conversions if isinstance(one, WeightConverter)]
    renamings = [one for one in conversions if isinstance(one, WeightRenaming)]
    coded = filter(file.is_coded, file.names if converters else ())
    return any(rename_source_key(name, renamings, converters)[1] is not None for name in coded)


def _quantizer_of(model: Any) -> KolmoQuantizer | None:
    found = getattr(model, "hf_quantizer", None)
    return found if isinstance(found, KolmoQuantizer) else None


@wraps(PreTrainedModel.save_pretrained)
def _save_pretrained(model: Any, *args: Any, **kwargs: Any) -> Any:
    """As transformers have it; a shrunk model in one file, under the name of such.

    Raises:
        KolmoError: a streamed model would be saved over its own file.
    """
    quantizer = _quantizer_of(model)
    if quantizer is None:
        return _saving(model, *args, **kwargs)
    path = quantizer.path
    given = inspect.signature(_saving).bind(model, *args, **kwargs)
    given.arguments["max_shard_size"] = UNDIVIDED
    if not getattr(model, "_hf_peft_config_loaded", False):
        given.arguments["variant"] = VARIANT
    folder = given.arguments["save_directory"]
    is_own = path is not None and os.path.isdir(folder) and os.path.samefile(folder, os.path.dirname(path) or ".")
    if path is not None and is_own and path.lazy:
        raise KolmoError(f"{path}: is what the model is streamed from; save it to another folder")
    saved = _saving(*given.args, **given.kwargs)
    if path is not None and is_own:
        path.file = ShrunkFile(path)  # tensors may have changed places
    return saved


def _casting(name: str) -> Any:
    """`half` or `float` of a model: transformers refuse them for what is quantised, and these are plain tensors."""
    refusing = getattr(PreTrainedModel, name)

    @wraps(refusing)
    def cast(model: Any, *args: Any) -> Any:
        if _quantizer_of(model) is None:
            return refusing(model, *args)
        return getattr(super(PreTrainedModel, model), name)(*args)

    return cast


def _open(path: Any, *args: Any, **kwargs: Any) -> Any:
    """`safe_open`; of a `ShrunkPath` a `View`."""
    return View(path) if isinstance(path, ShrunkPath) else _safe_open(path, *args, **kwargs)


_saving: Any = PreTrainedModel.save_pretrained
_model: Any = PreTrainedModel  # of the class, not of each model: models are copied, pickled and sent to other processes
_model.save_pretrained, _model.half, _model.float = _save_pretrained, _casting("half"), _casting("float")
_reader: Any = modeling_utils
_safe_open = _reader.safe_open
_reader.safe_open = _open
_registry: Any = auto
_registry.register_quantization_config(METHOD)(KolmoConfig)
_registry.register_quantizer(METHOD)(KolmoQuantizer)
_registry.LOADING_ATTRIBUTES_CONFIG_TYPES = (*_registry.LOADING_ATTRIBUTES_CONFIG_TYPES, KolmoConfig)
