"""The one place that knows the distribution's name: what to type for a part that is not installed, and the version.

The import and the command are called `kolmo`; on the package index that name belongs to another program.
"""

from __future__ import annotations

DISTRIBUTION = "kolmo-codelength"


def install(*extras: str, upgrade: bool = False) -> str:
    """The command that installs kolmo with its extras, for the end of a message.

    Args:
        extras: names from `[project.optional-dependencies]`; none for kolmo alone.
        upgrade: whether an older version may be there.

    Example:
        >>> install("hf", "eval")
        "pip install 'kolmo-codelength[hf,eval]'"
    """
    option = "-U " if upgrade else ""
    return f"pip install {option}'{DISTRIBUTION}[{','.join(extras)}]'" if extras else f"pip install {DISTRIBUTION}"


def installed_version() -> str:
    """The version of kolmo that is installed; `0+unknown` for a source tree that is not."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(DISTRIBUTION)
    except PackageNotFoundError:
        return "0+unknown"
