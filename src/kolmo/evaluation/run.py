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
from bisect import bisect_right
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt

from kolmo.corpus import Corpus, Document
from kolmo.errors import KolmoError
from kolmo.evaluation import metrics, windows
from kolmo.evaluation.engines import Engine
from kolmo.evaluation.modes import Mode
from kolmo.evaluation.passages import Batch, Ids, Nats, Passage, batches
from kolmo.evaluation.rows import Row, count_words, document_key
from kolmo.evaluation.scorers import LITERAL, Tokenised
from kolmo.evaluation.store import Store, read_columns
from kolmo.evaluation.windows import Window

GROUP = 1 << 18  # characters of the documents that are batched together, for each worker
PAUSE = 30.0  # seconds between parts of the store
NO_LIMIT = 1 << 40

Report = Callable[[int], None]


@dataclass
class Scan:
    """What a first look at a corpus says.

    Attributes:
        keys: of the documents, in order (see `rows.document_key`).
        sizes: bytes of each.
        characters: of all.
        digest: first 16 hexadecimal digits of a SHA-256 over the SHA-256 of each text.
        first, last: dates, where documents have some.
    """

    keys: list[str] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    characters: int = 0
    digest: str = ""
    first: str = ""
    last: str = ""


def scan(corpus: Corpus, *, stream: bool) -> Scan:
    """Read a corpus once.

    Args:
        corpus: the corpus.
        stream: whether what a document costs depends on those before it.

    Raises:
        KolmoError: there are no documents.
    """
    found, whole, before, dates = Scan(), hashlib.sha256(), "", set()
    for document in corpus:
        data = document.content.encode()
        whole.update(hashlib.sha256(data).digest())
        before = document_key(document.content, before if stream else "")
        found.keys.append(before)
        found.sizes.append(len(data))
        found.characters += len(document.content)
        dates.add(document.date)
    if not found.keys:
        raise KolmoError(f"{corpus.source}: has no documents with text in them; check what is in it, or --subset")
    found.digest = whole.hexdigest()[:16]
    if dates := dates - {""}:
        found.first, found.last = min(dates), max(dates)
    return found


def settings_of(engine: Engine, mode: Mode) -> dict[str, Any]:
    """All that costs depend on but the documents: what the key of a store is made from."""
    return {**engine.identity.settings, "mode": mode.name, "block": mode.block, "stride": mode.stride}


