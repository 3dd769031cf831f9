"""Fuzz target for the decoder: container, codec and embedded predictor, by three readers that must agree.

    python fuzz/decoder.py [CORPUS] -max_total_time=600     with atheris (pip install "kolmo[fuzz]"), else for ever
    python fuzz/decoder.py [FOLDER_OR_FILE ...]             without: every file once, and its mutations

A finding is any exception that is no `KolmoError`, two readers that disagree, or content that was delivered
and is not what its checksum says. Seeds: tests/golden. New inputs go to CORPUS (a folder; default: a temporary
one), never to the seeds. What it is not: a proof; scripts/faults.py
counts exhaustively.
"""

from __future__ import annotations

import io
import random
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import kolmo
from kolmo.archive.listing import list_stream
from kolmo.errors import KolmoError

GOLDEN = Path(__file__).resolve().parent.parent / "tests" / "golden"
MEMORY = 1 << 28
LARGEST = 1 << 22  # raw bytes that one input may claim: more only slows the search
MUTATIONS = 50


def check(data: bytes) -> None:
    """Read `data` in every way.

    Raises:
        AssertionError: the readers disagree.
    """
    listing = list_stream(io.BytesIO(data))
    if listing.raw_size > LARGEST:
        return
    whole = _read_whole(data)
    pieces = _read_pieces(data)
    backward = _read_backward(data, listing.raw_size)
    if whole is not None:
        assert listing.error is None, "the walk finds damage that the decoder does not"
        assert listing.raw_size == len(whole), "the walk counts other bytes"
        assert pieces == whole, "Decompressor disagrees with decompress"
    if whole is not None and backward is not None:
        assert backward == whole, "seeking disagrees with reading forward"


def _read_whole(data: bytes) -> bytes | None:
    try:
        return kolmo.decompress(data, memory_limit=MEMORY)
    except KolmoError:
        return None


def _read_pieces(data: bytes) -> bytes | None:
    out = bytearray()
    while data:
        decompressor = kolmo.Decompressor(memory_limit=MEMORY)
        size = len(data) // 3 + 1
        while data and not decompressor.eof:
            piece, data = data[:size], data[size:]
            try:
                out += decompressor.decompress(piece)
            except KolmoError:
                return None
        if not decompressor.eof:
            return None
        data = decompressor.unused_data + data
    return bytes(out)


def _read_backward(data: bytes, size: int) -> bytes | None:
    """The second half, then the first."""
    try:
        with kolmo.open(io.BytesIO(data), memory_limit=MEMORY) as file:
            file.seek(size // 2)
            second = file.read()
            file.seek(0)
            return file.read(size // 2) + second
    except KolmoError:
        return None


def _inputs(arguments: list[str]) -> Iterator[tuple[str, bytes]]:
    """Every file and some mutations of it, the same in every run."""
    dice = random.Random(0)
    for argument in arguments:
        root = Path(argument)
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


def main(arguments: list[str]) -> int:
    """Fuzz with atheris, or go through the files without it."""
    try:
        import atheris
    except ImportError:
        count = findings = 0
        for name, data in _inputs(arguments or [str(GOLDEN)]):
            count += 1
            try:
                check(data)
            except Exception as error:
                findings += 1
                print(f"{name}: {type(error).__name__}: {error}")
        print(f"{count} inputs, {findings} findings (no atheris here: every file and its mutations, once)")
        return 1 if findings or not count else 0
    folders = [word for word in arguments if not word.startswith("-")]
    if folders and Path(folders[0]).resolve() == GOLDEN:
        print(
            "the fuzzer writes into its corpus: name another folder; the golden files are seeds anyway", file=sys.stderr
        )
        return 2
    if not folders:
        folders.append(tempfile.mkdtemp(prefix="kolmo-fuzz-"))
    options = [word for word in arguments if word.startswith("-")]
    atheris.instrument_all()
    # The first folder is written to, the others are only read.
    atheris.Setup([sys.argv[0], *options, *folders, str(GOLDEN)], check)
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
