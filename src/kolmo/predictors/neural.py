"""The embedded predictor `neural`: a recurrent network's knowledge and a context mixer's memory, exact on all machines.

The network (`predictors.network`; trained by `kolmo train`) has read text and code, and gives its probability of every
bit to the context mixer (`predictors.context_mixing`), which learns from the file at hand how far to trust it. A block
is cut into lanes that advance together, so that a matrix product serves them all; they share one memory.
docs/neural.md specifies all of it.

What it is not: blocks that do not look like what the network has read are left to the mixer alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from kolmo.coder.binary import BinaryDecoder, BinaryEncoder
from kolmo.errors import PredictorError
from kolmo.native import tables
from kolmo.native.dispatch import SLOW, kernels
from kolmo.predictors import context_mixing
from kolmo.predictors.base import Tick, slices
from kolmo.predictors.choice import Choice, Randomness
from kolmo.predictors.context_mixing import (
    Shape,
    code_lengths,
    configuration,
    digest_of,
    draws,
    mixer_memory,
    prior,
    room_for,
    table_sizes,
)
from kolmo.predictors.network import Weights, load

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

HALF = 1 << 15  # an even chance, in 2^-16
STEPS = 256 if SLOW else 4096  # bytes between ticks
EXPANSION = 1 << 10  # raw bytes for each byte of payload, at most, of blocks that hear the network: 0.03 s each
LANE = 1 << 19  # bytes of memory that a lane takes, at most
ALWAYS = 512  # blocks of fewer bytes always hear the network
SAMPLES, SAMPLE = 8, 512  # of larger blocks, pieces on which it is tried, and bytes of each
DEAREST = 6 * 2839  # what a byte of them counts at most, 6 bits in steps of 1/4096: the mixer hardly pays for more
FIRST = 10  # what a lane's network is given before its first byte: a line's end
NETWORK = Path(__file__).with_name("networks") / "base.safetensors"


@dataclass(frozen=True)
class Level:
    """A mixer's shapes, with a network and without; log2 of its trees' most memory; the least bytes of a lane."""

    shape: Shape
    plain: Shape
    table_bits: int
    lane: int
    most_lanes: int


FULL = replace(
    context_mixing.FULL,
    name="neural-full",
    contexts=(*context_mixing.FULL.contexts, 5, 28, 31, 35, 37, 38, 39),  # 29: their inputs fill vectors
    selectors=(1, 2, 3, 4, 5, 6, 7, 13, 15),
    rate=130,
    final_rate=45,
    network=True,
)
# A configuration has room for 36 contexts: those of the network take the places of the least useful ones.
LARGE = replace(
    context_mixing.LARGE,
    name="neural-large",
    contexts=(*(c for c in context_mixing.LARGE.contexts if c not in (5, 24, 29, 32)), 36, 37, 38, 39),
    selectors=(1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 13, 15),
    rate=130,
    final_rate=45,
    network=True,
)
SHAPES = (FULL, LARGE)
LEVELS = {
    5: Level(FULL, context_mixing.FULL, 27, 1 << 21, 4),
    6: Level(FULL, context_mixing.FULL, 28, 1 << 30, 1),
    7: Level(LARGE, context_mixing.LARGE, 27, 1 << 30, 1),
    8: Level(LARGE, context_mixing.LARGE, 28, 1 << 30, 1),
    9: Level(LARGE, context_mixing.LARGE, 29, 1 << 30, 1),
}


@cache
def network() -> Weights:
    """The network that ships with the package."""
    return load(NETWORK)


@cache
def network_kernel() -> kernels.Network:
    """The same, ready to run."""
    weights = network()
    return kernels.Network(weights.config, weights.weights)


class Neural:
    """The predictor `neural` at a level from 5 to 9 (small)."""

    name = "neural"
    version = 1

    def __init__(self, level: int = 5) -> None:
        if level not in LEVELS:
            raise PredictorError(f"neural has levels 5 to 9, not {level}; use neural:5 to neural:9")
        self.level = level
        self._level = LEVELS[level]

    @classmethod
    def from_spec(cls, argument: str) -> Neural:
        """From the part of a spec behind `neural:`: a level, or nothing for the default.

        Raises:
            PredictorError: it is no level.
        """
        if argument and not (argument.isascii() and argument.isdigit()):
            raise PredictorError(f"neural has levels 5 to 9, not {argument!r}; use neural:5 to neural:9")
        return cls(int(argument or 5))

    @classmethod
    def restore(cls, version: int, parameters: bytes) -> Neural:
        """From what a file recorded.

        Raises:
            PredictorError: another version, or parameters that no version 1 wrote.
        """
        if version != cls.version:
            raise PredictorError(f"neural version {version} is not known here; upgrade kolmo")
        if len(parameters) != 1 or parameters[0] not in LEVELS:
            raise PredictorError(
                f"neural version 1 has no parameters {parameters.hex()!r}; the file is damaged or newer"
            )
        return cls(parameters[0])

    def parameters(self) -> bytes:
        """The level, one byte."""
        return bytes([self.level])

    def fingerprint(self) -> bytes:
        """First 4 bytes of a SHA-256 over constants, shapes, sizes, priors and the network."""
        return _fingerprint(self.level)

    def memory(self, size: int) -> int:
        """Bytes that a model of a block of `size` bytes allocates (the C kernels; NumPy takes several times more)."""
        mixer = max(
            mixer_memory(shape, size, self._level.table_bits) for shape in (self._level.shape, self._level.plain)
        )
        return mixer + size + self.lanes(size) * LANE + (24 << 20)

    def expansion(self, payload: bytes) -> int:
        """Upper bound on the raw bytes of a block for each byte of its payload, fewer where it hears the network.

        That is the block's first decision, an even one, and so the payload's first bit.
        """
        hears = payload[:1] < b"\x80"
        return EXPANSION if hears else context_mixing.EXPANSION[self._level.plain.name]

    def lanes(self, size: int) -> int:
        """Lanes that a block of `size` bytes is cut into: a power of two."""
        lanes = 1
        while 2 * lanes <= self._level.most_lanes and 2 * lanes * self._level.lane <= size:
            lanes *= 2
        return lanes

    def start(self, size: int, threads: int = 1) -> NeuralModel:
        """A fresh model for a block of `size` bytes."""
        return NeuralModel(self._level, size, self.lanes(size), threads)

    def continuation(self, prompt: bytes, size: int, randomness: Randomness, choice: Choice) -> Iterator[bytes]:
        """Go on where a prompt ends: see `predictors.base.Sampler`.

        Raises:
            PredictorError: the choice is not plain, or prompt and sample are too long.
        """
        room = room_for(self.name, len(prompt) + size, choice)
        return NeuralModel(self._level, room, lanes=1, threads=1).continuation(prompt, size, randomness)


class NeuralModel:
    """A running `neural` over one block. Its first decision is whether it hears the network."""

    def __init__(self, level: Level, size: int, lanes: int, threads: int) -> None:
        self._level, self._size, self._lanes, self._threads = level, size, lanes, threads

    def encode(self, encoder: BinaryEncoder, data: bytes, tick: Tick | None = None) -> None:
        """Code the block."""
        hears = is_worth_hearing(data)
        encoder.encode(int(hears), HALF)
        if not hears:
            return self._plain().encode(encoder, data, tick)
        mixer = self._mixer()
        for steps in self._steps(tick):
            mixer.encode(encoder, data, steps)

    def decode(self, decoder: BinaryDecoder, tick: Tick | None = None) -> bytes:
        """Decode the block.

        Raises:
            CorruptError: the payload ends before it does.
        """
        if not decoder.decode(HALF):
            return self._plain().decode(decoder, tick)
        mixer = self._mixer()
        for steps in self._steps(tick):
            mixer.decode(decoder, steps)
        return mixer.content()

    def score(self, data: bytes, tick: Tick | None = None) -> npt.NDArray[np.float64]:
        """Code length of each byte in bits, shape (len(data),); the first one's holds the first decision too."""
        if is_worth_hearing(data):
            mixer = self._mixer()
            for steps in self._steps(tick):
                mixer.score(data, steps)
            bits = code_lengths(mixer.costs())
        else:
            bits = self._plain().score(data, tick)
        bits[:1] += 1
        return bits

    def continuation(self, prompt: bytes, size: int, randomness: Randomness) -> Iterator[bytes]:
        """Learn the prompt, which decides whether the network is heard, then decode random bits; one lane only."""
        if not is_worth_hearing(prompt):
            yield from self._plain().continuation(prompt, size, randomness)
            return
        mixer, block, at = self._mixer(), prompt + bytes(self._size - len(prompt)), len(prompt)
        for first, last in slices(len(prompt), None, STEPS):
            mixer.score(block, last - first)
        for decoder, count in draws(size, randomness):
            mixer.decode(decoder, count)
            yield mixer.content(at, at + count)
            at += count

    def _steps(self, tick: Tick | None) -> Iterator[int]:
        """Steps of all lanes to take at once, with a tick after each."""
        length = -(-self._size // self._lanes)
        per_slice = max(STEPS // self._lanes, 1)
        done = 0
        for first in range(0, length, per_slice):
            last = min(first + per_slice, length)
            yield last - first
            size = sum(max(min(last, self._size - k * length) - first, 0) for k in range(self._lanes))
            done += size
            if tick:
                tick(size)

    def _mixer(self) -> kernels.NeuralMixer:
        shape, size = self._level.shape, self._size
        return kernels.NeuralMixer(
            configuration(shape, *table_sizes(shape, size, self._level.table_bits)),
            tables.packed(),
            prior(shape),
            size,
            self._lanes,
            self._threads,
            network_kernel(),
        )

    def _plain(self) -> context_mixing.ContextMixingModel:
        return context_mixing.start(self._level.plain, self._size, self._level.table_bits)


def is_worth_hearing(data: bytes) -> bool:
    """Whether the network predicts a block's samples clearly better than the counts of their bytes do.

    Integers only, so that all machines decide alike.
    """
    if len(data) < ALWAYS:
        return True
    import numpy as np

    size = min(SAMPLE, len(data) // SAMPLES)
    starts = [(len(data) - size) * i // (SAMPLES - 1) for i in range(SAMPLES)]
    block = np.frombuffer(data, np.uint8)
    lanes = np.stack([block[at : at + size] for at in starts], axis=1)  # steps x lanes
    before = np.vstack([np.full((1, SAMPLES), FIRST, np.uint8), lanes[:-1]])
    sums = np.frombuffer(network_kernel().start(SAMPLES).step(before.tobytes()), "=u4").reshape(-1, 512)
    symbols = lanes.ravel().astype(np.int64)
    costs = _logarithms(sums[:, 1]) - _logarithms(sums[np.arange(len(symbols)), 256 + symbols])
    counts = np.bincount(symbols, minlength=256)
    plain = counts * (_logarithms(np.array([len(symbols)])) - _logarithms(np.maximum(counts, 1)))
    return 4 * int(np.minimum(costs, DEAREST).sum()) < 3 * int(plain.sum())


def _logarithms(values: npt.NDArray[np.integer]) -> npt.NDArray[np.int64]:
    """Natural logarithms of whole numbers from 1 to 2^31 in steps of 1/4096, as docs/neural.md defines it."""
    import numpy as np

    wide = values.astype(np.int64)
    exponents = np.searchsorted(1 << np.arange(32), wide, side="right") - 1
    digits = np.where(exponents > 10, wide >> np.maximum(exponents - 10, 0), wide << np.maximum(10 - exponents, 0))
    table = np.array(tables.logarithms(), np.int64)
    result: npt.NDArray[np.int64] = exponents * 2839 + table[digits & 1023]
    return result


@cache
def _fingerprint(level: int) -> bytes:
    shapes = LEVELS[level]
    digest = hashlib.sha256(network().fingerprint)
    for shape in (shapes.shape, shapes.plain):
        digest.update(digest_of(shape, shapes.table_bits))
    exponentials, logarithms = tables.exp2_weights().tolist(), tables.logarithms().tolist()
    digest.update(repr((shapes.lane, shapes.most_lanes, exponentials, logarithms)).encode())
    return digest.digest()[:4]
