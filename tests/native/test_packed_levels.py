"""Packed levels: both implementations give the same bits, from any place on, and refuse what does not fit."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from helpers.implementations import IMPLEMENTATIONS, NATIVE
from kolmo.hyperfunctions.trellis import Trellis
from kolmo.native import reference

Integers = npt.NDArray[np.int32]


def walked(states: int, count: int, spread: float, seed: int = 0) -> Integers:
    """Random levels that the trellis allows: even ones in states whose lowest bit is 0, odd ones in the others."""
    rng = np.random.default_rng(seed)
    scales = np.repeat(np.exp(rng.standard_normal(-(-count // 50))), 50)[:count]
    values = np.rint(rng.standard_normal(count) * spread * scales).astype(np.int64)
    values[count // 3 : count // 2] = 0
    feedback, given = {1: (0, 0), 8: (5, 2), 64: (33, 10)}[states]
    state, found = 0, np.zeros(count, np.int32)
    for i, m in enumerate(values.tolist()):
        found[i] = m if states == 1 else 2 * m + (state & 1)
        state = state >> 1 ^ (state & 1) * feedback ^ (int(found[i]) >> 1 & 1) * given
    return found


def table(size: int, reach: int) -> bytes:
    """The level itself, modulo what an entry holds."""
    return np.arange(-reach, reach).astype(f"i{size}").tobytes()


@pytest.mark.parametrize("kernels", IMPLEMENTATIONS)
@pytest.mark.parametrize("states", [1, 8, 64])
@pytest.mark.parametrize("spread", [0.4, 4.0, 300.0])
def test_levels_come_back_from_any_place(kernels: Any, states: int, spread: float) -> None:
    levels = walked(states, 3333, spread)
    packed = kernels.trellis_pack(states, levels.tobytes())
    assert [len(part) for part in packed[:2]] == [8 * 4, 53]
    assert len(packed[2]) == 8 * sum(packed[1])
    reach = 1 << 15
    for first, count in ((0, 3333), (0, 0), (3333, 0), (1, 5), (1023, 2), (1024, 1024), (2500, 833), (63, 65)):
        found = kernels.trellis_unpack(states, *packed, table(4, reach), 4, first, count)
        assert np.array_equal(np.frombuffer(found, np.int32), levels[first : first + count])
    for size in (1, 2, 8):
        found = kernels.trellis_unpack(states, *packed, table(size, reach), size, 100, 900)
        assert np.array_equal(np.frombuffer(found, f"i{size}"), levels[100:1000].astype(f"i{size}"))


@pytest.mark.skipif(NATIVE is None, reason="the C kernels are not built here")
@pytest.mark.parametrize("states", [1, 8, 64])
def test_c_packs_as_the_reference_does(states: int) -> None:
    for count in (0, 1, 64, 1024, 1025, 5000):
        levels = walked(states, count, 3.0, count).tobytes()
        assert NATIVE.trellis_pack(states, levels) == reference.trellis_pack(states, levels)


@pytest.mark.parametrize("kernels", IMPLEMENTATIONS)
def test_a_block_by_hand(kernels: Any) -> None:
    """Levels 2, 0, 3, -3 in states 0, 2, 1 and 7: m is 1, 0, 1, -2, and the rest of the block 0; m + 2 has two bits."""
    heads, widths, words = kernels.trellis_pack(8, np.array([2, 0, 3, -3], np.int32).tobytes())
    assert np.frombuffer(heads, np.uint64).tolist() == [0]
    assert list(widths) == [2]
    assert np.frombuffer(words, np.uint64).tolist() == [0b0101, 2**64 - 1 - 0b1000]


@pytest.mark.parametrize("kernels", IMPLEMENTATIONS)
def test_what_does_not_fit_is_refused(kernels: Any) -> None:
    levels = walked(8, 2000, 4.0)
    packed = heads, widths, words = kernels.trellis_pack(8, levels.tobytes())
    good = table(2, 128)
    assert len(kernels.trellis_unpack(8, *packed, good, 2, 0, 2000)) == 4000
    for bad in (
        (8, *packed, good, 3, 0, 1),  # sizes of entries
        (8, *packed, good[:-2], 2, 0, 1),
        (8, *packed, b"", 2, 0, 1),
        (2, *packed, good, 2, 0, 1),  # states
        (8, *packed, good, 2, -1, 1),  # places
        (8, *packed, good, 2, 2048, 1),
        (8, *packed, good, 2, 0, -1),
        (8, heads[:-8], widths, words, good, 2, 0, 1),  # parts that do not belong together
        (8, heads, widths, words[:-8], good, 2, 1990, 10),
        (8, heads, widths, words[:-1], good, 2, 0, 1),
        (8, heads, b"\x14" + widths[1:], words, good, 2, 0, 1),
        (8, b"\x08" + heads[1:], widths, words, good, 2, 0, 1),  # a state that there is not
        (8, b"\xff" * len(heads), widths, words, good, 2, 0, 1),
        (8, *packed, table(2, 2), 2, 0, 2000),  # levels that are not in the table
    ):
        with pytest.raises(ValueError, match="fit"):
            kernels.trellis_unpack(*bad)
    wrong = levels.copy()
    wrong[700] += 1
    for states, data in (
        (8, wrong.tobytes()),
        (8, levels.tobytes()[:-1]),
        (2, b""),
        (1, np.full(3, 1 << 16).tobytes()),
    ):
        with pytest.raises(ValueError, match="fit"):
            kernels.trellis_pack(states, data)


@pytest.mark.parametrize("kernels", IMPLEMENTATIONS)
@pytest.mark.parametrize("states", [8, 64])
def test_levels_of_a_search(kernels: Any, states: int) -> None:
    weights = np.random.default_rng(5).standard_normal((4, 300)).astype(np.float32)
    function = Trellis(0.2, states)
    levels = function.decode_levels(function.encode(weights), weights.shape).reshape(-1)
    packed = kernels.trellis_pack(states, levels.tobytes())
    found = kernels.trellis_unpack(states, *packed, table(2, 1 << 10), 2, 0, levels.size)
    assert np.array_equal(np.frombuffer(found, np.int16), levels)
