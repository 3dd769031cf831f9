"""Windows that slide, and the number of lanes that a writer chooses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kolmo.codec.limits import MEMORY_LIMIT
from kolmo.coder.binary import BinaryDecoder, BinaryEncoder
from kolmo.errors import CorruptError, PredictorError
from kolmo.predictors.language_models.backends import DROPPED_PART, FIRST_TOKENS, SlidingLanes
from kolmo.predictors.language_models.block import read_block, write_block
from kolmo.predictors.language_models.byte_sources import write_bytes
from kolmo.predictors.language_models.grids import WITHOUT
from kolmo.predictors.language_models.language_model import LANE_TOKENS, MAX_BATCH, LanguageModel
from kolmo.predictors.language_models.records import AUTO, VERSION, Record
from kolmo.predictors.language_models.vocabulary import Tokens
from kolmo.predictors.settings import RunSettings
from kolmo.varints import varint

Ids = npt.NDArray[np.int64]


class Fake:
    """A backend whose logits are the tokens in its cache."""

    slides, sums, continues = True, False, True
    size, start, window, itemsize, token_bytes = 50_000, 0, 4096, 4, 46_080
    vocabulary: Any = None

    def lanes(self, count: int, threads: int) -> Fake:
        self.cache: list[int] = []
        return self

    def feed(self, tokens: Ids, wanted: int) -> Any:
        self.cache += tokens[0].tolist()
        return self.cache[:]

    def drop(self, first: int, count: int) -> None:
        del self.cache[first : first + count]


@given(st.integers(4, 60), st.integers(0, 200), st.randoms())
def test_the_cache_depends_on_the_tokens_alone(context: int, length: int, random: Any) -> None:
    """However they are read, each token sees the same others: the first ones, and most of those before it."""
    fake, step = Fake(), context // DROPPED_PART
    one = SlidingLanes(fake, 1, 1, context)
    steps = [one.feed(np.array([[k]]), 1) for k in range(length)]
    other, at = SlidingLanes(fake, 1, 1, context), 0
    while at < length:
        count = min(random.randint(1, other.room), length - at)
        seen = other.feed(np.arange(at, at + count)[None], count)
        assert seen == steps[at + count - 1]
        at += count
    for k, seen in enumerate(steps):
        assert len(seen) <= context
        assert len(seen) > min(k, context - step)
        assert seen[: min(step, FIRST_TOKENS)] == list(range(min(k + 1, step, FIRST_TOKENS)))
        assert seen[-1] == k


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    for module in ("torch", "transformers", "safetensors"):
        pytest.importorskip(module, reason="needs pip install 'kolmo-codelength[hf]'")
    from harness.models import tiny

    return lambda name: tiny(tmp_path_factory.mktemp(name), name)


@pytest.mark.parametrize("family", ["llama", "gpt_neox"])
def test_a_cache_that_slid_is_that_of_the_tokens_left(models: Callable[[str], Path], family: str) -> None:
    """With one layer, keys and values are those of a token alone, so a fresh cache of the tokens left is the same.

    GPT-NeoX turns only a part of each key.
    """
    from kolmo.predictors.language_models.torch_models.backend import load

    backend = load(models(family), "float32")
    assert backend.slides
    inner = backend.model.model if family == "llama" else backend.model.gpt_neox
    inner.layers = inner.layers[:1]
    backend.model.config.num_hidden_layers = 1
    tokens = np.random.default_rng(1).integers(0, 90, (2, 30))
    lanes = backend.lanes(2, 1)
    lanes.feed(tokens[:, :20], 1)
    before = lanes.feed(tokens[:, 20:21], 1)
    lanes.drop(3, 8)
    lanes.feed(tokens[:, 21:26], 5)
    lanes.drop(3, 4)
    found = lanes.feed(tokens[:, 26:], 4)
    left = np.concatenate([tokens[:, :3], tokens[:, 15:]], axis=1)
    np.testing.assert_allclose(found, backend.lanes(2, 1).feed(left, 4), atol=2e-4)
    longer = np.concatenate([tokens[:, :3], tokens[:, 14:]], axis=1)
    assert np.abs(found - backend.lanes(2, 1).feed(longer, 4)).max() > 1e-2
    assert np.isfinite(before).all()


def test_which_models_slide(models: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    from kolmo.predictors.language_models.torch_models import sliding
    from kolmo.predictors.language_models.torch_models.backend import load

    assert not load(models("gpt2"), "float32").slides  # positions are learned
    assert not load(models("mistral"), "float32").slides  # has a window of its own
    assert not load(models("mamba"), "float32").slides
    backend = load(models("qwen2"), "float32")
    assert backend.slides
    monkeypatch.setattr(sliding, "CHANGING_KINDS", ("default",))
    backend.probe()
    assert not backend.slides


def test_a_window_slides_in_a_file(models: Callable[[str], Path]) -> None:
    """Written at once and read in steps; other numbers of lanes at once and of threads; a reader that cannot."""
    from kolmo.predictors.language_models.huggingface import HuggingFace

    folder = str(models("llama"))
    data = bytes(np.random.default_rng(2).integers(97, 110, 500).astype(np.uint8))
    model = HuggingFace.from_spec(folder, context=24, settings=RunSettings(batch=3))
    assert model.record.slides
    assert model.version == VERSION
    model.lanes = lambda tokens: 5  # type: ignore[method-assign]
    encoder = BinaryEncoder()
    model.start(len(data), 2).encode(encoder, data)
    payload = encoder.finish()
    settings = RunSettings(batch=2, model=folder)
    reader = HuggingFace.restore(VERSION, model.parameters(), settings)
    assert reader.start(len(data), 1).decode(BinaryDecoder(payload)) == data
    other = HuggingFace.from_spec(folder, context=24, chunk=24)
    assert not other.record.slides  # no lane is longer than the window
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(HuggingFace, "reopen", classmethod(lambda *_: without_sliding(folder)))
        with pytest.raises(PredictorError, match=r"the window of this file slides, which .* does not support"):
            HuggingFace.restore(VERSION, model.parameters(), settings)


def without_sliding(folder: str) -> Any:
    from kolmo.predictors.language_models.huggingface import HuggingFace

    model = HuggingFace.from_spec(folder, context=24)
    model.backend.frequencies = None  # type: ignore[attr-defined]
    return model


# ---- the number of lanes ----


class Model(LanguageModel):
    name = "fake"


def fake(chunk: int = AUTO, **settings: Any) -> Model:
    record = Record.of("fake", "", (b"weights8", b"config88", b"tokeniz8"), "float32", 4096, chunk, memory=20)
    return Model(Fake(), record, settings=RunSettings(**settings))


def test_short_texts_are_one_lane_and_long_ones_fill_a_batch() -> None:
    model = fake(batch=16)
    assert [model.lanes(n) for n in (0, 1, LANE_TOKENS, LANE_TOKENS + 1)] == [0, 1, 1, 2]
    assert model.lanes(1 << 30) == 16
    assert model.batch(model.lanes(1 << 30)) == 16
    assert model.record.lanes == 16
    assert [fake(chunk=100).lanes(n) for n in (0, 1, 100, 101, 10_000)] == [0, 1, 1, 2, 100]
    small = fake()
    assert 1 < small.most_lanes() < MAX_BATCH  # as many as a gibibyte of keys and values holds


def test_what_is_written_at_defaults_is_read_at_defaults() -> None:
    """Blocks of 8 MiB under the limit of memory; a short file needs little."""
    for chunk in (AUTO, 4096):
        assert fake(chunk).memory(8 << 20) + (8 << 20) < MEMORY_LIMIT
    assert fake().memory(2000) < 400 << 20
    assert fake().memory(1 << 20) <= fake().memory(8 << 20)


def test_a_block_says_how_many_lanes_it_has() -> None:
    tokens = Tokens(np.arange(7, dtype=np.int32), ())
    lengths = fake().start(7).coder.lengths
    for payloads in ([b"a"], [b"a", b"bc", b""]):
        encoder = BinaryEncoder()
        write_block(encoder, tokens, WITHOUT, payloads, counted=True)
        found = read_block(BinaryDecoder(encoder.finish()), 9, lengths, counted=True)
        assert found.payloads == payloads
        assert sum(found.lengths) == 7
        assert len(found.lengths) == len(payloads)
    for chunks, message in ((0, "7 tokens in no chunk"), (8, "larger than 7")):
        encoder = BinaryEncoder()
        write_bytes(encoder, varint(7) + varint(chunks) + WITHOUT.to_bytes() + bytes(40))
        with pytest.raises(CorruptError, match=message):
            read_block(BinaryDecoder(encoder.finish()), 9, lengths, counted=True)


def test_records_of_each_version() -> None:
    record = Record.of("m", "", (b"weights8", b"config88", b"tokeniz8"), "float32", 4096, 4096)
    versions = {
        1: record,
        2: replace(record, memory=20, lanes=5),
        3: replace(record, context=2048, chunk=AUTO, slides=True),
    }
    for version, one in versions.items():
        assert one.version == version
        packed = one.to_bytes()
        assert len(packed) == 5 + len("m") + 2 * (version == 2)
        assert replace(Record.from_bytes(packed, version), rest=record.rest) == one
    with pytest.raises(ValueError, match="damaged, or from a newer version"):
        Record.from_bytes(versions[2].to_bytes(), 1)
    for context, chunk, slides in ((4096, AUTO, True), (4096, 9000, True), (0, AUTO, False), (4096, AUTO, False)):
        one = replace(record, context=context, chunk=chunk, slides=slides, memory=20, lanes=7)
        assert one.version == VERSION
        assert replace(Record.from_bytes(one.to_bytes(), VERSION), rest=record.rest) == one
    none = replace(record, context=3, chunk=AUTO, slides=True)
    with pytest.raises(ValueError, match="damaged"):
        Record.from_bytes(none.to_bytes(), VERSION)
