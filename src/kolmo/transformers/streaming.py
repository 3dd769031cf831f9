"""`stream`: a shrunk folder opened so that its layers are decoded as they are used."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import AutoModelForCausalLM

from kolmo.errors import KolmoError
from kolmo.predictors.language_models.pretrained import check_weights, open_pretrained
from kolmo.weights.sources.folder import METHOD

if TYPE_CHECKING:
    pass


FETCHING = ("revision", "cache_dir", "token", "subfolder", "local_files_only", "force_download")


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
