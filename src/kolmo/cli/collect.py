"""`kolmo collect`: fresh corpora. A command for each source, loaded when called (see `collecting`)."""

from __future__ import annotations

from importlib import import_module

import click

from kolmo.cli.flags import no_such_command

COMMANDS = ("cc", "github", "arxiv", "all", "rebuild", "overlap")


class Sources(click.Group):
    """Finds the commands in the package `collecting`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The sources first."""
        return [*COMMANDS]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Load a command's module."""
        if cmd_name not in COMMANDS:
            return None
        command = import_module(f"kolmo.cli.collecting.{cmd_name}").command
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Name near commands where there is none of this name."""
        if args and args[0] not in COMMANDS and not ctx.resilient_parsing and not args[0].startswith("-"):
            raise click.UsageError(no_such_command(args[0], COMMANDS), ctx)
        return super().resolve_command(ctx, args)


@click.group("collect", cls=Sources)
def command() -> None:
    """Collect fresh corpora, with the recipe to make them again.

    From Common Crawl (cc), GitHub (github), arXiv (arxiv), or all of them; a folder of each, which kolmo eval reads. A
    run that was stopped goes on when the same command is given again.
    """
