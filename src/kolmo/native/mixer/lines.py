"""Contexts of lines (logs, tables, JSON): a field, and the last line that was alike so far. Counterpart of `lines.h`.

A field ends with any byte that is no letter, digit, underscore or byte from 128 on. Specification and fallback;
docs/context-mixing.md says what each context is for.
"""

from __future__ import annotations

from collections.abc import Callable

from kolmo.native.mixer.primitives import mix

LINES, LINES_SELECTORS = 40, 16  # the first context and the first selector of lines
LINE_SLOTS = 4096


class Lines:
    """The state of a lane: fields of its current line, and the place in the line that is alike."""

    def __init__(self) -> None:
        self.field = self.start = 0
        self.text = self.before = 0
        self.shape = self.whole = 0
        self.digits = False
        self.alike = self.agreed = 0
        self.order = 0
        self.slots = [0] * LINE_SLOTS

    def learn(self, at: Callable[[int], int], position: int, c: int) -> None:
        """Add the byte c; `position` is that behind it, and `at` gives the block's bytes."""
        digit = 48 <= c <= 57
        if self.alike:
            other = at(self.alike)
            self.alike += 1
            self.agreed = min(self.agreed + 1, 65535) if other == c else 0
            if not self.order and other != c:
                self.order = 1 if c < other else 2
        if c == 10:
            self.shape = self.field = 0
        elif not digit or not self.digits:
            self.shape = mix(self.shape, 48 if digit else c)
        self.digits = digit
        if digit or 65 <= c <= 90 or 97 <= c <= 122 or c == 95 or c >= 128:
            self.text = mix(self.text, c)
            return
        if c != 10:
            self.field += 1
        self.start = position
        self.before, self.text = self.text, 0
        self.whole = self.shape
        self.order = 0
        slot = mix(self.shape, 0) % LINE_SLOTS
        if not self.agreed or c == 10:
            self.alike, self.agreed = self.slots[slot], 0
        self.slots[slot] = position

    def contexts(self, at: Callable[[int], int], position: int, c1: int) -> list[int]:
        """Values of the contexts 40 to 46."""
        ahead = at(self.alike) if self.alike else 0
        later = at(self.alike + 1) if self.alike and self.alike + 1 < position else 0
        return [
            mix(self.text, min(self.field, 255)),
            mix(mix(ahead | later << 8, self.order), c1),
            ahead | min(self.agreed, 31) << 8 | self.order << 16,
            mix(self.text, self.before),
            mix(self.shape, position - self.start),
            mix(self.whole, self.text),
            mix(self.text, ahead),
        ]

    def select(self, selector: int, bit: int) -> int:
        """Index of the weight set that a selector picks."""
        if selector == LINES_SELECTORS:
            return (min(self.agreed, 15) * 4 + (self.order if self.alike else 3)) * 8 + bit
        return min(self.field, 31) * 8 + bit
