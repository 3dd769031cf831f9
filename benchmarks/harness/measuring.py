"""Running and measuring: one round trip, all tools on all files."""

from __future__ import annotations

import contextlib
import filecmp
import os
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from harness.files import KB
from harness.tools import PACKED, PLAIN, RESTORED, Tool
from kolmo.bench import processes
from kolmo.bench.processes import Cost, ToolError

ENVIRONMENT = processes.environment(one_thread=False)


def run(command: Sequence[str], work: Path, output: Path | None = None) -> Cost:
    """As `processes.run`, with as many threads as a program takes by itself."""
    return processes.run(command, work, output, one_thread=False)


def round_trip(tool: Tool, program: Sequence[str], plain: Path, work: Path) -> tuple[int, Cost, Cost]:
    """Compress, decompress and compare `plain`; return the compressed size and the two costs."""
    packed, restored = work / (plain.name + tool.suffix), work / "restored"
    for leftover in (packed, restored):  # an archiver would add to an archive that exists
        leftover.unlink(missing_ok=True)
    names = {PLAIN: plain.name, PACKED: packed.name, RESTORED: restored.name}

    def step(template: str, output: Path, placeholder: str) -> Cost:
        words = [names.get(word, word) for word in template.split()]
        return run([*program, *words], work, None if placeholder in template else output)

    encode = step(tool.encode, packed, PACKED)
    decode = step(tool.decode, restored, RESTORED)
    if not filecmp.cmp(plain, restored, shallow=False):
        raise ToolError("WRONG: the decompressed bytes differ")
    return packed.stat().st_size, encode, decode


@contextlib.contextmanager
def one_core() -> Iterator[None]:
    """Hold this process, and so its children, on one core, where the system can."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@dataclass
class Cell:
    """All runs of one tool on one file."""

    raw: int
    sizes: list[int] = field(default_factory=list)
    encodes: list[Cost] = field(default_factory=list)
    decodes: list[Cost] = field(default_factory=list)
    error: str | None = None

    @property
    def size(self) -> int:
        """Compressed bytes (archives with dates in them vary by a few)."""
        return statistics.median_low(self.sizes)

    def speed(self, costs: Sequence[Cost]) -> float:
        """KB/s of CPU time at the median run."""
        return self.raw / KB / max(statistics.median(cost.cpu for cost in costs), 1e-6)

    def show(self, text: Callable[[Cell], str]) -> str:
        """A table's cell: the figure, or the word that says why there is none."""
        if self.error:
            return "**WRONG**" if self.error.startswith("WRONG") else "failed"
        return text(self) if self.sizes else "not installed"


Cells = dict[tuple[str, str], Cell]


def measure(tools: dict[str, Tool], files: dict[str, Path], work: Path, repeat: int) -> Cells:
    """Run every tool on every file `repeat` times, interleaved so that a noisy minute hits them all."""
    programs = {key: tool.program() for key, tool in tools.items()}
    cells = {(key, name): Cell(path.stat().st_size) for key in tools for name, path in files.items()}
    for turn in range(repeat):
        for name, path in files.items():
            for key, tool in tools.items():
                cell, program = cells[key, name], programs[key]
                if program is None or cell.error:
                    continue
                log(f"run {turn + 1}/{repeat}: {name}, {tool.label}")
                try:
                    size, encode, decode = round_trip(tool, program, path, work)
                except ToolError as error:
                    cell.error = str(error)
                    log(f"{name}, {tool.label}: {cell.error}")
                    continue
                cell.sizes.append(size)
                cell.encodes.append(encode)
                cell.decodes.append(decode)
                if tool.programs == ("kolmo",) and len(set(cell.sizes)) > 1:
                    cell.error = "WRONG: equal input gave outputs of different sizes"
    return cells


def log(text: str) -> None:
    """One line of progress on stderr."""
    print(text, file=sys.stderr, flush=True)
