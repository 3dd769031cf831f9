"""What a `.kmo` file holds, frame by frame, read from heads and indexes without decoding the content.

Kinds of data are read from the beginnings of the payloads, where they are asked for.

What it is not: a check of the contents (see `streams.check_stream`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import IO

from kolmo.container.index import Index
from kolmo.container.structures import STORED, BlockHead, Header
from kolmo.container.wire import Reader
from kolmo.errors import CorruptError, FormatError
from kolmo.predictors.base import BlockPart
from kolmo.predictors.parts import STORED_KIND, UNKNOWN_KIND, KindShare, Shares
from kolmo.predictors.registry import level_of, model_of, parts_reader

_ReadParts = Callable[[bytes, int], list[BlockPart]]
EXTREME_RATIO = 256  # raw bytes for each packed byte that a person should know of
MIN_EXTREME_BYTES = 1 << 16  # raw bytes below which no ratio matters


@dataclass(frozen=True)
class FrameInfo:
    """One frame. Sizes and offsets in bytes, `mtime` in nanoseconds; None where the file does not say.

    `model` says which language model a file needs, where it needs one.
    `kinds` says what the blocks were taken for; None where that was not asked for, or the predictor records nothing.
    `checksum` is the content's digest in hexadecimal; None where the frame was not read to its end.
    """

    offset: int
    packed_size: int
    raw_size: int
    blocks: int
    predictor: str
    version: int
    level: int | None
    model: str | None
    fingerprint: str
    checksum: str | None
    name: str | None
    mtime: int | None
    mode: int | None
    kinds: tuple[KindShare, ...] | None = None

    @property
    def ratio(self) -> float | None:
        """Raw bytes per packed byte, as zstd counts it; None for an empty content."""
        return self.raw_size / self.packed_size if self.raw_size else None


@dataclass(frozen=True)
class Listing:
    """All frames of a file, and what stopped the walk where it is damaged."""

    frames: list[FrameInfo]
    error: FormatError | None

    @property
    def raw_size(self) -> int:
        """Bytes of content."""
        return sum(frame.raw_size for frame in self.frames)

    @property
    def packed_size(self) -> int:
        """Bytes of the frames."""
        return sum(frame.packed_size for frame in self.frames)

    @property
    def is_extreme(self) -> bool:
        """Whether the file claims so much content for its size that decoding it may be meant to keep a machine busy."""
        return self.raw_size > max(MIN_EXTREME_BYTES, EXTREME_RATIO * self.packed_size)

    def describe_extreme(self) -> str:
        """The warning about such a file, without its name."""
        return (
            f"claims {self.raw_size} bytes of content in {self.packed_size}, an extreme ratio "
            f"({self.raw_size // max(self.packed_size, 1)} : 1), which takes long to decode; "
            "the argument max_length of decompressing and testing sets a limit"
        )


def list_stream(source: IO[bytes], *, name: str = "input", kinds: bool = False) -> Listing:
    """List the frames of a stream; one that cannot seek is read through.

    Args:
        source: the file.
        name: its name in errors.
        kinds: whether to read what the blocks were taken for. A damaged beginning of a block is of an unknown kind.
    """
    examiner = _Examiner()
    index = Index.walk(Reader(source, name), examiner.examine if kinds else None)
    frames = []
    for span in index.spans:
        header = span.header
        record = header.predictor
        frames.append(
            FrameInfo(
                span.offset,
                span.size,
                span.raw_size,
                len(span.blocks),
                record.name,
                record.version,
                level_of(record.name, record.parameters),
                model_of(record.name, record.version, record.parameters),
                record.fingerprint.hex(),
                span.digest.hex() if span.digest else None,
                header.name,
                header.mtime,
                header.mode,
                examiner.kinds(header) if kinds else None,
            )
        )
    return Listing(frames, index.error)


class _Examiner:
    """Adds up what the blocks of each frame were taken for."""

    def __init__(self) -> None:
        self._frames: dict[int, tuple[_ReadParts | None, Shares]] = {}  # by the identity of the frame's header

    def examine(self, header: Header, head: BlockHead, beginning: bytes) -> None:
        """See `Index.walk`."""
        record = header.predictor
        if id(header) not in self._frames:
            self._frames[id(header)] = parts_reader(record.name, record.version, record.parameters), Shares()
        read, shares = self._frames[id(header)]
        if read is not None:
            shares.add(_parts(read, head, beginning))

    def kinds(self, header: Header) -> tuple[KindShare, ...] | None:
        """The shares of a frame that was examined."""
        read, shares = self._frames.get(id(header), (None, Shares()))
        return None if read is None else shares.sorted()


def _parts(read: _ReadParts, head: BlockHead, beginning: bytes) -> list[BlockPart]:
    if head.kind == STORED:
        return [BlockPart(STORED_KIND, 0, head.raw_size, {})]
    try:
        return read(beginning, head.raw_size)
    except CorruptError:
        return [BlockPart(UNKNOWN_KIND, 0, head.raw_size, {})]
