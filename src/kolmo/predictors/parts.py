"""What the blocks of a content were taken for, summed by kind: `shares` and, in words, `described`.

What it is not: the way a predictor finds or records its parts (see `Predictor.parts`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from kolmo.predictors.base import BlockPart

STORED_KIND = "stored"  # of a block whose bytes are kept as they are
UNKNOWN_KIND = "unknown"  # of a block whose beginning is damaged
MAX_SHARES = 256  # shares that are told apart; others are counted without their parameters
MAX_DESCRIBED = 12  # shares that are put into words
# Parameters that say little to a person.
HIDDEN = ("order", "offset", "big", "unsigned", "phase", "memory", "window", "filtered", "row", "pixel")
ARCHITECTURES = ("x86-64", "arm64", "x86")  # of programs, by their parameter


@dataclass(frozen=True)
class KindShare:
    """The parts of a content that were taken for one kind, with equal parameters.

    Attributes:
        kind: such as `image`; `stored` for blocks that are not coded, `unknown` for damaged ones.
        size: bytes of these parts together.
        parts: how many they are.
        parameters: of the kind, by name.
    """

    kind: str
    size: int
    parts: int
    parameters: Mapping[str, int]

    def record(self) -> dict[str, object]:
        """As plain data for programs."""
        return {"kind": self.kind, "size": self.size, "parts": self.parts, "parameters": dict(self.parameters)}


class Shares:
    """Adds up parts by kind and parameters, in bounded memory."""

    def __init__(self) -> None:
        self._shares: dict[tuple[str, tuple[tuple[str, int], ...]], KindShare] = {}

    def add(self, parts: Iterable[BlockPart]) -> None:
        """Add the parts of a block."""
        for part in parts:
            key = part.kind, tuple(part.parameters.items())
            if key not in self._shares and len(self._shares) >= MAX_SHARES:
                key = part.kind, ()
            share = self._shares.get(key) or KindShare(part.kind, 0, 0, dict(key[1]))
            self._shares[key] = replace(share, size=share.size + part.size, parts=share.parts + 1)

    def sorted(self) -> tuple[KindShare, ...]:
        """The shares, the largest first."""
        return tuple(sorted(self._shares.values(), key=lambda share: -share.size))


def shares(parts: Iterable[BlockPart]) -> tuple[KindShare, ...]:
    """Parts summed by kind and parameters, the largest first.

    >>> shares([BlockPart("text", 0, 5, {}), BlockPart("image", 5, 90, {"stride": 30}), BlockPart("text", 95, 2, {})])
    (KindShare(kind='image', size=90, parts=1, parameters={'stride': 30}), KindShare(kind='text', size=7, parts=2, \
parameters={}))
    """
    found = Shares()
    found.add(parts)
    return found.sorted()


def described(found: Sequence[KindShare]) -> list[str]:
    """Each share in words, with its percentage of all; a last phrase counts those that are left out.

    >>> described([KindShare("image", 300, 1, {"stride": 30, "channels": 3}), KindShare("text", 100, 2, {})])
    ['image 75% (width 10, 3 channels)', 'text 25%']
    """
    total = sum(share.size for share in found)
    phrases = [f"{share.kind} {_percentage(share.size, total)}{in_words(share)}" for share in found[:MAX_DESCRIBED]]
    left = found[MAX_DESCRIBED:]
    if left:
        phrases.append(f"{len(left)} more {_percentage(sum(share.size for share in left), total)}")
    return phrases


def in_words(part: KindShare | BlockPart) -> str:
    """The parameters of a kind in brackets behind a space: a count before its noun, other numbers behind their names.

    >>> in_words(BlockPart("record", 0, 90, {"record": 30, "width": 2, "order": 0, "offset": 0}))
    ' (record 30, width 2)'
    """
    parameters = dict(part.parameters)
    words = []
    if part.kind == "image" and parameters.get("channels"):
        words.append(f"width {parameters.pop('stride', 0) // parameters['channels']}")
    if part.kind == "program" and parameters.get("architecture", len(ARCHITECTURES)) < len(ARCHITECTURES):
        words.append(ARCHITECTURES[parameters.pop("architecture")])
    words += [_in_words(name, value) for name, value in parameters.items() if name not in HIDDEN]
    return f" ({', '.join(words)})" if words else ""


def _in_words(name: str, value: int) -> str:
    if not name.endswith("s"):
        return f"{name} {value}"
    return f"{value} {name if value != 1 else name[:-1]}"


def _percentage(size: int, total: int) -> str:
    """As a whole number of percent; a small share that is not zero is not called 0 %."""
    rounded = (200 * size + total) // (2 * total) if total else 0
    return f"{rounded}%" if rounded or not size else "<1%"
