"""The exact network of pixels (docs/pixels.md): the same bits from NumPy and C on every path."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from helpers.implementations import IMPLEMENTATIONS, NATIVE
from kolmo.errors import PredictorError
from kolmo.native import reference, tables
from kolmo.native.pixels import network as page
from kolmo.predictors.embedded import pixel_network
from kolmo.predictors.embedded.pixel_network import PixelShape, PixelWeights, load

PATHS = NATIVE.PATHS if NATIVE else ()
SHAPES = [PixelShape(64, 2), PixelShape(128, 0), PixelShape(192, 3)]
SHIPPED = Path(pixel_network.__file__).parent / "networks" / "pixels.safetensors"
LAYOUTS = [  # channels, order, stride
    (1, (0,), 20),
    (2, (1, 0), 24),
    (3, (1, 0, 2), 48),
    (3, (1, 2, 0), 50),  # rows with two bytes that are no pixel's
    (4, (1, 2, 0, 3), 64),
    (3, (1, 0, 2), 3),  # a column
]


@pytest.fixture(autouse=True)
def _restore_path() -> Iterator[None]:
    yield
    if NATIVE:
        NATIVE.force_path(NATIVE.PATHS[-1])


def make(shape: PixelShape, seed: int = 1, loud: float = 1.0) -> PixelWeights:
    """A network of random weights, the same on every machine."""
    rng = np.random.default_rng(seed)
    parts = []
    for name, place in shape.places().items():
        if place.dtype == "I8":
            parts.append(rng.integers(-127, 128, place.count).astype(np.int8).tobytes())
        elif place.dtype == "I16":
            parts.append(rng.integers(-3000, 3000, place.count).astype("<i2").tobytes())
        else:
            size = {"head_scale": 5e-4, "head_bias": 3.0}.get(name, 5.0 if name.endswith("bias") else 2e-3)
            parts.append((rng.normal(size=place.count) * size * loud).astype("<f4").tobytes())
    return PixelWeights(shape, b"".join(parts))


def picture(size: int, seed: int = 2) -> bytes:
    """Bytes that wander, with jumps."""
    draw, at, out = random.Random(seed), 128, bytearray()
    for _ in range(size):
        at = draw.randrange(256) if draw.random() < 0.02 else min(max(at + draw.randrange(-12, 13), 0), 255)
        out.append(at)
    return bytes(out)


def sums_of(kernels: ModuleType, weights: PixelWeights, data: bytes, layout: tuple[int, Any, int]) -> bytes:
    channels, order, stride = layout
    found: bytes = kernels.PixelNetwork(weights.config, weights.weights).score(data, stride, channels, order)
    return found


@pytest.mark.skipif(NATIVE is None, reason="the C kernels are not built here")
@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_all_paths_give_the_same_bits(shape: PixelShape, layout: tuple[int, Any, int]) -> None:
    data = picture(layout[2] * 9 + 5)
    for loud in (1.0, 1e3):  # activations that are cut off, logits far apart
        weights = make(shape, loud=loud)
        expected = sums_of(reference, weights, data, layout)
        for path in PATHS:
            NATIVE.force_path(path)
            assert sums_of(NATIVE, weights, data, layout) == expected, path


@pytest.mark.skipif(not SHIPPED.exists(), reason="no network of pixels ships yet")
@pytest.mark.parametrize("path", PATHS)
def test_the_shipped_network_gives_the_same_bits(path: str) -> None:
    weights, layout = load(SHIPPED), (3, (1, 0, 2), 60)
    NATIVE.force_path(path)
    smooth = np.add.outer(np.arange(14) * 3, np.arange(60) // 3 * 2).astype(np.uint8)
    data = (smooth + np.random.default_rng(3).integers(0, 3, smooth.shape, np.uint8)).tobytes()
    found = sums_of(NATIVE, weights, data, layout)
    assert found == sums_of(reference, weights, data, layout)
    weight, total = np.frombuffer(found, "=u4").reshape(-1, 2).T
    assert np.log2(total / weight).mean() < 3  # it has learned what pictures are like


@pytest.mark.parametrize("kernels", IMPLEMENTATIONS)
def test_one_byte_is_predicted_as_all_are(kernels: ModuleType) -> None:
    weights, (channels, order, stride) = make(PixelShape()), LAYOUTS[4]
    data = picture(stride * 3)
    network = kernels.PixelNetwork(weights.config, weights.weights)
    scored = np.frombuffer(network.score(data, stride, channels, order), "=u4").reshape(-1, 2)
    for row, column, turn in ((0, 0, 0), (1, 15, 2), (2, 7, 3), (2, 8, 1)):
        at = row * stride + column * channels + order[turn]
        sums = np.frombuffer(network.predict(data, stride, channels, order, row, column, turn), "=u4")
        assert scored[at].tolist() == [sums[256 + data[at]], sums[1]]
        assert sums[0] == 0
        assert (sums[1:256] == sums[2:512:2] + sums[3:512:2]).all()
        assert sums[256:].min() >= 1
        assert sums[256:].max() == 1 << 22


@pytest.mark.parametrize("kernels", IMPLEMENTATIONS)
@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_only_bytes_before_are_read(kernels: ModuleType, layout: tuple[int, Any, int]) -> None:
    weights, (channels, order, stride) = make(PixelShape()), layout
    network, rng = kernels.PixelNetwork(weights.config, weights.weights), random.Random(4)
    data, columns = bytearray(picture(stride * 6)), stride // channels
    for row, column in ((0, 0), (0, columns - 1), (3, columns // 2), (5, columns - 1)):
        for turn in range(channels):
            expected = network.predict(bytes(data), stride, channels, order, row, column, turn)
            other, pixel = bytearray(data), row * stride + column * channels
            known = {pixel + order[t] for t in range(turn)}
            for at in range(pixel, len(data)):
                if at not in known:
                    other[at] = rng.randrange(256)
            assert network.predict(bytes(other), stride, channels, order, row, column, turn) == expected


@pytest.mark.parametrize("kernels", IMPLEMENTATIONS)
def test_bytes_that_are_no_pixels_cost_eight_bits(kernels: ModuleType) -> None:
    weights = make(PixelShape())
    found = np.frombuffer(sums_of(kernels, weights, picture(2 * 50 + 20), LAYOUTS[3]), "=u4").reshape(-1, 2)
    outside = [48, 49, 98, 99, 118, 119]
    assert found[outside].tolist() == [[1, 256]] * 6
    assert (found[:, 1] > 256).sum() == len(found) - 6


@pytest.mark.parametrize("kernels", IMPLEMENTATIONS)
def test_pictures_that_are_none(kernels: ModuleType) -> None:
    weights = make(PixelShape())
    network = kernels.PixelNetwork(weights.config, weights.weights)
    for stride, channels, order in (
        (0, 1, (0,)),
        (2, 3, (0, 1, 2)),
        (8, 5, (0,) * 5),
        (3, 3, (0, 1)),
        (3, 3, (0, 1, 1)),
    ):
        with pytest.raises(ValueError, match="channels"):
            network.score(b"abcdef", stride, channels, order)
    for row, column, turn in ((-1, 0, 0), (2, 0, 0), (0, 1, 0), (0, -1, 0), (0, 0, 3), (1 << 40, 0, 0)):
        with pytest.raises(ValueError, match="no such byte"):
            network.predict(b"abcdef", 3, 3, (1, 0, 2), row, column, turn)
    for config, tensors in ((b"", weights.weights), (weights.config * 2, weights.weights), (weights.config, b"x")):
        with pytest.raises(ValueError, match=r"does not fit|do not fit"):
            kernels.PixelNetwork(config, tensors)
    wrong = bytearray(weights.weights)
    wrong[2 * 44] = 0x80  # the first 8-bit weight
    with pytest.raises(ValueError, match="out of its range"):
        kernels.PixelNetwork(weights.config, bytes(wrong))


def test_squeezed() -> None:
    table = tables.squeezed().tolist()
    assert len(table) == 511
    assert (table[0], table[255], table[256], table[510]) == (-127, 0, 16, 127)
    assert table == [-value for value in reversed(table)]
    assert all(abs(table[255 + d] - 127 * np.log(1 + d) / np.log(256)) < 0.5001 for d in range(256))


def test_the_shape_is_the_pages() -> None:
    assert dict(zip(pixel_network.KINDS, pixel_network.DIFFERENCES, strict=True)) == page.DIFFERENCES
    assert PixelShape().parameters == 63189
    for shape in (PixelShape(0), PixelShape(96), PixelShape(576), PixelShape(64, 9), PixelShape(64, -1)):
        assert shape.problem()
        with pytest.raises(PredictorError, match=r"docs/pixels\.md"):
            PixelWeights(shape, b"")
