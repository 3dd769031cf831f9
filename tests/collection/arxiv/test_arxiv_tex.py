"""The main file, and \\input, \\include and \\subfile within the paper's folder."""

from __future__ import annotations

import time
from collections.abc import Mapping
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kolmo.collection.arxiv.main_file import main_file
from kolmo.collection.arxiv.tex import flattening
from kolmo.collection.arxiv.tex.flattening import flatten
from kolmo.collection.arxiv.tex.recursion import without_recursion
from kolmo.collection.arxiv.tex.tex_tokens import tokens, without_comments
from kolmo.collection.arxiv.unpacking import UnusableError


def main_of(files: Mapping[str, str]) -> str | None:
    return main_file(sorted(files), lambda path: files[path])


def flat(files: Mapping[str, str], main: str = "main.tex") -> str:
    return flatten(main, files.keys(), lambda path: files[path]).text


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"a.tex": "", "my_main_v2.tex": ""}, "my_main_v2.tex"),
        ({"paper.tex": "", "xMain.tex": ""}, "xMain.tex"),  # Main comes before paper
        ({"paper.tex": "", "MAIN.tex": "", "a.tex": ""}, "MAIN.tex"),
        ({"Paper.tex": "", "a.tex": "\\title{A}"}, "Paper.tex"),
        ({"a.tex": "", "main.bbl": ""}, "a.tex"),  # only TeX files count
        ({"main/a.tex": "", "b.tex": "\\title{B}"}, "b.tex"),  # the name of a file, not of its folder
        ({"a.tex": "no title", "b.tex": "\\title {B}"}, "b.tex"),
        ({"a.tex": "% \\title{A}", "b.tex": "\\title{B}"}, "b.tex"),
        ({"a.tex": "\\titlepage", "b.tex": "\\title{B}"}, "b.tex"),
        ({"a.tex": "\\title{A}", "b.tex": "\\documentclass{x}\\title{B}"}, "b.tex"),
        ({"a.tex": "", "b.tex": ""}, None),
        ({"notes.txt": "main"}, None),
        ({"mainintro.tex": "", "main.tex": ""}, "main.tex"),
        ({"main.tex": "", "x/mainx.tex": "\\documentclass{a}"}, "x/mainx.tex"),
        # rstrip('.tex.md') of the original would take letters of these names away
        ({"matex.tex": "\\title{M}", "me.tex": ""}, "matex.tex"),
    ],
)
def test_the_main_file(files: Mapping[str, str], expected: str | None) -> None:
    assert main_of(files) == expected


def test_inputs_of_all_kinds() -> None:
    files = {
        "main.tex": r"0 \input{a} \input{sub/b.tex} \input c \include{d} \subfile{sub/e} \input{ a }\input{a.b}9",
        "a.tex": "A\n",
        "sub/b.tex": r"B\input{f}",
        "sub/f.tex": "F",
        "c.tex": "C",
        "d.tex": "D",
        "sub/e.tex": "\\documentclass[../main]{subfiles}\n\\begin{document}E\\end{document} nothing",
        "a.b.tex": "AB",
    }
    assert flat(files).split() == ["0", "A", "BF", "C", "D", "E", "AAB9"]


def test_a_line_end_at_the_end_of_a_file_does_not_end_a_paragraph() -> None:
    files = {"main.tex": "x \\input{a}\ny", "a.tex": "A % comment\n"}
    assert flat(files) == "x A \ny"
    assert flat({**files, "a.tex": "A\n"}) == "x A\ny"
    assert "\n\n" in flat({**files, "a.tex": "A\n\n"})


def test_what_is_no_command_stays() -> None:
    text = (
        "% \\input{a}\n\\% \\\\input \\begin{verbatim}\\input{a}\\end{verbatim} \\verb|\\input{a}| "
        "\\lstinline[x]{\\input{a}} \\newcommand{\\input}{x} \\inputs{a} "
        "\\begin{lstlisting}%\n\\input{a}\\end{lstlisting}"
    )
    assert flat({"main.tex": text, "a.tex": "LEAK"}) == text


@pytest.mark.parametrize(
    "name",
    ["../../etc/passwd", "/etc/passwd", "a/../../b", "~/x", "|ls", "../paper/../../x", "sub/../../../etc/hosts"],
)
def test_no_input_leaves_the_folder(name: str) -> None:
    files = {"main.tex": f"x \\input{{{name}}} y", "etc/passwd": "inner"}
    found = flatten("main.tex", files.keys(), lambda path: files[path])
    assert found.text == "x  y"
    assert found.tallies == {"input outside the paper's folder taken out": 1}


