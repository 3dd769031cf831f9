"""The only module that opens models with transformers: configurations, tokenizers and models of a folder.

A model's folder is untrusted data. transformers would run Python code from it (`auto_map`, `custom_generate`) after a
question on standard input, fetch compiled code from the hub where a configuration or an architecture names it
(`kernels`), unpickle weights, read weights and adapters from elsewhere, and initialise missing tensors at random.
Here none of that happens: `trust_remote_code` is False, nothing is asked, weights are safetensors in the folder itself,
and a model with missing tensors, or tensors of other shapes, is refused.

What it is not: a sandbox. transformers and the other installed packages are trusted.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from importlib import import_module
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from kolmo.errors import KolmoError, MissingExtraError, PredictorError
from kolmo.foreign import short
from kolmo.installing import install
from kolmo.predictors.guard import MAX_REASON, guarded, is_guarded, reason
from kolmo.predictors.language_models.quantised import METHODS

if TYPE_CHECKING:
    import torch

WEIGHTS = ("model.safetensors", "model.safetensors.index.json")  # the first of them that exists is read
ADAPTER = "adapter_config.json"
MAX_JSON_BYTES = 100_000_000  # size of the largest JSON file that is read
ATTENTION = (
    None,
    "eager",
    "sdpa",
    "flex_attention",
)  # implementations that a configuration may choose; others fetch code
EXPERTS = (None, "eager", "batched_mm", "grouped_mm")  # likewise for mixtures of experts
MAX_EXTRA_NUMBERS = 1 << 28  # numbers that a model may hold beyond its checkpoint: tables of positions, masks
MAX_NAMED_TENSORS = 3  # tensors that a message names


def open_pretrained(opener: Any, source: str | Path, what: str = "it", **given: Any) -> Any:
    """Open a folder with an `Auto` class of transformers, or with a model's class.

    Args:
        opener: the class, or the name of one in transformers.
        source: the folder; with `local_files_only=False` also an id of the hub.
        what: the kind of object that is opened, for messages.
        given: arguments of its `from_pretrained`; `local_files_only` is True unless it is given.

    Returns:
        The result of `from_pretrained`.

    Raises:
        PredictorError: the model needs code of its own, or transformers cannot open it; the message names the folder.
        MissingExtraError: transformers are not installed.

    Example:
        tokenizer = open_pretrained("AutoTokenizer", "models/a")
    """
    need("transformers")
    try:
        with guarded(str(source), f"transformers cannot open {what}"), quiet():
            _block_remote_code()
            opener = getattr(import_module("transformers"), opener) if isinstance(opener, str) else opener
            return opener.from_pretrained(source, trust_remote_code=False, **{"local_files_only": True, **given})
    except PredictorError as error:
        _raise_refusal(source, error)
        raise


def open_config(folder: Path) -> Any:
    """The configuration of a model, without its choice of kernels; its quantisation method is registered.

    Raises:
        PredictorError: the folder has no configuration, or it cannot be opened.
    """
    if not (folder / "config.json").is_file():
        raise PredictorError(f"{folder}: no config.json in it; save the model with save_pretrained(FOLDER)")
    config = open_pretrained("AutoConfig", folder, "its configuration")
    with guarded(str(folder), "its configuration cannot be used"):
        for part in _with_parts(config):
            if getattr(part, "_attn_implementation", None) not in ATTENTION:
                part._attn_implementation = None
            if getattr(part, "_experts_implementation", None) not in EXPERTS:
                part._experts_implementation = None
        if method := METHODS.get(_quant_method(config) or ""):
            import_module(method.module)
    return config


def _quant_method(config: Any) -> str | None:
    """The quantisation method that a configuration records; None where it records none."""
    quantised = getattr(config, "quantization_config", None)
    method = quantised.get("quant_method") if isinstance(quantised, dict) else getattr(quantised, "quant_method", None)
    return method if isinstance(method, str) else None


def open_tokenizer(folder: Path) -> Any:
    """The tokenizer of a model, as transformers open it: `PreTrainedTokenizerFast`, or one without a fast version.

    Raises:
        PredictorError: the folder has no tokenizer, or it cannot be opened.
    """
    return open_pretrained("AutoTokenizer", folder, "its tokenizer")


def open_model(folder: Path, config: Any, dtype: torch.dtype, device: str, attention: str | None = None) -> Any:
    """A causal language model with all of its weights, ready for inference.

    Tensors of the checkpoint that the model does not use are left out, as transformers do: old buffers, heads and
    towers for other tasks, layers for speculation. They add no random values, and the weights' hash covers them.

    Args:
        folder: of the model.
        config: from `open_config`.
        dtype: of the weights in memory.
        device: of torch.
        attention: its implementation in transformers, if not the default.

    Raises:
        PredictorError: tensors are missing or have other shapes, or the model cannot be opened.
    """
    _check_size(folder, config, weight_files(folder, config))
    chosen = {"attn_implementation": attention} if attention else {}
    model, found = open_pretrained(
        "AutoModelForCausalLM",
        folder,
        config=config,
        use_safetensors=True,
        dtype=dtype,
        output_loading_info=True,
        ignore_mismatched_sizes=True,  # so that they are named, below
        **chosen,
    )
    check_weights(folder, found)
    with guarded(str(folder), f"the model cannot be put on device {device}"):
        model = model.to(device)
        model.eval()
    return model


def _check_size(folder: Path, config: Any, files: list[Path]) -> None:
    """Refuse a configuration that needs far more memory than its checkpoint fills, before any of it is allocated.

    Raises:
        PredictorError: the configuration needs too much.
    """
    import torch
    from safetensors import safe_open

    if getattr(config, "quantization_config", None) is not None:
        return  # quantised checkpoints store fewer numbers, in formats of their own
    stored = 0
    with guarded(str(folder), "its weights cannot be read"):
        for path in files:
            with safe_open(path, "pt") as file:
                stored += sum(prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118 - not a dictionary
    try:
        with guarded(str(folder), "transformers cannot open the model"), quiet():
            _block_remote_code()
            opener: Any = import_module("transformers").AutoModelForCausalLM
            with torch.device("meta"):  # shapes alone
                made = opener.from_config(deepcopy(config), trust_remote_code=False)
            wanted = sum(values.numel() for values in (*made.parameters(), *made.buffers()))
    except PredictorError as error:
        _raise_refusal(folder, error)
        raise
    if wanted > 2 * stored + MAX_EXTRA_NUMBERS:
        raise PredictorError(
            f"{folder}: its config.json needs {wanted:,} numbers, and its checkpoint has {stored:,}; get the "
            "config.json that belongs to it"
        )


def check_weights(source: str | Path, found: dict[str, Any]) -> None:
    """Refuse a model of which transformers have initialised a part at random.

    Tied tensors and buffers that are not stored are not among the missing: transformers leave them out.

    Args:
        source: the folder, for the message.
        found: the loading info of `from_pretrained`.

    Raises:
        PredictorError: tensors are missing, or have other shapes.
    """
    missing = sorted(found.get("missing_keys", ()))
    shaped = {name: (stored, wanted) for name, stored, wanted in found.get("mismatched_keys", ())}
    parts = []
    if missing:
        parts.append(f"its checkpoint lacks {_several(missing)}")
    if shaped:
        kinds = (f"{name} of shape {_shape(shaped[name][0])}, not {_shape(shaped[name][1])}" for name in sorted(shaped))
        parts.append(f"its checkpoint has {_several(list(kinds))}")
    if parts:
        raise PredictorError(
            f"{short(str(source), MAX_REASON)}: {'; '.join(parts)}; transformers would fill in random numbers, so get "
            "the checkpoint again, or the config.json that belongs to it"
        )


def weight_files(folder: Path, config: Any = None) -> list[Path]:
    """The files that transformers read a model's weights from, sorted by name: one, or those that its index names.

    Args:
        folder: of the model.
        config: from `open_config`, if it was opened: it may name another file or index.

    Raises:
        PredictorError: the files are missing, or are not in the folder itself, or come with an adapter.
    """
    if (folder / ADAPTER).exists():
        raise PredictorError(
            f"{folder}: holds an adapter ({ADAPTER}), which some versions apply and others do not; merge it into the "
            "model and save that, or take the file away"
        )
    method = METHODS.get(_quant_method(config) or "")
    given = method.weights if method else getattr(config, "transformers_weights", None)
    names = WEIGHTS if given is None else (given,)
    for name in names:
        if not _is_plain(name, (".safetensors", ".safetensors.index.json")):
            _refuse_weights(folder / "config.json", "transformers_weights", name)
        if not (folder / name).is_file():
            continue
        shards = [name] if name.endswith(".safetensors") else _shards(folder / name)
        more = [extra for extra in getattr(type(config), "extra_files", ()) if (folder / extra).is_file()]
        return [folder / shard for shard in sorted({*shards, *more})]
    raise PredictorError(f"{folder}: no {' or '.join(names)} in it; save the model with save_pretrained(FOLDER)")


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file of a model.

    Raises:
        PredictorError: the file is not a JSON object, or too large.
        FileNotFoundError: there is no such file.
    """
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise ValueError(f"the file is larger than {MAX_JSON_BYTES} bytes")
        found = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise PredictorError(f"{path}: cannot be read as JSON ({reason(error)}); get the file again") from None
    if not isinstance(found, dict):
        raise PredictorError(f"{path}: is a JSON {type(found).__name__}, not an object; get the file again")
    return found


