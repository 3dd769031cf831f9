"""The writer's guess of what a block's parts are, by headers, cheap tests, and trials (docs/kinds.md).

Deterministic: integers and code lengths in whole bytes, so that all machines write the same file. A decoder does not
depend on any of it. Whatever the data is, the trials take a bounded part of the time that coding takes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby, pairwise

from kolmo.coder.binary import BinaryEncoder
from kolmo.predictors.embedded.kinds.base import Kind, Segment
from kolmo.predictors.embedded.kinds.general import PLAIN, QUICK
from kolmo.predictors.embedded.kinds.segments import MAX_SEGMENTS, MAX_STREAMS, streams_of, write_segments

WINDOW_BYTES = 1 << 16  # of plain data, that kinds guess about separately
TRIAL_BYTES = 1 << 14  # of a piece, that is coded to compare kinds; more where rows are long
MAX_TRIAL_BYTES = 1 << 16
TRIAL_PERIODS = 8  # rows, or the like, that a trial covers
MAX_TRIALS = 3  # guesses of a kind that are tried
MAX_REFUSED = 16  # announcements of a block that trials refuse, after which headers are not believed any more
MIN_PIECE_BYTES = 256  # of which kinds guess what it is
FIRST_SPECIAL = 3  # codes from here on are special kinds

Split = Callable[[bytes], list[Segment]]


def choose(data: bytes, level: int, kinds: Mapping[int, Kind], split: Split) -> list[Segment]:
    """The segments of a block: sorted, covering it, neighbours of different kinds or parameters.

    Args:
        data: the block, at least one byte.
        level: 1 to 9.
        kinds: the special kinds may be among the pieces that `split` calls plain or packed.
        split: divides data without known headers into segments of the general kinds.
    """
    special = _special(kinds)
    segments: list[Segment] = []
    for segment in _covering(_believed(data, level, kinds, special), len(data)):
        if segment.code != PLAIN:
            segments.append(segment)
            continue
        for part in split(data[segment.first : segment.end]):
            part = Segment(part.code, segment.first + part.first, part.size)
            segments += _guessed(data, part, level, kinds, special) if part.code in (PLAIN, QUICK) else [part]
    return _limited(_joined(segments))


def candidates(data: bytes, level: int, kinds: Mapping[int, Kind]) -> list[list[Segment]]:
    """What a small block might be, except for text and what looks random: plain first."""
    special = _special(kinds)
    guesses = [(kind.code, parameters) for kind in special for parameters in kind.guess(data)[:MAX_TRIALS]]
    whole = [[Segment(code, 0, len(data), parameters)] for code, parameters in [(PLAIN, ()), *guesses]]
    believed = _believed(data, level, kinds, special)
    return [*whole, *([_limited(list(_covering(believed, len(data))))] if believed else [])]


def smallest(
    data: bytes, level: int, kinds: Mapping[int, Kind], choices: Sequence[Sequence[Segment]]
) -> tuple[Sequence[Segment], int]:
    """The list of segments that codes a block in the fewest bytes, the first of equals, and the number of bytes."""
    sizes = [coded_size(data, level, kinds, choice) for choice in choices]
    size = min(sizes)
    return choices[sizes.index(size)], size


def coded_size(data: bytes, level: int, kinds: Mapping[int, Kind], segments: Sequence[Segment]) -> int:
    """Bytes that fresh models make of a block, its list of segments included."""
    encoder = BinaryEncoder()
    write_segments(encoder, segments)
    for stream in streams_of(segments):
        content = b"".join(data[segment.first : segment.end] for segment in stream)
        kinds[stream[0].code].model(level, len(content), stream[0].parameters).encode(encoder, content)
    return len(encoder.finish())


def _special(kinds: Mapping[int, Kind]) -> list[Kind]:
    return [kind for code, kind in sorted(kinds.items()) if code >= FIRST_SPECIAL]


# Announced by headers


def _announced(data: bytes, special: Sequence[Kind]) -> list[Segment]:
    """Segments that headers announce, sorted by their beginnings, the largest first; they may overlap."""
    return sorted((s for kind in special for s in kind.find(data)), key=lambda s: (s.first, -s.size, s.code))


def _believed(data: bytes, level: int, kinds: Mapping[int, Kind], special: Sequence[Kind]) -> list[Segment]:
    """Announced segments that a trial confirms, without those that overlap an earlier one.

    Segments of equal kind and parameters share the outcome of a trial, unless a later one is larger than all before
    it: an archive of thousands of small pictures takes few trials.
    """
    outcomes: dict[tuple[int, tuple[int, ...]], tuple[int, bool]] = {}  # -> bytes of the trial, whether it confirmed
    believed: list[Segment] = []
    at = refused = 0
    for segment in _announced(data, special):
        if segment.first < at or refused == MAX_REFUSED:
            continue
        key, size = (segment.code, segment.parameters), min(segment.size, TRIAL_BYTES)
        tried, confirmed = outcomes.get(key, (0, False))
        if size > tried and (tried or len(outcomes) < MAX_STREAMS):
            confirmed = (
                _Trials(data, segment.first, segment.end, level, kinds).gain(segment.code, segment.parameters) > 0
            )
            outcomes[key] = size, confirmed
            refused += not confirmed
        if confirmed:
            believed.append(segment)
            at = segment.end
    return believed


def _covering(segments: Sequence[Segment], size: int) -> Iterator[Segment]:
    """Sorted segments without overlaps, with plain ones between them, so that they cover `size` bytes."""
    at = 0
    for segment in segments:
        if at < segment.first:
            yield Segment(PLAIN, at, segment.first - at)
        yield segment
        at = segment.end
    if at < size:
        yield Segment(PLAIN, at, size - at)


# Guessed


def _guessed(
    data: bytes, part: Segment, level: int, kinds: Mapping[int, Kind], special: Sequence[Kind]
) -> list[Segment]:
    """A plain or packed segment, or segments of special kinds and of its own that code it in fewer bytes.

    Kinds guess about windows of it one by one; neighbours of which the same kinds guess something are one piece.
    """
    if not special or part.size < MIN_PIECE_BYTES:
        return [part]
    count = max(1, (part.size + WINDOW_BYTES // 2) // WINDOW_BYTES)
    edges = [part.first + part.size * k // count for k in range(count + 1)]
    windows = [(a, b, tuple(kind for kind in special if kind.guess(data[a:b]))) for a, b in pairwise(edges)]
    segments: list[Segment] = []
    for kinds_here, group in groupby(windows, key=lambda window: window[2]):
        run = list(group)
        first, last = run[0][0], run[-1][1]
        trials = _Trials(data, first, last, level, kinds, part.code)
        best, most = Segment(part.code, first, last - first), 0
        for kind in kinds_here:
            for parameters in kind.guess(data[first:last])[:MAX_TRIALS]:
                gain = trials.gain(kind.code, parameters)
                if gain > most:
                    best, most = Segment(kind.code, first, last - first, parameters), gain
        segments.append(best)
    return segments


class _Trials:
    """Compares kinds with a general one by what they make of a part in the middle of a piece."""

    def __init__(
        self, data: bytes, first: int, last: int, level: int, kinds: Mapping[int, Kind], general: int = PLAIN
    ) -> None:
        self._data, self._first, self._last, self._level, self._kinds = data, first, last, level, kinds
        self._general = general
        self._sizes: dict[tuple[int, int], int] = {}  # part -> its bytes under the general kind

    def gain(self, code: int, parameters: tuple[int, ...]) -> int:
        """Bytes that a kind saves beside the general one."""
        period = self._kinds[code].period(parameters)
        size = max(TRIAL_BYTES, min(TRIAL_PERIODS * period, MAX_TRIAL_BYTES))
        size = min(self._last - self._first, size)
        start = self._first + (self._last - self._first - size) // 2 // period * period
        part = self._data[start : start + size]
        if (start, size) not in self._sizes:
            self._sizes[start, size] = self._size(self._general, (), part)
        return self._sizes[start, size] - self._size(code, parameters, part)

    def _size(self, code: int, parameters: tuple[int, ...], part: bytes) -> int:
        encoder = BinaryEncoder()
        self._kinds[code].model(self._level, len(part), parameters).encode(encoder, part)
        return len(encoder.finish())


# As a list


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


def _limited(segments: Sequence[Segment]) -> list[Segment]:
    """The segments, the smallest ones as plain data where there are more than a block may have."""
    result, least = list(segments), MIN_PIECE_BYTES
    while len(result) > MAX_SEGMENTS or len(streams_of(result)) > MAX_STREAMS:
        small = [s.code != PLAIN and s.size < least for s in result]
        result = _joined([Segment(PLAIN, s.first, s.size) if k else s for s, k in zip(result, small, strict=True)])
        least *= 2
    return result


__all__ = ["candidates", "choose", "coded_size", "smallest"]
