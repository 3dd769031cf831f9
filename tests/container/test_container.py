"""The container's structures: round trips, and every kind of malformed header, head and footer."""

from __future__ import annotations

import io
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kolmo.container.frames import FrameReader, FrameWriter, read_frames
from kolmo.container.index import Index, read_head
from kolmo.container.structures import (
    CODED,
    MAX_BLOCK,
    STORED,
    BlockHead,
    Footer,
    Header,
    PredictorRecord,
    largest_raw_size,
)
from kolmo.container.wire import FieldReader, Reader, digest
from kolmo.errors import CorruptError, FormatError, TruncatedError
from kolmo.varints import MAX_VARINT, varint

RECORD = PredictorRecord("test", 1, b"abcd")

names = st.text("abcdefghijklmnopqrstuvwxyz0123456789_.:-", min_size=1, max_size=32)
varints = st.integers(0, MAX_VARINT)
records = st.builds(PredictorRecord, names, varints, st.binary(min_size=4, max_size=32), st.binary(max_size=40))
headers = st.builds(
    Header,
    records,
    st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=50),
    st.integers(1, MAX_BLOCK),
    st.none() | varints,
    st.none() | st.integers(0, 0o7777),
)
contents = st.lists(st.binary(min_size=1, max_size=40), max_size=6)


def reader_of(data: bytes, name: str = "x.kmo") -> Reader:
    return Reader(io.BytesIO(data), name)


def sealed(fields: bytes, version: int = 1) -> bytes:
    """A header around any fields, with a right checksum."""
    head = b"\xb5KMO" + bytes([version]) + varint(len(fields)) + fields
    return head + zlib.crc32(head).to_bytes(4, "little")


def field(tag: int, value: bytes) -> bytes:
    return varint(tag) + varint(len(value)) + value


def frame_of(blocks: list[bytes], header: Header | None = None) -> bytes:
    writer = FrameWriter(header or Header(RECORD))
    out = b""
    for raw in blocks:
        out += writer.add(BlockHead(STORED, len(raw), len(raw), digest(raw)), raw, raw)
    return out + writer.finish()


def contents_of(data: bytes) -> list[bytes]:
    found = []
    for frame in read_frames(reader_of(data)):
        while head := frame.next_head():
            found.append(frame.payload(head))
    return found


@given(varints)
def test_varint_round_trip(value: int) -> None:
    data = varint(value)
    assert len(data) <= 9
    assert reader_of(data).varint("a number") == value


@pytest.mark.parametrize("data", [b"\x80\x00", b"\xff\x80\x00", b"\xff" * 9, b"\x80" * 9 + b"\x01"])
def test_varint_has_one_form(data: bytes) -> None:
    with pytest.raises(CorruptError, match=r"x\.kmo: .*at byte 0") as caught:
        reader_of(data).varint("a number")
    assert caught.value.offset == 0


@pytest.mark.parametrize("value", [-1, MAX_VARINT + 1])
def test_varint_refuses_what_does_not_fit(value: int) -> None:
    with pytest.raises(ValueError, match="varint"):
        varint(value)


@given(headers)
def test_header_round_trip(header: Header) -> None:
    data = header.to_bytes()
    reader = reader_of(data + b"next")
    assert Header.read(reader) == header
    assert reader.offset == len(data)


@given(st.sampled_from([STORED, CODED]), st.integers(1, MAX_BLOCK), st.integers(0, MAX_BLOCK), st.booleans())
def test_block_head_round_trip(kind: int, raw_size: int, payload_size: int, sole: bool) -> None:
    if kind == STORED:
        payload_size = raw_size
    elif payload_size >= raw_size or raw_size > largest_raw_size(payload_size):
        return
    head = BlockHead(kind, raw_size, payload_size, b"12345678", sole)
    data = head.to_bytes()
    assert BlockHead.read(reader_of(data), MAX_BLOCK) == head
    assert head.block_size == len(data) + payload_size


@given(st.lists(st.tuples(varints, varints), max_size=20), varints)
def test_footer_round_trip(blocks: list[tuple[int, int]], header_size: int) -> None:
    footer = Footer(tuple(blocks), header_size, b"12345678")
    assert Footer.parse(footer.to_bytes(), "x.kmo", 7) == footer


@given(st.lists(contents, min_size=1, max_size=3))
def test_frames_round_trip_forward_and_backward(frames: list[list[bytes]]) -> None:
    data = b"".join(map(frame_of, frames))
    blocks = [block for frame in frames for block in frame]
    assert contents_of(data) == blocks
    for index in (Index.read(reader_of(data)), Index.walk(reader_of(data))):
        assert index.error is None
        assert index.raw_size == sum(map(len, blocks))
        reader = reader_of(data)
        found = [reader.take(read_head(reader, spot).payload_size, "x") for spot in index.spots]
        assert found == blocks
        assert sum(span.size for span in index.spans) == len(data)


