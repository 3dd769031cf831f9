"""The trellis: C against its specification, round trips, hostile payloads, and how near it comes to the bound."""

from __future__ import annotations

import os
import subprocess
import sys
from types import ModuleType

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.implementations import IMPLEMENTATIONS, NATIVE
from kolmo.errors import CorruptError, KolmoError
from kolmo.hyperfunctions import trellis, trellis_lines, trellis_payload, trellis_tables
from kolmo.hyperfunctions.base import Hyperfunction, restore
from kolmo.hyperfunctions.trellis import LEAST_ERROR, Trellis
from kolmo.hyperfunctions.trellis_payload import HEADER, checksum
from kolmo.native import reference
from kolmo.native.dispatch import SLOW

Floats = npt.NDArray[np.float32]
quick = pytest.mark.skipif(SLOW, reason="too slow in Python")


def gaussian(rows: int, columns: int, seed: int = 0) -> Floats:
    return np.random.default_rng(seed).standard_normal((rows, columns)).astype(np.float32)


def gap(weights: Floats, payload: bytes) -> float:
    """Decibels above the Gaussian bound, from the payload alone and all of it."""
    decoded = Trellis(1.0).decode(payload, (weights.shape[0], weights.shape[1]))
    error = float(((weights.astype(np.float64) - decoded) ** 2).mean() / weights.var(dtype=np.float64))
    return float(10 * np.log10(error * 4 ** (8 * len(payload) / weights.size)))


def with_checksum(payload: bytes, shape: tuple[int, int]) -> bytes:
    """The payload with a checksum that fits, as an attacker would write it."""
    fields = list(HEADER.unpack_from(payload))
    body = payload[HEADER.size :]
    fields[-1] = checksum(HEADER.pack(*fields[:-1], 0), body, shape)
    return HEADER.pack(*fields) + body


def test_it_keeps_the_protocol() -> None:
    function = Trellis(0.1, 64)
    assert isinstance(function, Hyperfunction)
    assert restore("trellis", function.parameters) == function
    assert (function.name, function.version) == ("trellis", 1)
    with pytest.raises(KolmoError, match="choose from trellis"):
        restore("nonsense", {})
    with pytest.raises(KolmoError, match="choose 8 or 64"):
        restore("trellis", {"step": 0.1, "states": 9})
    with pytest.raises(KolmoError, match="choose one from 0 to 1"):
        restore("trellis", {"step": 0.1, "rate": 2})
    with pytest.raises(KolmoError, match="trellis"):
        restore("trellis", {"pace": 0.1})


@pytest.mark.skipif(NATIVE is None, reason="the C kernels are not built here")
@pytest.mark.parametrize("states", [1, 8, 64])
@pytest.mark.parametrize("step", [2.0, 0.5, 0.01])
@pytest.mark.parametrize("pruned", [0.0, 0.7])
def test_c_gives_the_reference_bits(monkeypatch: pytest.MonkeyPatch, states: int, step: float, pruned: float) -> None:
    weights = gaussian(4, 150) * np.exp(gaussian(4, 1, 1))
    weights[np.abs(weights) < pruned] = 0
    weights[1, 7] = 900  # an outlier far beyond the unary part
    payloads, decoded = set(), set()
    for writer in (reference, NATIVE):
        monkeypatch.setattr(trellis_payload, "kernels", writer)
        payloads.add(Trellis(step, states).encode(weights))
    (payload,) = payloads
    for reader in (reference, NATIVE):
        monkeypatch.setattr(trellis_payload, "kernels", reader)
        decoded.add(Trellis(step).decode(payload, (4, 150)).tobytes())
    assert len(decoded) == 1


