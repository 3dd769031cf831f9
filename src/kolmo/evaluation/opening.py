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

from kolmo.errors import PredictorError
from kolmo.evaluation.scorers.scorers import Options, Scorer
from kolmo.predictors.guard import guarded


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
        from kolmo.evaluation.scorers.token_scorers import open_language_model

        return open_language_model(kind, rest, options)
    if given := [name for name in ("dtype", "attention", "tokenizer") if getattr(options, name)]:
        raise PredictorError(f"{spec} takes no {given[0]}; leave it out, or evaluate it in a run of its own")
    from kolmo.evaluation.scorers.byte_scorers import open_bytes

    return open_bytes(spec, options.threads)
