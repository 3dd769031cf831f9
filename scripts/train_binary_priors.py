"""Train the priors of programs and records: `python scripts/train_binary_priors.py FOLDER`.

The folder has executables and libraries, of which the code sections are taken. Records and numbers are generated, and
the tables of the folder's ELF files (symbols, relocations) are taken as well. Each shape runs over all samples; between
samples it keeps only what a prior contains. The same folder and seed give the same priors.
"""

from __future__ import annotations

import argparse
import hashlib
import struct
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from kolmo.native import _kernels as kernels
from kolmo.native import tables
from kolmo.native.binary.views import NONE, VALUES
from kolmo.predictors.embedded.context_mixing import Shape, configuration, pack_prior, plain_prior, unpack_prior
from kolmo.predictors.embedded.kinds import program, record
from kolmo.predictors.embedded.kinds.binary import BinaryKind, Layout
from train_prior import PRIORS

TABLE_BITS, MATCH_BITS = 22, 16
Sample = tuple[bytes, Layout]


def code_samples(folder: Path, size: int) -> Iterator[Sample]:
    """The middle of each file's largest code section, at most `size` bytes of it."""
    kind = program.Program()
    for path in sorted(folder.iterdir()):
        data = path.read_bytes()
        sections = kind.find(data)
        if sections:
            best = max(sections, key=lambda segment: segment.size)
            first = best.first + max(best.size - size, 0) // 8 * 4
            yield data[first : min(first + size, best.end)], kind.layout(best.parameters)


def table_samples(folder: Path) -> Iterator[Sample]:
    """Symbols and relocations of ELF files of 64 bits: records of 24 bytes."""
    for path in sorted(folder.iterdir()):
        data = path.read_bytes()
        if data[:5] == b"\x7fELF\2":
            (at,) = struct.unpack_from("<Q", data, 40)
            entry, count = struct.unpack_from("<HH", data, 58)
            for k in range(count):
                kind, first, size = struct.unpack_from("<4xI16xQQ", data, at + k * entry)
                if kind in (2, 4, 11) and size >= 4096:
                    yield data[first : first + min(size, 48_000)], Layout(VALUES, 24, 8 if kind == 4 else 4)


