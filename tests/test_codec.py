"""The codec: blocks there and back, the stored fallback, and the ordered map on any number of threads."""

from __future__ import annotations

import io
import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kolmo
from kolmo.archive.files import compress_file
from kolmo.archive.streams import compress_stream
from kolmo.codec import blocks
from kolmo.codec.blocks import SLICE, decode_block, encode_block
from kolmo.codec.frames import FrameEncoder, even_blocks, make_header
from kolmo.codec.pipeline import Pipeline, Report, ordered_map
from kolmo.coder.binary import BinaryDecoder, BinaryEncoder
from kolmo.container.index import Index
from kolmo.container.structures import CODED, STORED, largest_raw_size
from kolmo.container.wire import Reader
from kolmo.errors import CorruptError
from order0 import Order0, Order0Model

TEXT = b"it was the best of times, it was the worst of times; " * 100


class Sure(Order0):
    """Codes any number of zero bytes in one decision: what a model of long tokens may do."""

    def start(self, size: int) -> Order0Model:
        return SureModel(self.rate)


class SureModel(Order0Model):
    def encode(self, encoder: BinaryEncoder, data: bytes) -> None:
        encoder.encode(1, 65535)

    def decode(self, decoder: BinaryDecoder, size: int) -> bytes:
        decoder.decode(65535)
        return bytes(size)


class Even(Order0):
    """Believes in nothing: every bit costs a bit. Quick, for large data."""

    def start(self, size: int) -> Order0Model:
        return EvenModel(self.rate)


class EvenModel(Order0Model):
    def encode(self, encoder: BinaryEncoder, data: bytes) -> None:
        encoder.encode_many(bytes(8 * len(data)), b"\x00\x80" * 8 * len(data))


@given(st.binary(min_size=1, max_size=300))
@settings(deadline=None)
def test_block_round_trip(data: bytes) -> None:
    kind, payload = encode_block(Order0(), data)
    assert decode_block(Order0(), kind, payload, len(data)) == data
    assert len(payload) <= len(data)


def test_slices_tick_and_do_not_change_the_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks: list[int] = []
    data = TEXT[:5000]
    whole = encode_block(Order0(), data, ticks.append)
    assert ticks == [5000]
    monkeypatch.setattr(blocks, "SLICE", 7)
    ticks.clear()
    assert encode_block(Order0(), data, ticks.append) == whole
    assert ticks == [7] * 714 + [2]
    ticks.clear()
    assert decode_block(Order0(), *whole, len(data), ticks.append) == data
    assert sum(ticks) == len(data)


