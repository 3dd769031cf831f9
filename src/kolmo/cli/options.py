"""Options that several verbs take: levels, threads, sizes like 8M."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeVar

import click

Function = TypeVar("Function", bound=Callable[..., Any])
UNITS = {"": 0, "K": 10, "M": 20, "G": 30, "T": 40}


def parse_size(ctx: click.Context, param: click.Parameter, value: str) -> int:
    """Bytes of "8M", "512KiB", "1000": K, M, G and T are powers of 1024."""
    match = re.fullmatch(r"(\d{1,15}) ?([KMGT]?)(?:iB|B)?", value, re.IGNORECASE | re.ASCII)
    if not match or int(match[1]) == 0:
        raise click.BadParameter(f"{value!r} is not a size; write it like 8M, 512K or 1000000", ctx, param)
    return int(match[1]) << UNITS[match[2].upper()]


class LevelOption(click.Option):
    """-1 to -9: nine flags, one line of help."""

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """The line for all nine, at the first."""
        return ("-1 .. -9", self.help or "") if self.opts == ["-1"] else None


def levels(function: Function) -> Function:
    """The flags -1 to -9 as the parameter `level`; the last one given counts."""
    for level in range(9, 0, -1):

        def remember(ctx: click.Context, param: click.Parameter, value: bool, level: int = level) -> None:
            if value:
                ctx.params["level"] = level

        function = click.option(
            f"-{level}",
            f"level_{level}",
            cls=LevelOption,
            is_flag=True,
            expose_value=False,
            callback=remember,
            help="Level: -1 is fast, -9 is small; default -5.",
        )(function)
    return function


threads = click.option(
    "-T",
    "--threads",
    type=click.IntRange(min=0),
    default=0,
    metavar="N",
    help="Threads; 0 is one for each core (default). The output does not depend on it.",
)
quiet = click.option("-q", "--quiet", is_flag=True, help="Print errors only.")
verbose = click.option("-v", "--verbose", is_flag=True, help="Print a line for each file, on pipes too.")
json_lines = click.option("--json", "as_json", is_flag=True, help="Print a JSON object for each file.")
recursive = click.option("-r", "--recursive", is_flag=True, help="Go into folders.")
memory = click.option(
    "--memory",
    callback=parse_size,
    default="2G",
    show_default=True,
    metavar="LIMIT",
    help="Refuse files that need more memory to decode.",
)
