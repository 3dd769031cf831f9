"""The two parts of a recurrent layer that are not matrix products, with their gradients: normalisation and recurrence.

On a CPU with the C kernels each is one pass over memory, on all of torch's threads; elsewhere plain torch
operations do the same. Time comes first in all shapes: (steps, lanes, width).
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any, TypeVar

import torch
from torch import Tensor

from kolmo.native import dispatch

Result = TypeVar("Result")
kernels: Any = dispatch.kernels
NATIVE = hasattr(kernels, "cell_forward")
EPSILON = 2.0**-20  # of the mean square, in `normalise`
FREE = 127.5  # what rounds to more than 127 is cut off, and gets no gradient


def sigmoid(x: Tensor) -> Tensor:
    """Algebraic sigmoid, (1 + x / sqrt(1 + x^2)) / 2: exact with IEEE operations alone, and no slower at its tails."""
    return 0.5 + 0.5 * x * torch.rsqrt(1 + x * x)


def straight_through(value: Tensor, source: Tensor) -> Tensor:
    """`value` to the last bit, with a gradient as if it were `source`."""
    return value.detach() + (source - source.detach())


def normalise(x: Tensor, scale: float, integers: bool, dtype: torch.dtype) -> Tensor:
    """Rows with a root mean square of `scale`; rounded to whole numbers within +-127 where `integers`.

    Args:
        x: float32, (..., width), width a multiple of 16.
        scale: root mean square of the result.
        integers: round, with a gradient as if it were not rounded (and none where it was cut off).
        dtype: of the result; bfloat16 holds these integers exactly.
    """
    if NATIVE and x.device.type == "cpu" and dtype in (torch.bfloat16, torch.float32):
        return _Normalise.apply(x, scale, integers, dtype)
    u = x * (scale * torch.rsqrt(x.square().mean(-1, keepdim=True) + EPSILON))
    if integers:
        u = straight_through(u.round().clamp(-127, 127), u.clamp(-FREE, FREE))
    return u.to(dtype)


def recur(z: Tensor, bias: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
    """Gated linear recurrence with an output gate (docs/neural.md, "A layer").

    With z = (rate, candidate, gate): h += s(rate + bias) (candidate - h); y = h gate s(gate).

    Args:
        z: (steps, lanes, 3 width), bfloat16 or float32.
        bias: (width,), float32.
        before: state before the first step, (lanes, width), float32; the gradient stops there.

    Returns:
        y of z's type, (steps, lanes, width), and the last state, (lanes, width), detached.
    """
    if NATIVE and z.device.type == "cpu":
        return _Recur.apply(z, bias, before)
    rate, candidate, gate = z.float().chunk(3, -1)
    take = sigmoid(rate + bias)
    h = _Scan.apply(1 - take, take * candidate, before)
    return (h * gate * sigmoid(gate)).to(z.dtype), h[-1].detach().clone()


def scan_steps(keep: Tensor, add: Tensor) -> Tensor:
    """h[t] = keep[t] h[t-1] + add[t] from h[-1] = 0, step by step: least work, one launch a step.

    Args:
        keep: (steps, ...), at least one step.
        add: likewise.
    """
    h = add.clone()
    for t in range(1, len(h)):
        h[t].addcmul_(keep[t], h[t - 1])
    return h


def scan_pairs(keep: Tensor, add: Tensor) -> Tensor:
    """The same as `scan_steps` in 2 log2(steps) rounds, each over all its steps at once: for a GPU.

    Two steps in a row are one step, with the product of what they keep; so the odd steps are a scan of half the
    length, and each even one follows from the odd one before. About three times the work of `scan_steps`.
    """
    if len(add) == 1:
        return add.clone()
    even_keep, odd_keep = keep[::2], keep[1::2]
    pairs = len(odd_keep)
    odd = scan_pairs(even_keep[:pairs] * odd_keep, torch.addcmul(add[1::2], odd_keep, add[: 2 * pairs : 2]))
    h = torch.empty_like(add)
    h[1::2] = odd
    h[0] = add[0]
    h[2::2] = torch.addcmul(add[2::2], keep[2::2], odd[: (len(add) - 1) // 2])
    return h


def _scan(keep: Tensor, add: Tensor) -> Tensor:
    return scan_steps(keep, add) if keep.device.type == "cpu" else scan_pairs(keep, add)


class _Scan(torch.autograd.Function):
    """h[t] = keep[t] h[t-1] + add[t]; all float32."""

    @staticmethod
    def forward(ctx: Any, keep: Tensor, add: Tensor, before: Tensor) -> Tensor:
        first = torch.addcmul(add[:1], keep[:1], before[None])
        h = _scan(keep, torch.cat([first, add[1:]]))
        ctx.save_for_backward(keep, h, before)
        return h

    @staticmethod
    def backward(ctx: Any, *up: Tensor) -> tuple[Tensor, Tensor, None]:
        keep, h, before = ctx.saved_tensors
        after = torch.cat([keep[:1], keep[1:].flip(0)])  # backwards, the first step keeps nothing
        d_add = _scan(after, up[0].flip(0)).flip(0)
        past = torch.cat([before[None], h[:-1]])
        return d_add * past, d_add, None


class _Normalise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: float, integers: bool, dtype: torch.dtype) -> Tensor:
        x = x.contiguous()
        width, bf16 = x.shape[-1], dtype == torch.bfloat16
        u = torch.empty(x.shape, dtype=dtype)
        inverse = torch.empty(x.shape[:-1])
        where = x.data_ptr(), u.data_ptr(), inverse.data_ptr()
        _spread(inverse.numel(), lambda a, b: kernels.norm_forward(*where, width, scale, integers, a, b, bf16))
        ctx.save_for_backward(x, inverse)
        ctx.options = scale, integers, bf16
        return u

    @staticmethod
    def backward(ctx: Any, *up: Tensor) -> tuple[Tensor, None, None, None]:
        x, inverse = ctx.saved_tensors
        scale, integers, bf16 = ctx.options
        du, dx = up[0].contiguous(), torch.empty_like(x)
        where = x.data_ptr(), inverse.data_ptr(), du.data_ptr(), dx.data_ptr()
        width = x.shape[-1]
        _spread(inverse.numel(), lambda a, b: kernels.norm_backward(*where, width, scale, integers, a, b, bf16))
        return dx, None, None, None


class _Recur(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, z: Tensor, bias: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
        z, bias, before = z.contiguous(), bias.contiguous(), before.contiguous()
        steps, lanes, width = z.shape[0], z.shape[1], z.shape[2] // 3
        h, y = torch.empty(steps, lanes, width), torch.empty(steps, lanes, width, dtype=z.dtype)
        where = z.data_ptr(), bias.data_ptr(), before.data_ptr(), h.data_ptr(), y.data_ptr()
        bf16 = z.dtype == torch.bfloat16
        _spread(lanes, lambda a, b: kernels.cell_forward(*where, steps, lanes, width, a, b, bf16))
        ctx.save_for_backward(z, bias, before, h)
        last = h[-1].clone()
        ctx.mark_non_differentiable(last)
        return y, last

    @staticmethod
    def backward(ctx: Any, *up: Tensor) -> tuple[Tensor, Tensor, None]:
        z, bias, before, h = ctx.saved_tensors
        steps, lanes, width = h.shape
        dy, dz, carry = up[0].contiguous(), torch.empty_like(z), torch.zeros_like(before)
        where = z.data_ptr(), bias.data_ptr(), before.data_ptr(), h.data_ptr()
        bf16 = z.dtype == torch.bfloat16

        def part(first: int, last: int) -> Tensor:
            d_bias = torch.zeros(width)
            into = dy.data_ptr(), dz.data_ptr(), carry.data_ptr(), d_bias.data_ptr()
            kernels.cell_backward(*where, *into, steps, lanes, width, first, last, bf16)
            return d_bias

        return dz, torch.stack(_spread(lanes, part)).sum(0), None


def _spread(count: int, work: Callable[[int, int], Result]) -> list[Result]:
    """What work(first, last) returns for parts of range(count), one part for each of torch's threads, in order."""
    threads = min(torch.get_num_threads(), count)
    if threads == 1:
        return [work(0, count)]
    edges = [count * i // threads for i in range(threads + 1)]
    return list(_pool(threads).map(work, edges[:-1], edges[1:]))


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads)


__all__ = ["EPSILON", "NATIVE", "normalise", "recur", "scan_pairs", "scan_steps", "sigmoid", "straight_through"]
