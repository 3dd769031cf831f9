"""The kind of pictures: pixels of 8 bits a channel, grey or in colour, without compression (docs/image.md).

What it is not: the model (`model.py`), or the ways to find pictures (`headers.py`, `guess.py`).
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from functools import cache
from pathlib import Path

from kolmo.errors import CorruptError
from kolmo.native import tables
from kolmo.native.dispatch import kernels
from kolmo.native.pixel_mixer import shapes
from kolmo.predictors.embedded import pixel_network
from kolmo.predictors.embedded.kinds.base import Kind, Segment
from kolmo.predictors.embedded.kinds.image import model as image_model
from kolmo.predictors.embedded.kinds.image.guess import guess_layouts
from kolmo.predictors.embedded.kinds.image.headers import BGR, RGB, find_pixels
from kolmo.predictors.embedded.kinds.image.model import COLOUR, GREY, PictureModel, Shape

NETWORK = Path(__file__).parent.parent.parent / "networks" / "pixels.safetensors"
# Offsets of a pixel's bytes in the order of coding: green first, then red and blue, which it predicts.
ORDERS = {
    (1, BGR): (0,),
    (2, BGR): (0, 1),
    (3, RGB): (1, 0, 2),
    (3, BGR): (1, 2, 0),
    (4, RGB): (1, 0, 2, 3),
    (4, BGR): (1, 2, 0, 3),
}


class Image(Kind):
    """Pixels.

    Parameters: bytes of a row; bytes of a pixel, 1 to 4; 1 where these are red, green, blue in this order, else 0.
    """

    name = "image"
    code = 3
    fields = ("stride", "channels", "order")

    def model(self, level: int, size: int, parameters: tuple[int, ...]) -> PictureModel:
        """See `Kind.model`."""
        stride, channels, order = parameters
        places = ORDERS.get((channels, order))
        if places is None or not channels <= stride <= shapes.MAX_STRIDE:
            raise CorruptError(f"a picture with rows of {stride} bytes and {channels} channels in order {order}")
        stride = min(stride, max(size, channels))  # a part of one row
        shape = shape_of(level)
        config = image_model.configuration(shape, size, stride, channels, places)
        prior = image_model.prior(shape, COLOUR if channels >= 3 else GREY)
        network = _network()[0] if shape.network else None
        mixer = kernels.PixelMixer(config, tables.packed(), shapes.packed(), prior, network)
        return PictureModel(mixer, size, stride)

    def memory(self, level: int, size: int) -> int:
        """See `Kind.memory`."""
        return image_model.memory(shape_of(level), size)

    def digest(self, level: int) -> bytes:
        """See `Kind.digest`."""
        shape = shape_of(level)
        fingerprint = _network()[1] if shape.network else b""
        return hashlib.sha256(image_model.digest_of(shape) + fingerprint).digest()

    def period(self, parameters: tuple[int, ...]) -> int:
        """See `Kind.period`."""
        return max(parameters[0], 1)

    def find(self, data: bytes) -> list[Segment]:
        """See `Kind.find`."""
        return [
            Segment(self.code, p.first, p.size, (p.stride, p.channels, p.order if p.channels >= 3 else BGR))
            for p in find_pixels(data)
            if p.stride <= shapes.MAX_STRIDE
        ]

    def guess(self, data: bytes) -> list[tuple[int, ...]]:
        """See `Kind.guess`."""
        return [(stride, channels, RGB if channels >= 3 else BGR) for stride, channels in guess_layouts(data)]


def shape_of(level: int) -> Shape:
    """The shape of a level."""
    shape = image_model.LEVELS[level]
    return shape if NETWORK.exists() else replace(shape, network=False)


@cache
def _network() -> tuple[kernels.PixelNetwork, bytes]:
    """The network of pixels that ships with the package, and its fingerprint."""
    weights = pixel_network.load(NETWORK)
    return kernels.PixelNetwork(weights.config, weights.weights), weights.fingerprint
