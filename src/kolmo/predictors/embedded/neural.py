"""The embedded predictor `neural`: a recurrent network and a context mixer, with the same bits on all machines.

The network (`predictors.embedded.network`; trained by `kolmo train` on text and code) passes its probability of each
bit to the context mixer (`predictors.embedded.context_mixing`), which learns from the file how much weight to give it.
A block is divided into lanes that advance together, so that one matrix product serves all of them; they share one
memory. docs/neural.md specifies all of it. Blocks that the network predicts badly are coded by the mixer alone, and
those that look random by the mixer of level 4 (`predictors.embedded.gate`).

What it is not: the predictor `network` (`predictors.embedded.own_network`), which uses another network.
"""

from __future__ import annotations

import hashlib
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping
from enum import Enum
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from kolmo.coder.binary import BinaryDecoder, BinaryEncoder
from kolmo.errors import PredictorError
from kolmo.foreign import quoted
from kolmo.native import tables
from kolmo.native.dispatch import SLOW, kernels
from kolmo.predictors.base import Predictor, slices
from kolmo.predictors.choice import Choice, Randomness
from kolmo.predictors.embedded import context_mixing
from kolmo.predictors.embedded.context_mixing import (
    Shape,
    code_lengths,
    configuration,
    digest_of,
    draws,
    inflated_prior,
    mixer_memory,
    prior,
    room_for,
    table_sizes,
)
from kolmo.predictors.embedded.gate import MAX_TRIAL_BYTES, logarithm, looks_packed, should_use_network
from kolmo.predictors.embedded.neural_levels import LEVELS, Level
from kolmo.progress import Progress

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from kolmo.predictors.embedded.network import Weights

HALF = 1 << 15  # probability 1/2, in units of 2^-16
STEPS = 256 if SLOW else 4096  # bytes between calls of `progress`
MAX_EXPANSION = 1 << 10  # raw bytes for each byte of payload in blocks that use the network: 0.03 s each
LANE_MEMORY = 1 << 19  # upper bound on the bytes of memory of a lane
NETWORK = Path(__file__).with_name("networks") / "base.safetensors"
# Its `Weights.fingerprint`. It is a constant here so that a block that does not use the network does not load it.
FINGERPRINT = bytes.fromhex("153eeede5dba9abef6324691be7f976e4a3c95251f610c36fb9c7addfcd359de")


QUICK, QUICK_BITS = context_mixing.LEVELS[4]  # of the mixer for blocks that look random, at every level


class Way(Enum):
    """How a block is coded; the values are the first decisions, of even chance, that record it."""

    NETWORK = (1,)  # the mixer that uses the network
    PLAIN = (0, 0)  # the level's mixer without it
    QUICK = (0, 1)  # level 4's mixer


@cache
def network() -> Weights:
    """The network that ships with the package.

    Raises:
        PredictorError: its file is damaged, or is another network.
    """
    from kolmo.predictors.embedded.network_file import load

    weights = load(NETWORK)
    if weights.fingerprint != FINGERPRINT:
        raise PredictorError(f"{NETWORK}: not the network that this version of kolmo ships; install kolmo again")
    return weights


@cache
def network_kernel() -> kernels.Network:
    """The kernel of the network that ships with the package."""
    weights = network()
    return kernels.Network(weights.config, weights.weights)


class NetworkSource(Protocol):
    """A network, and the priors of the mixers that read its predictions. Shared by all models."""

    @property
    def fingerprint(self) -> bytes:
        """`Weights.fingerprint` of the network."""
        ...

    def kernel(self) -> kernels.Network:
        """The kernel of the network, which is loaded at the first call."""
        ...

    def prior(self, shape: Shape) -> bytes:
        """The prior of a mixer, in the layout of `context_mixing.plain_prior`."""
        ...

    def inflated_prior(self, shape: Shape) -> bytes:
        """The prior as it is stored, before it is deflated."""
        ...


class ShippedNetwork:
    """The network that ships with the package; it is loaded when it is needed."""

    @property
    def fingerprint(self) -> bytes:
        """`FINGERPRINT`."""
        return FINGERPRINT

    def kernel(self) -> kernels.Network:
        """See `network_kernel`."""
        return network_kernel()

    def prior(self, shape: Shape) -> bytes:
        """The prior that ships with the package."""
        return prior(shape)

    def inflated_prior(self, shape: Shape) -> bytes:
        """The same prior as it is stored."""
        return inflated_prior(shape)


SHIPPED = ShippedNetwork()


