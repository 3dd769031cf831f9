"""Deflate streams as zlib makes them, in Python: the specification of deflate.h and trees.h.

zlib's deflate is a function of the content and a few parameters: chains of earlier places with the same three bytes
are searched for a long match, to a depth that depends on the level (RFC 1951; Gailly and Adler, zlib's algorithm.txt).
Files of many years have the same bytes (docs/kinds-deflate.md); so of a file that holds such a stream the
content can be kept in its place, and the stream made again, by code of our own that no later version of a library
changes. Whoever keeps a content so makes the stream again first, and compares.

What it is not: a compressor to choose for its sizes. Level 0, other strategies than the default and
`Z_FILTERED`, preset dictionaries and flushes in the middle of a stream are left out; and other encoders (zlib-ng,
libdeflate, zopfli, 7-Zip, Word) choose other matches.
"""

from __future__ import annotations

from kolmo.native.deflate.trees import Bits, Token, put_block

MIN_MATCH, MAX_MATCH = 3, 258
LOOKAHEAD = MAX_MATCH + MIN_MATCH + 1  # places at the end of the window that no match refers to
TOO_FAR = 4096  # a match of three bytes costs more than literals beyond
MAX_CONTENT = 1 << 30
MISFIT = "the arguments do not fit the kernel"
EXCESS = "the search takes more comparisons than are allowed"
UNLIMITED = 1 << 62

# Of each level: the match's length from which the search is shortened; the length up to which a better match at the
# next place is tried (or, without such a try, all places of a match are entered); a length to be content with; places
# tried.
LEVELS = (
    (4, 4, 8, 4),
    (4, 5, 16, 8),
    (4, 6, 32, 32),
    (4, 4, 16, 16),
    (8, 16, 32, 32),
    (8, 16, 128, 128),
    (8, 32, 128, 256),
    (32, 128, 258, 1024),
    (32, 258, 258, 4096),
)
FIRST_LAZY = 4  # levels from here on try the next place too


def deflate(content: bytes, level: int, memory: int, window: int, filtered: int, most: int = UNLIMITED, /) -> bytes:
    """The raw deflate stream that zlib makes of a content.

    Args:
        content: up to 2^30 bytes.
        level: 1 to 9.
        memory: zlib's memLevel, 1 to 9: the size of the hash table, and tokens in a block (2^(memory + 6) - 1).
        window: zlib's windowBits, 9 to 15.
        filtered: 1 for zlib's strategy Z_FILTERED, with which libpng codes rows: from level 4 on, no match is as short
            as five bytes; 0 for the default strategy.
        most: comparisons, of two places or of two bytes, after which a search ends with an error: a hostile content
            takes hundreds of thousands for each byte.

    Returns:
        the stream, a few percent longer than the content at most.

    Raises:
        ValueError: a parameter is out of its limits.
        OverflowError: it takes more than `most` comparisons.

    Examples:
        >>> deflate(b"abcabcabc", 6, 8, 15, 0).hex()
        '4b4c4a4e042300'
    """
    if not (1 <= level <= 9 and 1 <= memory <= 9 and 9 <= window <= 15 and 0 <= filtered <= 1 and most >= 0):
        raise ValueError(MISFIT)
    if len(content) > MAX_CONTENT:
        raise ValueError(MISFIT)
    stream = _Stream(content, level, memory, window, bool(filtered), most)
    return stream.lazy() if level >= FIRST_LAZY else stream.greedy()


