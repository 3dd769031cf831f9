"""What matters in TeX to one who moves text about: comments, verbatim text, and a few commands.

Everything else is passed over. The time is linear in the text, whatever it holds. What it is not: a parser of TeX;
category codes that a file changes, and verbatim environments that it defines, are not known here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

VERBATIM = r"verbatim\*?|[BLV]?Verbatim\*?|lstlisting|minted|comment|filecontents\*?"  # environments
MAX_VERB_CHARACTERS = 2000  # of the text of a \verb, which ends on its line
OPTION = re.compile(r"\[[^\]\n]{0,300}\]")


@dataclass(frozen=True)
class Token:
    """A piece of TeX that matters.

    Attributes:
        kind: "comment", "verbatim", "begin" and "end" (of the document), or "command".
        name: of a command, without backslash; of an environment; else "".
        start: where it begins.
        end: where it ends; of a command, behind its name.
    """

    kind: str
    name: str
    start: int
    end: int


@cache
def _pattern(commands: frozenset[str]) -> re.Pattern[str]:
    r"""Finds what matters, and \\ and \%, behind which a command or a comment would be another thing.

    Other commands are passed over by the search itself, since matching each of them would take most of the time.
    """
    names = "|".join(sorted(map(re.escape, commands), key=len, reverse=True))
    command = rf"|\\(?P<command>{names})(?![A-Za-z@])" if names else ""
    return re.compile(
        r"(?P<comment>%[^\n]*)"
        rf"|\\begin[ \t]{{0,9}}\{{(?P<environment>{VERBATIM})\}}"
        r"|\\(?P<verb>verb\*?|lstinline)(?![A-Za-z@])"
        r"|\\begin[ \t]{0,9}\{(?P<begin>document)\}"
        r"|\\end[ \t]{0,9}\{(?P<end>document)\}"
        rf"{command}"
        r"|\\[\\%]"
    )


def tokens(text: str, commands: frozenset[str], at: int = 0) -> Iterator[Token]:
    r"""The tokens of a text, in order.

    Args:
        text: TeX, lines ended by "\n".
        commands: names of the commands that matter.
        at: where to begin.

    Example:
        >>> [token.kind for token in tokens(r"\input{a} % \input{b}", frozenset({"input"}))]
        ['command', 'comment']
    """
    pattern = _pattern(commands)
    while match := pattern.search(text, at):
        at = match.end()
        kind = match.lastgroup
        if kind == "command":
            yield Token("command", match["command"], match.start(), at)
        elif kind == "comment":
            yield Token("comment", "", match.start(), at)
        elif kind == "environment":
            closing = text.find(f"\\end{{{match['environment']}}}", at)
            at = len(text) if closing < 0 else closing
            yield Token("verbatim", match["environment"], match.start(), at)
        elif kind == "verb":
            if (end := _verb_end(text, at)) is not None:
                yield Token("verbatim", "verb", match.start(), end)
                at = end
        elif kind is not None:
            yield Token(kind, "", match.start(), at)


def without_comments(text: str) -> str:
    """The text without comments and verbatim text: what TeX would look at for commands."""
    pieces, at = [], 0
    for token in tokens(text, frozenset()):
        if token.kind in ("comment", "verbatim"):
            pieces.append(text[at : token.start])
            at = token.end
    return "".join((*pieces, text[at:]))


def _verb_end(text: str, at: int) -> int | None:
    if option := OPTION.match(text, at):  # of \lstinline
        at = option.end()
    if at >= len(text) or text[at].isspace() or text[at].isalpha():
        return None
    closing = text.find("}" if text[at] == "{" else text[at], at + 1, at + MAX_VERB_CHARACTERS)
    return None if closing < 0 or "\n" in text[at:closing] else closing + 1
