"""CIFAR-10 from two archives of small JPEG files, one folder for each class; and top-1 accuracy on it."""

from __future__ import annotations

import argparse
import io
import tarfile

import numpy as np
import torch
from common import place
from torch import Tensor, nn

from kolmo.errors import MissingExtraError

CLASSES = 10
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # what the trained networks were trained with


def images(options: argparse.Namespace, part: str) -> tuple[Tensor, Tensor]:
    """Images, normalised, (n, 3, 32, 32), and their classes, (n,), of `train` or `test`; of --smoke, 32 made ones.

    Raises:
        KolmoError: the archive is not there, or Pillow is not installed.
    """
    if options.smoke:
        classes = torch.arange(32) % CLASSES
        return torch.randn(32, 3, 32, 32) + classes[:, None, None, None] / 5 - 1, classes
    try:
        from PIL import Image
    except ImportError as error:
        raise MissingExtraError(f"images are read with Pillow ({error}); pip install pillow") from None
    pixels, folders = [], []
    with tarfile.open(place(options, "bench", "images", f"cifar10_jpeg_{part}.tar")) as archive:
        for member in archive:
            if (file := archive.extractfile(member)) is not None:
                pixels.append(np.asarray(Image.open(io.BytesIO(file.read())).convert("RGB")))
                folders.append(member.name.split("/")[-2])
    names = sorted(set(folders))
    found = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2) / 255
    mean, deviation = torch.tensor(MEAN)[:, None, None], torch.tensor(DEVIATION)[:, None, None]
    return (found - mean) / deviation, torch.tensor([names.index(name) for name in folders])


@torch.inference_mode()
def top1(module: nn.Module, pixels: Tensor, classes: Tensor) -> dict[str, float]:
    """Per cent of the images whose class is the likeliest."""
    module.eval()
    found = torch.cat([module(x).argmax(1) for x in torch.split(pixels, 250)])
    return {"top-1, %": 100 * float((found == classes).float().mean())}
