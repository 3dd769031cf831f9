"""File objects like those of `gzip`: `open` and `KolmoFile`, binary and text, seekable over files that seek.

Reading starts forward; a seek out of the present block looks up the block that holds the place, and only that
one is decoded. What it is not: safe to share between threads.
"""

from __future__ import annotations

import builtins
import io
import os
from collections.abc import Generator
from typing import IO, Any, Literal, cast, overload

from kolmo.codec.frames import MEMORY_LIMIT, decode_frames, decode_from
from kolmo.container.index import Index
from kolmo.container.wire import Reader
from kolmo.errors import KolmoError
from kolmo.predictors.base import Predictor
from kolmo.predictors.registry import DEFAULT_LEVEL
from kolmo.streams.incremental import Compressor

File = str | bytes | os.PathLike[str] | os.PathLike[bytes] | IO[bytes]
BinaryMode = Literal["r", "rb", "w", "wb", "x", "xb", "a", "ab"]
TextMode = Literal["rt", "wt", "xt", "at"]
BUFFER = 1 << 16


@overload
def open(
    file: File,
    mode: BinaryMode = "rb",
    level: int = DEFAULT_LEVEL,
    *,
    encoding: None = None,
    errors: None = None,
    newline: None = None,
    predictor: str | Predictor | None = None,
    block_size: int | None = None,
    threads: int = 1,
    memory_limit: int = MEMORY_LIMIT,
) -> KolmoFile: ...


@overload
def open(
    file: File,
    mode: TextMode,
    level: int = DEFAULT_LEVEL,
    *,
    encoding: str | None = None,
    errors: str | None = None,
    newline: str | None = None,
    predictor: str | Predictor | None = None,
    block_size: int | None = None,
    threads: int = 1,
    memory_limit: int = MEMORY_LIMIT,
) -> io.TextIOWrapper: ...


def open(
    file: File,
    mode: str = "rb",
    level: int = DEFAULT_LEVEL,
    *,
    encoding: str | None = None,
    errors: str | None = None,
    newline: str | None = None,
    predictor: str | Predictor | None = None,
    block_size: int | None = None,
    threads: int = 1,
    memory_limit: int = MEMORY_LIMIT,
) -> KolmoFile | io.TextIOWrapper:
    """Open a `.kmo` file as `gzip.open` opens a `.gz` file.

    Args:
        file: a path, or a binary file object (which is left open at the end).
        mode: r, w (a new file), x (a new file that must not exist) or a (a frame more); b (default) or t.
        level: 1 (fast) to 9 (small); for writing.
        encoding: for text, as `open`; likewise `errors` and `newline`.
        errors: see encoding.
        newline: see encoding.
        predictor: a predictor or its spec (`cm:9`), in place of the level; for writing.
        block_size: bytes of content in a block (1 .. 2^30), the least that a seek decodes; by default 8 MiB.
        threads: blocks in work at once; 0 is one for each core. More than one decodes ahead when reading.
        memory_limit: bytes that the blocks in work may take when reading.

    Raises:
        ValueError: a wrong mode, or a text argument in binary mode.
        OSError, PredictorError: the file or the predictor cannot be had.
        FormatError, CorruptError, TruncatedError, MemoryLimitError: from the read that meets it.
    """
    text = "t" in mode
    if text and "b" in mode:
        raise ValueError(f"mode {mode!r} asks for text and binary; choose one")
    if not text and not (encoding is errors is newline is None):
        raise ValueError("encoding, errors and newline are for text; use mode 'rt', 'wt', 'xt' or 'at'")
    binary = KolmoFile(
        file,
        mode.replace("t", ""),
        level,
        predictor=predictor,
        block_size=block_size,
        threads=threads,
        memory_limit=memory_limit,
    )
    return io.TextIOWrapper(binary, encoding, errors, newline) if text else binary


