r"""Definitions of macros that expand to themselves are taken out, since pandoc 3.9 expands them for ever (#11088).

Such as \def\small{\@setfontsize\small{10}}, which LaTeX stops by means that pandoc lacks. Without its definition
pandoc passes over the macro, and the paper is converted. What it is not: a proof that the rest ends; pandoc runs
within limits.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from kolmo.collection.arxiv.tex.tex_tokens import tokens

# What follows the name of a command that defines: a macro, its parameters, and before the body a brace.
NAMED = re.compile(
    r"\*?\s{0,9}(?:\{\s{0,9}(?P<braced>\\[A-Za-z@]{1,100})\s{0,9}\}|(?P<bare>\\[A-Za-z@]{1,100}))[^{}\\]{0,200}(?=\{)"
)
DEFINING = frozenset(
    {"def", "edef", "gdef", "xdef", "newcommand", "renewcommand", "providecommand", "DeclareRobustCommand"}
)
PIECE = re.compile(r"\\(?:[A-Za-z@]+|.)|[{}]|%[^\n]*", re.S)
MAX_BODY_CHARACTERS = 20_000
MAX_PIECES = 2_000_000  # that are looked at in a text, for bodies may lie in each other; what comes later stays


@dataclass(frozen=True)
class _Definition:
    start: int
    end: int
    name: str
    used: frozenset[str]


def without_recursion(text: str) -> tuple[str, int]:
    r"""The text without definitions of macros that reach themselves, and how many there were.

    Example:
        >>> without_recursion(r"\def\a{x\a}\def\b{y}")
        ('\\def\\b{y}', 1)
    """
    definitions = _definitions(text)
    graph: dict[str, set[str]] = {}
    for one in definitions:
        graph.setdefault(one.name, set()).update(one.used)
    circle = _circles({name: sorted(used & graph.keys()) for name, used in graph.items()})
    pieces, at, count = [], 0, 0
    for one in definitions:
        mine = circle.get(one.name)
        if mine is not None and one.start >= at and any(circle.get(name) == mine for name in one.used):
            pieces.append(text[at : one.start])
            at = one.end
            count += 1
    return "".join((*pieces, text[at:])), count


def _definitions(text: str) -> list[_Definition]:
    found = []
    pieces = 0
    for token in tokens(text, DEFINING):
        if token.kind != "command" or (match := NAMED.match(text, token.end)) is None:
            continue
        depth = 0
        used: set[str] = set()
        for part in PIECE.finditer(text, match.end(), match.end() + MAX_BODY_CHARACTERS):
            pieces += 1
            piece = part[0]
            if piece == "{":
                depth += 1
            elif piece == "}":
                depth -= 1
                if depth == 0:
                    name = match["braced"] or match["bare"]
                    found.append(_Definition(token.start, part.end(), name, frozenset(used)))
                    break
            elif piece[0] == "\\":
                used.add(piece)
        if pieces > MAX_PIECES:
            break
    return found


def _circles(graph: dict[str, list[str]]) -> dict[str, int]:
    """The number of the circle (strongly connected component) on which a name lies; names on none are left out.

    Tarjan's algorithm, with a stack of its own, since the graph is as deep as the input wants.
    """
    order: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    on_stack: set[str] = set()
    found: dict[str, int] = {}
    circles = 0
    for root in graph:
        if root in order:
            continue
        order[root] = low[root] = len(order)
        stack.append(root)
        on_stack.add(root)
        path = [(root, iter(graph[root]))]
        while path:
            name, rest = path[-1]
            for other in rest:
                if other not in order:
                    order[other] = low[other] = len(order)
                    stack.append(other)
                    on_stack.add(other)
                    path.append((other, iter(graph[other])))
                    break
                if other in on_stack:
                    low[name] = min(low[name], order[other])
            else:
                path.pop()
                if path:
                    low[path[-1][0]] = min(low[path[-1][0]], low[name])
                if low[name] == order[name]:
                    members: list[str] = []
                    while not members or members[-1] != name:
                        members.append(stack.pop())
                    on_stack.difference_update(members)
                    if len(members) > 1 or name in graph[name]:
                        found.update(dict.fromkeys(members, circles))
                        circles += 1
    return found
