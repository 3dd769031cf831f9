"""The U-Net of unet.py with its least channels taken out, trained on for a little, and made smaller.

    KOLMO_DATA=DIR python examples/unet_channels.py

Structured pruning, as before the published pruned U-Net ("Hyper-Compression", Fan et al., 2024): what is left is a
narrower network, smaller and faster without a mask. The pruning of single weights in the rows comes on top.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

import torch
from common import Subject, main
from torch import Tensor, nn
from unet import RATE, UNet, fit, subject, trained

KEEP = 0.63  # part of the channels: its square is that of the weights, 20.30 of 51.10 MB as published
STEPS = 300  # of training after pruning
PRUNE = 0.5


def narrowed(wide: UNet, keep: float) -> UNet:
    """A network of the channels that matter most: part `keep` of each layer's, at least one.

    Behind a convolution they are those of the largest scales in its normalisation (Liu et al., 2017, "Network
    Slimming"), behind a transposed one those of the largest sums of weights.
    """
    ups: Any = wide.up
    widths = [up.out_channels for up in ups[::-1]] + [ups[0].in_channels]
    narrow = UNet(tuple(max(1, round(keep * width)) for width in widths))
    with torch.no_grad():
        kept, across = torch.arange(3), []
        for old, new in zip(wide.down, narrow.down, strict=True):
            kept = _copy_pair(old, new, kept)
            across.append(kept)
        ways: Any = zip(wide.up, narrow.up, wide.join, narrow.join, reversed(across[:-1]), strict=True)
        for old_up, new_up, old_join, new_join, other in ways:
            risen = _largest(old_up.weight.abs().sum((0, 2, 3)), new_up.out_channels)
            new_up.weight.copy_(old_up.weight[kept][:, risen])
            new_up.bias.copy_(old_up.bias[risen])
            kept = _copy_pair(old_join, new_join, torch.cat([risen, old_up.out_channels + other]))
        narrow.head.weight.copy_(wide.head.weight[:, kept])
        assert narrow.head.bias is not None
        assert wide.head.bias is not None
        narrow.head.bias.copy_(wide.head.bias)
    return narrow


def _copy_pair(old: nn.Module, new: nn.Module, kept: Tensor) -> Tensor:
    """Fill a block of two convolutions, whose inputs are the channels `kept`; returns the channels of its outputs."""
    layers: Any = list(zip(old.children(), new.children(), strict=True))
    for (old_conv, new_conv), (old_norm, new_norm) in (layers[0:2], layers[3:5]):
        inward, kept = kept, _largest(old_norm.weight.abs(), new_norm.num_features)
        new_conv.weight.copy_(old_conv.weight[kept][:, inward])
        for name in ("weight", "bias", "running_mean", "running_var"):
            getattr(new_norm, name).copy_(getattr(old_norm, name)[kept])
    return kept


def _largest(scores: Tensor, count: int) -> Tensor:
    """The places of the largest scores, in order."""
    return scores.topk(count).indices.sort().values


def subjects(options: argparse.Namespace) -> Iterator[Subject]:
    """The narrower network, trained if it is not yet."""
    narrow = narrowed(trained(options), KEEP)
    fit(narrow, options, "unet_channels.pt", STEPS, RATE / 3)
    yield subject("U-Net, channels pruned", narrow, PRUNE, options)


if __name__ == "__main__":
    main(__doc__, subjects)
