"""Kinds of data for tests of segments: cheap models, headers and guesses that are easy to make."""

from __future__ import annotations

import re
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from kolmo.coder.binary import BinaryDecoder, BinaryEncoder
from kolmo.errors import CorruptError
from kolmo.predictors.embedded.kinds.base import Kind, Segment
from kolmo.progress import Progress

HALF = 1 << 15
SURE = 65000  # probability of the expected bit
HEADER = re.compile(rb"RAMP(.)(.)", re.DOTALL)  # step, size in units of 64 bytes


class RampModel:
    """Expects that each byte is the one before it plus `step`."""

    def __init__(self, size: int, step: int) -> None:
        self._size, self._step = size, step

    def encode(self, encoder: BinaryEncoder, data: bytes, progress: Progress | None = None) -> None:
        for bit, probability in self._decisions(data):
            encoder.encode(bit, probability)
        if progress:
            progress(len(data))

    def decode(self, decoder: BinaryDecoder, progress: Progress | None = None) -> bytes:
        out = bytearray()
        for _ in range(self._size):
            expected, value = self._expected(out), 1
            for k in reversed(range(8)):
                value = value << 1 | decoder.decode(SURE if expected >> k & 1 else 65536 - SURE)
            out.append(value & 255)
        if progress:
            progress(self._size)
        return bytes(out)

    def score(self, data: bytes, progress: Progress | None = None) -> npt.NDArray[np.float64]:
        costs = [-np.log2((p if bit else 65536 - p) / 65536) for bit, p in self._decisions(data)]
        if progress:
            progress(len(data))
        sums: npt.NDArray[np.float64] = np.array(costs, np.float64).reshape(-1, 8).sum(axis=1)
        return sums

    def _decisions(self, data: bytes) -> Iterable[tuple[int, int]]:
        for at, byte in enumerate(data):
            expected = self._expected(data[:at] if at < 2 else data[at - 1 : at])
            for k in reversed(range(8)):
                yield byte >> k & 1, SURE if expected >> k & 1 else 65536 - SURE

    def _expected(self, before: bytes | bytearray) -> int:
        return (before[-1] + self._step if before else 0) & 255


class Ramp(Kind):
    """Bytes that grow by a step. Headers announce them: `RAMP`, a byte with the step, one with the size / 64."""

    name = "ramp"
    code = 9
    fields = ("step",)

    def __init__(self) -> None:
        self.started = 0

    def model(self, level: int, size: int, parameters: tuple[int, ...]) -> RampModel:
        self.started += 1
        if parameters[0] > 255:
            raise CorruptError(f"a ramp has no step {parameters[0]}")
        return RampModel(size, parameters[0])

    def memory(self, level: int, size: int) -> int:
        return 2 * size

    def digest(self, level: int) -> bytes:
        return b"ramp"

    def find(self, data: bytes) -> list[Segment]:
        found: list[Segment] = []
        for match in HEADER.finditer(data):
            size = 64 * match[2][0]
            if 0 < size <= len(data) - match.end() and (not found or match.end() >= found[-1].end):
                found.append(Segment(self.code, match.end(), size, (match[1][0],)))
        return found

    def guess(self, data: bytes) -> list[tuple[int, ...]]:
        if len(data) < 3:
            return []
        middle = len(data) // 2
        step = data[middle] - data[middle - 1] & 255
        return [(step,)] if step and data[middle + 1] - data[middle] & 255 == step else []


class Eager(Ramp):
    """Like `Ramp`, but its headers announce and its guesses see ramps where there are none."""

    name = "eager"
    code = 10

    def find(self, data: bytes) -> list[Segment]:
        return [Segment(self.code, match.start(), len(data) - match.start(), (7,)) for match in HEADER.finditer(data)][
            :1
        ]

    def guess(self, data: bytes) -> list[tuple[int, ...]]:
        return [(7,), (9,)]


def ramp(step: int, size: int) -> bytes:
    """Bytes that grow by a step."""
    return bytes(step * k & 255 for k in range(size))


def announced(step: int, size: int) -> bytes:
    """A ramp of a multiple of 64 bytes behind its header."""
    return b"RAMP" + bytes([step, size // 64]) + ramp(step, size)
