"""Faults in the golden files, a million if asked: each must be an error or leave the content right.

    python scripts/faults.py --count 100000
    KOLMO_KERNEL=reference python scripts/faults.py --count 400 --only 'v1-prose-*'     the NumPy path

Each golden file X.kmo has its content beside it as X.raw. The faults, in turns: one bit is flipped (`bit`), one byte
replaced (`byte`), the file is cut (`cut`), up to 64 bytes are removed (`gap`), copied to another place (`copy`), up to
8 random bytes are inserted (`noise`). Files that take long to decode get fewer.

What was delivered before an error must be the content's beginning. Where the file is still a row of whole frames of
the sound one ("whole frames", docs/format.md), its content must be theirs. Exit status 1 on any silent fault, crash or
slow decode.
"""

from __future__ import annotations

import argparse
import io
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import kolmo
from kolmo.archive.listing import list_stream
from kolmo.errors import KolmoError

GOLDEN = Path(__file__).parent.parent / "tests" / "golden"
SLOW = 10.0  # seconds of CPU time; a golden file decodes in milliseconds, in NumPy in seconds
FULL_SHARE = 0.005  # seconds; a file that takes n times as long has a share of 1/n of the faults
SHARE = 500  # faults of one job
KINDS = ("bit", "byte", "cut", "gap", "copy", "noise")
COLUMNS = ("detected", "content right", "whole frames", "silent", "crash", "slow")
Frames = dict[bytes, bytes]  # packed -> content
Job = tuple[str, int, int]  # file, number of its first fault, faults
Counts = Counter[tuple[str, str]]  # (kind, outcome)


def frames_of(packed: bytes, content: bytes) -> Frames:
    """The frames of a sound file."""
    found, at = {}, 0
    for frame in list_stream(io.BytesIO(packed)).frames:
        found[packed[frame.offset :][: frame.packed_size]] = content[at : at + frame.raw_size]
        at += frame.raw_size
    return found


def whole(packed: bytes, frames: Frames) -> bytes | None:
    """The content of a row of sound frames, maybe with zeros behind; None if it is no such row."""
    content = b""
    while packed.strip(b"\0"):
        first = next((frame for frame in frames if packed.startswith(frame)), None)
        if first is None:
            return None
        content += frames[first]
        packed = packed[len(first) :]
    return content


def damaged(packed: bytes, kind: str, dice: random.Random) -> bytes:
    """The file with one fault."""
    bad = bytearray(packed)
    at, size = dice.randrange(len(bad)), dice.randrange(1, 65)
    if kind == "bit":
        bad[at] ^= 1 << dice.randrange(8)
    elif kind == "byte":
        bad[at] ^= dice.randrange(1, 256)
    elif kind == "cut":
        del bad[at:]
    elif kind == "gap":
        del bad[at : at + size]
    elif kind == "copy":
        bad[at:at] = bad[(start := dice.randrange(len(bad))) : start + size]
    else:
        bad[at:at] = dice.randbytes(dice.randrange(1, 9))
    return bytes(bad)


def outcome(bad: bytes, content: bytes, frames: Frames) -> str:
    """What a reader makes of a damaged file: one of COLUMNS."""
    start = time.process_time()
    found = bytearray()
    detected = False
    try:
        with kolmo.open(io.BytesIO(bad)) as file:
            while piece := file.read1():
                found += piece
    except KolmoError:
        detected = True
    except Exception:
        return "crash"
    if time.process_time() - start > SLOW:
        return "slow"
    if found == content and not detected:
        return "content right"
    rest = whole(bad, frames)
    if rest is not None and rest == found and not detected:
        return "whole frames"
    return "detected" if detected and _is_beginning(bytes(found), bad, content, frames) else "silent"


