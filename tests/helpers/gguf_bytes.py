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


def small_file() -> bytes:
    floats = DRAW.standard_normal((24, 64)).astype(np.float32)
    q8 = bytes_of(34 * 2 * 80)
    return gguf_file(
        [
            ("norm", 0, (64,), floats[0].tobytes()),
            ("embed", 8, (64, 80), q8),
            ("f32", 0, (64, 24), floats.tobytes()),
            ("q4_k", 12, (256, 40), bytes(144 * 40)),
            ("infinite", 1, (64, 32), b"\x00\x7c" * 2048),
            ("odd", 12, (100, 60), b""),
            ("unknown", 99, (64, 2), bytes(5000)),
        ],
        64,
    )
