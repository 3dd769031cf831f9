"""What shrinking did, in numbers: bits, error, and how far both are from what theory allows.

What it is not: a judgement of the model, which only an evaluation gives. Error is the squared error of weights.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from kolmo.foreign import html_table, short
from kolmo.weights.sensitivity import kind_of

if TYPE_CHECKING:
    from kolmo.weights.budget import Budget

COLUMNS = "{:<{width}}  {:>5}  {:>13}  {:>11}  {:>7}  {:>10}  {:>8}"
LOST = 0.5  # of a tensor's power: with more error than that, it is said
NAMED, WORST = 5, 3  # tensors in that warning, and in the summary
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
        typical_error: squared error of the weights up to 16 times the mean magnitude, as a part of their power.
        step: that it was coded with, where it has one.
        wild: weights that are stored as they are, as they are far from all others.
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
    typical_error: float | None = None
    step: float | None = None
    wild: int = 0

    @property
    def worst_error(self) -> float:
        """The larger of relative and typical error: an outlier makes the former small."""
        return max(self.relative_error or 0.0, self.typical_error or 0.0)

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
            "typical_error": self.typical_error,
            "step": self.step,
            "wild": self.wild,
            "gap_db": self.gap,
            "pruned": self.pruned,
        }


@dataclass(frozen=True, repr=False)
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
        notes: what is to be known of the source, and of what a size could not be used for.
    """

    size: int
    raw_size: int
    hyperfunction: dict[str, Any]
    content: str
    tensors: tuple[TensorReport, ...]
    lossless: bool = False
    budget: Budget | None = None
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"Report({', '.join(f'{name}: {value}' for name, value in self._shown().items())})"

    def _repr_html_(self) -> str:
        shown = self._shown()
        return html_table("kolmo: small weights", [*shown], [[*shown.values()]])

    def _shown(self) -> dict[str, str]:
        """What a line of it says."""
        name, coded = self.hyperfunction.get("name", "-"), self.coded
        return {
            "hyperfunction": short(str(name)),
            "tensors": f"{len(self.tensors):,}",
            "bytes": f"{self.size:,} of {self.raw_size:,}",
            "bits a coded weight": f"{coded.bits:.2f}" if coded.count else "-",
        }

    @property
    def warnings(self) -> list[str]:
        """What has gone otherwise than was meant: tensors that lost more than half of themselves, and the notes."""
        lost = sorted((one for one in self.tensors if one.worst_error > LOST), key=lambda one: -one.worst_error)
        if not lost:
            return list(self.notes)
        named = ", ".join(f"{one.name[:80]} ({one.worst_error:.2f})" for one in lost[:NAMED])
        more = f", and {len(lost) - NAMED} more" if len(lost) > NAMED else ""
        what = "1 tensor has" if len(lost) == 1 else f"{len(lost)} tensors have"
        return [
            f"{what} a squared error above half of the weights' squares, so little of them is left: {named}{more}; "
            "allow more bits, or a finer step, or keep them exact",
            *self.notes,
        ]

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
            "warnings": self.warnings,
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
        return [COLUMNS.format(*cells, width=width).rstrip() for cells in shown] + [
            self.summary(),
            *self._worst(),
            *spent,
        ]

    def summary(self) -> str:
        """One line."""
        ratio = f"{self.raw_size / self.size:.2f}" if self.size else "-"
        settings = ", ".join(f"{key} {value:.7g}" for key, value in self.hyperfunction["parameters"].items())
        method = "lossless" if self.lossless else f"{self.hyperfunction['name']}: {settings}"
        return f"{self.raw_size} => {self.size} bytes ({ratio} : 1), {self.bits:.3f} bits a number; {method}"

    def _worst(self) -> list[str]:
        """What errors mean, tensor by tensor: a line, if anything was lost."""
        found = sorted((one for one in self.tensors if one.worst_error), key=lambda one: -one.worst_error)
        if not found:
            return []
        middle = 100 * math.sqrt(found[len(found) // 2].worst_error)
        named = ", ".join(f"{one.name[:80]} {100 * math.sqrt(one.worst_error):.3g} %" for one in found[:WORST])
        return [
            f"weights are off by {middle:.3g} % of their tensor's root mean square (median of tensors), most in {named}"
        ]


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
