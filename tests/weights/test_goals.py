"""Goals: what each refuses when it is made, what `shrink` refuses before it reads anything, and their names."""

from __future__ import annotations

import inspect
import math
from dataclasses import FrozenInstanceError, fields
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
from click.testing import CliRunner, Result

import kolmo
from kolmo.cli import group
from kolmo.hyperfunctions import TorusOptions, TrellisOptions
from kolmo.hyperfunctions.families import OPTIONS, options_of
from kolmo.hyperfunctions.torus import PRESETS, Torus
from kolmo.hyperfunctions.trellis import Trellis
from kolmo.weights.goals import DEFAULT_GOAL, FixedParameters, Goal, agreed

GOALS: list[Goal] = [
    kolmo.Bits(3),
    kolmo.Step(0.1),
    kolmo.Bytes(1 << 20),
    kolmo.MaxLoss(1.0, lambda state: 0.0),
    kolmo.MaxDeltaBpc(0.1, "x"),
    kolmo.Lossless(),
]


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(group, list(map(str, arguments)), standalone_mode=False)


def test_shrink_takes_nine_arguments_at_most() -> None:
    parameters = inspect.signature(kolmo.shrink).parameters
    assert list(parameters)[:3] == ["source", "target", "goal"]
    assert len(parameters) <= 9
    assert parameters["goal"].default == kolmo.Bits(4)


@pytest.mark.parametrize("goal", GOALS, ids=lambda goal: type(goal).__name__)
def test_goals_are_frozen_and_compared_by_value(goal: Goal) -> None:
    given = {one.name: getattr(goal, one.name) for one in fields(goal)}  # type: ignore[arg-type]
    assert goal == type(goal)(**given)
    assert repr(goal).startswith(type(goal).__name__)
    with pytest.raises(FrozenInstanceError):
        goal.bits = 2  # type: ignore[attr-defined]


@pytest.mark.parametrize("value", [0, -1, math.nan, math.inf])
@pytest.mark.parametrize("kind", [kolmo.Bits, kolmo.Step, kolmo.Bytes, lambda x: kolmo.MaxDeltaBpc(x, "c")])
def test_numbers_out_of_range(kind: Any, value: float) -> None:
    with pytest.raises(ValueError, match="finite number above 0"):
        kind(value)


def test_other_arguments_out_of_range() -> None:
    with pytest.raises(ValueError, match="finite"):
        kolmo.MaxLoss(math.inf, len)
    with pytest.raises(ValueError, match="a function of decoded tensors"):
        kolmo.MaxLoss(1.0, "loss")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="np or pt"):
        kolmo.MaxLoss(1.0, len, framework="tf")
    with pytest.raises(ValueError, match="corpus; give one"):
        kolmo.MaxDeltaBpc(0.1, None)
    for prune in (-0.1, 1.0, math.nan):
        with pytest.raises(ValueError, match="prune"):
            kolmo.Selection(prune=prune)
    with pytest.raises(ValueError, match="states = 9 is not known; choose from 1, 8, 64"):
        TrellisOptions(states=9)
    with pytest.raises(ValueError, match="preset = 'none' is not known; choose from llm"):
        TorusOptions("none")


CONTRADICTIONS: list[dict[str, Any]] = [
    *({"goal": goal, "hyperfunction": "torus"} for goal in GOALS),
    {"goal": kolmo.Bits(3), "hyperfunction": Torus()},
    {"goal": kolmo.Bits(4), "hyperfunction": "torus"},  # given, though it equals the default
    {"goal": kolmo.Lossless(), "hyperfunction": TrellisOptions(states=64)},
    {"goal": kolmo.Lossless(), "hyperfunction": TrellisOptions(least_error=True)},
    {"goal": kolmo.Lossless(), "selection": kolmo.Selection(prune=0.1)},
    {"goal": kolmo.Step(1e-40)},
    {"hyperfunction": "spiral"},
]


