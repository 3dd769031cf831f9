"""A cache of transformers that forgets its oldest tokens: rotary keys are turned to their new positions.

A rotary model turns each pair of a key's numbers by an angle that is proportional to the position (Su et al.,
"RoFormer", 2021, equation 34), so a key moves by `count` positions when it is turned by as many angles. Whether a model
is such a model is not known from its name: `find_frequencies` compares what it computes at other positions.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch

CHANGING_KINDS = ("dynamic", "longrope")  # of rotary embeddings whose frequencies depend on the length of the text
PROBE_TOKENS, PROBE_SHIFT = 12, 37
TOLERANCE = 1e-2  # of the greatest key or value, for 32-bit types; for 16-bit types eight times as much


def find_frequencies(model: Any, cache_name: str, size: int, itemsize: int) -> torch.Tensor | None:
    """Angles for each position of a model's keys, in radians, shape (pairs,); None where its cache cannot slide.

    Args:
        model: of transformers.
        cache_name: name of its argument and output that hold the cache.
        size: of the vocabulary.
        itemsize: bytes of a number of its arithmetic.
    """
    import torch

    if "position_ids" not in inspect.signature(model.forward).parameters:
        return None
    found = [module for module in model.modules() if isinstance(getattr(module, "inv_freq", None), torch.Tensor)]
    if len(found) != 1 or getattr(found[0], "rope_type", "default") in CHANGING_KINDS:
        return None
    frequencies: torch.Tensor = found[0].inv_freq.cpu().double()  # not every device has float64
    device = found[0].inv_freq.device
    near = TOLERANCE if itemsize >= 4 else 8 * TOLERANCE
    places = torch.arange(PROBE_TOKENS, device=device)[None]
    ids = places * 7 % min(size, 97)
    try:
        with torch.inference_mode():
            here, there = (
                model(input_ids=ids, position_ids=places + shift, use_cache=True)[cache_name]
                for shift in (0, PROBE_SHIFT)
            )
            for one, other in zip(here.layers, there.layers, strict=True):
                if type(one).__name__ != "DynamicLayer" or one.keys.ndim != 4 or one.keys.shape[2] != PROBE_TOKENS:
                    return None
                if not _near(one.keys, turned(other.keys, frequencies, -PROBE_SHIFT), near):
                    return None
                if not _near(one.values, other.values, near):
                    return None
    except Exception:  # whatever a model raises that does not support it
        return None
    return frequencies


def turned(keys: torch.Tensor, frequencies: torch.Tensor, count: int) -> torch.Tensor:
    """Keys moved by `count` positions, shape (lanes, heads, tokens, width).

    The first numbers of a key are turned, in pairs of one from their first and one from their second half.
    """
    import torch

    pairs = len(frequencies)
    kind = torch.promote_types(keys.dtype, torch.float32)
    angles = frequencies * count
    cos, sin = angles.cos().to(keys.device, kind), angles.sin().to(keys.device, kind)
    left, right = keys[..., :pairs].to(kind), keys[..., pairs : 2 * pairs].to(kind)
    parts = [left * cos - right * sin, right * cos + left * sin]
    return torch.cat([*(part.to(keys.dtype) for part in parts), keys[..., 2 * pairs :]], dim=-1)


def drop(cache: Any, frequencies: torch.Tensor, first: int, count: int) -> None:
    """Forget `count` tokens of a cache behind the `first` ones; those behind them move up by as many positions."""
    import torch

    for layer in cache.layers:
        keys, values = layer.keys, layer.values
        kept = turned(keys[:, :, first + count :], frequencies, -count)
        layer.keys = torch.cat([keys[:, :, :first], kept], dim=2)
        layer.values = torch.cat([values[:, :, :first], values[:, :, first + count :]], dim=2)


def _near(one: torch.Tensor, other: torch.Tensor, near: float) -> bool:
    difference = float((one - other).abs().max())
    return bool(np.isfinite(difference)) and difference <= near * float(one.abs().max())
