"""The protocol of scorers: models whose code lengths are measured.

What it is not: it does not open models (`evaluation.opening`), plan windows, or store costs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from kolmo.evaluation.windows.modes import TokenRule
from kolmo.evaluation.windows.passages import Nats, PassageBatch
from kolmo.predictors.guard import guarded

LITERAL_ID = -1  # the token id of bytes that no token covers


@dataclass(frozen=True, eq=False)
class Tokenised:
    """A text as tokens.

    Attributes:
        ids: the token ids, shape (n,), int32; LITERAL_ID for bytes that no token covers.
        lengths: the number of bytes that each token covers, shape (n,), int32.
        nats: costs that are known already, those of literals, shape (n,), float32; NaN for the others. None: all NaN.
    """

    ids: npt.NDArray[np.int32]
    lengths: npt.NDArray[np.int32]
    nats: Nats | None = None


@dataclass(frozen=True)
class ModelIdentity:
    """The identity of a model.

    Attributes:
        spec: the model specification.
        name: the name to show.
        kind: hf, gguf, api, predictor or classical.
        settings: everything that the costs depend on, such as hashes and dtype, as JSON values; part of the cache key
            of stored rows.
        facts: further information that is recorded with results, such as the number of parameters and the device.
    """

    spec: str
    name: str
    kind: str
    settings: Mapping[str, Any]
    facts: Mapping[str, Any] = field(default_factory=dict)


class EvaluatedModel(Protocol):
    """What planning a run needs to know about a model, wherever the model runs."""

    @property
    def identity(self) -> ModelIdentity:
        """The identity of the model."""
        ...

    @property
    def start(self) -> int | None:
        """The id of the start token, which is context and is never scored; None if the model has none."""
        ...

    @property
    def window(self) -> int | None:
        """The context length of the model in tokens; None if it is not limited."""
        ...

    @property
    def whole(self) -> bool:
        """Whether the model reads only whole documents, which only mode strict allows."""
        ...

    def tokenise(self, texts: Sequence[str], how: TokenRule) -> list[Tokenised]:
        """Tokenise texts.

        Args:
            texts: the texts.
            how: "exact", "default" or "plain" (see `Mode.token_rule`).

        Raises:
            PredictorError: the tokenizer cannot do this.
        """
        ...

    def budget(self, block: int) -> tuple[int, int]:
        """The largest number of passages, and of tokens, in a batch, if the user sets no batch size.

        Args:
            block: the largest number of tokens that the model reads before it predicts one.
        """
        ...


class Scorer(EvaluatedModel, Protocol):
    """A loaded model. It must be called from one thread at a time."""

    def score(self, batch: PassageBatch) -> list[Nats]:
        """The nats of the scored tokens of each passage: arrays of shape (passage.scored,), in the order of the batch.

        With `ScorerOptions.memory_windows` their shape is (passage.scored, 2): alone, and with the memory.

        They depend on the other passages of the batch by no more than floating-point noise.

        Raises:
            PredictorError: the model fails.
        """
        ...


@dataclass(frozen=True)
class ScorerOptions:
    """How to open and run a model. Every attribute has a default.

    Attributes:
        dtype: the floating-point type of the model: float32, bfloat16, float16 or float64.
        device: cpu, cuda or cuda:1; default: cuda where it is available.
        attention: the implementation of attention in transformers: eager, sdpa or flash_attention_2.
        cache_dir: the folder for models from the hub.
        tokenizer: the tokenizer of a server's model: a folder or an id of the hub.
        threads: threads for arithmetic on a CPU; 0: as many as the machine has cores.
        memory_windows: block and stride of the windows in which whole documents are scored, with a memory beside the
            model too (`memory_scorer`); None: without one.
    """

    dtype: str | None = None
    device: str | None = None
    attention: str | None = None
    cache_dir: str | None = None
    tokenizer: str | None = None
    threads: int = 0
    memory_windows: tuple[int, int] | None = None


def named(spec: str) -> AbstractContextManager[None]:
    """A context in which any error of a model, its tokenizer or its server becomes a `PredictorError` with its name.

    Engines call scorers within it, so that one failing model does not stop the others of a command.
    """
    return guarded(spec, "fails", "it cannot be evaluated here")
