"""The example of eight tasks: shots, metrics, the table. The harness itself needs the network, and is not called."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_shots_and_metrics_are_the_papers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    example = importlib.import_module("eight_tasks")
    asked: list[tuple[str, int, str]] = []

    def evaluate(**arguments: Any) -> dict[str, Any]:
        (task,) = arguments["tasks"]
        asked.append((task, arguments["num_fewshot"], arguments["model_args"]["pretrained"]))
        metrics = {"nq_open": {"exact_match,remove_whitespace": 0.25}, "boolq": {"acc,none": 0.75}}
        return {"results": {task: metrics.get(task, {"acc,none": 0.1, "acc_norm,none": 0.5})}}

    table = example.main(["a", "b"], evaluate).split("\n")
    shots = {
        "sciq": 0,
        "winogrande": 0,
        "arc_easy": 0,
        "arc_challenge": 25,
        "hellaswag": 10,
        "boolq": 32,
        "nq_open": 32,
        "mmlu": 5,
    }
    assert asked == [(task, count, folder) for folder in ("a", "b") for task, count in shots.items()]
    average = (6 * 50 + 25 + 75) / 8
    assert table[2] == f"| a | 50.00 | 50.00 | 50.00 | 50.00 | 50.00 | 75.00 | 25.00 | 50.00 | {average:.2f} |"
    assert len(table) == 4
