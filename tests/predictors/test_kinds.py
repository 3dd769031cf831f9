"""The contract of special kinds: models that mirror, headers and guesses that any data may have, bounds."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator

import pytest

from golden.make import KINDS as SAMPLES
from kolmo.coder.binary import BinaryDecoder, BinaryEncoder
from kolmo.errors import CorruptError
from kolmo.native.dispatch import SLOW
from kolmo.predictors.embedded.cm import _kinds
from kolmo.predictors.embedded.kinds.base import MAX_PARAMETER, Kind
from kolmo.predictors.embedded.kinds.choice import FIRST_SPECIAL

SPECIAL = {code: kind for code, kind in _kinds().items() if code >= FIRST_SPECIAL}
LEVELS = (1, 5) if SLOW else (1, 3, 5, 9)
KINDS = [pytest.param(kind, id=kind.name) for kind in SPECIAL.values()]


def hostile(seed: int) -> bytes:
    """A file of some kind with a cut end, or with damage in its headers."""
    draw = random.Random(seed)
    data = bytearray(b"".join(draw.sample(list(SAMPLES.values()), 2)))
    for _ in range(draw.randrange(12)):
        at = draw.randrange(300) if draw.random() < 0.8 else draw.randrange(len(data))
        value = draw.choice((0, 1, 255, 127, 128, draw.randrange(256)))
        data[at : at + draw.choice((1, 4))] = bytes([value]) * draw.choice((1, 4))
    return bytes(data[: draw.randrange(len(data))]) if draw.random() < 0.5 else bytes(data)


def layouts(kind: Kind) -> Iterator[tuple[int, ...]]:
    """Parameters that the kind finds in the samples."""
    found = {tuple(segment.parameters) for data in SAMPLES.values() for segment in kind.find(data)}
    found |= {tuple(parameters) for data in SAMPLES.values() for parameters in kind.guess(data)}
    yield from sorted(found)[:4]


def test_names_and_codes() -> None:
    assert len({kind.name for kind in SPECIAL.values()}) == len(SPECIAL)
    assert all(kind.code == code and 3 <= code <= 14 for code, kind in SPECIAL.items())
    assert all(kind.name.isascii() and kind.name.islower() for kind in SPECIAL.values())


@pytest.mark.parametrize("kind", KINDS)
def test_a_sample_of_each_is_found(kind: Kind) -> None:
    assert list(layouts(kind))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("level", LEVELS)
def test_models_mirror_at_any_size(kind: Kind, level: int) -> None:
    data = SAMPLES.get(kind.name, SAMPLES["float"])
    for parameters in layouts(kind):
        assert len(parameters) == len(kind.fields)
        for size in (1, 2, 7, 100 if SLOW else 2001):
            part, encoder = data[20 : 20 + size], BinaryEncoder()
            ticks: list[int] = []
            kind.model(level, size, parameters).encode(encoder, part, ticks.append)
            payload = encoder.finish()
            assert kind.model(level, size, parameters).decode(BinaryDecoder(payload), ticks.append) == part
            costs = kind.model(level, size, parameters).score(part, ticks.append)
            assert costs.shape == (size,)
            assert abs(costs.sum() / 8 - len(payload)) <= 2 + costs.sum() / 8000
            assert sum(ticks) == 3 * size


@pytest.mark.parametrize("kind", KINDS)
def test_a_payload_that_ends_is_an_error(kind: Kind) -> None:
    parameters = next(layouts(kind))
    with pytest.raises(CorruptError):
        kind.model(1, 1 << 24, parameters).decode(BinaryDecoder(bytes(range(256))))


@pytest.mark.parametrize("kind", KINDS)
def test_hostile_headers(kind: Kind) -> None:
    for seed in range(60 if SLOW else 400):
        data = hostile(seed)
        at = 0
        for segment in kind.find(data):
            assert segment.code == kind.code
            assert at <= segment.first < segment.end <= len(data), seed
            at = segment.end
            assert len(segment.parameters) == len(kind.fields)
            kind.model(1, 1, segment.parameters)
            assert kind.period(segment.parameters) >= 1
        for parameters in kind.guess(data):
            kind.model(1, 1, parameters)
            assert kind.period(parameters) >= 1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("data", [b"", b"\0", bytes(5000), b"\xff" * 300, bytes(range(256)) * 20, b"P6 BM RIFF II*\0"])
def test_data_of_no_kind(kind: Kind, data: bytes) -> None:
    assert isinstance(kind.find(data), list)
    for parameters in kind.guess(data):
        kind.model(1, max(len(data), 1), parameters)


@pytest.mark.parametrize("kind", KINDS)
def test_parameters_that_no_writer_writes(kind: Kind) -> None:
    """Any parameters make a model or are refused; no memory is taken by claim."""
    draw = random.Random(3)
    values = (0, 1, 2, 3, 4, 8, 16, 24, 25, 255, 256, 65_535, 65_536, 1 << 20, MAX_PARAMETER - 1)
    for _ in range(300):
        parameters = tuple(draw.choice(values) for _ in kind.fields)
        try:
            period = kind.period(parameters)
            kind.model(1, 10, parameters).score(bytes(10))
        except CorruptError:
            continue
        assert period >= 1
    with pytest.raises(CorruptError):
        kind.model(1, 10, (MAX_PARAMETER - 1,) * len(kind.fields))


@pytest.mark.parametrize("kind", KINDS)
def test_bounds_and_digests(kind: Kind) -> None:
    for level in range(1, 10):
        sizes = [kind.memory(level, size) for size in (1, 1000, 1 << 20, 1 << 23, 1 << 30)]
        assert sizes == sorted(sizes)
        assert sizes[-2] < 1 << 30
        assert len(kind.digest(level)) == 32
        assert 64 <= kind.expansion(level) <= 1 << 15
    assert kind.digest(1) != kind.digest(9)


@pytest.mark.parametrize("kind", KINDS)
def test_many_headers_take_linear_time(kind: Kind) -> None:
    heads = [data[:80] for data in SAMPLES.values()] + [b"BM" + struct.pack("<IHHI", 0, 0, 0, 54), b"P5\n9 9\n255\n"]
    data = b"".join(heads) * 4000
    import time

    begun = time.process_time()
    kind.find(data)
    assert time.process_time() - begun < 20
