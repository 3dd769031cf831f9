"""The report of a shrunk file: sizes, bits and errors of its tensors, and their distance from the theoretical bound.

What it is not: a judgement of the model, which only an evaluation gives. Errors are squared errors of weights.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from kolmo.foreign import html_table, short
from kolmo.weights.choice.budget import LossBudget
from kolmo.weights.choice.sensitivity import kind_of
from kolmo.weights.format.reader import ShrunkFile
from kolmo.weights.gguf.file import ShrunkGguf

COLUMNS = "{:<{width}}  {:>5}  {:>13}  {:>11}  {:>7}  {:>10}  {:>8}"
MAX_ERROR = 0.5  # relative error of a tensor above which there is a warning
MAX_WARNED_NAMES = 5  # tensors that the warning names
MAX_SUMMARY_NAMES = 3  # tensors that the summary names
HEAD = ("Tensor", "Count", "Weights", "Bytes", "Bits", "Error", "Gap")


@dataclass(frozen=True)
class TensorReport:
    """One tensor, or several together.

    Attributes:
        name: name of the tensor; for several, `*` stands for the numbers in which their names differ.
        dtype: dtype, as safetensors name it.
        shape: shape.
        kind: coded, raw or tied.
        count: number of weights.
        size: bytes in the file.
        error: sum of squared errors; None unless a coded tensor was compared with its source.
        power: sum of squares.
        pruned: number of weights that became 0 before coding.
        tensors: number of tensors.
        typical_error: squared error of the weights up to 16 times the mean magnitude, relative to their power.
        hyperfunction: name of the hyperfunction; None if the code is not a payload.
        parameters: its parameters.
        wild: number of weights that are stored unchanged, because they are far from all others.
        calibrated: whether a calibration weighed the errors of all of them.
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
    hyperfunction: str | None = None
    parameters: Mapping[str, int | float] = field(default_factory=dict)
    wild: int = 0
    calibrated: bool = False

    @property
    def step(self) -> float | None:
        """The quantisation step; None if there is none."""
        return self.parameters.get("step")

    @property
    def worst_error(self) -> float:
        """The larger one of relative and typical error; an outlier makes the former small."""
        return max(self.relative_error or 0.0, self.typical_error or 0.0)

    @property
    def bits(self) -> float:
        """Bits per weight."""
        return 8 * self.size / self.count if self.count else 0.0

    @property
    def relative_error(self) -> float | None:
        """Squared error relative to the power."""
        if self.error is None:
            return None
        return self.error / self.power if self.power else 0.0

    @property
    def gap(self) -> float | None:
        """Decibels above D = 2^(-2R), the least relative error of independent Gaussian weights at R bits.

        For other weights it can be below 0. None if nothing is lost.
        """
        error = self.relative_error
        return 10 * math.log10(error) + 20 * math.log10(2) * self.bits if error else None

    def record(self) -> dict[str, Any]:
        """The report as JSON values."""
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
            "hyperfunction": self.hyperfunction,
            "parameters": dict(self.parameters),
            "step": self.step,
            "wild": self.wild,
            "calibrated": self.calibrated,
            "gap_db": self.gap,
            "pruned": self.pruned,
        }


