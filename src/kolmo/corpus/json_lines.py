"""JSON to documents: an object or a string a line (JSONL), or a list of these.

What it is not: a loader of whole files; a line is held at a time, and of a list the text and one object. The same text
as a value of `content` comes out whatever the shape.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from io import BufferedIOBase
from itertools import count
from typing import Any

from kolmo.corpus.documents import DEFAULT_COLUMNS, Columns, Document, document_of, document_of_text
from kolmo.corpus.files import MAX_DOCUMENT_BYTES, READ_BYTES, Decoder, opened, read_text
from kolmo.errors import KolmoError

BLANKS = " \t\n\r"  # between the tokens of JSON; other spaces are none
SPACES = re.compile(f"[{BLANKS}]*")
MARK = "\ufeff"  # a byte order mark; before JSON it belongs to no document
MEND = "mend or remove it"


def read_json_lines(path: str, name: str, columns: Columns = DEFAULT_COLUMNS) -> Iterator[Document]:
    """The documents of a JSONL file, named "NAME:LINE" with lines from 1; empty lines are passed over.

    Raises:
        KolmoError: a line is neither a string nor an object with content; the message names file and line.
    """
    with opened(path) as file:
        decoder = Decoder()
        for number in count(1):
            where = f"{path}:{number}"
            line = _read_line(file, decoder, where)
            if line is None:
                return
            if line:
                yield _document(_parse(line, where), f"{name}:{number}", where, columns)
                columns = replace(columns, optional=True)


def read_json(path: str, name: str, columns: Columns = DEFAULT_COLUMNS) -> Iterator[Document]:
    """The documents of a .json file: a list of objects or strings, named "NAME item N" from 1, or else JSONL.

    Raises:
        KolmoError: an item or a line is neither a string nor an object with content.
    """
    with opened(path) as file:
        head = file.read(READ_BYTES).removeprefix(MARK.encode()).lstrip(BLANKS.encode())
    if head.startswith(b"["):
        yield from _read_list(path, name, columns)
    else:
        yield from read_json_lines(path, name, columns)


def _read_line(file: BufferedIOBase, decoder: Decoder, where: str) -> str | None:
    """The next line without blanks before it; None at the end. What cannot be an object is refused at its beginning."""
    parts = list[str]()
    start = decoder.at
    while piece := file.readline(READ_BYTES):
        text = decoder.decode(piece, where)
        if not parts:
            text = (text.removeprefix(MARK) if start == 0 else text).lstrip(BLANKS)
            if text and text[0] not in '{"':
                raise KolmoError(
                    f"{where}: is not a JSON object; a line is to be one with the text in a column, or a string"
                )
        if text:
            parts.append(text)
        if decoder.at - start > MAX_DOCUMENT_BYTES:
            raise KolmoError(
                f"{where}: is longer than {MAX_DOCUMENT_BYTES >> 20} MiB, too much for one document; split it"
            )
        if piece.endswith(b"\n"):
            break
    else:
        decoder.decode(b"", where, final=True)
        if decoder.at == start:
            return None
    return "".join(parts)


def _document(value: Any, name: str, where: str, columns: Columns) -> Document:
    if isinstance(value, str):
        return document_of_text(value, name, where, columns)
    if isinstance(value, dict):
        return document_of(value, name, where, columns)
    raise KolmoError(f"{where}: is not a JSON object; an item is to be one with the text in a column, or a string")


def _parse(line: str, where: str) -> Any:
    try:
        return json.loads(line)  # it begins with a brace or a quotation mark
    except json.JSONDecodeError as error:
        raise KolmoError(f"{where}: is not a JSON object ({error.msg}, character {error.pos}); {MEND}") from None
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, thousands of brackets
        raise KolmoError(f"{where}: is not JSON that can be read here ({error}); {MEND}") from None


def _read_list(path: str, name: str, columns: Columns) -> Iterator[Document]:
    text, scan = read_text(path), json.JSONDecoder().raw_decode
    at = _skip(text, text.index("[") + 1)
    if text.startswith("]", at):
        return
    for number in count(1):
        where = f"{path}, item {number}"
        try:
            record, at = scan(text, at)
        except json.JSONDecodeError as error:
            raise KolmoError(f"{where}: is not JSON ({error.msg}, character {error.pos}); {MEND}") from None
        except (ValueError, RecursionError) as error:
            raise KolmoError(f"{where}: is not JSON that can be read here ({error}); {MEND}") from None
        yield _document(record, f"{name} item {number}", where, columns)
        columns = replace(columns, optional=True)
        at = _skip(text, at)
        if text.startswith("]", at):
            return
        if not text.startswith(",", at):
            raise KolmoError(f"{where}: no comma follows it; {MEND}")
        at = _skip(text, at + 1)


def _skip(text: str, at: int) -> int:
    match = SPACES.match(text, at)
    return match.end() if match else at
