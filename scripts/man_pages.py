"""Writes manual pages of `kolmo` and of each of its commands with click-man (`pip install '.[docs]'`).

    python scripts/man_pages.py build/man && man build/man/kolmo-compress.1

A package for a system installs them as share/man/man1/*.1. What it is not: part of the wheel, since pip installs no
manual pages where `man` looks for them.
"""

from __future__ import annotations

import re
import sys
from inspect import cleandoc
from pathlib import Path

import click
from click_man.man import ManPage

import kolmo
from kolmo.cli import group


def page(context: click.Context) -> str:
    """The manual page of a command, in troff.

    click-man's own `generate_man_page` fails on options whose help is hidden, and looks for no commands that are not
    loaded yet; so its page is filled in here.
    """
    command = context.command
    manual = ManPage(context.command_path)
    manual.version = kolmo.__version__
    manual.short_help = first_sentence(command)
    manual.description = re.sub(r"^(?=[.'])", r"\\&", cleandoc(command.help or ""), flags=re.MULTILINE)  # no requests
    manual.synopsis = " ".join(command.collect_usage_pieces(context))
    records = (option.get_help_record(context) for option in command.params if isinstance(option, click.Option))
    manual.options = [record for record in records if record]
    if isinstance(command, click.Group):
        known = {name: command.get_command(context, name) for name in command.list_commands(context)}
        manual.commands = [(name, first_sentence(one)) for name, one in known.items() if one]
    name = context.command_path.replace(" ", "-")  # of the page; click-man takes it for the command's, with spaces
    text = str(manual).replace(f'.TH "{context.command_path.upper()}"', f'.TH "{name.upper()}"')
    return text.replace(f"See \\fB{context.command_path}-", f"See \\fB{name}-")


def first_sentence(command: click.Command) -> str:
    """What a list says of a command: the first sentence of its help, without the full stop."""
    return " ".join(cleandoc(command.help or "").partition("\n\n")[0].partition(". ")[0].split()).rstrip(".")


def pages(context: click.Context) -> dict[str, str]:
    """The manual pages of a command and of the commands below it, by their names such as `kolmo-collect-cc`."""
    command = context.command
    found = {context.command_path.replace(" ", "-"): page(context)}
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            if one := command.get_command(context, name):
                found |= pages(click.Context(one, info_name=name, parent=context))
    return found


def write(folder: Path) -> list[Path]:
    """Write all pages into a folder, which is made; returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, text in pages(click.Context(group, info_name="kolmo")).items():
        written.append(folder / f"{name}.1")
        written[-1].write_text(text, "utf-8")
    return written


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python scripts/man_pages.py FOLDER")
    print("\n".join(map(str, write(Path(sys.argv[1])))))