@pytest.mark.skipif(NATIVE is None, reason="the C kernels are not built here")
@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 1 << 30),
    count=st.integers(0, 300),
    states=st.sampled_from([1, 8, 64]),
    holes=st.booleans(),
    period=st.integers(128, 200),
    scale=st.sampled_from([10, 300, 5000, 1 << 22]),
)
def test_each_kernel_gives_the_reference_bits(
    seed: int, count: int, states: int, holes: bool, period: int, scale: int
) -> None:
    draw = np.random.default_rng(seed)
    values = draw.integers(-scale, scale + 1, count, np.int32)
    if holes:
        values[draw.integers(0, 3, count) == 0] = trellis_payload.HOLE
    weights = values.tobytes()
    table = draw.integers(1, 256, 432, np.uint8).tobytes()
    shared = (states, int(holes), trellis_tables.activity_logs(), int(draw.integers(1, 16384)), period)
    costs = trellis_tables.level_costs(table, states, 19661)
    levels = reference.trellis_quantise(*shared, weights, costs, 19661)
    assert NATIVE.trellis_quantise(*shared, weights, costs, 19661) == levels
    assert NATIVE.trellis_count(*shared, levels) == reference.trellis_count(*shared, levels)
    coded = reference.trellis_encode(*shared, levels, table)
    assert NATIVE.trellis_encode(*shared, levels, table) == coded
    assert NATIVE.trellis_decode(*shared, coded, table, count) == levels
    assert reference.trellis_decode(*shared, coded, table, count) == levels


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 1 << 30),
    count=st.integers(0, 128),
    states=st.sampled_from([1, 8, 64]),
    at=st.integers(0, 5000),
    scale=st.sampled_from([10, 300, 5000, 1 << 22]),
)
def test_each_kernel_resumes_alike(seed: int, count: int, states: int, at: int, scale: int) -> None:
    draw = np.random.default_rng(seed)
    weights = draw.integers(-scale, scale + 1, count, np.int32).tobytes()
    columns = draw.integers(0, 64 * 511 + 1, 128, np.uint16).tobytes()
    place = at, int(draw.integers(states)), int(draw.integers(64 * 511 + 1)), columns
    costs = trellis_tables.level_costs(draw.integers(1, 256, 432, np.uint8).tobytes(), states, 6554)
    arguments = states, trellis_tables.activity_logs(), 100, *place, weights, costs, 6554
    assert NATIVE.trellis_resume(*arguments) == reference.trellis_resume(*arguments)


