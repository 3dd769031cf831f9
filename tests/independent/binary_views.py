"""The views of docs/binary.md and its reader of x86 code."""

from __future__ import annotations

from independent.damage import check

OPCODE, AFTER_0F, AFTER_38, AFTER_3A, VEX, MODRM, SIB, DISPLACEMENT, IMMEDIATE = range(9)
SEGMENTS = bytes.fromhex("262E363E646567F0")
MODRM_LOW = bytes.fromhex("63696BC0C1C6C7F6F7FEFF") + bytes([*range(0x80, 0x90), *range(0xD0, 0xD4)])
MODRM_LOW += bytes(range(0xD8, 0xE0))
NO_MODRM = {*range(0x104, 0x10C), 0x10E, *range(0x130, 0x138), 0x177, *range(0x180, 0x190)}
NO_MODRM |= {*range(0x1A0, 0x1A3), *range(0x1A8, 0x1AB), *range(0x1C8, 0x1D0)}
ONE = {0x6A, 0x6B, *range(0x70, 0x80), 0x80, 0x82, 0x83, 0xA8, *range(0xB0, 0xB8), 0xC0, 0xC1, 0xC6, 0xCD, 0xD4, 0xD5}
ONE |= {*range(0xE0, 0xE8), 0xEB, *range(0x170, 0x174), 0x1A4, 0x1AC, 0x1BA, 0x1C2, *range(0x1C4, 0x1C7)}
ONE |= set(range(0x300, 0x400))
FOUR_OR_TWO = {0x68, 0x69, 0x81, 0xA9, 0xC7}


class Reader:
    """Splits code into instructions by their lengths."""

    def __init__(self, bits: int) -> None:
        self.wide = bits == 64
        self.stage = self.left = self.prefixes = self.opcode = self.modrm = self.sib = self.map = 0
        self.immediate = 0
        self.relative = False

    def read(self, c: int) -> None:
        """Follow a byte."""
        if self.stage == OPCODE:
            self.read_opcode(c)
        elif self.stage == AFTER_0F:
            if c in (0x38, 0x3A):
                self.stage = AFTER_38 if c == 0x38 else AFTER_3A
            else:
                self.begin_operands(c + 256)
        elif self.stage in (AFTER_38, AFTER_3A):
            self.begin_operands(c + (512 if self.stage == AFTER_38 else 768))
        elif self.stage == VEX:
            if self.left:
                if self.map == 0:
                    self.map = c & 3 or 1
                self.left -= 1
            else:
                self.begin_operands(c + 256 * self.map)
        elif self.stage == MODRM:
            self.read_modrm(c)
        elif self.stage == SIB:
            self.sib = c
            mode = self.modrm >> 6
            if mode == 1:
                self.displace(1)
            elif mode == 2 or c & 7 == 5:
                self.displace(4)
            else:
                self.end_operands()
        else:
            self.left -= 1
            if self.left == 0:
                if self.stage == DISPLACEMENT:
                    self.end_operands()
                else:
                    self.end()

    def read_opcode(self, c: int) -> None:
        """Stage 0."""
        if self.left == 0:
            self.prefixes = self.opcode = self.modrm = self.sib = self.map = 0
        prefix = {0x66: 1, 0xF3: 2, 0xF2: 4}.get(c, 8 if c in SEGMENTS else 0)
        if self.wide and 0x40 <= c <= 0x4F:
            prefix = 48 if c >= 0x48 else 16
        if prefix:
            self.prefixes |= prefix
            self.left = 1
        elif c == 0x0F:
            self.stage, self.left = AFTER_0F, 1
        elif self.wide and c in (0xC5, 0xC4, 0x62):
            self.prefixes |= 64
            self.stage = VEX
            self.left = {0xC5: 1, 0xC4: 2, 0x62: 3}[c]
            self.map = int(c == 0xC5)
        else:
            self.begin_operands(c)

    def size_of_immediate(self) -> int:
        """The bytes of the opcode's immediate."""
        op, short = self.opcode, self.prefixes & 1
        if op in ONE or (op < 0x40 and op & 7 == 4):
            return 1
        if op in (0xC2, 0xCA):
            return 2
        if op == 0xC8:
            return 3
        if 0xB8 <= op <= 0xBF and self.prefixes & 32:
            return 8
        if op in FOUR_OR_TWO or 0xB8 <= op <= 0xBF or (op < 0x40 and op & 7 == 5):
            return 2 if short else 4
        if op in (0xE8, 0xE9) or 0x180 <= op <= 0x18F:
            return 4
        if 0xA0 <= op <= 0xA3:
            return 8 if self.wide else 4
        return 0

    def begin_operands(self, opcode: int) -> None:
        """After the opcode."""
        self.opcode = opcode
        self.immediate = self.size_of_immediate()
        if opcode >= 256:
            has_modrm = opcode not in NO_MODRM
        else:
            has_modrm = opcode in MODRM_LOW or (opcode < 0x40 and opcode & 7 < 4)
            has_modrm |= not self.wide and opcode in (0x62, 0xC4, 0xC5)
        if has_modrm:
            self.stage, self.left = MODRM, 1
        else:
            self.end_operands()

    def read_modrm(self, c: int) -> None:
        """Stage 5."""
        self.modrm = c
        mode, reg, rm = c >> 6, c >> 3 & 7, c & 7
        if self.opcode in (0xF6, 0xF7) and reg < 2:
            self.immediate = 1 if self.opcode == 0xF6 else 2 if self.prefixes & 1 else 4
        if mode == 3:
            self.end_operands()
        elif rm == 4:
            self.stage, self.left = SIB, 1
        elif mode == 1:
            self.displace(1)
        elif mode == 2 or rm == 5:
            self.displace(4, relative=self.wide and mode == 0)
        else:
            self.end_operands()

    def displace(self, size: int, relative: bool = False) -> None:
        """A displacement follows."""
        self.stage, self.left, self.relative = DISPLACEMENT, size, relative

    def end_operands(self) -> None:
        """After the operands."""
        if self.immediate:
            self.stage, self.left = IMMEDIATE, self.immediate
            self.relative = self.immediate == 4 and (self.opcode in (0xE8, 0xE9) or 0x180 <= self.opcode <= 0x18F)
        else:
            self.end()

    def end(self) -> None:
        """The instruction ends."""
        self.stage = self.left = 0
        self.relative = False

    def expects_address(self) -> bool:
        """Whether the next byte is the first of a relative address of four."""
        return self.relative and self.left == 4 and self.stage in (DISPLACEMENT, IMMEDIATE)


