"""A report of tools on files as text, Markdown, CSV, JSON and a page.

What it is not: it measures nothing (`bench.files`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from kolmo.bench.figure import ToolPoint, pareto
from kolmo.bench.peers import Tool
from kolmo.foreign import csv_table, html_table, markdown_text, short

if TYPE_CHECKING:
    from kolmo.bench.files import Cell, FilesReport

KB, MB = 1000, 1_000_000
HEAD = ("tool", "bytes", "of raw", "packs KB/s", "unpacks KB/s", "MB of memory")
COLUMNS = (
    *("tool", "version", "file", "raw_bytes", "packed_bytes", "bits_per_byte"),
    *("encode_cpu_seconds", "decode_cpu_seconds", "encode_wall_seconds", "decode_wall_seconds"),
    *("peak_memory_bytes", "compared", "error"),
)
NOTE = (
    "Everything was unpacked and compared: byte by byte, for codecs of pictures and sounds by pixels and samples. "
    "Speeds are of CPU time of whole processes on one thread, start and end included; 1 KB = 1,000 bytes. Compare rows "
    "of one run alone."
)


def text_table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in columns for a terminal: the first to the left, all others to the right."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    lines = [
        "  ".join(
            cell.ljust(width) if k == 0 else cell.rjust(width)
            for k, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in [head, *rows]
    ]
    return "\n".join([title, *lines])


def _summary(cell: Cell) -> list[str]:
    """The figures of a row of `HEAD` behind the tool."""
    return [
        f"{cell.size:,}",
        f"{100 * cell.size / cell.raw:.2f} %",
        *(f"{cell.raw / KB / max(seconds, 1e-6):,.0f}" for seconds in (cell.encode_seconds, cell.decode_seconds)),
        f"{cell.peak / MB:,.0f}" if cell.peak else "-",
    ]


def _tables(report: FilesReport) -> Iterator[tuple[str, Sequence[str], list[list[str]]]]:
    """Title, head and rows of each table: totals, then each file where there are several."""
    totals = [(tool, total) for tool in report.tools if (total := report.total(tool))]
    raw = sum(report.files.values())
    name = short(next(iter(report.files))) if len(report.files) == 1 else f"{len(report.files)} files"
    ranked = sorted(totals, key=lambda one: one[1].size)
    if totals:
        yield f"{name}: {raw:,} bytes", HEAD, [[tool.label, *_summary(total)] for tool, total in ranked]
    if len(report.files) == 1:
        rest = [tool for tool in report.tools if report.total(tool) is None and _errors(report, tool)]
        if rest:
            yield "Not measured", ("tool", "why"), [[tool.label, _errors(report, tool)] for tool in rest]
        return
    yield (
        "Bytes of each file",
        ("file", "raw", *(tool.label for tool in report.tools)),
        [
            [short(file), f"{size:,}", *(_size(report.cells.get((tool.key, file))) for tool in report.tools)]
            for file, size in report.files.items()
        ],
    )


def _errors(report: FilesReport, tool: Tool) -> str:
    return "; ".join(cell.error for (key, _), cell in report.cells.items() if key == tool.key and cell.error)


def _size(cell: Cell | None) -> str:
    return "-" if cell is None else f"{cell.size:,}" if cell.done else "WRONG" if "WRONG" in cell.error else "failed"


def text(report: FilesReport) -> str:
    """Tables for a terminal; of several files, the three smallest results of each."""
    parts = []
    for title, head, rows in _tables(report):
        if title == "Bytes of each file":
            rows, head = _turned(head, rows)
        parts.append(text_table(title, head, rows))
    parts += [f"{failure}" for failure in report.failures]
    return "\n\n".join(parts)


def _turned(head: Sequence[str], rows: list[list[str]]) -> tuple[list[list[str]], Sequence[str]]:
    """For each file a line: its size, and the three smallest results with their tools."""
    lines = []
    for row in rows:
        sizes = [
            (int(cell.replace(",", "")), cell, tool)
            for cell, tool in zip(row[2:], head[2:], strict=True)
            if cell[0].isdigit()
        ]
        best = [f"{cell} {tool}" for _, cell, tool in sorted(sizes)[:3]]
        lines.append([*row[:2], *best, *[""] * (3 - len(best))])
    return lines, ("file", "raw", "smallest", "second", "third")


def markdown(report: FilesReport) -> str:
    """Tables in Markdown."""
    parts = ["# Compressors on these files\n"]
    for title, head, rows in _tables(report):
        cells = [list(head), ["---", *["---:"] * (len(head) - 1)], *([*map(markdown_text, row)] for row in rows)]
        parts.append(f"## {markdown_text(title)}\n\n" + "\n".join(f"| {' | '.join(row)} |" for row in cells) + "\n")
    parts.append(f"{NOTE} {_runs(report)}\n")
    if report.failures:
        parts.append("\n".join(f"- {markdown_text(failure)}" for failure in report.failures) + "\n")
    versions = ", ".join(f"{label} {version}".strip() for label, version in report.versions.items())
    parts.append(f"{markdown_text(report.machine)}. {markdown_text(versions)}.\n")
    return "\n".join(parts)


def _runs(report: FilesReport) -> str:
    return "One run each." if report.repeat == 1 else f"Medians of {report.repeat} runs, the tools taking turns."


def csv(report: FilesReport) -> str:
    """A row for each tool and file."""
    return csv_table([COLUMNS, *([row[name] for name in COLUMNS] for row in _rows(report))])


def _rows(report: FilesReport) -> Iterator[dict[str, Any]]:
    for tool in report.tools:
        for file, raw in report.files.items():
            cell = report.cells.get((tool.key, file))
            if cell is None:
                continue
            row: dict[str, Any] = dict.fromkeys(COLUMNS)
            row |= {"tool": tool.label, "version": report.versions[tool.label], "file": file, "raw_bytes": raw}
            row |= {"compared": "yes" if cell.done else "no", "error": cell.error}
            if cell.done:
                row |= {
                    "packed_bytes": cell.size,
                    "bits_per_byte": round(8 * cell.size / raw, 4),
                    "encode_cpu_seconds": round(cell.encode_seconds, 4),
                    "decode_cpu_seconds": round(cell.decode_seconds, 4),
                    "encode_wall_seconds": round(min(cost.wall for cost in cell.encodes), 4),
                    "decode_wall_seconds": round(min(cost.wall for cost in cell.decodes), 4),
                    "peak_memory_bytes": cell.peak or None,
                }
            yield row


def record(report: FilesReport) -> dict[str, Any]:
    """All figures, for JSON."""
    return {
        "machine": report.machine,
        "repeat": report.repeat,
        "files": report.files,
        "versions": report.versions,
        "results": list(_rows(report)),
        "failures": report.failures,
    }


def points(report: FilesReport) -> list[ToolPoint]:
    """Each tool that took all files, as a point of the picture."""
    found = []
    for tool in report.tools:
        total = report.total(tool)
        if total is not None:
            seconds = max(total.encode_seconds, 1e-4) / (total.raw / MB)
            found.append(ToolPoint(tool.label, total.size / total.raw, seconds, tool.programs == ("kolmo",)))
    return found


def html(report: FilesReport) -> str:
    """A page that needs no other file: tables, and bytes against CPU time."""
    from pathlib import Path

    from kolmo.foreign import html as escaped
    from kolmo.page_frame import head, tail

    style = Path(__file__).with_name("bench.css").read_text("utf-8")
    parts = [*head("Compressors on these files", style, ""), "<h1>Compressors on these files</h1>\n"]
    parts.append(f"<figure>{pareto(points(report), 'packed size against CPU time')}</figure>\n")
    for title, heads, rows in _tables(report):
        parts.append(html_table(title, heads, rows))
    versions = ", ".join(f"{label} {version}".strip() for label, version in report.versions.items())
    parts.append(f"<p>{escaped(NOTE)} {_runs(report)}</p>\n<p>{escaped(report.machine)}. {escaped(versions)}.</p>\n")
    if report.failures:
        parts.append("<ul>" + "".join(f"<li>{escaped(failure)}</li>" for failure in report.failures) + "</ul>\n")
    return "".join([*parts, tail()])
