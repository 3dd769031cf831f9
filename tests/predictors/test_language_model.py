"""Language models as compressors: a small one of our own without any library, then transformers' families."""

from __future__ import annotations

import contextlib
import inspect
import json
import math
import shutil
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

import golden
import kolmo
from kolmo.cli import main
from kolmo.codec.blocks import decode_block, encode_block
from kolmo.coder.binary import BinaryDecoder, BinaryEncoder
from kolmo.container.structures import CODED
from kolmo.errors import CorruptError, KolmoError, MissingExtraError, PredictorError
from kolmo.predictors import model_locations, registry
from kolmo.predictors.language_models import grids
from kolmo.predictors.language_models.backends import Logits
from kolmo.predictors.language_models.block import LanguageModelBlock
from kolmo.predictors.language_models.chunks import ChunkCoder, segments
from kolmo.predictors.language_models.language_model import LanguageModel
from kolmo.predictors.language_models.records import Record
from kolmo.predictors.language_models.vocabulary import Tokens
from kolmo.predictors.settings import DEFAULT_SETTINGS, RunSettings
from kolmo.report import explain

TEXT = (
    b"The cat sat on the mat, and the dog sat by the cat; then the mat was full. Nobody asked the mat what it thought "
    b"of all that, for mats are not asked. So it lay there, flat and patient, and dreamt of floors that had no cats.\n"
) * 3
Noise = Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]]


@pytest.fixture(autouse=True)
def no_model_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_locations, "index", lambda: tmp_path / "cache" / "models.json")


# ---- a language model of our own: two bytes of context, float64 ----


class Bytes:
    """A vocabulary of single bytes below 250: the rest are literals."""

    size = 256
    table_hash = b"testbyte"

    def tokenise(self, data: bytes) -> Tokens:
        ids: list[int] = []
        literals: list[tuple[int, bytes]] = []
        run = b""
        for byte in data:
            if byte >= 250:
                run += bytes([byte])
                continue
            if run:
                literals.append((len(ids), run))
                run = b""
            ids.append(byte)
        if run:
            literals.append((len(ids), run))
        return Tokens(np.array(ids, np.int32), tuple(literals))

    def join(self, tokens: Tokens) -> bytes:
        out, before = b"", 0
        for place, literal in tokens.literals:
            if place > len(tokens.ids):
                raise CorruptError("no such place")
            out += bytes(tokens.ids[before:place].astype(np.uint8)) + literal
            before = place
        return out + bytes(tokens.ids[before:].astype(np.uint8))

    def bytes_of(self, token: int) -> bytes:
        return bytes([token])

    def kinds(self, size: int) -> bytes:
        return bytes(size)

    def lengths(self, ids: npt.ArrayLike) -> npt.NDArray[np.int64]:
        return np.ones(np.shape(ids), np.int64)


class Markov:
    """Logits from the last two tokens; `noise` is what this machine adds."""

    vocabulary: Any = Bytes()
    size = 256
    start = 10
    window: int | None = None
    itemsize = 8
    continues = True
    sums = False
    slides = False
    token_bytes = 1

    def __init__(self, noise: Noise | None = None) -> None:
        table = np.random.default_rng(1).standard_normal((512, 256)) * 2
        for a, b, c in zip(TEXT, TEXT[1:], TEXT[2:]):  # noqa: B905
            table[(3 * a + b) % 512, c] += 1.5
        self.table = table
        self.noise = noise

    def lanes(self, count: int, threads: int) -> MarkovLanes:
        return MarkovLanes(self, count)


class MarkovLanes:
    def __init__(self, backend: Markov, count: int) -> None:
        self.backend = backend
        self.last = np.zeros(count, np.int64)

    def feed(self, tokens: npt.NDArray[np.int64], wanted: int) -> Logits:
        rows = []
        for column in tokens.T:
            rows.append(self.backend.table[(3 * self.last + column) % 512])
            self.last = column
        logits = np.stack(rows[-wanted:], axis=1)
        return np.ascontiguousarray(self.backend.noise(logits) if self.backend.noise else logits)


class Ours(LanguageModel):
    name = "ours"


def ours(
    noise: Noise | None = None,
    context: int = 40,
    chunk: int = 100,
    tolerance: str | float = "auto",
    settings: RunSettings = DEFAULT_SETTINGS,
) -> Ours:
    record = Record.of("ours", "", (b"weights8", b"config88", b"tokeniz8"), "float64", context, chunk)
    return Ours(Markov(noise), record, tolerance, settings)


