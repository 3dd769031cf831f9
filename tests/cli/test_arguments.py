"""Messages of the library on the command line: flags in place of Python arguments."""

from __future__ import annotations

import ast
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
        ("raise the limit (memory_limit=4096)", "raise the limit (--memory 4096)"),
        ("use force=True to overwrite it", "use -f to overwrite it"),
        ("x (force=True overwrites it)", "x (-f overwrites it)"),
        ("about 3 % with tolerance=1e-3", "about 3 % with tolerance=1e-3"),
        ("runs/dtype='float64'/x.kmo: no such file", "runs/dtype='float64'/x.kmo: no such file"),
        ("the arguments context and chunk", "the arguments context and chunk"),
        ("the argument of a verb", "the argument of a verb"),
    ],
)
def test_arguments_become_flags(message: str, shown: str) -> None:
    assert as_flags(message) == shown


def flags_of(command: click.Command, context: click.Context) -> set[str]:
    """All flags of a command and of those below it."""
    found = {flag for param in command.params for flag in param.opts}
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            found |= flags_of(inner, context) if inner else set()
    return found


def test_every_flag_exists() -> None:
    from kolmo.cli import group

    assert set(FLAGS.values()) <= flags_of(group, click.Context(group))


# Texts outside `cli` that name flags of commands all the same, and why.
SHELL = {
    "bench/paper/codecs.py": "names of compressors at their levels",
    "bench/peers.py": "options of other compressors, which it runs",
    "collection/arxiv/markdown.py": "options of pandoc, which it runs",
    "collection/card.py": "whole commands of kolmo, to be typed",
    "collection/engine.py": "options of squeue, which it runs",
    "collection/github/git.py": "options of git, which it runs",
    "collection/workers.py": "options of the shell that it runs",
    "corpus/files.py": "a command of another program",
    "corpus/hub.py": "a command of another program",
    "evaluation/engines/ray_engine.py": "a command of another program",
    "evaluation/engines/workers.py": "the option with which Python is started",
    "installing.py": "a command of another program",
    "lm_eval/__init__.py": "the option with which Python is started",
    "predictors/language_models/torch_models/hub.py": "a command of another program",
    "report/board/leaderboard.py": "a whole command of kolmo, to be typed",
    "report/board/page.py": "a page for readers of the command line",
    "report/explain.py": "a whole command of kolmo, to be typed",
    "report/page/content.py": "a page for readers of the command line",
    "training/products/card.py": "whole commands of kolmo, to be typed",
    "weights/format/reader.py": "a whole command of kolmo, to be typed",
}
FLAG = re.compile(r"(?<![\w-])--[a-z]|(?<![\w<-])-[a-zA-Z]\b(?![\w-])")


def flags_in(source: str) -> list[str]:
    """String literals that name a flag; docstrings may show commands."""
    tree = ast.parse(source)
    shown = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    texts = [node for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    return [str(node.value) for node in texts if id(node) not in shown and FLAG.search(str(node.value))]


def test_the_library_names_no_flags() -> None:
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        name = path.relative_to(ROOT).as_posix()
        if not name.startswith("cli/") and (texts := flags_in(path.read_text("utf-8"))):
            found[name] = texts
    assert {name: texts for name, texts in found.items() if name not in SHELL} == {}
    assert set(SHELL) - set(found) == set(), "these name no flags any more: take them out of SHELL"
    assert flags_in('"""Run kolmo -x."""\nraise E(f"{a}; lower --rate, or use -f")') == ["; lower --rate, or use -f"]
