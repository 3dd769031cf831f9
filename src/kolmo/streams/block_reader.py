"""The content of a `.kmo` file as a raw file object, one decoded block in memory at a time.

Reading starts forward; a seek out of the present block looks up the block that contains the position, and only that one
is decoded. What it is not: buffered, or safe to share between threads (`streams.file`).
"""

from __future__ import annotations

import io
from collections.abc import Generator
from typing import IO, Any

from kolmo.codec.frames import decode_frames, decode_from
from kolmo.container.index import Index
from kolmo.container.wire import Reader
from kolmo.errors import KolmoError, TruncatedError
from kolmo.predictors.settings import RunSettings


class BlockReader(io.RawIOBase):
    """The content as a raw file: one decoded block at hand, an iterator over the next ones."""

    def __init__(
        self,
        file: IO[bytes],
        name: str,
        threads: int,
        memory_limit: int,
        max_length: int | None,
        settings: RunSettings,
    ) -> None:
        self._reader = Reader(file, name)
        self._given: dict[str, Any] = {
            "threads": threads,
            "memory_limit": memory_limit,
            "size_limit": max_length,
            "settings": settings,
        }
        self._next: Generator[bytes, None, None] | None = decode_frames(self._reader, **self._given)
        self._index: Index | None = None
        self._error: KolmoError | None = None
        self._start = 0  # of the block at hand, in the content
        self._block = memoryview(b"")
        self._position = 0

    def readable(self) -> bool:
        """Always True."""
        return True

    def seekable(self) -> bool:
        """Whether the file below can seek."""
        return self._reader.seekable

    def readinto(self, buffer: Any) -> int:
        """Read up to the length of `buffer` bytes; returns how many, 0 at the end."""
        target = memoryview(buffer).cast("B")
        while not self._start <= self._position < self._start + len(self._block):
            if not self._load():
                return 0
        at = self._position - self._start
        piece = self._block[at : at + len(target)]
        target[: len(piece)] = piece
        self._position += len(piece)
        return len(piece)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to a position in the content; `io.UnsupportedOperation` if the file below cannot seek."""
        if not self.seekable():
            raise io.UnsupportedOperation(f"{self._reader.name}: the file below cannot seek; read it forward")
        if whence == io.SEEK_CUR:
            offset += self._position
        elif whence == io.SEEK_END:
            index = self._read_index()
            if index.error:
                raise index.error
            offset += index.raw_size
        elif whence != io.SEEK_SET:
            raise ValueError(f"whence {whence} does not exist; use 0, 1 or 2")
        offset = max(offset, 0)
        if offset > self._start + len(self._block):
            index = self._read_index()
            if not index.error:  # else the next read raises it
                offset = min(offset, index.raw_size)
        self._position = offset
        return offset

    def tell(self) -> int:
        """The position in the content, in bytes."""
        return self._position

    def close(self) -> None:
        """Stop decoding; the file below stays open."""
        self._stop()
        super().close()

    def _load(self) -> bool:
        """Bring the next block to hand, or after a seek the one that holds the position; False at the end."""
        at_end = self._position == self._start + len(self._block)
        if self._error and at_end:
            raise self._error
        try:
            if self._next is None or not at_end:
                blocks = self._jump()
            else:
                blocks = self._next
                self._start += len(self._block)
            self._block = memoryview(b"")
            self._block = memoryview(next(blocks, b""))
        except TruncatedError as error:
            self._interrupted(error)
            if self.seekable():  # it may have grown by the next read: logs that are still written do
                self._index = None
                self._reader.forget_end()
            raise
        except KolmoError as error:
            self._error = error  # a second read must not look like a clean end
            raise
        except BaseException as error:  # of the file below, or Ctrl-C
            self._interrupted(error)
            raise
        return bool(self._block)

    def _interrupted(self, error: BaseException) -> None:
        """The next read decodes the block anew where the file can seek, and raises where it cannot."""
        self._stop()
        self._start, self._block = self._position, memoryview(b"")
        if isinstance(error, KolmoError):
            self._error = None if self.seekable() else error
        elif not self.seekable():
            name = self._reader.name
            self._error = KolmoError(f"{name}: reading was interrupted ({error!r}); open it again, as it cannot seek")

    def _jump(self) -> Generator[bytes, None, None]:
        index = self._read_index()
        number = index.find(self._position)
        self._stop()
        self._start = index.spots[number].start if number < len(index.spots) else self._position
        self._next = decode_from(self._reader, index, number, **self._given)
        return self._next

    def _read_index(self) -> Index:
        if self._index is None:
            self._stop()  # it reads the same file
            self._index = Index.read(self._reader)
        return self._index

    def _stop(self) -> None:
        """Give up the iterator; the next read outside the block at hand makes a new one."""
        self._error = None
        if self._next is not None:
            self._next.close()
            self._next = None
