"""Incremental objects like those of `bz2` and `lzma`: bytes in, bytes out, in pieces of any size.

What it is not: `Decompressor` reads one frame; what follows it is in `unused_data`, as with bz2 (`decompress`
and `KolmoFile` read files of several).
"""

from __future__ import annotations

import io
import threading
from typing import NoReturn

from kolmo.arguments import whole_number
from kolmo.codec.frames import FrameEncoder, decode_checked, make_header, restore_predictor
from kolmo.codec.limits import MEMORY_LIMIT, Place, SizeLimit, check_memory
from kolmo.container.frames import FrameReader
from kolmo.container.structures import DEFAULT_BLOCK_LIMIT, INDEX_KIND, BlockHead
from kolmo.container.wire import Reader, new_digest
from kolmo.errors import KolmoError, TruncatedError
from kolmo.predictors import registry
from kolmo.predictors.base import Predictor
from kolmo.predictors.settings import DEFAULT_SETTINGS, RunSettings
from kolmo.streams.data import Data, bytes_of


def choose_predictor(level: int, predictor: str | Predictor | None) -> Predictor:
    """The predictor asked for: an object, a spec (`cm:9`), or by default the embedded one at `level`.

    Raises:
        LevelError, PredictorError: there is none such.
        TypeError: the level is not an integer, or the predictor neither a predictor nor a string.
    """
    if predictor is None:
        return registry.for_level(whole_number(level, "level", -(1 << 63)))
    if isinstance(predictor, str):
        return registry.resolve(predictor)
    if not isinstance(predictor, Predictor):
        raise TypeError(f"predictor must be a predictor or its spec, like 'cm:9', not {type(predictor).__name__}")
    return predictor


class Compressor:
    """Makes one frame: `compress` any number of times, then `flush` once; what they return is the frame.

    Threads that share one take turns. A call that raises has taken its data all the same; the next one goes on with it.

    Args:
        level: 1 (fast) to 9 (small).
        predictor: a predictor or its spec, in place of the level.
        block_size: bytes of content in a block (1 .. 2^30); by default 8 MiB.
        threads: blocks coded at once; 0 is one for each core.

    Attributes:
        FLUSH_BLOCK: for `flush`: end the block.
        FLUSH_FRAME: for `flush`: end the frame.

    Raises:
        LevelError, PredictorError: no such level or predictor.
        TypeError, ValueError: an argument is of a wrong type, or out of its limits.

    Examples:
        >>> compressor = kolmo.Compressor(level=1)
        >>> pieces = [compressor.compress(b"one "), compressor.compress(b"two"), compressor.flush()]
        >>> kolmo.decompress(b"".join(pieces))
        b'one two'
    """

    FLUSH_BLOCK = 1  # the names and values of compression.zstd in Python 3.14
    FLUSH_FRAME = 2

    def __init__(
        self,
        level: int = registry.DEFAULT_LEVEL,
        *,
        predictor: str | Predictor | None = None,
        block_size: int | None = None,
        threads: int = 1,
    ) -> None:
        chosen = choose_predictor(level, predictor)
        self._block_size = DEFAULT_BLOCK_LIMIT if block_size is None else block_size
        self._encoder = FrameEncoder(chosen, make_header(chosen, self._block_size), threads=threads)
        self._buffer = bytearray()
        self._ready: list[bytes] = []  # made, and not yet returned
        self._flushed = False
        self._lock = threading.RLock()

    def compress(self, data: Data) -> bytes:
        """Take `data`; returns what is finished, often nothing.

        Raises:
            ValueError: after `flush`.
        """
        view = bytes_of(data)
        with self._lock:
            if self._flushed:
                raise ValueError("Compressor: compress was called after flush; make a new Compressor")
            try:
                self._add_full()
                while view:
                    room = self._block_size - len(self._buffer)
                    self._buffer += view[:room]
                    view = view[room:]
                    self._add_full()
            except BaseException:
                self._buffer += view
                raise
            return self._take()

    def flush(self, mode: int = FLUSH_FRAME) -> bytes:
        """End the frame, or the block; returns the rest of it.

        With `FLUSH_BLOCK` all that was taken so far can be decoded from what was returned so far, and `compress` can
        go on. It costs: a block takes some 12 bytes beside its content, and the predictor forgets what came before.
        Nothing is returned where nothing is new.

        Raises:
            ValueError: the frame has ended, or there is no such mode.
        """
        if mode not in (self.FLUSH_BLOCK, self.FLUSH_FRAME):
            raise ValueError(f"Compressor: flush has no mode {mode!r}; use Compressor.FLUSH_BLOCK or FLUSH_FRAME")
        with self._lock:
            if self._flushed:
                raise ValueError("Compressor: flush was called twice, after the frame's end; make a new Compressor")
            self._add_full()
            if self._buffer:
                self._add()
            ends = mode == self.FLUSH_FRAME
            self._ready.append(self._encoder.finish() if ends else self._encoder.flush())
            self._flushed = ends
            return self._take()

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Compressor cannot be copied or pickled; make a new one")

    def _add_full(self) -> None:
        while len(self._buffer) >= self._block_size:
            self._add()

    def _add(self) -> None:
        self._ready.append(self._encoder.add(bytes(self._buffer[: self._block_size])))
        del self._buffer[: self._block_size]

    def _take(self) -> bytes:
        ready = b"".join(self._ready)
        self._ready.clear()
        return ready


