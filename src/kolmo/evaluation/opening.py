"""From a spec to its scorer.

    hf:FOLDER_OR_ID  gguf:FILE     language models, by windows of tokens      scorers.token_scorers, torch_scorer
    api:URL                        a server's, the same                       scorers.servers
    neural:5  cm:5  network:PATH   predictors of bytes, a document at once    scorers.byte_scorers
    classical:xz                   compressors: one number per document       scorers.byte_scorers

Each kind is imported when it is first opened, since some need what is not installed everywhere.

What it is not: it chooses no engine (`evaluation.evaluate`).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from kolmo.errors import PredictorError
from kolmo.evaluation.scorers.scorers import Identity, Options, Scorer
from kolmo.predictors.guard import guarded

if TYPE_CHECKING:
    from kolmo.evaluation.scorers.token_scorers import TokenScorer


def full_spec(spec: str) -> str:
    """A spec with its kind: a folder, and an id of the hub, are `hf:`, a .gguf file is `gguf:`, a URL is `api:`."""
    if spec.startswith(("http://", "https://")):
        return f"api:{spec}"
    if os.path.isdir(spec):
        return f"hf:{spec}"
    if spec.endswith(".gguf") and (os.path.isfile(spec) or ":" not in spec):
        return f"gguf:{spec}"
    if ":" not in spec and spec.count("/") == 1 and not spec.startswith((".", "/", "~")):
        return f"hf:{spec}"
    return spec


def open_scorer(spec: str, options: Options | None = None) -> Scorer:
    """The scorer of a spec.

    Raises:
        PredictorError: there is no such model, or it cannot be opened.
        MissingExtraError: it needs what is not installed.
    """
    options = options or Options()
    spec = full_spec(spec)
    with guarded(spec, "cannot be opened"):
        return _open(spec, options)


def _open(spec: str, options: Options) -> Scorer:
    kind, _, rest = spec.partition(":")
    if kind == "api":
        from kolmo.evaluation.scorers.servers.scorer import ApiScorer

        return ApiScorer.open(rest, options)
    if kind in ("hf", "gguf"):
        return _open_language_model(kind, rest, options)
    if given := [name for name in ("dtype", "attention", "tokenizer") if getattr(options, name)]:
        raise PredictorError(f"{spec} takes no {given[0]}; leave it out, or evaluate it in a run of its own")
    from kolmo.evaluation.scorers.byte_scorers import open_bytes

    return open_bytes(spec, options.threads)


def _open_language_model(kind: str, argument: str, options: Options) -> TokenScorer:
    """The scorer of a language model."""
    if options.tokenizer:
        raise PredictorError(f"{kind}:{argument} has a tokenizer of its own; leave the argument tokenizer out")
    return _open_gguf(argument, options) if kind == "gguf" else _open_hf(argument, options)


def _open_hf(argument: str, options: Options) -> TokenScorer:
    from kolmo.evaluation.scorers.token_scorers import TokenScorer
    from kolmo.evaluation.scorers.torch_scorer import TorchScorer, has_plain_head
    from kolmo.predictors.language_models.torch_models import backend as torch_backend
    from kolmo.predictors.language_models.torch_models.hub import find

    folder, revision = find(argument, download=True, cache_dir=options.cache_dir)
    dtype = options.dtype or "float32"
    backend = torch_backend.load(folder, dtype, options.device or "auto", options.attention)
    weights, config, tokenizer = (found.hex() for found in backend.hashes)
    hashes = {"weights": weights, "config": config, "tokenizer": tokenizer}
    kept = {**hashes, "dtype": dtype, "attention": options.attention or "default"}
    name = argument if revision else folder.resolve().name
    facts = {
        "parameters": sum(values.numel() for values in backend.model.parameters()),
        "revision": revision,
        "device": backend.device,
        "window": backend.window,
        "vocabulary": backend.size,
    }
    identity = Identity(f"hf:{argument}", name, "hf", kept, facts)
    kind = TorchScorer if has_plain_head(backend) else TokenScorer
    return kind(identity, backend, options.threads)


def _open_gguf(argument: str, options: Options) -> TokenScorer:
    from kolmo.evaluation.scorers.token_scorers import TokenScorer
    from kolmo.predictors.language_models.gguf_models.backend import load
    from kolmo.predictors.language_models.gguf_models.files import parts
    from kolmo.predictors.language_models.torch_models.hashes import hash_files

    if options.dtype not in (None, "float32"):
        raise PredictorError(
            f"gguf models have their own arithmetic, not {options.dtype}; leave the argument dtype out"
        )
    path = Path(argument)
    backend = load(path, device=options.device or "auto")
    weights = hash_files(parts(path)).hex()
    kept = {"weights": weights, "way": backend.way.decode("ascii").strip("\0"), "dtype": "gguf"}
    facts = {"parameters": backend.weights, "window": backend.window, "vocabulary": backend.size}
    return TokenScorer(Identity(f"gguf:{argument}", path.stem, "gguf", kept, facts), backend, options.threads)