def number_samples(seed: int) -> Iterator[Sample]:
    """Generated arrays and records: identifiers, times, measurements, weights, tables."""
    draw = np.random.default_rng(seed)

    def walk(n: int, step: float) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        return 1000 + np.cumsum(draw.normal(0, step, n))

    makers: list[tuple[Callable[[int], bytes], int, int, int]] = [
        (lambda n: np.cumsum(draw.integers(1, 2000, n)).astype("<u8").tobytes(), VALUES, 8, 8),
        (
            lambda n: (
                ((1 << 60) + (np.cumsum(draw.geometric(0.02, n)) << 22) + draw.integers(0, 4, n))
                .astype("<u8")
                .tobytes()
            ),
            VALUES,
            8,
            8,
        ),
        (
            lambda n: (
                draw.permutation(draw.integers(0, 1 << 62, 300))[draw.integers(0, 300, n)].astype("<u8").tobytes()
            ),
            VALUES,
            8,
            8,
        ),
        (lambda n: np.cumsum(draw.integers(0, 60, 2 * n)).astype("<u4").tobytes(), VALUES, 4, 4),
        (lambda n: (1_500_000_000 + np.cumsum(draw.integers(0, 9, 2 * n))).astype(">u4").tobytes(), NONE, 4, 4),
        (lambda n: walk(2 * n, 0.5).astype("<f4").tobytes(), VALUES, 4, 4),
        (lambda n: draw.normal(0, 0.05, 2 * n).astype("<f4").tobytes(), VALUES, 4, 4),
        (
            lambda n: (draw.normal(0, 1, (n // 16, 32)) * draw.uniform(0.01, 1, 32)).astype("<f4").tobytes(),
            VALUES,
            128,
            4,
        ),
        (lambda n: walk(n, 0.5).tobytes(), VALUES, 8, 8),
        (lambda n: walk(n, 0.5).round(2).tobytes(), VALUES, 8, 8),
        (lambda n: (np.sin(np.arange(n) / 90) * 20 + draw.normal(0, 0.1, n)).round(3).tobytes(), VALUES, 8, 8),
        (lambda n: walk(4 * n, 9).astype("<i2").tobytes(), VALUES, 2, 2),
        (lambda n: np.add.outer(walk(n // 32, 30), walk(100, 30)).astype("<i2").tobytes(), VALUES, 200, 2),
        (lambda n: _table(draw, n // 3, "<IHHfBBH"), VALUES, 16, 4),
        (lambda n: _table(draw, n // 3, "<QIIdHHI"), VALUES, 32, 8),
        (lambda n: _table(draw, n // 3, ">IHHBBHI"), NONE, 16, 2),
        (lambda n: _table(draw, n // 3, "<QHBf"), VALUES, 15, 1),
    ]
    for n in (400, 1500, 4000):
        for make, view, length, width in makers:
            yield make(n), Layout(view, length, width)


def _table(draw: np.random.Generator, n: int, layout: str) -> bytes:
    """Records with a counter first, then numbers that vary little, much, or among a few."""
    columns: list[list[float]] = []
    for place, kind in enumerate(layout[1:]):
        if place == 0:
            columns.append((10**9 + np.cumsum(draw.integers(0, 20, n))).tolist())
        elif kind in "fd":
            columns.append(draw.normal(50, 5, n).round(2).tolist())
        elif place % 2:
            columns.append(draw.choice([0, 1, 3, 17, 200], n).tolist())
        else:
            columns.append((draw.zipf(1.5, n) % 250).tolist())
    return b"".join(struct.pack(layout, *row) for row in zip(*columns, strict=True))


def train(shape: Shape, samples: list[Sample], rounds: int) -> bytes:
    """Run over the samples `rounds` times; returns the packed prior."""
    prior, packed = plain_prior(shape), b""
    for number in range(rounds):
        for data, layout in samples:
            config = configuration(shape, TABLE_BITS, MATCH_BITS, (layout.view, layout.record, layout.width))
            mixer = kernels.ContextMixer(config, tables.packed(), prior, len(data))
            mixer.costs(layout.show(data))
            prior = mixer.learned()
        packed = pack_prior(shape, prior)
        prior = unpack_prior(shape, packed)
        print(f"{shape.name}: round {number + 1}, {len(packed):,} bytes stored", file=sys.stderr, flush=True)
    return packed


def main() -> None:
    """Parse the arguments, train every shape, write the files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder of executables and libraries")
    parser.add_argument("--bytes", type=int, default=60_000, help="most of a file's code")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--shape", action="append", help="train this shape only")
    options = parser.parse_args()
    kinds: list[tuple[BinaryKind, list[Sample]]] = [
        (program.Program(), list(code_samples(options.folder, options.bytes))),
        (record.Record(), [*number_samples(options.seed), *table_samples(options.folder)]),
    ]
    for kind, samples in kinds:
        order = np.random.default_rng(options.seed).permutation(len(samples))
        samples = [samples[k] for k in order]
        digest = hashlib.sha256(b"".join(data for data, _ in samples)).hexdigest()
        print(f"{kind.name}: {len(samples)} samples, {sum(len(data) for data, _ in samples):,} bytes, SHA-256 {digest}")
        for shape in kind.shapes:
            if not options.shape or shape.name in options.shape:
                packed = train(shape, samples, options.rounds)
                (PRIORS / shape.folder / f"{shape.name}.bin").write_bytes(packed)
                print(f"{shape.name}: {len(packed):,} bytes, SHA-256 {hashlib.sha256(packed).hexdigest()}", flush=True)


if __name__ == "__main__":
    main()