class Decompressor:
    """Reads one frame: feed it with `decompress` until `eof`.

    Threads that share one take turns. After an error in the data every call raises it again.

    Args:
        memory_limit: bytes that a block may take, its model included.
        max_length: the most bytes of content that the frame may claim; by default what data of its size may hold
            (docs/format.md, promise 3). A block is decoded as a whole, so the argument of `decompress` bounds what is
            returned, not the work; this one does.
        settings: how a predictor runs here, as in `kolmo.decompress`.

    Attributes:
        eof: the frame is complete.
        unused_data: what was fed after the frame's end.
        needs_input: False while `decompress(b"")` gives more.

    Examples:
        >>> packed = kolmo.compress(b"piece by piece", level=1)
        >>> decompressor = kolmo.Decompressor()
        >>> decompressor.decompress(packed[:20]) + decompressor.decompress(packed[20:])
        b'piece by piece'
        >>> decompressor.eof
        True
    """

    def __init__(
        self,
        *,
        memory_limit: int = MEMORY_LIMIT,
        max_length: int | None = None,
        settings: RunSettings = DEFAULT_SETTINGS,
    ) -> None:
        self._settings = settings
        self._memory_limit = whole_number(memory_limit, "memory_limit", 0)
        self._size_limit = SizeLimit(max_length)
        self._claimed = 0  # bytes of content, by the heads so far
        self._feed = _Feed()
        self._reader = Reader(self._feed, "input")
        self._frame: FrameReader | None = None
        self._predictor: Predictor | None = None
        self._head: BlockHead | None = None
        self._place = Place("input", "the header", 0)
        self._content = new_digest()
        self._wanted = 1  # no step is worth trying before so many bytes are there
        self._out = memoryview(b"")
        self._error: KolmoError | None = None
        self._lock = threading.RLock()
        self.eof = False
        self.needs_input = True
        self.unused_data = b""

    def decompress(self, data: Data, max_length: int = -1) -> bytes:
        """Take `data`; returns at most `max_length` bytes of content, checked (-1: all that there are).

        Raises:
            EOFError: after the frame's end.
            FormatError, CorruptError, PredictorError, MemoryLimitError, SizeLimitError: as `kolmo.decompress`.
        """
        max_length = whole_number(max_length, "max_length", -(1 << 63))
        view = bytes_of(data)
        with self._lock:
            if self.eof:
                raise EOFError("Decompressor: the frame has ended; use unused_data with a new Decompressor")
            if self._error:
                raise self._error
            self._feed.append(view)
            return self._decompress(max_length)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Decompressor cannot be copied or pickled; make a new one")

    def _decompress(self, max_length: int) -> bytes:
        pieces: list[bytes] = []
        size = 0
        more = True
        try:
            while max_length < 0 or size < max_length:
                if not self._out:
                    more = not self.eof and self._step()
                    if not more:
                        break
                    continue
                piece = self._out[: max_length - size] if max_length >= 0 else self._out
                self._out = self._out[len(piece) :]
                pieces.append(bytes(piece))
                size += len(piece)
        except BaseException:  # after Ctrl-C the next call returns them
            self._out = memoryview(b"".join([*pieces, self._out]))
            raise
        self.needs_input = not more and not self.eof
        return b"".join(pieces)

    def _step(self) -> bool:
        """Read one header, head, payload or footer; False where the input does not hold it yet."""
        if self._feed.left(self._reader.offset) < self._wanted:
            return False
        start = self._reader.offset
        try:
            self._read_part()
        except _WaitError as wait:
            self._wanted = wait.size
        except TruncatedError:
            self._wanted = self._feed.left(start) + 1
        except KolmoError as error:
            self._error = error  # a second call must not go on behind it
            raise
        except BaseException:
            self._reader.seek(start)
            raise
        else:
            self._feed.forget(self._reader.offset)
            return True
        self._reader.seek(start)
        return False

    def _read_part(self) -> None:
        reader = self._reader
        if self._frame is None:
            frame = FrameReader(reader)
            self._predictor = restore_predictor(frame.header.predictor, reader.name, self._settings)
            self._frame = frame
            self._wanted = 1
        elif self._head is None:
            self._read_head(self._frame)
        else:
            assert self._predictor is not None
            payload = self._frame.payload(self._head)
            raw = decode_checked(self._predictor, self._head, payload, self._place, _silence)
            self._content.update(raw)
            self._out = memoryview(raw)
            self._head = None
            self._wanted = 1 if self._frame.has_footer else 0

    def _read_head(self, frame: FrameReader) -> None:
        assert self._predictor is not None
        reader = self._reader
        if frame.has_footer and reader.peek(1) == bytes([INDEX_KIND]):
            size = frame.footer_size()
            if self._feed.left(reader.offset) < size:
                raise _WaitError(size)
        at = reader.offset
        head = frame.next_head()
        if head is not None:
            self._place = Place(reader.name, f"block {len(frame.blocks)}", at)
            self._claimed += head.raw_size
            self._size_limit.check(self._claimed, reader.offset + head.payload_size, self._place)
            check_memory(self._predictor, head, self._place, self._memory_limit)
            self._wanted = head.payload_size
            self._head = head
            return
        if frame.digest != self._content.digest():
            place = Place(reader.name, "the index", at)
            raise place.corrupt("the whole content does not match its checksum")
        self.eof = True
        self.unused_data = self._feed.rest(reader.offset)


class _WaitError(Exception):
    """So many bytes are needed before the next step."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.size = size


class _Feed(io.RawIOBase):
    """A file that grows at its end and is forgotten at its start, so that a step can be repeated."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._base = 0  # offset of the first byte that is kept
        self._position = 0

    def append(self, data: memoryview) -> None:
        self._data += data

    def left(self, offset: int) -> int:
        """Bytes from `offset` to the end."""
        return self._base + len(self._data) - offset

    def rest(self, offset: int) -> bytes:
        return bytes(self._data[offset - self._base :])

    def forget(self, offset: int) -> None:
        del self._data[: offset - self._base]
        self._base = offset

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        start = self._position - self._base
        piece = bytes(self._data[start:] if size < 0 else self._data[start : start + size])
        self._position += len(piece)
        return piece

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._position = offset if whence == io.SEEK_SET else self._base + len(self._data) + offset
        return self._position

    def tell(self) -> int:
        return self._position


def _silence(size: int) -> None:
    pass
