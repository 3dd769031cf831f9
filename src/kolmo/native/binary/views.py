"""Views of binary data: other orders of the same bytes, that a model predicts better. Counterpart of binary/views.c.

A view is a bijection on strings of each length, so it cannot fail: whatever the bytes are, its inverse gives them back.

- x86: the four bytes of a relative address become the absolute one (modulo 2^32), highest byte first.
- arm64: a word is shown highest byte first, with the targets of BL and ADRP absolute.
- values: the bytes of a value are shown highest first.
"""

from __future__ import annotations

from kolmo.native.binary.programs import DISPLACEMENT, X86

NONE, X86_64, X86_32, ARM64, VALUES = range(5)
VIEWS = 5
MAX_WIDTH = 8  # bytes of a value


def binary_view(view: int, width: int, inverse: int, data: bytes) -> bytes:
    r"""The bytes as a view shows them, or (`inverse`) the bytes that it shows so.

    Args:
        view: a view's number.
        width: bytes of a value, 1 to 8, for the view of values.
        inverse: 0 or 1.
        data: any bytes; addresses count from the first.

    >>> binary_view(VALUES, 4, 0, bytes([1, 2, 3, 4, 5]))
    b'\x04\x03\x02\x01\x05'
    """
    if not 0 <= view < VIEWS or not 1 <= width <= MAX_WIDTH:
        raise ValueError("there is no such view")
    if view in (X86_64, X86_32):
        return _x86(view == X86_64, inverse, data)
    if view == NONE:
        return bytes(data)
    width = 4 if view == ARM64 else width
    out = bytearray()
    for at in range(0, len(data) - width + 1, width):
        if view == VALUES:
            out += data[at : at + width][::-1]
        else:
            word = int.from_bytes(data[at : at + 4], "big" if inverse else "little")
            out += _arm64(word, at, -1 if inverse else 1).to_bytes(4, "little" if inverse else "big")
    return bytes(out + data[len(out) :])


def _x86(wide: bool, inverse: int, data: bytes) -> bytes:
    """The reader sees opcodes, which are the same on both sides, and never the bytes of an address."""
    reader, out, at = X86(wide), bytearray(), 0
    while at < len(data):
        if reader.relative and reader.left == 4 and len(data) - at >= 4:
            end = at + 4 + (reader.immediate if reader.stage == DISPLACEMENT else 0)
            word = int.from_bytes(data[at : at + 4], "big" if inverse else "little")
            word = word + (-end if inverse else end) & 0xFFFFFFFF
            out += word.to_bytes(4, "little" if inverse else "big")
            for _ in range(4):
                reader.read(0)
            at += 4
        else:
            out.append(data[at])
            reader.read(data[at])
            at += 1
    return bytes(out)


def _arm64(word: int, at: int, sign: int) -> int:
    if word >> 26 == 0x25:  # BL: words, relative to the instruction
        return 0x25 << 26 | word + sign * (at >> 2) & 0x3FFFFFF
    if word & 0x9F000000 == 0x90000000:  # ADRP: pages of 4096 bytes; the low two of 21 bits are bits 29 and 30
        page = (word >> 5 & 0x7FFFF) << 2 | word >> 29 & 3
        page = page + sign * (at >> 12) & 0x1FFFFF
        return word & 0x9F00001F | page >> 2 << 5 | (page & 3) << 29
    return word
