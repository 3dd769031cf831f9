"""Writes manual pages of `kolmo` and of each of its commands with click-man (`pip install '.[docs]'`).

    python scripts/man_pages.py build/man && man build/man/kolmo-compress.1

A package for a system installs them as share/man/man1/*.1. What it is not: part of the wheel, since pip installs no
manual pages where `man` looks for them.
"""

from __future__ import annotations

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
    manual.description = cleandoc(command.help or "")
    manual.synopsis = " ".join(command.collect_usage_pieces(context))
    records = (option.get_help_record(context) for option in command.params if isinstance(option, click.Option))
    manual.options = [record for record in records if record]
    if isinstance(command, click.Group):
        known = {name: command.get_command(context, name) for name in command.list_commands(context)}
        manual.commands = [(name, first_sentence(one)) for name, one in known.items() if one]
    return str(manual)


def first_sentence(command: click.Command) -> str:
    """What a list says of a command: the first sentence of its help, without the full stop."""
    return " ".join(cleandoc(command.help or "").partition("\n\n")[0].partition(". ")[0].split()).rstrip(".")


def write(folder: Path) -> list[Path]:
    """Write all pages into a folder, which is made; returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    top = click.Context(group, info_name="kolmo")
    pages = {"kolmo": page(top)}
    for name in group.list_commands(top):
        command = group.get_command(top, name)
        assert command is not None
        pages[f"kolmo-{name}"] = page(click.Context(command, info_name=name, parent=top))
    for name, text in pages.items():
        (folder / f"{name}.1").write_text(text, "utf-8")
    return [folder / f"{name}.1" for name in pages]


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python scripts/man_pages.py FOLDER")
    print("\n".join(map(str, write(Path(sys.argv[1])))))
