r"""TeX to text by pylatexenc, where pandoc fails. It runs in a process that can be killed (see `workers`).

pylatexenc expands no macro and reads no file. The title and the body of the document are taken, the preamble is not;
formulas stay as TeX.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from typing import Any

BODY = re.compile(r"\\begin\s{0,9}\{document\}")
END = re.compile(r"\\end\s{0,9}\{document\}")
TITLE = re.compile(r"\\title\s{0,9}(?:\[[^\]]{0,1000}\])?\s{0,9}(?=\{)")
MAX_TITLE_CHARACTERS = 2000
NEWLINES = re.compile(r"[ \t]*\n[ \t]*\n\s*")
HEADINGS = {"part": "#", "chapter": "#", "section": "#", "subsection": "##", "subsubsection": "###"}
NESTING = 10_000  # of Python calls; the process has memory for them


def convert(data: bytes) -> bytes:
    """The text of TeX, both in UTF-8."""
    sys.setrecursionlimit(max(sys.getrecursionlimit(), NESTING))
    tex = data.decode("utf-8", "replace")
    converter = _converter()
    title = _title(tex)
    if body := BODY.search(tex):
        end = END.search(tex, body.end())
        tex = tex[body.end() : end.start() if end else len(tex)]
    text = _converted(converter, tex).strip()
    heading = " ".join(_converted(converter, title).split())
    if heading:
        text = f"# {heading}\n\n{text}"
    return (NEWLINES.sub("\n\n", text) + "\n").encode("utf-8", "replace") if text else b""


def _converter() -> Any:
    """As pylatexenc has it, but for headings, which it puts in capitals with their formulas, and for the day's date."""
    from pylatexenc.latex2text import LatexNodes2Text, MacroTextSpec, get_default_latex_context_db

    def heading(marks: str) -> Any:
        def convert_heading(node: Any, l2tobj: Any) -> str:
            argument = node.nodeargd.argnlist[-1] if node.nodeargd and node.nodeargd.argnlist else None
            text = l2tobj.nodelist_to_text([argument]) if argument is not None else ""
            return f"\n\n{marks} {' '.join(text.split())}\n\n"

        return convert_heading

    macros = [MacroTextSpec(name, "") for name in ("maketitle", "today", "date", "title", "author", "thanks")]
    for node_name, marks in HEADINGS.items():
        macros.append(MacroTextSpec(node_name, heading(marks)))
    context = get_default_latex_context_db()
    context.add_context_category("kolmo", prepend=True, macros=macros)
    converter: Any = LatexNodes2Text(
        latex_context=context, math_mode="verbatim", keep_comments=False, strict_latex_spaces=False
    )
    for method in ("macro_node_to_text", "environment_node_to_text", "specials_node_to_text"):
        setattr(converter, method, _forgiving(getattr(converter, method)))
    return converter


def _forgiving(convert: Callable[[Any], str]) -> Callable[[Any], str]:
    """The same, but a command or environment whose arguments pylatexenc does not find gives nothing, not an error."""

    def convert_or_nothing(node: Any) -> str:
        try:
            return convert(node)
        except (IndexError, AttributeError, TypeError, ValueError):
            return ""

    return convert_or_nothing


def _converted(converter: Any, tex: str) -> str:
    return str(converter.latex_to_text(tex, tolerant_parsing=True))


def _title(tex: str) -> str:
    match = TITLE.search(tex)
    if match is None:
        return ""
    depth = 0
    for at in range(match.end(), min(len(tex), match.end() + MAX_TITLE_CHARACTERS)):
        if tex[at - 1] != "\\":
            depth += {"{": 1, "}": -1}.get(tex[at], 0)
            if depth == 0:
                return tex[match.end() + 1 : at]
    return ""
