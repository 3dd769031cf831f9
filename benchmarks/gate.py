"""Measure the network's gate: sizes and times of level 5 beside level 4, for files of many kinds.

For each kind: bytes of the file at level 4 and at level 5, the way that level 5 chose, and the size with the other
way. Every file is decompressed and compared. For data that look random, CPU times of both levels, taking turns:
within one process, and as whole processes with start and end. On a loaded machine they differ by a few per cent from
run to run.

    KOLMO_DATA=DIR python benchmarks/gate.py --markdown OUT
    KOLMO_DATA=DIR python benchmarks/gate.py --kinds random,png,wheel --repeat 5

`DIR/bench` holds text, images and audio (see harness/files.py); the rest is made here, or comes from Python and the
system.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import kolmo
from harness.kinds import KINDS
from harness.measuring import run
from kolmo.predictors.embedded import neural

MAX_TIMED_BYTES = 1 << 16  # bytes of a file that are timed
MAX_FORCED_BYTES = 1 << 18  # size up to which data that look random are coded with the network as well
OLD = "import sys; from kolmo.predictors import neural; print(neural.is_worth_hearing(sys.stdin.buffer.read()))"


@contextmanager
def forced(way: neural.Way) -> Iterator[None]:
    """Code all blocks in this way."""
    kept = neural.NeuralModel._choose
    neural.NeuralModel._choose = lambda self, data, progress: (way, b"")  # type: ignore[method-assign]
    try:
        yield
    finally:
        neural.NeuralModel._choose = kept  # type: ignore[method-assign]


def chosen(data: bytes) -> neural.Way:
    """The way that level 5 chooses."""
    return neural.Neural(5).start(len(data))._choose(data, None)[0]


def packed(data: bytes, level: int) -> int:
    """Bytes of the file, which is opened again."""
    archive = kolmo.compress(data, level=level, threads=1)
    if kolmo.decompress(archive) != data:
        raise SystemExit(f"level {level} did not give the content back")
    return len(archive)


def with_network_before(data: bytes, source: str) -> bool:
    """What the gate of another version of the package says."""
    environment = os.environ | {"PYTHONPATH": source}
    said = subprocess.run([sys.executable, "-c", OLD], input=data, capture_output=True, env=environment, check=True)
    return said.stdout.strip() == b"True"


def sizes(names: Sequence[str], before: str | None) -> Iterator[str]:
    """Rows of the table of sizes."""
    yield "| kind | bytes | level 4 | level 5 | its way | the other way |" + (" level 5 before |" if before else "")
    yield "| --- | ---: | ---: | ---: | --- | ---: |" + (" ---: |" if before else "")
    for name in names:
        data = KINDS[name]()
        way, four, five = chosen(data), packed(data, 4), packed(data, 5)
        other = neural.Way.PLAIN if way is neural.Way.NETWORK else neural.Way.NETWORK
        shown = "-"
        old = ""
        made: dict[neural.Way, int] = {way: five}
        if way is not neural.Way.QUICK or len(data) <= MAX_FORCED_BYTES:
            with forced(other):
                made[other] = len(kolmo.compress(data, level=5, threads=1))
            shown = f"{made[other]:,}"
        if before:
            with_network = with_network_before(data, before)
            size = made.get(neural.Way.NETWORK if with_network else neural.Way.PLAIN)
            if size is None and not with_network:
                with forced(neural.Way.PLAIN):
                    size = len(kolmo.compress(data, level=5, threads=1))
            old = f" {'-' if size is None else f'{size:,}'}{', with_network' if with_network else ''} |"
        print(name, file=sys.stderr, flush=True)
        yield f"| {name} | {len(data):,} | {four:,} | {five:,} | {way.name.lower()} | {shown} |{old}"


def cpu(data: bytes, level: int) -> float:
    """CPU seconds of compressing within this process."""
    start = time.process_time()
    kolmo.compress(data, level=level, threads=1)
    return time.process_time() - start


def speeds(names: Sequence[str], repeat: int, work: Path) -> Iterator[str]:
    """Rows of the table of times, of data that look random: medians, and the median of the turns' ratios."""
    yield "| kind | bytes | level 4: ms | level 5: ms | speed of 5 : 4 | process, 4: ms | 5: ms | speed of 5 : 4 |"
    yield "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
    path = work / "content"
    for name in names:
        data = KINDS[name]()[:MAX_TIMED_BYTES]
        if chosen(data) is not neural.Way.QUICK:
            continue
        path.write_bytes(data)
        cells = []
        turns = max(repeat, min(100, (1 << 18) // len(data)))  # short ones more often
        inside = [(cpu(data, 4), cpu(data, 5)) for _ in range(turns)]
        program = [sys.executable, "-m", "kolmo", "compress", "-q", "-c", "-T", "1"]
        whole = [tuple(run([*program, f"-{n}", path.name], work).cpu for n in (4, 5)) for _ in range(repeat)]
        for pairs in (inside, whole):
            four, five = (statistics.median(pair[i] for pair in pairs) for i in (0, 1))
            ratio = statistics.median(pair[0] / pair[1] for pair in pairs)
            cells.append(f"{1000 * four:.1f} | {1000 * five:.1f} | {ratio:.2f}")
        print(name, file=sys.stderr, flush=True)
        yield f"| {name} | {len(data):,} | {cells[0]} | {cells[1]} |"


def main(arguments: Sequence[str]) -> int:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(description="Measure the network's gate at level 5.")
    parser.add_argument("--kinds", default=",".join(KINDS), help="beginnings of kinds' names (default: all)")
    parser.add_argument("--repeat", type=int, default=5, help="turns of each timed pair (default: %(default)s)")
    parser.add_argument("--before", metavar="SRC", help="source folder of another version, whose gate is asked too")
    parser.add_argument("--markdown", type=Path, metavar="OUT", help="also write the tables there")
    parser.add_argument("--only", choices=["sizes", "speeds"], help="one of the two tables")
    options = parser.parse_args(arguments)
    names = [name for name in KINDS if any(name.startswith(word) for word in re.split(r",(?! )", options.kinds))]
    parts = []
    if options.only != "speeds":
        parts.append("\n".join(sizes(names, options.before)))
    if options.only != "sizes":
        with tempfile.TemporaryDirectory(prefix="kolmo-gate-") as folder:
            parts.append("\n".join(speeds(names, options.repeat, Path(folder))))
    text = "\n\n".join(parts)
    print(text)
    if options.markdown:
        options.markdown.write_text(text + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
