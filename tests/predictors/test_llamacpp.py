"""Models in GGUF files: their texts come back, whatever the batch; what they say is what other programs say."""

from __future__ import annotations

import ctypes
import importlib
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

pytest.importorskip("llama_cpp", reason="GGUF models need llama-cpp-python: pip install 'kolmo-codelength[gguf]'")
pytest.importorskip("gguf", reason="GGUF files are made here with gguf: pip install gguf")
pytest.importorskip("tokenizers", reason="a tokenizer is made here with tokenizers: pip install 'kolmo-codelength[hf]'")

import kolmo
from harness.models import STORIES
from harness.models import stories as stories_folder
from helpers.gguf_made import ADDED, BYTES, CONTEXT, CONTROL, SPECIAL, byte_level_facts, mamba, spm_words, stories, tiny
from helpers.tokenizers_made import TEXT, byte_level
from kolmo.coder.binary import BinaryDecoder, BinaryEncoder
from kolmo.errors import KolmoError, MissingExtraError, PredictorError
from kolmo.predictors import registry
from kolmo.predictors.language_models.gguf_models import backend as gguf_backend
from kolmo.predictors.language_models.gguf_models import library as llama_library
from kolmo.predictors.language_models.gguf_models.backend import FLASH, PLAIN, WAYS, LlamaCppBackend, load
from kolmo.predictors.language_models.gguf_models.files import check, parts
from kolmo.predictors.language_models.gguf_models.library import library
from kolmo.predictors.language_models.llamacpp import LlamaCpp
from kolmo.predictors.language_models.records import Record
from kolmo.predictors.language_models.torch_models.hashes import hash_files
from kolmo.predictors.language_models.vocabulary import Vocabulary, load_tokenizer
from kolmo.predictors.settings import RunSettings

