"""One file's bytes and characters: plain or gzip, strictly UTF-8, with the byte in every error.

What it is not: it knows no formats. Characters are exactly the file's: no line end is translated, no byte order mark
removed.
"""

from __future__ import annotations

import codecs
import gzip
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedIOBase

from kolmo.errors import KolmoError

MAX_DOCUMENT_BYTES = 1 << 30  # of one document, uncompressed: a small gzip file may expand to any size
READ_BYTES = 1 << 16  # of a single read


class NotTextError(KolmoError):
    """A file is not text, or too long a one. A folder skips such files."""


@contextmanager
def opened(path: str) -> Iterator[BufferedIOBase]:
    """A file's bytes, unpacked where its name ends in .gz.

    Raises:
        NotTextError: its gzip data is damaged.
        KolmoError: it cannot be opened or read.
    """
    packed = path.lower().endswith(".gz")
    try:
        with gzip.open(path, "rb") if packed else open(path, "rb") as file:
            yield file
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise NotTextError(f"{path}: is damaged or no gzip file ({error}); copy it again, or rename it") from None
    except OSError as error:
        raise KolmoError(f"{path}: {error.strerror or error}; check the name and the permissions") from None


def read_text(path: str) -> str:
    """All of a file, as text.

    Raises:
        NotTextError: it is not UTF-8, has zero bytes, exceeds `MAX_DOCUMENT_BYTES`, or is damaged gzip data.
        KolmoError: it cannot be read.
    """
    parts, decoder = [], Decoder()
    with opened(path) as file:
        if os.fstat(file.fileno()).st_size > MAX_DOCUMENT_BYTES:
            raise _too_long(path)
        while piece := file.read(READ_BYTES):
            parts.append(decoder.decode(piece, path))
            if decoder.at > MAX_DOCUMENT_BYTES:
                raise _too_long(path)
    parts.append(decoder.decode(b"", path, final=True))
    return "".join(parts)


class Decoder:
    """Bytes of one file to characters, piece by piece; so a large binary file is told from text at once.

    Attributes:
        at: bytes so far.
    """

    def __init__(self) -> None:
        self.at = 0
        self._decoder = codecs.getincrementaldecoder("utf-8")()

    def decode(self, piece: bytes, where: str, *, final: bool = False) -> str:
        """The characters that `piece` completes.

        Raises:
            NotTextError: a byte is not UTF-8, or zero, as in binary files and UTF-16; `where` begins the message.
        """
        if (zero := piece.find(0)) >= 0:
            raise NotTextError(f"{where}: byte {self.at + zero} is zero, so this is not text; leave the file out")
        pending = len(self._decoder.getstate()[0])
        try:
            text = self._decoder.decode(piece, final)
        except UnicodeDecodeError as error:
            raise NotTextError(
                f"{where}: byte {self.at - pending + error.start} is not UTF-8; "
                "convert the file (iconv -t UTF-8), or leave it out"
            ) from None
        self.at += len(piece)
        return text


def _too_long(path: str) -> NotTextError:
    return NotTextError(f"{path}: is longer than {MAX_DOCUMENT_BYTES >> 20} MiB, too much for one document; split it")
