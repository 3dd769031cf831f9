"""Chunks of tokens, coded in parallel lanes of a backend: each chunk has a coder of its own.

The encoder reads whole chunks in one batched pass (teacher forcing), the decoder steps through the same chunks in
lockstep. What it is not: the layout of a block (`predictors.language_models.block`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt

from kolmo.errors import CorruptError, PredictorError
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
        self, chunks: list[Ids], chosen: Tolerance, progress: Progress | None
    ) -> tuple[list[bytes], Tolerance, int]:
        """Payloads; the tolerance, with shorter spans where one had no choice of grids; the number of choices."""
        while True:
            tree = self.tree(chosen)
            encoders = [kernels.TokenEncoder(tree, bool(self.memory)) for _ in chunks]
            try:
                if self.backend.sums and not self.memory:
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

    def is_same(self, chunks: list[Ids], payloads: list[bytes], chosen: Tolerance, progress: Progress | None) -> bool:
        """Whether payloads decode to the chunks, on the decoder's way."""
        try:
            decoded = self.decode(payloads, [len(chunk) for chunk in chunks], chosen, progress, chunks)
        except CorruptError:
            return False
        return all(np.array_equal(a, b) for a, b in zip(chunks, decoded, strict=True))

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

    def decode(
        self,
        payloads: list[bytes],
        lengths: list[int],
        chosen: Tolerance,
        progress: Progress | None,
        expected: list[Ids] | None = None,
    ) -> list[Ids]:
        """Tokens of all chunks; stops at the first that differs from `expected`."""
        backend, bytes_of = self.backend, self.backend.vocabulary.lengths
        tree = self.tree(chosen)
        batch = self.batch(len(lengths))
        result: list[Ids] = []
        parallel = batch > 1 and batch * backend.size >= MIN_PARALLEL_LOGITS and not self.memory
        workers = self.threads if parallel else 1
        all_decoders = self._decoders(tree, payloads, lengths)
        with ThreadPoolExecutor(workers) as pool:
            for group in range(0, len(lengths), batch):
                sizes = np.array(lengths[group : group + batch])
                decoders = all_decoders[group : group + batch]
                texts = np.full((len(sizes), int(sizes.max())), backend.start, np.int64)
                reads = self._calls(len(sizes))
                parts = [slice(first, min(first + reads, len(sizes))) for first in range(0, len(sizes), reads)]
                for segment in self._segments(texts.shape[1]):
                    readers = [self._lanes(part.stop - part.start) for part in parts]
                    read = self.with_start(texts, segment.context, segment.first)
                    for at in range(segment.first, segment.last):
                        for part, reader in zip(parts, readers, strict=True):
                            active = np.flatnonzero(sizes[part] > at)
                            lanes = decoders[part]
                            if self.backend.sums and not self.memory:
                                sums = cast(DeviceLanes, reader).feed_sums(read[part], 1)
                                found = self._step_sums(lanes, sums, active)
                            else:
                                logits = reader.feed(read[part], 1)
                                found = self._step(lanes, logits, active, pool if workers > 1 else None)
                            texts[active + part.start, at] = found
                        active = np.flatnonzero(sizes > at)
                        if expected is not None and any(texts[k, at] != expected[group + k][at] for k in active):
                            raise CorruptError("a decoded token differs from the encoded one")
                        if progress:
                            progress(int(bytes_of(texts[active, at]).sum()))
                        read = texts[:, at : at + 1]
                result += [texts[k, :size].astype(np.int32) for k, size in enumerate(sizes)]
        return result

    def _step(
        self,
        decoders: list[kernels.TokenDecoder],
        logits: Logits,
        active: npt.NDArray[np.intp],
        pool: ThreadPoolExecutor | None,
    ) -> list[int]:
        """The next token of each active lane."""
        itemsize = logits.itemsize

        def one(lane: int) -> int:
            return cast(int, checked(decoders[lane].decode, logits[lane, 0], itemsize))

        return list(pool.map(one, active)) if pool else [one(lane) for lane in active]

    def _step_sums(self, decoders: list[kernels.TokenDecoder], sums: Sums, active: npt.NDArray[np.intp]) -> list[int]:
        """The next token of each active lane in two steps: its group, then the token in the group."""
        top = sums.top()[:, 0]
        groups = np.zeros((len(top), 1), np.int64)
        for lane in active:
            groups[lane] = checked(decoders[lane].group, top[lane])
        leaf = sums.leaf(groups)[:, 0]
        return [checked(decoders[lane].leaf, int(groups[lane, 0]), leaf[lane]) for lane in active]

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
