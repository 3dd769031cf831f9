"""Continuations: the rule for gzip by hand, the cost of the true rest, files, pages, resumption, failures."""

from __future__ import annotations

import base64
import io
import json
import math
import wave
import zlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from helpers.order0 import Order0
from kolmo.bench.paper import continuations
from kolmo.bench.paper.codecs import Codec, Predicted, classical, codecs_of
from kolmo.bench.paper.continuations import STORE, Continuation, Continuations, Prompt, continue_all, prompts_of
from kolmo.bench.paper.continued import Exhibit, strip
from kolmo.cli import group
from kolmo.modalities.chunks import ChunkSet
from kolmo.native.dispatch import SLOW
from kolmo.predictors.choice import Randomness
from kolmo.predictors.registry import resolve

WORDS = b"the same words again, and again the same words, "
TEXT = ChunkSet("text", "here", (WORDS * 2, WORDS * 2, WORDS[:48] * 2))
PATCH = bytes(range(0, 256, 4)) * 32  # a ramp, the same in all rows
PATCHES = ChunkSet("images", "here", (bytes([9]) * 2048, PATCH))
TONE = bytes(int(v) for v in 128 + 80 * np.sin(np.arange(2048) / 9))
SOUND = ChunkSet("audio", "here", (bytes([128]) * 2048, TONE))
fast_only = pytest.mark.skipif(SLOW, reason="takes a while in NumPy")


def made_by(codecs: Sequence[Codec], *sets: ChunkSet, seed: int = 1, store: Path | None = None) -> Continuations:
    return continue_all(codecs, sets, {}, seed=seed, store=store)


def test_gzip_by_hand() -> None:
    """The first byte: lengths of all 256 candidates by zlib, a byte more being 2^-8 at temperature 1."""
    (prompt,) = prompts_of([TEXT], {})
    assert prompt.given + prompt.rest == TEXT.chunks[1]
    assert len(prompt.rest) == 24

    def size(data: bytes) -> int:
        deflate = zlib.compressobj(9, wbits=-15)
        return len(deflate.compress(data) + deflate.flush())

    sizes = [size(prompt.given + bytes([x])) for x in range(256)]
    weights = [2.0 ** (-8 * (one - min(sizes)) / continuations.TEMPERATURES["text"]) for one in sizes]
    at, first = Randomness(5).uniform() * sum(weights), 0
    while at >= weights[first]:
        at -= weights[first]
        first += 1
    made = made_by([classical()["gzip"]], TEXT, seed=5)
    (found,) = made.made
    assert found.made[0] == first
    assert len(found.made) == 24
    whole, given = (len(classical()["gzip"].pack(data)) for data in (TEXT.chunks[1], prompt.given))
    assert found.bits == pytest.approx(8 * (whole - given) / 24, abs=1e-5)
    assert found.compared


@fast_only
def test_predictors_go_on_as_their_models_of_kinds() -> None:
    """What is certain goes on; the cost is that of the kind's model; a text is left to the predictor itself."""
    codecs = codecs_of(["cm:1", "lzma2"])
    made = made_by(codecs, PATCHES, SOUND, TEXT)
    assert [prompt.name for prompt in made.prompts] == ["text", "patch-1", "patch-2", "sound"]
    assert {one.codec for one in made.made} == {"cm:1"}  # LZMA2 has no quick way to draw
    flat, ramp = made.of(made.prompts[1])[0], made.of(made.prompts[2])[0]
    assert flat.made == bytes([9]) * 1024
    values = np.frombuffer(ramp.made, np.uint8).astype(int).reshape(16, 64)
    assert np.abs(values[:4] - np.arange(0, 256, 4)).mean() < 4
    sound = made.prompts[3]
    assert sound.given + sound.rest == TONE  # the liveliest chunk
    values = np.frombuffer(made.of(sound)[0].made, np.uint8).astype(int) - 128
    assert 5 < values.std() < 120
    told = resolve("cm:1").of_kind("audio", sound.parameters)
    bits = told.start(2048).score(TONE)[1024:].mean()
    assert made.of(sound)[0].bits == pytest.approx(bits, abs=0.2)
    assert made.of(sound)[0].compared


