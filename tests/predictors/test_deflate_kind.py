"""The kind `deflate`: streams in zip, gzip, PNG and PDF files, coded as their contents; and hostile files."""

from __future__ import annotations

import gzip
import hashlib
import io
import random
import struct
import time
import zipfile
import zlib
from collections.abc import Callable

import pytest

import kolmo
from golden.make import CODE, PROSE, archive
from helpers.fake_kinds import Ramp, ramp
from helpers.implementations import NATIVE
from kolmo.codec.blocks import decode_block
from kolmo.codec.limits import least_payload
from kolmo.coder.binary import BinaryDecoder, BinaryEncoder
from kolmo.container.structures import CODED
from kolmo.errors import CorruptError
from kolmo.native.dispatch import SLOW, kernels
from kolmo.predictors.embedded import cm, neural
from kolmo.predictors.embedded.kinds.base import Segment
from kolmo.predictors.embedded.kinds.deflate import settings, streams
from kolmo.predictors.embedded.kinds.deflate.kind import Deflate
from kolmo.predictors.embedded.kinds.deflate.settings import Setting
from kolmo.predictors.embedded.kinds.segments import write_number, write_segments
from kolmo.predictors.embedded.neural_levels import LEVELS
from kolmo.predictors.embedded.segmented import Choice
from kolmo.predictors.embedded.text import SHIPPED

KIND = cm._kinds()[Deflate.code]
NOISE = random.Random(9).randbytes
SIX = (6, 8, 15, 0)


def packed(content: bytes, *setting: int) -> bytes:
    return kernels.deflate(content, *(setting or SIX))


def zlib_stream(content: bytes, *setting: int) -> bytes:
    """With the header that belongs to the setting."""
    level, window = setting[0] if setting else 6, setting[2] if setting else 15
    head = (window - 8 << 4 | 8) << 8 | (0 if level < 2 else 1 if level < 6 else 2 if level == 6 else 3) << 6
    return (
        (head + 31 - head % 31).to_bytes(2, "big")
        + packed(content, *setting)
        + struct.pack(">I", zlib.adler32(content))
    )


