"""Records of WARC and WET files (ISO 28500), gzip or not; what is damaged is counted, and reading goes on behind it.

Such files are chains of gzip members, a record each (or more). Where a member is damaged, reading goes on at the next
place that begins as a member and unpacks to a record: so a flipped bit costs its record alone, and a truncated file its
last. What it is not: a parser of what records hold.

The file's bytes are untrusted: no record is held beyond `MAX_RECORD_BYTES`, whatever it claims or unpacks to.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO

MAX_RECORD_BYTES = 64 << 20  # of a record's block; a longer one is passed over
MAX_HEADER_BYTES = 1 << 20
READ_BYTES = 1 << 16
UNPACK_BYTES = 1 << 20
GUESS_BYTES = 512  # unpacked of what may be a member, until it looks like a record
MAGIC = b"\x1f\x8b\x08"
VERSION = b"WARC/"
TRUNCATED = "truncated gzip member"
DAMAGED = "damaged gzip member"
FOREIGN = "not a WARC record"
SHORT = "record cut short"
LARGE = "record larger than 64 MiB"

Lose = Callable[[str], None]  # is told the reason, once for each record that is lost


@dataclass(frozen=True)
class ArchiveRecord:
    """A record: its headers by name in lower case, and its block."""

    headers: dict[str, str]
    block: bytes


def read_records(file: IO[bytes], lose: Lose) -> Iterator[ArchiveRecord]:
    """The records of a file, in order.

    Args:
        file: seekable, at its beginning.
        lose: is called with a reason for each record (or damaged member, whose records nobody can count) that is lost.
    """
    head = file.read(len(MAGIC))
    file.seek(0)
    if head[:2] == MAGIC[:2]:
        yield from _packed(file, lose)
    elif head:
        yield from _plain(file, lose)


def _plain(file: IO[bytes], lose: Lose) -> Iterator[ArchiveRecord]:
    parser = _Parser(lose)
    while piece := file.read(UNPACK_BYTES):
        yield from parser.feed(piece)
        if parser.foreign:
            break
    yield from parser.finish()


def _packed(file: IO[bytes], lose: Lose) -> Iterator[ArchiveRecord]:
    at = 0
    sure = True  # that a member begins here; else it is a guess, which is given up without a word
    while at is not None:
        member = _Member(file, at, lose)
        yield from member.records(sure)
        if member.end is not None:
            sure = True
            following = _peek(file, member.end)
            if following[: len(MAGIC)] == MAGIC:
                at = member.end
                continue
            if not following.strip(b"\0"):  # padding, or the end
                found = _next_magic(file, member.end)
            else:
                lose(FOREIGN)
                found = _next_magic(file, member.end)
            if found is None:
                return
            at, sure = found, False
            continue
        if sure:
            lose(member.failure)
        found = _next_magic(file, at + 1)
        if found is None:
            return
        at, sure = found, False


class _Member:
    """One gzip member.

    Attributes:
        end: where the next begins; None where this one is damaged.
        failure: why it is.
    """

    def __init__(self, file: IO[bytes], at: int, lose: Lose) -> None:
        self._file, self._at, self._lose = file, at, lose
        self.end: int | None = None
        self.failure = DAMAGED

    def records(self, sure: bool) -> Iterator[ArchiveRecord]:
        """Those that are whole. The last one is held back until the member's checksum was right."""
        losses: list[str] = []
        parser = _Parser(losses.append)
        unpacker = zlib.decompressobj(31)
        self._file.seek(self._at)
        position = self._at
        pending: ArchiveRecord | None = None
        try:
            while not unpacker.eof:
                data = self._file.read(READ_BYTES)
                if not data:
                    self.failure = TRUNCATED
                    return
                position += len(data)
                while data and not unpacker.eof:
                    most = UNPACK_BYTES if sure or parser.begun else GUESS_BYTES
                    for record in parser.feed(unpacker.decompress(data, most)):
                        if pending is not None:
                            yield pending
                            self._file.seek(position)
                        pending = record
                    data = unpacker.unconsumed_tail
                    if parser.foreign and not sure:  # a guess that was wrong
                        return
        except zlib.error:
            return
        for record in parser.finish():
            if pending is not None:
                yield pending
            pending = record
        if parser.foreign and not sure:
            return
        self.end = position - len(unpacker.unused_data)
        if pending is not None:
            yield pending
        for reason in losses:
            self._lose(reason)


