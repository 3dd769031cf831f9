"""TeX to Markdown: pandoc in a sandbox and within limits, else pylatexenc; lines of ::: are taken out.

pandoc is called as a program, with its input on a pipe, no file to read, no variable of this environment and no home
folder, so that the same text gives the same Markdown on every machine. What it is not: exact; formulas are kept as
TeX.
"""

from __future__ import annotations

import os
import re
import signal
from dataclasses import dataclass, field
from typing import Any

from kolmo.collection.arxiv.tex.recursion import without_recursion
from kolmo.collection.extras import extra
from kolmo.collection.workers import LimitedWorker, LimitError, run_limited
from kolmo.errors import MissingExtraError
from kolmo.installing import install

OPTIONS = ("--from=latex", "--to=markdown", "--standalone", "--wrap=none", "--sandbox", "--quiet")
PANDOC_SECONDS = 60  # of processor time a paper: the same on a busy machine
WALL_FACTOR = 10  # so many times as long it may take by the clock
HEAP_BYTES = 1 << 30  # of pandoc, after which its runtime ends it
ADDRESS_BYTES = 4 << 30  # its runtime moves what it holds, so it needs more than twice the heap for a moment
MAX_MARKDOWN_BYTES = 1 << 26
FALLBACK_SECONDS = 60.0
FALLBACK_BYTES = 3 << 30
HEAP_EXHAUSTED = 251  # exit status of GHC's runtime
DIV = re.compile(r"^[ \t>]*:::.*\n?", re.M)
LIMITED = 'ulimit -S -t "$1" && shift && exec "$@"'  # SIGXCPU at the soft limit tells it from a kill for want of memory


@dataclass(frozen=True)
class Converted:
    """A paper as Markdown.

    Attributes:
        text: without lines of :::; "" where nothing was made of it.
        converter: "pandoc", "pylatexenc", or "" for none.
        failures: why a converter was not the one, such as "pandoc: timeout".
        endless: definitions of macros that were taken out (see `recursion`).
    """

    text: str
    converter: str
    failures: tuple[str, ...] = ()
    endless: int = 0


@dataclass
class Converter:
    r"""Converts papers one after another.

    Attributes:
        seconds: of processor time for pandoc.
        heap: bytes of its heap.

    Example:
        >>> with Converter() as convert:  # doctest: +SKIP
        ...     convert(r"\section{A} text").text
    """

    seconds: int = PANDOC_SECONDS
    heap: int = HEAP_BYTES
    _fallback: LimitedWorker | None = field(default=None, repr=False)
    _pandoc: str = field(default="", repr=False)

    def __enter__(self) -> Converter:
        return self

    def __exit__(self, *error: object) -> None:
        if self._fallback is not None:
            self._fallback.close()

    def __call__(self, text: str) -> Converted:
        """The Markdown of a paper.

        Raises:
            MissingExtraError: pandoc or pylatexenc is not installed.
        """
        text, endless = without_recursion(text)
        failures = []
        for name, convert in (("pandoc", self._by_pandoc), ("pylatexenc", self._by_pylatexenc)):
            try:
                found = without_divs(convert(text))
            except LimitError as error:
                failures.append(f"{name}: {error.why}")
                continue
            if found.strip():
                return Converted(found, name, tuple(failures), endless)
            failures.append(f"{name}: empty")
        return Converted("", "", tuple(failures), endless)

    def _by_pandoc(self, text: str) -> str:
        self._pandoc = self._pandoc or pandoc_path()
        runtime = ("+RTS", f"-M{self.heap}", "-RTS")
        done = run_limited(
            ["/bin/sh", "-c", LIMITED, "sh", str(self.seconds), self._pandoc, *runtime, *OPTIONS],
            seconds=float(self.seconds * WALL_FACTOR),
            memory=ADDRESS_BYTES,
            data=text.encode("utf-8", "replace"),
            environment={
                "PATH": os.defpath,
                "LANG": "C.UTF-8",
                "HOME": "/nonexistent",
                "XDG_DATA_HOME": "/nonexistent",
            },
            largest=MAX_MARKDOWN_BYTES,
        )
        if done.status in (-signal.SIGXCPU, 128 + signal.SIGXCPU):
            raise LimitError("timeout")
        if done.status == HEAP_EXHAUSTED:
            raise LimitError("memory")
        if done.status:
            raise LimitError("cannot be parsed" if done.status > 0 else "crash")
        return done.stdout.decode("utf-8", "replace")

    def _by_pylatexenc(self, text: str) -> str:
        if self._fallback is None:
            extra("pylatexenc.latex2text")
            self._fallback = LimitedWorker(
                "kolmo.collection.arxiv.tex.plain_text:convert", seconds=FALLBACK_SECONDS, memory=FALLBACK_BYTES
            )
        return self._fallback(text.encode("utf-8", "replace")).decode("utf-8", "replace")


def without_divs(markdown: str) -> str:
    r"""The Markdown without the lines that begin and end divs.

    >>> without_divs("::: theorem\nEvery.\n:::\n")
    'Every.\n'
    """
    return DIV.sub("", markdown)


def pandoc_path() -> str:
    """The program, as pypandoc_binary brings it, so that its version is known; not one that is on the machine.

    Raises:
        MissingExtraError: it is not installed.
    """
    pypandoc: Any = extra("pypandoc", "TeX to Markdown")
    path = os.path.join(os.path.dirname(pypandoc.__file__), "files", "pandoc")
    if not os.path.exists(path):
        raise MissingExtraError(f"TeX to Markdown: needs pandoc, which pypandoc_binary brings; {install('collect')}")
    return path
