"""Deflate streams (RFC 1951) inside files: where they are, their tokens, and whether zlib makes the same bytes again.

What it is not: a part of the package. It measures what such a part would gain (docs/kinds-deflate.md), with the zlib of
this Python in place of an encoder of our own.
"""

from __future__ import annotations

import io
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

LEVELS = (6, 9, 1, 5, 4, 8, 7, 3, 2)  # the likely ones first
PROBE_BYTES = 1 << 17  # content whose compression must agree before all of it is compressed
MAX_CONTENT = 64 << 20  # content of a stream, at most


@dataclass(frozen=True)
class Stream:
    """A raw deflate stream in a file: where, its bytes, its content, and the window that its zlib header claims."""

    first: int  # of the pieces of the file that it consists of (IDAT chunks): the first one's place
    pieces: tuple[tuple[int, int], ...]  # (place, size) of its bytes in the file, headers and checksums left out
    packed: bytes
    content: bytes
    window: int = 15


class Settings(NamedTuple):
    """Parameters of zlib's deflateInit2."""

    level: int
    window: int
    memory: int
    strategy: int


def inflate(data: bytes, first: int) -> tuple[bytes, int] | None:
    """The content of a raw stream and how many bytes it has, or None where there is none."""
    engine = zlib.decompressobj(-15)
    try:
        content = engine.decompress(data[first:], MAX_CONTENT)
    except zlib.error:
        return None
    if not engine.eof or not content:
        return None
    return content, len(data) - first - len(engine.unused_data)


