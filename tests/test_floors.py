"""The house: imports go down only, rooms on one floor do not know each other, and the door is light."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import kolmo

ROOT = Path(kolmo.__file__).parent
FLOORS = {
    "errors": 0,  # the ground: every room may raise them
    "foreign": 0,  # and show names from outside
    "installing": 0,  # and say what to install
    "bits": 1,
    "native": 1,
    "targets": 1,
    "http_client": 1,
    "coder": 2,
    "predictors": 2,
    "container": 2,
    "corpus": 2,
    "hyperfunctions": 2,
    "codec": 3,
    "evaluation": 3,
    "archive": 4,
    "collection": 4,
    "report": 4,
    "sampling": 4,
    "streams": 4,
    "training": 4,
    "weights": 4,
    "cli": 5,
    "fsspec": 5,
    "lm_eval": 5,
    "transformers": 5,
    "__init__": 6,
    "__main__": 6,
}
NEIGHBOURS = {
    ("errors", "foreign"),  # the message of every error is one printable line
    ("predictors", "coder"),  # a model spends its probabilities on a coder
    ("predictors", "hyperfunctions"),  # and the network that ships has small weights
}
HEAVY = (
    *("numpy", "tqdm", "torch", "transformers", "datatrove", "concurrent.futures", "asyncio", "multiprocessing"),
    *("http.client", "urllib.request", "pyarrow", "pandas", "datasets", "ray", "onnx"),
)


def imports_of(path: Path) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            module = node.module or ""
            found += [f"{module}.{alias.name}" for alias in node.names] if module == "kolmo" else [module]
    return found


def modules() -> list[Path]:
    return sorted(ROOT.rglob("*.py"))


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_down(path: Path) -> None:
    room = path.relative_to(ROOT).parts[0].removesuffix(".py")
    assert room in FLOORS, f"{room} has no floor yet: give it one in this test"
    for name in imports_of(path):
        if not name.startswith("kolmo."):
            continue
        other = name.split(".")[1]
        if other not in FLOORS:  # a name of `kolmo` itself
            other = "__init__"
        lazy_version = room == "cli" and other == "__init__"
        assert other == room or FLOORS[other] < FLOORS[room] or (room, other) in NEIGHBOURS or lazy_version, (
            f"{path.relative_to(ROOT)} imports {name}, which is not below it"
        )


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_torch_is_loaded_with_training_alone(path: Path) -> None:
    if path.relative_to(ROOT).parts[0] == "training":
        return
    for node in ast.parse(path.read_text("utf-8")).body:  # within a function it is loaded when that is called
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        assert not [name for name in names if name.split(".")[0] == "torch"], f"{path} imports torch at once"


def loaded_by(code: str) -> set[str]:
    script = f"import sys\n{code}\nprint(*sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(ROOT.parent)}
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return set(done.stdout.splitlines()[-1].split())


HELP = """
from kolmo.cli import main
try: main(["--help"])
except SystemExit: pass
"""


@pytest.mark.parametrize("code", ["import kolmo", "import kolmo, kolmo.errors", HELP], ids=["import", "errors", "help"])
def test_the_door_is_light(code: str) -> None:
    assert loaded_by(code) & set(HEAVY) == set()


def test_public_names() -> None:
    for name in kolmo.__all__:
        assert getattr(kolmo, name) is not None
    assert set(kolmo.__all__) <= set(dir(kolmo))
    with pytest.raises(AttributeError, match="nonsense"):
        kolmo.nonsense  # noqa: B018