class KolmoFile(io.BufferedIOBase):
    """A binary file object over a `.kmo` file; the arguments are those of `open`."""

    def __init__(
        self,
        file: File,
        mode: str = "rb",
        level: int = DEFAULT_LEVEL,
        *,
        predictor: str | Predictor | None = None,
        block_size: int | None = None,
        threads: int = 1,
        memory_limit: int = MEMORY_LIMIT,
    ) -> None:
        self._file: IO[bytes] = io.BytesIO()  # until there is one: a failed start is closed too
        self._owned: IO[bytes] | None = None
        self._source: io.BufferedReader | None = None
        self._compressor: Compressor | None = None
        self._written = 0
        if mode not in ("r", "rb", "w", "wb", "x", "xb", "a", "ab"):
            raise ValueError(f"mode {mode!r} does not exist; use r, w, x or a, with b or t")
        self.mode = mode[0] + "b"
        compressor = None
        if self.mode != "rb":  # before the file is opened: a wrong level must not empty it
            compressor = Compressor(level, predictor=predictor, block_size=block_size, threads=threads)
        if isinstance(file, str | bytes | os.PathLike):
            self._owned = self._file = cast(IO[bytes], builtins.open(file, self.mode))  # noqa: SIM115
            self.name: Any = os.fsdecode(file)
        else:
            self._file = file
            self.name = getattr(file, "name", "")
        self._compressor = compressor
        if compressor is None:
            name = self.name if isinstance(self.name, str) and self.name else "input"
            blocks = _Blocks(self._file, name, threads, memory_limit)
            self._source = io.BufferedReader(blocks, BUFFER)

    def close(self) -> None:
        """End the frame when writing; the file below is closed if `open` opened it."""
        if self.closed:
            return
        try:
            if self._source is not None:
                self._source.close()
            elif self._compressor is not None:
                self._file.write(self._compressor.flush())
        finally:
            try:
                if self._owned is not None:
                    self._owned.close()
            finally:
                super().close()

    def fileno(self) -> int:
        """The descriptor of the file below."""
        self._check_open()
        return self._file.fileno()

    def readable(self) -> bool:
        """Whether the file was opened for reading."""
        self._check_open()
        return self._source is not None

    def writable(self) -> bool:
        """Whether the file was opened for writing."""
        self._check_open()
        return self._source is None

    def seekable(self) -> bool:
        """Whether `seek` works: reading, over a file that can seek; writing, forward only, as gzip's does."""
        self._check_open()
        return self._source is None or self._source.seekable()

    def read(self, size: int | None = -1) -> bytes:
        """Up to `size` bytes, all by default; b"" at the end."""
        return self._reading().read(-1 if size is None else size)

    def read1(self, size: int = -1) -> bytes:
        """Up to `size` bytes with at most one block decoded."""
        return self._reading().read1(BUFFER if size < 0 else size)

    def readinto(self, buffer: Any) -> int:
        """Fill `buffer`; returns the number of bytes."""
        return self._reading().readinto(buffer)

    def readinto1(self, buffer: Any) -> int:
        """Fill `buffer` with at most one block decoded; returns the number of bytes."""
        return self._reading().readinto1(buffer)

    def peek(self, size: int = 0) -> bytes:
        """Some of the next bytes, at least one unless at the end, without passing over them."""
        return self._reading().peek(size)

    def readline(self, size: int | None = -1) -> bytes:
        """The next line with its end, or up to `size` bytes of it."""
        return self._reading().readline(-1 if size is None else size)

    def __next__(self) -> bytes:
        line = self.readline()
        if not line:
            raise StopIteration
        return line

    def write(self, data: Any) -> int:
        """Take bytes; they reach the file below block by block, and all of them at `close`."""
        self._check_open()
        if self._compressor is None:
            raise io.UnsupportedOperation(f"{self.name}: open for reading, not writing; use mode 'wb'")
        view = memoryview(data).cast("B")
        self._file.write(self._compressor.compress(view))
        self._written += len(view)
        return len(view)

    def flush(self) -> None:
        """Flush the file below. Blocks that are not full stay here: a shorter block would compress worse."""
        self._check_open()
        if self._source is None and not self._file.closed:
            self._file.flush()

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place in the content; returns it. Only the block that holds it is decoded, when read.

        Writing goes forward only, over zero bytes.
        """
        self._check_open()
        if self._source is not None:
            return self._source.seek(offset, whence)
        target = offset + (self._written if whence else 0)
        if target < self._written:
            raise io.UnsupportedOperation(f"{self.name}: cannot go back when writing; write in order")
        while self._written < target:
            self.write(bytes(min(BUFFER, target - self._written)))
        return target

    def tell(self) -> int:
        """The present place in the content."""
        self._check_open()
        return self._written if self._source is None else self._source.tell()

    def _check_open(self) -> None:
        if self.closed:
            raise ValueError("I/O operation on closed file")

    def _reading(self) -> io.BufferedReader:
        self._check_open()
        if self._source is None:
            raise io.UnsupportedOperation(f"{self.name}: open for writing, not reading; use mode 'rb'")
        return self._source


class _Blocks(io.RawIOBase):
    """The content as a raw file: one decoded block at hand, an iterator over the next ones."""

    def __init__(self, file: IO[bytes], name: str, threads: int, memory_limit: int) -> None:
        self._reader = Reader(file, name)
        self._threads = threads
        self._memory_limit = memory_limit
        self._next: Generator[bytes, None, None] | None = decode_frames(
            self._reader, threads=threads, memory_limit=memory_limit
        )
        self._index: Index | None = None
        self._error: KolmoError | None = None
        self._start = 0  # of the block at hand, in the content
        self._block = memoryview(b"")
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return self._reader.seekable

    def readinto(self, buffer: Any) -> int:
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
        if offset < 0:
            raise ValueError(f"{self._reader.name}: position {offset} is before the start")
        self._position = offset
        return offset

    def tell(self) -> int:
        return self._position

    def close(self) -> None:
        self._stop()
        super().close()

    def _load(self) -> bool:
        """Bring the next block to hand, or after a seek the one that holds the position; False at the end."""
        if self._next is None or self._position != self._start + len(self._block):
            blocks = self._jump()
        elif self._error:
            raise self._error
        else:
            blocks = self._next
            self._start += len(self._block)
        self._block = memoryview(b"")
        try:
            self._block = memoryview(next(blocks, b""))
        except KolmoError as error:
            self._error = error  # a second read must not look like a clean end
            raise
        return bool(self._block)

    def _jump(self) -> Generator[bytes, None, None]:
        index = self._read_index()
        number = index.find(self._position)
        self._stop()
        self._start = index.spots[number].start if number < len(index.spots) else self._position
        self._next = decode_from(self._reader, index, number, threads=self._threads, memory_limit=self._memory_limit)
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
