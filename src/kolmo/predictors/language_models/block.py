"""A language model over one block: its layout, tokens, literals and lanes (docs/language-models.md).

A block becomes tokens (`predictors.language_models.vocabulary`), and what no token covers goes through a small context
mixer. Tokens go to chunks, chunks to lanes (`predictors.language_models.chunks`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from kolmo.bits import to_bits
from kolmo.coder.binary import BinaryDecoder, BinaryEncoder
from kolmo.errors import CorruptError
from kolmo.native.dispatch import kernels
from kolmo.predictors.embedded import context_mixing
from kolmo.predictors.language_models import grids
from kolmo.predictors.language_models.backends import MAX_LOGITS_BYTES, Backend, Ids, Logits
from kolmo.predictors.language_models.byte_sources import CodedSource, write_bytes
from kolmo.predictors.language_models.chunks import ChunkCoder, checked
from kolmo.predictors.language_models.grids import Tolerance
from kolmo.predictors.language_models.records import AUTO, Record
from kolmo.predictors.language_models.vocabulary import Tokens
from kolmo.progress import Progress
from kolmo.varints import varint

NOISE_MARGIN = 8  # the tolerance of a decision's log-odds, as a multiple of the noise that was measured
MIN_NOISE = {4: 2.0**-17, 8: 2.0**-34}  # noise of a logit that is tolerated at least, by its bytes: it costs nothing
NOISE_SAMPLE_TOKENS = 32  # tokens on which noise is measured, of all lanes together,
MIN_NOISE_SAMPLE_TOKENS = 16  # or of each lane, where that is more
LITERALS_LEVEL = 3  # level of the context mixer that codes the bytes that no token covers


class LanguageModelBlock:
    """A language model over one block."""

    def __init__(
        self,
        backend: Backend,
        record: Record,
        tolerance: str | float,
        count: Callable[[int], int],
        batch: Callable[[int], int],
        verify: bool,
        notes: list[str],
        size: int,
        threads: int,
        at_once: int = 0,
    ) -> None:
        self._backend, self._record, self._wanted, self._notes = backend, record, tolerance, notes
        self._verify, self._size, self._threads = verify, size, threads
        memory = 1 << record.memory if record.memory else 0
        self.coder = ChunkCoder(backend, record.context, count, batch, threads, memory, at_once, record.slides)

    def encode(self, encoder: BinaryEncoder, data: bytes, progress: Progress | None = None) -> None:
        """Code the block: with verification on the decoder's way, else in one batched pass.

        Raises:
            PredictorError: the noise of the model is more than the coder can tolerate.
        """
        tokens = self._backend.vocabulary.tokenise(data)
        chunks = self.coder.split(tokens.ids)
        chosen, noise = self.choose_tolerance(chunks)
        payloads, chosen, choices = self.coder.encode(chunks, chosen, progress, stepped=self._verify)
        measured = f", {chosen.slack / noise:.3g} times the noise of {noise:.2g} that was measured" if noise else ""
        memory = f"memory of {self.coder.memory} tokens" if self.coder.memory else "no memory"
        self._notes[:] = [
            f"tolerance {chosen.slack:.3g} in a decision's log-odds{measured}; "
            f"{choices} choices of grids for {len(tokens.ids)} tokens; {memory}"
        ]
        write_block(encoder, tokens, chosen, payloads, counted=self._record.chunk == AUTO)

    def decode(self, decoder: BinaryDecoder, progress: Progress | None = None) -> bytes:
        """Decode the block: the mirror of `encode`.

        Raises:
            CorruptError: the block is damaged, or another model wrote it.
        """
        found = read_block(decoder, self._size, self.coder.lengths, counted=self._record.chunk == AUTO)
        done = 0

        def advance(size: int) -> None:
            nonlocal done
            done += size
            if done > self._size:
                raise CorruptError("the tokens are longer than the block")
            if progress:
                progress(size)

        chunks = self.coder.decode(found.payloads, found.lengths, found.chosen, advance)
        data = self._backend.vocabulary.join(found.tokens(chunks))
        if len(data) != self._size:
            raise CorruptError(f"the tokens are {len(data)} bytes, not {self._size}")
        return data

    def score(self, data: bytes, progress: Progress | None = None) -> npt.NDArray[np.float64]:
        """Code length of each byte in bits, shape (len(data),): a token's bits are shared out to its bytes evenly.

        Computed by teacher forcing, on the finest grid: a file is longer by the cost of the tolerance. A token to
        which the model gives next to no probability costs less than -log2 of it, since the coder gives each side of a
        decision at least 2^-16.
        """
        vocabulary = self._backend.vocabulary
        tokens = vocabulary.tokenise(data)
        chunks = self.coder.split(tokens.ids)
        costs = self.coder.costs(chunks, progress)
        bits = to_bits(np.concatenate([*costs, np.zeros(0)]))
        lengths = vocabulary.lengths(tokens.ids)
        shares = np.repeat(bits / np.maximum(lengths, 1), lengths)
        starts = np.concatenate([[0], np.cumsum(lengths)])
        pieces, before = [], 0
        for place, literal in tokens.literals:
            pieces += [shares[before : starts[place]], score_literal(literal)]
            before = int(starts[place])
        return np.concatenate([*pieces, shares[before:]])

    def choose_tolerance(self, chunks: list[Ids]) -> tuple[Tolerance, float]:
        """The tolerance to use, and the noise that was measured (0 where it was not measured)."""
        wanted, itemsize = self._wanted, self._backend.itemsize
        if wanted != "auto":
            return grids.tolerance(float(wanted), itemsize), 0.0
        noise = self.noise(chunks[: self.coder.batch(len(chunks))]) if chunks else 0.0
        return grids.tolerance(max(NOISE_MARGIN * noise / 2, MIN_NOISE[itemsize]), itemsize), noise

    def noise(self, chunks: Sequence[Ids]) -> float:
        """The greatest difference in a decision's log-odds between two ways to compute them, at the chunks' beginnings.

        One way is the encoder's: several tokens at once in all lanes. The other is a decoder's, one token at a time,
        measured in all lanes with all threads and, where that differs, in the first lane alone with one thread. A
        common shift of all logits of a row changes no decision.
        """
        span = min(max(NOISE_SAMPLE_TOKENS // len(chunks), MIN_NOISE_SAMPLE_TOKENS), self._span(chunks))
        texts = self.coder.matrix([chunk[:span] for chunk in chunks])
        read = self.coder.with_start(texts, 0, span - 1)
        rows = [min(len(chunk), span) for chunk in chunks]
        piece = max(MAX_LOGITS_BYTES // (len(rows) * self._backend.size * self._backend.itemsize), 1)
        read = read[:, :piece]
        tree = self.coder.tree(grids.WITHOUT)
        at_once = self._backend.lanes(len(rows), self._threads).feed(read, read.shape[1])
        worst = 0.0
        wanted = [self._odds(tree, logits, text) for logits, text in zip(at_once, texts, strict=True)]
        for count, threads in dict.fromkeys([(len(rows), self._threads), (1, 1)]):
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
        odds = checked(tree.odds, np.ascontiguousarray(logits), logits.itemsize, wanted)
        return np.frombuffer(odds, np.float64).reshape(len(wanted), -1)

    def _span(self, chunks: Sequence[Ids]) -> int:
        longest = max(map(len, chunks))
        return min(longest, self._record.context or longest)


class CodedBlock(NamedTuple):
    """A block as it was read, before the model decodes it: payloads and tokens of each chunk, and the literals."""

    lengths: list[int]
    payloads: list[bytes]
    chosen: Tolerance
    literals: tuple[tuple[int, bytes], ...]

    def tokens(self, chunks: list[Ids]) -> Tokens:
        """All tokens, from those of the chunks."""
        return Tokens(np.concatenate([*chunks, np.zeros(0, np.int32)]), self.literals)


def write_block(
    encoder: BinaryEncoder, tokens: Tokens, chosen: Tolerance, payloads: Sequence[bytes], *, counted: bool = False
) -> None:
    """Write a block in the layout of docs/language-models.md; with `counted`, its number of chunks too."""
    chunks = varint(len(payloads)) if counted else b""
    head = varint(len(tokens.ids)) + chunks + chosen.to_bytes() + _pack_literals(tokens.literals)
    write_bytes(encoder, head)
    literals = b"".join(data for _, data in tokens.literals)
    if literals:
        _literals_model(len(literals)).encode(encoder, literals)
    write_bytes(encoder, b"".join(varint(len(payload)) for payload in payloads))
    for payload in payloads:
        write_bytes(encoder, payload)


def read_block(
    decoder: BinaryDecoder, size: int, lengths_of: Callable[..., list[int]], *, counted: bool = False
) -> CodedBlock:
    """Read a block of `size` raw bytes: the mirror of `write_block`.

    Args:
        decoder: of the block's payload.
        size: raw bytes of the block.
        lengths_of: tokens of each chunk, from the number of all tokens and, with `counted`, of chunks.
        counted: whether the block records its number of chunks.

    Raises:
        CorruptError: the block is damaged.
    """
    source = CodedSource(decoder)
    count = source.varint(size)
    chunks = (source.varint(count),) if counted else ()
    if count and chunks == (0,):
        raise CorruptError(f"{count} tokens in no chunk")
    try:
        chosen = Tolerance.from_bytes(source.take(1))
    except ValueError as error:
        raise CorruptError(str(error)) from None
    places = _unpack_literals(source, size, count)
    total = sum(length for _, length in places)
    literals = _literals_model(total).decode(decoder) if total else b""
    lengths = lengths_of(count, *chunks)
    sizes = [source.varint(8 * size + 64) for _ in lengths]
    payloads = [source.take(part) for part in sizes]
    cut = np.cumsum([0, *(length for _, length in places)])
    pieces = tuple((place, literals[a:b]) for (place, _), a, b in zip(places, cut[:-1], cut[1:], strict=True))
    return CodedBlock(lengths, payloads, chosen, pieces)


def score_literal(literal: bytes) -> npt.NDArray[np.float64]:
    """Code length in bits of each byte of a literal, a stretch that no token covers."""
    return _literals_model(len(literal)).score(literal)


def _pack_literals(literals: tuple[tuple[int, bytes], ...]) -> bytes:
    """The number of literals, then for each the gap from the one before and its length."""
    out, before = [varint(len(literals))], 0
    for place, data in literals:
        out += [varint(place - before), varint(len(data))]
        before = place
    return b"".join(out)


def _unpack_literals(source: CodedSource, size: int, tokens: int) -> list[tuple[int, int]]:
    """(place, length) of each literal: the mirror of `_pack_literals`."""
    places, place, left = [], 0, size
    for _ in range(source.varint(size)):
        place += source.varint(tokens)
        length = source.varint(left)
        left -= length
        places.append((place, length))
    return places


def _literals_model(size: int) -> context_mixing.ContextMixingModel:
    shape, bits = context_mixing.LEVELS[LITERALS_LEVEL]
    return context_mixing.start(shape, size, bits)
