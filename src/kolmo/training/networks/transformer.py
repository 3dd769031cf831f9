"""Decoder-only Transformers, of the sizes of "Language Modeling Is Compression" (Deletang et al. 2024).

As there: 4 layers of width 64, 128 or 256 with 4, 4 or 8 heads, a context of 2048, and with `rotary` the positions (Su
et al. 2021, "RoFormer"). Unlike there, each part normalises what it reads rather than what it adds to, which learns
faster. With rotary positions it is a GPT-NeoX of transformers (`training.products.transformers_folder`), so its head
has no bias.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

WIDENING = 4  # width between a layer's two last products, in widths
BLOCK = 128  # steps that attention's plain products take at once
MAX_KEPT = 1 << 28  # probabilities of a layer that they keep for the gradient, 2 bytes each
PERIOD = 10_000.0  # longest wave of sinusoidal and rotary positions, over 2 pi


@dataclass(frozen=True)
class TransformerShape:
    """Sizes of a decoder-only Transformer.

    Attributes:
        layers: of attention and two products.
        width: of what the layers pass on.
        heads: of attention; they divide the width.
        context: most symbols it sees.
        positions: `sinusoidal`, `learned` or `rotary`.
        vocabulary: symbols.
    """

    layers: int = 4
    width: int = 64
    heads: int = 8
    context: int = 2048
    positions: str = "sinusoidal"
    vocabulary: int = 256


TRANSFORMERS = {
    "transformer-200k": TransformerShape(width=64, heads=4),
    "transformer-800k": TransformerShape(width=128, heads=4),
    "transformer-3.2m": TransformerShape(width=256, heads=8),
}


def name_of(shape: TransformerShape) -> str:
    """The name of a Transformer's size; one of another size is named by layers, width and heads.

    >>> name_of(TransformerShape(width=128, heads=4, positions="rotary")), name_of(TransformerShape(2, 32, 4))
    ('transformer-800k', 'transformer-2x32x4')
    """
    sizes = shape.layers, shape.width, shape.heads
    known = (name for name, one in TRANSFORMERS.items() if (one.layers, one.width, one.heads) == sizes)
    return next(known, f"transformer-{shape.layers}x{shape.width}x{shape.heads}")


@dataclass
class NoState:
    """A Transformer remembers nothing from one window to the next."""

    def reset(self, lanes: Tensor) -> None:
        """Nothing to forget."""


class Transformer(nn.Module):
    """Decoder-only Transformer: per layer causal attention and two products around a GELU, each added to its input."""

    def __init__(self, shape: TransformerShape) -> None:
        super().__init__()
        self.shape = shape
        self.quantised = False  # its weights stay floats; here for what all models have
        layers, width = shape.layers, shape.width
        self.embedding = nn.Parameter(torch.randn(shape.vocabulary, width) * 0.5)
        learned = shape.positions == "learned"
        self.positions = nn.Parameter(torch.randn(shape.context, width) * 0.1) if learned else None
        self.query_key_value = nn.Parameter(torch.randn(layers, 3, width, width) / width**0.5)
        self.out = nn.Parameter(torch.randn(layers, 1, width, width) * (0.3 / width**0.5))
        self.up = nn.Parameter(torch.randn(layers, WIDENING * width, width) / width**0.5)
        self.up_bias = nn.Parameter(torch.zeros(layers, WIDENING * width))
        self.down = nn.Parameter(torch.randn(layers, width, WIDENING * width) * (0.3 / (WIDENING * width) ** 0.5))
        self.down_bias = nn.Parameter(torch.zeros(layers, width))
        self.gain = nn.Parameter(torch.ones(layers, 2, width))
        self.last_gain = nn.Parameter(torch.ones(width))
        self.head = nn.Parameter(torch.zeros(shape.vocabulary, width))
        self.rotary = shape.positions == "rotary"
        self.head_bias = None if self.rotary else nn.Parameter(torch.zeros(shape.vocabulary))
        self.waves: Tensor
        self.register_buffer("waves", _waves(shape), persistent=False)

    @property
    def reach(self) -> int:
        """Most symbols of a lane at once."""
        return self.shape.context

    def start(self, lanes: int) -> NoState:
        """State before the first symbol."""
        return NoState()

    def forward(self, symbols: Tensor, hashes: Tensor, state: Any, dtype: torch.dtype = torch.float32) -> Tensor:
        """Logits of the symbol after each, (steps, lanes, vocabulary), float32.

        Args:
            symbols: (steps, lanes), int64, at most `context` steps.
            hashes: not looked at.
            state: not looked at.
            dtype: of the matrix products.
        """
        steps, shape = len(symbols), self.shape
        places = self.waves if self.positions is None else self.positions
        x = functional.embedding(symbols.T, self.embedding)
        if not self.rotary:
            x = x + places[:steps]
        for layer in range(shape.layers):
            u = _normalise(x, self.gain[layer, 0]).to(dtype)
            q, k, v = (self._heads(u @ w.T) for w in self.query_key_value[layer].to(dtype))
            if self.rotary:
                q, k = (_rotate(part, places[:steps]) for part in (q, k))
            attended = _attend(q, k, v)
            x = x + attended.transpose(1, 2).flatten(2) @ self.out[layer, 0].to(dtype).T
            u = _normalise(x, self.gain[layer, 1]).to(dtype)
            inner = functional.gelu(u @ self.up[layer].to(dtype).T + self.up_bias[layer].to(dtype))
            x = x + (inner @ self.down[layer].to(dtype).T + self.down_bias[layer].to(dtype))
        u = _normalise(x, self.last_gain).to(dtype)
        logits = (u @ self.head.to(dtype).T).float()
        return (logits if self.head_bias is None else logits + self.head_bias).transpose(0, 1)

    def matrices(self) -> list[nn.Parameter]:
        """Parameters that are products' weights, (..., out, in): those that orthogonalised updates are for."""
        return [self.query_key_value, self.out, self.up, self.down]

    def rest(self) -> list[nn.Parameter]:
        """All other parameters."""
        matrices = {id(p) for p in self.matrices()}
        return [p for p in self.parameters() if id(p) not in matrices]

    def lookups(self) -> list[nn.Parameter]:
        """Hashed tables: none."""
        return []

    def count(self) -> int:
        """Parameters of the layers, which sizes are named by: without embeddings, positions and head."""
        inside = (*self.matrices(), self.up_bias, self.down_bias, self.gain)
        return sum(p.numel() for p in inside)

    def describe(self) -> dict[str, Any]:
        """The shape, ready for JSON."""
        return {"kind": "transformer", **asdict(self.shape)}

    def _heads(self, x: Tensor) -> Tensor:
        """(lanes, steps, width) to (lanes, heads, steps, width of a head)."""
        return x.unflatten(-1, (self.shape.heads, -1)).transpose(1, 2)


