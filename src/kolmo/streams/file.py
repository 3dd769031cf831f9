"""File objects like those of `gzip`: `open` and `KolmoFile`, binary and text, seekable over files that seek.

Reading starts forward; a seek out of the present block looks up the block that holds the place, and only that
one is decoded. Threads that write to one file take turns, and what is open when the interpreter ends is closed. What it
is not: a file that is read and written.
"""

from __future__ import annotations

import atexit
import builtins
import codecs
import io
import os
import threading
import weakref
from typing import IO, Any, Literal, Protocol, cast, overload

from kolmo.arguments import whole_number
from kolmo.codec.limits import MEMORY_LIMIT
from kolmo.errors import KolmoError
from kolmo.predictors.base import Predictor
from kolmo.predictors.registry import DEFAULT_LEVEL, check_level
from kolmo.predictors.settings import DEFAULT_SETTINGS, RunSettings
from kolmo.streams.block_reader import BlockReader
from kolmo.streams.data import bytes_of
from kolmo.streams.incremental import Compressor


class Readable(Protocol):
    """A binary file object to read from; one with `seek`, `tell` and `seekable` can be read anywhere."""

    def read(self, size: int = -1, /) -> bytes | None:
        """Up to `size` bytes; b"" at the end."""
        ...


class Writable(Protocol):
    """A binary file object to write to."""

    def write(self, data: bytes, /) -> Any:
        """Take all of `data`."""
        ...


File = str | bytes | os.PathLike[str] | os.PathLike[bytes] | Readable | Writable
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
    max_length: int | None = None,
    settings: RunSettings = DEFAULT_SETTINGS,
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
    max_length: int | None = None,
    settings: RunSettings = DEFAULT_SETTINGS,
) -> io.TextIOWrapper: ...


@overload
def open(
    file: File,
    mode: str,
    level: int = DEFAULT_LEVEL,
    *,
    encoding: str | None = None,
    errors: str | None = None,
    newline: str | None = None,
    predictor: str | Predictor | None = None,
    block_size: int | None = None,
    threads: int = 1,
    memory_limit: int = MEMORY_LIMIT,
    max_length: int | None = None,
    settings: RunSettings = DEFAULT_SETTINGS,
) -> KolmoFile | io.TextIOWrapper: ...


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
    max_length: int | None = None,
    settings: RunSettings = DEFAULT_SETTINGS,
) -> KolmoFile | io.TextIOWrapper:
    r"""Open a `.kmo` file as `gzip.open` opens a `.gz` file.

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
        max_length: the most bytes of content that the file may claim when reading; by default what a file of its size
            may hold (docs/format.md, promise 3).
        settings: how a predictor runs here when reading, as in `kolmo.decompress`.

    Raises:
        ValueError: a wrong mode, or a text argument in binary mode; LevelError, which is one: no such level.
        TypeError: an argument is of a wrong type.
        OSError, PredictorError: the file or the predictor cannot be had.
        FormatError, CorruptError, TruncatedError, MemoryLimitError, SizeLimitError: from the read that meets it.

    Examples:
        >>> with kolmo.open("log.txt.kmo", "wt", level=1, encoding="utf-8") as file:
        ...     written = file.write("first line\nsecond line\n")
        >>> with kolmo.open("log.txt.kmo", "rt", encoding="utf-8") as file:
        ...     file.readlines()
        ['first line\n', 'second line\n']
    """
    if not isinstance(mode, str):
        raise TypeError(f"mode must be a string, not {type(mode).__name__}")
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
        max_length=max_length,
        settings=settings,
    )
    if not text:
        return binary
    try:
        return _Text(binary, encoding, errors, newline)
    except BaseException:  # an unknown encoding
        binary.close()
        raise


