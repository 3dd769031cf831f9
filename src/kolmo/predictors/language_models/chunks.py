"""Chunks of tokens, coded in parallel lanes of a backend: each chunk has a coder of its own.

There are two ways through the chunks. `_steps` is the decoder's: a token of each lane in a call. An encoder may take it
too, and then computes exactly what a decoder here will compute, or read whole chunks in one batched pass (`passes`,
teacher forcing). What it is not: the layout of a block (`predictors.language_models.block`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt

from kolmo.errors import PredictorError
from kolmo.native import tables
from kolmo.native.dispatch import kernels
from kolmo.predictors.language_models import grids
from kolmo.predictors.language_models.backends import (
    GROUP,
    MAX_LOGITS_BYTES,
    Backend,
    DeviceLanes,
    Ids,
    Lanes,
    Logits,
    SlidingLanes,
    Sums,
)
from kolmo.predictors.language_models.grids import Tolerance
from kolmo.progress import Progress

MIN_PARALLEL_LOGITS = 1 << 20  # logits of a step from which on several threads decode its lanes


class Segment(NamedTuple):
    """Tokens `first` to `last` of a chunk are coded after the start token and the tokens from `context` on are read."""

    context: int
    first: int
    last: int


def segments(length: int, context: int) -> Iterator[Segment]:
    """How a chunk of `length` tokens is read in a window of `context` tokens: half of the window stays at each step.

    The model never reads more than `context` tokens, the start token included; with `context` 0 there is no limit.
    """
    keep = context // 2
    first, last = 0, min(length, context or length)
    while first < length:
        yield Segment(max(first - keep, 0), first, last)
        first, last = last, min(last + context - keep, length)


class Step(NamedTuple):
    """A token of each of some lanes, which are read in one call.

    Attributes:
        first: chunk of the first of these lanes.
        at: place of the token in its chunk.
        active: which of the lanes have such a token, counted from `first`.
        values: logits of all of these lanes, shape (lanes, 1, size), or `Sums` of them.
        texts: tokens of these lanes, shape (lanes, longest). The one at place `at` must be there before the next step.
    """

    first: int
    at: int
    active: npt.NDArray[np.intp]
    values: Any
    texts: npt.NDArray[np.int64]


class ChunkCoder:
    """Codes chunks with a backend.

    Args:
        backend: the network.
        context: length in tokens of the context window, 0 without a limit.
        count: a function from the number of tokens of a block to its number of chunks.
        batch: a function from the number of chunks to the number of lanes that are read at once.
        threads: of the backend.
        memory: size in tokens of the memory that the chunks share (docs/memory.md); 0 without one. With a memory,
            `batch` must be the writer's, since the lanes that are read at once teach each other.
        at_once: most lanes in one call of the backend; 0: all that are read at once.
        slides: whether a window that is full slides; else its later half is read again.
    """

    def __init__(
        self,
        backend: Backend,
        context: int,
        count: Callable[[int], int],
        batch: Callable[[int], int],
        threads: int,
        memory: int = 0,
        at_once: int = 0,
        slides: bool = False,
    ) -> None:
        self.backend, self.context, self.count, self.batch, self.threads = backend, context, count, batch, threads
        self.memory, self.at_once, self.slides = memory, at_once, slides
        self.separate = False  # whether each chunk has a memory of its own, since they are contents of their own

    def lengths(self, tokens: int, chunks: int | None = None) -> list[int]:
        """Number of tokens in each chunk: they are equal, so that lanes end together.

        Args:
            tokens: of the block.
            chunks: their number; by default, what a writer makes of the block.
        """
        chunks = self.count(tokens) if chunks is None else chunks
        return [tokens * (k + 1) // chunks - tokens * k // chunks for k in range(chunks)]

    def split(self, ids: Ids) -> list[Ids]:
        """The tokens of each chunk."""
        return np.split(ids, np.cumsum(self.lengths(len(ids)))[:-1]) if len(ids) else []

    def tree(self, chosen: Tolerance) -> kernels.TokenTree:
        """The token tree of a tolerance."""
        return kernels.TokenTree(grids.tables(chosen), self.backend.size)

    def encode(
        self, chunks: list[Ids], chosen: Tolerance, progress: Progress | None, *, stepped: bool = False
    ) -> tuple[list[bytes], Tolerance, int]:
        """Payloads; the tolerance, with shorter spans where one had no choice of grids; the number of choices.

        Args:
            chunks: tokens of each.
            chosen: the tolerance to begin with.
            progress: of bytes.
            stepped: take the decoder's way, with its calls of the backend, else read whole chunks at once.
        """
        while True:
            tree = self.tree(chosen)
            encoders = [kernels.TokenEncoder(tree, bool(self.memory)) for _ in chunks]
            try:
                if stepped:
                    self._encode_steps(encoders, chunks, progress)
                elif self._sums:
                    for lane, at, (top, leaf) in self.passes(chunks, progress, sums=True):
                        checked(encoders[lane].encode_sums, top, leaf, chunks[lane][at : at + len(top)])
                else:
                    for lane, at, logits in self.passes(chunks, progress):
                        checked(encoders[lane].encode, logits, logits.itemsize, chunks[lane][at : at + len(logits)])
                for memory, first, group in self._groups(tree, list(map(len, chunks))):
                    memory.encode(encoders[first : first + group], 0 if self.separate else first)
                payloads = [encoder.finish() for encoder in encoders]
            except OverflowError:
                shorter = chosen.shorter()
                if shorter is None:
                    raise PredictorError(
                        f"no choice of grids allows a tolerance of {chosen.bound:.2g} in the logits here; lower the "
                        "argument tolerance, or use dtype='float64' (of GGUF models, F32 weights)"
                    ) from None
                chosen, progress = shorter, None  # all progress has been reported already
                continue
            return payloads, chosen, sum(encoder.choices() for encoder in encoders)

    def costs(self, chunks: list[Ids], progress: Progress | None) -> list[npt.NDArray[np.float64]]:
        """Nats of each token of each chunk by teacher forcing, on the finest grid, with the memory if there is one."""
        tree = self.tree(grids.WITHOUT)
        costs = [np.zeros(len(chunk)) for chunk in chunks]
        encoders = [kernels.TokenEncoder(tree, True) for _ in chunks] if self.memory else []
        for lane, at, logits in self.passes(chunks, progress):
            wanted = chunks[lane][at : at + len(logits)]
            if self.memory:
                checked(encoders[lane].encode, logits, logits.itemsize, wanted)
            else:
                nats = checked(tree.costs, logits, logits.itemsize, wanted, True)
                costs[lane][at : at + len(logits)] = np.frombuffer(nats, np.float64)
        for memory, first, group in self._groups(tree, list(map(len, chunks))):
            found = np.frombuffer(memory.costs(encoders[first : first + group], 0 if self.separate else first))
            ends = np.cumsum([len(chunk) for chunk in chunks[first : first + group]])
            costs[first : first + group] = np.split(found, ends[:-1])
        return costs

    def _segments(self, length: int) -> Iterator[Segment]:
        """How a chunk is read; in a window that slides, all at once."""
        return segments(length, 0 if self.slides else self.context)

    def _lanes(self, count: int) -> Lanes:
        """New lanes of the backend, with a window that slides where it does."""
        if self.slides:
            return SlidingLanes(self.backend, count, self.threads, self.context)
        return self.backend.lanes(count, self.threads)

    def _calls(self, lanes: int) -> int:
        """Lanes in one call of the backend, of those that are read at once."""
        return min(lanes, self.at_once or lanes)

    def _groups(self, tree: kernels.TokenTree, lengths: list[int]) -> Iterator[tuple[kernels.TokenMemory, int, int]]:
        """(memory, first chunk, number of chunks) of the chunks that are coded together; none without a memory."""
        if not self.memory or not lengths:
            return
        if self.separate:
            for k, length in enumerate(lengths):
                yield self._memory(tree, [length]), k, 1
            return
        memory, batch = self._memory(tree, lengths), self.batch(len(lengths))
        for first in range(0, len(lengths), batch):
            yield memory, first, batch

    def _memory(self, tree: kernels.TokenTree, lengths: list[int]) -> kernels.TokenMemory:
        counts = np.array(lengths, np.int32).tobytes()
        return kernels.TokenMemory(
            tree, tables.packed(), self.backend.vocabulary.kinds(self.backend.size), counts, self.memory
        )

    def _decoders(
        self, tree: kernels.TokenTree, payloads: list[bytes], lengths: list[int]
    ) -> list[kernels.TokenDecoder]:
        if not self.memory:
            return [kernels.TokenDecoder(tree, payload) for payload in payloads]
        decoders = []
        for memory, first, group in self._groups(tree, lengths):
            for k, payload in enumerate(payloads[first : first + group]):
                decoders.append(kernels.TokenDecoder(tree, payload, memory, 0 if self.separate else first + k))
        return decoders

    def passes(
        self, chunks: Sequence[Ids], progress: Progress | None, *, sums: bool = False
    ) -> Iterator[tuple[int, int, Any]]:
        """(chunk, place, logits of the tokens there) of all tokens by teacher forcing; with `sums`, of their masses."""
        backend, lengths = self.backend, self.backend.vocabulary.lengths
        batch = self._calls(self.batch(len(chunks)))
        for group in range(0, len(chunks), batch):
            lanes = chunks[group : group + batch]
            texts = self.matrix(lanes)
            piece = max(MAX_LOGITS_BYTES // (len(lanes) * backend.size * backend.itemsize), 1)
            for segment in self._segments(texts.shape[1]):
                reader = self._lanes(len(lanes))
                read = self.with_start(texts, segment.context, segment.last - 1)
                skipped = segment.first - segment.context  # tokens whose logits an earlier segment used
                step = piece if backend.continues or read.shape[1] <= piece else 1
                at = 0
                while at < read.shape[1]:
                    size = step if at or skipped < step else skipped + 1  # the context alone gives one row of logits
                    part = read[:, at : at + (min(size, reader.room) if isinstance(reader, SlidingLanes) else size)]
                    wanted = min(part.shape[1], at + part.shape[1] - skipped)
                    first = segment.context + at + part.shape[1] - wanted
                    if sums:
                        kept = cast(DeviceLanes, reader).feed_sums(part, wanted)
                        values: tuple[Any, ...] = kept.top(), kept.leaf(texts[:, first : first + wanted] // GROUP)
                    else:
                        values = (reader.feed(part, wanted),)
                    for lane, ids in enumerate(lanes):
                        count = min(len(ids) - first, wanted)
                        if count > 0:
                            rows = tuple(value[lane, :count] for value in values)
                            yield group + lane, first, rows if sums else rows[0]
                            if progress:
                                progress(int(lengths(ids[first : first + count]).sum()))
                    at += part.shape[1]

    @property
    def _sums(self) -> bool:
        """Whether coding does without whole rows of logits; a memory needs the decisions of all lanes at the end."""
        return self.backend.sums and not self.memory

    def _encode_steps(self, encoders: list[kernels.TokenEncoder], chunks: list[Ids], progress: Progress | None) -> None:
        """Code chunks on the decoder's way: the mirror of `decode`."""

        def one(encoder: kernels.TokenEncoder, logits: Logits, token: Ids) -> None:
            checked(encoder.encode, logits, logits.itemsize, token)

        with self._workers(len(chunks)) as each:
            for first, at, active, values, texts in self._steps(list(map(len, chunks)), progress, chunks):
                lanes = [encoders[first + lane] for lane in active]
                tokens = [chunks[first + lane][at : at + 1] for lane in active]
                if self._sums:
                    groups = texts[:, at : at + 1] // GROUP
                    tops, leaves = values.top()[active], values.leaf(groups)[active]
                    for encoder, top, leaf, token in zip(lanes, tops, leaves, tokens, strict=True):
                        checked(encoder.encode_sums, top, leaf, token)
                else:
                    each(one, lanes, [values[lane, 0] for lane in active], tokens)

    def decode(
        self, payloads: list[bytes], lengths: list[int], chosen: Tolerance, progress: Progress | None
    ) -> list[Ids]:
        """Tokens of all chunks."""

        def one(decoder: kernels.TokenDecoder, logits: Logits) -> int:
            return cast(int, checked(decoder.decode, logits, logits.itemsize))

        decoders = self._decoders(self.tree(chosen), payloads, lengths)
        result = [np.empty(length, np.int32) for length in lengths]
        with self._workers(len(lengths)) as each:
            for first, at, active, values, texts in self._steps(lengths, progress):
                lanes = [decoders[first + lane] for lane in active]
                if self._sums:
                    found = self._decode_sums(lanes, values, active, len(texts))
                else:
                    found = each(one, lanes, [values[lane, 0] for lane in active])
                texts[active, at] = found
                for lane, token in zip(active, found, strict=True):
                    result[first + lane][at] = token
        return result

    def _decode_sums(
        self, decoders: list[kernels.TokenDecoder], sums: Sums, active: npt.NDArray[np.intp], lanes: int
    ) -> list[int]:
        """The next token of each active lane, of `lanes`, in two calls: its group, then the token in the group."""
        groups = np.zeros((lanes, 1), np.int64)
        for decoder, lane, top in zip(decoders, active, sums.top()[active, 0], strict=True):
            groups[lane] = checked(decoder.group, top)
        leaves = sums.leaf(groups)[active, 0]
        return [
            checked(decoder.leaf, int(group), leaf)
            for decoder, group, leaf in zip(decoders, groups[active, 0], leaves, strict=True)
        ]

    @contextmanager
    def _workers(self, chunks: int) -> Iterator[Callable[..., list[Any]]]:
        """A map over lanes that returns a list; by threads where that is worth it."""
        lanes = self.batch(chunks)
        parallel = lanes > 1 and lanes * self.backend.size >= MIN_PARALLEL_LOGITS and not self.memory
        with ThreadPoolExecutor(self.threads if parallel and self.threads > 1 else 1) as pool:
            apply = pool.map if parallel and self.threads > 1 else map
            yield lambda function, *lanes: list(apply(function, *lanes))

    def _steps(
        self, lengths: list[int], progress: Progress | None, chunks: Sequence[Ids] | None = None
    ) -> Iterator[Step]:
        """All tokens of all chunks, one token of each lane in a call.

        Encoder and decoder share it, so that the same calls of the backend, in the same order and with the same tokens,
        give both their logits.

        Args:
            lengths: tokens of each chunk.
            progress: of bytes.
            chunks: the tokens, if they are known; else they are put into the `texts` of each step.
        """
        backend, bytes_of = self.backend, self.backend.vocabulary.lengths
        batch = self.batch(len(lengths))
        for group in range(0, len(lengths), batch):
            sizes = np.array(lengths[group : group + batch])
            texts = np.full((len(sizes), int(sizes.max())), backend.start, np.int64)
            if chunks is not None:
                texts = self.matrix(chunks[group : group + batch])
            reads = self._calls(len(sizes))
            parts = [slice(first, min(first + reads, len(sizes))) for first in range(0, len(sizes), reads)]
            for segment in self._segments(texts.shape[1]):
                readers = [self._lanes(part.stop - part.start) for part in parts]
                read = self.with_start(texts, segment.context, segment.first)
                for at in range(segment.first, segment.last):
                    for part, reader in zip(parts, readers, strict=True):
                        feed = cast(DeviceLanes, reader).feed_sums if self._sums else reader.feed
                        active = np.flatnonzero(sizes[part] > at)
                        yield Step(group + part.start, at, active, feed(read[part], 1), texts[part])
                    if progress:
                        progress(int(bytes_of(texts[sizes > at, at]).sum()))
                    read = texts[:, at : at + 1]

    def matrix(self, chunks: Sequence[Ids]) -> npt.NDArray[np.int64]:
        """Chunks as rows; shorter ones are padded with start tokens, whose logits are not used."""
        texts = np.full((len(chunks), max(map(len, chunks))), self.backend.start, np.int64)
        for row, chunk in zip(texts, chunks, strict=True):
            row[: len(chunk)] = chunk
        return texts

    def with_start(self, texts: npt.NDArray[np.int64], first: int, last: int) -> npt.NDArray[np.int64]:
        """Tokens `first` to `last` of each row, after the start token."""
        start = np.full((len(texts), 1), self.backend.start, np.int64)
        return np.concatenate([start, texts[:, first:last]], axis=1)


def checked(function: Any, *arguments: Any) -> Any:
    """A kernel's result. Logits that are not finite become an error of the model."""
    try:
        return function(*arguments)
    except ValueError as error:
        raise PredictorError(f"the model's output cannot be coded: {error}; try dtype='float32'") from None
