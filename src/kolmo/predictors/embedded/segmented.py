"""Predictors of blocks whose parts are of different kinds: each kind's parts are one stream, with a model of its own.

A block is a list of segments (`kinds.segments`). Segments of equal kind and parameters are joined to a stream; the
streams are coded one after another. So a text around a picture has one history, and only one model is in memory at a
time. docs/kinds.md describes the format.

What it is not: the choice of the segments, which the predictor passes in.
"""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from kolmo.coder.binary import BinaryDecoder, BinaryEncoder
from kolmo.errors import CorruptError, PredictorError
from kolmo.foreign import quoted
from kolmo.predictors.base import BlockPart, Model, Predictor, slices, unknown_version
from kolmo.predictors.embedded.kinds.base import Kind, Segment
from kolmo.predictors.embedded.kinds.segments import read_segments, segment_bits, streams_of, write_segments
from kolmo.predictors.embedded.known_kind import KnownKind
from kolmo.progress import Progress

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from typing_extensions import Self

ANY_SIZE = 1 << 40  # of a block whose kinds alone are read


@dataclass(frozen=True)
class Choice:
    """The segments of a block, and an encoder that has coded their list and the block already, if there is one.

    It is used once.
    """

    segments: Sequence[Segment]
    coded: BinaryEncoder | None = None


class SegmentedModel:
    """A running model over one block of `size` bytes.

    Args:
        level: 1 to 9, of the models of all kinds.
        size: of the block.
        kinds: code -> kind.
        choose: the segments of a block's content; only a writer calls it.

    Attributes:
        parts: what the block was taken for, once it is coded or scored.
    """

    def __init__(self, level: int, size: int, kinds: Mapping[int, Kind], choose: Callable[[bytes], Choice]) -> None:
        self._level, self._size, self._kinds, self._choose = level, size, kinds, choose
        self.parts: list[BlockPart] = []

    def encode(self, encoder: BinaryEncoder, data: bytes, progress: Progress | None = None) -> None:
        """Code the block."""
        choice = self._choose(data)
        self.parts = _parts(choice.segments, self._kinds)
        if choice.coded:
            encoder.adopt(choice.coded)
            for _ in slices(len(data), progress):
                pass  # it is done, and reported as work usually is
            return
        write_segments(encoder, choice.segments)
        for stream in streams_of(choice.segments):
            self._model(stream).encode(encoder, _content(data, stream), progress)

    def decode(self, decoder: BinaryDecoder, progress: Progress | None = None) -> bytes:
        """Decode the block.

        Raises:
            CorruptError: the payload ends before it does, or its segments are wrong.
        """
        segments = read_segments(decoder, self._size, self._kinds)
        self.parts = _parts(segments, self._kinds)
        if len(segments) == 1:
            return self._model(segments).decode(decoder, progress)
        parts: dict[int, memoryview] = {}  # offset -> content
        for stream in streams_of(segments):
            content, at = memoryview(self._model(stream).decode(decoder, progress)), 0
            for segment in stream:
                parts[segment.first] = content[at : at + segment.size]
                at += segment.size
        return b"".join(parts[segment.first] for segment in segments)

    def score(self, data: bytes, progress: Progress | None = None) -> npt.NDArray[np.float64]:
        """Code length of each byte in bits, shape (len(data),); the first one's includes the list of segments."""
        import numpy as np

        segments = self._choose(data).segments
        self.parts = _parts(segments, self._kinds)
        bits = np.empty(len(data))
        for stream in streams_of(segments):
            costs, at = self._model(stream).score(_content(data, stream), progress), 0
            for segment in stream:
                bits[segment.first : segment.end] = costs[at : at + segment.size]
                at += segment.size
        bits[:1] += segment_bits(segments)
        return bits

    def _model(self, stream: Sequence[Segment]) -> Model:
        size = sum(segment.size for segment in stream)
        return self._kinds[stream[0].code].model(self._level, size, stream[0].parameters)


