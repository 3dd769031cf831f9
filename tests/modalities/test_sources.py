"""Texts, pictures and sounds as integers: odd files, files that cannot be read, data sets without a network."""

from __future__ import annotations

import io
import json
import os
import struct
from pathlib import Path

import numpy as np
import pytest

from kolmo.errors import KolmoError, MissingExtraError
from kolmo.modalities import chunks
from kolmo.modalities.datasets import spec_of
from kolmo.modalities.decoding import PICTURE_SUFFIXES, picture, sound
from kolmo.modalities.sources import pictures, sounds, texts

Image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
soundfile = pytest.importorskip("soundfile", reason="soundfile is not installed")
RGB = np.random.default_rng(1).integers(0, 256, (40, 70, 3), dtype=np.uint8)


def one_line(error: pytest.ExceptionInfo[KolmoError], path: Path, *words: str) -> None:
    text = str(error.value)
    assert "\n" not in text
    assert str(path) in text
    assert all(word in text for word in words), text


# Pictures


def test_palettes_are_looked_up(tmp_path: Path) -> None:
    """With a palette, and with a transparent colour in it, of which Pillow warns."""
    indices = Image.fromarray(RGB).quantize(16)
    expected = np.asarray(indices.convert("RGB"))
    indices.save(tmp_path / "a.png")
    indices.save(tmp_path / "b.png", transparency=bytes([0, 128] * 8))
    assert np.array_equal(picture(tmp_path / "a.png"), expected)
    assert np.array_equal(picture(tmp_path / "b.png"), expected)


def test_transparency_is_left_out(tmp_path: Path) -> None:
    """Colours stay as they are stored, under alpha 0 too."""
    alpha = np.zeros((40, 70, 1), np.uint8)
    Image.fromarray(np.concatenate([RGB, alpha], axis=-1)).save(tmp_path / "a.png")
    assert np.array_equal(picture(tmp_path / "a.png"), RGB)
    Image.fromarray(np.concatenate([RGB[..., :1], alpha], axis=-1)).save(tmp_path / "b.png")
    assert np.array_equal(picture(tmp_path / "b.png"), np.repeat(RGB[..., :1], 3, axis=-1))


def test_of_sixteen_bits_the_top_eight(tmp_path: Path) -> None:
    """Pillow's own conversion would make almost all of it white."""
    wide = RGB[..., 0].astype(np.uint16) * 256 + 77
    Image.fromarray(wide).save(tmp_path / "a.png")
    assert np.array_equal(picture(tmp_path / "a.png")[..., 1], RGB[..., 0])
    Image.fromarray(wide.astype(np.float32)).save(tmp_path / "b.tif")
    with pytest.raises(KolmoError) as error:
        picture(tmp_path / "b.tif")
    one_line(error, tmp_path / "b.tif", "floating-point", "convert it")


def test_pictures_that_cannot_be_read(tmp_path: Path) -> None:
    whole = io.BytesIO()
    Image.fromarray(RGB).save(whole, "PNG")
    path = tmp_path / "a.png"
    for content in (b"", b"no picture", whole.getvalue()[:200]):
        path.write_bytes(content)
        with pytest.raises(KolmoError) as error:
            list(pictures(tmp_path))
        one_line(error, path, "leave it out")
    path.write_bytes(b"P6 30000 30000 255\n")
    with pytest.raises(KolmoError) as error:
        picture(path)
    one_line(error, path, "leave it out")


# Sounds

SAMPLES = np.array([-32768, -32767, -1, 0, 1, 255, 256, 32767] * 300, np.int16)


@pytest.mark.parametrize(("subtype", "shift"), [("PCM_16", 0), ("PCM_24", 8), ("PCM_32", 16)])
@pytest.mark.parametrize("channels", [1, 2])
def test_integers_stay_integers(tmp_path: Path, subtype: str, shift: int, channels: int) -> None:
    """Of more bits the top 16, whatever is below; of several channels the first."""
    wide = SAMPLES.astype(np.int32) << 16 | (0x7FFF if shift else 0)
    both = np.stack([wide, ~wide], axis=1)[:, :channels]
    soundfile.write(tmp_path / "a.wav", both, 22050, subtype)
    made = sound(tmp_path / "a.wav")
    assert np.array_equal(made.samples, SAMPLES)
    assert made.rate == 22050


def test_floats_are_rounded_and_limited(tmp_path: Path) -> None:
    """A float of -1 is the least integer; soundfile's own integers of such a file are zeros."""
    floats = np.concatenate([SAMPLES / 32768, [1.0, 1.5, -2.0]])
    soundfile.write(tmp_path / "a.wav", floats, 16000, "FLOAT")
    assert soundfile.read(tmp_path / "a.wav", dtype="int16")[0][3:7].tolist() != SAMPLES[3:7].tolist()
    made = sound(tmp_path / "a.wav").samples
    assert np.array_equal(made[:-3], SAMPLES)
    assert made[-3:].tolist() == [32767, 32767, -32768]
    soundfile.write(tmp_path / "b.wav", np.array([0.5, np.nan]), 16000, "DOUBLE")
    with pytest.raises(KolmoError) as error:
        sound(tmp_path / "b.wav")
    one_line(error, tmp_path / "b.wav", "no numbers")


def test_eight_bits_come_back(tmp_path: Path) -> None:
    """The top byte plus 128 of an unsigned sample is the sample."""
    stored = np.random.default_rng(2).integers(0, 256, 4100, dtype=np.uint8)
    body = stored.tobytes()
    head = b"WAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 1, 8000, 8000, 1, 8) + b"data" + struct.pack("<I", len(body))
    (tmp_path / "a.wav").write_bytes(b"RIFF" + struct.pack("<I", len(head) + len(body)) + head + body)
    assert chunks.audio_chunks(tmp_path).joined == body[:4096]


