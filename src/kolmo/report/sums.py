"""Sums of an explanation's costs: by class of character, by place in a word, by word or byte value.

What it is not: the costs themselves (see `explain`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from kolmo.report.text import CLASSES, OTHER, Text, class_of

MAX_WORDS = 100
POSITIONS = ("first letter", "second", "third", "fourth", "fifth", "later")
BYTE_CLASSES = (*CLASSES[:-1], "zero bytes", "control bytes", "bytes from 0x80")
PIECE_ITEMS = 1 << 16  # characters or tokens worked on together

Costs = npt.NDArray[np.float64]


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


def sums(costs: Costs, starts: npt.NDArray[np.int32]) -> Costs:
    """Cost of each item in bits, shape (items,); `starts` are the offsets of their first bytes."""
    found: Costs = np.add.reduceat(costs, starts)
    return found


def classes(text: Text, costs: Costs) -> tuple[Share, ...]:
    """Costs of a text by class of character."""
    counts = _Counts(CLASSES)
    for piece, sizes, bits in _pieces(text, costs):
        counts.add(text.classes[piece], sizes, bits)
    return counts.shares()


def positions(text: Text, costs: Costs) -> tuple[Share, ...]:
    """Costs of a text's characters by their place in a word."""
    counts = _Counts(POSITIONS)
    for piece, sizes, bits in _pieces(text, costs):
        inside = text.ranks[piece] >= 0
        counts.add(np.minimum(text.ranks[piece][inside], len(POSITIONS) - 1), sizes[inside], bits[inside])
    return counts.shares()


def byte_classes(data: bytes, costs: Costs) -> tuple[Share, ...]:
    """Costs of a binary by class of byte."""
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
        yield piece, np.diff(starts, append=end - begin).astype(np.float64), sums(costs[begin:end], starts)


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


def words(text: Text, costs: Costs) -> tuple[Word, ...]:
    """The words of a text with the highest total cost, in that order."""
    ends = np.append(text.tokens[1:], len(text.starts))
    totals: dict[str, list[float]] = {}
    for first in range(0, len(text.tokens), PIECE_ITEMS):  # in pieces, since lists of numbers are large
        piece = slice(first, first + PIECE_ITEMS)
        here = text.words[piece]
        begin = text.starts[text.tokens[first]]
        end = text.starts[ends[piece][-1]] if first + PIECE_ITEMS < len(text.tokens) else len(costs)
        costs_here = sums(costs[begin:end], text.starts[text.tokens[piece]] - begin)
        words = zip(
            text.tokens[piece][here].tolist(), ends[piece][here].tolist(), costs_here[here].tolist(), strict=True
        )
        for start, stop, bits in words:
            entry = totals.setdefault(text.string[start:stop], [0, 0.0])
            entry[0] += 1
            entry[1] += bits
    return _most_expensive([Word(word, int(count), bits) for word, (count, bits) in totals.items()])


def byte_values(data: bytes, costs: Costs) -> tuple[Word, ...]:
    """The byte values of a binary with the highest total cost, in that order."""
    values = np.frombuffer(data, np.uint8)
    counts = np.bincount(values, minlength=256).tolist()
    bits = np.bincount(values, costs, 256).tolist()
    return _most_expensive([Word(f"{byte:02x}", counts[byte], bits[byte]) for byte in range(256) if counts[byte]])


def _most_expensive(words: list[Word]) -> tuple[Word, ...]:
    words.sort(key=lambda word: (-word.bits, word.word))
    return tuple(words[:MAX_WORDS])
