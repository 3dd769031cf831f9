"""A run: one model scores one corpus in one mode.

    corpus --scan--> keys --select new--> tokens --> windows --> batches --engine--> nats --> rows --> store

The corpus is read twice: first for its keys, sizes and hash, then to score the documents that the store lacks.
Finished rows are stored every half minute and at the end of the run, also if it fails or is interrupted.

What it is not: it opens neither models nor corpora (`evaluation.evaluate`), and uses a model only through an engine.
"""

from __future__ import annotations

import hashlib
import platform
import time
from contextlib import closing
from dataclasses import asdict
from datetime import datetime, timezone
from itertools import islice
from typing import Any

import numpy as np

from kolmo.corpus import Corpus
from kolmo.errors import KolmoError
from kolmo.evaluation.engines.engines import Engine
from kolmo.evaluation.results import metrics
from kolmo.evaluation.results.rows import document_key
from kolmo.evaluation.results.store import RowStore, read_columns
from kolmo.evaluation.run_state import CorpusScan, DocumentLabels, RunState
from kolmo.evaluation.windows import windows
from kolmo.evaluation.windows.modes import Mode
from kolmo.evaluation.windows.passages import Nats
from kolmo.installing import installed_version
from kolmo.progress import Progress, no_progress

MEMORY_METRICS = ("nats", "bits_per_character", "low", "high", "bits_per_byte", "bits_per_token", "compression_rate")
MAX_NAMED_REPEATS = 20  # repeated documents that a result lists by name; it counts all of them


def scan(corpus: Corpus, *, stream: bool) -> CorpusScan:
    """Read a corpus once for its keys, labels, sizes and hash.

    Args:
        corpus: the corpus.
        stream: whether the cost of a document depends on the documents before it.

    Raises:
        KolmoError: the corpus has no documents, or one that is not Unicode text.
        TypeError: the content of a document is not a string.
    """
    found, whole, before = CorpusScan(), hashlib.sha256(), ""
    first: dict[bytes, int] = {}
    for place, document in enumerate(corpus):
        data = _encoded(document.content, f"{corpus.source}: document {place}")
        text_hash = hashlib.sha256(data).digest()
        whole.update(text_hash)
        if (earlier := first.setdefault(text_hash, place)) != place:
            found.repeats[place] = earlier
        before = document_key(document.content, before if stream else "")
        found.keys.append(before)
        found.sizes.append(len(data))
        found.characters += len(document.content)
        found.labels.append(DocumentLabels(document.name, document.subset, document.date))
    if not found.keys:
        raise KolmoError(
            f"{corpus.source}: has no documents with text in them; check its contents, or the argument subset"
        )
    found.text_hash = whole.hexdigest()[:16]
    found.skipped = tuple(corpus.skipped)
    if dates := {labels.date for labels in found.labels} - {""}:
        found.first_date, found.last_date = min(dates), max(dates)
    return found


def _encoded(content: object, where: str) -> bytes:
    """The content of a document in UTF-8."""
    if not isinstance(content, str):
        raise TypeError(f"{where}: the content must be a str, not {type(content).__name__}")
    try:
        return content.encode()
    except UnicodeEncodeError as error:
        raise KolmoError(
            f"{where}: character {error.start} is half of a surrogate pair, which no text holds; mend or remove it"
        ) from None


def settings_of(engine: Engine, mode: Mode) -> dict[str, Any]:
    """All settings that the costs depend on, except the documents. The name of the result folder has a hash of them."""
    rule = {"mode": mode.name, "block": mode.block, "stride": mode.stride}
    if mode.token_rule != "exact":
        rule["texts"] = mode.token_rule
    if mode.most_windows:
        rule["windows"] = mode.most_windows
    return {**engine.identity.settings, **rule}


def mode_for(engine: Engine, mode: Mode) -> Mode:
    """The mode with its block limited to the window of the model; a byte predictor has mode strict without a block.

    Raises:
        KolmoError: the model cannot be evaluated in this mode.
    """
    if not engine.whole:
        try:
            return mode.fitted(engine.window)
        except KolmoError as error:
            raise KolmoError(f"{engine.identity.spec}: {error}") from None
    if mode.name != "strict":
        raise KolmoError(
            f"{engine.identity.spec} reads whole documents, and mode {mode.name} is for models of tokens; use strict"
        )
    return Mode("strict", windows.whole, block=0, stride=0)