def need(*modules: str) -> None:
    """Import modules.

    Raises:
        MissingExtraError: one is not installed.
    """
    for module in modules:
        try:
            __import__(module)
        except ImportError:
            raise MissingExtraError(f"hf models need {module}; {install('hf')}") from None


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the messages and progress bars of transformers, which are for training."""
    from transformers.utils import logging as any_logging

    logging: Any = any_logging
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def _shards(index: Path) -> list[str]:
    places = read_json(index).get("weight_map")
    if not isinstance(places, dict) or not places:
        raise PredictorError(f"{index}: has no weight_map; get the file again")
    for name in places.values():
        if not _is_plain(name, (".safetensors",)):
            _refuse_weights(index, "a shard", name)
    shards = sorted(set(places.values()))
    for name in shards:
        if not (index.parent / name).is_file():
            raise PredictorError(f"{index}: names {short(name)}, which is not there; get the checkpoint again")
    return shards


def _is_plain(name: Any, endings: tuple[str, ...]) -> bool:
    """Whether it is the plain name of a file, without a path."""
    return isinstance(name, str) and name.endswith(endings) and not {"/", "\\", "\0"} & {*name}


def _refuse_weights(path: Path, what: str, name: Any) -> NoReturn:
    raise PredictorError(f"{path}: {what} is {short(repr(name))}, not a safetensors file beside it; get it again")


def _several(names: list[str]) -> str:
    shown = ", ".join(short(name, 80) for name in names[:MAX_NAMED_TENSORS])
    return shown if len(names) <= MAX_NAMED_TENSORS else f"{shown} and {len(names) - MAX_NAMED_TENSORS} more"


def _shape(sizes: Iterable[int]) -> str:
    return "x".join(map(str, sizes)) or "()"


def _with_parts(config: Any) -> Iterator[Any]:
    """A configuration and the configurations of its parts."""
    yield config
    for name in getattr(config, "sub_configs", ()):
        part = getattr(config, name, None)
        if part is not None and part is not config and hasattr(part, "to_dict"):
            yield from _with_parts(part)


# -- no code --


class CodeRefusedError(FileNotFoundError):
    """Code from a model's folder or from the hub was about to run. transformers continue where they can do without."""


