"""Text from outside, made safe to show: in a message, on a terminal, in HTML, in Markdown, in a spreadsheet.

Names in files, answers of servers, file names and the messages of other libraries are foreign: they may hold commands
for the terminal, line breaks, signs that turn the direction of writing, half of a surrogate pair, or megabytes. `line`
is applied to the message of every `KolmoError` and to every line that the command line prints, so that nothing of the
kind gets through. `short` and `quoted` are for single names within a message, so that its remedy is not what is cut.

What it is not: a filter for data. JSON, tables in Parquet and file names on the disk keep every character.
"""

from __future__ import annotations

import re
import reprlib
from collections.abc import Callable, Iterable, Sequence
from html import escape

MAX_NAME = 80  # characters of one name in a message
MAX_LINE = 1000  # characters of a message
ELLIPSIS = "..."
FORMULA = re.compile(r"'*(\s*[=+\-@\uff1d\uff0b\uff0d\uff20]|[\t\r\n])")  # what makes spreadsheets compute
NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")
BARE_CELL = re.compile(r"[^\s;,|\"'\x00-\x1f](?:[^;,|\"'\x00-\x1f]*[^\s;,|\"'\x00-\x1f])?")
MARKDOWN = frozenset("\\`*_[]<>|#~")


def printable(text: str) -> str:
    r"""The text with everything that is not printable as an escape.

    That is control characters, line breaks, signs of direction, surrogates and what Unicode has not assigned. Spaces
    are kept.

    >>> printable("a\x1b[31m")
    'a\\x1b[31m'
    """
    return text if text.isprintable() else "".join(map(_escaped, text))


def short(text: str, limit: int = MAX_NAME) -> str:
    """The text printable and in at most `limit` characters, its middle cut out where it is longer.

    >>> short("abcdefghijklmnop", 9)
    'abc...nop'
    """
    return _cut(text, limit, _escaped)


def line(text: str) -> str:
    """One line of a message: printable, at most `MAX_LINE` characters."""
    return _cut(text, MAX_LINE, _escaped)


def quoted(value: object, limit: int = MAX_NAME) -> str:
    """A value from outside, as Python writes it, in at most `limit` characters between the quotes.

    Strings are in quotes. Of lists and objects, which may be nested without end, the beginning is given.

    >>> quoted("a" * 20, 9)
    "'aaa...aaa'"
    """
    if isinstance(value, str):
        mark = '"' if "'" in value and '"' not in value else "'"
        return mark + _cut(value, limit, lambda c: "\\" + c if c in ("\\", mark) else _escaped(c)) + mark
    try:
        return short(reprlib.repr(value), limit)
    except (ValueError, RecursionError, MemoryError):  # an integer of too many digits
        return f"a value of type {type(value).__name__}"


def reason(error: BaseException, limit: int = 200) -> str:
    """What an exception of another library says, in one short line; its kind where it says nothing.

    >>> reason(KeyError())
    'KeyError'
    """
    try:
        said = " ".join(str(error)[: 1 << 16].split())
    except Exception:  # an exception of foreign code may fail here too
        said = ""
    kind = type(error).__name__
    if not said or isinstance(error, KeyError | IndexError | AttributeError | TypeError | RecursionError):
        said = f"{kind}: {said}" if said else kind
    return short(said, limit)


def html(text: str) -> str:
    """A name or note for HTML, also within a quoted attribute: as `line`, and nothing in it acts.

    >>> html("<b>")
    '&lt;b&gt;'
    """
    return escape(line(text))


def html_table(caption: str, head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table in HTML, as notebooks show an object; every cell is escaped.

    >>> html_table("sizes", ["name"], [["<b>"]])
    '<table><caption>sizes</caption><tr><th>name</th></tr><tr><td>&lt;b&gt;</td></tr></table>'
    """
    lines = [("th", head), *(("td", row) for row in rows)]
    body = "".join(
        "<tr>" + "".join(f"<{tag}>{html(str(cell))}</{tag}>" for cell in cells) + "</tr>" for tag, cells in lines
    )
    return f"<table><caption>{html(caption)}</caption>{body}</table>"


def markdown_text(text: str) -> str:
    r"""A name or note for a cell or heading of Markdown: as `line`, nothing in it acts or ends the cell.

    >>> markdown_text("a|b")
    'a\\|b'
    """
    return "".join(f"\\{c}" if c in MARKDOWN else c for c in line(text))


def csv_table(rows: Iterable[Sequence[object]]) -> str:
    r"""Rows as CSV (RFC 4180, lines end in LF). Floats are written in full, None is an empty cell.

    A text that a spreadsheet would compute, since it begins with = + - @ or white space of the kind, gets an
    apostrophe before it, which `uncomputed` takes away again. Numbers, texts that are numbers, and a lone - are as
    they are. Texts with any usual separator of columns are in quotes, whichever of them a program splits at.

    >>> csv_table([["=1+1", -0.5, None]])
    "'=1+1,-0.5,\n"
    """
    return "".join(",".join(map(_cell, row)) + "\n" for row in rows)


def uncomputed(cell: str) -> str:
    """The text of a cell that `csv_table` has written.

    >>> uncomputed("'=1+1")
    '=1+1'
    """
    return cell[1:] if cell.startswith("'") and FORMULA.match(cell) else cell


def _cell(value: object) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        return repr(value) if isinstance(value, float) else str(value)
    if FORMULA.match(value) and value != "-" and not NUMBER.fullmatch(value):
        value = "'" + value
    text = value.encode("utf-8", "backslashreplace").decode()  # half of a surrogate pair cannot be written
    bare = text.lstrip("'")
    return text if not text or BARE_CELL.fullmatch(bare) else '"' + text.replace('"', '""') + '"'


def _escaped(character: str) -> str:
    return character if character.isprintable() else character.encode("unicode_escape").decode("ascii")


def _cut(text: str, limit: int, escaped: Callable[[str], str]) -> str:
    """The text, each character escaped, in `limit` characters; no escape is cut in two."""
    if len(text) <= limit:
        whole = "".join(map(escaped, text))
        if len(whole) <= limit:
            return whole
    room = max(limit - len(ELLIPSIS), 0)
    begin = _fill(text, (room + 1) // 2, escaped)
    end = _fill(reversed(text[-limit:]), room - sum(map(len, begin)), escaped)
    return "".join(begin) + ELLIPSIS + "".join(reversed(end))


def _fill(characters: Iterable[str], room: int, escaped: Callable[[str], str]) -> list[str]:
    """As many characters, escaped, as have room."""
    found: list[str] = []
    for character in characters:
        piece = escaped(character)
        room -= len(piece)
        if room < 0:
            break
        found.append(piece)
    return found
