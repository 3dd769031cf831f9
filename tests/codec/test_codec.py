"""The codec: blocks there and back, the stored fallback, and the ordered map on any number of threads."""

from __future__ import annotations

import io
import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kolmo
from helpers.order0 import Order0, Order0Model
from kolmo.archive.files import compress_file
from kolmo.archive.streams import compress_stream
from kolmo.codec import blocks, frames
from kolmo.codec.blocks import decode_block, encode_block
from kolmo.codec.frames import FrameEncoder, decode_frames, even_blocks, make_header
from kolmo.codec.limits import Place
from kolmo.coder.binary import BinaryDecoder, BinaryEncoder
from kolmo.container.index import Index
from kolmo.container.structures import CODED, PAYLOAD_ALLOWANCE, STORED, BlockHead
from kolmo.container.wire import Reader, digest
from kolmo.errors import CorruptError
from kolmo.native.dispatch import SLOW
from kolmo.parallel import Pipeline, available_cores, ordered_map
from kolmo.predictors import base
from kolmo.predictors.base import DEFAULT_EXPANSION
from kolmo.progress import Progress

Item = TypeVar("Item")
TEXT = b"it was the best of times, it was the worst of times; " * 100


class Sure(Order0):
    """Codes any number of zero bytes in one decision: what a model of long tokens may do."""

    def start(self, size: int, threads: int = 1) -> Order0Model:
        return SureModel(self.rate, size)


class SureModel(Order0Model):
    def encode(self, encoder: BinaryEncoder, data: bytes, progress: Progress | None = None) -> None:
        encoder.encode(1, 65535)

    def decode(self, decoder: BinaryDecoder, progress: Progress | None = None) -> bytes:
        decoder.decode(65535)
        return bytes(self.size)


class Even(Order0):
    """Believes in nothing: every bit costs a bit. Quick, for large data."""

    def start(self, size: int, threads: int = 1) -> Order0Model:
        return EvenModel(self.rate, size)


class EvenModel(Order0Model):
    def encode(self, encoder: BinaryEncoder, data: bytes, progress: Progress | None = None) -> None:
        for first, last in base.slices(len(data), progress):
            encoder.encode_many(bytes(8 * (last - first)), b"\x00\x80" * 8 * (last - first))


@given(st.binary(min_size=1, max_size=300))
@settings(deadline=None)
def test_block_round_trip(data: bytes) -> None:
    kind, payload = encode_block(Order0(), data)
    assert decode_block(Order0(), kind, payload, len(data)) == data
    assert len(payload) <= len(data)


def test_slices_tick_and_do_not_change_the_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks: list[int] = []
    data = TEXT[:5000]
    monkeypatch.setattr(base, "SLICE", 1 << 16)
    whole = encode_block(Order0(), data, ticks.append)
    assert ticks == [5000]
    monkeypatch.setattr(base, "SLICE", 7)
    ticks.clear()
    assert encode_block(Order0(), data, ticks.append) == whole
    assert ticks == [7] * 714 + [2]
    ticks.clear()
    assert decode_block(Order0(), *whole, len(data), ticks.append) == data
    assert sum(ticks) == len(data)


