"""Brings text to a model: symbols and hashes of what precedes them, on the model's device."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from kolmo.native.network.reference import Hasher
from kolmo.training.networks.models import GatedRecurrent, Model


class Feed:
    """Brings symbols to the device, with the entries of a recurrent network's hashed tables."""

    def __init__(self, model: Model, lanes: int, device: torch.device | str) -> None:
        self.device = torch.device(device)
        self.hasher = Hasher(model.shape.tables, lanes) if isinstance(model, GatedRecurrent) else None

    def move(self, array: npt.NDArray[Any]) -> Tensor:
        """A tensor of the device."""
        return torch.from_numpy(array).to(self.device, non_blocking=True)

    def take(self, symbols: npt.NDArray[Any]) -> tuple[Tensor, Tensor]:
        """Symbols (steps, lanes) and their entries (tables, steps, lanes), int64; follows the lanes."""
        wide = symbols.astype(np.int64)
        hashes = self.hasher.step(symbols) if self.hasher else np.zeros((0, *symbols.shape), np.int64)
        return self.move(wide), self.move(hashes)

    def reset(self, lanes: npt.NDArray[np.bool_]) -> None:
        """Forget the lanes that a mask marks."""
        if self.hasher:
            self.hasher.reset(lanes)

    def state(self) -> list[Tensor]:
        """What `restore` needs."""
        if not self.hasher:
            return []
        parts = self.hasher.past, self.hasher.word, self.hasher.inside
        return [torch.from_numpy(np.ascontiguousarray(part)) for part in parts]

    def restore(self, state: list[Tensor]) -> None:
        """Go on from a `state`."""
        if self.hasher:
            self.hasher.past, self.hasher.word, self.hasher.inside = (part.numpy() for part in state)
