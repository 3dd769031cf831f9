"""Hostile and damaged inputs: an error with its place, or the right content; never a crash or a hang."""

from __future__ import annotations

import io
import random
import tracemalloc

import pytest

import kolmo
from helpers.limits import ends_within
from helpers.order0 import Order0
from kolmo.container.frames import FrameWriter
from kolmo.container.structures import CODED, STORED, BlockHead, Header, PredictorRecord
from kolmo.container.wire import digest
from kolmo.errors import (
    CorruptError,
    FormatError,
    KolmoError,
    MemoryLimitError,
    PredictorError,
    TruncatedError,
)
from kolmo.native.dispatch import SLOW
from kolmo.predictors import registry

TEXT = b"to be, or not to be, that is the question: whether 'tis nobler in the mind\n"
SMALL = TEXT * 2
BLOCKS = kolmo.compress(SMALL, predictor="order0", block_size=40)
FIRST = kolmo.compress(TEXT, predictor="order0")
FILES = {
    "short form": (kolmo.compress(SMALL, predictor="order0"), SMALL),
    "blocks": (BLOCKS, SMALL),
    "stored": (kolmo.compress(bytes(range(60)), predictor="order0"), bytes(range(60))),
    "empty": (kolmo.compress(b"", predictor="order0"), b""),
    "frames": (
        FIRST + kolmo.compress(TEXT[:60], predictor="order0:5", block_size=50),
        TEXT + TEXT[:60],
    ),
}
RECORD = PredictorRecord("order0", 1, Order0().fingerprint(), b"\x04")
HEADER = Header(RECORD).to_bytes()

files = pytest.mark.parametrize(("packed", "content"), FILES.values(), ids=FILES.keys())


def whole_blocks(data: bytes) -> tuple[bytes, KolmoError | None]:
    """What a reader delivers before its error."""
    out = b""
    try:
        with kolmo.open(io.BytesIO(data)) as file:
            while piece := file.read1():
                out += piece
    except KolmoError as error:
        return out, error
    return out, None


@files
def test_every_truncation(packed: bytes, content: bytes) -> None:
    boundaries = {0}
    frames = {len(FIRST)} if packed.startswith(FIRST) else set()  # such a cut is a whole file
    sizes = []
    for size in range(len(packed)):
        found, error = whole_blocks(packed[:size])
        sizes.append(len(found))
        assert content.startswith(found)
        if size in frames:
            assert error is None
            continue
        assert isinstance(error, TruncatedError)
        assert error.offset == size
        assert f"at byte {size}" in str(error)
        with pytest.raises(TruncatedError):
            kolmo.decompress(packed[:size])
        decompressor = kolmo.Decompressor()
        assert content.startswith(decompressor.decompress(packed[:size]))
        boundaries.add(len(found))
    assert sizes == sorted(sizes)
    if packed is BLOCKS:
        assert boundaries == {0, 38, 76, 114, len(SMALL)}  # of at most 40, and equal


@files
def test_every_bit_flip(packed: bytes, content: bytes) -> None:
    silent = []
    for bit in range(8 * len(packed)):
        bad = bytearray(packed)
        bad[bit >> 3] ^= 1 << (bit & 7)
        for read in (lambda data: kolmo.decompress(data), seek_through):
            try:
                if read(bytes(bad)) != content:
                    silent.append(bit)
            except (FormatError, PredictorError):
                pass
        found, error = whole_blocks(bytes(bad))
        assert content.startswith(found)
        assert error is not None or found == content
    assert silent == []


def seek_through(data: bytes) -> bytes:
    with kolmo.open(io.BytesIO(data)) as file:
        end = file.seek(0, io.SEEK_END)
        half = end // 2
        file.seek(half)
        second = file.read()
        file.seek(0)
        return file.read(half) + second


@files
def test_trailing_garbage(packed: bytes, content: bytes) -> None:
    for tail in (b"garbage", packed[3:]):
        found, error = whole_blocks(packed + tail)
        assert found == content
        assert isinstance(error, CorruptError)
        assert error.offset == len(packed)


def test_random_garbage() -> None:
    dice = random.Random(5)
    for _ in range(2000):
        tail = dice.randbytes(dice.randrange(60))
        for start in (b"", b"\xb5KMO", b"\xb5KMO\x01", HEADER):
            with pytest.raises(KolmoError):
                kolmo.decompress(start + tail)


def refused_cheaply(data: bytes, error: type[KolmoError], limit: int = 4 << 20) -> str:
    """The error's text; it must come soon and with little memory."""
    for read in (kolmo.decompress, lambda data: kolmo.Decompressor().decompress(data), seek_through):
        tracemalloc.start()
        try:
            with ends_within(), pytest.raises(error) as caught:
                read(data)
            assert tracemalloc.get_traced_memory()[1] < limit
        finally:
            tracemalloc.stop()
    return str(caught.value)


