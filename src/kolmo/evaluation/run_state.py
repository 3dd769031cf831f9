"""The state of a run: it turns documents into batches of passages, and puts the nats that come back into rows.

    documents --tokenise--> windows --> passages --> batches   (to an engine)
    rows <-- nats, placed by the position of their token       (from the engine, in any order)

What it is not: it does not scan the corpus or write the result (`evaluation.run`), and it does not run the model.
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
from kolmo.evaluation.results.store import RowStore
from kolmo.evaluation.scorers.scorers import LITERAL_ID, Tokenised
from kolmo.evaluation.windows import windows
from kolmo.evaluation.windows.modes import Mode
from kolmo.evaluation.windows.passages import NO_TOKEN_LIMIT, Ids, Nats, PassageBatch, ScoredPassage, batches
from kolmo.evaluation.windows.windows import Window
from kolmo.progress import Progress

GROUP_CHARACTERS = 1 << 18  # characters per worker of the documents whose windows are sorted into batches together
FLUSH_SECONDS = 30.0  # time between two writes of finished rows to the store


class DocumentLabels(NamedTuple):
    """The labels of a document in its corpus. They do not affect its code length."""

    name: str
    subset: str
    date: str


@dataclass
class CorpusScan:
    """What the first pass over a corpus collects.

    Attributes:
        keys: the key of each document, in order (see `rows.document_key`).
        labels: the labels of each document. Labels always come from the corpus; a stored row has those of the run that
            scored it.
        sizes: the size of each document in UTF-8 bytes.
        repeats: maps the index of each document that repeats an earlier text to the index of the first one.
        characters: the number of characters in all documents.
        text_hash: first 16 hexadecimal digits of a SHA-256 over the SHA-256 of each text.
        first_date, last_date: the earliest and latest date; empty if no document has a date.
        skipped: the files that the pass skipped, each with the reason (a later pass ends at the last document, and
            would miss those that come after it).
    """

    keys: list[str] = field(default_factory=list)
    labels: list[DocumentLabels] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    repeats: dict[int, int] = field(default_factory=dict)
    characters: int = 0
    text_hash: str = ""
    first_date: str = ""
    last_date: str = ""
    skipped: tuple[str, ...] = ()


class OpenDocument:
    """A document some of whose windows have not been scored yet.

    Args:
        row: its row, whose costs are filled in.
        offset: the position of its first token among all tokens of the run.
    """

    def __init__(self, row: Row, offset: int) -> None:
        self.row = row
        self.offset = offset
        self.index: npt.NDArray[np.intp] | None = None  # positions of the model's tokens in the row; None: all
        literal = row.token_ids == LITERAL_ID
        if literal.any():
            self.index = np.flatnonzero(~literal)
        self.ids: Ids = row.token_ids[~literal].astype(np.int64)
        self.waiting = 0  # windows that have been handed out and not returned
        self.changed = True  # whether the row must be stored
        self.sealed = False  # whether no further window scores any of its tokens

    def is_scored(self, first: int, last: int) -> bool:
        """Whether all tokens from `first` to `last - 1` have costs."""
        return not np.isnan(self.row.token_nats[self._places(first, last)]).any()

    def put(self, first: int, nats: Nats) -> None:
        """Set the costs of the tokens from `first` on."""
        places = self._places(first, first + len(nats))
        if self.row.token_memory_nats is not None:
            self.row.token_memory_nats[places] = nats[:, 1]
            nats = nats[:, 0]
        self.row.token_nats[places] = nats
        self.changed = True

    def _places(self, first: int, last: int) -> Any:
        return slice(first, last) if self.index is None else self.index[first:last]


class RunState:
    """The state of a run.

    Args:
        engine: the model.
        mode: the evaluation mode, fitted to the model.
        store: where finished rows are written; rows that it has are not scored again.
        scan: the scan of the corpus.
        keep_text: whether rows keep the text of their document.
        progress: called with the bytes of each document that is finished.

    Attributes:
        tokens_scored: tokens that were scored so far.
        tokens_read: tokens in all passages so far, context included.
    """

    def __init__(
        self, engine: Engine, mode: Mode, store: RowStore, scan: CorpusScan, keep_text: bool, progress: Progress
    ) -> None:
        self.tokens_scored = 0
        self.tokens_read = 0
        self._engine, self._mode, self._store, self._scan = engine, mode, store, scan
        self._keep_text, self._progress = keep_text, progress
        self._open: list[OpenDocument] = []  # sorted by offset
        self._end = 0  # tokens of all documents so far
        self._rest = np.zeros(0, np.int64)  # tokens of the stream from the next window on
        self._rest_begin = 0  # position of the first of them in the stream
        self._begins_with_start = False  # whether the first token of the stream is the start token
        self._done: list[Row] = []
        self._flushed = time.monotonic()
        wanted = set(scan.keys)
        with store.alone():
            if mode.stream:  # windows also read documents that are already scored
                self._known = {row.key: row for row in store.rows() if row.key in wanted}
                self._keys = set(self._known)
            else:
                self._known = {}
                self._keys = store.keys() & wanted

    # -- from documents to batches --

    def batches(self, corpus: Corpus, size: int | None) -> Iterator[PassageBatch]:
        """Batches of all passages that are not scored yet.

        Args:
            corpus: the corpus that was scanned.
            size: windows in a batch; None: as many as the engine suggests.

        Raises:
            KolmoError: a document differs from the scan.
        """
        most, tokens = self._engine.budget(self._mode.block)
        if size:
            most, tokens = size, NO_TOKEN_LIMIT
        for group in self._groups(corpus):
            yield from batches(self._stream(group) if self._mode.stream else self._alone(group), most, tokens)

    def _groups(self, corpus: Corpus) -> Iterator[list[OpenDocument]]:
        """Tokenised documents in groups, without those that are already scored."""
        group: list[tuple[int, str, Document]] = []
        size = 0
        before = ""
        for place, (key, document) in enumerate(zip(self._scan.keys, corpus, strict=False)):
            if document_key(document.content, before) != key:
                raise KolmoError(f"{corpus.source}: document {place} changed while it was read; run again")
            before = key if self._mode.stream else ""
            if key in self._keys and not self._mode.stream:
                self._progress(self._scan.sizes[place])
                continue
            if not self._mode.stream:
                self._keys.add(key)  # a repeated text is scored once
            group.append((place, key, document))
            size += len(document.content)
            if size >= GROUP_CHARACTERS * self._engine.workers:
                yield self._tokenise(group)
                group, size = [], 0
        if group:
            yield self._tokenise(group)

    def _tokenise(self, group: list[tuple[int, str, Document]]) -> list[OpenDocument]:
        new = [(place, key, document) for place, key, document in group if key not in self._known]
        tokens = dict(
            zip(
                (place for place, _, _ in new),
                self._engine.tokenise([document.content for _, _, document in new], self._mode.token_rule),
                strict=True,
            )
        )
        opened = []
        for place, key, document in group:
            known = self._known.pop(key, None)
            row = known or self._row(place, key, document, tokens[place])
            row.content = document.content if self._keep_text else None
            if known:
                row.token_nats = row.token_nats.copy()  # arrays from Parquet are read-only
            opened.append(OpenDocument(row, self._end))
            opened[-1].changed = known is None
            self._end += len(opened[-1].ids)
        self._open += opened
        return opened

    def _row(self, place: int, key: str, document: Document, tokens: Tokenised) -> Row:
        text = document.content
        nats = np.full(len(tokens.ids), np.nan, np.float32) if tokens.nats is None else tokens.nats.copy()
        sizes = len(text), self._scan.sizes[place], count_words(text)
        row = Row(place, key, *self._scan.labels[place], *sizes, tokens.ids, tokens.lengths, nats)
        if "memory" in self._engine.identity.settings:
            row.token_memory_nats = nats.copy()  # those of literals
        return row

    def _alone(self, group: list[OpenDocument]) -> list[ScoredPassage]:
        """Passages of documents that are scored independently."""
        passages = []
        for document in group:
            for window in self._mode.windows(len(document.ids)):
                document.waiting += 1
                place = document.offset + window.last - window.scored
                passages.append(self._passage(document.ids, window, place, self._engine.start))
            document.sealed = True
        self._retire()
        return passages

    def _stream(self, group: list[OpenDocument]) -> list[ScoredPassage]:
        """Passages of all windows that these documents complete, after the rest of the documents before them."""
        block, stride, rule = self._mode.block, self._mode.stride, self._mode.window_rule
        begin = self._rest_begin
        ids = self._rest = np.concatenate([self._rest, *(document.ids for document in group)])
        passages = []
        for window in rule(len(ids), block, stride):
            if begin and rule is windows.paper:  # only the first window of the stream scores its whole block
                window = window._replace(scored=stride)
            place = begin + window.last - window.scored
            self._rest_begin = begin + window.first - int(window.start) + (stride or block)
            start = None
            if window.start:  # the start token replaces the first one only if the tokenizer begins texts with it
                start = int(ids[window.first - 1])
                if begin + window.first == 1:
                    self._begins_with_start = start == self._engine.start
                start = self._engine.start if self._begins_with_start else start
            touched = self._overlap(place, place + window.scored)
            if all(document.is_scored(a, b) for document, a, b in touched):
                continue
            for document, _, _ in touched:
                document.waiting += 1
            passages.append(self._passage(ids, window, place, start))
        self._rest = ids[self._rest_begin - begin :]
        ahead = block + 1 - stride if rule is windows.paper and self._rest_begin else 0
        for document in self._open:  # sealed where the next window scores none of its tokens
            document.sealed |= document.offset + len(document.ids) <= self._rest_begin + ahead
        self._retire()
        return passages

    def _passage(self, ids: Ids, window: Window, place: int, start: int | None) -> ScoredPassage:
        tokens = ids[window.first : window.last]
        if window.start and start is not None:
            tokens = np.concatenate([[start], tokens])
        self.tokens_read += len(tokens)
        return ScoredPassage(tokens, window.scored, place)

    # -- from nats to rows --

    def take(self, batch: PassageBatch, nats: list[Nats]) -> None:
        """Put the costs of a batch into the rows of its documents."""
        for passage, costs in zip(batch, nats, strict=True):
            self.tokens_scored += passage.scored
            for document, first, last in self._overlap(passage.place, passage.place + passage.scored):
                begin = document.offset + first - passage.place
                document.put(first, costs[begin : begin + last - first])
                document.waiting -= 1
        self._retire()
        if time.monotonic() - self._flushed > FLUSH_SECONDS:
            self.flush()

    def seal(self) -> None:
        """Finish all documents; called after the last batch."""
        for document in self._open:
            document.sealed = True
        self._retire()

    def flush(self) -> None:
        """Store the rows that are finished."""
        self._store.append(self._done)
        self._done = []
        self._flushed = time.monotonic()

    def _overlap(self, first: int, last: int) -> list[tuple[OpenDocument, int, int]]:
        """The documents with tokens `first` to `last - 1` of the run, each with the range of its own tokens."""
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
        """Remove the documents that are finished, and keep their rows for the next flush."""
        kept = []
        for document in self._open:
            if document.sealed and not document.waiting:
                if document.changed:
                    self._done.append(document.row)
                self._progress(document.row.bytes)
            else:
                kept.append(document)
        self._open = kept