@pytest.mark.parametrize("given", CONTRADICTIONS)
def test_contradictions_are_refused_before_anything_is_read(tmp_path: Path, given: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"exclude each other|has none|not known|out of range"):
        kolmo.shrink(tmp_path / "nothing", tmp_path / "m", **given)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("goal", ["torus", 4, kolmo.Lossless, None])
def test_what_is_not_a_goal(tmp_path: Path, goal: Any) -> None:
    with pytest.raises(TypeError, match="is not a goal; give one such as"):
        kolmo.shrink(tmp_path / "nothing", tmp_path / "m", goal)
    with pytest.raises(TypeError, match="hyperfunction is of type"):
        kolmo.shrink(tmp_path / "nothing", tmp_path / "m", hyperfunction=7)  # type: ignore[arg-type]


def test_a_hyperfunction_without_a_step_has_no_default_goal() -> None:
    assert agreed(DEFAULT_GOAL, TrellisOptions(), kolmo.Selection()) is DEFAULT_GOAL
    assert agreed(DEFAULT_GOAL, TorusOptions(), kolmo.Selection()) == FixedParameters()


def test_a_hyperfunction_with_all_its_parameters(tmp_path: Path) -> None:
    """As `kolmo.Step` and a preset give it, and so the same bytes."""
    weights = {"w": (np.random.default_rng(0).standard_normal((40, 40)) * 0.05).astype(np.float32)}
    kolmo.shrink(weights, tmp_path / "a", kolmo.Step(0.02), hyperfunction=TrellisOptions(states=1))
    kolmo.shrink(weights, tmp_path / "b", hyperfunction=Trellis(0.02, 1))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    kolmo.shrink(weights, tmp_path / "c", hyperfunction=TorusOptions("unet"))
    kolmo.shrink(weights, tmp_path / "d", hyperfunction=PRESETS["unet"])
    assert (tmp_path / "c").read_bytes() == (tmp_path / "d").read_bytes()


def test_one_glob_may_stand_alone() -> None:
    assert kolmo.Selection("head.*").keep == ("head.*",)
    assert kolmo.Selection(["a", "b"]) == kolmo.Selection(("a", "b"))


def test_the_presets_that_are_offered_are_those_that_there_are() -> None:
    (preset,) = [one for one in options_of(TorusOptions) if one.name == "preset"]
    assert set(preset.choices) == set(PRESETS)
    for choice in preset.choices:
        assert TorusOptions(choice).at(None) == PRESETS[choice]


def test_the_command_line_has_the_options_of_all_families() -> None:
    shown = run("shrink", "--help").output
    for family in OPTIONS.values():
        for one in options_of(family):
            assert f"--{one.name.replace('_', '-')}" in shown


WRONG = [
    (["--bits", "3", "--step", "1"], "--bits and --step exclude each other"),
    (["--target-bytes", "9", "--bits", "3"], "--target-bytes"),
    (["--lossless", "--bits", "3"], "exclude each other"),
    (["--lossless", "--prune", "0.5"], "exclude each other"),
    (["--lossless", "--states", "64"], "exclude each other"),
    (["--lossless", "--method", "torus"], "exclude each other"),
    (["--preset", "llm"], "--preset is not for trellis, but for torus"),
    (["--states", "8", "--method", "torus"], "--states is not for torus"),
    (["--least-error", "--method", "torus"], "--least-error is not for torus"),
    (["--bits", "3", "--method", "torus"], "has none"),
    (["--corpus", "x"], "--corpus is for --max-delta-bpc"),
    (["--sensitivities"], "--sensitivities is for --max-delta-bpc"),
    (["--max-delta-bpc", "0.1"], "corpus; give one"),
]


@pytest.mark.parametrize(("flags", "message"), WRONG, ids=lambda value: " ".join(value) if type(value) is list else "")
def test_usage_names_flags(tmp_path: Path, flags: list[str], message: str) -> None:
    result = run("shrink", tmp_path / "nothing", "-o", tmp_path / "m", *flags)
    assert isinstance(result.exception, click.UsageError)
    assert message in result.exception.message