def _block_remote_code() -> None:
    """Make sure that within `guarded` no module of a model is imported, no kernel is fetched, and nothing is asked.

    `trust_remote_code=False` has the same purpose, but transformers do not pass it on everywhere: parts of a composite
    model are opened with the default, which is to ask.
    """
    from transformers import dynamic_module_utils
    from transformers.generation import utils as generation
    from transformers.integrations import hub_kernels

    for module, name in (
        (dynamic_module_utils, "get_class_in_module"),
        (dynamic_module_utils, "input"),  # in place of the built-in function, there alone
        (generation, "get_class_in_module"),
        (hub_kernels, "get_kernel"),
        (hub_kernels, "get_kernel_hub"),
        (sys.modules.get("kernels"), "get_kernel"),
    ):
        _block(module, name)


def _block(module: Any, name: str) -> None:
    """Replace a module's function by one that raises within `guarded`, and works as before elsewhere."""
    function = getattr(module, name, input if name == "input" else None)
    if function is None or getattr(function, "_of_kolmo", False):
        return

    def blocked(*args: Any, **kwargs: Any) -> Any:
        if is_guarded():
            raise CodeRefusedError(f"trust_remote_code is False: {name}")
        return function(*args, **kwargs)

    blocked._of_kolmo = True  # type: ignore[attr-defined]
    setattr(module, name, blocked)


def _is_refusal(error: BaseException | None) -> bool:
    """Whether transformers, or `_block`, refused to run code."""
    while error is not None:
        if isinstance(error, CodeRefusedError) or "trust_remote_code" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def _raise_refusal(source: str | Path, error: KolmoError) -> None:
    if not _is_refusal(error.__cause__):
        return
    raise PredictorError(
        f"{short(str(source), MAX_REASON)}: the model needs code of its own, which kolmo does not run; give a model "
        "that transformers support without it"
    ) from error
