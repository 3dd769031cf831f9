"""The embedded predictor `cm`: context mixing, with special models for pictures, sounds, programs, records and floats.

All of it is integer arithmetic, with the same bits on all machines. docs/context-mixing.md describes the mixer,
docs/kinds.md the kinds of data.

What it is not: the predictor `neural`, which predicts text with a network as well.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache

from kolmo.predictors.choice import Choice as Drawing
from kolmo.predictors.choice import Randomness
from kolmo.predictors.embedded.context_mixing import LEVELS, room_for
from kolmo.predictors.embedded.kinds.base import Kind, Segment
from kolmo.predictors.embedded.kinds.choice import choose
from kolmo.predictors.embedded.kinds.deflate.kind import Deflate
from kolmo.predictors.embedded.kinds.general import PLAIN, Plain
from kolmo.predictors.embedded.kinds.known import special_kinds
from kolmo.predictors.embedded.segmented import Choice, SegmentedPredictor, kinds_digest


class ContextMixing(SegmentedPredictor):
    """The predictor `cm` at a level from 1 (fast) to 9 (small)."""

    name = "cm"
    version = 2
    levels = LEVELS

    def fingerprint(self) -> bytes:
        """First 4 bytes of a SHA-256 over constants, shape, sizes and prior."""
        return _fingerprint(self.level)

    def kinds(self, threads: int = 1) -> Mapping[int, Kind]:
        """Code -> kind, of all kinds; one thread serves any of them."""
        return _kinds()

    def choose(self, data: bytes) -> Choice:
        """The segments of a block's content."""
        return _chosen(data, self.level, _kinds())

    def continuation(self, prompt: bytes, size: int, randomness: Randomness, choice: Drawing) -> Iterator[bytes]:
        """Go on where a prompt ends: see `predictors.base.Predictor`.

        Raises:
            PredictorError: the choice has top-k or top-p, or prompt and sample are too long.
        """
        room = room_for(self.name, len(prompt) + size, choice)
        return Plain(LEVELS).model(self.level, room).continuation(prompt, size, randomness, choice.temperature)


def _chosen(data: bytes, level: int, kinds: Mapping[int, Kind], known: Sequence[Segment] = ()) -> Choice:
    return Choice(choose(data, level, kinds, lambda piece: [Segment(PLAIN, 0, len(piece))], known))


@cache
def _kinds() -> Mapping[int, Kind]:
    kinds: dict[int, Kind] = {PLAIN: Plain(LEVELS), **special_kinds()}
    return kinds | {Deflate.code: Deflate(kinds, _chosen)}


@cache
def _fingerprint(level: int) -> bytes:
    return kinds_digest(_kinds(), level)[:4]
