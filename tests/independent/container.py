"""The container of docs/format.md: frames, blocks, checksums, the index."""

from __future__ import annotations

import hashlib
import struct
import zlib
from dataclasses import dataclass, field

from independent.damage import Damage, check

MAGIC = b"\xb5KMO"
DEFAULT_LIMIT = 8 << 20


def digest(data: bytes) -> bytes:
    """BLAKE2b with an output of 8 bytes."""
    return hashlib.blake2b(data, digest_size=8).digest()


class Bytes:
    """Fields read one after another."""

    def __init__(self, data: bytes, at: int = 0) -> None:
        self.data, self.at = data, at

    def take(self, size: int) -> bytes:
        """The next `size` bytes."""
        check(self.at + size <= len(self.data), f"cut short at byte {len(self.data)}")
        self.at += size
        return self.data[self.at - size : self.at]

    def u8(self) -> int:
        """The next byte."""
        return self.take(1)[0]

    def u32(self) -> int:
        """The next four bytes."""
        return int(struct.unpack("<I", self.take(4))[0])

    def varint(self) -> int:
        """An unsigned LEB128."""
        value = 0
        for place in range(9):
            byte = self.u8()
            value |= (byte & 127) << 7 * place
            if byte < 128:
                check(byte > 0 or place == 0, "a varint longer than needed")
                return value
        raise Damage("a varint of more than nine bytes")

    def rest(self) -> bytes:
        """All that is left."""
        return self.take(len(self.data) - self.at)


@dataclass
class Predictor:
    """What the header says of the predictor."""

    name: str
    version: int
    fingerprint: bytes
    parameters: bytes


@dataclass
class Block:
    """A block's head and payload."""

    coded: bool
    size: int
    digest: bytes
    payload: bytes


@dataclass
class Frame:
    """A frame's header and blocks."""

    predictor: Predictor
    blocks: list[Block] = field(default_factory=list)
    digest: bytes = b""


def read_predictor(value: bytes) -> Predictor:
    """The value of header field 1."""
    source = Bytes(value)
    name = source.take(source.u8()).decode("ascii")
    version = source.varint()
    fingerprint = source.take(source.u8())
    check(4 <= len(fingerprint) <= 32, "the fingerprint's length")
    return Predictor(name, version, fingerprint, source.rest())


def read_frame(source: Bytes) -> Frame:
    """The frame that begins at the source's place."""
    begin = source.at
    check(source.take(4) == MAGIC, "the magic")
    check(source.u8() == 1, "the version")
    fields = Bytes(source.take(source.varint()))
    header_end = source.at
    check(source.u32() == zlib.crc32(source.data[begin:header_end]), "the header's checksum")
    values: dict[int, bytes] = {}
    while fields.at < len(fields.data):
        tag = fields.varint()
        check(tag > max(values, default=0), "tags that do not ascend")
        check(tag in (1, 3) or tag % 2 == 0, f"critical field {tag}")
        values[tag] = fields.take(fields.varint())
    check(1 in values, "a header without predictor")
    limit = Bytes(values[3]).varint() if 3 in values else DEFAULT_LIMIT
    header_size = source.at - begin
    frame = Frame(read_predictor(values[1]))
    sizes = []
    while True:
        block_begin = source.at
        kind = source.u8()
        if kind == 0:
            break
        sole = kind >= 128
        kind &= 127
        check(kind in (1, 2), f"a block of kind {kind}")
        check(not (sole and frame.blocks), "a sole block after others")
        size = source.varint()
        check(1 <= size <= limit, "a block above the limit")
        coded = source.varint() if kind == 2 else size
        check(kind == 1 or coded < size, "a payload that is not smaller")
        checksum = source.take(8)
        frame.blocks.append(Block(kind == 2, size, checksum, source.take(coded)))
        sizes.append((size, source.at - block_begin))
        if sole:
            frame.digest = checksum
            return frame
    footer_begin = source.at - 1
    check(source.varint() == len(sizes), "the index's number of blocks")
    check([(source.varint(), source.varint()) for _ in sizes] == sizes, "the index's sizes")
    check(source.varint() == header_size, "the index's header size")
    frame.digest = source.take(8)
    check(source.u32() == source.at + 4 - footer_begin, "the footer's size")
    crc_at = source.at
    check(source.u32() == zlib.crc32(source.data[footer_begin:crc_at]), "the footer's checksum")
    return frame


def read_frames(data: bytes) -> list[Frame]:
    """All frames of a file, without the zeros between them."""
    source = Bytes(data)
    frames = []
    while source.at < len(data):
        frames.append(read_frame(source))
        while source.at < len(data) and data[source.at] == 0:
            source.at += 1
    return frames


def find_blocks(data: bytes, end: int) -> list[tuple[int, int]]:
    """Offset and raw size of each block of the frame that ends at `end`, from its footer alone."""
    size, crc = struct.unpack("<II", data[end - 8 : end])
    footer = data[end - size : end]
    check(zlib.crc32(footer[:-4]) == crc, "the footer's checksum")
    source = Bytes(footer)
    check(source.u8() == 0, "the footer's kind")
    sizes = [(source.varint(), source.varint()) for _ in range(source.varint())]
    at = end - size
    blocks = []
    for raw, block in reversed(sizes):
        at -= block
        blocks.append((at, raw))
    at -= source.varint()
    check(data[at : at + 4] == MAGIC, "the magic")
    return blocks[::-1]
