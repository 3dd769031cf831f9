"""`stream`: open a shrunk folder so that its layers are decoded when they are used."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import AutoModelForCausalLM

from kolmo.errors import KolmoError
from kolmo.predictors.language_models.pretrained import check_weights, open_pretrained
from kolmo.weights.sources.folder import METHOD

FETCH_ARGUMENTS = ("revision", "cache_dir", "token", "subfolder", "local_files_only", "force_download")


def stream(
    folder: str | Path, model_class: Any = AutoModelForCausalLM, *, cache: int | None = None, **given: Any
) -> Any:
    """Open a shrunk folder as a model whose layers are decoded when they are used.

    Memory holds the packed weights, one layer, and everything that is not coded. The model is only for inference; its
    outputs are those of the whole model, to the bit.

    Args:
        folder: a shrunk folder, or its id on the hub.
        model_class: the class whose `from_pretrained` opens the model.
        cache: memory in bytes for weights that stay, as for `kolmo.stream`; by default all of them are packed, and with
            0 memory holds about two layers and the embeddings.
        given: arguments of `from_pretrained`. Code in the folder is not run, so `trust_remote_code` cannot be True.

    Raises:
        KolmoError: the folder is not shrunk, cannot be streamed, lacks tensors, or needs code of its own.

    Example:
        model = kolmo.transformers.stream("small", dtype="auto")
    """
    if given.pop("trust_remote_code", None):
        raise KolmoError(f"{folder}: kolmo does not run the code of a model; leave out trust_remote_code")
    given.setdefault("local_files_only", False)
    fetching = {name: given[name] for name in FETCH_ARGUMENTS if name in given}
    config = given.pop("config", None) or open_pretrained("AutoConfig", folder, "its configuration", **fetching)
    quantised = getattr(config, "quantization_config", None)
    if not isinstance(quantised, dict) or quantised.get("quant_method") != METHOD:
        raise KolmoError(f"{folder}: is not shrunk; kolmo shrink makes a folder of it that can be streamed")
    config.quantization_config = {**quantised, "streamed": True, "cache": cache}
    wants_info = given.pop("output_loading_info", False)
    model, found = open_pretrained(model_class, folder, config=config, output_loading_info=True, **given)
    check_weights(folder, found)
    return (model, found) if wants_info else model
