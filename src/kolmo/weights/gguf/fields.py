"""The blocks of quantised tensors as fields: where the bits of each symbol are, and what a step of a weight is.

A type of ggml stores 32 or 256 weights as a block of bytes: scales, and for each weight an integer. Here a block
becomes fields of symbols of at most 8 bits, one array each, which `kolmo.weights.gguf.coding` codes. One table of types
drives both directions (docs/gguf.md).

What it is not: a dequantiser. Steps only predict symbols.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Bytes = npt.NDArray[np.uint8]
    Scales = npt.NDArray[np.int64]

WEIGHTS = "weights"  # name of the field of weights, the last one of a type that has scales
IQ4_VALUES = (-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113)
MXFP4_VALUES = (0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12)
MAX_EXPONENT = 45  # of a step in MXFP4, above the least one that is told apart
MIDDLE_EXPONENT = 96


@dataclass(frozen=True)
class Piece:
    """Bits of some symbols: those of symbol `elements[i]` are `width` bits of byte `bytes[i]`, from bit `shifts[i]` on.

    In the symbol they stand from bit `up` on.
    """

    elements: npt.NDArray[np.int64]
    bytes: npt.NDArray[np.int64]
    shifts: npt.NDArray[np.int64]
    width: int
    up: int = 0


@dataclass(frozen=True)
class Field:
    """Symbols of a block.

    Attributes:
        name: of the field.
        count: number of its symbols in a block.
        bits: of a symbol.
        pieces: where these are.
        side: name of an earlier field whose symbol is the first context; "" for the place in the block.
        flip: symbols are XORed with this, so that signed bytes are in order.
    """

    name: str
    count: int
    bits: int
    pieces: tuple[Piece, ...]
    side: str = ""
    flip: int = 0

    def unpack(self, blocks: Bytes) -> Bytes:
        """The symbols, shape (blocks, count)."""
        out = np.zeros((len(blocks), self.count), np.uint8)
        for one in self.pieces:
            bits = blocks[:, one.bytes] >> one.shifts.astype(np.uint8) & np.uint8((1 << one.width) - 1)
            out[:, one.elements] |= bits << np.uint8(one.up)
        return out ^ np.uint8(self.flip)

    def pack(self, symbols: Bytes, blocks: Bytes) -> None:
        """The mirror of `unpack`: set the bits of the symbols in blocks in which they are 0."""
        symbols = symbols ^ np.uint8(self.flip)
        for one in self.pieces:
            bits = symbols[:, one.elements] >> np.uint8(one.up) & np.uint8((1 << one.width) - 1)
            for shift in np.unique(one.shifts).tolist():
                chosen = one.shifts == shift  # no two of these are in one byte
                blocks[:, one.bytes[chosen]] |= bits[:, chosen] << np.uint8(shift)


ScalesOf = Callable[[dict[str, "Bytes"]], "tuple[Scales, Scales]"]


@dataclass(frozen=True)
class BlockType:
    """A type of ggml.

    Attributes:
        name: as ggml has it.
        size: bytes of a block.
        weights: weights in a block.
        fields: in the order of coding.
        group: weights that share a step.
        scales: steps and offsets of each block's groups, shape (blocks, groups), from the symbols of earlier fields;
            None for a type without a field of weights.
        values: value in steps of each symbol of a weight.
    """

    name: str
    size: int
    weights: int
    fields: tuple[Field, ...]
    group: int = 0
    scales: ScalesOf | None = None
    values: tuple[int, ...] = field(default=(), repr=False)


def _piece(elements: Any, places: Any, shifts: Any, width: int, up: int = 0) -> Piece:
    e, b, s = np.broadcast_arrays(np.asarray(elements), np.asarray(places), np.asarray(shifts))
    return Piece(e.astype(np.int64), b.astype(np.int64), s.astype(np.int64), width, up)


def _bytes(name: str, at: int, count: int = 1, side: str = "", flip: int = 0) -> Field:
    every = np.arange(count)
    return Field(name, count, 8, (_piece(every, at + every, 0, 8),), side, flip)


def _half(name: str, at: int, side: str = "") -> tuple[Field, Field]:
    """A binary16: its upper byte, then its lower one."""
    return _bytes(f"{name} high", at + 1, side=side), _bytes(f"{name} low", at, side=f"{name} high")


def _half_value(symbols: dict[str, Bytes], name: str) -> Scales:
    """A binary16 as a multiple of 2^-24, shape (blocks, 1)."""
    bits = symbols[f"{name} high"].astype(np.int64) << 8 | symbols[f"{name} low"]
    exponent, mantissa = bits >> 10 & 31, bits & 1023
    size = np.where(exponent > 0, mantissa + 1024 << np.maximum(exponent - 1, 0), mantissa)
    return np.where(bits >> 15, -size, size)


def _one(name: str) -> ScalesOf:
    """One step for a block, and no offset."""

    def scales(symbols: dict[str, Bytes]) -> tuple[Scales, Scales]:
        step = _half_value(symbols, name)
        return step, np.zeros_like(step)

    return scales


def _with_least(symbols: dict[str, Bytes]) -> tuple[Scales, Scales]:
    return _half_value(symbols, "d"), -_half_value(symbols, "m")


def _with_mins(symbols: dict[str, Bytes]) -> tuple[Scales, Scales]:
    return _half_value(symbols, "d") * symbols["scales"], _half_value(symbols, "dmin") * symbols["mins"]


def _signed(middle: int) -> ScalesOf:
    """A step for each group: a scale, as a number above `middle`, times d."""

    def scales(symbols: dict[str, Bytes]) -> tuple[Scales, Scales]:
        step = _half_value(symbols, "d") * (symbols["scales"].astype(np.int64) - middle)
        return step, np.zeros_like(step)

    return scales


def _power(symbols: dict[str, Bytes]) -> tuple[Scales, Scales]:
    step = np.int64(1) << np.clip(symbols["e"].astype(np.int64) - MIDDLE_EXPONENT, 0, MAX_EXPONENT)
    return step, np.zeros_like(step)


def _halves_of_bytes(at: int, count: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Bytes and shifts of nibbles in sub-blocks of `count` bytes: first all lower halves, then all upper ones."""
    every = np.arange(256 if count > 16 else 32)
    return at + every // (2 * count) * count + every % count, every // count % 2 * 4


