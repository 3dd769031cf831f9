"""Fuzz target for the decoder: container, codec and embedded predictor, by three readers that must agree.

    python fuzz/decoder.py [CORPUS] -max_total_time=600     with atheris (pip install "kolmo[fuzz]"), else for ever
    python fuzz/decoder.py [FOLDER_OR_FILE ...]             without: every file once, and its mutations

A finding is any exception that is no `KolmoError`, two readers that disagree, or content that was delivered
and is not what its checksum says. Each input is read as it is, and with the checksums of header and footer set right,
behind which no mutation would come otherwise. Seeds: tests/golden. New inputs go to CORPUS (a folder; default: a
temporary one), never to the seeds. What it is not: a proof; scripts/faults.py counts exhaustively.
"""

from __future__ import annotations

import io
import struct
import sys
import zlib
from pathlib import Path

from fuzzing import main

import kolmo
from kolmo.archive.listing import list_stream
from kolmo.errors import KolmoError

GOLDEN = Path(__file__).resolve().parent.parent / "tests" / "golden"
MEMORY = 1 << 28
LARGEST = 1 << 22  # raw bytes that one input may claim: more only slows the search


def check(data: bytes) -> str:
    """Read `data` in every way, and once more with right checksums; returns what was wrong with it.

    Raises:
        AssertionError: the readers disagree.
    """
    found, mended = _check(data), with_checksums(data)
    return found if mended == data else f"{found}; {_check(mended)}"


def with_checksums(data: bytes) -> bytes:
    """The data with the CRC-32 of the first header and of the last footer set right, where there are such."""
    mended = bytearray(data)
    at, size = 5, 0  # behind magic and version: the length of the fields, seven bits a byte
    for shift in range(0, 63, 7):
        size |= (mended[at] & 127) << shift if at < len(mended) else 0
        at += 1
        if at > len(mended) or mended[at - 1] < 128:
            break
    end = at + size
    if end + 4 <= len(mended):
        mended[end : end + 4] = struct.pack("<I", zlib.crc32(mended[:end]))
    if len(mended) >= 8:
        (footer,) = struct.unpack_from("<I", mended, len(mended) - 8)
        if 8 <= footer <= len(mended) and mended[len(mended) - footer] == 0:
            mended[-4:] = struct.pack("<I", zlib.crc32(mended[len(mended) - footer : -4]))
    return bytes(mended)


def _check(data: bytes) -> str:
    listing = list_stream(io.BytesIO(data))
    if listing.raw_size > LARGEST:
        return "too large"
    whole, error = _read_whole(data)
    pieces = _read_pieces(data)
    backward = _read_backward(data, listing.raw_size)
    if whole is not None:
        assert listing.error is None, "the walk finds damage that the decoder does not"
        assert listing.raw_size == len(whole), "the walk counts other bytes"
        assert pieces == whole, "Decompressor disagrees with decompress"
    if whole is not None and backward is not None:
        assert backward == whole, "seeking disagrees with reading forward"
    return f"{listing.error}, {error}"


def _read_whole(data: bytes) -> tuple[bytes | None, KolmoError | None]:
    try:
        return kolmo.decompress(data, memory_limit=MEMORY), None
    except KolmoError as error:
        return None, error


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
