"""PNG files with zlib alone: pictures that a page carries within itself (ISO/IEC 15948).

What it is not: a reader of PNG, or a small one; every row has the same filter.
"""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

SIGNATURE = b"\x89PNG\r\n\x1a\n"
GREY, RGB, PALETTE = 0, 2, 3  # types of colour
UNFILTERED, LEFT = 0, 1  # filters: bytes as they are, or less those of the pixel to the left


def picture(values: npt.NDArray[np.uint8]) -> bytes:
    """A picture as a PNG file.

    Args:
        values: grey, shape (rows, columns), or red, green and blue, shape (rows, columns, 3).
    """
    grey = values.ndim == 2
    step = 1 if grey else 3
    flat = values.reshape(len(values), -1)
    filtered = flat.copy()
    filtered[:, step:] -= flat[:, :-step]
    return _file(values.shape[1], 8, GREY if grey else RGB, LEFT, filtered)


def indexed(levels: npt.NDArray[np.uint8], colours: Sequence[str]) -> bytes:
    """A picture of at most 16 colours as a PNG file.

    Args:
        levels: indexes of colours, shape (rows, columns).
        colours: each as #rrggbb.
    """
    rows, columns = levels.shape
    even = np.zeros((rows, columns + columns % 2), np.uint8)
    even[:, :columns] = levels
    palette = b"".join(bytes.fromhex(colour[1:]) for colour in colours)
    pairs = (even[:, ::2] << 4 | even[:, 1::2]).astype(np.uint8)
    return _file(columns, 4, PALETTE, UNFILTERED, pairs, _chunk(b"PLTE", palette))


def data_url(png: bytes) -> str:
    """A PNG file as an address that needs no network."""
    return "data:image/png;base64," + base64.b64encode(png).decode()


def _file(
    columns: int, depth: int, colour: int, row_filter: int, rows: npt.NDArray[np.uint8], extra: bytes = b""
) -> bytes:
    head = struct.pack(">IIBBBBB", columns, len(rows), depth, colour, 0, 0, 0)
    filters = np.full((len(rows), 1), row_filter, np.uint8)
    content = zlib.compress(np.hstack([filters, rows]).tobytes(), 9)
    return SIGNATURE + _chunk(b"IHDR", head) + extra + _chunk(b"IDAT", content) + _chunk(b"IEND", b"")


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