@given(contents)
def test_index_finds_every_byte(blocks: list[bytes]) -> None:
    index = Index.read(reader_of(frame_of(blocks)))
    whole = b"".join(blocks)
    for offset in range(len(whole)):
        spot = index.spots[index.find(offset)]
        assert spot.start <= offset < spot.start + spot.raw_size
    assert index.find(len(whole)) == len(index.spots)


def test_index_by_footers_reads_no_block() -> None:
    blocks = [bytes([n]) * 5000 for n in range(1, 60)]
    data = frame_of(blocks)

    class Counting(io.BytesIO):
        total = 0

        def read(self, size: int | None = -1, /) -> bytes:
            piece = super().read(size)
            self.total += len(piece)
            return piece

    file = Counting(data)
    assert len(Index.read(Reader(file)).spots) == len(blocks)
    assert file.total < 1000


def test_short_form_is_small() -> None:
    assert len(frame_of([b"abc"])) == len(Header(RECORD).to_bytes()) + 1 + 1 + 8 + 3


def test_stored_frame_inside_a_block_is_not_taken_for_the_file() -> None:
    inner = frame_of([b"inner", b"content"])
    outer = frame_of([inner])
    assert outer.endswith(inner)
    index = Index.read(reader_of(outer))
    assert [spot.raw_size for spot in index.spots] == [len(inner)]
    assert contents_of(outer) == [inner]


GOOD = field(1, RECORD.to_bytes())
MALFORMED = {
    "no predictor": b"",
    "tags descend": field(2, b"a") + GOOD,
    "tag twice": GOOD + GOOD,
    "name too long": field(1, b"\x21" + b"a" * 33 + b"\x01\x04abcd"),
    "name empty": field(1, b"\x00\x01\x04abcd"),
    "name in capitals": field(1, b"\x01A\x01\x04abcd"),
    "name not ascii": field(1, b"\x01\xe9\x01\x04abcd"),
    "name runs over": field(1, b"\x09cm"),
    "fingerprint short": field(1, b"\x02cm\x01\x03abc"),
    "fingerprint long": field(1, b"\x02cm\x01\x21" + b"a" * 33),
    "fingerprint runs over": field(1, b"\x02cm\x01\x08abc"),
    "field runs over": GOOD + varint(2) + varint(99) + b"abc",
    "tag without a field": GOOD + varint(2),
    "stored name not UTF-8": GOOD + field(2, b"\xff"),
    "block limit zero": GOOD + field(3, varint(0)),
    "block limit huge": GOOD + field(3, varint(MAX_BLOCK + 1)),
    "block limit with more": GOOD + field(3, varint(9) + b"x"),
    "block limit overlong": GOOD + field(3, b"\x89\x00"),
    "mtime empty": GOOD + field(4, b""),
    "mode too large": GOOD + field(6, varint(0o10000)),
    "tag overlong": GOOD + b"\x82\x00\x01a",
}


@pytest.mark.parametrize("fields", MALFORMED.values(), ids=MALFORMED.keys())
def test_malformed_header_fields(fields: bytes) -> None:
    with pytest.raises(CorruptError, match=r"^x\.kmo: damaged: .*, at byte \d+; ") as caught:
        Header.read(reader_of(sealed(fields)))
    assert not isinstance(caught.value, TruncatedError)
    assert caught.value.offset is not None
    assert 0 <= caught.value.offset <= len(sealed(fields))


def test_unknown_tags() -> None:
    assert Header.read(reader_of(sealed(GOOD + field(8, b"later")))) == Header(RECORD)
    with pytest.raises(FormatError, match="tag 9") as caught:
        Header.read(reader_of(sealed(GOOD + field(9, b"later"))))
    assert not isinstance(caught.value, CorruptError)


def test_header_of_another_kind() -> None:
    for data in (b"\x1f\x8b\x08\x00", b"P", b"\xb5KMX"):
        with pytest.raises(FormatError, match=r"not a \.kmo file"):
            Header.read(reader_of(data))
    with pytest.raises(FormatError, match="version 2"):
        Header.read(reader_of(sealed(GOOD, version=2)))
    with pytest.raises(CorruptError, match="checksum"):
        Header.read(reader_of(sealed(GOOD)[:-1] + b"\x00"))
    with pytest.raises(CorruptError, match="65537"):
        Header.read(reader_of(b"\xb5KMO\x01" + varint(65537)))
    with pytest.raises(ValueError, match="65536"):
        Header(RECORD, name="n" * 65536).to_bytes()


def test_header_truncated_anywhere() -> None:
    data = Header(RECORD, "name", 5, 6, 7).to_bytes()
    for size in range(1, len(data)):
        with pytest.raises(TruncatedError) as caught:
            Header.read(reader_of(data[:size]))
        assert caught.value.offset == size


