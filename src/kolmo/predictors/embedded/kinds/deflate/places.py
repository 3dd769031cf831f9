"""Where Deflate streams might be in some data: zip members, gzip members, PNG pictures, zlib streams as in PDF.

What it is not: a reader of these formats. It names places, whose streams are then inflated and made again; whatever
a header says is a hint.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from kolmo.predictors.embedded.kinds.deflate.settings import Setting, settings_of_zlib

ZIP, GZIP, PNG, STREAM = b"PK\3\4", b"\x1f\x8b\x08", b"\x89PNG\r\n\x1a\n", b"stream"
# A zlib stream of a window of 32 KiB, or of any window behind the `stream` of a PDF.
PLACES = re.compile(
    rb"PK\x03\x04|\x1f\x8b\x08|\x89PNG\r\n\x1a\n|stream\r?\n(?=[\x08\x18\x28\x38\x48\x58\x68\x78])|\x78[\x01\x5e\x9c\xda]"
)
MAX_CHUNKS = 1 << 12  # of a PNG file that are read
MAX_NAME = 1 << 10  # bytes of a name or comment of a gzip member
ZIP_LEVELS = (6, 9, 1, 1)  # by bits 1 and 2 of a member's flags
GZIP_LEVELS = {2: 9, 4: 1}  # by the byte of extra flags
PIXEL_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by PNG's type of colours


@dataclass(frozen=True)
class Place:
    """A place where a raw stream might begin.

    Attributes:
        pieces: (first, end) of the data that the stream may take; the stream ends within the last one.
        hints: settings to try first; all of them where `is_complete`.
        row, pixel: bytes of a row without its filter byte, and of a pixel, where the content is rows of a PNG
            picture of 8 bits a channel; else 0.
    """

    pieces: tuple[tuple[int, int], ...]
    hints: tuple[Setting, ...] = ()
    is_complete: bool = False
    row: int = field(default=0, kw_only=True)
    pixel: int = field(default=0, kw_only=True)


def next_place(data: bytes, at: int) -> tuple[Place | None, int] | None:
    """The next place from `at` on, or None for a header that is none, with the offset after its first byte.

    None where there are no more headers.
    """
    match = PLACES.search(data, at)
    if match is None:
        return None
    first, magic = match.start(), match[0]
    if magic == ZIP:
        place = _zip(data, first)
    elif magic == GZIP:
        place = _gzip(data, first)
    elif magic == PNG:
        place = _png(data, first)
    else:
        place = _zlib(data, match.end() if magic.startswith(STREAM) else first)
    return place, first + 1


def _number(data: bytes, at: int, size: int) -> int:
    return int.from_bytes(data[at : at + size], "little")


def _to_the_end(data: bytes, first: int, hints: tuple[Setting, ...], is_complete: bool = False) -> Place | None:
    return Place(((first, len(data)),), hints, is_complete) if first < len(data) else None


def _zip(data: bytes, at: int) -> Place | None:
    """A local header; sizes and checksum may follow the stream, so that the stream itself says where it ends."""
    flags, method = _number(data, at + 6, 2), _number(data, at + 8, 2)
    if method != 8 or flags & 1:
        return None
    first = at + 30 + _number(data, at + 26, 2) + _number(data, at + 28, 2)
    return _to_the_end(data, first, (Setting(ZIP_LEVELS[flags >> 1 & 3]),))


def _gzip(data: bytes, at: int) -> Place | None:
    flags = _number(data, at + 3, 1)
    if flags & 0xE0:
        return None
    level = GZIP_LEVELS.get(_number(data, at + 8, 1), 6)
    at += 10
    if flags & 4:
        at += 2 + _number(data, at, 2)
    for flag in (8, 16):
        if flags & flag:
            end = data.find(b"\0", at, at + MAX_NAME)
            if end < 0:
                return None
            at = end + 1
    return _to_the_end(data, at + (flags & 2), (Setting(level),))


def _zlib(data: bytes, at: int) -> Place | None:
    """Two bytes before a raw stream: window and a hint at the level."""
    hints = settings_of_zlib(data[at : at + 2], filtered=False)
    return _to_the_end(data, at + 2, hints, True) if hints else None


def _png(data: bytes, at: int) -> Place | None:
    """The IDAT chunks of a picture, which follow one another and are one stream: where they are within the data."""
    pieces: list[tuple[int, int]] = []
    row = pixel = 0
    at += 8
    for _ in range(MAX_CHUNKS):
        size, name = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        if len(name) < 4 or at + 12 + size > len(data):
            return None
        if name == b"IHDR" and size == 13:
            width, depth, colours, interlaced = (
                int.from_bytes(data[at + 8 : at + 12], "big"),
                data[at + 16],
                data[at + 17],
                data[at + 20],
            )
            if depth == 8 and not interlaced:
                pixel = PIXEL_CHANNELS.get(colours, 0)
                row = width * pixel
        elif name == b"IDAT":
            pieces.append((at + 8, at + 8 + size))
        elif pieces:
            break
        at += 12 + size
    if not pieces or pieces[0][1] - pieces[0][0] < 2:
        return None
    first, end = pieces[0]
    hints = settings_of_zlib(data[first : first + 2], filtered=True)
    pieces = [(a, b) for a, b in [(first + 2, end), *pieces[1:]] if a < b]
    return Place(tuple(pieces), hints, True, row=row, pixel=pixel) if hints and pieces else None
