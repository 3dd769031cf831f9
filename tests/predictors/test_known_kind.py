"""Data of a known kind: the models of pictures and sounds go on where a prompt ends, and cost what they code."""

from __future__ import annotations

import hashlib
from types import ModuleType

import numpy as np
import pytest

from helpers.implementations import IMPLEMENTATIONS, NATIVE
from helpers.order0 import Order0
from kolmo.codec.blocks import decode_block, encode_block
from kolmo.errors import PredictorError
from kolmo.native import reference, tables
from kolmo.native.dispatch import SLOW
from kolmo.native.pixel_mixer import shapes as pixel_shapes
from kolmo.predictors.base import Predictor
from kolmo.predictors.choice import Choice, Randomness
from kolmo.predictors.embedded.kinds import image_model
from kolmo.predictors.embedded.kinds.sound import shapes as sound_shapes
from kolmo.predictors.embedded.kinds.sound.shapes import Filter, SoundShape
from kolmo.predictors.registry import resolve

PIXELS = {"stride": 16, "channels": 1, "order": 0}
BYTES = {"bits": 8, "channels": 1, "big": 0, "unsigned": 1, "phase": 0}
STEREO = {"bits": 16, "channels": 2, "big": 0, "unsigned": 0, "phase": 0}
SMALL = SoundShape("small", (Filter(5, 3, 2, 655), Filter(4, 0, 1, 66)), 1, ((7, 524), (3, 900)), 328, 6, 14)


def picture(rows: int) -> bytes:
    """A ramp to the right, the same in all rows: what follows is certain."""
    return bytes(range(0, 240, 15)) * rows


def tone(count: int) -> bytes:
    """A period of 25 samples."""
    return bytes(int(v) for v in 128 + 90 * np.sin(np.arange(count) * 2 * np.pi / 25))


def drawn(predictor: Predictor, prompt: bytes, size: int, seed: int = 1, temperature: float = 1.0) -> bytes:
    return b"".join(predictor.continuation(prompt, size, Randomness(seed), Choice(temperature)))


# The kernels: what was scored is a prompt.


def picture_mixer(kernels: ModuleType, size: int) -> reference.PixelMixer:
    shape = image_model.LIGHT
    config = image_model.configuration(shape, size, 16, 1, (0,))
    prior = image_model.plain_prior(shape, image_model.GREY)
    made: reference.PixelMixer = kernels.PixelMixer(config, tables.packed(), pixel_shapes.packed(), prior, None)
    return made


def sound_mixer(kernels: ModuleType, size: int) -> reference.SoundMixer:
    config = sound_shapes.configuration(SMALL, (8, 1, 0, 1, 0), SMALL.table_bits)
    constants = tables.packed(), tables.softplus().tobytes()
    made: reference.SoundMixer = kernels.SoundMixer(config, *constants, sound_shapes.plain_prior(SMALL), size, None)
    return made


@pytest.mark.parametrize("make", [picture_mixer, sound_mixer])
@pytest.mark.parametrize("kernels", IMPLEMENTATIONS)
def test_decoding_goes_on_after_a_prompt(kernels: ModuleType, make: type) -> None:
    """What was coded after a prompt is decoded after it, and nothing but decoding follows a score."""
    whole = picture(3) + tone(48)
    encoder, writer = kernels.BinaryEncoder(), make(kernels, 96)
    writer.encode(kernels.BinaryEncoder(), whole[:48])
    writer.encode(encoder, whole[48:])
    reader = make(kernels, 96)
    reader.costs(whole[:48])
    assert reader.decode(kernels.BinaryDecoder(encoder.finish()), 48) == whole[48:]
    with pytest.raises(ValueError, match="one direction"):
        reader.costs(b"")
    other = make(kernels, 96)
    other.costs(whole[:48])
    with pytest.raises(ValueError, match="one direction"):
        other.encode(kernels.BinaryEncoder(), whole[48:])


@pytest.mark.skipif(NATIVE is None, reason="the C kernels are not built here")
@pytest.mark.parametrize("make", [picture_mixer, sound_mixer])
def test_kernels_draw_the_same(make: type) -> None:
    made = []
    for kernels in (NATIVE, reference):
        assert kernels
        model = make(kernels, 96)
        model.costs(tone(48))
        parts = [model.decode(kernels.BinaryDecoder(Randomness(k).take(300)), 16) for k in range(3)]
        made.append(b"".join(parts))
    assert made[0] == made[1]


# Predictors


