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
ALIGNMENT = 16  # windows and trials of guesses begin at a multiple: whole values and samples of all layouts
# Announcements are tried on so many bytes, and believed where they save one part in 8 there.
FIRST_TRIAL_BYTES, SURE_GAIN = 1 << 12, 8
# Otherwise on this part of the segment, within these bytes; or so many rows, or the like, where they are longer.
TRIAL_PARTS, MIN_TRIAL_BYTES, TRIAL_BYTES = 16, 1 << 13, 1 << 16
TRIAL_PERIODS, MAX_TRIAL_BYTES = 8, 1 << 16
# Guesses about a piece compete in rounds: all on the first bytes of a sample, those that are left on more of it. Bytes
# of each round, and of the last one, which is run if the others leave a doubt: on fast levels, and on others; in large
# blocks the least and the most, between which it takes a part of the piece.
ROUNDS, LAST_ROUND = (1 << 10, 1 << 12), (1 << 13, 1 << 14)
LARGE_BLOCK_BYTES, LARGE_ROUNDS, LAST_LARGE_ROUND = 1 << 17, (1 << 11, 1 << 13), (1 << 14, 1 << 16)
FAST_LEVELS = 2  # levels up to this one try less, since models of special kinds take several times as long there
# Trials of guesses code so many bytes of a block at most, and this part of it; on fast levels, and on others.
FREE_TRIAL_BYTES, TRIAL_SHARES = 1 << 18, (32, 8)
MAX_TRIALS = (1, 3)  # guesses of a kind that are tried, likewise
FINALISTS = (1, 2)  # guesses about a piece of a block that is not large that are left after the first round, likewise
LEAST_GAIN = 64  # a guess has to save one part in so many, since a trial is of a part only
LITTLE_PARTS = 64  # differences of less than about this part of the bytes of a sample say nothing
EMPTY_PARTS = 256  # a sample of which a model makes less than this part says nothing: neighbours decide
MAX_REFUSED = 16  # announcements of a block that trials refuse, after which headers are not believed any more
MIN_PIECE_BYTES = 256  # of which kinds guess what it is
SMALL_PARTS, MIN_SMALL_BYTES = 8, 128  # of a small block, that is coded in all ways; at least so many bytes
SMALL_SLACK = 8  # bytes that a small block's part may be larger than the least: its model may have begun slowly
FIRST_SPECIAL = 3  # codes from here on are special kinds

Split = Callable[[bytes], list[Segment]]
_Guess = tuple[int, tuple[int, ...]]  # code of a kind, parameters


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


