"""`gguf:PATH`: any model in a GGUF file as a predictor, run by llama.cpp through llama-cpp-python.

The file holds weights, tokenizer and configuration, and its hash identifies all of them. What it is not: a coder;
`predictors.language_models.block` codes with the backend that `gguf_models` opens.
"""

from __future__ import annotations

from pathlib import Path

from kolmo.errors import PredictorError
from kolmo.predictors.language_models.gguf_models.backend import WAYS, load
from kolmo.predictors.language_models.gguf_models.files import parts
from kolmo.predictors.language_models.gguf_models.library import library
from kolmo.predictors.language_models.language_model import LanguageModel
from kolmo.predictors.language_models.records import AUTO, CONTEXT, Record, memory_bits
from kolmo.predictors.language_models.torch_models.hashes import hash_files
from kolmo.predictors.model_locations import remember
from kolmo.predictors.settings import DEFAULT_SETTINGS, RunSettings


class LlamaCpp(LanguageModel):
    """The predictor `gguf`."""

    name = "gguf"
    kept_as = "file"

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
    ) -> LlamaCpp:
        """From the part of a spec behind `gguf:`: a file, of a model in parts the first one.

        Args:
            argument: the file.
            dtype: only float32; the file determines the types of the weights.
            context: length of the context window in tokens; by default the model's own, up to 4096.
            chunk: most tokens of a lane; by default, each block has as many lanes as suit its length.
            tolerance: see `language_model.Options`.
            memory_tokens: size of the memory beside the model; by default 2^20 tokens, 0 for none.
            settings: how to run it here.

        Raises:
            PredictorError: there is no such file, or it does not hold a causal language model.
            MissingExtraError: llama-cpp-python is not installed.
        """
        if dtype not in (None, "float32"):
            raise PredictorError(f"gguf models have their own arithmetic, not {dtype}; leave the argument dtype out")
        return cls._open(argument, None, context, chunk or AUTO, memory_bits(memory_tokens), tolerance, settings)

    @classmethod
    def reopen(cls, spec: str, record: Record, settings: RunSettings) -> LlamaCpp:
        """The model that wrote a file."""
        if not 1 <= record.way <= len(WAYS):
            raise PredictorError(f"gguf:{spec}: computed in a way that is not known here; upgrade kolmo")
        return cls._open(
            spec, WAYS[record.way - 1], record.context or None, record.chunk, record.memory, None, settings
        )

    @classmethod
    def _open(
        cls,
        spec: str,
        way: bytes | None,
        context: int | None,
        chunk: int,
        memory: int,
        tolerance: str | float | None,
        settings: RunSettings,
    ) -> LlamaCpp:
        if chunk < 0 or (context is not None and context < 4):
            raise PredictorError(
                "a context has at least 4 tokens, a chunk at least 1; raise the argument context or the argument chunk"
            )
        path = Path(spec).resolve()
        backend = load(path, way, settings.device)
        window = backend.window
        if context is not None and window is not None and context > window:
            raise PredictorError(f"{spec} has a context window of {window} tokens; lower the argument context")
        seen = context or (min(window, CONTEXT) if window is not None else 0)
        hashes = hash_files(parts(path)), backend.way, backend.vocabulary.table_hash
        record = Record.of(path.name, "", hashes, "float32", seen, chunk, WAYS.index(backend.way) + 1, memory)
        backend.span = record.reach + 1
        remember(record.marks, path)
        return cls(backend, record, "auto" if tolerance is None else tolerance, settings)

    def most_lanes(self) -> int:
        """Most lanes that the settings allow at once, within the limit of llama.cpp."""
        return min(super().most_lanes(), int(library().llama_max_parallel_sequences()) - 1)
