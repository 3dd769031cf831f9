"""What kolmo costs as the input grows: CPU time and memory from 10 KB on."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from harness.files import KB, MB, text_folder
from harness.measuring import log, one_core, round_trip
from harness.tables import table
from harness.tools import kolmo
from kolmo.bench.processes import ToolError

PARTS = ("dickens", "world192.txt", "xml")  # joined, and again as often as needed
SLICE = 1 << 20


def growth(levels: Sequence[int], most: int, work: Path) -> tuple[str, dict[str, object]]:
    """CPU time and peak memory of levels on 10 KB, 100 KB, ... up to `most` bytes, one round trip each.

    Longer inputs repeat the texts, so sizes are left out: they would be those of copies.
    """
    title = "## As the input grows: CPU seconds and peak MB, encoding / decoding, one core\n"
    program = kolmo(1).program()
    if program is None:
        return f"{title}\nSkipped: kolmo is not installed.\n", {"skipped": "kolmo is not installed"}
    sizes = [size for size in (10 * KB, 100 * KB, MB, 10 * MB, 100 * MB) if size <= most]
    rows, results = [], []
    with one_core():
        for size in sizes:
            plain = grown(size, work / f"grown-{size}")
            row = [f"{size:,}"]
            for level in levels:
                log(f"growth: {size:,} bytes, kolmo -{level}")
                _, *costs = round_trip(kolmo(level), program, plain, work)
                row.append(" / ".join(f"{cost.cpu:,.2f}" for cost in costs))
                row.append(" / ".join(f"{cost.peak / MB:,.0f}" for cost in costs))
                results.append({"level": level, "bytes": size, "costs": [vars(cost) for cost in costs]})
            rows.append(row)
            plain.unlink()
    head = ["bytes", *(column for level in levels for column in (f"-{level}: s", f"-{level}: MB"))]
    return f"{title}\n{table(head, rows)}", {"results": results}


def grown(size: int, target: Path) -> Path:
    """Write `size` bytes: the texts one after the other, again and again."""
    paths = [text_folder() / part for part in PARTS]
    if not any(os.path.getsize(path) for path in paths):
        raise ToolError("the texts are empty")
    left = size
    with target.open("wb") as out:
        while left:
            for path in paths:
                with path.open("rb") as text:
                    while left and (piece := text.read(min(left, SLICE))):
                        left -= out.write(piece)
    return target
