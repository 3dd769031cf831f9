"""Context mixing, once per byte: context values from the bytes so far. Counterpart of `cm_history` in C.

Specification and fallback; see docs/context-mixing.md for what each context is for. Plain Python integers, masked to
32 bits where the C code wraps.
"""

from __future__ import annotations

from kolmo.native.mixer.lines import Lines
from kolmo.native.mixer.primitives import MASK, mix

GAPS = 256  # bound on the record lengths that are detected
STACK = 64  # open brackets that are kept


def match_bucket(length: int) -> int:
    """Quantise a match length to 0..31."""
    if length < 16:
        return length
    if length < 32:
        return 16 + (length - 16) // 4
    return 20 + (length - 32) // 48 if length < 512 else 31


class Shared:
    """The state that all lanes of a block share: its bytes, the bytes that followed each pair, the table of matches."""

    def __init__(self, match_bits: int) -> None:
        self.bytes = bytearray()
        self.after2 = [0] * 65536
        self.match_table = [0] * (1 << match_bits)

    def __getitem__(self, at: int) -> int:
        """A byte of the block; 0 where it is not known yet."""
        return self.bytes[at] if at < len(self.bytes) else 0

    def __setitem__(self, at: int, c: int) -> None:
        if at >= len(self.bytes):
            self.bytes.extend(bytes(at + 1 - len(self.bytes)))
        self.bytes[at] = c


