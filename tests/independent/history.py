"""The contexts of docs/context-mixing.md, "The contexts": what a lane knows of its bytes."""

from __future__ import annotations

from collections.abc import Callable

from independent.tables import MASK, H

OPENING, CLOSING = b"([{<", b")]}>"
KINDS = {8: b"!,.:;?", 9: b"(<[{", 10: b")>]}", 11: b"\"'", 12: b"#$%&", 13: b"*+-/=", 14: b"@\\^`|~", 15: b"_"}


def kind_of(c: int) -> int:
    """The class of a byte."""
    if c >= 128:
        return 7
    for kind, bytes_ in KINDS.items():
        if c in bytes_:
            return kind
    if 97 <= c <= 122:
        return 1
    if 65 <= c <= 90:
        return 2
    if 48 <= c <= 57:
        return 3
    return {9: 4, 32: 4, 10: 5}.get(c, 6)


def is_digit(c: int) -> bool:
    """Whether the byte is 0 to 9."""
    return 48 <= c <= 57


def in_word(c: int) -> bool:
    """Whether a byte is a letter, a digit, `_`, or from 128 on."""
    return c >= 128 or c == 95 or is_digit(c) or 65 <= c <= 90 or 97 <= c <= 122


class Shared:
    """What the lanes of a block share."""

    def __init__(self, size: int, match_bits: int) -> None:
        self.data = bytearray(size)
        self.shift = 32 - match_bits
        self.table: dict[int, int] = {}
        self.after2: dict[int, int] = {}

    def byte(self, place: int) -> int:
        """A byte of the block, 0 where it is not known yet, and behind the end."""
        return self.data[place] if place < len(self.data) else 0


class Match:
    """An earlier occurrence of the last bytes."""

    def __init__(self, shared: Shared) -> None:
        self.shared = shared
        self.place = self.length = 0

    def learn(self, position: int, seen: int, c4: int, c8: int) -> None:
        """Follow the newest byte, or find a match."""
        data, table = self.shared.data, self.shared.table
        if self.length and self.place < len(data) and data[self.place] == c4 & 255:
            self.place += 1
            self.length = min(self.length + 1, 65535)
        else:
            self.length = 0
        if seen < 6:
            return
        entry = H(c4, c8 << 16 & MASK) >> self.shared.shift
        place = table.get(entry, 0)
        if not self.length and place:
            length = 0
            while length < min(32, place, position) and data[place - 1 - length] == data[position - 1 - length]:
                length += 1
            if length >= 6:
                self.place, self.length = place, length
        table[entry] = position

    @property
    def expected(self) -> int:
        """The byte at the match, -1 without one."""
        return self.shared.byte(self.place) if self.length else -1

    @property
    def bucket(self) -> int:
        """The bucket of the length."""
        length = self.length
        if length < 16:
            return length
        if length < 32:
            return 16 + (length - 16) // 4
        return 20 + (length - 32) // 48 if length < 512 else 31


class Lines:
    """The fields and lines of contexts 40 to 46."""

    def __init__(self, shared: Shared) -> None:
        self.shared = shared
        self.places = [0] * 4096
        self.alike = self.agreed = self.order = self.shape = self.text = self.before = 0
        self.field = self.start = self.whole = 0

    def learn(self, c: int, previous: int, position: int) -> None:
        """Follow byte c."""
        if self.alike:
            expected = self.shared.byte(self.alike)
            self.agreed = min(self.agreed + 1, 65535) if expected == c else 0
            if expected != c and self.order == 0:
                self.order = 1 if c < expected else 2
            self.alike += 1
        if c == 10:
            self.shape = 0
        elif not (is_digit(c) and is_digit(previous)):
            self.shape = H(self.shape, 48 if is_digit(c) else c)
        if in_word(c):
            self.text = H(self.text, c)
            return
        self.field = 0 if c == 10 else self.field + 1
        self.start = position
        self.before, self.text = self.text, 0
        self.whole = self.shape
        self.order = 0
        entry = H(self.shape, 0) % 4096
        if self.agreed == 0 or c == 10:
            self.agreed = 0
            self.alike = self.places[entry]
        self.places[entry] = position

    def known(self) -> tuple[int, int]:
        """`next` and `later`."""
        return (self.shared.byte(self.alike), self.shared.byte(self.alike + 1)) if self.alike else (0, 0)