def test_huge_claims() -> None:
    limit = Header(RECORD, block_limit=1 << 30).to_bytes()
    head = BlockHead(CODED, 1 << 30, 100, bytes(8), sole=True).to_bytes()
    assert "claims" in refused_cheaply(limit + head + bytes(100), CorruptError)
    head = BlockHead(CODED, 1 << 30, (1 << 30) - 1, bytes(8)).to_bytes()
    tracemalloc.start()
    with pytest.raises(MemoryLimitError, match="raise the limit"):
        kolmo.decompress(limit + head + bytes(100))
    with pytest.raises(MemoryLimitError, match="raise the limit"):
        kolmo.Decompressor().decompress(limit + head + bytes(100))
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


def test_claims_that_the_input_does_not_hold() -> None:
    limit = Header(RECORD, block_limit=1 << 29).to_bytes()
    for kind, size in ((STORED, 1 << 29), (CODED, 1 << 28)):
        head = BlockHead(kind, 1 << 29, size, bytes(8)).to_bytes()
        data = limit + head + bytes(1000)
        for read in (kolmo.decompress, lambda data: whole_blocks(data)[1]):
            tracemalloc.start()
            try:
                if error := read(data):
                    raise error  # type: ignore[misc]
            except TruncatedError:
                assert tracemalloc.get_traced_memory()[1] < 4 << 20
            else:
                pytest.fail("not refused")
            finally:
                tracemalloc.stop()


def test_growing_output_stops_with_the_payload() -> None:
    """1000 bytes of payload that say nothing, a claim of 60 MB: the decoder stops early and keeps little."""
    head = BlockHead(CODED, 8 << 20, 200, bytes(8), sole=True).to_bytes()
    dice = random.Random(1)
    refused_cheaply(HEADER + head + dice.randbytes(200), CorruptError)


EMBEDDED = pytest.mark.parametrize("spec", ["cm:1", "cm:9", "neural:5", "neural:9"])


@EMBEDDED
@pytest.mark.skipif(SLOW, reason="takes minutes in NumPy")
def test_false_sizes_cost_embedded_predictors_little(spec: str) -> None:
    predictor = registry.resolve(spec)
    record = PredictorRecord(predictor.name, predictor.version, predictor.fingerprint(), predictor.parameters())
    head = BlockHead(CODED, 8 << 20, 200, bytes(8), sole=True).to_bytes()
    for first in (0, 255):  # with a network, and without
        payload = bytes([first]) + random.Random(1).randbytes(199)
        refused_cheaply(Header(record).to_bytes() + head + payload, CorruptError, limit=16 << 20)


@EMBEDDED
def test_damage_of_embedded_predictors_blocks(spec: str) -> None:
    content = SMALL[:80]
    packed = kolmo.compress(content, predictor=spec)
    dice = random.Random(7)
    for number in range(6 if SLOW else 60):
        bad = bytearray(packed)
        if number % 3:
            bad[dice.randrange(len(packed) // 3, len(packed))] ^= 1 << dice.randrange(8)
        else:
            del bad[dice.randrange(len(packed)) :]
        found, error = whole_blocks(bytes(bad))
        assert error is not None or found == content
        assert found in (b"", content)


def test_content_digest_is_checked() -> None:
    """Two frames' blocks exchanged: every block matches its own digest, the content does not."""
    writer = FrameWriter(Header(RECORD))
    blocks = [b"first block", b"block second"]
    for raw in blocks:
        writer.add(BlockHead(STORED, len(raw), len(raw), digest(raw)), raw, raw)
    liar = FrameWriter(Header(RECORD))
    out = b""
    for raw in blocks:
        out += liar.add(BlockHead(STORED, len(raw), len(raw), digest(raw)), raw, raw[::-1])
    out += liar.finish()
    for read in (kolmo.decompress, lambda data: kolmo.Decompressor().decompress(data), seek_twice):
        with pytest.raises(CorruptError, match="whole content does not match"):
            read(out)


def seek_twice(data: bytes) -> bytes:
    with kolmo.open(io.BytesIO(data)) as file:
        file.seek(1)
        file.seek(0, io.SEEK_END)
        file.seek(0)
        return file.read()


def test_errors_are_one_line_with_a_remedy() -> None:
    for packed, _ in FILES.values():
        for bit in range(0, 8 * len(packed), 5):
            bad = bytearray(packed)
            bad[bit >> 3] ^= 1 << (bit & 7)
            _, error = whole_blocks(bytes(bad))
            if error is not None:
                text = str(error)
                assert "\n" not in text
                assert text.startswith("input: ")
                assert "; " in text
                if isinstance(error, CorruptError):
                    assert "at byte " in text
