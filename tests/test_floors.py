"""The house: imports go down only and in no circle, files and folders are small, and the door is light."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import pytest

import kolmo

ROOT = Path(kolmo.__file__).parent
FLOORS = {
    "errors": 0,  # the ground: every room may raise them
    "foreign": 0,  # and show names from outside
    "installing": 0,  # and say what to install
    "progress": 0,  # and take a progress callback
    "arguments": 0,  # and check an argument
    "bits": 1,
    "native": 1,
    "student": 1,
    "targets": 1,
    "http_client": 1,
    "page_frame": 1,
    "parallel": 1,
    "varints": 1,
    "safetensors": 1,
    "coder": 2,
    "predictors": 2,
    "container": 2,
    "corpus": 2,
    "hyperfunctions": 2,
    "codec": 3,
    "evaluation": 3,
    "fit": 3,
    "modalities": 3,
    "archive": 4,
    "bench": 4,
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


MAX_FILES = 15  # of a folder, but for `cli`, which has one for each verb
MARKERS = ("__init__.py", "__main__.py", "py.typed")  # say nothing of their own, and are not counted
MAX_LINES = 450
SOURCES = (".py", ".pyi", ".c", ".h", ".css", ".js")
MODULE_NAME = re.compile(r"kolmo(\.\w+)+")


def modules() -> list[Path]:
    return sorted(ROOT.rglob("*.py"))


def name_of(path: Path) -> str:
    """The dotted name of a module of the package."""
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


NAMES = {name_of(path) for path in modules()}


def resolved(name: str) -> str:
    """The module of the package that a dotted name belongs to, itself or the nearest above it."""
    while name not in NAMES:
        name = name.rpartition(".")[0]
    return name


def within(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes of a module but those under `if TYPE_CHECKING:` and docstrings, which import nothing."""
    for child in ast.iter_child_nodes(tree):
        if isinstance(child, ast.If) and isinstance(child.test, ast.Name) and child.test.id == "TYPE_CHECKING":
            continue
        if isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant):
            continue
        yield child
        yield from within(child)


def imports_of(tree: ast.AST, nodes: Iterable[ast.AST]) -> list[str]:
    """Names from this package that the nodes import: by statements, by `import_module`, or by names in strings."""
    found = []
    for node in nodes:
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import"
            found += [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.JoinedStr) and isinstance(node.values[0], ast.Constant):
            start = str(node.values[0].value)  # of f"kolmo.a.{name}"
            found += [start[:-1]] if start.endswith(".") and start != "kolmo." else []
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and MODULE_NAME.fullmatch(node.value):
            found += [node.value] if node.value in NAMES else []
    return [name for name in found if MODULE_NAME.fullmatch(name) or name == "kolmo"]


def forbidden(path: Path, source: str) -> list[str]:
    """Names that a module must not import: those that are not below it."""
    room = path.relative_to(ROOT).parts[0].removesuffix(".py")
    assert room in FLOORS, f"{room} has no floor yet: give it one in this test"
    tree = ast.parse(source)
    found = []
    for name in imports_of(tree, ast.walk(tree)):
        other = name.split(".")[1] if "." in name else "__init__"
        if other not in FLOORS:  # a name of `kolmo` itself
            other = "__init__"
        if not (other == room or FLOORS[other] < FLOORS[room] or (room, other) in NEIGHBOURS):
            found.append(name)
    return found


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_down(path: Path) -> None:
    assert forbidden(path, path.read_text("utf-8")) == []


@pytest.mark.parametrize(
    "source",
    [
        "from kolmo.weights.shrink import shrink",
        "def f():\n    import kolmo.weights",
        "from importlib import import_module\nimport_module('kolmo.weights.shrink')",
        "NAMES = {'a': ('kolmo.transformers', 1)}",
        "import_module(f'kolmo.weights.{name}')",
        "from kolmo import weights",
    ],
)
def test_imports_upwards_are_found(source: str) -> None:
    assert forbidden(ROOT / "predictors" / "registry.py", source)
    assert not forbidden(
        ROOT / "predictors" / "registry.py", source.replace("weights", "native").replace("transformers", "native")
    )


def circles(edges: Mapping[str, Iterable[str]]) -> list[list[str]]:
    """Groups of modules that import each other, directly or through others (Tarjan 1972)."""
    order: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found = []

    def visit(name: str) -> None:
        order[name] = low[name] = len(order)
        stack.append(name)
        for other in edges.get(name, ()):
            if other not in order:
                visit(other)
            if other in stack:
                low[name] = min(low[name], low[other])
        if low[name] == order[name]:
            place = stack.index(name)
            group = stack[place:]
            del stack[place:]
            if len(group) > 1:
                found.append(sorted(group))

    for name in edges:
        if name not in order:
            visit(name)
    return found


def test_no_circles() -> None:
    """Imports within functions count: a circle is a circle, even where it is only walked later."""
    edges: dict[str, set[str]] = {}
    for path in modules():
        tree = ast.parse(path.read_text("utf-8"))
        name = name_of(path)
        edges[name] = {resolved(other) for other in imports_of(tree, within(tree))} - {name}
    assert circles(edges) == []
    assert circles({"a": ["b"], "b": ["c"], "c": ["b"], "d": ["a"]}) == [["b", "c"]]


def test_folders_and_files_are_small() -> None:
    for folder in [ROOT, *(path for path in ROOT.rglob("*") if path.is_dir() and path.name != "__pycache__")]:
        files = [path for path in folder.iterdir() if path.is_file() and path.suffix not in (".so", ".pyd")]
        names = {path.name for path in files} - set(MARKERS)
        assert len(names) <= MAX_FILES or folder == ROOT / "cli", f"{folder} has {len(names)} files: divide it"
    for path in ROOT.rglob("*"):
        if path.suffix in SOURCES:
            name, lines = path.relative_to(ROOT).as_posix(), len(path.read_text("utf-8").splitlines())
            assert lines <= MAX_LINES, f"{name} has {lines} lines: divide it"


def test_one_kind_of_progress_callback() -> None:
    """`kolmo.progress` has it; others import the name."""
    spelt = [path.name for path in modules() if "= Callable[[int], None]" in path.read_text("utf-8")]
    assert spelt == ["progress.py"]


# Modules of torch are classes, so files that have them import it at once; others import these files within functions.
MODULES_OF_TORCH = {"kolmo.weights.running.modules", "kolmo.weights.running.packed"}


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_torch_is_loaded_with_training_alone(path: Path) -> None:
    if path.relative_to(ROOT).parts[0] == "training" or name_of(path) in MODULES_OF_TORCH:
        return
    for node in ast.parse(path.read_text("utf-8")).body:  # within a function it is loaded when that is called
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        assert MODULES_OF_TORCH.isdisjoint(names), f"{path} imports modules of torch at once"
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
