"""Any language model of tokens as a predictor of bytes: tokens in chunks, chunks as parallel lanes, each lane a coder.

After Deletang et al., "Language Modeling Is Compression" (2024), section 2, made to work both ways: the encoder reads
whole chunks in one batched pass (teacher forcing), the decoder steps through the same chunks in lockstep, and
noise-tolerant coding (`predictors.language_models.grids`) makes them agree though their floating-point sums do not. A
block becomes tokens (`predictors.language_models.vocabulary`), and what no token covers goes through a small context
mixer. docs/language-models.md has the layout. What it is not: it runs no network; a `Backend` does
(`predictors.language_models.huggingface`, `predictors.language_models.llamacpp`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, cast

import numpy as np
import numpy.typing as npt

from kolmo.coder.binary import BinaryDecoder, BinaryEncoder
from kolmo.errors import CorruptError, PredictorError
from kolmo.foreign import short
from kolmo.native.dispatch import kernels
from kolmo.predictors.choice import Choice, Randomness, choose
from kolmo.predictors.embedded import context_mixing
from kolmo.predictors.language_models import grids
from kolmo.predictors.language_models.byte_sources import CodedSource, write_bytes
from kolmo.predictors.language_models.grids import Tolerance
from kolmo.predictors.language_models.records import Record
from kolmo.predictors.language_models.vocabulary import Tokens, Vocabulary
from kolmo.predictors.model_locations import recall
from kolmo.predictors.settings import settings
from kolmo.progress import Progress
from kolmo.varints import varint

if TYPE_CHECKING:
    from typing_extensions import Self

Ids = npt.NDArray[np.int32]
Logits = npt.NDArray[np.floating[Any]]

VERSION = 1
BATCH = 64  # lanes at once
CACHE = 1 << 30  # bytes of keys and values at once
LOGITS = 1 << 26  # bytes of logits at once
MARGIN = 8  # a decision's log-odds may be off by this many times what was measured
LEAST_NOISE = {4: 2.0**-17, 8: 2.0**-34}  # of a logit, by its bytes: below, tolerance costs nothing
TRIES = 5  # at a tolerance, each 16 times the one before
SAMPLE = 96  # tokens of a lane on which noise is measured
GROUP = 256  # tokens whose masses are summed first (native/tokens/tokens.h)
EXPANSION = 128  # raw bytes for each byte of payload, at most
LITERALS = 3  # level of the context mixer for bytes that no token covers
OVERHEAD = (
    "a file takes more, since it tolerates the noise of other machines: about 1 %, or 3 % with --tolerance 1e-3 "
    "(docs/language-models.md)"
)
PARALLEL = 1 << 20  # logits of a step from which on threads share its lanes


class Lanes(Protocol):
    """Texts that a model reads in lockstep."""

    def feed(self, tokens: npt.NDArray[np.int64], wanted: int) -> Logits:
        """Read tokens, shape (lanes, length); logits after the last `wanted`, (lanes, wanted, size), C-contiguous.

        float32 or float64, in nats up to a constant of each row.
        """
        ...


class Sums(Protocol):
    """Logits that stay on their device; only sums of their masses, exp(logit - greatest), come over."""

    def top(self) -> npt.NDArray[np.float64]:
        """Of the groups of 256 tokens, shape (lanes, wanted, groups)."""
        ...

    def leaf(self, groups: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """Of each token of a group, for groups of shape (lanes, wanted): (lanes, wanted, 256)."""
        ...


class DeviceLanes(Lanes, Protocol):
    """Lanes whose logits need not leave their device."""

    def feed_sums(self, tokens: npt.NDArray[np.int64], wanted: int) -> Sums:
        """As `feed`."""
        ...


class Backend(Protocol):
    """A network that is loaded.

    Where it also has `sums = True`, its lanes are `DeviceLanes`, and coding does without whole rows of logits.
    """

    @property
    def vocabulary(self) -> Vocabulary:
        """Tokens and their bytes."""
        ...

    @property
    def size(self) -> int:
        """Logits of a row."""
        ...

    @property
    def start(self) -> int:
        """The token before the first."""
        ...

    @property
    def window(self) -> int | None:
        """Tokens that the model can see, where there is a limit."""
        ...

    @property
    def itemsize(self) -> int:
        """Bytes of a logit, 4 or 8."""
        ...

    @property
    def continues(self) -> bool:
        """Whether lanes that have read may read several tokens at once."""
        ...

    @property
    def token_bytes(self) -> int:
        """Bytes of a token's keys and values."""
        ...

    def lanes(self, count: int, threads: int) -> Lanes:
        """Fresh texts."""
        ...


