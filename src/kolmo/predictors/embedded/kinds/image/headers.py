"""Pictures that headers announce, anywhere in the data: PPM, PGM, BMP, TIFF, TGA without compression (docs/image.md).

A header is believed only where all of its pixels are within the data. What it is not: pictures without headers
(`guess.py`).
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass

RGB, BGR = 1, 0  # the third parameter: the order of colours
MIN_PICTURE_BYTES = 256
MAX_FOUND = 256  # pictures of each format in a block
MAX_CANDIDATES = 1 << 14  # places of a block where each format is looked for
MAX_ENTRIES = 64  # of a TIFF directory
MAX_STRIPS = 1 << 16


@dataclass(frozen=True)
class Pixels:
    """A picture's bytes in a block: (stride, channels, order) are the parameters of the kind."""

    first: int
    size: int
    stride: int
    channels: int
    order: int


def find_pixels(data: bytes) -> list[Pixels]:
    """The pixels of all pictures that headers announce, sorted, without overlaps: the first of those that do."""
    found = sorted([*_netpbm(data), *_bmp(data), *_tiff(data), *_tga(data)], key=lambda p: (p.first, -p.size))
    result: list[Pixels] = []
    for pixels in found:
        if pixels.size >= MIN_PICTURE_BYTES and (not result or pixels.first >= result[-1].first + result[-1].size):
            result.append(pixels)
    return result


def _netpbm(data: bytes) -> Iterator[Pixels]:
    """PPM (P6) and PGM (P5) of eight bits."""
    space = rb"(?:[ \t\r\n]|#[^\r\n]{0,200}[\r\n]){1,8}"
    header = rb"P([56])" + space + rb"(\d{1,5})" + space + rb"(\d{1,5})" + space + rb"(\d{1,3})[ \t\r\n]"
    for number, match in enumerate(re.finditer(header, data)):
        if number == MAX_FOUND:
            return
        width, height, most = (int(match[k]) for k in (2, 3, 4))
        channels = 3 if match[1] == b"6" else 1
        size = width * height * channels
        if most <= 255 and size and match.end() + size <= len(data):
            yield Pixels(match.end(), size, width * channels, channels, RGB)


def _places(data: bytes, pattern: bytes) -> Iterator[int]:
    """Offsets at which a pattern begins, the first `MAX_CANDIDATES`."""
    at = data.find(pattern)
    for _ in range(MAX_CANDIDATES):
        if at < 0:
            return
        yield at
        at = data.find(pattern, at + 1)


def _bmp(data: bytes) -> Iterator[Pixels]:
    """BMP of 24 or 32 bits, and of 8 bits where the palette is grey."""
    found = 0
    for at in _places(data, b"BM"):
        if at + 54 > len(data) or found == MAX_FOUND:
            return
        first, header, width, height, planes, bits, compression = struct.unpack_from("<IIiiHHI", data, at + 10)
        if not (40 <= header <= 256 and planes == 1 and 0 < width < 1 << 16 and height and abs(height) < 1 << 16):
            continue
        if bits not in (8, 24, 32) or compression not in ((0, 3) if bits == 32 else (0,)):
            continue
        stride = (width * bits // 8 + 3) // 4 * 4
        size = stride * abs(height)
        if first < 14 + header or at + first + size > len(data):
            continue
        if bits == 8 and not _is_grey(data[at + 14 + header : at + first]):
            continue
        found += 1
        yield Pixels(at + first, size, stride, bits // 8, BGR)


def _is_grey(palette: bytes) -> bool:
    """Whether a palette of four bytes a colour is a ramp of greys."""
    colours = len(palette) // 4
    return colours >= 2 and all(palette[4 * k : 4 * k + 3] == bytes([palette[4 * k]] * 3) for k in range(colours))


def _tga(data: bytes) -> Iterator[Pixels]:
    """TGA of true colour (type 2) or grey (type 3) without compression or palette."""
    found = 0
    for kind, depths in ((2, (24, 32)), (3, (8,))):
        for at in _places(data, bytes([0, kind, 0, 0, 0, 0, 0])):
            at -= 1
            if at < 0 or at + 18 > len(data):
                continue
            if found == MAX_FOUND:
                return
            width, height, depth, flags = struct.unpack_from("<HHBB", data, at + 12)
            if depth not in depths or flags & 0xC0 or (flags & 15) not in (0, 8) or width < 8 or height < 8:
                continue
            first, size = at + 18 + data[at], width * height * depth // 8
            if first + size <= len(data):
                found += 1
                yield Pixels(first, size, width * depth // 8, depth // 8, BGR)


def _tiff(data: bytes) -> Iterator[Pixels]:
    """TIFF of 8 bits a sample, uncompressed, whose strips follow one another."""
    found = 0
    for magic, order in ((b"II*\0", "<"), (b"MM\0*", ">")):
        for at in _places(data, magic):
            if found == MAX_FOUND:
                return
            pixels = _tiff_pixels(data, at, order)
            if pixels:
                found += 1
                yield pixels


def _tiff_pixels(data: bytes, start: int, order: str) -> Pixels | None:
    """The pixels of the first directory of a TIFF file that begins at `start`."""
    tags: dict[int, list[int]] = {}
    try:
        (at,) = struct.unpack_from(order + "I", data, start + 4)
        (count,) = struct.unpack_from(order + "H", data, start + at)
        for k in range(min(count, MAX_ENTRIES)):
            place = start + at + 2 + 12 * k
            tag, kind, number = struct.unpack_from(order + "HHI", data, place)
            size = {3: 2, 4: 4}.get(kind, 0)
            if size and 0 < number <= MAX_STRIPS:
                where = place + 8 if size * number <= 4 else start + struct.unpack_from(order + "I", data, place + 8)[0]
                tags[tag] = list(struct.unpack_from(f"{order}{number}{'H' if size == 2 else 'I'}", data, where))
    except struct.error:
        return None
    width, height, channels = (tags.get(tag, [default])[0] for tag, default in ((256, 0), (257, 0), (277, 1)))
    offsets, counts = tags.get(273, []), tags.get(279, [])
    plain = tags.get(259, [1])[0] == 1 and set(tags.get(258, [1])) == {8} and tags.get(284, [1])[0] == 1
    if not (plain and width and height and 1 <= channels <= 4 and tags.get(317, [1])[0] == 1):
        return None
    if tags.get(262, [0])[0] not in (0, 1, 2) or len(offsets) != len(counts) or not offsets:
        return None
    if any(offsets[k] + counts[k] != offsets[k + 1] for k in range(len(offsets) - 1)):
        return None
    size = width * height * channels
    if sum(counts) != size or start + offsets[0] + size > len(data):
        return None
    return Pixels(start + offsets[0], size, width * channels, channels, RGB)
