"""A long stream through a compressor and a decompressor at once, in constant memory.

    python scripts/hostile/soak.py --gigabytes 10 --log soak.jsonl

Text, records, zeros and noise are made as they are read, in stretches of random length by a seed; nothing is on the
disk. `kolmo.Compressor` takes them in pieces of random size, and `kolmo.Decompressor` what comes out. The hashes of
both ends must agree, and the memory after the first blocks must not grow. Where most is noise, whose blocks are stored
(`--noise 0.98 --block-size 1048576`), 10 GB take one hour instead of five. What it is not: a measurement of speed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import struct
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import kolmo

WORDS = b"the of and to in a is that for it was on with which this had by not be from at are or an as he she".split()
STRETCHES = ("text", "records", "zeros", "noise", "text", "text")
LONGEST_STRETCH = 3 << 20  # bytes
LONGEST_PIECE = 1 << 20
WARM_BLOCKS = 3  # after which memory may not grow any more
ALLOWED_GROWTH = 16 << 20
PAGE = os.sysconf("SC_PAGE_SIZE")


def stretches(seed: int, noise: float) -> Iterator[bytes]:
    """Data without end, of which about `noise` is random bytes beside those of the mixture."""
    dice = random.Random(seed)
    count = 0
    while True:
        kind, size = dice.choice(STRETCHES), dice.randrange(1, LONGEST_STRETCH)
        if dice.random() < noise:
            yield dice.randbytes(size)
        elif kind == "text":
            page = b" ".join(dice.choice(WORDS) for _ in range(20_000))
            yield (page * (size // len(page) + 1))[:size] if dice.random() < 0.2 else page
        elif kind == "records":
            rows = range(count, count + size // 16)
            count += len(rows)
            yield b"".join(struct.pack("<IfHHI", n, n * 0.25, n % 7, 0, dice.getrandbits(8)) for n in rows)
        elif kind == "zeros":
            yield bytes(size)
        else:
            yield dice.randbytes(size >> 3)


def pieces(seed: int, total: int, noise: float) -> Iterator[bytes]:
    """`total` bytes of them, in pieces of random size."""
    dice = random.Random(seed + 1)
    for stretch in stretches(seed, noise):
        while stretch and total:
            size = min(dice.randrange(1, LONGEST_PIECE), total)
            yield stretch[:size]
            total -= len(stretch[:size])
            stretch = stretch[size:]
        if not total:
            return


def resident() -> int:
    """Bytes of memory that this process has now."""
    return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * PAGE


def main() -> int:
    """Stream, sample the memory, compare."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--gigabytes", type=float, default=10.0, help="bytes of content, times 10^9 (default 10)")
    parser.add_argument("--level", type=int, default=1, help="level (default 1)")
    parser.add_argument("--block-size", type=int, default=1 << 23, help="bytes of a block (default 8 MiB)")
    parser.add_argument("--noise", type=float, default=0.0, help="share of random bytes, which are stored (default 0)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the content (default 0)")
    parser.add_argument("--every", type=float, default=10.0, help="megabytes between samples of memory (default 10)")
    parser.add_argument("--log", type=Path, help="JSON lines of the samples")
    options = parser.parse_args()
    total, start = int(options.gigabytes * 1e9), time.process_time()
    compressor = kolmo.Compressor(level=options.level, block_size=options.block_size)
    decompressor = kolmo.Decompressor()
    given, found = hashlib.sha256(), hashlib.sha256()
    read = packed = made = 0
    samples: list[tuple[int, int]] = []

    def take(data: bytes) -> None:
        nonlocal packed, made
        packed += len(data)
        content = decompressor.decompress(data)
        made += len(content)
        found.update(content)

    for piece in pieces(options.seed, total, options.noise):
        given.update(piece)
        read += len(piece)
        take(compressor.compress(piece))
        if read >= (len(samples) + 1) * options.every * 1e6:
            samples.append((read, resident()))
            line = json.dumps({"read": read, "packed": packed, "decoded": made, "resident": samples[-1][1]})
            if options.log:
                with options.log.open("a") as log:
                    log.write(line + "\n")
    take(compressor.flush())
    warm = [memory for at, memory in samples if at >= WARM_BLOCKS * options.block_size] or [resident()]
    growth = max(warm) - warm[0]
    equal = decompressor.eof and given.digest() == found.digest() and made == read
    print(f"{read:,} bytes to {packed:,} and back: {'equal' if equal else 'NOT EQUAL'}")
    print(f"memory {warm[0] / 2**20:.0f} MiB once warm, at most {max(warm) / 2**20:.0f} MiB ({len(warm)} samples)")
    print(f"{time.process_time() - start:.0f} s of CPU time")
    return 0 if equal and growth <= ALLOWED_GROWTH else 1


if __name__ == "__main__":
    sys.exit(main())
