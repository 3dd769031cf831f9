"""The writer's guess of what a block's parts are, by headers, cheap tests, and trials (docs/kinds.md).

Deterministic: integers and code lengths in whole bytes, so that all machines write the same file. A decoder does not
depend on any of it. Whatever the data is, the trials take a bounded part of the time that coding takes.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby, pairwise

from kolmo.coder.binary import BinaryEncoder
from kolmo.predictors.embedded.kinds.base import Kind, Segment
from kolmo.predictors.embedded.kinds.general import PLAIN, QUICK
from kolmo.predictors.embedded.kinds.segments import MAX_SEGMENTS, MAX_STREAMS, streams_of, write_segments

WINDOW_BYTES = 1 << 16  # of plain data, that kinds guess about separately
# A trial codes this part of a piece, within these bytes; or so many rows, or the like, where they are longer.
TRIAL_PARTS, MIN_TRIAL_BYTES, TRIAL_BYTES = 16, 1 << 13, 1 << 16
TRIAL_PERIODS, MAX_TRIAL_BYTES = 8, 1 << 16
FAST_LEVELS = 2  # levels up to this one try less, since models of special kinds take several times as long there
# Trials of guesses code so many bytes of a block at most, and this part of it; on fast levels, and on others.
FREE_TRIAL_BYTES, TRIAL_SHARES = 1 << 18, (32, 8)
MAX_TRIALS = (1, 3)  # guesses of a kind that are tried, likewise
RANKING_LEVEL = 1  # whose fast models rank guesses, where there are more than
MAX_FINALISTS = 2  # so many; those are then tried at the block's own level
LEAST_GAIN = 64  # a guess has to save one part in so many, since a trial is of a part only
MAX_REFUSED = 16  # announcements of a block that trials refuse, after which headers are not believed any more
MIN_PIECE_BYTES = 256  # of which kinds guess what it is
FIRST_SPECIAL = 3  # codes from here on are special kinds

Split = Callable[[bytes], list[Segment]]


def choose(
    data: bytes, level: int, kinds: Mapping[int, Kind], split: Split, known: Sequence[Segment] = ()
) -> list[Segment]:
    """The segments of a block: sorted, covering it, neighbours of different kinds or parameters.

    Args:
        data: the block, at least one byte.
        level: 1 to 9.
        kinds: the special kinds may be among the pieces that `split` calls plain or packed.
        split: divides data without known headers into segments of the general kinds.
        known: segments that headers outside the block announce.
    """
    special = _special(kinds)
    trials = _Trials(data, level, kinds)
    segments: list[Segment] = []
    for segment in _covering(_believed(data, trials, special, known), len(data)):
        if segment.code != PLAIN:
            segments.append(segment)
            continue
        for part in split(data[segment.first : segment.end]):
            part = Segment(part.code, segment.first + part.first, part.size)
            segments += _guessed(data, part, trials, special) if part.code in (PLAIN, QUICK) else [part]
    return _limited(_joined(segments), kinds)


def candidates(
    data: bytes, level: int, kinds: Mapping[int, Kind], known: Sequence[Segment] = ()
) -> list[list[Segment]]:
    """What a small block might be, except for text and what looks random: plain first; `known` as for `choose`."""
    special = _special(kinds)
    guesses = [Segment(kind.code, 0, len(data), p) for kind in special for p in kind.guess(data)[: MAX_TRIALS[1]]]
    finalists = _finalists(guesses, lambda guess: _coded(kinds[guess.code], RANKING_LEVEL, guess.parameters, data))
    whole = [[guess] for guess in [Segment(PLAIN, 0, len(data)), *finalists]]
    believed = _believed(data, _Trials(data, level, kinds), special, known)
    return [*whole, *([_limited(list(_covering(believed, len(data))), kinds)] if believed else [])]


def certain_segments(data: bytes, kinds: Mapping[int, Kind]) -> list[Segment]:
    """A small block as its announced segments that need no trial, plain between them; empty where there are none."""
    found = _certain(data, _special(kinds))
    return _limited(list(_covering(found, len(data))), kinds) if found else []


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


def _certain(data: bytes, special: Sequence[Kind]) -> list[Segment]:
    return sorted((s for kind in special if kind.certain for s in kind.find(data)), key=lambda s: s.first)


def _announced(data: bytes, special: Sequence[Kind], known: Sequence[Segment]) -> list[Segment]:
    """Segments that headers announce, sorted by their beginnings, the largest first; they may overlap.

    None of those that need a trial overlaps one that does not.
    """
    certain = _certain(data, special)
    others = [*known, *(s for kind in special if not kind.certain for s in kind.find(data))]
    firsts, ends = [s.first for s in certain], [s.end for s in certain]
    free = [s for s in others if bisect_left(firsts, s.end) == bisect_right(ends, s.first)]
    return sorted([*certain, *free], key=lambda s: (s.first, -s.size, s.code))


def _believed(data: bytes, trials: _Trials, special: Sequence[Kind], known: Sequence[Segment] = ()) -> list[Segment]:
    """Announced segments that are certain or that a trial confirms, without those that overlap an earlier one.

    Segments of equal kind and parameters share the outcome of a trial, unless a later one is larger than all before
    it: an archive of thousands of small pictures takes few trials.
    """
    outcomes: dict[tuple[int, tuple[int, ...]], tuple[int, bool]] = {}  # -> bytes of the trial, whether it confirmed
    believed: list[Segment] = []
    certain = {kind.code for kind in special if kind.certain}
    at = refused = 0
    for segment in _announced(data, special, known):
        if segment.code in certain:
            believed.append(segment)
            at = segment.end
            continue
        if segment.first < at or refused == MAX_REFUSED:
            continue
        key, size = (segment.code, segment.parameters), min(segment.size, TRIAL_BYTES)
        tried, confirmed = outcomes.get(key, (0, False))
        if size > tried and (tried or len(outcomes) < MAX_STREAMS):
            confirmed = trials.gain(segment, PLAIN) > 0
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


def _guessed(data: bytes, part: Segment, trials: _Trials, special: Sequence[Kind]) -> list[Segment]:
    """A plain or packed segment, or segments of special kinds and of its own that code it in fewer bytes.

    Kinds guess about windows of it one by one; neighbours of which the same kinds guess something are one piece.
    """
    if not special or part.size < MIN_PIECE_BYTES:
        return [part]
    count = max(1, (part.size + WINDOW_BYTES // 2) // WINDOW_BYTES)
    edges = [part.first + part.size * k // count for k in range(count + 1)]
    windows = [(a, b, tuple(kind for kind in special if kind.guess(data[a:b]))) for a, b in pairwise(edges)]
    segments: list[Segment] = []
    for kinds, group in groupby(windows, key=lambda window: window[2]):
        run = list(group)
        first, last = run[0][0], run[-1][1]
        best, most = Segment(part.code, first, last - first), 0
        guesses = [
            Segment(kind.code, first, last - first, parameters)
            for kind in (kinds if trials.coded <= trials.limit else ())
            for parameters in kind.guess(data[first:last])[: trials.most]
        ]
        for guess in _finalists(guesses, trials.rank):
            gain = trials.gain(guess, part.code)
            if gain > most:
                best, most = guess, gain
        segments.append(best)
    return _extended(segments, part.code, trials)


def _extended(segments: list[Segment], general: int, trials: _Trials) -> list[Segment]:
    """The segments, those of special kinds continued over general ones beside them where that saves bytes.

    In front, a rest that is no whole period stays general, so that a layout keeps its phase.
    """
    result: list[Segment] = []
    for segment in segments:  # forward
        last = result[-1] if result else None
        if last and last.code != general and segment.code == general:
            phase = -last.size % trials.period(last)
            tried = Segment(last.code, segment.first + phase, segment.size - phase, last.parameters)
            if tried.size >= MIN_PIECE_BYTES and trials.gain(tried, general) > 0:
                segment = Segment(last.code, segment.first, segment.size, last.parameters)
        result.append(segment)
    result.reverse()
    segments, result = result, []
    for segment in segments:  # backward
        after = result[-1] if result else None
        if after and after.code != general and segment.code == general:
            rest = segment.size % trials.period(after)
            tried = Segment(after.code, segment.first + rest, segment.size - rest, after.parameters)
            if tried.size >= MIN_PIECE_BYTES and trials.gain(tried, general) > 0:
                result.append(tried)
                segment = Segment(general, segment.first, rest)
        if segment.size:
            result.append(segment)
    result.reverse()
    return result


def _finalists(guesses: list[Segment], rank: Callable[[Segment], int]) -> list[Segment]:
    """The guesses that fast models code in the fewest bytes."""
    return guesses if len(guesses) <= MAX_FINALISTS else sorted(guesses, key=rank)[:MAX_FINALISTS]


def _coded(kind: Kind, level: int, parameters: tuple[int, ...], data: bytes) -> int:
    """Bytes that a fresh model makes of some data."""
    encoder = BinaryEncoder()
    kind.model(level, len(data), parameters).encode(encoder, data)
    return len(encoder.finish())


class _Trials:
    """Compares kinds by what they make of a part in the middle of a piece of a block.

    Attributes:
        coded: bytes that were coded for it so far.
        limit: bytes after which no more guesses are tried.
        most: guesses of a kind that are tried.
    """

    def __init__(self, data: bytes, level: int, kinds: Mapping[int, Kind]) -> None:
        self._data, self._level, self._kinds = data, level, kinds
        self._general: tuple[tuple[int, int, int], int] = ((0, 0, 0), 0)  # last trial of a general kind, its bytes
        self.coded = 0
        self.limit = FREE_TRIAL_BYTES + len(data) // TRIAL_SHARES[level > FAST_LEVELS]
        self.most = MAX_TRIALS[level > FAST_LEVELS]

    def gain(self, guess: Segment, general: int) -> int:
        """Bytes that a guess saves on a part of its piece beside a general kind; 0 where that is little."""
        start, size = self._part(guess)
        key = start, size, general
        if self._general[0] != key:
            self._general = key, self._size(self._level, general, (), start, size)
        gain = self._general[1] - self._size(self._level, guess.code, guess.parameters, start, size)
        return gain if gain * LEAST_GAIN > self._general[1] else 0

    def period(self, segment: Segment) -> int:
        """Bytes after which the segment's layout repeats."""
        return self._kinds[segment.code].period(segment.parameters)

    def rank(self, guess: Segment) -> int:
        """Bytes that a fast model makes of the part."""
        return self._size(RANKING_LEVEL, guess.code, guess.parameters, *self._part(guess))

    def _part(self, guess: Segment) -> tuple[int, int]:
        """First byte and size of the part of a piece that is tried."""
        period = self.period(guess)
        size = min(max(guess.size // TRIAL_PARTS, MIN_TRIAL_BYTES), TRIAL_BYTES)
        size = min(max(size, min(TRIAL_PERIODS * period, MAX_TRIAL_BYTES)), guess.size)
        return guess.first + (guess.size - size) // 2 // period * period, size

    def _size(self, level: int, code: int, parameters: tuple[int, ...], start: int, size: int) -> int:
        self.coded += size
        return _coded(self._kinds[code], level, parameters, self._data[start : start + size])


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


def _limited(segments: Sequence[Segment], kinds: Mapping[int, Kind]) -> list[Segment]:
    """The segments, the smallest ones as plain data where there are more than a block may have.

    Those that need no trial are left: they may belong together, and their kind limits how many it announces.
    """
    result, least = list(segments), MIN_PIECE_BYTES
    while len(result) > MAX_SEGMENTS or len(streams_of(result)) > MAX_STREAMS:
        small = [s.code != PLAIN and s.size < least and not kinds[s.code].certain for s in result]
        result = _joined([Segment(PLAIN, s.first, s.size) if k else s for s, k in zip(result, small, strict=True)])
        least *= 2
    return result


__all__ = ["candidates", "certain_segments", "choose", "coded_size", "smallest"]
