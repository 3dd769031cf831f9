"""Header, block head and footer: dataclasses <-> bytes, every limit of docs/format.md enforced.

What it is not: it reads no payload and no whole frame (see `frames`).
"""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass

from kolmo.container.wire import DIGEST_SIZE, FieldReader, Reader
from kolmo.errors import CorruptError, FormatError
from kolmo.foreign import quoted
from kolmo.varints import MAX_VARINT, varint

MAGIC = b"\xb5KMO"
VERSION = 1
MAX_FIELDS = 1 << 16
MAX_BLOCK = 1 << 30
MAX_BLOCKS = (1 << 32) - 1
DEFAULT_BLOCK_LIMIT = 1 << 23
MAX_EXPANSION = 1 << 16  # raw bytes of a coded block for each byte of payload, whatever its predictor
PAYLOAD_ALLOWANCE = 8  # bytes that a payload counts for beyond its own
STORED, CODED = 1, 2
SOLE = 0x80  # added to the kind of a frame's only block
INDEX_KIND = 0
TAIL_SIZE = 8  # the footer's last two fields: its size, its CRC

TAG_PREDICTOR, TAG_NAME, TAG_BLOCK_LIMIT, TAG_MTIME, TAG_MODE, TAG_FAR_MTIME = 1, 2, 3, 4, 6, 10
SECOND = 10**9  # in nanoseconds
PREDICTOR_NAME = re.compile(r"[a-z0-9_.:-]{1,32}")


def largest_raw_size(payload_size: int) -> int:
    """The most raw bytes that a coded block of `payload_size` bytes may claim (docs/format.md, promise 3)."""
    return MAX_EXPANSION * (payload_size + PAYLOAD_ALLOWANCE)


@dataclass(frozen=True)
class PredictorRecord:
    """The predictor that wrote a frame, as the header records it."""

    name: str
    version: int
    fingerprint: bytes
    parameters: bytes = b""

    def __post_init__(self) -> None:
        if not PREDICTOR_NAME.fullmatch(self.name):
            raise ValueError(f"predictor name {quoted(self.name)}: 1 to 32 characters of [a-z0-9_.:-] are allowed")
        if not 4 <= len(self.fingerprint) <= 32:
            raise ValueError(f"predictor fingerprint of {len(self.fingerprint)} bytes: 4 to 32 are allowed")

    def to_bytes(self) -> bytes:
        """The value of header field 1."""
        name = self.name.encode("ascii")
        sizes = bytes([len(name)]), bytes([len(self.fingerprint)])
        return sizes[0] + name + varint(self.version) + sizes[1] + self.fingerprint + self.parameters

    @classmethod
    def read(cls, value: FieldReader) -> PredictorRecord:
        """The mirror of `to_bytes`."""
        start = value.offset
        name = value.take(value.u8("the predictor's name"), "the predictor's name").decode("latin-1")
        version = value.varint("the predictor's version")
        size = value.u8("the predictor's fingerprint")
        fingerprint = value.take(size, "the predictor's fingerprint")
        try:
            return cls(name, version, fingerprint, value.take(value.left(), "the predictor's parameters"))
        except ValueError as error:
            raise value.corrupt(str(error), start) from None


