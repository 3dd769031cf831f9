"""Training on sounds: data, model, the exact network in torch, and `kolmo train --model samples`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

torch = pytest.importorskip("torch")
soundfile = pytest.importorskip("soundfile")
import click  # noqa: E402
from click.testing import CliRunner  # noqa: E402

from kolmo.cli import group  # noqa: E402
from kolmo.errors import KolmoError  # noqa: E402
from kolmo.native.dispatch import kernels  # noqa: E402
from kolmo.predictors.embedded.sample_network import SampleShape, load  # noqa: E402
from kolmo.training.networks.exact_samples import ExactSamples  # noqa: E402
from kolmo.training.networks.samples import SampleModel, floats, quantise  # noqa: E402
from kolmo.training.sounds.data import open_sounds  # noqa: E402
from kolmo.training.sounds.run import exact_scores  # noqa: E402
from kolmo.training.sounds.sampler import RENEW_EVERY, RENEWED, TRACKS, SampleSampler, make_track  # noqa: E402
from kolmo.training.sounds.trainer import draw_pieces, whole  # noqa: E402

FAST = ["--model", "samples", "--lanes", "64", "-T", "1", "-q"]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def tone(number: int, channels: int = 1) -> npt.NDArray[np.int16]:
    """A chord with noise, different for each number."""
    rng, time = np.random.default_rng(number), np.arange(6000)
    wave = 4000 * np.sin(time / (5 + number)) + 2000 * np.sin(time / 17.3) + 500 * np.sin(time / (2 + number / 3))
    beside = 0.7 * np.roll(wave, 3) + rng.normal(0, 30, len(wave))
    both = np.stack([wave + rng.normal(0, 40, len(wave)), beside], 1)[:, :channels]
    rounded: npt.NDArray[np.int16] = np.rint(both).astype(np.int16)
    return rounded


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three sounds of one channel and one of two; one that is too short, and a file that is none."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "some" / "deeper").mkdir(parents=True)
    for number in range(3):
        soundfile.write(f"some/{number}.flac", tone(number), 16000, subtype="PCM_16")
    soundfile.write("some/deeper/both.wav", tone(7, 2), 44100, subtype="PCM_16")
    soundfile.write("some/short.wav", tone(1)[:100], 16000, subtype="PCM_16")
    (tmp_path / "some" / "notes.txt").write_text("not a sound")
    return tmp_path


def train(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(group, ["train", *FAST, *arguments], standalone_mode=False)
    if isinstance(result.exception, click.ClickException):
        return result.exception.exit_code, result.exception.format_message()
    if result.exception is not None:
        raise result.exception
    return result.return_value, result.output


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


def test_from_sounds_to_network(folder: Path) -> None:
    code, output = train("some", "-o", "run", "--budget", "40steps")
    assert code == 0, output
    weights = load("run/samples.safetensors")
    assert weights.about["sounds"] == "some"
    card = Path("run/card.md").read_text()
    assert weights.fingerprint.hex() in card
    assert "| some, 8 bits |" in card
    entries = [json.loads(line) for line in Path("run/log.jsonl").read_text().splitlines()]
    scores: dict[str, Any] = entries[-1]["scores"]
    assert all(abs(score["exact"] / score["float"] - 1) < 0.003 for score in scores.values())
    assert int(weights.about["trained_bytes"]) == entries[-1]["bytes"]
    before = Path("run/samples.safetensors").read_bytes()
    assert train("some", "-o", "run", "--budget", "40steps")[0] == 0  # finished: nothing is done again
    assert Path("run/samples.safetensors").read_bytes() == before
    assert train("some", "-o", "more", "--budget", "2steps", "--init", "run/samples.safetensors")[0] == 0


def test_interrupted_is_as_good_as_in_one_go(folder: Path) -> None:
    from kolmo.training.monitor import Monitor, Status
    from kolmo.training.products.folder import RunFolder
    from kolmo.training.settings import Budget, Settings
    from kolmo.training.sounds.trainer import SampleTrainer

    class Stopping(Monitor):
        steps = 0

        def step(self, status: Status) -> None:
            self.steps += 1

        def stop(self) -> bool:
            return self.steps == 5

    sources = open_sounds([(folder / "some", None)])
    settings = Settings(Budget(12, "steps"), lanes=16, steps=1, quantise_from=0.5)

    def trainer(name: str, monitor: Monitor | None = None) -> SampleTrainer:
        (folder / name).mkdir(exist_ok=True)
        made = SampleTrainer(SampleShape(), settings, sources, RunFolder(folder / name), monitor=monitor)
        saved = made.folder.load()
        if saved:
            made.restore(saved)
        return made

    in_one_go = trainer("one")
    assert in_one_go.run()
    assert not trainer("two", Stopping()).run()
    parts = trainer("two")
    assert parts.run()
    for expected, found in zip(in_one_go.model.parameters(), parts.model.parameters(), strict=True):
        assert torch.equal(expected, found)


def test_errors_are_one_line(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "one").mkdir()
    (folder / "some" / "0.flac").rename(folder / "one" / "0.flac")
    with pytest.raises(KolmoError, match="too few"):
        open_sounds([(folder / "one", None)])
    with pytest.raises(KolmoError, match="not a folder"):
        open_sounds([(folder / "none", None)])
    with pytest.raises(KolmoError, match="this name"):
        open_sounds([(folder / "one", None), (folder / "one", None)])
    (folder / "one" / "broken.wav").write_bytes(b"RIFF\x10\0\0\0WAVEbroken")
    code, output = train("one", "-o", "run")
    assert code != 0
    assert output.count("\n") == 1
    assert "not a sound that soundfile reads" in output
    monkeypatch.setitem(__import__("sys").modules, "soundfile", None)
    code, output = train("one", "-o", "run")
    assert code != 0
    assert output.count("\n") == 1
    assert "soundfile" in output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--tables", "2:8"], "--tables is for models of text"),
        (["--validate", "x"], "--validate is for models of text"),
        (["--state", "100"], "no network of samples has a width of 100"),
        (["--layers", "9"], "no network of samples has 9 layers"),
    ],
)
def test_usage_errors(arguments: list[str], message: str, folder: Path) -> None:
    code, output = train("some", "-o", "run", *arguments)
    assert code == 2
    assert message in output
