"""Lists of segments, and blocks of several kinds: written, read, chosen; hostile lists."""

from __future__ import annotations

import random
import time
import tracemalloc
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.fake_kinds import Eager, Ramp, RampModel, announced, ramp
from kolmo.coder.binary import BinaryDecoder, BinaryEncoder
from kolmo.errors import CorruptError
from kolmo.predictors.embedded.cm import ContextMixing
from kolmo.predictors.embedded.context_mixing import FAST
from kolmo.predictors.embedded.kinds import choice
from kolmo.predictors.embedded.kinds.base import Kind, Segment
from kolmo.predictors.embedded.kinds.general import PLAIN, QUICK, Plain, Quick
from kolmo.predictors.embedded.kinds.segments import (
    HALF,
    MANY,
    MAX_SEGMENTS,
    MAX_STREAMS,
    TEXT,
    read_segments,
    segment_bits,
    streams_of,
    write_segments,
)
from kolmo.predictors.embedded.neural import Neural
from kolmo.predictors.embedded.segmented import Choice, SegmentedModel, least_expansion, parts_of
from kolmo.predictors.embedded.split import split
from kolmo.predictors.embedded.text import SHIPPED
from kolmo.progress import Progress

LEVEL = 3
RANDOM = random.Random(17).randbytes


def kinds_with(*special: Kind) -> dict[int, Kind]:
    return {PLAIN: Plain(dict.fromkeys(range(1, 10), (FAST, 16))), QUICK: Quick(), **{k.code: k for k in special}}


KINDS = kinds_with(Ramp(), Eager())


def written(segments: Sequence[Segment]) -> bytes:
    encoder = BinaryEncoder()
    write_segments(encoder, segments)
    return encoder.finish()


def coded(data: bytes, segments: Sequence[Segment], kinds: dict[int, Kind] = KINDS) -> bytes:
    encoder = BinaryEncoder()
    model(data, segments, kinds).encode(encoder, data)
    return encoder.finish()


def model(data: bytes, segments: Sequence[Segment], kinds: dict[int, Kind] = KINDS) -> SegmentedModel:
    return SegmentedModel(LEVEL, len(data), kinds, lambda _: Choice(segments))


def decoded(payload: bytes, size: int, kinds: dict[int, Kind] = KINDS) -> bytes:
    return SegmentedModel(LEVEL, size, kinds, lambda _: Choice([])).decode(BinaryDecoder(payload))


@st.composite
def lists(draw: st.DrawFn) -> list[Segment]:
    """Lists that a writer may write: of any kinds and sizes."""
    keys = st.one_of(
        st.sampled_from([(PLAIN, ()), (QUICK, ())]),
        st.tuples(st.sampled_from([Ramp.code, Eager.code]), st.tuples(st.integers(0, 255))),
    )
    first, segments = 0, []
    for code, parameters in draw(st.lists(keys, min_size=1, max_size=12)):
        size = draw(st.one_of(st.integers(1, 40), st.integers(1, 1 << 24)))
        segments.append(Segment(code, first, size, parameters))
        first += size
    return segments


@given(lists())
def test_lists_are_read_as_they_were_written(segments: list[Segment]) -> None:
    payload, size = written(segments), segments[-1].end
    assert read_segments(BinaryDecoder(payload), size, KINDS) == segments
    assert abs(segment_bits(segments) - 8 * len(payload)) <= 16
    assert [part.size for part in parts_of(payload, size, KINDS)] == [segment.size for segment in segments]
    streams = streams_of(segments)
    assert sorted(s.first for stream in streams for s in stream) == [s.first for s in segments]
    assert len({(stream[0].code, stream[0].parameters) for stream in streams}) == len(streams)


@settings(max_examples=25, deadline=None)
@given(lists(), st.integers(0, 1 << 30))
def test_blocks_of_any_segments_decode(segments: list[Segment], seed: int) -> None:
    first, small = 0, []
    for segment in segments:
        size = min(segment.size, 300)
        small.append(Segment(segment.code, first, size, segment.parameters))
        first += size
    data = random.Random(seed).randbytes(first)
    payload = coded(data, small)
    assert decoded(payload, len(data)) == data
    costs = model(data, small).score(data)
    assert abs(costs.sum() / 8 - len(payload)) <= 2 + costs.sum() / 8000


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=80), st.sampled_from([1, 2, 17, 300, 1 << 30]))
def test_any_bytes_are_a_list_or_corrupt(payload: bytes, size: int) -> None:
    try:
        segments = read_segments(BinaryDecoder(payload), size, KINDS)
    except CorruptError:
        return
    assert segments[0].first == 0
    assert segments[-1].end == size
    assert all(a.end == b.first for a, b in pairwise(segments))
    assert all(segment.size >= 1 for segment in segments)


