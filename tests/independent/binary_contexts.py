"""The contexts of docs/binary.md: of programs, and of records and numbers."""

from __future__ import annotations

from independent.binary_views import Reader
from independent.damage import check
from independent.history import History
from independent.mixing import Bits
from independent.shapes import Shape
from independent.tables import MASK, H

SHAPES = {
    "program-fast": Shape("program-fast", (1, 3, 4, 48, 49, 54), (1, 21)),
    "program-light": Shape("program-light", (1, 2, 3, 4, 6, 20, 48, 49, 52, 54, 57, 59, 61), (1, 2, 20, 21)),
    "program": Shape(
        "program", (1, 2, 3, 4, 5, 6, 20, 21, 22, 23, 24, 28, 29, 32, *range(48, 64)), (1, 0, 2, 3, 4, 20, 21)
    ),
    "record-fast": Shape("record-fast", (1, 64, 65, 70, 72, 73, 74), (1, 22)),
    "record-light": Shape("record-light", (1, 2, 4, 6, 20, 64, 65, 70, 71, 72, 73, 74, 78, 79), (1, 2, 22, 23)),
    "record": Shape("record", (0, 1, 2, 3, 4, 6, 16, 20, 22, 29, *range(64, 84)), (1, 0, 2, 22, 23, 24)),
}


class Programs:
    """Contexts 48 to 63."""

    def __init__(self, architecture: int) -> None:
        self.arm = architecture == 1
        self.reader = Reader(32 if architecture == 2 else 64)
        self.begun = self.field = self.operation = 0
        self.shape, self.full, self.whole = [0] * 4, [0] * 4, [0] * 4

    def remember(self, shape: int, full: int, whole: int) -> None:
        """The new first entries of the lists."""
        for entries, value in ((self.shape, shape), (self.full, full), (self.whole, whole)):
            entries.insert(0, value)
            entries.pop()

    def begin(self, history: History) -> None:
        """Follow the byte before the next one."""
        if history.position == 0:
            return
        c = history.c1
        if self.arm:
            self.operation = history.c4
            k = self.field = history.position % 4
            self.begun = (history.c4 & (1 << 8 * k) - 1) + (k << 24)
            if k == 0:
                self.remember(history.c4 >> 22, history.c4 & 0xFFE003FF, history.c4)
            return
        reader = self.reader
        before = reader.stage
        reader.read(c)
        self.begun = H(self.begun, c)
        self.field = (256 * self.field + c) & MASK if reader.stage == before != 0 else 0
        s = reader.opcode + 1024 * reader.prefixes
        if reader.stage == 0 and reader.left == 0:
            self.remember(
                s + (1 << 31 if reader.modrm >= 192 else 0), H(s, reader.modrm + 256 * reader.sib), self.begun
            )
            self.begun = 0
        self.operation = reader.prefixes if reader.stage == 0 else s

    def context(self, number: int, history: History) -> int:
        """A context's value."""
        reader, shape, full, whole = self.reader, self.shape, self.full, self.whole
        place = reader.stage + 16 * reader.left
        b = self.begun if self.arm else H(self.begun, place)
        g = self.field if self.arm else place + 256 * reader.relative
        modrm, sib = reader.modrm, reader.sib
        two = H(shape[0], shape[1])
        both = H(full[0], full[1])
        values = {
            48: b,
            49: H(b, shape[0]),
            50: H(b, two),
            51: H(b, H(full[0], 0)),
            52: H(b, both),
            53: H(b, H(both, full[2])),
            54: H(b, H(whole[0], 1)),
            55: H(b, H(whole[0], whole[1])),
            56: H(b, H(two, H(shape[2], shape[3]))),
            57: H(H(g, self.field), self.operation % 1024),
            58: H(H(g, self.field), modrm + 256 * sib),
            59: H(g, H(self.operation, modrm)),
            60: H(g, history.c4 % 65536),
            61: H(H(g, self.operation), two),
            62: H(b, H(whole[1], shape[0])),
            63: H(H(g, self.operation), full[1]),
        }
        return values[number]

    def inputs(self, now: Bits) -> list[int]:
        """None."""
        return []

    def selector(self, number: int, now: Bits) -> int:
        """Selectors 20 and 21."""
        reader = self.reader
        if number == 20:
            if self.arm:
                return 8 * self.field + now.bit
            return 8 * (reader.stage + 16 * (reader.left % 4) + 64 * reader.relative) + now.bit
        check(number == 21, f"selector {number}")
        if self.arm:
            return self.operation % 1024
        return (reader.opcode if reader.stage else self.shape[0]) % 1024


