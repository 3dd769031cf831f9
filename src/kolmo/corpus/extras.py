"""Modules of packages that the extra `eval` brings, imported when first needed."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from kolmo.errors import MissingExtraError
from kolmo.installing import install


def extra(module: str, place: str) -> Any:
    """The module.

    Raises:
        MissingExtraError: it is not installed; the message names `place`, which needs it.
    """
    try:
        return import_module(module)
    except ImportError as error:
        package = module.split(".")[0]
        raise MissingExtraError(f"{place}: needs {package} ({error}); {install('eval')}") from None
