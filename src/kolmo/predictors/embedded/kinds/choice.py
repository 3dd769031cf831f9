"""The writer's guess of what a block's parts are, by headers, cheap tests, and trials (docs/kinds.md).

Deterministic: integers and code lengths in whole bytes, so that all machines write the same file. A decoder does not
depend on any of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby, pairwise

from kolmo.coder.binary import BinaryEncoder
from kolmo.predictors.embedded.kinds.base import Kind, Segment
from kolmo.predictors.embedded.kinds.general import PLAIN
from kolmo.predictors.embedded.kinds.segments import write_segments

WINDOW_BYTES = 1 << 16  # of plain data, that kinds guess about separately
TRIAL_BYTES = 1 << 14  # of a piece, that is coded to compare kinds
MAX_TRIALS = 3  # guesses of a kind that are tried
MIN_PIECE_BYTES = 256  # of which kinds guess what it is
FIRST_SPECIAL = 3  # codes from here on are special kinds

Split = Callable[[bytes], list[Segment]]


def choose(data: bytes, level: int, kinds: Mapping[int, Kind], split: Split) -> list[Segment]:
    """The segments of a block: sorted, covering it, neighbours of different kinds or parameters.

    Args:
        data: the block, at least one byte.
        level: 1 to 9.
        kinds: the special kinds may be among the pieces that `split` calls plain.
        split: divides data without known headers into segments of the general kinds.
    """
    special = [kind for code, kind in sorted(kinds.items()) if code >= FIRST_SPECIAL]
    segments: list[Segment] = []
    for first, last, announced in _gaps(_announced(data, special), len(data)):
        piece = data[first:last]
        if announced is not None and _gain(piece, level, kinds, announced.code, announced.parameters) > 0:
            segments.append(announced)
            continue
        for part in split(piece):
            part = Segment(part.code, first + part.first, part.size)
            segments += _guessed(data, part, level, kinds, special) if part.code == PLAIN else [part]
    return _joined(segments)


def guesses(data: bytes, kinds: Mapping[int, Kind]) -> list[Segment]:
    """A small block as one segment, of every kind that it might be but text and what looks random."""
    special = [kind for code, kind in sorted(kinds.items()) if code >= FIRST_SPECIAL]
    guessed = [(kind.code, parameters) for kind in special for parameters in kind.guess(data)[:MAX_TRIALS]]
    return [Segment(code, 0, len(data), parameters) for code, parameters in [(PLAIN, ()), *guessed]]


def smallest(data: bytes, level: int, kinds: Mapping[int, Kind], segments: Sequence[Segment]) -> tuple[Segment, int]:
    """The segment that codes a block in the fewest bytes, the first of equals, and the number of bytes."""
    sizes = [trial(kinds[s.code], level, s.parameters, data, [s]) for s in segments]
    size = min(sizes)
    return segments[sizes.index(size)], size


def _announced(data: bytes, special: Sequence[Kind]) -> list[Segment]:
    """Segments that headers announce, without those that overlap an earlier one."""
    found = sorted((s for kind in special for s in kind.find(data)), key=lambda s: (s.first, -s.size))
    result: list[Segment] = []
    for segment in found:
        if not result or segment.first >= result[-1].end:
            result.append(segment)
    return result


def _gaps(segments: Sequence[Segment], size: int) -> Iterator[tuple[int, int, Segment | None]]:
    """Segments and what is between them: (first, end, segment or None)."""
    at = 0
    for segment in segments:
        if at < segment.first:
            yield at, segment.first, None
        yield segment.first, segment.end, segment
        at = segment.end
    if at < size:
        yield at, size, None


def _guessed(
    data: bytes, part: Segment, level: int, kinds: Mapping[int, Kind], special: Sequence[Kind]
) -> list[Segment]:
    """A plain segment, or the segments of special kinds and plain ones that code it in fewer bytes.

    Kinds guess about windows of it one by one; neighbours of which the same kinds guess something are one piece.
    """
    if not special or part.size < MIN_PIECE_BYTES:
        return [part]
    count = max(1, (part.size + WINDOW_BYTES // 2) // WINDOW_BYTES)
    edges = [part.first + part.size * k // count for k in range(count + 1)]
    windows = [(a, b, tuple(kind for kind in special if kind.guess(data[a:b]))) for a, b in pairwise(edges)]
    segments: list[Segment] = []
    for candidates, group in groupby(windows, key=lambda window: window[2]):
        run = list(group)
        first, last = run[0][0], run[-1][1]
        piece = data[first:last]
        best, most = Segment(part.code, first, last - first), 0
        for kind in candidates:
            for parameters in kind.guess(piece)[:MAX_TRIALS]:
                gain = _gain(piece, level, kinds, kind.code, parameters)
                if gain > most:
                    best, most = Segment(kind.code, first, last - first, parameters), gain
        segments.append(best)
    return segments


def _gain(piece: bytes, level: int, kinds: Mapping[int, Kind], code: int, parameters: tuple[int, ...]) -> int:
    """Bytes that a kind saves on a part of a piece beside plain data."""
    size = min(len(piece), TRIAL_BYTES)
    period = kinds[code].period(parameters)
    start = (len(piece) - size) // 2 // period * period
    sample = piece[start : start + size]
    return trial(kinds[PLAIN], level, (), sample) - trial(kinds[code], level, parameters, sample)


def trial(kind: Kind, level: int, parameters: tuple[int, ...], data: bytes, segments: Sequence[Segment] = ()) -> int:
    """Bytes that a fresh model of a kind makes of some data, behind a list of segments."""
    encoder = BinaryEncoder()
    if segments:
        write_segments(encoder, segments)
    kind.model(level, len(data), parameters).encode(encoder, data)
    return len(encoder.finish())


def _joined(segments: Sequence[Segment]) -> list[Segment]:
    """The segments, neighbours of equal kind and parameters joined."""
    result: list[Segment] = []
    for segment in segments:
        last = result[-1] if result else None
        if last and (last.code, last.parameters) == (segment.code, segment.parameters):
            result[-1] = Segment(last.code, last.first, last.size + segment.size, last.parameters)
        else:
            result.append(segment)
    return result
