"""Context mixing over bits in integer arithmetic, with the same bits on all machines: shapes, priors, and models.

Each of 4 to 36 contexts (orders 0 to 8, words, columns, records, sparse and indirect ones, the longest match) looks up
which bits followed it before; a two-layer network of logistic mixers weighs the predictions, and two adaptive maps
correct the result (Mahoney 2005; Mattern 2013). A model starts from a prior: probabilities and weights that were
trained on text and code, a few kilobytes for each shape. docs/context-mixing.md describes every part.

What it is not: the arithmetic, which is in `kolmo.native` (C, and NumPy as its specification); or the predictor `cm`
(`predictors.embedded.cm`).
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
from kolmo.native.dispatch import kernels
from kolmo.native.tables import (
    CATALOGUE,
    CURVE_KNOTS,
    FINAL_INPUTS,
    FIRST_NETWORK_SELECTOR,
    MATCH_BUCKETS,
    MAX_SELECTORS,
    NEVER,
    SELECTOR_SIZES,
    SQUASH_SIZE,
)
from kolmo.predictors.base import slices
from kolmo.predictors.choice import Choice, Randomness, remapped_bits
from kolmo.progress import Progress

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

PIECE_BYTES = 1 << 16  # bytes whose code lengths are computed together
DRAWN_BYTES = 32  # bytes of a sample that are decoded from one string of random bits
MIDDLE = b"\x80" + bytes(11)  # read as a payload: the middle of the decoder's interval, and zeros to read ahead
MAX_DRAWN_BYTES = 1 << 11  # of a piece: more decisions could lead away from the middle
# Bytes of that string for each byte: it costs at most eight decisions of 16 bits, and the coder reads 4 bytes ahead.
CODE_BYTES = 17
# Least block that a sample's model is made for: a short sample is the beginning of a longer one.
MIN_SAMPLE_ROOM = 1 << 16
MAX_SAMPLE_BYTES = 1 << 30
CURVES = 257 * CURVE_KNOTS  # knots of a prior's curves: one for each partial byte, and one for all


@dataclass(frozen=True)
class Shape:
    """Which contexts and weight sets a model has, and how fast it learns.

    Rates are in units of 2^-13 of the error (see `cm_scaled_error`); that of a weight set falls from about rate + boost
    to rate with the sum of its errors (see `cm_rate`). Selector 1 counts the orders whose context has a history, so it
    is first: the kernels prefetch the weights of the others.
    """

    name: str
    contexts: tuple[int, ...]
    selectors: tuple[int, ...]
    rate: int = 90
    boost: int = 2400
    final_rate: int = 60
    final_boost: int = 400
    map_limit: int = 500
    match_minimum: int = 6
    network: bool = False
    folder: str = ""  # of `priors`, where its prior is

    @property
    def inputs(self) -> int:
        """Inputs of the first layer, padded for vectors."""
        return 2 * len(self.contexts) + 3 + 3 * self.network + 7 & ~7


FAST = Shape("fast", (1, 3, 5, 8), (1,))
LIGHT = Shape("light", (1, 2, 3, 4, 6, 8, 9, 17, 18, 20), (1, 2, 3))
MEDIUM = Shape("medium", (0, 1, 2, 3, 4, 6, 8, 9, 10, 16, 17, 18, 20, 45), (1, 0, 2, 3, 6))
FULL = Shape(
    "full",
    (0, 1, 2, 3, 4, 6, 8, 9, 10, 11, 14, 15, 16, 17, 18, 19, 20, 22, 23, 25, 27, 29, 41, 43, 44, 45),
    (1, 0, 2, 3, 4, 6, 7),
)
LARGE = Shape(
    "large",
    (*(c for c in FULL.contexts if c != 29), 5, 7, 12, 13, 21, 26, 28, 30, 31, 33, 35, 42, 46),  # 38: they fill vectors
    (1, 0, 2, 3, 4, 5, 6, 7, 8, 10, 11, 16),
)
SHAPES = (FAST, LIGHT, MEDIUM, FULL, LARGE)

# Upper bound on the raw bytes for each byte of payload, by a shape's speed: each byte costs about 0.02 s at most.
EXPANSION = {"fast": 1 << 15, "light": 1 << 13, "medium": 1 << 13, "full": 1 << 13, "large": 1 << 13}

# Level -> shape, and log2 of the most memory for its trees.
LEVELS = {
    1: (FAST, 22),
    2: (LIGHT, 24),
    3: (LIGHT, 26),
    4: (MEDIUM, 26),
    5: (FULL, 27),
    6: (FULL, 28),
    7: (LARGE, 27),
    8: (LARGE, 28),
    9: (LARGE, 29),
}


def configuration(shape: Shape, table_bits: int, match_bits: int, binary: tuple[int, int, int] = (0, 1, 1)) -> bytes:
    """A shape and its table sizes in the layout of `cm_config` in context_mixing.h.

    `binary`: a view of `native.binary.views`, the bytes of a record, those of a value.
    """
    n, s = len(shape.contexts), len(shape.selectors)
    values = [n, s, *shape.contexts, *[0] * (CATALOGUE - n), *shape.selectors, *[0] * (MAX_SELECTORS - s)]
    values += [table_bits, match_bits, shape.match_minimum, shape.rate, shape.boost, shape.final_rate]
    return array("i", [*values, shape.final_boost, shape.map_limit, *binary]).tobytes()


def plain_prior(shape: Shape) -> bytes:
    """An untrained prior: counts as probabilities, equal weights, maps that change nothing.

    The layout (32-bit integers in the machine's order): a probability (22 bits) and count (10) for each context and
    history; the same for each match length; first-layer weights for each selector; second-layer weights; curves.
    """
    _, counts = tables.automaton()
    row = [1 << 31 | NEVER] * 256  # the empty history carries no information, and never changes
    for state, (zeros, ones) in enumerate(counts[1:], 1):
        row[state] = (2 * ones + 1 << 22) // (2 * (zeros + ones) + 2) << 10
    matches = [((1 << 22) - (1 << 22) // (length + 3)) << 10 for length in range(MATCH_BUCKETS)]
    n = len(shape.contexts)
    weights = [0] * shape.inputs
    for i in (*range(n), 2 * n, *[2 * n + 3] * shape.network):
        weights[i] = (1 << 27) // 5
    final = [(1 << 27) // len(shape.selectors)] * len(shape.selectors)
    final += [0] * (FINAL_INPUTS - len(final))
    curve = [tables.squash()[SQUASH_SIZE // 2 - 2944 + 256 * k] for k in range(CURVE_KNOTS)]
    unsigned = array("I", row * n + matches)
    return unsigned.tobytes() + array("i", weights * len(shape.selectors) + final + curve * 257).tobytes()


# A prior on disk is smaller: 16-bit probabilities and 8-bit counts, 16-bit weights and knots, little-endian, deflated.


def pack_prior(shape: Shape, prior: bytes, count_limit: int = 255) -> bytes:
    """The stored form of a prior, as `ContextMixer.learned` returns it; counts are capped."""
    averages, rest = _split(shape)
    maps = array("I", prior[:averages])
    numbers = array("i", prior[averages:])
    probabilities = array("H", [min(v >> 16, 65535) for v in maps])
    counts = bytes(min(v & NEVER, count_limit) for v in maps)
    weights = array("h", [v >> 16 for v in numbers[: rest - CURVES]])
    knots = array("H", numbers[rest - CURVES :].tolist())
    return zlib.compress(
        tables.little_endian(probabilities) + counts + tables.little_endian(weights) + tables.little_endian(knots), 9
    )


def unpack_prior(shape: Shape, packed: bytes) -> bytes:
    """The mirror of `pack_prior`; the empty history gets its fixed value again."""
    return prior_of(shape, inflate(packed))


def inflate(packed: bytes) -> bytes:
    """The numbers that `pack_prior` deflated."""
    return zlib.decompress(packed)


def prior_of(shape: Shape, data: bytes) -> bytes:
    """A prior in the layout of `plain_prior`, from the numbers that `pack_prior` deflates."""
    averages, rest = _split(shape)
    n = averages // 4
    probabilities = tables.from_little_endian("H", data[: 2 * n])
    counts = data[2 * n : 3 * n]
    weights = tables.from_little_endian("h", data[3 * n : 3 * n + 2 * (rest - CURVES)])
    knots = tables.from_little_endian("H", data[3 * n + 2 * (rest - CURVES) :])
    maps = array("I", [p << 16 | 1 << 15 | count for p, count in zip(probabilities, counts, strict=True)])
    for state in range(0, n - MATCH_BUCKETS, 256):
        maps[state] = 1 << 31 | NEVER
    return maps.tobytes() + array("i", [w << 16 for w in weights] + knots.tolist()).tobytes()


def _split(shape: Shape) -> tuple[int, int]:
    """Bytes of averages and number of the integers after them in a shape's prior."""
    averages = 256 * len(shape.contexts) + MATCH_BUCKETS
    return 4 * averages, len(shape.selectors) * shape.inputs + FINAL_INPUTS + CURVES


@cache
def _stored_prior(shape: Shape) -> bytes:
    """The prior that ships with the package, as stored."""
    return (Path(__file__).with_name("priors") / shape.folder / f"{shape.name}.bin").read_bytes()


def inflated_prior(shape: Shape) -> bytes:
    """The prior that ships with the package, as `pack_prior` deflates it (docs/context-mixing.md, "Priors")."""
    return inflate(_stored_prior(shape))


@cache
def prior(shape: Shape) -> bytes:
    """The prior of a model with this shape, in the layout of `plain_prior`."""
    return prior_of(shape, inflated_prior(shape))


def table_sizes(shape: Shape, size: int, most_bits: int) -> tuple[int, int]:
    """log2 of the bytes of trees, and of the entries of the match table, for a block of `size` bytes."""
    wanted = (size * len(shape.contexts) * 8 - 1).bit_length()
    return min(max(wanted, 16), most_bits), min(max((size - 1).bit_length(), 10), 21)


def mixer_memory(shape: Shape, size: int, most_bits: int) -> int:
    """Bytes that a mixer of a block of `size` bytes allocates (the C kernels; NumPy takes several times more)."""
    table_bits, match_bits = table_sizes(shape, size, most_bits)
    sets = 4 * shape.inputs * sum(SELECTOR_SIZES[j] for j in shape.selectors)
    return (1 << table_bits) + (4 << match_bits) + size + sets + (8 << 20)


def digest_of(shape: Shape, most_bits: int, inflated: bytes | None = None) -> bytes:
    """SHA-256 over all that determines a mixer's probabilities, except for code.

    Over plain integers, little-endian, so that it outlives names and compressors of priors.

    Args:
        shape: of the mixer.
        most_bits: log2 of the most bytes of its trees.
        inflated: its prior, as `pack_prior` deflates it; None: the one that ships with the package.
    """
    selectors = SELECTOR_SIZES if shape.network else SELECTOR_SIZES[:FIRST_NETWORK_SELECTOR]
    sizes = array("i", [most_bits, *selectors, MATCH_BUCKETS, FINAL_INPUTS, CURVE_KNOTS])
    digest = hashlib.sha256(tables.little_endian(array("i", configuration(shape, 0, 0))) + tables.little_endian(sizes))
    for table in (tables.stretch(), tables.squash(), tables.reciprocal()):
        digest.update(tables.little_endian(table))
    digest.update(tables.automaton()[0] + tables.priorities() + tables.kinds())
    digest.update(inflated_prior(shape) if inflated is None else inflated)
    return digest.digest()


def start(shape: Shape, size: int, most_bits: int, binary: tuple[int, int, int] = (0, 1, 1)) -> ContextMixingModel:
    """A fresh model for a block of `size` bytes; `binary` as for `configuration`."""
    config = configuration(shape, *table_sizes(shape, size, most_bits), binary)
    return ContextMixingModel(kernels.ContextMixer(config, tables.packed(), prior(shape), size), size)


class ContextMixingModel:
    """A running `cm` over one block: the kernel's mixer, with code lengths in bits."""

    def __init__(self, mixer: kernels.ContextMixer, size: int) -> None:
        self._mixer, self._size = mixer, size

    def encode(self, encoder: BinaryEncoder, data: bytes, progress: Progress | None = None) -> None:
        """Code the block."""
        for first, last in slices(len(data), progress):
            self._mixer.encode(encoder, data[first:last])

    def decode(self, decoder: BinaryDecoder, progress: Progress | None = None) -> bytes:
        """Decode the block.

        Raises:
            CorruptError: the payload ends before it does.
        """
        out = bytearray()  # grows as it is decoded: a false size costs no memory
        for first, last in slices(self._size, progress):
            out += self._mixer.decode(decoder, last - first)
        return bytes(out)

    def score(self, data: bytes, progress: Progress | None = None) -> npt.NDArray[np.float64]:
        """Code length of each of the block's bytes in bits, shape (len(data),)."""
        import numpy as np

        bits = np.empty(len(data))
        for first, last in slices(len(data), progress):
            bits[first:last] = code_lengths(self._mixer.costs(data[first:last]))
        return bits

    def costs(self, data: bytes) -> bytes:
        """Probability of each actual bit of the block, 16 bits each, in the machine's order."""
        return self._mixer.costs(data)

    def continuation(self, prompt: bytes, size: int, randomness: Randomness, temperature: float) -> Iterator[bytes]:
        """Learn the prompt, then decode random bits, which draws from the model's distribution."""
        for first, last in slices(len(prompt), None):
            self._mixer.costs(prompt[first:last])
        for decoder, count in draws(size, randomness, temperature):
            yield self._mixer.decode(decoder, count)


def room_for(name: str, size: int, choice: Choice) -> int:
    """Size of the block for which a sample's model is made: prompt and sample have `size` bytes together.

    Raises:
        PredictorError: prompt and sample are too long, or the choice has top-k or top-p.
    """
    check_choice(name, size, choice)
    return max(MIN_SAMPLE_ROOM, 1 << (size - 1).bit_length())


def check_choice(name: str, size: int, choice: Choice) -> None:
    """Refuse what models that decode random bits cannot honour; prompt and sample have `size` bytes together.

    Raises:
        PredictorError: they are too long, or the choice has top-k or top-p.
    """
    if choice.top_k is not None or choice.top_p not in (None, 1):
        raise PredictorError(
            f"{name} samples by decoding random bits and has no top-k or top-p; leave them out, or choose a predictor "
            f"with explicit distributions"
        )
    if size > MAX_SAMPLE_BYTES:
        raise PredictorError(f"{name} takes prompt and sample up to 1 GiB, not {size} bytes; shorten them")


def draws(
    size: int, randomness: Randomness, temperature: float, piece: int = DRAWN_BYTES
) -> Iterator[tuple[BinaryDecoder, int]]:
    """Random bits to decode a sample of `size` bytes from, for `piece` bytes at a time, and the bytes of the piece.

    The temperature divides the log-odds of each bit. At 0 the bits are not random but the middle of the interval, which
    the likelier bit holds at every decision.
    """
    remap = remapped_bits(temperature)
    for first in range(0, size, piece):
        code = randomness.take(CODE_BYTES * max(piece, 4)) if temperature else MIDDLE
        decoder = BinaryDecoder(code) if remap is None else BinaryDecoder(code, remap)
        yield decoder, min(piece, size - first)


def code_lengths(costs: bytes) -> npt.NDArray[np.float64]:
    """Code length of each byte in bits, from the 16-bit probabilities of its eight bits."""
    import numpy as np

    probabilities = np.frombuffer(costs, "=u2").reshape(-1, 8)
    bits = np.empty(len(probabilities))
    for at in range(0, len(bits), PIECE_BYTES):
        bits[at : at + PIECE_BYTES] = (16 - np.log2(probabilities[at : at + PIECE_BYTES].astype(np.float64))).sum(
            axis=1
        )
    return bits
