"""The kind `deflate`: streams as zlib makes them, coded as their content, and made again when they are decoded.

The content is a block of its own: text in a document, pixels in a PNG picture and so on have the models of their kinds,
one level deep. docs/kinds-deflate.md specifies what is coded. Streams of equal setting in a block are one stream of
the block, so that their contents share models.

What it is not: the search for such streams (`streams.py`), or the deflate (`kolmo.native.deflate`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from kolmo.coder.binary import BinaryDecoder, BinaryEncoder
from kolmo.errors import CorruptError
from kolmo.native.dispatch import kernels
from kolmo.predictors.embedded.kinds.base import Kind, Segment
from kolmo.predictors.embedded.kinds.deflate.settings import Setting, deflated
from kolmo.predictors.embedded.kinds.deflate.streams import (
    MAX_ROW_BYTES,
    find_streams,
    groups,
    inflate,
    most_content,
)
from kolmo.predictors.embedded.kinds.image import Image
from kolmo.predictors.embedded.kinds.image.headers import BGR, RGB
from kolmo.predictors.embedded.kinds.segments import number_bits, read_number, write_number
from kolmo.predictors.embedded.segmented import Choice, SegmentedModel, kinds_digest
from kolmo.progress import Progress

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

MAX_STREAMS = 1 << 14  # of a model: reading their sizes takes a moment at most
LEAST, MOST = Setting(1, 1, 9, 0), Setting(9, 9, 15, 1)
MAX_EXPANSION = 1 << 13  # raw bytes for each byte of payload: a search may take longer than the fastest mixer
MAX_REST = 1 << 16  # bytes that are no streams; a writer leaves none
TABLE_BYTES = 1 << 22  # upper bound on the memory of deflate and of lists, beside contents and streams

# The segments of a content, given the level, kinds, and segments that are known.
Chooser = Callable[[bytes, int, Mapping[int, Kind], Sequence[Segment]], Choice]


def most_rest(size: int) -> int:
    """Upper bound on what does not belong to a stream, of `size` bytes of streams."""
    return min(size, MAX_REST)


class Deflate(Kind):
    """Deflate streams of one setting.

    Parameters: level, memory, window and strategy as in `Setting`; where the contents are rows of PNG pictures, the
    bytes of a row without its filter byte, and of a pixel, else 0 and 0; and the bytes of all contents at most.

    Args:
        kinds: of the contents; `deflate` is not among them.
        choose: finds the segments of a content; only a writer calls it.
    """

    name = "deflate"
    code = 8
    fields = ("level", "memory", "window", "filtered", "row", "pixel", "content")
    hidden = ("content",)
    certain = True

    def __init__(self, kinds: Mapping[int, Kind], choose: Chooser) -> None:
        self._kinds, self._choose = kinds, choose

    def model(self, level: int, size: int, parameters: tuple[int, ...]) -> DeflateModel:
        """See `Kind.model`."""
        setting, (row, pixel, most) = Setting(*parameters[:4]), parameters[4:]
        if not all(a <= value <= b for a, value, b in zip(LEAST, setting, MOST, strict=True)):
            raise CorruptError(f"there is no deflate of setting {tuple(setting)}")
        if (row == 0) != (pixel == 0) or pixel > 4 or row > MAX_ROW_BYTES or row % max(pixel, 1):
            raise CorruptError(f"a picture with rows of {row} bytes and pixels of {pixel}")
        if most > most_content(size):
            raise CorruptError(f"it claims {most} bytes of content in {size} of deflate streams")
        return DeflateModel(level, size, parameters, self._kinds, self._choose)

    def memory(self, level: int, size: int) -> int:
        """See `Kind.memory`: the largest model of the contents, and these twice.

        They are deflated when that model is gone; two more copies take less than its tables.
        """
        content = most_content(size) + most_rest(size)
        return max(kind.memory(level, content) for kind in self._kinds.values()) + 2 * content + TABLE_BYTES

    def digest(self, level: int) -> bytes:
        """See `Kind.digest`: that of the kinds of contents."""
        return hashlib.sha256(b"deflate" + kinds_digest(self._kinds, level)).digest()

    def expansion(self, level: int) -> int:
        """See `Kind.expansion`: of raw bytes and of content, the least of the kinds of contents."""
        return min(MAX_EXPANSION, *(kind.expansion(level) for kind in self._kinds.values()))

    def work(self, size: int, parameters: tuple[int, ...]) -> int:
        """See `Kind.work`: the streams, and their contents."""
        return size + parameters[-1]

    def find(self, data: bytes) -> list[Segment]:
        """See `Kind.find`: the pieces of streams that can be made again."""
        found = []
        for group, content in groups(find_streams(data)):
            parameters = (*group[0].setting, group[0].row, group[0].pixel, content)
            found += [Segment(self.code, first, size, parameters) for stream in group for first, size in stream.pieces]
        return sorted(found, key=lambda segment: segment.first)


class DeflateModel:
    """A running model over `size` bytes: deflate streams one after another, and a rest that is none."""

    def __init__(
        self, level: int, size: int, parameters: tuple[int, ...], kinds: Mapping[int, Kind], choose: Chooser
    ) -> None:
        self._level, self._size, self._kinds, self._choose = level, size, kinds, choose
        self._setting = Setting(*parameters[:4])
        self._row, self._pixel, self._most = parameters[4:]

    def encode(self, encoder: BinaryEncoder, data: bytes, progress: Progress | None = None) -> None:
        """Code the streams.

        Raises:
            ValueError: more of the data is no stream of this setting than `most_rest` allows.
        """
        contents, spans = self._opened(data)
        rest = self._size - sum(spans)
        if rest > most_rest(self._size):
            raise ValueError(f"{rest} bytes are no deflate streams, and {most_rest(self._size)} may be")
        write_number(encoder, len(contents))
        for content in contents:
            write_number(encoder, len(content) - 1)
        write_number(encoder, rest)
        block, pixels = self._block(contents, data[self._size - rest :])
        self._model(len(block), pixels).encode(encoder, block, _scaled(progress, len(block), self._size))

    def decode(self, decoder: BinaryDecoder, progress: Progress | None = None) -> bytes:
        """Decode the streams.

        Raises:
            CorruptError: the payload ends before they do, or they have another size.
        """
        count = read_number(decoder)
        if count > min(self._size, MAX_STREAMS):
            raise CorruptError(f"it claims {count} deflate streams in {self._size} bytes")
        sizes = [read_number(decoder) + 1 for _ in range(count)]
        rest = read_number(decoder)
        if sum(sizes) > self._most or rest > most_rest(self._size) or not (count or rest == self._size):
            raise CorruptError(f"it claims {sum(sizes)} bytes of content in {self._size} of deflate streams")
        total = sum(sizes) + rest
        block = self._model(total).decode(decoder, _scaled(progress, total, self._size))
        out, at = bytearray(), 0
        for size in sizes:
            content = block[at : at + size]
            at += size
            if self._row:
                content = kernels.join_rows(content, self._row, self._pixel)
            packed = deflated(content, self._setting)
            if packed is None:
                raise CorruptError("a content takes more time to deflate than any that is written")
            out += packed
            if len(out) + rest > self._size:
                break
        out += block[at:]
        if len(out) != self._size:
            raise CorruptError(f"its deflate streams have {len(out)} bytes, not {self._size}")
        return bytes(out)

    def score(self, data: bytes, progress: Progress | None = None) -> npt.NDArray[np.float64]:
        """Code length of each byte in bits, shape (len(data),).

        A stream has the costs of its content, in proportion: byte k of n has those of the content from k/n to
        (k + 1)/n of it, the pixels of a picture in the order in which they are coded. The first byte has those of the
        sizes, too.
        """
        import numpy as np

        contents, spans = self._opened(data)
        rest = self._size - sum(spans)
        block, pixels = self._block(contents, data[self._size - rest :])
        costs = self._model(len(block), pixels).score(block, _scaled(progress, len(block), self._size))
        sums = np.concatenate([[0.0], np.cumsum(costs)])
        places = np.empty(self._size + 1)
        at = first = 0
        for content, span in zip(contents, spans, strict=True):
            places[first : first + span] = at + np.arange(span) * (len(content) / span)
            at, first = at + len(content), first + span
        places[first:] = at + np.arange(rest + 1)
        bits: npt.NDArray[np.float64] = np.diff(np.interp(places, np.arange(len(sums)), sums))
        bits[:1] += number_bits(len(contents)) + number_bits(rest)
        bits[:1] += sum(number_bits(len(content) - 1) for content in contents)
        return bits

    def _opened(self, data: bytes) -> tuple[list[bytes], list[int]]:
        """Contents of the streams that `data` begins with, and their sizes as streams."""
        contents: list[bytes] = []
        spans: list[int] = []
        at, left, view = 0, self._most, memoryview(data)
        while at < len(data) and len(contents) < MAX_STREAMS:
            content, size = inflate(view, at, left)
            if not content or deflated(content, self._setting) != bytes(view[at : at + size]):
                break
            contents.append(content)
            spans.append(size)
            at, left = at + size, left - len(content)
        return contents, spans

    def _block(self, contents: Sequence[bytes], rest: bytes) -> tuple[bytes, list[Segment]]:
        """The content that is coded, with the rows of pictures apart from their filters; where pixels are in it."""
        if not self._row:
            return b"".join([*contents, rest]), []
        parts, pixels, at = [], [], 0
        for content in contents:
            rows = -(-len(content) // (self._row + 1))
            order = RGB if self._pixel >= 3 else BGR
            if len(content) > rows and Image.code in self._kinds:
                layout = self._row, self._pixel, order
                pixels.append(Segment(Image.code, at + rows, len(content) - rows, layout))
            parts.append(kernels.split_rows(content, self._row, self._pixel))
            at += len(content)
        return b"".join([*parts, rest]), pixels

    def _model(self, size: int, known: Sequence[Segment] = ()) -> SegmentedModel:
        def choose(content: bytes) -> Choice:
            # Without what may be coded already: our encoder has coded sizes before it.
            return Choice(self._choose(content, self._level, self._kinds, known).segments)

        return SegmentedModel(self._level, size, self._kinds, choose)


def _scaled(progress: Progress | None, content: int, size: int) -> Progress | None:
    """A callback for `content` bytes that reports them as `size` bytes of streams."""
    if progress is None:
        return None
    report, done, reported = progress, 0, 0

    def count(more: int) -> None:
        nonlocal done, reported
        done += more
        now = size * done // content
        report(now - reported)
        reported = now

    return count
