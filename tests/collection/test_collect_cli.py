"""`kolmo collect` as it is typed: collect, plan, rebuild, overlap, eval, and a missing extra."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from archives_made import dump, pages_of, tree, write_wet
from server_made import serving

from kolmo.cli import main

QUICK = ("--scorer", "cm:1", "--scored-characters", "300", "--bucket", "head", "--bucket", "middle")


def run(capsys: pytest.CaptureFixture[str], *arguments: object, status: int = 0) -> tuple[str, str]:
    with pytest.raises(SystemExit) as end:
        main([str(argument) for argument in arguments])
    out, errors = capsys.readouterr()
    assert (end.value.code or 0) == status, errors
    return out, errors


def records(out: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.splitlines()]


@pytest.fixture
def segment(tmp_path: Path) -> Path:
    return write_wet(tmp_path / "segment.wet.gz", pages_of(0, 16))


def test_a_plan_that_fails_leaves_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with serving(dump(tmp_path)) as server:  # it has data, but no list of dumps at this address
        where = ("--base-url", server.url, "--index-url", f"{server.url}/none.json", "--rate", 1000)
        _, errors = run(capsys, "collect", "cc", *where, "--dry-run", "-o", tmp_path / "out", status=1)
    assert "none.json" in errors
    assert not (tmp_path / "out").exists()


def test_from_a_dump_to_the_same_bytes_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with serving(dump(tmp_path)) as server:
        where = ("--base-url", server.url, "--index-url", f"{server.url}/collinfo.json", "--rate", 1000)
        ask = ("collect", "cc", "--segments", 2, *where, *QUICK, "-o", tmp_path / "out")
        plan, _ = run(capsys, *ask, "--dry-run")
        assert "2 segments of CC-MAIN-2026-40" in plan
        assert "MB, into" in plan
        assert not (tmp_path / "out").exists()
        (planned,) = records(run(capsys, *ask, "--dry-run", "--json")[0])
        assert planned["download_bytes"] > 1000
        out, errors = run(capsys, *ask, "--json", "-v")
        (done,) = records(out)
        assert done["documents"] > 10
        assert errors.endswith(f"documents of cc ({tmp_path / 'out' / 'manifest-cc.json'})\n")
        (again,) = records(run(capsys, *ask, "--json")[0])
        assert again["was_complete"]
        manifest = tmp_path / "out" / "manifest-cc.json"
        out, _ = run(
            capsys,
            "collect",
            "rebuild",
            manifest,
            "-o",
            tmp_path / "b",
            "--base-url",
            server.url,
            "--rate",
            99,
            "--json",
        )
        assert records(out)[0]["same"]
    assert tree(tmp_path / "b") == tree(tmp_path / "out")
    assert not (tmp_path / "b" / ".collect").exists()


def test_a_rebuild_that_is_not_the_same(segment: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(capsys, "collect", "cc", *QUICK, "-o", tmp_path / "out", segment)
    write_wet(segment, pages_of(0, 9))
    manifest = tmp_path / "out" / "manifest-cc.json"
    _, errors = run(capsys, "collect", "rebuild", manifest, "--file", segment, "-o", tmp_path / "b", status=1)
    assert "the page is not in its segment" in errors
    assert "could not be made again, 1 files are different" in errors


def test_overlap(segment: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(capsys, "collect", "cc", *QUICK, "-o", tmp_path / "a", segment)
    other = write_wet(tmp_path / "other.wet.gz", [*pages_of(0, 16)[:8], *pages_of(500, 14)])
    run(capsys, "collect", "cc", *QUICK, "-o", tmp_path / "b", other)
    out, _ = run(capsys, "collect", "overlap", f"{tmp_path / 'a'}:cc", f"{tmp_path / 'b'}:cc")
    assert out.splitlines()[0].startswith("100.0 %")
    found = records(run(capsys, "collect", "overlap", f"{tmp_path / 'a'}:cc", f"{tmp_path / 'b'}:cc", "--json")[0])
    assert 0 < found[-1]["touched"] < found[-1]["documents"]
    assert {one["fraction"] for one in found[:-1]} <= {0.0, 1.0}


def test_eval_reads_the_folder(segment: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("pyarrow", reason="needs pyarrow: pip install 'kolmo-codelength[eval]'")
    run(capsys, "collect", "cc", *QUICK, "-o", tmp_path / "out", segment)
    out, _ = run(
        capsys, "eval", "classical:xz", "--corpus", f"{tmp_path / 'out'}:cc", "-o", tmp_path / "results", "--json"
    )
    (result,) = records(out)
    digest = hashlib.sha256((tmp_path / "out" / "manifest-cc.json").read_bytes()).hexdigest()
    assert result["corpus"]["source"] == f"{tmp_path / 'out'}:cc (manifest {digest[:12]})"
    assert result["corpus"]["first_date"] == result["corpus"]["last_date"] == "2026-10-05"


@pytest.mark.parametrize(
    ("arguments", "message", "status"),
    [
        (("cc", "--since", "yesterday"), "is not a day", 2),
        (("cc", "no-such-file"), "no such file or folder", 1),
        (("cc", "--dump", "oktober"), "is not a dump of Common Crawl", 1),
        (("cc", "--engine", "slurm", "SEGMENT"), "--slurm-partition", 1),
        (("cc", "--scorer", "nonsense", "SEGMENT"), "unknown predictor", 1),
        (("rebuild", "no-manifest"), "No such file", 1),
        (("commoncrawl",), "is neither a command", 2),
    ],
)
def test_wrong_words(
    segment: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    message: str,
    status: int,
) -> None:
    given = [str(segment) if argument == "SEGMENT" else argument for argument in arguments]
    _, errors = run(capsys, "collect", *given, *(["-o", tmp_path / "out"] if len(given) > 1 else []), status=status)
    assert message in errors
    assert len(errors.splitlines()) == 1


def test_a_missing_extra_is_one_line(segment: Path, tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "class Hide:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] == 'datatrove': raise ImportError('No module named datatrove')\n"
        "sys.meta_path.insert(0, Hide())\n"
        "from kolmo.cli import main\n"
        "main(sys.argv[1:])\n"
    )
    arguments = ["collect", "cc", *QUICK, "-o", str(tmp_path / "out"), str(segment)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "pip install 'kolmo-codelength[collect]'" in done.stderr
    assert not (tmp_path / "out").exists()


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys\nfrom kolmo.cli import main\n"
        "try: main(['collect', 'cc', '--help'])\nexcept SystemExit: pass\nprint(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"datatrove", "numpy", "ray", "orjson", "fasttext"} & set(done.stdout.splitlines()[-1].split())
