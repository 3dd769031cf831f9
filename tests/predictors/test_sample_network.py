"""Mixtures and the exact network of samples (docs/samples.md): the same bits from NumPy and C."""

from __future__ import annotations

import itertools
import math
import struct
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from helpers.implementations import IMPLEMENTATIONS, NATIVE
from kolmo.errors import PredictorError
from kolmo.native import reference, tables
from kolmo.native.samples import mixture as mixtures
from kolmo.native.samples import network as page
from kolmo.native.samples.mixture import MAX_SCALE, MIN_SCALE, SampleMixture
from kolmo.predictors.embedded import sample_network
from kolmo.predictors.embedded.sample_network import SHIPPED, SampleShape, SampleWeights

PATHS = NATIVE.PATHS if NATIVE else ()
SHAPES = [SampleShape(), SampleShape(64, 1), SampleShape(256, 4)]
Samples = npt.NDArray[np.int32]


@pytest.fixture(autouse=True)
def _restore_path() -> Iterator[None]:
    yield
    if NATIVE:
        NATIVE.force_path(NATIVE.PATHS[-1])


def make(shape: SampleShape, seed: int = 1, loud: float = 1.0) -> SampleWeights:
    """A network of random weights, the same on every machine."""
    rng, parts = np.random.default_rng(seed), []
    for name, place in shape.places().items():
        if place.dtype == "I8":
            parts.append(rng.integers(-127, 128, place.count).astype(np.int8).tobytes())
        elif place.dtype == "I32":
            parts.append(rng.integers(-(1 << 17), 1 << 17, place.count).astype("<i4").tobytes())
        else:
            size = 0.4 if name.endswith("bias") else 3e-4
            parts.append((rng.normal(size=place.count) * size * loud).astype("<f4").tobytes())
    return SampleWeights(shape, b"".join(parts))


def sound(bits: int, size: int = 420, seed: int = 2) -> tuple[Samples, Samples]:
    """Two channels that wander, are silent, are random, and are as loud as can be."""
    rng, edge = np.random.default_rng(seed), 1 << bits - 1
    wave = np.cumsum(rng.normal(0, edge / 32, size))
    wave[60:130] = 0
    wave[130:200] = rng.uniform(-edge, edge, 70)
    wave[200:240:2], wave[201:240:2] = -edge, edge
    own = np.clip(np.rint(wave), -edge, edge - 1).astype(np.int32)
    other = np.clip(np.roll(own, 2) + rng.integers(-1, 2, size), -edge, edge - 1).astype(np.int32)
    return own, other


def random_mixtures(bits: int, count: int) -> tuple[Any, ...]:
    """Locations, scales and weights of mixtures, and a sample for each: far and near, wide and narrow."""
    rng, edge = np.random.default_rng(bits), 1 << bits - 1
    location = rng.integers(-256 * edge, 256 * edge, (count, 8))
    location[::9] = rng.integers(-(1 << 33), (1 << 33) + 1, (len(location[::9]), 8))
    scale = rng.integers(MIN_SCALE, MAX_SCALE + 1, (count, 8)).astype(np.int32)
    weight = rng.integers(0, (1 << 22) + 1, (count, 8)).astype(np.uint32)
    weight[np.arange(count), rng.integers(0, 8, count)] = 1 << 22
    samples = rng.integers(-edge, edge, count).astype(np.int32)
    samples[:4] = -edge
    samples[4:8] = edge - 1
    return location.astype(np.int64), scale, weight, samples


# Mixtures


@pytest.mark.skipif(NATIVE is None, reason="the C kernels are not built here")
@pytest.mark.parametrize("bits", [1, 2, 8, 12, 16, 24])
def test_c_and_python_mixtures_agree(bits: int) -> None:
    location, scale, weight, samples = random_mixtures(bits, 90)
    arrays = location.tobytes(), scale.tobytes(), weight.tobytes(), samples.tobytes()
    found = NATIVE.sample_masses(bits, *arrays)
    assert found == reference.sample_masses(bits, *arrays)
    assert np.frombuffer(found[0], np.uint64).min() > 0
    assert np.frombuffer(found[1], np.uint64).max() < 1 << 58


@pytest.mark.skipif(NATIVE is None, reason="the C kernels are not built here")
def test_c_and_python_logits_agree() -> None:
    rng = np.random.default_rng(1)
    for size in range(3, 58):
        low, middle, high = sorted(rng.choice(1 << min(size, 30), 3, replace=False).tolist())
        shift = max(size - 30, 0)
        weights = low << shift, middle << shift, high << shift
        assert NATIVE.sample_split(*weights) == reference.sample_split(*weights)
    for value in (0, 1, 2, 1023, 1024, 2047, 123_456_789, (1 << 63) + 5):
        assert NATIVE.sample_log2(value) == reference.sample_log2(value)
        assert value == 0 or abs(reference.sample_log2(value) / 1024 - math.log2(value)) < 1e-2
    with pytest.raises(ValueError, match="increase"):
        NATIVE.sample_split(1, 1, 2)


