"""From measured cells to tables in Markdown."""

from __future__ import annotations

import resource
from collections.abc import Sequence
from pathlib import Path

from harness.files import HEADLINE, MB, SOURCES
from harness.measuring import Cell, Cells
from harness.tools import Tool
from kolmo.bench.processes import RSS_UNIT


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table: the first column to the left, figures to the right."""
    rule = ["---"] + ["---:"] * (len(head) - 1)
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, rule, *rows)) + "\n"


def bits(cell: Cell) -> str:
    """Bytes, and bits per byte of the raw file."""
    return f"{cell.size:,} ({8 * cell.size / cell.raw:.3f})"


def speeds(cell: Cell) -> str:
    """Encoding and decoding speed in KB/s."""
    return " / ".join(f"{cell.speed(costs):,.0f}" for costs in (cell.encodes, cell.decodes))


def peak(cells: Sequence[Cell]) -> str:
    """The largest peak of a tool over all files, in MB."""
    peaks = [cost.peak for cell in cells for cost in cell.encodes + cell.decodes]
    return f"{max(peaks) / MB:,.0f}" if peaks else "-"


def tables(tools: dict[str, Tool], files: dict[str, Path], cells: Cells) -> str:
    """The size tables and the speed table in Markdown."""
    headline = [name for name in HEADLINE if name in files]
    others = [name for name in files if name not in headline]
    long = [name for name in files if files[name].stat().st_size >= MB] or list(files)
    parts = []
    if headline:
        rows = [[t.label, *(cells[key, name].show(bits) for name in headline)] for key, t in tools.items()]
        parts += ["## Sizes: bytes (bits per byte)\n", table(["tool", *headline], rows)]
    if others:
        rows = [
            [name, f"{files[name].stat().st_size:,}"]
            + [cells[key, name].show(lambda cell: f"{cell.size:,}") for key in tools]
            for name in others
        ]
        parts += ["## Other files: bytes\n", table(["file", "raw", *(t.label for t in tools.values())], rows)]
    rows = [
        [
            t.label,
            *(cells[key, name].show(speeds) for name in long),
            peak([cells[key, name] for name in files]),
        ]
        for key, t in tools.items()
    ]
    parts += [
        "## Speed: KB/s of CPU time on one core, encoding / decoding\n",
        table(["tool", *long, "peak MB"], rows),
        "Whole processes, start and end included; files under 1 MB would show little else and are left out. "
        "Peak: the most resident memory over all files; this program's own "
        f"({own_peak() / MB:.0f} MB) is the least that can be seen.\n",
    ]
    parts += ["## Files\n", "\n".join(f"- {name}: {SOURCES[name].about}" for name in files) + "\n"]
    return "\n".join(parts)


def own_peak() -> int:
    """The program's own peak of resident bytes: a floor under every child's, which starts as a copy of it."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * RSS_UNIT