def unview_x86(data: bytes, bits: int) -> bytes:
    """The inverse of views 1 and 2."""
    raw = bytearray(data)
    reader = Reader(bits)
    at = 0
    while at < len(raw):
        if reader.expects_address() and at + 4 <= len(raw):
            following = at + 4 + (reader.immediate if reader.stage == DISPLACEMENT else 0)
            value = int.from_bytes(raw[at : at + 4], "big") - following & 0xFFFFFFFF
            raw[at : at + 4] = value.to_bytes(4, "little")
            for _ in range(4):
                reader.read(0)
            at += 4
        else:
            reader.read(raw[at])
            at += 1
    return bytes(raw)


def unview_arm64(data: bytes) -> bytes:
    """The inverse of view 3."""
    raw = bytearray(data)
    for i in range(0, len(raw) - 3, 4):
        w = int.from_bytes(raw[i : i + 4], "big")
        if w >> 26 == 37:
            w = w & 0xFC000000 | w - i // 4 & 0x3FFFFFF
        elif w & 0x9F000000 == 0x90000000:
            p = 4 * (w >> 5 & 0x7FFFF) + (w >> 29 & 3)
            p = p - (i >> 12) & 0x1FFFFF
            w = w & 0x9F00001F | p >> 2 << 5 | (p & 3) << 29
        raw[i : i + 4] = w.to_bytes(4, "little")
    return bytes(raw)


def unview_values(data: bytes, width: int) -> bytes:
    """The inverse of view 4."""
    raw = bytearray(data)
    for at in range(0, len(raw) - width + 1, width):
        raw[at : at + width] = raw[at : at + width][::-1]
    return bytes(raw)


def unview(code: int, parameters: tuple[int, ...], data: bytes) -> bytes:
    """The bytes of a stream of the kinds 5 to 7, from those that were coded."""
    offset = parameters[-1]
    if code == 5:
        architecture = parameters[0]
        check(architecture < 3 and offset < 4, "the parameters of a program")
        raw = unview_arm64(data) if architecture == 1 else unview_x86(data, 32 if architecture == 2 else 64)
    else:
        record, width, order, _ = parameters
        check(
            1 <= width <= 8 and width <= record <= 65536 and order < 2 and offset < width, "the parameters of records"
        )
        raw = unview_values(data, width) if order == 0 and width > 1 else data
    moved = min(offset, len(raw))
    return raw[len(raw) - moved :] + raw[: len(raw) - moved]
