r"""Which file of a paper is the paper: the rule by names, else the only TeX file, else the one with a \title.

The first of `NAMES` that is part of a TeX file's name decides. Where a rule leaves several files, the one that is
complete (has a document class), lies highest in the folder and has the shortest name is taken: one document a paper.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Sequence

from kolmo.collection.arxiv.tex.tex_tokens import without_comments

NAMES = ("main", "Main", "MAIN", "paper", "Paper")
TEX_ENDINGS = (".tex", ".ltx", ".latex")
TITLE = re.compile(r"\\title(?![A-Za-z@])")
COMPLETE = re.compile(r"\\document(?:class|style)(?![A-Za-z@])|\\begin\s{0,9}\{document\}")


def main_file(paths: Sequence[str], text_of: Callable[[str], str]) -> str | None:
    """The path of the main file; None where no rule finds one.

    Args:
        paths: of all text files of the paper.
        text_of: gives the text of one.

    Example:
        >>> main_file(["intro.tex", "a_main.tex"], {"intro.tex": "", "a_main.tex": ""}.get)
        'a_main.tex'
    """
    found = [path for path in paths if path.lower().endswith(TEX_ENDINGS)]
    for name in NAMES:
        named = [path for path in found if name in posixpath.basename(path)]
        if named:
            return _best(named, text_of)
    if len(found) <= 1:
        return found[0] if found else None
    titled = [path for path in found if TITLE.search(without_comments(text_of(path)))]
    return _best(titled, text_of) if titled else None


def _best(paths: Sequence[str], text_of: Callable[[str], str]) -> str:
    if len(paths) == 1:
        return paths[0]

    def rank(path: str) -> tuple[bool, int, int, str]:
        incomplete = COMPLETE.search(without_comments(text_of(path))) is None
        return incomplete, path.count("/"), len(path), path

    return min(paths, key=rank)
