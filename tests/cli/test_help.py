"""Help texts: each fits the width of a terminal, breaks no word, and names values in words, not by types of click."""

from __future__ import annotations

import re
from collections.abc import Iterator

import click
import pytest

from kolmo.cli import group
from kolmo.cli.collect import COMMANDS

TERMINAL = 78  # columns that click fills of the 80 of a terminal


def contexts(command: click.Command, name: str, parent: click.Context | None, width: int) -> Iterator[click.Context]:
    """The context of a command, and those of its commands, with help of a width in columns."""
    context = click.Context(command, info_name=name, parent=parent, terminal_width=width, max_content_width=width)
    yield context
    if isinstance(command, click.Group):
        for inner in command.list_commands(context):
            one = command.get_command(context, inner)
            assert one is not None
            yield from contexts(one, inner, context, width)


@pytest.mark.parametrize("width", [TERMINAL, 100])  # and of docs/cli.md
def test_help_fits_the_width(width: int) -> None:
    pages = {context.command_path: context.get_help() for context in contexts(group, "kolmo", None, width)}
    assert len(pages) > len(group.list_commands(click.Context(group))) + len(COMMANDS)
    for path, text in pages.items():
        for line in text.splitlines():
            assert len(line.rstrip()) <= width, f"{path} --help: {line}"
            assert not re.search(r"\w-$", line), f"{path} --help breaks a word over two lines: {line}"
            assert not re.search(r"\b(INTEGER|FLOAT|RANGE)\b", line), f"{path} --help: give a metavar: {line}"


def test_lists_of_commands_are_not_cut() -> None:
    """click cuts the first sentence of a command's help to the width, and puts three dots after it."""
    for context in contexts(group, "kolmo", None, TERMINAL):
        if isinstance(context.command, click.Group):
            listed = context.get_help().partition("Commands:")[2]
            assert listed
            assert "..." not in listed, f"shorten the first sentence of a command's help: {listed}"
