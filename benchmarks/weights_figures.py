"""The figures of docs/theory.md, from the tables of docs/benchmarks/weights.md.

    python benchmarks/weights_figures.py docs/benchmarks/weights.md docs/images

Writes theory-gap.png (distance to the rate-distortion bound against bits a weight, of every method on Gaussian and on
heavy-tailed matrices) and theory-loss.png (bits per character that stories260K loses against its size). What it is not:
a measurement; the scripts that the page names make the tables.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

STORIES_WEIGHTS = 259_328
MAX_LOSS = 3.0  # bits per character; beyond it a model says nothing
MARKS = {
    "kolmo: trellis": "o-",
    "kolmo: trellis, 64 states": "o--",
    "kolmo: trellis, calibrated": "o-",
    "kolmo: bitshift": "D-",
    "torus": "v",
    "NNCodec": "s-",
    "ggml": "^",
    "HQQ": "x-",
    "NF4": "*",
    "round to nearest": "+-",
}


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


def losses(sections: dict[str, list[list[str]]]) -> Iterator[Point]:
    """What stories260K loses, of itself and calibrated."""
    for cells in sections["stories260K"]:
        name = family(cells[0])
        if name and len(cells) == 4 and cells[3].startswith(("+", "-")) and "least error" not in cells[0]:
            yield Point(name, float(cells[1]), float(cells[3]))
    for cells in sections["Calibrated"]:
        if cells[0].startswith("kolmo, calibrated, "):
            yield Point("kolmo: trellis, calibrated", float(cells[1]), float(cells[2]))


def draw(axis: Any, points: list[Point], colours: dict[str, str], scale: float = 1.0) -> None:
    """One panel: a line or marks for each family."""
    for name, mark in MARKS.items():
        known = sorted((one.bits * scale, one.value) for one in points if one.family == name)
        if known:
            axis.plot(*zip(*known, strict=True), mark, label=name, color=colours[name], markersize=4, linewidth=1.2)
    axis.grid(alpha=0.3)


def save(drawing: Any, path: Path) -> None:
    """As a PNG of few colours."""
    from PIL import Image

    drawing.tight_layout()
    shown = io.BytesIO()
    drawing.savefig(shown, dpi=90, bbox_inches="tight")
    Image.open(shown).convert("RGB").quantize(64).save(path, optimize=True)


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
    wheel = pyplot.rcParams["axes.prop_cycle"].by_key()["color"]
    colours = {name: wheel[i % len(wheel)] for i, name in enumerate(MARKS)}
    drawing, axes = pyplot.subplots(1, 2, figsize=(10.8, 4.2))
    for column, (axis, kind) in enumerate(zip(axes, ("Gaussian", "heavy-tailed"), strict=True)):
        draw(axis, list(gaps(sections, column)), colours)
        axis.axhline(0, color="black", linewidth=0.8)
        axis.set(title=f"{kind} weights", xlabel="bits a weight", xlim=(1.5, 6.7), ylim=(-2, 10))
    axes[0].set(ylabel="dB above the bound of a Gaussian")
    axes[1].legend(fontsize=7, loc="center left", bbox_to_anchor=(1.02, 0.5))
    save(drawing, given.folder / "theory-gap.png")

    drawing, axis = pyplot.subplots(figsize=(6.4, 4.2))
    points = [one for one in losses(sections) if one.value <= MAX_LOSS]
    draw(axis, points, colours, STORIES_WEIGHTS / 8 / 1000)
    axis.set(xlabel="kilobytes of weights", ylabel="bits per character lost", yscale="log", xlim=(50, 225))
    axis.legend(fontsize=7)
    save(drawing, given.folder / "theory-loss.png")


if __name__ == "__main__":
    main()
