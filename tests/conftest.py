"""For all tests: nothing is written to the user's own folders."""

from __future__ import annotations

import importlib.util
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

hypothesis.settings.register_profile("kolmo", deadline=None)  # a busy machine is no failure
hypothesis.settings.load_profile("kolmo")


def pytest_configure() -> None:
    """Take the signals that a background job or nohup ignores: tests send them, and children inherit that."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler if name == "SIGINT" else signal.SIG_DFL)


@pytest.fixture(scope="session", autouse=True)
def cache_of_the_tests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Where kolmo notes the places of models (`predictors.model_locations`), in subprocesses too."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("XDG_CACHE_HOME", "LOCALAPPDATA"):
            patch.setenv(name, str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Of torch, where that is here: small models gain nothing from more."""
    if importlib.util.find_spec("torch") is None:
        yield
        return
    torch: Any = importlib.import_module("torch")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def folder_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a model of transformers: a family's, or the one that tells stories."""
    for name in ("torch", "transformers", "safetensors"):
        pytest.importorskip(name)
    from harness.models import stories, tiny

    made: dict[str, Path] = {}

    def get(family: str) -> Path:
        if family not in made:
            folder = tmp_path_factory.mktemp(family)
            made[family] = stories(folder) if family == "stories" else tiny(folder, family)
        return made[family]

    return get
