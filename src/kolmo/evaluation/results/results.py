"""Results: what runs found, for programs and for people.

What it is not: it computes no metrics (`evaluation.results.metrics`), and draws nothing (`kolmo.report`).
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
from kolmo.evaluation.results.store import Store, find_results, read_columns
from kolmo.foreign import html_table, short
from kolmo.installing import install

if TYPE_CHECKING:
    import pandas as pd

HEAD = ("model", "corpus", "mode", "bits/char", "95 %", "documents")
SHOWN = 20  # results that an evaluation shows of itself


@dataclass(frozen=True, eq=False, repr=False)
class Result:
    """One model on one corpus in one mode.

    Attributes:
        folder: where its rows are.
        record: result.json, as docs/evaluation.md has it.
        kept: what the folder lives as long as, where it is a temporary one.
    """

    folder: Path
    record: Mapping[str, Any]
    kept: object = None

    @property
    def model(self) -> str:
        """Name of the model."""
        return str(self.record["model"]["name"])

    @property
    def corpus(self) -> str:
        """Name of the corpus."""
        return str(self.record["corpus"]["name"])

    @property
    def mode(self) -> str:
        """Name of the mode."""
        return str(self.record["mode"]["name"])

    @property
    def metrics(self) -> Mapping[str, Any]:
        """Metrics by name (see `metrics.Metrics`), and `min_k`."""
        return dict(self.record["metrics"])

    @property
    def bits_per_character(self) -> float | None:
        """Of the whole corpus; None where the mode does not define it."""
        value: float | None = self.record["metrics"]["bits_per_character"]
        return value

    @property
    def documents(self) -> int:
        """How many the corpus has."""
        return int(self.record["metrics"]["documents"])

    def __repr__(self) -> str:
        return f"Result({', '.join(self._shown())})"

    def _repr_html_(self) -> str:
        return html_table("kolmo: bits per character", HEAD, [self._shown()])

    def _shown(self) -> list[str]:
        """Cells under `HEAD`."""
        values = self.record["metrics"]
        value, low, high = (values.get(name) for name in ("bits_per_character", "low", "high"))
        return [
            *(short(name) for name in (self.model, self.corpus, self.mode)),
            "-" if value is None else f"{value:.4f}",
            "-" if low is None or high is None else f"{low:.4f}-{high:.4f}",
            f"{self.documents:,}",
        ]

    def rows(self, *, content: bool = False) -> Iterator[Row]:
        """A row for each document, in the order of the corpus.

        Args:
            content: whether with the texts, where they were kept.
        """
        return islice(Store(self.folder).table(content=content), self.documents)

    def columns(self) -> dict[str, Any]:
        """Arrays of a value for each document: key, name, subset, date, characters, bytes, words, tokens, nats."""
        return read_columns(self.folder, self.documents)

    def full(self) -> dict[str, Any]:
        """What a program reads: the record, and where the rows are."""
        return {**self.record, "folder": str(self.folder)}

    def flat(self) -> dict[str, Any]:
        """One row of a table: names, then metrics."""
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
        """A row for each document, with its bits per character, bits per byte and Min-K %.

        Raises:
            MissingExtraError: pandas is not installed.
        """
        frame = _pandas().DataFrame(self.columns())
        bits = to_bits(frame["nats"])
        frame["bits_per_character"] = bits / frame["characters"]
        frame["bits_per_byte"] = bits / frame["bytes"]
        frame["min_k"] = [metrics.min_k(row.token_nats) for row in self.rows()]
        return frame


class Evaluation(list[Result]):
    """Results of some models on some corpora."""

    def __repr__(self) -> str:
        more = [f"  ... and {len(self) - SHOWN} more"] if len(self) > SHOWN else []
        return "\n".join([f"Evaluation of {len(self)} results", *(f"  {one!r}" for one in self[:SHOWN]), *more])

    def _repr_html_(self) -> str:
        more = f"; {len(self) - SHOWN} more are not shown" if len(self) > SHOWN else ""
        return html_table(f"kolmo: bits per character{more}", HEAD, [one._shown() for one in self[:SHOWN]])

    def to_pandas(self) -> pd.DataFrame:
        """A row for each result: names, then metrics.

        Raises:
            MissingExtraError: pandas is not installed.
        """
        return _pandas().DataFrame([result.flat() for result in self])

    def to_dataset(self) -> Any:
        """The same as a `datasets.Dataset`.

        Raises:
            MissingExtraError: datasets is not installed.
        """
        try:
            from datasets import Dataset
        except ImportError:
            raise MissingExtraError(f"this needs datasets; {install('eval')}") from None
        return Dataset.from_list([result.flat() for result in self])

    def differences(self, *, level: float = 0.95) -> list[dict[str, Any]]:
        """Every two models that were given the same corpus in the same mode: see `compare`."""
        found = []
        for one, other in combinations(self, 2):
            same = (one.corpus, one.mode) == (other.corpus, other.mode)
            if same and one.model != other.model and one.bits_per_character is not None and _shared(one, other):
                found.append(compare(one, other, level=level))
        return found


def compare(one: Result, other: Result, *, level: float = 0.95) -> dict[str, Any]:
    """Bits per character of one model less those of another, paired by document (`metrics.difference`).

    Args:
        one: on a corpus.
        other: on the same one; documents that only one has are left out.
        level: of the interval.

    Returns:
        corpus, model, other, value, low, high, wins, documents.

    Raises:
        KolmoError: they have no document in common.
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
    """Places of each document that both have, in the one and in the other."""
    places = {name: place for place, name in enumerate(_occurrences(other.columns()["key"]))}
    return [(place, places[name]) for place, name in enumerate(_occurrences(one.columns()["key"])) if name in places]


def _occurrences(keys: Iterable[str]) -> Iterator[tuple[str, int]]:
    """Each key with how often it came before, so that equal documents are paired one to one."""
    seen: Counter[str] = Counter()
    for key in keys:
        yield key, seen[key]
        seen[key] += 1


def load_results(folder: str | Path) -> Evaluation:
    """All results below a folder that `kolmo eval -o` has made.

    Raises:
        KolmoError: there is no such folder, or a result in it cannot be read.
    """
    return Evaluation(Result(place, record) for place, record in find_results(Path(folder)))


def _pandas() -> Any:
    try:
        import pandas
    except ImportError:
        raise MissingExtraError(f"this needs pandas; {install('eval')}") from None
    return pandas
