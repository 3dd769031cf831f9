"""The cost of each byte of a content under a predictor, and sums of these costs: `explain` -> `Explanation`.

The cost of a byte is -log2 of the probability that the predictor gave to it (Shannon 1948); the sum of all costs is
the size that the arithmetic coder writes (docs/format.md). Blocks are those of `kolmo.compress`; each starts
with a fresh model.
What it is not: it draws nothing (see `report.page`) and reads no files.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from kolmo.codec.blocks import encode_block
from kolmo.codec.frames import even_blocks, make_header
from kolmo.container.structures import CODED, DEFAULT_BLOCK_LIMIT, STORED, BlockHead, Footer
from kolmo.container.wire import DIGEST_SIZE
from kolmo.errors import KolmoError
from kolmo.foreign import html_table, short
from kolmo.parallel import available_cores
from kolmo.predictors.base import Predictor
from kolmo.predictors.registry import DEFAULT_LEVEL, level_of, resolve
from kolmo.predictors.registry import for_level as predictor_for_level
from kolmo.progress import Progress
from kolmo.report.text import CLASSES, OTHER, Text, class_of, cut, is_text
from kolmo.varints import varint

MAX_MEASURED_BYTES = 2 << 20  # the archive of a content up to this size is made, so that its size is measured
MAX_CONTENT_BYTES = 128 << 20  # the arrays take 30 to 50 times as much memory
DEFAULT_LIMIT = 200 << 10  # bytes of content that a page shows
MAX_WORDS = 100
POSITIONS = ("first letter", "second", "third", "fourth", "fifth", "later")
BYTE_CLASSES = (*CLASSES[:-1], "zero bytes", "control bytes", "bytes from 0x80")
PIECE_ITEMS = 1 << 16  # characters or tokens worked on together

Costs = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Totals:
    """Sums over the content. Sizes in bytes; None if the content is not text.

    Attributes:
        size: bytes of content.
        bits: its code length, the sum of all costs.
        characters: number of Unicode code points, and of bytes that are not UTF-8.
        invalid: number of bytes that are not UTF-8.
        lines: number of lines; the last one counts even without a line end.
        words: number of runs of letters and digits that contain a letter.
        blocks: number of blocks, each predicted independently.
        stored: bytes of content that the archive stores uncoded, since coding does not make them smaller.
        archive_size: size of the .kmo file.
        container_size: size of its header, block heads with checksums, and index.
        measured: whether `archive_size` was measured on an archive; else it is estimated from `bits`.
    """

    size: int
    bits: float
    characters: int | None
    invalid: int | None
    lines: int | None
    words: int | None
    blocks: int
    stored: int
    archive_size: int
    container_size: int
    measured: bool

    @property
    def code_size(self) -> float:
        """The code length in bytes, not rounded."""
        return self.bits / 8

    @property
    def bits_per_byte(self) -> float | None:
        """Bits per byte of content; None if it is empty."""
        return self.bits / self.size if self.size else None

    @property
    def bits_per_character(self) -> float | None:
        """Bits per character; None if there are no characters."""
        return self.bits / self.characters if self.characters else None


@dataclass(frozen=True)
class Share:
    """A part of the content: `count` characters (bytes, if it is not text) in `size` bytes cost `bits`."""

    label: str
    count: int
    size: int
    bits: float


@dataclass(frozen=True)
class Word:
    """A word (or byte value) and the cost of all its occurrences in bits."""

    word: str
    count: int
    bits: float


@dataclass(frozen=True, repr=False)
class Explanation:
    """Costs of a content, and sums of them.

    Attributes:
        name: name of the content, shown on the page.
        predictor: spec of the predictor, like cm:5.
        version: version of the predictor.
        fingerprint: fingerprint of the predictor, in hexadecimal.
        data: the content.
        costs: code length of each byte in bits, shape (size,).
        blocks: byte offset at which each block starts.
        totals: the sums.
        classes: costs by class of character; they sum to the whole.
        positions: costs of characters by their position in a word; empty if the content is not text.
        words: the words (byte values, if not text) with the highest total cost, at most 100, in that order.
        text: the content as text; None if it is not text, or empty.
        overhead: sentence on what a file takes beyond the code length under this predictor; empty if that is
            negligible, or if the archive was made.
    """

    name: str
    predictor: str
    version: int
    fingerprint: str
    data: bytes
    costs: Costs
    blocks: tuple[int, ...]
    totals: Totals
    classes: tuple[Share, ...]
    positions: tuple[Share, ...]
    words: tuple[Word, ...]
    text: Text | None
    overhead: str = ""

    def __repr__(self) -> str:
        return f"Explanation({', '.join(self._shown())})"

    def _repr_html_(self) -> str:
        return html_table("where the bits go", ("content", "predictor", "size", "code length"), [self._shown()])

    def _shown(self) -> list[str]:
        return [short(self.name), short(self.predictor), f"{self.totals.size:,} bytes", f"{self.totals.bits:,.0f} bits"]

    @property
    def kind(self) -> str:
        """One of text, binary and empty."""
        return "empty" if not self.data else "binary" if self.text is None else "text"

    def characters(self) -> Costs:
        """Cost of each character in bits, shape (characters,); of each byte for a binary."""
        if self.text is None or len(self.text.starts) == len(self.costs):
            return self.costs
        return _sums(self.costs, self.text.starts)

    def tokens(self) -> Costs:
        """Cost of each token of a text in bits, shape (tokens,); of each byte for a binary."""
        return self.costs if self.text is None else _sums(self.costs, self.text.starts[self.text.tokens])

    def lines(self) -> Costs:
        """Cost of each line in bits, its line end included, shape (lines,); none for a binary."""
        if self.text is None:
            return np.zeros(0)
        return _sums(self.costs, self.text.starts[self.text.lines])

    def html(self, *, limit: int = DEFAULT_LIMIT) -> str:
        """The page, as one self-contained HTML file. Equal contents give equal pages.

        Args:
            limit: bytes of content to show; of a larger content, its beginning and the most expensive parts.
        """
        from kolmo.report.page.page import page

        return page(self, limit)

    def record(self) -> dict[str, Any]:
        """Totals, shares, words and lines as plain data for programs; costs in bits."""
        totals = self.totals
        return {
            "predictor": self.predictor,
            "version": self.version,
            "fingerprint": self.fingerprint,
            "kind": self.kind,
            "size": totals.size,
            "characters": totals.characters,
            "invalid_bytes": totals.invalid,
            "bits": round(totals.bits, 3),
            "bits_per_byte": _rounded(totals.bits_per_byte),
            "bits_per_character": _rounded(totals.bits_per_character),
            "code_size": round(totals.code_size, 3),
            "archive_size": totals.archive_size,
            "archive_measured": totals.measured,
            "container_size": totals.container_size,
            "stored": totals.stored,
            "blocks": totals.blocks,
            "classes": [_plain(share) for share in self.classes],
            "positions": [_plain(share) for share in self.positions],
            "words": [{"word": word.word, "count": word.count, "bits": round(word.bits, 3)} for word in self.words],
            "lines": self._line_records(),
        }

    def _line_records(self) -> list[dict[str, Any]]:
        if self.text is None:
            return []
        starts = self.text.starts[self.text.lines].tolist()
        sizes = np.diff(starts, append=len(self.data)).tolist()
        rows = zip(starts, sizes, self.lines().tolist(), strict=True)
        return [
            {"line": number, "offset": start, "size": size, "bits": round(bits, 3)}
            for number, (start, size, bits) in enumerate(rows, 1)
        ]


def explain(
    data: bytes,
    predictor: str | Predictor | None = None,
    *,
    name: str = "data",
    measure: bool | None = None,
    progress: Progress | None = None,
) -> Explanation:
    """Score a content, and sum costs by class, word and line.

    Args:
        data: the content, at most 128 MiB.
        predictor: a predictor or its spec (`cm:9`); default: that of the default level.
        name: name of the content.
        measure: whether to make the archive to measure its size, which is else estimated from the code length; default:
            up to 2 MiB, but never for a language model, where the archive takes many passes and the costs one.
        progress: called with the number of bytes done since the last call; it may raise to stop.

    Raises:
        PredictorError: the predictor is not known.
        KolmoError: the content is too large.
    """
    if len(data) > MAX_CONTENT_BYTES:
        raise KolmoError(
            f"{name}: has more than {MAX_CONTENT_BYTES >> 20} MiB; explain a part: head -c 100M FILE | kolmo explain -"
        )
    if predictor is None:
        predictor = predictor_for_level(DEFAULT_LEVEL)
    elif isinstance(predictor, str):
        predictor = resolve(predictor)
    data = bytes(data)
    measured = len(data) <= MAX_MEASURED_BYTES and not predictor.exclusive if measure is None else measure
    threads = available_cores() if predictor.exclusive else 1
    step = even_blocks(len(data), DEFAULT_BLOCK_LIMIT)
    blocks = tuple(range(0, len(data), step))
    costs = np.zeros(len(data))
    payloads: list[BlockHead] = []
    for start in blocks:
        block = data[start : start + step]
        passed = _halved(progress) if measured else progress  # measuring takes as long again
        costs[start : start + len(block)] = _score(predictor, block, passed, threads)
        if measured:
            kind, payload = encode_block(predictor, block, passed, threads)
            payloads.append(BlockHead(kind, len(block), len(payload), bytes(DIGEST_SIZE)))
        else:
            payloads.append(_estimate(len(block), float(costs[start : start + len(block)].sum())))
    archive = _archive_size(predictor, step, payloads)
    level = level_of(predictor.name, predictor.parameters())
    text = cut(data) if data and is_text(data) else None
    totals = Totals(
        size=len(data),
        bits=float(costs.sum()),
        characters=None if text is None else len(text.starts),
        invalid=None if text is None else text.invalid,
        lines=None if text is None else len(text.lines),
        words=None if text is None else int((text.ranks == 0).sum()),
        blocks=len(blocks),
        stored=sum(head.raw_size for head in payloads if head.kind == STORED),
        archive_size=archive,
        container_size=archive - sum(head.payload_size for head in payloads),
        measured=measured,
    )
    return Explanation(
        name=name,
        predictor=predictor.name if level is None else f"{predictor.name}:{level}",
        version=predictor.version,
        fingerprint=predictor.fingerprint().hex(),
        data=data,
        costs=costs,
        blocks=blocks,
        totals=totals,
        classes=_byte_classes(data, costs) if text is None else _classes(text, costs),
        positions=() if text is None else _positions(text, costs),
        words=_byte_values(data, costs) if text is None else _words(text, costs),
        text=text,
        overhead="" if measured else predictor.overhead,
    )


def _score(predictor: Predictor, block: bytes, progress: Progress | None, threads: int) -> Costs:
    """Costs of a block; `progress` is called for all of its bytes, even if the model does not call it."""
    done = 0

    def count(size: int) -> None:
        nonlocal done
        done += size
        if progress:
            progress(size)

    costs = predictor.start(len(block), threads).score(block, count)
    if progress and done < len(block):
        progress(len(block) - done)
    if costs.shape != (len(block),) or not np.isfinite(costs).all():
        raise KolmoError(f"predictor {predictor.name!r} gave no cost for every byte; report this to its makers")
    return costs


def _halved(progress: Progress | None) -> Progress | None:
    """Report half of the bytes done, for a block that is processed twice."""
    if progress is None:
        return None
    done = 0

    def half(size: int) -> None:
        nonlocal done
        progress((done + size) // 2 - done // 2)
        done += size

    return half


def _estimate(size: int, bits: float) -> BlockHead:
    """The head of a block that costs `bits`: the coder's output is these bits, rounded up to bytes."""
    payload = math.ceil(bits / 8)
    if len(varint(payload)) + payload >= size:
        return BlockHead(STORED, size, size, bytes(DIGEST_SIZE))
    return BlockHead(CODED, size, payload, bytes(DIGEST_SIZE))


