"""MobileNetV3-Small (Howard et al. 2019, table 2) for images of 32 x 32 pixels, trained on CIFAR-10 and made smaller.

    KOLMO_DATA=DIR python examples/mobilenet.py

Trains on 5,000 images, about five minutes on one core the first time, and measures on 2,000 others. Of the paper's five
halvings of the image three are left, and the 1 x 1 convolution before the head has no squeeze-and-excite.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from functools import partial

import cifar
import torch
from common import SMOKE_STEPS, Subject, main, train
from torch import Tensor, nn
from torch.nn import functional

# kernel, channels inside, channels out, squeeze-and-excite, hard-swish instead of ReLU, stride
BNECK = (
    (3, 16, 16, True, False, 2),
    (3, 72, 24, False, False, 1),
    (3, 88, 24, False, False, 1),
    (5, 96, 40, True, True, 2),
    (5, 240, 40, True, True, 1),
    (5, 240, 40, True, True, 1),
    (5, 120, 48, True, True, 1),
    (5, 144, 48, True, True, 1),
    (5, 288, 96, True, True, 2),
    (5, 576, 96, True, True, 1),
    (5, 576, 96, True, True, 1),
)
STEPS, BATCH, RATE = 1500, 32, 2e-3
PRUNE = 0.627  # the published file of the pruned network is 2.22 of 5.95 MB


class SqueezeExcite(nn.Module):
    """Each channel times a factor from the means of all."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = max(8, channels // 32 * 8)
        self.down, self.up = nn.Conv2d(channels, inner, 1), nn.Conv2d(inner, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(n, channels, h, w) to the same."""
        return x * functional.hardsigmoid(self.up(functional.relu(self.down(x.mean((2, 3), keepdim=True)))))


def convolution(inward: int, outward: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """A convolution and its batch normalisation."""
    layer = nn.Conv2d(inward, outward, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(outward))


class InvertedResidual(nn.Module):
    """Wider, each channel by itself, narrower; added to the input where sizes agree."""

    def __init__(self, inward: int, kernel: int, inner: int, outward: int, se: bool, hs: bool, stride: int) -> None:
        super().__init__()
        act = nn.Hardswish if hs else nn.ReLU
        layers: list[nn.Module] = [convolution(inward, inner, 1), act()] if inner != inward else []
        layers += [convolution(inner, inner, kernel, stride, inner), act()]
        layers += [SqueezeExcite(inner)] if se else []
        self.layers = nn.Sequential(*layers, convolution(inner, outward, 1))
        self.residual = stride == 1 and inward == outward

    def forward(self, x: Tensor) -> Tensor:
        """(n, inward, h, w) to (n, outward, h / stride, w / stride)."""
        found: Tensor = self.layers(x)
        return x + found if self.residual else found


class MobileNetV3(nn.Module):
    """The first `blocks` blocks of the table; all of them are the small network."""

    def __init__(self, blocks: int = len(BNECK), head: int = 1024) -> None:
        super().__init__()
        layers: list[nn.Module] = [convolution(3, 16, 3), nn.Hardswish()]
        width = 16
        for kernel, inner, outward, se, hs, stride in BNECK[:blocks]:
            layers.append(InvertedResidual(width, kernel, inner, outward, se, hs, stride))
            width = outward
        self.features = nn.Sequential(*layers, convolution(width, 6 * width, 1), nn.Hardswish())
        self.head = nn.Sequential(
            nn.Linear(6 * width, head), nn.Hardswish(), nn.Dropout(0.2), nn.Linear(head, cifar.CLASSES)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Logits (n, 10) of images (n, 3, 32, 32)."""
        return self.head(self.features(x).mean((2, 3)))  # type: ignore[no-any-return]


def batch(pixels: Tensor, step: int) -> tuple[Tensor, Tensor]:
    """Images of a step, moved by up to 4 pixels, half of them mirrored; and their indices."""
    random = torch.Generator().manual_seed(step)
    chosen = torch.randint(len(pixels), (min(BATCH, len(pixels)),), generator=random)
    places = torch.randint(9, (len(chosen), 2), generator=random).tolist()
    padded = functional.pad(pixels[chosen], (4, 4, 4, 4))
    x = torch.stack([image[:, y : y + 32, x : x + 32] for image, (y, x) in zip(padded, places, strict=True)])
    mirrored = torch.rand(len(x), 1, 1, 1, generator=random) < 0.5
    return torch.where(mirrored, x.flip(3), x), chosen


def subjects(options: argparse.Namespace) -> Iterator[Subject]:
    """The network, trained if it is not yet."""
    module = MobileNetV3(4, 64) if options.smoke else MobileNetV3()
    pixels, classes = cifar.images(options, "train")

    def loss(step: int) -> Tensor:
        x, chosen = batch(pixels, step)
        return functional.cross_entropy(module(x), classes[chosen], label_smoothing=0.1)

    steps, path = (SMOKE_STEPS, None) if options.smoke else (STEPS, options.folder / "mobilenet.pt")
    train(module, loss, steps=steps, rate=RATE, path=path)
    test, answers = cifar.images(options, "test")
    yield Subject("MobileNetV3-Small", module, "mobilenet", PRUNE, partial(cifar.top1, module, test, answers))


if __name__ == "__main__":
    main(__doc__, subjects)
