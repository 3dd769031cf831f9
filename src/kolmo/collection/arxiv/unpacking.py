"""A paper's source: what it is, decided by its bytes, and its text files, held in memory within bounds.

Nothing is written to the disk: a path in a tar file is a key of a dictionary, so none can leave the paper's folder.
Style and class files are left out (they break pandoc's parser, jgm/pandoc #7646 and #9126), figures too.
"""

from __future__ import annotations

import posixpath
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from kolmo.collection.arxiv.tar_members import BLOCK, TarError, TarMembers, TarReader, parse_header

MAX_UNPACKED_BYTES = 1 << 30  # of a paper's source, figures included
MAX_FILE_BYTES = 8 << 20  # of one text file
MAX_TEXT_BYTES = 64 << 20  # of all text files of a paper
MAX_FILES = 5000  # text files of a paper
MAX_GZIP_LAYERS = 2  # some sources are compressed twice
HEAD_BYTES = 4096  # from which the kind is decided
PIECE_BYTES = 1 << 16
MAX_NAME_CHARACTERS = 1000
GZIP_MAGIC = b"\x1f\x8b"
STYLES = (".sty", ".cls", ".clo")
SKIPPED = (  # endings of files that hold no TeX of the paper
    *(".pdf", ".ps", ".eps", ".epsi", ".png", ".jpg", ".jpeg", ".gif", ".svg", ".bmp", ".tif", ".tiff", ".mp4", ".avi"),
    *(".zip", ".gz", ".bz2", ".xz", ".tar", ".ttf", ".otf", ".pfb", ".tfm", ".fd", ".bst", ".bib", ".csv", ".dat"),
    *(".py", ".ipynb", ".m", ".nb", ".mat", ".json", ".html", ".htm", ".doc", ".docx", ".xls", ".xlsx", ".aux", ".log"),
)


class UnusableError(Exception):
    """A source that gives no document.

    Attributes:
        why: the reason, for counts.
    """

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


