"""Words of the command line before click reads them: calls without a verb, as of gzip, xz and zstd, and levels.

`kolmo -d FILE`, `kolmo -9k FILE`, `kolmo FILE` and, in pipes, `kolmo` alone are understood; so `tar -I kolmo` works.
What it is not: a parser of values; click is.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

import click

from kolmo.cli.console import is_terminal

MODES = {
    "-z": "compress",
    "--compress": "compress",
    "-d": "decompress",
    "--decompress": "decompress",
    "--uncompress": "decompress",
    "-t": "test",
    "--test": "test",
    "-l": "list",
    "--list": "list",
}
OF_THE_GROUP = ("-h", "--help", "-V", "--version")


@dataclass(frozen=True)
class Word:
    """An option with its value, or an argument.

    Attributes:
        name: of the option, as it was given; empty of an argument.
        words: what stands for it on a command line of its own.
    """

    name: str
    words: tuple[str, ...]


def split(arguments: Sequence[str], parameters: Iterable[click.Parameter]) -> Iterator[Word]:
    """Words of a command line, joined short flags apart; of unknown options no value is expected.

    Raises:
        click.UsageError: a number of several digits stands where a level may, or -0.
    """
    takes_value = {
        name
        for parameter in parameters
        if isinstance(parameter, click.Option) and not parameter.is_flag and not parameter.count
        for name in parameter.opts
    }
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        if word == "--":
            yield Word("", (word, *rest))
            return
        if not word.startswith("-") or word == "-":
            yield Word("", (word,))
        elif word.startswith("--"):
            name = word.partition("=")[0]
            value = [rest.pop(0)] if name == word and name in takes_value and rest else []
            yield Word(name, (word, *value))
        else:
            yield from _split_short(word, rest, takes_value)


def _split_short(word: str, rest: list[str], takes_value: set[str]) -> Iterator[Word]:
    for at in range(1, len(word)):
        name = "-" + word[at]
        if name in takes_value:
            value = [rest.pop(0)] if at + 1 == len(word) and rest else []
            yield Word(name, (name + word[at + 1 :], *value))
            return
        if number := re.match(r"0|\d{2,}", word[at:]):
            raise click.UsageError(f"-{number[0]} is not a level; levels are -1 (fast) to -9 (small)")
        yield Word(name, (name,))


class LevelCommand(click.Command):
    """A verb with levels: -12 is refused, where click would take it for -1 -2."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Look at the words, then let click read them."""
        try:
            for _ in split(args, self.get_params(ctx)):
                pass
        except click.UsageError as error:
            error.ctx = ctx
            raise
        return super().parse_args(ctx, args)


def add_verb(arguments: Sequence[str], group: click.Group, ctx: click.Context) -> list[str]:
    """The command line with its verb: the one that is there, or what flags like -d ask for, or compress.

    Of several such flags the last one counts. What only matters for compressing is ignored beside -d, -t and -l, so
    that `tar -I 'kolmo -9'` extracts too.

    Raises:
        click.UsageError: the verb stands behind options, or a level has two digits.
    """
    first = arguments[0] if arguments else None
    verbs = group.list_commands(ctx)
    if first is None:
        if ctx.resilient_parsing:  # of a shell that completes: the next word may be a command
            return []
        return ["compress"] if sys.stdin is not None and not is_terminal(sys.stdin) else []
    if first in verbs or first in OF_THE_GROUP or not (first.startswith("-") or os.path.isfile(first)):
        return list(arguments)
    known = {verb: _parameters(group, ctx, verb) for verb in dict.fromkeys(MODES.values())}
    words = list(split(arguments, (parameter for found in known.values() for parameter in found)))
    verb = next((MODES[word.name] for word in reversed(words) if word.name in MODES), "compress")
    ours = _names(known[verb])
    ignored = _names(known["compress"]) - ours
    for word in words:
        name = word.words[0]
        if not word.name and name in verbs and not os.path.exists(name):
            raise click.UsageError(f"{name} is a command, which comes first: kolmo {name} {first} ...")
    kept = [word for word in words if word.name not in MODES and word.name not in ignored]
    return [verb, *(text for word in kept for text in word.words)]


def _parameters(group: click.Group, ctx: click.Context, verb: str) -> list[click.Parameter]:
    command = group.get_command(ctx, verb)
    assert command is not None
    return command.params


def _names(parameters: Iterable[click.Parameter]) -> set[str]:
    return {name for parameter in parameters if isinstance(parameter, click.Option) for name in parameter.opts}


def no_such_command(name: str, verbs: Sequence[str]) -> str:
    """What to say of a verb that there is not, with near ones."""
    near = get_close_matches(name, verbs, n=2)
    if os.path.isdir(name):
        return f"{name!r} is not a command; for the files in this folder: kolmo compress -r {name}"
    return f"{name!r} is neither a command nor a file" + (f"; did you mean {' or '.join(near)}?" if near else "")
