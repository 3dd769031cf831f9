"""The command line: one file per verb, loaded when called, so that `kolmo --help` answers at once.

What it is not: a place for work; a verb parses, calls one function of `archive` per file, and prints.
Exit status: 0 all well, 1 some file failed, 2 wrong usage, 130 Ctrl-C, 141 the reader of the output went
away.
"""

from __future__ import annotations

import io
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from difflib import get_close_matches
from importlib import import_module
from types import FrameType
from typing import NoReturn

import click
from click.shell_completion import CompletionItem

from kolmo.cli.console import STDOUT, give_up, say
from kolmo.foreign import line

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
    "bench",
    "collect",
    "train",
    "shrink",
    "expand",
    "info",
    "models",
)


class LazyGroup(click.Group):
    """Finds the verbs in the modules of this package."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The verbs, in the order of their use."""
        return [*VERBS]  # `list` is a verb, whose module has this name in this package

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Load the verb's module."""
        if cmd_name not in VERBS:
            return None
        command = import_module(f"kolmo.cli.{cmd_name}").command
        assert isinstance(command, click.Command)
        return command

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Find the verb where none is given, as in `kolmo -d FILE`."""
        from kolmo.cli.flags import add_verb

        try:
            return super().parse_args(ctx, add_verb(args, self, ctx))
        except click.UsageError as error:
            error.ctx = error.ctx or ctx
            raise

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete a verb, and where none begins so, a file, as of `kolmo FILE`."""
        return super().shell_complete(ctx, incomplete) or [CompletionItem(incomplete, type="file")]

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Name near verbs where there is none of this name."""
        from kolmo.cli.flags import no_such_command

        if args and args[0] not in VERBS and not ctx.resilient_parsing and not args[0].startswith("-"):
            raise click.UsageError(no_such_command(args[0], VERBS), ctx)
        return super().resolve_command(ctx, args)


def _print_version(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from kolmo.installing import installed_version
        from kolmo.native.dispatch import describe

        click.echo(f"kolmo {installed_version()} ({describe()})")
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
    """Lossless compression with predictors, and small weights. Each command has its own --help.

    Without a command, options are those of compress, and -d, -t, -l stand for decompress, test, list: kolmo -d FILE,
    kolmo -9 FILE, kolmo FILE; so tar -I kolmo works.
    """


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit with its status."""
    for number in (signal.SIGTERM, getattr(signal, "SIGHUP", None)):
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:  # nohup's wish holds
            with suppress(ValueError):  # not in the main thread
                signal.signal(number, _leave)
    if isinstance(sys.stdout, io.TextIOWrapper):  # as standard error does by default
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        status = group.main(arguments, prog_name="kolmo", standalone_mode=False)
        if sys.stdout is not None:
            sys.stdout.flush()
    except click.Abort:
        say("interrupted; nothing half-written is left")
        status = 130
    except click.UsageError as error:
        status = error.exit_code
        _show(error)
    except click.ClickException as error:
        vars(error)["message"] = line(error.message)  # which may quote arguments, and file names among them
        error.show()
        status = error.exit_code
    except BrokenPipeError:
        give_up(sys.stdout)
        status = 141
    except OSError as error:  # of a file, it would have been met where the file is worked on
        give_up(sys.stdout)
        say(f"{error.filename or STDOUT}: {error.strerror or error}")
        status = 1
    sys.exit(status if isinstance(status, int) else 0)


def _show(error: click.UsageError) -> None:
    """One line: what is wrong, and the usage; for no arguments at all, the help."""
    if isinstance(error, getattr(click.exceptions, "NoArgsIsHelpError", ())):
        error.show()
        return
    if isinstance(error, click.NoSuchOption):
        near = get_close_matches(error.option_name, error.possibilities or (), n=1)
        message = f"there is no option {error.option_name}" + (f"; did you mean {near[0]}?" if near else "")
    else:
        message = " ".join(error.format_message().split())
    if error.ctx is not None:
        message += f" ({' '.join(error.ctx.get_usage().split())}; more: {error.ctx.command_path} --help)"
    say(message)


def _leave(number: int, frame: FrameType | None) -> None:
    """End as if by an error, so that half-written files are removed."""
    raise SystemExit(128 + number)
