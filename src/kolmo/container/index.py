"""Where every block of a seekable file lies, so that a reader gets anywhere without decoding all before it.

From the footers, backward, where every frame has one; otherwise forward, from head to head. The forward walk
is the authority (a stored block may itself hold a `.kmo` file, footer and all), so a backward walk counts
only if its frames cover the file exactly, and a block's head is compared with the index when the block is
read. What it is not: it decodes nothing and holds no content.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, field

from kolmo.container.frames import read_frames
from kolmo.container.structures import TAIL_SIZE, BlockHead, Footer, Header
from kolmo.container.wire import Reader
from kolmo.errors import FormatError

Examine = Callable[[Header, BlockHead, bytes], None]
MAX_EXAMINED_BYTES = 1 << 18  # of the beginning of a payload
MIN_FOOTER = 1 + 1 + 1 + 8 + TAIL_SIZE


@dataclass
class Span:
    """One frame's place. `digest` is None where the frame was not read to its end."""

    header: Header
    offset: int
    header_size: int
    blocks: list[tuple[int, int]]
    digest: bytes | None
    has_footer: bool
    size: int = 0

    @property
    def raw_size(self) -> int:
        """Bytes of content in the frame."""
        return sum(raw_size for raw_size, _ in self.blocks)


@dataclass(frozen=True)
class Spot:
    """One block's place: `start` in the content, `offset` and `size` in the file."""

    span: Span
    number: int
    start: int
    raw_size: int
    offset: int
    size: int


@dataclass
class Index:
    """All blocks of a file.

    Attributes:
        spans: the frames.
        error: what stopped the walk; the blocks before it are listed.
        spots: the blocks, in order.
    """

    spans: list[Span]
    error: FormatError | None = None
    spots: list[Spot] = field(init=False)

    def __post_init__(self) -> None:
        self.spots = []
        start = 0
        for span in self.spans:
            offset = span.offset + span.header_size
            for number, (raw_size, size) in enumerate(span.blocks, 1):
                self.spots.append(Spot(span, number, start, raw_size, offset, size))
                start += raw_size
                offset += size
        self._starts = [spot.start for spot in self.spots]
        self.raw_size = start

    @classmethod
    def read(cls, reader: Reader) -> Index:
        """The index of a seekable input, from its start; damage ends it and is kept in `error`."""
        spans = _backward(reader)
        return cls(spans) if spans else cls.walk(reader)

    @classmethod
    def walk(cls, reader: Reader, examine: Examine | None = None) -> Index:
        """The same by walking forward from head to head, passing over the payloads.

        Args:
            reader: of the file.
            examine: called for each block that is wholly there, with its frame's header, its head, and the first
                `MAX_EXAMINED_BYTES` of its payload; in the order of the blocks.
        """
        spans: list[Span] = []
        error = None
        try:
            for frame in read_frames(reader):
                span = Span(frame.header, frame.offset, frame.header_size, [], None, frame.has_footer)
                spans.append(span)
                while head := frame.next_head():
                    beginning = reader.peek(min(head.payload_size, MAX_EXAMINED_BYTES)) if examine else b""
                    frame.skip(head)
                    if examine:
                        examine(frame.header, head, beginning)
                    span.blocks.append((head.raw_size, head.block_size))
                    span.size = reader.offset - span.offset
                span.digest, span.has_footer = frame.digest, frame.has_footer
                span.size = reader.offset - span.offset
        except FormatError as stop:
            error = stop
        return cls(spans, error)

    def find(self, offset: int) -> int:
        """Position in `spots` of the block that holds byte `offset`; `len(spots)` past the end."""
        return bisect_right(self._starts, offset) - 1 if 0 <= offset < self.raw_size else len(self.spots)


def read_head(reader: Reader, spot: Spot) -> BlockHead:
    """Go to a block and read its head.

    Raises:
        CorruptError: the head is not what the index says.
    """
    reader.seek(spot.offset)
    what = f"block {spot.number}"
    head = BlockHead.read(reader, spot.span.header.block_limit, what)
    sole = not spot.span.has_footer
    if (head.raw_size, head.block_size, head.sole) != (spot.raw_size, spot.size, sole):
        raise reader.corrupt(f"{what} disagrees with the index", spot.offset)
    return head


def _backward(reader: Reader) -> list[Span]:
    """The frames from the last to the first by their footers; [] where any has none or does not fit."""
    spans: list[Span] = []
    end = reader.end()
    while end > reader.start:
        try:
            span = _span_before(reader, end)
        except FormatError:
            span = None
        if span is None:
            spans = []
            break
        spans.append(span)
        end = span.offset
    reader.seek(reader.start)
    return spans[::-1]


def _span_before(reader: Reader, end: int) -> Span | None:
    if end - reader.start < MIN_FOOTER:
        return None
    reader.seek(end - TAIL_SIZE)
    footer_size = reader.u32("the index")
    if not MIN_FOOTER <= footer_size <= end - reader.start:
        return None
    footer_at = end - footer_size
    reader.seek(footer_at)
    footer = Footer.parse(reader.take(footer_size, "the index"), reader.name, footer_at)
    offset = footer_at - sum(size for _, size in footer.blocks) - footer.header_size
    if offset < reader.start:
        return None
    reader.seek(offset)
    header = Header.read(reader)
    if reader.offset - offset != footer.header_size:
        return None
    if any(not 1 <= raw <= header.block_limit or size < 11 for raw, size in footer.blocks):
        return None
    return Span(header, offset, footer.header_size, list(footer.blocks), footer.digest, True, end - offset)