class _Stream:
    def __init__(self, content: bytes, level: int, memory: int, window: int, filtered: bool, most: int) -> None:
        self.content, self.size = content, len(content)
        self.good, self.lazily, self.nice, self.chain = LEVELS[level - 1]
        self.short = 5 if filtered else MIN_MATCH - 1  # no match is as short
        self.reach = (1 << window) - LOOKAHEAD
        self.shift = (memory + 9) // 3
        self.mask = (1 << memory + 7) - 1
        self.most_tokens = (1 << memory + 6) - 1
        self.heads = [0] * (self.mask + 1)  # the last place of a hash; 0 is none, so place 0 is never found
        self.window_mask = (1 << window) - 1
        self.before = [0] * (self.window_mask + 1)  # the place of equal hash before
        self.tokens: list[Token] = []
        self.begin = 0  # of the block
        self.base = 0  # first byte that zlib still has: its window slides by half
        self.bits = Bits()
        self.compared, self.most_compared = 0, most

    def enter(self, place: int) -> int:
        """Note a place under its three bytes' hash; the last one noted before."""
        a, b, c = self.content[place : place + 3]
        key = (a << 2 * self.shift ^ b << self.shift ^ c) & self.mask
        found = self.heads[key]
        self.before[place & self.window_mask] = found
        self.heads[key] = place
        return found

    def search(self, place: int, candidate: int, length: int) -> tuple[int, int]:
        """The longest match longer than `length`: (length, place); the first one found of equal ones."""
        content, left = self.content, self.size - place
        most, nice, chain, found = min(MAX_MATCH, left), min(self.nice, left), self.chain, 0
        if length >= self.good:
            chain >>= 2
        limit = max(place - self.reach, 0)
        while True:
            self.compared += 1
            if length < left and content[candidate + length] == content[place + length]:
                size = 0
                while size < most and content[candidate + size] == content[place + size]:
                    size += 1
                self.compared += size
                if size > length:
                    length, found = size, candidate
                    if size >= nice:
                        break
            candidate = self.before[candidate & self.window_mask]
            chain -= 1
            if candidate <= limit or not chain:
                break
        if self.compared > self.most_compared:
            raise OverflowError(EXCESS)
        return min(length, left), found

    def note(self, distance: int, value: int) -> bool:
        """Add a token; whether the block is full."""
        self.tokens.append((distance, value))
        return len(self.tokens) == self.most_tokens

    def slide(self, place: int) -> None:
        """Forget what zlib forgets before it looks at a place: a block that begins there can no longer be stored."""
        span = self.window_mask + 1
        past = place - (self.base + 2 * span - LOOKAHEAD)
        if past > 0 or (past == 0 and self.size < self.base + 2 * span):
            self.base += span

    def flush(self, end: int, last: bool) -> None:
        """Write the block that ends before `end`."""
        raw = self.content[self.begin : end] if self.begin >= self.base and end - self.begin < 1 << 16 else None
        put_block(self.bits, self.tokens, raw, last)
        self.tokens, self.begin = [], end

    def finish(self) -> bytes:
        """Write the last block and return the stream."""
        self.slide(self.size)
        self.flush(self.size, True)
        self.bits.align()
        return bytes(self.bits.bytes)

    def greedy(self) -> bytes:
        """Levels 1 to 3: the longest match at each place."""
        place, size = 0, self.size
        while place < size:
            self.slide(place)
            found = self.enter(place) if size - place >= MIN_MATCH else 0
            length, start = MIN_MATCH - 1, 0
            if found and place - found <= self.reach:
                length, start = self.search(place, found, MIN_MATCH - 1)
            if length >= MIN_MATCH:
                full = self.note(place - start, length)
                end = place + length
                if length <= self.lazily and size - end >= MIN_MATCH:
                    for entered in range(place + 1, end):
                        self.enter(entered)
                place = end
            else:
                full = self.note(0, self.content[place])
                place += 1
            if full:
                self.flush(place, False)
        return self.finish()

    def lazy(self) -> bytes:
        """Levels 4 to 9: a match is taken if the one at the next place is not longer."""
        place, size, waiting = 0, self.size, False
        length, start = MIN_MATCH - 1, 0
        while place < size:
            self.slide(place)
            found = self.enter(place) if size - place >= MIN_MATCH else 0
            before, start_before = length, start
            length = MIN_MATCH - 1
            if found and before < self.lazily and place - found <= self.reach:
                length, start = self.search(place, found, before)
                if length <= self.short or (length == MIN_MATCH and place - start > TOO_FAR):
                    length = MIN_MATCH - 1
            if before >= MIN_MATCH and length <= before:
                full = self.note(place - 1 - start_before, before)
                end = place - 1 + before
                for entered in range(place + 1, min(end, size - MIN_MATCH + 1)):
                    self.enter(entered)
                place, waiting, length = end, False, MIN_MATCH - 1
                if full:
                    self.flush(place, False)
            else:
                if waiting and self.note(0, self.content[place - 1]):
                    self.flush(place, False)
                waiting = True
                place += 1
        if waiting:
            self.note(0, self.content[size - 1])
        return self.finish()
