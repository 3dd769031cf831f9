"""One block through a predictor and the arithmetic coder: `encode_block` and its mirror `decode_block`.

Work goes in slices, between which `tick` is called: progress moves, and a tick that raises stops
the work even in a worker thread. Slicing does not change the bits (`predictors.base.Model`). What it is not:
it neither reads nor checks the block's head and digest (see `codec.frames`).
"""

from __future__ import annotations

import re
from collections.abc import Callable

from kolmo.coder.binary import BinaryDecoder, BinaryEncoder
from kolmo.container.structures import CODED, STORED, largest_raw_size
from kolmo.container.wire import varint
from kolmo.errors import CorruptError
from kolmo.native.dispatch import SLOW
from kolmo.predictors.base import Predictor

SLICE = 1 << 10 if SLOW else 1 << 16  # of raw bytes
SAMPLE = 1 << 16  # raw bytes whose counts are looked at together
PROBE = 1 << 18  # raw bytes after which a hopeless block is given up

Tick = Callable[[int], None]


def encode_block(predictor: Predictor, data: bytes, tick: Tick | None = None) -> tuple[int, bytes]:
    """Code a block: (kind, payload), with the raw bytes as payload where coding does not make it smaller.

    Args:
        predictor: makes the model.
        data: the block's raw bytes, at least one.
        tick: called with the number of raw bytes just done; may raise to stop.
    """
    model = predictor.start(len(data))
    encoder = BinaryEncoder()
    done = 0
    while done < len(data):
        piece = data[done : done + SLICE]
        model.encode(encoder, piece)
        done += len(piece)
        if tick:
            tick(len(piece))
        if done == PROBE and encoder.size() >= done - done // 1024 and _looks_random(data, done):
            if tick:
                tick(len(data) - done)
            return STORED, data
    payload = encoder.finish()
    # A decoder refuses a block that claims more than its payload can hold; a predictor that codes many bytes
    # in one decision may get there. Zeros at the end are what the decoder reads there anyway.
    while largest_raw_size(len(payload)) < len(data):
        payload += bytes(1)
    if len(varint(len(payload))) + len(payload) >= len(data):
        return STORED, data
    return CODED, payload


def decode_block(predictor: Predictor, kind: int, payload: bytes, size: int, tick: Tick | None = None) -> bytes:
    """Decode a block of `size` raw bytes: the mirror of `encode_block`.

    Output grows slice by slice as it is decoded, and a payload that is used up stops it: a false size costs
    no memory.

    Raises:
        CorruptError: the payload cannot hold so much, or ends too early.
    """
    if kind == STORED:
        if tick:
            tick(size)
        return payload
    if size > largest_raw_size(len(payload)):
        raise CorruptError(f"{size} bytes are claimed in {len(payload)} of payload")
    model = predictor.start(size)
    decoder = BinaryDecoder(payload)
    out = bytearray()
    while len(out) < size:
        piece = model.decode(decoder, min(SLICE, size - len(out)))
        out += piece
        if tick:
            tick(len(piece))
    return bytes(out)


def _looks_random(data: bytes, start: int) -> bool:
    """Whether the rest of a block, from `start`, is not worth coding: flat byte counts everywhere, and no repeats.

    In integers only, so that equal data is judged equally on every machine. Repeats, of the beginning too, are looked
    for in the seven bytes after each 0x5A: a sample that follows the content wherever it moved.
    """
    import numpy as np  # here, because only hopeless blocks need it and its import takes a while

    for at in range(start, len(data), SAMPLE):
        piece = np.frombuffer(data, np.uint8, min(SAMPLE, len(data) - at), at)
        counts = np.bincount(piece, minlength=256).astype(np.int64)
        chi_square = int((counts * counts).sum()) * 256 // len(piece) - len(piece)
        if chi_square > 400:  # random data: 255, deviation 23
            return False
    samples = re.findall(rb"\x5a(.{7})", data, re.DOTALL)
    return len(samples) - len(set(samples)) <= len(samples) // 256