@dataclass(frozen=True, repr=False)
class ShrinkReport:
    """The report of a whole file.

    Attributes:
        size: bytes of the file.
        raw_size: bytes of all tensors of the source, tied ones counted once; of a GGUF file its size.
        content: SHA-256 over all tensors as a reader returns them; of a GGUF file its own.
        tensors: the report of each tensor.
        lossless: whether coded tensors have residuals, and come back exact.
        budget: the search for a step by its loss, if there was one.
        notes: sentences about the source, and about a size that could not be used.
    """

    size: int
    raw_size: int
    content: str
    tensors: tuple[TensorReport, ...]
    lossless: bool = False
    budget: LossBudget | None = None
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"ShrinkReport({', '.join(f'{name}: {value}' for name, value in self._shown().items())})"

    def _repr_html_(self) -> str:
        shown = self._shown()
        return html_table("kolmo: small weights", [*shown], [[*shown.values()]])

    def _shown(self) -> dict[str, str]:
        """Labels and values of the short representation."""
        coded = self.coded
        return {
            "hyperfunctions": short(", ".join(self.hyperfunctions) or "-"),
            "tensors": f"{len(self.tensors):,}",
            "bytes": f"{self.size:,} of {self.raw_size:,}",
            "bits a coded weight": f"{coded.bits:.2f}" if coded.count else "-",
        }

    @property
    def warnings(self) -> list[str]:
        """Tensors that lost more than half of themselves unforeseen by a calibration, and the notes, as sentences."""
        lost = [one for one in self.tensors if one.worst_error > MAX_ERROR and not one.calibrated]
        lost.sort(key=lambda one: -one.worst_error)
        if not lost:
            return list(self.notes)
        named = ", ".join(f"{one.name[:80]} ({one.worst_error:.2f})" for one in lost[:MAX_WARNED_NAMES])
        more = f", and {len(lost) - MAX_WARNED_NAMES} more" if len(lost) > MAX_WARNED_NAMES else ""
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
    def hyperfunctions(self) -> list[str]:
        """The names of the hyperfunctions of the coded tensors."""
        return list(dict.fromkeys(one.hyperfunction for one in self.tensors if one.hyperfunction))

    @property
    def step(self) -> float | None:
        """The geometric mean of the steps over all weights; None if no tensor has a step."""
        logs = [(one.count, math.log2(one.step)) for one in self.tensors if one.step]
        return 2.0 ** (math.fsum(n * log for n, log in logs) / sum(n for n, _ in logs)) if logs else None

    @property
    def bits(self) -> float:
        """Bits per number of the whole file, header and raw tensors included; tied tensors are counted once."""
        count = sum(one.count for one in self.tensors if one.kind != "tied")
        return 8 * self.size / count if count else 0.0

    def record(self) -> dict[str, Any]:
        """The report as JSON values."""
        return {
            "size": self.size,
            "raw_size": self.raw_size,
            "bits": self.bits,
            "hyperfunctions": self.hyperfunctions,
            "lossless": self.lossless,
            "sha256": self.content,
            "coded": {k: v for k, v in self.coded.record().items() if k not in ("name", "dtype", "shape", "kind")},
            "warnings": self.warnings,
            **({"budget": self.budget.record()} if self.budget else {}),
            "tensors": [one.record() for one in self.tensors],
        }

    def lines(self, *, each: bool = False) -> list[str]:
        """A table, then totals. Tensors whose names differ only in numbers share a row, unless `each` is given."""
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
        """One line about the whole file."""
        ratio = f"{self.raw_size / self.size:.2f}" if self.size else "-"
        method = "lossless" if self.lossless else "; ".join(self._methods()) or "all tensors raw"
        return f"{self.raw_size} => {self.size} bytes ({ratio} : 1), {self.bits:.3f} bits a number; {method}"

    def _methods(self) -> list[str]:
        """Each hyperfunction with its parameters; those that differ only in the step together."""
        steps: dict[tuple[str, str], list[float]] = {}
        for one in self.tensors:
            if one.hyperfunction:
                others = ", ".join(f"{key} {value:.7g}" for key, value in one.parameters.items() if key != "step")
                steps.setdefault((one.hyperfunction, others), []).extend(() if one.step is None else (one.step,))
        found = []
        for (name, others), values in steps.items():
            ends = dict.fromkeys((min(values), max(values))) if values else {}
            step = "step " + " to ".join(f"{end:.5g}" for end in ends) if ends else ""
            found.append(f"{name}: {', '.join(filter(None, (step, others)))}")
        return found

    def _worst(self) -> list[str]:
        """A line about the errors of tensors, if anything was lost."""
        found = sorted((one for one in self.tensors if one.worst_error), key=lambda one: -one.worst_error)
        if not found:
            return []
        middle = 100 * math.sqrt(found[len(found) // 2].worst_error)
        named = ", ".join(
            f"{one.name[:80]} {100 * math.sqrt(one.worst_error):.3g} %" for one in found[:MAX_SUMMARY_NAMES]
        )
        return [
            f"weights are off by {middle:.3g} % of their tensor's root mean square (median of tensors), most in {named}"
        ]


def describe(file: ShrunkFile) -> ShrinkReport:
    """The report of a shrunk file by its header alone: sizes and bits, but no errors, which the file does not hold."""
    record, tensors = file.record, []
    for name in file.names:
        one = file.kind(name)
        kind = "coded" if name in record.coded else "raw" if name in record.raw else "tied"
        found = TensorReport(name, one.dtype, one.shape, kind, one.count, file.stored_size(name))
        if kind == "coded":
            function, entry = file.hyperfunction(name), record.coded[name]
            found = replace(found, wild=entry.wild, calibrated=entry.scales > 0)
            if function:
                found = replace(found, hyperfunction=function.name, parameters=function.parameters)
        tensors.append(found)
    raw = sum(file.raw_size(one.name) for one in tensors if one.kind != "tied")
    exact = any(one.base for one in record.coded.values())
    content = record.content(file.header.places)
    return ShrinkReport(file.path.stat().st_size, raw, content, tuple(tensors), exact)


def describe_gguf(file: ShrunkGguf) -> ShrinkReport:
    """The report of a shrunk GGUF file: a row for each type of its tensors, and one for all other bytes."""
    rows = [
        TensorReport(name, name, (), "coded" if weights else "raw", weights, stored)
        for name, (weights, _, stored) in file.by_type().items()
    ]
    return ShrinkReport(file.packed_size, file.size, file.sha256, tuple(rows), lossless=True)


def total(name: str, parts: Sequence[TensorReport]) -> TensorReport:
    """Several tensors as one."""
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
        calibrated=bool(parts) and all(one.calibrated for one in parts),
    )


def grouped(tensors: Sequence[TensorReport]) -> list[TensorReport]:
    """Tensors of one role in several layers as one, in order of appearance."""
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
