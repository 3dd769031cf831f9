"""Code in executables and libraries, by their headers: ELF, PE and Mach-O, anywhere in some data.

What it is not: a loader. It reads what it needs to know where code is, and takes nothing on trust: a section that is
not within the data is left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

X86_64, ARM64, X86_32 = range(3)  # architectures, as `Program` records them
MAX_HEADERS = 1000  # that are read in a block
MAX_SECTIONS = 4096  # that are read of a header
MAX_GAP = 64  # bytes between code sections that are taken for code
MIN_BYTES = 256  # of code


class Code(NamedTuple):
    """Code in some data: offset, bytes, architecture."""

    first: int
    size: int
    architecture: int


def find_code(data: bytes) -> list[Code]:
    """Where code is: sorted, without overlaps, each of at least `MIN_BYTES`.

    >>> find_code(b"no program")
    []
    """
    found: list[Code] = []
    for magic, read in ((b"\x7fELF", _elf), (b"MZ", _pe), (b"\xcf\xfa\xed\xfe", _mach)):
        at, count = data.find(magic), 0
        while at >= 0 and count < MAX_HEADERS:
            sections = [code for code in read(data, at) if code.size > 0 and code.first + code.size <= len(data)]
            found += sections
            count += 1
            at = data.find(magic, max(at + len(magic), *[code.first + code.size for code in sections], 0))
    joined: list[Code] = []
    for code in sorted(found):
        last = joined[-1] if joined else None
        gap = code.first - last.first - last.size if last else 0
        if last and gap < 0:
            continue
        if last and gap <= MAX_GAP and code.architecture == last.architecture:
            joined[-1] = Code(last.first, code.first + code.size - last.first, last.architecture)
        else:
            joined.append(code)
    return [code for code in joined if code.size >= MIN_BYTES]


def _number(data: bytes, at: int, size: int) -> int:
    """A little-endian number; 0 behind the end."""
    return int.from_bytes(data[at : at + size], "little")


def _elf(data: bytes, at: int) -> Iterator[Code]:
    architecture = {62: X86_64, 183: ARM64, 3: X86_32}.get(_number(data, at + 18, 2))
    wide = data[at + 4 : at + 5] == b"\2"
    if architecture is None or data[at + 5 : at + 6] != b"\1":  # little-endian
        return
    table = at + (_number(data, at + 40, 8) if wide else _number(data, at + 32, 4))
    entry, count = (_number(data, at + (58 if wide else 46) + 2 * k, 2) for k in range(2))
    for k in range(min(count, MAX_SECTIONS)):
        row = table + k * entry
        word = 8 if wide else 4
        kind, flags = _number(data, row + 4, 4), _number(data, row + 8, word)
        first, size = _number(data, row + (24 if wide else 16), word), _number(data, row + (32 if wide else 20), word)
        if kind == 1 and flags & 4:  # program bits, executable
            yield Code(at + first, size, architecture)


def _pe(data: bytes, at: int) -> Iterator[Code]:
    header = at + _number(data, at + 60, 4)
    architecture = {0x8664: X86_64, 0xAA64: ARM64, 0x14C: X86_32}.get(_number(data, header + 4, 2))
    if architecture is None or data[header : header + 4] != b"PE\0\0":
        return
    table = header + 24 + _number(data, header + 20, 2)
    for k in range(min(_number(data, header + 6, 2), MAX_SECTIONS)):
        row = table + 40 * k
        used, size, first = _number(data, row + 8, 4), _number(data, row + 16, 4), _number(data, row + 20, 4)
        if _number(data, row + 36, 4) & 0x20000000:  # executable
            yield Code(at + first, min(size, used or size), architecture)


def _mach(data: bytes, at: int) -> Iterator[Code]:
    architecture = {0x01000007: X86_64, 0x0100000C: ARM64}.get(_number(data, at + 4, 4))
    command = at + 32
    if architecture is None:
        return
    for _ in range(min(_number(data, at + 16, 4), MAX_SECTIONS)):
        size = _number(data, command + 4, 4)
        if _number(data, command, 4) == 0x19:  # a segment of 64 bits, with sections
            for k in range(min(_number(data, command + 64, 4), MAX_SECTIONS // 16)):
                row = command + 72 + 80 * k
                if _number(data, row + 64, 4) & 0x80000000:  # only instructions
                    yield Code(at + _number(data, row + 48, 4), _number(data, row + 40, 8), architecture)
        if size < 8:
            return
        command += size
