"""The embedded predictor `cm`: context mixing, with special models for pictures, sounds, programs, records and floats.

All of it is integer arithmetic, with the same bits on all machines. docs/context-mixing.md describes the mixer,
docs/kinds.md the kinds of data.

What it is not: the predictor `neural`, which predicts text with a network as well.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from functools import cache

from kolmo.errors import PredictorError
from kolmo.foreign import quoted
from kolmo.predictors.base import BlockPart, Predictor, unknown_version
from kolmo.predictors.choice import Choice as Drawing
from kolmo.predictors.choice import Randomness
from kolmo.predictors.embedded.context_mixing import LEVELS, room_for
from kolmo.predictors.embedded.kinds.base import Kind, Segment
from kolmo.predictors.embedded.kinds.choice import choose
from kolmo.predictors.embedded.kinds.general import PLAIN, Plain
from kolmo.predictors.embedded.kinds.known import special_kinds
from kolmo.predictors.embedded.known_kind import KnownKind
from kolmo.predictors.embedded.segmented import Choice, SegmentedModel, least_expansion, parts_of


class ContextMixing(Predictor):
    """The predictor `cm` at a level from 1 (fast) to 9 (small)."""

    name = "cm"
    version = 2

    def __init__(self, level: int = 5) -> None:
        if level not in LEVELS:
            raise PredictorError(f"cm has levels 1 to 9, not {level}; use cm:1 to cm:9")
        self.level = level

    @classmethod
    def from_spec(cls, argument: str) -> ContextMixing:
        """From the part of a spec behind `cm:`: a level, or nothing for the default.

        Raises:
            PredictorError: the argument is not a level.
        """
        if argument and not (argument.isascii() and argument.isdigit()):
            raise PredictorError(f"cm has levels 1 to 9, not {quoted(argument)}; use cm:1 to cm:9")
        return cls(int(argument or 5))

    @classmethod
    def restore(cls, version: int, parameters: bytes) -> ContextMixing:
        """From what a file recorded.

        Raises:
            PredictorError: another version, or parameters that this version does not write.
        """
        if version != cls.version:
            raise unknown_version(cls.name, version, cls.version)
        if len(parameters) != 1 or parameters[0] not in LEVELS:
            raise PredictorError(
                f"cm version 2 has no parameters {quoted(parameters.hex(), 40)}; the file is damaged or newer"
            )
        return cls(parameters[0])

    def parameters(self) -> bytes:
        """The level, one byte."""
        return bytes([self.level])

    def fingerprint(self) -> bytes:
        """First 4 bytes of a SHA-256 over constants, shape, sizes and prior."""
        return _fingerprint(self.level)

    def memory(self, size: int) -> int:
        """Bytes that a model of a block of `size` bytes allocates (the C kernels; NumPy takes several times more)."""
        return max(kind.memory(self.level, size) for kind in _kinds().values())

    def expansion(self, payload: bytes) -> int:
        """Upper bound on the raw bytes of a block for each byte of its payload: the least of the kinds in it."""
        return least_expansion(payload, self.level, _kinds())

    def parts(self, payload: bytes, size: int) -> list[BlockPart]:
        """The parts of a coded block of `size` bytes, as its payload records them."""
        return parts_of(payload, size, _kinds())

    def start(self, size: int, threads: int = 1) -> SegmentedModel:
        """A fresh model for a block of `size` bytes; one thread serves it."""
        return SegmentedModel(self.level, size, _kinds(), self._choose)

    def _choose(self, data: bytes) -> Choice:
        return Choice(choose(data, self.level, _kinds(), lambda piece: [Segment(PLAIN, 0, len(piece))]))

    def continuation(self, prompt: bytes, size: int, randomness: Randomness, choice: Drawing) -> Iterator[bytes]:
        """Go on where a prompt ends: see `predictors.base.Predictor`.

        Raises:
            PredictorError: the choice has top-k or top-p, or prompt and sample are too long.
        """
        room = room_for(self.name, len(prompt) + size, choice)
        return Plain(LEVELS).model(self.level, room).continuation(prompt, size, randomness, choice.temperature)

    def of_kind(self, kind: str, parameters: Mapping[str, int]) -> KnownKind:
        """The predictor for data of a known kind, such as image: see `predictors.base.Predictor`.

        Raises:
            PredictorError: there is no such kind, or it has other parameters.

        Example:
            >>> ContextMixing().of_kind("audio", {"bits": 8, "channels": 1, "big": 0, "unsigned": 1, "phase": 0}).level
            5
        """
        return KnownKind(self, self.level, _kinds(), kind, parameters)


@cache
def _kinds() -> Mapping[int, Kind]:
    return {PLAIN: Plain(LEVELS), **special_kinds()}


@cache
def _fingerprint(level: int) -> bytes:
    return kinds_digest(_kinds(), level)[:4]


def kinds_digest(kinds: Mapping[int, Kind], level: int) -> bytes:
    """SHA-256 over all that determines the probabilities of all kinds at a level."""
    digest = hashlib.sha256()
    for code, kind in sorted(kinds.items()):
        digest.update(bytes([code, len(kind.fields)]) + kind.digest(level))
    return digest.digest()
