"""GGUF files, byte by byte and without the package gguf; what is in them is drawn anew for each."""

from __future__ import annotations

import struct

import numpy as np

DRAW = np.random.default_rng(0)


def bytes_of(count: int) -> bytes:
    """Random bytes."""
    return DRAW.integers(0, 256, count).astype(np.uint8).tobytes()


def gguf_file(tensors: list[tuple[str, int, tuple[int, ...], bytes]], alignment: int = 32) -> bytes:
    """A GGUF file with some metadata; shapes have the columns first."""

    def string(text: str) -> bytes:
        return struct.pack("<Q", len(text)) + text.encode()

    words = b"".join(map(string, ["a", "be", "sea"]))
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), 4)
    head += string("general.architecture") + struct.pack("<I", 8) + string("llama")
    head += string("general.alignment") + struct.pack("<II", 4, alignment)
    head += string("tokens") + struct.pack("<IIQ", 9, 8, 3) + words
    head += string("nested") + struct.pack("<IIQIQ", 9, 9, 1, 4, 2) + bytes(8)
    at = 0
    for name, kind, shape, data in tensors:
        head += string(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, at)
        at += -(-len(data) // alignment) * alignment
    body = head + bytes(-len(head) % alignment)
    for _, _, _, data in tensors:
        body += data + b"\x07" * (-len(data) % alignment)
    return body


def small_file(share: int = 1) -> bytes:
    """A file of quantised tensors, floats, and what is no part; of each 2-D tensor one row in `share`, up to 24."""
    floats = DRAW.standard_normal((24 // share, 64)).astype(np.float32)
    eights, fours, infinite, others = 80 // share, 40 // share, 32 // share, 60 // share
    return gguf_file(
        [
            ("norm", 0, (64,), floats[0].tobytes()),
            ("embed", 8, (64, eights), bytes_of(34 * 2 * eights)),
            ("f32", 0, (64, len(floats)), floats.tobytes()),
            ("q4_k", 12, (256, fours), bytes(144 * fours)),
            ("infinite", 1, (64, infinite), b"\x00\x7c" * (64 * infinite)),
            ("odd", 12, (100, others), b""),
            ("unknown", 99, (64, 2), bytes(5000 // share)),
        ],
        64,
    )
