"""What shrinking did, in numbers: bits, error, and how far both are from what theory allows.

What it is not: a judgement of the model, which only an evaluation gives. Error is the squared error of weights.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from kolmo.foreign import short
from kolmo.weights.sensitivity import kind_of

if TYPE_CHECKING:
    from kolmo.weights.budget import Budget

COLUMNS = "{:<{width}}  {:>5}  {:>13}  {:>11}  {:>7}  {:>10}  {:>8}"
HEAD = ("Tensor", "Count", "Weights", "Bytes", "Bits", "Error", "Gap")


@dataclass(frozen=True)
class TensorReport:
    """A tensor, or several together.

    Attributes:
        name: of the tensor; `*` for the numbers in which several differ.
        dtype: as safetensors name it.
        shape: its sizes.
        kind: coded, raw or tied.
        count: numbers in it.
        size: bytes in the file.
        error: sum of squared errors; of a coded tensor that was compared.
        power: sum of squares.
        pruned: weights that were made 0 before coding.
        tensors: how many these are.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    kind: str
    count: int
    size: int
    error: float | None = None
    power: float = 0.0
    pruned: int = 0
    tensors: int = 1

    @property
    def bits(self) -> float:
        """Bits a weight."""
        return 8 * self.size / self.count if self.count else 0.0

    @property
    def relative_error(self) -> float | None:
        """Squared error as a part of the power."""
        if self.error is None:
            return None
        return self.error / self.power if self.power else 0.0

    @property
    def gap(self) -> float | None:
        """Decibels above D = 2^(-2R), the least relative error of independent Gaussian weights at R bits.

        Other weights can do better: below 0. None where nothing is lost.
        """
        error = self.relative_error
        return 10 * math.log10(error) + 20 * math.log10(2) * self.bits if error else None

    def record(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "name": self.name,
            "dtype": self.dtype,
            "shape": list(self.shape),
            "kind": self.kind,
            "weights": self.count,
            "size": self.size,
            "bits": self.bits,
            "relative_error": self.relative_error,
            "gap_db": self.gap,
            "pruned": self.pruned,
        }


@dataclass(frozen=True)
class Report:
    """A whole file.

    Attributes:
        size: bytes of the file.
        raw_size: bytes of all tensors as they were, tied ones counted once.
        hyperfunction: name and parameters.
        content: SHA-256 over all tensors as they come back.
        tensors: each of them.
        lossless: coded tensors have residuals, and come back exact.
        budget: what was spent of a limit of loss, where there was one.
    """

    size: int
    raw_size: int
    hyperfunction: dict[str, Any]
    content: str
    tensors: tuple[TensorReport, ...]
    lossless: bool = False
    budget: Budget | None = None

    @property
    def coded(self) -> TensorReport:
        """All coded tensors together."""
        return total("coded", [one for one in self.tensors if one.kind == "coded"])

    @property
    def bits(self) -> float:
        """Bits a number of the whole file, header and raw tensors included; tied tensors counted once."""
        count = sum(one.count for one in self.tensors if one.kind != "tied")
        return 8 * self.size / count if count else 0.0

    def record(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "size": self.size,
            "raw_size": self.raw_size,
            "bits": self.bits,
            "hyperfunction": self.hyperfunction,
            "lossless": self.lossless,
            "sha256": self.content,
            "coded": {k: v for k, v in self.coded.record().items() if k not in ("name", "dtype", "shape", "kind")},
            **({"budget": self.budget.record()} if self.budget else {}),
            "tensors": [one.record() for one in self.tensors],
        }

    def lines(self, *, each: bool = False) -> list[str]:
        """A table: tensors whose names differ in numbers alone together, or each on its own; then totals."""
        rows = list(self.tensors) if each else grouped(self.tensors)
        for kind in ("coded", "raw"):
            rows.append(total(kind, [one for one in self.tensors if one.kind == kind]))
        rows = [replace(row, name=short(row.name)) for row in rows]
        width = max([6, *(len(row.name) for row in rows)])
        shown = [HEAD, *(_cells(row) for row in rows)]
        spent = self.budget.lines() if self.budget else []
        return [COLUMNS.format(*cells, width=width).rstrip() for cells in shown] + [self.summary(), *spent]

    def summary(self) -> str:
        """One line."""
        ratio = f"{self.raw_size / self.size:.2f}" if self.size else "-"
        settings = ", ".join(f"{key} {value:.7g}" for key, value in self.hyperfunction["parameters"].items())
        method = "lossless" if self.lossless else f"{self.hyperfunction['name']}: {settings}"
        return f"{self.raw_size} => {self.size} bytes ({ratio} : 1), {self.bits:.3f} bits a number; {method}"


def total(name: str, parts: Sequence[TensorReport]) -> TensorReport:
    """Several as one."""
    errors = [one.error for one in parts if one.error is not None]
    kinds = {one.dtype for one in parts}
    return TensorReport(
        name,
        kinds.pop() if len(kinds) == 1 else "",
        (),
        parts[0].kind if parts else name,
        sum(one.count for one in parts),
        sum(one.size for one in parts),
        math.fsum(errors) if errors else None,
        math.fsum(one.power for one in parts),
        sum(one.pruned for one in parts),
        len(parts),
    )


def grouped(tensors: Sequence[TensorReport]) -> list[TensorReport]:
    """Tensors of the same role in several layers as one, in order of appearance."""
    groups: dict[tuple[str, str, tuple[int, ...], str], list[TensorReport]] = {}
    for one in tensors:
        groups.setdefault((kind_of(one.name), one.dtype, one.shape, one.kind), []).append(one)
    found = []
    for (pattern, _, shape, _), parts in groups.items():
        found.append(replace(total(pattern, parts), shape=shape) if len(parts) > 1 else parts[0])
    return found


def _cells(row: TensorReport) -> tuple[str, ...]:
    error, gap = row.relative_error, row.gap
    if row.kind != "coded":
        note = row.kind if row.name != row.kind else ""
    else:
        note = "" if error is None else f"{error:.3e}"
    bits = f"{row.bits:.3f}" if row.size and row.count else ""
    above = "" if gap is None else f"{gap:+.2f} dB"
    return row.name, str(row.tensors), str(row.count), str(row.size), bits, note, above
