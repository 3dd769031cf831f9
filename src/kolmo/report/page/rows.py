"""The content of an explanation's page in rows, and which of them are shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from kolmo.predictors.base import BlockPart
from kolmo.report.text import Text

if TYPE_CHECKING:
    from kolmo.report.explain import Explanation

HEX_COLUMNS = 16  # bytes in a row of a hex dump
MAX_HEX_COLUMNS = 32  # in a row of records
MAX_RECORD_BYTES = 256  # of records that begin a row each
RECORD_FIELDS = ("record", "width")  # parameters of kinds that say how long a record is
STRETCH_TABLE_BYTES = 256  # bytes of a stretch in the table of a binary's most expensive ones
MAX_ROW_BYTES = 2048  # bytes after which a line is continued in a row of its own
SELECTED_BYTES = 4096  # bytes that are shown or left out together

Offsets = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Span:
    """Rows `first` to `last` - 1, shown or left out."""

    first: int
    last: int
    shown: bool


@dataclass(frozen=True)
class Rows:
    """The content in rows: lines, pieces of long lines, or 16 bytes of a hex dump (or a record).

    Attributes:
        offsets: byte at which each row begins, shape (rows,).
        tokens: index of each row's first token (byte, of a binary), shape (rows,).
        numbers: line number from 1 of each row, shape (rows,); none for a binary.
    """

    offsets: Offsets
    tokens: Offsets
    numbers: Offsets

    @classmethod
    def of(cls, explanation: Explanation) -> Rows:
        """Cut a content of at least one byte into rows."""
        text = explanation.text
        if text is None:
            starts = _hex_starts(explanation)
            return cls(starts, starts, np.zeros(0, np.int64))
        tokens = text.starts[text.tokens].astype(np.int64)
        lines = text.starts[text.lines].astype(np.int64)
        ends = np.append(lines[1:], len(explanation.data))
        cuts: list[int] = []
        for line in np.flatnonzero(ends - lines > MAX_ROW_BYTES).tolist():
            at, end = int(lines[line]), int(ends[line])
            while end - at > MAX_ROW_BYTES:
                at = int(tokens[np.searchsorted(tokens, at + MAX_ROW_BYTES, side="right") - 1])  # a token is shorter
                cuts.append(at)
        offsets = np.union1d(lines, np.array(cuts, np.int64))
        numbers = np.searchsorted(lines, offsets, side="right")
        return cls(offsets, np.searchsorted(tokens, offsets), numbers)

    def select(self, explanation: Explanation, limit: int) -> list[Span]:
        """Which rows to show: all that fit the limit, else the head and the stretches that cost most per byte."""
        size, count = len(explanation.data), len(self.offsets)
        if size <= limit:
            return [Span(0, count, True)]
        stretch = min(SELECTED_BYTES, max(limit // 16, 4 * HEX_COLUMNS))
        firsts = np.unique(self.offsets // stretch, return_index=True)[1]
        starts = self.offsets[firsts]
        sizes = np.diff(starts, append=size)
        costs = np.add.reduceat(explanation.costs, starts) / sizes
        head = max(int(np.searchsorted(starts + sizes, limit // 4, side="right")), 1)
        chosen = np.zeros(len(firsts), np.bool_)
        chosen[:head] = True
        left = limit - int(sizes[:head].sum())
        for place in np.argsort(-costs, kind="stable").tolist():
            if not chosen[place] and sizes[place] <= left:
                chosen[place] = True
                left -= int(sizes[place])
            if left < stretch // 4:
                break
        changes = np.flatnonzero(np.diff(chosen.astype(np.int8), prepend=2))  # the first row always begins one
        bounds = [*firsts[changes].tolist(), count]
        return [
            Span(first, last, bool(chosen[at]))
            for at, first, last in zip(changes.tolist(), bounds[:-1], bounds[1:], strict=True)
        ]


def byte_place(text: Text, character: int, explanation: Explanation) -> int:
    """Byte offset of a character, or of the end."""
    return int(text.starts[character]) if character < len(text.starts) else len(explanation.data)


def _hex_starts(explanation: Explanation) -> Offsets:
    """Bytes at which the rows of a hex dump begin: every 16, and of records every one, cut where it is long."""
    pieces: list[Offsets] = []
    at, size = 0, len(explanation.data)
    for part in explanation.parts:
        record = _record(part)
        if not record:
            continue
        pieces += _plain_starts(at, part.first)
        at = part.first + part.size
        begins = np.arange(part.first, at, record)[:, None] + np.arange(0, record, MAX_HEX_COLUMNS)
        pieces.append(begins[begins < at])
    return np.concatenate([*pieces, *_plain_starts(at, size)])


def _plain_starts(first: int, last: int) -> list[Offsets]:
    """Rows from `first` to `last` - 1 that begin at multiples of 16, but for the first one."""
    return [np.array([first]), np.arange((first // HEX_COLUMNS + 1) * HEX_COLUMNS, last, HEX_COLUMNS)] * (first < last)


def _record(part: BlockPart) -> int:
    """Bytes after which a row begins: of a record, or of several short ones; 0 where a part has none."""
    width = next((part.parameters[name] for name in RECORD_FIELDS if name in part.parameters), 0)
    if part.kind in ("image", "audio") or not 2 <= width <= MAX_RECORD_BYTES:
        return 0
    return width * max(HEX_COLUMNS // width, 1)
