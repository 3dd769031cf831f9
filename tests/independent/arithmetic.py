"""The arithmetic decoder of docs/format.md, "The arithmetic coder"."""

from __future__ import annotations

from independent.damage import Damage

HALF = 1 << 15


class Decoder:
    """Decisions from the bytes of a payload."""

    def __init__(self, code: bytes) -> None:
        self.code = code
        self.read = 4
        self.value = int.from_bytes((code[:4] + bytes(4))[:4], "big")  # minus low
        self.range = (1 << 32) - 1

    def bit(self, probability: int) -> int:
        """The next decision, whose probability of being 1 is `probability` / 65536."""
        bound = self.range * probability >> 16
        bit = int(self.value < bound)
        if bit:
            self.range = bound
        else:
            self.value -= bound
            self.range -= bound
        while self.range < 1 << 24:
            self.value = self.value << 8 | (self.code[self.read] if self.read < len(self.code) else 0)
            self.range <<= 8
            self.read += 1
            if self.read > len(self.code) + 8:
                raise Damage("the coder reads more than 8 bytes past the end of the payload")
        return bit

    def number(self, bits: int) -> int:
        """A number of some even decisions, most significant first."""
        value = 0
        for _ in range(bits):
            value = 2 * value + self.bit(HALF)
        return value
