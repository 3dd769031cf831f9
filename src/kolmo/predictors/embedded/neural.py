"""The embedded predictor `neural`: a recurrent network and a context mixer, with the same bits on all machines.

Text is predicted with the network (`predictors.embedded.text`). Pictures, sounds, programs, records and floats have
models of their own (`predictors.embedded.kinds`), other data is coded by the context mixer alone, and data that looks
random by the mixer of level 4. docs/kinds.md describes a block, docs/neural.md the network.

What it is not: the predictor `network` (`predictors.embedded.own_network`), which uses another network.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache

from kolmo.coder.binary import BinaryEncoder
from kolmo.errors import PredictorError
from kolmo.foreign import quoted
from kolmo.predictors.base import BlockPart, Predictor, unknown_version
from kolmo.predictors.choice import Choice as Drawing
from kolmo.predictors.choice import Randomness
from kolmo.predictors.embedded import context_mixing
from kolmo.predictors.embedded.cm import kinds_digest
from kolmo.predictors.embedded.context_mixing import room_for
from kolmo.predictors.embedded.gate import MAX_TRIAL_BYTES, looks_packed, should_use_network
from kolmo.predictors.embedded.kinds.base import Kind, Segment
from kolmo.predictors.embedded.kinds.choice import candidates, choose, smallest
from kolmo.predictors.embedded.kinds.general import PLAIN, QUICK, Plain, Quick
from kolmo.predictors.embedded.kinds.known import special_kinds
from kolmo.predictors.embedded.kinds.segments import TEXT
from kolmo.predictors.embedded.known_kind import KnownKind
from kolmo.predictors.embedded.neural_levels import LEVELS, Level
from kolmo.predictors.embedded.segmented import Choice, SegmentedModel, least_expansion, parts_of
from kolmo.predictors.embedded.split import split
from kolmo.predictors.embedded.text import SHIPPED, NetworkSource, NeuralModel, Text


class Neural(Predictor):
    """The predictor `neural` at a level from 5 to 9 (small)."""

    name = "neural"
    version = 2
    levels: Mapping[int, Level] = LEVELS
    source: NetworkSource = SHIPPED

    def __init__(self, level: int = 5) -> None:
        if level not in self.levels:
            raise PredictorError(f"neural has levels 5 to 9, not {level}; use neural:5 to neural:9")
        self.level = level
        self._level = self.levels[level]

    @classmethod
    def from_spec(cls, argument: str) -> Neural:
        """From the part of a spec behind `neural:`: a level, or nothing for the default.

        Raises:
            PredictorError: the argument is not a level.
        """
        if argument and not (argument.isascii() and argument.isdigit()):
            raise PredictorError(f"neural has levels 5 to 9, not {quoted(argument)}; use neural:5 to neural:9")
        return cls(int(argument or 5))

    @classmethod
    def restore(cls, version: int, parameters: bytes) -> Neural:
        """From what a file recorded.

        Raises:
            PredictorError: another version, or parameters that this version does not write.
        """
        if version != cls.version:
            raise unknown_version(cls.name, version, cls.version)
        if len(parameters) != 1 or parameters[0] not in LEVELS:
            raise PredictorError(
                f"neural version 2 has no parameters {quoted(parameters.hex(), 40)}; the file is damaged or newer"
            )
        return cls(parameters[0])

    def parameters(self) -> bytes:
        """The level, one byte."""
        return bytes([self.level])

    def fingerprint(self) -> bytes:
        """First 4 bytes of a SHA-256 over constants, shapes, sizes, priors and the network."""
        return _fingerprint(self.level)

    def memory(self, size: int) -> int:
        """Bytes that a model of a block of `size` bytes allocates (the C kernels; NumPy takes several times more)."""
        return max(kind.memory(self.level, size) for kind in self._kinds().values())

    def expansion(self, payload: bytes) -> int:
        """Upper bound on the raw bytes of a block for each byte of its payload, smaller where it uses the network."""
        return least_expansion(payload, self.level, self._kinds())

    def parts(self, payload: bytes, size: int) -> list[BlockPart]:
        """The parts of a coded block of `size` bytes, as its payload records them."""
        return parts_of(payload, size, self._kinds())

    def start(self, size: int, threads: int = 1) -> SegmentedModel:
        """A fresh model for a block of `size` bytes."""
        return SegmentedModel(self.level, size, self._kinds(threads), self._choose)

    def _kinds(self, threads: int = 1) -> Mapping[int, Kind]:
        return kinds_of(self.levels, self.source, threads)

    def _choose(self, data: bytes) -> Choice:
        kinds = self._kinds()
        if len(data) > MAX_TRIAL_BYTES:
            return Choice(choose(data, self.level, kinds, lambda piece: split(piece, self.source.kernel)))
        # A small block is coded in all ways, since tests would take as long.
        if looks_packed(data):
            return Choice([Segment(QUICK, 0, len(data))])
        best, size = smallest(
            data, self.level, kinds, [[Segment(QUICK, 0, len(data))], *candidates(data, self.level, kinds)]
        )
        if should_use_network(data, self.source.kernel):
            text = Choice([Segment(TEXT, 0, len(data))], self._level_text(len(data)).costs(data))
            encoder = BinaryEncoder()
            text.write(encoder, data)
            if len(encoder.finish()) <= size:
                return text
        return Choice(best)

    def _level_text(self, size: int) -> NeuralModel:
        return NeuralModel(self._level, size, 1, 1, self.source)

    def continuation(self, prompt: bytes, size: int, randomness: Randomness, choice: Drawing) -> Iterator[bytes]:
        """Go on where a prompt ends: see `predictors.base.Predictor`.

        Raises:
            PredictorError: the choice has top-k or top-p, or prompt and sample are too long.
        """
        room = room_for(self.name, len(prompt) + size, choice)
        if should_use_network(prompt, self.source.kernel):
            model = NeuralModel(self._level, room, 1, 1, self.source)
            return model.continuation(prompt, size, randomness, choice.temperature)
        plain = context_mixing.start(self._level.plain, room, self._level.table_bits)
        return plain.continuation(prompt, size, randomness, choice.temperature)

    def of_kind(self, kind: str, parameters: Mapping[str, int]) -> KnownKind:
        """The predictor for data of a known kind, such as image: see `predictors.base.Predictor`.

        Raises:
            PredictorError: there is no such kind, or it has other parameters.

        Example:
            >>> Neural().of_kind("audio", {"bits": 8, "channels": 1, "big": 0, "unsigned": 1, "phase": 0}).level
            5
        """
        return KnownKind(self, self.level, self._kinds(), kind, parameters)


def kinds_of(levels: Mapping[int, Level], source: NetworkSource, threads: int = 1) -> dict[int, Kind]:
    """Code -> kind, of all kinds of a predictor with a network."""
    plain = Plain({level: (shape.plain, shape.table_bits) for level, shape in levels.items()})
    return {TEXT: Text(levels, source, threads), PLAIN: plain, QUICK: Quick(), **special_kinds()}


@cache
def _fingerprint(level: int) -> bytes:
    return fingerprint_of(LEVELS, level, SHIPPED)


def fingerprint_of(levels: Mapping[int, Level], level: int, source: NetworkSource) -> bytes:
    """First 4 bytes of a SHA-256 over all that determines a level's probabilities, except for code."""
    return kinds_digest(kinds_of(levels, source), level)[:4]