def _is_beginning(found: bytes, bad: bytes, content: bytes, frames: Frames) -> bool:
    """Whether what was delivered is the content's beginning, or that of sound frames that a copy put in a row."""
    while not content.startswith(found):
        first = next((frame for frame in frames if bad.startswith(frame)), None)
        if first is None or not found.startswith(frames[first]):
            return False
        bad, found, content = bad[len(first) :], found[len(frames[first]) :], b"".join(frames.values())
    return True


def run(job: Job) -> tuple[str, Counts, list[str]]:
    """Some faults of one file: the file, counts, and the bad ones in words."""
    path, first, count = job
    packed, content = Path(path).read_bytes(), Path(path).with_suffix(".raw").read_bytes()
    frames = frames_of(packed, content)
    counts: Counts = Counter()
    bad = []
    for number in range(first, first + count):
        kind = KINDS[number % len(KINDS)]
        result = outcome(damaged(packed, kind, random.Random(f"{Path(path).name} {number}")), content, frames)
        counts[kind, result] += 1
        if result in ("silent", "crash", "slow"):
            bad.append(f"{Path(path).name}: fault {number}, {kind}: {result}")
    return path, counts, bad


def plan(paths: list[Path], count: int, first: int) -> Iterator[Job]:
    """`count` faults, spread over the files by the time that these take."""
    parts = []
    for path in paths:
        if kolmo.decompress(path.read_bytes()) != path.with_suffix(".raw").read_bytes():
            raise SystemExit(f"{path}: does not decode to its .raw even without a fault")
        start = time.process_time()  # a network is in memory now
        kolmo.decompress(path.read_bytes())
        parts.append(min(1.0, FULL_SHARE / max(time.process_time() - start, 1e-9)))
    done = 0.0
    for path, part in zip(paths, parts, strict=True):
        share = round(count * (done + part) / sum(parts)) - round(count * done / sum(parts))
        done += part
        for at in range(0, share, SHARE):
            yield str(path), first + at, min(SHARE, share - at)


def main() -> int:
    """Plan, run on some processes, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--count", type=int, default=100_000, help="faults (default 100000)")
    parser.add_argument("--first", type=int, default=0, help="number of each file's first fault (default 0)")
    parser.add_argument("--processes", type=int, default=2, help="processes (default 2)")
    parser.add_argument("--folder", type=Path, help="files (default: all golden files)")
    parser.add_argument("--only", default="*", help="names of the files, as a pattern such as v1-neural-* (default *)")
    options = parser.parse_args()
    folders = [options.folder] if options.folder else sorted(GOLDEN.glob("v*"))
    found = sorted(path for folder in folders for path in folder.glob(f"{options.only}.kmo"))
    paths = [path for path in found if path.with_suffix(".raw").exists()]
    if not paths:
        where = options.folder or GOLDEN
        print(f"{where}: no X.kmo with an X.raw beside it; name another with --folder", file=sys.stderr)
        return 1
    files: dict[str, Counts] = {}
    bad: list[str] = []
    with ProcessPoolExecutor(options.processes) as pool:
        for path, counts, worse in pool.map(run, plan(paths, options.count, options.first)):
            files.setdefault(Path(path).name, Counter()).update(counts)
            bad += worse
    _print_tables(files)
    for line in bad[:20]:
        print(line)
    return 1 if bad else 0


def _print_tables(files: dict[str, Counts]) -> None:
    """Outcomes by file, and by kind of fault."""
    kinds: Counts = sum(files.values(), Counter())
    rows = [(name, [sum(counts[kind, one] for kind in KINDS) for one in COLUMNS]) for name, counts in files.items()]
    rows += [(f"all: {kind}", [kinds[kind, one] for one in COLUMNS]) for kind in KINDS]
    rows.append(("all", [sum(kinds[kind, one] for kind in KINDS) for one in COLUMNS]))
    print(f"{'file':<28} {'faults':>8} " + " ".join(f"{name:>13}" for name in COLUMNS))
    for name, cells in rows:
        print(f"{name:<28} {sum(cells):>8} " + " ".join(f"{cell:>13}" for cell in cells))


if __name__ == "__main__":
    sys.exit(main())