class _Parser:
    """Records out of pieces of a stream.

    Attributes:
        begun: whether there was a record's header.
        foreign: whether the stream does not begin with a record, or goes on with something else.
    """

    def __init__(self, lose: Lose) -> None:
        self._lose = lose
        self._buffer = bytearray()
        self._headers: dict[str, str] | None = None
        self._left = 0  # bytes of the block that have not come
        self._skips = False
        self.begun = self.foreign = False

    def feed(self, piece: bytes) -> Iterator[ArchiveRecord]:
        """The records that a piece completes."""
        if self.foreign:
            return
        if self._skips:
            used = min(self._left, len(piece))
            self._left -= used
            piece = piece[used:]
            if self._left:
                return
            self._skips, self._headers = False, None
        self._buffer += piece
        while True:
            if self._headers is None and not self._begin():
                return
            if self._skips:
                return
            if len(self._buffer) < self._left:
                return
            headers, block = self._headers, bytes(self._buffer[: self._left])
            del self._buffer[: self._left]
            self._headers = None
            assert headers is not None
            yield ArchiveRecord(headers, block)

    def finish(self) -> Iterator[ArchiveRecord]:
        """The stream has ended."""
        if self._headers is not None:
            self._lose(SHORT)
        elif self._buffer.strip() and not self.foreign:
            self.foreign = not self._buffer.startswith(VERSION)
            self._lose(FOREIGN if self.foreign else SHORT)
        yield from ()

    def _begin(self) -> bool:
        """Take the next record's headers off the buffer; False where they are not whole yet."""
        start = 0
        while start < len(self._buffer) and self._buffer[start] in b"\r\n":
            start += 1
        del self._buffer[:start]
        if not self._buffer:
            return False
        if not self._buffer.startswith(VERSION[: len(self._buffer)]):
            self._fail()
            return False
        end, width = self._buffer.find(b"\r\n\r\n"), 4
        bare = self._buffer.find(b"\n\n", 0, end if end >= 0 else len(self._buffer))
        if bare >= 0:
            end, width = bare, 2
        if end < 0:
            if len(self._buffer) > MAX_HEADER_BYTES:
                self._fail()
            return False
        headers = parse_headers(bytes(self._buffer[:end]))
        length = headers.get("content-length", "")
        if not (length.isascii() and length.isdecimal() and len(length) < 20):
            self._fail()
            return False
        del self._buffer[: end + width]
        self._headers, self._left, self.begun = headers, int(length), True
        if self._left > MAX_RECORD_BYTES:
            self._lose(LARGE)
            here = min(self._left, len(self._buffer))
            del self._buffer[:here]
            self._left -= here
            self._skips = self._left > 0
            if not self._skips:
                self._headers = None
                return self._begin()
        return True

    def _fail(self) -> None:
        self.foreign = True
        self._buffer.clear()
        self._lose(FOREIGN)


def parse_headers(data: bytes) -> dict[str, str]:
    r"""Header lines after the first, by name in lower case; of several with one name, the first counts.

    >>> parse_headers(b"WARC/1.0\r\nWARC-Type: response\r\n")
    {'warc-type': 'response'}
    """
    found: dict[str, str] = {}
    name = ""
    for line in data.decode("utf-8", "replace").split("\n")[1:]:
        if line[:1] in (" ", "\t") and name:  # goes on
            found[name] = f"{found[name]} {line.strip()}"
            continue
        key, colon, value = line.partition(":")
        name = key.strip().lower() if colon else ""
        if name in found:
            name = ""
        elif name:
            found[name] = value.strip()
    return found


def _peek(file: IO[bytes], at: int) -> bytes:
    file.seek(at)
    return file.read(64)


def _next_magic(file: IO[bytes], at: int) -> int | None:
    """The next place from `at` on that may be a member's beginning."""
    file.seek(at)
    kept = b""
    while piece := file.read(1 << 20):
        found = (kept + piece).find(MAGIC)
        if found >= 0:
            return at - len(kept) + found
        at += len(piece)
        kept = (kept + piece)[-(len(MAGIC) - 1) :]
    return None