class History:
    """The bytes of a lane so far, and all context values that depend only on them.

    A lane is the bytes origin..end - 1 of a block of `size` bytes; a block may be one lane.
    """

    def __init__(
        self, kinds: bytes, match_bits: int, match_minimum: int, shared: Shared, size: int, origin: int, end: int
    ) -> None:
        self._kinds = kinds
        self.bytes = shared
        self.size, self.position, self.origin, self.end = size, origin, origin, end
        self.last4 = self.last8 = 0
        self.word = self.word1 = self.word2 = 0
        self.line_word = self.punctuation = 0
        self.classes = self.class_runs = 0
        self.line = self.line_before = origin
        self.indent = 0
        self.after1 = [0] * 256
        self.after2 = shared.after2
        self.stack = bytearray(STACK)
        self.depth = 0
        self.match = self.match_length = 0
        self.match_bits, self.match_minimum = match_bits, match_minimum
        self.match_table = shared.match_table
        self.expected = -1
        self.last_seen = [0] * 256
        self.last_gap = [0] * 256
        self.gap_votes = [0] * GAPS
        self.record = 0
        self.lines = Lines()

    def learn(self, c: int) -> None:
        """Add a byte."""
        self.bytes[self.position] = c
        self.position += 1
        pair = self.last4 & 0xFFFF
        self.after1[pair & 255] = (self.after1[pair & 255] << 8 | c) & MASK
        self.after2[pair] = (self.after2[pair] << 8 | c) & MASK
        self.last8 = (self.last8 << 8 | self.last4 >> 24) & MASK
        self.last4 = (self.last4 << 8 | c) & MASK
        self._learn_words(c)
        self._learn_layout(c)

    def _learn_words(self, c: int) -> None:
        lower = c + 32 if 65 <= c <= 90 else c
        if 97 <= lower <= 122 or 48 <= c <= 57 or c == 95 or c >= 128:
            self.word = mix(self.word, lower)
        else:
            if self.word:
                self.line_word = self.line_word or self.word
                self.word2, self.word1, self.word = self.word1, self.word, 0
            if c > 32:
                self.punctuation = (self.punctuation << 8 | c) & MASK
        kind = self._kinds[c]
        self.classes = (self.classes << 4 | kind) & MASK
        if self.class_runs & 15 != kind:
            self.class_runs = (self.class_runs << 4 | kind) & MASK

    def _learn_layout(self, c: int) -> None:
        if c == 10:
            self.line_before, self.line = self.line, self.position
            self.line_word = self.indent = 0
        elif c == 32 and self.position - self.line == self.indent + 1:
            self.indent += 1
        if c in b"([{<":
            self.depth += 1
            self.stack[self.depth % STACK] = c
        elif c in b")]}>" and self.depth:
            self.depth -= 1
        gap = self.position - self.last_seen[c]
        if gap == self.last_gap[c] and 1 < gap < GAPS:
            self.gap_votes[gap] += 1
        self.last_gap[c] = gap
        self.last_seen[c] = self.position
        if self.position & 1023 == 0:
            best = max(range(GAPS), key=self.gap_votes.__getitem__)
            self.record = best if self.gap_votes[best] >= 96 else 0
            self.gap_votes = [votes >> 1 for votes in self.gap_votes]

    def learn_match(self) -> None:
        """Follow the longest match past the newest byte, or look for a new one: before the next byte, if any."""
        if self.position == self.origin:
            return
        minimum, c = self.match_minimum, self.last4 & 255
        if self.match_length and self.match < self.size and self.bytes[self.match] == c:
            self.match += 1
            self.match_length = min(self.match_length + 1, 65535)
        else:
            self.match_length = 0
        if self.position - self.origin >= minimum:
            older = self.last8 << (64 - 8 * minimum) & MASK if minimum > 4 else 0
            key = mix(self.last4, older) >> (32 - self.match_bits)
            entry = self.match_table[key]
            if not self.match_length and entry:
                length = 0
                while (
                    length < 32
                    and length < entry  # neither may run past the block's first byte: the entry may be another lane's
                    and length < self.position
                    and self.bytes[entry - 1 - length] == self.bytes[self.position - 1 - length]
                ):
                    length += 1
                if length >= minimum:
                    self.match, self.match_length = entry, length
            self.match_table[key] = self.position
        self.expected = self.bytes[self.match] if self.match_length else -1

    def contexts(self) -> list[int]:
        """The catalogue: a 32-bit value for each context that a configuration can pick. 0 and 1 are not hashed."""
        c4, c8 = self.last4, self.last8
        c1, c2 = c4 & 255, c4 & 0xFFFF
        column = self.position - self.line
        over = self.line_before + column
        above = self.bytes[over] if over < self.line else 10
        right = self.bytes[over + 1] if over + 1 < self.line else 10
        expected = 0 if self.expected < 0 else self.expected | min(self.match_length, 15) << 8
        bracket = self.stack[self.depth % STACK] if self.depth else 0
        r, p = self.record, self.position
        seen = p - self.origin
        up1 = self.bytes[p - r] if r and seen >= r else c4 >> 16 & 255
        up2 = self.bytes[p - 2 * r] if r and seen >= 2 * r else c4 >> 24
        words = mix(self.word, self.word1)
        return [
            0,
            0,
            c2,
            c4 & 0xFFFFFF,
            c4,
            mix(c4, c8 & 0xFF),
            mix(c4, c8 & 0xFFFF),
            mix(c4, c8),
            mix(self.word, c1),
            words,
            mix(self.word, self.word2),
            mix(mix(words, self.word2), c1),
            mix(self.word1, c1),
            mix(self.line_word, self.word),
            mix(self.indent, self.word),
            mix(self.punctuation, c1),
            mix(self.classes & 0xFFFFFFF, c1),
            self.class_runs,
            mix(above, min(column, 255)),
            mix(above | right << 8, c1),
            expected | c1 << 16,
            (self.after1[c1] << 8 | c1) & MASK,
            mix(c2, self.after2[c2] & 0xFFFFFF),
            c4 & 0xFFFF00,
            c4 & 0xFF00,
            mix(mix(self.word, bracket), c1),
            mix(up1, p % r if r else 0),
            mix(up1 | up2 << 8, c1),
            mix(self.after2[c2] & 0xFFFF, c1),
            c4 & 0xF0F0F0F0,
            mix(self.word, above),
            mix(self.classes, self.word),
            c4 & 0xFF00FF,
            mix(c4, c8 & 0xFFFFFF),
            mix(mix(up1 | up2 << 8, c4 & 0xFFFF), r),
            mix(self.indent, mix(self.line_word, c1)),
        ]

    def select(self, selector: int, c0: int, bit: int, order: int, expected_bit: int) -> int:
        """Index of the weight set that a selector picks for a bit (0..7) of the byte whose first bits are `c0`."""
        if selector == 1:
            length = self.match_length
            level = 0 if expected_bit < 0 else 1 if length < 16 else 2 if length < 32 else 3
            return (order * 4 + level) * 8 + bit
        if selector == 2:
            return c0
        if selector == 3:
            return (self.last4 & 255) + 256 * (0 if bit < 2 else 1 if bit < 5 else 2)
        if selector == 4:
            return self.last4 >> 8 & 255
        if selector == 5:
            if expected_bit < 0:
                return 1024 + (self.last4 >> 5 & 7) * 8 + bit
            return match_bucket(self.match_length) * 32 + (self.expected >> 5) * 2 + expected_bit
        if selector == 6:
            return (self.classes & 255) * 8 + bit
        if selector == 7:
            return min(self.position - self.line, 255) * 8 + bit
        if selector == 8:
            return (self.class_runs & 255) * 8 + bit
        if selector == 9:
            return (self.position % self.record & 127 if self.record else 0) * 8 + bit
        if selector == 10:
            return (self.punctuation & 255) * 8 + bit
        if selector == 11:
            return max(self.expected, 0)
        return 0
