"""The command line: one file per verb, loaded when called, so that `kolmo --help` answers at once.

What it is not: a place for work; a verb parses, calls one function of `archive` per file, and prints.
Exit status: 0 all well, 1 some file failed, 2 wrong usage, 130 Ctrl-C, 141 the reader of the output went
away.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from types import FrameType
from typing import NoReturn

import click

VERBS = (
    "compress",
    "decompress",
    "test",
    "list",
    "explain",
    "eval",
    "sample",
    "fit",
    "report",
    "train",
    "shrink",
    "expand",
    "info",
)


class LazyGroup(click.Group):
    """Finds the verbs in the modules of this package."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The verbs, in the order of their use."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Load the verb's module."""
        if cmd_name not in VERBS:
            return None
        command = import_module(f"kolmo.cli.{cmd_name}").command
        assert isinstance(command, click.Command)
        return command


def _print_version(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        import kolmo
        from kolmo.native.dispatch import describe

        click.echo(f"kolmo {kolmo.__version__} ({describe()})")
        ctx.exit()


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "-V",
    "--version",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_print_version,
    help="Print the version.",
)
def group() -> None:
    """Lossless compression with predictors, and small weights. Each command has its own --help."""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit with its status."""
    for number in (signal.SIGTERM, getattr(signal, "SIGHUP", None)):
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:  # nohup's wish holds
            with suppress(ValueError):  # not in the main thread
                signal.signal(number, _leave)
    try:
        status = group.main(arguments, prog_name="kolmo", standalone_mode=False)
    except click.Abort:
        click.echo("kolmo: interrupted; nothing half-written is left", err=True)
        status = 130
    except click.ClickException as error:
        error.show()
        status = error.exit_code
    sys.exit(status if isinstance(status, int) else 0)


def _leave(number: int, frame: FrameType | None) -> None:
    """End as if by an error, so that half-written files are removed."""
    raise SystemExit(128 + number)
