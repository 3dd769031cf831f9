"""The kind of sound: samples of 8, 16 or 24 bits in one to eight channels (docs/audio.md).

Adaptive linear predictors, from filters of least squares to a long cascade, give each sample distributions; the
predictions of hashed contexts join them; mixers weigh all of them bit by bit, from a sample's top bit down.

What it is not: the arithmetic (`kolmo.native.sounds`), the shapes (`sound/shapes.py`), or where sound is in a block
(`sound/headers.py`, `sound/guess.py`).
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from kolmo.coder.binary import BinaryDecoder, BinaryEncoder
from kolmo.errors import CorruptError, PredictorError
from kolmo.native import tables
from kolmo.native.dispatch import SLOW, kernels
from kolmo.predictors.choice import Randomness
from kolmo.predictors.embedded import sample_network
from kolmo.predictors.embedded.context_mixing import code_lengths, draws
from kolmo.predictors.embedded.kinds.base import Kind, Segment
from kolmo.predictors.embedded.kinds.sound import shapes
from kolmo.predictors.embedded.kinds.sound.guess import guess_sounds
from kolmo.predictors.embedded.kinds.sound.headers import find_sounds
from kolmo.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    import numpy.typing as npt

MAX_CHANNELS = 8
SLICE = 960 if SLOW else 64800  # bytes between reports of progress: whole frames of any layout
CHANNEL_BYTES = 300_000  # upper bound on a channel's predictors
DRAWN_SAMPLES = 16  # samples that are decoded from one string of random bits
SHARED_BYTES = 3 << 20  # upper bound on mixers, curves and tables
EXPANSION = 1 << 13


@cache
def shipped_network() -> kernels.SampleNetwork:
    """The network of samples that is in the package."""
    weights = sample_network.shipped()
    return kernels.SampleNetwork(weights.config, weights.weights)


class Audio(Kind):
    """Samples of sound.

    Parameters of a segment: `bits` of a sample (8, 16, 24); `channels` (1 to 8); `big`: 1 for big-endian samples;
    `unsigned`: 1 for unsigned samples; `phase`: bytes of the segment's first frame that are not in the segment.
    """

    name = "audio"
    code = 4
    fields = ("bits", "channels", "big", "unsigned", "phase")

    def model(self, level: int, size: int, parameters: tuple[int, ...]) -> SoundModel:
        """See `Kind.model`."""
        bits, channels, big, plain, phase = parameters
        if bits not in (8, 16, 24) or not 1 <= channels <= MAX_CHANNELS or big > (bits > 8) or plain > 1:
            raise CorruptError(f"sound of {bits} bits in {channels} channels ({big}, {plain}) is not known")
        if phase >= self.period(parameters):
            raise CorruptError(f"sound that begins at byte {phase} of a frame of {self.period(parameters)}")
        shape = shapes.shape_of(level, bits, size)
        config = shapes.configuration(shape, parameters, shapes.table_bits(shape, size))
        constants = tables.packed(), tables.softplus().tobytes()
        network = shipped_network() if shape is shapes.NARROW else None
        mixer = kernels.SoundMixer(config, *constants, shapes.prior(shape), size, network)
        return SoundModel(mixer, size, phase, bits // 8)

    def memory(self, level: int, size: int) -> int:
        """See `Kind.memory`."""
        shape = shapes.LEVELS[level]
        return (1 << shapes.table_bits(shape, size)) + MAX_CHANNELS * CHANNEL_BYTES + SHARED_BYTES

    def digest(self, level: int) -> bytes:
        """See `Kind.digest`."""
        return shapes.digest_of(level, sample_network.shipped().fingerprint)

    def expansion(self, level: int) -> int:
        """See `Kind.expansion`."""
        return EXPANSION

    def period(self, parameters: tuple[int, ...]) -> int:
        """Bytes of a frame: a sample of each channel."""
        return parameters[0] // 8 * parameters[1]

    def find(self, data: bytes) -> list[Segment]:
        """Samples behind headers of WAV, AIFF, AIFC and AU files anywhere in a block."""
        return [Segment(self.code, first, size, parameters) for first, size, parameters in find_sounds(data)]

    def guess(self, data: bytes) -> list[tuple[int, ...]]:
        """Layouts under which neighbouring samples are alike."""
        return guess_sounds(data)


class SoundModel:
    """A running model over one stream of sound."""

    def __init__(self, mixer: kernels.SoundMixer, size: int, phase: int, sample: int) -> None:
        self._mixer, self._size, self._phase, self._sample = mixer, size, phase, sample

    def encode(self, encoder: BinaryEncoder, data: bytes, progress: Progress | None = None) -> None:
        """Code the stream."""
        for first, last in self._slices(progress):
            self._mixer.encode(encoder, data[first:last])

    def decode(self, decoder: BinaryDecoder, progress: Progress | None = None) -> bytes:
        """Decode the stream.

        Raises:
            CorruptError: the payload ends before it does.
        """
        out = bytearray()  # grows as it is decoded: a false size costs no memory
        for first, last in self._slices(progress):
            out += self._mixer.decode(decoder, last - first)
        return bytes(out)

    def score(self, data: bytes, progress: Progress | None = None) -> npt.NDArray[np.float64]:
        """Code length of each of the stream's bytes in bits, shape (len(data),)."""
        import numpy as np

        bits = np.empty(len(data))
        for first, last in self._slices(progress):
            bits[first:last] = code_lengths(self._mixer.costs(data[first:last]))
        return bits

    def continuation(self, prompt: bytes, size: int, randomness: Randomness, temperature: float) -> Iterator[bytes]:
        """Learn the prompt, which ends with a sample, then decode random bits a few samples at a time."""
        if (self._phase + len(prompt)) % self._sample:
            raise PredictorError(f"a sound goes on after whole samples of {self._sample} bytes; cut the prompt there")
        if prompt:
            self._mixer.costs(prompt)
        for decoder, count in draws(size, randomness, temperature, DRAWN_SAMPLES * self._sample):
            yield self._mixer.decode(decoder, count)

    def _slices(self, progress: Progress | None) -> Iterator[tuple[int, int]]:
        """Slices that end with a sample, or with the stream."""
        first = 0
        head = -self._phase % self._sample
        while first < self._size:
            last = min(first + SLICE + (head if not first else 0), self._size)
            yield first, last
            if progress:
                progress(last - first)
            first = last
