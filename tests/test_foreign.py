"""Text from outside: short, printable, and without effect wherever it is shown."""

from __future__ import annotations

import ast
import csv
import doctest
import io
import pickle
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import kolmo
from kolmo import errors, foreign
from kolmo.errors import CorruptError, KolmoError, MissingExtraError, TruncatedError
from kolmo.foreign import (
    MAX_LINE,
    MAX_NAME,
    csv_table,
    html,
    markdown_text,
    printable,
    quoted,
    reason,
    short,
    uncomputed,
)

ROOT = Path(kolmo.__file__).parent
HOSTILE = {
    "long": "a" * 120_000,
    "escape": "\x1b]0;title\x07\x1b[31mred",
    "newline": "one\ntwo\r\nthree\u2028four\x85five",
    "bidi": "abc\u202e\u2066gpj.exe",
    "surrogate": "half \ud83d of a pair",
    "tags": "".join(map(chr, range(0xE0020, 0xE0060))),
    "long escapes": "\x1b[2J" * 30_000,
    "nothing": "\x00",
}
hostile = pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
text_of_all = st.text(st.characters(codec=None, exclude_categories=()))


def test_examples_of_the_docstrings() -> None:
    assert doctest.testmod(foreign).failed == 0


@given(text_of_all, st.integers(8, 200))
def test_short_text_is_printable_and_within_its_limit(text: str, limit: int) -> None:
    for shown in (short(text, limit), quoted(text, limit)[1:-1]):
        assert shown.isprintable()
        assert len(shown) <= limit
    if len(printable(text)) <= limit:
        assert short(text, limit) == printable(text)


def test_the_middle_is_cut() -> None:
    assert short("begin" + "x" * 500 + "end", 20) == "beginxxxx...xxxxxend"
    assert short("x" * MAX_NAME) == "x" * MAX_NAME
    assert len(short("x" * (MAX_NAME + 1))) == MAX_NAME
    assert short("\x1b" * 100, 20) == r"\x1b\x1b...\x1b\x1b"  # no escape is cut in two


@pytest.mark.parametrize("text", ["plain", "it's", 'say "no"', "both ' and \"", "back\\slash", "tab\t", "é", "\ud800"])
def test_quoted_text_is_as_python_writes_it(text: str) -> None:
    assert ast.literal_eval(quoted(text)) == text


def test_values_of_any_kind_are_quoted() -> None:
    nested: list[object] = []
    for _ in range(100_000):
        nested = [nested]
    for value in (nested, 10**5000, -(10**5000), {"a" * 10**6: "\x1b" * 1000}, float("nan"), None, b"\x1b" * 1000):
        shown = quoted(value)
        assert shown.isprintable()
        assert len(shown) <= MAX_NAME
    assert quoted(-4.25) == "-4.25"


def test_reasons_of_exceptions() -> None:
    class MuteError(Exception):
        def __str__(self) -> str:
            raise RuntimeError("this too")

    assert reason(ValueError("bad\n  value")) == "bad value"
    assert reason(KeyError("name")) == "KeyError: 'name'"
    assert reason(ValueError()) == "ValueError"
    assert reason(MuteError()) == "MuteError"
    assert len(reason(ValueError("x" * 10**6))) == 200
    assert reason(ValueError("\x1b[31m")) == r"\x1b[31m"


@hostile
def test_no_error_has_a_long_or_acting_message(text: str) -> None:
    for kind in (KolmoError, CorruptError, TruncatedError, MissingExtraError):
        error = kind(f"file.kmo: has {text}; get it again")
        again = pickle.loads(pickle.dumps(error))
        for one in (error, again):
            assert str(one).isprintable()
            assert len(str(one)) <= MAX_LINE
            assert str(one).startswith("file.kmo: has ")
            assert str(one).endswith("; get it again")
    assert CorruptError(text, 5).offset == 5


def test_every_error_is_of_that_root() -> None:
    kinds = [
        one
        for one in vars(errors).values()
        if isinstance(one, type) and issubclass(one, Exception) and not issubclass(one, Warning)
    ]
    assert len(kinds) > 5
    assert all(issubclass(kind, KolmoError) for kind in kinds)


def test_the_command_line_prints_through_one_place() -> None:
    """`click.echo` elsewhere prints constants alone; what it prints there may be foreign."""
    allowed = {"sample.py": 1}  # a text on a terminal, whose lines are kept
    for path in sorted((ROOT / "cli").glob("*.py")):
        if path.name == "console.py":
            continue
        calls = [
            node
            for node in ast.walk(ast.parse(path.read_text("utf-8")))
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("click.echo", "print", "sys.stderr.write")
            if not isinstance(node.args[0], ast.Constant) and "installed_version" not in ast.unparse(node.args[0])
        ]
        assert len(calls) == allowed.get(path.name, 0), f"{path.name}: use console.print_lines, line or say"


@hostile
def test_html_is_inert(text: str) -> None:
    shown = html(f"<script>\"{text}'&")
    assert shown.isprintable()
    assert not re.search("[<>\"']", shown)


@hostile
def test_markdown_cells_are_inert(text: str) -> None:
    shown = markdown_text(f"|{text}|<b>")
    assert "\n" not in shown
    assert shown.isprintable()
    assert not re.search(r"(?<!\\)(\\\\)*[|<>`*_\[\]]", shown)


FORMULAS = [
    "=1+1",
    "=cmd|' /C calc'!A0",
    "+1+1",
    "-2+3",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    "\n=1",
    " =1+1",
    "'=1+1",
    "''@x",
    "\uff1d1",
    "-",
    "-0.5x",
    "--5",
    "+",
]


@pytest.mark.parametrize("text", FORMULAS)
def test_no_cell_is_a_formula(text: str) -> None:
    (cells,) = csv.reader(io.StringIO(csv_table([["model", text, 0.5]]), newline=""))
    assert cells[1] == text if text == "-" else cells[1] == "'" + text
    assert uncomputed(cells[1]) == text
    assert cells[2] == "0.5"


@pytest.mark.parametrize("number", [-0.5, 0.1, 1e-300, -1e300, 5, -5, "-0.5", "+3", "1e5", "-.5"])
def test_numbers_stay_numbers(number: object) -> None:
    assert csv_table([["model", number]]) == f"model,{number}\n"


@given(st.lists(st.lists(st.text(), min_size=2), min_size=1))
def test_csv_comes_back(rows: list[list[str]]) -> None:
    found = list(csv.reader(io.StringIO(csv_table(rows), newline="")))
    assert [[uncomputed(cell) for cell in row] for row in found] == rows


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_no_formula_begins_behind_another_separator(separator: str) -> None:
    (cells,) = csv.reader(io.StringIO(csv_table([["a" + separator + "=1+1"]]), newline=""), delimiter=separator)
    assert cells == ["a" + separator + "=1+1"]


def test_surrogates_can_be_written_as_csv() -> None:
    assert csv_table([["half \ud83d"]]).encode() == b"half \\ud83d\n"
