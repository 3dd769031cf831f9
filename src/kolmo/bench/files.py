"""Compressors on files of one's own: sizes, speeds and memory, everything decoded and compared.

    report = kolmo.bench.files.bench_files(["notes.txt", "photo.ppm"], levels=(1, 5))
    print(report.markdown())

Every tool runs as a process of its own, on one thread, the tools taking turns. What it is not: a verdict on tools in
general; the figures are of these files on this machine, and only those of one run compare.
"""

from __future__ import annotations

import filecmp
import os
import shutil
import statistics
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kolmo.bench.media import same_content
from kolmo.bench.peers import PACKED, PLAIN, RESTORED, Tool, chosen, kolmo
from kolmo.bench.processes import Cost, ToolError, run
from kolmo.errors import KolmoError
from kolmo.progress import Phases, no_phases

KB = 1000
DEFAULT_LEVELS = (1, 5, 9)


@dataclass
class Cell:
    """All runs of a tool on a file.

    Attributes:
        raw: size of the file in bytes.
        sizes: packed bytes of each run.
        encodes, decodes: what each run took.
        error: what went wrong; "" where all went well, and the content came back each time.
    """

    raw: int
    sizes: list[int] = field(default_factory=list)
    encodes: list[Cost] = field(default_factory=list)
    decodes: list[Cost] = field(default_factory=list)
    error: str = ""

    @property
    def done(self) -> bool:
        """Whether there are figures."""
        return bool(self.sizes) and not self.error

    @property
    def size(self) -> int:
        """Packed bytes: the median run's, since some archives hold dates."""
        return statistics.median_low(self.sizes)

    @property
    def encode_seconds(self) -> float:
        """Seconds of CPU time of the median run."""
        return statistics.median(cost.cpu for cost in self.encodes)

    @property
    def decode_seconds(self) -> float:
        """Seconds of CPU time of the median run."""
        return statistics.median(cost.cpu for cost in self.decodes)

    @property
    def peak(self) -> int:
        """The most bytes of memory of a process; 0 where the system does not tell them."""
        return max(cost.peak for cost in self.encodes + self.decodes)


@dataclass(frozen=True)
class FilesReport:
    """The figures of tools on files.

    Attributes:
        tools: in the order of the tables.
        files: names of the files, in order, and their sizes in bytes.
        cells: (key of the tool, name of the file) -> figures; none where the tool is not for the file.
        versions: label of each tool -> version.
        machine: the machine in words.
        repeat: runs of each pair.
    """

    tools: tuple[Tool, ...]
    files: dict[str, int]
    cells: dict[tuple[str, str], Cell]
    versions: dict[str, str]
    machine: str
    repeat: int

    def total(self, tool: Tool) -> Cell | None:
        """The sums over all files; None where a figure lacks."""
        cells = [self.cells.get((tool.key, name)) for name in self.files]
        if not all(cell is not None and cell.done for cell in cells):
            return None
        there = [cell for cell in cells if cell is not None]
        costs = [
            Cost(sum(getattr(cell, f"{way}_seconds") for cell in there), 0.0, max(cell.peak for cell in there))
            for way in ("encode", "decode")
        ]
        return Cell(sum(self.files.values()), [sum(cell.size for cell in there)], [costs[0]], [costs[1]])

    @property
    def failures(self) -> list[str]:
        """What went wrong, a line each."""
        labels = {tool.key: tool.label for tool in self.tools}
        return [f"{labels[key]} on {name}: {cell.error}" for (key, name), cell in self.cells.items() if cell.error]

    def text(self) -> str:
        """Tables for a terminal."""
        from kolmo.bench.tables import text

        return text(self)

    def markdown(self) -> str:
        """Tables in Markdown."""
        from kolmo.bench.tables import markdown

        return markdown(self)

    def csv(self) -> str:
        """A row for each tool and file."""
        from kolmo.bench.tables import csv

        return csv(self)

    def html(self) -> str:
        """A page that needs no other file: tables, and bytes against CPU time."""
        from kolmo.bench.tables import html

        return html(self)

    def record(self) -> dict[str, Any]:
        """All figures, for JSON."""
        from kolmo.bench.tables import record

        return record(self)


