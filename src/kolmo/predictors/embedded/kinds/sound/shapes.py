"""Shapes of the mixer of sound: predictors and rates at each level, and the prior that it starts from (docs/audio.md).

What it is not: the arithmetic, which is in `kolmo.native.sounds`.
"""

from __future__ import annotations

import hashlib
import zlib
from array import array
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from kolmo.native import tables
from kolmo.native.tables import NEVER

FILTERS, STAGES, SPANS, CONTEXTS = 4, 3, 3, 6  # most filters and stages; averages of each error; hashed contexts
SELECTOR_SETS = (192, 128, 2048, 768, 576)  # weight sets of each selector
STORED_SELECTOR = 1  # whose sets a prior has, each; of the others it has one
FINAL_INPUTS = 8
PRIORS = Path(__file__).parent.parent.parent / "priors" / "sound"


@dataclass(frozen=True)
class Filter:
    """Least squares with forgetting (docs/audio.md, "Filters").

    Attributes:
        own: newest samples of the channel that it reads, 1 to 32.
        other: newest samples of the other channel, where there is one, 0 to 32.
        every: samples after which its weights are computed again.
        forget: what a sample's share in the sums loses with each later one, in 2^-16.
    """

    own: int
    other: int
    every: int
    forget: int


@dataclass(frozen=True)
class SoundShape:
    """What a mixer of sound consists of.

    Attributes:
        name: of its prior's file.
        filters: at most 4.
        base: the filter whose error the stages predict.
        stages: of the cascade, taps and step size in 2^-16 of each, at most 3.
        final_forget: of the filter that combines all predictions.
        contexts: hashed ones, 0 or 6.
        table_bits: log2 of the most bytes of their trees.
        rate, rate_start, rate_shift, final_rate, map_limit: as in `context_mixing.Shape`, by samples.
    """

    name: str
    filters: tuple[Filter, ...]
    base: int
    stages: tuple[tuple[int, int], ...]
    final_forget: int
    contexts: int
    table_bits: int
    rate: int = 150
    rate_start: int = 400
    rate_shift: int = 10
    final_rate: int = 60
    map_limit: int = 255

    @property
    def inputs(self) -> int:
        """Inputs of the first layer: logits, a constant, two for each context, a network's; padded for vectors."""
        return SPANS * (len(self.filters) + len(self.stages) + 1) + 1 + 2 * self.contexts + 1 + 7 & ~7


QUICK = SoundShape("quick", (Filter(16, 8, 8, 197),), 0, ((16, 524),), 328, 0, 16)
LIGHT = SoundShape("light", (Filter(16, 8, 4, 655), Filter(24, 12, 8, 66)), 1, ((256, 524), (16, 524)), 328, 6, 20)
FULL = SoundShape(
    "full",
    (Filter(16, 8, 2, 655), Filter(32, 16, 8, 197), Filter(32, 16, 16, 33)),
    1,
    ((256, 524), (32, 524), (16, 524)),
    328,
    6,
    22,
)
LARGE = SoundShape(
    "large",
    (Filter(16, 8, 1, 655), Filter(32, 16, 2, 197), Filter(32, 16, 4, 33), Filter(12, 6, 1, 1311)),
    1,
    ((512, 524), (32, 524), (16, 524)),
    328,
    6,
    24,
)
NARROW = replace(LARGE, name="narrow")
SHAPES = (QUICK, LIGHT, FULL, LARGE, NARROW)
LEVELS = {1: QUICK, 2: QUICK, 3: LIGHT, 4: LIGHT, 5: FULL, 6: FULL, 7: LARGE, 8: LARGE, 9: LARGE}
NARROW_BITS = 8  # of a sample
NARROW_BYTES = {5: 1 << 15, 6: 1 << 15, 7: 1 << 30, 8: 1 << 30, 9: 1 << 30}  # most bytes of a stream, by level


def shape_of(level: int, bits: int, size: int) -> SoundShape:
    """The shape for a stream of `size` bytes, of samples of `bits` bits."""
    narrow = bits == NARROW_BITS and size <= NARROW_BYTES.get(level, 0)
    return NARROW if narrow else LEVELS[level]


