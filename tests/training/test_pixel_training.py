"""Training on pictures: data, model, and the exact network in torch."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
Image = pytest.importorskip("PIL.Image")

from helpers.media_made import make_pictures  # noqa: E402
from kolmo.native.dispatch import kernels  # noqa: E402
from kolmo.predictors.embedded.pixel_network import PixelShape, PixelWeights  # noqa: E402
from kolmo.training.networks.exact_pixels import ExactPixels  # noqa: E402
from kolmo.training.networks.pixels import PixelModel, floats, quantise  # noqa: E402
from kolmo.training.pictures.data import ORDER, PixelSampler, open_pictures  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    make_pictures(tmp_path / "some")
    return tmp_path


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
