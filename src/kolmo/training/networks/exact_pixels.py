"""The exact network of pixels in torch, on any device: the bits of `native/pixels/network.py` (docs/pixels.md).

Products of integers are matrix products in binary32, or binary64 where sums are larger, exact because every partial sum
is an integer that they hold. All else is one torch operation for each operation of the page, so that none is fused.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from kolmo.native import tables
from kolmo.native.pixels.network import Inputs, PixelNetwork
from kolmo.predictors.embedded.pixel_network import PixelWeights
from kolmo.training.networks.exact import weigh


class ExactPixels:
    """Weights of a network of pixels on a device.

    Args:
        weights: as a file holds them.
        device: where to compute.
    """

    def __init__(self, weights: PixelWeights, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)

        def move(part: tuple[np.ndarray, ...]) -> tuple[Tensor, ...]:  # type: ignore[type-arg]
            return tuple(torch.from_numpy(np.array(array)).to(self.device) for array in part)

        read = PixelNetwork(weights.config, weights.weights)
        self.first = [move(part) for part in read.first]
        self.deeper = [move(part) for part in read.deeper]
        self.head, self.head_scale, self.head_bias = move((*read.head, read.head_bias))
        self.exp2 = torch.tensor(tables.exp2_weights().tolist(), device=self.device)
        self.squeezed = torch.tensor(tables.squeezed().tolist(), device=self.device, dtype=torch.float32)

    @torch.no_grad()
    def run(self, kind: int, found: Inputs) -> Tensor:
        """Sums of n bytes of a kind, int64 (n, 512), as `PixelNetwork.run` makes them.

        Args:
            kind: index of `TURNS`.
            found: what the network is computed from.
        """
        precision = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("highest")
        try:
            return self._run(kind, found)
        finally:
            torch.set_float32_matmul_precision(precision)

    def _run(self, kind: int, found: Inputs) -> Tensor:
        differences, guess, known = (
            torch.from_numpy(array).to(self.device) for array in (found.differences, found.guess, found.known)
        )
        linear, weights, scale, bias = self.first[kind]
        shift = (differences.double() @ linear).long() >> 6
        mean = (256 * guess.long() + shift).clamp(0, 65280)
        near = ((mean + 128) >> 8) - guess
        u = torch.cat(
            [
                self.squeezed[differences.long() + 255],
                known.float() * 127,
                (guess - 128).clamp_min(-127)[:, None].float(),
                self.squeezed[near + 255][:, None],
            ],
            1,
        )
        x = ((u @ weights.T) * scale + bias).clamp_min(0)
        for weight, step, shifted in self.deeper:
            x = x + ((_rounded(x) @ weight.T) * step + shifted).clamp_min(0)
        logits = (_rounded(x) @ self.head.T) * self.head_scale + self.head_bias[kind]
        whole, fraction = mean >> 8, (mean & 255).float() * (1 / 256)
        rows = 256 - whole[:, None] + torch.arange(256, device=self.device)
        here, below = logits.gather(1, rows), logits.gather(1, rows - 1)
        return weigh(here + fraction[:, None] * (below - here), self.exp2)


def _rounded(x: Tensor) -> Tensor:
    return x.clamp_max(127).round()


__all__ = ["ExactPixels"]
