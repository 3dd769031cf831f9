"""Checks of arguments that callers of the library pass.

What it is not: it parses no text (`cli.options`).
"""

from __future__ import annotations

import operator


def whole_number(value: object, name: str, least: int) -> int:
    """The value of an argument that must be an integer (NumPy's are accepted) of at least `least`.

    Args:
        value: the argument.
        name: the argument's name, for the error.
        least: the smallest value that is accepted.

    Raises:
        TypeError: the value is not an integer.
        ValueError: the value is smaller than `least`.

    Example:
        >>> whole_number(3, "threads", 0)
        3
    """
    try:
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise TypeError(f"{name} must be an integer, not {type(value).__name__}") from None
    if number < least:
        raise ValueError(f"{name} must be at least {least}, not {number}")
    return number
