"""The figures of docs/theory.md, from the tables of docs/benchmarks/weights.md.

    python benchmarks/weights_figures.py docs/benchmarks/weights.md docs/images

Writes theory-gap.png (distance to the rate-distortion bound against bits a weight, of every method on Gaussian and on
heavy-tailed matrices) and theory-loss.png (bits per character that stories260K loses against its size, and SmolLM2-135M
once the page has kolmo on it). What it is not: a measurement; the scripts that the page names make the tables.
"""

from __future__ import annotations

import argparse
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

STORIES_WEIGHTS, SMOLLM2_WEIGHTS = 259_328, 134_479_872
MAX_LOSS = 3.0  # bits per character; beyond it a model says nothing
STYLES = {  # marks and lines, and colours
    "kolmo: trellis": ("o-", "C0"),
    "kolmo: trellis, 64 states": ("o--", "C1"),
    "kolmo: trellis, calibrated": ("o-", "C2"),
    "kolmo: bitshift": ("D-", "C3"),
    "kolmo: bitshift, calibrated": ("D--", "C1"),
    "scalar with entropy coding": ("p:", "C0"),
    "scalar with entropy coding, calibrated": ("p:", "C2"),
    "GPTQ": ("X-", "black"),
    "torus": ("v", "C8"),
    "NNCodec": ("s-", "C5"),
    "ggml": ("^", "C6"),
    "HQQ": ("x-", "C7"),
    "NF4": ("*", "C4"),
    "round to nearest": ("+-", "C9"),
}
KINDS = {"kolmo": "kolmo: trellis", "bitshift": "kolmo: bitshift"}  # as rows of calibrations have them
CALIBRATED_ROW = re.compile(r"(.+?), [\d.]+ bit")  # method, bits


class Point(NamedTuple):
    """A method at one size: its family, bits a weight, and its gap in dB or its loss in bits per character."""

    family: str
    bits: float
    value: float


def tables(page: Path) -> dict[str, list[list[str]]]:
    """The rows of all tables of each section, by the section's heading; headings of tables are rows too."""
    found: dict[str, list[list[str]]] = {}
    heading = ""
    for line in page.read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            heading = line.lstrip("#").strip()
        elif line.startswith("| "):
            found.setdefault(heading, []).append([cell.strip() for cell in line.strip("|").split("|")])
    return found


def family(method: str) -> str | None:
    """The family that a row of a table belongs to; None if it is not drawn."""
    if method.startswith("kolmo"):
        if "64 states" in method:
            return "kolmo: trellis, 64 states"
        return "kolmo: trellis"
    for prefix, name in (("bitsandbytes", "NF4"), ("torus, preset", "torus"), ("NNCodec, QP", "NNCodec")):
        if method.startswith(prefix):
            return name
    return next((name for name in ("ggml", "HQQ", "round to nearest") if method.startswith(name)), None)


def gaps(sections: dict[str, list[list[str]]], column: int) -> Iterator[Point]:
    """The gaps on Gaussian (column 0) or heavy-tailed (1) matrices."""
    for cells in sections["Beside the peers, on made matrices"]:
        name = family(cells[0])
        if name and len(cells) == 4 and not (cells[0].startswith("kolmo") and "least error" not in cells[0]):
            yield Point(name, float(cells[1].split(" / ")[column]), float(cells[2 + column]))
    for cells in sections["The bitshift trellis alone"]:
        if cells[0] == ("Gaussian, 4096 states", "heavy-tailed, 4096 states")[column]:
            yield Point("kolmo: bitshift", float(cells[1]), float(cells[2]))


def losses(sections: dict[str, list[list[str]]], model: str) -> Iterator[Point]:
    """What a model loses on the first text of its section of calibrations; of stories260K, by the peers too."""
    for cells in sections["stories260K"] if model == "stories260K" else []:
        name = family(cells[0])
        if name and len(cells) == 4 and not cells[0].startswith("kolmo") and cells[3].startswith(("+", "-")):
            yield Point(name, float(cells[1]), float(cells[3]))
    for cells in sections.get("Calibrated" if model == "stories260K" else f"Calibrated, {model}", []):
        if match := CALIBRATED_ROW.match(cells[0]):
            name = re.sub("^(kolmo|bitshift)", lambda kind: KINDS[kind[1]], match[1])
            yield Point(name, float(cells[1]), float(cells[2]))


def draw(axis: Any, points: list[Point], scale: float = 1.0) -> None:
    """One panel: a line or marks for each family."""
    for name, (mark, colour) in STYLES.items():
        known = sorted((one.bits * scale, one.value) for one in points if one.family == name)
        if known:
            axis.plot(*zip(*known, strict=True), mark, label=name, color=colour, markersize=4, linewidth=1.2)
    axis.grid(alpha=0.3)


def beside(axis: Any, *entries: Any) -> None:
    """A legend to the right of a panel; of its own entries, if none are given."""
    axis.legend(*entries, fontsize=7, loc="center left", bbox_to_anchor=(1.02, 0.5))


def save(drawing: Any, path: Path) -> None:
    """As a PNG of 256 colours."""
    from PIL import Image

    drawing.tight_layout()
    shown = io.BytesIO()
    drawing.savefig(shown, dpi=90, bbox_inches="tight")
    Image.open(shown).convert("RGB").quantize(256).save(path, optimize=True)


def main() -> None:
    """Read the page, draw both figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("page", type=Path)
    parser.add_argument("folder", type=Path)
    given = parser.parse_args()
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    sections = tables(given.page)
    drawing, axes = pyplot.subplots(1, 2, figsize=(10.8, 4.2))
    for column, (axis, kind) in enumerate(zip(axes, ("Gaussian", "heavy-tailed"), strict=True)):
        draw(axis, list(gaps(sections, column)))
        axis.axhline(0, color="black", linewidth=0.8)
        axis.set(title=f"{kind} weights", xlabel="bits a weight", xlim=(1.5, 6.7), ylim=(-2, 10))
    axes[0].set(ylabel="dB above the bound of a Gaussian")
    beside(axes[1])
    save(drawing, given.folder / "theory-gap.png")

    models = [("stories260K", STORIES_WEIGHTS, 1e3, "kilobytes")]
    if any(one.family == "kolmo: trellis, calibrated" for one in losses(sections, "SmolLM2-135M")):
        models.append(("SmolLM2-135M", SMOLLM2_WEIGHTS, 1e6, "megabytes"))
    drawing, panels = pyplot.subplots(1, len(models), figsize=(2.4 + 4.2 * len(models), 4.2), squeeze=False)
    for axis, (model, weights, unit, name) in zip(panels[0], models, strict=True):
        points = [one for one in losses(sections, model) if one.value <= MAX_LOSS]
        draw(axis, points, weights / 8 / unit)
        axis.set(title=model, xlabel=f"{name} of weights", yscale="log")
    panels[0, 0].set(ylabel="bits per character lost", xlim=(50, 225))
    beside(panels[0, -1], *panels[0, 0].get_legend_handles_labels())
    save(drawing, given.folder / "theory-loss.png")


if __name__ == "__main__":
    main()