@pytest.mark.parametrize("states", [1, 8, 64])
@pytest.mark.parametrize("shape", [(3, 4), (40, 7), (9, 200), (0, 5)])
def test_lines(states: int, shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Row by row, over the ends of tiles, readers decode what the search returned; the error is about the same."""
    for module in (trellis_payload, trellis, trellis_lines):
        monkeypatch.setattr(module, "TILE", 512)
    weights = np.random.default_rng(5).standard_normal(shape).astype(np.float32)
    function = Trellis(0.25, states)
    lines = trellis_lines.TrellisLines(function, weights)
    decoded = np.array([lines.quantise(row) for row in weights], np.float32).reshape(shape)
    assert (function.decode(lines.payload(), shape) == decoded).all()
    whole = function.decode(function.encode(weights), shape)
    assert np.square(decoded - weights).sum() <= 1.3 * np.square(whole - weights).sum()


def test_lines_that_grow() -> None:
    """What is fed back may exceed what the guide showed; the largest level stands in."""
    lines = trellis_lines.TrellisLines(Trellis(2.0**-10), np.ones((2, 4), np.float32))
    assert lines.quantise(np.full(4, 1e9)).tolist() == pytest.approx([2.0**10] * 4, rel=1e-4)
    with pytest.raises(ValueError, match="too small"):
        trellis_lines.TrellisLines(Trellis(2.0**-10), np.full((2, 4), 1e9, np.float32))


@pytest.mark.parametrize("kernels", IMPLEMENTATIONS)
def test_the_kernels_refuse_what_does_not_fit(kernels: ModuleType) -> None:
    logs, table = trellis_tables.activity_logs(), bytes([128]) * 432
    costs, slope = trellis_tables.level_costs(table, 8, 100), 100
    misfits = ((9, 0, logs, 64, 128), (8, 2, logs, 64, 128), (8, 0, logs[1:], 64, 128))
    for shared in (*misfits, (8, 0, logs, -1, 128), (8, 0, logs, 64, 127)):
        with pytest.raises(ValueError, match="fit the kernel"):
            kernels.trellis_quantise(*shared, bytes(8), costs, slope)
    shared = (8, 0, logs, 64, 128)
    far, hole = (np.array([value], np.int32).tobytes() for value in (2**31 - 1, trellis_payload.HOLE))
    for bad in (
        (bytes(3), costs, slope),
        (bytes(4), costs[4:], slope),
        (bytes(4), costs, -1),
        (far, costs, slope),
        (hole, costs, slope),
    ):
        with pytest.raises(ValueError, match="fit the kernel"):
            kernels.trellis_quantise(*shared, *bad)
    with pytest.raises(ValueError, match="fit the kernel"):
        kernels.trellis_encode(*shared, np.array([1], np.int32).tobytes(), table)  # odd, in an even state
    with pytest.raises(ValueError, match="fit the kernel"):
        kernels.trellis_decode(*shared, b"", bytes(432), 1)
    with pytest.raises(CorruptError):
        kernels.trellis_decode(*shared, b"\0" * 40, bytes([255]) * 432, 1)  # a magnitude beyond all bounds
    with pytest.raises(CorruptError):
        kernels.trellis_decode(*shared, b"\x7f" * 40, table, 1)


@settings(max_examples=25, deadline=None)
@given(
    rows=st.integers(0, 5),
    columns=st.integers(0, 40),
    states=st.sampled_from([1, 8, 64]),
    step=st.floats(1e-4, 100),
    seed=st.integers(0, 99),
)
def test_any_shape_survives(rows: int, columns: int, states: int, step: float, seed: int) -> None:
    weights = gaussian(rows, columns, seed)
    function = Trellis(step, states)
    payload = function.encode(weights)
    decoded = function.decode(payload, (rows, columns))
    assert decoded.dtype == np.float32
    assert decoded.shape == weights.shape
    assert Trellis(1.0).decode(payload, (rows, columns), threads=3).tobytes() == decoded.tobytes()
    if weights.size and step < 1:
        assert np.abs(weights - decoded).max() < 6 * function.step


@pytest.mark.parametrize("states", [1, 8, 64])
@pytest.mark.parametrize("size", [1, 10, 300, 1 << 20])
def test_any_levels_survive(states: int, size: int) -> None:
    levels = np.random.default_rng(size).integers(-size, size + 1, (5, 90), np.int32)
    if states > 1:  # those of the states on the way
        levels = Trellis(1.0, states, 0).decode_levels(
            Trellis(1.0, states, 0).encode(levels.astype(np.float32)), (5, 90)
        )
    levels[2:4, 10:60] = trellis_payload.HOLE if states == 1 else levels[2:4, 10:60]
    function = Trellis(0.5, states)
    payload = function.encode_levels(levels)
    assert (function.decode_levels(payload, (5, 90), threads=2) == levels).all()
    weights = np.where(levels == trellis_payload.HOLE, 0, levels.astype(np.float32) * 0.5)
    assert (function.decode(payload, (5, 90)) == weights).all()


def test_levels_of_the_wrong_state_are_refused() -> None:
    with pytest.raises(ValueError, match="fit the kernel"):
        Trellis(1.0).encode_levels(np.full((1, 9), 1, np.int32))  # the first state takes even ones
    with pytest.raises(ValueError, match="two dimensions"):
        Trellis(1.0).encode_levels(np.zeros(9, np.int32))


@quick
def test_one_state_takes_the_nearest_level() -> None:
    weights = gaussian(40, 100) * 10
    levels = Trellis(1.0, 1, 0).decode_levels(Trellis(1.0, 1, 0).encode(weights), (40, 100))
    assert np.abs(weights - levels).max() <= 0.5 + 1 / 256


@pytest.mark.parametrize("states", [8, 64])
@pytest.mark.parametrize("part", [0.01, 0.5, 0.97])
def test_pruned_weights_stay_zero(states: int, part: float) -> None:
    weights = gaussian(60, 50) * np.exp(gaussian(60, 1, 1))
    weights[np.abs(weights) < np.quantile(np.abs(weights), part)] = 0
    payload = Trellis(0.5, states).encode(weights)
    decoded = Trellis(1.0).decode(payload, weights.shape)
    assert not decoded[weights == 0].any()
    assert np.abs(weights - decoded).max() < 3


@quick
def test_pruned_weights_cost_little() -> None:
    weights = gaussian(300, 300)
    full = len(Trellis(0.25).encode(weights))
    weights[np.abs(weights) < 1.04] = 0  # 70 %: their places alone are .88 bits a weight of the 3.05
    assert len(Trellis(0.25).encode(weights)) < 0.58 * full


def test_a_rare_zero_is_a_weight_as_any_other() -> None:
    weights = gaussian(20, 50)
    weights[3, 3] = 0
    assert not Trellis(0.1).encode(weights)[1] & trellis_payload.HOLES


@pytest.mark.parametrize("value", [0.0, 1e-30, 3e4, -3e4])
def test_constant_matrices_survive(value: float) -> None:
    weights = np.full((3, 50), value, np.float32)
    function = Trellis(0.25)
    assert np.abs(function.decode(function.encode(weights), (3, 50)) - weights).max() < 1


def test_what_cannot_be_coded_is_refused() -> None:
    for bad in (np.nan, np.inf, -np.inf):
        with pytest.raises(ValueError, match="not a finite number"):
            Trellis(0.1).encode(np.array([[1, bad]], np.float32))
    with pytest.raises(ValueError, match="two dimensions"):
        Trellis(0.1).encode(np.zeros(3, np.float32))
    with pytest.raises(ValueError, match="too small for a weight"):
        Trellis(1e-9).encode(np.ones((1, 1), np.float32))
    for step in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="step"):
            Trellis(step)


def test_a_damaged_payload_is_an_error() -> None:
    weights = gaussian(3, 100)
    payload = Trellis(0.3).encode(weights)
    for size in range(len(payload)):
        with pytest.raises(CorruptError):
            Trellis(0.3).decode(payload[:size], (3, 100))
    for at in range(len(payload)):
        damaged = bytearray(payload)
        damaged[at] ^= 1 << at % 8
        with pytest.raises(CorruptError):
            Trellis(0.3).decode(bytes(damaged), (3, 100))
    for shape in ((0, 100), (1, 100), (1 << 20, 100), (1 << 60, 1 << 60)):
        with pytest.raises(CorruptError):
            Trellis(0.3).decode(payload, shape)


@settings(max_examples=100 if not SLOW else 5, deadline=None)
@given(data=st.data())
def test_a_forged_payload_is_an_error_or_a_matrix(data: st.DataObject) -> None:
    payload = bytearray(FORGED)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(payload) - 1))
        payload[at : at + 1] = data.draw(st.binary(max_size=2))
    if len(payload) < HEADER.size:
        return
    try:
        decoded = Trellis(1.0).decode(with_checksum(bytes(payload), (20, 60)), (20, 60))
    except CorruptError:
        return
    assert decoded.shape == (20, 60)


FORGED = Trellis(0.5).encode(gaussian(20, 60))


@quick
@pytest.mark.parametrize(("states", "limits"), [(8, (0.53, 0.56, 0.58)), (64, (0.37, 0.39, 0.41))])
def test_it_comes_near_the_bound(states: int, limits: tuple[float, ...]) -> None:
    weights = gaussian(256, 1024)
    for step, limit in zip((0.5, 0.262, 0.131), limits, strict=True):
        assert gap(weights, Trellis(step, states, **LEAST_ERROR).encode(weights)) < limit
        assert gap(weights, Trellis(step, states).encode(weights)) < limit + step / 2


@quick
def test_weights_keep_their_size() -> None:
    weights = gaussian(256, 1024)
    decoded, drawn = (
        function.decode(function.encode(weights), weights.shape)
        for function in (Trellis(0.5), Trellis(0.5, **LEAST_ERROR))
    )
    assert np.square(drawn).sum() / np.square(weights).sum() < 0.95
    assert np.square(decoded).sum() / np.square(weights).sum() == pytest.approx(1, abs=0.05)


@quick
def test_it_learns_the_scales_of_rows_and_columns() -> None:
    draw = np.random.default_rng(5)
    scales = np.exp(0.3 * draw.standard_normal((512, 1))) * np.exp(0.3 * draw.standard_normal(512))
    weights = (draw.standard_t(5, (512, 512)) * scales).astype(np.float32)
    assert gap(weights, Trellis(0.5 * float(weights.std()), **LEAST_ERROR).encode(weights)) < -0.9


@quick
def test_threads_change_nothing() -> None:
    weights = gaussian(600, 1000)  # three tiles
    ticks: list[int] = []
    payload = Trellis(0.7).encode(weights, ticks.append)
    assert sum(ticks) == weights.size
    one, two = (Trellis(0.7).decode(payload, (600, 1000), threads=n) for n in (1, 2))
    assert one.tobytes() == two.tobytes()
    assert float(np.abs(one - weights).max()) < 4


def test_the_environment_forces_the_reference() -> None:
    program = (
        "import numpy as np; from kolmo.hyperfunctions.trellis import Trellis;"
        "w = np.sin(np.arange(200, dtype=np.float32)).reshape(10, 20); p = Trellis(0.2).encode(w);"
        "print(p.hex(), Trellis(0.2).decode(p, (10, 20)).tobytes().hex())"
    )
    runs = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "KOLMO_KERNEL": path},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for path in ("reference", "auto")
    }
    assert len(runs) == 1


def test_rows_share_one_table_of_costs() -> None:
    """It takes longer to make than the search over a row does: of a network's export, it was nearly all."""
    weights = gaussian(300, 64)
    trellis_tables.level_costs.cache_clear()
    Trellis(0.3, rate=0.3).quantise_rows(weights)
    assert trellis_tables.level_costs.cache_info().misses <= 3  # two while probabilities are trained, one for rows


@pytest.mark.parametrize("step", [2.0**-100, 2.0**100, 0.1, 1 / 3])
def test_parameters_give_the_same_step_again(step: float) -> None:
    """The record of the least step is a decimal number a little below it."""
    given = Trellis(step)
    assert Trellis(**given.parameters).step == given.step  # type: ignore[arg-type]


@pytest.mark.parametrize("step", [0.0, -1.0, 2.0**-101, 2.0**101, 1e300, -1e300, float("inf"), float("nan")])
def test_steps_out_of_range(step: float) -> None:
    with pytest.raises(ValueError, match="out of range"):
        Trellis(step)
