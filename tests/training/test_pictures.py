"""Training on pictures: data, model, the exact network in torch, and `kolmo train --model pixels`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
Image = pytest.importorskip("PIL.Image")
import click  # noqa: E402
from click.testing import CliRunner  # noqa: E402

from kolmo.cli import group  # noqa: E402
from kolmo.errors import KolmoError  # noqa: E402
from kolmo.native.dispatch import kernels  # noqa: E402
from kolmo.predictors.embedded.pixel_network import PixelShape, PixelWeights, load  # noqa: E402
from kolmo.training.networks.exact_pixels import ExactPixels  # noqa: E402
from kolmo.training.networks.pixels import PixelModel, floats, quantise  # noqa: E402
from kolmo.training.pictures.data import ORDER, PixelSampler, open_pictures  # noqa: E402

FAST = ["--model", "pixels", "--lanes", "32", "-T", "1", "-q"]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three pictures in colour and one in grey; a file that is none."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "some" / "deeper").mkdir(parents=True)
    rng = np.random.default_rng(1)
    for number in range(3):
        walk = np.clip(np.cumsum(rng.integers(-6, 7, (36, 70, 1)), 1) + 128, 0, 255)
        Image.fromarray((walk + rng.integers(0, 3, (36, 70, 3))).clip(0, 255).astype(np.uint8)).save(
            f"some/{number}.png"
        )
    Image.fromarray(rng.integers(0, 9, (20, 30)).astype(np.uint8)).save("some/deeper/grey.bmp")
    (tmp_path / "some" / "notes.txt").write_text("not a picture")
    return tmp_path


def train(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(group, ["train", *FAST, *arguments], standalone_mode=False)
    if isinstance(result.exception, click.ClickException):
        return result.exception.exit_code, result.exception.format_message()
    if result.exception is not None:
        raise result.exception
    return result.return_value, result.output


def test_pictures_are_read_and_held_out(folder: Path) -> None:
    (source,) = open_pictures([(folder / "some", 2.0)])
    grey, colour = source.learned
    assert (source.name, source.weight, source.count) == ("some", 2.0, 4)
    assert source.held_out[0].rows.tolist() == [20]  # the last one: "deeper" comes after the digits
    assert source.held_out[1] is None
    assert colour is not None
    assert grey.rows.tolist() == colour.rows.tolist() == [36] * 3
    first = np.asarray(Image.open("some/0.png"))
    assert (colour.data[: first.size] == first.ravel()).all()
    assert (grey.data[: 36 * 70] == (first.astype(int).sum(2) // 3).ravel()).all()


def test_patches_know_nothing_of_each_other(folder: Path) -> None:
    (source,) = open_pictures([(folder / "some", None)])
    grey = source.learned[0]
    number, row, column = np.array([0, 0, 1]), np.array([32, 5, 35]), np.array([64, 65, 2])
    found, _ = grey.look(grey.places(number, row, column, True), 0)
    assert found.known.sum(1).tolist() == [0, 4, 5]  # a corner; the second column of a narrow patch; inside
    whole, values = grey.look(grey.places(number, row, column, False), 0)
    assert whole.known.all()
    assert values.tolist() == grey.data.reshape(3, 36, 70)[number, row, column].tolist()


def test_the_sampler_goes_on(folder: Path) -> None:
    sources = open_pictures([(folder / "some", None)])
    sampler = PixelSampler(sources, 16, 1)
    list(sampler.batch())
    state = json.loads(json.dumps(sampler.state()))
    expected = [values.tolist() for _, _, values in sampler.batch()]
    again = PixelSampler(sources, 16, 2)
    again.restore(state)
    assert [values.tolist() for _, _, values in again.batch()] == expected
    assert [kind for kind, _, _ in again.batch()] == [0, 1, 2, 3]


def noisy(shape: PixelShape) -> PixelModel:
    """A model whose every parameter matters."""
    torch.manual_seed(3)
    model = PixelModel(shape)
    with torch.no_grad():
        for linear in model.linear:
            linear.normal_(std=0.05)
        model.head.normal_(std=0.2)
        model.first_bias.normal_(std=0.3)
        model.deeper_bias.normal_(std=0.3)
    return model


@pytest.mark.parametrize("shape", [PixelShape(), PixelShape(128, 0)], ids=str)
def test_torch_gives_the_kernels_bits(shape: PixelShape, folder: Path) -> None:
    (source,) = open_pictures([(folder / "some", None)])
    model = noisy(shape)
    weights = quantise(model)
    model.quantised = True
    exact, kernel = ExactPixels(weights), kernels.PixelNetwork(weights.config, weights.weights)
    for pictures, first in ((source.learned[0], 0), (source.learned[1], 1)):
        assert pictures is not None
        raw, rng = pictures.data[: 36 * 70 * pictures.channels].tobytes(), np.random.default_rng(5)
        order = ORDER if first else (0,)
        scored = np.frombuffer(kernel.score(raw, 70 * pictures.channels, pictures.channels, order), "=u4").reshape(
            -1, 2
        )
        row, column = rng.integers(0, 36, 200), rng.integers(0, 70, 200)
        places = pictures.places(np.zeros(200, np.int64), row, column, False)
        for kind in range(first, first + pictures.channels):
            found, values = pictures.look(places, kind)
            sums = exact.run(kind, found).numpy()
            at = places.at + order[max(kind - 1, 0)]
            assert (sums[np.arange(200), 256 + values] == scored[at, 0]).all()
            assert (sums[:, 1] == scored[at, 1]).all()
            with torch.no_grad():
                nats = model(kind, found, torch.from_numpy(values)).numpy()
            bits = np.log2(scored[at, 1] / scored[at, 0])
            apart = abs(nats / np.log(2) - bits)  # the training's arithmetic is the exact one, but for some roundings
            assert np.median(apart) < 0.002
            assert apart.mean() < 0.1


def test_weights_come_back(folder: Path) -> None:
    weights = quantise(noisy(PixelShape()))
    model = PixelModel(PixelShape())
    model.load_state_dict(floats(weights))
    again = quantise(model)
    assert isinstance(again, PixelWeights)
    for name, place in weights.shape.places().items():
        if place.dtype != "F32":
            part = slice(place.begin, place.begin + place.size)
            assert again.weights[part] == weights.weights[part], name


def test_gradients_are_those_of_the_plain_formula() -> None:
    from kolmo.training.networks.pixels import _Nats

    torch.manual_seed(2)
    logits, fraction = torch.randn(5, 512, dtype=torch.float64), torch.rand(5, dtype=torch.float64)
    outside = torch.zeros(5, 512, dtype=torch.float64)
    outside[:, :100] = outside[:, 356:] = -torch.inf
    target = torch.tensor([100, 120, 355, 200, 300])
    assert torch.autograd.gradcheck(
        lambda a, b: _Nats.apply(a, b, outside.clone(), target), (logits.requires_grad_(), fraction.requires_grad_())
    )


def test_from_pictures_to_network(folder: Path) -> None:
    code, output = train("some", "-o", "run", "--budget", "30steps")
    assert code == 0, output
    weights = load("run/pixels.safetensors")
    assert weights.about["pictures"] == "some"
    assert weights.about["trained_bytes"] == str(30 * 4 * 32)
    card = Path("run/card.md").read_text()
    assert weights.fingerprint.hex() in card
    assert "| some, grey patches |" in card
    entries = [json.loads(line) for line in Path("run/log.jsonl").read_text().splitlines()]
    scores: dict[str, Any] = entries[-1]["scores"]
    assert all(abs(score["exact"] / score["float"] - 1) < 0.003 for score in scores.values())
    before = Path("run/pixels.safetensors").read_bytes()
    assert train("some", "-o", "run", "--budget", "30steps")[0] == 0  # finished: nothing is done again
    assert Path("run/pixels.safetensors").read_bytes() == before
    assert train("some", "-o", "more", "--budget", "2steps", "--init", "run/pixels.safetensors")[0] == 0


def test_interrupted_is_as_good_as_in_one_go(folder: Path) -> None:
    from kolmo.training.monitor import Monitor, Status
    from kolmo.training.pictures.trainer import PixelTrainer
    from kolmo.training.products.folder import RunFolder
    from kolmo.training.settings import Budget, Settings

    class Stopping(Monitor):
        steps = 0

        def step(self, status: Status) -> None:
            self.steps += 1

        def stop(self) -> bool:
            return self.steps == 5

    sources = open_pictures([(folder / "some", None)])
    settings = Settings(Budget(12, "steps"), lanes=16, steps=1, quantise_from=0.5)

    def trainer(name: str, monitor: Monitor | None = None) -> PixelTrainer:
        (folder / name).mkdir(exist_ok=True)
        made = PixelTrainer(PixelShape(), settings, sources, RunFolder(folder / name), monitor=monitor)
        saved = made.folder.load()
        if saved:
            made.restore(saved)
        return made

    whole = trainer("one")
    assert whole.run()
    assert not trainer("two", Stopping()).run()
    parts = trainer("two")
    assert parts.run()
    for expected, found in zip(whole.model.parameters(), parts.model.parameters(), strict=True):
        assert torch.equal(expected, found)


def test_errors_are_one_line(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "one").mkdir()
    (folder / "some" / "0.png").rename(folder / "one" / "0.png")
    with pytest.raises(KolmoError, match="too few"):
        open_pictures([(folder / "one", None)])
    with pytest.raises(KolmoError, match="not a folder"):
        open_pictures([(folder / "none", None)])
    with pytest.raises(KolmoError, match="this name"):
        open_pictures([(folder / "one", None), (folder / "one", None)])
    (folder / "one" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    code, output = train("one", "-o", "run")
    assert code != 0
    assert output.count("\n") == 1
    assert "not a picture that Pillow reads" in output
    monkeypatch.setitem(__import__("sys").modules, "PIL", None)
    code, output = train("one", "-o", "run")
    assert code != 0
    assert output.count("\n") == 1
    assert "Pillow" in output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--tables", "2:8"], "--tables is for models of text"),
        (["--vocabulary", "bpe:300"], "--vocabulary is for models of text"),
        (["--validate", "x"], "--validate is for models of text"),
        (["--state", "100"], "no network of pixels has a width of 100"),
        (["--layers", "9"], "no network of pixels has 9 layers"),
    ],
)
def test_usage_errors(arguments: list[str], message: str, folder: Path) -> None:
    code, output = train("some", "-o", "run", *arguments)
    assert code == 2
    assert message in output
