"""The kind `program`: machine code of x86-64, x86 and arm64, with branch targets made absolute in the model's view."""

from __future__ import annotations

from kolmo.errors import CorruptError
from kolmo.native.binary import views
from kolmo.predictors.embedded.context_mixing import Shape
from kolmo.predictors.embedded.kinds.base import Segment
from kolmo.predictors.embedded.kinds.binary import BinaryKind, Layout
from kolmo.predictors.embedded.kinds.executables import ARM64, X86_32, X86_64, find_code

VIEWS = {X86_64: views.X86_64, ARM64: views.ARM64, X86_32: views.X86_32}

FAST = Shape("program-fast", (1, 3, 4, 48, 49, 54), (1, 21), folder="binary")
LIGHT = Shape("program-light", (1, 2, 3, 4, 6, 20, 48, 49, 52, 54, 57, 59, 61), (1, 2, 20, 21), folder="binary")
FULL = Shape(
    "program",
    (1, 2, 3, 4, 5, 6, 20, 21, 22, 23, 24, 28, 29, 32, *range(48, 64)),
    (1, 0, 2, 3, 4, 20, 21),
    folder="binary",
)

# Byte sequences of which code of 64 bits, of 32 bits, has one in 64 bytes: moves between registers and the stack.
MARKS_64 = (
    b"\x48\x8b",
    b"\x48\x89",
    b"\x48\x8d",
    b"\x48\x83",
    b"\x4c\x8b",
    b"\x4c\x89",
    b"\x0f\xb6",
    b"\x0f\x84",
    b"\x0f\x85",
)
MARKS_32 = (
    b"\x8b\x45",
    b"\x89\x45",
    b"\x8b\x4d",
    b"\x55\x8b\xec",
    b"\x83\xc4",
    b"\x8b\x44\x24",
    b"\x8b\x4c\x24",
    b"\xff\x75",
)
RAREST_MARK = 64  # bytes for each
ARM64_BYTES = bytes.fromhex(
    "949714175435343736f9b9f8a9a8aa2a9111525271d5d6d2d3eb6b8b0bcb4b1b9b"
)  # usual highest bytes of a word
LEAST_ARM64 = 5  # of eight words that begin so


class Program(BinaryKind):
    """Machine code. The parameters: architecture (0 x86-64, 1 arm64, 2 x86 of 32 bits), bytes before the first word."""

    name = "program"
    code = 5
    fields = ("architecture", "offset")
    shapes = (FAST, LIGHT, FULL)

    def layout(self, parameters: tuple[int, ...]) -> Layout:
        """See `BinaryKind.layout`."""
        architecture, offset = parameters
        if architecture not in VIEWS or offset > 3:
            raise CorruptError(f"there is no architecture {architecture} with {offset} bytes before the first word")
        return Layout(VIEWS[architecture], offset=offset)

    def period(self, parameters: tuple[int, ...]) -> int:
        """Bytes of a word."""
        return 4

    def find(self, data: bytes) -> list[Segment]:
        """Code sections of executables and libraries."""
        return [Segment(self.code, code.first, code.size, (code.architecture, 0)) for code in find_code(data)]

    def guess(self, data: bytes) -> list[tuple[int, ...]]:
        """By the frequency of usual instructions."""
        guesses: list[tuple[int, ...]] = []
        for architecture, marks in ((X86_64, MARKS_64), (X86_32, MARKS_32)):
            if sum(map(data.count, marks)) * RAREST_MARK >= len(data):
                guesses.append((architecture, 0))
        for offset in range(4):
            tops = data[offset + 3 :: 4]
            if len(tops.translate(None, ARM64_BYTES)) * 8 <= len(tops) * (8 - LEAST_ARM64):
                guesses.append((ARM64, offset))
        return guesses
