r"""A paper as one text: \input, \include and \subfile replaced by the files of the paper's folder that they name.

Names are looked up among the paper's own files and nowhere else, so no path can leave the folder. What cannot be
included is taken out and counted. Comments and verbatim text stay as they are. What it is not: TeX; names that a macro
makes, and conditions around a command, are not understood.
"""

from __future__ import annotations

import posixpath
import re
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from kolmo.collection.arxiv.tex.tex_tokens import Token, tokens
from kolmo.collection.arxiv.unpacking import STYLES, UnusableError

MAX_DEPTH = 20  # of files that include each other
MAX_INCLUDED = 2000  # files, each as often as it is included
MAX_CHARACTERS = 10_000_000  # of the whole text
INCLUDING = frozenset({"input", "include", "subfile", "subfileinclude", "@input", "@@input"})
COMMANDS = INCLUDING | {"endinput"}
CLASSES = frozenset({"documentclass", "documentstyle"})
DEFINING = re.compile(r"\\(?:(?:re)?newcommand|providecommand|let|[egx]?def)\s{0,9}\*?\s{0,9}\{?\s{0,9}\Z")
BRACED = re.compile(r"\s{0,99}\{([^{}\n]{0,500})\}")
BARE = re.compile(r"[ \t]{1,99}(\"[^\"\n{}]{1,500}\"|[^\s\\{}%#]{1,500})")  # the primitive \input of plain TeX
EXTENSIONS = (".tex", "")  # in the order in which TeX tries them


@dataclass
class Flattened:
    """The text of a paper.

    Attributes:
        text: of all its files.
        included: paths of the files that are in it, in order, the main file first.
        tallies: commands that were taken out, by reason.
    """

    text: str = ""
    included: list[str] = field(default_factory=list)
    tallies: Counter[str] = field(default_factory=Counter)


def flatten(main: str, paths: Collection[str], text_of: Callable[[str], str]) -> Flattened:
    r"""The whole text of a paper.

    Args:
        main: path of its main file.
        paths: of all its text files.
        text_of: gives the text of one.

    Raises:
        UnusableError: the text is too large, or consists of too many files.

    Example:
        >>> flatten("a.tex", {"a.tex", "b.tex"}, {"a.tex": r"A \input{b} C", "b.tex": "B"}.get).text
        'A B C'
    """
    found = Flattened()
    flattening = _Flattening(posixpath.dirname(main), paths, text_of, found)
    flattening.include(main, ())
    found.text = "".join(flattening.pieces)
    return found


class _Flattening:
    def __init__(self, folder: str, paths: Collection[str], text_of: Callable[[str], str], found: Flattened) -> None:
        self._folder, self._paths, self._text_of, self._found = folder, paths, text_of, found
        self.pieces: list[str] = []
        self._size = 0

    def include(self, path: str, above: tuple[str, ...]) -> None:
        """Append the text of a file, and of the files that it names."""
        if len(self._found.included) >= MAX_INCLUDED:
            raise UnusableError("too many inputs")
        self._found.included.append(path)
        text = self._text_of(path)
        at, stop = _body(text) if above else (0, len(text))
        for token in tokens(text, COMMANDS, at):
            if token.start >= stop:
                break
            if token.name == "endinput" or (token.kind == "end" and not above):  # TeX reads no further
                stop = token.start if token.name == "endinput" else token.end
                break
            if token.kind == "comment" and above and token.end >= stop:  # it would swallow what follows the command
                stop = token.start
                break
            if token.kind != "command":
                continue
            name, end = _argument(text, token)
            if name is None or end > stop or DEFINING.search(text, max(token.start - 60, 0), token.start):
                continue
            self._append(text[at : token.start])
            at = end
            if token.name.startswith("include"):  # it begins a page
                self._append("\n\n")
            self._include_named(name, path, (*above, path))
            if token.name.startswith("include"):
                self._append("\n\n")
        self._append(text[at:stop])

    def _include_named(self, name: str, path: str, above: tuple[str, ...]) -> None:
        name = name.strip().strip('"').strip()
        target, why = self._resolve(name, posixpath.dirname(path))
        if target is None:
            self._found.tallies[why] += 1
        elif target in above:
            self._found.tallies["input of a file within itself taken out"] += 1
        elif len(above) >= MAX_DEPTH:
            self._found.tallies["input too deep taken out"] += 1
        else:
            self.include(target, above)

    def _resolve(self, name: str, folder: str) -> tuple[str | None, str]:
        """The path that a name means, in the folder of the main file, of this file, or of the paper; else why not."""
        if not name or "\\" in name or "#" in name:
            return None, "input of a computed name taken out"
        if name.startswith(("/", "~", "|")):
            return None, "input outside the paper's folder taken out"
        outside = True
        for base in dict.fromkeys((self._folder, folder, "")):
            for extension in EXTENSIONS:
                path = posixpath.normpath(posixpath.join(base, name + extension))
                if path == ".." or path.startswith("../"):
                    continue
                outside = False
                if path in self._paths:
                    return path, ""
        if outside:
            return None, "input outside the paper's folder taken out"
        if name.lower().endswith(STYLES):
            return None, "input of a style file taken out"
        return None, "input of a missing file taken out"

    def _append(self, text: str) -> None:
        self._size += len(text)
        if self._size > MAX_CHARACTERS:
            raise UnusableError("text too large")
        self.pieces.append(text)


def _argument(text: str, token: Token) -> tuple[str | None, int]:
    if match := BRACED.match(text, token.end):
        return match[1], match.end()
    if token.name == "input" and (match := BARE.match(text, token.end)):
        return match[1], match.end()
    return None, token.end


def _body(text: str) -> tuple[int, int]:
    r"""Where the part of an included file begins and ends that is to be included.

    Of a whole document (with \documentclass) that is its body. The line end at the end of a file is a space to TeX,
    and would, with the one behind the command, end a paragraph; two of them do end it.
    """
    start, stop = 0, len(text)
    whole = False
    for token in tokens(text, CLASSES):
        if token.kind == "command" and not start:
            whole = True
        elif token.kind == "begin" and whole and not start:
            start = token.end
        elif token.kind == "end" and start:
            stop = token.start
            break
    stripped = text.rstrip("\n") if stop == len(text) else text
    return start, stop if len(text) - len(stripped) > 1 else min(stop, len(stripped))
