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
import sys
from pathlib import Path

from fuzzing import main

import kolmo
from kolmo.archive.listing import list_stream
from kolmo.errors import KolmoError

GOLDEN = Path(__file__).resolve().parent.parent / "tests" / "golden"
MEMORY = 1 << 28
LARGEST = 1 << 22  # raw bytes that one input may claim: more only slows the search


def check(data: bytes) -> str:
    """Read `data` in every way; returns what the walk over it found.

    Raises:
        AssertionError: the readers disagree.
    """
    listing = list_stream(io.BytesIO(data))
    if listing.raw_size > LARGEST:
        return "too large"
    whole = _read_whole(data)
    pieces = _read_pieces(data)
    backward = _read_backward(data, listing.raw_size)
    if whole is not None:
        assert listing.error is None, "the walk finds damage that the decoder does not"
        assert listing.raw_size == len(whole), "the walk counts other bytes"
        assert pieces == whole, "Decompressor disagrees with decompress"
    if whole is not None and backward is not None:
        assert backward == whole, "seeking disagrees with reading forward"
    return str(listing.error)


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


if __name__ == "__main__":
    sys.exit(main(check, GOLDEN, sys.argv[1:]))
