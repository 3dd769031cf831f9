"""Measure how often Deflate streams inside files can be made again from their content, and what that would gain.

For each file of the named folders: its streams are found and inflated, and zlib's settings are searched that give the
same bytes again. For streams without such settings, the bytes that would store the differences to zlib's tokens. With
`--gain`: the file's size at a level of kolmo now, and with each rebuilt stream replaced by its content and a few bytes
that say how it was packed; the file is made again from what was decoded, and compared.

    python benchmarks/deflate.py FOLDER...
    python benchmarks/deflate.py --gain 5 FOLDER...

What it is not: a part of the package (see harness/deflate_streams.py).
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import kolmo
from harness import deflate_streams as streams
from harness.tables import table
from kolmo.varints import varint

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


def opened(data: bytes) -> tuple[bytes, int, int]:
    """The file with the streams that can be made again replaced by their content, behind what is needed to do so.

    Returns that, how many streams were replaced, and their packed bytes. Layout: the number of streams; for each the
    bytes since the last one (of each piece), the content's size and the settings; the rest of the file; the contents.
    """
    head, rest, contents, last, count, packed = bytearray(), bytearray(), bytearray(), 0, 0, 0
    for stream in sorted(streams.streams(data), key=lambda stream: stream.first):
        settings = streams.again(stream)
        if not settings or stream.first < last:
            continue
        head += varint(len(stream.pieces))
        skip, end = (
            (2, 4) if data[:4] == b"\x89PNG" else (0, 0)
        )  # a zlib stream in pieces: the first and the last have more
        for number, (first, size) in enumerate(stream.pieces):
            first += skip if number == 0 else 0
            size -= (skip if number == 0 else 0) + (end if number == len(stream.pieces) - 1 else 0)
            if size < 0:
                raise ValueError("a checksum is cut in two")
            head += varint(first - last) + varint(size)
            rest += data[last:first]
            last = first + size
        head += varint(len(stream.content)) + bytes(settings)
        contents += stream.content
        count, packed = count + 1, packed + len(stream.packed)
    rest += data[last:]
    return varint(count) + bytes(head) + bytes(rest) + bytes(contents), count, packed


def closed(open_: bytes) -> bytes:
    """The mirror of `opened`."""
    at = 0

    def number() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = open_[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    found = []
    for _ in range(number()):
        pieces = [(number(), number()) for _ in range(number())]
        size = number()
        found.append((pieces, size, streams.Settings(*open_[at : at + 4])))
        at += 4
    rest, at = at, len(open_) - sum(size for _, size, _ in found)
    out = bytearray()
    for pieces, size, settings in found:
        packed, at = streams.deflate(open_[at : at + size], settings), at + size
        for gap, length in pieces:
            out += open_[rest : rest + gap] + packed[:length]
            rest, packed = rest + gap, packed[length:]
    return bytes(out) + open_[rest : len(open_) - sum(size for _, size, _ in found)]


def gain(path: Path, level: int) -> list[str]:
    """A row: what a file takes now and with its streams opened."""
    data = path.read_bytes()
    now = len(kolmo.compress(data, level=level, threads=1))
    plain, count, packed = opened(data)
    if closed(plain) != data:
        raise SystemExit(f"{path}: not the same file again")
    began = time.process_time()
    made = kolmo.compress(plain, level=level, threads=1)
    seconds = time.process_time() - began
    if kolmo.decompress(made, threads=1) != plain:
        raise SystemExit(f"{path}: kolmo did not give the content back")
    saved = f"{100 * (now - len(made)) / now:.1f} %"
    return [
        path.name,
        f"{len(data):,}",
        f"{count}",
        f"{packed:,}",
        f"{len(plain):,}",
        f"{now:,}",
        f"{len(made):,}",
        saved,
        f"{seconds:.1f}",
    ]


def main(arguments: Sequence[str]) -> int:
    """Print a table."""
    parser = argparse.ArgumentParser(description="Measure Deflate streams inside files.")
    parser.add_argument("folders", nargs="+", type=Path, help="folders of files; with --gain also files")
    parser.add_argument("--gain", type=int, metavar="LEVEL", help="what opening the streams gains at this level")
    options = parser.parse_args(arguments)
    if options.gain:
        head = ["file", "bytes", "streams", "packed", "opened", "now", "then", "saved", "CPU s"]
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
