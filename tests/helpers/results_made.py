"""Results of evaluations that nobody ran: rows with costs out of a hat, in the store's own format."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from kolmo.evaluation.results import metrics
from kolmo.evaluation.results.rows import Row, count_words, document_key
from kolmo.evaluation.results.store import RowStore, folder_of, read_columns

TOKENS = re.compile(r"\s?\w+|\s?[^\w\s]+|\s+", re.ASCII)
Costs = Callable[[int, Sequence[str]], npt.NDArray[np.float32]]


@dataclass(frozen=True)
class Text:
    """A document."""

    content: str
    name: str = ""
    subset: str = ""
    date: str = ""


def flat(bits: float) -> Costs:
    """So many bits for each character, and a little noise by document and token."""

    def costs(document: int, tokens: Sequence[str]) -> npt.NDArray[np.float32]:
        noise = np.random.default_rng([document, len(tokens)]).uniform(0.8, 1.2, len(tokens))
        return np.array([bits * len(token) * np.log(2) for token in tokens], np.float32) * noise.astype(np.float32)

    return costs


def write_result(
    results: Path,
    model: str,
    corpus: str,
    texts: Sequence[Text],
    costs: Costs,
    *,
    mode: tuple[str, int, int] = ("strict", 1900, 512),
    kind: str = "hf",
    parameters: int | None = 7_000_000,
    vocabulary: int | None = 32_000,
    settings: dict[str, Any] | None = None,
    keep_text: bool = True,
    whole: bool = False,
    per_text: bool = True,
    split: Callable[[str], list[str]] = TOKENS.findall,
) -> Path:
    """Make a folder as a run would have; returns it.

    Args:
        results: of all runs.
        model, corpus: names.
        texts: of the corpus.
        costs: nats of the tokens of a document.
        mode: name, block, stride.
        kind: of the model.
        parameters, vocabulary: facts of the model.
        settings: that the costs depend on; by default of the model's name.
        keep_text: whether rows keep their texts.
        whole: whether a document is one token.
        per_text: whether the mode defines bits per character.
        split: a text's tokens.
    """
    chosen = settings if settings is not None else {"weights": model, "dtype": "float32"}
    name, block, stride = mode
    rule = {"mode": name, "block": block, "stride": stride}
    folder = folder_of(results, model, corpus, name, {**chosen, **rule})
    rows = []
    for place, text in enumerate(texts):
        tokens = [text.content] if whole else split(text.content)
        content = text.content
        sizes = len(content), len(content.encode()), count_words(content)
        rows.append(
            Row(
                place,
                document_key(content),
                text.name or f"{corpus}:{place + 1}",
                text.subset,
                text.date,
                *sizes,
                np.arange(len(tokens), dtype=np.int32),
                np.array([len(token.encode()) for token in tokens], np.int32),
                costs(place, tokens),
                content if keep_text else None,
            )
        )
    store = RowStore(folder)
    store.append(rows)
    store.compact([row.key for row in rows], [(row.name, row.subset, row.date) for row in rows])
    digest = hashlib.sha256("".join(row.key for row in rows).encode()).hexdigest()[:16]
    columns = read_columns(folder, len(rows))
    dates = sorted(text.date for text in texts if text.date)
    parts = metrics.subsets(columns)
    nats = np.concatenate([row.token_nats for row in rows])
    facts = {"parameters": parameters, "vocabulary": vocabulary}
    found = metrics.metrics(columns, per_text=per_text).record()
    store.write(
        {
            "model": {
                "spec": f"{kind}:{model}",
                "name": model,
                "kind": kind,
                "settings": chosen,
                "facts": {key: value for key, value in facts.items() if value},
            },
            "corpus": {
                "name": corpus,
                "source": corpus,
                "digest": digest,
                "first_date": dates[0] if dates else "",
                "last_date": dates[-1] if dates else "",
            },
            "mode": {"name": name, "block": block, "stride": stride, "headline": "bits_per_character"},
            "metrics": {**found, "min_k": metrics.min_k(nats)},
            "subsets": {
                name: {
                    **metrics.metrics(metrics.select(columns, places), per_text=per_text).record(),
                    "min_k": 1.0,
                }
                for name, places in parts.items()
                if len(parts) > 1
            },
            "run": {"finished": "2026-01-01T00:00:00+00:00", "seconds": 1.0, "tokens": len(nats)},
        }
    )
    return folder
