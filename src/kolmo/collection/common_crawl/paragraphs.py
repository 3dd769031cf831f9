"""Paragraph deduplication in two passes: lines that two documents share are dropped from all of them.

First the hash of every line of every document of a group of shards is written; of these, those that two or more
documents have are kept, 8 bytes each. Then every line with such a hash is dropped, its first copy too (so that menus
and notes on cookies vanish, rather than staying once); a line twice in one document keeps its first copy. After CCNet
(Wenzek et al., 2020), section 3.1. What it is not: a search for near duplicates.

The hash of a line: stripped, in lower case, digits as 0, without control characters and the marks of `MARKS`; then the
first 8 bytes of SHA-1. Memory: 8 bytes a line of the group in the pass that compares, of
shared lines alone in the last.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from hashlib import sha1
from typing import Any

import numpy as np
import numpy.typing as npt

from kolmo.collection.stages import Shard
from kolmo.corpus.documents import Document

HASHES, SHARED = "hashes.bin", "shared.bin"
STEP = "paragraphs"
MARKS = "，。、„”“«»１」「《》´∶：？！（）；–—．～’…━〈〉【】％►"
CONTROLS = bytes([*range(10), *range(11, 32), 127])  # of ASCII, without the line end
OTHERS = re.compile(f"[\x80-\x9f{MARKS}]")  # beyond ASCII, what is removed
DIGIT = re.compile(r"[^\x00-\x7f\D]")  # digits beyond ASCII
ZEROS = bytes.maketrans(b"0123456789", b"0000000000")
BUFFER = 1 << 16  # hashes that are written at once

Hashes = npt.NDArray[np.uint64]


def line_hashes(content: str) -> Hashes:
    r"""The hash of each line of a content, shape (lines,).

    The whole text is normalised at once: no operation reaches over a line end.

    >>> line_hashes("Page 1\n page 2!\nPAGE 7")[[0, 2]].tolist()
    [9526377447284033443, 9526377447284033443]
    """
    text = "\n".join(map(str.strip, content.split("\n"))).lower()
    if not text.isascii():
        text = OTHERS.sub("", DIGIT.sub("0", text))
    data = text.encode("utf-8", "replace").translate(ZEROS, CONTROLS)
    return np.frombuffer(b"".join([sha1(line).digest()[:8] for line in data.split(b"\n")]), ">u8").astype(np.uint64)


@dataclass(frozen=True)
class HashLines:
    """The first pass: writes the hashes of each document's different lines, and lets documents through."""

    name: str = "hashes"

    def run(self, documents: Iterable[Document], shard: Shard) -> Iterator[Document]:
        """See `Step`."""
        held: list[Hashes] = []
        count = 0
        with open(shard.output(HASHES), "wb") as file:
            for document in documents:
                held.append(np.unique(line_hashes(document.content)))
                count += len(held[-1])
                if count >= BUFFER:
                    np.concatenate(held).tofile(file)
                    held, count = [], 0
                yield document
            if held:
                np.concatenate(held).tofile(file)


@dataclass(frozen=True)
class FindShared:
    """Between the passes, for each group: the hashes that two or more documents have, sorted."""

    source: str  # stage that wrote the hashes
    group: int  # shards of a group
    name: str = "shared lines"

    def run(self, documents: Iterable[Document], shard: Shard) -> Iterator[Document]:
        """See `Step`."""
        first = shard.index * self.group
        last = min(first + self.group, shard.work.shards(self.source))
        paths = [shard.input(self.source, index, HASHES) for index in range(first, last)]
        shared(paths).tofile(shard.output(SHARED))
        yield from ()


def shared(paths: Iterable[str]) -> Hashes:
    """The hashes that stand twice or more in these files, sorted; each document wrote each of its hashes once."""
    files = list(paths)
    sizes = [os.path.getsize(path) // 8 for path in files]
    every = np.empty(sum(sizes), np.uint64)
    at = 0
    for path, size in zip(files, sizes, strict=True):
        every[at : at + size] = np.fromfile(path, np.uint64)
        at += size
    every.sort()
    # Equal neighbours, in pieces, so that no second array of this length is made.
    found = []
    for begin in range(0, len(every), BUFFER):
        piece = every[begin : begin + BUFFER + 1]
        found.append(np.unique(piece[1:][piece[1:] == piece[:-1]]))
    return np.unique(np.concatenate(found)) if found else every


@dataclass(frozen=True)
class DropShared:
    """The second pass: drops shared lines, and documents of which nothing is left."""

    source: str  # stage that wrote the shared hashes, a shard for each group
    group: int
    name: str = STEP

    def run(self, documents: Iterable[Document], shard: Shard) -> Iterator[Document]:
        """See `Step`."""
        path = shard.input(self.source, shard.index // self.group, SHARED)
        size = os.path.getsize(path) // 8
        known: Any = np.memmap(path, np.uint64, "r", shape=(size,)) if size else np.empty(0, np.uint64)
        for document in documents:
            shard.counts.take(self.name)
            kept = kept_lines(line_hashes(document.content), known)
            shard.counts.tally(self.name, "lines", int(document.meta["original_nlines"]))
            shard.counts.tally(self.name, "lines kept", len(kept))
            if not len(kept):
                shard.counts.drop(self.name, "no line of its own")
                continue
            content = pick_lines(document.content, kept.tolist())
            meta = {**document.meta, "nlines": len(kept), "length": len(content), "line_ids": kept.tolist()}
            yield replace(document, content=content, meta=meta)


def kept_lines(hashes: Hashes, known: Hashes) -> npt.NDArray[np.int64]:
    """The places of lines that stay: not among `known` (sorted), and the first of their hash in this document."""
    _, first = np.unique(hashes, return_index=True)
    if len(known):
        places = np.minimum(np.searchsorted(known, hashes[first]), len(known) - 1)
        first = first[known[places] != hashes[first]]
    return np.sort(first)


def pick_lines(content: str, line_ids: Iterable[int]) -> str:
    r"""The lines of a content with these numbers, from 0.

    >>> pick_lines("a\nb\nc", [0, 2])
    'a\nc'

    Raises:
        IndexError: there is no such line.
    """
    lines = content.split("\n")
    return "\n".join([lines[number] for number in line_ids])
