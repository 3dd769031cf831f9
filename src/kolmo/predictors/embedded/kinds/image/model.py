"""The model of pictures: shapes by level, priors, and a running model (docs/image.md).

What it is not: the arithmetic (`kolmo.native.pixel_mixer`), or finding pictures (`image.py`).
"""

from __future__ import annotations

import hashlib
import zlib
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from kolmo.coder.binary import BinaryDecoder, BinaryEncoder
from kolmo.errors import PredictorError
from kolmo.native import tables
from kolmo.native.dispatch import SLOW, kernels
from kolmo.native.pixel_mixer import shapes
from kolmo.predictors.base import slices
from kolmo.predictors.choice import Randomness
from kolmo.predictors.embedded.context_mixing import MAX_DRAWN_BYTES, code_lengths, draws
from kolmo.progress import Progress

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

GREY, COLOUR = 1, 3  # rows of a prior: turns that start from different numbers


@dataclass(frozen=True)
class Shape:
    """Which contexts and weight sets a model has, and how fast it learns.

    Attributes:
        name: of the priors' files.
        contexts: numbers of the catalogue in docs/image.md.
        selectors: the first ones of the catalogue.
        most_bits: log2 of the most bytes of slots.
        network: whether it reads the predictions of the network of pixels.
    """

    name: str
    contexts: tuple[int, ...]
    selectors: int
    most_bits: int
    network: bool = False
    rate: int = 30
    rate_start: int = 60
    rate_shift: int = 14
    final_rate: int = 40
    slot_limit: int = 255

    @property
    def inputs(self) -> int:
        """Inputs of the first layer, padded for vectors."""
        return shapes.inputs_of(len(self.contexts))


LIGHT = Shape("light", (0, 2, 3, 6, 12, 14), 2, 22)
MEDIUM = Shape("medium", (0, 2, 3, 4, 6, 7, 8, 12, 14, 15), 4, 22)
FULL = Shape("full", (0, 1, 2, 3, 4, 6, 7, 8, 12, 14, 15), 6, 24, network=True)
SHAPES = (LIGHT, MEDIUM, FULL)
LEVELS = {level: LIGHT if level < 4 else MEDIUM if level < 5 else FULL for level in range(1, 10)}


def configuration(shape: Shape, size: int, stride: int, channels: int, order: tuple[int, ...]) -> bytes:
    """A shape and a picture in the layout of `pm_config` in pixel_mixer.h."""
    slot_bits, guess_bits = table_sizes(shape, size)
    contexts = [*shape.contexts, *[0] * (shapes.CATALOGUE - len(shape.contexts))]
    padded = [*order, *[0] * (shapes.TURNS - len(order))]
    values = [size, stride, channels, *padded, len(shape.contexts), *contexts, shape.selectors, slot_bits, guess_bits]
    values += [shape.rate, shape.rate_start, shape.rate_shift, shape.final_rate, shape.slot_limit, int(shape.network)]
    return array("i", values).tobytes()


def table_sizes(shape: Shape, size: int) -> tuple[int, int]:
    """log2 of the bytes of slots, and of the entries of a guess's table, for a picture of `size` bytes."""
    wanted = (size * len(shape.contexts) * 64 - 1).bit_length()
    return min(max(wanted, 16), shape.most_bits), min(max((size - 1).bit_length(), 10), 18)


