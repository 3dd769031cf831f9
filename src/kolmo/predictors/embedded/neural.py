"""The embedded predictor `neural`: a recurrent network and a context mixer, with the same bits on all machines.

Text is predicted with the network (`predictors.embedded.text`). Pictures, sounds, programs, records and floats have
models of their own (`predictors.embedded.kinds`), other data is coded by the context mixer alone, and data that looks
random by the mixer of level 4. docs/kinds.md describes a block, docs/neural.md the network.

What it is not: the predictor `network` (`predictors.embedded.own_network`), which uses another network.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache, partial
from typing import ClassVar

from kolmo.predictors.choice import Choice as Drawing
from kolmo.predictors.choice import Randomness
from kolmo.predictors.embedded import context_mixing
from kolmo.predictors.embedded.context_mixing import room_for
from kolmo.predictors.embedded.gate import MAX_TRIAL_BYTES, looks_packed, should_use_network
from kolmo.predictors.embedded.kinds.base import Kind, Segment
from kolmo.predictors.embedded.kinds.choice import certain_segments, choose, choose_small, smallest
from kolmo.predictors.embedded.kinds.deflate.kind import Deflate
from kolmo.predictors.embedded.kinds.general import PLAIN, QUICK, Plain, Quick
from kolmo.predictors.embedded.kinds.known import special_kinds
from kolmo.predictors.embedded.kinds.segments import TEXT
from kolmo.predictors.embedded.neural_levels import LEVELS, Level
from kolmo.predictors.embedded.segmented import Choice, SegmentedPredictor, kinds_digest
from kolmo.predictors.embedded.split import split
from kolmo.predictors.embedded.text import SHIPPED, NetworkSource, NeuralModel, Text


class Neural(SegmentedPredictor):
    """The predictor `neural` at a level from 5 to 9 (small)."""

    name = "neural"
    version = 2
    levels: ClassVar[Mapping[int, Level]] = LEVELS
    source: NetworkSource = SHIPPED

    def __init__(self, level: int = 5) -> None:
        super().__init__(level)
        self._level = self.levels[level]

    def fingerprint(self) -> bytes:
        """First 4 bytes of a SHA-256 over constants, shapes, sizes, priors and the network."""
        return _fingerprint(self.level)

    def kinds(self, threads: int = 1) -> Mapping[int, Kind]:
        """Code -> kind, of all kinds; up to `threads` may work on a model of text."""
        return kinds_of(self.levels, self.source, threads)

    def choose(self, data: bytes) -> Choice:
        """The segments of a block's content."""
        return chosen(data, self.level, self.kinds(), (), self.source)

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


def kinds_of(levels: Mapping[int, Level], source: NetworkSource, threads: int = 1) -> dict[int, Kind]:
    """Code -> kind, of all kinds of a predictor with a network."""
    plain = Plain({level: (shape.plain, shape.table_bits) for level, shape in levels.items()})
    kinds: dict[int, Kind] = {TEXT: Text(levels, source, threads), PLAIN: plain, QUICK: Quick(), **special_kinds()}
    return kinds | {Deflate.code: Deflate(kinds, partial(chosen, source=source))}


def chosen(
    data: bytes, level: int, kinds: Mapping[int, Kind], known: Sequence[Segment], source: NetworkSource
) -> Choice:
    """The segments of a block, or of the content of deflate streams; `known` as for `choice.choose`."""
    if len(data) > MAX_TRIAL_BYTES:
        return Choice(choose(data, level, kinds, lambda piece: split(piece, source.kernel), known))
    # A small block is coded in all ways, since tests would take as long.
    if looks_packed(data):
        packed, found = [Segment(QUICK, 0, len(data))], certain_segments(data, kinds)
        return Choice(*smallest(data, level, kinds, [packed, found])) if found else Choice(packed)
    general = [TEXT] * should_use_network(data, source.kernel) + [QUICK, PLAIN]
    return Choice(*choose_small(data, level, kinds, general, known))


@cache
def _fingerprint(level: int) -> bytes:
    return fingerprint_of(LEVELS, level, SHIPPED)


def fingerprint_of(levels: Mapping[int, Level], level: int, source: NetworkSource) -> bytes:
    """First 4 bytes of a SHA-256 over all that determines a level's probabilities, except for code."""
    return kinds_digest(kinds_of(levels, source), level)[:4]
