"""The payload of docs/residual.md: exact floats above a trellis of one state."""

from __future__ import annotations

import math
import struct
import zlib

import numpy as np

from independent.arithmetic import Decoder
from independent.damage import check
from independent.weights.trellis import TILE, Adaptive, decode_levels, read_payload

MANTISSA = {"BF16": (8, 7), "F16": (5, 10), "F32": (8, 23), "F64": (11, 52)}  # bits of exponent, of mantissa


class RawBits:
    """Groups of bits, each with its lowest first."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, count: int) -> int:
        """The next group."""
        value = 0
        for i in range(count):
            check(self.at < 8 * len(self.data), "too few raw bits")
            value |= (self.data[self.at // 8] >> self.at % 8 & 1) << i
            self.at += 1
        return value


class Contexts(dict[object, Adaptive]):
    """Probabilities, made at first use; they begin with 1/2."""

    def __missing__(self, key: object) -> Adaptive:
        self[key] = Adaptive(1 << 21)
        return self[key]


class Tile:
    """The walk over a tile."""

    def __init__(self, code: bytes, raw: bytes, m: int, spare: int, unit: int, depth: int, columns: int) -> None:
        self.coder, self.raw, self.mantissa, self.spare, self.unit = Decoder(code), RawBits(raw), m, spare, unit
        self.depth, self.zeros, self.rows = depth & 15, bool(depth & 16), bool(depth & 32)
        self.contexts = Contexts()
        self.other = False  # whether the row before had another number of zero bits than the one before it
        self.row, self.columns = 128, [128] * columns

    @property
    def m(self) -> int:
        """Bits of a mantissa that are coded."""
        return self.mantissa - self.spare

    def begin_row(self) -> None:
        """How many lowest bits of this row's mantissas are 0."""
        if self.rows:
            self.other = bool(self.contexts["another", self.other].decode(self.coder))
            if self.other:
                self.spare = self.raw.take(6)
            check(self.spare <= self.mantissa, "more zero bits than a mantissa has")

    def upper(self, bits: int, context: int) -> tuple[int, int]:
        """The upper bits of `bits`, as decisions, and how many are left."""
        count = min(self.depth, bits)
        before = 1
        for _ in range(count):
            before = 2 * before + self.contexts[context, before].decode(self.coder)
        return before - (1 << count), bits - count

    def float_of(self, level: int, column: int) -> tuple[int, int, int]:
        """Sign, exponent and mantissa of a weight."""
        sign, exponent, mantissa = self.inner(column) if level == 0 else self.outer(level)
        new = min(abs(level), 511) * 64
        self.row += new - self.row >> 4
        self.columns[column] += new - self.columns[column] >> 4
        return sign, exponent, mantissa

    def outer(self, level: int) -> tuple[int, int, int]:
        """Of a level that is not 0."""
        octave = abs(level).bit_length() - 1
        r = max(self.m - octave, 0)
        upper, rest = self.upper(r, min(abs(level), 16))
        residual = upper << rest | self.raw.take(rest)
        whole = abs(level) << self.m >> octave if octave <= self.m else abs(level) >> octave - self.m
        return int(level < 0), self.unit + octave, (whole - (1 << self.m)) | residual

    def inner(self, column: int) -> tuple[int, int, int]:
        """Of a level 0."""
        class_ = (self.row * self.columns[column]).bit_length()
        if self.zeros and self.contexts["zero", class_].decode(self.coder):
            return self.contexts["negative"].decode(self.coder), 0, 0
        octaves = 0
        while octaves < 16 and self.contexts["octave", class_, octaves].decode(self.coder):
            octaves += 1
        if octaves == 16:
            octaves += self.raw.take(11)
        exponent = self.unit - 1 - octaves
        check(exponent >= 0, "an exponent below 0")
        upper, rest = self.upper(self.m, 17 + min(octaves, 15))
        bits = self.raw.take(rest + 1)
        return bits & 1, exponent, upper << rest | bits >> 1


def decode(base: bytes, payload: bytes, dtype: str, rows: int, columns: int) -> bytes:
    """The exact bytes of a matrix."""
    exponent_bits, m = MANTISSA[dtype]
    spare, depth, unit, crc = struct.unpack("<BBHI", payload[:8])
    whole = payload[:4] + bytes(4) + payload[8:] + struct.pack("<QQ", rows, columns)
    check(zlib.crc32(whole) == crc, "a residual's checksum")
    fields = read_payload(base, rows, columns)
    step = math.ldexp(1.0, unit - (1 << exponent_bits - 1) + 1)
    check(fields.states == 1 and np.float32(step) == np.float32(fields.step), "the base's step")
    levels = decode_levels(fields, rows, columns)
    sizes = struct.unpack(f"<{2 * len(fields.tiles)}I", payload[8 : 8 + 8 * len(fields.tiles)])
    at = 8 + 8 * len(fields.tiles)
    width = (1 + exponent_bits + m) // 8
    exact = bytearray()
    for tile in range(len(fields.tiles)):
        code, raw = sizes[2 * tile : 2 * tile + 2]
        walk = Tile(
            payload[at : at + code],
            payload[at + code : at + code + raw],
            m,
            spare,
            unit,
            depth,
            columns,
        )
        at += code + raw
        for i in range(tile * TILE, min((tile + 1) * TILE, rows * columns)):
            if i % columns == 0 or i == tile * TILE:
                walk.begin_row()
            sign, exponent, mantissa = walk.float_of(levels[i] or 0, i % columns)
            bits = sign << exponent_bits + m | exponent << m | mantissa << walk.spare
            exact += bits.to_bytes(width, "little")
        check(walk.raw.at + 7 >> 3 == raw, "raw bits that are left")
    check(at == len(payload), "the sizes of a residual")
    return bytes(exact)
