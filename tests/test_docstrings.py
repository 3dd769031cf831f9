"""Every public function and class has an example in its docstring, and the example runs."""

from __future__ import annotations

import doctest
import importlib
import inspect
import warnings
from pathlib import Path

import pytest

import kolmo

NEEDS = {"evaluate": ("pyarrow",), "stream": ("torch",), "resident": ("torch",)}  # what an example needs beyond NumPy
PUBLIC = [
    name
    for name in kolmo.__all__
    if callable(getattr(kolmo, name))
    and not (inspect.isclass(getattr(kolmo, name)) and issubclass(getattr(kolmo, name), kolmo.KolmoError))
]


def run(name: str) -> doctest.TestResults:
    """The examples of a public name, run in the working folder with nothing but `kolmo` imported."""
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    tests = doctest.DocTestFinder(recurse=False).find(getattr(kolmo, name), name, globs={"kolmo": kolmo})
    for test in tests:
        runner.run(test)
    return runner.summarize()


def test_public_functions_are_found() -> None:
    assert {"compress", "open", "evaluate", "shrink", "Compressor"} <= set(PUBLIC)


@pytest.mark.parametrize("name", [*PUBLIC, "KolmoError"])
def test_the_example_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for package in NEEDS.get(name, ()):
        pytest.importorskip(package)
    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        results = run(name)
    assert results.attempted, f"kolmo.{name} has no example in its docstring"
    assert not results.failed


def test_the_reference_names_all() -> None:
    """docs/api.md has every public name, so that the site's reference is whole."""
    page = (Path(__file__).parents[1] / "docs" / "api.md").read_text("utf-8")
    for name in kolmo.__all__:
        assert f"kolmo.{name}" in page, f"docs/api.md lacks kolmo.{name}"
    for line in page.splitlines():
        if line.startswith("::: "):
            module, _, attribute = line[4:].strip().rpartition(".")
            assert hasattr(importlib.import_module(module), attribute), line