class KolmoFile(io.BufferedIOBase):
    """A binary file object over a `.kmo` file; the arguments are those of `open`.

    Examples:
        >>> with kolmo.KolmoFile("alphabet.kmo", "wb", level=1) as file:
        ...     file.write(b"abcdefghijklmnopqrstuvwxyz")
        26
        >>> with kolmo.KolmoFile("alphabet.kmo") as file:  # a seek decodes only the block of the place
        ...     file.seek(23)
        ...     file.read()
        23
        b'xyz'
    """

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
        max_length: int | None = None,
        settings: RunSettings = DEFAULT_SETTINGS,
    ) -> None:
        self._file: IO[bytes] = io.BytesIO()  # until there is one: a failed start is closed too
        self._owned: IO[bytes] | None = None
        self._source: io.BufferedReader | None = None
        self._compressor: Compressor | None = None
        self._written = 0
        self._unflushed = self._ending = self._failed = False
        self._lock = threading.RLock()
        if mode not in ("r", "rb", "w", "wb", "x", "xb", "a", "ab"):
            raise ValueError(f"mode {mode!r} does not exist; use r, w, x or a, with b or t")
        self.mode = mode[0] + "b"
        compressor = None
        check_level(whole_number(level, "level", -(1 << 63)))
        if self.mode != "rb":  # before the file is opened: a wrong level must not empty it
            compressor = Compressor(level, predictor=predictor, block_size=block_size, threads=threads)
        if isinstance(file, str | bytes | os.PathLike):
            self._owned = self._file = cast(IO[bytes], builtins.open(file, self.mode))  # noqa: SIM115
            self.name: Any = os.fsdecode(file)
        elif hasattr(file, "read" if self.mode == "rb" else "write"):
            self._file = cast(IO[bytes], file)
            self.name = getattr(file, "name", "")
        else:
            raise TypeError(f"file must be a path or a binary file object, not {type(file).__name__}")
        self._compressor = compressor
        if compressor is None:
            name = self.name if isinstance(self.name, str) and self.name else "input"
            try:
                blocks = BlockReader(self._file, name, threads, memory_limit, max_length, settings)
            except BaseException:
                if self._owned is not None:
                    self._owned.close()
                raise
            self._source = io.BufferedReader(blocks, BUFFER)
        else:
            _writers.add(self)

    def close(self) -> None:
        """End the frame when writing; the file below is closed if `open` opened it."""
        if self.closed:
            return
        try:
            if self._source is not None:
                self._source.close()
            elif self._compressor is not None:
                self._ending = True  # the last flush, of the base class, ends no block
                with self._lock:
                    if not self._failed:  # which has raised an error already
                        self._put(self._compressor.flush())
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
        """Whether `seek` works: reading, over a file that can seek; never when writing, as in bz2 and lzma."""
        self._check_open()
        return self._source is not None and self._source.seekable()

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
        """Take bytes; they reach the file below block by block, and all of them at `flush` and `close`."""
        self._check_open()
        if self._compressor is None:
            raise io.UnsupportedOperation(f"{self.name}: open for reading, not writing; use mode 'wb'")
        view = bytes_of(data)
        with self._lock:
            self._check_whole()
            self._written += len(view)  # it is taken, even if an error comes
            self._unflushed = self._unflushed or len(view) > 0
            self._put(self._compressor.compress(view))
        return len(view)

    def flush(self) -> None:
        """End the block, and flush the file below: all that was written can now be read from there.

        A block takes some 12 bytes beside its content, and the predictor forgets what came before, so a flush after
        every line makes the file several times larger. Nothing happens where nothing is new.
        """
        self._check_open()
        if self._compressor is None or getattr(self._file, "closed", False):
            return
        with self._lock:
            if self._unflushed and not self._ending:
                self._check_whole()
                self._put(self._compressor.flush(Compressor.FLUSH_BLOCK))
                self._unflushed = False
        if hasattr(self._file, "flush"):
            self._file.flush()

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place in the content; returns it. Only the block that holds it is decoded, when read.

        A place before the start is the start, and one past the end the end, as in gzip, bz2 and lzma.
        """
        self._check_open()
        if self._source is None:
            raise io.UnsupportedOperation(f"{self.name}: cannot seek when writing; write in order")
        return self._source.seek(offset, whence)

    def tell(self) -> int:
        """The present place in the content."""
        self._check_open()
        return self._written if self._source is None else self._source.tell()

    def _check_whole(self) -> None:
        """After an error in the file below nothing may follow: no reader would get over the hole."""
        if self._failed:
            raise KolmoError(f"{self.name or 'the file'}: is not whole, as an earlier write failed; write it anew")

    def _put(self, packed: bytes) -> None:
        """Write to the file below."""
        if packed:
            self._failed = True
            self._file.write(packed)
            self._failed = False

    def _check_open(self) -> None:
        if self.closed:
            raise ValueError("I/O operation on closed file")

    def _reading(self) -> io.BufferedReader:
        self._check_open()
        if self._source is None:
            raise io.UnsupportedOperation(f"{self.name}: open for writing, not reading; use mode 'rb'")
        return self._source


class _Text(io.TextIOWrapper):
    """Text over a KolmoFile.

    Closing, which flushes first, ends the frame without ending a block before. And UTF-16 and UTF-32 begin with their
    byte order mark, which the base class writes only where it could seek.
    """

    _begun = False

    def __init__(self, binary: KolmoFile, encoding: str | None, errors: str | None, newline: str | None) -> None:
        super().__init__(binary, encoding, errors, newline)
        if binary.writable():
            _writers.add(self)

    def write(self, text: str, /) -> int:
        """Take characters; returns how many."""
        if text and not self._begun:
            self._begun = True
            name = codecs.lookup(self.encoding).name
            binary = cast(KolmoFile, self.buffer)
            if name in ("utf-16", "utf-32") and binary.tell() == 0:
                binary.write("".encode(name))
        return super().write(text)

    def close(self) -> None:
        """Close the file below, too."""
        buffer = self.buffer
        if isinstance(buffer, KolmoFile) and not buffer.closed:
            buffer._ending = True
        super().close()


_writers: weakref.WeakSet[KolmoFile | _Text] = weakref.WeakSet()


@atexit.register
def _close_writers() -> None:
    """Close what is still open when the interpreter ends, as later no module can be imported and no thread started.

    Text first, whose last characters are not yet in the file below.
    """
    errors = []
    for file in sorted(_writers, key=lambda file: isinstance(file, KolmoFile)):
        try:
            file.close()
        except Exception as error:
            errors.append(error)
    if errors:
        raise errors[0]


if hasattr(os, "register_at_fork"):  # a child that ends writes nothing into its parent's files
    os.register_at_fork(after_in_child=_writers.clear)
