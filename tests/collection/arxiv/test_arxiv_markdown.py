"""TeX to Markdown: pandoc in its sandbox and limits, the fallback, hostile papers."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from arxiv_made import tex

from kolmo.collection.arxiv.markdown import Converter, without_divs
from kolmo.collection.arxiv.tex.flattening import flatten
from kolmo.collection.arxiv.tex.plain_text import convert as plain_text

STANDARD = r"""\documentclass{article}
\title{On a small lemma}\author{A. Person}
\newcommand{\R}{\mathbb{R}}
\begin{document}
\maketitle
\begin{abstract}We prove a lemma about $\R^n$.\end{abstract}
\section{Introduction}
Let $x\in\R$.
\begin{theorem}Every $x$ is $x$.\end{theorem}
\begin{center}centred\end{center}
\end{document}
"""
ENDLESS = r"\newenvironment{a}{\begin{a}}{\end{a}}\begin{document}\begin{a}A short proof.\end{a}\end{document}"


@pytest.fixture(scope="module")
def convert() -> Iterator[Converter]:
    with Converter(seconds=10) as converter:
        yield converter


def test_title_abstract_and_formulas_stay_and_divs_go(convert: Converter) -> None:
    """Without -s title and abstract are lost."""
    done = convert(STANDARD)
    assert done.converter == "pandoc"
    assert "title: On a small lemma" in done.text
    assert "We prove a lemma about $\\mathbb{R}^n$." in done.text
    assert "# Introduction\n\nLet $x\\in\\mathbb{R}$.\n\nEvery $x$ is $x$.\n\ncentred\n" in done.text
    assert ":::" not in done.text


def test_only_lines_of_divs_go() -> None:
    text = "a ::: b\n::: {#x}\n  :::: theorem\nc\n::::\n> :::\n"
    assert without_divs(text) == "a ::: b\nc\n"


def test_no_file_of_the_machine_gets_into_a_paper(convert: Converter, tmp_path: Path) -> None:
    secret = tmp_path / "secret.tex"
    secret.write_text("SECRET")
    for command in (
        "input",
        "include",
        "verbatiminput",
        "lstinputlisting",
        "includegraphics",
        "bibliography",
        "usepackage",
    ):
        done = convert(tex(f"One \\{command}{{{secret}}} two").decode())
        assert "One" in done.text
        assert "SECRET" not in done.text
        assert "SECRET" not in convert(f"\\documentclass{{{secret}}}\\{command}{{{secret.with_suffix('')}}} One").text
    for name in ("/etc/hostname", "/etc/passwd"):
        done = convert(tex(f"One \\lstinputlisting{{{name}}} \\input{{{name}}} two").decode())
        for word in (socket.gethostname(), "root:"):
            assert word not in done.text


def test_nothing_of_this_environment_gets_into_a_paper(
    convert: Converter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    templates = tmp_path / "pandoc" / "templates"
    templates.mkdir(parents=True)
    (templates / "default.markdown").write_text("MINE $body$")
    before = convert(STANDARD).text
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert convert(STANDARD).text == before
    assert convert(r"\today").text == "1970-01-01\n"


def test_a_paper_that_never_ends_is_ended_and_falls_back() -> None:
    with Converter(seconds=1) as convert:
        done = convert(ENDLESS)
    assert done.failures == ("pandoc: timeout",)
    assert done.converter == "pylatexenc"
    assert "A short proof." in done.text
    assert not _children()


def test_a_paper_that_grows_is_ended() -> None:
    macros = "".join(f"\\def\\{a}{{\\{b}\\{b}\\{b}\\{b}}}" for a, b in zip("abcdefghi", "bcdefghij", strict=True))
    with Converter(seconds=20, heap=40 << 20) as convert:
        done = convert(rf"{macros}\def\j{{xxxxxxxxxxxxxxxxx}}\begin{{document}}short \a\end{{document}}")
    assert done.failures == ("pandoc: memory",)
    assert done.converter == "pylatexenc"


def test_the_known_endless_macro_is_converted_by_pandoc(convert: Converter) -> None:
    body = r"\def\smalltext{\@setfontsize\smalltext\@ixpt{10}}\begin{document}\smalltext A short proof.\end{document}"
    done = convert(r"\documentclass{article}" + body)
    assert (done.text, done.converter, done.endless) == ("A short proof.\n", "pandoc", 1)


def test_broken_tex_falls_back(convert: Converter) -> None:
    done = convert(r"\title{A \emph{good} title}\begin{document}\section{On $x$}Text \begin{foo} } here.\end{document}")
    assert done.failures == ("pandoc: cannot be parsed",)
    assert done.converter == "pylatexenc"
    assert done.text.startswith("# A good title\n\n# On $x$\n\nText")


@pytest.mark.parametrize("text", ["{" * 20_000, "\\begin{a}" * 5000, "$" * 9999, "\\def", "\ud800\\x", "% only"])
def test_nothing_is_left_of_nonsense_or_it_is_text(text: str) -> None:
    with Converter(seconds=1) as convert:
        done = convert(text)
    assert done.converter or done.failures
    done.text.encode()


def test_the_fallback_does_not_depend_on_the_day() -> None:
    text = plain_text(
        rb"\title{T}\begin{document}\maketitle\today\date{\today} body \cite{a} $x^2$\end{document}"
    ).decode()
    assert str(time.localtime().tm_year) not in text
    assert "$x^2$" in text


def test_a_command_without_its_arguments_costs_only_itself() -> None:
    assert plain_text(rb"before \href after").decode().startswith("before")


@pytest.mark.parametrize("name", ["hang", "leak", "leak2", "parent", "std"])
def test_the_cases_that_hang_or_leak(name: str, convert: Converter) -> None:
    folder = Path(os.environ.get("KOLMO_CASES", "")) / "collect"
    if not folder.is_dir():
        pytest.skip("KOLMO_CASES names no folder with the cases")
    files = {path.name: path.read_text() for path in folder.glob("*.tex")}
    done = convert(flatten(f"{name}.tex", files.keys(), lambda path: files[path]).text)
    assert done.converter == "pandoc"
    assert Path("/etc/hostname").read_text().strip() not in done.text


def _children() -> list[str]:
    """Names of the processes that this one has started and that have not ended; others may run pandoc, too."""
    command = ["ps", "-o", "comm=", "--ppid", str(os.getpid())]
    found = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    return [line for line in found.splitlines() if "pandoc" in line]
