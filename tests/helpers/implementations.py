"""The kernels under test: the reference and, where it was built, the C module."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import Any

import pytest

from kolmo.native import reference


def _native() -> ModuleType | None:
    try:
        return import_module("kolmo.native._kernels")
    except ImportError:
        return None


NATIVE: Any = _native()
IMPLEMENTATIONS = [pytest.param(reference, id="reference")]
if NATIVE:
    IMPLEMENTATIONS.append(pytest.param(NATIVE, id="C"))
