"""Training on sounds: data, model, and the exact network in torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
soundfile = pytest.importorskip("soundfile")

from helpers.media_made import make_sounds, tone  # noqa: E402
from kolmo.native.dispatch import kernels  # noqa: E402
from kolmo.predictors.embedded.sample_network import SampleShape  # noqa: E402
from kolmo.training.networks.exact_samples import ExactSamples  # noqa: E402
from kolmo.training.networks.samples import SampleModel, floats, quantise  # noqa: E402
from kolmo.training.sounds.data import open_sounds  # noqa: E402
from kolmo.training.sounds.run import exact_scores  # noqa: E402
from kolmo.training.sounds.sampler import RENEW_EVERY, RENEWED, TRACKS, SampleSampler, make_track  # noqa: E402
from kolmo.training.sounds.trainer import draw_pieces, whole  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    make_sounds(tmp_path / "some")
    return tmp_path


def test_sounds_are_read_and_held_out(folder: Path) -> None:
    (source,) = open_sounds([(folder / "some", 2.0)])
    assert (source.name, source.weight) == ("some", 2.0)
    assert [sound.shape for sound in source.learned] == [(6000, 1)] * 3
    assert [sound.shape for sound in source.held_out] == [(6000, 2)]  # the last one: "deeper" comes after the digits
    assert (source.learned[1] == tone(1)).all()
    pieces = draw_pieces([source])
    assert {name: len(parts) for name, parts in pieces.items()} == {"some, 8 bits": 2, "some, 16 bits": 2}
    own, other, bits = pieces["some, 8 bits"][0]
    assert bits == 8
    assert other is not None
    assert (own == tone(7, 2)[:2048, 1] >> 8).all()
    assert (other == tone(7, 2)[:2048, 0] >> 8).all()


def test_batches_follow_from_their_numbers(folder: Path) -> None:
    sources = open_sounds([(folder / "some", None)])
    sampler, far = SampleSampler(sources, 32, 1), 3 * RENEW_EVERY + 7
    first = sampler.batch(0)
    expected = sampler.batch(far)
    again = SampleSampler(sources, 32, 1).batch(far)
    for name in ("past", "other", "bits", "stereo", "target"):
        assert torch.equal(getattr(again, name), getattr(expected, name))
    assert not torch.equal(first.target, expected.target)
    assert len(set(sampler._numbers)) == TRACKS
    assert max(sampler._numbers) == TRACKS + 3 * RENEWED - 1
    # the sample before and the one of the same time are where the network expects them
    piece = draw_pieces(sources)["some, 16 bits"][1]
    batch = whole(piece)
    assert (batch.past[1:, 0] == batch.target[:-1]).all()
    assert (batch.past[5:, 4] == batch.target[:-5]).all()
    assert piece[1] is not None
    assert (batch.other[:, 0].numpy() == piece[1]).all()
    assert (batch.other[2:, 2].numpy() == piece[1][:-2]).all()
    assert not batch.past[0].any()


def test_tracks_are_samples_of_their_bits(folder: Path) -> None:
    sources, seen = open_sounds([(folder / "some", None)]), set()
    for number in range(60):
        track = make_track(sources, np.random.default_rng(number))
        edge = 1 << track.bits - 1
        for channel in (track.own, track.other):
            assert channel.min() >= -edge
            assert channel.max() < edge
        assert len(track.own) == len(track.other)
        assert track.stereo or not track.other.any()
        seen.add((track.bits, track.stereo))
    assert {(8, False), (16, False), (8, True)} <= seen


def noisy(shape: SampleShape) -> SampleModel:
    """A model whose every parameter matters."""
    torch.manual_seed(3)
    model = SampleModel(shape)
    with torch.no_grad():
        model.head.normal_(std=0.05)
        model.first_bias.normal_(std=0.3)
        model.deeper_bias.normal_(std=0.3)
    return model


@pytest.mark.parametrize("shape", [SampleShape(), SampleShape(64, 1)], ids=str)
def test_torch_gives_the_kernels_bits(shape: SampleShape, folder: Path) -> None:
    pieces = draw_pieces(open_sounds([(folder / "some", None)]))
    model = noisy(shape)
    weights = quantise(model)
    model.quantised = True
    exact, kernel = ExactSamples(weights), kernels.SampleNetwork(weights.config, weights.weights)
    for name, parts in pieces.items():
        for both in (True, False):
            own, other, bits = parts[0]
            piece = own[:300], other[:300] if both and other is not None else None, bits
            batch = whole(piece)
            found = exact.run(batch.past.long(), batch.other.long() if both else None, bits)
            expected = kernel.predict(piece[0].tobytes(), piece[1].tobytes() if piece[1] is not None else None, bits)
            for tensor, raw, dtype in zip(found, expected, (np.int64, np.int32, np.uint32), strict=True):
                assert (tensor.numpy() == np.frombuffer(raw, dtype).reshape(-1, 8)).all(), name
            with torch.no_grad():
                bits_each = float(model(batch).mean()) / np.log(2) / (bits // 8)
            scored = exact_scores(weights, {"": [piece]})[""]
            assert abs(bits_each / scored - 1) < 0.003  # the training's arithmetic is the exact network's


@pytest.mark.parametrize("shape", [SampleShape(), SampleShape(64, 1)], ids=str)
def test_weights_come_back(shape: SampleShape) -> None:
    weights = quantise(noisy(shape))
    model = SampleModel(shape)
    model.load_state_dict(floats(weights))
    again = quantise(model)
    for name, place in weights.shape.places().items():
        if place.dtype != "F32":
            part = slice(place.begin, place.begin + place.size)
            assert again.weights[part] == weights.weights[part], name
