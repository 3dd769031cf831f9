"""The mixer of pictures: the same bits in C on every path and in NumPy, for odd sizes and hostile pictures."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from helpers.implementations import NATIVE
from kolmo.native import reference, tables
from kolmo.native.dispatch import kernels
from kolmo.native.pixel_mixer import shapes
from kolmo.predictors.embedded.kinds.image.model import COLOUR, FULL, GREY, LIGHT, Shape, configuration, plain_prior
from kolmo.predictors.embedded.pixel_network import PixelShape

PATHS = NATIVE.PATHS if NATIVE else ()
ORDERS = {1: (0,), 2: (0, 1), 3: (1, 0, 2), 4: (1, 2, 0, 3)}


@pytest.fixture(autouse=True)
def fastest() -> Iterator[None]:
    """Return to the fastest path after each test."""
    yield
    if NATIVE:
        NATIVE.force_path(NATIVE.PATHS[-1])


def arguments(shape: Shape, size: int, stride: int, channels: int) -> tuple[bytes, bytes, bytes, bytes, None]:
    """Arguments of a mixer without a network."""
    shape = replace(shape, network=False)
    prior = plain_prior(shape, COLOUR if channels >= 3 else GREY)
    config = configuration(shape, size, stride, channels, ORDERS[channels])
    return config, tables.packed(), shapes.packed(), prior, None


def smooth(size: int, stride: int, channels: int, noise: int, seed: int) -> bytes:
    """Waves in two directions with some noise, in all channels."""
    draw = random.Random(seed)
    rows = np.arange(size) // stride
    columns, channel = np.divmod(np.arange(size) % stride, channels)
    waves = 128 + 90 * np.sin(columns / 7 + channel) * np.cos(rows / 5 + channel / 3)
    return bytes(min(max(int(v) + draw.randint(-noise, noise), 0), 255) for v in waves)


def blocks(size: int, seed: int) -> bytes:
    """Extreme values in runs, as a drawing or a hostile file has."""
    draw = random.Random(seed)
    out = bytearray()
    while len(out) < size:
        out += bytes([draw.choice((0, 255, draw.randrange(256)))]) * draw.randint(1, 9)
    return bytes(out[:size])


LARGE = replace(FULL, contexts=tuple(range(17)))  # all contexts of the catalogue
CASES = [
    (LIGHT, 1, 1, 1),
    (LIGHT, 2, 3, 3),
    (FULL, 5, 4, 4),
    (FULL, 200, 17, 1),
    (FULL, 301, 23, 3),
    (LARGE, 242, 23, 3),
    (LARGE, 100, 9, 1),
    (FULL, 230, 25, 4),
    (LIGHT, 130, 10, 2),
    (FULL, 67, 67, 1),
]


@pytest.mark.skipif(not PATHS, reason="needs the C kernels")
@pytest.mark.parametrize(("shape", "size", "stride", "channels"), CASES)
@pytest.mark.parametrize("kind", ["smooth", "blocks", "random"])
def test_every_path_is_the_reference(shape: Shape, size: int, stride: int, channels: int, kind: str) -> None:
    """Costs, code and what is decoded are equal on every path."""
    data = {
        "smooth": smooth(size, stride, channels, 3, size),
        "blocks": blocks(size, size),
        "random": random.Random(size).randbytes(size),
    }[kind]
    given = arguments(shape, size, stride, channels)
    expected = reference.PixelMixer(*given).costs(data)
    encoder = reference.BinaryEncoder()
    reference.PixelMixer(*given).encode(encoder, data)
    code = encoder.finish()
    assert reference.PixelMixer(*given).decode(reference.BinaryDecoder(code), size) == data
    for path in PATHS:
        NATIVE.force_path(path)
        assert kernels.PixelMixer(*given).costs(data) == expected
        there = kernels.BinaryEncoder()
        kernels.PixelMixer(*given).encode(there, data)
        assert there.finish() == code
        assert kernels.PixelMixer(*given).decode(kernels.BinaryDecoder(code), size) == data


def made_network() -> tuple[bytes, bytes]:
    """Configuration and weights of a small network of pixels, the same on every machine."""
    shape = PixelShape(64, 1)
    rng = np.random.default_rng(1)
    parts = []
    for name, place in shape.places().items():
        if place.dtype == "I8":
            parts.append(rng.integers(-127, 128, place.count).astype(np.int8).tobytes())
        elif place.dtype == "I16":
            parts.append(rng.integers(-3000, 3000, place.count).astype("<i2").tobytes())
        else:
            size = {"head_scale": 5e-4, "head_bias": 3.0}.get(name, 5.0 if name.endswith("bias") else 2e-3)
            parts.append((rng.normal(size=place.count) * size).astype("<f4").tobytes())
    return shape.config(), b"".join(parts)


@pytest.mark.skipif(not PATHS, reason="needs the C kernels")
@pytest.mark.parametrize(("size", "stride", "channels"), [(150, 25, 1), (155, 26, 3), (83, 21, 4)])
def test_every_path_is_the_reference_with_a_network(size: int, stride: int, channels: int) -> None:
    """The network's distribution is one of the mixer's inputs."""
    data = smooth(size, stride, channels, 3, size)
    prior = plain_prior(FULL, COLOUR if channels >= 3 else GREY)
    given = configuration(FULL, size, stride, channels, ORDERS[channels]), tables.packed(), shapes.packed(), prior
    expected = reference.PixelMixer(*given, reference.PixelNetwork(*made_network())).costs(data)
    for path in PATHS:
        NATIVE.force_path(path)
        assert kernels.PixelMixer(*given, kernels.PixelNetwork(*made_network())).costs(data) == expected
    with pytest.raises(TypeError, match="network"):
        kernels.PixelMixer(*given, None)


@pytest.mark.skipif(not PATHS, reason="needs the C kernels")
def test_slices_give_the_bits_of_the_whole() -> None:
    """A picture may be coded in pieces of whole rows; other pieces are refused."""
    data = smooth(345, 30, 3, 3, 1)
    given = arguments(FULL, 345, 30, 3)
    mixer = kernels.PixelMixer(*given)
    assert mixer.costs(data[:60]) + mixer.costs(data[60:90]) + mixer.costs(data[90:]) == kernels.PixelMixer(
        *given
    ).costs(data)
    mixer = kernels.PixelMixer(*given)
    with pytest.raises(ValueError, match="whole rows"):
        mixer.costs(data[:31])
    mixer.costs(data)
    with pytest.raises(ValueError, match="more bytes"):
        mixer.costs(data)
    with pytest.raises(ValueError, match="one direction"):
        mixer.encode(kernels.BinaryEncoder(), b"")


@pytest.mark.skipif(not PATHS, reason="needs the C kernels")
@pytest.mark.parametrize("place", range(34))
@pytest.mark.parametrize("value", [-1, 1 << 30, -(1 << 31), 5])
def test_configurations_that_no_shape_has_are_refused(place: int, value: int) -> None:
    """Any number of a configuration may be wrong; a model that is made works."""
    config, base, table, prior, network = arguments(FULL, 40, 12, 3)
    numbers = np.frombuffer(config, "=i4").copy()
    numbers[place] = value
    if value == 1 << 30 and place in (0, 25, 26):
        return  # these would be valid, with a lot of memory
    try:
        mixer = kernels.PixelMixer(numbers.tobytes(), base, table, prior, network)
    except (ValueError, TypeError):
        return
    mixer.costs(bytes(min(40, int(numbers[0]))))
