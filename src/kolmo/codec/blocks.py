"""One block through a predictor and the arithmetic coder: `encode_block` and its mirror `decode_block`.

The model calls `progress` now and then; if that raises, the work stops, in a worker thread too.
What it is not: it neither reads nor checks the block's head and digest (see `codec.frames`).
"""

from __future__ import annotations

import re

from kolmo.codec.limits import least_payload
from kolmo.coder.binary import BinaryDecoder, BinaryEncoder
from kolmo.container.structures import CODED, STORED
from kolmo.errors import CorruptError
from kolmo.predictors.base import Predictor
from kolmo.progress import Progress
from kolmo.varints import varint

SAMPLE_BYTES = 1 << 16  # raw bytes of the sample whose byte counts decide whether a block looks random
PROBE_BYTES = 1 << 18  # raw bytes after which coding stops if the block does not get smaller


class _HopelessError(Exception):
    """The block does not become smaller."""


def encode_block(
    predictor: Predictor, data: bytes, progress: Progress | None = None, threads: int = 1
) -> tuple[int, bytes]:
    """Code a block: (kind, payload), with the raw bytes as payload where coding does not make it smaller.

    Args:
        predictor: makes the model.
        data: the block's raw bytes, at least one.
        progress: called with the number of raw bytes just done; may raise to stop.
        threads: that may work on this block; the result does not depend on them.
    """
    if predictor.exclusive and len(data) >= SAMPLE_BYTES and _looks_random(data, 0):  # days of work for nothing
        if progress:
            progress(len(data))
        return STORED, data
    encoder = BinaryEncoder()
    done = 0

    def count(size: int) -> None:
        nonlocal done
        before, done = done, done + size
        if progress:
            progress(size)
        if (
            before < PROBE_BYTES <= done < len(data)
            and encoder.size() >= done - done // 1024
            and _looks_random(data, 0)
        ):
            raise _HopelessError

    try:
        predictor.start(len(data), threads).encode(encoder, data, count)
    except _HopelessError:
        if progress:
            progress(len(data) - done)
        return STORED, data
    if progress and done < len(data):  # a model need not call it
        progress(len(data) - done)
    payload = encoder.finish()
    # A decoder refuses a block that claims more work than its payload pays for. Zeros at the end are what the decoder
    # reads there anyway.
    payload += bytes(max(0, least_payload(predictor, payload, len(data)) - len(payload)))
    if len(varint(len(payload))) + len(payload) >= len(data):
        return STORED, data
    return CODED, payload


def decode_block(
    predictor: Predictor, kind: int, payload: bytes, size: int, progress: Progress | None = None, threads: int = 1
) -> bytes:
    """Decode a block of `size` raw bytes: the mirror of `encode_block`.

    Raises:
        CorruptError: more content is claimed than the payload may hold, or the payload ends too early.
    """
    if kind == STORED:
        if progress:
            progress(size)
        return payload
    if len(payload) < (least := least_payload(predictor, payload, size)):
        raise CorruptError(f"it claims {size} bytes of content in {len(payload)} of payload, and needs {least}")
    return predictor.start(size, threads).decode(BinaryDecoder(payload), progress)


def _looks_random(data: bytes, start: int) -> bool:
    """Whether the rest of a block, from `start`, is not worth coding: flat byte counts everywhere, and no repeats.

    In integers only, so that equal data is judged equally on every machine. Repeats, of the beginning too, are looked
    for in the seven bytes after each 0x5A: a sample that follows the content wherever it moved.
    """
    import numpy as np  # here, because only hopeless blocks need it and its import takes a while

    for at in range(start, len(data), SAMPLE_BYTES):
        piece = np.frombuffer(data, np.uint8, min(SAMPLE_BYTES, len(data) - at), at)
        counts = np.bincount(piece, minlength=256).astype(np.int64)
        chi_square = int((counts * counts).sum()) * 256 // len(piece) - len(piece)
        if chi_square > 400:  # random data: 255, deviation 23
            return False
    samples = re.findall(rb"\x5a(.{7})", data, re.DOTALL)
    return len(samples) - len(set(samples)) <= len(samples) // 256
