"""The functions of transformers that `import kolmo.transformers` replaces, and the registration of the method.

What it is not: a change for models of other kinds, which all of these functions pass on unchanged.
"""

from __future__ import annotations

import inspect
import os
from functools import wraps
from typing import TYPE_CHECKING, Any

from transformers import PreTrainedModel, modeling_utils
from transformers.quantizers import auto

from kolmo.errors import KolmoError
from kolmo.transformers.configuration import KolmoConfig
from kolmo.transformers.quantizer import KolmoQuantizer
from kolmo.transformers.view import ShrunkPath, View
from kolmo.weights.format.reader import ShrunkFile
from kolmo.weights.sources.folder import METHOD, VARIANT

if TYPE_CHECKING:
    pass


MAX_SHARD_BYTES = 1 << 62  # never reached: a shrunk checkpoint is one file


def _quantizer_of(model: Any) -> KolmoQuantizer | None:
    found = getattr(model, "hf_quantizer", None)
    return found if isinstance(found, KolmoQuantizer) else None


@wraps(PreTrainedModel.save_pretrained)
def _save_pretrained(model: Any, *args: Any, **kwargs: Any) -> Any:
    """`save_pretrained`, which saves a shrunk model as one file under its own name.

    Raises:
        KolmoError: a streamed model would be saved over the file that it is streamed from; or the model, or the state
            dict that is given, has other weights than the file.
    """
    quantizer = _quantizer_of(model)
    if quantizer is None:
        return _saving(model, *args, **kwargs)
    path = quantizer.path
    given = inspect.signature(_saving).bind(model, *args, **kwargs)
    given.arguments["max_shard_size"] = MAX_SHARD_BYTES
    if not getattr(model, "_hf_peft_config_loaded", False):
        given.arguments["variant"] = VARIANT
    folder = given.arguments["save_directory"]
    is_own = path is not None and os.path.isdir(folder) and os.path.samefile(folder, os.path.dirname(path) or ".")
    if path is not None and is_own and quantizer.streams:
        raise KolmoError(f"{path}: the model is streamed from this file; save it to another folder")
    quantizer.given = given.arguments.get("state_dict")
    try:
        saved = _saving(*given.args, **given.kwargs)
    finally:
        quantizer.given = None
    if path is not None and is_own:
        path.file = ShrunkFile(path)  # tensors may have changed places
    return saved


def _casting(name: str) -> Any:
    """`half` or `float` of a model; transformers refuse these for quantised models, but here all tensors are plain."""
    refusing = getattr(PreTrainedModel, name)

    @wraps(refusing)
    def cast(model: Any, *args: Any) -> Any:
        if _quantizer_of(model) is None:
            return refusing(model, *args)
        return getattr(super(PreTrainedModel, model), name)(*args)

    return cast


def _open(path: Any, *args: Any, **kwargs: Any) -> Any:
    """`safe_open`, which gives a `View` for a `ShrunkPath`."""
    return View(path) if isinstance(path, ShrunkPath) else _safe_open(path, *args, **kwargs)


_saving: Any = PreTrainedModel.save_pretrained
_model: Any = PreTrainedModel  # the class is changed, not each model, because models are copied and pickled
_model.save_pretrained, _model.half, _model.float = _save_pretrained, _casting("half"), _casting("float")
_reader: Any = modeling_utils
_safe_open = _reader.safe_open
_reader.safe_open = _open
_registry: Any = auto
_registry.register_quantization_config(METHOD)(KolmoConfig)
_registry.register_quantizer(METHOD)(KolmoQuantizer)
_registry.LOADING_ATTRIBUTES_CONFIG_TYPES = (*_registry.LOADING_ATTRIBUTES_CONFIG_TYPES, KolmoConfig)