class SegmentedPredictor(Predictor):
    """A predictor of such blocks, at a level. A subclass defines `levels`, `kinds` and `choose`.

    Attributes:
        levels: the levels that there are; what they stand for is the subclass's.
        level: one of them.
    """

    levels: ClassVar[Mapping[int, Any]]

    def __init__(self, level: int = 5) -> None:
        if level not in self.levels:
            raise self.no_level(str(level))
        self.level = level

    @classmethod
    def no_level(cls, given: str) -> PredictorError:
        """The error for a level that there is not."""
        low, high, name = min(cls.levels), max(cls.levels), cls.name
        return PredictorError(f"{name} has levels {low} to {high}, not {given}; use {name}:{low} to {name}:{high}")

    @abstractmethod
    def kinds(self, threads: int = 1) -> Mapping[int, Kind]:
        """Code -> kind, of all kinds; up to `threads` may work on a model of one."""

    @abstractmethod
    def choose(self, data: bytes) -> Choice:
        """The segments of a block's content."""

    @classmethod
    def from_spec(cls, argument: str) -> Self:
        """From the part of a spec behind the name and the colon: a level, or nothing for the default.

        Raises:
            PredictorError: the argument is not a level.
        """
        if argument and not (argument.isascii() and argument.isdigit()):
            raise cls.no_level(quoted(argument))
        return cls(int(argument or 5))

    @classmethod
    def restore(cls, version: int, parameters: bytes) -> Self:
        """From what a file recorded.

        Raises:
            PredictorError: another version, or parameters that this version does not write.
        """
        if version != cls.version:
            raise unknown_version(cls.name, version, cls.version)
        if len(parameters) != 1 or parameters[0] not in cls.levels:
            given = quoted(parameters.hex(), 40)
            raise PredictorError(
                f"{cls.name} version {cls.version} has no parameters {given}; the file is damaged or newer"
            )
        return cls(parameters[0])

    def parameters(self) -> bytes:
        """The level, one byte."""
        return bytes([self.level])

    def memory(self, size: int) -> int:
        """Bytes that a model of a block of `size` bytes allocates (the C kernels; NumPy takes several times more)."""
        return max(kind.memory(self.level, size) for kind in self.kinds().values())

    def expansion(self, payload: bytes) -> int:
        """Upper bound on the raw bytes of a block for each byte of its payload: the least of the kinds in it."""
        return least_expansion(payload, self.level, self.kinds())

    def work(self, payload: bytes, size: int) -> int:
        """Bytes that are coded for a block of `size` bytes, contents of deflate streams included."""
        return work_of(payload, size, self.kinds())

    def parts(self, payload: bytes, size: int) -> list[BlockPart]:
        """The parts of a coded block of `size` bytes, as its payload records them."""
        return parts_of(payload, size, self.kinds())

    def start(self, size: int, threads: int = 1) -> SegmentedModel:
        """A fresh model for a block of `size` bytes."""
        return SegmentedModel(self.level, size, self.kinds(threads), self.choose)

    def of_kind(self, kind: str, parameters: Mapping[str, int]) -> KnownKind:
        """The predictor for data of a known kind, such as image: see `predictors.base.Predictor`.

        Raises:
            PredictorError: there is no such kind, or it has other parameters.
        """
        return KnownKind(self, self.level, self.kinds(), kind, parameters)


def parts_of(payload: bytes, size: int, kinds: Mapping[int, Kind]) -> list[BlockPart]:
    """What a coded block's parts are: see `Predictor.parts`."""
    return _parts(read_segments(BinaryDecoder(payload), size, kinds), kinds)


def _parts(segments: Sequence[Segment], kinds: Mapping[int, Kind]) -> list[BlockPart]:
    named = ((kinds[segment.code], segment) for segment in segments)
    return [BlockPart(kind.name, segment.first, segment.size, _shown(kind, segment)) for kind, segment in named]


def _shown(kind: Kind, segment: Segment) -> dict[str, int]:
    pairs = zip(kind.fields, segment.parameters, strict=True)
    return {name: value for name, value in pairs if name not in kind.hidden}


def work_of(payload: bytes, size: int, kinds: Mapping[int, Kind]) -> int:
    """Bytes that the models of a coded block of `size` bytes code: see `Predictor.work`."""
    try:
        segments = read_segments(BinaryDecoder(payload), size, kinds)
    except CorruptError:  # decoding says so
        return size
    return sum(
        kinds[stream[0].code].work(sum(segment.size for segment in stream), stream[0].parameters)
        for stream in streams_of(segments)
    )


def kinds_digest(kinds: Mapping[int, Kind], level: int) -> bytes:
    """SHA-256 over all that determines the probabilities of all kinds at a level."""
    digest = hashlib.sha256()
    for code, kind in sorted(kinds.items()):
        digest.update(bytes([code, len(kind.fields)]) + kind.digest(level))
    return digest.digest()


def least_expansion(payload: bytes, level: int, kinds: Mapping[int, Kind]) -> int:
    """Upper bound on the raw bytes of a block for each byte of its payload: the least of its kinds'."""
    try:
        segments = read_segments(BinaryDecoder(payload), ANY_SIZE, kinds)
    except CorruptError:  # decoding says so
        return min(kind.expansion(level) for kind in kinds.values())
    return min(kinds[segment.code].expansion(level) for segment in segments)


def _content(data: bytes, stream: Sequence[Segment]) -> bytes:
    if len(stream) == 1 and stream[0].size == len(data):
        return data
    return b"".join(data[segment.first : segment.end] for segment in stream)
