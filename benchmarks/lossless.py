"""Measure kolmo beside its peers: bytes, CPU time and memory; scaling over cores; endless streams.

Every tool runs as its user runs it, as a process of its own on one core, and every result is decompressed and
compared byte for byte before its size counts. A tool that is not installed is a row that says so; a tool that
fails or returns other bytes is marked, and the program then exits with status 1.

What it is not: a test of the package, or a judge between runs. Compare rows of one table only: another
machine has other speeds, and so has the same one on another day.

    KOLMO_DATA=DIR python benchmarks/lossless.py --quick
    KOLMO_DATA=DIR python benchmarks/lossless.py --markdown docs/benchmarks/lossless.md --scaling --stream

`DIR/bench/text` holds the files (see harness/files.py). Needs nothing but kolmo, and POSIX (os.wait4).
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from harness.files import HEADLINE, MB, ON_REQUEST, SOURCES, build
from harness.growth import growth
from harness.measuring import log, measure, one_core
from harness.pareto import draw
from harness.report import machine, render, startup, versions
from harness.scaling import scaling, streaming
from harness.tables import tables
from harness.tools import PEERS, Tool, kolmo
from kolmo.bench.processes import ToolError


def choose(words: str, known: Sequence[str], what: str) -> list[str]:
    """The known names that a comma-separated list asks for: by name, or by the part before the dash."""
    chosen: list[str] = []
    for word in filter(None, words.split(",")):
        found = [word] if word in known else [name for name in known if name.startswith(f"{word}-")]
        if not found:
            raise SystemExit(f"no {what} {word!r}; there are: {', '.join(known)}")
        chosen += found
    return [name for name in known if name in chosen]


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Measure kolmo beside other compressors.")
    parser.add_argument("--files", help=f"comma-separated names, or none (default: all but {', '.join(ON_REQUEST)})")
    parser.add_argument("--all", action="store_true", help="also the whole of dickens")
    parser.add_argument("--tools", help=f"comma-separated: kolmo, {', '.join(PEERS)} (default: all)")
    parser.add_argument("--levels", default="1,5,9", help="kolmo's levels (default: %(default)s)")
    parser.add_argument("--repeat", type=int, help="runs of each pair; the median counts (default: 3)")
    parser.add_argument("--quick", action="store_true", help="eng, py and alice29, each once")
    parser.add_argument("--scaling", type=int, nargs="?", const=4, metavar="LEVEL", help="one thread against two")
    parser.add_argument("--stream", type=int, nargs="?", const=1, metavar="LEVEL", help="peak memory of a stream")
    parser.add_argument("--stream-bytes", type=int, default=1000 * MB, metavar="N", help="default: %(default)s")
    parser.add_argument("--growth", metavar="LEVELS", help="CPU time and memory from 10 KB on, such as 1,4,5")
    parser.add_argument("--growth-bytes", type=int, default=10 * MB, metavar="N", help="at most (default: %(default)s)")
    parser.add_argument("--figure", type=Path, metavar="OUT", help="draw the first file's sizes against CPU time there")
    parser.add_argument("--markdown", type=Path, metavar="OUT", help="also write the report there")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write every figure there")
    options = parser.parse_args(arguments)
    if options.repeat is None:
        options.repeat = 1 if options.quick else 3
    if options.repeat < 1 or options.stream_bytes < 0:
        parser.error("--repeat needs at least 1, --stream-bytes at least 0")
    return options


def selected(options: argparse.Namespace) -> tuple[dict[str, Tool], list[str]]:
    """The tools and the names of the files that the options ask for."""
    levels = [int(level) for level in options.levels.split(",")]
    tools = PEERS | {f"kolmo-{level}": kolmo(level) for level in levels}
    if options.tools is not None:
        tools = {key: tools[key] for key in choose(options.tools, list(tools), "tool")}
    if options.files is not None:
        return tools, choose(options.files.replace("none", ""), list(SOURCES), "file")
    if options.quick:
        return tools, list(HEADLINE)
    return tools, [name for name in SOURCES if name not in ON_REQUEST or (name == "dickens" and options.all)]


def compare(options: argparse.Namespace, work: Path) -> tuple[str, list[dict[str, object]], list[str]]:
    """The tables of tools against files: in Markdown, as records, and what went wrong."""
    tools, names = selected(options)
    if not tools or not names:
        return "", [], []
    files = {name: build(SOURCES[name], work) for name in names}
    with one_core():
        cells = measure(tools, files, work, options.repeat)
    records: list[dict[str, object]] = [
        {
            "tool": tools[key].label,
            "file": name,
            "raw": cell.raw,
            "size": cell.size if cell.sizes else None,
            "error": cell.error,
            "encode": [vars(cost) for cost in cell.encodes],
            "decode": [vars(cost) for cost in cell.decodes],
        }
        for (key, name), cell in cells.items()
    ]
    wrong = [f"{tools[key].label} on {name}: {cell.error}" for (key, name), cell in cells.items() if cell.error]
    return tables(tools, files, cells), records, wrong


def main(arguments: Sequence[str]) -> int:
    """Measure what the options ask for and print the report; 1 if a tool failed or gave other bytes back."""
    options = parse(arguments)
    # Paths of this machine stay out of the report: of a path, the last part.
    words = [re.sub(r"^(--\w+=)?.*/", r"\1", word) for word in arguments]
    report: dict[str, object] = {
        "command": shlex.join(["python", "benchmarks/lossless.py", *words]),
        "machine": machine(),
        "versions": versions([*selected(options)[0].values(), kolmo(5)]),
    }
    parts: list[str] = []
    failures: list[str] = []
    with tempfile.TemporaryDirectory(prefix="kolmo-bench-") as folder:
        work = Path(folder)
        report["startup"] = startup(work)
        text, records, wrong = compare(options, work)
        report["results"] = records
        parts.append(text)
        failures += wrong
        sections: list[tuple[str, Callable[[], tuple[str, dict[str, object]]]]] = []
        if options.scaling is not None:
            sections.append(("scaling", lambda: scaling(options.scaling, options.repeat, work)))
        if options.growth is not None:
            levels = [int(level) for level in options.growth.split(",")]
            sections.append(("growth", lambda: growth(levels, options.growth_bytes, work)))
        if options.stream is not None:
            sections.append(("stream", lambda: streaming(options.stream, options.stream_bytes)))
        for title, section in sections:
            try:
                text, report[title] = section()
                parts.append(text)
            except ToolError as error:
                failures.append(f"{title}: {error}")
                log(failures[-1])
    if options.figure:  # last: drawing would raise the memory that measured processes start with
        draw(records, options.figure)
    report["failures"] = failures
    text = render(report, parts, options.repeat)
    print(text)
    if options.markdown:
        options.markdown.write_text(text + "\n", encoding="utf-8")
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return 1 if failures else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