def pack(writer: LanguageModel, data: bytes, threads: int = 1) -> bytes:
    """A block's payload, also where it is larger than the data: models with random weights predict nothing."""
    encoder = BinaryEncoder()
    writer.start(len(data), threads).encode(encoder, data)
    return encoder.finish()


def unpack(reader: LanguageModel, payload: bytes, size: int, threads: int = 1) -> bytes:
    return reader.start(size, threads).decode(BinaryDecoder(payload))


def round_trip(writer: LanguageModel, reader: LanguageModel, data: bytes) -> bytes:
    payload = pack(writer, data)
    assert unpack(reader, payload, len(data)) == data
    return payload


@given(st.integers(0, 300), st.integers(4, 60) | st.just(0))
def test_segments_cover_each_token_once(length: int, context: int) -> None:
    found = list(segments(length, context))
    assert [k for s in found for k in range(s.first, s.last)] == list(range(length))
    for s in found:
        assert 0 <= s.context <= s.first < s.last
        read = 1 + s.last - 1 - s.context
        assert not context or read <= context
        assert s.first == 0 or s.first - s.context == min(context // 2, s.first)


@pytest.mark.parametrize("context", [0, 4, 5, 40])
@pytest.mark.parametrize("chunk", [1, 7, 100, 10000])
def test_cuts_and_batches(context: int, chunk: int) -> None:
    payloads = set()
    for batch in (1, 3, 0):
        one, other = (ours(context=context, chunk=chunk, settings=RunSettings(batch=batch)) for _ in range(2))
        payloads.add(round_trip(one, other, TEXT))
    assert len(payloads) == 1  # this model computes the same in any batch


@given(data=st.binary(min_size=1, max_size=300))
@examples(max_examples=60, deadline=None)
def test_any_bytes(data: bytes) -> None:
    packed = kolmo.compress(data, predictor=ours())
    block = ours().start(len(data))
    assert block.score(data).shape == (len(data),)
    kind, payload = encode_block(ours(), data)
    assert decode_block(ours(), kind, payload, len(data)) == data
    assert len(packed) < len(data) + 120


def test_what_is_scored_is_written() -> None:
    for chunk in (50, 1000):
        payload = pack(ours(chunk=chunk, settings=RunSettings(verify=False)), TEXT)
        scored = ours(chunk=chunk).start(len(TEXT)).score(TEXT).sum() / 8
        head = 8 + 3 * -(-len(TEXT) // chunk)  # numbers, tolerance; the size and the last bytes of each lane
        assert scored * 0.999 - 2 < len(payload) < scored * 1.001 + head


class Counting(Markov):
    """Counts the tokens that it is fed."""

    def __init__(self) -> None:
        super().__init__()
        self.fed = 0

    def lanes(self, count: int, threads: int) -> MarkovLanes:
        return CountingLanes(self, count)


class CountingLanes(MarkovLanes):
    def feed(self, tokens: npt.NDArray[np.int64], wanted: int) -> Logits:
        cast("Counting", self.backend).fed += tokens.size
        return super().feed(tokens, wanted)


@pytest.fixture
def no_coding(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever codes a block, decodes one or measures noise fails."""

    def never(self: object, *arguments: Any, **named: Any) -> None:
        raise AssertionError("only scores are wanted")

    for owner, names in ((LanguageModelBlock, ("encode", "decode", "noise")), (ChunkCoder, ("encode", "decode"))):
        for name in names:
            monkeypatch.setattr(owner, name, never)


@pytest.mark.usefixtures("no_coding")
@pytest.mark.parametrize("data", [TEXT, TEXT[:300] + bytes([255, 251]) * 9 + TEXT, b"\xff", b"x"])
def test_explaining_takes_one_pass(data: bytes) -> None:
    """A token each, no archive: the costs are those of `score`, and the page says what it does not know."""
    backend = Counting()
    model = Ours(backend, replace(ours().record, context=0, chunk=100))
    found = explain(data, model)
    tokens = backend.vocabulary.tokenise(data).ids
    assert len(tokens) <= backend.fed <= len(tokens) + len(tokens) // 100  # lanes are filled up to one length
    np.testing.assert_array_equal(found.costs, ours(context=0).start(len(data)).score(data))
    assert found.totals.bits == pytest.approx(found.costs.sum())
    assert not found.totals.measured
    assert not found.record()["archive_measured"]
    assert "archive, estimated" in found.html()
    assert "what the arithmetic coder wrote" not in found.html()


def test_an_estimated_archive_says_what_a_file_takes_more() -> None:
    for dtype, tolerance, more in (
        ("float32", "auto", True),
        ("float64", "auto", False),
        ("float32", "0", False),
        ("float64", 1e-3, True),
    ):
        model = Ours(Markov(), replace(ours().record, dtype=dtype), tolerance)
        assert ("tolerates the noise of other machines" in explain(TEXT, model).html()) is more
    measured = explain(TEXT, ours(), measure=True)
    assert measured.totals.measured
    assert measured.totals.archive_size == len(kolmo.compress(TEXT, predictor=ours()))
    estimate = explain(TEXT, ours()).totals
    assert estimate.container_size == measured.totals.container_size
    lanes = -(-len(TEXT) // 100)
    assert 0 <= measured.totals.archive_size - estimate.archive_size <= 8 + 3 * lanes


def shift(bound: float) -> Noise:
    """The worst noise of at most `bound` that a test can think of: half of the vocabulary up, half down."""
    rng = np.random.default_rng(7)
    return lambda logits: logits + rng.choice([-bound, bound], logits.shape) + rng.standard_normal()


@pytest.mark.parametrize("bound", [1e-12, 1e-6, 1e-4, 1e-3])
def test_noise_up_to_the_bound_does_no_harm(bound: float) -> None:
    writer = ours(tolerance=bound)
    for seed in range(3):
        np.random.default_rng(seed)
        round_trip(writer, ours(shift(bound * 0.999)), TEXT * 2)


def test_noise_beyond_the_bound_is_an_error_that_names_the_block(monkeypatch: pytest.MonkeyPatch) -> None:
    packed = kolmo.compress(TEXT * 4, predictor=ours(tolerance=1e-9), block_size=len(TEXT))

    def restore(version: int, parameters: bytes, settings: RunSettings) -> Ours:
        return ours(shift(0.05))

    monkeypatch.setattr(Ours, "restore", restore)
    monkeypatch.setitem(registry._registered, "ours", Ours)
    with pytest.raises(CorruptError, match=r"damaged: block 1: .*\(or this machine computes ours with more noise"):
        kolmo.decompress(packed)


def stepping(logits: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Noise, beyond what any test tolerates, of calls that read one token; the same in each call of the same tokens."""
    return logits + (0.02 * np.sin(1e6 * logits) if logits.shape[1] == 1 else 0)


def test_with_verification_the_encoder_takes_the_decoders_way() -> None:
    """So it computes what a decoder here does, however far that is from the batched pass."""
    here = ours(stepping, chunk=100)
    assert unpack(here, pack(ours(stepping, chunk=100, tolerance=0), TEXT), len(TEXT)) == TEXT
    fast = pack(ours(stepping, chunk=100, tolerance=0, settings=RunSettings(verify=False)), TEXT)
    with suppress(CorruptError):
        assert unpack(here, fast, len(TEXT)) != TEXT
    assert unpack(ours(), fast, len(TEXT)) == TEXT  # the batched pass is that of a model without noise


@pytest.mark.parametrize("memory", [0, 8])
@pytest.mark.parametrize("at_once", [0, 2])
def test_encoder_and_decoder_make_the_same_calls(memory: int, at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lanes that are made, and tokens that they read: in windows, groups of lanes, and calls for some of these."""
    calls: list[Any] = []
    honest = MarkovLanes.feed

    def lanes(self: Markov, count: int, threads: int) -> MarkovLanes:
        calls.append((count, threads))
        return MarkovLanes(self, count)

    def feed(self: MarkovLanes, tokens: npt.NDArray[np.int64], wanted: int) -> Logits:
        calls.append((tokens.tolist(), wanted))
        return honest(self, tokens, wanted)

    monkeypatch.setattr(Markov, "lanes", lanes)
    monkeypatch.setattr(MarkovLanes, "feed", feed)
    ids = np.frombuffer(TEXT, np.uint8).astype(np.int32)
    coder = ChunkCoder(
        Markov(),
        40,
        lambda tokens: -(-tokens // 100),
        lambda chunks: min(chunks, 3),
        1,
        1 << memory if memory else 0,
        at_once,
    )
    chunks = coder.split(ids)
    assert len(chunks) > 4
    payloads, chosen, _ = coder.encode(chunks, grids.tolerance(1e-6, 8), None, stepped=True)
    written = calls.copy()
    calls.clear()
    decoded = coder.decode(payloads, list(map(len, chunks)), chosen, None)
    assert np.array_equal(np.concatenate(decoded), ids)
    assert calls == written


def test_measured_noise_is_that_of_decisions() -> None:
    ids = [np.frombuffer(TEXT[:90], np.uint8).astype(np.int32)] * 3
    upper = np.arange(256) >= 128

    def one_at_a_time(logits: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return logits + (1e-5 * upper - 3.0 if logits.shape[1] == 1 else 0)  # a shift of all changes nothing

    noise = ours(one_at_a_time).start(len(TEXT)).noise(ids)
    assert noise == pytest.approx(1e-5, rel=1e-6)  # of the first decision, by as much as its side was raised
    noise = ours(shift(1e-5)).start(len(TEXT)).noise(ids)
    assert 1e-5 < noise < 4.001e-5  # two ways, each off by up to twice the bound
    assert ours().start(len(TEXT)).noise(ids) == 0


def test_a_span_that_no_choice_serves_is_made_shorter(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = grids.tolerance
    monkeypatch.setattr(grids, "tolerance", lambda noise, itemsize: replace(honest(noise, itemsize), span=5))
    model = ours(tolerance=2e-3, settings=RunSettings(verify=False))
    payload = pack(model, TEXT)
    assert unpack(ours(), payload, len(TEXT)) == TEXT
    assert unpack(ours(shift(1.9e-3)), payload, len(TEXT)) == TEXT
    monkeypatch.setattr(grids, "tolerance", lambda noise, itemsize: replace(honest(noise, itemsize), slack=2.0))
    with pytest.raises(
        PredictorError, match="no choice of grids allows a tolerance of 1 in the logits here; lower the argument"
    ):
        pack(model, TEXT)


def test_numbers_that_are_none() -> None:
    with pytest.raises(PredictorError, match="not finite; try dtype='float32'"):
        pack(ours(lambda logits: logits * math.nan), TEXT)


@given(st.binary(max_size=200), st.integers(1, 400))
@examples(max_examples=150, deadline=None)
def test_hostile_payloads_end(payload: bytes, size: int) -> None:
    with contextlib.suppress(CorruptError):
        assert len(decode_block(ours(), CODED, payload, size)) == size


def test_damage_is_found() -> None:
    data = TEXT + bytes(range(240, 256)) * 3
    kind, payload = encode_block(ours(), data)
    for at in range(0, len(payload), 7):
        bad = bytearray(payload)
        bad[at] ^= 16
        try:
            found = decode_block(ours(), kind, bytes(bad), len(data))
        except CorruptError:
            continue
        assert len(found) == len(data)  # another content, which the block's digest refuses
    for cut in (0, 1, 5, len(payload) // 2):
        with pytest.raises(CorruptError):
            decode_block(ours(), kind, payload[:cut], len(data))


def test_random_data_is_stored_at_once() -> None:
    def asked(logits: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        raise AssertionError

    data = np.random.default_rng(1).bytes(1 << 17)
    kind, payload = encode_block(ours(asked), data)
    assert payload == data
    assert kind != CODED


@pytest.mark.parametrize("revision", ["", "0123456789" * 4, "main", "A" * 40])
@pytest.mark.parametrize("sizes", [(4096, 4096), (1024, 4096), (0, 1), (4096, 0), (0, 0), (1024, 0)])
def test_records(revision: str, sizes: tuple[int, int]) -> None:
    hashes = b"weights8", b"config88", b"tokeniz8"
    record = Record.of("some/model", revision, hashes, "bfloat16", *sizes, way=2)
    packed = record.to_bytes()
    assert replace(Record.from_bytes(packed, record.version), rest=record.rest) == record
    assert Record.from_bytes(packed + b"0", record.version).spec == "some/model0"
    strange = packed[:-1] + b"\xff"  # a name that is no text
    for bad in (b"", packed[:4], strange, b"\xff" * 40, bytes([packed[0] | 128]) + packed[1:]):
        with pytest.raises((ValueError, CorruptError)):
            Record.from_bytes(bad, record.version)


def test_a_record_is_short_and_says_what_differs() -> None:
    hashes = b"weights8", b"config88", b"tokeniz8"
    record = Record.of("model", "", hashes, "float32", 4096, 4096)
    assert len(record.to_bytes()) + len(record.rest) == 9 + len("model")
    assert record.differences(record) == []
    for k, part in enumerate(("weights", "configuration", "tokenizer")):
        other = Record.of("model", "", tuple(b"x" + h if j == k else h for j, h in enumerate(hashes)), "float32", 1, 1)  # type: ignore[arg-type]
        there = hashes[k][:1].hex()
        assert record.differences(other) == [f"its {part} (hash 78... here, {there}... in the file)"]
        assert other.rest != record.rest
    like = Record.of("model", "", (b"weights9", *hashes[1:]), "float32", 1, 1)  # with the same first byte
    assert record.differences(like) == ["part of it"]
    packed = kolmo.compress(b"a" * 9, predictor=ours())
    assert len(packed) < 9 + 35 + 9 + len("ours") + 2  # container, marks, name, sizes that are not the usual ones


# ---- transformers ----

FAMILIES = ("llama", "gpt2", "gpt_neox", "mamba", "rwkv", "qwen2", "mistral")


def test_model_locations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_locations, "MAX_LOCATIONS", 3)
    for k in range(5):
        (tmp_path / str(k)).mkdir()
        model_locations.remember(bytes([k] * 4), tmp_path / str(k))
    assert [model_locations.recall(bytes([k] * 4)) is not None for k in range(5)] == [False, False, True, True, True]
    (tmp_path / "4").rmdir()
    assert model_locations.recall(bytes([4] * 4)) is None
    for broken in ("[]", "{", '{"03030303": 3}'):
        (tmp_path / "cache" / "models.json").write_text(broken)
        assert model_locations.recall(bytes([3] * 4)) is None
    blocked = tmp_path / "file"
    blocked.write_bytes(b"")
    monkeypatch.setattr(model_locations, "index", lambda: blocked / "models.json")
    model_locations.remember(bytes(4), tmp_path)  # nothing to write to: no error
    assert model_locations.recall(bytes(4)) is None


def hugging_face(folder: Path, **options: Any) -> Any:
    from kolmo.predictors.language_models.huggingface import HuggingFace

    return HuggingFace.from_spec(str(folder), **options)


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    for module in ("torch", "transformers", "safetensors"):
        pytest.importorskip(module, reason="needs pip install 'kolmo-codelength[hf]'")
    from harness.models import stories, tiny

    made: dict[str, Path] = {}

    def model(name: str) -> Path:
        if name not in made:
            folder = tmp_path_factory.mktemp(name)
            made[name] = stories(folder) if name == "stories" else tiny(folder, name)
        return made[name]

    return model


STORY = (
    b"Once upon a time, there was a little girl named Lily. She loved to play outside in the park. One day, she saw a "
    b"big, red ball. She wanted to play with it, but it was too high. Lily's mom said, \"Lily, let's go to the park.\" "
    b'Lily was sad and didn\'t know what to do. She asked her mom, "Can I have the ball, please?" Her mom said yes. '
    b"Lily was happy.\n"
)


class Renamed:
    """A model whose cache goes by another name, as in other versions of transformers; without one, it has no cache."""

    def __init__(self, model: Any, name: str, remembers: bool = True) -> None:
        self.model, self.name, self.remembers = model, name, remembers
        names = ["input_ids", *([name] if name else [])]
        forward: Any = lambda **given: self(**given)  # noqa: E731
        forward.__signature__ = inspect.Signature(
            [inspect.Parameter(each, inspect.Parameter.KEYWORD_ONLY) for each in names]
        )
        self.forward = forward

    def __call__(self, **given: Any) -> Any:
        own = {"cache": given.pop(self.name)} if self.name in given else {}
        assert not {"cache", "past_key_values", "cache_params", "state"} & set(given), "a name that it does not have"
        out = self.model(**given, **(own if self.remembers else {}))
        return Found(logits=out.logits, **({self.name: out["cache"]} if self.name and given["use_cache"] else {}))


class Found(dict[str, Any]):
    """An output, by keys and by attributes."""

    __getattr__ = dict.__getitem__


@pytest.mark.parametrize("name", ["cache", "past_key_values", "cache_params", "state"])
def test_every_name_of_a_cache(models: Callable[[str], Path], name: str) -> None:
    from kolmo.predictors.language_models.torch_models.backend import cache_name, load

    backend = load(models("llama"), "float32")
    tokens = np.arange(6, dtype=np.int64)[None]
    wanted = backend.lanes(1, 1).feed(tokens, 6)
    assert cache_name(backend.model) in ("cache", "past_key_values")
    backend.model = Renamed(backend.model, name)
    backend.probe()
    assert backend.cache == name
    lanes = backend.lanes(1, 1)
    steps = [lanes.feed(tokens[:, k : k + 1], 1) for k in range(6)]
    np.testing.assert_allclose(np.concatenate(steps, 1), wanted, atol=1e-4)


@pytest.mark.parametrize(("name", "remembers"), [("", False), ("cache", False)])
def test_a_cache_that_does_not_work_is_refused(models: Callable[[str], Path], name: str, remembers: bool) -> None:
    from kolmo.predictors.language_models.torch_models.backend import load

    backend = load(models("llama"), "float32")
    backend.model = Renamed(backend.model, name, remembers)
    with pytest.raises(PredictorError, match=r"has no cache that works here; install .* transformers==[0-9.]+$"):
        backend.probe()


@pytest.mark.parametrize("family", FAMILIES)
def test_written_in_one_batch_read_in_another(models: Callable[[str], Path], family: str) -> None:
    """Two threads and 32 lanes against one thread and 8: the same bytes come back, for every architecture."""
    data = (STORY + bytes(range(256)) + "naïve ﬁn — \u2028 e\u0301".encode() + b"\xff\xfe\x00") * 2
    model = hugging_face(models(family), chunk=40, context=24)
    model.settings = RunSettings(batch=32)
    payload = pack(model, data, threads=2)
    model.settings = RunSettings(batch=8)
    assert unpack(model, payload, len(data), threads=1) == data


@pytest.mark.parametrize("family", ["llama", "mamba", "rwkv"])
def test_noise_in_every_logit(models: Callable[[str], Path], family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from kolmo.predictors.language_models.torch_models.backend import HuggingFaceLanes

    model = hugging_face(models(family), chunk=64, tolerance=1e-4)
    payload = pack(model, STORY)
    rng = np.random.default_rng(3)
    honest = HuggingFaceLanes.feed
    bound = 0.0

    def noisy(self: HuggingFaceLanes, tokens: Any, wanted: int) -> Logits:
        logits = honest(self, tokens, wanted)
        return np.asarray(logits + rng.choice([-bound, bound], logits.shape), np.float32)

    monkeypatch.setattr(HuggingFaceLanes, "feed", noisy)
    bound = 0.9e-4  # and the rest is the model's own
    assert unpack(model, payload, len(STORY)) == STORY
    bound = 0.3
    with contextlib.suppress(CorruptError):
        assert unpack(model, payload, len(STORY)) != STORY


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_sums_of_a_device(models: Callable[[str], Path], device: str) -> None:
    """What a GPU does, by torch: sums of masses instead of rows. Each way reads what the other wrote."""
    torch = pytest.importorskip("torch")
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    host = hugging_face(models("stories"), chunk=30, tolerance=1e-4)
    settings = RunSettings(device=device)
    there = hugging_face(models("stories"), chunk=30, tolerance=1e-4, settings=settings)
    there.backend.sums = True
    for writer, reader in ((host, there), (there, host), (there, there)):
        assert unpack(reader, pack(writer, STORY), len(STORY)) == STORY


def test_written_is_scored(models: Callable[[str], Path]) -> None:
    data = b"".join(hugging_face(models("stories")).continuation(b"", 6000, *chance()))
    exact = hugging_face(models("stories"), dtype="float64", settings=RunSettings(verify=False))
    scored = exact.start(len(data)).score(data).sum() / 8
    lanes = exact.lanes(len(exact.backend.vocabulary.tokenise(data).ids))
    _, payload = encode_block(exact, data)
    assert scored * 0.999 < len(payload) <= scored * 1.001 + 4 + 4 * lanes
    tolerant = hugging_face(models("stories"))
    _, payload = encode_block(tolerant, data)
    assert len(payload) <= scored * 1.01 + 4 + 4 * lanes


def chance() -> tuple[Any, Any]:
    from kolmo.predictors.choice import Choice, Randomness

    return Randomness(1), Choice()


def test_files_open_without_flags(
    models: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    source, packed = tmp_path / "story.txt", tmp_path / "story.txt.kmo"
    source.write_bytes(STORY)
    folder = models("stories")
    run("compress", "-v", "-m", f"hf:{folder}", "--chunk", "50", source)
    assert "times the noise of" in capsys.readouterr().err
    run("test", packed)
    run("decompress", "-o", tmp_path / "out", "-T", "1", "--batch-size", "3", packed)
    assert (tmp_path / "out").read_bytes() == STORY
    assert packed.stat().st_size < len(STORY) / 3 + 30
    run("list", "-v", packed)
    assert f"{folder.name}, hash " in capsys.readouterr().out

    assert str(folder).encode() not in packed.read_bytes()  # a path is nobody's business
    model_locations.index().unlink()
    run("test", packed, status=1)
    assert "is not known on this machine; give its folder with --model" in capsys.readouterr().err
    moved = tmp_path / "moved"
    shutil.copytree(folder, moved)
    run("test", "--model", moved, packed)
    for name, change, word in (
        ("model.safetensors", flip, "weights"),
        ("config.json", other_eps, "configuration"),
        ("tokenizer.json", other_token, "tokenizer"),
    ):
        other = tmp_path / word
        shutil.copytree(folder, other)
        change(other / name)
        run("test", "--model", other, packed, status=1)
        message = capsys.readouterr().err
        assert f"is not the model that wrote this file: its {word} (hash" in message
        assert message.count("(hash") == 1
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    model_locations.index().unlink()
    run("test", "--model", tmp_path / "nowhere", packed, status=1)
    assert "no such folder" in capsys.readouterr().err


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)


def other_eps(path: Path) -> None:
    config = json.loads(path.read_text())
    path.write_text(json.dumps({**config, "rms_norm_eps": 2e-5}))


def other_token(path: Path) -> None:
    content = json.loads(path.read_text("utf-8"))
    words = content["model"]["vocab"]
    words["e"], words["t"] = words["t"], words["e"]
    path.write_text(json.dumps(content), "utf-8")


def run(*arguments: object, status: int = 0) -> None:
    with pytest.raises(SystemExit) as end:
        main([str(argument) for argument in arguments])
    assert end.value.code == status


def test_options_that_no_file_takes(models: Callable[[str], Path], capsys: pytest.CaptureFixture[str]) -> None:
    run("compress", "--dtype", "float64", "x", status=2)
    assert "is for language models" in capsys.readouterr().err
    run("compress", "-m", "cm:3", "--context", "50", "x", status=2)
    assert "takes no context" in capsys.readouterr().err
    run("compress", "--tolerance", "much", "x", status=2)
    run("compress", "-m", "hf:/no/such", "x", status=1)
    assert "no such folder" in capsys.readouterr().err
    run("compress", "-m", f"hf:{models('gpt2')}", "--context", "5000", "x", status=1)
    assert "has a context window of 128 tokens; lower --context" in capsys.readouterr().err


def test_models_that_are_none(models: Callable[[str], Path], tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(PredictorError, match=r"no config\.json in it; save the model"):
        hugging_face(empty)
    broken = tmp_path / "broken"
    shutil.copytree(models("gpt2"), broken)
    (broken / "model.safetensors").write_bytes(b"\xff" * 100)
    with pytest.raises(PredictorError, match="not a safetensors file, or damaged"):
        hugging_face(broken)
    (broken / "model.safetensors").unlink()
    with pytest.raises(PredictorError, match=r"no model\.safetensors or model\.safetensors\.index\.json in it"):
        hugging_face(broken)
    with pytest.raises(PredictorError, match="dtype 'int4'"):
        hugging_face(models("gpt2"), dtype="int4")


@pytest.mark.parametrize("path", golden.find("models/*.kmo"), ids=lambda path: path.stem)
def test_golden_files_open(models: Callable[[str], Path], path: Path) -> None:
    """Files of version 1 of `hf`, written in float64: whatever the machine, the model opens them."""
    settings = RunSettings(model=str(models("stories")))
    assert kolmo.decompress(path.read_bytes(), settings=settings) == path.with_suffix(".raw").read_bytes()


def test_weights_are_known_by_their_tensors(models: Callable[[str], Path], tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    from kolmo.predictors.language_models.torch_models.hashes import hash_tensors

    whole = models("stories") / "model.safetensors"
    tensors = load_file(whole)
    names = sorted(tensors)
    parts = [tmp_path / "1.safetensors", tmp_path / "2.safetensors"]
    save_file({name: tensors[name] for name in names[::2]}, parts[0], {"made": "by a test"})
    save_file({name: tensors[name] for name in names[1::2]}, parts[1])
    assert hash_tensors(parts) == hash_tensors(parts[::-1]) == hash_tensors([whole])
    tensors[names[0]] = tensors[names[0]] * 2
    save_file(tensors, parts[0])
    assert hash_tensors(parts[:1]) != hash_tensors([whole])
    for bad in (b"", b"\xff" * 20, b"\x02" + bytes(7) + b"[]", b"\x09" + bytes(7) + b'{"a": {}}'):
        parts[0].write_bytes(bad)
        with pytest.raises(PredictorError, match="not a safetensors file"):
            hash_tensors(parts[:1])


def test_missing_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'kolmo-codelength\[hf\]'"):
        hugging_face(tmp_path)
    run("test", "--model", tmp_path, golden.RELEASE / "models" / "v1-hf-story.kmo", status=1)
    assert "v1-hf-story.kmo: hf models need torch" in capsys.readouterr().err
    for verb in ("compress", "explain", "sample"):
        run(verb, "-m", f"hf:{tmp_path}", *(["x"] if verb != "sample" else []), status=1)
        assert "kolmo: hf models need torch; pip install 'kolmo-codelength[hf]'" in capsys.readouterr().err


def test_sampling(models: Callable[[str], Path]) -> None:
    text = kolmo.sample(b"Once upon a time, there was", predictor=f"hf:{models('stories')}", size=60, temperature=0)
    assert text.startswith(b" a little")
    long = kolmo.sample(b"", predictor=f"hf:{models('llama')}", size=400, seed=2)  # beyond its window
    assert len(long) >= 1


def test_streams(models: Callable[[str], Path], tmp_path: Path) -> None:
    model = hugging_face(models("gpt2"), chunk=30)
    path = tmp_path / "a.kmo"
    with kolmo.open(path, "wb", predictor=model, block_size=300, threads=2) as file:
        file.write(STORY)
    with kolmo.open(path, "rb") as file:
        file.seek(350)
        assert file.read(20) == STORY[350:370]
    assert isinstance(registry.resolve("ours") if "ours" in registry.known() else model, LanguageModel)
    assert issubclass(MissingExtraError, KolmoError)
    assert LanguageModel.version == 3


@pytest.mark.usefixtures("no_coding")
def test_explaining_with_a_model_of_transformers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command, with a real model: as many tokens are fed as the text has."""
    pytest.importorskip("transformers", reason="pip install 'kolmo-codelength[hf]'")
    from harness.models import stories
    from kolmo.predictors.language_models.torch_models import backend as torch_backend

    folder = stories(tmp_path / "stories")
    text = b"Once upon a time, there was a little girl named Lily. She loved to play outside in the park.\n" * 9
    (tmp_path / "story.txt").write_bytes(text)
    model = registry.resolve(f"hf:{folder}")
    wanted = model.start(len(text)).score(text)
    tokens = cast(LanguageModel, model).backend.vocabulary.tokenise(text).ids
    fed: list[int] = []
    feed = torch_backend.HuggingFaceLanes.feed

    def counted(self: Any, part: npt.NDArray[np.int64], count: int) -> Logits:
        fed.append(part.size)
        return feed(self, part, count)

    monkeypatch.setattr(torch_backend.HuggingFaceLanes, "feed", counted)
    found = explain(text, model)
    assert sum(fed) == len(tokens) > 200
    np.testing.assert_allclose(found.costs, wanted, atol=1e-3)
    run("explain", "-m", f"hf:{folder}", tmp_path / "story.txt")
    page = (tmp_path / "story.txt.html").read_text("utf-8")
    assert "archive, estimated" in page
    assert "about 1 %" in page