def _archive_size(predictor: Predictor, block_size: int, heads: Sequence[BlockHead]) -> int:
    """Bytes of a frame with these blocks (docs/format.md, "Frame")."""
    header = len(make_header(predictor, block_size).to_bytes())
    size = header + sum(head.block_size for head in heads)
    if len(heads) == 1:
        return size  # the short form, without an index
    index = tuple((head.raw_size, head.block_size) for head in heads)
    return size + len(Footer(index, header, bytes(DIGEST_SIZE)).to_bytes())


def _sums(costs: Costs, starts: npt.NDArray[np.int32]) -> Costs:
    sums: Costs = np.add.reduceat(costs, starts)
    return sums


def _classes(text: Text, costs: Costs) -> tuple[Share, ...]:
    counts = _Counts(CLASSES)
    for piece, sizes, bits in _pieces(text, costs):
        counts.add(text.classes[piece], sizes, bits)
    return counts.shares()


def _positions(text: Text, costs: Costs) -> tuple[Share, ...]:
    counts = _Counts(POSITIONS)
    for piece, sizes, bits in _pieces(text, costs):
        inside = text.ranks[piece] >= 0
        counts.add(np.minimum(text.ranks[piece][inside], len(POSITIONS) - 1), sizes[inside], bits[inside])
    return counts.shares()