def _normalise(x: Tensor, gain: Tensor) -> Tensor:
    return functional.layer_norm(x, x.shape[-1:], gain)


def _attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Causal attention, (lanes, heads, steps, width of a head) of all.

    torch's own has a slow gradient in bfloat16 on processors: plain products, of a block of steps with all before it,
    take less than half of its time. They keep the probabilities, so large batches of long windows are left to torch's.
    """
    outer, steps, scale = q.shape[:2], q.shape[2], q.shape[3] ** -0.5
    slow = q.requires_grad and q.dtype == torch.bfloat16 and q.device.type == "cpu"
    if not slow or outer.numel() * steps * (steps + BLOCK) // 2 > MAX_KEPT:
        return functional.scaled_dot_product_attention(q, k, v, is_causal=True)
    q, k, v = q.flatten(0, 1), k.flatten(0, 1).mT, v.flatten(0, 1)
    attended = []
    for start in range(0, steps, BLOCK):
        end = min(start + BLOCK, steps)
        future = q.new_full((end - start, end), -math.inf).triu(start + 1)
        scores = torch.baddbmm(future, q[:, start:end], k[:, :, :end], alpha=scale)
        attended.append(scores.softmax(-1) @ v[:, :end])
    return torch.cat(attended, 1).unflatten(0, outer)


def _rotate(x: Tensor, waves: Tensor) -> Tensor:
    """Each pair (x[i], x[i + width / 2]) of a head turned by the angle of its position and frequency."""
    sines, cosines = waves.to(x.dtype).chunk(2, -1)
    first, second = x.chunk(2, -1)
    return torch.cat([first * cosines - second * sines, second * cosines + first * sines], -1)


def _waves(shape: TransformerShape) -> Tensor:
    """Sines and cosines of the positions, (context, width or, rotary, width of a head); learned: (0, width)."""
    steps = 0 if shape.positions == "learned" else shape.context
    half = shape.width // (shape.heads if shape.positions == "rotary" else 1) // 2
    frequency = torch.exp(torch.arange(half) * (-math.log(PERIOD) / half))
    angle = torch.arange(steps)[:, None] * frequency
    return torch.cat([angle.sin(), angle.cos()], -1)