def test_a_mixture_is_a_distribution() -> None:
    mixture = SampleMixture(8, [300, -2000, 0], [2048, 0, MIN_SCALE], [1 << 22, 70_000, 1 << 20])
    below = [mixture.below(value) for value in range(-128, 129)]
    steps = np.diff(np.array(below, np.float64))
    assert below[0] == 0
    assert (steps > 0).all()
    total = float(below[-1])
    values = np.arange(-128, 128)

    def logistic(location: float, scale: float) -> Any:
        away = np.clip((np.arange(-128, 129) - 0.5 - location) / scale, -700, 700)
        ends = 1 / (1 + np.exp(-away))
        ends[0], ends[-1] = 0, 1
        return np.diff(ends)

    parts = [
        logistic(location / 256, 2 ** (scale / 1024))
        for location, scale in zip(mixture.location, mixture.scale, strict=True)
    ]
    share = np.array(mixture.weight) / sum(mixture.weight)
    expected = (share @ np.array(parts) + 2.0**-13 / len(values)) / (1 + 2.0**-13)
    assert np.abs(steps / total - expected).max() < 1e-4
    assert np.abs(np.log2(steps / total / expected)).max() < 0.1


@pytest.mark.parametrize("bits", [8, 16])
def test_bits_add_up_to_the_sample(bits: int) -> None:
    """The cost of a sample's bits is that of its mass, but for the stretch domain's steps and bounds."""
    edge = 1 << bits - 1
    mixture = SampleMixture(bits, [5 * edge, -40 * edge], [1024 * (bits - 4), 1024 * (bits - 6)], [1 << 22, 1 << 21])
    for value in (-edge, -edge // 7, 0, edge // 50, edge // 3, edge - 1):
        low, high, cost = -edge, edge, 0.0
        while high - low > 1:
            middle = (low + high) // 2
            one = 1 / (1 + math.exp(-mixture.logit(low, middle, high) / 256))
            low, high, cost = (
                (middle, high, cost - math.log2(one)) if value >= middle else (low, middle, cost - math.log2(1 - one))
            )
        mass = (mixture.below(value + 1) - mixture.below(value)) / mixture.below(edge)
        assert low == value
        assert abs(cost + math.log2(mass)) < 0.2 + 0.02 * cost


def test_low_bits_far_away_are_even() -> None:
    mixture = SampleMixture.one(16, 0, 0)
    assert mixture.logit(30_000, 30_001, 30_002) == 0
    assert SampleMixture.one(16, 1 << 60, -(1 << 30)) == SampleMixture.one(16, 1 << 33, MIN_SCALE)


@pytest.mark.parametrize("kernels", IMPLEMENTATIONS)
def test_mixtures_that_are_none(kernels: ModuleType) -> None:
    location, scale, weight, samples = random_mixtures(8, 3)

    def masses(bits: int = 8, **changed: Any) -> None:
        arrays = {"location": location, "scale": scale, "weight": weight, "samples": samples, **changed}
        kernels.sample_masses(bits, *(array.tobytes() for array in arrays.values()))

    masses()
    for changed in (
        {"location": location[:2]},
        {"scale": scale[:2]},
        {"weight": weight[:, :7]},
        {"samples": samples[:2]},
    ):
        with pytest.raises(ValueError, match="do not belong together"):
            masses(**changed)
    far, heavy = location + (1 << 34), weight + np.uint32(1)
    for changed in (
        {"location": far},
        {"location": np.full_like(location, -(1 << 63))},
        {"scale": scale + 40_000},
        {"scale": scale - 40_000},
        {"weight": heavy},
        {"weight": weight // 4},
        {"samples": samples + 300},
        *({"bits": bits} for bits in (0, 25, -1)),
    ):
        with pytest.raises(ValueError, match="a value that mixtures do not have"):
            masses(**changed)


# The network


@pytest.mark.skipif(NATIVE is None, reason="the C kernels are not built here")
@pytest.mark.parametrize("bits", [1, 8, 16, 24])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_all_paths_give_the_same_bits(shape: SampleShape, bits: int) -> None:
    own, other = sound(bits)
    for loud in (1.0, 300.0):  # activations that are cut off, logits far apart
        weights = make(shape, loud=loud)
        networks = [kernels.SampleNetwork(weights.config, weights.weights) for kernels in (reference, NATIVE)]
        for beside in (None, other.tobytes()):
            expected = networks[0].predict(own.tobytes(), beside, bits)
            for path in PATHS:
                NATIVE.force_path(path)
                assert networks[1].predict(own.tobytes(), beside, bits) == expected, path


@pytest.mark.skipif(not SHIPPED.exists(), reason="no network of samples ships yet")
@pytest.mark.parametrize("path", PATHS)
def test_the_shipped_network_gives_the_same_bits(path: str) -> None:
    weights = sample_network.shipped()
    NATIVE.force_path(path)
    rng, time = np.random.default_rng(3), np.arange(600)
    for bits, most in ((8, 4.0), (16, 12.0)):
        wave = (2.0 ** (bits - 3)) * (np.sin(time / 9) + 0.5 * np.sin(time / 3.7)) + rng.normal(
            0, 2.0 ** (bits - 8), 600
        )
        samples = np.rint(wave).astype(np.int32).tobytes()
        found = NATIVE.SampleNetwork(weights.config, weights.weights).predict(samples, None, bits)
        assert found == reference.SampleNetwork(weights.config, weights.weights).predict(samples, None, bits)
        chosen, whole = (np.frombuffer(part, np.uint64) for part in NATIVE.sample_masses(bits, *found, samples))
        assert np.log2(whole / chosen).mean() < most  # it has learned what sounds are like


@pytest.mark.parametrize("kernels", IMPLEMENTATIONS)
def test_only_samples_before_are_read(kernels: ModuleType) -> None:
    weights, bits = make(SampleShape(64, 2)), 8
    own, other = sound(bits, 300)
    network = kernels.SampleNetwork(weights.config, weights.weights)
    expected = network.predict(own.tobytes(), other.tobytes(), bits)
    own[280], other[281] = own[280] ^ 1, other[281] ^ 1
    found = network.predict(own.tobytes(), other.tobytes(), bits)
    for before, after, size in zip(expected, found, (64, 32, 32), strict=True):
        assert before[: 281 * size] == after[: 281 * size]
    assert found != expected


def test_the_channels_scale_does_not_matter_much() -> None:
    """Differences are measured in a unit of the sound's own, so a louder sound is predicted as the quiet one is."""
    weights = make(SampleShape(64, 2), loud=0.1)
    network, (own, _) = reference.SampleNetwork(weights.config, weights.weights), sound(16)
    quiet, loud = (np.frombuffer(network.predict(s.tobytes(), None, 24)[0], np.int64) for s in (own * 4, own * 200))
    assert np.corrcoef(quiet, loud)[0, 1] > 0.9


@pytest.mark.parametrize("kernels", IMPLEMENTATIONS)
def test_arguments_that_are_none(kernels: ModuleType) -> None:
    weights = make(SampleShape(64, 1))
    network, one = kernels.SampleNetwork(weights.config, weights.weights), np.array([5], np.int32).tobytes()
    assert network.predict(b"", None, 8) == (b"", b"", b"")
    for bits in (0, 25, -3):
        with pytest.raises(ValueError, match="1 to 24 bits"):
            network.predict(one, None, bits)
    with pytest.raises(ValueError, match="more than 3 bits"):
        network.predict(one, None, 3)
    with pytest.raises(ValueError, match="equally many"):
        network.predict(one, one * 2, 8)
    for config, tensors in ((b"", weights.weights), (weights.config * 2, weights.weights), (weights.config, b"x")):
        with pytest.raises(ValueError, match=r"does not fit|do not fit"):
            kernels.SampleNetwork(config, tensors)
    for at, bad in ((0, struct.pack("<i", (1 << 20) + 1)), (0, struct.pack("<i", -(1 << 31))), (4 * 24 * 48, b"\x80")):
        wrong = weights.weights[:at] + bad + weights.weights[at + len(bad) :]
        with pytest.raises(ValueError, match="out of its range"):
            kernels.SampleNetwork(weights.config, wrong)


def test_the_logarithm() -> None:
    values = np.unique(np.concatenate([np.arange(1, 3000), np.geomspace(3000, (1 << 31) - 64, 3000).astype(np.int64)]))
    assert np.abs(page.natural(values) - np.log(values)).max() < 2e-4


def test_the_table_of_the_logistic_function() -> None:
    table = tables.sigmoid().tolist()
    assert (len(table), table[768], table[-1]) == (1537, 1 << 31, (1 << 32) - 1)
    assert all(a <= b for a, b in itertools.pairwise(table))
    assert all(abs(table[i] - 2**32 / (1 + math.exp(24 - i / 32))) <= 1 for i in range(1537))


def test_the_shape_is_the_pages() -> None:
    assert SampleShape().parameters == 54_687
    assert (sample_network.INPUTS, sample_network.OUTPUTS) == (page.INPUTS, page.OUTPUTS)
    assert (sample_network.FUNCTIONS, sample_network.COEFFICIENTS) == (page.FUNCTIONS, page.LAGS + page.OTHER)
    assert mixtures.FULL_WEIGHT == 1 << 22
    for shape in (SampleShape(0), SampleShape(96), SampleShape(320), SampleShape(64, 9), SampleShape(64, 0)):
        assert shape.problem()
        with pytest.raises(PredictorError, match=r"docs/samples\.md"):
            SampleWeights(shape, b"")