@dataclass(frozen=True)
class Header:
    """A frame's header. `mtime` is in ns since 1970-01-01 UTC, negative before; `mode` holds permission bits."""

    predictor: PredictorRecord
    name: str | None = None
    block_limit: int = DEFAULT_BLOCK_LIMIT
    mtime: int | None = None
    mode: int | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.block_limit <= MAX_BLOCK:
            raise ValueError(f"block limit {self.block_limit}: 1 to {MAX_BLOCK} bytes are allowed")
        if self.mode is not None and not 0 <= self.mode <= 0o7777:
            raise ValueError(f"mode {self.mode:#o}: at most 0o7777 is allowed")

    def to_bytes(self) -> bytes:
        """The whole header, magic to CRC.

        Raises:
            ValueError: a field does not fit its limits.
        """
        fields = _field(TAG_PREDICTOR, self.predictor.to_bytes())
        if self.name is not None:
            fields += _field(TAG_NAME, self.name.encode("utf-8"))
        if self.block_limit != DEFAULT_BLOCK_LIMIT:
            fields += _field(TAG_BLOCK_LIMIT, varint(self.block_limit))
        far = self.mtime is not None and not 0 <= self.mtime <= MAX_VARINT
        if self.mtime is not None and not far:
            fields += _field(TAG_MTIME, varint(self.mtime))
        if self.mode is not None:
            fields += _field(TAG_MODE, varint(self.mode))
        if self.mtime is not None and far:
            fields += _field(TAG_FAR_MTIME, _far_time(self.mtime))
        if len(fields) > MAX_FIELDS:
            raise ValueError(f"header fields of {len(fields)} bytes: at most {MAX_FIELDS} are allowed")
        head = MAGIC + bytes([VERSION]) + varint(len(fields)) + fields
        return head + zlib.crc32(head).to_bytes(4, "little")

    @classmethod
    def read(cls, reader: Reader) -> Header:
        """The mirror of `to_bytes`. Unknown even tags are passed over.

        Raises:
            FormatError: no magic, a newer version, or an unknown odd tag.
            CorruptError: the header is damaged; TruncatedError: it ends early.
        """
        start = reader.offset
        magic = reader.peek(4)
        if magic != MAGIC[: len(magic)]:
            raise FormatError(f"{reader.name}: not a .kmo file: no magic number at byte {start}; check the name")
        reader.take(4, "the header")
        version = reader.u8("the header")
        if version != VERSION:
            raise FormatError(
                f"{reader.name}: format version {version}, at byte {start + 4}; "
                f"this kolmo reads version {VERSION}: install a newer one"
            )
        size = reader.varint("the header's size")
        if size > MAX_FIELDS:
            raise reader.corrupt(f"header fields of {size} bytes (at most {MAX_FIELDS})", start + 5)
        fields = FieldReader(reader.take(size, "the header"), reader.name, reader.offset - size)
        body = fields.peek(size)
        crc = zlib.crc32(MAGIC + bytes([version]) + varint(size) + body)
        if reader.u32("the header's checksum") != crc:
            raise reader.corrupt("the header does not match its checksum", start)
        return cls._from_fields(fields)

    @classmethod
    def _from_fields(cls, fields: FieldReader) -> Header:
        start, last = fields.offset, -1
        predictor = name = mtime = mode = None
        block_limit = DEFAULT_BLOCK_LIMIT
        while fields.left():
            at = fields.offset
            tag = fields.varint("a header tag")
            if tag <= last:
                raise fields.corrupt(f"header tag {tag} comes after tag {last}", at)
            last = tag
            value_size = fields.varint("a header field's size")
            data = fields.take(value_size, f"header field {tag}")
            value = FieldReader(data, fields.name, fields.offset - value_size)
            if tag == TAG_PREDICTOR:
                predictor = PredictorRecord.read(value)
            elif tag == TAG_NAME:
                try:
                    name = value.take(value_size, "the name").decode("utf-8")
                except UnicodeDecodeError:
                    raise fields.corrupt("the stored name is not UTF-8", at) from None
            elif tag == TAG_BLOCK_LIMIT:
                block_limit = _ranged(value, "the block limit", 1, MAX_BLOCK)
            elif tag == TAG_MTIME:
                mtime = value.varint("the modification time")
            elif tag == TAG_MODE:
                mode = _ranged(value, "the mode", 0, 0o7777)
            elif tag == TAG_FAR_MTIME:
                if mtime is not None:
                    raise fields.corrupt("the header has two modification times", at)
                mtime = _read_far_time(value)
            elif tag % 2:
                raise FormatError(
                    f"{fields.name}: needs a feature that this kolmo does not know (header tag {tag}, "
                    f"at byte {at}); install a newer one"
                )
            else:
                value.take(value_size, "an unknown field")
            if value.left():
                raise fields.corrupt(f"header field {tag} is longer than its value", at)
        if predictor is None:
            raise fields.corrupt("the header names no predictor", start)
        return cls(predictor, name, block_limit, mtime, mode)


def _field(tag: int, value: bytes) -> bytes:
    return varint(tag) + varint(len(value)) + value


def _far_time(nanoseconds: int) -> bytes:
    """The value of header field 10: seconds, signed, and nanoseconds."""
    seconds, rest = divmod(nanoseconds, SECOND)
    if not -(1 << 63) <= seconds < 1 << 63:
        raise ValueError(f"mtime {nanoseconds}: its seconds do not fit 64 bits")
    return seconds.to_bytes(8, "little", signed=True) + rest.to_bytes(4, "little")


def _read_far_time(value: FieldReader) -> int:
    """The mirror of `_far_time`."""
    at = value.offset
    seconds = int.from_bytes(value.take(8, "the modification time"), "little", signed=True)
    rest = value.u32("the modification time")
    time = seconds * SECOND + rest
    if rest >= SECOND or 0 <= time <= MAX_VARINT:
        raise value.corrupt(f"the modification time is {seconds} s and {rest} ns, which field 10 does not hold", at)
    return time


