"""Scorers: everything whose code lengths are compared, behind one protocol.

What it is not: it opens no model (`evaluation.opening`), decides no windows, and keeps nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from kolmo.evaluation.windows.modes import Texts
from kolmo.evaluation.windows.passages import Batch, Nats
from kolmo.predictors.guard import guarded

LITERAL = -1  # the id of bytes that no token covers


@dataclass(frozen=True, eq=False)
class Tokenised:
    """A text as tokens.

    Attributes:
        ids: shape (n,), int32; LITERAL for bytes that no token covers.
        lengths: shape (n,), int32: bytes of the text that each stands for.
        nats: shape (n,), float32: costs that are known already, of literals; NaN for tokens. None: of none.
    """

    ids: npt.NDArray[np.int32]
    lengths: npt.NDArray[np.int32]
    nats: Nats | None = None


@dataclass(frozen=True)
class Identity:
    """What a scorer is.

    Attributes:
        spec: as it was given.
        name: for people.
        kind: hf, gguf, api, predictor, classical.
        settings: all that costs depend on, as JSON has it: hashes, dtype; the key of stored rows.
        facts: what else is good to know: number of parameters, device, versions.
    """

    spec: str
    name: str
    kind: str
    settings: Mapping[str, Any]
    facts: Mapping[str, Any] = field(default_factory=dict)


class EvaluatedModel(Protocol):
    """What planning needs to know of a model, wherever it runs."""

    @property
    def identity(self) -> Identity:
        """What it is."""
        ...

    @property
    def start(self) -> int | None:
        """The token that conditions and is never scored; None for scorers that have, and need, none."""
        ...

    @property
    def window(self) -> int | None:
        """Tokens that it sees, where there is a limit."""
        ...

    @property
    def whole(self) -> bool:
        """Whether it takes whole documents only, and thus mode strict alone."""
        ...

    def tokenise(self, texts: Sequence[str], how: Texts) -> list[Tokenised]:
        """Texts as tokens.

        Raises:
            PredictorError: it cannot do it this way.
        """
        ...

    def budget(self, block: int) -> tuple[int, int]:
        """(passages, tokens) of a batch that it likes, at most, where the user says nothing."""
        ...


class Scorer(EvaluatedModel, Protocol):
    """A model that is loaded. It serves one thread at a time."""

    def score(self, batch: Batch) -> list[Nats]:
        """Nats of what is scored in each passage: arrays of shape (passage.scored,), in the batch's order.

        They depend on the rest of the batch by no more than floating-point noise.

        Raises:
            PredictorError: the model fails.
        """
        ...


@dataclass(frozen=True)
class Options:
    """How to open and run a model. All may be left out.

    Attributes:
        dtype: of the arithmetic: float32, bfloat16, float16, float64.
        device: cpu, cuda, cuda:1; default: cuda where it is.
        attention: implementation of attention in transformers: eager, sdpa, flash_attention_2.
        cache_dir: where models of the hub are kept.
        tokenizer: of a server's model: folder or id.
        threads: of arithmetic on a CPU; 0: as many as there are cores.
    """

    dtype: str | None = None
    device: str | None = None
    attention: str | None = None
    cache_dir: str | None = None
    tokenizer: str | None = None
    threads: int = 0


def named(spec: str) -> AbstractContextManager[None]:
    """Within it, whatever a model, its tokenizer or its server raises becomes a `PredictorError` that names the model.

    Engines work within it, wherever the model is, so that other models of a command go on.
    """
    return guarded(spec, "fails", "it cannot be evaluated here")