@dataclass
class PaperFiles:
    """The text files of a paper.

    Attributes:
        files: bytes by path within the paper's folder, with "/", without "." or "..".
        tallies: files that were left out, by reason.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    tallies: Counter[str] = field(default_factory=Counter)


def unpack(source: TarReader, name: str) -> PaperFiles:
    """The text files of a source as the archive has it: gzip of a tar file or of one file.

    Args:
        source: its bytes.
        name: of the single file, where it is one.

    Raises:
        UnusableError: the source is of another kind, damaged or too large.
    """
    stream: _Peeking = _Peeking(source, MAX_UNPACKED_BYTES)
    try:
        for _ in range(MAX_GZIP_LAYERS):
            if not stream.peek(2).startswith(GZIP_MAGIC):
                break
            stream = _Peeking(_Gunzip(stream), MAX_UNPACKED_BYTES)
        kind = kind_of(stream.peek(HEAD_BYTES))
        if kind == "tar":
            return _text_files(TarMembers(stream))
        if kind != "text":
            raise UnusableError(kind)
        data = stream.read(MAX_FILE_BYTES + 1)
        if len(data) > MAX_FILE_BYTES:
            raise UnusableError("too large")
        if b"\0" in data:
            raise UnusableError("not text")
        return PaperFiles({name: data})
    except zlib.error:
        raise UnusableError("damaged gzip") from None
    except TarError:
        raise UnusableError("damaged tar") from None


def kind_of(head: bytes) -> str:
    """What a decompressed source is, by its first bytes: "tar", "text", or the reason to drop it.

    >>> kind_of(b"%PDF-1.5"), kind_of(b"A note without any command.")
    ('PDF only', 'text')
    """
    if parse_header(head[:BLOCK]) is not None:
        return "tar"
    begin = head.lstrip(b"\xef\xbb\xbf \t\r\n\x04")[:20].lower()
    if not begin:
        return "empty"
    for magic, kind in (
        (b"%pdf", "PDF only"),
        (b"%!ps", "PostScript only"),
        (b"<html", "HTML only"),
        (b"<!doctype html", "HTML only"),
        (b"pk\x03\x04", "zip or DOCX only"),
    ):
        if begin.startswith(magic):
            return kind
    return "not text" if b"\0" in head else "text"


def safe_path(name: str) -> str | None:
    """A member's name as a path within the paper's folder; None if it leaves it or is not a usable name.

    >>> safe_path("./a//b/../c.tex"), safe_path("a/../../c.tex"), safe_path("/etc/passwd")
    ('a/c.tex', None, None)
    """
    if not name or len(name) > MAX_NAME_CHARACTERS or name.startswith("/") or "\0" in name or "\\" in name:
        return None
    path = posixpath.normpath(name)
    return None if path == ".." or path.startswith("../") or path == "." else path


def _text_files(members: TarMembers) -> PaperFiles:
    paper = PaperFiles()
    total = 0
    for member in members:
        if member.kind != "file":
            if member.kind != "folder":
                paper.tallies["link or device left out"] += 1
            continue
        path = safe_path(member.name)
        if path is None:
            paper.tallies["path outside the paper's folder left out"] += 1
            continue
        base = posixpath.basename(path).lower()
        if base.endswith(STYLES):
            paper.tallies["style file left out"] += 1
            continue
        if base.endswith(SKIPPED) or base.startswith("._") or path.startswith("__MACOSX/"):
            continue
        if member.size > MAX_FILE_BYTES:
            paper.tallies["large file left out"] += 1
            continue
        data = members.read(MAX_FILE_BYTES)
        if b"\0" in data:
            continue
        total += len(data) - len(paper.files.get(path, b""))
        paper.files[path] = data  # of two members of one name the later holds, as in an extracted folder
        if total > MAX_TEXT_BYTES or len(paper.files) > MAX_FILES:
            raise UnusableError("too large")
    return paper


class _Peeking:
    """A reader whose next bytes can be looked at, and which refuses to hand out more than `limit`."""

    def __init__(self, source: TarReader, limit: int) -> None:
        self._source, self._left = source, limit
        self._ahead = b""

    def peek(self, size: int) -> bytes:
        while len(self._ahead) < size and (piece := self._take(size - len(self._ahead))):
            self._ahead += piece
        return self._ahead[:size]

    def read(self, size: int, /) -> bytes:
        pieces = [self._ahead[:size]]
        self._ahead = self._ahead[size:]
        size -= len(pieces[0])
        while size > 0 and (piece := self._take(min(size, PIECE_BYTES))):
            pieces.append(piece)
            size -= len(piece)
        return b"".join(pieces)

    def skip(self, size: int, /) -> int:
        passed = min(len(self._ahead), size)
        self._ahead = self._ahead[passed:]
        while passed < size and (piece := self._take(min(size - passed, PIECE_BYTES))):
            passed += len(piece)
        return passed

    def _take(self, size: int) -> bytes:
        piece = self._source.read(size)
        self._left -= len(piece)
        if self._left < 0:
            raise UnusableError("too large")
        return piece


class _Gunzip:
    """The content of gzip members, a bounded piece at a time.

    Raises zlib.error where they are damaged or end too early.
    """

    def __init__(self, source: TarReader) -> None:
        self._source = source
        self._new: Callable[[], zlib._Decompress] = lambda: zlib.decompressobj(31)
        self._inflate = self._new()
        self._input = b""

    def read(self, size: int, /) -> bytes:
        while True:
            if self._inflate.eof:
                self._input = self._inflate.unused_data or self._input
                if not self._more() or not self._input.startswith(GZIP_MAGIC):  # what follows is padding
                    return b""
                self._inflate = self._new()
            found = self._inflate.decompress(self._input, size)
            self._input = self._inflate.unconsumed_tail
            if found:
                return found
            if not self._inflate.eof and not self._more():
                raise zlib.error("it ends too early")

    def skip(self, size: int, /) -> int:
        passed = 0
        while passed < size and (piece := self.read(min(size - passed, PIECE_BYTES))):
            passed += len(piece)
        return passed

    def _more(self) -> bool:
        if len(self._input) < 2:
            self._input += self._source.read(PIECE_BYTES)
        return bool(self._input)
