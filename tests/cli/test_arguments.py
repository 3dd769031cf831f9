"""Messages of the library on the command line: flags in place of Python arguments."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

import kolmo.cli.arguments as arguments
from kolmo.cli.arguments import FLAGS, as_flags

ROOT = Path(arguments.__file__).parents[1]


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("raise the argument tolerance, or use dtype='float64'", "raise --tolerance, or use --dtype float64"),
        ("lower the argument batch or the argument context", "lower --batch-size or --context"),
        ("lower the argument block_size to 512", "lower --context to 512"),
        ("leave the argument attention out", "leave --attn out"),
        ("give its folder as RunSettings(model=FOLDER)", "give its folder with --model FOLDER"),
        ("a build (device='cpu') works", "a build (--device cpu) works"),
        ("keep it exact, by the argument keep", "keep it exact, by --exact"),
        ("about 3 % with tolerance=1e-3", "about 3 % with tolerance=1e-3"),
        ("runs/dtype='float64'/x.kmo: no such file", "runs/dtype='float64'/x.kmo: no such file"),
        ("the arguments context and chunk", "the arguments context and chunk"),
        ("the argument of a verb", "the argument of a verb"),
    ],
)
def test_arguments_become_flags(message: str, shown: str) -> None:
    assert as_flags(message) == shown


def test_every_flag_exists() -> None:
    from kolmo.cli import group

    context = click.Context(group)
    commands = [group.get_command(context, name) for name in group.list_commands(context)]
    known = {flag for command in commands if command for param in command.params for flag in param.opts}
    assert set(FLAGS.values()) <= known


@pytest.mark.parametrize("room", ["predictors", "evaluation", "fit"])
def test_the_library_names_no_flags(room: str) -> None:
    for path in sorted((ROOT / room).rglob("*.py")):
        text = path.read_text("utf-8")
        found = [flag for flag in FLAGS.values() if re.search(rf'[" ]{flag}\b', text)]
        assert not found, f"{path.name} names {found}"