def test_tick_may_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "SLICE", 10)

    def stop(size: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        encode_block(Order0(), TEXT, stop)
    with pytest.raises(KeyboardInterrupt):
        decode_block(Order0(), *encode_block(Order0(), TEXT), len(TEXT), stop)


def test_incompressible_is_stored() -> None:
    data = random.Random(1).randbytes(3000)
    assert encode_block(Order0(), data) == (STORED, data)
    assert encode_block(Order0(), b"a") == (STORED, b"a")


def test_given_up_early_only_without_structure() -> None:
    size = blocks.PROBE + 3 * SLICE
    flat = random.Random(2).randbytes(size)
    ticks: list[int] = []

    encode_block(Even(), flat, ticks.append)
    assert ticks == [SLICE] * 4 + [3 * SLICE]
    assert blocks._looks_random(flat, blocks.PROBE)
    assert not blocks._looks_random(flat[: blocks.PROBE] + flat[5 : SLICE + 5], blocks.PROBE)  # repeats its beginning
    assert not blocks._looks_random(flat[:SLICE] + TEXT * 20, SLICE)
    assert not blocks._looks_random(bytes(range(256)) * 1024, 0)  # flat counts, all repeats


def test_random_data_that_comes_twice_is_coded_once() -> None:
    half = random.Random(4).randbytes(blocks.PROBE)
    assert len(kolmo.compress(half * 2, 1)) < len(half) * 1.05


@pytest.mark.parametrize("size", [0, 1, 100, 200, 16 << 10, 1 << 20])
def test_random_data_hardly_grows(size: int) -> None:
    data = random.Random(size).randbytes(size)
    packed = kolmo.compress(data, predictor=Even() if size > 1 << 16 else "order0")
    assert len(packed) <= size * 1.0005 + 64
    if size <= 1 << 16:
        assert kolmo.decompress(packed) == data


def test_payload_holds_what_readers_allow() -> None:
    data = bytes(largest_raw_size(3) + 1)
    kind, payload = encode_block(Sure(), data)
    assert kind == CODED
    assert len(payload) == 4
    assert decode_block(Sure(), kind, payload, len(data)) == data
    with pytest.raises(CorruptError, match="claimed"):
        decode_block(Sure(), kind, payload[:3], len(data))


def test_short_payload_stops_the_decoder() -> None:
    kind, payload = encode_block(Order0(), TEXT)
    with pytest.raises(CorruptError, match="ends too early"):
        decode_block(Order0(), kind, payload[:100], len(TEXT) * 9)


@pytest.mark.parametrize("block_size", [1, 999, 2000, len(TEXT), len(TEXT) + 1])
def test_bytes_do_not_depend_on_threads(block_size: int) -> None:
    data = TEXT[:40] if block_size == 1 else TEXT
    packed = {
        kolmo.compress(data, predictor="order0", block_size=block_size, threads=threads) for threads in (1, 2, 3, 8)
    }
    assert len(packed) == 1
    for threads in (1, 2, 5):
        assert kolmo.decompress(*packed, threads=threads) == data


def test_ordered_map_keeps_order_and_bounds_what_is_in_flight() -> None:
    running: list[int] = []
    peak = 0
    lock = threading.Lock()

    def work(item: int, tick: Report) -> int:
        nonlocal peak
        with lock:
            running.append(item)
            peak = max(peak, len(running))
        time.sleep(0.002 * (item % 3))
        with lock:
            running.remove(item)
        return item * item

    taken = 0

    def items() -> Iterator[tuple[int, int]]:
        nonlocal taken
        for item in range(40):
            taken += 1
            yield item, 1

    for count, result in enumerate(ordered_map(Pipeline(work, threads=3), items())):
        assert result == count * count
        assert taken - count <= 6
    assert 1 < peak <= 3
    taken = peak = 0
    assert len(list(ordered_map(Pipeline(work, threads=3, capacity=1), items()))) == 40
    assert peak == 1


def collect(found: list[int], results: Iterator[int]) -> None:
    for result in results:  # one by one: what came before an error stays
        found.append(result)


def test_ordered_map_delivers_before_it_raises() -> None:
    def items() -> Iterator[tuple[int, int]]:
        yield from ((n, 0) for n in range(5))
        raise CorruptError("late")

    def work(item: int, tick: Report) -> int:
        time.sleep(0.01)
        return item

    for threads in (1, 2, 8):
        found: list[int] = []
        with pytest.raises(CorruptError, match="late"):
            collect(found, ordered_map(Pipeline(work, threads=threads), items()))
        assert found == [0, 1, 2, 3, 4]


def test_worker_errors_come_in_order() -> None:
    def work(item: int, tick: Report) -> int:
        if item == 3:
            raise CorruptError("three")
        time.sleep(0.01)
        return item

    found: list[int] = []
    with pytest.raises(CorruptError, match="three"):
        collect(found, ordered_map(Pipeline(work, threads=4), ((n, 0) for n in range(9))))
    assert found == [0, 1, 2]


def test_leaving_stops_the_workers() -> None:
    stopped = threading.Event()

    def work(item: int, tick: Report) -> int:
        try:
            while True:
                time.sleep(0.001)
                tick(1)
        finally:
            stopped.set()

    reports: list[int] = []
    with Pipeline(work, threads=2, report=reports.append) as pipeline:
        list(pipeline.put(1))
        time.sleep(0.02)
        assert threading.active_count() > 1
    assert stopped.wait(1)
    assert threading.active_count() == 1


def test_progress_adds_up() -> None:
    for threads in (1, 2):
        reports: list[int] = []
        encoder = FrameEncoder(Order0(), make_header(Order0(), 500), threads=threads, report=reports.append)
        packed = b"".join(encoder.add(TEXT[at : at + 500]) for at in range(0, len(TEXT), 500))
        packed += encoder.finish()
        assert sum(reports) == len(TEXT)
        assert kolmo.decompress(packed) == TEXT


@pytest.mark.parametrize("size", [0, -1, (1 << 30) + 1])
def test_block_size_out_of_limits(size: int) -> None:
    with pytest.raises(ValueError, match="block size"):
        make_header(Order0(), size)


@pytest.mark.parametrize(("size", "most", "even"), [(10, 10, 10), (11, 10, 6), (16, 8, 8), (25, 8, 7), (0, 8, 8)])
def test_blocks_are_even(size: int, most: int, even: int) -> None:
    assert even_blocks(size, most) == even
    assert even_blocks(None, most) == most


def test_a_file_and_its_bytes_are_divided_alike_and_a_stream_by_the_limit(tmp_path: Path) -> None:
    data = random.Random(6).randbytes(1000) * 3
    source, target = tmp_path / "a", tmp_path / "a.kmo"
    source.write_bytes(data)
    compress_file(str(source), str(target), Order0(), block_size=1700)
    assert target.read_bytes() == kolmo.compress(data, predictor=Order0(), block_size=1700)
    sink = io.BytesIO()
    compress_stream(io.BytesIO(data), sink, Order0(), block_size=1700)
    sizes = [
        [spot.raw_size for spot in Index.walk(Reader(io.BytesIO(packed), "x")).spots]
        for packed in (target.read_bytes(), sink.getvalue())
    ]
    assert sizes == [[1500, 1500], [1700, 1300]]
