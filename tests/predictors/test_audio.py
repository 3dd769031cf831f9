"""The kind of sound: headers, guesses, every layout there and back, and what a hostile file may ask for."""

from __future__ import annotations

import struct

import numpy as np
import numpy.typing as npt
import pytest

from kolmo.coder.binary import BinaryDecoder, BinaryEncoder
from kolmo.errors import CorruptError
from kolmo.predictors.embedded.kinds.audio import Audio
from kolmo.predictors.embedded.kinds.sound.guess import guess_sounds
from kolmo.predictors.embedded.kinds.sound.headers import find_sounds

AUDIO = Audio()


def wav(bits: int, channels: int, samples: bytes, tag: int = 1, claimed: int | None = None) -> bytes:
    align = bits // 8 * channels
    form = struct.pack("<HHIIHH", tag, channels, 16000, 16000 * align, align, bits)
    if tag == 0xFFFE:
        form += struct.pack("<HHIH14s", 22, bits, 3, 1, b"\0" * 14)
    size = len(samples) if claimed is None else claimed
    body = b"WAVEfmt " + struct.pack("<I", len(form)) + form + b"data" + struct.pack("<I", size) + samples
    return b"RIFF" + struct.pack("<I", len(body)) + body


def aiff(bits: int, channels: int, samples: bytes, layout: bytes = b"") -> bytes:
    common = struct.pack(">HIH", channels, len(samples), bits) + b"\x40\x0c" + bytes(8) + layout
    body = b"COMM" + struct.pack(">I", len(common)) + common
    body += b"SSND" + struct.pack(">III", len(samples) + 8, 0, 0) + samples
    return b"FORM" + struct.pack(">I", len(body) + 4) + (b"AIFC" if layout else b"AIFF") + body


def au(encoding: int, channels: int, samples: bytes) -> bytes:
    return b".snd" + struct.pack(">IIIII", 28, len(samples), encoding, 16000, channels) + b"note" + samples


SAMPLES = bytes(range(48, 240))


@pytest.mark.parametrize(
    ("file", "parameters"),
    [
        (wav(16, 2, SAMPLES), (16, 2, 0, 0, 0)),
        (wav(8, 1, SAMPLES), (8, 1, 0, 1, 0)),
        (wav(24, 1, SAMPLES, 0xFFFE), (24, 1, 0, 0, 0)),
        (wav(16, 1, SAMPLES, claimed=0xFFFFFFF0), (16, 1, 0, 0, 0)),
        (wav(16, 1, SAMPLES, claimed=0), (16, 1, 0, 0, 0)),
        (aiff(16, 1, SAMPLES), (16, 1, 1, 0, 0)),
        (aiff(12, 2, SAMPLES), (16, 2, 1, 0, 0)),
        (aiff(8, 1, SAMPLES), (8, 1, 0, 0, 0)),
        (aiff(16, 2, SAMPLES, b"sowt"), (16, 2, 0, 0, 0)),
        (aiff(24, 2, SAMPLES, b"NONE"), (24, 2, 1, 0, 0)),
        (au(2, 1, SAMPLES), (8, 1, 0, 0, 0)),
        (au(3, 2, SAMPLES), (16, 2, 1, 0, 0)),
        (au(4, 1, SAMPLES), (24, 1, 1, 0, 0)),
    ],
)
def test_headers_anywhere(file: bytes, parameters: tuple[int, ...]) -> None:
    start = len(file) - len(SAMPLES)
    assert find_sounds(file) == [(start, len(SAMPLES), parameters)]
    around = b"text before" * 3 + file + file
    first, *rest = AUDIO.find(around)
    assert (first.first, first.parameters) == (33 + start, parameters)
    if first.size == len(SAMPLES):  # not where a writer did not know the size
        assert [(s.first, s.size) for s in rest] == [(33 + len(file) + start, len(SAMPLES))]


@pytest.mark.parametrize(
    "file",
    [
        wav(32, 1, SAMPLES, 3),
        wav(16, 0, SAMPLES),
        wav(16, 9, SAMPLES),
        wav(4, 1, SAMPLES),
        aiff(16, 1, SAMPLES, b"fl32"),
        au(1, 1, SAMPLES),
        au(3, 0, SAMPLES),
        b"RIFFxxxxWAVE",
        b"FORMxxxxAIFF",
        b".snd",
        wav(16, 1, b""),
    ],
)
def test_headers_of_other_data(file: bytes) -> None:
    assert find_sounds(file) == []
    for size in range(0, len(file), 7):
        find_sounds(file[:size])


