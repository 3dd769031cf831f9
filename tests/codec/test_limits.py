"""What an untrusted file may ask for: content in proportion to its size, and never more than the caller allows."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pytest

import kolmo
from helpers.command import spawn
from helpers.order0 import Order0
from kolmo.archive.listing import list_stream
from kolmo.codec import limits
from kolmo.codec.blocks import decode_block, encode_block
from kolmo.codec.limits import expansion, least_payload
from kolmo.coder.binary import BinaryEncoder
from kolmo.container.structures import CODED, PAYLOAD_ALLOWANCE, STORED, BlockHead, Header, PredictorRecord
from kolmo.errors import CorruptError, KolmoError, SizeLimitError
from kolmo.native.dispatch import SLOW
from kolmo.predictors import registry
from kolmo.predictors.base import DEFAULT_EXPANSION
from kolmo.predictors.embedded.kinds.base import Segment
from kolmo.predictors.embedded.kinds.general import PLAIN
from kolmo.predictors.embedded.kinds.segments import TEXT, write_segments

SPECS = ["cm:1", "cm:4", "cm:9", "neural:5", "neural:9", "order0"]
HOSTILE = [(spec, first) for spec in SPECS for first in (b"\x00", b"\xff")]  # of neural: with its network, and without


def claim(spec: str, raw_size: int, payload: bytes) -> bytes:
    """A file of one block whose payload says nothing of the kind."""
    predictor = registry.resolve(spec)
    record = PredictorRecord(predictor.name, predictor.version, predictor.fingerprint(), predictor.parameters())
    head = BlockHead(CODED, raw_size, len(payload), bytes(8), sole=True)
    return Header(record, block_limit=1 << 30).to_bytes() + head.to_bytes() + payload


READERS: list[Callable[[bytes], object]] = [
    kolmo.decompress,
    lambda data: kolmo.Decompressor().decompress(data),
    lambda data: kolmo.open(io.BytesIO(data)).read(),
    lambda data: kolmo.open(io.BytesIO(data)).seek(0, io.SEEK_END) and kolmo.open(io.BytesIO(data)).read(1),
]


@pytest.mark.parametrize(("spec", "first"), HOSTILE)
@pytest.mark.parametrize("size", [1, 30, 16 << 10])
def test_claims_beyond_the_payload_start_no_model(
    spec: str, first: bytes, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """43 bytes that kept a core busy for minutes, 16 KB for hours."""
    predictor = registry.resolve(spec)
    payload = first + bytes(size - 1)
    most = expansion(predictor, payload) * (size + PAYLOAD_ALLOWANCE)
    monkeypatch.setattr(type(predictor), "start", None)  # a reader that got so far would fail otherwise
    data = claim(spec, most + 1, payload)
    for read in READERS:
        with pytest.raises((CorruptError, SizeLimitError), match="block 1"):
            read(data)


def beginning(*codes: int) -> bytes:
    """The payload of a block whose parts are of these kinds, without their content."""
    encoder = BinaryEncoder()
    write_segments(encoder, [Segment(code, first, 1) for first, code in enumerate(codes)])
    return encoder.finish()


def test_a_byte_of_a_file_costs_hundredths_of_a_second() -> None:
    """Bytes of content for a byte of file, by what a predictor does in a second."""
    plain, text, both = (beginning(*codes) for codes in ((PLAIN,), (TEXT,), (PLAIN, TEXT)))
    for spec, first, most in (
        ("cm:1", plain, 1 << 15),
        ("cm:4", plain, 1 << 13),
        ("cm:9", plain, 1 << 13),
        ("neural:5", text, 1 << 10),
        ("neural:5", plain, 1 << 13),
        ("neural:5", both, 1 << 10),
        ("neural:9", b"", 1 << 10),
        ("order0", b"\0", DEFAULT_EXPANSION),
    ):
        assert expansion(registry.resolve(spec), first) == most


@pytest.mark.parametrize("spec", ["cm:1", "order0"] if SLOW else SPECS)
def test_honest_extremes_open_by_default(spec: str) -> None:
    """The writer pays for what it asks the reader to do: zero bytes behind a payload that is too short."""
    size = 3000 if SLOW else 60_000
    predictor = registry.resolve(spec)
    for raw in (bytes(size), b"\xff" * size if spec == "order0" else (b"abcdefg" * size)[:size]):
        kind, payload = encode_block(predictor, raw)
        assert kind == CODED
        least = least_payload(predictor, payload, size)
        assert least <= len(payload) <= least + 64
        assert decode_block(predictor, kind, payload, size) == raw


def test_the_bound_is_part_of_no_stored_block() -> None:
    assert decode_block(Order0(), STORED, b"abc", 3) == b"abc"


def test_max_length() -> None:
    data = bytes(range(256)) * 12
    packed = kolmo.compress(data, predictor="order0", block_size=1000)
    two = packed * 2
    assert kolmo.decompress(packed, max_length=len(data)) == data
    assert kolmo.decompress(two, max_length=2 * len(data)) == data * 2
    assert kolmo.decompress(kolmo.compress(b""), max_length=0) == b""
    with pytest.raises(SizeLimitError, match=r"^input: block 4, at byte \d+, .* limit is 3071; .*max_length=3072"):
        kolmo.decompress(packed, max_length=len(data) - 1)
    with pytest.raises(SizeLimitError):
        kolmo.decompress(two, max_length=2 * len(data) - 1)
    assert kolmo.Decompressor(max_length=len(data)).decompress(packed) == data
    with pytest.raises(SizeLimitError):
        kolmo.Decompressor(max_length=len(data) - 1).decompress(packed)
    with kolmo.open(io.BytesIO(two), max_length=2 * len(data)) as file:
        assert file.read() == data * 2
        file.seek(len(data) + 5)
        assert file.read(9) == data[5:14]
    with kolmo.open(io.BytesIO(two), max_length=len(data)) as file:
        with pytest.raises(SizeLimitError):
            file.read()
        file.seek(len(data) + 5)
        with pytest.raises(SizeLimitError):
            file.read(1)
    for wrong, error in ((-1, ValueError), ("5", TypeError), (1.5, TypeError)):
        for call in (
            lambda limit: kolmo.decompress(packed, max_length=limit),
            lambda limit: kolmo.Decompressor(max_length=limit),
            lambda limit: kolmo.open(io.BytesIO(packed), max_length=limit),
        ):
            with pytest.raises(error, match="max_length"):
                call(wrong)


def test_max_length_comes_before_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    packed = kolmo.compress(bytes(5000), predictor="order0", block_size=1000)
    monkeypatch.setattr(Order0, "start", None)
    with pytest.raises(SizeLimitError):
        kolmo.decompress(packed, max_length=4999)


def test_max_length_of_a_pipe_is_the_blocks_that_fit() -> None:
    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return False

    data = bytes(range(250)) * 20
    packed = kolmo.compress(data, predictor="order0", block_size=1000)
    with kolmo.open(Pipe(packed), max_length=2500) as file:
        assert file.read1(1000) == data[:1000]
        with pytest.raises(SizeLimitError):
            file.read()


def test_without_kernels_less_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    """NumPy does a kilobyte in a second: what would take hours needs the caller's word."""
    packed = kolmo.compress(bytes(200_000), predictor="order0", block_size=50_000)
    monkeypatch.setattr(limits, "SLOW", True)
    for read in READERS[:3]:
        with pytest.raises(SizeLimitError, match=r"block 2, .*max_length=100000.*C compiler"):
            read(packed)
    assert kolmo.decompress(packed, max_length=200_000) == bytes(200_000)
    text = kolmo.compress(b"".join(b"%d " % (n * n) for n in range(20_000)), predictor="order0")
    assert len(kolmo.decompress(text)) > limits.SLOW_ALLOWANCE


