"""Files of a corpus, read one after the other: texts, or shards of data.

What it is not: it does not choose among the files of a folder (see `layouts`).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from kolmo.corpus.documents import DEFAULT_COLUMNS, Columns, Document
from kolmo.corpus.files import NotTextError, read_text
from kolmo.corpus.json_lines import read_json, read_json_lines
from kolmo.corpus.parquet import read_parquet
from kolmo.errors import KolmoError

DATA = re.compile(r".*\.(jsonl|ndjson|parquet|(jsonl|ndjson|json)\.gz)", re.DOTALL | re.IGNORECASE)


def is_data(path: str) -> bool:
    """Whether a file's name says that it holds documents. A .json file may hold anything, unless it is packed."""
    return DATA.fullmatch(path) is not None


def listing(folder: str) -> list[str]:
    """The files under a folder, as relative paths with "/", sorted; hidden files and folders are left out.

    Links to files are followed (the hub's cache consists of them), links to folders are not. Pipes, sockets and devices
    are not files.

    Raises:
        KolmoError: a folder cannot be read.
    """
    found = []
    for parent, folders, names in os.walk(folder, onerror=_refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        inner = os.path.relpath(parent, folder)
        for name in names:
            if not name.startswith(".") and os.path.isfile(os.path.join(parent, name)):
                found.append(name if inner == os.curdir else f"{inner.replace(os.sep, '/')}/{name}")
    return sorted(found)


def read_file(path: str, name: str, columns: Columns = DEFAULT_COLUMNS) -> Iterator[Document]:
    """The documents of a file, by the kind that its name ends in; any other file is one text.

    Args:
        path: the file's.
        name: its name in the corpus.
        columns: of data, to take other than the default ones.

    Raises:
        KolmoError: it cannot be read, is not what its name says, or is one text and a column is asked for.
    """
    name = os.fsencode(name).decode("utf-8", "backslashreplace")
    ending = path.lower().removesuffix(".gz").rpartition(".")[2]
    if ending in ("jsonl", "ndjson"):
        yield from read_json_lines(path, name, columns)
    elif ending == "json":
        yield from read_json(path, name, columns)
    elif ending == "parquet":
        yield from read_parquet(path, name, columns)
    elif columns.named:
        raise KolmoError(
            f"{path}: is read as one text, which has no columns; ask for none, or convert it to JSONL or Parquet"
        )
    else:
        yield Document(read_text(path), name=name)


@dataclass(frozen=True)
class Shards:
    """Files, by the kinds that their names end in, in this order.

    Attributes:
        folder: what the files are relative to.
        files: relative paths with "/".
        notes: of texts that lie beside them, to be left out.
        columns: of the data, to take other than the default ones.
        skipped: takes a line for each of these.
    """

    folder: str
    files: tuple[str, ...]
    notes: tuple[str, ...] = ()
    columns: Columns = DEFAULT_COLUMNS
    skipped: list[str] = field(default_factory=list)

    def __iter__(self) -> Iterator[Document]:
        self.skipped[:] = [
            f"{os.path.join(self.folder, note)}: lies beside data; name it to read it" for note in self.notes
        ]
        for name in self.files:
            yield from read_file(os.path.join(self.folder, name), name, self.columns)


@dataclass(frozen=True)
class Texts:
    """Files, each of which is one document. Those that are not text are skipped; data files are read as text.

    Attributes:
        folder: what the files are relative to.
        files: relative paths with "/".
        skipped: takes a line for each file that is passed over.
    """

    folder: str
    files: tuple[str, ...]
    skipped: list[str] = field(default_factory=list)

    def __iter__(self) -> Iterator[Document]:
        self.skipped.clear()
        for file in self.files:
            path = os.path.join(self.folder, file)
            if is_data(file):
                self.skipped.append(f"{path}: holds data, among texts; name it to read its documents")
                continue
            try:
                content = read_text(path)
            except NotTextError as error:
                self.skipped.append(str(error))
                continue
            yield Document(content, name=os.fsencode(file).decode("utf-8", "backslashreplace"))
        if len(self.skipped) == len(self.files):
            raise KolmoError(f"{self.skipped[0]} (and no other file of {self.folder} is a text)")


def _refuse(error: OSError) -> None:
    raise KolmoError(f"{error.filename}: {error.strerror}; check the permissions")
