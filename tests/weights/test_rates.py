"""Fixed rates: which tensors get 2, 3 or 4 bits a weight by each goal, and what a fixed rate cannot do."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
from click.testing import CliRunner

import kolmo
from kolmo.cli import group
from kolmo.errors import KolmoError, ShrinkWarning
from kolmo.hyperfunctions import BitshiftOptions
from kolmo.hyperfunctions.bitshift import Bitshift
from kolmo.native.dispatch import SLOW
from kolmo.weights.choice.losses import DecodedTensors
from kolmo.weights.choice.rates import bits_at, bounds, within
from kolmo.weights.choice.steps import Steps

quick = pytest.mark.skipif(SLOW, reason="a search takes minutes without the C kernels")
draw = np.random.default_rng(0)
SOURCE: dict[str, Any] = {
    "small.weight": (draw.standard_normal((48, 96)) * 0.01).astype(np.float32),
    "middle.weight": (draw.standard_normal((48, 96)) * 0.05).astype(np.float32),
    "large.weight": (draw.standard_normal((48, 96)) * 0.4).astype(np.float32),
    "conv.weight": (draw.standard_normal((40, 4, 3, 3)) * 0.05).astype(np.float32),
    "norm": np.ones(96, np.float32),
}
LOSSY = [name for name in SOURCE if name != "norm"]


def shrink(target: Path, goal: kolmo.Goal | None = None, **given: Any) -> dict[str, Any]:
    """The bits of each tensor that has a fixed number of them; the trellis has "states" alone."""
    given = {"hyperfunction": "bitshift", **given}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ShrinkWarning)  # with so few tensors, part of a budget stays unused
        report = kolmo.shrink(SOURCE, target, **given) if goal is None else kolmo.shrink(SOURCE, target, goal, **given)
    for name, value in kolmo.load(target).items():
        assert value.shape == SOURCE[name].shape
        assert float(np.square(value - SOURCE[name]).sum()) < 0.15 * float(np.square(SOURCE[name]).sum())
    return {one.name: one.parameters.get("bits") for one in report.tensors if one.name in LOSSY}


@quick
def test_whole_bits_are_those_of_every_tensor(tmp_path: Path) -> None:
    assert shrink(tmp_path / "a") == dict.fromkeys(LOSSY[:3], 4) | {"conv.weight": None}
    assert shrink(tmp_path / "b", kolmo.Bits(2)) == dict.fromkeys(LOSSY[:3], 2) | {"conv.weight": None}


@quick
def test_between_whole_bits_larger_weights_get_more(tmp_path: Path) -> None:
    found = shrink(tmp_path / "a", kolmo.Bits(3.2))
    assert found["small.weight"] <= found["middle.weight"] <= found["large.weight"]
    assert sum(found[name] for name in LOSSY[:3]) in (9, 10)
    assert found["large.weight"] == 4


@quick
def test_bytes(tmp_path: Path) -> None:
    found = shrink(tmp_path / "a", kolmo.Bytes(7500))
    assert (tmp_path / "a").stat().st_size <= 7500
    assert found["small.weight"] == 2
    assert found["large.weight"] == 4
    with pytest.raises(KolmoError, match="2 bits a weight, the least that there are, already take more"):
        kolmo.shrink(SOURCE, tmp_path / "b", kolmo.Bytes(4000), hyperfunction="bitshift")
    with pytest.warns(ShrinkWarning, match="bits a weight of 100000 bytes could be used"):
        kolmo.shrink(SOURCE, tmp_path / "c", kolmo.Bytes(100_000), hyperfunction="bitshift")


@quick
@pytest.mark.parametrize("sensitivities", [False, True])
def test_a_loss(tmp_path: Path, sensitivities: bool) -> None:
    calls = []

    def loss(state: DecodedTensors) -> float:  # of which the middle tensor makes the most
        calls.append(1)
        parts = {"small.weight": 1.0, "middle.weight": 400.0, "large.weight": 0.01}
        return sum(
            part * float(np.square(state[name].astype(np.float64) - SOURCE[name]).sum()) for name, part in parts.items()
        )

    goal = kolmo.MaxLoss(90.0, loss, sensitivities=sensitivities)
    report = kolmo.shrink(SOURCE, tmp_path / "a", goal, hyperfunction="bitshift")
    assert report.budget
    assert report.budget.loss <= 90
    bits = {one.name: one.parameters.get("bits", 0) for one in report.tensors}
    if sensitivities:
        assert bits["middle.weight"] > bits["large.weight"]
    assert len({one.size for one in report.budget.trials}) + 2 + 4 * sensitivities >= len(calls) - 1  # none twice
    with pytest.raises(KolmoError, match="is exceeded with every step"):
        kolmo.shrink(SOURCE, tmp_path / "b", kolmo.MaxLoss(0.01, loss), hyperfunction="bitshift")


@quick
def test_outliers_are_stored_apart(tmp_path: Path) -> None:
    """A few weights at hundreds of scales cost 10 bytes each, and nothing of the others."""
    weights = (np.random.default_rng(1).standard_normal((256, 128)) * 0.05).astype(np.float32)
    weights[[3, 77], [5, 100]] = 9.0, -30.0
    kolmo.shrink({"w": weights}, tmp_path / "a", kolmo.Bits(3), hyperfunction="bitshift")
    found = kolmo.load(tmp_path / "a")["w"]
    assert found[3, 5] == 9
    assert found[77, 100] == -30
    others = np.abs(weights) < 1
    assert float(np.square(found - weights)[others].mean()) < 0.022 * 0.05**2
    weights[3, 5], weights[77, 100] = 0.9, 0  # 18 scales: one such weight is left in
    report = kolmo.shrink({"w": weights}, tmp_path / "b", kolmo.Bits(3), hyperfunction="bitshift")
    assert report.tensors[0].size == Bitshift(3).size((256, 128))


def test_what_a_fixed_rate_cannot_do(tmp_path: Path) -> None:
    for given, match in (
        ({"goal": kolmo.Step(0.1)}, "has none"),
        ({"goal": kolmo.Bits(1.9)}, "bitshift has 2 to 4 bits"),
        ({"goal": kolmo.Bits(4.1)}, "bitshift has 2 to 4 bits"),
        ({"goal": kolmo.Lossless()}, "exclude each other"),
        ({"selection": kolmo.Selection(prune=0.5)}, "does not keep weights that are 0"),
        ({"hyperfunction": Bitshift(3), "goal": kolmo.Bits(3)}, "has none"),
    ):
        with pytest.raises(ValueError, match=match):
            kolmo.shrink(tmp_path / "nothing", tmp_path / "m", **{"hyperfunction": "bitshift", **given})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--states", "8"], "choose from 4096, 65536"),
        (["--preset", "llm"], "--preset is not for bitshift"),
        (["--step", "1"], "has none"),
        (["--bits", "5"], "bitshift has 2 to 4 bits"),
    ],
    ids=lambda value: " ".join(value) if type(value) is list else "",
)
def test_usage(tmp_path: Path, flags: list[str], message: str) -> None:
    arguments = ["shrink", str(tmp_path / "nothing"), "-o", str(tmp_path / "m"), "--method", "bitshift", *flags]
    result = CliRunner().invoke(group, arguments, standalone_mode=False)
    assert isinstance(result.exception, click.UsageError)
    assert message in result.exception.message


@quick
@pytest.mark.parametrize("least_error", [False, True])
def test_kernels_of_convolutions_are_unbiased(tmp_path: Path, least_error: bool) -> None:
    """Except with least error, as all other matrices."""
    source = {
        "conv.weight": np.random.default_rng(1).standard_normal((32, 16, 3, 3)).astype(np.float32),
        "experts": np.random.default_rng(2).standard_normal((2, 32, 96)).astype(np.float32),
        "line.weight": np.random.default_rng(2).standard_normal((32, 144)).astype(np.float32),
    }
    kolmo.shrink(source, tmp_path / "a", kolmo.Bits(2), hyperfunction=BitshiftOptions(least_error=least_error))
    decoded = kolmo.load(tmp_path / "a")
    along = {name: float((decoded[name] * one).sum() / np.square(one).sum()) for name, one in source.items()}
    assert max(along["line.weight"], along["experts"]) < 0.96
    assert along["conv.weight"] < 0.96 if least_error else along["conv.weight"] == pytest.approx(1, abs=1e-5)


def test_rates_follow_steps() -> None:
    scales = {"a": 1.0, "b": 4.0}
    steps = Steps({"a": 1.0, "b": 1.0})
    rates = BitshiftOptions.rates
    low, high = bounds(scales, steps, rates)
    assert {bits_at(scale, 2.0**low, rates) for scale in scales.values()} == {4}
    assert {bits_at(scale, 2.0**high, rates) for scale in scales.values()} == {2}
    assert bits_at(4.0, 0.5, rates) == bits_at(1.0, 0.125, rates) == 4
    sizes = {"a": 10, "b": 10}
    chosen = [within(budget, lambda name, bits: bits * sizes[name], scales, steps, rates) for budget in range(40, 81)]
    assert [tuple(one.values()) for one in chosen[::10]] == [(2, 2), (2, 3), (2, 4), (3, 4), (4, 4)]
    assert chosen[9] == chosen[0]
    with pytest.raises(KolmoError, match="2 bits"):
        within(39, lambda name, bits: bits * sizes[name], scales, steps, rates)
