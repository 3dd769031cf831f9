"""Modules of packages that the extra `collect` brings, imported when first needed."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from kolmo.errors import MissingExtraError
from kolmo.installing import install


def extra(module: str, purpose: str = "collecting corpora") -> Any:
    """The module.

    Args:
        module: its dotted name.
        purpose: what needs it; the message of an error begins with it.

    Raises:
        MissingExtraError: it is not installed; the message names the command that installs it.

    Example:
        >>> extra("json").__name__
        'json'
    """
    try:
        return import_module(module)
    except ImportError as error:
        package = module.split(".")[0]
        raise MissingExtraError(f"{purpose} needs {package} ({error}); {install('collect')}") from None
