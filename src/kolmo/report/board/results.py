"""Checked results of evaluations: they are read from untrusted files.

What it is not: it compares no results (`board.sections`).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kolmo.errors import KolmoError
from kolmo.evaluation.results.results import Result
from kolmo.report.board.models import Facts, ModelTable

REFERENCES = ("predictor", "classical")  # kinds of models that are shown for comparison
WITH_MEMORY = "memory_bits_per_character"  # of runs with a memory alone
MEASURES = {  # metric: its label, and decimals shown
    "bits_per_character": ("bits per character", 4),
    "bits_per_byte": ("bits per byte", 4),
    "compression_rate": ("compression rate", 4),
    "bits_per_token": ("bits per token", 3),
    "token_perplexity": ("perplexity per token", 3),
    "min_k": ("Min-20 %, nats", 3),
    WITH_MEMORY: ("bits per character with memory", 4),
}
OF_TOKENS = ("bits_per_token", "token_perplexity", "min_k")

Numbers = Mapping[str, float | None]


@dataclass(frozen=True, eq=False)
class CorpusVersion:
    """One version of a corpus.

    Attributes:
        name, digest: name of the corpus, and hash of its documents.
        documents, characters: their numbers.
        first, last: first and last date of its documents; "" if they are not dated.
        repeated: number of documents whose text equals that of an earlier one.
    """

    name: str
    digest: str
    documents: int
    characters: int
    first: str
    last: str
    repeated: int = 0


@dataclass(frozen=True, eq=False)
class CheckedResult:
    """A result of an evaluation whose parts were checked, since it is read from an untrusted file."""

    result: Result
    mode: str
    block: int
    stride: int
    model: str
    spec: str
    kind: str
    settings: str
    dtype: str
    parameters: int | None
    vocabulary: int | None
    facts: Facts
    corpus: CorpusVersion
    values: Numbers
    finished: str

    @classmethod
    def of(cls, result: Result, known: ModelTable) -> CheckedResult:
        """Check the parts of a result.

        Raises:
            KolmoError: a part is missing or malformed.
        """
        record = result.record
        try:
            model, corpus, mode, metrics = (record[name] for name in ("model", "corpus", "mode", "metrics"))
            metrics = {WITH_MEMORY: None, **metrics}
            values = {name: number(metrics[name]) for name in (*MEASURES, "low", "high")}
            if model["kind"] == "classical":  # a document is its only token
                values |= dict.fromkeys(OF_TOKENS)
            counts = {name: int(metrics[name]) for name in ("documents", "characters")}
            facts = model.get("facts") or {}
            settings = model.get("settings") or {}
            name = str(model["name"])
            told = known.of(name)
            return cls(
                result=result,
                mode=str(mode["name"]),
                block=int(mode["block"]),
                stride=int(mode["stride"]),
                model=name,
                spec=str(model["spec"]),
                kind=str(model["kind"]),
                settings=json.dumps(settings, sort_keys=True),
                dtype=str(settings.get("dtype", "")),
                parameters=_count(facts.get("parameters")) or told.parameters,
                vocabulary=_count(facts.get("vocabulary")),
                facts=told,
                corpus=CorpusVersion(
                    str(corpus["name"]),
                    str(corpus["digest"]),
                    first=str(corpus.get("first_date", ""))[:10],
                    last=str(corpus.get("last_date", ""))[:10],
                    repeated=_count(corpus.get("repeated")) or 0,
                    **counts,
                ),
                values=values,
                finished=str((record.get("run") or {}).get("finished", "")),
            )
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
            raise KolmoError(
                f"{result.folder / 'result.json'}: is not a complete result; delete it and evaluate again"
            ) from None

    @property
    def whole(self) -> bool:
        """Whether whole documents were scored in mode strict, as references are."""
        return self.mode == "strict" and not self.block

    @property
    def reference(self) -> bool:
        """Whether it is a reference, shown for comparison."""
        return self.kind in REFERENCES


def number(value: Any) -> float | None:
    """A number of a result; None if it is missing or NaN."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError
    return None if math.isnan(value) else float(value)


def _count(value: Any) -> int | None:
    return int(value) if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1e18 else None
