"""Contexts and selectors of binary data: programs, records, values. Counterpart of binary/contexts.h.

They read a view of the data (`views.py`): addresses absolute, bytes of a value highest first. docs/binary.md says what
each is for.
"""

from __future__ import annotations

from collections.abc import Callable

from kolmo.native.binary.programs import OPCODE, X86
from kolmo.native.binary.views import ARM64, X86_64
from kolmo.native.mixer.primitives import MASK, mix

PROGRAM = 48  # contexts from here on need the program's instructions,
RECORD = 64  # from here on the record,
BINARY_END = 84  # up to here
PROGRAM_SELECTORS, RECORD_SELECTORS, BINARY_SELECTORS_END = 20, 22, 25  # likewise the selectors
MAX_RECORD = 1 << 16  # bytes


def compare(a: int, b: int) -> int:
    """0 for equal numbers; 1, 2 where the first is less by one, by more; 3, 4 where it is greater."""
    return 0 if a == b else (1 if b - a == 1 else 2) if a < b else 3 if a - b == 1 else 4


def agrees(byte: int, c0: int, bit: int) -> int:
    """Whether a byte agrees with the bits so far, and its next bit: 0 if not, 1 or 2."""
    return 1 + (byte >> (7 - bit) & 1) if (byte | 256) >> (8 - bit) == c0 else 0