def _five(high: int, low: int) -> tuple[Piece, Piece]:
    every = np.arange(32)
    places, shifts = _halves_of_bytes(low, 16)
    return _piece(every, places, shifts, 4), _piece(every, high + every // 8, every % 8, 1, 4)


def _scales_and_mins(at: int) -> tuple[Field, Field]:
    """Eight scales and eight minima of 6 bits each, as Q4_K and Q5_K have them in 12 bytes."""
    low, high = np.arange(4), np.arange(4, 8)
    scales = _piece(low, at + low, 0, 6), _piece(high, at + 4 + high, 0, 4), _piece(high, at - 4 + high, 6, 2, 4)
    mins = _piece(low, at + 4 + low, 0, 6), _piece(high, at + 4 + high, 4, 4), _piece(high, at + high, 6, 2, 4)
    return Field("scales", 8, 6, scales), Field("mins", 8, 6, mins, "scales")


def _of_two_and_three(at: int, high: int = -1) -> tuple[Piece, ...]:
    """256 weights of 2 bits from byte `at` on, and a third one from `high` on."""
    every = np.arange(256)
    half, quarter, byte = every // 128, every % 128 // 32, every % 32
    low = _piece(every, at + 32 * half + byte, 2 * quarter, 2)
    return (low,) if high < 0 else (low, _piece(every, high + byte, 4 * half + quarter, 1, 2))


def _types() -> dict[int, BlockType]:
    small, k = np.arange(32), np.arange(256)
    nibbles = _halves_of_bytes(2, 16)
    wide_low, wide_shift = _halves_of_bytes(0, 32)
    six_low = 64 * (k // 128) + k % 32 + 32 * (k % 128 // 32 % 2), k % 128 // 64 * 4
    xs_low = 8 + 16 * (k // 32) + k % 16, k % 32 // 16 * 4
    q3_low = np.arange(16)
    q3_scales = (
        _piece(q3_low, 96 + q3_low % 8, q3_low // 8 * 4, 4),
        _piece(q3_low, 104 + q3_low % 4, q3_low // 4 * 2, 2, 4),
    )
    xs = np.arange(8)
    xs_scales = _piece(xs, 4 + xs // 2, xs % 2 * 4, 4), _piece(xs, 2 + xs // 4, xs % 4 * 2, 2, 4)

    def weights(count: int, bits: int, *pieces: Piece, flip: int = 0) -> Field:
        return Field(WEIGHTS, count, bits, pieces, flip=flip)

    def around(bits: int, middle: int) -> tuple[int, ...]:
        return tuple(range(-middle, (1 << bits) - middle))

    def nibble(at: int) -> Field:
        return weights(32, 4, _piece(small, nibbles[0] - 2 + at, nibbles[1], 4))

    d, m = _half("d", 0), _half("m", 2, "d high")
    k_heads = *d, *_half("dmin", 2, "d high"), *_scales_and_mins(4)
    q5_k = _piece(k, 48 + wide_low, wide_shift, 4), _piece(k, 16 + k % 32, k // 32, 1, 4)
    q6_k = _piece(k, *six_low, 4), _piece(k, 128 + 32 * (k // 128) + k % 32, k % 128 // 32 * 2, 2, 4)
    q2_k = (
        *_half("d", 80),
        *_half("dmin", 82, "d high"),
        Field("scales", 16, 4, (_piece(np.arange(16), np.arange(16), 0, 4),)),
        Field("mins", 16, 4, (_piece(np.arange(16), np.arange(16), 4, 4),), "scales"),
        weights(256, 2, *_of_two_and_three(16)),
    )
    types = {
        2: BlockType("Q4_0", 18, 32, (*d, nibble(2)), 32, _one("d"), around(4, 8)),
        3: BlockType("Q4_1", 20, 32, (*d, *m, nibble(4)), 32, _with_least, around(4, 0)),
        6: BlockType("Q5_0", 22, 32, (*d, weights(32, 5, *_five(2, 6))), 32, _one("d"), around(5, 16)),
        7: BlockType("Q5_1", 24, 32, (*d, *m, weights(32, 5, *_five(4, 8))), 32, _with_least, around(5, 0)),
        8: BlockType("Q8_0", 34, 32, (*d, _bytes(WEIGHTS, 2, 32, flip=128)), 32, _one("d"), around(8, 128)),
        10: BlockType("Q2_K", 84, 256, q2_k, 16, _with_mins, around(2, 0)),
        11: BlockType(
            "Q3_K",
            110,
            256,
            (*_half("d", 108), Field("scales", 16, 6, q3_scales), weights(256, 3, *_of_two_and_three(32, 0))),
            16,
            _signed(32),
            around(3, 4),
        ),
        12: BlockType(
            "Q4_K",
            144,
            256,
            (*k_heads, weights(256, 4, _piece(k, 16 + wide_low, wide_shift, 4))),
            32,
            _with_mins,
            around(4, 0),
        ),
        13: BlockType("Q5_K", 176, 256, (*k_heads, weights(256, 5, *q5_k)), 32, _with_mins, around(5, 0)),
        14: BlockType(
            "Q6_K",
            210,
            256,
            (*_half("d", 208), _bytes("scales", 192, 16, flip=128), weights(256, 6, *q6_k)),
            16,
            _signed(128),
            around(6, 32),
        ),
        20: BlockType("IQ4_NL", 18, 32, (*d, nibble(2)), 32, _one("d"), IQ4_VALUES),
        23: BlockType(
            "IQ4_XS",
            136,
            256,
            (*d, Field("scales", 8, 6, xs_scales), weights(256, 4, _piece(k, *xs_low, 4))),
            32,
            _signed(32),
            IQ4_VALUES,
        ),
        39: BlockType("MXFP4", 17, 32, (_bytes("e", 0), nibble(1)), 32, _power, MXFP4_VALUES),
    }
    plain = {
        9: ("Q8_1", 36, 32),
        15: ("Q8_K", 292, 256),
        16: ("IQ2_XXS", 66, 256),
        17: ("IQ2_XS", 74, 256),
        18: ("IQ3_XXS", 98, 256),
        19: ("IQ1_S", 50, 256),
        21: ("IQ3_S", 110, 256),
        22: ("IQ2_S", 82, 256),
        29: ("IQ1_M", 56, 256),
        34: ("TQ1_0", 54, 256),
        35: ("TQ2_0", 66, 256),
    }
    types |= {i: BlockType(name, size, count, (_bytes("bytes", 0, size),)) for i, (name, size, count) in plain.items()}
    return types


TYPES = _types()