def run(
    engine: Engine,
    corpus: Corpus,
    mode: Mode,
    store: RowStore,
    found: CorpusScan,
    *,
    batch_size: int | None = None,
    keep_text: bool = True,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Score the documents that the store lacks, and compute the metrics of the whole corpus.

    Args:
        engine: the model.
        corpus: the documents.
        mode: the evaluation mode, fitted to the model (`mode_for`).
        store: where the rows are kept.
        found: the scan of the corpus.
        batch_size: windows in a batch; default: as many as the engine suggests.
        keep_text: whether rows keep the texts of their documents.
        progress: called with the bytes of the corpus that were finished since the last call.

    Returns:
        the content of result.json without its format number (docs/evaluation.md).

    Raises:
        KolmoError: the model fails, or no token can be scored.
    """
    began = time.perf_counter()
    state = RunState(engine, mode, store, found, keep_text, progress or no_progress)
    try:
        with closing(engine.run(state.batches(corpus, batch_size))) as results:
            for batch, nats in results:
                state.take(batch, nats)
        state.seal()
    finally:
        state.flush()
    seconds = time.perf_counter() - began
    with store.alone():  # another run may have other documents, and would drop these from the table
        store.compact(found.keys, found.labels)
        result = _summary(engine, corpus, mode, store, found, state, seconds)
        store.write(result)
    return result


def _summary(
    engine: Engine, corpus: Corpus, mode: Mode, store: RowStore, found: CorpusScan, state: RunState, seconds: float
) -> dict[str, Any]:
    """The content of result.json, from the table of a complete run."""
    columns = read_columns(store.folder, len(found.keys))
    parts = metrics.subsets(columns)
    counted = {"per_text": mode.per_text, "per_token": engine.identity.kind != "classical"}
    least = _least_probable(store, len(found.keys)) if counted["per_token"] else {}
    return {
        "model": asdict(engine.identity),
        "corpus": {
            "name": corpus.name,
            "source": corpus.source,
            "digest": found.text_hash,
            "first_date": found.first_date,
            "last_date": found.last_date,
            "repeated": len(found.repeats),
            "repeats": [
                {"name": found.labels[place].name, "first": found.labels[first].name}
                for place, first in islice(found.repeats.items(), MAX_NAMED_REPEATS)
            ],
        },
        "mode": {"name": mode.name, "block": mode.block, "stride": mode.stride, "headline": mode.headline}
        | ({"windows": mode.most_windows} if mode.most_windows else {}),
        "metrics": {**_metrics(columns, **counted), "min_k": least.get(None)},
        "subsets": {
            name: {**_metrics(metrics.select(columns, places), **counted), "min_k": least.get(name)}
            for name, places in parts.items()
            if len(parts) > 1 and columns["tokens"][places].any()
        },
        "run": {
            "finished": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "seconds": round(seconds, 3),
            "tokens": state.tokens_scored,
            "tokens_read": state.tokens_read,
            "versions": versions(),
        },
    }


def _metrics(columns: dict[str, Any], *, per_text: bool, per_token: bool) -> dict[str, Any]:
    """The metrics of documents; where they were scored with a memory, those of `MEMORY_METRICS` with it too."""
    found = metrics.metrics(columns, per_text=per_text, per_token=per_token).record()
    if "memory_nats" in columns:
        other = metrics.metrics({**columns, "nats": columns["memory_nats"]}).record()
        found |= {f"memory_{name}": other[name] for name in MEMORY_METRICS}
    return found


def _least_probable(store: RowStore, documents: int) -> dict[str | None, float]:
    """Min-K % of all tokens under the key None, and of each subset under its name."""
    parts: dict[str | None, list[Nats]] = {None: []}
    for row in islice(store.table(), documents):
        parts[None].append(row.token_nats)
        parts.setdefault(row.subset, []).append(row.token_nats)
    return {name: metrics.min_k(np.concatenate(found)) for name, found in parts.items()}


def versions() -> dict[str, str]:
    """Versions of Python, kolmo and the libraries that compute the costs."""
    from importlib.metadata import PackageNotFoundError, version

    found = {"python": platform.python_version(), "kolmo": installed_version()}
    for name in ("torch", "transformers", "tokenizers", "llama_cpp_python", "numpy"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
