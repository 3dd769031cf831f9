"""Tar files read from front to back in bounded memory: names, kinds and the bytes of regular files.

Headers of ustar, GNU (long names) and pax (path, size) are understood. No member is written anywhere, links are named
as such and not followed, and no length that a header claims is allocated. What it is not: a tar extractor; see
tarfile.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Protocol

BLOCK = 512  # bytes of a header; data is padded to a multiple of it
MAX_NAME_BYTES = 1 << 16  # of the data of a header that holds a long name
MAX_MEMBERS = 1_000_000
FILES, LINKS, FOLDER, LONG_NAME, LONG_LINK, PAX, PAX_GLOBAL = b"0\0" + b"7", b"12", b"5", b"L", b"K", b"x", b"g"
WITHOUT_DATA = b"123456"  # links, devices, folders, pipes: their size means nothing
PAX_RECORD = re.compile(rb"(\d{1,8}) ([^=\n]{1,200})=")


class TarError(Exception):
    """The tar file is damaged or ends too early."""


class TarReader(Protocol):
    """Bytes from front to back."""

    def read(self, size: int, /) -> bytes:
        """So many bytes, or fewer where there are no more."""
        ...

    def skip(self, size: int, /) -> int:
        """Pass over so many bytes, or all there are; returns how many."""
        ...


@dataclass(frozen=True)
class Member:
    """A member of a tar file.

    Attributes:
        name: as written; not to be trusted as a path.
        size: bytes that its header claims.
        kind: "file", "link", "folder" or "other".
    """

    name: str
    size: int
    kind: str


class TarMembers:
    """The members, one after another; the bytes of each can be read until the next is asked for.

    Attributes:
        ended: whether the mark that ends a tar file was met; one that was cut short between two members has none.

    Example:
        >>> for member in TarMembers(reader):  # doctest: +SKIP
        ...     data = members.read(1 << 20) if member.kind == "file" else b""
    """

    def __init__(self, stream: TarReader) -> None:
        self._stream = stream
        self._left = self._padding = 0
        self.ended = False

    def __iter__(self) -> Iterator[Member]:
        """The members.

        Raises:
            TarError: a header is damaged, or the file ends within a member. Those before it have been handed out.
        """
        name = size = None
        for _ in range(MAX_MEMBERS):
            self._finish()
            block = self._stream.read(BLOCK)
            if not block.strip(b"\0"):
                self.ended = len(block) == BLOCK
                return
            header = parse_header(block)
            if header is None:
                raise TarError("a header is damaged")
            flag = block[156:157]
            self._left = 0 if flag in WITHOUT_DATA else (header.size if size is None else size)
            self._padding = -self._left % BLOCK
            if flag in (LONG_NAME, PAX):
                if self._left > MAX_NAME_BYTES:
                    raise TarError("a name is too long")
                data = self.read(MAX_NAME_BYTES)
                if flag == LONG_NAME:
                    name = data.rstrip(b"\0")
                else:
                    found = _pax(data)
                    name = found.get(b"path", name)
                    size = _decimal(found.get(b"size"))
                continue
            if flag in (LONG_LINK, PAX_GLOBAL):
                continue
            yield Member(_text(name) if name is not None else header.name, self._left, header.kind)
            name = size = None
        raise TarError("it has too many members")

    def read(self, limit: int) -> bytes:
        """The bytes of this member, at most `limit` of them.

        Raises:
            TarError: the file ends within them.
        """
        wanted = min(self._left, limit)
        data = self._stream.read(wanted)
        self._left -= len(data)
        if len(data) < wanted:
            self._left = self._padding = 0
            raise TarError("it ends within a member")
        return data

    def part(self) -> TarPart:
        """A reader of this member's bytes alone."""
        return TarPart(self)

    def _finish(self) -> None:
        if self._left + self._padding and self._stream.skip(self._left + self._padding) < self._left:
            self._left = self._padding = 0
            raise TarError("it ends within a member")
        self._left = self._padding = 0


class TarPart:
    """The bytes of one member as a reader."""

    def __init__(self, members: TarMembers) -> None:
        self._members = members

    def read(self, size: int, /) -> bytes:
        """As `Reader.read`."""
        return self._members.read(size)

    def skip(self, size: int, /) -> int:
        """As `Reader.skip`."""
        passed = 0
        while passed < size and (piece := self.read(min(size - passed, 1 << 16))):
            passed += len(piece)
        return passed


class FileReader:
    """An open file as a reader; what is skipped is not read.

    Args:
        file: seekable.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._size = os.fstat(file.fileno()).st_size

    def read(self, size: int, /) -> bytes:
        """As `Reader.read`."""
        return self._file.read(size)

    def skip(self, size: int, /) -> int:
        """As `Reader.skip`."""
        at = self._file.tell()
        end = min(at + size, self._size)
        self._file.seek(end)
        return end - at


def parse_header(block: bytes) -> Member | None:
    """What a block of 512 bytes says as the header of a tar file; None if it is not one (its checksum is wrong)."""
    if len(block) < BLOCK:
        return None
    expected = _number(block[148:156])
    if expected is None or expected != sum(block) - sum(block[148:156]) + 8 * 32:
        return None
    size = _number(block[124:136])
    if size is None:
        return None
    name = block[:100].partition(b"\0")[0]
    flag = block[156:157]
    if block[257:263] == b"ustar\0" and (prefix := block[345:500].partition(b"\0")[0]):
        name = prefix + b"/" + name
    kind = "other"
    if flag in FILES:
        kind = "folder" if name.endswith(b"/") else "file"
    elif flag in LINKS:
        kind = "link"
    elif flag == FOLDER:
        kind = "folder"
    return Member(_text(name), size, kind)


def _number(field: bytes) -> int | None:
    if field[0] == 0x80:  # base 256, of GNU
        return int.from_bytes(field[1:], "big")
    digits = field.strip(b" \0") or b"0"
    return int(digits, 8) if re.fullmatch(rb"[0-7]{1,12}", digits) else None


def _pax(data: bytes) -> dict[bytes, bytes]:
    found: dict[bytes, bytes] = {}
    at = 0
    while (match := PAX_RECORD.match(data, at)) and (size := int(match[1])) > match.end() - at:
        found[match[2]] = data[match.end() : at + size - 1]
        at += size
    return found


def _decimal(text: bytes | None) -> int | None:
    return int(text) if text is not None and text.isdigit() and len(text) < 16 else None


def _text(name: bytes) -> str:
    try:
        return name.decode()
    except UnicodeDecodeError:
        return name.decode("latin-1")
