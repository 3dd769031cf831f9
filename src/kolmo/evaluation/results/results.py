"""Results of runs: as objects, as tables of pandas, and as short text and HTML.

What it is not: it does not compute metrics (`evaluation.results.metrics`) or make reports (`kolmo.report`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kolmo.bits import to_bits
from kolmo.errors import KolmoError, MissingExtraError
from kolmo.evaluation.results import metrics
from kolmo.evaluation.results.rows import Row
from kolmo.evaluation.results.store import RowStore, find_results, read_columns
from kolmo.foreign import html_table, short
from kolmo.installing import install

if TYPE_CHECKING:
    import pandas as pd

SHORT_COLUMNS = ("model", "corpus", "mode", "bits/char", "95 %", "documents")
MAX_SHOWN_RESULTS = 20  # results in the short forms of an evaluation


@dataclass(frozen=True, eq=False, repr=False)
class Result:
    """The result of one model on one corpus in one mode.

    Attributes:
        folder: the folder of its rows.
        record: the content of result.json (docs/evaluation.md).
        kept: an object that keeps a temporary folder in existence.
    """

    folder: Path
    record: Mapping[str, Any]
    kept: object = None

    @property
    def model(self) -> str:
        """The name of the model."""
        return str(self.record["model"]["name"])

    @property
    def corpus(self) -> str:
        """The name of the corpus."""
        return str(self.record["corpus"]["name"])

    @property
    def mode(self) -> str:
        """The name of the mode."""
        return str(self.record["mode"]["name"])

    @property
    def metrics(self) -> Mapping[str, Any]:
        """The metrics by name (see `metrics.Metrics`), and `min_k`."""
        return dict(self.record["metrics"])

    @property
    def bits_per_character(self) -> float | None:
        """Bits per character of the whole corpus; None if the mode does not define them."""
        value: float | None = self.record["metrics"]["bits_per_character"]
        return value

    @property
    def documents(self) -> int:
        """The number of documents of the corpus."""
        return int(self.record["metrics"]["documents"])

    def __repr__(self) -> str:
        return f"Result({', '.join(self._shown())})"

    def _repr_html_(self) -> str:
        return html_table("kolmo: bits per character", SHORT_COLUMNS, [self._shown()])

    def _shown(self) -> list[str]:
        """The cells under `SHORT_COLUMNS`."""
        values = self.record["metrics"]
        value, low, high = (values.get(name) for name in ("bits_per_character", "low", "high"))
        return [
            *(short(name) for name in (self.model, self.corpus, self.mode)),
            "-" if value is None else f"{value:.4f}",
            "-" if low is None or high is None else f"{low:.4f}-{high:.4f}",
            f"{self.documents:,}",
        ]

    def rows(self, *, content: bool = False) -> Iterator[Row]:
        """The rows, one for each document, in the order of the corpus.

        Args:
            content: whether to read the texts, if they were kept.
        """
        return islice(RowStore(self.folder).table(content=content), self.documents)

    def columns(self) -> dict[str, Any]:
        """Arrays with one value per document: key, name, subset, date, characters, bytes, words, tokens, nats."""
        return read_columns(self.folder, self.documents)

    def full(self) -> dict[str, Any]:
        """The record and the folder of the rows, for JSON."""
        return {**self.record, "folder": str(self.folder)}

    def flat(self) -> dict[str, Any]:
        """One row of a table: names, settings and metrics."""
        corpus, mode = self.record["corpus"], self.record["mode"]
        return {
            "model": self.model,
            "corpus": self.corpus,
            "mode": self.mode,
            "block": mode["block"],
            "stride": mode["stride"],
            **self.metrics,
            "corpus_digest": corpus["digest"],
            "spec": self.record["model"]["spec"],
            "folder": str(self.folder),
        }

    def to_pandas(self) -> pd.DataFrame:
        """A table with one row per document, with its bits per character, bits per byte and Min-K %.

        Raises:
            MissingExtraError: pandas is not installed.
        """
        frame = _pandas().DataFrame(self.columns())
        bits = to_bits(frame["nats"])
        frame["bits_per_character"] = bits / frame["characters"]
        frame["bits_per_byte"] = bits / frame["bytes"]
        if "memory_nats" in frame:
            frame["memory_bits_per_character"] = to_bits(frame["memory_nats"]) / frame["characters"]
        frame["min_k"] = [metrics.min_k(row.token_nats) for row in self.rows()]
        return frame


class Evaluation(list[Result]):
    """A list of results of several models on several corpora."""

    def __repr__(self) -> str:
        more = [f"  ... and {len(self) - MAX_SHOWN_RESULTS} more"] if len(self) > MAX_SHOWN_RESULTS else []
        return "\n".join(
            [f"Evaluation of {len(self)} results", *(f"  {one!r}" for one in self[:MAX_SHOWN_RESULTS]), *more]
        )

    def _repr_html_(self) -> str:
        more = f"; {len(self) - MAX_SHOWN_RESULTS} more are not shown" if len(self) > MAX_SHOWN_RESULTS else ""
        return html_table(
            f"kolmo: bits per character{more}", SHORT_COLUMNS, [one._shown() for one in self[:MAX_SHOWN_RESULTS]]
        )

    def to_pandas(self) -> pd.DataFrame:
        """A table with one row per result: names, settings and metrics.

        Raises:
            MissingExtraError: pandas is not installed.
        """
        return _pandas().DataFrame([result.flat() for result in self])

    def to_dataset(self) -> Any:
        """The table of `to_pandas` as a `datasets.Dataset`.

        Raises:
            MissingExtraError: datasets is not installed.
        """
        try:
            from datasets import Dataset
        except ImportError:
            raise MissingExtraError(f"this needs datasets; {install('eval')}") from None
        return Dataset.from_list([result.flat() for result in self])

    def differences(self, *, level: float = 0.95) -> list[dict[str, Any]]:
        """The difference of every two models that were evaluated on the same corpus in the same mode: see `compare`."""
        found = []
        for one, other in combinations(self, 2):
            same = (one.corpus, one.mode) == (other.corpus, other.mode)
            if same and one.model != other.model and one.bits_per_character is not None and _shared(one, other):
                found.append(compare(one, other, level=level))
        return found


def compare(one: Result, other: Result, *, level: float = 0.95) -> dict[str, Any]:
    """The difference of two models in bits per character, paired by document (`metrics.difference`).

    Args:
        one: the result of the first model.
        other: the result of the second model on the same corpus; documents that only one result has are ignored.
        level: the confidence level.

    Returns:
        a dictionary with corpus, model, other, value, low, high, wins, documents.

    Raises:
        KolmoError: the results have no document in common.
    """
    pairs = _shared(one, other)
    mine, others = one.columns(), other.columns()
    if not pairs:
        raise KolmoError(f"{one.folder} and {other.folder} have no document in common; evaluate both on one corpus")
    a, b = (np.array([pair[k] for pair in pairs], np.intp) for k in (0, 1))
    keys = [mine["key"][place] for place in a]
    found = metrics.difference(mine["nats"][a], others["nats"][b], mine["characters"][a], keys, level=level)
    return {"corpus": one.corpus, "model": one.model, "other": other.model, **vars(found)}


def _shared(one: Result, other: Result) -> list[tuple[int, int]]:
    """The indices, in each of the two results, of the documents that both have."""
    places = {name: place for place, name in enumerate(_occurrences(other.columns()["key"]))}
    return [(place, places[name]) for place, name in enumerate(_occurrences(one.columns()["key"])) if name in places]


def _occurrences(keys: Iterable[str]) -> Iterator[tuple[str, int]]:
    """Each key with the number of its earlier occurrences, so that equal documents are paired one to one."""
    seen: Counter[str] = Counter()
    for key in keys:
        yield key, seen[key]
        seen[key] += 1


def load_results(folder: str | Path) -> Evaluation:
    """Load all results below an output folder of `kolmo eval` or `kolmo.evaluate`.

    Raises:
        KolmoError: the folder does not exist, or a result in it cannot be read.
    """
    return Evaluation(Result(place, record) for place, record in find_results(Path(folder)))


def _pandas() -> Any:
    try:
        import pandas
    except ImportError:
        raise MissingExtraError(f"this needs pandas; {install('eval')}") from None
    return pandas
