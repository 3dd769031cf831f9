"""Parquet to documents, a few rows at a time. Needs pyarrow.

What it is not: it reads no columns of lists, images and the like, but for `meta`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from kolmo.corpus.documents import DEFAULT_COLUMNS, Columns, Document, document_of, no_column, plain
from kolmo.corpus.extras import extra
from kolmo.errors import KolmoError

ROWS = 16  # held at once
BUFFER = 1 << 20  # bytes of a column read ahead; without it, a whole row group's
TEXTS = ("content", "text")
FIELDS = (*TEXTS, "subset", "meta")


def read_parquet(path: str, name: str, asked: Columns = DEFAULT_COLUMNS) -> Iterator[Document]:
    """The documents of a Parquet file, named "NAME row N" with rows from 0.

    Args:
        path: the file's.
        name: its name in the corpus.
        asked: columns to take other than the default ones.

    Raises:
        KolmoError: the file is not a Parquet file, is damaged, lacks a requested column, or has a row without content.
        MissingExtraError: pyarrow is not installed.
    """
    parquet = extra("pyarrow.parquet", path)
    arrow = extra("pyarrow", path)
    options = {"buffer_size": BUFFER, "pre_buffer": False, "page_checksum_verification": True}
    with _told(path, arrow), parquet.ParquetFile(path, **options) as file:
        there = file.schema_arrow.names
        for column in asked.named:
            if column not in there:
                raise KolmoError(no_column(path, column, there))
        columns = _columns(file.schema_arrow, arrow.types, asked)
        if asked.text is None and not set(TEXTS) & set(columns):
            raise KolmoError(f"{no_column(path, 'content', there)}; name the one that holds the text")
        texts = TEXTS if asked.text is None else (asked.text,)
        row = 0
        for batch in file.iter_batches(batch_size=ROWS, columns=columns, use_threads=False):
            for at in range(batch.num_rows):
                where = f"{path}, row {row}"
                record = {
                    key: _value(batch.column(i)[at], key in texts, key, where)
                    for i, key in enumerate(batch.schema.names)
                }
                yield document_of(record, f"{name} row {row}", where, asked)
                row += 1


def _columns(schema: Any, types: Any, asked: Columns) -> list[str]:
    """The columns of a document's fields, and those of one plain value a row."""
    left_out = (types.is_nested, types.is_binary, types.is_large_binary, types.is_fixed_size_binary)
    kept = {*FIELDS, *asked.named}
    return [column.name for column in schema if column.name in kept or not any(f(column.type) for f in left_out)]


def _value(scalar: Any, is_text: bool, key: str, where: str) -> Any:
    try:
        value = scalar.as_py()
        if is_text:
            return value.decode() if isinstance(value, bytes) else value
        return plain(value)
    except UnicodeDecodeError as error:
        raise KolmoError(f"{where}: byte {error.start} of `{key}` is not UTF-8; write the file anew") from None
    except (ValueError, OverflowError, ImportError, LookupError):  # a time that Python has none for
        return None


@contextmanager
def _told(path: str, arrow: Any) -> Iterator[None]:
    """Turn pyarrow's errors into one line."""
    try:
        yield
    except KolmoError:
        raise
    except (arrow.ArrowException, OSError, ValueError, NotImplementedError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise KolmoError(
            f"{path}: is not a Parquet file, or a damaged one ({reason}); copy or write it again"
        ) from None
