"""Writes docs/cli.md: the help of `kolmo` and of each of its commands, as `--help` prints it.

    python scripts/cli_page.py           # after a change of the command line
    python scripts/cli_page.py --check   # exit status 1 if the page is not current

What it is not: a description of what the commands are good for; other pages of docs/ are.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import click

from kolmo.cli import group

PAGE = Path(__file__).parents[1] / "docs" / "cli.md"
WIDTH = 100  # columns of the help on the page
HEAD = """# The command line

What `kolmo --help` and `kolmo COMMAND --help` print. This page is generated: `python scripts/cli_page.py`.

Exit status: 0 all is well, 1 a file failed, 2 wrong usage, 130 interrupted, 141 the reader of the output went away.
What the commands are good for: [compress](compress.md), [explain](explain.md), [eval](evaluation.md),
[sample](sample.md), [fit](fit.md), [report](report.md), [collect](collection.md), [train](training.md),
[shrink, expand and info](shrink.md), [models](language-models.md).
"""


def page() -> str:
    """The whole page as Markdown."""
    top = click.Context(group, info_name="kolmo", terminal_width=WIDTH, max_content_width=WIDTH)
    parts = [HEAD, _section("kolmo", group.get_help(top))]
    for name in group.list_commands(top):
        command = group.get_command(top, name)
        assert command is not None
        context = click.Context(command, info_name=name, parent=top, terminal_width=WIDTH, max_content_width=WIDTH)
        parts.append(_section(f"kolmo {name}", command.get_help(context)))
        if isinstance(command, click.Group):
            for inner in command.list_commands(context):
                one = command.get_command(context, inner)
                assert one is not None
                below = click.Context(
                    one, info_name=inner, parent=context, terminal_width=WIDTH, max_content_width=WIDTH
                )
                parts.append(_section(f"kolmo {name} {inner}", one.get_help(below)))
    return "\n".join(parts)


def _section(title: str, text: str) -> str:
    lines = "\n".join(line.rstrip() for line in text.splitlines())
    return f"## {title}\n\n```text\n{lines}\n```\n"


def main(arguments: Sequence[str]) -> int:
    """Write the page, or compare it."""
    text = page()
    if "--check" in arguments:
        if PAGE.exists() and PAGE.read_text("utf-8") == text:
            return 0
        print("docs/cli.md is not what --help prints now; run: python scripts/cli_page.py", file=sys.stderr)
        return 1
    PAGE.write_text(text, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
