"""Text as a kind of data: a recurrent network's predictions and a context mixer, with the same bits on all machines.

The network (`predictors.embedded.network`; trained by `kolmo train` on text and code) passes its probability of each
bit to the context mixer (`predictors.embedded.context_mixing`), which learns from the file how much weight to give it.
A stream is divided into lanes that advance together, so that one matrix product serves all of them; they share one
memory. docs/neural.md specifies all of it.

What it is not: the decision whether data is text (`predictors.embedded.gate`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from kolmo.coder.binary import BinaryDecoder, BinaryEncoder
from kolmo.errors import PredictorError
from kolmo.native import tables
from kolmo.native.dispatch import SLOW, kernels
from kolmo.predictors.base import slices
from kolmo.predictors.choice import Randomness
from kolmo.predictors.embedded.context_mixing import (
    Shape,
    code_lengths,
    configuration,
    digest_of,
    draws,
    inflated_prior,
    mixer_memory,
    prior,
    table_sizes,
)
from kolmo.predictors.embedded.kinds.base import Kind
from kolmo.predictors.embedded.kinds.segments import TEXT
from kolmo.predictors.embedded.network import NetworkShape
from kolmo.predictors.embedded.neural_levels import Level
from kolmo.progress import Progress

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from kolmo.predictors.embedded.network import Weights

MIN_EXPANSION = 64  # raw bytes for each byte of payload that the largest network may still code
SHIPPED_PRODUCTS = NetworkShape().products
STEPS = 256 if SLOW else 4096  # bytes between calls of `progress`
MAX_EXPANSION = 1 << 10  # raw bytes for each byte of payload in blocks that use the network: 0.03 s each
LANE_MEMORY = 1 << 19  # upper bound on the bytes of memory of a lane
NETWORK = Path(__file__).with_name("networks") / "base.safetensors"
# Its `Weights.fingerprint`. It is a constant here so that a block that does not use the network does not load it.
FINGERPRINT = bytes.fromhex("1f502538ae79caf576079ff63592eebce9ed885910f779b38f6bedb0c50f4ff2")


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

    @property
    def products(self) -> int:
        """Products of a weight and an input for each byte."""
        ...

    @property
    def memory(self) -> int:
        """Bytes that the network takes beyond what `Text.memory` knows of."""
        ...

    @property
    def lane_memory(self) -> int:
        """The same for each lane."""
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

    products = NetworkShape().products
    memory = lane_memory = 0

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


class Text(Kind):
    """The kind of text: data that a network predicts well, coded by the mixer that uses its predictions."""

    name = "text"
    code = TEXT

    def __init__(self, levels: Mapping[int, Level], source: NetworkSource, threads: int = 1) -> None:
        self._levels, self._source, self._threads = levels, source, threads

    def model(self, level: int, size: int, parameters: tuple[int, ...] = ()) -> NeuralModel:
        """See `Kind.model`."""
        return NeuralModel(self._levels[level], size, self.lanes(level, size), self._threads, self._source)

    def memory(self, level: int, size: int) -> int:
        """See `Kind.memory`."""
        shape = self._levels[level]
        lanes = self.lanes(level, size) * (LANE_MEMORY + self._source.lane_memory)
        return mixer_memory(shape.shape, size, shape.table_bits) + size + lanes + (24 << 20) + self._source.memory

    def expansion(self, level: int) -> int:
        """See `Kind.expansion`: smaller for a larger network, in proportion to its work for each byte."""
        return max(MAX_EXPANSION * SHIPPED_PRODUCTS // max(self._source.products, SHIPPED_PRODUCTS), MIN_EXPANSION)

    def digest(self, level: int) -> bytes:
        """See `Kind.digest`."""
        return digest_with_network(self._levels[level], self._source)

    def lanes(self, level: int, size: int) -> int:
        """Number of lanes of `size` bytes: a power of two."""
        lanes = 1
        while 2 * lanes <= self._levels[level].most_lanes and 2 * lanes * self._levels[level].lane <= size:
            lanes *= 2
        return lanes


class NeuralModel:
    """A running mixer with a network over one stream of text."""

    def __init__(self, level: Level, size: int, lanes: int, threads: int, source: NetworkSource) -> None:
        self._level, self._size, self._lanes, self._threads = level, size, lanes, threads
        self._source = source

    def encode(self, encoder: BinaryEncoder, data: bytes, progress: Progress | None = None) -> None:
        """Code the stream."""
        mixer = self._mixer()
        for steps in self._steps(progress):
            mixer.encode(encoder, data, steps)

    def decode(self, decoder: BinaryDecoder, progress: Progress | None = None) -> bytes:
        """Decode the stream.

        Raises:
            CorruptError: the payload ends before it does.
        """
        mixer = self._mixer()
        for steps in self._steps(progress):
            mixer.decode(decoder, steps)
        return mixer.content()

    def score(self, data: bytes, progress: Progress | None = None) -> npt.NDArray[np.float64]:
        """Code length of each byte in bits, shape (len(data),)."""
        return code_lengths(self.costs(data, progress))

    def costs(self, data: bytes, progress: Progress | None = None) -> bytes:
        """Probability of each actual bit, 16 bits each, in the machine's order."""
        mixer = self._mixer()
        for steps in self._steps(progress):
            mixer.score(data, steps)
        return mixer.costs()

    def continuation(self, prompt: bytes, size: int, randomness: Randomness, temperature: float) -> Iterator[bytes]:
        """Learn the prompt, then decode random bits; in one lane."""
        mixer, block, at = self._mixer(), prompt + bytes(self._size - len(prompt)), len(prompt)
        for first, last in slices(len(prompt), None, STEPS):
            mixer.score(block, last - first)
        for decoder, count in draws(size, randomness, temperature):
            mixer.decode(decoder, count)
            yield mixer.content(at, at + count)
            at += count

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


def digest_with_network(level: Level, source: NetworkSource) -> bytes:
    """SHA-256 over a network and all that determines the probabilities of a mixer that uses it, except for code."""
    digest = hashlib.sha256(source.fingerprint)
    digest.update(digest_of(level.shape, level.table_bits, source.inflated_prior(level.shape)))
    exponentials, logarithms = tables.exp2_weights().tolist(), tables.logarithms().tolist()
    digest.update(repr((level.lane, level.most_lanes, exponentials, logarithms)).encode())
    return digest.digest()
