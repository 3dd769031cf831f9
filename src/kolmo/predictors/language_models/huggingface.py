"""`hf:PATH_OR_ID`: any causal language model of transformers as a predictor.

A folder (config.json, safetensors, tokenizer.json), or an id whose files are fetched when a file is written; reading a
file never uses the network. Weights are safetensors only, and no code from a model's folder is run, so a file that
names a model can do no harm. What it is not: a coder; `predictors.language_models.block` codes with the backend that
`torch_models` opens.
"""

from __future__ import annotations

from kolmo.errors import PredictorError
from kolmo.predictors.language_models.language_model import LanguageModel
from kolmo.predictors.language_models.records import AUTO, CONTEXT, DTYPES, SLIDING_CONTEXT, Record, memory_bits
from kolmo.predictors.language_models.torch_models.backend import load
from kolmo.predictors.language_models.torch_models.hub import COMMIT, HUB_ID, fetch, find
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
        memory_tokens: int | None = None,
        settings: RunSettings = DEFAULT_SETTINGS,
    ) -> HuggingFace:
        """From the part of a spec behind `hf:`: a folder, or an id (`ID@REVISION` for an older revision).

        Args:
            argument: folder or id.
            dtype: of the arithmetic: float32 (default), float64, bfloat16, float16.
            context: length of the context window in tokens; by default the model's own, up to 2048 where it slides,
                else up to 4096.
            chunk: most tokens of a lane; by default, each block has as many lanes as suit its length.
            tolerance: see `language_model.Options`.
            memory_tokens: size of the memory beside the model; by default 2^20 tokens, 0 for none.
            settings: how to run it here.

        Raises:
            PredictorError: there is no such model, or it is not a causal language model with safetensors weights.
            MissingExtraError: torch or transformers are not installed.
        """
        return cls._open(
            argument,
            dtype or "float32",
            context,
            chunk or AUTO,
            memory_bits(memory_tokens),
            tolerance,
            settings,
            download=True,
        )

    @classmethod
    def reopen(cls, spec: str, record: Record, settings: RunSettings) -> HuggingFace:
        """The model that wrote a file, opened without access to the network."""
        return cls._open(
            spec, record.dtype, record.context or None, record.chunk, record.memory, None, settings, download=False
        )

    @classmethod
    def fetched(cls, record: Record) -> str | None:
        """The folder of a model of the hub in the cache here; None where the record does not name such a model."""
        if not HUB_ID.fullmatch(record.spec) or not COMMIT.fullmatch(record.revision):
            return None
        return str(fetch(record.spec, record.revision, download=False))

    @classmethod
    def _open(
        cls,
        spec: str,
        dtype: str,
        context: int | None,
        chunk: int,
        memory: int,
        tolerance: str | float | None,
        settings: RunSettings,
        *,
        download: bool,
    ) -> HuggingFace:
        if dtype not in DTYPES:
            raise PredictorError(f"dtype {dtype!r} is not known; choose from {', '.join(DTYPES)}")
        if chunk < 0 or (context is not None and context < 4):
            raise PredictorError(
                "a context has at least 4 tokens, a chunk at least 1; raise the argument context or the argument chunk"
            )
        folder, revision = find(spec, download=download)
        backend = load(folder, dtype, settings.device)
        window = backend.window
        if context is not None and window is not None and context > window:
            raise PredictorError(f"{spec} has a context window of {window} tokens; lower the argument context")
        usual = SLIDING_CONTEXT if backend.slides else CONTEXT
        seen = context or (min(window, usual) if window is not None else 0)
        name = spec.partition("@")[0] if revision else folder.resolve().name
        slides = backend.slides and seen > 0 and (chunk == AUTO or chunk > seen)
        record = Record.of(name, revision, backend.hashes, dtype, seen, chunk, memory=memory, slides=slides)
        if not revision:
            remember(record.marks, folder)
        return cls(backend, record, "auto" if tolerance is None else tolerance, settings)
