"""ResNet-20 and ResNet-56 for CIFAR-10 (He et al. 2015, section 4.2), with published trained weights, made smaller.

    KOLMO_DATA=DIR python examples/resnet.py

The weights are those of github.com/akamaster/pytorch_resnet_cifar10, below DIR/models/resnet_cifar10. No setting of
`torus` was published for them; here they take that of the other classifier of CIFAR-10, `mobilenet`.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from functools import partial

import cifar
import torch
from common import Subject, main, place
from torch import Tensor, nn
from torch.nn import functional

WEIGHTS = {20: "resnet20-12fca82f.th", 56: "resnet56-4bfd9763.th"}  # depth, file
PRUNE = 0.5


class Block(nn.Module):
    """Two convolutions beside a shortcut, which drops pixels and adds empty channels where sizes change."""

    def __init__(self, inward: int, outward: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inward, outward, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outward)
        self.conv2 = nn.Conv2d(outward, outward, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outward)
        self.stride, self.added = stride, (outward - inward) // 2

    def forward(self, x: Tensor) -> Tensor:
        """(n, inward, h, w) to (n, outward, h / stride, w / stride)."""
        inner = self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(x)))))
        shortcut = functional.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.added, self.added))
        return functional.relu(inner + shortcut)


class ResNet(nn.Module):
    """6 n + 2 layers: three groups of n blocks, of 16, 32 and 64 channels."""

    def __init__(self, depth: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = self._group(16, 16, 1, depth // 6)
        self.layer2 = self._group(16, 32, 2, depth // 6)
        self.layer3 = self._group(32, 64, 2, depth // 6)
        self.linear = nn.Linear(64, cifar.CLASSES)

    @staticmethod
    def _group(inward: int, outward: int, stride: int, blocks: int) -> nn.Sequential:
        return nn.Sequential(Block(inward, outward, stride), *(Block(outward, outward, 1) for _ in range(blocks - 1)))

    def forward(self, x: Tensor) -> Tensor:
        """Logits (n, 10) of images (n, 3, 32, 32)."""
        x = functional.relu(self.bn1(self.conv1(x)))
        return self.linear(self.layer3(self.layer2(self.layer1(x))).mean((2, 3)))  # type: ignore[no-any-return]


def subjects(options: argparse.Namespace) -> Iterator[Subject]:
    """Both networks; of --smoke, one of 8 layers that was never trained."""
    pixels, classes = cifar.images(options, "test")
    for depth in [8] if options.smoke else WEIGHTS:
        module = ResNet(depth)
        if not options.smoke:
            path = place(options, "models", "resnet_cifar10", WEIGHTS[depth])
            content = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
            module.load_state_dict({name.removeprefix("module."): tensor for name, tensor in content.items()})
        measure = partial(cifar.top1, module, pixels, classes)
        yield Subject(f"ResNet-{depth}", module, "mobilenet", PRUNE, measure)


if __name__ == "__main__":
    main(__doc__, subjects)
