"""A cache of transformers that appends keys and values in place.

transformers append a token to a cache by copying all of it, so the time of a step grows with the context more than
attention needs. Here a layer has room for more tokens than it holds, and a step copies one.

What it is not: a limit. A layer that is full moves to a larger place.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

SPARE_PART = 8  # a new place has room for tokens / SPARE_PART more,
MIN_SPARE_TOKENS = 16  # and for this number


def grow_in_place(held: Any) -> None:
    """Replace those layers of a cache that hold all tokens and nothing else; others, and other caches, stay.

    Args:
        held: the cache that a model returned.
    """
    layers = getattr(held, "layers", None)
    growing = _growing_layer()
    if growing is None or not isinstance(layers, list):
        return
    for place, layer in enumerate(layers):
        if type(layer).__name__ == "DynamicLayer" and getattr(layer, "is_initialized", False):
            layers[place] = growing(layer)


def appended(room: torch.Tensor | None, held: torch.Tensor, new: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Append tokens to those that are held, in the place where they are if it has room.

    Args:
        room: that place, shape (lanes, heads, tokens at most, width), or None.
        held: shape (lanes, heads, tokens, width): the beginning of `room`, or a tensor of its own.
        new: of the same shape, but for the number of tokens.

    Returns:
        the place, and all tokens: a view of its beginning.
    """
    before, end = held.shape[-2], held.shape[-2] + new.shape[-2]
    in_room = room is not None and room.data_ptr() == held.data_ptr() and room.shape[:-2] == held.shape[:-2]
    if room is None or not in_room or room.shape[-2] < end:
        room = held.new_empty((*held.shape[:-2], end + end // SPARE_PART + MIN_SPARE_TOKENS, held.shape[-1]))
        room[..., :before, :] = held
    room[..., before:end, :] = new
    return room, room[..., :end, :]


@cache
def _growing_layer() -> Any:
    """The class of a layer that grows in place; None where the installed transformers have no such layers."""
    try:
        from transformers.cache_utils import DynamicLayer
    except ImportError:
        return None

    class GrowingLayer(DynamicLayer):  # type: ignore[no-untyped-call]
        """All keys and values so far, with room for more."""

        def __init__(self, layer: Any) -> None:
            self.__dict__.update(vars(layer))
            self._rooms: tuple[Any, Any] = None, None

        def update(self, key_states: Any, value_states: Any, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
            """Append, and return all."""
            held: tuple[Any, Any] = self.keys, self.values
            keys, values = (
                appended(room, before, new)
                for room, before, new in zip(self._rooms, held, (key_states, value_states), strict=True)
            )
            self._rooms = keys[0], values[0]
            self.keys, self.values = keys[1], values[1]
            return keys[1], values[1]

    return GrowingLayer
