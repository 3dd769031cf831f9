"""A run: one model, one corpus, one mode; documents become windows, windows nats, nats rows.

    corpus --scan--> keys --which are new?--> tokens --windows--> batches --engine--> nats --> rows --> store

The corpus is read twice: once for its keys, lengths and hash, once for what is new. Rows are stored as they are
through, every half minute and when the run ends, however it ends.

What it is not: it opens nothing (`evaluation.evaluate`), and knows no model but through an engine.
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
from kolmo.evaluation.results.store import Store, read_columns
from kolmo.evaluation.windows import windows
from kolmo.evaluation.windows.modes import Mode
from kolmo.evaluation.windows.passages import Nats
from kolmo.evaluation.work import Labels, Scan, Work
from kolmo.installing import installed_version
from kolmo.progress import Progress, no_progress

MAX_NAMED_REPEATS = 20  # documents that repeat another's text which a result names; it counts all


def scan(corpus: Corpus, *, stream: bool) -> Scan:
    """Read a corpus once.

    Args:
        corpus: the corpus.
        stream: whether what a document costs depends on those before it.

    Raises:
        KolmoError: there are no documents.
    """
    found, whole, before = Scan(), hashlib.sha256(), ""
    first: dict[bytes, int] = {}
    for place, document in enumerate(corpus):
        data = document.content.encode()
        digest = hashlib.sha256(data).digest()
        whole.update(digest)
        if (earlier := first.setdefault(digest, place)) != place:
            found.repeats[place] = earlier
        before = document_key(document.content, before if stream else "")
        found.keys.append(before)
        found.sizes.append(len(data))
        found.characters += len(document.content)
        found.labels.append(Labels(document.name, document.subset, document.date))
    if not found.keys:
        raise KolmoError(
            f"{corpus.source}: has no documents with text in them; check what is in it, or the argument subset"
        )
    found.digest = whole.hexdigest()[:16]
    if dates := {labels.date for labels in found.labels} - {""}:
        found.first, found.last = min(dates), max(dates)
    return found


def settings_of(engine: Engine, mode: Mode) -> dict[str, Any]:
    """All that costs depend on but the documents: what the key of a store is made from."""
    rule = {"mode": mode.name, "block": mode.block, "stride": mode.stride}
    if mode.texts != "exact":
        rule["texts"] = mode.texts
    return {**engine.identity.settings, **rule}


def mode_for(engine: Engine, mode: Mode) -> Mode:
    """The mode as it fits a model.

    Raises:
        KolmoError: it does not.
    """
    if not engine.whole:
        try:
            return mode.fitted(engine.window)
        except KolmoError as error:
            raise KolmoError(f"{engine.identity.spec}: {error}") from None
    if mode.name != "strict":
        raise KolmoError(
            f"{engine.identity.spec} takes documents whole, and mode {mode.name} is for models of tokens; use strict"
        )
    return Mode("strict", windows.whole, block=0, stride=0)


def run(
    engine: Engine,
    corpus: Corpus,
    mode: Mode,
    store: Store,
    found: Scan,
    *,
    batch_size: int | None = None,
    keep_text: bool = True,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Score what a store does not have yet, and say what all of it comes to.

    Args:
        engine: the model.
        corpus: the documents.
        mode: fitted to the model.
        store: for the rows.
        found: the scan of the corpus.
        batch_size: windows at once; default: what the model likes.
        keep_text: whether rows keep their texts.
        progress: called with numbers of bytes of the corpus that are through.

    Returns:
        the result, as result.json has it but for its format (docs/evaluation.md).

    Raises:
        KolmoError: the model fails, or nothing can be scored.
    """
    began = time.perf_counter()
    work = Work(engine, mode, store, found, keep_text, progress or no_progress)
    try:
        with closing(engine.run(work.batches(corpus, batch_size))) as results:
            for batch, nats in results:
                work.take(batch, nats)
        work.seal()
    finally:
        work.flush()
    store.compact(found.keys, found.labels)
    seconds = time.perf_counter() - began
    columns = read_columns(store.folder, len(found.keys))
    parts = metrics.subsets(columns)
    counted = {"per_text": mode.per_text, "per_token": engine.identity.kind != "classical"}
    least = _least_probable(store, len(found.keys)) if counted["per_token"] else {}
    result = {
        "model": asdict(engine.identity),
        "corpus": {
            "name": corpus.name,
            "source": corpus.source,
            "digest": found.digest,
            "first_date": found.first,
            "last_date": found.last,
            "repeated": len(found.repeats),
            "repeats": [
                {"name": found.labels[place].name, "first": found.labels[first].name}
                for place, first in islice(found.repeats.items(), MAX_NAMED_REPEATS)
            ],
        },
        "mode": {"name": mode.name, "block": mode.block, "stride": mode.stride, "headline": mode.headline},
        "metrics": {**metrics.metrics(columns, **counted).record(), "min_k": least.get(None)},
        "subsets": {
            name: {**metrics.metrics(metrics.select(columns, places), **counted).record(), "min_k": least.get(name)}
            for name, places in parts.items()
            if len(parts) > 1 and columns["tokens"][places].any()
        },
        "run": {
            "finished": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "seconds": round(seconds, 3),
            "tokens": work.scored,
            "tokens_read": work.read,
            "versions": versions(),
        },
    }
    store.write(result)
    return result


def _least_probable(store: Store, documents: int) -> dict[str | None, float]:
    """Min-K of all tokens (None), and of each subset."""
    parts: dict[str | None, list[Nats]] = {None: []}
    for row in islice(store.table(), documents):
        parts[None].append(row.token_nats)
        parts.setdefault(row.subset, []).append(row.token_nats)
    return {name: metrics.min_k(np.concatenate(found)) for name, found in parts.items()}


def versions() -> dict[str, str]:
    """Of what computes."""
    from importlib.metadata import PackageNotFoundError, version

    found = {"python": platform.python_version(), "kolmo": installed_version()}
    for name in ("torch", "transformers", "tokenizers", "llama_cpp_python", "numpy"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