class Bits:
    """Writes a hostile list."""

    def __init__(self) -> None:
        self.encoder = BinaryEncoder()

    def bits(self, value: int, count: int) -> Bits:
        for k in reversed(range(count)):
            self.encoder.encode(value >> k & 1, HALF)
        return self

    def number(self, value: int) -> Bits:
        return self.bits(value + 1, 2 * (value + 1).bit_length() - 1)

    def payload(self) -> bytes:
        return self.encoder.finish() + bytes(8)


def many(count: int) -> Bits:
    """The beginning of a list of `count` segments."""
    return Bits().bits(MANY, 5).number(count - 2)


HOSTILE = {
    "unknown kind": (Bits().bits(14, 5), "no kind 14"),
    "text where there is none": (Bits().bits(1, 1), "no kind 0"),
    "text by its code": (Bits().bits(TEXT, 5), "no kind 0"),
    "unknown kind in a list": (many(2).number(0).bits(13, 4), "no kind 13"),
    "a stream before its time": (many(2).number(1), "stream 1, of which there are 0"),
    "ends behind the block": (many(2).number(0).bits(PLAIN, 4).number(999), "ends behind the block"),
    "leaves nothing for the last": (many(3).number(0).bits(PLAIN, 4).number(998), "ends behind the block"),
    "more segments than bytes": (many(1001), "1001 segments in 1000 bytes"),
    "2^30 segments": (many(1 << 30), "segments in 1000 bytes"),
    "zeros without end": (Bits().bits(MANY, 5).bits(0, 40), "too large"),
    "parameters without end": (Bits().bits(Ramp.code, 5).bits(0, 40), "too large"),
    "parameters that no encoder writes": (Bits().bits(Ramp.code, 5).number(256), "no step 256"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_lists(name: str) -> None:
    bits, message = HOSTILE[name]
    with pytest.raises(CorruptError, match=message):
        decoded(bits.payload(), 1000)


@pytest.mark.parametrize("predictor", [ContextMixing(1), Neural(5)])
def test_predictors_refuse_kinds_that_they_do_not_have(predictor: ContextMixing | Neural) -> None:
    payload = Bits().bits(14, 5).payload()
    assert predictor.expansion(payload) >= 1
    with pytest.raises(CorruptError, match="no kind 14"):
        predictor.parts(payload, 100)
    with pytest.raises(CorruptError, match="no kind 14"):
        predictor.start(100).decode(BinaryDecoder(payload))


def test_cm_has_no_text() -> None:
    with pytest.raises(CorruptError, match="no kind 0"):
        ContextMixing(1).parts(b"\xff" * 9, 100)


def test_claims_allocate_and_cost_nothing() -> None:
    bits = many(MAX_SEGMENTS).payload()
    tracemalloc.start()
    begun = time.process_time()
    try:
        with pytest.raises(CorruptError):
            decoded(bits, 1 << 30)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
    assert time.process_time() - begun < 2
    with pytest.raises(CorruptError, match="segments"):
        decoded(many(MAX_SEGMENTS + 1).payload(), 1 << 30)


def test_the_most_segments_take_linear_time() -> None:
    step = 5
    segments = [Segment((PLAIN, QUICK)[k % 2], step * k, step) for k in range(MAX_SEGMENTS)]
    data = bytes(range(step)) * MAX_SEGMENTS
    begun = time.process_time()
    assert decoded(coded(data, segments), len(data)) == data
    assert time.process_time() - begun < 20


def test_streams_are_bounded() -> None:
    bits = many(MAX_STREAMS + 2)
    for k in range(MAX_STREAMS + 1):
        bits.number(k)
        if k < MAX_STREAMS:
            bits.bits(Ramp.code, 4).number(k).number(0)
    with pytest.raises(CorruptError, match=f"more than {MAX_STREAMS} streams"):
        decoded(bits.payload(), 1000)


def test_least_expansion_is_that_of_the_slowest_kind() -> None:
    segments = [Segment(PLAIN, 0, 5), Segment(Ramp.code, 5, 5, (1,))]
    assert least_expansion(written(segments), LEVEL, KINDS) == Ramp().expansion(LEVEL)
    assert least_expansion(written(segments[:1]), LEVEL, KINDS) == KINDS[PLAIN].expansion(LEVEL)
    assert least_expansion(Bits().bits(14, 5).payload(), LEVEL, KINDS) == Ramp().expansion(LEVEL)  # the least


# The choice


def plain(piece: bytes) -> list[Segment]:
    return [Segment(PLAIN, 0, len(piece))]


def chosen(data: bytes, *special: Kind) -> list[Segment]:
    kinds = kinds_with(*special)
    segments = choice.choose(data, LEVEL, kinds, plain)
    assert segments == choice.choose(data, LEVEL, kinds, plain)
    assert segments[0].first == 0
    assert segments[-1].end == len(data)
    assert all(a.end == b.first for a, b in pairwise(segments))
    assert all((a.code, a.parameters) != (b.code, b.parameters) for a, b in pairwise(segments))
    payload = coded(data, segments, kinds)
    assert decoded(payload, len(data), kinds) == data
    costs = model(data, segments, kinds).score(data)
    assert abs(costs.sum() / 8 - len(payload)) <= 2 + costs.sum() / 8000
    return segments


def codes(segments: Sequence[Segment]) -> list[int]:
    return [segment.code for segment in segments]


TEXTS = RANDOM(700), RANDOM(900)


def test_headers_announce() -> None:
    data = TEXTS[0] + announced(3, 1024) + TEXTS[1] + announced(3, 2048) + announced(5, 640)
    segments = chosen(data, Ramp())
    assert codes(segments) == [PLAIN, 9, PLAIN, 9, PLAIN, 9]
    assert [s.parameters for s in segments if s.code == 9] == [(3,), (3,), (5,)]
    assert [s.size for s in segments if s.code == 9] == [1024, 2048, 640]
    assert segments[1].first == len(TEXTS[0]) + 6


def test_windows_are_guessed(monkeypatch: pytest.MonkeyPatch) -> None:
    size = 1 << 13
    monkeypatch.setattr(choice, "WINDOW_BYTES", size)
    data = RANDOM(size) + ramp(11, 3 * size) + RANDOM(size)
    assert [(s.code, s.first, s.size) for s in chosen(data, Ramp())] == [
        (PLAIN, 0, size),
        (9, size, 3 * size),
        (PLAIN, 4 * size, size),
    ]


def test_trials_refuse() -> None:
    data = b"RAMP\x07\x01" + RANDOM(5000)
    assert codes(chosen(data, Ramp(), Eager())) == [PLAIN]
    assert codes(chosen(ramp(9, 5000), Eager())) == [10]
    assert chosen(ramp(9, 5000), Eager())[0].parameters == (9,)
    assert codes(choice.choose(ramp(9, 5000), 1, kinds_with(Eager()), plain)) == [PLAIN]  # which tries one guess


def test_what_a_refused_announcement_covers_may_be_announced() -> None:
    data = TEXTS[0] + announced(3, 1024) + TEXTS[1]
    assert codes(chosen(data, Ramp(), Eager())) == [PLAIN, 9, PLAIN]


def test_false_announcements_cost_a_bounded_time() -> None:
    kind = Ramp()
    data = (b"RAMP\x07\x01" + RANDOM(64)) * 500
    assert codes(chosen(data, kind)) == [PLAIN]
    kind.started = 0
    choice.choose(data, LEVEL, kinds_with(kind), plain)
    assert kind.started <= choice.MAX_REFUSED + choice.MAX_TRIALS[1]


def test_equal_announcements_share_a_trial() -> None:
    kind = Ramp()
    data = b"".join(RANDOM(20) + announced(3, 256) for _ in range(50))
    assert codes(chosen(data, kind)) == [PLAIN, 9] * 50
    kind.started = 0
    choice.choose(data, LEVEL, kinds_with(kind), plain)
    assert kind.started == 1


def test_a_writer_keeps_to_the_bounds() -> None:
    size = 8
    segments = [Segment(Ramp.code, size * k, size, (k % 255,)) for k in range(MAX_STREAMS + 40)]
    kinds = {**KINDS, QUICK: Quick()}
    limited = choice._limited(segments, kinds)
    assert len(streams_of(limited)) <= MAX_STREAMS
    segments = [Segment((PLAIN, QUICK)[k % 2], size * k, size) for k in range(MAX_SEGMENTS + 3)]
    assert choice._limited(segments, kinds) == [Segment(PLAIN, 0, size * len(segments))]
    assert choice._limited(segments[:9], kinds) == segments[:9]


@pytest.mark.parametrize("data", [TEXTS[0] + announced(3, 1024), ramp(9, 900), TEXTS[1], b"a text " * 90, b"1"])
def test_small_blocks_are_tried_in_all_ways(data: bytes) -> None:
    kinds = kinds_with(Ramp(), Eager())
    segments, encoder = choice.choose_small(data, LEVEL, kinds, [QUICK, PLAIN])
    sizes = [len(coded(data, [Segment(code, 0, len(data), p)], kinds)) for code, p in ((1, ()), (2, ()), (10, (9,)))]
    payload = coded(data, segments, kinds)
    assert encoder.finish() == payload
    assert decoded(payload, len(data), kinds) == data
    assert len(payload) <= min(sizes) + 1
    assert (segments[0].parameters == (9,)) == (data == ramp(9, 900))
    assert (len(segments) == 2) == (b"RAMP" in data)


def test_what_a_trial_coded_is_not_coded_again(monkeypatch: pytest.MonkeyPatch) -> None:
    data = b"a text of some words " * 9
    segment = [Segment(PLAIN, 0, len(data))]
    known = Choice(segment, choice.encoded(data, LEVEL, KINDS, segment))
    payload = coded(data, segment)
    encoder = BinaryEncoder()
    ticks: list[int] = []
    monkeypatch.setattr(SegmentedModel, "_model", None)
    SegmentedModel(LEVEL, len(data), KINDS, lambda _: known).encode(encoder, data, ticks.append)
    assert encoder.finish() == payload
    assert sum(ticks) == len(data)


class Flat(Ramp):
    """Data of which each byte costs seven bits, from the first one on."""

    code = 11

    def model(self, level: int, size: int, parameters: tuple[int, ...]) -> FlatModel:
        return FlatModel(size, 0)

    def guess(self, data: bytes) -> list[tuple[int, ...]]:
        return [(0,)]


class FlatModel(RampModel):
    def encode(self, encoder: BinaryEncoder, data: bytes, progress: Progress | None = None) -> None:
        encoder.encode_many(bytes(7 * len(data)), b"\0\x80" * (7 * len(data)))


def test_a_kind_that_learns_slowly_is_not_refused() -> None:
    """Of the sample, the fake kind makes 7,168 bytes, and plain data more; but its second period costs nothing."""
    period = RANDOM(7300)
    assert len(coded((period * 2)[:8192], plain(period))) > 7200
    assert codes(choice.choose(period * 9, LEVEL, kinds_with(Flat()), plain)) == [PLAIN]
    assert codes(choice.choose(RANDOM(60_000), LEVEL, kinds_with(Flat()), plain)) == [Flat.code]


@pytest.mark.parametrize(
    ("size", "own", "left"), [(60_000, 1400, [4, 1]), (60_000, 1600, [4, 5]), (140_000, 1400, [4, 5])]
)
def test_what_a_piece_is_stays_to_the_last_round_where_samples_are_small(size: int, own: int, left: list[int]) -> None:
    trials = choice._Trials(bytes(size), LEVEL, KINDS)
    projected = {(PLAIN, ()): own, (4, (8,)): 1000, (5, ()): 1100, (4, (9,)): 1300}
    assert [code for code, _ in trials._finalists(projected, 1000)] == left


def test_the_largest_piece_is_tried_first(monkeypatch: pytest.MonkeyPatch) -> None:
    size = 1 << 13
    monkeypatch.setattr(choice, "WINDOW_BYTES", size)
    monkeypatch.setattr(choice, "FREE_TRIAL_BYTES", 0)
    noise = RANDOM(size)
    data = ramp(11, size) + noise + ramp(11, 3 * size) + noise + ramp(11, size) + noise
    kinds = kinds_with(Ramp())
    monkeypatch.setattr(choice, "TRIAL_SHARES", (1 << 30, 1 << 30))
    trials = choice._Trials(data, LEVEL, kinds)
    segments = choice._guessed(data, Segment(PLAIN, 0, len(data)), trials, [Ramp()])
    assert [(s.first, s.size) for s in segments if s.code == Ramp.code] == [(2 * size, 3 * size)]


def test_the_usual_guesses_of_a_piece_come_first() -> None:
    windows = [[(9, (1,)), (9, (2,))], [(9, (2,)), (9, (3,)), (10, (7,))], [(9, (2,))], [(9, (3,)), (9, (1,))]]
    assert choice._usual(windows, 2) == [(9, (2,)), (9, (1,)), (10, (7,))]
    assert choice._usual(windows, 1) == [(9, (2,)), (10, (7,))]


def test_neighbours_of_other_parameters_join() -> None:
    size = 1 << 15
    data = ramp(9, 2 * size) + RANDOM(size)
    trials = choice._Trials(data, LEVEL, kinds_with(Ramp()))
    right, wrong = Segment(9, 0, size, (9,)), Segment(9, size, size, (8,))
    noise = Segment(PLAIN, 2 * size, size)
    assert choice._joined(choice._extended([right, wrong, noise], PLAIN, trials)) == [
        Segment(9, 0, 2 * size, (9,)),
        noise,
    ]
    trials.coded = trials.limit + 1
    assert choice._extended([right, wrong, noise], PLAIN, trials) == [right, wrong, noise]


def test_a_sure_announcement_takes_a_short_trial() -> None:
    trials = choice._Trials(ramp(3, 1 << 18), LEVEL, kinds_with(Ramp()))
    assert trials.confirms(Segment(9, 0, 1 << 18, (3,)))
    assert trials.coded == 2 * choice.FIRST_TRIAL_BYTES
    assert not trials.confirms(Segment(9, 0, 1 << 18, (4,)))


def test_progress_counts_every_byte_once() -> None:
    data = TEXTS[0] + announced(3, 1024) + TEXTS[1]
    segments = chosen(data, Ramp())
    payload = coded(data, segments)
    for run in (
        lambda tick: model(data, segments).encode(BinaryEncoder(), data, tick),
        lambda tick: model(data, segments).decode(BinaryDecoder(payload), tick),
        lambda tick: model(data, segments).score(data, tick),
    ):
        ticks: list[int] = []
        run(ticks.append)
        assert sum(ticks) == len(data)


def test_scores_stand_where_the_bytes_do() -> None:
    data = TEXTS[0] + announced(3, 1024) + TEXTS[1]
    segments = chosen(data, Ramp())
    costs = model(data, segments).score(data)
    assert costs.shape == (len(data),)
    assert np.median(costs[706:1730]) < 0.2
    assert np.median(costs[:700]) > 6


# The division into packed data, text and plain data


@pytest.mark.parametrize("seed", range(20))
def test_divisions_cover_any_data(seed: int) -> None:
    rng = random.Random(seed)
    sizes = [rng.randrange(1, 30_000) for _ in range(8)]
    data = b"".join(rng.randbytes(size) if rng.random() < 0.5 else bytes(size) for size in sizes)
    segments = split(data, SHIPPED.kernel)
    assert segments[0].first == 0
    assert segments[-1].end == len(data)
    assert all(a.end == b.first and a.size >= 1 for a, b in pairwise(segments))


def test_short_text_between_packed_data_is_text() -> None:
    text = b"The quick brown fox jumps over the lazy dog, and so on, until it is tired.\n" * 110
    data = text + RANDOM(40_000) + text + RANDOM(40_000)
    segments = [s for s in split(data, SHIPPED.kernel) if s.code == TEXT]
    assert len(segments) == 2
    assert abs(segments[1].first - len(text) - 40_000) < 1024
    assert abs(segments[1].end - 2 * len(text) - 40_000) < 1024


def test_a_lone_window_that_looks_random_is_no_segment() -> None:
    numbers = np.arange(10_240, dtype="<u4").tobytes()
    data = numbers + RANDOM(9000) + numbers
    assert QUICK not in [segment.code for segment in split(data, SHIPPED.kernel)]
