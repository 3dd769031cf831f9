"""The mixer with a network and lanes: C against its specification, and the predictor's own promises."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_network import SMALL, make

import kolmo
from helpers.implementations import IMPLEMENTATIONS, NATIVE
from kolmo.coder.binary import BinaryDecoder, BinaryEncoder
from kolmo.native import reference, tables
from kolmo.native.dispatch import SLOW
from kolmo.predictors.embedded import gate, neural, neural_levels, text
from kolmo.predictors.embedded.context_mixing import FULL, Shape, configuration, plain_prior
from kolmo.predictors.embedded.kinds.base import Segment
from kolmo.predictors.embedded.kinds.segments import TEXT as TEXT_CODE

TEXT = b"It was the best of times, it was the worst of times; it was the age of wisdom.\n" * 3 + bytes(range(0, 250, 7))
EVERYTHING = Shape("everything", (*FULL.contexts[:12], 36, 37, 38, 39), (1, 2, 11, 12, 13, 14, 15), network=True)


@pytest.fixture(autouse=True)
def _restore_path() -> Iterator[None]:
    yield
    neural._fingerprint.cache_clear()  # a test alters a level
    if NATIVE:
        NATIVE.force_path(NATIVE.PATHS[-1])


def mixer(module: ModuleType, size: int, lanes: int, threads: int = 1, shape: Shape = EVERYTHING, seed: int = 1) -> Any:
    weights = make(SMALL, seed)
    return module.NeuralMixer(
        configuration(shape, 14, 10),
        tables.packed(),
        plain_prior(shape),
        size,
        lanes,
        threads,
        module.Network(weights.shape.config(), weights.weights),
    )


def scored(module: ModuleType, data: bytes, lanes: int, cuts: int = 1, threads: int = 1) -> bytes:
    model = mixer(module, len(data), lanes, threads)
    left = -(-len(data) // lanes)
    while left:
        steps = min(left, -(-len(data) // lanes // cuts) or 1)
        model.score(data, steps)
        left -= steps
    costs = model.costs()
    assert isinstance(costs, bytes)
    return costs


@pytest.mark.skipif(NATIVE is None, reason="the C kernels are not built here")
@pytest.mark.parametrize("lanes", [1, 3, 16])
def test_every_path_gives_the_reference_bits(lanes: int) -> None:
    expected = scored(reference, TEXT, lanes)
    assert len(expected) == 16 * len(TEXT)
    for path in NATIVE.PATHS:
        NATIVE.force_path(path)
        for cuts, threads in ((1, 1), (3, 2), (50, 4)):
            assert scored(NATIVE, TEXT, lanes, cuts, threads) == expected, (path, cuts, threads)


@pytest.mark.skipif(NATIVE is None, reason="the C kernels are not built here")
@settings(max_examples=8, deadline=None)
@given(
    data=st.binary(min_size=1, max_size=150) | st.text(min_size=1, max_size=60).map(str.encode), lanes=st.integers(1, 9)
)
def test_any_block_gives_the_reference_bits(data: bytes, lanes: int) -> None:
    lanes = min(lanes, len(data))
    assert scored(NATIVE, data, lanes) == scored(reference, data, lanes)


@pytest.mark.parametrize("data", [bytes(100), bytes(20) + b"a" * 60], ids=["zeros", "zeros first"])
@pytest.mark.parametrize("lanes", [2, 4])
def test_a_match_in_another_lane_ends_where_the_block_begins(data: bytes, lanes: int) -> None:
    """The C kernel once read on, far before the block's first byte."""
    expected = scored(reference, data, lanes)
    if NATIVE:
        assert scored(NATIVE, data, lanes) == expected


