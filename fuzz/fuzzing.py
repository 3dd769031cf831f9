"""What all fuzz targets share: with atheris until it is stopped, without it every seed and its mutations once.

What it is not: a target. `decoder.py` and `weights.py` are, each with what it checks.
"""

from __future__ import annotations

import random
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

MUTATIONS = 50


def inputs(roots: list[Path]) -> Iterator[tuple[str, bytes]]:
    """Every file and some mutations of it, the same in every run."""
    dice = random.Random(0)
    for root in roots:
        for path in sorted(p for p in (root.rglob("*") if root.is_dir() else [root]) if p.is_file()):
            data = path.read_bytes()
            yield str(path), data
            for number in range(MUTATIONS if data else 0):
                bad = bytearray(data)
                for _ in range(dice.randrange(1, 4)):
                    bad[dice.randrange(len(bad))] = dice.randrange(256)
                if number % 3 == 0:
                    del bad[dice.randrange(len(bad)) :]
                if number % 3 == 1:
                    at = dice.randrange(len(bad))
                    bad[at:at] = dice.randbytes(dice.randrange(9))
                yield f"{path}, mutation {number}", bytes(bad)


def main(check: Callable[[bytes], None], seeds: Path, arguments: list[str]) -> int:
    """Fuzz `check` with atheris, or go through the files without it; returns the exit status."""
    try:
        import atheris
    except ImportError:
        return _once(check, [Path(argument) for argument in arguments] or [seeds])
    folders = [word for word in arguments if not word.startswith("-")]
    if folders and Path(folders[0]).resolve() == seeds:
        print(
            "the fuzzer writes into its corpus: name another folder; the golden files are seeds anyway", file=sys.stderr
        )
        return 2
    if not folders:
        folders.append(tempfile.mkdtemp(prefix="kolmo-fuzz-"))
    options = [word for word in arguments if word.startswith("-")]
    atheris.instrument_all()
    # The first folder is written to, the others are only read.
    atheris.Setup([sys.argv[0], *options, *folders, str(seeds)], check)
    atheris.Fuzz()
    return 0


def _once(check: Callable[[bytes], None], roots: list[Path]) -> int:
    count = findings = 0
    for name, data in inputs(roots):
        count += 1
        try:
            check(data)
        except Exception as error:
            findings += 1
            print(f"{name}: {type(error).__name__}: {error}")
    print(f"{count} inputs, {findings} findings (no atheris here: every file and its mutations, once)")
    return 1 if findings or not count else 0
