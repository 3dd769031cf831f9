"""A cache of transformers that appends in place: the same tokens, wherever they are kept."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed; pip install 'kolmo-codelength[hf]'")
pytest.importorskip("transformers", reason="transformers is not installed; pip install 'kolmo-codelength[hf]'")

from kolmo.predictors.language_models.torch_models import backend as backends  # noqa: E402
from kolmo.predictors.language_models.torch_models.growing import appended, grow_in_place  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")


def test_appended_is_concatenation_in_one_place() -> None:
    held, room, places = torch.rand(2, 3, 5, 4), None, []
    expected = held
    for count in (1, 1, 7, 1, 40, 1):
        new = torch.rand(2, 3, count, 4)
        room, held = appended(room, held, new)
        expected = torch.cat([expected, new], dim=-2)
        assert torch.equal(held, expected)
        places.append(held.data_ptr())
    assert len(set(places)) == 2  # it moved once, for the 40 tokens


def test_what_somebody_else_puts_in_place_is_taken() -> None:
    room, held = appended(None, torch.rand(1, 2, 6, 4), torch.rand(1, 2, 1, 4))
    shorter = held[:, :, 3:].clone()
    new = torch.rand(1, 2, 1, 4)
    _, found = appended(room, shorter, new)
    assert torch.equal(found, torch.cat([shorter, new], dim=-2))
    _, found = appended(room, held[:, :, :2], new)  # cut short: its room goes on behind the second token
    assert torch.equal(found, torch.cat([held[:, :, :2], new], dim=-2))


def test_lanes_grow_in_place_and_compute_the_same(
    folder_of: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = backends.load(folder_of("llama"), "float32", "cpu")
    tokens = np.arange(60, dtype=np.int64).reshape(2, 30) * 7 % 97

    def steps(lanes: Any) -> Any:
        return np.concatenate([lanes.feed(tokens[:, k : k + 1], 1) for k in range(tokens.shape[1])], axis=1)

    lanes = backend.lanes(2, 1)
    found = steps(lanes)
    layers = lanes._caches[0][backend.cache].layers
    assert {type(layer).__name__ for layer in layers} == {"GrowingLayer"}
    assert all(layer.get_seq_length() == tokens.shape[1] for layer in layers)
    monkeypatch.setattr(backends, "grow_in_place", lambda held: None)
    lanes = backend.lanes(2, 1)
    np.testing.assert_allclose(found, steps(lanes), atol=1e-5)
    assert {type(layer).__name__ for layer in lanes._caches[0][backend.cache].layers} == {"DynamicLayer"}


def test_other_caches_stay_as_they_are() -> None:
    class Sliding:
        is_initialized = True

    cache = SimpleNamespace(layers=[Sliding()])
    grow_in_place(cache)
    assert isinstance(cache.layers[0], Sliding)
    grow_in_place(object())
