"""Several sizes of the torus's codebook: which one a tensor gets, and that the file says so."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import kolmo
from kolmo.cli import group
from kolmo.errors import CorruptError
from kolmo.hyperfunctions import TorusOptions
from kolmo.hyperfunctions.base import Choosing
from kolmo.hyperfunctions.torus import PRESETS, Torus
from kolmo.hyperfunctions.torus_series import TorusSeries
from kolmo.weights.format.reader import ShrunkFile

POINTS = (100, 1600, 40000)  # cells of 1/100, 1/400 and 1/2000 for a side of 0.1


def uniform(half: float, rows: int = 32) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    return np.random.default_rng(3).uniform(-half, half, (rows, 32)).astype(np.float32)


def error_of(torus: Torus, weights: np.ndarray[tuple[int, int], np.dtype[np.float32]]) -> float:
    decoded = torus.decode(replace(torus, limit=0.0).encode(weights), (len(weights), 32))
    return float(np.abs(decoded.astype(np.float64) - weights).mean())


@pytest.mark.parametrize("target", [0.01, 0.003, 0.001, 0.0003, 0.0])
def test_the_first_that_holds_the_target_else_the_last(target: float) -> None:
    weights = uniform(0.05)
    series = TorusSeries(Torus(limit=0.0), POINTS, target)
    errors = [error_of(torus, weights) for torus in series.tori]
    assert errors == sorted(errors, reverse=True)
    wanted = next((points for points, error in zip(POINTS, errors, strict=True) if error <= target), POINTS[-1])
    payload = series.encode(weights)
    assert series.chosen(payload).points == wanted
    assert payload == replace(series.torus, points=wanted).encode(weights)
    assert (series.decode(payload, (32, 32)) == series.chosen(payload).decode(payload, (32, 32))).all()
    series.check(payload)


def test_every_size_is_chosen_by_some_target() -> None:
    weights = uniform(0.05)
    chosen = [TorusSeries(Torus(limit=0.0), POINTS, target) for target in (0.01, 0.001, 0.0003)]
    assert [one.chosen(one.encode(weights)).points for one in chosen] == [*POINTS]


def test_the_order_is_that_given() -> None:
    series = TorusSeries(Torus(), POINTS[::-1], 0.005)
    assert series.chosen(series.encode(uniform(0.05))).points == POINTS[-1]


def test_raw_above_the_limit_of_the_last() -> None:
    series = TorusSeries(Torus(limit=0.0001), POINTS, 0.0)
    payload = series.encode(uniform(0.05))
    assert payload == b"\0" + uniform(0.05).tobytes()
    assert series.chosen(payload).points == POINTS[0]


def test_progress_counts_each_weight_once() -> None:
    counts: list[int] = []
    for size in (32, 0):
        TorusSeries(Torus(), POINTS, 0.0).encode(uniform(0.05, size), counts.append)
    TorusSeries(Torus(), POINTS, 0.0).encode(np.ones((1, 3), np.float32), counts.append)
    assert sum(counts) == 32 * 32 + 3


def test_a_payload_of_other_points_is_told() -> None:
    with pytest.raises(CorruptError):
        TorusSeries(Torus(), POINTS).check(Torus(points=9, limit=0.0).encode(uniform(0.05)))


@pytest.mark.parametrize("points", [(), (4, 4), (0,), (4, 1 << 21)])
def test_wrong_points(points: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="points = "):
        TorusSeries(Torus(), points)


@pytest.mark.filterwarnings("ignore::kolmo.errors.ShrinkWarning")  # little is left of the narrow one
def test_the_file_names_the_choice(tmp_path: Path) -> None:
    """A narrow tensor needs the smallest codebook, a broad one more: both in one table, and read without the series."""
    weights = {"narrow": uniform(0.0005), "broad": uniform(0.05), "broader": uniform(0.05)[::-1].copy()}
    options = TorusOptions("unet", points=POINTS, target=0.002)
    kolmo.shrink(weights, tmp_path / "m", hyperfunction=options)
    record = ShrunkFile(tmp_path / "m").record
    found = {name: record.function_of(one) for name, one in record.coded.items()}
    unet = PRESETS["unet"]
    assert found == {
        "narrow": replace(unet, points=100),
        "broad": replace(unet, points=1600),
        "broader": replace(unet, points=1600),
    }
    assert len(record.hyperfunctions) == 2
    decoded = kolmo.load(tmp_path / "m")
    for name, array in weights.items():
        assert float(np.abs(decoded[name] - array).mean()) <= 0.002


def test_the_command_line(tmp_path: Path) -> None:
    kolmo.shrink({"w": uniform(0.05)}, tmp_path / "in", kolmo.Lossless())
    kolmo.expand(tmp_path / "in", tmp_path / "plain.safetensors")

    def shrunk(*flags: str) -> int:
        arguments = ["shrink", str(tmp_path / "plain.safetensors"), "-o", str(tmp_path / "m"), "-f", "-q", *flags]
        result = CliRunner().invoke(group, arguments)
        return result.return_value if isinstance(result.return_value, int) else result.exit_code

    assert shrunk("--method", "torus", "--points", "100,1600") == 0
    record = ShrunkFile(tmp_path / "m").record
    function = record.function_of(record.coded["w"])
    assert isinstance(function, Torus)
    assert (function.points, function.limit) == (1600, 0.006)
    assert shrunk("--method", "torus", "--points", "100,1600", "--target", "0.005") == 0
    function = ShrunkFile(tmp_path / "m").record.hyperfunctions[0]
    assert isinstance(function, Torus)
    assert function.points == 100
    for wrong in ("0.007", "-1", "nan", "a"):  # the limit is 0.006
        assert shrunk("--method", "torus", "--points", "100", "--target", wrong) == 2, wrong
    assert shrunk("--method", "torus", "--target", "0.005") == 2  # there is one size
    for wrong in ("100,", "a", "0", "4,4", "-1", "9999999"):
        assert shrunk("--method", "torus", "--points", wrong) == 2, wrong
    assert shrunk("--points", "100") == 2  # the trellis has none


def test_options_choose_only_when_asked() -> None:
    assert TorusOptions("unet").at(None) == PRESETS["unet"]
    assert isinstance(TorusOptions("unet", points=(9, 25)).at(None), Choosing)
    assert not isinstance(PRESETS["unet"], Choosing)
    for wrong in (-1.0, 0.007, float("nan")):  # the limit of the language models is 0.006
        with pytest.raises(ValueError, match="target"):
            TorusOptions(points=(4,), target=wrong)
    with pytest.raises(ValueError, match="give points"):
        TorusOptions(target=0.002)
