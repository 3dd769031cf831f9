"""The store: rows as Parquet files, one folder for each model, corpus and mode. Runs add to it, and go on from it.

    RESULTS/MODEL/CORPUS/MODE-KEY/
        part-*.parquet    rows as they come
        table.parquet     all rows, in the order of the corpus, once a run is through
        result.json       what the run found (`evaluation.results.results`)

KEY is a hash of all that the costs depend on but the documents: the model's weights, configuration and tokenizer, the
mode, block, stride and dtype. A row's own key stands for its document. So a second run scores what is new, and a row is
never taken for another model's. Each file appears whole or not at all.

The Parquet files open in pandas, polars, DuckDB and `datasets`. Their columns are the attributes of `Row`, and `tokens`
and `nats`, which are sums over `token_nats`.

What it is not: it scores nothing, and computes no metrics.
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
from kolmo.targets import replacing

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

FORMAT = 1
TABLE, RESULT = "table.parquet", "result.json"
GROUP = 256  # rows of a group, in which a file is read
LABELS = ("name", "subset", "date")
LISTS = ("token_ids", "token_bytes", "token_nats")
SMALL = ("document", "key", "name", "subset", "date", "characters", "bytes", "words", "tokens", "nats")


class Store:
    """The rows of one model, corpus and mode.

    Args:
        folder: where; made when something is written.

    Raises:
        MissingExtraError: pyarrow is not installed.
    """

    def __init__(self, folder: Path) -> None:
        _parquet()
        self.folder = folder

    def keys(self) -> set[str]:
        """Of all rows."""
        return {key for batch in self._batches(["key"]) for key in batch.column("key").to_pylist()}

    def rows(self, *, content: bool = False) -> Iterator[Row]:
        """All rows, in no order; where a key comes twice, the later is the newer.

        Args:
            content: whether with the texts.
        """
        columns = [name for name in _schema().names if content or name != "content"]
        for batch in self._batches(columns):
            yield from _rows(batch)

    def table(self, *, content: bool = False) -> Iterator[Row]:
        """The table's rows, in the order of the corpus; none before a run was through."""
        path = self.folder / TABLE
        if path.is_file():
            columns = [name for name in _schema().names if content or name != "content"]
            for batch in _read(path, columns):
                yield from _rows(batch)

    def append(self, rows: Sequence[Row]) -> None:
        """Keep rows: one more part."""
        if rows:
            # Numbered by time: parts of several runs may lie side by side, and the later is the newer.
            number = max((int(path.name[5:15]) for path in self._parts()), default=0) + 1
            with _writer(self.folder / f"part-{number:010d}-{uuid.uuid4().hex[:8]}.parquet") as writer:
                writer.write_batch(_batch(rows))

    def compact(self, keys: Sequence[str], labels: Sequence[tuple[str, str, str]]) -> None:
        """Write the table of these rows, in this order; then parts go.

        Costs come from the rows of these keys, and labels from the caller: a text that the corpus has several times has
        one cost and as many names. Rows of documents behind them stay, for runs with a higher limit; others go.

        Args:
            keys: of the corpus's documents, in order.
            labels: name, subset and date of each, in the same order.

        Raises:
            KolmoError: a row is missing.
        """
        parts = self._parts()
        here = [
            row
            for batch in self._batches(["key", *LABELS])
            for row in zip(*(batch.column(name).to_pylist() for name in ("key", *LABELS)), strict=True)
        ]
        if not parts and here[: len(keys)] == [(key, *own) for key, own in zip(keys, labels, strict=True)]:
            return
        latest = {row.key: row for row in self.rows(content=True)}
        if missing := next((key for key in keys if key not in latest), None):
            raise KolmoError(f"{self.folder}: has no row {missing}; did the corpus change meanwhile? Run again")
        wanted = set(keys)
        chosen = [
            replace(latest[key], document=place, name=name, subset=subset, date=date)
            for place, (key, (name, subset, date)) in enumerate(zip(keys, labels, strict=True))
        ]
        behind = [row for key, row in latest.items() if key not in wanted and row.document >= len(keys)]
        chosen += sorted(behind, key=lambda row: row.document)
        with _writer(self.folder / TABLE, durable=True) as writer:  # the parts are removed for it
            for first in range(0, len(chosen), GROUP):
                writer.write_batch(_batch(chosen[first : first + GROUP]))
        for path in parts:
            path.unlink(missing_ok=True)

    def write(self, result: Mapping[str, Any]) -> None:
        """Write result.json."""
        write_json(self.folder / RESULT, {"format": FORMAT, **result})

    def result(self) -> dict[str, Any] | None:
        """What the last run that was through has found."""
        return read_result(self.folder / RESULT) if (self.folder / RESULT).is_file() else None

    def _parts(self) -> list[Path]:
        return sorted(self.folder.glob("part-*.parquet"))

    def _batches(self, columns: list[str]) -> Iterator[pa.RecordBatch]:
        paths = [self.folder / TABLE, *self._parts()]
        for path in paths:
            if path.is_file():
                yield from _read(path, columns)