class Binary:
    """What contexts of binary data keep of a block's bytes.

    Args:
        layout: how the bytes are shown (a view), bytes of a record, bytes of a value, at most those of a record.
        contexts: of the configuration.
        selectors: of the configuration.
    """

    def __init__(self, layout: tuple[int, ...], contexts: tuple[int, ...], selectors: tuple[int, ...]) -> None:
        view, record, width = layout
        self._words, self._record, self._width = view == ARM64, record, width
        program = any(PROGRAM <= k < RECORD for k in contexts)
        self._program = program or any(PROGRAM_SELECTORS <= k < RECORD_SELECTORS for k in selectors)
        self._values = any(k >= RECORD for k in contexts) or any(k >= RECORD_SELECTORS for k in selectors)
        self._x86 = X86(view == X86_64)
        self._begun = self._field = self._operation = 0
        self._shape, self._full, self._whole = [0] * 4, [0] * 4, [0] * 4
        self._above = self._left = self._expected = self._gradient = self._middle = 0
        self._on_above = self._on_left = self._on_expected = self._on_gradient = self._on_middle = 0
        self._column = self._place = self._prefix = self._scale = self._same = self._row = 0

    def learn(self, position: int, c: int) -> None:
        """Read the newest byte; `position` is the number of bytes."""
        if self._program and self._words:
            self._learn_arm64(position, c)
        elif self._program:
            self._learn_x86(c)

    def _learn_x86(self, c: int) -> None:
        x, stage = self._x86, self._x86.stage
        x.read(c)
        self._begun = mix(self._begun, c)
        self._field = (self._field << 8 | c) & MASK if x.stage == stage and stage != OPCODE else 0
        shape = x.opcode | x.prefixes << 10
        if x.stage == OPCODE and not x.left:  # the instruction has ended
            registers = x.modrm >> 6 == 3
            self._end_instruction(
                shape | 1 << 31 if registers else shape, mix(shape, x.modrm | x.sib << 8), self._begun
            )
        self._operation = x.prefixes if x.stage == OPCODE else shape

    def _learn_arm64(self, position: int, c: int) -> None:
        self._operation = word = (self._operation << 8 | c) & MASK
        self._field = known = position & 3
        if known:
            self._begun = word & (1 << 8 * known) - 1 | known << 24
        else:
            self._end_instruction(word >> 22, word & 0xFFE003FF, word)  # the operation; with two registers

    def _end_instruction(self, shape: int, full: int, whole: int) -> None:
        self._shape = [shape, *self._shape[:3]]
        self._full = [full, *self._full[:3]]
        self._whole = [whole, *self._whole[:3]]
        self._begun = 0

    def contexts(self, byte: Callable[[int], int], position: int, last4: int) -> list[int]:
        """Values of contexts 48 to 83; zeros where the configuration has none of them.

        Args:
            byte: a byte of the block so far; 0 where it is not known yet.
            position: number of bytes so far.
            last4: the last four bytes, the newest lowest.
        """
        program = self._program_contexts(last4) if self._program else [0] * (RECORD - PROGRAM)
        return program + (self._record_contexts(byte, position) if self._values else [0] * (BINARY_END - RECORD))

    def _program_contexts(self, last4: int) -> list[int]:
        x, words, field, operation = self._x86, self._words, self._field, self._operation
        shape, full, whole = self._shape, self._full, self._whole
        begun = self._begun if words else mix(self._begun, x.stage | x.left << 4)
        stage = field if words else x.stage | x.left << 4 | x.relative << 8
        shapes, fulls = mix(shape[0], shape[1]), mix(full[0], full[1])
        return [
            begun,
            mix(begun, shape[0]),
            mix(begun, shapes),
            mix(begun, mix(full[0], 0)),
            mix(begun, fulls),
            mix(begun, mix(fulls, full[2])),
            mix(begun, mix(whole[0], 1)),
            mix(begun, mix(whole[0], whole[1])),
            mix(begun, mix(shapes, mix(shape[2], shape[3]))),
            mix(mix(stage, field), operation & 0x3FF),
            mix(mix(stage, field), x.modrm | x.sib << 8),
            mix(stage, mix(operation, x.modrm)),
            mix(stage, last4 & 0xFFFF),
            mix(mix(stage, operation), shapes),
            mix(begun, mix(whole[1], shape[0])),
            mix(mix(stage, operation), full[1]),
        ]

    def _record_contexts(self, byte: Callable[[int], int], p: int) -> list[int]:
        r, w = self._record, self._width
        self._column, self._place = p % r, p % w
        at, k, start = self._column | 1 << 31, self._place, p - self._place

        def value(back: int) -> int:
            """The value that begins `back` bytes before this one; 0 where there is none."""
            return int.from_bytes(bytes(byte(start - back + i) for i in range(w)), "big") if back <= start else 0

        def newest(back: int) -> int:
            return byte(p - back) if back <= p else 0

        prefix = int.from_bytes(bytes(byte(i) for i in range(start, p)), "big")

        def show(v: int) -> tuple[int, int]:
            """A value's byte at the present place, and how the bytes so far compare with the value's."""
            low = 8 * (w - 1 - k)
            return v >> low & 255, compare(prefix, v >> low + 8 & (1 << 8 * k) - 1) if k else 0

        up, up2, left = value(r), value(2 * r), value(w)
        n, self._on_above = show(up)
        self._above = n
        self._left, self._on_left = show(left)
        self._expected, self._on_expected = show((2 * up - up2) % (1 << 64))
        self._gradient, self._on_gradient = show((left + up - value(r + w)) % (1 << 64))
        self._middle, self._on_middle = show(left // 2 + up // 2 + (left & up & 1))
        self._prefix = mix(prefix & MASK, prefix >> 32)
        self._scale = abs(up - up2).bit_length()
        self._row = mix(self._row, newest(1)) if self._column else 0
        self._same = (self._same << 1 | (p > 0 and newest(1) == newest(r + 1))) & MASK
        w1, w2, n2, corner, right = newest(1), newest(2), newest(2 * r), newest(r + 1), newest(r - 1)
        on_above, on_expected = self._on_above, self._on_expected
        return [
            at,
            mix(at, n | w1 << 8 | 1 << 16),
            mix(at, n | n2 << 8),
            mix(n | w1 << 8 | w2 << 16, k),
            mix(n | w1 << 8 | corner << 16, k | 8),
            mix(at, n + w1 - corner & 255 | 2 << 16),
            mix(self._expected | on_expected << 8 | on_above << 12, k),
            mix(at, self._expected | on_expected << 8 | 3 << 16),
            mix(at, n | on_above << 8 | 4 << 16),
            mix(self._prefix, at),
            mix(self._prefix, k),
            mix(self._prefix, n | on_above << 8 | k << 16),
            mix(n | self._left << 8 | on_above << 16 | self._on_left << 20 | k << 24, 5),
            mix(at, n | right << 8 | 6 << 16),
            mix(self._gradient | self._on_gradient << 8 | k << 12, 7),
            mix(self._expected >> 3 | on_expected << 8 | k << 12 | self._scale << 16, 8),
            mix(self._middle | self._on_middle << 8 | k << 12, 9),
            mix(at, n | (self._same & 255) << 8 | 10 << 16),
            mix(self._prefix, mix(at, self._left)),
            mix(at, self._row),
        ]

    def select(self, selector: int, c0: int, bit: int) -> int:
        """Index of the weight set that selector 20 to 24 picks for a bit (0..7) of the byte with first bits `c0`."""
        x = self._x86
        if selector == 20:
            return (self._field if self._words else x.stage | (x.left & 3) << 4 | x.relative << 6) << 3 | bit
        if selector == 21:
            return (self._operation if self._words else self._shape[0] if x.stage == OPCODE else x.opcode) & 0x3FF
        if selector == 22:
            return min(self._column, 255) << 3 | bit
        if selector == 23:
            return self._place << 5 | self._on_expected << 2 | agrees(self._expected, c0, bit)
        return self._place << 5 | self._on_above << 2 | agrees(self._above, c0, bit)