class Records:
    """The length of records, by votes of gaps."""

    def __init__(self) -> None:
        self.last, self.gaps, self.votes = [0] * 256, [0] * 256, [0] * 256
        self.record = 0

    def learn(self, c: int, position: int) -> None:
        """Follow byte c."""
        gap = position - self.last[c]
        if 2 <= gap <= 255 and gap == self.gaps[c]:
            self.votes[gap] += 1
        self.last[c], self.gaps[c] = position, gap
        if position % 1024 == 0:
            best = self.votes.index(max(self.votes))
            self.record = best if self.votes[best] >= 96 else 0
            self.votes = [vote // 2 for vote in self.votes]


class History:
    """A lane's bytes and all that contexts are computed from."""

    def __init__(self, shared: Shared, origin: int = 0) -> None:
        self.shared, self.origin, self.position = shared, origin, origin
        self.data = shared.data
        self.match = Match(shared)
        self.lines = Lines(shared)
        self.records = Records()
        self.after1 = [0] * 256
        self.after2 = shared.after2
        self.c4 = self.c8 = 0
        self.word = self.word1 = self.word2 = self.line_word = 0
        self.punctuation = self.classes = self.class_runs = 0
        self.line = self.line_before = origin
        self.indent = 0
        self.stack, self.depth = [0] * 64, 0

    @property
    def c1(self) -> int:
        """The newest byte."""
        return self.c4 & 255

    @property
    def column(self) -> int:
        """The column of the next byte."""
        return self.position - self.line

    def above(self, right: int) -> int:
        """The byte above the next one, or `right` of it."""
        place = self.line_before + self.column + right
        return self.data[place] if place < self.line else 10

    def back(self, distance: int) -> int:
        """The byte so far before the next one, 0 before the lane's first."""
        return self.data[self.position - distance] if distance <= self.position - self.origin else 0

    def begin(self) -> None:
        """Before each byte but the first."""
        if self.position > self.origin:
            self.match.learn(self.position, self.position - self.origin, self.c4, self.c8)

    def learn(self, c: int) -> None:
        """Add byte c."""
        previous, two = self.c1, self.c4 & 0xFFFF
        self.after1[previous] = self.after1[previous] << 8 & MASK | c
        self.after2[two] = self.after2.get(two, 0) << 8 & MASK | c
        self.data[self.position] = c
        self.position += 1
        position = self.position
        self.c8 = (self.c8 << 8 | self.c4 >> 24) & MASK
        self.c4 = (self.c4 << 8 | c) & MASK
        if in_word(c):
            self.word = H(self.word, c + 32 if 65 <= c <= 90 else c)
        else:
            if self.word:
                self.line_word = self.line_word or self.word
                self.word2, self.word1, self.word = self.word1, self.word, 0
            if c > 32:
                self.punctuation = (self.punctuation << 8 | c) & MASK
        kind = kind_of(c)
        self.classes = (self.classes << 4 | kind) & MASK
        if kind != self.class_runs & 15:
            self.class_runs = (self.class_runs << 4 | kind) & MASK
        self.lines.learn(c, previous, position)
        if c == 10:
            self.line_before, self.line = self.line, position
            self.line_word = self.indent = 0
        elif c == 32 and self.indent == position - 1 - self.line:
            self.indent += 1
        if c in OPENING:
            self.depth += 1
            self.stack[self.depth % 64] = c
        elif c in CLOSING and self.depth:
            self.depth -= 1
        self.records.learn(c, position)

    @property
    def bracket(self) -> int:
        """The innermost open bracket."""
        return self.stack[self.depth % 64] if self.depth else 0

    @property
    def ups(self) -> tuple[int, int]:
        """up1 and up2."""
        record = self.records.record
        return (self.back(record), self.back(2 * record)) if record else (self.back(3), self.back(4))

    @property
    def after(self) -> int:
        """after2 of the last two bytes."""
        return self.after2.get(self.c4 & 0xFFFF, 0)


def matched(h: History) -> int:
    """Context 20."""
    if h.match.length:
        return h.match.expected + 256 * min(h.match.length, 15) + 65536 * h.c1
    return 65536 * h.c1


def place_in_record(h: History) -> int:
    """Context 26."""
    record = h.records.record
    return H(h.ups[0], h.position % record if record else 0)


def ups(h: History) -> int:
    """up1 + 256 up2."""
    return h.ups[0] + 256 * h.ups[1]


def following(h: History) -> int:
    """next + 256 later."""
    following, later = h.lines.known()
    return following + 256 * later


CONTEXTS: dict[int, Callable[[History], int]] = {
    2: lambda h: h.c4 & 0xFFFF,
    3: lambda h: h.c4 & 0xFFFFFF,
    4: lambda h: h.c4,
    5: lambda h: H(h.c4, h.c8 & 0xFF),
    6: lambda h: H(h.c4, h.c8 & 0xFFFF),
    7: lambda h: H(h.c4, h.c8),
    8: lambda h: H(h.word, h.c1),
    9: lambda h: H(h.word, h.word1),
    10: lambda h: H(h.word, h.word2),
    11: lambda h: H(H(H(h.word, h.word1), h.word2), h.c1),
    12: lambda h: H(h.word1, h.c1),
    13: lambda h: H(h.line_word, h.word),
    14: lambda h: H(h.indent, h.word),
    15: lambda h: H(h.punctuation, h.c1),
    16: lambda h: H(h.classes & 0xFFFFFFF, h.c1),
    17: lambda h: h.class_runs,
    18: lambda h: H(h.above(0), min(h.column, 255)),
    19: lambda h: H(h.above(0) + 256 * h.above(1), h.c1),
    20: matched,
    21: lambda h: ((h.after1[h.c1] << 8) + h.c1) & MASK,
    22: lambda h: H(h.c4 & 0xFFFF, h.after & 0xFFFFFF),
    23: lambda h: h.c4 & 0xFFFF00,
    24: lambda h: h.c4 & 0xFF00,
    25: lambda h: H(H(h.word, h.bracket), h.c1),
    26: place_in_record,
    27: lambda h: H(ups(h), h.c1),
    28: lambda h: H(h.after & 0xFFFF, h.c1),
    29: lambda h: h.c4 & 0xF0F0F0F0,
    30: lambda h: H(h.word, h.above(0)),
    31: lambda h: H(h.classes, h.word),
    32: lambda h: h.c4 & 0xFF00FF,
    33: lambda h: H(h.c4, h.c8 & 0xFFFFFF),
    34: lambda h: H(H(ups(h), h.c4 & 0xFFFF), h.records.record),
    35: lambda h: H(h.indent, H(h.line_word, h.c1)),
    40: lambda h: H(h.lines.text, min(h.lines.field, 255)),
    41: lambda h: H(H(following(h), h.lines.order), h.c1),
    42: lambda h: following(h) % 256 + 256 * min(h.lines.agreed, 31) + 65536 * h.lines.order,
    43: lambda h: H(h.lines.text, h.lines.before),
    44: lambda h: H(h.lines.shape, h.position - h.lines.start),
    45: lambda h: H(h.lines.whole, h.lines.text),
    46: lambda h: H(h.lines.text, h.lines.known()[0]),
}
