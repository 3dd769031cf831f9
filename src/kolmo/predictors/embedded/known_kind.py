"""An embedded predictor for data whose kind is known, such as the grey pixels of a picture 64 wide.

A block of a `.kmo` file records which kind each part is taken for; here the caller knows, so that nothing is guessed or
recorded, and the models of pictures and sounds go on where a prompt ends, as those of text do (docs/sample.md).

What it is not: a predictor that files record.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Protocol

from kolmo.errors import PredictorError
from kolmo.foreign import quoted
from kolmo.predictors.base import Model, Predictor
from kolmo.predictors.choice import Choice, Randomness
from kolmo.predictors.embedded.context_mixing import check_choice
from kolmo.predictors.embedded.kinds.base import MAX_PARAMETER, Kind


class Continuing(Protocol):
    """A model that goes on where a prompt ends."""

    def continuation(self, prompt: bytes, size: int, randomness: Randomness, temperature: float) -> Iterator[bytes]:
        """Learn the prompt, then draw `size` bytes."""
        ...


class KnownKind(Predictor):
    """The model of one kind of data at a level.

    Args:
        base: the predictor whose model it is.
        level: 1 to 9.
        kinds: those that the predictor has, by code.
        kind: name of the kind, such as image.
        parameters: of the kind, by name, such as stride, channels and order.

    Raises:
        PredictorError: there is no such kind, or it has other parameters.
    """

    def __init__(
        self, base: Predictor, level: int, kinds: Mapping[int, Kind], kind: str, parameters: Mapping[str, int]
    ) -> None:
        named = {one.name: one for one in kinds.values()}
        if kind not in named:
            raise PredictorError(f"{base.name} has no kind {quoted(kind)}; choose {', '.join(named)}")
        self._kind = named[kind]
        if set(parameters) != set(self._kind.fields):
            raise PredictorError(f"kind {kind} has the parameters {', '.join(self._kind.fields) or 'none'}")
        if not all(0 <= value <= MAX_PARAMETER for value in parameters.values()):
            raise PredictorError(f"parameters of kind {kind} go from 0 to {MAX_PARAMETER}")
        self.name, self.version = base.name, base.version
        self.level = level
        self._parameters = tuple(parameters[name] for name in self._kind.fields)

    def parameters(self) -> bytes:
        """No file can record it.

        Raises:
            PredictorError: always.
        """
        raise PredictorError(f"{self.name} of a known kind writes no files; use {self.name}:{self.level}")

    def fingerprint(self) -> bytes:
        """First 4 bytes of a SHA-256 over the kind's probabilities and its parameters."""
        whole = self._kind.digest(self.level) + repr((self._kind.name, self._parameters)).encode()
        return hashlib.sha256(whole).digest()[:4]

    def memory(self, size: int) -> int:
        """Bytes that a model of `size` bytes allocates."""
        return self._kind.memory(self.level, size)

    def start(self, size: int, threads: int = 1) -> Model:
        """A fresh model of `size` bytes.

        Raises:
            CorruptError: the parameters have values that no writer writes.
        """
        return self._kind.model(self.level, size, self._parameters)

    def continuation(self, prompt: bytes, size: int, randomness: Randomness, choice: Choice) -> Iterator[bytes]:
        """Go on where a prompt ends: see `predictors.base.Predictor`.

        A model is made for prompt and sample together, so a short sample need not be the beginning of a longer one.

        Raises:
            PredictorError: the choice has top-k or top-p, the prompt ends within a row or a sample, or models of this
                kind do not sample.
        """
        check_choice(self.name, len(prompt) + size, choice)
        if not size:
            return iter(())
        model = self.start(len(prompt) + size)
        drawn = getattr(model, "continuation", None)
        if drawn is None:
            raise PredictorError(f"models of kind {self._kind.name} do not sample; take the predictor itself")
        going: Continuing = model  # type: ignore[assignment]
        return going.continuation(prompt, size, randomness, choice.temperature)