def _byte_classes(data: bytes, costs: Costs) -> tuple[Share, ...]:
    table = np.array([byte_class(byte) for byte in range(256)])
    counts = _Counts(BYTE_CLASSES)
    for start in range(0, len(data), PIECE_ITEMS):
        which = table[np.frombuffer(data[start : start + PIECE_ITEMS], np.uint8)]
        counts.add(which, np.ones(len(which)), costs[start : start + PIECE_ITEMS])
    return counts.shares()


def byte_class(byte: int) -> int:
    """The class of a byte of a binary, as an index into `BYTE_CLASSES`."""
    if byte >= 128:
        return BYTE_CLASSES.index("bytes from 0x80")
    found = class_of(byte)
    return found if found != OTHER else BYTE_CLASSES.index("control bytes" if byte else "zero bytes")


def _pieces(text: Text, costs: Costs) -> Iterator[tuple[slice, Costs, Costs]]:
    """Yield slices of the characters, their sizes in bytes and costs in bits; in pieces to save memory."""
    for first in range(0, len(text.starts), PIECE_ITEMS):
        piece = slice(first, first + PIECE_ITEMS)
        begin = int(text.starts[first])
        end = int(text.starts[first + PIECE_ITEMS]) if first + PIECE_ITEMS < len(text.starts) else len(costs)
        starts = text.starts[piece] - begin
        yield piece, np.diff(starts, append=end - begin).astype(np.float64), _sums(costs[begin:end], starts)


