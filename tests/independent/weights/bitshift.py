"""The payload of docs/bitshift.md, and the exact product with it."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from decimal import Decimal, localcontext
from typing import Any

import numpy as np
import numpy.typing as npt

from independent.damage import check
from independent.tables import MASK

F = np.float32
Array = npt.NDArray[Any]
HEAD = 16


def powers() -> list[np.float32]:
    """T."""
    with localcontext() as context:
        context.prec = 40
        return [F(Decimal(2) ** (Decimal(i) / 16)) for i in range(16)]


def mix(u: int) -> int:
    """The hash of the signs."""
    u = u * 0x9E3779B1 & MASK
    u = (u ^ u >> 15) * 0x85EBCA77 & MASK
    return (u ^ u >> 13) * 0xC2B2AE3D & MASK


def transform(x: Array) -> Array:
    """A Walsh-Hadamard transform of the last axis, whose length is a power of two."""
    m = x.shape[-1]
    distance = 1
    while distance < m:
        pairs = x.reshape(*x.shape[:-1], -1, 2, distance)
        a, b = pairs[..., 0, :], pairs[..., 1, :]
        x = np.stack([a + b, a - b], -2).reshape(x.shape)
        distance *= 2
    with localcontext() as context:
        context.prec = 40
        return x * F(1 / Decimal(m).sqrt())


def signs(seed: int, n: int) -> Array:
    """Of each column, 1 or -1."""
    return np.array([-1 if mix(seed + j & MASK) >> 31 else 1 for j in range(n)], F)


def rotate(x: Array, seed: int) -> Array:
    """Rows of activations, turned."""
    n = x.shape[-1]
    m = 1 << n.bit_length() - 1
    x = x * signs(seed, n)
    x[..., :m] = transform(x[..., :m])
    if m < n:
        x *= signs(seed, n)
        x[..., n - m :] = transform(x[..., n - m :])
    return x


def turn_back(x: Array, seed: int) -> Array:
    """Rows of weights, as they were before the rotation."""
    n = x.shape[-1]
    m = 1 << n.bit_length() - 1
    x = x.copy()
    if m < n:
        x[..., n - m :] = transform(x[..., n - m :])
        x *= signs(seed, n)
    x[..., :m] = transform(x[..., :m])
    return x * signs(seed, n)


@dataclass
class Coded:
    """A payload's integers and factors."""

    values: Array  # rows x columns, integers
    factors: Array  # a row's factor, binary32
    rotated: bool
    seed: int

    def weights(self) -> Array:
        """The matrix, in binary32."""
        weights = self.values.astype(F) * self.factors[:, None]
        return turn_back(weights, self.seed) if self.rotated else weights

    def product(self, x: Array) -> Array:
        """W x for rows of activations in binary32."""
        turned = rotate(x, self.seed) if self.rotated else x
        rows = []
        for row in turned:
            top = np.abs(row).max()
            if top == 0:
                rows.append(np.zeros(len(self.factors), F))
                continue
            q = np.rint(row * (F(127) / top)).astype(np.int64)
            rows.append((self.values @ q).astype(F) * ((top / F(127)) * self.factors))
        return np.array(rows, F)


def value(state: int) -> int:
    """The integer of a state."""
    h = state * 0x379B28F5 & 0x3F3F3F3F
    return sum(h.to_bytes(4, "little")) - 126


def row_values(words: list[int], log_states: int, k: int, columns: int) -> list[int]:
    """The integers of a row."""
    bits = 32 * len(words)
    ring = 0
    for word in words:
        ring = ring << 32 | word
    twice = ring << bits | ring  # the row is cyclic
    mask = (1 << log_states) - 1
    return [value(twice >> 2 * bits - k * t - log_states & mask) for t in range(columns)]


def decode(payload: bytes, rows: int, columns: int) -> Coded:
    """The integers and factors of a matrix."""
    log_states, k, flags, zero, seed, scale, crc = struct.unpack("<BBBBIfI", payload[:HEAD])
    whole = payload[:12] + bytes(4) + payload[HEAD:] + struct.pack("<QQ", rows, columns)
    check(zlib.crc32(whole) == crc, "a payload's checksum")
    check(log_states in (12, 16) and k in (2, 3, 4) and flags < 2 and zero == 0, "the fields of a payload")
    check(scale == 0 or 2.0**-100 <= scale <= 2.0**100, "the scale")
    check(columns <= 1 << 17, "the columns")
    check(flags == 1 or seed == 0, "a seed without a rotation")
    length = k * -(-columns // 32)
    check(len(payload) == HEAD + rows * (4 * length + 1), "the payload's length")
    words = struct.unpack(f"<{rows * length}I", payload[HEAD:-rows])
    values = []
    for row in range(rows):
        group = row // 16 * 16
        size = min(16, rows - group)
        own = [words[group * length + i * size + row - group] for i in range(length)]
        values.append(row_values(own, log_states, k, columns))
    table = powers()
    factors = [F(scale) * table[e % 16] * F(2.0 ** ((e >> 4) - 15)) if e else F(0) for e in payload[-rows:]]
    return Coded(np.array(values), np.array(factors, F), flags == 1, seed)
