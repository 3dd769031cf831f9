"""Measure how often Deflate streams inside files can be made again from their content, and what that would gain.

For each file of the named folders: its streams are found and inflated, and zlib's settings are searched that give the
same bytes again. For streams without such settings, the bytes that would store the differences to zlib's tokens. With
`--gain`: the file's size at a level of kolmo where the kind `deflate` finds nothing, and as it is; both are decoded.

    python benchmarks/deflate.py FOLDER...
    python benchmarks/deflate.py --gain 5 FOLDER...

What it is not: a part of the package (see harness/deflate_streams.py).
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import kolmo
from harness import deflate_streams as streams
from harness.tables import table
from kolmo.predictors.embedded.kinds.deflate.kind import Deflate
from kolmo.predictors.embedded.kinds.deflate.streams import find_streams

MAX_COMPARED = 1 << 18  # content of a stream whose differences are measured


def survey(folder: Path) -> list[str]:
    """A row: files, streams, bytes, the share made again exactly, settings, and the differences of some others."""
    files = count = size = exact = exact_size = 0
    used: Counter[str] = Counter()
    compared = differing = tokens = other = stored = stored_of = 0
    for path in sorted(folder.iterdir()):
        data = path.read_bytes()
        found = streams.streams(data)
        files += bool(found)
        for stream in found:
            count, size = count + 1, size + len(stream.packed)
            settings = streams.again(stream)
            if settings:
                exact, exact_size = exact + 1, exact_size + len(stream.packed)
                used[
                    f"{settings.level}"
                    + ("" if settings[2:] == (8, 0) else f" m{settings.memory} s{settings.strategy}")
                ] += 1
            elif len(stream.content) <= MAX_COMPARED and len(stream.packed) >= 200 and compared < 40:
                compared += 1
                least = streams.differences(stream)
                differing += not least.same_cuts
                tokens, other = tokens + least.tokens, other + least.other
                stored, stored_of = stored + least.size, stored_of + len(stream.packed)
    return [
        folder.name,
        f"{files:,}",
        f"{count:,}",
        f"{size:,}",
        f"{exact:,} ({100 * exact / max(count, 1):.0f} %)",
        f"{exact_size:,} ({100 * exact_size / max(size, 1):.0f} %)",
        ", ".join(f"{name}: {times}" for name, times in used.most_common(4)),
        f"{compared}",
        f"{100 * other / tokens:.1f} %" if tokens else "-",
        f"{100 * stored / stored_of:.1f} %" if stored_of else "-",
    ]


def gain(path: Path, level: int) -> list[str]:
    """A row: what a file takes where no Deflate streams are looked for, and where they are; both are decoded."""
    data = path.read_bytes()
    found = find_streams(data)
    with without_the_kind():
        without, _, _ = coded(path, data, level)
    size, seconds, back = coded(path, data, level)
    return [
        path.name,
        f"{len(data):,}",
        f"{len(found)}",
        f"{sum(stream.size for stream in found):,}",
        f"{sum(stream.content for stream in found):,}",
        f"{without:,}",
        f"{size:,}",
        f"{100 * (without - size) / without:.1f} %",
        f"{seconds:.1f}",
        f"{back:.1f}",
    ]


@contextmanager
def without_the_kind() -> Iterator[None]:
    """The kind finds nothing meanwhile."""
    find = Deflate.find
    Deflate.find = lambda self, data: []  # type: ignore[method-assign]
    try:
        yield
    finally:
        Deflate.find = find  # type: ignore[method-assign]


def coded(path: Path, data: bytes, level: int) -> tuple[int, float, float]:
    """Bytes of the compressed file, CPU seconds to make it, and to decode it."""
    began = time.process_time()
    made = kolmo.compress(data, level=level, threads=1)
    middle = time.process_time()
    if kolmo.decompress(made, threads=1) != data:
        raise SystemExit(f"{path}: kolmo did not give the content back")
    return len(made), middle - began, time.process_time() - middle


def main(arguments: Sequence[str]) -> int:
    """Print a table."""
    parser = argparse.ArgumentParser(description="Measure Deflate streams inside files.")
    parser.add_argument("folders", nargs="+", type=Path, help="folders of files; with --gain also files")
    parser.add_argument("--gain", type=int, metavar="LEVEL", help="what the kind `deflate` gains at this level")
    options = parser.parse_args(arguments)
    if options.gain:
        head = ["file", "bytes", "streams", "packed", "content", "without", "size", "saved", "CPU s", "decoding"]
        paths = [p for f in options.folders for p in (sorted(f.iterdir()) if f.is_dir() else [f])]
        rows = []
        for path in paths:
            rows.append(gain(path, options.gain))
            print(rows[-1], file=sys.stderr, flush=True)
    else:
        head = [
            "folder",
            "files",
            "streams",
            "bytes",
            "exact",
            "their bytes",
            "levels",
            "compared",
            "tokens that differ",
            "differences",
        ]
        rows = []
        for folder in options.folders:
            rows.append(survey(folder))
            print(rows[-1], file=sys.stderr, flush=True)
    print(table(head, rows))
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