class _Counts:
    """Adds up characters, bytes and bits by label."""

    def __init__(self, labels: Sequence[str]) -> None:
        self._labels = labels
        self._sums = np.zeros((3, len(labels)))

    def add(self, which: npt.NDArray[np.integer[Any]], sizes: Costs, bits: Costs) -> None:
        """Add characters, given the index of each one's label; all of shape (characters,)."""
        for row, weights in enumerate((None, sizes, bits)):
            self._sums[row] += np.bincount(which, weights, len(self._labels))

    def shares(self) -> tuple[Share, ...]:
        """The shares of the labels that occur."""
        rows = zip(self._labels, *self._sums.tolist(), strict=True)
        return tuple(Share(label, int(count), int(size), bits) for label, count, size, bits in rows if count)


def _words(text: Text, costs: Costs) -> tuple[Word, ...]:
    ends = np.append(text.tokens[1:], len(text.starts))
    totals: dict[str, list[float]] = {}
    for first in range(0, len(text.tokens), PIECE_ITEMS):  # in pieces, since lists of numbers are large
        piece = slice(first, first + PIECE_ITEMS)
        here = text.words[piece]
        begin = text.starts[text.tokens[first]]
        end = text.starts[ends[piece][-1]] if first + PIECE_ITEMS < len(text.tokens) else len(costs)
        sums = _sums(costs[begin:end], text.starts[text.tokens[piece]] - begin)
        words = zip(text.tokens[piece][here].tolist(), ends[piece][here].tolist(), sums[here].tolist(), strict=True)
        for start, stop, bits in words:
            entry = totals.setdefault(text.string[start:stop], [0, 0.0])
            entry[0] += 1
            entry[1] += bits
    return _most_expensive([Word(word, int(count), bits) for word, (count, bits) in totals.items()])


def _byte_values(data: bytes, costs: Costs) -> tuple[Word, ...]:
    values = np.frombuffer(data, np.uint8)
    counts = np.bincount(values, minlength=256).tolist()
    bits = np.bincount(values, costs, 256).tolist()
    return _most_expensive([Word(f"{byte:02x}", counts[byte], bits[byte]) for byte in range(256) if counts[byte]])


def _most_expensive(words: list[Word]) -> tuple[Word, ...]:
    words.sort(key=lambda word: (-word.bits, word.word))
    return tuple(words[:MAX_WORDS])


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)


def _plain(share: Share) -> dict[str, Any]:
    return {"label": share.label, "count": share.count, "size": share.size, "bits": round(share.bits, 3)}