def _ranged(value: FieldReader, what: str, low: int, high: int) -> int:
    at = value.offset
    number = value.varint(what)
    if not low <= number <= high:
        raise value.corrupt(f"{what} is {number} ({low} to {high} are allowed)", at)
    return number


@dataclass(frozen=True)
class BlockHead:
    """What stands before a block's payload. Sizes in bytes; a stored block's payload size is its raw size."""

    kind: int
    raw_size: int
    payload_size: int
    digest: bytes
    sole: bool = False

    def to_bytes(self) -> bytes:
        """The head; the payload follows it."""
        sizes = varint(self.raw_size) + (varint(self.payload_size) if self.kind == CODED else b"")
        return bytes([self.kind | (SOLE if self.sole else 0)]) + sizes + self.digest

    @property
    def block_size(self) -> int:
        """Bytes of the whole block, head and payload."""
        return len(self.to_bytes()) + self.payload_size

    @classmethod
    def read(cls, reader: Reader, block_limit: int, what: str = "a block") -> BlockHead:
        """The mirror of `to_bytes`.

        Raises:
            FormatError: an unknown kind of block.
            CorruptError: a size out of its limits; TruncatedError: the input ends early.
        """
        start = reader.offset
        kind = reader.u8(what)
        sole = bool(kind & SOLE)
        kind &= ~SOLE
        if kind not in (STORED, CODED):
            raise CorruptError(
                f"{reader.name}: damaged, or from a newer kolmo: {what} is of unknown kind {kind}, "
                f"at byte {start}; get a fresh copy of the file, or install a newer kolmo",
                start,
            )
        raw_size = reader.varint(f"the size of {what}")
        if not 1 <= raw_size <= block_limit:
            raise reader.corrupt(f"{what} claims {raw_size} bytes (1 to {block_limit} are allowed)", start)
        payload_size = raw_size
        if kind == CODED:
            payload_size = reader.varint(f"the payload size of {what}")
            if payload_size >= raw_size:
                raise reader.corrupt(f"{what} is coded but no smaller than its content", start)
            if raw_size > largest_raw_size(payload_size):
                raise reader.corrupt(f"{what} claims {raw_size} bytes in {payload_size} of payload", start)
        return cls(kind, raw_size, payload_size, reader.take(DIGEST_SIZE, what), sole)


@dataclass(frozen=True)
class Footer:
    """The index at a frame's end: (raw size, block size) of every block, and the content's digest."""

    blocks: tuple[tuple[int, int], ...]
    header_size: int
    digest: bytes

    def to_bytes(self) -> bytes:
        """The whole footer, kind to CRC.

        Raises:
            ValueError: more blocks than the format holds.
        """
        if len(self.blocks) > MAX_BLOCKS:
            raise ValueError(f"{len(self.blocks)} blocks: at most {MAX_BLOCKS} fit a frame; use larger blocks")
        body = bytearray([INDEX_KIND]) + varint(len(self.blocks))
        for raw_size, block_size in self.blocks:
            body += varint(raw_size) + varint(block_size)
        body += varint(self.header_size) + self.digest
        body += (len(body) + TAIL_SIZE).to_bytes(4, "little")
        return bytes(body) + zlib.crc32(body).to_bytes(4, "little")

    @classmethod
    def parse(cls, data: bytes, name: str, offset: int) -> Footer:
        """The mirror of `to_bytes`; `offset` is where `data` stands in the input that errors call `name`.

        Raises:
            CorruptError: it is damaged.
        """
        fields = FieldReader(data, name, offset)
        if zlib.crc32(data[:-4]).to_bytes(4, "little") != data[-4:]:
            raise fields.corrupt("the index does not match its checksum", offset)
        if fields.u8("the index") != INDEX_KIND:
            raise fields.corrupt("no index", offset)
        count = fields.varint("the index")
        if count > min(MAX_BLOCKS, len(data) // 2):  # no loop by claim
            raise fields.corrupt(f"the index claims {count} blocks", offset)
        blocks = tuple((fields.varint("the index"), fields.varint("the index")) for _ in range(count))
        header_size = fields.varint("the index")
        content = fields.take(DIGEST_SIZE, "the index")
        if fields.u32("the index") != len(data) or fields.left() != 4:
            raise fields.corrupt("the index gives a wrong size for itself", offset)
        return cls(blocks, header_size, content)
