"""The network of docs/neural.md: its file, its step, and what it adds to the mixer."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from decimal import Decimal, localcontext
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from independent.damage import check
from independent.history import History
from independent.mixing import Bits, Prior
from independent.safetensors import read_safetensors
from independent.shapes import Shape
from independent.tables import MASK, H, squash

Array = npt.NDArray[Any]
F = np.float32
DTYPES = {"I8": "<i1", "U8": "<u1", "F32": "<f4", "F16": "<f2", "U16": "<u2", "I16": "<i2"}
PRIORS = ("fast", "light", "full", "large")
PRIOR_PARTS = ("probabilities", "counts", "weights", "curves")


@cache
def exp2_table() -> list[int]:
    """EXP2."""
    with localcontext() as context:
        context.prec = 40
        return [int((Decimal(2) ** (22 - Decimal(f) / 1024)).to_integral_value()) for f in range(1024)]


@cache
def log_table() -> list[int]:
    """LOG."""
    with localcontext() as context:
        context.prec = 40
        return [int((4096 * (1 + (i + Decimal("0.5")) / 1024).ln()).to_integral_value()) for i in range(1024)]


def ln(s: int) -> int:
    """LN(s)."""
    digits = s.bit_length() - 1
    below = s - (1 << digits)
    return digits * 2839 + log_table()[below >> digits - 10 if digits >= 10 else below << 10 - digits]


def walk(indices: Array) -> Array:
    """The weights of version 2: each row is a path along the trellis of 8 states."""
    state = np.zeros(len(indices), np.int64)
    weights = np.empty(indices.shape, np.int64)
    for column, i in enumerate(indices.T.astype(np.int64)):
        weights[:, column] = 2 * i + (state & 1)
        state = state >> 1 ^ np.where(state & 1, 5, 0) ^ np.where(i & 1, 2, 0)
    return weights


@dataclass
class Network:
    """Weights of a network.

    Products of integers are computed in binary32, which is fast and exact: no sum is above 1024 * 127 * 127 < 2^24.
    """

    layers: int
    state: int
    tables: list[tuple[int, int]]
    tensors: dict[str, Array]
    fingerprint: bytes
    priors: dict[str, bytes]

    @staticmethod
    def read(file: bytes) -> Network:
        """From a file of version 1 or 2."""
        metadata, stored = read_safetensors(file)
        check(metadata["format"] == "kolmo-network", "the format of a network")
        check(metadata["version"] in ("1", "2"), "the version of a network")
        shape = [metadata[name] for name in ("layers", "state", "embedding", "slot")]
        tables = []
        for part in filter(None, metadata["tables"].split(",")):
            order, bits = part.split(":")
            tables.append((int(order), int(bits)))
        tensors = {
            name: np.frombuffer(data, DTYPES[dtype]).reshape(sizes) for name, (dtype, sizes, data) in stored.items()
        }
        if metadata["version"] == "2":
            for layer in range(int(shape[0])):
                for name in (f"layer.{layer}.in", f"layer.{layer}.out"):
                    tensors[name] = walk(tensors[name])
        names = ["embedding", "embedding_scale"]
        names += [f"table.{k}{end}" for k in range(len(tables)) for end in ("", "_scale")]
        parts = ("in", "in_scale", "bias", "out", "out_scale")
        names += [f"layer.{layer}.{part}" for layer in range(int(shape[0])) for part in parts]
        names += ["head", "head_scale", "head_bias"]
        priors = {}
        if metadata.get("priors") == "1":
            for name in PRIORS:
                priors[name] = b"".join(stored[f"prior.{name}.{part}"][2] for part in PRIOR_PARTS)
        if priors:
            names += [f"prior.{name}.{part}" for name in PRIORS for part in PRIOR_PARTS]
        check(len(stored) == len(names), "the tensors of a network")
        digest = hashlib.sha256(",".join([*shape, metadata["tables"]]).encode())
        for name in names:
            data = tensors[name]
            is_matrix = name.endswith((".in", ".out"))
            digest.update((data.astype(np.int8) if is_matrix else data).tobytes())
        return Network(int(shape[0]), int(shape[1]), tables, tensors, digest.digest(), priors)

    def prior(self, shape: Shape) -> Prior:
        """The prior that the file has for a shape."""
        return Prior.of(self.priors[shape.name.removeprefix("neural-")], shape)


def normalise(x: Array, scale: int) -> Array:
    """Integers of 8 bits, as floats, for floats."""
    shift = F(12582912)
    i = ((np.clip(x * F(4096), F(-67108864), F(67108864)) + shift) - shift).astype(np.int32).astype(np.int64)
    m = F(np.float64((i * i).sum()) * (1 / (len(x) * 2.0**24)))
    by = F(scale) / np.sqrt(m + F(2.0**-20))
    integers: Array = np.rint(np.clip(x * by, F(-127), F(127)))
    return integers


class Lane:
    """The network's state in one sequence of bytes."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.hidden = [np.zeros(network.state, F) for _ in range(network.layers)]
        self.c4 = self.word = 0
        self.inside = False
        tensors = network.tensors
        self.matrices = {
            name: data.astype(F) for name, data in tensors.items() if name.endswith((".in", ".out", "head"))
        }

    def entries(self, c: int) -> list[int]:
        """The entry of each table after byte c."""
        self.c4 = (self.c4 << 8 | c) & MASK
        if 65 <= c <= 90 or 97 <= c <= 122 or c >= 128:
            lower = c + 32 if 65 <= c <= 90 else c
            self.word = ((self.word if self.inside else 0) + lower + 1) * 0x2F0B4C47 & MASK
            self.inside = True
            key0 = self.word
        else:
            self.inside = False
            key0 = self.word + (c + 1) * 0x9E3779B1 & MASK
        entries = []
        for order, bits in self.network.tables:
            key = self.c4 & (1 << 8 * order) - 1 if order else key0
            k = (key ^ key >> 15) * 0x9E3779B1 & MASK
            entries.append(((k ^ k >> 13) * 0x2F0B4C47 & MASK) >> 32 - bits)
        return entries

    def product(self, name: str, u: Array) -> Array:
        """A product with a matrix, in binary32, times the rows' scales."""
        scale = self.network.tensors[f"{name}_scale"]
        product: Array = (self.matrices[name] @ u) * scale
        return product

    def read(self, c: int) -> list[int]:
        """The weights of the next byte after byte c."""
        t = self.network.tensors
        parts = [t["embedding"][c].astype(F) * t["embedding_scale"][c]]
        for k, entry in enumerate(self.entries(c)):
            packed = t[f"table.{k}"][entry]
            halves = np.stack([packed & 15, packed >> 4], 1).reshape(-1).astype(F) - F(8)
            parts.append(halves * F(t[f"table.{k}_scale"][entry]))
        x = np.concatenate(parts)
        one, half = F(1), F(0.5)
        for layer in range(self.network.layers):
            z = self.product(f"layer.{layer}.in", normalise(x, 24))
            r, candidate, g = np.split(z, 3)
            s = r + t[f"layer.{layer}.bias"]
            k = half + (half * s) / np.sqrt(one + s * s)
            h = self.hidden[layer]
            h = h + k * (candidate - h)
            self.hidden[layer] = h
            y = (h * g) * (half + (half * g) / np.sqrt(one + g * g))
            x = x + self.product(f"layer.{layer}.out", normalise(y, 16))
        logits = self.product("head", normalise(x, 24)) + t["head_bias"]
        d = (logits - logits.max()) * F(1.44269504)
        q = -np.rint(np.clip(d * F(1024), F(-24576), F(0))).astype(np.int32)
        return [max(1, exp2_table()[i % 1024] >> i // 1024) for i in q.tolist()]


class Forecast:
    """What a lane of the network adds to the mixer."""

    def __init__(self, network: Network) -> None:
        self.lane = Lane(network)
        self.sums = [0] * 512
        self.best = self.second = self.sure = self.s = 0

    def begin(self, history: History) -> None:
        """Read the byte before the next one."""
        weights = self.lane.read(history.c1 if history.position > history.origin else 10)
        sums = [0] * 256 + weights
        for i in range(255, 0, -1):
            sums[i] = sums[2 * i] + sums[2 * i + 1]
        self.sums = sums
        self.best = weights.index(max(weights))
        others = [w if b != self.best else 0 for b, w in enumerate(weights)]
        self.second = others.index(max(others))
        self.sure = 8 * weights[self.best] // (sums[1] + 1)

    def context(self, number: int, history: History) -> int:
        """Contexts 36 to 39."""
        if number == 36:
            return self.best * 256 + self.second
        if number == 37:
            return H(self.best * 8 + self.sure, history.c1)
        if number == 38:
            return H(self.best * 256 + self.second, history.c4 & 0xFFFF)
        check(number == 39, f"context {number}")
        return H(self.best, history.word)

    def inputs(self, now: Bits) -> list[int]:
        """The three inputs after the bias."""
        difference = ln(self.sums[2 * now.c0 + 1]) - ln(self.sums[2 * now.c0])
        self.s = min(max(difference + 8 >> 4, -2047), 2047)
        return [self.s, squash(self.s) - 32768 >> 6, 2 * self.s]

    def selector(self, number: int, now: Bits) -> int:
        """Selectors 12 to 15."""
        bit = now.bit
        agrees = (self.best | 256) >> 8 - bit == now.c0
        if number == 12:
            return (self.s + 2048 >> 7) + 32 * bit
        if number == 13:
            return self.best if agrees else 256 + self.second
        if number == 14:
            return (self.s + 2048 >> 8) + 16 * (now.guess + 1) + 64 * bit
        check(number == 15, f"selector {number}")
        return 8 * self.sure + bit if agrees else 64 + bit
