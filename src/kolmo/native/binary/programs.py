"""Where instructions begin and end: a reader of x86 code that can never fail. Counterpart of binary/programs.h.

It knows lengths, not meanings: prefixes, opcode, ModRM, SIB, displacement, immediate. Bytes that are not code
are read as some instruction; that costs bits, never correctness.
"""

from __future__ import annotations

# What the next byte is.
OPCODE, OPCODE_0F, OPCODE_38, OPCODE_3A, VEX, MODRM, SIB, DISPLACEMENT, IMMEDIATE = range(9)

# Prefixes of an instruction, as bits.
OPERAND, REPEAT, REPEAT_NOT, SEGMENT, REX, WIDE, VECTOR = (1 << k for k in range(7))

_OTHERS = b"\x26\x2e\x36\x3e\x64\x65\x67\xf0"  # prefixes of segments, addresses and locks
_ONE_BYTE = {0x6A, 0x6B, 0x80, 0x82, 0x83, 0xA8, 0xC0, 0xC1, 0xC6, 0xCD, 0xD4, 0xD5, 0xEB, *range(0x70, 0x80)}
_ONE_BYTE |= {*range(0xB0, 0xB8), *range(0xE0, 0xE8)}
_ONE_BYTE_0F = {0xA4, 0xAC, 0xBA, 0xC2, 0xC4, 0xC5, 0xC6, *range(0x70, 0x74)}
_OPERANDS = {0x63, 0x69, 0x6B, 0xC0, 0xC1, 0xC6, 0xC7, 0xF6, 0xF7, 0xFE, 0xFF, *range(0x80, 0x90), *range(0xD0, 0xD4)}
_OPERANDS |= {*range(0xD8, 0xE0)}
_NO_OPERANDS_0F = {0x0E, 0x77, *range(0x04, 0x0C), *range(0x30, 0x38), *range(0x80, 0x90), *range(0xA0, 0xA3)}
_NO_OPERANDS_0F |= {*range(0xA8, 0xAB), *range(0xC8, 0xD0)}


class X86:
    """The reader: `stage` says what the next byte is, `left` how many bytes a field still has.

    Args:
        wide: whether the code is of 64 bits.
    """

    def __init__(self, wide: bool) -> None:
        self.wide = wide
        self.stage = self.left = 0
        self.prefixes = self.opcode = self.modrm = self.sib = 0
        self.immediate = 0  # bytes that follow the displacement
        self.relative = 0  # whether the field is an address relative to the instruction's end
        self._map = 0  # of a VEX prefix, 0 without one

    def read(self, c: int) -> None:
        """Read a byte."""
        if self.stage == OPCODE:
            self._read_opcode(c)
        elif self.stage == OPCODE_0F and c in (0x38, 0x3A):
            self._expect(OPCODE_38 if c == 0x38 else OPCODE_3A, 1)
        elif self.stage in (OPCODE_0F, OPCODE_38, OPCODE_3A):
            self._end_opcode(c | self.stage << 8)
        elif self.stage == VEX:
            if self.left:
                self._map = self._map or c & 3 or 1
                self.left -= 1
            else:
                self._end_opcode(c | self._map << 8)
        elif self.stage == MODRM:
            self._read_modrm(c)
        elif self.stage == SIB:
            self.sib = c
            if self.modrm >> 6 == 1:
                self._expect(DISPLACEMENT, 1)
            elif self.modrm >> 6 == 2 or c & 7 == 5:
                self._expect(DISPLACEMENT, 4)
            else:
                self._end_operands()
        else:
            self.left -= 1
            if not self.left:
                if self.stage == DISPLACEMENT:
                    self._end_operands()
                else:
                    self._expect(OPCODE, 0)

    def _read_opcode(self, c: int) -> None:
        if not self.left:
            self.prefixes = self.modrm = self.sib = self._map = self.opcode = 0
        self.left = 1  # within an instruction
        if c == 0x66:
            self.prefixes |= OPERAND
        elif c == 0xF3:
            self.prefixes |= REPEAT
        elif c == 0xF2:
            self.prefixes |= REPEAT_NOT
        elif c in _OTHERS:
            self.prefixes |= SEGMENT
        elif self.wide and c >> 4 == 4:
            self.prefixes |= REX | (WIDE if c & 8 else 0)
        elif c == 0x0F:
            self._expect(OPCODE_0F, 1)
        elif self.wide and c in b"\xc4\xc5\x62":
            self.prefixes |= VECTOR
            self._map = int(c == 0xC5)
            self._expect(VEX, {0xC5: 1, 0xC4: 2, 0x62: 3}[c])
        else:
            self._end_opcode(c)

    def _read_modrm(self, c: int) -> None:
        self.modrm = c
        mode, register, rm = c >> 6, c >> 3 & 7, c & 7
        if self.opcode == 0xF6 and register < 2:
            self.immediate = 1
        if self.opcode == 0xF7 and register < 2:
            self.immediate = 2 if self.prefixes & OPERAND else 4
        if mode == 3:
            self._end_operands()
        elif rm == 4:
            self._expect(SIB, 1)
        elif mode == 1:
            self._expect(DISPLACEMENT, 1)
        elif mode == 2 or rm == 5:
            self._expect(DISPLACEMENT, 4, int(self.wide and mode == 0))
        else:
            self._end_operands()

    def _expect(self, stage: int, left: int, relative: int = 0) -> None:
        self.stage, self.left, self.relative = stage, left, relative

    def _end_opcode(self, opcode: int) -> None:
        self.opcode = opcode
        self.immediate = self._immediate()
        if self._has_modrm():
            self._expect(MODRM, 1)
        else:
            self._end_operands()

    def _end_operands(self) -> None:
        """Past the operands: the immediate, or the next instruction."""
        if self.immediate:
            jump = self.opcode in (0xE8, 0xE9) or 0x180 <= self.opcode <= 0x18F
            left, self.immediate = self.immediate, 0
            self._expect(IMMEDIATE, left, int(jump and left == 4))
        else:
            self._expect(OPCODE, 0)

    def _immediate(self) -> int:
        """Bytes of the opcode's immediate."""
        op, page = self.opcode & 255, self.opcode >> 8
        word = 2 if self.prefixes & OPERAND else 4
        if page == 1:
            return 1 if op in _ONE_BYTE_0F else 4 if op >> 4 == 8 else 0
        if page:
            return int(page == 3)
        if op < 0x40:
            return {4: 1, 5: word}.get(op & 7, 0)
        if op in (0x68, 0x69, 0x81, 0xA9, 0xC7):
            return word
        if op in (0xE8, 0xE9):
            return 4
        if 0xB8 <= op <= 0xBF:
            return 8 if self.prefixes & WIDE else word
        if 0xA0 <= op <= 0xA3:
            return 8 if self.wide else 4
        if op in (0xC2, 0xCA):
            return 2
        if op == 0xC8:
            return 3
        return int(op in _ONE_BYTE)

    def _has_modrm(self) -> bool:
        op, page = self.opcode & 255, self.opcode >> 8
        if page >= 2:
            return True
        if page == 1:
            return op not in _NO_OPERANDS_0F
        if op < 0x40:
            return op & 7 < 4
        return op in _OPERANDS or (not self.wide and op in (0x62, 0xC4, 0xC5))
