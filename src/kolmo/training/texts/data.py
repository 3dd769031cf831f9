"""Training text: byte streams from files, mixed by weight, in lanes that go on from batch to batch.

What it is not: it knows no model. Symbols are bytes, or whatever a vocabulary makes of them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from kolmo.errors import KolmoError
from kolmo.training.source_files import source_files

if TYPE_CHECKING:
    from kolmo.training.texts.vocabulary import Vocabulary

Bytes = npt.NDArray[np.uint8]
Symbols = npt.NDArray[np.unsignedinteger[Any]]
HELD_OUT_PIECES = 4  # pieces of each source that are held out for validation
HELD_OUT_BYTES = 1 << 16  # upper bound on the bytes of all these pieces, which are at most a twentieth of the source
MIN_PIECE_SYMBOLS, MAX_PIECE_SYMBOLS = 1 << 11, 1 << 16  # what a lane reads in one piece, log-uniformly distributed
LINE_SEARCH_SYMBOLS = 512  # symbols in which the end of a line is sought, so that a piece starts with a line
MIN_SOURCE_BYTES = 32 * MIN_PIECE_SYMBOLS  # size of the smallest source that is accepted


@dataclass(frozen=True)
class Source:
    """A text to train on. Pieces of it, evenly spaced, are held out for validation.

    Attributes:
        name: of the file or folder.
        weight: share of the training bytes, in any unit.
        text: symbols; bytes, until a vocabulary encodes them.
        held_out: first and last + 1 symbol of each piece.
        size: bytes.
        sha256: of the bytes, hexadecimal.
    """

    name: str
    weight: float
    text: Symbols
    held_out: tuple[tuple[int, int], ...]
    size: int
    sha256: str

    def is_held_out(self, first: int, last: int) -> bool:
        """Whether any of the symbols first..last - 1 is."""
        return any(first < b and a < last for a, b in self.held_out)

    def gaps(self) -> list[tuple[int, int]]:
        """First and last + 1 symbol of each stretch between the held-out pieces."""
        ends = [0, *(b for _, b in self.held_out)]
        starts = [*(a for a, _ in self.held_out), len(self.text)]
        return list(zip(ends, starts, strict=True))

    def passage(self) -> Passage:
        """What is held out."""
        return Passage(self.name, tuple(self.text[a:b] for a, b in self.held_out))

    def describe(self) -> dict[str, Any]:
        """What tells sources apart, ready for JSON."""
        return {"name": self.name, "weight": self.weight, "bytes": self.size, "sha256": self.sha256}


@dataclass(frozen=True)
class Passage:
    """Pieces of text to measure a model on, each from a fresh state; never trained on."""

    name: str
    pieces: tuple[Symbols, ...]


@dataclass(frozen=True)
class TrainingCorpus:
    """All text of a run.

    Attributes:
        sources: to train on.
        extra: files that are for validation alone, after the held-out pieces of the sources.
        extra_facts: name, bytes and SHA-256 of each of them.
    """

    sources: tuple[Source, ...]
    extra: tuple[Passage, ...] = ()
    extra_facts: tuple[dict[str, Any], ...] = ()

    def passages(self) -> list[Passage]:
        """Everything to validate on."""
        return [*(s.passage() for s in self.sources), *self.extra]


def open_training_corpus(
    sources: Sequence[tuple[Path, float | None]], validate: Sequence[Path] = (), run: Path | None = None
) -> TrainingCorpus:
    """Open the files of a run, as bytes.

    Args:
        sources: files or folders with their weights; None everywhere: by their sizes.
        validate: files for validation alone.
        run: the folder of the run, whose files are not among those of a folder.

    Raises:
        KolmoError: one is missing or too short, is the folder of the run, or two have the same name.
    """
    names = [_name(path) for path in (*(path for path, _ in sources), *validate)]
    for name in names:
        if names.count(name) > 1:
            raise KolmoError(f"{name}: two texts have this name, which their results go by; rename one, or link to it")
    opened = tuple(open_source(path, weight, run=run) for path, weight in sources)
    texts = [read_text(path, run) for path in validate]
    facts = tuple(
        {"name": _name(path), "bytes": len(text), "sha256": sha256(text)}
        for path, text in zip(validate, texts, strict=True)
    )
    return TrainingCorpus(opened, tuple(_extra(path, text) for path, text in zip(validate, texts, strict=True)), facts)


def open_source(
    path: Path, weight: float | None = None, held_out: int = HELD_OUT_BYTES, run: Path | None = None
) -> Source:
    """A file, or all files under a folder, as one source; without a weight, its size is the weight.

    Raises:
        KolmoError: nothing there, or too little to train on.
    """
    text = read_text(path, run)
    if len(text) < MIN_SOURCE_BYTES:
        raise KolmoError(f"{path}: {len(text)} bytes are too few to train on; give at least {MIN_SOURCE_BYTES}")
    spans = _evenly(len(text), min(held_out, len(text) // 20) // HELD_OUT_PIECES)
    return Source(_name(path), len(text) if weight is None else weight, text, spans, len(text), sha256(text))


def read_text(path: Path, run: Path | None = None) -> Bytes:
    """A file's bytes, mapped, or those of all files under a folder in the order of their paths, read.

    Files and folders whose names begin with a dot are left out of a folder, and the folder of the run is.

    Raises:
        KolmoError: there is nothing of that name, or it is the folder of the run.
    """
    if path.is_dir():
        parts = [np.fromfile(file, np.uint8) for file in source_files(path, run)]
        return np.concatenate(parts) if parts else np.zeros(0, np.uint8)
    if not path.is_file():
        raise KolmoError(f"{path}: no such file or folder; name text to train on")
    return np.memmap(path, np.uint8, "r") if path.stat().st_size else np.zeros(0, np.uint8)


def sha256(text: Bytes) -> str:
    """Hexadecimal SHA-256 of the bytes."""
    return hashlib.sha256(np.ascontiguousarray(text).data).hexdigest()


def encode(corpus: TrainingCorpus, vocabulary: Vocabulary) -> TrainingCorpus:
    """The same texts in the symbols of a vocabulary; no symbol reaches into or out of a held-out piece."""
    extra = tuple(Passage(p.name, tuple(vocabulary.encode(x) for x in p.pieces)) for p in corpus.extra)
    return TrainingCorpus(tuple(_encode(s, vocabulary) for s in corpus.sources), extra, corpus.extra_facts)


def _encode(source: Source, vocabulary: Vocabulary) -> Source:
    edges = [0, *(edge for piece in source.held_out for edge in piece), len(source.text)]
    parts = [vocabulary.encode(source.text[a:b]) for a, b in pairwise(edges)]
    ends = np.cumsum([len(part) for part in parts]).tolist()
    spans = tuple((ends[i - 1], ends[i]) for i in range(1, len(parts), 2))
    return Source(source.name, source.weight, np.concatenate(parts), spans, source.size, source.sha256)


def _extra(path: Path, text: Bytes) -> Passage:
    if len(text) < 2 * HELD_OUT_PIECES:
        raise KolmoError(f"{path}: {len(text)} bytes are too few to validate on")
    spans = _evenly(len(text), min(HELD_OUT_BYTES, len(text)) // HELD_OUT_PIECES)
    return Passage(_name(path), tuple(text[a:b] for a, b in spans))


def _evenly(size: int, piece: int) -> tuple[tuple[int, int], ...]:
    """HELD_OUT_PIECES pieces of one length, as far from each other as from the ends."""
    count = HELD_OUT_PIECES
    starts = [min(size * (2 * i + 1) // (2 * count), size - piece * (count - i)) for i in range(count)]
    return tuple((at, at + piece) for at in starts)


def _name(path: Path) -> str:
    return path.name or path.resolve().name


class Sampler:
    """Batches of symbols, time first; every lane reads a piece of one source, then jumps to another.

    Its `state` resumes it exactly.

    Args:
        sources: encoded alike.
        lanes: texts read at once.
        steps: symbols of each in a batch.
        seed: of the jumps.
        line_end: the symbol that lanes like to begin with (see docs/neural.md), or None.

    Raises:
        KolmoError: a source is too short for so many steps.
    """

    def __init__(self, sources: Sequence[Source], lanes: int, steps: int, seed: int, line_end: int | None = 10) -> None:
        self.sources, self.lanes, self.steps, self.line_end = sources, lanes, steps, line_end
        for source in sources:
            room = max(last - first for first, last in source.gaps())
            if room < 2 * self._whole(MIN_PIECE_SYMBOLS) + LINE_SEARCH_SYMBOLS:
                raise KolmoError(
                    f"{source.name}: too short for windows of {steps}; lower the argument window, or leave the text out"
                )
        self.random = np.random.default_rng(seed)
        weights = np.array([s.weight for s in sources], np.float64)
        self.odds = weights / weights.sum()
        self.reading = [(0, 0, 0)] * lanes  # source, position, end

    def state(self) -> dict[str, Any]:
        """What `restore` needs."""
        return {"random": self.random.bit_generator.state, "reading": list(self.reading)}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a `state`.

        Raises:
            ValueError: it is that of other lanes or sources.
        """
        reading = [(int(source), int(position), int(end)) for source, position, end in state["reading"]]
        sizes = [len(source.text) for source in self.sources]
        if len(reading) != self.lanes or any(s >= len(sizes) or end > sizes[s] for s, _, end in reading):
            raise ValueError("other lanes or sources")
        self.random.bit_generator.state = state["random"]
        self.reading = reading

    def batch(self) -> tuple[Symbols, npt.NDArray[np.bool_]]:
        """Symbols (steps + 1, lanes), whose first row is the last one of the batch before, and which lanes jumped."""
        out = np.empty((self.steps + 1, self.lanes), self.sources[0].text.dtype)
        jumped = np.zeros(self.lanes, bool)
        for lane, (source, position, end) in enumerate(self.reading):
            if position + self.steps + 1 > end:
                source, position, end = self._jump()
                jumped[lane] = True
            out[:, lane] = self.sources[source].text[position : position + self.steps + 1]
            self.reading[lane] = source, position + self.steps, end
        return out, jumped

    def _jump(self) -> tuple[int, int, int]:
        while True:
            source, first, last = self._candidate()
            if last - first > self.steps and not self.sources[source].is_held_out(first, last):
                return source, first, last

    def _candidate(self) -> tuple[int, int, int]:
        source = int(self.random.choice(len(self.sources), p=self.odds))
        text = self.sources[source].text
        length = self._whole(int(2 ** self.random.uniform(np.log2(MIN_PIECE_SYMBOLS), np.log2(MAX_PIECE_SYMBOLS))))
        at = int(self.random.integers(0, max(len(text) - length - LINE_SEARCH_SYMBOLS, 1)))
        if self.line_end is not None:
            ends = np.flatnonzero(text[at : at + LINE_SEARCH_SYMBOLS - 1] == self.line_end)
            at += int(ends[0]) if len(ends) else 0
        return source, at, min(at + length, len(text))

    def _whole(self, length: int) -> int:
        """So many symbols in whole windows, at least one, and the symbol before them."""
        return max(length // self.steps, 1) * self.steps + 1
