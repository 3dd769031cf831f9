"""The two kinds of progress callback that long work takes, always as an argument named `progress`.

What it is not: it shows nothing; `kolmo.cli.console` draws the bars.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

Progress = Callable[[int], None]
"""Called with the work done since the last call, in bytes or items. It may raise, which stops the work."""

Phases = Callable[[str, int], "AbstractContextManager[Progress | None]"]
"""Called with the name of a phase and its total work; within the context it returns, that phase advances."""


def no_progress(done: int) -> None:
    """The `Progress` that shows nothing."""


def no_phases(name: str, total: int) -> AbstractContextManager[Progress | None]:
    """The `Phases` that show nothing.

    Example:
        >>> with no_phases("reading", 100) as progress:
        ...     progress is None
        True
    """
    return nullcontext()
