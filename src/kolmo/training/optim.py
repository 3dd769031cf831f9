"""Optimisers: Muon for products' weights, Adam for the rest; and the schedule of their rates."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from kolmo.training.networks.models import AnyModel
from kolmo.training.settings import Settings

BETAS = (0.9, 0.99)


class Muon(torch.optim.Optimizer):
    """Momentum whose update is orthogonalised (Jordan et al. 2024, "Muon"), for matrices or stacks (..., out, in).

    Five steps of a quintic Newton-Schulz iteration bring all singular values of the momentum near one.

    Args:
        parameters: of two or more dimensions.
        lr: learning rate; the update of a matrix has singular values of about that size.
        momentum: of the gradient's running mean, looked ahead as Nesterov's is.
        dtype: of the iteration, where bfloat16 suffices.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        lr: float = 0.02,
        momentum: float = 0.95,
        dtype: torch.dtype = torch.bfloat16,
    ) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum})
        self.dtype = dtype

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Update all parameters that have a gradient."""
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if not state:
                    state["momentum"] = torch.zeros_like(p)
                state["momentum"].lerp_(p.grad, 1 - group["momentum"])
                ahead = p.grad.lerp(state["momentum"], group["momentum"])
                update = orthogonalise(ahead.reshape(-1, *p.shape[-2:]), self.dtype).view_as(p)
                p.add_(update, alpha=-group["lr"] * max(1, p.shape[-2] / p.shape[-1]) ** 0.5)


def orthogonalise(matrices: Tensor, dtype: torch.dtype = torch.bfloat16) -> Tensor:
    """Matrices (n, a, b) with their singular values brought near one; computed in `dtype`."""
    x = matrices.to(dtype)
    wide = x.shape[1] <= x.shape[2]
    if not wide:
        x = x.mT
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(5):
        gram = torch.bmm(x, x.mT)
        odd = torch.baddbmm(gram, gram, gram, beta=-4.7750, alpha=2.0315)
        x = torch.baddbmm(x, odd, x, beta=3.4445)
    return (x if wide else x.mT).to(matrices.dtype)


class Optimisers:
    """All optimisers of a model as one, with rates that follow the schedule.

    Their order, and that of their parameters, is the checkpoint's.
    """

    def __init__(self, model: AnyModel, settings: Settings) -> None:
        self.settings = settings
        factor = settings.rate
        self.all: list[torch.optim.Optimizer] = [
            Muon(model.matrices(), settings.muon_rate * factor, dtype=getattr(torch, settings.dtype)),
            torch.optim.Adam(model.rest(), settings.adam_rate * factor, BETAS, fused=True),
        ]
        if model.lookups():
            self.all.append(torch.optim.Adam(model.lookups(), settings.table_rate * factor, BETAS, fused=True))
        self.first_rates = [o.param_groups[0]["lr"] for o in self.all]

    def step(self, progress: float) -> None:
        """Update all parameters, then forget the gradients.

        Args:
            progress: part of the budget that is spent, 0 to 1.
        """
        factor = schedule(progress, self.settings.warm_up, self.settings.final)
        for optimiser, rate in zip(self.all, self.first_rates, strict=True):
            optimiser.param_groups[0]["lr"] = rate * factor
            optimiser.step()
            optimiser.zero_grad()

    def state(self) -> list[dict[str, Any]]:
        """What `restore` needs."""
        return [optimiser.state_dict() for optimiser in self.all]

    def restore(self, state: list[dict[str, Any]]) -> None:
        """Go on from a `state`.

        Raises:
            ValueError: it is that of other optimisers.
        """
        for optimiser, content in zip(self.all, state, strict=True):
            optimiser.load_state_dict(content)


def schedule(progress: float, warm_up: float, final: float) -> float:
    """Factor of the learning rates: up in a line, then down to `final` in half a cosine.

    Args:
        progress: part of the budget that is spent, 0 to 1.
        warm_up: part of the budget for the way up.
        final: last factor.
    """
    cosine = 0.5 + 0.5 * math.cos(math.pi * min(progress, 1.0))
    return min(1.0, (progress + 1e-4) / warm_up) * (final + (1 - final) * cosine)
