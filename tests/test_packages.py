"""What the distributions hold: the source distribution the whole repository, a wheel all data of the package."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "kolmo"
LEFTOVERS = {
    ".git",
    ".venv",
    "build",
    "dist",
    "runs",
    "site",
    "eval-results",
    "__pycache__",
    ".hypothesis",
}  # see .gitignore
ALWAYS = {"LICENSE", "MANIFEST.in", "README.md", "pyproject.toml", "setup.py"}  # setuptools puts them in unasked
BUILT = (".pyc", ".so", ".pyd")


def repository() -> set[str]:
    """The files of the repository: what git holds, or in a copy without git all but leftovers."""
    if (ROOT / ".git").exists() and shutil.which("git"):
        done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
        return {name for name in done.stdout.split("\0") if name and (ROOT / name).exists()}
    found = set()
    for folder, folders, files in os.walk(ROOT):
        folders[:] = [name for name in folders if name not in LEFTOVERS and not name.endswith(("_cache", ".egg-info"))]
        found |= {(Path(folder) / name).relative_to(ROOT).as_posix() for name in files if not name.endswith(BUILT)}
    return found


def test_source_distribution_has_the_whole_repository(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    files = pytest.importorskip("setuptools.command.egg_info", reason="pip install setuptools").FileList()
    for line in (ROOT / "MANIFEST.in").read_text("utf-8").splitlines():
        if line and not line.startswith("#"):
            files.process_template_line(line)
    packed = {name.replace(os.sep, "/") for name in files.files} | ALWAYS
    assert repository() - packed == set()
    assert not [name for name in packed if name.endswith(BUILT) or ".egg-info" in name]


def test_wheel_has_all_data_of_the_package() -> None:
    """Data that no pattern of package-data names would be missing from wheels, and only there."""
    toml = pytest.importorskip("tomllib", reason="of Python 3.11")
    settings = toml.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["setuptools"]
    assert settings["include-package-data"] is False
    named = {path for pattern in settings["package-data"]["kolmo"] for path in PACKAGE.glob(pattern) if path.is_file()}
    code = (".py", ".c", ".h")
    data = {ROOT / name for name in repository() if name.startswith("src/kolmo/") and not name.endswith(code)}
    assert {path.relative_to(PACKAGE).as_posix() for path in data ^ named} == set()
