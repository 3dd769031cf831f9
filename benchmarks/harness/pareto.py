"""A picture of a lossless table: bits per byte against CPU time, every tool a point, the best ones joined."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

MICRO = 1e6
CLOSE = 2.0, 0.09  # a label stands under a point that has another one within this factor and as many bits above it
Point = tuple[str, float, float]  # name, CPU microseconds a byte, bits per byte


def draw(records: Sequence[dict[str, Any]], target: Path) -> None:
    """Write a PNG of the first file among a report's results."""
    from matplotlib.figure import Figure

    name = records[0]["file"]
    shown = [record for record in records if record["file"] == name and record["size"] and not record["error"]]
    figure = Figure(figsize=(11, 5), dpi=120, layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for panel, way in zip(panels, ("encode", "decode"), strict=True):
        points = [
            (
                one["tool"],
                MICRO * statistics.median(cost["cpu"] for cost in one[way]) / one["raw"],
                8 * one["size"] / one["raw"],
            )
            for one in shown
        ]
        ours = [point for point in points if point[0].startswith("kolmo")]
        others = [point for point in points if point not in ours]
        for group, colour in ((others, "tab:gray"), (ours, "tab:red")):
            panel.scatter([x for _, x, _ in group], [y for _, _, y in group], color=colour, zorder=3)
        best = frontier(points)
        panel.plot([x for _, x, _ in best], [y for _, _, y in best], color="tab:red", alpha=0.4, linewidth=1)
        for label, x, y in points:
            under = any(0 < other - y < CLOSE[1] and x / CLOSE[0] < at < x * CLOSE[0] for _, at, other in points)
            panel.annotate(label, (x, y), xytext=(5, -11 if under else 4), textcoords="offset points", fontsize=8)
        panel.set_xscale("log")
        panel.margins(x=0.18, y=0.08)
        panel.grid(alpha=0.3)
        panel.set_title(f"{way[:-1]}ing")
        panel.set_xlabel("CPU microseconds per byte, one core")
    panels[0].set_ylabel(f"bits per byte, {name}")
    figure.savefig(target)


def frontier(points: Sequence[Point]) -> list[Point]:
    """The points that no other one beats in both respects, from the fastest to the smallest."""
    best: list[Point] = []
    for point in sorted(points, key=lambda p: (p[1], p[2])):
        if not best or point[2] < best[-1][2]:
            best.append(point)
    return best