def test_tick_may_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "SLICE", 10)

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
    size = blocks.PROBE_BYTES + 3 * base.SLICE
    flat = random.Random(2).randbytes(size)
    ticks: list[int] = []

    encode_block(Even(), flat, ticks.append)
    assert ticks == [base.SLICE] * (blocks.PROBE_BYTES // base.SLICE) + [3 * base.SLICE]
    assert blocks._looks_random(flat, blocks.PROBE_BYTES)
    repeating = flat[: blocks.PROBE_BYTES] + flat[5 : base.SLICE + 5]  # its beginning
    assert not blocks._looks_random(repeating, blocks.PROBE_BYTES)
    assert not blocks._looks_random(flat[: base.SLICE] + TEXT * 20, base.SLICE)
    assert not blocks._looks_random(bytes(range(256)) * 1024, 0)  # flat counts, all repeats


@pytest.mark.skipif(SLOW, reason="takes minutes in NumPy")
def test_random_data_that_comes_twice_is_coded_once() -> None:
    half = random.Random(4).randbytes(blocks.PROBE_BYTES)
    assert len(kolmo.compress(half * 2, 1)) < len(half) * 1.05


@pytest.mark.parametrize("size", [0, 1, 100, 200, 16 << 10, 1 << 20])
def test_random_data_hardly_grows(size: int) -> None:
    data = random.Random(size).randbytes(size)
    packed = kolmo.compress(data, predictor=Even() if size > 1 << 16 else "order0")
    assert len(packed) <= size * 1.0005 + 64
    if size <= 1 << 16:
        assert kolmo.decompress(packed) == data


def test_payload_holds_what_readers_allow() -> None:
    data = bytes(DEFAULT_EXPANSION * (PAYLOAD_ALLOWANCE + 3) + 1)
    kind, payload = encode_block(Sure(), data)
    assert kind == CODED
    assert len(payload) == 4
    assert decode_block(Sure(), kind, payload, len(data)) == data
    with pytest.raises(CorruptError, match="claims"):
        decode_block(Sure(), kind, payload[:3], len(data))


def test_a_model_need_not_tick() -> None:
    ticks: list[int] = []
    encode_block(Sure(), bytes(999), ticks.append)
    assert ticks == [999]


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

    def work(item: int, progress: Progress) -> int:
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


def collect(found: list[Item], results: Iterator[Item]) -> None:
    for result in results:  # one by one: what came before an error stays
        found.append(result)


def test_ordered_map_delivers_before_it_raises() -> None:
    def items() -> Iterator[tuple[int, int]]:
        yield from ((n, 0) for n in range(5))
        raise CorruptError("late")

    def work(item: int, progress: Progress) -> int:
        time.sleep(0.01)
        return item

    for threads in (1, 2, 8):
        found: list[int] = []
        with pytest.raises(CorruptError, match="late"):
            collect(found, ordered_map(Pipeline(work, threads=threads), items()))
        assert found == [0, 1, 2, 3, 4]


def test_worker_errors_come_in_order() -> None:
    def work(item: int, progress: Progress) -> int:
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

    def work(item: int, progress: Progress) -> int:
        try:
            while True:
                time.sleep(0.001)
                progress(1)
        finally:
            stopped.set()

    reports: list[int] = []
    before = threading.active_count()
    with Pipeline(work, threads=2, progress=reports.append) as pipeline:
        list(pipeline.put(1))
        time.sleep(0.02)
        assert threading.active_count() > before
    assert stopped.wait(1)
    assert threading.active_count() == before


def test_progress_adds_up() -> None:
    for threads in (1, 2):
        reports: list[int] = []
        encoder = FrameEncoder(Order0(), make_header(Order0(), 500), threads=threads, progress=reports.append)
        packed = b"".join(encoder.add(TEXT[at : at + 500]) for at in range(0, len(TEXT), 500))
        packed += encoder.finish()
        assert sum(reports) == len(TEXT)
        assert kolmo.decompress(packed) == TEXT


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """(size, threads) of every model of `Order0` that starts from here on."""
    found: list[tuple[int, int]] = []
    start = Order0.start

    def counting(self: Order0, size: int, threads: int = 1) -> Order0Model:
        found.append((size, threads))
        return start(self, size, threads)

    monkeypatch.setattr(Order0, "start", counting)
    return found


PLACE = Place("x", "block 1", 0)
BEGIN, END = frames._Begin(), frames._End(bytes(8), PLACE)
JOB = frames._Job(Order0(), BlockHead(STORED, 3, 3, digest(b"abc")), b"abc", PLACE)


@pytest.mark.parametrize(
    ("steps", "threads"),
    [
        ([], []),
        ([BEGIN, END], []),
        ([BEGIN, JOB, END], [8]),
        ([BEGIN, JOB, JOB, END], [1, 1]),
        ([BEGIN, JOB, JOB, JOB, END], [1, 1, 1]),
        ([BEGIN, JOB, END, BEGIN, END, BEGIN, JOB, END], [8, 8]),
        ([BEGIN, JOB, END, BEGIN, JOB, JOB, END, BEGIN, JOB, END], [8, 1, 1, 8]),
        ([BEGIN, JOB], [8]),  # cut off
        ([JOB, END], [8]),  # after a seek: the last block alone is left
        ([JOB, JOB, END], [1, 1]),
    ],
)
def test_a_frames_only_block_gets_all_threads(steps: list[frames._Step], threads: list[int]) -> None:
    shared = list(frames._share_threads(((step, 5) for step in steps), 8))
    assert [step.threads for step, _ in shared if isinstance(step, frames._Job)] == threads
    assert [type(step) for step, _ in shared] == [type(step) for step in steps]
    assert {weight for _, weight in shared} <= {5}


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_what_precedes_an_error_comes_first(count: int) -> None:
    def steps() -> Iterator[tuple[frames._Step, int]]:
        yield BEGIN, 0
        for _ in range(count):
            yield JOB, 3
        raise CorruptError("late")

    found: list[frames._Step] = []
    with pytest.raises(CorruptError, match="late"):
        collect(found, (step for step, _ in frames._share_threads(steps(), 4)))
    assert len(found) == 1 + count
    assert [step.threads for step in found[1:] if isinstance(step, frames._Job)] == ([4] if count == 1 else [1] * count)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("block_size", [1000, 2000, len(TEXT)])
def test_an_error_behind_a_block_comes_after_its_content(block_size: int, threads: int) -> None:
    packed = kolmo.compress(TEXT, predictor="order0", block_size=block_size)
    contents = decode_frames(Reader(io.BytesIO(packed + b"garbage"), "x"), threads=threads)
    size = 0
    while size < len(TEXT):
        size += len(next(contents))
    with pytest.raises(CorruptError, match=f"at byte {len(packed)}"):
        next(contents)


@pytest.mark.parametrize("threads", [0, 1, 3])
def test_all_threads_work_on_an_only_block(started: list[tuple[int, int]], threads: int) -> None:
    workers = threads or available_cores()
    for data in (TEXT, TEXT[:1]):
        packed = kolmo.compress(data, predictor="order0", threads=threads)
        assert started == [(len(data), workers)]
        started.clear()
    packed = kolmo.compress(TEXT, predictor="order0", threads=threads)
    assert kolmo.decompress(packed, threads=threads) == TEXT
    with kolmo.open(io.BytesIO(packed), threads=threads) as file:
        assert file.read() == TEXT
        file.seek(7)
        assert file.read(1) == TEXT[7:8]
    assert started == [(len(TEXT), workers)] * 4
    started.clear()
    packed = kolmo.compress(TEXT, predictor="order0", threads=threads, block_size=len(TEXT) // 2)
    assert kolmo.decompress(packed, threads=threads) == TEXT
    assert started == [(len(TEXT) // 2, 1)] * 4


def test_the_first_block_is_held_back(started: list[tuple[int, int]]) -> None:
    for threads in (1, 3):
        encoder = FrameEncoder(Order0(), make_header(Order0(), 100), threads=threads)
        assert encoder.add(TEXT[:100]) == b""
        assert not started
        packed = encoder.finish()
        assert packed == kolmo.compress(TEXT[:100], predictor="order0", threads=1)
        assert started.pop(0) == (100, threads)
        started.clear()

        encoder = FrameEncoder(Order0(), make_header(Order0(), 100), threads=threads)
        assert encoder.add(TEXT[:100]) == b""
        packed = encoder.add(TEXT[100:200])
        if threads == 1:
            assert started == [(100, 1)] * 2  # both at once
            assert len(packed) > 0
        packed += encoder.add(TEXT[200:250]) + encoder.finish()
        assert sorted(started) == [(50, 1), (100, 1), (100, 1)]
        assert kolmo.decompress(packed) == TEXT[:250]
        started.clear()


def test_an_encoder_that_is_given_up_starts_nothing(started: list[tuple[int, int]]) -> None:
    encoder = FrameEncoder(Order0(), make_header(Order0(), 100), threads=2)
    encoder.add(TEXT[:100])
    encoder.close()
    assert not started


def test_an_empty_frame_has_no_first_block() -> None:
    encoder = FrameEncoder(Order0(), make_header(Order0(), 100), threads=2)
    assert encoder.finish() == kolmo.compress(b"", predictor=Order0(), block_size=100)


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
