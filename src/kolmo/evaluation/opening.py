"""Opens the scorer of a model specification.

    hf:FOLDER_OR_ID  gguf:FILE     language models, scored in windows of tokens     scorers.token_scorers, torch_scorer
    api:URL                        a language model behind a server, likewise       scorers.servers
    neural:5  cm:5  network:PATH   byte predictors, scored one document at a time   scorers.byte_scorers
    classical:xz                   compressors, one number per document             scorers.byte_scorers

Each kind of scorer is imported when one is first opened, since some need optional packages.

What it is not: it does not choose where the model runs (`evaluation.evaluate`).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kolmo.errors import PredictorError
from kolmo.evaluation.scorers.scorers import ModelIdentity, Scorer, ScorerOptions
from kolmo.predictors.guard import guarded

if TYPE_CHECKING:
    from kolmo.evaluation.scorers.token_scorers import TokenScorer


def full_spec(spec: str) -> str:
    """Add the kind to a specification without one.

    A folder or an id of the hub becomes `hf:`, a file that ends in .gguf becomes `gguf:`, and a URL becomes `api:`.

    Example:
        >>> full_spec("org/name")
        'hf:org/name'
    """
    if spec.startswith(("http://", "https://")):
        return f"api:{spec}"
    if os.path.isdir(spec):
        return f"hf:{spec}"
    if spec.endswith(".gguf") and (os.path.isfile(spec) or ":" not in spec):
        return f"gguf:{spec}"
    if ":" not in spec and spec.count("/") == 1 and not spec.startswith((".", "/", "~")):
        return f"hf:{spec}"
    return spec


def open_scorer(spec: str, options: ScorerOptions | None = None) -> Scorer:
    """Open the scorer of a model specification.

    Args:
        spec: the specification; `full_spec` adds a missing kind.
        options: how to open and run the model.

    Raises:
        PredictorError: the model does not exist, or cannot be opened with these options.
        MissingExtraError: a package that the model needs is not installed.

    Example:
        >>> open_scorer("cm:1").identity.kind
        'predictor'
    """
    options = options or ScorerOptions()
    spec = full_spec(spec)
    if options.memory_windows and not spec.startswith(("hf:", "gguf:")):
        raise PredictorError(
            f"{spec} cannot have a memory beside it, only models as hf: and gguf: can; leave the argument with_memory "
            "out, or evaluate it in a run of its own"
        )
    with guarded(spec, "cannot be opened"):
        return _open(spec, options)


def _open(spec: str, options: ScorerOptions) -> Scorer:
    kind, _, argument = spec.partition(":")
    if kind == "api":
        from kolmo.evaluation.scorers.servers.scorer import ApiScorer

        return ApiScorer.open(argument, options)
    if kind in ("hf", "gguf"):
        return _open_language_model(kind, argument, options)
    if given := [name for name in ("dtype", "attention", "tokenizer") if getattr(options, name)]:
        raise PredictorError(
            f"{spec} does not use the argument {given[0]}; leave it out, or evaluate this model in a run of its own"
        )
    from kolmo.evaluation.scorers.byte_scorers import open_bytes

    return open_bytes(spec, options.threads)


def _open_language_model(kind: str, argument: str, options: ScorerOptions) -> TokenScorer:
    if options.tokenizer:
        raise PredictorError(f"{kind}:{argument} has a tokenizer of its own; leave the argument tokenizer out")
    return _open_gguf(argument, options) if kind == "gguf" else _open_hf(argument, options)


def _open_hf(argument: str, options: ScorerOptions) -> TokenScorer:
    from kolmo.evaluation.scorers.memory_scorer import MemoryScorer
    from kolmo.evaluation.scorers.token_scorers import TokenScorer
    from kolmo.evaluation.scorers.torch_scorer import TorchScorer, has_plain_head
    from kolmo.predictors.language_models.torch_models import backend as torch_backend
    from kolmo.predictors.language_models.torch_models.hub import find

    folder, revision = find(argument, download=True, cache_dir=options.cache_dir)
    dtype = options.dtype or "float32"
    backend = torch_backend.load(folder, dtype, options.device or "auto", options.attention)
    weights, config, tokenizer = (found.hex() for found in backend.hashes)
    hashes = {"weights": weights, "config": config, "tokenizer": tokenizer}
    settings = {**hashes, "dtype": dtype, "attention": options.attention or "default"}
    name = argument if revision else folder.resolve().name
    facts = {
        "parameters": _number_of_weights(backend.model),
        "revision": revision,
        "device": backend.device,
        "window": backend.window,
        "vocabulary": backend.size,
    }
    identity = ModelIdentity(f"hf:{argument}", name, "hf", settings, facts)
    if options.memory_windows:
        return MemoryScorer(identity, backend, *options.memory_windows, options.threads)
    kind = TorchScorer if has_plain_head(backend) else TokenScorer
    return kind(identity, backend, options.threads)


def _number_of_weights(model: Any) -> int:
    """Number of weights of a model, tied ones once.

    Modules whose weights are not parameters, because they stay codes or packed, have `kolmo_weights`.
    """
    counts = {id(one): one.numel() for one in model.parameters()}
    held = [one.kolmo_weights for one in model.modules() if hasattr(one, "kolmo_weights")]
    return sum({**counts, **{id(values): number for values, number in held}}.values())


def _open_gguf(argument: str, options: ScorerOptions) -> TokenScorer:
    from kolmo.evaluation.scorers.memory_scorer import MemoryScorer
    from kolmo.evaluation.scorers.token_scorers import TokenScorer
    from kolmo.predictors.language_models.gguf_models.backend import load
    from kolmo.predictors.language_models.gguf_models.files import parts
    from kolmo.predictors.language_models.torch_models.hashes import hash_files

    if options.dtype not in (None, "float32"):
        raise PredictorError(
            f"a GGUF model fixes its own arithmetic, not {options.dtype}; leave the argument dtype out"
        )
    path = Path(argument)
    backend = load(path, device=options.device or "auto")
    weights = hash_files(parts(path)).hex()
    settings = {"weights": weights, "way": backend.way.decode("ascii").strip("\0"), "dtype": "gguf"}
    facts = {"parameters": backend.weights, "window": backend.window, "vocabulary": backend.size}
    identity = ModelIdentity(f"gguf:{argument}", path.stem, "gguf", settings, facts)
    if options.memory_windows:
        return MemoryScorer(identity, backend, *options.memory_windows, options.threads)
    return TokenScorer(identity, backend, options.threads)
