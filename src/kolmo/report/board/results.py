"""Results of evaluations, checked: they come from files that anybody may have written.

What it is not: it puts no two of them side by side (`board.sections`).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kolmo.errors import KolmoError
from kolmo.evaluation.results.results import Result
from kolmo.report.board.models import Facts, Known

REFERENCES = ("predictor", "classical")  # kinds of models that are there to compare with
MEASURES = {  # metric: what people call it, digits behind the point
    "bits_per_character": ("bits per character", 4),
    "bits_per_byte": ("bits per byte", 4),
    "compression_rate": ("compression rate", 4),
    "bits_per_token": ("bits per token", 3),
    "token_perplexity": ("perplexity per token", 3),
    "min_k": ("Min-20 %, nats", 3),
}
OF_TOKENS = ("bits_per_token", "token_perplexity", "min_k")

Numbers = Mapping[str, float | None]


@dataclass(frozen=True, eq=False)
class Column:
    """A corpus in a section: one version of it.

    Attributes:
        name, digest: of the corpus.
        documents, characters: how many it has.
        first, last: dates of its documents, "" where they have none.
        repeated: documents whose text is that of an earlier one.
    """

    name: str
    digest: str
    documents: int
    characters: int
    first: str
    last: str
    repeated: int = 0


@dataclass(frozen=True, eq=False)
class Found:
    """A result, its parts checked: it comes from a file that anybody may have written."""

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
    corpus: Column
    values: Numbers
    finished: str

    @classmethod
    def of(cls, result: Result, known: Known) -> Found:
        """A result's parts.

        Raises:
            KolmoError: one is missing, or is not what it should be.
        """
        record = result.record
        try:
            model, corpus, mode, metrics = (record[name] for name in ("model", "corpus", "mode", "metrics"))
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
                corpus=Column(
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
                f"{result.folder / 'result.json'}: lacks what a result has; delete it and evaluate again"
            ) from None

    @property
    def whole(self) -> bool:
        """Whether it is of mode strict with documents whole: of a reference."""
        return self.mode == "strict" and not self.block

    @property
    def reference(self) -> bool:
        """Whether it is there to compare with."""
        return self.kind in REFERENCES


def number(value: Any) -> float | None:
    """A number of a result; None where there is none, or none that is one."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError
    return None if math.isnan(value) else float(value)


def _count(value: Any) -> int | None:
    return int(value) if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1e18 else None
