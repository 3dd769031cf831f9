"""What results show of themselves, on a prompt and in a notebook; names that tables print can be typed back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import kolmo
from kolmo.errors import PredictorError
from kolmo.evaluation.results.results import Evaluation, Result
from kolmo.predictors.registry import resolve
from kolmo.report import explain

HOSTILE = "<script>alert(1)</script>\x1b[31m"


def result(model: str, value: float | None = 1.23456) -> Result:
    metrics: dict[str, Any] = {"bits_per_character": value, "low": 1.1, "high": 1.3, "documents": 1234}
    names = {"model": {"name": model}, "corpus": {"name": "docs"}, "mode": {"name": "strict"}}
    return Result(Path("nowhere"), {**names, "metrics": metrics})


def test_results() -> None:
    assert repr(result("neural:5")) == "Result(neural:5, docs, strict, 1.2346, 1.1000-1.3000, 1,234)"
    assert "-, 1.1000" in repr(result("x", None))
    several = Evaluation([result(f"m{k}") for k in range(25)])
    assert repr(several).splitlines()[0] == "Evaluation of 25 results"
    assert repr(several).endswith("... and 5 more")
    assert len(repr(several).splitlines()) == 22
    assert several._repr_html_().count("<tr>") == 21


def test_small_weights(tmp_path: Path) -> None:
    weights = {HOSTILE: np.random.default_rng(1).standard_normal((64, 64)).astype(np.float32)}
    report = kolmo.shrink(weights, tmp_path / "small.safetensors")
    assert repr(report).startswith("ShrinkReport(hyperfunctions: trellis, tensors: 1, bytes: ")
    assert len(repr(report)) < 200
    assert "<td>trellis</td>" in report._repr_html_()


def test_explanations_do_not_print_their_content() -> None:
    explanation = explain(b"the same procedure as every year " * 99, "cm:1", name=HOSTILE)
    assert len(repr(explanation)) < 200
    assert "cm:1, 3,267 bytes, " in repr(explanation)
    assert repr(explanation).endswith(" bits)")


@pytest.mark.parametrize(
    "shown",
    [
        result(HOSTILE)._repr_html_(),
        Evaluation([result(HOSTILE)])._repr_html_(),
        explain(b"text " * 50, "cm:1", name=HOSTILE)._repr_html_(),
    ],
)
def test_html_is_escaped(shown: str) -> None:
    assert "&lt;script&gt;" in shown
    assert "<script" not in shown
    assert "\x1b" not in shown


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("xz", "the compressor of this name is classical:xz"),
        ("gpt2", "a language model of this name is hf:gpt2"),
        ("neura", r"did you mean neural\?"),
    ],
)
def test_names_of_tables_can_be_typed_back(name: str, remedy: str) -> None:
    with pytest.raises(PredictorError, match=rf"unknown predictor '{name}'; known here: .*; {remedy}"):
        resolve(name)


def test_leaderboards() -> None:
    pytest.importorskip("pyarrow")
    from kolmo.evaluation.evaluate import evaluate, texts
    from kolmo.report import leaderboard

    board = leaderboard(
        evaluate(["cm:1", "classical:xz"], texts("docs", ["a text", "another", "one more"])), title=HOSTILE
    )
    assert "2 models" in repr(board)
    assert "\x1b" not in repr(board)
    shown = board._repr_html_()
    assert "cm:1" in shown
    assert "<script" not in shown
