"""What determines a run's result, apart from its texts; written to its folder and compared when it goes on.

What it is not: it needs no torch.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
NAMES = {"seconds": "s", "bytes": "B", "steps": "steps"}
POWERS = {"": 0, "K": 10, "M": 20, "G": 30, "T": 40}


@dataclass(frozen=True)
class Budget:
    """How long to train.

    Attributes:
        amount: in the unit.
        unit: `seconds` of training, validation apart; `bytes` of text; `steps`.
    """

    amount: float
    unit: str

    @classmethod
    def parse(cls, text: str) -> Budget:
        """The budget that "2h", "90m", "300MB" or "2000steps" names; K, M, G and T are powers of 1024.

        Raises:
            ValueError: none.
        """
        if match := re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?) ?([smhd])", text, re.ASCII):
            budget = cls(float(match[1]) * SECONDS[match[2]], "seconds")
        elif match := re.fullmatch(r"(\d{1,15}) ?([KMGT]?)i?B", text, re.ASCII):
            budget = cls(int(match[1]) << POWERS[match[2]], "bytes")
        elif match := re.fullmatch(r"(\d{1,15}) ?steps?", text, re.ASCII):
            budget = cls(int(match[1]), "steps")
        else:
            raise ValueError(f"{text!r} is not a budget")
        if not budget.amount:
            raise ValueError(f"{text!r} is not a time to learn anything")
        return budget

    def progress(self, *, seconds: float, seen: int, steps: int) -> float:
        """Part of the budget that is spent; 1 or more: all.

        Args:
            seconds: of training.
            seen: bytes.
            steps: done.
        """
        return {"seconds": seconds, "bytes": seen, "steps": steps}[self.unit] / self.amount

    def __str__(self) -> str:
        """In a form that `parse` takes."""
        return f"{self.amount:.15g}{NAMES[self.unit]}"


@dataclass(frozen=True)
class Settings:
    """How to train.

    Attributes:
        budget: how long.
        lanes: texts read at once.
        steps: symbols of each lane in a batch, through which gradients flow.
        dtype: of the matrix products, `bfloat16` or `float32`.
        seed: of the first weights and of the order of the text.
        vocabulary: `bytes` or `bpe:N`.
        quantise_from: part of the budget from which on weights pass through the exact network's integers.
        rate: factor of all learning rates.
        muon_rate, adam_rate, table_rate: of products' weights, of hashed tables, of all else.
        warm_up: part of the budget in which the rates rise.
        final: last learning rate, of the first.
        early_stop: go back to the best weights, and to the end of the schedule, once held-out data become worse.
        init: name of the file with the first weights, or None.
    """

    budget: Budget
    lanes: int = 32
    steps: int = 256
    dtype: str = "float32"
    seed: int = 1
    vocabulary: str = "bytes"
    quantise_from: float = 0.85
    rate: float = 1.0
    muon_rate: float = 0.02
    adam_rate: float = 0.008
    table_rate: float = 0.012
    warm_up: float = 0.01
    final: float = 0.04
    early_stop: bool = True
    init: str | None = None

    def describe(self) -> dict[str, Any]:
        """All of it, ready for JSON."""
        return {**vars(self), "budget": str(self.budget)}


def compare(old: Any, new: Any, name: str = "") -> str | None:
    """The first difference of two descriptions in words, or None; texts in lists go by their names."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = [*old, *(key for key in new if key not in old)]
        found = (compare(old.get(key), new.get(key), f"{name} {key}".strip()) for key in keys)
        return next(filter(None, found), None)
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        found = (compare(a, b, f"{name} {_label(a, i)}") for i, (a, b) in enumerate(zip(old, new, strict=True), 1))
        return next(filter(None, found), None)
    if old == new:
        return None
    if isinstance(old, list) and isinstance(new, list):
        return f"{len(old)} {name}, not {len(new)}"
    return f"{name} {old}, not {new}"


def _label(content: Any, number: int) -> str:
    return str(content["name"]) if isinstance(content, dict) and "name" in content else str(number)
