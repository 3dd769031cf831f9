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
from kolmo.native.dispatch import kernels
from kolmo.predictors.language_models import grids
from kolmo.predictors.language_models.backends import GROUP, MAX_LOGITS_BYTES, Backend, DeviceLanes, Ids, Logits, Sums
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
        chunk: tokens of a chunk, at most.
        batch: a function from the number of chunks to the number of lanes that are read at once.
        threads: of the backend.
    """

    def __init__(self, backend: Backend, context: int, chunk: int, batch: Callable[[int], int], threads: int) -> None:
        self.backend, self.context, self.chunk, self.batch, self.threads = backend, context, chunk, batch, threads

    def lengths(self, count: int) -> list[int]:
        """Number of tokens in each chunk: they are equal, so that lanes end together."""
        chunks = -(-count // self.chunk)
        return [count * (k + 1) // chunks - count * k // chunks for k in range(chunks)]

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
            encoders = [kernels.TokenEncoder(tree) for _ in chunks]
            try:
                if self.backend.sums:
                    for lane, at, (top, leaf) in self.passes(chunks, progress, sums=True):
                        checked(encoders[lane].encode_sums, top, leaf, chunks[lane][at : at + len(top)])
                else:
                    for lane, at, logits in self.passes(chunks, progress):
                        checked(encoders[lane].encode, logits, logits.itemsize, chunks[lane][at : at + len(logits)])
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
        batch = self.batch(len(chunks))
        for group in range(0, len(chunks), batch):
            lanes = chunks[group : group + batch]
            texts = self.matrix(lanes)
            piece = max(MAX_LOGITS_BYTES // (len(lanes) * backend.size * backend.itemsize), 1)
            for segment in segments(texts.shape[1], self.context):
                reader = backend.lanes(len(lanes), self.threads)
                read = self.with_start(texts, segment.context, segment.last - 1)
                skipped = segment.first - segment.context  # tokens whose logits an earlier segment used
                step = piece if backend.continues or read.shape[1] <= piece else 1
                at = 0
                while at < read.shape[1]:
                    size = step if at or skipped < step else skipped + 1  # the context alone gives one row of logits
                    part = read[:, at : at + size]
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
        workers = self.threads if batch > 1 and batch * backend.size >= MIN_PARALLEL_LOGITS else 1
        with ThreadPoolExecutor(workers) as pool:
            for group in range(0, len(lengths), batch):
                sizes = np.array(lengths[group : group + batch])
                decoders = [kernels.TokenDecoder(tree, payload) for payload in payloads[group : group + batch]]
                texts = np.full((len(sizes), int(sizes.max())), backend.start, np.int64)
                for segment in segments(texts.shape[1], self.context):
                    reader = backend.lanes(len(sizes), self.threads)
                    part = self.with_start(texts, segment.context, segment.first)
                    for at in range(segment.first, segment.last):
                        active = np.flatnonzero(sizes > at)
                        if self.backend.sums:
                            sums = cast(DeviceLanes, reader).feed_sums(part, 1)
                            texts[active, at] = self._step_sums(decoders, sums, active)
                        else:
                            logits = reader.feed(part, 1)
                            texts[active, at] = self._step(decoders, logits, active, pool if workers > 1 else None)
                        if expected is not None and any(texts[k, at] != expected[group + k][at] for k in active):
                            raise CorruptError("a decoded token differs from the encoded one")
                        if progress:
                            progress(int(bytes_of(texts[active, at]).sum()))
                        part = texts[:, at : at + 1]
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