def test_sounds_that_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    soundfile.write(path, SAMPLES, 16000, "PCM_16")
    whole = path.read_bytes()
    claiming = bytearray(whole)  # 2^36 - 1 frames: a header's claim takes no memory
    claiming[21] |= 15
    claiming[22:26] = b"\xff" * 4
    for content in (bytes(claiming), b"", b"no sound", whole[:30]):
        path.write_bytes(content)
        with pytest.raises(KolmoError) as error:
            list(sounds(tmp_path))
        one_line(error, path, "leave it out")


# Folders


def test_folders_without_anything(tmp_path: Path) -> None:
    for read in (texts, pictures, sounds):
        with pytest.raises(KolmoError) as error:
            list(read(tmp_path))
        one_line(error, tmp_path, "has no file that ends in")
        with pytest.raises(KolmoError) as error:
            list(read(tmp_path / "nowhere"))
        one_line(error, tmp_path / "nowhere", "no such file or folder")


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="may read everything")
def test_files_that_may_not_be_read(tmp_path: Path) -> None:
    for name, read in (("a.txt", texts), ("a.png", pictures), ("a.wav", sounds)):
        path = tmp_path / name
        path.write_bytes(b"abc")
        path.chmod(0)
        with pytest.raises(KolmoError) as error:
            list(read(path))
        one_line(error, path, "ermission denied")


# Data sets


def test_which_places_are_data_sets(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "train-0.parquet").touch()
    (tmp_path / "both").mkdir()
    (tmp_path / "both" / "a.parquet").touch()
    (tmp_path / "both" / "a.png").touch()

    def spec(place: str | Path) -> str | None:
        return spec_of(place, PICTURE_SUFFIXES)

    hub = "ILSVRC/imagenet-1k@validation"
    assert [spec(hub), spec("openslr/librispeech_asr:clean@test")] == [hub, "openslr/librispeech_asr:clean@test"]
    assert spec(tmp_path / "set") == str(tmp_path / "set")
    assert spec(f"{tmp_path / 'set'}@train") == f"{tmp_path / 'set'}@train"
    assert spec(tmp_path / "set" / "train-0.parquet")
    assert [spec(p) for p in (tmp_path, tmp_path / "both", tmp_path / "none", "photos", "photos/a.png")] == [None] * 5


def test_data_sets_need_a_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "datasets", None)
    with pytest.raises(MissingExtraError, match=r"openslr/librispeech_asr:clean: needs datasets .*\[eval\]"):
        list(sounds("openslr/librispeech_asr:clean"))


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The library without a network, its cache in the test's own folder."""
    datasets = pytest.importorskip("datasets", reason="datasets is not installed")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True, raising=False)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def a_set(folder: Path) -> None:
    """A data set in Parquet with texts, pictures and sounds, as the hub has them, in two splits."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    flac = io.BytesIO()
    soundfile.write(flac, SAMPLES, 16000, "PCM_16", format="FLAC")
    png = io.BytesIO()
    Image.fromarray(RGB).save(png, "PNG")
    features = {
        "label": {"dtype": "int64", "_type": "Value"},
        "text": {"dtype": "string", "_type": "Value"},
        "image": {"_type": "Image"},
        "audio": {"_type": "Audio"},
    }
    folder.mkdir()
    for split in ("train", "test"):
        table = pa.table(
            {
                "label": [1, 2],
                "text": [f"{split} one", f"{split} two\n"],
                "image": [{"bytes": png.getvalue(), "path": "a.png"}] * 2,
                "audio": [{"bytes": flac.getvalue(), "path": "a.flac"}] * 2,
            }
        )
        described = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
        pq.write_table(described, folder / f"{split}-00000-of-00001.parquet")


@pytest.mark.usefixtures("offline")
def test_a_data_set_in_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    a_set(folder)
    assert b"".join(texts(folder)) == b"test one\ntest two\n"
    assert b"".join(texts(f"{folder}@train")) == b"train one\ntrain two\n"
    assert b"".join(texts(folder / "train-00000-of-00001.parquet")) == b"train one\ntrain two\n"
    assert [np.array_equal(one, RGB) for one in pictures(folder)] == [True, True]
    assert [np.array_equal(one.samples, SAMPLES) for one in sounds(f"{folder}@train")] == [True, True]
    assert chunks.audio_chunks(folder, most=1).source == "set"
    with pytest.raises(KolmoError, match=r"set@none: has no split none; give one with @SPLIT: "):
        list(texts(f"{folder}@none"))


@pytest.mark.usefixtures("offline")
def test_no_more_rows_are_read_than_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "set"
    a_set(folder)
    read = []

    def reading(path: Path, content: bytes) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
        read.append(path)
        return picture(path, content)

    monkeypatch.setattr("kolmo.modalities.sources.picture", reading)
    assert len(chunks.image_chunks(folder, most=1).chunks) == 1
    assert len(read) == 1


@pytest.mark.usefixtures("offline")
def test_data_sets_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(KolmoError) as error:
        list(pictures("nobody/no-such-set@test"))
    one_line(error, Path("nobody/no-such-set@test"), "hub")
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"number": [1]}), path)
    with pytest.raises(KolmoError, match="has no column of pictures among number"):
        list(pictures(path))
    with pytest.raises(KolmoError, match="has no column of text among number"):
        list(texts(path))
    path.write_bytes(b"no table")
    with pytest.raises(KolmoError) as error:
        list(texts(path))
    one_line(error, path, "cannot be loaded")
