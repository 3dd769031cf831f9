"""The whole circle in one script: collect, eval, report, and the same corpus again."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("datatrove", reason="needs datatrove: pip install 'kolmo-codelength[collect]'")
pytest.importorskip("pyarrow", reason="needs pyarrow: pip install 'kolmo-codelength[eval]'")

SCRIPT = Path(__file__).parents[2] / "examples" / "monthly_benchmark.sh"


def test_the_monthly_benchmark(tmp_path: Path) -> None:
    commands = tmp_path / "bin"
    commands.mkdir()
    for name, words in (("kolmo", "-m kolmo"), ("python", "")):  # whichever environment runs the tests
        (commands / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {words} "$@"\n')
        (commands / name).chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{commands}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }
    done = subprocess.run(
        ["bash", str(SCRIPT), str(tmp_path / "month")], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    month = tmp_path / "month"
    table = (month / "report.md").read_text()
    for model in ("xz", "bz2", "cm:3"):
        assert model in table
    page = (month / "report.html").read_text()
    assert "Corpora and training cutoffs" in page
    assert "2026-10-" in page
    assert "share 13-grams" in done.stdout
    assert "(100.00 %)" in done.stdout
