"""The shapes and levels of docs/context-mixing.md and docs/neural.md."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Shape:
    """Contexts and selectors of a mixer, in order, and the rates of its two layers."""

    name: str
    contexts: tuple[int, ...]
    selectors: tuple[int, ...]
    rates: tuple[tuple[int, int], tuple[int, int]] = ((90, 2400), (60, 400))
    networked: bool = False

    @property
    def inputs(self) -> int:
        """Inputs of the first layer, with the padding."""
        return (2 * len(self.contexts) + (6 if self.networked else 3) + 7) // 8 * 8


FULL = (0, 1, 2, 3, 4, 6, 8, 9, 10, 11, 14, 15, 16, 17, 18, 19, 20, 22, 23, 25, 27, 29, 41, 43, 44, 45)
LARGE = (*(k for k in FULL if k != 29), 5, 7, 12, 13, 21, 26, 28, 30, 31, 33, 35, 42, 46)
PLAIN = {
    "fast": Shape("fast", (1, 3, 5, 8), (1,)),
    "light": Shape("light", (1, 2, 3, 4, 6, 8, 9, 17, 18, 20), (1, 2, 3)),
    "medium": Shape("medium", (0, 1, 2, 3, 4, 6, 8, 9, 10, 16, 17, 18, 20, 45), (1, 0, 2, 3, 6)),
    "full": Shape("full", FULL, (1, 0, 2, 3, 4, 6, 7)),
    "large": Shape("large", LARGE, (1, 0, 2, 3, 4, 5, 6, 7, 8, 10, 11, 16)),
}
LEVELS = {
    1: ("fast", 22),
    2: ("light", 24),
    3: ("light", 26),
    4: ("medium", 26),
    5: ("full", 27),
    6: ("full", 28),
    7: ("large", 27),
    8: ("large", 28),
    9: ("large", 29),
}


def bits_for(count: int, least: int, most: int) -> int:
    """The least b with 2^b >= count, within the limits."""
    return min(max((count - 1).bit_length(), least), most)


NEURAL_FULL = (*(k for k in FULL if k not in (18, 29)), 5, 31, 35, 37, 38, 39, 42, 46)
NEURAL_LARGE = (*(k for k in LARGE if k not in (5, 18)), 34, 36, 37, 38, 39)
RATES = ((90, 1600), (45, 360))
NEURAL = {
    "neural-fast": Shape("neural-fast", (1, 2, 3, 5, 8), (1, 14), RATES, True),
    "neural-light": Shape("neural-light", (1, 2, 3, 4, 6, 8, 9, 15, 17, 19, 20, 25, 45), (1, 14, 2, 3, 6), RATES, True),
    "neural-full": Shape("neural-full", NEURAL_FULL, (1, 2, 3, 4, 5, 6, 7, 13, 15), RATES, True),
    "neural-large": Shape("neural-large", NEURAL_LARGE, (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 13, 15), RATES, True),
}
NEURAL_LEVELS = {
    1: ("neural-fast", 22),
    2: ("neural-light", 22),
    3: ("neural-light", 24),
    4: ("neural-light", 26),
    5: ("neural-full", 27),
    6: ("neural-full", 28),
    7: ("neural-large", 27),
    8: ("neural-large", 28),
    9: ("neural-large", 29),
}
NEURAL_PLAIN = {
    1: "fast",
    2: "light",
    3: "light",
    4: "medium",
    5: "large",
    6: "large",
    7: "large",
    8: "large",
    9: "large",
}