def gzipped(content: bytes, level: int = 6, name: bytes = b"") -> bytes:
    head = b"\x1f\x8b\x08" + bytes([8 if name else 0]) + bytes(4) + bytes([{9: 2, 1: 4}.get(level, 0), 3])
    tail = struct.pack("<II", zlib.crc32(content), len(content))
    return head + (name + b"\0" if name else b"") + packed(content, level, 8, 15, 0) + tail


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def filtered(pixels: bytes, row: int, pixel: int) -> bytes:
    """Rows with all filters in turn."""
    count = -(-len(pixels) // row)
    return kernels.join_rows(bytes(k % 5 for k in range(count)) + pixels, row, pixel)


def png(width: int, height: int, chunks: int, *setting: int) -> bytes:
    """A picture of slopes with some noise."""
    noise = NOISE(width * height * 3)
    places = [(x, y) for y in range(height) for x in range(width)]
    pixels = bytes(
        (30 + c * x + 2 * y + noise[3 * k + c] % 3) & 255 for k, (x, y) in enumerate(places) for c in range(3)
    )
    stream = zlib_stream(filtered(pixels, 3 * width, 3), *(setting or (6, 9, 15, 1)))
    step = -(-len(stream) // chunks)
    body = b"".join(chunk(b"IDAT", stream[at : at + step]) for at in range(0, len(stream), step))
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + body + chunk(b"IEND", b"")


def pdf(*contents: bytes) -> bytes:
    bodies = [
        b"%d 0 obj\n<< /Length %d /Filter /FlateDecode >>\nstream\r\n%s\r\nendstream\nendobj\n" % (k, len(s), s)
        for k, s in enumerate(map(zlib_stream, contents), 1)
    ]
    return b"%PDF-1.5\n" + b"".join(bodies) + b"trailer\n<< >>\n%%EOF\n"


FILES: dict[str, Callable[[], bytes]] = {
    "zip": lambda: archive({"a.txt": PROSE * 3, "b.py": CODE, "c.txt": PROSE + CODE}),
    "gzip": lambda: gzipped(PROSE + CODE * 2 + PROSE, 9, b"prose.txt") + gzipped(CODE, 1),
    "png": lambda: png(40, 30, 1),
    "png of three chunks": lambda: png(40, 30, 3, 9, 8, 15, 1),
    "pdf": lambda: pdf(PROSE, CODE, PROSE[:300]),
    "small windows": lambda: zlib_stream(CODE + PROSE + CODE, 9, 8, 12, 0).join([b"stream\n", b"\nendstream"]),
}


@pytest.mark.parametrize("level", [1, 4, 5])
@pytest.mark.parametrize("name", FILES)
def test_files_are_coded_as_their_contents(name: str, level: int) -> None:
    if SLOW and (level != 1 or "png" in name):
        pytest.skip("takes long in Python")
    data = FILES[name]()
    coded = kolmo.compress(data, level=level)
    assert kolmo.decompress(coded) == data
    assert len(coded) < len(data)
    assert any(segment.code == Deflate.code for segment in KIND.find(data))


def test_pieces_are_one_stream() -> None:
    data = png(40, 30, 4, 9, 8, 15, 1)
    (stream,) = streams.find_streams(data)
    assert len(stream.pieces) == 4
    assert (stream.setting, stream.row, stream.pixel) == (Setting(9, 8, 15, 1), 120, 3)
    joined = b"".join(data[first : first + size] for first, size in stream.pieces)
    assert len(zlib.decompress(joined, -15)) == stream.content == 30 * 121
    segments = KIND.find(data)
    assert len({segment.parameters for segment in segments}) == 1
    assert segments[0].parameters == (9, 8, 15, 1, 120, 3, 30 * 121)


def test_descriptors_and_members_that_are_stored() -> None:
    """Sizes behind the members, as a zip that is written to a pipe has them."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("a", PROSE)
    whole = bytearray(target.getvalue())
    whole[6] |= 8
    whole[14:26] = bytes(12)
    if packed(PROSE) in whole:  # this Python has the original zlib
        assert [stream.content for stream in streams.find_streams(bytes(whole))] == [len(PROSE)]
    whole[8] = 0  # stored
    assert not streams.find_streams(bytes(whole))
    whole[8], whole[6] = 8, 1  # encrypted
    assert not streams.find_streams(bytes(whole))


@pytest.mark.parametrize("setting", [(1, 8), (4, 9), (6, 9), (9, 8)])
def test_settings_are_found(setting: tuple[int, int]) -> None:
    if SLOW:
        pytest.skip("takes long in Python")
    draw = random.Random(2)
    content = b" ".join(draw.choice(CODE.split()) for _ in range(20_000))
    stream = kernels.deflate(content, *setting, 15, 0)
    for data in (zlib_stream(content, *setting, 15, 0), b"PK\3\4\x14\0" + bytes(2) + b"\x08" + bytes(21) + stream):
        (found,) = streams.find_streams(data)
        assert found.setting == Setting(*setting)


def test_a_stream_of_another_encoder_stays() -> None:
    """Valid, and not as zlib makes it: two blocks of stored bytes."""
    stored = b"".join(
        bytes([last]) + struct.pack("<HH", len(part), len(part) ^ 0xFFFF) + part
        for last, part in ((0, PROSE[:200]), (1, PROSE[200:]))
    )
    assert zlib.decompress(stored, -15) == PROSE
    data = gzipped(CODE)[:10] + stored + PROSE
    assert not streams.find_streams(data)
    assert kolmo.decompress(kolmo.compress(data, level=1)) == data


def coded(data: bytes, parameters: tuple[int, ...], level: int = 1) -> bytes:
    encoder = BinaryEncoder()
    KIND.model(level, len(data), parameters).encode(encoder, data)
    return encoder.finish()


def decoded(payload: bytes, size: int, parameters: tuple[int, ...], level: int = 1) -> bytes:
    return KIND.model(level, size, parameters).decode(BinaryDecoder(payload))


TWO = packed(PROSE) + packed(CODE)


@pytest.mark.parametrize(
    ("data", "parameters", "pays"),
    [
        (TWO, (*SIX, 0, 0, 5000), True),
        (TWO, (*SIX, 0, 0, len(PROSE)), False),  # no room for the second content
        (TWO, (*SIX, 0, 0, 0), False),
        (TWO, (9, 9, 15, 0, 0, 0, 5000), False),  # the wrong setting, with which codes end elsewhere
        (TWO, (1, 8, 15, 0, 0, 0, 5000), False),
        (TWO[:-40], (*SIX, 0, 0, 5000), False),  # cut in the middle of a block
        (packed(PROSE)[:100], (*SIX, 0, 0, 5000), False),
        (TWO + b"more", (*SIX, 0, 0, 5000), True),
        (TWO, (*SIX, 7, 3, 5000), False),
        (b"\x03\x00", (*SIX, 0, 0, 100), False),
        (packed(filtered(bytes(range(240)) * 3, 60, 3)[:-7]), (*SIX, 60, 3, 5000), False),
    ],
)
def test_any_bytes_and_setting(data: bytes, parameters: tuple[int, ...], pays: bool) -> None:
    if parameters[4] % max(parameters[5], 1):
        with pytest.raises(CorruptError, match="rows of 7 bytes"):
            KIND.model(1, len(data), parameters)
        return
    payload = coded(data, parameters)
    assert decoded(payload, len(data), parameters) == data
    if pays:
        assert len(payload) < len(data)
    costs = KIND.model(1, len(data), parameters).score(data)
    assert costs.shape == (len(data),)
    assert abs(costs.sum() / 8 - len(payload)) <= 2 + costs.sum() / 8000
    assert costs.min() >= 0


def test_costs_are_spread_in_the_order_of_the_content() -> None:
    content = bytes(30_000) + NOISE(1000)
    data = packed(content)
    costs = KIND.model(1, len(data), (*SIX, 0, 0, len(content))).score(data)
    assert costs[: len(data) // 2].sum() < costs.sum() / 20


def numbers(*values: int) -> bytes:
    encoder = BinaryEncoder()
    for value in values:
        write_number(encoder, value)
    return encoder.finish() + bytes(8)


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        (numbers(500), "claims 500 deflate streams in 100"),
        (numbers(1, 999, 0), "claims 1000 bytes of content"),
        (numbers(0, 99), "claims 0 bytes of content"),
        (numbers(0, 1 << 30), "bytes of content"),
        (numbers(1, 10, 101), "bytes of content"),
        (numbers(2, 500, 500, 0), "bytes of content"),
    ],
)
def test_hostile_sizes(payload: bytes, message: str) -> None:
    with pytest.raises(CorruptError, match=message):
        decoded(payload, 100, (*SIX, 0, 0, 900))


def test_streams_of_another_size() -> None:
    payload = coded(packed(PROSE), (*SIX, 0, 0, 5000))
    for size in (len(packed(PROSE)) - 1, len(packed(PROSE)) + 1):
        with pytest.raises(CorruptError, match="its deflate streams have"):
            decoded(payload, size, (*SIX, 0, 0, 5000))
    with pytest.raises(CorruptError, match="its deflate streams have"):
        decoded(payload, len(packed(PROSE)), (1, 8, 15, 0, 0, 0, 5000))


def test_damage_is_an_error() -> None:
    if SLOW:
        pytest.skip("takes long in Python")
    data = FILES["zip"]()
    whole = kolmo.compress(data, level=1)
    errors = 0
    for at in range(30, len(whole), 7):
        damaged = whole[:at] + bytes([whole[at] ^ 16]) + whole[at + 1 :]
        try:
            assert kolmo.decompress(damaged) == data  # bits at the end may say nothing
        except CorruptError:
            errors += 1
    assert errors > len(whole) // 10


def test_the_payload_never_changes() -> None:
    """What the kind writes beside its contents, and their order: here they have a model that never changes."""
    content = ramp(3, 500)
    kind = Deflate({Ramp.code: Ramp()}, lambda data, *_: Choice([Segment(Ramp.code, 0, len(data), (3,))]))
    rows = filtered(ramp(3, 600), 60, 3)
    for data, parameters, digest in (
        (packed(content) + packed(content[9:]), (*SIX, 0, 0, 5000), "7eb7686fd13b3cc3"),
        (packed(rows, 9, 8, 15, 1) + b"rest", (9, 8, 15, 1, 60, 3, 5000), "fd637bbe969497c7"),
    ):
        encoder = BinaryEncoder()
        kind.model(5, len(data), parameters).encode(encoder, data)
        payload = encoder.finish()
        assert hashlib.sha256(payload).hexdigest()[:16] == digest
        assert kind.model(5, len(data), parameters).decode(BinaryDecoder(payload)) == data


# Bombs and other hostile files


def test_a_bomb_stays_packed() -> None:
    if NATIVE is None:
        pytest.skip("takes long in Python")
    bomb = zlib.compress(bytes(64 << 20), 9)
    assert len(bomb) > 60_000
    begun = time.process_time()
    assert not streams.find_streams(b"PK\3\4\x14\0" + bytes(2) + b"\x08" + bytes(21) + bomb[2:])
    assert not streams.find_streams(bomb)
    assert time.process_time() - begun < 3


def test_contents_are_bounded() -> None:
    assert streams.most_content(1) == 64 + (64 << 10)
    assert streams.most_content(100_000) == 400_000 + (4 << 20)
    assert streams.most_content(1 << 20) == streams.most_content(1 << 30) == 8 << 20
    with pytest.raises(CorruptError, match="bytes of content in 100"):
        KIND.model(1, 100, (*SIX, 0, 0, streams.most_content(100) + 1))
    view = memoryview(packed(bytes(100_000)))
    assert streams.inflate(view, 0, 100_000) == (bytes(100_000), len(view))
    assert streams.inflate(view, 0, 99_999).content == b""
    assert streams.inflate(view[:-1], 0, 100_000).content == b""
    assert streams.inflate(view, len(view), 100_000).content == b""


def test_contents_beyond_the_bound_are_a_second_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    data = b"".join(gzipped(PROSE + bytes([k])) for k in range(5)) + gzipped(CODE)
    monkeypatch.setattr(streams, "MAX_CONTENT", 2 * len(PROSE) + 2 + streams.SPARE)
    found = KIND.find(data)
    assert [segment.parameters[-1] for segment in found] == [740, 740, 741, 741, 370, len(CODE)]
    monkeypatch.setattr(streams, "SPARE", 1 << 20)
    monkeypatch.setattr(streams, "FREE_CONTENT", 1 << 20)
    assert not KIND.find(data)
    monkeypatch.undo()
    found = KIND.find(data)
    assert {segment.parameters[-1] for segment in found} == {5 * 370 + len(CODE)}


def test_many_layouts_and_settings() -> None:
    data = b"".join(png(6 + k, 6, 1) for k in range(40))
    found = streams.find_streams(data)
    assert len(found) == 40
    assert len({(stream.row, stream.pixel) for stream in found}) == streams.MAX_SETTINGS + 1


def test_the_payload_pays_for_the_contents() -> None:
    """A decoder's work is bounded by the payload, for contents too."""
    size, content = 2 << 20, 8 << 20
    encoder = BinaryEncoder()
    write_segments(encoder, [Segment(Deflate.code, 0, size, (*SIX, 0, 0, content))])
    payload = encoder.finish()
    predictor = cm.ContextMixing(1)
    assert predictor.work(payload, size) == size + content
    assert predictor.work(b"\xff", 100) == 100
    least = least_payload(predictor, payload, size)
    assert least == (size + content) // predictor.expansion(payload) - 8
    with pytest.raises(CorruptError, match=f"claims {size} bytes of content"):
        decode_block(predictor, CODED, payload + bytes(least - len(payload) - 1), size)


HEADERS = [
    b"PK\3\4\x14\0\0\0\x08\0" + bytes(20),
    b"\x1f\x8b\x08\0\0\0\0\0\0\3",
    b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 2000) + b"IDAT\x78\x9c",
    b"\x78\x9c\xed\xc1",
    b"stream\n\x78\x9c" + bytes(30),
    b"stream\n\x78\x9c" + zlib.compress(bytes(70_000), 9)[2:-5],
]


@pytest.mark.parametrize("header", HEADERS)
def test_a_file_of_headers_takes_little_time(header: bytes) -> None:
    data = header * ((1 << 20) // len(header))
    begun = time.process_time()
    assert not streams.find_streams(data)
    assert time.process_time() - begun < 5


def test_the_search_ends_where_streams_are_of_another_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = 0

    def find(*arguments: object) -> None:
        nonlocal tried
        tried += 1

    monkeypatch.setattr(streams, "find_setting", find)
    assert not streams.find_streams(gzipped(PROSE) * 200)
    assert tried <= streams.MAX_REFUSED + 1


def test_a_content_that_is_hard_to_search(monkeypatch: pytest.MonkeyPatch) -> None:
    data = gzipped(PROSE)
    payload = coded(packed(PROSE), (*SIX, 0, 0, 5000))
    monkeypatch.setattr(settings, "COMPARISONS", 0)
    monkeypatch.setattr(settings, "FREE_COMPARISONS", 10)
    assert not streams.find_streams(data)
    with pytest.raises(CorruptError, match="more time to deflate"):
        decoded(payload, len(packed(PROSE)), (*SIX, 0, 0, 5000))


def test_neural_has_the_kind_too() -> None:
    kinds = neural.kinds_of(LEVELS, SHIPPED)
    assert kinds[Deflate.code].digest(5) != KIND.digest(5)
    assert kinds[Deflate.code].expansion(5) == 1 << 10


def test_listings_name_the_kind() -> None:
    data = FILES["zip"]()
    found = cm.ContextMixing(1)
    coder = BinaryEncoder()
    found.start(len(data)).encode(coder, data)
    listed = [part for part in found.parts(coder.finish(), len(data)) if part.kind == "deflate"]
    assert len(listed) == 3
    assert listed[0].parameters == {"level": 6, "memory": 8, "window": 15, "filtered": 0, "row": 0, "pixel": 0}


def test_python_reads_what_these_tests_write() -> None:
    assert zipfile.ZipFile(io.BytesIO(FILES["zip"]())).read("b.py") == CODE
    assert gzip.decompress(FILES["gzip"]()) == PROSE + CODE * 2 + PROSE + CODE
