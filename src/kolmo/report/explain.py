"""The cost of each byte of a content under a predictor, and sums of these costs: `explain` -> `Explanation`.

The cost of a byte is -log2 of the probability that the predictor gave to it (Shannon 1948); the sum of all costs is
the size that the arithmetic coder writes (docs/format.md). Blocks are those of `kolmo.compress`; each starts
with a fresh model.
What it is not: it draws nothing (see `report.page`) and reads no files.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from kolmo.codec.blocks import encode_block
from kolmo.codec.frames import even_blocks, make_header
from kolmo.container.structures import CODED, DEFAULT_BLOCK_LIMIT, STORED, BlockHead, Footer
from kolmo.container.wire import DIGEST_SIZE
from kolmo.errors import KolmoError
from kolmo.foreign import html_table, short
from kolmo.parallel import available_cores
from kolmo.predictors.base import BlockPart, Predictor
from kolmo.predictors.embedded.segmented import SegmentedModel
from kolmo.predictors.parts import shares
from kolmo.predictors.registry import DEFAULT_LEVEL, level_of, resolve
from kolmo.predictors.registry import for_level as predictor_for_level
from kolmo.progress import Progress
from kolmo.report.sums import Costs, Share, Word, byte_classes, byte_values, classes, positions, sums, words
from kolmo.report.text import Text, cut, is_text
from kolmo.varints import varint

MAX_MEASURED_BYTES = 2 << 20  # the archive of a content up to this size is made, so that its size is measured
MAX_CONTENT_BYTES = 128 << 20  # the arrays take 30 to 50 times as much memory
DEFAULT_LIMIT = 200 << 10  # bytes of content that a page shows


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
        parts: what the predictor took parts of the content for, in order, with their offsets in the content; empty
            where it does not tell kinds apart.
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
    parts: tuple[BlockPart, ...] = ()

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
        return sums(self.costs, self.text.starts)

    def tokens(self) -> Costs:
        """Cost of each token of a text in bits, shape (tokens,); of each byte for a binary."""
        return self.costs if self.text is None else sums(self.costs, self.text.starts[self.text.tokens])

    def lines(self) -> Costs:
        """Cost of each line in bits, its line end included, shape (lines,); none for a binary."""
        if self.text is None:
            return np.zeros(0)
        return sums(self.costs, self.text.starts[self.text.lines])

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
            "kinds": [share.record() for share in shares(self.parts)],
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
    parts: list[BlockPart] = []
    for start in blocks:
        block = data[start : start + step]
        passed = _halved(progress) if measured else progress  # measuring takes as long again
        costs[start : start + len(block)], found = _score(predictor, block, passed, threads)
        parts += [replace(part, first=start + part.first) for part in found]
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
        classes=byte_classes(data, costs) if text is None else classes(text, costs),
        positions=() if text is None else positions(text, costs),
        words=byte_values(data, costs) if text is None else words(text, costs),
        text=text,
        overhead="" if measured else predictor.overhead,
        parts=tuple(parts),
    )


def _score(
    predictor: Predictor, block: bytes, progress: Progress | None, threads: int
) -> tuple[Costs, list[BlockPart]]:
    """Costs of a block, and its parts; `progress` counts all of its bytes, even if the model does not call it."""
    done = 0

    def count(size: int) -> None:
        nonlocal done
        done += size
        if progress:
            progress(size)

    model = predictor.start(len(block), threads)
    costs = model.score(block, count)
    if progress and done < len(block):
        progress(len(block) - done)
    if costs.shape != (len(block),) or not np.isfinite(costs).all():
        raise KolmoError(f"predictor {predictor.name!r} gave no cost for every byte; report this to its makers")
    return costs, model.parts if isinstance(model, SegmentedModel) else []


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


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)


def _plain(share: Share) -> dict[str, Any]:
    return {"label": share.label, "count": share.count, "size": share.size, "bits": round(share.bits, 3)}