def test_command_line(tmp_path: Path) -> None:
    raw = bytes(300_000)
    path = tmp_path / "zeros.kmo"
    path.write_bytes(kolmo.compress(raw, predictor="order0", block_size=100_000))
    if SLOW:
        pytest.skip("takes minutes in NumPy")
    for verb in ("test", "decompress"):
        done = spawn([verb, "--max-size", "200K", str(path)])
        assert done.returncode == 1
        assert done.stderr.count(b"--max-size 300000") == 1
        assert [file.name for file in tmp_path.iterdir()] == ["zeros.kmo"]
    assert spawn(["test", "--max-size", "300000", str(path)]).returncode == 0
    for verb in ("test", "list"):
        done = spawn([verb, str(path)])
        assert done.returncode == 0
        assert done.stderr.count(b"extreme ratio") == 1
        assert spawn([verb, "-q", str(path)]).stderr == b""
    assert spawn(["decompress", "--max-size", "1M", str(path)]).returncode == 0
    assert (tmp_path / "zeros").read_bytes() == raw
    assert spawn(["decompress", "--max-size", "much", str(path)]).returncode == 2
    honest = kolmo.compress(b"".join(b"%d " % n for n in range(9000)), predictor="order0")
    assert not list_stream(io.BytesIO(honest)).is_extreme


def test_size_limit_is_an_error_of_kolmo() -> None:
    assert issubclass(SizeLimitError, KolmoError)
    assert not issubclass(SizeLimitError, CorruptError)
