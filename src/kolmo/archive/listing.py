"""What a `.kmo` file holds, frame by frame, read from heads and indexes without decoding or predictors.

What it is not: a check of the contents (see `streams.check_stream`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import IO

from kolmo.container.index import Index
from kolmo.container.wire import Reader
from kolmo.errors import FormatError
from kolmo.predictors.registry import level_of, model_of

EXTREME_RATIO = 256  # raw bytes for each packed byte that a person should know of
MIN_EXTREME_BYTES = 1 << 16  # raw bytes below which no ratio matters


@dataclass(frozen=True)
class FrameInfo:
    """One frame. Sizes and offsets in bytes, `mtime` in nanoseconds; None where the file does not say.

    `model` says which language model a file needs, where it needs one.
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


def list_stream(source: IO[bytes], *, name: str = "input") -> Listing:
    """List the frames of a stream; one that cannot seek is read through."""
    index = Index.walk(Reader(source, name))
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
                model_of(record.name, record.parameters),
                record.fingerprint.hex(),
                span.digest.hex() if span.digest else None,
                header.name,
                header.mtime,
                header.mode,
            )
        )
    return Listing(frames, index.error)
