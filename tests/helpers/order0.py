"""A whole predictor in 90 lines: adaptive order-0 bits. A plugin example, and the tests' second one.

A byte is eight decisions down a binary tree; each of the 255 nodes holds one 16-bit probability that moves
towards what it saw. What it is not: good, or fast.
"""

from __future__ import annotations

import hashlib
import math

import numpy as np
import numpy.typing as npt

from kolmo.coder.binary import BinaryDecoder, BinaryEncoder
from kolmo.errors import PredictorError
from kolmo.predictors import registry
from kolmo.predictors.base import Predictor, slices
from kolmo.progress import Progress

VERSION = 1


class Order0(Predictor):
    """The recipe; `rate` (2..7) is how slowly the probabilities move."""

    name = "order0"
    version = VERSION

    def __init__(self, rate: int = 4) -> None:
        if not 2 <= rate <= 7:
            raise ValueError(f"rate {rate} is not in 2..7")
        self.rate = rate

    @classmethod
    def from_spec(cls, argument: str) -> Order0:
        return cls(int(argument)) if argument else cls()

    @classmethod
    def restore(cls, version: int, parameters: bytes) -> Order0:
        if version != VERSION or len(parameters) != 1:
            raise PredictorError(f"order0 version {version} is not known here; install its writer's version")
        return cls(parameters[0])

    def parameters(self) -> bytes:
        return bytes([self.rate])

    def fingerprint(self) -> bytes:
        return hashlib.sha256(f"order0 {VERSION} {self.rate}".encode()).digest()[:4]

    def memory(self, size: int) -> int:
        return 1 << 14

    def start(self, size: int, threads: int = 1) -> Order0Model:
        return Order0Model(self.rate, size)


class Order0Model:
    """The running state: p[node] is the probability of a 1, of 65536."""

    def __init__(self, rate: int, size: int) -> None:
        self.rate, self.size = rate, size
        self.p = [32768] * 256

    def encode(self, encoder: BinaryEncoder, data: bytes, progress: Progress | None = None) -> None:
        for first, last in slices(len(data), progress):
            for byte in data[first:last]:
                node = 1
                for shift in range(7, -1, -1):
                    bit = byte >> shift & 1
                    encoder.encode(bit, self.p[node])
                    node = self.learn(node, bit)

    def decode(self, decoder: BinaryDecoder, progress: Progress | None = None) -> bytes:
        out = bytearray()
        for first, last in slices(self.size, progress):
            for _ in range(first, last):
                node = 1
                while node < 256:
                    node = self.learn(node, decoder.decode(self.p[node]))
                out.append(node & 0xFF)
        return bytes(out)

    def score(self, data: bytes, progress: Progress | None = None) -> npt.NDArray[np.float64]:
        bits = np.zeros(len(data))
        for first, last in slices(len(data), progress):
            for at in range(first, last):
                node = 1
                for shift in range(7, -1, -1):
                    bit = data[at] >> shift & 1
                    p = self.p[node]
                    bits[at] -= math.log2((p if bit else 65536 - p) / 65536)
                    node = self.learn(node, bit)
        return bits

    def learn(self, node: int, bit: int) -> int:
        """Move the node's probability, within 32..65504, and go down to the next node."""
        goal = 65504 if bit else 32
        self.p[node] += (goal - self.p[node]) >> self.rate
        return 2 * node + bit


registry.register("order0", Order0)