def in_zip(data: bytes) -> Iterator[Stream]:
    """Members of a zip archive (wheel, jar, docx)."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for entry in archive.infolist():
            if entry.compress_type != zipfile.ZIP_DEFLATED or not entry.file_size:
                continue
            at = entry.header_offset
            name, extra = struct.unpack_from("<HH", data, at + 26)
            first = at + 30 + name + extra
            if found := inflate(data, first):
                content, size = found
                yield Stream(first, ((first, size),), data[first : first + size], content)


def in_png(data: bytes) -> Iterator[Stream]:
    """The pixels of a PNG file: one zlib stream in IDAT chunks."""
    at, pieces = 8, []
    while at + 8 <= len(data):
        (size,), name = struct.unpack_from(">I", data, at), data[at + 4 : at + 8]
        if name == b"IDAT":
            pieces.append((at + 8, size))
        at += 12 + size
    joined = b"".join(data[first : first + size] for first, size in pieces)
    found = inflate(joined, 2)
    if found and len(joined) == found[1] + 6:
        yield Stream(pieces[0][0], tuple(pieces), joined[2:-4], found[0], (joined[0] >> 4) + 8)


def in_gzip(data: bytes) -> Iterator[Stream]:
    """The first member of a gzip file."""
    flags, at = data[3], 10
    if flags & 4:
        at += 2 + int.from_bytes(data[at : at + 2], "little")
    for flag in (8, 16):
        if flags & flag:
            at = data.index(b"\0", at) + 1
    at += 2 if flags & 2 else 0
    if found := inflate(data, at):
        yield Stream(at, ((at, found[1]),), data[at : at + found[1]], found[0])


def in_pdf(data: bytes) -> Iterator[Stream]:
    """Streams of a PDF file that are zlib streams."""
    for match in re.finditer(rb"stream\r?\n", data):
        at = match.end()
        if data[at : at + 1] and data[at] & 15 == 8 and int.from_bytes(data[at : at + 2], "big") % 31 == 0:
            found = inflate(data, at + 2)
            if found:
                first, size = at + 2, found[1]
                yield Stream(first, ((first, size),), data[first : first + size], found[0], (data[at] >> 4) + 8)


def streams(data: bytes) -> list[Stream]:
    """The streams of a file of a known format."""
    if data[:4] == b"PK\3\4":
        return list(in_zip(data))
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        return list(in_png(data))
    if data[:2] == b"\x1f\x8b":
        return list(in_gzip(data))
    return list(in_pdf(data)) if data[:1024].find(b"%PDF-") >= 0 else []


def deflate(content: bytes, settings: Settings) -> bytes:
    """The raw stream that zlib makes."""
    window = max(settings.window, 9)  # zlib itself uses 9 where 8 is asked for
    engine = zlib.compressobj(settings.level, zlib.DEFLATED, -window, settings.memory, settings.strategy)
    return engine.compress(content) + engine.flush()


def candidates(stream: Stream) -> Iterator[Settings]:
    """Settings to try, the likely ones first: deep searches and small memories only for small contents."""
    windows = (stream.window,) if stream.window == 15 else (stream.window, 15)  # libpng corrects its header afterwards
    for memory in (8, 9):
        for window in windows:
            for strategy in (0, 1):
                for level in LEVELS:
                    if strategy == 0 or level >= 4:
                        yield Settings(level, window, memory, strategy)
    for strategy in (zlib.Z_RLE, zlib.Z_HUFFMAN_ONLY, zlib.Z_FIXED):
        yield Settings(6, stream.window, 8, strategy)
    if len(stream.content) < PROBE_BYTES:
        for memory in (7, 6, 5, 4, 3, 2, 1):
            for level in (6, 9, 1):
                yield Settings(level, stream.window, memory, 0)


def again(stream: Stream) -> Settings | None:
    """Settings with which zlib makes the same bytes, or None."""
    for settings in candidates(stream):
        if len(stream.content) > 2 * PROBE_BYTES:
            window = max(settings.window, 9)
            engine = zlib.compressobj(settings.level, zlib.DEFLATED, -window, settings.memory, settings.strategy)
            begun = engine.compress(stream.content[:PROBE_BYTES])
            if begun != stream.packed[: len(begun)]:
                continue
        if deflate(stream.content, settings) == stream.packed:
            return settings
    return None


LENGTHS = (
    [(3 + i, 0) for i in range(8)] + [((4 + i % 4 << i // 4 - 1) + 3, i // 4 - 1) for i in range(8, 28)] + [(258, 0)]
)
DISTANCES = [(1, 0), (2, 0), (3, 0), (4, 0)] + [((2 + i % 2 << i // 2 - 1) + 1, i // 2 - 1) for i in range(4, 30)]
ORDER = (16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15)
FIXED = ([8] * 144 + [9] * 112 + [7] * 24 + [8] * 8, [5] * 30)


class Block(NamedTuple):
    """A block: its type (0 stored, 1 fixed codes, 2 own codes), the bits of its header, and its tokens (length << 16 |
    distance; a literal is a byte's value).
    """

    kind: int
    header: int
    tokens: list[int]


def _table(lengths: list[int]) -> list[int]:
    """For each 15 bits that come next: symbol << 4 | bits of its code."""
    table, code = [0] * (1 << 15), 0
    for size in range(1, 16):
        for symbol, length in enumerate(lengths):
            if length == size:
                turned = int(format(code, f"0{size}b")[::-1], 2)
                table[turned :: 1 << size] = [symbol << 4 | size] * (1 << 15 - size)
                code += 1
        code <<= 1
    return table


class _Bits:
    def __init__(self, data: bytes) -> None:
        self.data, self.at, self.held, self.count = data + bytes(16), 0, 0, 0

    def fill(self) -> None:
        if self.count < 64:
            self.held |= int.from_bytes(self.data[self.at : self.at + 16], "little") << self.count
            self.at += 16
            self.count += 128

    def take(self, bits: int) -> int:
        self.fill()
        value = self.held & (1 << bits) - 1
        self.held >>= bits
        self.count -= bits
        return value


def blocks(packed: bytes) -> list[Block]:
    """The blocks of a raw stream that zlib has decoded without an error."""
    bits, found, last = _Bits(packed), [], 0
    while not last:
        last, kind = bits.take(1), bits.take(2)
        if kind == 0:
            bits.take((bits.count) % 8)
            size = bits.take(32) & 0xFFFF
            found.append(Block(0, 32, [bits.take(8) for _ in range(size)]))
            continue
        spent, (literals, distances) = 0, FIXED
        if kind == 2:
            sizes = bits.take(5) + 257, bits.take(5) + 1
            few = [0] * 19
            used = bits.take(4) + 4
            for place in ORDER[:used]:
                few[place] = bits.take(3)
            spent, table = 14 + 3 * used, _table(few)
            lengths: list[int] = []
            while len(lengths) < sum(sizes):
                bits.fill()
                entry = table[bits.held & 0x7FFF]
                bits.take(entry & 15)
                symbol = entry >> 4
                extra = (0, 2, 3, 7)[max(symbol - 15, 0)]
                spent += (entry & 15) + extra
                if symbol < 16:
                    lengths.append(symbol)
                elif symbol == 16:
                    lengths += [lengths[-1]] * (3 + bits.take(2))
                else:
                    lengths += [0] * (3 + bits.take(3) if symbol == 17 else 11 + bits.take(7))
            literals, distances = lengths[: sizes[0]], lengths[sizes[0] :]
        found.append(Block(kind, spent, _tokens(bits, _table(literals), _table(distances))))
    return found


def _tokens(bits: _Bits, literals: list[int], distances: list[int]) -> list[int]:
    found = []
    while True:
        bits.fill()
        entry = literals[bits.held & 0x7FFF]
        bits.held >>= entry & 15
        bits.count -= entry & 15
        symbol = entry >> 4
        if symbol < 256:
            found.append(symbol)
        elif symbol == 256:
            return found
        else:
            base, extra = LENGTHS[symbol - 257]
            length = base + bits.take(extra)
            bits.fill()
            entry = distances[bits.held & 0x7FFF]
            bits.take(entry & 15)
            base, extra = DISTANCES[entry >> 4]
            found.append(length << 16 | base + bits.take(extra))


class Difference(NamedTuple):
    """What a stream has otherwise than zlib's: tokens in all, tokens that differ, and bytes that store them."""

    settings: Settings
    tokens: int
    other: int
    size: int
    same_cuts: bool  # blocks end at the same tokens' places


def differences(stream: Stream, levels: tuple[int, ...] = (1, 4, 6, 9)) -> Difference:
    """The least differences to zlib's stream at some levels.

    Both streams are cut where both have a token's start; where they differ in between, the stored tokens are kept:
    the gap since the last difference and the token, as bytes that LZMA then compresses. The places of the block ends
    are kept where zlib's differ. An estimate: codes that are not zlib's for the same tokens are not counted.
    """
    import lzma

    mine = blocks(stream.packed)
    best: Difference | None = None
    for level in levels:
        settings = Settings(level, stream.window, 8, 0)
        theirs = blocks(deflate(stream.content, settings))
        cuts, made = (
            [sum(1 if token < 256 else token >> 16 for token in block.tokens) for block in found]
            for found in (mine, theirs)
        )
        stored, made_places = ([t for b in found for t in b.tokens] for found in (mine, theirs))
        starts, place = {}, 0
        for token in made_places:
            starts[place] = token
            place += 1 if token < 256 else token >> 16
        out, gap, place, other = bytearray(), 0, 0, 0
        for token in stored:
            if starts.get(place) == token:
                gap += 1
            else:
                out += struct.pack("<HHB", token & 0xFFFF, min(gap, 65535), (token >> 16) & 255)
                other, gap = other + 1, 0
            place += 1 if token < 256 else token >> 16
        if cuts != made:
            out += struct.pack(f"<{len(cuts)}I", *cuts)
        size = len(
            lzma.compress(
                bytes(out), format=lzma.FORMAT_RAW, filters=[{"id": lzma.FILTER_LZMA2, "preset": 9, "lc": 0, "pb": 0}]
            )
        )
        if best is None or size < best.size:
            best = Difference(settings, len(stored), other, size, cuts == made)
    assert best is not None
    return best