def memory(shape: Shape, size: int) -> int:
    """Upper bound in bytes on what a model of `size` bytes allocates, for any stride and channels."""
    slot_bits, guess_bits = table_sizes(shape, size)
    stride = min(size + shapes.TURNS, shapes.MAX_STRIDE)
    matrix = 4 * shapes.TAPS * shapes.TAPS
    planes = (stride + 4 * 80) * 20 + (2 * (stride // 4 + 12) + 4) * matrix
    sets = 4 * shape.inputs * shapes.TURNS * sum(shapes.SELECTOR_SIZES[: shape.selectors])
    return (1 << slot_bits) + (16 << guess_bits) + size + planes + sets + (2 << 20)


@dataclass(frozen=True)
class PriorParts:
    """Numbers of each part of a prior, in their order."""

    cells: int
    guesses: int
    scales: int
    weights: int
    least_squares: int

    @property
    def total(self) -> int:
        """Numbers of all parts."""
        return self.cells + self.guesses + self.scales + self.weights + self.least_squares


def parts_of(shape: Shape, rows: int) -> PriorParts:
    """Sizes of a prior's parts, for `GREY` or `COLOUR` rows."""
    return PriorParts(
        cells=256 * len(shape.contexts),
        guesses=shapes.GUESSES * shapes.CONFIDENCES,
        scales=rows * shapes.PREDICTORS * shapes.SCALES,
        weights=rows * (shape.selectors * shape.inputs + shapes.FINAL_INPUTS),
        least_squares=rows * shapes.SETS * shapes.TAPS,
    )


def plain_prior(shape: Shape, rows: int) -> bytes:
    """An untrained prior, 32-bit integers in the machine's order: cells, guesses, scales, weights, least squares."""
    n = len(shape.contexts)
    squash = tables.squash()
    cells = [squash[tables.SQUASH_SIZE // 2 - 1984 + 128 * (k % 32)] << 16 | 6 for k in range(256)]
    guesses = [(65535 - 65536 // (2 + k)) << 16 for k in range(shapes.CONFIDENCES)] * shapes.GUESSES
    scales = [4 + (1 << (step // 4)) * (4 + step % 4) // 4 << 12 for step in range(shapes.SCALES)] * shapes.PREDICTORS
    row = [(1 << 27) // 30] * n + [(1 << 27) // 10] * shapes.SPREADS + [0] * (shape.inputs - n - shapes.SPREADS)
    final = [(1 << 27) // shape.selectors] * shape.selectors + [0] * (shapes.FINAL_INPUTS - shape.selectors)
    weights = row * shape.selectors * rows + final * rows
    squares = [0] * (rows * shapes.SETS * shapes.TAPS)
    return (
        array("I", cells * n + guesses + [min(s, 255 << 16) for s in scales] * rows).tobytes()
        + array("i", weights + squares).tobytes()
    )


# A prior on disk is smaller: 16-bit probabilities, 8-bit counts, 16-bit scales, weights and least squares, deflated.


def pack_prior(shape: Shape, rows: int, prior: bytes) -> bytes:
    """The stored form of a prior, as `PixelMixer.learned` returns it; counts are capped at 255."""
    parts = parts_of(shape, rows)
    averages, unsigned = parts.cells + parts.guesses, parts.cells + parts.guesses + parts.scales
    maps = array("I", prior[: 4 * unsigned])
    numbers = array("i", prior[4 * unsigned :])
    probabilities = array("H", [v >> 16 for v in maps[:averages]])
    counts = bytes(min(v & 1023, 255) for v in maps[:averages])
    scales = array("H", [min(v >> 10, 65535) for v in maps[averages:]])
    weights = array("h", [v >> 16 for v in numbers[: parts.weights]])
    squares = array("h", [min(max(v >> 2, -32768), 32767) for v in numbers[parts.weights :]])
    return zlib.compress(b"".join(map(tables.little_endian, (probabilities, scales, weights, squares))) + counts, 9)


def unpack_prior(shape: Shape, rows: int, packed: bytes) -> bytes:
    """The mirror of `pack_prior`, in the layout of `plain_prior`."""
    parts = parts_of(shape, rows)
    averages = parts.cells + parts.guesses
    data = zlib.decompress(packed)
    at = 0
    read: list[array[int]] = []
    for code, count in (("H", averages), ("H", parts.scales), ("h", parts.weights), ("h", parts.least_squares)):
        read.append(tables.from_little_endian(code, data[at : at + 2 * count]))
        at += 2 * count
    probabilities, scales, weights, squares = read
    maps = array("I", [p << 16 | 1 << 15 | c for p, c in zip(probabilities, data[at:], strict=True)])
    maps.extend(s << 10 for s in scales)
    return maps.tobytes() + array("i", [w << 16 for w in weights] + [v << 2 for v in squares]).tobytes()


@cache
def stored_prior(shape: Shape, rows: int) -> bytes:
    """The prior that ships with the package, as stored."""
    name = f"{shape.name}-{'grey' if rows == GREY else 'colour'}.bin"
    return (Path(__file__).parent.parent.parent / "priors" / "image" / name).read_bytes()


@cache
def prior(shape: Shape, rows: int) -> bytes:
    """The prior of a model with this shape, in the layout of `plain_prior`."""
    return unpack_prior(shape, rows, stored_prior(shape, rows))


def digest_of(shape: Shape) -> bytes:
    """SHA-256 over all that determines a model's probabilities but code and the network."""
    numbers = [shape.selectors, shape.most_bits, shape.network, shape.rate, shape.rate_start, shape.rate_shift]
    numbers += [shape.final_rate, shape.slot_limit, *shape.contexts, *shapes.SELECTOR_SIZES]
    digest = hashlib.sha256(tables.little_endian(array("i", numbers)))
    for table in (tables.stretch(), tables.squash(), tables.reciprocal(), tables.logistic(), tables.logarithms()):
        digest.update(tables.little_endian(table))
    digest.update(shapes.buckets())
    for kind in range(shapes.TURNS + 1):
        for number in range(shapes.SETS):
            digest.update(repr(shapes.neighbours(kind, number)).encode())
    for rows in (GREY, COLOUR):
        digest.update(zlib.decompress(stored_prior(shape, rows)))
    return digest.digest()


class PictureModel:
    """A running model of the bytes of one picture."""

    def __init__(self, mixer: kernels.PixelMixer, size: int, stride: int) -> None:
        self._mixer, self._size, self._stride = mixer, size, stride

    @property
    def _step(self) -> int:
        """Bytes between calls of `progress`: whole rows."""
        return max((1 << 10 if SLOW else 1 << 15) // self._stride, 1) * self._stride

    def encode(self, encoder: BinaryEncoder, data: bytes, progress: Progress | None = None) -> None:
        """Code the picture."""
        for first, last in slices(len(data), progress, self._step):
            self._mixer.encode(encoder, data[first:last])

    def decode(self, decoder: BinaryDecoder, progress: Progress | None = None) -> bytes:
        """Decode the picture.

        Raises:
            CorruptError: the payload ends before it does.
        """
        out = bytearray()
        for first, last in slices(self._size, progress, self._step):
            out += self._mixer.decode(decoder, last - first)
        return bytes(out)

    def score(self, data: bytes, progress: Progress | None = None) -> npt.NDArray[np.float64]:
        """Code length of each of the picture's bytes in bits, shape (len(data),)."""
        import numpy as np

        bits = np.empty(len(data))
        for first, last in slices(len(data), progress, self._step):
            bits[first:last] = code_lengths(self._mixer.costs(data[first:last]))
        return bits

    def continuation(self, prompt: bytes, size: int, randomness: Randomness, temperature: float) -> Iterator[bytes]:
        """Learn the prompt, which ends with a row, then decode random bits row by row."""
        if len(prompt) % self._stride:
            raise PredictorError(f"a picture goes on after whole rows of {self._stride} bytes; cut the prompt there")
        if self._stride > MAX_DRAWN_BYTES:
            raise PredictorError(
                f"rows of {self._stride} bytes are too long to be drawn; {MAX_DRAWN_BYTES} are the most"
            )
        for first, last in slices(len(prompt), None, self._step):
            self._mixer.costs(prompt[first:last])
        for decoder, count in draws(size, randomness, temperature, self._stride):
            yield self._mixer.decode(decoder, count)