def test_missing_computed_and_style_inputs_are_taken_out_and_counted() -> None:
    files = {"main.tex": r"\input{no}\input{\dir/x}\input{x.sty}\input"}
    found = flatten("main.tex", files.keys(), lambda path: files[path])
    assert found.text == "\\input"
    assert sorted(found.tallies) == [
        "input of a computed name taken out",
        "input of a missing file taken out",
        "input of a style file taken out",
    ]


def test_circles_end() -> None:
    files = {"main.tex": "m\\input{a}", "a.tex": "a\\input{b}", "b.tex": "b\\input{a}\\input{main}\\input{b}"}
    found = flatten("main.tex", files.keys(), lambda path: files[path])
    assert found.text == "mab"
    assert found.tallies == {"input of a file within itself taken out": 3}


def test_depth_size_and_number_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    chain = {f"{n}.tex": f"{n} \\input{{{n + 1}}}" for n in range(100)}
    found = flatten("0.tex", chain.keys(), lambda path: chain[path])
    assert found.tallies == {"input too deep taken out": 1}
    doubling = {f"{n}.tex": f"\\input{{{n + 1}}}\\input{{{n + 1}}}" for n in range(19)} | {"19.tex": "x"}
    begin = time.monotonic()
    with pytest.raises(UnusableError, match="too many inputs"):
        flat(doubling, "0.tex")
    assert time.monotonic() - begin < 10
    monkeypatch.setattr(flattening, "MAX_CHARACTERS", 1000)
    with pytest.raises(UnusableError, match="text too large"):
        flat({"main.tex": "\\input{a}" * 20, "a.tex": "x" * 100})


def test_the_end_of_a_document_and_of_an_input() -> None:
    files = {"main.tex": "a \\input{b} c\\end{document} \\input{b}", "b.tex": "B\\endinput gone \\input{b}"}
    assert flat(files) == "a B c\\end{document}"


@given(st.text(alphabet="\\{}%|[] \nabinputverbegdocm", max_size=300))
def test_any_text_is_read_to_its_end(text: str) -> None:
    ends = [token.end for token in tokens(text, frozenset({"input"}))]
    assert ends == sorted(ends)
    without_comments(text)
    without_recursion(text)
    flat({"main.tex": text, "a.tex": text})


@pytest.mark.parametrize(
    "text",
    [
        "\\verb|" * 50_000,
        "\\begin{verbatim}" * 30_000,
        "\\input{" * 50_000,
        "\\def\\a{" * 50_000,
        "\\newcommand{\\a}[" * 30_000,
        "{" * 300_000,
        "\\begin " * 50_000,
        "".join(f"\\def\\x{'a' * (n % 50)}{{\\y}}" for n in range(20_000)),
    ],
    ids=["verb", "verbatim", "input", "def", "parameters", "braces", "begin", "definitions"],
)
def test_hostile_text_takes_linear_time(text: str) -> None:
    begin = time.process_time()
    flat({"main.tex": text})
    without_recursion(text)
    assert time.process_time() - begin < 8


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (r"\def\small{\@set\small{1}}x", "x"),
        (r"\newcommand{\a}[2][z]{#1\a}y", "y"),
        (r"\renewcommand*\a{\b}\def\b#1{\a}z", "z"),
        (r"\def\a{\b}\def\b{x}", r"\def\a{\b}\def\b{x}"),
        (r"% \def\a{\a}", r"% \def\a{\a}"),
        (r"\def\a{\aa}", r"\def\a{\aa}"),
        (r"\let\old\vec\renewcommand{\vec}{\old}", r"\let\old\vec\renewcommand{\vec}{\old}"),
        (r"\def\a{\a", r"\def\a{\a"),
    ],
)
def test_endless_macros_are_taken_out(text: str, expected: str) -> None:
    assert without_recursion(text)[0] == expected


def test_a_circle_of_many_macros() -> None:
    names = ["\\m" + "".join(map(chr, (97 + n // 676, 97 + n // 26 % 26, 97 + n % 26))) for n in range(3001)]
    text = "".join(f"\\def{name}{{{following}}}" for name, following in pairwise(names))
    assert without_recursion(text) == (text, 0)
    assert without_recursion(f"{text}\\def{names[-1]}{{{names[0]}}}x") == ("x", 3001)
