"""The contract of `predictors.base`, for every predictor that is known here, and the registry's errors."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import numpy as np
import pytest

import golden
import kolmo
from helpers.order0 import Order0
from kolmo.codec.blocks import decode_block, encode_block
from kolmo.coder.binary import BinaryDecoder, BinaryEncoder
from kolmo.container.structures import MAX_EXPANSION, PREDICTOR_NAME
from kolmo.errors import PredictorError
from kolmo.native.dispatch import SLOW
from kolmo.predictors import base, registry
from kolmo.predictors.base import Predictor
from kolmo.predictors.choice import Choice, Randomness
from kolmo.predictors.embedded import context_mixing
from kolmo.predictors.embedded import text as text_kind
from kolmo.predictors.embedded.kinds.image import Image

NETWORK = f"network:{golden.RELEASE / 'networks' / 'v1-tiny.safetensors'}"
SPECS = ["order0:4", "order0:7", "cm:1", "cm:5", "cm:9", "neural:5", "neural:9", f"{NETWORK}:5", f"{NETWORK}:9"]
TEXT = (b"the quick brown fox jumps over the lazy dog. " * 9 + bytes(range(256)))[:600]
FIXTURES = {
    "one byte": b"\x00",
    "text": TEXT,
    "zeros": bytes(700),
    "records": b"".join(n.to_bytes(2, "little") + b"ab" for n in range(150)),
    "random": random.Random(3).randbytes(400),
}


@pytest.fixture(params=SPECS, ids=lambda spec: spec.replace(NETWORK, "network"))
def predictor(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Predictor:
    if SLOW and request.param.startswith(("neural", "network")):  # in NumPy: 300 bytes a second
        for name, data in FIXTURES.items():
            monkeypatch.setitem(FIXTURES, name, data[:80])
    return registry.resolve(request.param)


@pytest.fixture(params=FIXTURES)
def data(request: pytest.FixtureRequest, predictor: Predictor) -> bytes:
    return FIXTURES[request.param]


@pytest.fixture
def text(predictor: Predictor) -> bytes:
    return FIXTURES["text"]


def encoded(predictor: Predictor, data: bytes, threads: int = 1) -> bytes:
    encoder = BinaryEncoder()
    predictor.start(len(data), threads).encode(encoder, data)
    return encoder.finish()


def decoded(predictor: Predictor, payload: bytes, size: int, threads: int = 1) -> bytes:
    return predictor.start(size, threads).decode(BinaryDecoder(payload))


def test_is_a_predictor(predictor: Predictor) -> None:
    assert isinstance(predictor, Predictor)
    assert PREDICTOR_NAME.fullmatch(predictor.name)
    assert predictor.version >= 0


def test_what_a_predictor_may_leave_out_has_a_default(predictor: Predictor) -> None:
    assert predictor.exclusive is False
    assert list(predictor.notes) == []
    assert isinstance(predictor.options, tuple)
    assert predictor.caveat == predictor.overhead == ""
    for payload in (b"", b"\x00", b"\x80"):
        assert 1 <= predictor.expansion(payload) <= MAX_EXPANSION


def test_the_minimum_of_a_predictor() -> None:
    """Six members make a predictor that compresses; specs, restoring and sampling are refused in one line each."""

    class Minimal(Predictor):
        name = "minimal"
        version = 1
        parameters = Order0.parameters
        fingerprint = Order0.fingerprint
        memory = Order0.memory
        start = Order0.start
        rate = 4

    minimal = Minimal()
    assert minimal.expansion(b"") == base.DEFAULT_EXPANSION
    packed = kolmo.compress(TEXT, predictor=minimal)
    assert len(packed) < len(TEXT)
    registry.register("minimal", Minimal)
    try:
        with pytest.raises(PredictorError, match="predictor 'minimal' has no specs"):
            registry.resolve("minimal")
        with pytest.raises(PredictorError, match="predictor 'minimal' does not decode"):
            kolmo.decompress(packed)
        with pytest.raises(PredictorError, match="'minimal' does not sample; choose another"):
            minimal.continuation(b"", 1, Randomness(1), Choice())
    finally:
        del registry._registered["minimal"]
    with pytest.raises(TypeError, match="abstract"):
        type("Nothing", (Predictor,), {})()


def test_a_plugin_that_is_not_derived_from_the_base_class(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    line = "predictor 'old': .* is not derived from kolmo.predictors.base.Predictor; update the package"
    with pytest.raises(PredictorError, match=line):
        registry.register("old", object)  # type: ignore[arg-type]

    class Old(Order0):
        @classmethod
        def from_spec(cls, argument: str) -> Order0:
            return object()  # type: ignore[return-value]

    monkeypatch.setitem(registry._registered, "old", Old)
    with pytest.raises(PredictorError, match=line):
        registry.resolve("old:4")
    with pytest.raises(TypeError, match="predictor must be a predictor or its spec"):
        kolmo.compress(TEXT, predictor=object())  # type: ignore[arg-type]


def test_every_known_predictor_is_in_the_contract() -> None:
    assert {spec.partition(":")[0] for spec in SPECS} == set(registry.known()) - {
        "classical",
        "hf",
        "gguf",
    }  # with tests of their own


def test_round_trip_on_any_threads(predictor: Predictor, data: bytes) -> None:
    payload = encoded(predictor, data)
    assert encoded(predictor, data, threads=3) == payload
    assert decoded(predictor, payload, len(data)) == data
    assert decoded(predictor, payload, len(data), threads=2) == data


def test_ticks_add_up_and_do_not_change_the_bits(
    predictor: Predictor, text: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "guess", lambda self, data: [])  # its slices are whole rows
    payload = encoded(predictor, text)
    costs = predictor.start(len(text)).score(text)
    monkeypatch.setattr(base, "SLICE", 33)
    monkeypatch.setattr(text_kind, "STEPS", 33)
    ticks: dict[str, list[int]] = {"encode": [], "decode": [], "score": []}
    encoder = BinaryEncoder()
    predictor.start(len(text)).encode(encoder, text, ticks["encode"].append)
    assert encoder.finish() == payload
    assert predictor.start(len(text)).decode(BinaryDecoder(payload), ticks["decode"].append) == text
    assert predictor.start(len(text)).score(text, ticks["score"].append).tolist() == costs.tolist()
    for sizes in ticks.values():
        assert sum(sizes) == len(text)
        assert max(sizes) == 33


def test_a_tick_that_raises_stops_the_work(predictor: Predictor, text: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    payload = encoded(predictor, text)
    monkeypatch.setattr(base, "SLICE", 5)
    monkeypatch.setattr(text_kind, "STEPS", 5)

    def stop(size: int) -> None:
        raise KeyboardInterrupt

    start = predictor.start
    for work in (
        lambda: start(len(text)).encode(BinaryEncoder(), text, stop),
        lambda: start(len(text)).decode(BinaryDecoder(payload), stop),
        lambda: start(len(text)).score(text, stop),
    ):
        with pytest.raises(KeyboardInterrupt):
            work()


def test_fresh_starts_are_equal(predictor: Predictor, text: bytes) -> None:
    first = encoded(predictor, text)
    other = predictor.start(len(text))
    other.encode(BinaryEncoder(), text[::-1])
    assert encoded(predictor, text) == first


def test_fingerprint_and_parameters_make_it_again(predictor: Predictor, text: bytes) -> None:
    fingerprint = predictor.fingerprint()
    assert 4 <= len(fingerprint) <= 32
    assert predictor.fingerprint() == fingerprint
    again = registry.restore(predictor.name, predictor.version, fingerprint, predictor.parameters())
    assert again.fingerprint() == fingerprint
    assert again.parameters() == predictor.parameters()
    assert encoded(again, text) == encoded(predictor, text)


def test_score_is_what_encoding_writes(predictor: Predictor, data: bytes) -> None:
    bits = predictor.start(len(data)).score(data)
    assert bits.shape == (len(data),)
    assert (bits >= 0).all()
    written = 8 * len(encoded(predictor, data))
    assert abs(written - float(bits.sum())) <= 0.001 * float(bits.sum()) + 64


def test_code_lengths_are_worked_out_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    costs = np.random.default_rng(1).integers(1, 1 << 16, (100, 8), np.uint16)
    expected = (16 - np.log2(costs.astype(np.float64))).sum(axis=1).tolist()
    assert context_mixing.code_lengths(costs.tobytes()).tolist() == expected
    monkeypatch.setattr(context_mixing, "PIECE_BYTES", 7)
    assert context_mixing.code_lengths(costs.tobytes()).tolist() == expected
    assert context_mixing.code_lengths(b"").shape == (0,)


def test_memory_is_bounded(predictor: Predictor) -> None:
    sizes = [predictor.memory(size) for size in (1, 1000, 1 << 20, 1 << 23, 1 << 30)]
    assert all(isinstance(size, int) and size >= 0 for size in sizes)
    assert sizes == sorted(sizes)


def test_block_and_frame(predictor: Predictor, text: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "SLICE", 101)
    kind, payload = encode_block(predictor, text)
    assert decode_block(predictor, kind, payload, len(text)) == text
    packed = kolmo.compress(text, predictor=predictor, block_size=len(text) * 2 // 5, threads=2)
    assert kolmo.decompress(packed) == text


def test_levels() -> None:
    for level in range(1, 10):
        predictor = registry.for_level(level)
        assert predictor.name == ("cm" if level < 5 else "neural")
        assert registry.resolve(f"{predictor.name}:{level}").fingerprint() == predictor.fingerprint()
        assert registry.level_of(predictor.name, predictor.parameters()) == level
    for name in ("cm", "neural"):
        assert registry.resolve(name).parameters() == registry.resolve(f"{name}:5").parameters()
    assert registry.DEFAULT_LEVEL == 5
    assert registry.level_of("cm", registry.resolve("cm:7").parameters()) == 7
    assert registry.level_of("order0", b"\x04") is None


NO_SPECS = ["cm:0", "cm:10", "cm:x", "cm:-1", "nothing", "", ":", "order0:99", "order0:x"]
NO_SPECS += ["neural:4", "neural:10", "neural:x", "neural:-5", "neural:\u0665"]


@pytest.mark.parametrize("spec", NO_SPECS)
def test_specs_that_do_not_exist(spec: str) -> None:
    with pytest.raises(PredictorError, match=r"; \w+"):
        registry.resolve(spec)


def test_unknown_names_the_known() -> None:
    with pytest.raises(PredictorError, match=r"unknown predictor 'nothing'; known here: .*cm.*neural.*order0"):
        registry.resolve("nothing:1")


def test_restore_says_what_differs() -> None:
    good = Order0(4)
    restore = registry.restore
    with pytest.raises(PredictorError, match="unknown predictor 'gone'"):
        restore("gone", 1, b"abcd", b"")
    with pytest.raises(PredictorError, match="fingerprint 61626364, the one here has"):
        restore("order0", 1, b"abcd", b"\x04")
    with pytest.raises(PredictorError, match="version 9"):
        restore("order0", 9, good.fingerprint(), b"\x04")
    with pytest.raises(PredictorError, match="parameters"):
        restore("order0", 1, good.fingerprint(), b"\x63")
    for name in ("cm", "neural"):
        with pytest.raises(PredictorError, match="version"):
            restore(name, 99, b"abcd", b"\x05")
        with pytest.raises(PredictorError, match="version 1"):
            restore(name, 1, b"abcd", b"\x05")
        with pytest.raises(PredictorError, match="fingerprint 61626364, the one here has"):
            restore(name, 2, b"abcd", b"\x05")
        for parameters in (b"", b"\x00", b"\x0a", b"\xff", b"\x05\x05"):
            with pytest.raises(PredictorError, match="parameters"):
                restore(name, 2, b"abcd", parameters)


def test_version_that_restores_as_another(monkeypatch: pytest.MonkeyPatch) -> None:
    class Careless(Order0):
        version = 3

        @classmethod
        def restore(cls, version: int, parameters: bytes) -> Order0:
            return cls(parameters[0])

    monkeypatch.setitem(registry._registered, "careless", Careless)
    with pytest.raises(PredictorError, match="version 4 of predictor 'careless', newer than version 3"):
        registry.restore("careless", 4, Careless().fingerprint(), b"\x04")


def test_plugins_by_entry_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "tiny_plugin-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: tiny-plugin\nVersion: 1.0\n")
    (folder / "entry_points.txt").write_text("[kolmo.predictors]\ntiny = helpers.order0:Order0\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    assert "tiny" in registry.known()
    assert registry.resolve("tiny:3").parameters() == b"\x03"
    assert registry.restore("tiny", 1, Order0(3).fingerprint(), b"\x03").parameters() == b"\x03"
