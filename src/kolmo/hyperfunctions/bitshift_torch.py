"""The search of the bitshift trellis in torch, for a GPU: the same integers as the kernels, and so the same strings.

The steps are those of kolmo.native.bitshift.reference, for many rows at once. What it is not: needed to decode.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from kolmo.errors import MissingExtraError
from kolmo.installing import install
from kolmo.native.bitshift.reference import MAX_COST, SEAM, strings
from kolmo.native.bitshift_product.reference import value_of

if TYPE_CHECKING:
    import numpy.typing as npt
    import torch

    Integers = npt.NDArray[np.int32]

CHOICE_BYTES = 1 << 30  # memory for the best states before each state, of all rows at once


def bitshift_search(
    states_log: int, bits: int, columns: int, targets: npt.NDArray[np.int16], device: str
) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.int8]]:
    """The words of rows and the values of their weights, as the kernel of this name finds them.

    Args:
        states_log: base-2 logarithm of the number of states.
        bits: bits of a weight.
        columns: weights of a row from here on are free.
        targets: (rows, width), in units of 2^-(4 + bits).
        device: of torch.

    Raises:
        MissingExtraError: torch is not installed.
    """
    try:
        import torch
    except ImportError as error:
        raise MissingExtraError(f"the search on {device}: needs torch ({error}); {install('hf')}") from None
    rows, width = targets.shape
    table = torch.from_numpy(value_of(np.arange(1 << states_log, dtype=np.uint32)).astype(np.int32) * (16 << bits))
    batch = max(CHOICE_BYTES // (max(width, 2 * SEAM) << states_log - bits), 1)
    newest = np.zeros((rows, width), np.int32)
    with torch.inference_mode():
        for at in range(0, rows, batch):
            some = torch.from_numpy(targets[at : at + batch].astype(np.int32)).to(device)
            newest[at : at + batch] = _search(some, table.to(device), bits, columns).cpu().numpy()
    return strings(newest, states_log, bits)


def _search(targets: torch.Tensor, table: torch.Tensor, bits: int, columns: int) -> torch.Tensor:
    """The newest bits of each state of the best cyclic path of each row."""
    import torch

    rows, width = targets.shape
    sets = table.numel() >> bits
    half = min(width // 2, SEAM)
    costs = torch.zeros((rows, sets), dtype=torch.int32, device=targets.device)
    around = [*range(width - half, width), *range(half)]
    costs, choices = _extend(targets, table, bits, costs, around, columns)
    numbered = costs.long() * sets + torch.arange(sets, device=targets.device)
    seam, _ = _trace(choices[half:], bits, numbered.amin(1) % sets)  # of equal costs, the first set
    costs = torch.full_like(costs, MAX_COST).scatter_(1, seam[:, None], 0)
    _, choices = _extend(targets, table, bits, costs, range(width), columns)
    return _trace(choices, bits, seam)[1]


def _extend(
    targets: torch.Tensor,
    table: torch.Tensor,
    bits: int,
    costs: torch.Tensor,
    places: range | list[int],
    columns: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The costs after the weights at some places, and which state before each set is the best: (n, rows, sets)."""
    import torch

    rows, sets = costs.shape
    number = torch.arange(1 << bits, dtype=torch.int32, device=costs.device)[:, None]
    choices = torch.empty((len(places), rows, sets), dtype=torch.uint8, device=costs.device)
    for t, place in enumerate(places):
        here = costs.repeat_interleave(1 << bits, 1)
        if place < columns:
            apart = (targets[:, place, None] - table).clamp_(-(1 << 15), (1 << 15) - 1)
            here = (here + (apart * apart + (1 << 14) >> 15)).clamp_(max=MAX_COST)
        best = (here.view(rows, 1 << bits, sets) << bits | number).amin(1)  # of equal costs, the first state
        choices[t] = best & (1 << bits) - 1
        costs = (best >> bits) - costs.amin(1, keepdim=True)
    return costs, choices


def _trace(choices: torch.Tensor, bits: int, end: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The set of the first state on the path that leads to a set, and the newest bits of each state on it."""
    import torch

    count, rows, sets = choices.shape
    newest = torch.empty((rows, count), dtype=torch.int32, device=choices.device)
    for t in range(count - 1, -1, -1):
        state = choices[t].gather(1, end[:, None])[:, 0].long() * sets + end
        newest[:, t] = state & (1 << bits) - 1
        end = state >> bits
    return end, newest