def folder_of(results: Path, model: str, corpus: str, mode: str, settings: Mapping[str, Any]) -> Path:
    """The folder of a run's rows.

    Args:
        results: of all runs.
        model: its name, for people.
        corpus: the same of the corpus.
        mode: the same of the mode.
        settings: all that the costs depend on but the documents, as JSON has it.
    """
    key = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:8]
    return results / slug(model) / slug(corpus) / f"{slug(mode)}-{key}"


def slug(name: str) -> str:
    """A name as a folder's: other characters than letters, digits and ._- become one -, at most 80 of them."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")[:80] or "unnamed"


def find_results(results: Path) -> list[tuple[Path, dict[str, Any]]]:
    """All results below a folder, with their folders, sorted.

    Raises:
        KolmoError: it is not a folder, or a result cannot be read.
    """
    if not results.is_dir():
        raise KolmoError(f"{results}: no such folder; give one that `kolmo eval -o` has made")
    return [(path.parent, read_result(path)) for path in sorted(results.rglob(RESULT))]


def read_result(path: Path) -> dict[str, Any]:
    """A result.json.

    Raises:
        KolmoError: it is none, or of a newer kolmo.
    """
    try:
        found = json.loads(path.read_text("utf-8"))
        number = found["format"]
    except (ValueError, KeyError, TypeError):
        raise KolmoError(f"{path}: is not a result of kolmo eval, or damaged; delete it and evaluate again") from None
    if number != FORMAT:
        raise KolmoError(f"{path}: has format {number}, this kolmo knows {FORMAT}; upgrade kolmo")
    return dict(found)


def read_columns(folder: Path, documents: int) -> dict[str, Any]:
    """Columns of the table in a folder, without the tokens: an array, or list of str, of one value per document.

    Args:
        folder: with a table.
        documents: how many; a table may hold more, of a run with a higher limit.

    Raises:
        KolmoError: it has fewer.
    """
    parts: dict[str, list[Any]] = {name: [] for name in SMALL}
    for batch in _read(folder / TABLE, list(SMALL)):
        for name in SMALL:
            parts[name] += batch.column(name).to_pylist()
    if len(parts["key"]) < documents:
        raise KolmoError(f"{folder / TABLE}: has {len(parts['key'])} rows, not {documents}; evaluate again")
    texts = ("key", "name", "subset", "date")
    return {name: v[:documents] if name in texts else np.array(v[:documents]) for name, v in parts.items()}


def write_json(path: Path, value: Any) -> None:
    """Write a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        # Half of a surrogate pair, as names of files and servers may hold, is written as JSON's own escape for it.
        file.write((json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode("utf-8", "backslashreplace"))


@contextmanager
def _writer(path: Path, *, durable: bool = False) -> Iterator[pq.ParquetWriter]:
    parquet = _parquet()
    path.parent.mkdir(parents=True, exist_ok=True)
    with (
        replacing(path, durable=durable) as file,
        # Costs are noise to a dictionary; as planes of bytes they pack by a quarter.
        parquet.ParquetWriter(
            file,
            _schema(),
            compression="zstd",
            use_dictionary=["subset", "date"],
            column_encoding={"token_nats.list.element": "BYTE_STREAM_SPLIT"},
        ) as writer,
    ):
        yield writer


def _read(path: Path, columns: list[str]) -> Iterator[pa.RecordBatch]:
    parquet = _parquet()
    import pyarrow

    try:
        with parquet.ParquetFile(path) as file:
            yield from file.iter_batches(GROUP, columns=columns)
    except (pyarrow.ArrowException, KeyError) as error:
        reason = str(error).splitlines()[0]
        raise KolmoError(f"{path}: cannot be read ({reason}); delete it, its documents are scored again") from None


def _schema() -> pa.Schema:
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
    }
    return pa.schema(list(kinds.items()), metadata={"kolmo": f"evaluation rows {FORMAT}"})


def _batch(rows: Sequence[Row]) -> pa.RecordBatch:
    import pyarrow as pa

    columns = []
    for field in _schema():
        values = [getattr(row, field.name) for row in rows]
        if field.name in LISTS:
            ends = np.cumsum([0, *map(len, values)]).astype(np.int32)
            flat = pa.array(np.concatenate(values), field.type.value_type)
            columns.append(pa.ListArray.from_arrays(pa.array(ends), flat, type=field.type))
        else:
            columns.append(pa.array(values, field.type))
    return pa.RecordBatch.from_arrays(columns, schema=_schema())


def _rows(batch: pa.RecordBatch) -> Iterator[Row]:
    names = [name for name in batch.schema.names if name not in ("tokens", "nats")]
    lists = {name: batch.column(name) for name in LISTS if name in names}
    others = {name: batch.column(name).to_pylist() for name in names if name not in LISTS}
    for k in range(batch.num_rows):
        tokens = {name: column[k].values.to_numpy(zero_copy_only=False) for name, column in lists.items()}
        yield Row(**{name: values[k] for name, values in others.items()}, **tokens)


def _parquet() -> Any:
    """pyarrow.parquet.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import pyarrow.parquet
    except ImportError:
        raise MissingExtraError(f"tables of code lengths need pyarrow; {install('eval')}") from None
    return pyarrow.parquet
