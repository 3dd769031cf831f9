"""The mixer of pictures: the same bits in C on every path and in NumPy, for odd sizes and hostile pictures."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from kolmo.native import reference, tables
from kolmo.native.dispatch import kernels
from kolmo.native.pixel_mixer import shapes
from kolmo.predictors.embedded.kinds.image_model import COLOUR, FULL, GREY, LIGHT, Shape, configuration, plain_prior

PATHS = [path for path in kernels.PATHS if path != "reference"]
ORDERS = {1: (0,), 2: (0, 1), 3: (1, 0, 2), 4: (1, 2, 0, 3)}


@pytest.fixture(autouse=True)
def fastest() -> Iterator[None]:
    """Return to the fastest path after each test."""
    yield
    if PATHS:
        kernels.force_path(PATHS[-1])


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


CASES = [
    (LIGHT, 1, 1, 1),
    (LIGHT, 2, 3, 3),
    (FULL, 5, 4, 4),
    (FULL, 200, 17, 1),
    (FULL, 301, 23, 3),
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
        kernels.force_path(path)
        assert kernels.PixelMixer(*given).costs(data) == expected
        there = kernels.BinaryEncoder()
        kernels.PixelMixer(*given).encode(there, data)
        assert there.finish() == code
        assert kernels.PixelMixer(*given).decode(kernels.BinaryDecoder(code), size) == data