BAD_HEADS = {
    "kind 0": b"\x00\x01" + bytes(8),
    "kind 3": b"\x03\x01" + bytes(8),
    "kind 0x83": b"\x83\x01" + bytes(8),
    "raw size 0": b"\x01\x00" + bytes(8),
    "over the limit": b"\x01" + varint(1001) + bytes(8),
    "not smaller": b"\x02\x05\x05" + bytes(8),
    "overlong": b"\x02\x85\x00\x01" + bytes(8),
}


@pytest.mark.parametrize("data", BAD_HEADS.values(), ids=BAD_HEADS.keys())
def test_malformed_block_heads(data: bytes) -> None:
    with pytest.raises(CorruptError, match=r"^x\.kmo: .*at byte \d"):
        BlockHead.read(reader_of(data), 1000)


def test_block_head_that_claims_too_much() -> None:
    raw_size = largest_raw_size(10)
    good = BlockHead(CODED, raw_size, 10, bytes(8)).to_bytes()
    assert BlockHead.read(reader_of(good), MAX_BLOCK).raw_size == raw_size
    bad = BlockHead(CODED, raw_size + 1, 10, bytes(8)).to_bytes()
    with pytest.raises(CorruptError, match="claims"):
        BlockHead.read(reader_of(bad), MAX_BLOCK)


def reseal(footer: bytearray) -> bytes:
    return bytes(footer[:-4]) + zlib.crc32(footer[:-4]).to_bytes(4, "little")


def test_footers_that_lie() -> None:
    data = frame_of([b"one", b"three"])
    frame = FrameReader(reader_of(data))
    start = len(data) - len(Footer(((3, 13), (5, 15)), frame.header_size, bytes(8)).to_bytes())
    assert data[start] == 0
    for at in range(len(data) - start - 4):
        footer = bytearray(data[start:])
        footer[at] ^= 1
        lying = data[:start] + reseal(footer)
        if start + at in range(len(data) - 16, len(data) - 8):  # the digest: for who sees the content
            assert contents_of(lying) == [b"one", b"three"]
            continue
        with pytest.raises(FormatError, match=r"^x\.kmo"):
            contents_of(lying)
        walked = Index.walk(reader_of(lying))
        assert walked.error is not None
        assert [spot.raw_size for spot in walked.spots][:2] == [3, 5]
        index = Index.read(reader_of(lying))
        if index.error is None:  # the lie is about a block: found when its head is read
            with pytest.raises(CorruptError, match="disagrees with the index"):
                [read_head(reader_of(lying), spot) for spot in index.spots]


def test_footer_claims_no_memory() -> None:
    data = b"\x00" + varint(MAX_VARINT) + bytes(20)
    sized = data + (len(data) + 8).to_bytes(4, "little")
    with pytest.raises(CorruptError, match="claims"):
        Footer.parse(sized + zlib.crc32(sized).to_bytes(4, "little"), "x.kmo", 0)


def test_sole_block_must_be_the_first() -> None:
    data = bytearray(frame_of([b"one", b"three"]))
    data[len(Header(RECORD).to_bytes()) + 13] |= 0x80
    with pytest.raises(CorruptError, match="block 2 says"):
        contents_of(bytes(data))


@pytest.mark.parametrize("tail", [b"\x00x", b"\xb5KMX", b"garbage", b"\n"])
def test_trailing_bytes(tail: bytes) -> None:
    data = frame_of([b"one"])
    frames = read_frames(reader_of(data + tail))
    first = next(frames)
    head = first.next_head()
    assert head is not None
    assert first.payload(head) == b"one"
    assert first.next_head() is None
    with pytest.raises(CorruptError, match="follow the last frame") as caught:
        next(frames)
    assert caught.value.offset == len(data) + len(tail) - len(tail.lstrip(b"\0"))


def test_empty_input() -> None:
    with pytest.raises(TruncatedError, match="empty"):
        next(read_frames(reader_of(b"")))


def test_reader_over_pipes() -> None:
    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return False

        def read(self, size: int | None = -1, /) -> bytes:
            return super().read(min(size or 0, 3))  # pipes give little at a time

    data = frame_of([b"one" * 50, b"three" * 50])
    reader = Reader(Pipe(data))
    frame = FrameReader(reader)
    head = frame.next_head()
    assert head is not None
    frame.skip(head)
    head = frame.next_head()
    assert head is not None
    assert frame.payload(head) == b"three" * 50
    assert frame.next_head() is None
    assert reader.offset == len(data)


def test_field_reader_errors_are_damage() -> None:
    with pytest.raises(CorruptError, match="runs over its end") as caught:
        FieldReader(b"ab", "x.kmo", 40).take(3, "a field")
    assert caught.value.offset == 40
    assert not isinstance(caught.value, TruncatedError)
