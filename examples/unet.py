"""A U-Net (Ronneberger et al. 2015) that finds shapes on photographs, trained and made smaller.

    KOLMO_DATA=DIR python examples/unet.py

Ellipses and polygons, filled with a colour that lets the photograph through, lie on crops of five of the Kodak
photographs; the network marks their pixels. Training takes about three minutes on one core the first time. Dice is that
of 256 crops of three other photographs.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from functools import partial
from itertools import pairwise

import numpy as np
import torch
from common import SMOKE_STEPS, Subject, main, place, train
from torch import Tensor, nn
from torch.nn import functional

from kolmo.errors import MissingExtraError

TRAINED_ON, HELD_OUT = (1, 8, 13, 20, 23), (5, 15, 19)
SIDE = 64  # pixels of a crop
STEPS, BATCH, RATE = 1000, 8, 3e-3
TESTED = 256
PRUNE = 0.603  # the published file of the pruned network is 20.30 of 51.10 MB


class UNet(nn.Module):
    """Down by pooling, up by transposed convolutions; each width's features go across to its way up."""

    def __init__(self, widths: tuple[int, ...] = (16, 32, 64, 128)) -> None:
        super().__init__()
        pairs = list(pairwise(widths))
        self.down = nn.ModuleList(self._pair(a, b) for a, b in [(3, widths[0]), *pairs])
        self.up = nn.ModuleList(nn.ConvTranspose2d(b, a, 2, 2) for a, b in reversed(pairs))
        self.join = nn.ModuleList(self._pair(2 * a, a) for a, _ in reversed(pairs))
        self.head = nn.Conv2d(widths[0], 1, 1)

    @staticmethod
    def _pair(inward: int, outward: int) -> nn.Sequential:
        layers: list[nn.Module] = []
        for width in (inward, outward):
            layers += [nn.Conv2d(width, outward, 3, 1, 1, bias=False), nn.BatchNorm2d(outward), nn.ReLU()]
        return nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (n, h, w) of images (n, 3, h, w)."""
        across: list[Tensor] = []
        for block in self.down:
            x = block(functional.max_pool2d(x, 2) if across else x)
            across.append(x)
        for up, join, other in zip(self.up, self.join, reversed(across[:-1]), strict=True):
            x = join(torch.cat([up(x), other], 1))
        found: Tensor = self.head(x)[:, 0]
        return found


def photographs(options: argparse.Namespace, numbers: tuple[int, ...]) -> list[Tensor]:
    """Photographs, (3, h, w), from 0 to 1; of --smoke, clouds of noise.

    Raises:
        KolmoError: one is not there, or Pillow is not installed.
    """
    if options.smoke:
        noise = torch.rand(len(numbers), 3, 8, 8)
        return list(functional.interpolate(noise, (2 * SIDE, 2 * SIDE), mode="bilinear"))
    try:
        from PIL import Image
    except ImportError as error:
        raise MissingExtraError(f"images are read with Pillow ({error}); pip install pillow") from None
    found = []
    for number in numbers:
        pixels = np.asarray(Image.open(place(options, "bench", "images", f"kodim{number:02}.png")).convert("RGB"))
        found.append(torch.from_numpy(pixels.copy()).permute(2, 0, 1) / 255)
    return found


def draw(photos: list[Tensor], count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Crops with shapes, (count, 3, side, side), and where the shapes are, (count, side, side), 0 or 1."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:SIDE, :SIDE]
    crops, masks = [], []
    for _ in range(count):
        photo = photos[random.integers(len(photos))]
        top, left = (int(random.integers(size - SIDE + 1)) for size in photo.shape[1:])
        crop = photo[:, top : top + SIDE, left : left + SIDE].numpy().copy()
        mask = np.zeros((SIDE, SIDE), bool)
        for _ in range(random.integers(1, 4)):
            down, right = y - random.uniform(0, SIDE), x - random.uniform(0, SIDE)
            turn = random.uniform(0, np.pi)
            u, v = right * np.cos(turn) + down * np.sin(turn), down * np.cos(turn) - right * np.sin(turn)
            long, wide = random.uniform(8, 24, 2)
            if random.random() < 0.5:
                inside = (u / long) ** 2 + (v / wide) ** 2 <= 1
            else:  # a polygon: on the inner side of each of its lines
                sides = random.integers(3, 7)
                angles = 2 * np.pi * (np.arange(sides) + random.uniform(-0.3, 0.3, sides)) / sides
                far = np.maximum.reduce([u * np.cos(a) / long + v * np.sin(a) / wide for a in angles])
                inside = far <= 0.8
            share = random.uniform(0.6, 0.95)
            crop = np.where(inside, share * random.uniform(0, 1, (3, 1, 1)) + (1 - share) * crop, crop)
            mask |= inside
        crops.append(crop + random.normal(0, 0.02, crop.shape))
        masks.append(mask)
    return torch.tensor(np.stack(crops), dtype=torch.float32), torch.tensor(np.stack(masks), dtype=torch.float32)


@torch.inference_mode()
def dice(module: nn.Module, crops: Tensor, masks: Tensor) -> dict[str, float]:
    """Per cent: twice what is marked rightly, over what is marked and what should be, the mean over the crops."""
    module.eval()
    marked = torch.cat([(module(x) > 0).float() for x in torch.split(crops, 32)])
    both = 2 * (marked * masks).sum((1, 2)) + 1  # plus one pixel, so that two empty masks agree
    return {"Dice, %": 100 * float((both / (marked.sum((1, 2)) + masks.sum((1, 2)) + 1)).mean())}


def fit(module: UNet, options: argparse.Namespace, name: str, steps: int, rate: float) -> None:
    """Train a network, and keep it in a file of this name; a finished one is read."""
    photos = photographs(options, TRAINED_ON)

    def loss(step: int) -> Tensor:
        crops, masks = draw(photos, 2 if options.smoke else BATCH, step)
        logits = module(crops)
        marked = logits.sigmoid()
        overlap: Tensor = (2 * (marked * masks).sum() + 1) / (marked.sum() + masks.sum() + 1)
        return functional.binary_cross_entropy_with_logits(logits, masks) + 1 - overlap

    steps, path = (SMOKE_STEPS, None) if options.smoke else (steps, options.folder / name)
    train(module, loss, steps=steps, rate=rate, path=path)


def trained(options: argparse.Namespace) -> UNet:
    """The network, trained if it is not yet."""
    module = UNet((8, 16, 32) if options.smoke else (16, 32, 64, 128))
    fit(module, options, "unet.pt", STEPS, RATE)
    return module


def subject(name: str, module: UNet, prune: float, options: argparse.Namespace) -> Subject:
    """A network, and its Dice of the photographs that were held out."""
    crops, masks = draw(photographs(options, HELD_OUT), 4 if options.smoke else TESTED, 1 << 32)
    return Subject(name, module, "unet", prune, partial(dice, module, crops, masks))


def subjects(options: argparse.Namespace) -> Iterator[Subject]:
    """The network."""
    yield subject("U-Net", trained(options), PRUNE, options)


if __name__ == "__main__":
    main(__doc__, subjects)
