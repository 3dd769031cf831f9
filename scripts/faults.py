"""Single-bit and truncation faults over the golden files: each must be an error or leave the content right.

    python scripts/faults.py --count 100000
    KOLMO_KERNEL=reference python scripts/faults.py --count 400 --only 'v1-prose-*'     the NumPy path

Each golden file X.kmo has its content beside it as X.raw. Half of the faults flip one bit, half cut the file.
What was delivered before an error must be the content's beginning. A cut exactly between two frames leaves a valid
file of the frames before it ("whole frames", docs/format.md); its content must be theirs. Exit status 1 on any silent
fault, crash or slow decode.
"""

from __future__ import annotations

import argparse
import io
import random
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import kolmo
from kolmo.archive.listing import list_stream
from kolmo.errors import KolmoError

GOLDEN = Path(__file__).parent.parent / "tests" / "golden"
SLOW = 10.0  # seconds of CPU time; a golden file decodes in milliseconds, in NumPy in seconds
Fault = tuple[str, int]  # ("bit", its number) or ("cut", the size left)


COLUMNS = ("detected", "content right", "whole frames", "silent", "crash", "slow")


def frame_ends(packed: bytes) -> dict[int, int]:
    """Where each frame of a sound file ends, and how much content the frames up to there hold."""
    ends, raw_size = {}, 0
    for frame in list_stream(io.BytesIO(packed)).frames:
        raw_size += frame.raw_size
        ends[frame.offset + frame.packed_size] = raw_size
    return ends


def outcome(packed: bytes, content: bytes, ends: dict[int, int], fault: Fault) -> str:
    """What a reader makes of one fault: one of COLUMNS."""
    kind, place = fault
    bad = bytearray(packed)
    if kind == "bit":
        bad[place >> 3] ^= 1 << (place & 7)
    else:
        del bad[place:]
    start = time.process_time()
    found = bytearray()
    result = ""
    try:
        with kolmo.open(io.BytesIO(bad)) as file:
            while piece := file.read1():
                found += piece
    except KolmoError:
        result = "detected"
    except Exception:
        return "crash"
    if time.process_time() - start > SLOW:
        return "slow"
    if result:
        return result if content.startswith(found) else "silent"
    if kind == "cut" and place in ends and found == content[: ends[place]]:
        return "whole frames"
    return "content right" if found == content else "silent"


def run(job: tuple[str, list[Fault]]) -> tuple[str, Counter[tuple[str, str]], list[str]]:
    """All faults of one file's share: counts by (kind, outcome), and the bad ones in words."""
    path, faults = job
    packed, content = Path(path).read_bytes(), Path(path).with_suffix(".raw").read_bytes()
    ends = frame_ends(packed)
    counts: Counter[tuple[str, str]] = Counter()
    bad = []
    for fault in faults:
        result = outcome(packed, content, ends, fault)
        counts[fault[0], result] += 1
        if result in ("silent", "crash", "slow"):
            bad.append(f"{Path(path).name}: {fault[0]} {fault[1]}: {result}")
    return path, counts, bad


def plan(paths: list[Path], count: int, seed: int) -> list[tuple[str, list[Fault]]]:
    """`count` faults, spread over the files, in shares of at most 500."""
    dice = random.Random(seed)
    faults: dict[Path, list[Fault]] = {path: [] for path in paths}
    sizes = {path: path.stat().st_size for path in paths}
    for number in range(count):
        path = paths[number // 2 % len(paths)]
        if number % 2:
            faults[path].append(("cut", dice.randrange(sizes[path])))
        else:
            faults[path].append(("bit", dice.randrange(8 * sizes[path])))
    return [(str(path), share[at : at + 500]) for path, share in faults.items() for at in range(0, len(share), 500)]


def main() -> int:
    """Plan, run on two processes, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--count", type=int, default=100_000, help="faults (default 100000)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the choice of faults (default 0)")
    parser.add_argument("--processes", type=int, default=2, help="processes (default 2)")
    parser.add_argument("--folder", type=Path, help="files (default: all golden files)")
    parser.add_argument("--only", default="*", help="names of the files, as a pattern such as v1-neural-* (default *)")
    options = parser.parse_args()
    folders = [options.folder] if options.folder else sorted(GOLDEN.glob("v*"))
    found = sorted(path for folder in folders for path in folder.glob(f"{options.only}.kmo"))
    paths = [path for path in found if path.with_suffix(".raw").exists()]
    if not paths:
        print(
            f"{options.folder or GOLDEN}: no X.kmo with an X.raw beside it; name another with --folder", file=sys.stderr
        )
        return 1
    for path in paths:
        if kolmo.decompress(path.read_bytes()) != path.with_suffix(".raw").read_bytes():
            print(f"{path}: does not decode to its .raw even without a fault", file=sys.stderr)
            return 1
    totals: dict[str, Counter[tuple[str, str]]] = {}
    bad: list[str] = []
    with ProcessPoolExecutor(options.processes) as pool:
        for name, counts, worse in pool.map(run, plan(paths, options.count, options.seed)):
            totals.setdefault(Path(name).name, Counter()).update(counts)
            bad += worse
    _print_table(totals)
    for line in bad[:20]:
        print(line)
    return 1 if bad else 0


def _print_table(totals: dict[str, Counter[tuple[str, str]]]) -> None:
    print(f"{'file':<28} {'fault':<6} {'faults':>8} " + " ".join(f"{name:>13}" for name in COLUMNS))
    everything: Counter[tuple[str, str]] = Counter()
    for name, counts in [*sorted(totals.items()), ("all", everything)]:
        if name != "all":
            everything.update(counts)
        for kind in ("bit", "cut"):
            row = [counts[kind, column] for column in COLUMNS]
            print(f"{name:<28} {kind:<6} {sum(row):>8} " + " ".join(f"{cell:>13}" for cell in row))


if __name__ == "__main__":
    sys.exit(main())
