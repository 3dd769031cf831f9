"""The exact network in torch, on any device: the bits of `native/network/reference.py` (docs/neural.md).

Products of integers are matrix products in binary32, exact because every partial sum is an integer below 2^24, in
whatever order and even in TF32. All else is one torch operation for each operation of the page, so that none is fused.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from kolmo.native import tables
from kolmo.native.network.reference import Hasher
from kolmo.predictors.embedded.network import Weights

BATCH = 1 << 13  # lanes times steps in work at a time


class ExactNetwork:
    """Weights of a network on a device, shared by all lanes.

    Args:
        weights: as a file holds them.
        device: where to compute.
    """

    def __init__(self, weights: Weights, device: torch.device | str = "cpu") -> None:
        shape = self.shape = weights.shape
        self.device = torch.device(device)

        def floats(name: str) -> Tensor:
            return torch.from_numpy(weights.tensor(name).astype(np.float32)).to(self.device)

        self.embedding = floats("embedding") * floats("embedding_scale")[:, None]
        self.slots = []
        for k in range(len(shape.tables)):
            pairs = torch.from_numpy(weights.tensor(f"table.{k}").copy()).to(self.device)
            table = torch.stack([pairs & 15, pairs >> 4], -1).flatten(1).to(torch.int8) - 8
            self.slots.append((table, floats(f"table.{k}_scale")))
        self.layers = [
            tuple(floats(f"layer.{k}.{name}") for name in ("in", "in_scale", "bias", "out", "out_scale"))
            for k in range(shape.layers)
        ]
        self.head = floats("head"), floats("head_scale"), floats("head_bias")
        self.exp2 = torch.tensor(tables.exp2_weights().tolist(), device=self.device)

    def start(self, lanes: int) -> ExactLanes:
        """Lanes before their first byte."""
        return ExactLanes(self, lanes)


class ExactLanes:
    """What a number of lanes remember: states, and the last bytes."""

    def __init__(self, network: ExactNetwork, lanes: int) -> None:
        shape = network.shape
        self.network, self.lanes = network, lanes
        self._states = torch.zeros(shape.layers, lanes, shape.state, device=network.device)
        self._hasher = Hasher(shape.tables, lanes)

    @torch.no_grad()
    def step(self, symbols: Tensor) -> Tensor:
        """Take in bytes, uint8 (steps, lanes), as `reference.NetworkLanes.step` does.

        Returns:
            Partial sums of the weights of the byte after each, int64 (steps, lanes, 512), on the network's device.
        """
        precision = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("highest")
        try:
            parts = torch.split(symbols, max(BATCH // self.lanes, 1))
            return torch.cat([self._run(part) for part in parts])
        finally:
            torch.set_float32_matmul_precision(precision)

    def _run(self, symbols: Tensor) -> Tensor:
        n = self.network
        entries = torch.from_numpy(self._hasher.step(symbols.cpu().numpy())).to(n.device)
        inputs = [n.embedding[symbols.to(n.device).long()]]
        inputs += [table[e] * scale[e][..., None] for (table, scale), e in zip(n.slots, entries, strict=True)]
        x = torch.cat(inputs, -1)
        for layer, (in_, in_scale, bias, out, out_scale) in enumerate(n.layers):
            r, c, g = (_normalise(x, 24) @ in_.T * in_scale).chunk(3, -1)
            k = _squeeze(r + bias)
            h, last = torch.empty_like(c), self._states[layer]
            for t in range(len(h)):
                last = last + k[t] * (c[t] - last)
                h[t] = last
            self._states[layer] = last
            y = (h * g) * _squeeze(g)
            x = x + _normalise(y, 16) @ out.T * out_scale
        head, head_scale, head_bias = n.head
        return weigh(_normalise(x, 24) @ head.T * head_scale + head_bias, n.exp2)


def _normalise(x: Tensor, scale: float) -> Tensor:
    i = (((x * 4096).clamp(-67108864, 67108864) + 12582912) - 12582912).long()
    total = (i * i).sum(-1, keepdim=True)
    m = (total.double() * (1 / (x.shape[-1] * 2.0**24))).float()
    by = torch.full_like(m, scale) / _root(m + 2.0**-20)  # a number / a tensor would multiply by a reciprocal
    return (x * by).clamp(-127, 127).round()


def _squeeze(t: Tensor) -> Tensor:
    return (0.5 * t) / _root(t * t + 1) + 0.5


def _root(x: Tensor) -> Tensor:
    """Square root, correctly rounded: torch's own may be off by one on CPUs (MKL), but not by as much in binary64."""
    return x.double().sqrt().float()


def weigh(logits: Tensor, exp2: Tensor) -> Tensor:
    """Weights of 256 values and their partial sums, int64 (..., 512), from logits in nats, (..., 256)."""
    d = (logits - logits.amax(-1, keepdim=True)) * 1.44269504
    q = -(d * 1024).clamp(-24576, 0).round().long()
    sums = logits.new_zeros((*logits.shape[:-1], 512), dtype=torch.int64)
    sums[..., 256:] = (exp2[q & 1023] >> (q >> 10)).clamp_min(1)
    for n in (128, 64, 32, 16, 8, 4, 2, 1):
        sums[..., n : 2 * n] = sums[..., 2 * n : 4 * n : 2] + sums[..., 2 * n + 1 : 4 * n : 2]
    return sums


__all__ = ["ExactLanes", "ExactNetwork", "weigh"]