def choose_small(
    data: bytes, level: int, kinds: Mapping[int, Kind], general: Sequence[int], known: Sequence[Segment] = ()
) -> tuple[Sequence[Segment], BinaryEncoder]:
    """What codes a small block in the fewest bytes: its segments, and an encoder that has coded list and content.

    Args:
        data: the block, at least one byte.
        level: 1 to 9.
        kinds: the special kinds may be among what is tried; at most three of all are coded as a whole.
        general: codes of the kinds without parameters that are tried, the first of equals preferred.
        known: as for `choose`.
    """
    special = _special(kinds)
    ways = [Segment(code, 0, len(data)) for code in general]
    ways += [Segment(kind.code, 0, len(data), p) for kind in special for p in kind.guess(data)[: MAX_TRIALS[1]]]
    part = data[: max(len(data) // SMALL_PARTS, MIN_SMALL_BYTES)]
    if len(part) < len(data):
        sizes = {way: _coded(kinds[way.code], level, way.parameters, part) for way in ways}
        best = (min(same, key=sizes.__getitem__) for _, same in groupby(ways, key=lambda way: way.code))
        ways = sorted(best, key=sizes.__getitem__)[:3]  # a stable order
        ways = [way for way in ways if _is_near(sizes[way] - SMALL_SLACK, sizes[ways[0]], 16)]
    lists: list[Sequence[Segment]] = [[way] for way in sorted(ways, key=lambda way: way.code)]
    believed = _believed(data, _Trials(data, level, kinds), special, known)
    if believed:
        lists.append(_limited(list(_covering(believed, len(data))), kinds))
    return smallest(data, level, kinds, lists)


def smallest(
    data: bytes, level: int, kinds: Mapping[int, Kind], lists: Sequence[Sequence[Segment]]
) -> tuple[Sequence[Segment], BinaryEncoder]:
    """Of lists of segments the one that codes a small block in the fewest bytes, with the encoder that has done so."""
    coded = [encoded(data, level, kinds, segments) for segments in lists]
    best = min(range(len(lists)), key=lambda k: coded[k].size())
    return lists[best], coded[best]


def certain_segments(data: bytes, kinds: Mapping[int, Kind]) -> list[Segment]:
    """A small block as its announced segments that need no trial, plain between them; empty where there are none."""
    found = _certain(data, _special(kinds))
    return _limited(list(_covering(found, len(data))), kinds) if found else []


def encoded(data: bytes, level: int, kinds: Mapping[int, Kind], segments: Sequence[Segment]) -> BinaryEncoder:
    """An encoder, not finished, with which fresh models have coded a block, its list of segments included."""
    encoder = BinaryEncoder()
    write_segments(encoder, segments)
    for stream in streams_of(segments):
        content = b"".join(data[segment.first : segment.end] for segment in stream)
        kinds[stream[0].code].model(level, len(content), stream[0].parameters).encode(encoder, content)
    return encoder


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
            confirmed = trials.confirms(segment)
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
    edges = [part.first + part.size * k // count // ALIGNMENT * ALIGNMENT for k in range(count)] + [part.end]
    windows = [(a, b, [(kind.code, p) for kind in special for p in kind.guess(data[a:b])]) for a, b in pairwise(edges)]
    pieces: list[tuple[Segment, list[_Guess]]] = []
    for _, group in groupby(windows, key=lambda window: sorted({code for code, _ in window[2]})):
        run = list(group)
        piece = Segment(part.code, run[0][0], run[-1][1] - run[0][0])
        pieces.append((piece, _usual([guesses for _, _, guesses in run], trials.most)))
    tried: dict[int, Segment] = {}  # by their beginnings; the largest first, since trials have a limit
    for piece, guesses in sorted(pieces, key=lambda pair: (-pair[0].size, pair[0].first)):
        tried[piece.first] = trials.best(piece, guesses) if guesses and trials.coded <= trials.limit else piece
    return _extended([tried[piece.first] for piece, _ in pieces], part.code, trials)


def _usual(windows: Sequence[Sequence[_Guess]], most: int) -> list[_Guess]:
    """Of the guesses about each window of a piece, the `most` most usual ones of each kind, the best first."""
    votes: dict[_Guess, tuple[int, int]] = {}  # -> less the number of windows, best place
    for guesses in windows:
        for place, guess in enumerate(guesses):
            count, best = votes.get(guess, (0, place))
            votes[guess] = count - 1, min(best, place)
    ordered = sorted(votes, key=lambda guess: (guess[0], *votes[guess]))
    return [guess for _, group in groupby(ordered, key=lambda guess: guess[0]) for guess in list(group)[:most]]


def _extended(segments: list[Segment], general: int, trials: _Trials) -> list[Segment]:
    """The segments, those of special kinds continued over what is beside them where that saves bytes.

    In front, a rest that is no whole period stays general, so that a layout keeps its phase.
    """
    result: list[Segment] = []
    for segment in segments:  # forward
        last = result[-1] if result else None
        known = last and last.code != general and _key(last) != _key(segment)
        if last and known and segment.size >= MIN_PIECE_BYTES and trials.prefers(segment, last, general):
            segment = Segment(last.code, segment.first, segment.size, last.parameters)
        result.append(segment)
    result.reverse()
    segments, result = result, []
    for segment in segments:  # backward
        after = result[-1] if result else None
        if after and after.code != general and _key(after) != _key(segment):
            rest = segment.size % trials.period(after)
            tried = Segment(after.code, segment.first + rest, segment.size - rest, after.parameters)
            if tried.size >= MIN_PIECE_BYTES and trials.prefers(segment, after, general):
                result.append(tried)
                segment = Segment(general, segment.first, rest)
        if segment.size:
            result.append(segment)
    result.reverse()
    return result


def _key(segment: Segment) -> _Guess:
    return segment.code, segment.parameters


def _coded(kind: Kind, level: int, parameters: tuple[int, ...], data: bytes) -> int:
    """Bytes that a fresh model makes of some data."""
    encoder = BinaryEncoder()
    kind.model(level, len(data), parameters).encode(encoder, data)
    return len(encoder.finish())


def _is_near(size: int, best: int, parts: int) -> bool:
    """Whether a size is larger than the best one by one part in so many at most."""
    return (size - best) * parts <= best


class _Trials:
    """Compares kinds by what they make of a part in the middle of a piece of a block.

    Attributes:
        coded: bytes that were coded for it so far.
        limit: bytes after which no more guesses are tried.
        most: guesses of a kind that are tried.
    """

    def __init__(self, data: bytes, level: int, kinds: Mapping[int, Kind]) -> None:
        self._data, self._level, self._kinds = data, level, kinds
        self._sizes: dict[tuple[int, tuple[int, ...], int, int], int] = {}  # results: code, parameters, first, size
        self.coded = 0
        self.limit = FREE_TRIAL_BYTES + len(data) // TRIAL_SHARES[level > FAST_LEVELS]
        self.most = MAX_TRIALS[level > FAST_LEVELS]
        self._large = len(data) >= LARGE_BLOCK_BYTES and level > FAST_LEVELS

    def confirms(self, segment: Segment) -> bool:
        """Whether an announced segment takes fewer bytes than plain data would."""
        size = min(FIRST_TRIAL_BYTES, segment.size)
        start = self._middle(segment, size, self.period(segment))
        announced, plain = (self._size(*key, start, size) for key in ((segment.code, segment.parameters), (PLAIN, ())))
        if (plain - announced) * SURE_GAIN > plain or size == segment.size:
            return (plain - announced) * LEAST_GAIN > plain
        size = min(max(segment.size // TRIAL_PARTS, MIN_TRIAL_BYTES), TRIAL_BYTES)
        size = min(max(size, min(TRIAL_PERIODS * self.period(segment), MAX_TRIAL_BYTES)), segment.size)
        start = self._middle(segment, size, self.period(segment))
        announced, plain = (self._size(*key, start, size) for key in ((segment.code, segment.parameters), (PLAIN, ())))
        return (plain - announced) * LEAST_GAIN > plain

    def best(self, piece: Segment, guesses: Sequence[_Guess]) -> Segment:
        """The piece as what codes it in the fewest bytes: of its general kind, or as one of the guesses."""
        general = _key(piece)
        projected = self._projected(piece, [general, *guesses])
        code, parameters = winner = min(projected, key=projected.__getitem__)
        if general in projected and (projected[general] - projected[winner]) * LEAST_GAIN <= projected[general]:
            return piece
        return Segment(code, piece.first, piece.size, parameters)

    def prefers(self, segment: Segment, beside: Segment, general: int) -> bool:
        """Whether a segment should be what the one of a special kind beside it is, and not what it is."""
        if self.coded > self.limit:
            return False
        projected = self._projected(segment, [_key(segment), _key(beside)])
        old, new = projected.get(_key(segment)), projected.get(_key(beside))
        if old is None or new is None:
            return old is None
        if segment.code != general or max(old, new) * EMPTY_PARTS <= segment.size:  # one stream less
            return new <= old or segment.code == general
        return (old - new) * LEAST_GAIN > old

    def _projected(self, piece: Segment, guesses: Sequence[_Guess]) -> dict[_Guess, int]:
        """Bytes that a piece will take as each of the guesses that are left in the last round; the first is its own.

        They code the first bytes of a sample, then more of it. What the last bytes of the sample cost, behind the
        others, tells what the rest of the piece will cost: kinds that learn slowly are worse at first.
        """
        rounds = self._rounds(piece.size)
        start = self._middle(piece, rounds[-1], ALIGNMENT)
        projected: dict[_Guess, int] = dict.fromkeys(guesses, 0)
        sizes, done = projected, 0
        for number, size in enumerate(rounds):
            now = {guess: self._size(*guess, start, size) for guess in projected}
            rest, more = piece.size - size, size - done
            projected = {guess: now[guess] + (now[guess] - sizes[guess]) * rest // more for guess in projected}
            sizes, done = now, size
            if size < rounds[-1]:
                left = self._finalists(projected, piece.size) if number else self._left(sizes, size)
                projected = {guess: projected[guess] for guess in left}
                if len(left) < 2:
                    break
        return projected

    def period(self, segment: Segment) -> int:
        """Bytes after which the segment's layout repeats."""
        return self._kinds[segment.code].period(segment.parameters)

    def _rounds(self, size: int) -> list[int]:
        """Bytes of the sample of a piece that guesses code in each round."""
        rounds, last = ROUNDS, min(LAST_ROUND[self._level > FAST_LEVELS], size)
        if self._large:
            least, most = LAST_LARGE_ROUND
            rounds, last = LARGE_ROUNDS, min(max(size // TRIAL_PARTS, least), most, size)
        return [*(k for k in rounds if k < last), last]

    def _left(self, sizes: Mapping[_Guess, int], done: int) -> list[_Guess]:
        """Of the guesses after the first round, those that are not hopeless.

        Of each kind the one with the fewest bytes, and the one that it named first if that is near; few of them where
        there is no other round. What the piece is, which may learn slowest, is left unless it takes twice as many.
        """
        own, *others = sizes
        best = min(sizes.values())
        left: list[_Guess] = []
        for _, group in groupby(others, key=lambda guess: guess[0]):
            named = list(group)
            least = min(named, key=sizes.__getitem__)
            left += [g for g in named if g == least or (g == named[0] and _is_near(sizes[g], sizes[least], 8))]
        left = sorted(
            (guess for guess in left if 2 * sizes[guess] <= 3 * best + done // LITTLE_PARTS), key=sizes.__getitem__
        )
        left = left if self._large else left[: FINALISTS[self._level > FAST_LEVELS]]
        return left if sizes[own] > 2 * best else [own, *left]

    def _finalists(self, projected: Mapping[_Guess, int], size: int) -> list[_Guess]:
        """Of the guesses before the last round, those that are near the best one; two of a kind, and three in all.

        What the piece is, which may learn slowest, is one of two if it takes half as much again at most, and the block
        is not large: there the samples are small.
        """
        own = next(iter(projected))
        ordered = sorted(projected, key=projected.__getitem__)
        best, little = projected[ordered[0]], size // LITTLE_PARTS
        near: list[_Guess] = []
        for guess in ordered:
            if projected[guess] <= (6 * best + little) // 5 and sum(guess[0] == other[0] for other in near) < 2:
                near.append(guess)
        if own not in near and len(self._data) < LARGE_BLOCK_BYTES and 2 * projected[own] <= 3 * best + little:
            return [near[0], own]
        return near[:3]

    def _middle(self, piece: Segment, size: int, step: int) -> int:
        """Where a sample of so many bytes from the middle of a piece begins: at a multiple of `step` in it."""
        return piece.first + (piece.size - size) // 2 // step * step

    def _size(self, code: int, parameters: tuple[int, ...], start: int, size: int) -> int:
        key = code, parameters, start, size
        if key not in self._sizes:
            self.coded += size
            self._sizes[key] = _coded(self._kinds[code], self._level, parameters, self._data[start : start + size])
        return self._sizes[key]


# As a list


def _joined(segments: Sequence[Segment]) -> list[Segment]:
    """The segments, neighbours of equal kind and parameters joined."""
    result: list[Segment] = []
    for segment in segments:
        last = result[-1] if result else None
        if last and _key(last) == _key(segment):
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


__all__ = ["certain_segments", "choose", "choose_small", "encoded", "smallest"]
