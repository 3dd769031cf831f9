"""The contract of `predictors.base`, for every predictor that is known here, and the registry's errors."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pytest

import kolmo
from kolmo.codec import blocks
from kolmo.codec.blocks import decode_block, encode_block
from kolmo.coder.binary import BinaryDecoder, BinaryEncoder
from kolmo.container.structures import PREDICTOR_NAME
from kolmo.errors import PredictorError
from kolmo.predictors import registry
from kolmo.predictors.base import Predictor
from order0 import Order0

SPECS = ["order0:4", "order0:7", "cm:1", "cm:5", "cm:9"]
TEXT = (b"the quick brown fox jumps over the lazy dog. " * 9 + bytes(range(256)))[:600]
FIXTURES = {
    "one byte": b"\x00",
    "text": TEXT,
    "zeros": bytes(700),
    "records": b"".join(n.to_bytes(2, "little") + b"ab" for n in range(150)),
    "random": random.Random(3).randbytes(400),
}


@pytest.fixture(params=SPECS)
def predictor(request: pytest.FixtureRequest) -> Predictor:
    return registry.resolve(request.param)


def encoded(predictor: Predictor, data: bytes, cuts: list[int]) -> bytes:
    model, encoder = predictor.start(len(data)), BinaryEncoder()
    for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
        model.encode(encoder, data[start:end])
    return encoder.finish()


def decoded(predictor: Predictor, payload: bytes, size: int, cuts: list[int]) -> bytes:
    model, decoder = predictor.start(size), BinaryDecoder(payload)
    ends = zip([0, *cuts], [*cuts, size], strict=True)
    return b"".join(model.decode(decoder, end - start) for start, end in ends)


def test_is_a_predictor(predictor: Predictor) -> None:
    assert isinstance(predictor, Predictor)
    assert PREDICTOR_NAME.fullmatch(predictor.name)
    assert predictor.version >= 0


def test_every_known_predictor_is_in_the_contract() -> None:
    assert {spec.partition(":")[0] for spec in SPECS} == set(registry.known())


@pytest.mark.parametrize("data", FIXTURES.values(), ids=FIXTURES.keys())
def test_round_trip_in_any_slices(predictor: Predictor, data: bytes) -> None:
    payload = encoded(predictor, data, [])
    cuts = sorted({1, len(data) // 3, len(data) // 3 + 1, len(data) - 1} & set(range(1, len(data))))
    assert encoded(predictor, data, cuts) == payload
    assert decoded(predictor, payload, len(data), []) == data
    assert decoded(predictor, payload, len(data), cuts[::-1][:1]) == data
    assert decoded(predictor, payload, len(data), cuts) == data


def test_fresh_starts_are_equal(predictor: Predictor) -> None:
    first = encoded(predictor, TEXT, [])
    other = predictor.start(len(TEXT))
    other.encode(BinaryEncoder(), TEXT[::-1])
    assert encoded(predictor, TEXT, []) == first


def test_fingerprint_and_parameters_make_it_again(predictor: Predictor) -> None:
    fingerprint = predictor.fingerprint()
    assert 4 <= len(fingerprint) <= 32
    assert predictor.fingerprint() == fingerprint
    again = registry.restore(predictor.name, predictor.version, fingerprint, predictor.parameters())
    assert again.fingerprint() == fingerprint
    assert again.parameters() == predictor.parameters()
    assert encoded(again, TEXT, []) == encoded(predictor, TEXT, [])


@pytest.mark.parametrize("data", FIXTURES.values(), ids=FIXTURES.keys())
def test_score_is_what_encoding_writes(predictor: Predictor, data: bytes) -> None:
    bits = predictor.start(len(data)).score(data)
    assert bits.shape == (len(data),)
    assert (bits >= 0).all()
    written = 8 * len(encoded(predictor, data, []))
    assert abs(written - float(bits.sum())) <= 0.001 * float(bits.sum()) + 64
    model = predictor.start(len(data))
    parts = [*model.score(data[:7]), *model.score(data[7:])]
    assert parts == pytest.approx(bits.tolist())


def test_memory_is_bounded(predictor: Predictor) -> None:
    sizes = [predictor.memory(size) for size in (1, 1000, 1 << 20, 1 << 23, 1 << 30)]
    assert all(isinstance(size, int) and size >= 0 for size in sizes)
    assert sizes == sorted(sizes)


def test_block_and_frame(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "SLICE", 101)
    kind, payload = encode_block(predictor, TEXT)
    assert decode_block(predictor, kind, payload, len(TEXT)) == TEXT
    packed = kolmo.compress(TEXT, predictor=predictor, block_size=250, threads=2)
    assert kolmo.decompress(packed) == TEXT


def test_levels() -> None:
    assert registry.for_level(3).parameters() == registry.resolve("cm:3").parameters()
    assert registry.resolve("cm").parameters() == registry.for_level(5).parameters()
    assert registry.level_of("cm", registry.for_level(7).parameters()) == 7
    assert registry.level_of("order0", b"\x04") is None


@pytest.mark.parametrize("spec", ["cm:0", "cm:10", "cm:x", "cm:-1", "nothing", "", ":", "order0:99", "order0:x"])
def test_specs_that_do_not_exist(spec: str) -> None:
    with pytest.raises(PredictorError, match=r"; \w+"):
        registry.resolve(spec)


def test_unknown_names_the_known() -> None:
    with pytest.raises(PredictorError, match=r"unknown predictor 'nothing'; known here: .*cm.*order0"):
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
    with pytest.raises(PredictorError, match="version"):
        restore("cm", 99, b"abcd", b"\x05")
    for parameters in (b"", b"\x00", b"\x0a", b"\xff", b"\x05\x05"):
        with pytest.raises(PredictorError):
            restore("cm", registry.for_level(5).version, b"abcd", parameters)


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
    (folder / "entry_points.txt").write_text("[kolmo.predictors]\ntiny = order0:Order0\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    assert "tiny" in registry.known()
    assert registry.resolve("tiny:3").parameters() == b"\x03"
    assert registry.restore("tiny", 1, Order0(3).fingerprint(), b"\x03").parameters() == b"\x03"
