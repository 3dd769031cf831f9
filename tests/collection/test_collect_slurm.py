"""Stages through Slurm's commands, which here are scripts that run a job at once."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

pytest.importorskip("datatrove", reason="needs datatrove: pip install 'kolmo-codelength[collect]'")

from test_collect_engine import DropOdd, Fail, Make, names

from kolmo.collection.engine import StageEngine, run_stages
from kolmo.collection.stages import Stage, Work
from kolmo.errors import KolmoError

SBATCH = """#!/bin/bash
for script; do :; done
echo "$@" >> "$FAKE_SLURM/submitted"
cp "$script" "$FAKE_SLURM/script"
last=$(sed -n 's/^#SBATCH --array=0-\\([0-9]*\\).*/\\1/p' "$script")
for task in $(seq 0 "${last:-0}"); do
    SLURM_ARRAY_TASK_ID=$task SLURM_NODELIST=here RUN_OFFSET=0 bash "$script" >> "$FAKE_SLURM/output" 2>&1 || true
done
echo "Submitted batch job 17"
"""
SRUN = """#!/bin/bash
while [[ $1 == -* ]]; do [[ $1 == -n ]] && shift; shift; done
exec "$@"
"""


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "slurm"
    folder.mkdir()
    scripts = {"sbatch": SBATCH, "srun": SRUN, "scontrol": "#!/bin/sh\necho here\n", "squeue": "#!/bin/sh\n"}
    launch = "import sys; from datatrove.tools.launch_pickled_pipeline import main; main()"
    scripts["launch_pickled_pipeline"] = f"#!/bin/sh\nexec '{sys.executable}' -c '{launch}' \"$@\"\n"
    scripts["merge_stats"] = "#!/bin/sh\n"
    for name, text in scripts.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))
    monkeypatch.setenv("FAKE_SLURM", str(folder))
    monkeypatch.setattr("kolmo.collection.engine.SLURM_LOST_SECONDS", 0.1)
    monkeypatch.setattr("kolmo.collection.engine.SLURM_POLL_SECONDS", 0.1)
    assert shutil.which("bash")
    return folder


def test_stages_as_jobs_of_slurm(slurm: Path, tmp_path: Path) -> None:
    switch = tmp_path / "switch"
    switch.touch()
    work = Work(str(tmp_path / "work"))
    stages = [Stage("make", [Make()], 2), Stage("fail", [DropOdd(), Fail(switch, ValueError)])]
    engine = StageEngine("slurm", 2, partition="night", time_limit="1:00:00")
    with pytest.raises(KolmoError, match=r"stage fail, shard 1: failed \(ValueError: what went wrong\)"):
        run_stages(stages, work, engine)
    switch.unlink()
    run_stages(stages, work, engine)
    assert names(work, "fail") == ["0:0", "0:2", "1:0", "1:2"]
    assert len((slurm / "submitted").read_text().splitlines()) == 6  # three jobs, each with one that sums up
    assert "--partition=night" in (slurm / "script").read_text()