def mode_for(engine: Engine, mode: Mode) -> Mode:
    """The mode as it fits a model.

    Raises:
        KolmoError: it does not.
    """
    if not engine.whole:
        return mode.fitted(engine.window)
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
    report: Report | None = None,
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
        report: called with numbers of bytes of the corpus that are through.

    Returns:
        the result, as result.json has it but for its format (docs/evaluation.md).

    Raises:
        KolmoError: the model fails, or nothing can be scored.
    """
    began = time.perf_counter()
    work = _Work(engine, mode, store, found, keep_text, report or (lambda size: None))
    try:
        with closing(engine.run(work.batches(corpus, batch_size))) as results:
            for batch, nats in results:
                work.take(batch, nats)
        work.seal()
    finally:
        work.flush()
    store.compact(found.keys)
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


class _Open:
    """A document in work."""

    def __init__(self, row: Row, offset: int) -> None:
        self.row = row
        self.offset = offset  # of its first token, among all tokens of the run
        self.index: npt.NDArray[np.intp] | None = None  # places of the model's tokens among the row's
        literal = row.token_ids == LITERAL
        if literal.any():
            self.index = np.flatnonzero(~literal)
        self.ids: Ids = row.token_ids[~literal].astype(np.int64)
        self.waiting = 0  # windows
        self.new = True  # something is to be stored
        self.sealed = False  # no more windows are to come

    def known(self, first: int, last: int) -> bool:
        """Whether all of its tokens there have costs."""
        return not np.isnan(self.row.token_nats[self._places(first, last)]).any()

    def put(self, first: int, nats: Nats) -> None:
        """Costs of its tokens from `first` on."""
        self.row.token_nats[self._places(first, first + len(nats))] = nats
        self.new = True

    def _places(self, first: int, last: int) -> Any:
        return slice(first, last) if self.index is None else self.index[first:last]


class _Work:
    """The state of a run."""

    def __init__(self, engine: Engine, mode: Mode, store: Store, found: Scan, keep_text: bool, report: Report) -> None:
        self.scored = 0  # tokens
        self.read = 0  # tokens that the model was handed
        self._engine, self._mode, self._store, self._found = engine, mode, store, found
        self._keep_text, self._report = keep_text, report
        self._open: list[_Open] = []  # by offset
        self._end = 0  # tokens so far
        self._rest = np.zeros(0, np.int64)  # the stream from the next window on
        self._begin = 0  # of that
        self._starts = False  # whether the stream begins with the start
        self._done: list[Row] = []
        self._flushed = time.monotonic()
        wanted = set(found.keys)
        if mode.stream:  # windows reach back into what is known
            self._known = {row.key: row for row in store.rows() if row.key in wanted}
            self._keys = set(self._known)
        else:
            self._known = {}
            self._keys = store.keys() & wanted

    # -- documents to batches --

    def batches(self, corpus: Corpus, size: int | None) -> Iterator[Batch]:
        """Batches of all that is to be scored."""
        most, tokens = self._engine.budget(self._mode.block)
        if size:
            most, tokens = size, NO_LIMIT
        for group in self._groups(corpus):
            yield from batches(self._stream(group) if self._mode.stream else self._alone(group), most, tokens)

    def _groups(self, corpus: Corpus) -> Iterator[list[_Open]]:
        """Documents, tokenised, some at a time; without those that nothing is left to do for."""
        group: list[tuple[int, str, Document]] = []
        size = 0
        place = -1
        for place, document in enumerate(corpus):
            if place == len(self._found.keys):
                break
            key = self._found.keys[place]
            if key in self._keys and not self._mode.stream:
                self._report(self._found.sizes[place])
                continue
            group.append((place, key, document))
            size += len(document.content)
            if size >= GROUP * self._engine.workers:
                yield self._tokenise(group)
                group, size = [], 0
        if group:
            yield self._tokenise(group)

    def _tokenise(self, group: list[tuple[int, str, Document]]) -> list[_Open]:
        new = [(place, key, document) for place, key, document in group if key not in self._known]
        tokens = dict(
            zip(
                (place for place, _, _ in new),
                self._engine.tokenise([document.content for _, _, document in new], self._mode.texts),
                strict=True,
            )
        )
        opened = []
        for place, key, document in group:
            known = self._known.pop(key, None)
            row = known or self._row(place, key, document, tokens[place])
            row.content = document.content if self._keep_text else None
            if known:
                row.token_nats = row.token_nats.copy()  # Parquet's are read-only
            opened.append(_Open(row, self._end))
            opened[-1].new = known is None
            self._end += len(opened[-1].ids)
        self._open += opened
        return opened

    def _row(self, place: int, key: str, document: Document, tokens: Tokenised) -> Row:
        text = document.content
        nats = np.full(len(tokens.ids), np.nan, np.float32) if tokens.nats is None else tokens.nats.copy()
        sizes = len(text), self._found.sizes[place], count_words(text)
        return Row(place, key, document.name, document.subset, document.date, *sizes, tokens.ids, tokens.lengths, nats)

    def _alone(self, group: list[_Open]) -> list[Passage]:
        """Passages of documents that stand alone."""
        passages = []
        for document in group:
            for window in self._mode.plan(len(document.ids), self._mode.block, self._mode.stride):
                document.waiting += 1
                place = document.offset + window.last - window.scored
                passages.append(self._passage(document.ids, window, place, self._engine.start))
            document.sealed = True
        self._retire()
        return passages

    def _stream(self, group: list[_Open]) -> list[Passage]:
        """The passages that the tokens of these documents, and what was left before them, complete."""
        block, stride, plan = self._mode.block, self._mode.stride, self._mode.plan
        begin = self._begin
        ids = self._rest = np.concatenate([self._rest, *(document.ids for document in group)])
        passages = []
        for window in plan(len(ids), block, stride):
            if begin and plan is windows.paper:  # only the stream's first window scores all of its block
                window = window._replace(scored=stride)
            place = begin + window.last - window.scored
            self._begin = begin + window.first - int(window.start) + (stride or block)
            start = None
            if window.start:  # in place of a token; only where the tokenizer itself begins texts with it
                start = int(ids[window.first - 1])
                if begin + window.first == 1:
                    self._starts = start == self._engine.start
                start = self._engine.start if self._starts else start
            touched = self._overlap(place, place + window.scored)
            if all(document.known(a, b) for document, a, b in touched):
                continue
            for document, _, _ in touched:
                document.waiting += 1
            passages.append(self._passage(ids, window, place, start))
        self._rest = ids[self._begin - begin :]
        ahead = block + 1 - stride if plan is windows.paper and self._begin else 0
        for document in self._open:  # that the next window scores nothing of
            document.sealed |= document.offset + len(document.ids) <= self._begin + ahead
        self._retire()
        return passages

    def _passage(self, ids: Ids, window: Window, place: int, start: int | None) -> Passage:
        tokens = ids[window.first : window.last]
        if window.start and start is not None:
            tokens = np.concatenate([[start], tokens])
        self.read += len(tokens)
        return Passage(tokens, window.scored, place)

    # -- nats to rows --

    def take(self, batch: Batch, nats: list[Nats]) -> None:
        """Put a batch's costs into their rows."""
        for passage, costs in zip(batch, nats, strict=True):
            self.scored += passage.scored
            for document, first, last in self._overlap(passage.place, passage.place + passage.scored):
                begin = document.offset + first - passage.place
                document.put(first, costs[begin : begin + last - first])
                document.waiting -= 1
        self._retire()
        if time.monotonic() - self._flushed > PAUSE:
            self.flush()

    def seal(self) -> None:
        """No more windows come."""
        for document in self._open:
            document.sealed = True
        self._retire()

    def flush(self) -> None:
        """Store the rows that are through."""
        self._store.append(self._done)
        self._done = []
        self._flushed = time.monotonic()

    def _overlap(self, first: int, last: int) -> list[tuple[_Open, int, int]]:
        """The documents that hold tokens `first` to `last` of the run, and which of theirs."""
        found = []
        at = max(bisect_right(self._open, first, key=lambda document: document.offset) - 1, 0)
        while at < len(self._open) and self._open[at].offset < last:
            document = self._open[at]
            a, b = max(first - document.offset, 0), min(last - document.offset, len(document.ids))
            if a < b:
                found.append((document, a, b))
            at += 1
        return found

    def _retire(self) -> None:
        """Close the documents that nothing is left to do for."""
        kept = []
        for document in self._open:
            if document.sealed and not document.waiting:
                if document.new:
                    self._done.append(document.row)
                self._report(document.row.bytes)
            else:
                kept.append(document)
        self._open = kept


def versions() -> dict[str, str]:
    """Of what computes."""
    from importlib.metadata import PackageNotFoundError, version

    found = {"python": platform.python_version()}
    for name in ("kolmo", "torch", "transformers", "tokenizers", "llama_cpp_python", "numpy"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
