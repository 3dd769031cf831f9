"""Priors of the mixers of pictures: what a mixer believes before the first pixel (docs/image.md, "Priors").

A mixer runs over small pictures of one size; between them it forgets the pixels but keeps what it learned about slots,
weights, scales and neighbours. What it is not: the choice of pictures (`scripts/train_prior.py`).
"""

from __future__ import annotations

from collections.abc import Sequence

from kolmo.native import _kernels as kernels
from kolmo.native import tables
from kolmo.native.pixel_mixer import shapes
from kolmo.predictors.embedded.kinds.image.model import COLOUR, GREY, Shape, configuration, pack_prior


def train_picture_prior(
    shape: Shape,
    pictures: Sequence[bytes],
    stride: int,
    channels: int,
    began: bytes,
    network: kernels.PixelNetwork | None,
) -> bytes:
    """Run a mixer over pictures once.

    Args:
        shape: of the mixer.
        pictures: their bytes, all of one size, the bytes of RGB in this order.
        stride: bytes of a row.
        channels: 1 or 3 bytes of a pixel.
        began: the prior that it starts from, in the layout of `kinds.image.model.plain_prior`.
        network: whose predictions the mixer reads, where its shape has one.

    Returns:
        What was learned, as `kinds.image.model.pack_prior` packs it.
    """
    order = (1, 0, 2) if channels == 3 else (0,)
    config = configuration(shape, len(pictures[0]), stride, channels, order)
    mixer = kernels.PixelMixer(config, tables.packed(), shapes.packed(), began, network if shape.network else None)
    for picture in pictures:
        mixer.forget()
        mixer.costs(picture)
    return pack_prior(shape, COLOUR if channels == 3 else GREY, mixer.learned())