def bench_files(
    paths: Sequence[str | Path],
    *,
    levels: Sequence[int] = DEFAULT_LEVELS,
    peers: Sequence[str] | None = None,
    repeat: int = 1,
    progress: Phases | None = None,
) -> FilesReport:
    """Measure kolmo and other compressors on files.

    Args:
        paths: the files.
        levels: of kolmo.
        peers: names of other compressors (`peers.PEERS`); None: all that are installed.
        repeat: runs of each pair of tool and file; medians count.
        progress: called with a title and the bytes to be packed in all; the steps are bytes.

    Returns:
        the figures. A tool that fails, or does not give the content back, has an error in place of figures.

    Raises:
        KolmoError: a file cannot be read or is empty, or a peer is not installed.

    Example:
        >>> report = bench_files(["LICENSE"], levels=[1], peers=["gzip"])      # doctest: +SKIP
        >>> report.total(report.tools[0]).size                                 # doctest: +SKIP
        3911
    """
    tools = [*chosen(peers), *(kolmo(level) for level in levels)]
    files = _named(paths)
    report = FilesReport(
        tuple(tools),
        {name: path.stat().st_size for name, path in files.items()},
        {},
        {tool.label: tool.version() for tool in tools},
        machine(),
        repeat,
    )
    pairs = [(tool, name) for name, path in files.items() for tool in tools if tool.takes(path)]
    for tool, name in pairs:
        report.cells[tool.key, name] = Cell(report.files[name])
    total = repeat * sum(report.files[name] for _, name in pairs)
    title = f"{len(tools)} tools, {len(files)} files"
    with (
        tempfile.TemporaryDirectory(prefix="kolmo-bench-") as folder,
        _one_core(),
        (progress or no_phases)(title, total) as done,
    ):
        for _ in range(repeat):
            for tool, name in pairs:
                _measure(report.cells[tool.key, name], tool, files[name], Path(folder))
                if done:
                    done(report.files[name])
    return report


def _named(paths: Sequence[str | Path]) -> dict[str, Path]:
    """The files by name: their own, with folders where two have one name.

    Raises:
        KolmoError: one cannot be read, is no file, or is empty.
    """
    found: dict[str, Path] = {}
    for given in dict.fromkeys(map(str, paths)):
        path = Path(given)
        try:
            size = path.stat().st_size
            with open(path, "rb"):
                pass
        except OSError as error:
            raise KolmoError(f"{given}: {error.strerror}; name files that can be read") from None
        if not size:
            raise KolmoError(f"{given}: is empty; leave it out")
        found[path.name if path.name not in found else given] = path.absolute()
    if not found:
        raise KolmoError("there are no files; name some")
    return found


def _measure(cell: Cell, tool: Tool, path: Path, folder: Path) -> None:
    if cell.error:
        return
    command = tool.command()
    try:
        if command is None:
            raise ToolError("is not installed any more")
        size, encode, decode = _round_trip(tool, command, path, folder)
    except KolmoError as error:
        cell.error = str(error)
        return
    cell.sizes.append(size)
    cell.encodes.append(encode)
    cell.decodes.append(decode)


def _round_trip(tool: Tool, command: Sequence[str], path: Path, folder: Path) -> tuple[int, Cost, Cost]:
    """Compress, decompress, compare: packed bytes, and what both ways took."""
    plain = folder / "plain"
    packed, restored = folder / ("packed" + tool.suffix), folder / "restored"
    for old in (plain, packed, restored):  # an archiver would add to an archive that exists
        old.unlink(missing_ok=True)
    shutil.copyfile(path, plain)  # some archivers store links as links
    names = {PLAIN: plain.name, PACKED: packed.name, RESTORED: restored.name}

    def step(template: str, output: Path, placeholder: str) -> Cost:
        words = [names.get(word, word) for word in template.split()]
        return run([*command, *words], folder, None if placeholder in template else output)

    encode = step(tool.encode, packed, PACKED)
    decode = step(tool.decode, restored, RESTORED)
    same = same_content(path, restored.read_bytes()) if tool.pixels else filecmp.cmp(path, restored, shallow=False)
    if not same:
        raise ToolError("WRONG: what came back differs")
    return packed.stat().st_size, encode, decode


@contextmanager
def _one_core() -> Iterator[None]:
    """Hold this process, and so its children, on one core, where the system can."""
    get: Callable[[int], set[int]] | None = getattr(os, "sched_getaffinity", None)
    put: Callable[[int, set[int]], None] | None = getattr(os, "sched_setaffinity", None)
    if get is None or put is None:
        yield
        return
    before = get(0)
    put(0, {max(before)})
    try:
        yield
    finally:
        put(0, before)


def machine() -> str:
    """The machine in words, without its name."""
    import platform
    import re

    model = platform.processor() or platform.machine()
    try:
        match = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        match = None
    cores = os.cpu_count() or 1
    return f"{match[1] if match else model} ({platform.machine()}), {cores} cores, Python {platform.python_version()}"
