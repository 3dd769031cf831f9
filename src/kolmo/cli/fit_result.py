"""What `kolmo fit` prints: tables for a person, one object for a program.

What it is not: it computes nothing that `fit` could.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from kolmo.fit.areas import Point, Studies, Study
from kolmo.fit.table import family_of
from kolmo.foreign import short


@dataclass(frozen=True)
class FitResult:
    """All that was found of one table.

    Attributes:
        table: its name.
        studies: the lines.
        wanted: name, or "", and BPC of models to predict.
        level: of intervals.
        figure: where it was drawn, if it was.
    """

    table: str
    studies: Studies
    wanted: list[tuple[str, float]]
    level: float
    figure: str | None

    def asked(self) -> list[Point]:
        """The models of --predict."""
        return [Point(name or f"{bpc:g}", family_of(name) if name else "given", bpc, None) for name, bpc in self.wanted]

    def text(self) -> str:
        """Tables for a person."""
        parts = [self._models(), self._lines(), self._held_out()]
        if self._predicted():
            parts.append(self._predictions())
        return "\n\n".join(part for part in parts if part)

    def _number(self, score: float, sign: str = "") -> str:
        """Scores from 0 to 1 with four digits after the point; percentages with two."""
        scale = max(abs(point.score or 0) for point in self.studies.overall.points)
        return f"{score:{sign}.{4 if scale <= 2 else 2}f}"

    def _models(self) -> str:
        study = self.studies.overall
        rows = []
        for point in sorted(study.points, key=lambda point: point.bpc):
            score, on_line = point.score or 0.0, study.fit.score(point.bpc)
            numbers = [self._number(score), self._number(on_line), self._number(score - on_line, "+")]
            rows.append([point.model, point.family, f"{point.bpc:.4f}", *numbers])
        return _aligned([["model", "family", "BPC", "score", "predicted", "residual"], *rows], left=(0, 1))

    def _lines(self) -> str:
        overall = self.studies.overall
        fit = overall.fit
        head = f"{fit}   rho = {fit.rho:.4f}   e = {self._number(fit.error)}   {fit.count} models\n"
        score = _mean(overall.scores[0])
        if len(overall.scores) > 1:
            score = f"mean over areas of {'; '.join(map(_mean, overall.scores))}"
        head += f"BPC: {short(_mean(overall.bpc), 300)}\nscore: {short(score, 300)}"
        if not self.studies.parts:
            return head
        rows = [
            [part.name, str(part.fit.count), f"{part.fit.rho:.4f}", self._number(part.fit.error), str(part.fit)]
            for part in self.studies.parts
        ]
        name = "area" if self.studies.own_scores else "corpus alone"
        table = _aligned([[name, "models", "rho", "e", "line"], *rows], left=(0, 4))
        return f"{head}\n\n{table}"

    def _held_out(self) -> str:
        held_out = self.studies.overall.held_out
        if not held_out.families:
            return ""
        rows = [
            [out.family, str(out.count), self._number(out.error), self._number(out.bias, "+"), str(out.fit)]
            for out in held_out.families
        ]
        rows.append(["together", str(held_out.count), self._number(held_out.error), "", ""])
        rows += [[family, "", "", "", "too few others"] for family in held_out.skipped]
        return _aligned([["family left out", "models", "e", "mean residual", "line of the others"], *rows], left=(0, 4))

    def _predictions(self) -> str:
        fit = self.studies.overall.fit
        rows = []
        for point in self._predicted():
            expected = fit.predict(point.bpc, self.level)
            span = f"{self._number(expected.low)} to {self._number(expected.high)}"
            beyond = "" if fit.covers(point.bpc) else "beyond the models fitted"
            rows.append([point.model, f"{point.bpc:.4f}", self._number(expected.score), span, beyond])
        return _aligned([["predicted", "BPC", "score", f"{100 * self.level:g} % interval", ""], *rows], left=(0, 3, 4))

    def _predicted(self) -> list[Point]:
        return [*sorted(self.studies.overall.others, key=lambda point: point.bpc), *self.asked()]

    def record(self) -> dict[str, Any]:
        """All of it, for programs."""
        overall = self.studies.overall
        predictions = []
        for point in self._predicted():
            expected = overall.fit.predict(point.bpc, self.level)
            predictions.append(
                {
                    "model": point.model,
                    "bpc": point.bpc,
                    "score": expected.score,
                    "low": expected.low,
                    "high": expected.high,
                    "extrapolated": not overall.fit.covers(point.bpc),
                }
            )
        parts = [{"name": part.name, **_summary(part)} for part in self.studies.parts]
        return {
            "table": self.table,
            **_summary(overall),
            "fitted": [
                {
                    "model": point.model,
                    "family": point.family,
                    "bpc": point.bpc,
                    "score": point.score,
                    "predicted": overall.fit.score(point.bpc),
                    "residual": (point.score or 0.0) - overall.fit.score(point.bpc),
                }
                for point in overall.points
            ],
            "families": [
                {
                    "family": family.family,
                    "models": family.count,
                    "slope": family.fit.slope,
                    "intercept": family.fit.intercept,
                    "error": family.error,
                    "mean_residual": family.bias,
                }
                for family in overall.held_out.families
            ],
            "areas": parts if self.studies.own_scores else [],
            "corpora": [] if self.studies.own_scores else parts,
            "level": self.level,
            "predictions": predictions,
            "figure": self.figure,
        }


def _summary(study: Study) -> dict[str, Any]:
    held_out = study.held_out
    return {
        "bpc": list(study.bpc),
        "score": [list(group) for group in study.scores],
        "models": study.fit.count,
        "slope": study.fit.slope,
        "intercept": study.fit.intercept,
        "rho": study.fit.rho,
        "error": study.fit.error,
        "held_out_error": held_out.error if held_out.count else None,
        "held_out_models": held_out.count,
    }


def _mean(columns: Sequence[str]) -> str:
    return columns[0] if len(columns) == 1 else f"mean of {', '.join(columns)}"


def _aligned(rows: Sequence[Sequence[str]], left: Sequence[int]) -> str:
    """Columns side by side; those of `left` flush left, all others right."""
    shown = [[short(cell) for cell in row] for row in rows]
    widths = [max(len(row[n]) for row in shown) for n in range(len(shown[0]))]
    lines = []
    for row in shown:
        cells = [
            cell.ljust(width) if n in left else cell.rjust(width)
            for n, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