def configuration(shape: SoundShape, parameters: tuple[int, ...], table_bits: int) -> bytes:
    """A shape, a stream's parameters and its table's size in the layout of `sound_config` in sound_mixer.h."""
    f, s = len(shape.filters), len(shape.stages)
    values = [*parameters, f]
    for column in zip(*((x.own, x.other, x.every, x.forget) for x in shape.filters), strict=True):
        values += [*column, *[0] * (FILTERS - f)]
    values += [shape.base, s]
    for column in zip(*shape.stages, strict=True):
        values += [*column, *[0] * (STAGES - s)]
    values += [shape.final_forget, shape.contexts, table_bits]
    values += [shape.rate, shape.rate_start, shape.rate_shift, shape.final_rate, shape.map_limit]
    return array("i", values).tobytes()


def plain_prior(shape: SoundShape) -> bytes:
    """An untrained prior: histories say nothing, and all distributions have equal weights.

    The layout, 32-bit integers in the machine's order: a probability (22 bits) and a count (10) for each context and
    history; weights of the first layer: one set of selector 0, all of selector 1, one of each other; final weights.
    """
    maps = ([1 << 31 | NEVER] + [1 << 31] * 255) * shape.contexts
    experts = SPANS * (len(shape.filters) + len(shape.stages) + 1)
    weights = [(1 << 27) // experts] * experts + [0] * (shape.inputs - experts)
    sets = weights * (SELECTOR_SETS[STORED_SELECTOR] + len(SELECTOR_SETS) - 1)
    selectors = len(SELECTOR_SETS)
    final = [(1 << 27) // selectors] * selectors + [0] * (FINAL_INPUTS - selectors)
    return array("I", maps).tobytes() + array("i", sets + final).tobytes()


def pack_prior(shape: SoundShape, prior: bytes) -> bytes:
    """The stored form of a prior, as `SoundMixer.learned` returns it: 16-bit numbers and 8-bit counts, deflated."""
    averages = 256 * shape.contexts
    maps, weights = array("I", prior[: 4 * averages]), array("i", prior[4 * averages :])
    probabilities = array("H", [min(v >> 16, 65535) for v in maps])
    counts = bytes(min(v & NEVER, 255) for v in maps)
    return zlib.compress(
        tables.little_endian(probabilities) + counts + tables.little_endian(array("h", [w >> 16 for w in weights])), 9
    )


def unpack_prior(shape: SoundShape, packed: bytes) -> bytes:
    """The mirror of `pack_prior`; the empty history gets its fixed value again."""
    data, n = zlib.decompress(packed), 256 * shape.contexts
    probabilities = tables.from_little_endian("H", data[: 2 * n])
    weights = tables.from_little_endian("h", data[3 * n :])
    counts = data[2 * n : 3 * n]
    maps = array("I", [p << 16 | 1 << 15 | count for p, count in zip(probabilities, counts, strict=True)])
    for state in range(0, n, 256):
        maps[state] = 1 << 31 | NEVER
    return maps.tobytes() + array("i", [w << 16 for w in weights]).tobytes()


@cache
def stored_prior(shape: SoundShape) -> bytes:
    """The prior that ships with the package, as stored."""
    return (PRIORS / f"{shape.name}.bin").read_bytes()


@cache
def prior(shape: SoundShape) -> bytes:
    """The prior of a model of this shape, in the layout of `plain_prior`."""
    return unpack_prior(shape, stored_prior(shape))


def table_bits(shape: SoundShape, size: int) -> int:
    """log2 of the bytes of trees for a stream of `size` bytes."""
    return min(max((size * 64 - 1).bit_length(), 12), shape.table_bits)


def digest_of(level: int, network: bytes) -> bytes:
    """SHA-256 over all that determines the probabilities at a level, but for code: plain integers, little-endian.

    Args:
        level: 1 to 9.
        network: fingerprint of the network that narrow streams use.
    """
    digest = hashlib.sha256(tables.little_endian(array("i", [*SELECTOR_SETS, NARROW_BITS, NARROW_BYTES.get(level, 0)])))
    for shape in (LEVELS[level], *[NARROW] * (level in NARROW_BYTES)):
        digest.update(tables.little_endian(array("i", configuration(shape, (0, 0, 0, 0, 0), shape.table_bits))))
        digest.update(zlib.decompress(stored_prior(shape)))
    for table in (tables.stretch(), tables.squash(), tables.reciprocal(), tables.softplus()):
        digest.update(tables.little_endian(table[:]))
    digest.update(tables.automaton()[0] + tables.priorities() + (network if level in NARROW_BYTES else b""))
    return digest.digest()
