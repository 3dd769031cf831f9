"""The row store: rows in Parquet files, one folder for each model, corpus and mode, from which later runs resume.

    RESULTS/MODEL/CORPUS/MODE-KEY/
        part-*.parquet    rows that were written during a run
        table.parquet     all rows in the order of the corpus, written when a run is complete
        result.json       the result of the run (`evaluation.results.results`)

KEY is a hash of everything that the costs depend on, except the documents: the model's weights, configuration and
tokenizer, the mode, block, stride and dtype. The key of a row identifies its document. So a second run scores only new
documents, and never uses the rows of another model. Each file is written to a temporary file and renamed.

The Parquet files open in pandas, polars, DuckDB and `datasets`. Their columns are the attributes of `Row`, and `tokens`
and `nats`, which are the number and the sum of the scored `token_nats`. Rows that were scored with a memory have
`token_memory_nats` and their sum, `memory_nats`, too.

What it is not: it does not score documents or compute metrics.
"""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kolmo.errors import KolmoError, MissingExtraError
from kolmo.evaluation.results.rows import Row
from kolmo.installing import install
from kolmo.targets import LOCK, locked, replacing

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

RESULT_FORMAT = 1  # version of result.json and of the columns
TABLE, RESULT = "table.parquet", "result.json"
GROUP_ROWS = 256  # rows that are read and written at a time
MAX_SLUG_CHARACTERS = 80  # characters of a name in a path
LABEL_COLUMNS = ("name", "subset", "date")
LIST_COLUMNS = ("token_ids", "token_bytes", "token_nats", "token_memory_nats")
MEMORY_COLUMNS = ("memory_nats", "token_memory_nats")  # of runs with a memory alone
SCALAR_COLUMNS = ("document", "key", "name", "subset", "date", "characters", "bytes", "words", "tokens", "nats")


