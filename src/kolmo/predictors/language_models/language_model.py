"""Any language model of tokens as a predictor of bytes: tokens in chunks, chunks as parallel lanes, each lane a coder.

After Deletang et al., "Language Modeling Is Compression" (2024), section 2, made to work both ways: the encoder reads
whole chunks in one batched pass (teacher forcing), the decoder steps through the same chunks in lockstep, and
noise-tolerant coding (`predictors.language_models.grids`) makes them agree though their floating-point sums do not.
docs/language-models.md has the layout. What it is not: it runs no network; a `Backend` does
(`predictors.language_models.backends`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from kolmo.errors import PredictorError
from kolmo.foreign import short
from kolmo.native.memory.reference import table_bytes
from kolmo.predictors.base import Predictor
from kolmo.predictors.choice import Choice, Randomness, choose
from kolmo.predictors.language_models.backends import MAX_LOGITS_BYTES, Backend
from kolmo.predictors.language_models.block import LanguageModelBlock
from kolmo.predictors.language_models.records import VERSION, Record
from kolmo.predictors.model_locations import recall
from kolmo.predictors.settings import DEFAULT_SETTINGS, RunSettings

if TYPE_CHECKING:
    from typing_extensions import Self

LANE_TOKENS = 8192  # tokens of a lane, about, where the writer chooses the number of lanes
MAX_BATCH = 64  # lanes that are read at once, unless the settings choose a number
MAX_CACHE_BYTES = 1 << 30  # bytes of keys and values in memory at once; they bound the lanes likewise
MAX_EXPANSION = 128  # raw bytes that a block may hold for each byte of its payload
OVERHEAD = (
    "a file takes more, since it tolerates the noise of other machines: about 1 %, or 3 % with tolerance=1e-3 "
    "(docs/language-models.md)"
)


class Options(NamedTuple):
    """What a writer may choose; None stands for the default.

    chunk: most tokens of a lane; 0 or None: each block has as many lanes as `LanguageModel.lanes` chooses.
    tolerance: "auto", or a bound on the noise of every logit; 0 for models that compute the same bits everywhere.
    memory_tokens: size of the memory beside the model (docs/memory.md), rounded up to a power of two; 0: none.
    """

    dtype: str | None = None
    context: int | None = None
    chunk: int | None = None
    tolerance: str | float | None = None
    memory_tokens: int | None = None


class LanguageModel(Predictor):
    """The predictor: a backend, and how a content is divided. `HuggingFace` and `LlamaCpp` open the backends."""

    name = ""
    kept_as = "folder"  # what a model is on the disk, for messages
    version = VERSION
    exclusive = True  # one block at a time, with all threads
    options = Options._fields
    uses_settings = True

    def __init__(
        self,
        backend: Backend,
        record: Record,
        tolerance: str | float = "auto",
        settings: RunSettings = DEFAULT_SETTINGS,
    ) -> None:
        self.backend = backend
        self.record = record
        self.version = record.version
        self.tolerance = tolerance
        self.settings = settings
        if record.memory and not record.lanes:
            self.record = replace(record, lanes=min(self.most_lanes(), 255))
        self.notes: list[str] = []  # noise and tolerance of the last block, for -v

    @classmethod
    def restore(cls, version: int, parameters: bytes, settings: RunSettings = DEFAULT_SETTINGS) -> Self:
        """From what a file recorded: opens the model, and compares its hashes.

        The name in the file is never used as a path: the model is the one that the settings give, or a model of the
        hub that is in the cache here, or one that was opened here before (`predictors.model_locations`).

        Raises:
            PredictorError: the model is not here, or differs; the message states how.
        """
        if version > VERSION:
            raise PredictorError(f"{cls.name} version {version} is not known here; upgrade kolmo")
        record = Record.from_bytes(parameters, version)
        given = (settings.model or "").removeprefix(f"{cls.name}:")
        spec = given or (cls.fetched(record) if record.revision else recall(record.marks))
        if not spec:
            raise PredictorError(
                f"{cls.name}:{short(record.spec)} is not known on this machine; give its {cls.kept_as} as "
                f"RunSettings(model={cls.kept_as.upper()})"
            )
        here = cls.reopen(spec, record, settings)
        if differences := record.differences(here.record):
            wanted = short(f"{record.spec}, revision {record.revision}" if record.revision else record.spec)
            raise PredictorError(
                f"{cls.name}:{spec} is not the model that wrote this file: {', '.join(differences)} differs; "
                f"give the writer's ({wanted}) as RunSettings(model={cls.kept_as.upper()})"
            )
        if record.slides and not here.backend.slides:
            raise PredictorError(
                f"{cls.name}:{spec}: the window of this file slides, which the model's implementation here does not "
                "support; install the writer's version of it"
            )
        here.record = replace(record, rest=here.record.rest)
        here.version = record.version
        if record.lanes * here.lane_bytes() > MAX_CACHE_BYTES and record.lanes > here.most_lanes():
            raise PredictorError(
                f"{short(record.spec)}: the file's {record.lanes} lanes share a memory and are read at once, in "
                f"{record.lanes * here.lane_bytes() >> 20} MiB; allow it as RunSettings(batch={record.lanes})"
            )
        return here

    @classmethod
    def reopen(cls, spec: str, record: Record, settings: RunSettings) -> Self:
        """The model that wrote a file, opened without access to the network.

        Args:
            spec: the location of the model here; it never comes from the file.
            record: what the file records of dtype, context and chunk.
            settings: how to run it here.
        """
        raise NotImplementedError

    @classmethod
    def fetched(cls, record: Record) -> str | None:
        """Location of the model of a record with a revision; None where the record is not to be trusted."""
        return None

    @property
    def caveat(self) -> str:
        """That noise may have made a block fail, not only damage."""
        return (
            f"or this machine computes {short(self.record.spec)} with more noise than the file tolerates; decode with "
            "the writer's versions or device"
        )

    @property
    def overhead(self) -> str:
        """What a file takes beyond the code length, in words; empty where next to no noise is tolerated."""
        exact = self.record.dtype == "float64" if self.tolerance == "auto" else float(self.tolerance) == 0
        return "" if exact else OVERHEAD

    def parameters(self) -> bytes:
        """The record."""
        return self.record.to_bytes()

    def fingerprint(self) -> bytes:
        """4 bytes of a SHA-256 over the hashes of weights, configuration and tokenizer; the record has the rest."""
        return self.record.rest

    def memory(self, size: int) -> int:
        """Bytes that decoding a block takes in addition to the weights: keys and values, logits, tokens.

        A token is at least a byte. A writer whose block has a memory takes up to 48 bytes a token more, for decisions.
        """
        lanes = self.batch(-(-size // (self.record.chunk or 1)))
        cache = (min(size, lanes * self.record.reach) + lanes) * self.backend.token_bytes
        memory = table_bytes(size, 1 << self.record.memory, self.backend.size) if self.record.memory else 0
        return cache + 2 * MAX_LOGITS_BYTES + 40 * size + memory + (16 << 20)

    def expansion(self, payload: bytes) -> int:
        """Upper bound on the raw bytes of a block for each byte of its payload; a model takes long for each of them."""
        return MAX_EXPANSION

    def lane_bytes(self) -> int:
        """Bytes of a lane's keys and values."""
        return max((self.record.reach + 1) * self.backend.token_bytes, 1)

    def most_lanes(self) -> int:
        """Most lanes that the settings allow at once."""
        return self.settings.batch or max(min(MAX_BATCH, MAX_CACHE_BYTES // self.lane_bytes()), 1)

    def lanes(self, tokens: int) -> int:
        """Number of lanes that a writer divides the tokens of a block into.

        Where the record does not say: one for every `LANE_TOKENS` tokens, but not more than are read at once, so that a
        short text is one lane, and a long one has full batches of long lanes (docs/language-models.md).
        """
        if self.record.chunk:
            return -(-tokens // self.record.chunk)
        return min(-(-tokens // LANE_TOKENS), self.record.lanes or self.most_lanes())

    def batch(self, chunks: int) -> int:
        """Number of lanes that are read at once, for this number of chunks."""
        most = self.record.lanes or self.most_lanes()
        groups = -(-chunks // most)
        return (
            -(-chunks // groups) if groups else 1
        )  # groups of equal size, so that the last one does not have few lanes

    def continuation(self, prompt: bytes, size: int, randomness: Randomness, choice: Choice) -> Iterator[bytes]:
        """Draw tokens after a prompt until there are `size` bytes, or a token ends the text.

        Bytes of the prompt that no token covers are left out. When the context is full, its later half is kept.
        """
        vocabulary, context = self.backend.vocabulary, self.record.context
        ids = vocabulary.tokenise(prompt).ids.astype(np.int64).tolist()
        read, done = 0, 0  # tokens that the current lane has read, and bytes drawn
        reader = self.backend.lanes(1, 0)
        while done < size:
            if read == 0 or (context and read >= context):
                reader = self.backend.lanes(1, 0)
                part = [self.backend.start, *(ids[-(context // 2) :] if context else ids)]
                read = 0
            else:
                part = ids[-1:]
            logits = reader.feed(np.array([part], np.int64), 1)[0, 0]
            read += len(part)
            ids.append(choose(logits, randomness.uniform(), choice.temperature, choice.top_k, choice.top_p))
            text = vocabulary.bytes_of(ids[-1])
            if not text:  # end of text, or another token without bytes
                return
            done += len(text)
            yield text

    def start(self, size: int, threads: int = 1) -> LanguageModelBlock:
        """A fresh model for a block of `size` bytes."""
        return LanguageModelBlock(
            self.backend,
            self.record,
            self.tolerance,
            self.lanes,
            self.batch,
            self.settings.verify,
            self.notes,
            size,
            threads,
            self.settings.batch or 0,
        )
