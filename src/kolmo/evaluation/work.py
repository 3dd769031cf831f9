"""The work of a run: documents to batches of passages, and costs back to rows, whatever the order they come in.

    documents --tokens--> windows --> passages --> batches   (to an engine)
    rows <-- where each token's cost belongs <-- nats        (from it)

What it is not: it reads no corpus for the first time, stores no result (`evaluation.run`), and runs no model.
"""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from kolmo.corpus import Corpus, Document
from kolmo.errors import KolmoError
from kolmo.evaluation.engines.engines import Engine
from kolmo.evaluation.results.rows import Row, count_words, document_key
from kolmo.evaluation.results.store import Store
from kolmo.evaluation.scorers.scorers import LITERAL, Tokenised
from kolmo.evaluation.windows import windows
from kolmo.evaluation.windows.modes import Mode
from kolmo.evaluation.windows.passages import Batch, Ids, Nats, Passage, batches
from kolmo.evaluation.windows.windows import Window
from kolmo.progress import Progress

GROUP = 1 << 18  # characters of the documents that are batched together, for each worker
PAUSE = 30.0  # seconds between parts of the store
NO_LIMIT = 1 << 40


class Labels(NamedTuple):
    """What a corpus calls a document: nothing of it changes what the document costs."""

    name: str
    subset: str
    date: str


@dataclass
class Scan:
    """What a first look at a corpus says.

    Attributes:
        keys: of the documents, in order (see `rows.document_key`).
        labels: of each. They always come from the corpus; a store's rows have those of the run that scored them.
        sizes: bytes of each.
        repeats: places of the documents whose text came before, each with the place of the first that has it.
        characters: of all.
        digest: first 16 hexadecimal digits of a SHA-256 over the SHA-256 of each text.
        first, last: dates, where documents have some.
    """

    keys: list[str] = field(default_factory=list)
    labels: list[Labels] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    repeats: dict[int, int] = field(default_factory=dict)
    characters: int = 0
    digest: str = ""
    first: str = ""
    last: str = ""


class Open:
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


class Work:
    """The state of a run."""

    def __init__(
        self, engine: Engine, mode: Mode, store: Store, found: Scan, keep_text: bool, progress: Progress
    ) -> None:
        self.scored = 0  # tokens
        self.read = 0  # tokens that the model was handed
        self._engine, self._mode, self._store, self._found = engine, mode, store, found
        self._keep_text, self._progress = keep_text, progress
        self._open: list[Open] = []  # by offset
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

    def _groups(self, corpus: Corpus) -> Iterator[list[Open]]:
        """Documents, tokenised, some at a time; without those that nothing is left to do for."""
        group: list[tuple[int, str, Document]] = []
        size = 0
        before = ""
        for place, (key, document) in enumerate(zip(self._found.keys, corpus, strict=False)):
            if document_key(document.content, before) != key:
                raise KolmoError(f"{corpus.source}: document {place} changed while it was read; run again")
            before = key if self._mode.stream else ""
            if key in self._keys and not self._mode.stream:
                self._progress(self._found.sizes[place])
                continue
            if not self._mode.stream:
                self._keys.add(key)  # a text that comes again is scored once
            group.append((place, key, document))
            size += len(document.content)
            if size >= GROUP * self._engine.workers:
                yield self._tokenise(group)
                group, size = [], 0
        if group:
            yield self._tokenise(group)

    def _tokenise(self, group: list[tuple[int, str, Document]]) -> list[Open]:
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
            opened.append(Open(row, self._end))
            opened[-1].new = known is None
            self._end += len(opened[-1].ids)
        self._open += opened
        return opened

    def _row(self, place: int, key: str, document: Document, tokens: Tokenised) -> Row:
        text = document.content
        nats = np.full(len(tokens.ids), np.nan, np.float32) if tokens.nats is None else tokens.nats.copy()
        sizes = len(text), self._found.sizes[place], count_words(text)
        return Row(place, key, *self._found.labels[place], *sizes, tokens.ids, tokens.lengths, nats)

    def _alone(self, group: list[Open]) -> list[Passage]:
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

    def _stream(self, group: list[Open]) -> list[Passage]:
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

    def _overlap(self, first: int, last: int) -> list[tuple[Open, int, int]]:
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
                self._progress(document.row.bytes)
            else:
                kept.append(document)
        self._open = kept
