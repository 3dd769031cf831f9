"""A picture of a run: training loss and validation over the bytes seen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kolmo.errors import MissingExtraError
from kolmo.targets import replacing

HEADROOM = 2.2  # the highest loss shown, in lowest ones: the first steps would flatten all others
COLOURS = 10  # of matplotlib, which then begins again
STYLES = ("-", "--", ":")  # of lines, one after the other for each round of colours


def draw(entries: list[dict[str, Any]], path: Path, title: str, step_bytes: int) -> None:
    """Write a PNG.

    Args:
        entries: lines of the log.
        path: of the picture.
        title: of the picture.
        step_bytes: of a step, for lines of the log that do not count bytes.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError(
            f"{path}: not drawn, for want of matplotlib ({error}); pip install matplotlib"
        ) from None
    lines = _lines(entries, step_bytes)
    if not any(lines.values()):
        return
    figure = Figure(figsize=(8, 5), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    for number, (name, points) in enumerate(lines.items()):
        if not points:
            continue
        x, y = zip(*points, strict=True)
        label = f"{name}  {y[-1]:.3f}"
        if name == "training":
            axes.plot(x, y, color="0.6", linewidth=1, label=label, zorder=1)
        else:
            style = STYLES[(number - 1) // COLOURS % len(STYLES)]
            axes.plot(x, y, style, marker="o", markersize=3, linewidth=1.5, label=label)
    values = [y for points in lines.values() for _, y in points]
    low, high = min(values), min(max(values), HEADROOM * min(values))
    left = min(x for points in lines.values() for x, y in points if y <= high)
    margin = 0.05 * (high - low) or 0.1
    axes.set(xscale="log", xlabel="bytes seen", ylabel="bits per byte", title=title)
    axes.set(xlim=(left / 1.1, None), ylim=(low - margin, high + margin))
    axes.grid(True, which="both", color="0.9", linewidth=0.6)
    beside: dict[str, Any] = {"loc": "center left", "bbox_to_anchor": (1, 0.5)} if len(lines) > COLOURS else {}
    axes.legend(title="last value", fontsize="small", frameon=False, **beside)
    with replacing(path) as file:
        figure.savefig(file, format="png")


def _lines(entries: list[dict[str, Any]], step_bytes: int) -> dict[str, list[tuple[float, float]]]:
    """(bytes seen, bits per byte) of the training, and of each text in validation."""
    lines: dict[str, list[tuple[float, float]]] = {"training": []}
    for entry in entries:
        seen = entry.get("bytes", entry["step"] * step_bytes)
        if "train" in entry:
            lines["training"].append((seen, entry["train"]))
        for name, bits in entry.get("validation", {}).items():
            lines.setdefault(name, []).append((seen, bits))
    return lines
