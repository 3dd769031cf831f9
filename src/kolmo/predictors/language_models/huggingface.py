"""`hf:PATH_OR_ID`: any causal language model of transformers as a predictor.

A folder (config.json, safetensors, tokenizer.json), or an id whose files are fetched when a file is written; reading
one never uses the network. Weights are safetensors only and no code of a model's own is run, so a file that names a
model can do no more than be refused. What it is not: it does not code; `predictors.language_models.block` does, with
what `torch_models` opens.
"""

from __future__ import annotations

from kolmo.errors import PredictorError
from kolmo.predictors.language_models.language_model import LanguageModel
from kolmo.predictors.language_models.records import CHUNK, CONTEXT, DTYPES, Record
from kolmo.predictors.language_models.torch_models.backend import load
from kolmo.predictors.language_models.torch_models.hub import COMMIT, ID, fetch, find
from kolmo.predictors.model_locations import remember
from kolmo.predictors.settings import DEFAULT_SETTINGS, RunSettings


class HuggingFace(LanguageModel):
    """The predictor `hf`."""

    name = "hf"

    @classmethod
    def from_spec(
        cls,
        argument: str,
        *,
        dtype: str | None = None,
        context: int | None = None,
        chunk: int | None = None,
        tolerance: str | float | None = None,
        settings: RunSettings = DEFAULT_SETTINGS,
    ) -> HuggingFace:
        """From the part of a spec behind `hf:`, a folder or an id (`ID@REVISION` for another than its newest).

        Args:
            argument: folder or id.
            dtype: of the arithmetic: float32 (default), float64, bfloat16, float16.
            context: tokens that the model sees at most; default: what it can, up to 4096.
            chunk: tokens of a lane at most, 4096.
            tolerance: see `language_model.Options`.
            settings: how to run it here.

        Raises:
            PredictorError: it is not there, or no causal language model with weights in safetensors.
            MissingExtraError: torch or transformers are not installed.
        """
        return cls._open(argument, dtype or "float32", context, chunk or CHUNK, tolerance, settings, download=True)

    @classmethod
    def reopen(cls, spec: str, record: Record, settings: RunSettings) -> HuggingFace:
        """The same model as the one that wrote a file, without the network."""
        return cls._open(spec, record.dtype, record.context or None, record.chunk, None, settings, download=False)

    @classmethod
    def fetched(cls, record: Record) -> str | None:
        """The folder of a model of the hub, in its cache here; None where the record names no such model."""
        if not ID.fullmatch(record.spec) or not COMMIT.fullmatch(record.revision):
            return None
        return str(fetch(record.spec, record.revision, download=False))

    @classmethod
    def _open(
        cls,
        spec: str,
        dtype: str,
        context: int | None,
        chunk: int,
        tolerance: str | float | None,
        settings: RunSettings,
        *,
        download: bool,
    ) -> HuggingFace:
        if dtype not in DTYPES:
            raise PredictorError(f"dtype {dtype!r} is not known; choose from {', '.join(DTYPES)}")
        if chunk < 1 or (context is not None and context < 4):
            raise PredictorError("a context has at least 4 tokens, a chunk at least 1; raise --context or --chunk")
        folder, revision = find(spec, download=download)
        backend = load(folder, dtype, settings.device)
        window = backend.window
        if context is not None and window is not None and context > window:
            raise PredictorError(f"{spec} sees at most {window} tokens; lower --context")
        seen = context or (min(window, CONTEXT) if window is not None else 0)
        name = spec.partition("@")[0] if revision else folder.resolve().name
        record = Record.of(name, revision, backend.hashes, dtype, seen, chunk)
        if not revision:
            remember(record.marks, folder)
        return cls(backend, record, "auto" if tolerance is None else tolerance, settings)
