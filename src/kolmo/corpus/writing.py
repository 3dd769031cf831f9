"""Documents to files that the readers of this room, and `datasets.load_dataset`, open: JSONL or Parquet.

The same documents give the same bytes: keys in one order, gzip without a time stamp, Parquet in row groups of a fixed
number of documents. Meta is an object in JSONL, and in Parquet its JSON text, since its fields may differ
between documents.
What it is not: a writer of whole folders; see `kolmo.collection` for these.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import IO, Any

from kolmo.corpus.documents import Document, plain
from kolmo.corpus.extras import extra
from kolmo.errors import KolmoError

FORMATS = ("jsonl", "jsonl.gz", "parquet")
FILE_BYTES = 10**9  # a file ends after the document that brings its text to this size
ROW_GROUP = 1000  # documents of Parquet that are held and written at once
ROW_GROUP_CHARACTERS = 1 << 24  # or fewer, where they are long
GZIP_LEVEL = 6


@dataclass(frozen=True)
class WrittenFile:
    """A file that is complete.

    Attributes:
        path: relative to the folder that was written to, with "/".
        documents: how many.
        size: bytes.
        sha256: of the file, in hexadecimal.
    """

    path: str
    documents: int
    size: int
    sha256: str


def json_line(document: Document) -> str:
    """One line of JSONL without its end, keys in the order content, subset, meta.

    >>> json_line(Document("a", "cc", meta={"url": "u"}))
    '{"content": "a", "subset": "cc", "meta": {"url": "u"}}'
    """
    record = {"content": document.content, "subset": document.subset, "meta": plain(document.meta)}
    return json.dumps(record, ensure_ascii=False)


def write_documents(
    documents: Iterable[Document], folder: str, stem: str, *, format: str = "jsonl", file_bytes: int = FILE_BYTES
) -> list[WrittenFile]:
    """Write documents to STEM-00000.FORMAT, STEM-00001.FORMAT ... in a folder, each renamed into place when whole.

    Files of this stem that an earlier call has written beyond the last one are removed.

    Args:
        documents: in order; read once, one held at a time (of Parquet, a row group).
        folder: is made if it is not there.
        stem: such as "test".
        format: one of `FORMATS`.
        file_bytes: text of a file in UTF-8, about.

    Returns:
        the files. At least one, even where there are no documents.

    Raises:
        KolmoError: there is no such format, or a content has half of a surrogate pair.
        MissingExtraError: pyarrow is not installed.

    Example:
        >>> write_documents([Document("text")], "october/cc", "test")  # doctest: +SKIP
    """
    if format not in FORMATS:
        raise KolmoError(f"{folder}: there is no format {format}; take one of {', '.join(FORMATS)}")
    os.makedirs(folder, exist_ok=True)
    rest = iter(documents)
    written: list[WrittenFile] = []
    pending = next(rest, None)
    while pending is not None or not written:
        name = f"{stem}-{len(written):05d}.{format}"
        path = os.path.join(folder, name)
        temporary = f"{path}.partial"
        count = 0
        try:
            with open(temporary, "wb") as file:
                sink = _ParquetFile(file) if format == "parquet" else _JsonFile(file, packed=format == "jsonl.gz")
                size = 0
                while pending is not None and size < file_bytes:
                    size += sink.write(pending, f"{path}, document {count}")
                    count += 1
                    pending = next(rest, None)
                sink.close()
            written.append(WrittenFile(name, count, os.path.getsize(temporary), file_digest(temporary)))
            os.replace(temporary, path)
        except BaseException:
            if os.path.exists(temporary):
                os.unlink(temporary)
            raise
    for name in _beyond(folder, stem, format, len(written)):
        os.unlink(os.path.join(folder, name))
    return written


def file_digest(path: str) -> str:
    """SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def _beyond(folder: str, stem: str, format: str, count: int) -> Iterator[str]:
    number = count
    while os.path.exists(os.path.join(folder, name := f"{stem}-{number:05d}.{format}")):
        yield name
        number += 1


class _JsonFile:
    def __init__(self, file: IO[bytes], *, packed: bool) -> None:
        self._file: Any = gzip.GzipFile("", "wb", GZIP_LEVEL, file, mtime=0) if packed else file
        self._packed = packed

    def write(self, document: Document, where: str) -> int:
        data = _encoded(json_line(document), where) + b"\n"
        self._file.write(data)
        return len(data)

    def close(self) -> None:
        if self._packed:
            self._file.close()


class _ParquetFile:
    def __init__(self, file: IO[bytes]) -> None:
        self._arrow = extra("pyarrow", "Parquet")
        parquet = extra("pyarrow.parquet", "Parquet")
        text = self._arrow.string()
        self._schema = self._arrow.schema([("content", text), ("subset", text), ("meta", text)])
        self._writer = parquet.ParquetWriter(file, self._schema, compression="zstd", write_page_checksum=True)
        self._rows: list[tuple[str, str, str]] = []
        self._held = 0

    def write(self, document: Document, where: str) -> int:
        meta = json.dumps(plain(document.meta), ensure_ascii=False)
        size = len(_encoded(document.content, where)) + len(_encoded(meta, where))
        self._rows.append((document.content, document.subset, meta))
        self._held += len(document.content)
        if len(self._rows) >= ROW_GROUP or self._held >= ROW_GROUP_CHARACTERS:
            self._flush()
        return size

    def close(self) -> None:
        self._flush()
        self._writer.close()

    def _flush(self) -> None:
        if self._rows:
            columns = [list(column) for column in zip(*self._rows, strict=True)]
            arrays = [self._arrow.array(column, self._arrow.string()) for column in columns]
            self._writer.write_table(self._arrow.Table.from_arrays(arrays, schema=self._schema))
        self._rows, self._held = [], 0


def _encoded(text: str, where: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise KolmoError(
            f"{where}: character {error.start} is half of a surrogate pair, which no text holds; mend or drop it"
        ) from None