@fast_only
def test_the_seed_decides(tmp_path: Path) -> None:
    codecs = codecs_of(["cm:1"])
    first, again, other = (made_by(codecs, TEXT, SOUND, seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert first.made[1].made != other.made[1].made


def test_continuations_are_not_made_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = tmp_path / "new" / STORE
    gzip = [classical()["gzip"]]
    first = made_by(gzip, TEXT, store=store)
    monkeypatch.setattr(continuations, "_continue", None)
    assert made_by(gzip, TEXT, store=store) == first
    with pytest.raises(TypeError):
        made_by(gzip, TEXT, seed=2, store=store)
    store.write_text(store.read_text()[:-20])  # a line cut short
    with pytest.raises(TypeError):
        made_by(gzip, TEXT, store=store)


def test_what_does_not_sample_says_so() -> None:
    """And what does not come back is named."""
    made = made_by([Predicted("order0", Order0())], TEXT)
    assert "does not sample" in made.made[0].note
    exhibit = Exhibit(made)
    assert "does not sample" in exhibit.markdown()
    assert "does not sample" in exhibit.html()
    assert exhibit.wrong == []
    table = exhibit.table()
    assert table
    assert table[2] == [["order0", ""]]
    broken = replace(made, made=(Continuation("text", "liar", b"abc", 1.0, compared=False),))
    assert Exhibit(broken).wrong == ["liar on text: what came back differs"]
    shown = Exhibit(broken).table()
    assert shown
    assert shown[2] == [["liar", "WRONG"]]


def exhibit() -> Exhibit:
    """All modalities, without a model."""
    prompts = tuple(prompts_of([TEXT, PATCHES, SOUND], {}))
    codecs = ("gzip", "hf:a/b", "hf:a-b")
    made = [
        Continuation(p.name, codec, p.rest[: len(p.rest) // (k + 1)], 2.0)
        for p in prompts
        for k, codec in enumerate(codecs)
    ]
    return Exhibit(Continuations(prompts, tuple(made), 3))


def test_files() -> None:
    image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    files = exhibit().files
    assert files["text-original.txt"] == TEXT.chunks[1]
    assert files["text-gzip.txt"] == TEXT.chunks[1]
    assert {"text-hf-a-b.txt", "text-hf-a-b-2.txt"} <= set(files)  # two names, one spelling
    with wave.open(io.BytesIO(files["sound-gzip.wav"])) as sound:
        assert (sound.getframerate(), sound.getsampwidth(), sound.getnchannels()) == (16000, 1, 1)
        assert sound.readframes(5000) == TONE
    with image.open(io.BytesIO(files["patch-2.png"])) as picture:
        pixels = np.asarray(picture)
    assert pixels.shape == (18 + 128 + 12, 12 + 4 * 268)
    patch = np.frombuffer(PATCH, np.uint8).reshape(32, 64)
    assert np.array_equal(pixels[18:146:4, 12:268:4], patch)
    assert np.array_equal(pixels[20:146:4, 282:536:4], patch)
    short = pixels[18:146:4, 548:804:4]  # it ended early: white
    assert np.array_equal(short[:24], patch[:24])
    assert (short[24:] == 255).all()
    assert (pixels[82, 2:9] == 0).all()  # the mark


def test_pages() -> None:
    pytest.importorskip("PIL", reason="Pillow is not installed")
    shown = exhibit()
    page, files = shown.html(), shown.files
    assert page.count("data:image/png;base64,") == 2
    assert page.count("data:audio/wav;base64,") == 4
    assert base64.b64encode(files["patch-1.png"]).decode() in page
    assert "://" not in page
    assert "<script" not in page
    markdown = shown.markdown()
    assert "](continuations/patch-2.png)" in markdown
    assert "[sound-hf-a-b-2.wav](continuations/sound-hf-a-b-2.wav)" in markdown
    table = shown.table()
    assert table
    assert table[1] == ("", "text", "patches", "sound")
    assert table[2][0] == ["gzip", "2.00", "2.00", "2.00"]
    hostile = Continuation("text", "<b>", b"<script>\x1b[31m\xff\r\nend")
    bad = Exhibit(replace(shown.made, made=(hostile,)))
    assert "<script>" not in bad.html()
    assert "\x1b" not in bad.html() + bad.markdown()


def test_records_are_json() -> None:
    record = json.loads(json.dumps(exhibit().made.record()))
    assert record["seed"] == 3
    assert base64.b64decode(record["prompts"][2]["given"]) == PATCH[:1024]
    assert math.isclose(record["continuations"][0]["bits"], 2)


def test_large_pieces_come_from_files(tmp_path: Path) -> None:
    pytest.importorskip("PIL", reason="Pillow is not installed")
    soundfile = pytest.importorskip("soundfile", reason="soundfile is not installed")
    grey = np.random.default_rng(1).integers(0, 256, (100, 140), dtype=np.uint8)
    for name, pixels in (("a.ppm", grey[:50]), ("b.ppm", grey)):  # the first is too small
        rgb = np.repeat(pixels[..., None], 3, axis=-1)
        (tmp_path / name).write_bytes(b"P6 140 %d 255\n" % len(pixels) + rgb.tobytes())
    samples = np.frombuffer(TONE * 9, np.uint8).astype(np.int32) * 256 - 32768
    soundfile.write(tmp_path / "a.wav", samples.astype(np.int16), 8000, "PCM_16")
    prompts = {one.name: one for one in prompts_of([PATCHES, SOUND], {"images": tmp_path, "audio": tmp_path})}
    assert list(prompts) == ["patch-1", "patch-2", "picture-1", "sound", "long-sound"]
    crop = prompts["picture-1"]
    assert crop.given + crop.rest == grey[2:98, 6:134].tobytes()
    assert (crop.width, len(crop.given), crop.large) == (128, 128 * 48, True)
    long = prompts["long-sound"]
    assert long.given + long.rest == (TONE * 9)[:10000]
    assert (long.rate, len(long.given)) == (8000, 8000)
    made = continue_all([classical()["gzip"]], [], {}, seed=1)
    assert made.made == ()


def test_a_strip_of_a_narrow_picture() -> None:
    image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    prompt = Prompt("picture-1", "images", bytes(900), bytes(900), "image", {"stride": 300, "channels": 1, "order": 0})
    with image.open(io.BytesIO(strip(prompt, []))) as picture:
        assert picture.size == (12 + 300 + 12, 18 + 6 + 12)


@fast_only
def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the samples that ship, with what the page carries; a second run computes nothing."""
    pytest.importorskip("PIL", reason="Pillow is not installed")
    pytest.importorskip("soundfile", reason="soundfile is not installed")
    monkeypatch.setattr(continuations, "PARTS", 1)
    out = tmp_path / "out"
    asked = ["bench", "paper", "--compressors", "cm:1", "--chunks", "2", "-o", str(out), "--json"]
    done = CliRunner().invoke(group, asked, standalone_mode=False)
    assert done.return_value == 0
    record = json.loads(done.stdout)["continuations"]
    names = [one["prompt"] for one in record["prompts"]]
    assert names == ["text", "patch-1", "picture-1", "sound", "long-sound"]
    assert all(one["compared"] and 1 < one["bits"] < 7 for one in record["continuations"])
    there = {path.name for path in (out / "continuations").iterdir()}
    assert {"text-cm-1.txt", "patch-1.png", "picture-1.png", "long-sound-cm-1.wav"} <= there
    page = (out / "report.html").read_text()
    assert "img-src data:; media-src data:" in page
    assert page.count("<img") == 2
    assert "(continuations/picture-1.png)" in (out / "table.md").read_text()
    stored = (out / STORE).read_bytes()
    again = CliRunner().invoke(group, asked, standalone_mode=False)
    assert json.loads(again.stdout)["continuations"] == record
    assert (out / STORE).read_bytes() == stored