class Options(NamedTuple):
    """What a writer may choose; None is the default.

    tolerance: "auto", or a bound on every logit's noise; 0 for models that compute the same bits everywhere.
    """

    dtype: str | None = None
    context: int | None = None
    chunk: int | None = None
    tolerance: str | float | None = None


class LanguageModel:
    """The predictor: a backend, and how a content is cut. `HuggingFace` and `LlamaCpp` say where backends come from."""

    name = ""
    kept_as = "folder"  # what a model is on the disk
    version = VERSION
    exclusive = True  # one block at a time, with all threads
    options = Options._fields

    def __init__(self, backend: Backend, record: Record, tolerance: str | float = "auto") -> None:
        self.backend = backend
        self.record = record
        self.tolerance = tolerance
        self.notes: list[str] = []  # of the last block: noise and tolerance, for people

    @classmethod
    def restore(cls, version: int, parameters: bytes) -> Self:
        """From what a file recorded: opens the model, and compares its hashes.

        What the file names is never a path here: the model is the one that the reader gives, or one of the hub's that
        is in its cache, or one that was opened here before (`predictors.model_locations`).

        Raises:
            PredictorError: it is not here, or another; the message says what differs.
        """
        if version != cls.version:
            raise PredictorError(f"{cls.name} version {version} is not known here; upgrade kolmo")
        record = Record.from_bytes(parameters)
        given = (settings().model or "").removeprefix(f"{cls.name}:")
        spec = given or (cls.fetched(record) if record.revision else recall(record.marks))
        if not spec:
            raise PredictorError(
                f"{cls.name}:{short(record.spec)} is not known on this machine; give its {cls.kept_as} with --model "
                f"{cls.kept_as.upper()}"
            )
        here = cls.reopen(spec, record)
        if differences := record.differences(here.record):
            wanted = short(f"{record.spec}, revision {record.revision}" if record.revision else record.spec)
            raise PredictorError(
                f"{cls.name}:{spec} is not the model that wrote this file: {', '.join(differences)} differs; "
                f"give the writer's ({wanted}) with --model"
            )
        here.record = replace(record, rest=here.record.rest)
        return here

    @classmethod
    def reopen(cls, spec: str, record: Record) -> Self:
        """The same model as the one that wrote a file, without the network.

        Args:
            spec: where it is here; nothing that the file says.
            record: what the file says, for how to compute.
        """
        raise NotImplementedError

    @classmethod
    def fetched(cls, record: Record) -> str | None:
        """Where the model of a record with a revision is, if that can be told without trusting what it names."""
        return None

    @property
    def caveat(self) -> str:
        """What else than damage may have made a block fail."""
        return (
            f"or this machine computes {short(self.record.spec)} with more noise than the file tolerates; decode with "
            "the writer's versions or device"
        )

    @property
    def overhead(self) -> str:
        """What a file takes beyond the code length, for people; empty where next to no noise is tolerated."""
        exact = self.record.dtype == "float64" if self.tolerance == "auto" else float(self.tolerance) == 0
        return "" if exact else OVERHEAD

    def parameters(self) -> bytes:
        """The record."""
        return self.record.to_bytes()

    def fingerprint(self) -> bytes:
        """4 bytes of a SHA-256 over the hashes of weights, configuration and tokenizer; the record has the rest."""
        return self.record.rest

    def memory(self, size: int) -> int:
        """Bytes beside the weights that a block takes: keys and values, logits, tokens."""
        lanes = self.batch(-(-size // self.record.chunk))
        return lanes * self._span(size) * self.backend.token_bytes + 2 * LOGITS + 40 * size + (16 << 20)

    def expansion(self, payload: bytes) -> int:
        """Upper bound on the raw bytes of a block for each byte of its payload; each of them takes a model's time."""
        return EXPANSION

    def batch(self, chunks: int) -> int:
        """Lanes at once for so many chunks."""
        most = settings().batch or max(min(BATCH, CACHE // max(self._span(1 << 30) * self.backend.token_bytes, 1)), 1)
        groups = -(-chunks // most)
        return -(-chunks // groups) if groups else 1  # equal groups: none of a few lanes only

    def continuation(self, prompt: bytes, size: int, randomness: Randomness, choice: Choice) -> Iterator[bytes]:
        """Draw tokens after a prompt until `size` bytes are there, or the model draws one that ends the text.

        Bytes of the prompt that no token covers are left out. Where the context is full, its later half stays.
        """
        vocabulary, context = self.backend.vocabulary, self.record.context
        ids = vocabulary.tokenise(prompt).ids.astype(np.int64).tolist()
        read, done = 0, 0  # tokens since a fresh start, and bytes
        reader = self.backend.lanes(1, 0)
        while done < size:
            if read == 0 or (context and read >= context):
                reader = self.backend.lanes(1, 0)
                part = [self.backend.start, *(ids[-(context // 2) :] if context else ids)]
                read = 0
            else:
                part = ids[-1:]
            logits = reader.feed(np.array([part], np.int64), 1)[0, 0]
            read += len(part)
            ids.append(choose(logits, randomness.uniform(), choice.temperature, choice.top_k, choice.top_p))
            text = vocabulary.bytes_of(ids[-1])
            if not text:  # end of text, or what stands for nothing
                return
            done += len(text)
            yield text

    def _span(self, tokens: int) -> int:
        """Tokens of a lane that its cache holds."""
        return min(tokens, self.record.chunk, self.record.context or self.record.chunk) + 1

    def start(self, size: int, threads: int = 1) -> LanguageModelBlock:
        """A fresh model for a block of `size` bytes."""
        return LanguageModelBlock(self, size, threads)


class Segment(NamedTuple):
    """Tokens `first` to `last` of a chunk are coded after reading the start and the tokens from `context` on."""

    context: int
    first: int
    last: int


def segments(length: int, context: int) -> Iterator[Segment]:
    """How a chunk of `length` tokens is read by a model that sees `context` of them: half of them stay at each turn.

    The model never reads more than `context` tokens, the start included; `context` 0 is no limit.
    """
    keep = context // 2
    first, last = 0, min(length, context or length)
    while first < length:
        yield Segment(max(first - keep, 0), first, last)
        first, last = last, min(last + context - keep, length)


class LanguageModelBlock:
    """A language model over one block."""

    def __init__(self, model: LanguageModel, size: int, threads: int) -> None:
        self._model, self._size, self._threads = model, size, threads
        self._backend = model.backend
        self._sums: bool = getattr(model.backend, "sums", False)

    # -- the block: tokens, literals, lanes --

    def encode(self, encoder: BinaryEncoder, data: bytes, progress: Progress | None = None) -> None:
        """Code the block; unless switched off, decode it too, on the decoder's way, and compare.

        Raises:
            PredictorError: the model's noise is more than can be tolerated.
        """
        tokens = self._backend.vocabulary.tokenise(data)
        chunks = self._chunks(tokens.ids)
        verify = settings().verify
        chosen, noise = self._tolerance(chunks)
        for attempt in range(TRIES):
            payloads, chosen, choices = self._encode_chunks(chunks, chosen, None if verify else progress)
            if not verify or self._same(chunks, payloads, chosen, progress):
                break
            if self._model.tolerance != "auto" or attempt == TRIES - 1:
                raise PredictorError(
                    f"a block did not decode: the noise of {self._model.record.spec} is more than the tolerance "
                    f"{chosen.bound:.2g}; raise --tolerance, or use --dtype float64 (of GGUF models, F32 weights)"
                )
            chosen = grids.tolerance(16 * chosen.bound, self._backend.itemsize)
        margin = f", {chosen.slack / noise:.3g} times the noise measured" if noise else ""
        self._model.notes = [
            f"tolerance {chosen.slack:.3g} in a decision's log-odds{margin}; "
            f"{choices} choices of grids for {len(tokens.ids)} tokens"
        ]
        head = varint(len(tokens.ids)) + chosen.to_bytes() + _pack_literals(tokens.literals)
        write_bytes(encoder, head)
        literals = b"".join(data for _, data in tokens.literals)
        if literals:
            context_mixing.ContextMixing(LITERALS).start(len(literals)).encode(encoder, literals)
        write_bytes(encoder, b"".join(varint(len(payload)) for payload in payloads))
        for payload in payloads:
            write_bytes(encoder, payload)

    def decode(self, decoder: BinaryDecoder, progress: Progress | None = None) -> bytes:
        """Decode the block: the mirror of `encode`.

        Raises:
            CorruptError: damage, or another model's block.
        """
        source = CodedSource(decoder)
        count = source.varint(self._size)
        try:
            chosen = Tolerance.from_bytes(source.take(1))
        except ValueError as error:
            raise CorruptError(str(error)) from None
        places = _unpack_literals(source, self._size, count)
        total = sum(length for _, length in places)
        literals = context_mixing.ContextMixing(LITERALS).start(total).decode(decoder) if total else b""
        lengths = self._lengths(count)
        sizes = [source.varint(8 * self._size + 64) for _ in lengths]
        payloads = [source.take(size) for size in sizes]
        done = 0

        def advance(size: int) -> None:
            nonlocal done
            done += size
            if done > self._size:
                raise CorruptError("its tokens are longer than the block")
            if progress:
                progress(size)

        chunks = self._decode_chunks(payloads, lengths, chosen, advance)
        cut = np.cumsum([0, *(length for _, length in places)])
        pieces = tuple((place, literals[a:b]) for (place, _), a, b in zip(places, cut[:-1], cut[1:], strict=True))
        data = self._backend.vocabulary.join(Tokens(np.concatenate([*chunks, np.zeros(0, np.int32)]), pieces))
        if len(data) != self._size:
            raise CorruptError(f"its tokens are {len(data)} bytes, not {self._size}")
        return data

    def score(self, data: bytes, progress: Progress | None = None) -> npt.NDArray[np.float64]:
        """Code length of each byte in bits, shape (len(data),): a token's bits are shared out to its bytes evenly.

        By teacher forcing, on the finest grid: what is written is longer by what the tolerance costs. A token that the
        model thinks all but impossible costs less than -log2 of its probability, since the coder gives no side of a
        decision less than 2^-16.
        """
        vocabulary = self._backend.vocabulary
        tokens = vocabulary.tokenise(data)
        chunks = self._chunks(tokens.ids)
        tree = self._tree(grids.WITHOUT)
        costs = [np.zeros(len(chunk)) for chunk in chunks]
        for lane, at, logits in self._passes(chunks, progress):
            wanted = chunks[lane][at : at + len(logits)]
            nats = _checked(tree.costs, logits, logits.itemsize, wanted, True)
            costs[lane][at : at + len(logits)] = np.frombuffer(nats, np.float64)
        bits = np.concatenate([*costs, np.zeros(0)]) / math.log(2)
        lengths = vocabulary.lengths(tokens.ids)
        shares = np.repeat(bits / np.maximum(lengths, 1), lengths)
        starts = np.concatenate([[0], np.cumsum(lengths)])
        pieces, before = [], 0
        for place, literal in tokens.literals:
            pieces += [shares[before : starts[place]], score_literal(literal)]
            before = int(starts[place])
        return np.concatenate([*pieces, shares[before:]])

    # -- chunks --

    def _lengths(self, count: int) -> list[int]:
        """Tokens of each chunk: equal ones, so that lanes end together."""
        chunks = -(-count // self._model.record.chunk)
        return [count * (k + 1) // chunks - count * k // chunks for k in range(chunks)]

    def _chunks(self, ids: Ids) -> list[Ids]:
        return np.split(ids, np.cumsum(self._lengths(len(ids)))[:-1]) if len(ids) else []

    def _tree(self, chosen: Tolerance) -> kernels.TokenTree:
        return kernels.TokenTree(grids.tables(chosen), self._backend.size)

    def _encode_chunks(
        self, chunks: list[Ids], chosen: Tolerance, progress: Progress | None
    ) -> tuple[list[bytes], Tolerance, int]:
        """Payloads; the tolerance, with shorter spans where no choice of grids served one; the number of choices."""
        while True:
            tree = self._tree(chosen)
            encoders = [kernels.TokenEncoder(tree) for _ in chunks]
            try:
                if self._sums:
                    for lane, at, (top, leaf) in self._passes(chunks, progress, sums=True):
                        _checked(encoders[lane].encode_sums, top, leaf, chunks[lane][at : at + len(top)])
                else:
                    for lane, at, logits in self._passes(chunks, progress):
                        _checked(encoders[lane].encode, logits, logits.itemsize, chunks[lane][at : at + len(logits)])
                payloads = [encoder.finish() for encoder in encoders]
            except OverflowError:
                shorter = chosen.shorter()
                if shorter is None:
                    raise PredictorError(
                        f"no grids serve a tolerance of {chosen.bound:.2g} in the logits here; lower --tolerance, or "
                        "use --dtype float64 (of GGUF models, F32 weights)"
                    ) from None
                chosen, progress = shorter, None  # progress has been told once
                continue
            return payloads, chosen, sum(encoder.choices() for encoder in encoders)

    def _same(self, chunks: list[Ids], payloads: list[bytes], chosen: Tolerance, progress: Progress | None) -> bool:
        try:
            decoded = self._decode_chunks(payloads, [len(chunk) for chunk in chunks], chosen, progress, chunks)
        except CorruptError:
            return False
        return all(np.array_equal(a, b) for a, b in zip(chunks, decoded, strict=True))

    def _passes(
        self, chunks: Sequence[Ids], progress: Progress | None, *, sums: bool = False
    ) -> Iterator[tuple[int, int, Any]]:
        """(chunk, place, logits of the tokens there) for all tokens, by teacher forcing; `sums`: of their masses."""
        backend, lengths = self._backend, self._backend.vocabulary.lengths
        batch = self._model.batch(len(chunks))
        for group in range(0, len(chunks), batch):
            lanes = chunks[group : group + batch]
            texts = self._matrix(lanes)
            piece = max(LOGITS // (len(lanes) * backend.size * backend.itemsize), 1)
            for segment in segments(texts.shape[1], self._model.record.context):
                reader = backend.lanes(len(lanes), self._threads)
                read = self._with_start(texts, segment.context, segment.last - 1)
                skipped = segment.first - segment.context  # logits there were used before
                step = piece if backend.continues or read.shape[1] <= piece else 1
                at = 0
                while at < read.shape[1]:
                    size = step if at or skipped < step else skipped + 1  # what is only context gives one row of logits
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

    def _decode_chunks(
        self,
        payloads: list[bytes],
        lengths: list[int],
        chosen: Tolerance,
        progress: Progress | None,
        expected: list[Ids] | None = None,
    ) -> list[Ids]:
        """Tokens of all chunks; stops at the first that is not as expected."""
        backend, bytes_of = self._backend, self._backend.vocabulary.lengths
        tree = self._tree(chosen)
        batch = self._model.batch(len(lengths))
        result: list[Ids] = []
        workers = self._threads if batch > 1 and batch * backend.size >= PARALLEL else 1
        with ThreadPoolExecutor(workers) as pool:
            for group in range(0, len(lengths), batch):
                sizes = np.array(lengths[group : group + batch])
                decoders = [kernels.TokenDecoder(tree, payload) for payload in payloads[group : group + batch]]
                texts = np.full((len(sizes), int(sizes.max())), backend.start, np.int64)
                for segment in segments(texts.shape[1], self._model.record.context):
                    reader = backend.lanes(len(sizes), self._threads)
                    part = self._with_start(texts, segment.context, segment.first)
                    for at in range(segment.first, segment.last):
                        active = np.flatnonzero(sizes > at)
                        if self._sums:
                            sums = cast(DeviceLanes, reader).feed_sums(part, 1)
                            texts[active, at] = self._step_sums(decoders, sums, active)
                        else:
                            logits = reader.feed(part, 1)
                            texts[active, at] = self._step(decoders, logits, active, pool if workers > 1 else None)
                        if expected is not None and any(texts[k, at] != expected[group + k][at] for k in active):
                            raise CorruptError("another token was decoded")
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
            return cast(int, _checked(decoders[lane].decode, logits[lane, 0], itemsize))

        return list(pool.map(one, active)) if pool else [one(lane) for lane in active]

    def _step_sums(self, decoders: list[kernels.TokenDecoder], sums: Sums, active: npt.NDArray[np.intp]) -> list[int]:
        """The same in two turns: each lane's group, then the token in it."""
        top = sums.top()[:, 0]
        groups = np.zeros((len(top), 1), np.int64)
        for lane in active:
            groups[lane] = _checked(decoders[lane].group, top[lane])
        leaf = sums.leaf(groups)[:, 0]
        return [_checked(decoders[lane].leaf, int(groups[lane, 0]), leaf[lane]) for lane in active]

    def _matrix(self, chunks: Sequence[Ids]) -> npt.NDArray[np.int64]:
        """Chunks as rows; the shorter ones end in starts, whose logits nobody reads."""
        texts = np.full((len(chunks), max(map(len, chunks))), self._backend.start, np.int64)
        for row, chunk in zip(texts, chunks, strict=True):
            row[: len(chunk)] = chunk
        return texts

    def _with_start(self, texts: npt.NDArray[np.int64], first: int, last: int) -> npt.NDArray[np.int64]:
        start = np.full((len(texts), 1), self._backend.start, np.int64)
        return np.concatenate([start, texts[:, first:last]], axis=1)

    # -- noise --

    def _tolerance(self, chunks: list[Ids]) -> tuple[Tolerance, float]:
        """The tolerance to use, and the noise that was measured (0 where none was)."""
        wanted, itemsize = self._model.tolerance, self._backend.itemsize
        if wanted != "auto":
            return grids.tolerance(float(wanted), itemsize), 0.0
        noise = self.noise(chunks[: self._model.batch(len(chunks))]) if chunks else 0.0
        return grids.tolerance(max(MARGIN * noise / 2, LEAST_NOISE[itemsize]), itemsize), noise

    def noise(self, chunks: Sequence[Ids]) -> float:
        """The most that a decision's log-odds differ by in two ways to the same logits, over the chunks' beginnings.

        The encoder's way, several tokens at once in all lanes, against a decoder's, one at a time: in all lanes with
        all threads, and in the first lane alone with one thread. A common shift of a row changes no decision.
        """
        span = min(SAMPLE, self._span(chunks))
        texts = self._matrix([chunk[:span] for chunk in chunks])
        read = self._with_start(texts, 0, span - 1)
        rows = [min(len(chunk), span) for chunk in chunks]
        piece = max(LOGITS // (len(rows) * self._backend.size * self._backend.itemsize), 1)
        read = read[:, :piece]
        tree = self._tree(grids.WITHOUT)
        at_once = self._backend.lanes(len(rows), self._threads).feed(read, read.shape[1])
        worst = 0.0
        wanted = [self._odds(tree, logits, text) for logits, text in zip(at_once, texts, strict=True)]
        for count, threads in ((len(rows), self._threads), (1, 1)):
            reader = self._backend.lanes(count, threads)
            for at in range(read.shape[1]):
                stepped = reader.feed(read[:count, at : at + 1], 1)
                for lane in range(count):
                    if at < rows[lane]:
                        odds = self._odds(tree, stepped[lane], texts[lane, at : at + 1])
                        worst = max(worst, float(np.abs(odds - wanted[lane][at]).max(initial=0)))
        return worst

    def _odds(self, tree: kernels.TokenTree, logits: Logits, ids: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """Log-odds of the decisions on the way to each token, shape (tokens, levels)."""
        wanted = ids[: len(logits)].astype(np.int32)
        odds = _checked(tree.odds, np.ascontiguousarray(logits), logits.itemsize, wanted)
        return np.frombuffer(odds, np.float64).reshape(len(wanted), -1)

    def _span(self, chunks: Sequence[Ids]) -> int:
        longest = max(map(len, chunks))
        return min(longest, self._model.record.context or longest)


def score_literal(literal: bytes) -> npt.NDArray[np.float64]:
    """Bits of each byte of a stretch that no token covers."""
    return context_mixing.ContextMixing(LITERALS).start(len(literal)).score(literal)


def _checked(function: Any, *arguments: Any) -> Any:
    """A kernel's result; logits that are no numbers are the model's fault."""
    try:
        return function(*arguments)
    except ValueError as error:
        raise PredictorError(f"the model's output cannot be coded: {error}; try --dtype float32") from None


def _pack_literals(literals: tuple[tuple[int, bytes], ...]) -> bytes:
    """Their number, then gaps between their places, and lengths."""
    out, before = [varint(len(literals))], 0
    for place, data in literals:
        out += [varint(place - before), varint(len(data))]
        before = place
    return b"".join(out)


def _unpack_literals(source: CodedSource, size: int, tokens: int) -> list[tuple[int, int]]:
    """(place, length) of each."""
    places, place, left = [], 0, size
    for _ in range(source.varint(size)):
        place += source.varint(tokens)
        length = source.varint(left)
        left -= length
        places.append((place, length))
    return places