@pytest.mark.skipif(SLOW, reason="takes a while in NumPy")
@pytest.mark.parametrize("spec", ["cm:1", "neural:5"])
def test_what_is_certain_goes_on(spec: str) -> None:
    """A picture of equal rows and a tone go on as they are at temperature 0; noise comes at 1."""
    predictor = resolve(spec)
    still = predictor.of_kind("image", PIXELS)
    assert drawn(still, picture(24), 64, temperature=0) == picture(4)
    sounding = predictor.of_kind("audio", BYTES)
    made = np.frombuffer(drawn(sounding, tone(1000), 100, temperature=0), np.uint8).astype(int)
    assert np.abs(made - np.frombuffer(tone(1100)[1000:], np.uint8)).mean() < 12
    noise = hashlib.shake_256(b"noise").digest(512)
    hot = [drawn(still, noise, 64, seed) for seed in (1, 1, 2)]
    assert hot[0] == hot[1] != hot[2]
    assert len(hot[0]) == 64


@pytest.mark.skipif(SLOW, reason="takes a while in NumPy")
def test_drawing_follows_the_costs() -> None:
    """Continuations that are likely by `score` are drawn often: of 60 pixels after a row, as many as it says."""
    still = resolve("cm:1").of_kind("image", PIXELS)
    prompt = hashlib.shake_256(b"two values").digest(256)
    prompt = bytes(100 + 50 * (byte & 1) for byte in prompt)
    made = [drawn(still, prompt, 1, seed)[0] for seed in range(300)]
    share = sum(value in (100, 150) for value in made) / 300
    bits = [still.start(257).score(prompt + bytes([value]))[-1] for value in (100, 150)]
    assert share == pytest.approx(sum(2.0**-b for b in bits), abs=0.08)


@pytest.mark.skipif(SLOW, reason="takes a while in NumPy")
@pytest.mark.parametrize("kind", ["text", "plain", "image", "audio", "record"])
def test_a_known_kind_codes_without_a_list(kind: str) -> None:
    parameters = {
        "image": PIXELS,
        "audio": STEREO,
        "record": {"width": 4, "unit": 2, "big": 0, "phase": 0},
    }.get(kind, {})
    neural = resolve("neural:5")
    if kind == "record":
        fields = next(one.fields for one in neural._kinds().values() if one.name == kind)  # type: ignore[attr-defined]
        parameters = dict(zip(fields, (4, 2, 0, 0), strict=True))
    known = neural.of_kind(kind, parameters)
    data = tone(1000)
    code, payload = encode_block(known, data)
    assert decode_block(known, code, payload, len(data)) == data
    assert known.start(len(data)).score(data).sum() / 8 == pytest.approx(len(payload), rel=0.01, abs=4)
    assert known.memory(1000) > 0
    assert known.fingerprint() != neural.fingerprint()
    with pytest.raises(PredictorError, match="writes no files"):
        known.parameters()
    if kind == "record":
        with pytest.raises(PredictorError, match="do not sample"):
            drawn(known, data, 10)
    else:
        assert len(drawn(known, data[:992], 8)) == 8
        assert drawn(known, data[:992], 0) == b""


def test_prompts_end_with_rows_and_samples() -> None:
    cm = resolve("cm:1")
    with pytest.raises(PredictorError, match="whole rows of 16 bytes"):
        drawn(cm.of_kind("image", PIXELS), bytes(17), 16)
    with pytest.raises(PredictorError, match="too long to be drawn"):
        drawn(cm.of_kind("image", PIXELS | {"stride": 3000}), b"", 3000)
    with pytest.raises(PredictorError, match="whole samples of 2 bytes"):
        drawn(cm.of_kind("audio", STEREO), bytes(5), 16)
    with pytest.raises(PredictorError, match="top-k"):
        cm.of_kind("image", PIXELS).continuation(b"", 16, Randomness(1), Choice(1, 5))


def test_kinds_and_parameters_that_are_not_there() -> None:
    cm = resolve("cm:1")
    with pytest.raises(PredictorError, match="has no kind 'text'; choose plain, image"):
        cm.of_kind("text", {})
    with pytest.raises(PredictorError, match="has the parameters stride, channels, order"):
        cm.of_kind("image", {"stride": 3})
    with pytest.raises(PredictorError, match="go from 0 to"):
        cm.of_kind("image", PIXELS | {"stride": -3})
    order0 = Order0()
    assert order0.of_kind("image", PIXELS) is order0