class RowStore:
    """The rows of one model, corpus and mode.

    Args:
        folder: the folder of the files; it is created by the first write.

    Raises:
        MissingExtraError: pyarrow is not installed.
    """

    def __init__(self, folder: Path) -> None:
        _parquet()
        self.folder = folder

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Wait until no other run replaces the files of the folder; then keep others from it."""
        if not self.folder.is_dir():  # it is made by the first write
            yield
            return
        with locked(self.folder / LOCK):
            yield

    def keys(self) -> set[str]:
        """The keys of all rows."""
        return {key for batch in self._batches(["key"]) for key in batch.column("key").to_pylist()}

    def rows(self, *, content: bool = False) -> Iterator[Row]:
        """All rows in any order. If a key occurs twice, the later row is the newer one.

        Args:
            content: whether to read the texts.
        """
        columns = [name for name in _schema().names if content or name != "content"]
        for batch in self._batches(columns):
            yield from _rows(batch)

    def table(self, *, content: bool = False) -> Iterator[Row]:
        """The rows of the table, in the order of the corpus; none before a run is complete."""
        path = self.folder / TABLE
        if path.is_file():
            columns = [name for name in _schema().names if content or name != "content"]
            for batch in _read(path, columns):
                yield from _rows(batch)

    def append(self, rows: Sequence[Row]) -> None:
        """Write rows to a new part file."""
        if rows:
            # Numbers increase, so that of parts of several runs the later is the newer.
            number = max((int(path.name[5:15]) for path in self._parts()), default=0) + 1
            schema = _schema_of(rows)
            with _writer(self.folder / f"part-{number:010d}-{uuid.uuid4().hex[:8]}.parquet", schema) as writer:
                writer.write_batch(_batch(rows))

    def compact(self, keys: Sequence[str], labels: Sequence[tuple[str, str, str]]) -> None:
        """Write the table with these rows in this order, and remove the part files.

        Costs come from the stored rows, and labels from the caller: a text that occurs several times in the corpus has
        one cost and several names. Rows of later documents are kept for runs with a higher limit; others are dropped.

        Args:
            keys: the keys of the documents of the corpus, in order.
            labels: name, subset and date of each document, in the same order.

        Raises:
            KolmoError: the store has no row for a key.
        """
        parts = self._parts()
        here = [
            row
            for batch in self._batches(["key", *LABEL_COLUMNS])
            for row in zip(*(batch.column(name).to_pylist() for name in ("key", *LABEL_COLUMNS)), strict=True)
        ]
        if not parts and here[: len(keys)] == [(key, *own) for key, own in zip(keys, labels, strict=True)]:
            return
        latest = {row.key: row for row in self.rows(content=True)}
        if missing := next((key for key in keys if key not in latest), None):
            raise KolmoError(
                f"{self.folder}: has no row {missing}; the corpus may have changed during the run: run again"
            )
        wanted = set(keys)
        chosen = [
            replace(latest[key], document=place, name=name, subset=subset, date=date)
            for place, (key, (name, subset, date)) in enumerate(zip(keys, labels, strict=True))
        ]
        behind = [row for key, row in latest.items() if key not in wanted and row.document >= len(keys)]
        chosen += sorted(behind, key=lambda row: row.document)
        with _writer(
            self.folder / TABLE, _schema_of(chosen), durable=True
        ) as writer:  # since the parts are removed after it
            for first in range(0, len(chosen), GROUP_ROWS):
                writer.write_batch(_batch(chosen[first : first + GROUP_ROWS]))
        for path in parts:
            path.unlink(missing_ok=True)

    def write(self, result: Mapping[str, Any]) -> None:
        """Write result.json."""
        write_json(self.folder / RESULT, {"format": RESULT_FORMAT, **result})

    def result(self) -> dict[str, Any] | None:
        """The result of the last complete run; None if there is none."""
        return read_result(self.folder / RESULT) if (self.folder / RESULT).is_file() else None

    def _parts(self) -> list[Path]:
        return sorted(self.folder.glob("part-*.parquet"))

    def _batches(self, columns: list[str]) -> Iterator[pa.RecordBatch]:
        paths = [self.folder / TABLE, *self._parts()]
        for path in paths:
            if path.is_file():
                yield from _read(path, columns)


def folder_of(results: Path, model: str, corpus: str, mode: str, settings: Mapping[str, Any]) -> Path:
    """The folder for the rows of a run.

    Args:
        results: the folder of all results.
        model: the name of the model, which the path shows.
        corpus: the name of the corpus, likewise.
        mode: the name of the mode, likewise.
        settings: everything that the costs depend on, except the documents, as JSON values.
    """
    key = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:8]
    return results / slug(model) / slug(corpus) / f"{slug(mode)}-{key}"


def slug(name: str) -> str:
    """A name as part of a path: runs of characters other than letters, digits and ._- become one -; at most 80.

    Example:
        >>> slug("org/name: 7B")
        'org-name-7B'
    """
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")[:MAX_SLUG_CHARACTERS] or "unnamed"


def find_results(results: Path) -> list[tuple[Path, dict[str, Any]]]:
    """All results below a folder, each with its own folder, sorted by path.

    Raises:
        KolmoError: the folder does not exist, or a result cannot be read.
    """
    if not results.is_dir():
        raise KolmoError(f"{results}: no such folder; give an output folder of `kolmo eval`")
    return [(path.parent, read_result(path)) for path in sorted(results.rglob(RESULT))]


def read_result(path: Path) -> dict[str, Any]:
    """Read a result.json.

    Raises:
        KolmoError: the file is not a result, or was written by a newer kolmo.
    """
    try:
        found = json.loads(path.read_text("utf-8"))
        number = found["format"]
    except (ValueError, KeyError, TypeError):
        raise KolmoError(f"{path}: is not a result of kolmo eval, or damaged; delete it and evaluate again") from None
    if number != RESULT_FORMAT:
        raise KolmoError(f"{path}: has format {number}, this kolmo reads format {RESULT_FORMAT}; upgrade kolmo")
    return dict(found)


def read_columns(folder: Path, documents: int) -> dict[str, Any]:
    """The scalar columns of the table in a folder: an array, or list of str, with one value per document.

    `memory_nats` is among them if the documents were scored with a memory.

    Args:
        folder: a folder with a table.
        documents: the number of documents to read; the table may have more, from a run with a higher limit.

    Raises:
        KolmoError: the table has fewer rows.
    """
    parts: dict[str, list[Any]] = {name: [] for name in SCALAR_COLUMNS}
    for batch in _read(folder / TABLE, [*SCALAR_COLUMNS, "memory_nats"]):
        for name in batch.schema.names:
            parts.setdefault(name, []).extend(batch.column(name).to_pylist())
    if len(parts["key"]) < documents:
        raise KolmoError(f"{folder / TABLE}: has {len(parts['key'])} rows, not {documents}; evaluate again")
    texts = ("key", "name", "subset", "date")
    return {name: v[:documents] if name in texts else np.array(v[:documents]) for name, v in parts.items()}


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file beside its target, and rename it into place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        # A lone surrogate, which names of files and servers may contain, is written as its JSON escape.
        file.write((json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode("utf-8", "backslashreplace"))


@contextmanager
def _writer(path: Path, schema: pa.Schema, *, durable: bool = False) -> Iterator[pq.ParquetWriter]:
    parquet = _parquet()
    path.parent.mkdir(parents=True, exist_ok=True)
    with (
        replacing(path, durable=durable) as file,
        # Costs hardly repeat, so a dictionary is useless; split into byte planes they shrink by a quarter.
        parquet.ParquetWriter(
            file,
            schema,
            compression="zstd",
            use_dictionary=["subset", "date"],
            column_encoding={
                f"{name}.list.element": "BYTE_STREAM_SPLIT"
                for name in ("token_nats", "token_memory_nats")
                if name in schema.names
            },
        ) as writer,
    ):
        yield writer


def _read(path: Path, columns: list[str]) -> Iterator[pa.RecordBatch]:
    parquet = _parquet()
    import pyarrow

    try:
        with parquet.ParquetFile(path) as file:
            columns = [name for name in columns if name not in MEMORY_COLUMNS or name in file.schema_arrow.names]
            yield from file.iter_batches(GROUP_ROWS, columns=columns)
    except (pyarrow.ArrowException, KeyError) as error:
        reason = str(error).splitlines()[0]
        raise KolmoError(f"{path}: cannot be read ({reason}); delete it, and its documents are scored again") from None


def _schema_of(rows: Sequence[Row]) -> pa.Schema:
    return _schema(memory=bool(rows) and rows[0].token_memory_nats is not None)


def _schema(*, memory: bool = True) -> pa.Schema:
    import pyarrow as pa

    kinds = {
        "document": pa.int64(),
        "key": pa.string(),
        "name": pa.string(),
        "subset": pa.string(),
        "date": pa.string(),
        "characters": pa.int64(),
        "bytes": pa.int64(),
        "words": pa.int64(),
        "tokens": pa.int64(),
        "nats": pa.float64(),
        "token_ids": pa.list_(pa.int32()),
        "token_bytes": pa.list_(pa.int32()),
        "token_nats": pa.list_(pa.float32()),
        "content": pa.string(),
        "memory_nats": pa.float64(),
        "token_memory_nats": pa.list_(pa.float32()),
    }
    for name in () if memory else MEMORY_COLUMNS:
        del kinds[name]
    return pa.schema(list(kinds.items()), metadata={"kolmo": f"evaluation rows {RESULT_FORMAT}"})


def _batch(rows: Sequence[Row]) -> pa.RecordBatch:
    import pyarrow as pa

    columns, schema = [], _schema_of(rows)
    for field in schema:
        values = [getattr(row, field.name) for row in rows]
        if field.name in LIST_COLUMNS:
            ends = np.cumsum([0, *map(len, values)]).astype(np.int32)
            flat = pa.array(np.concatenate(values), field.type.value_type)
            columns.append(pa.ListArray.from_arrays(pa.array(ends), flat, type=field.type))
        else:
            columns.append(pa.array(values, field.type))
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _rows(batch: pa.RecordBatch) -> Iterator[Row]:
    names = [name for name in batch.schema.names if name not in ("tokens", "nats", "memory_nats")]
    lists = {name: batch.column(name) for name in LIST_COLUMNS if name in names}
    others = {name: batch.column(name).to_pylist() for name in names if name not in LIST_COLUMNS}
    for k in range(batch.num_rows):
        tokens = {name: column[k].values.to_numpy(zero_copy_only=False) for name, column in lists.items()}
        yield Row(**{name: values[k] for name, values in others.items()}, **tokens)


def _parquet() -> Any:
    """Import pyarrow.parquet.

    Raises:
        MissingExtraError: pyarrow is not installed.
    """
    try:
        import pyarrow.parquet
    except ImportError:
        raise MissingExtraError(f"tables of code lengths need pyarrow; {install('eval')}") from None
    return pyarrow.parquet