class Records:
    """Contexts 64 to 83."""

    def __init__(self, record: int, width: int) -> None:
        self.record, self.width = record, width
        self.same = self.row = 0
        self.values: dict[int, int] = {}
        self.column = self.place = self.n = self.e = self.on_n = self.on_e = 0

    def compare(self, x: int, prediction: int) -> int:
        """How the value's bytes so far compare with a prediction's."""
        k = self.place
        if k == 0:
            return 0
        difference = x - (prediction >> 8 * (self.width - k) & (1 << 8 * k) - 1)
        return {0: 0, -1: 1, 1: 3}.get(difference, 2 if difference < 0 else 4)

    def begin(self, history: History) -> None:
        """Compute all values for the next byte."""
        R, w, p, data = self.record, self.width, history.position, history.data  # noqa: N806
        self.column = p % R
        k = self.place = p % w
        begin = p - k

        def value(back: int) -> int:
            at = begin - back
            return int.from_bytes(data[at : at + w], "big") if at >= 0 else 0

        up, up2, left, corner = value(R), value(2 * R), value(w), value(R + w)
        mask = (1 << 64) - 1
        predictions = (
            up,
            left,
            2 * up - up2 & mask,
            left + up - corner & mask,
            (left >> 1) + (up >> 1) + (left & up & 1),
        )
        n, l, e, g, m = (v >> 8 * (w - 1 - k) & 255 for v in predictions)  # noqa: E741
        x = int.from_bytes(data[begin:p], "big")
        on_n, on_l, on_e, on_g, on_m = (self.compare(x, v) for v in predictions)
        prefix = H(x & MASK, x >> 32)
        scale = abs(up - up2).bit_length()
        if p:
            self.same = 2 * self.same + int(history.back(1) == history.back(1 + R))
            self.row = H(self.row, data[p - 1]) if self.column else 0
        w1, w2 = history.back(1), history.back(2)
        n2, nw, ne = history.back(2 * R), history.back(R + 1), history.back(R - 1) if R > 1 else 0
        a = self.column + (1 << 31)
        self.n, self.e, self.on_n, self.on_e = n, e, on_n, on_e
        self.values = {
            64: a,
            65: H(a, n + (w1 << 8) + (1 << 16)),
            66: H(a, n + (n2 << 8)),
            67: H(n + (w1 << 8) + (w2 << 16), k),
            68: H(n + (w1 << 8) + (nw << 16), k + 8),
            69: H(a, (n + w1 - nw & 255) + (2 << 16)),
            70: H(e + (on_e << 8) + (on_n << 12), k),
            71: H(a, e + (on_e << 8) + (3 << 16)),
            72: H(a, n + (on_n << 8) + (4 << 16)),
            73: H(prefix, a),
            74: H(prefix, k),
            75: H(prefix, n + (on_n << 8) + (k << 16)),
            76: H(n + (l << 8) + (on_n << 16) + (on_l << 20) + (k << 24), 5),
            77: H(a, n + (ne << 8) + (6 << 16)),
            78: H(g + (on_g << 8) + (k << 12), 7),
            79: H((e >> 3) + (on_e << 8) + (k << 12) + (scale << 16), 8),
            80: H(m + (on_m << 8) + (k << 12), 9),
            81: H(a, n + ((self.same & 255) << 8) + (10 << 16)),
            82: H(prefix, H(a, l)),
            83: H(a, self.row),
        }

    def context(self, number: int, history: History) -> int:
        """A context's value."""
        return self.values[number]

    def inputs(self, now: Bits) -> list[int]:
        """None."""
        return []

    def selector(self, number: int, now: Bits) -> int:
        """Selectors 22 to 24."""
        if number == 22:
            return 8 * min(self.column, 255) + now.bit

        def agrees(v: int) -> int:
            return 1 + (v >> 7 - now.bit & 1) if (v | 256) >> 8 - now.bit == now.c0 else 0

        check(number in (23, 24), f"selector {number}")
        v, on = (self.e, self.on_e) if number == 23 else (self.n, self.on_n)
        return 32 * self.place + 4 * on + agrees(v)