@pytest.mark.parametrize("lanes", [1, 7])
def test_each_decodes_the_other(lanes: int) -> None:
    modules = [module for module in (reference, NATIVE) if module]
    payloads = set()
    steps = -(-len(TEXT) // lanes)
    for module in modules:
        encoder = module.BinaryEncoder()
        mixer(module, len(TEXT), lanes).encode(encoder, TEXT, steps)
        payloads.add(encoder.finish())
    (payload,) = payloads
    for module in modules:
        for threads in (1, 3):
            model, decoder = mixer(module, len(TEXT), lanes, threads), module.BinaryDecoder(payload)
            model.decode(decoder, steps // 2)
            model.decode(decoder, steps - steps // 2)
            assert model.content() == TEXT


@pytest.mark.skipif(NATIVE is None, reason="the C kernels are not built here")
@pytest.mark.parametrize(
    "data", [TEXT, b"abcab" * 60, random.Random(3).randbytes(200)], ids=["text", "again", "random"]
)
@pytest.mark.parametrize("lanes", [1, 2, 3, 4, 5])
def test_guesses_change_no_bit_on_any_path(data: bytes, lanes: int) -> None:
    """Up to four lanes guess what is next, in trees; wrong guesses leave nothing behind."""
    steps = -(-len(data) // lanes)
    encoder = NATIVE.BinaryEncoder()
    mixer(NATIVE, len(data), lanes).encode(encoder, data, steps)
    payload = encoder.finish()
    for path in NATIVE.PATHS:
        NATIVE.force_path(path)
        for threads in (1, 2):
            model, decoder = mixer(NATIVE, len(data), lanes, threads), NATIVE.BinaryDecoder(payload)
            for done in range(0, steps, 37):
                model.decode(decoder, min(37, steps - done))
            assert model.content() == data, (path, threads)


@pytest.mark.parametrize("module", IMPLEMENTATIONS)
def test_misuse(module: ModuleType) -> None:
    model = mixer(module, 10, 2)
    with pytest.raises(ValueError, match="another block"):
        model.score(b"too short", 1)
    with pytest.raises(ValueError, match="another block"):
        model.score(bytes(10), 6)
    model.score(bytes(10), 1)
    with pytest.raises(ValueError, match="one direction"):
        model.encode(module.BinaryEncoder(), bytes(10), 1)
    with pytest.raises(ValueError, match="not scored yet"):
        model.costs()
    with pytest.raises(ValueError, match="not decoded yet"):
        model.content()
    for lanes, threads in ((0, 1), (11, 1), (1, 0)):
        with pytest.raises(ValueError, match="lanes or threads"):
            mixer(module, 10, lanes, threads)


def test_lanes_are_powers_of_two_that_grow_with_the_block() -> None:
    for level in neural_levels.LEVELS:
        predictor = text.Text(neural_levels.LEVELS, text.SHIPPED)
        counts = [predictor.lanes(level, size) for size in (1, 1000, 1 << 16, 1 << 17, 1 << 20, 1 << 23, 1 << 30)]
        assert counts == sorted(counts)
        assert counts[0] == 1
        assert all(n & (n - 1) == 0 for n in counts)


@pytest.mark.skipif(SLOW, reason="takes minutes in NumPy")
def test_binary_is_left_to_the_plain_mixer() -> None:
    draw = np.random.default_rng(1)
    data = (draw.normal(0, 3000, 40_000).astype("<i2")).tobytes()
    assert not gate.should_use_network(data, text.SHIPPED.kernel)
    encoder = BinaryEncoder()
    neural.Neural(5).start(len(data)).encode(encoder, data)
    alone = len(kolmo.compress(data, predictor="cm:5"))
    assert len(encoder.finish()) <= alone


@pytest.mark.skipif(SLOW, reason="takes minutes in NumPy")
def test_lanes_and_threads_round_trip(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(neural_levels.LEVELS, 5, replace(neural_levels.LEVELS[5], lane=1 << 11))
    words = b"the of and to in a is that for it as was with be by on not he his but at are this have from".split()
    draw = random.Random(5)
    data = b" ".join(draw.choice(words) for _ in range(1_600))
    monkeypatch.setattr(
        neural, "split", lambda data, kernel: [Segment(TEXT_CODE, 0, len(data))]
    )  # words without order need not be
    assert text.Text(neural_levels.LEVELS, text.SHIPPED).lanes(5, len(data)) > 1
    payloads = set()
    for threads in (1, 2, 3):
        encoder = BinaryEncoder()
        neural.Neural(5).start(len(data), threads).encode(encoder, data)
        payloads.add(encoder.finish())
    (payload,) = payloads
    assert neural.Neural(5).start(len(data), 2).decode(BinaryDecoder(payload)) == data
    packed = kolmo.compress(data, threads=2)
    assert packed == kolmo.compress(data, threads=1)
    assert kolmo.decompress(packed, threads=2) == data


def test_knowledge_from_the_first_byte() -> None:
    text = b"The committee will meet again next week to discuss the results of the experiment and what should be done."
    assert len(kolmo.compress(text)) < len(kolmo.compress(text, predictor="cm:5")) * 0.85