@pytest.mark.parametrize("seed", range(40))
def test_damaged_headers_stay_within_the_data(seed: int) -> None:
    rng = np.random.default_rng(seed)
    file = bytearray([wav(16, 2, SAMPLES), aiff(16, 1, SAMPLES, b"sowt"), au(3, 1, SAMPLES)][seed % 3])
    for at in rng.integers(0, 60, 4):
        file[at] = int(rng.integers(256))
    for first, size, parameters in find_sounds(bytes(file)):
        assert 0 <= first < first + size <= len(file)
        AUDIO.model(1, size, parameters)


def tone(bits: int, channels: int, frames: int, seed: int = 3) -> npt.NDArray[np.int64]:
    rng, t = np.random.default_rng(seed), np.arange(frames)[:, None]
    values = 0.3 * (1 << bits - 1) * np.sin(t * 0.05 + np.arange(channels) * 1.5) + rng.normal(
        0, 1 << bits // 4, (frames, channels)
    )
    return values.astype(np.int64)


def test_guesses() -> None:
    for channels in (1, 2):
        for dtype, big in (("<i2", 0), (">i2", 1)):
            data = tone(16, channels, 4000).astype(dtype).tobytes()
            assert (16, channels, big, 0, 0) in guess_sounds(data)
            assert (16, channels, big, 0, 2 * channels - 1) in guess_sounds(data[2 * channels - 1 :])
    assert (8, 1, 0, 1, 0) in guess_sounds((tone(8, 1, 4000) + 128).astype(np.uint8).tobytes())
    assert (8, 1, 0, 0, 0) in guess_sounds(tone(8, 1, 4000).astype(np.int8).tobytes())
    rng = np.random.default_rng(1)
    quiet = rng.integers(-2, 3, 2048)  # as likely far as near: of small data, sound all the same
    assert (8, 1, 0, 1, 0) in guess_sounds((quiet + 128).astype(np.uint8).tobytes())
    assert (8, 1, 0, 0, 0) in guess_sounds(quiet.astype(np.int8).tobytes())
    assert (8, 1, 0, 0, 0) not in guess_sounds((quiet + 128).astype(np.uint8).tobytes())
    assert guess_sounds(rng.bytes(5000)) == []
    assert guess_sounds(b"The quick brown fox jumps over the lazy dog. " * 100) == []
    assert guess_sounds(bytes(10)) == guess_sounds(bytes(5000)) == []


@pytest.mark.parametrize("level", [1, 4, 5, 9])
def test_there_and_back(level: int) -> None:
    data = tone(16, 2, 300).astype("<i2").tobytes()[3:]
    parameters = (16, 2, 0, 0, 3)
    encoder = BinaryEncoder()
    AUDIO.model(level, len(data), parameters).encode(encoder, data)
    payload = encoder.finish()
    assert AUDIO.model(level, len(data), parameters).decode(BinaryDecoder(payload)) == data
    bits = AUDIO.model(level, len(data), parameters).score(data)
    assert abs(bits.sum() / 8 - len(payload)) < 8
    assert len(payload) < len(data) * 0.75


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7])
@pytest.mark.parametrize("parameters", [(8, 3, 0, 1, 1), (16, 1, 1, 0, 1), (24, 2, 0, 0, 5), (24, 8, 1, 1, 0)])
def test_segments_of_any_size(size: int, parameters: tuple[int, ...]) -> None:
    data = bytes(range(100, 100 + size))
    encoder = BinaryEncoder()
    AUDIO.model(1, size, parameters).encode(encoder, data)
    assert AUDIO.model(1, size, parameters).decode(BinaryDecoder(encoder.finish())) == data


@pytest.mark.parametrize(
    "parameters",
    [
        (12, 1, 0, 0, 0),
        (16, 0, 0, 0, 0),
        (16, 9, 0, 0, 0),
        (8, 1, 1, 0, 0),
        (16, 1, 2, 0, 0),
        (16, 1, 0, 2, 0),
        (16, 2, 0, 0, 4),
    ],
)
def test_parameters_that_no_writer_writes(parameters: tuple[int, ...]) -> None:
    with pytest.raises(CorruptError):
        AUDIO.model(5, 100, parameters)


def test_a_payload_that_ends_early() -> None:
    with pytest.raises(CorruptError):
        AUDIO.model(5, 1 << 20, (16, 2, 0, 0, 0)).decode(BinaryDecoder(b"short"))


def test_memory_is_bounded() -> None:
    assert AUDIO.memory(5, 1000) < AUDIO.memory(9, 1 << 23) < 1 << 26
    assert len({AUDIO.digest(level) for level in range(1, 10)}) == 4
