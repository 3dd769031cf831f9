"""The code of a part of a tensor of a GGUF file: some of its rows.

    length and code of each field             a quantised type (`fields`)
    length of the base, base, residual        floats (kolmo.weights.format.lossless)
    the bytes themselves                      where no code is shorter

What it is not: a reader or writer of files.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from kolmo.errors import CorruptError
from kolmo.native.dispatch import kernels
from kolmo.safetensors import BYTES
from kolmo.weights.format import lossless
from kolmo.weights.gguf.fields import TYPES, WEIGHTS, BlockType, Field

if TYPE_CHECKING:
    from kolmo.weights.gguf.fields import Bytes

FLOATS = {0: "F32", 1: "F16", 28: "F64", 30: "BF16"}  # numbers of ggml's types that are floats
LENGTH = struct.Struct("<I")
PART_WEIGHTS = 1 << 22  # weights of a part, unless a row has more
MAX_ROW_WEIGHTS = 1 << 24


@dataclass(frozen=True)
class Part:
    """Rows of a tensor.

    Attributes:
        begin: place of the first byte in the GGUF file.
        kind: number of the type, in `TYPES` or `FLOATS`.
        columns: weights in a row.
        size: in bytes.
        stored: bytes of its code; as many as `size` if the code is the bytes themselves.
    """

    begin: int
    kind: int
    columns: int
    size: int
    stored: int = 0

    @property
    def is_possible(self) -> bool:
        """Whether there is such a type, and whether the size is that of whole rows, and not too large."""
        row = row_bytes(self.kind, self.columns)
        least = max(row, PART_WEIGHTS // max(self.columns, 1) * row)
        return row > 0 and 0 < self.size <= least and self.size % row == 0

    @property
    def weights(self) -> int:
        """Number of weights."""
        return self.size // row_bytes(self.kind, self.columns) * self.columns


def row_bytes(kind: int, columns: int) -> int:
    """Bytes of a row of a type; 0 if it has none, or is not coded."""
    if not 0 < columns <= MAX_ROW_WEIGHTS:
        return 0
    if kind in FLOATS:
        return columns * BYTES[FLOATS[kind]]
    block = TYPES.get(kind)
    return columns // block.weights * block.size if block and columns % block.weights == 0 else 0


def type_name(kind: int) -> str:
    """The name of a type of ggml."""
    return FLOATS.get(kind) or TYPES[kind].name


def encode(part: Part, data: bytes) -> bytes:
    """The code of a part, given its bytes."""
    if part.kind in FLOATS:
        try:
            base, rest = lossless.encode(data, FLOATS[part.kind], part.columns)
        except ValueError:  # infinities, or magnitudes too large for any step
            return data
        code = LENGTH.pack(len(base)) + base + rest
    else:
        block = TYPES[part.kind]
        blocks = np.frombuffer(data, np.uint8).reshape(-1, block.size)
        symbols: dict[str, Bytes] = {}
        code = b""
        for field in block.fields:
            symbols[field.name] = field.unpack(blocks)
            settings = _settings(block, field, symbols, part, len(blocks))
            one = kernels.quants_encode(*settings, symbols[field.name].tobytes())
            code += LENGTH.pack(len(one)) + one
    return code if len(code) < len(data) else data


def decode(part: Part, code: bytes) -> bytes:
    """The mirror of `encode`: the bytes of a part.

    Raises:
        CorruptError: the code is damaged.
    """
    if part.stored == part.size:
        return code
    if part.kind in FLOATS:
        (base,) = LENGTH.unpack_from(code) if len(code) >= LENGTH.size else (len(code),)
        body = code[LENGTH.size :]
        return lossless.decode(
            body[:base], body[base:], FLOATS[part.kind], (part.weights // part.columns, part.columns)
        )
    block = TYPES[part.kind]
    blocks = np.zeros((part.size // block.size, block.size), np.uint8)
    symbols: dict[str, Bytes] = {}
    at = 0
    for field in block.fields:
        end = at + LENGTH.size
        length = LENGTH.unpack_from(code, at)[0] if end <= len(code) else len(code)
        if end + length > len(code):
            raise CorruptError("a part ends within a field", at)
        settings = _settings(block, field, symbols, part, len(blocks))
        found = kernels.quants_decode(*settings, code[end : end + length], len(blocks) * field.count)
        symbols[field.name] = np.frombuffer(found, np.uint8).reshape(len(blocks), field.count)
        field.pack(symbols[field.name], blocks)
        at = end + length
    if at != len(code):
        raise CorruptError("a part has bytes after its last field", at)
    return blocks.tobytes()


def _settings(
    block: BlockType, field: Field, symbols: dict[str, Bytes], part: Part, count: int
) -> tuple[int, int, int, bytes, bytes, bytes, bytes]:
    """What the kernel is told beside the symbols of a field."""
    period = part.columns // block.weights * field.count
    if field.name == WEIGHTS and block.scales:
        steps, offsets = block.scales(symbols)
        values = np.array(block.values, np.int16).tobytes()
        return field.bits, period, block.group, b"", steps.tobytes(), offsets.tobytes(), values
    if field.side:
        side = symbols[field.side]
        sides = side if side.shape[1] == field.count else side[:, :1].repeat(field.count, 1)
    else:
        places = np.minimum(np.arange(field.count), 255).astype(np.uint8)
        sides = np.broadcast_to(places, (count, field.count))
    return field.bits, period, field.count, sides.tobytes(), b"", b"", b""
