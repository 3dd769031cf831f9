"""What all fuzz targets share: with atheris, or else mutations whose outcomes choose what is mutated further.

    python fuzz/TARGET.py [CORPUS] -max_total_time=600     for 600 seconds; goes on where the last run stopped
    python fuzz/TARGET.py [FOLDER_OR_FILE ...]             without atheris: every file once, and its mutations

With -max_total_time and without atheris, an input with a new outcome (the errors of the readers, numbers left out) is
kept in CORPUS, and is mutated in its turn; findings go to CORPUS/findings, the number of inputs so far to
CORPUS/count. What it is not: a target. Each of the others is one, with what it checks.
"""

from __future__ import annotations

import hashlib
import random
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

MUTATIONS = 50
QUICK = 0.001  # seconds; of inputs that take less none is preferred
LARGEST_MUTATED = 1 << 18  # bytes; of larger seeds a piece is mutated
INTERESTING = (b"\0", b"\xff", b"\x7f", b"\x80", b"\xff\xff\xff\xff", b"\0\0\0\x80", b"{", b'"', b"[", b"1e999", b"\n")


def inputs(roots: list[Path]) -> Iterator[tuple[str, bytes]]:
    """Every file and some mutations of it, the same in every run."""
    dice = random.Random(0)
    for root in roots:
        for path in sorted(p for p in (root.rglob("*") if root.is_dir() else [root]) if p.is_file()):
            data = path.read_bytes()
            yield str(path), data
            for number in range(MUTATIONS if data else 0):
                yield f"{path}, mutation {number}", mutated(data, dice)


def mutated(data: bytes, dice: random.Random) -> bytes:
    """Some data with a few bytes changed, and perhaps cut, or with something put in or taken out."""
    bad = bytearray(data)
    for _ in range(dice.randrange(1, 4)):
        bad[dice.randrange(len(bad))] = dice.randrange(256)
    kind, at = dice.randrange(6), dice.randrange(len(bad))
    if kind == 0:
        del bad[at:]
    elif kind == 1:
        bad[at:at] = dice.randbytes(dice.randrange(9))
    elif kind == 2:
        word = dice.choice(INTERESTING)
        bad[at : at + len(word)] = word
    elif kind == 3:
        del bad[at : at + dice.randrange(1, 64)]
    elif kind == 4:
        size = dice.randrange(1, 64)
        bad[at:at] = bad[(start := dice.randrange(len(bad))) : start + size]
    return bytes(bad)


def main(check: Callable[[bytes], object], seeds: Path, arguments: list[str]) -> int:
    """Fuzz `check` with atheris, or go through the files without it; returns the exit status."""
    try:
        import atheris
    except ImportError:
        folders = [word for word in arguments if not word.startswith("-")]
        for word in arguments:
            if match := re.fullmatch(r"-max_total_time=(\d+)", word):
                return _search(check, Path(folders[0] if folders else tempfile.mkdtemp()), seeds, int(match[1]))
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


def outcome(check: Callable[[bytes], object], data: bytes) -> str:
    """What a target makes of an input: the errors of its readers, numbers, hashes and quoted text left out."""
    return re.sub(r"""'[^']*'|"[^"]*"|\b[0-9a-f]{8,}\b|\d+""", "N", str(check(data)))


def _search(check: Callable[[bytes], object], corpus: Path, seeds: Path, seconds: int) -> int:
    """Mutate seeds and whatever had a new outcome, for some time; inputs that take long are mutated less often."""
    (corpus / "findings").mkdir(parents=True, exist_ok=True)
    count_file = corpus / "count"
    first = count = int(count_file.read_text()) if count_file.exists() else 0
    kept = [path for path in [*seeds.rglob("*"), *corpus.iterdir()] if path.is_file() and path != count_file]
    pool = [data for path in sorted(kept) if (data := path.read_bytes())]
    weights: list[float] = []  # of the pool's inputs that have run
    seen: set[str] = set()
    findings, end = 0, time.monotonic() + seconds
    while time.monotonic() < end:
        dice = random.Random(count)
        place = count - first
        seed = place < len(pool)
        data = pool[place] if seed else mutated(_piece(dice.choices(pool, weights)[0], dice), dice)
        count += 1
        start = time.perf_counter()
        name = hashlib.sha256(data).hexdigest()[:16]
        try:
            made = outcome(check, data)
        except Exception as error:
            made = f"{type(error).__name__}: {re.sub('[0-9]+', 'N', str(error))}"
            if made not in seen:
                findings += 1
                (corpus / "findings" / name).write_bytes(data)
                print(f"{corpus / 'findings' / name}: {type(error).__name__}: {error}", flush=True)
        new = not seed and bool(data) and made not in seen
        if new:
            (corpus / name).write_bytes(data)
            pool.append(data)
        if seed or new:
            weights.append(1 / (QUICK + time.perf_counter() - start))
        seen.add(made)
        if count % 64 == 0:
            count_file.write_text(str(count))
    count_file.write_text(str(count))
    print(f"{count - first} inputs, {count} with earlier runs, {len(seen)} outcomes, {findings} findings")
    return 1 if findings else 0


def _piece(data: bytes, dice: random.Random) -> bytes:
    start = dice.randrange(max(len(data) - LARGEST_MUTATED, 1)) if dice.random() < 0.5 else 0
    return data[start : start + LARGEST_MUTATED]


def _once(check: Callable[[bytes], object], roots: list[Path]) -> int:
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
