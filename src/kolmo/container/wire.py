"""Digests, and a `Reader` of bytes and integers whose every error names the input and the offset.

What it is not: it knows no structure of the format beyond `varint`, `u8` and `u32` (docs/format.md,
"Conventions").
"""

from __future__ import annotations

import errno
import hashlib
import io
from typing import Protocol

from kolmo.errors import CorruptError, TruncatedError
from kolmo.varints import VarintError, read_varint

MAX_READ_BYTES = 1 << 20  # of a single read: upper bound on what a damaged size can make us allocate
PADDING_READ_BYTES = 1 << 16  # of padding that are read at once
DIGEST_SIZE = 8
REMEDY = "get a fresh copy of the file"


def new_digest() -> hashlib.blake2b:
    """The running digest of the format: BLAKE2b, 8 bytes, no key."""
    return hashlib.blake2b(digest_size=DIGEST_SIZE)


def digest(data: bytes) -> bytes:
    """The 8-byte digest of `data`."""
    return hashlib.blake2b(data, digest_size=DIGEST_SIZE).digest()


class Source(Protocol):
    """What a `Reader` reads: a binary file object."""

    def read(self, size: int, /) -> bytes | None:
        """Up to `size` bytes; b"" at the end, None where none are there yet."""
        ...

    def seekable(self) -> bool:
        """Whether `seek` and `tell` work."""
        ...

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Go to an offset; returns it."""
        ...

    def tell(self) -> int:
        """The present offset."""
        ...


def read_some(file: Source, size: int) -> bytes:
    """Up to `size` bytes of a file; b"" at its end alone.

    Raises:
        BlockingIOError: the file does not block, and has no data yet, for which Python's files return None.
    """
    piece = file.read(size)
    if piece is None:
        raise BlockingIOError(errno.EAGAIN, "has no data yet; make its descriptor a blocking one")
    return piece


class Reader:
    """Reads a binary file exactly, forward or (where the file can seek) anywhere.

    Attributes:
        name: what errors call the input.
        offset: position of the next byte in the input.
    """

    def __init__(self, file: Source, name: str = "input") -> None:
        self.name = name
        self._file = file
        self._ahead = b""
        seekable = getattr(file, "seekable", None)  # which an object that can only be read need not have
        self.seekable = bool(seekable and seekable())
        self.offset = file.tell() if self.seekable else 0
        self.start = self.offset
        self._end: int | None = None

    def take(self, size: int, what: str) -> bytes:
        """The next `size` bytes, read in pieces, so that a false size allocates no more than the input holds.

        Raises:
            TruncatedError: the input ends first; `what` says within what.
        """
        start = self.offset
        pieces = [self._ahead[:size]] if self._ahead else []
        self._ahead = self._ahead[size:]
        missing = size - sum(map(len, pieces))
        while missing:
            piece = read_some(self._file, min(missing, MAX_READ_BYTES))
            if not piece:
                self.offset = start + size - missing
                raise self.truncated(what, start)
            pieces.append(piece)
            missing -= len(piece)
        self.offset = start + size
        return b"".join(pieces)

    def peek(self, size: int) -> bytes:
        """The next bytes without passing over them: `size`, or fewer at the input's end."""
        while len(self._ahead) < size:
            piece = read_some(self._file, size - len(self._ahead))
            if not piece:
                break
            self._ahead += piece
        return self._ahead[:size]

    def skip(self, size: int, what: str) -> None:
        """Pass over `size` bytes, without reading them where the file can seek.

        Raises:
            TruncatedError: the input ends first.
        """
        if not self.seekable:
            while size > 0:
                size -= len(self.take(min(size, MAX_READ_BYTES), what))
            return
        target = self.offset + size
        if target > self.end():
            start, self.offset = self.offset, self.end()
            raise self.truncated(what, start)
        self.seek(target)

    def skip_zeros(self) -> None:
        """Pass over all zero bytes that come next."""
        while ahead := self.peek(PADDING_READ_BYTES):
            rest = ahead.lstrip(b"\0")
            self.take(len(ahead) - len(rest), "padding")
            if rest:
                return

    def seek(self, offset: int) -> None:
        """Go to `offset`; the file must be seekable."""
        self._file.seek(offset)
        self._ahead = b""
        self.offset = offset

    def end(self) -> int:
        """Offset of the input's end; the file must be seekable."""
        if self._end is None:
            self._end = self._file.seek(0, io.SEEK_END)
            self._file.seek(self.offset + len(self._ahead))
        return self._end

    def forget_end(self) -> None:
        """Look for the end anew, as the file may have grown."""
        self._end = None

    def u8(self, what: str) -> int:
        """One byte as an integer."""
        return self.take(1, what)[0]

    def u32(self, what: str) -> int:
        """Four bytes, little-endian."""
        return int.from_bytes(self.take(4, what), "little")

    def varint(self, what: str) -> int:
        """One varint in its only permitted form: no longer than needed, at most 9 bytes.

        Raises:
            CorruptError: it is overlong or too large.
        """
        start = self.offset
        try:
            return read_varint(lambda: self.u8(what))
        except VarintError as error:
            raise self.corrupt(f"{what} {error}", start) from None

    def corrupt(self, what: str, offset: int) -> CorruptError:
        """The error for damage at `offset`."""
        return CorruptError(f"{self.name}: damaged: {what}, at byte {offset}; {REMEDY}", offset)

    def truncated(self, what: str, start: int) -> CorruptError:
        """The error for an input that ends at the present offset, within `what`, which began at `start`."""
        at = self.offset
        return TruncatedError(f"{self.name}: ends too early: within {what}, at byte {at}; {REMEDY}", at)


class FieldReader(Reader):
    """Reads a part that is already in memory and checked; running over its end is damage, not truncation."""

    def __init__(self, data: bytes, name: str, offset: int) -> None:
        super().__init__(io.BytesIO(data), name)
        self.seekable = False
        self.offset = self.start = offset
        self.limit = offset + len(data)

    def left(self) -> int:
        """Bytes not yet read."""
        return self.limit - self.offset

    def truncated(self, what: str, start: int) -> CorruptError:
        """Damage at the field's start: it claims more bytes than hold it."""
        return self.corrupt(f"{what} runs over its end", start)