KINDS = ("spm", "byte_level", "q8", "mamba")
STORY = (
    "Once upon a time, there was a little girl named Lily. She loved to play outside in the park. One day, she saw a "
    "big, red ball. She wanted to play with it, but it was too high.\nLily's mom said, \"Lily, let's go to the park.\" "
)
STRANGE = (
    "the boy \x00 ☃ <s></s><unk><0x41> ▁the é\ufffd\U0001f680<tool>".encode() + b"\xff\xc3" + bytes(range(0, 256, 5))
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of each kind."""
    folder = tmp_path_factory.mktemp("gguf")
    tiny(folder / "spm.gguf", spm_words([("<tool>", 0.0, ADDED), ("<mask>", 0.0, CONTROL)]))
    words, facts = byte_level_facts()
    tiny(folder / "byte_level.gguf", words, **facts)
    mamba(folder / "mamba.gguf")
    quantise(folder / "spm.gguf", folder / "q8.gguf", "LLAMA_FTYPE_MOSTLY_Q8_0")
    return folder


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> LlamaCpp:
    if not STORIES.exists():
        pytest.skip("tests/models/stories260K is not here")
    return LlamaCpp.from_spec(str(stories(tmp_path_factory.mktemp("stories") / "stories.gguf")))


def quantise(source: Path, target: Path, kind: str) -> None:
    llama = library()
    parameters = llama.llama_model_quantize_default_params()
    parameters.ftype, parameters.nthread = getattr(llama, kind), 1
    assert llama.llama_model_quantize(os.fsencode(source), os.fsencode(target), ctypes.byref(parameters)) == 0


def encoded(model: LlamaCpp, data: bytes, threads: int = 1) -> bytes:
    encoder = BinaryEncoder()
    model.start(len(data), threads).encode(encoder, data)
    return encoder.finish()


def decoded(model: LlamaCpp, payload: bytes, size: int, threads: int = 1) -> bytes:
    return model.start(size, threads).decode(BinaryDecoder(payload))


def spread(a: Any, b: Any) -> float:
    """Noise as `LanguageModelBlock.noise` has it."""
    difference = a.astype(np.float64) - b
    return float((difference.max(-1) - difference.min(-1)).max() / 2)


# -- blocks --


@pytest.mark.parametrize("kind", KINDS)
def test_bytes_come_back_in_another_batch(folder: Path, kind: str) -> None:
    data = TEXT.encode()[:400] + STRANGE
    writer = LlamaCpp.from_spec(str(folder / f"{kind}.gguf"), chunk=30, settings=RunSettings(batch=32))
    payload = encoded(writer, data, threads=2)
    reader = LlamaCpp.restore(writer.version, writer.parameters(), RunSettings(batch=8))
    assert reader.fingerprint() == writer.fingerprint()
    assert decoded(reader, payload, len(data), threads=1) == data
    assert reader.notes == []
    assert len(writer.notes) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_windows_slide(folder: Path, kind: str) -> None:
    model = LlamaCpp.from_spec(str(folder / f"{kind}.gguf"), context=64, chunk=300)
    data = TEXT.encode()[:500]
    assert decoded(LlamaCpp.restore(model.version, model.parameters()), encoded(model, data), len(data)) == data
    assert model.record.context == 64


def test_whole_files(folder: Path) -> None:
    spec = f"gguf:{folder / 'spm.gguf'}"
    data = os.urandom(50) + b"the boy" * 10
    model = registry.resolve(spec, context=32, chunk=40, tolerance=1e-3)
    assert isinstance(model, LlamaCpp)
    assert (model.record.context, model.record.chunk, model.tolerance) == (32, 40, 1e-3)
    assert kolmo.decompress(kolmo.compress(data, predictor=model)) == data
    assert kolmo.decompress(kolmo.compress(b"", predictor=spec)) == b""


def test_no_tokens_at_all(tmp_path: Path) -> None:
    """A vocabulary that lacks bytes: llama.cpp itself would end the program."""
    words = [word for word in spm_words() if word not in BYTES]
    model = LlamaCpp.from_spec(str(tiny(tmp_path / "m.gguf", words)))
    for data in (b"\xff\xfe\x00", "☃".encode(), b"the boy \xff said"):
        assert decoded(model, encoded(model, data), len(data)) == data
        assert len(model.start(len(data)).score(data)) == len(data)
    assert not len(model.backend.vocabulary.tokenise(b"\xff\xfe").ids)


def test_scores_are_what_is_written(folder: Path) -> None:
    model = LlamaCpp.from_spec(str(folder / "q8.gguf"), chunk=100)
    data = TEXT.encode()[:500]
    bits = model.start(len(data)).score(data)
    assert bits.shape == (len(data),)
    assert abs(8 * len(encoded(model, data)) - bits.sum()) < 0.02 * bits.sum() + 300


# -- lanes --


def logits(backend: LlamaCppBackend, texts: Any, piece: int, threads: int = 1) -> Any:
    lanes = backend.lanes(len(texts), threads)
    parts = [texts[:, at : at + piece] for at in range(0, texts.shape[1], piece)]
    return np.concatenate([lanes.feed(part, part.shape[1]) for part in parts], axis=1)


@pytest.mark.parametrize(("kind", "noise"), [("spm", 1e-3), ("q8", 0), ("f16", 0), ("q4_k", 0), ("mamba", 1e-3)])
def test_no_shape_of_a_batch_changes_much(
    folder: Path, kind: str, noise: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And where weights are rounded coarsely, none changes a bit."""
    monkeypatch.setattr(gguf_backend, "MIN_THREAD_PRODUCTS", 1)  # threads at work, however small the model
    path = folder / f"{kind}.gguf"
    if kind == "f16":
        quantise(folder / "spm.gguf", path, "LLAMA_FTYPE_MOSTLY_F16")
    elif kind == "q4_k":
        quantise(tiny(folder / "wide.gguf", width=256), path, "LLAMA_FTYPE_MOSTLY_Q4_K_M")
    backend = load(path)
    assert backend.way == (FLASH if kind in ("q8", "f16", "q4_k") else PLAIN)
    texts = np.random.default_rng(1).integers(3, 290, (5, 66))
    right = logits(backend, texts, 66)
    assert right.dtype == np.float32
    assert right.shape == (5, 66, backend.size)
    for count, piece, threads in (
        (1, 70, 1),
        (5, 1, 1),
        (1, 1, 2),
        (1, 1, 1),
        (2, 1, 2),
        (3, 7, 1),
        (4, 64, 2),
        (1, 2, 1),
    ):
        found = logits(backend, texts[:count], piece, threads)
        assert spread(found, right[:count]) <= noise, (count, piece, threads)


@pytest.mark.parametrize("kind", KINDS)
def test_several_tokens_may_follow_others(folder: Path, kind: str) -> None:
    backend = load(folder / f"{kind}.gguf")
    assert backend.continues
    texts = np.random.default_rng(2).integers(3, 290, (3, 40))
    right = logits(backend, texts, 1)
    lanes = backend.lanes(3, 1)
    begun = lanes.feed(texts[:, :25], 2)
    rest = lanes.feed(texts[:, 25:], 15)
    assert rest.flags.c_contiguous
    assert begun.shape == (3, 2, backend.size)
    assert spread(begun, right[:, 23:25]) < 1e-3
    assert spread(rest, right[:, 25:]) < 1e-3


def test_the_measured_noise(folder: Path) -> None:
    for kind, most in (("spm", 1e-3), ("q8", 0.0)):
        model = LlamaCpp.from_spec(str(folder / f"{kind}.gguf"), chunk=30)
        block = model.start(200, 2)
        assert block.noise(block.coder.split(model.backend.vocabulary.tokenise(TEXT.encode()[:200]).ids)) <= most


def test_a_context_serves_again(folder: Path) -> None:
    backend = load(folder / "q8.gguf")
    texts = np.random.default_rng(3).integers(3, 290, (4, 30))
    first = logits(backend, texts, 30)
    (context,) = backend.idle
    assert np.array_equal(logits(backend, texts, 30), first)
    assert np.array_equal(logits(backend, texts[:3], 30), first[:3])
    assert backend.idle == [context]
    old, new = backend.lanes(4, 1), backend.lanes(4, 1)
    old.feed(texts, 1)
    assert backend.idle == []
    new.feed(texts[:, :1], 1)  # another has the context
    assert np.array_equal(old.feed(texts[:, :1], 1), backend.lanes(4, 1).feed(np.hstack([texts, texts[:, :1]]), 1))
    del old, new
    assert len(backend.idle) == 1


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("kind", ["spm", "q8"])
def test_rooms_grow(folder: Path, tmp_path: Path, kind: str, count: int) -> None:
    path = tiny(tmp_path / "long.gguf", context=1200)
    if kind == "q8":
        quantise(path, tmp_path / "q8.gguf", "LLAMA_FTYPE_MOSTLY_Q8_0")
        path = tmp_path / "q8.gguf"
    backend = load(path)
    texts = np.random.default_rng(4).integers(3, 290, (count, 1100))
    at_once = backend.lanes(count, 1).feed(texts, 3)
    backend.idle.clear()
    lanes, rooms = backend.lanes(count, 1), []
    for at in range(0, 1100, 100):
        found = lanes.feed(texts[:, at : at + 100], 3)
        assert lanes._context
        rooms.append(lanes._context.room)
    assert rooms == [256] * 2 + [1024] * 8 + [1280]
    assert spread(found, at_once) <= (1e-3 if kind == "spm" else 0)


def test_many_lanes(folder: Path) -> None:
    model = LlamaCpp.from_spec(str(folder / "mamba.gguf"), chunk=1, settings=RunSettings(batch=10_000))
    assert model.batch(10_000) <= 255
    assert model.batch(3) == 3
    assert model.memory(1000) > 0


# -- records --


def test_another_file_is_refused(folder: Path, tmp_path: Path) -> None:
    model = LlamaCpp.from_spec(str(folder / "spm.gguf"))
    assert model.record.rest != LlamaCpp.from_spec(str(folder / "q8.gguf")).record.rest
    moved = tmp_path / "moved.gguf"
    moved.write_bytes((folder / "spm.gguf").read_bytes())
    settings = RunSettings(model=str(moved))
    LlamaCpp.restore(model.version, model.parameters(), settings)
    content = bytearray(moved.read_bytes())
    content[-1] ^= 1
    moved.write_bytes(content)
    with pytest.raises(
        PredictorError, match=r"moved.gguf is not the model .*its weights .* differs; give the writer's"
    ):
        LlamaCpp.restore(model.version, model.parameters(), settings)
    moved.unlink()
    with pytest.raises(PredictorError, match=r"moved.gguf: no such file"):
        LlamaCpp.restore(model.version, model.parameters(), settings)
    with pytest.raises(PredictorError, match="in a way that is not known here; upgrade kolmo"):
        LlamaCpp.restore(model.version, replace(model.record, way=3).to_bytes(), settings)


def test_the_file_says_how_to_compute(folder: Path) -> None:
    """Not the model: so another rule may come, and old files be read."""
    model = LlamaCpp.from_spec(str(folder / "spm.gguf"))
    assert model.record.way == WAYS.index(PLAIN) + 1
    hashes = hash_files([folder / "spm.gguf"]), FLASH, model.backend.vocabulary.table_hash
    record = Record.of("spm.gguf", "", hashes, "float32", model.record.context, model.record.chunk, 2)
    other = LlamaCpp.restore(record.version, record.to_bytes(), RunSettings(model=str(folder / "spm.gguf")))
    assert isinstance(other.backend, LlamaCppBackend)
    assert other.backend.way == FLASH
    assert other.fingerprint() != model.fingerprint()


def test_a_model_in_parts(tmp_path: Path) -> None:
    tiny(tmp_path / "m.gguf", split_max_tensors=8)
    first, *others = sorted(tmp_path.iterdir())
    assert first.name == f"m-00001-of-0000{len(others) + 1}.gguf"
    assert parts(first) == [first, *others]
    model = LlamaCpp.from_spec(str(first))
    assert decoded(model, encoded(model, b"the boy"), 7) == b"the boy"
    content = bytearray(others[-1].read_bytes())
    content[-1] ^= 1
    others[-1].write_bytes(content)
    assert LlamaCpp.from_spec(str(first)).record.rest != model.record.rest
    others[0].unlink()
    with pytest.raises(PredictorError, match=r"00002-of-.*: no such file"):
        LlamaCpp.from_spec(str(first))
    assert parts(Path("a.gguf")) == [Path("a.gguf")]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dtype": "float64"}, "their own arithmetic, not float64; leave the argument dtype out"),
        ({"context": CONTEXT + 1}, f"has a context window of {CONTEXT} tokens; lower the argument context"),
        ({"context": 3}, "at least 4 tokens"),
    ],
)
def test_options(folder: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(PredictorError, match=message):
        LlamaCpp.from_spec(str(folder / "spm.gguf"), **options)
    model = LlamaCpp.from_spec(str(folder / "spm.gguf"), dtype="float32")
    assert model.record.context == CONTEXT
    assert LlamaCpp.from_spec(str(folder / "mamba.gguf")).record.context == 0


def test_devices(folder: Path) -> None:
    assert load(folder / "spm.gguf", device="cpu").on_cpu
    if not library().llama_supports_gpu_offload():
        with pytest.raises(PredictorError, match=r"has no device cuda; .* device='cpu'"):
            load(folder / "spm.gguf", device="cuda")


def test_llama_cpp_is_missing(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setattr(llama_library, "_library", None)
    monkeypatch.setattr(llama_library, "NEWEST_FUNCTION", "llama_model_of_tomorrow")
    with pytest.raises(MissingExtraError, match=r"^gguf models need a newer llama-cpp-python; pip install -U 'kolmo"):
        LlamaCpp.from_spec(str(folder / "spm.gguf"))
    monkeypatch.setitem(sys.modules, "llama_cpp", None)
    with pytest.raises(
        MissingExtraError, match=r"^gguf models need llama-cpp-python; pip install 'kolmo-codelength\[gguf\]'$"
    ):
        LlamaCpp.from_spec(str(folder / "spm.gguf"))


# -- hostile files --


def replaced(old: bytes, new: bytes) -> Any:
    def change(data: bytes) -> bytes:
        assert old in data
        return data.replace(old, new, 1)

    return change


HUGE = (1 << 60).to_bytes(8, "little")
DAMAGES: dict[str, tuple[Any, str]] = {
    "nothing": (lambda data: b"", "not a GGUF file; convert"),
    "short": (lambda data: data[:20], "not a GGUF file; convert"),
    "magic": (lambda data: b"GGML" + data[4:], "not a GGUF file; convert"),
    "version 1": (lambda data: data[:4] + b"\1" + data[5:], "version 1, not 2 or 3; convert the model again"),
    "version 9": (lambda data: data[:4] + b"\x09" + data[5:], "version 9, not 2 or 3"),
    "byte order": (lambda data: data[:4] + b"\0\0\0\3" + data[8:], "of the other byte order"),
    "head only": (lambda data: data[:24], "cannot open it .*failed to read key-value pairs"),
    "facts cut": (lambda data: data[:3000], "cannot open it"),
    "tensors cut": (lambda data: data[: len(data) // 2], "cannot open it .*not within the file"),
    "last byte": (lambda data: data[:-1], "cannot open it .*not within the file"),
    "tensors": (lambda data: data[:8] + HUGE + data[16:], "cannot open it"),
    "facts": (lambda data: data[:16] + HUGE + data[24:], "cannot open it"),
    "zeros": (lambda data: data[:24] + bytes(5000), "cannot open it"),
    "long name": (lambda data: data[:24] + HUGE + data[32:], "cannot open it"),
    "architecture": (
        replaced(b"\5\0\0\0\0\0\0\0llama", b"\5\0\0\0\0\0\0\0llbma"),
        "unknown model architecture: 'llbma'",
    ),
    "tokenizer": (replaced(b"tokenizer.ggml.model", b"tokenizer.ggml.mudel"), "key not found in model"),
    "no layers": (replaced(b"block_count\4\0\0\0\2", b"block_count\4\0\0\0\0"), "0 layers, not 1 to 512; get"),
    "duplicate tokens": (replaced(b"<0x41>", b"<0x42>"), "two of its tokens are the same"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_refused(
    folder: Path, tmp_path: Path, damage: str, capfd: pytest.CaptureFixture[str]
) -> None:
    change, message = DAMAGES[damage]
    path = tmp_path / "m.gguf"
    path.write_bytes(change((folder / "spm.gguf").read_bytes()))
    with pytest.raises(PredictorError, match=message) as raised:
        LlamaCpp.from_spec(str(path))
    assert str(raised.value).startswith(f"{path}: ")
    assert "\n" not in str(raised.value)
    assert capfd.readouterr() == ("", "")


def test_no_file(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "m.gguf"):
        with pytest.raises(PredictorError, match=r"the path is a folder; name the|no such file; give the path"):
            LlamaCpp.from_spec(str(path))
    with pytest.raises(KolmoError):
        registry.resolve("gguf:")


def test_models_that_continue_nothing_are_refused(tmp_path: Path) -> None:
    with pytest.raises(PredictorError, match="not a causal language model; give one that continues texts"):
        LlamaCpp.from_spec(str(tiny(tmp_path / "m.gguf", causal=False)))


def test_llama_cpp_says_nothing(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    model = LlamaCpp.from_spec(str(folder / "spm.gguf"), chunk=20)
    encoded(model, b"the boy said")
    del model
    assert capfd.readouterr() == ("", "")


def test_the_program_ends_well(folder: Path) -> None:
    """With a model loaded and lanes in use."""
    script = (
        "import sys, numpy as np; from kolmo.predictors.language_models.llamacpp import LlamaCpp\n"
        "models = [LlamaCpp.from_spec(path) for path in sys.argv[1:]]\n"
        "lanes = [model.backend.lanes(2, 2) for model in models]\n"
        "for one in lanes: print(one.feed(np.full((2, 3), 5), 1).shape)\n"
        "models = None if len(models) == 1 else models"
    )
    for names in (["spm"], ["spm", "q8", "mamba"]):
        paths = [str(folder / f"{name}.gguf") for name in names]
        done = subprocess.run([sys.executable, "-c", script, *paths], capture_output=True, text=True, timeout=120)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.count("(2, 1, ") == len(names)


# -- vocabularies --


@pytest.fixture(scope="module")
def vocabularies(folder: Path) -> dict[str, Vocabulary]:
    return {kind: load(folder / f"{kind}.gguf").vocabulary for kind in ("spm", "byte_level")}


def check_tokens(words: Vocabulary, data: bytes) -> list[int]:
    tokens = words.tokenise(data)
    assert words.join(tokens) == data
    assert tokens.literals == ()  # there is a token for each byte
    assert (words.lengths(tokens.ids) > 0).all()
    return [int(token) for token in tokens.ids]


PIECES = [
    "the",
    " the",
    "▁",
    "<s>",
    "<tool>",
    "<0x41>",
    "<|endoftext|>",
    "\n\n",
    "  ",
    "é",
    "☃",
    "\ufffd",
    "fish",
    "\x00",
]


@pytest.mark.parametrize("kind", ["spm", "byte_level"])
@given(
    parts=st.lists(
        st.sampled_from(PIECES).map(str.encode) | st.binary(max_size=6) | st.text(max_size=4).map(str.encode)
    )
)
@hypothesis_settings(max_examples=100, deadline=None)
def test_any_bytes_come_back(vocabularies: dict[str, Vocabulary], kind: str, parts: list[bytes]) -> None:
    check_tokens(vocabularies[kind], b"".join(parts))


def test_tables(vocabularies: dict[str, Vocabulary]) -> None:
    spm, names = vocabularies["spm"], [text for text, _, _ in spm_words()]
    assert [spm.bytes_of(token) for token in range(len(SPECIAL))] == [b""] * 3
    assert [spm.bytes_of(3 + byte) for byte in range(256)] == [bytes([byte]) for byte in range(256)]
    assert spm.bytes_of(names.index("▁the")) == b" the"
    assert spm.bytes_of(len(names)) == b"<tool>"
    assert spm.bytes_of(len(names) + 1) == b""  # <mask>
    made, words = byte_level(299), vocabularies["byte_level"]
    assert words.table_hash == Vocabulary(made, made.get_vocab_size()).table_hash
    assert check_tokens(words, TEXT.encode()) == made.encode(TEXT).ids


def test_no_space_is_put_first(vocabularies: dict[str, Vocabulary]) -> None:
    spm, names = vocabularies["spm"], [text for text, _, _ in spm_words()]
    assert check_tokens(spm, b"the") == [names.index("the")]
    assert check_tokens(spm, b" the") == [names.index("▁the")]
    assert check_tokens(spm, b"a<tool> the") == [names.index("a"), len(names), names.index("▁the")]


def test_what_is_no_text_costs_its_own_tokens_only(vocabularies: dict[str, Vocabulary]) -> None:
    for words in vocabularies.values():
        plain = check_tokens(words, b"the boat lay still in the harbour.")
        assert check_tokens(words, b"the boat lay still in the harbour.\xff")[:-1] == plain
    spm = vocabularies["spm"]
    assert check_tokens(spm, "▁ the boat".encode())[:3] == [3 + byte for byte in "▁".encode()]
    assert check_tokens(spm, "▁ the boats".encode())[-3:] == check_tokens(spm, b" the boats")[-3:]


def test_long_words_do_not_end_the_program(tmp_path: Path) -> None:
    """llama.cpp's regular expressions recurse with each letter."""
    words, facts = byte_level_facts("tekken")
    found = load(tiny(tmp_path / "m.gguf", words, **facts)).vocabulary
    for letter in (b"a", b" ", b".", b"\n"):
        check_tokens(found, letter * 70_000)


# -- a model that knows something --


def test_it_tells_its_story(told: LlamaCpp) -> None:
    ids = [told.backend.start]
    lanes = told.backend.lanes(1, 1)
    while len(ids) < 120:
        ids.append(int(lanes.feed(np.array([ids[-1:]]), 1)[0, 0].argmax()))
    text = b"".join(map(told.backend.vocabulary.bytes_of, ids)).decode()
    assert text.strip().startswith(STORY)


def test_it_agrees_with_transformers(told: LlamaCpp, tmp_path: Path) -> None:
    for name in ("torch", "transformers"):
        pytest.importorskip(
            name, reason="the other model needs torch and transformers: pip install 'kolmo-codelength[hf]'"
        )
    hugging_face: Any = importlib.import_module("kolmo.predictors.language_models.huggingface")
    folder = stories_folder(tmp_path)
    other = hugging_face.HuggingFace.from_spec(str(folder))
    words = Vocabulary(load_tokenizer(folder), 512)
    assert told.backend.vocabulary.table_hash == words.table_hash
    data = STORY.encode()
    assert told.backend.vocabulary.tokenise(data).ids.tolist() == words.tokenise(data).ids.tolist()
    bits, expected = (model.start(len(data), 1).score(data) for model in (told, other))
    assert abs(bits.sum() - expected.sum()) / len(data) < 1e-3
    assert bits.sum() / len(data) < 0.6
    assert np.abs(bits - expected).max() < 1e-2


def test_check_leaves_to_llama_cpp_what_it_says_better(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    whole = (folder / "spm.gguf").read_bytes()
    for size in range(24, 600, 7):
        path.write_bytes(whole[:size])
        check(path)