class Neural(Predictor):
    """The predictor `neural` at a level from 5 to 9 (small)."""

    name = "neural"
    version = 1
    levels: Mapping[int, Level] = LEVELS
    source: NetworkSource = SHIPPED

    def __init__(self, level: int = 5) -> None:
        if level not in self.levels:
            raise PredictorError(f"neural has levels 5 to 9, not {level}; use neural:5 to neural:9")
        self.level = level
        self._level = self.levels[level]

    @classmethod
    def from_spec(cls, argument: str) -> Neural:
        """From the part of a spec behind `neural:`: a level, or nothing for the default.

        Raises:
            PredictorError: the argument is not a level.
        """
        if argument and not (argument.isascii() and argument.isdigit()):
            raise PredictorError(f"neural has levels 5 to 9, not {quoted(argument)}; use neural:5 to neural:9")
        return cls(int(argument or 5))

    @classmethod
    def restore(cls, version: int, parameters: bytes) -> Neural:
        """From what a file recorded.

        Raises:
            PredictorError: another version, or parameters that version 1 does not write.
        """
        if version != cls.version:
            raise PredictorError(f"neural version {version} is not known here; upgrade kolmo")
        if len(parameters) != 1 or parameters[0] not in LEVELS:
            raise PredictorError(
                f"neural version 1 has no parameters {quoted(parameters.hex(), 40)}; the file is damaged or newer"
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
        shapes = (self._level.shape, self._level.plain)
        mixer = max(mixer_memory(shape, size, self._level.table_bits) for shape in shapes)
        mixer = max(mixer, mixer_memory(QUICK, size, QUICK_BITS))
        return mixer + size + self.lanes(size) * LANE_MEMORY + (24 << 20)

    def expansion(self, payload: bytes) -> int:
        """Upper bound on the raw bytes of a block for each byte of its payload, smaller where it uses the network.

        The block's first decision records that; it has an even chance, so it is the payload's first bit.
        """
        return MAX_EXPANSION if uses_network(payload) else context_mixing.EXPANSION[self._level.plain.name]

    def lanes(self, size: int) -> int:
        """Number of lanes of a block of `size` bytes: a power of two."""
        lanes = 1
        while 2 * lanes <= self._level.most_lanes and 2 * lanes * self._level.lane <= size:
            lanes *= 2
        return lanes

    def start(self, size: int, threads: int = 1) -> NeuralModel:
        """A fresh model for a block of `size` bytes."""
        return NeuralModel(self._level, size, self.lanes(size), threads, self.source)

    def continuation(self, prompt: bytes, size: int, randomness: Randomness, choice: Choice) -> Iterator[bytes]:
        """Go on where a prompt ends: see `predictors.base.Predictor`.

        Raises:
            PredictorError: the choice has top-k or top-p, or prompt and sample are too long.
        """
        room = room_for(self.name, len(prompt) + size, choice)
        model = NeuralModel(self._level, room, 1, 1, self.source)
        return model.continuation(prompt, size, randomness, choice.temperature)


class NeuralModel:
    """A running `neural` over one block. Its first decisions record the way in which the block is coded."""

    def __init__(self, level: Level, size: int, lanes: int, threads: int, source: NetworkSource = SHIPPED) -> None:
        self._level, self._size, self._lanes, self._threads = level, size, lanes, threads
        self._source = source

    def encode(self, encoder: BinaryEncoder, data: bytes, progress: Progress | None = None) -> None:
        """Code the block."""
        way, costs = self._choose(data, progress)
        for bit in way.value:
            encoder.encode(bit, HALF)
        if costs:
            encoder.encode_many(*_decisions(data, costs))
        elif way is not Way.NETWORK:
            self._mixer_alone(way).encode(encoder, data, progress)
        else:
            mixer = self._mixer()
            for steps in self._steps(progress):
                mixer.encode(encoder, data, steps)

    def decode(self, decoder: BinaryDecoder, progress: Progress | None = None) -> bytes:
        """Decode the block.

        Raises:
            CorruptError: the payload ends before it does.
        """
        if not decoder.decode(HALF):
            return self._mixer_alone(Way.QUICK if decoder.decode(HALF) else Way.PLAIN).decode(decoder, progress)
        mixer = self._mixer()
        for steps in self._steps(progress):
            mixer.decode(decoder, steps)
        return mixer.content()

    def score(self, data: bytes, progress: Progress | None = None) -> npt.NDArray[np.float64]:
        """Code length of each byte in bits, shape (len(data),); the first one's holds the first decisions too."""
        way, costs = self._choose(data, progress)
        if costs:
            bits = code_lengths(costs)
        elif way is Way.NETWORK:
            bits = code_lengths(self._costs(data, progress))
        else:
            bits = self._mixer_alone(way).score(data, progress)
        bits[:1] += len(way.value)
        return bits

    def continuation(self, prompt: bytes, size: int, randomness: Randomness, temperature: float) -> Iterator[bytes]:
        """Learn the prompt, which decides whether the network is used, then decode random bits; in one lane."""
        if not self._should_use_network(prompt):
            yield from self._mixer_alone(Way.PLAIN).continuation(prompt, size, randomness, temperature)
            return
        mixer, block, at = self._mixer(), prompt + bytes(self._size - len(prompt)), len(prompt)
        for first, last in slices(len(prompt), None, STEPS):
            mixer.score(block, last - first)
        for decoder, count in draws(size, randomness, temperature):
            mixer.decode(decoder, count)
            yield mixer.content(at, at + count)
            at += count

    def _choose(self, data: bytes, progress: Progress | None) -> tuple[Way, bytes]:
        """The way to code a block, and its costs (`NeuralMixer.costs`) where they are known already.

        In the latter case all progress has been reported.
        """
        if looks_packed(data):
            return Way.QUICK, b""
        if not self._should_use_network(data):
            return Way.PLAIN, b""
        if len(data) > MAX_TRIAL_BYTES:
            return Way.NETWORK, b""
        tried = {Way.NETWORK: self._costs(data, progress)}  # nearly all of the work
        for way in (Way.PLAIN, Way.QUICK):
            tried[way] = self._mixer_alone(way).costs(data)
        way = min(tried, key=lambda way: _total(tried[way]) + len(way.value) * 2839)
        return way, tried[way]

    def _should_use_network(self, data: bytes) -> bool:
        return should_use_network(data, self._source.kernel)

    def _costs(self, data: bytes, progress: Progress | None) -> bytes:
        """Probabilities that the network's mixer gives the block's bits."""
        mixer = self._mixer()
        for steps in self._steps(progress):
            mixer.score(data, steps)
        return mixer.costs()

    def _steps(self, progress: Progress | None) -> Iterator[int]:
        """Numbers of steps of all lanes to run at once, with a call of `progress` after each."""
        length = -(-self._size // self._lanes)
        per_slice = max(STEPS // self._lanes, 1)
        done = 0
        for first in range(0, length, per_slice):
            last = min(first + per_slice, length)
            yield last - first
            size = sum(max(min(last, self._size - k * length) - first, 0) for k in range(self._lanes))
            done += size
            if progress:
                progress(size)

    def _mixer(self) -> kernels.NeuralMixer:
        shape, size = self._level.shape, self._size
        return kernels.NeuralMixer(
            configuration(shape, *table_sizes(shape, size, self._level.table_bits)),
            tables.packed(),
            self._source.prior(shape),
            size,
            self._lanes,
            self._threads,
            self._source.kernel(),
        )

    def _mixer_alone(self, way: Way) -> context_mixing.ContextMixingModel:
        if way is Way.QUICK:
            return context_mixing.start(QUICK, self._size, QUICK_BITS)
        return context_mixing.start(self._level.plain, self._size, self._level.table_bits)


def uses_network(payload: bytes) -> bool:
    """Whether a coded block was coded with the network: the first decision, an even one, is the payload's first bit."""
    return payload[:1] < b"\x80"


def _total(costs: bytes) -> int:
    """Cost of bits with these 16-bit probabilities, in units of 1/4096 nat."""
    whole = logarithm(1 << 16)
    return sum(count * (whole - logarithm(p)) for p, count in Counter(array("H", costs)).items())


def _decisions(data: bytes, costs: bytes) -> tuple[bytes, bytes]:
    """The bits of a block and the probabilities that they are 1, as `BinaryEncoder.encode_many` takes them.

    `costs` are the probabilities of the actual bits.
    """
    import numpy as np

    bits = np.unpackbits(np.frombuffer(data, np.uint8))
    probabilities = np.frombuffer(costs, "=u2").astype(np.int64)
    return bits.tobytes(), np.where(bits, probabilities, 65536 - probabilities).astype("<u2").tobytes()


@cache
def _fingerprint(level: int) -> bytes:
    return fingerprint_of(LEVELS[level], SHIPPED)


def fingerprint_of(level: Level, source: NetworkSource) -> bytes:
    """First 4 bytes of a SHA-256 over all that determines a level's probabilities, except for code."""
    digest = hashlib.sha256(source.fingerprint)
    digest.update(digest_of(level.shape, level.table_bits, source.inflated_prior(level.shape)))
    digest.update(digest_of(level.plain, level.table_bits))
    digest.update(digest_of(QUICK, QUICK_BITS))
    exponentials, logarithms = tables.exp2_weights().tolist(), tables.logarithms().tolist()
    digest.update(repr((level.lane, level.most_lanes, exponentials, logarithms)).encode())
    return digest.digest()[:4]
