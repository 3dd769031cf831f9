"""Measure the network's gate: sizes and times of level 5 beside level 4, for files of many kinds.

For each kind of file: bytes at level 4 and at level 5, the kinds of data that level 5 found, and the size as one
segment of the other kind: plain where it found text, else text. Every file is decompressed and compared. For data that
looks random, CPU times of both levels, taking turns: within one process, and as whole processes with start and end. On
a loaded machine they differ by a few percent from run to run.

    KOLMO_DATA=DIR python benchmarks/gate.py --markdown OUT
    KOLMO_DATA=DIR python benchmarks/gate.py --kinds random,png,wheel --repeat 5

`DIR/bench` holds text, images and audio (see harness/files.py); the rest is made here, or comes from Python and the
system.
"""

from __future__ import annotations

import argparse
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import kolmo
from harness.kinds import KINDS
from harness.measuring import run
from kolmo.coder.binary import BinaryEncoder
from kolmo.predictors.embedded import neural
from kolmo.predictors.embedded.kinds.base import Segment
from kolmo.predictors.embedded.kinds.general import PLAIN, Quick
from kolmo.predictors.embedded.kinds.segments import TEXT, write_segments
from kolmo.predictors.embedded.segmented import Choice
from kolmo.predictors.embedded.text import Text
from kolmo.predictors.parts import KindShare, described, shares

MAX_TIMED_BYTES = 1 << 16  # bytes of a file that are timed
MAX_FORCED_BYTES = 1 << 18  # size up to which data that look random are coded with the network as well


@contextmanager
def forced(code: int) -> Iterator[None]:
    """Code all blocks as one segment of this kind."""
    kept = neural.Neural.choose
    neural.Neural.choose = lambda self, data: Choice([Segment(code, 0, len(data))])  # type: ignore[method-assign]
    try:
        yield
    finally:
        neural.Neural.choose = kept  # type: ignore[method-assign]


def chosen(data: bytes) -> tuple[KindShare, ...]:
    """The kinds of data that level 5 finds."""
    encoder, predictor = BinaryEncoder(), neural.Neural(5)
    write_segments(encoder, predictor.choose(data).segments)
    return shares(predictor.parts(encoder.finish(), len(data)))


def packed(data: bytes, level: int) -> int:
    """Bytes of the file, which is opened again."""
    archive = kolmo.compress(data, level=level, threads=1)
    if kolmo.decompress(archive) != data:
        raise SystemExit(f"level {level} did not give the content back")
    return len(archive)


def sizes(names: Sequence[str]) -> Iterator[str]:
    """Rows of the table of sizes."""
    yield "| file | bytes | level 4 | level 5 | its kinds | as one of the other |"
    yield "| --- | ---: | ---: | ---: | --- | ---: |"
    for name in names:
        data = KINDS[name]()
        kinds, four, five = chosen(data), packed(data, 4), packed(data, 5)
        found = {share.kind for share in kinds}
        shown = "-"
        if found != {Quick.name} or len(data) <= MAX_FORCED_BYTES:
            with forced(PLAIN if Text.name in found else TEXT):
                shown = f"{packed(data, 5):,}"
        print(name, file=sys.stderr, flush=True)
        yield f"| {name} | {len(data):,} | {four:,} | {five:,} | {', '.join(described(kinds))} | {shown} |"


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
        if {share.kind for share in chosen(data)} != {Quick.name}:
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
    parser.add_argument("--markdown", type=Path, metavar="OUT", help="also write the tables there")
    parser.add_argument("--only", choices=["sizes", "speeds"], help="one of the two tables")
    options = parser.parse_args(arguments)
    names = [name for name in KINDS if any(name.startswith(word) for word in re.split(r",(?! )", options.kinds))]
    parts = []
    if options.only != "speeds":
        parts.append("\n".join(sizes(names)))
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
