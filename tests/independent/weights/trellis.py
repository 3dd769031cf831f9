"""The payload of docs/trellis.md."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from independent.arithmetic import HALF, Decoder
from independent.damage import check

TILE = 1 << 18
CLASSES, PLACES = 24, 9
CODES = {0: (1, 0, 0), 3: (8, 5, 2), 6: (64, 33, 10)}  # states, feedback, input
HOLE = None


class Adaptive:
    """A probability of two estimates."""

    def __init__(self, start: int) -> None:
        self.fast = self.slow = start

    def decode(self, coder: Decoder) -> int:
        """A decision, after which the estimates move."""
        bit = coder.bit(self.fast + self.slow >> 7)
        if bit:
            self.fast += (1 << 22) - self.fast >> 7
            self.slow += (1 << 22) - self.slow >> 10
        else:
            self.fast -= self.fast >> 7
            self.slow -= self.slow >> 10
        return bit


def default_probabilities(states: int) -> list[int]:
    """First probabilities of each class where the payload has none."""
    probabilities = []
    for place in range(CLASSES):
        root = 0
        while (root + 1) ** 3 <= 1 << 27 + place:
            root += 1
        activity = root // 16 - 16
        probabilities.append(min(max(256 * activity // (activity + (128 if states > 1 else 64)), 1), 255))
    return probabilities


def log(x: int) -> int:
    """4 log2(x / 16 + 1), rounded down."""
    return (((x >> 2) + 4) ** 4).bit_length() - 9


def shift_of(line: int) -> int:
    """How fast a column's activity moves in a line of a tile."""
    return 2 if line < 4 else 3 if line < 8 else 4 if line < 32 else 5


@dataclass
class Payload:
    """The fields of a payload."""

    states: int
    feedback: int
    input: int
    holes: bool
    start: int
    step: float
    offsets: tuple[int, ...]
    first: list[list[list[int]]]  # by quantiser, class, place
    tiles: list[bytes]


def read_payload(payload: bytes, rows: int, columns: int) -> Payload:
    """The payload's fields."""
    log_states, flags, start, step, *offsets, crc = struct.unpack("<BBHf6bI", payload[:18])
    whole = payload[:14] + bytes(4) + payload[18:] + struct.pack("<QQ", rows, columns)
    check(zlib.crc32(whole) == crc, "a payload's checksum")
    check(log_states in CODES and flags < 4 and start <= 16384, "the fields of a payload")
    check(2.0**-100 <= step <= 2.0**100, "the step")
    states, feedback, input_ = CODES[log_states]
    default = default_probabilities(states)
    first = [[[p] * PLACES for p in default] for _ in range(2)]
    at = 18
    if flags & 1:
        begin, number = payload[at : at + 2]
        at += 2
        check(begin + number <= CLASSES, "the classes")
        for quantiser in range(2):
            for place in range(begin, begin + number):
                count = payload[at]
                check(count <= PLACES, "a count of first probabilities")
                given = payload[at + 1 : at + 1 + count]
                check(0 not in given, "a first probability")
                first[quantiser][place][:count] = given
                at += 1 + count
    tiles = -(-rows * columns // TILE)
    sizes = struct.unpack(f"<{tiles}I", payload[at : at + 4 * tiles])
    at += 4 * tiles
    check(at + sum(sizes) == len(payload), "the sizes of the tiles")
    codes = []
    for size in sizes:
        codes.append(payload[at : at + size])
        at += size
    return Payload(states, feedback, input_, bool(flags & 2), start, step, tuple(offsets), first, codes)


def decode_value(coder: Decoder, places: list[Adaptive]) -> int:
    """The value of a level."""
    for i in range(18):
        if not places[min(i, 8)].decode(coder):
            return i
    bits = 0
    while coder.bit(HALF):
        bits += 1
        check(bits <= 20, "a value of too many digits")
    return (1 << bits | coder.number(bits)) + 17


def decode_tile(fields: Payload, code: bytes, weights: int, columns: int) -> list[int | None]:
    """The levels of a tile, None for a hole."""
    coder = Decoder(code)
    contexts = [[[Adaptive(p << 14) for p in places] for places in one] for one in fields.first]
    holes = [Adaptive((2 * density + 1) << 17) for density in range(16)]
    line = columns * -(-128 // columns)
    row, by_column = fields.start, [fields.start] * line
    dense, dense_columns = 2048, [2048] * line
    state = 0
    levels: list[int | None] = []
    for place in range(weights):
        column = place % line
        shift = shift_of(place // line)
        if fields.holes:
            density = min((dense + dense_columns[column]) * 16 // 8192, 15)
            hole = holes[density].decode(coder)
            dense += (4096 * hole - dense) >> 5
            dense_columns[column] += (4096 * hole - dense_columns[column]) >> shift
            if hole:
                levels.append(HOLE)
                continue
        class_ = min(max(((log(row) + log(by_column[column])) * 3 >> 3) - 3, 0), CLASSES - 1)
        odd = state & 1
        value = decode_value(coder, contexts[odd][class_])
        n = value if fields.states == 1 else 2 * value + odd
        if n and coder.bit(HALF):
            n = -n
        check(abs(n) <= 1 << 20, "a level")
        levels.append(n)
        state = state >> 1 ^ (fields.feedback if odd else 0) ^ (fields.input if n >> 1 & 1 else 0)
        loud = min(abs(n), 511) * 64
        row += loud - row >> 5
        by_column[column] += loud - by_column[column] >> shift
    return levels


def decode_levels(fields: Payload, rows: int, columns: int) -> list[int | None]:
    """The levels of a matrix, in row-major order."""
    levels: list[int | None] = []
    for code in fields.tiles:
        levels += decode_tile(fields, code, min(TILE, rows * columns - len(levels)), columns)
    return levels


def weight(fields: Payload, n: int | None) -> float:
    """A weight of level n, in binary64."""
    if not n:
        return 0.0
    magnitude = abs(n)
    place = min((magnitude - 1) // 2, 2)
    offset = fields.offsets[place if magnitude % 2 == 0 else 3 + place]
    return (64 * n + (offset if n > 0 else -offset)) * (fields.step / 64)


def decode(payload: bytes, rows: int, columns: int) -> npt.NDArray[np.float32]:
    """The weights of a matrix, in binary32."""
    fields = read_payload(payload, rows, columns)
    levels = decode_levels(fields, rows, columns)
    return np.array([weight(fields, n) for n in levels], np.float64).astype(np.float32).reshape(rows, columns)
