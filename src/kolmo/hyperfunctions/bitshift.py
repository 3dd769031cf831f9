"""The bitshift trellis: a fixed number of bits a weight, any row read alone, products without unpacking.

A row of weights is the orbit of one long integer under the doubling map, read through a computed function (Fan et al.,
2024, section 3; as a trellis: Mao and Gray 2010; Tseng et al., "QTIP", 2024). docs/bitshift.md holds the values, the
layout and the search. What it is not: the smallest file, which the trellis makes; this one stays small in use.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from kolmo.errors import CorruptError
from kolmo.hyperfunctions.bitshift_payload import (
    BITS,
    EXPONENTS_PER_OCTAVE,
    HEADER,
    MAX_COLUMNS,
    MAX_EXPONENT,
    SCALES,
    STATES_LOGS,
    Payload,
    factors_of,
    pack,
    payload_size,
    width_of,
)
from kolmo.native.dispatch import kernels
from kolmo.progress import Progress

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float32]
    Integers = npt.NDArray[np.int64]


MAX_MAGNITUDE = 2.0**100  # of a weight; sums of as many as there may be columns stay finite
MIN_COLUMNS = 64  # of a matrix that it is made for: in shorter rows exponents and the seam cost too much
MAX_FREE_PART = 1 / 8  # of free weights, relative to the others
CHUNK = 1 << 16  # weights that are searched between two calls of `progress`
DEVICE_CHUNK = 1 << 22  # the same on a device of torch
SCALE_EXPONENT = 240  # exponent of the row of most power, if it is Gaussian
STRIDE = 2  # distance of two exponents that are tried: 9 %
MAX_STRIDES = 6  # in one direction
# By the bits of a weight: values up to here are near others, and the squared error of a value among these. Both only
# say which factor is tried first.
REACH = {2: 60.0, 3: 75.0, 4: 90.0}
ERROR = {2: 100.0, 3: 25.0, 4: 6.5}
GUESSES = np.arange(-16, 33, 2)  # exponents that are guessed at, from that of a Gaussian row on
GAUSSIAN = {2: 35.5, 3: 33.7, 4: 32.2}  # root mean square of the targets of a Gaussian row, by the bits


@dataclass(frozen=True)
class Feedback:
    """How errors of a row count, and what they add to later weights (docs/calibration.md), in the order of columns.

        cost of a row = sum over columns i of  importance_i (error_i + sum over j < i of error_j matrix_ji)^2

    Attributes:
        importance: binary32, (columns,), each above 0.
        matrix: binary32, (columns, columns); what is not above the diagonal is 0.
    """

    importance: Floats
    matrix: Floats

    def costs(self, errors: Floats) -> npt.NDArray[np.float64]:
        """The cost of each row of errors."""
        costs: npt.NDArray[np.float64] = np.square(errors + errors @ self.matrix, dtype=np.float64) @ self.importance
        return costs


@dataclass(frozen=True)
class Bitshift:
    """Weights as integers from -126 to 126, times a factor of each row: 2, 3 or 4 bits a weight, and 8 bits a row.

    Args:
        bits: bits of a weight.
        states: number of states: 4096, or 65536 for 0.2 to 0.5 dB less error at 16 times the work.
        rotated: turn rows by a Walsh-Hadamard transform first, so that weights are nearly Gaussian.
        seed: of the signs of the rotation, 32 bits; 0 if there is none.
        unbiased: scale the matrix so that its error is not correlated with it. What has the least squared error, the
            default, is a little too small (docs/bitshift.md, "Energy"). Readers do not need to know.
        device: of torch, on which the encoder searches, such as "cuda"; None for the kernels. The payload is the same.

    Raises:
        ValueError: an argument is out of its range.

    Example:
        >>> weights = np.random.default_rng(1).standard_normal((4, 64)).astype(np.float32)
        >>> payload = Bitshift(4).encode(weights)
        >>> len(payload)
        148
        >>> bool(np.abs(Bitshift(4).rows(payload, (4, 64), [2]) - weights[2]).max() < 0.5)
        True
    """

    bits: int = 4
    states: int = 4096
    rotated: bool = True
    seed: int = 0
    unbiased: bool = False
    device: str | None = None

    def __post_init__(self) -> None:
        for name in ("bits", "states", "seed"):
            if not isinstance(getattr(self, name), int):
                raise ValueError(f"{name} = {getattr(self, name)!r} is not an integer")
        if self.bits not in BITS:
            raise ValueError(f"bits = {self.bits} is not possible; choose from {', '.join(map(str, BITS))}")
        if self.states not in {1 << log for log in STATES_LOGS}:
            raise ValueError(f"states = {self.states} is not known; choose 4096 or 65536")
        if self.rotated not in (0, 1):
            raise ValueError(f"rotated = {self.rotated} is not known; choose 0 or 1")
        if not 0 <= self.seed < 1 << 32 or (self.seed and not self.rotated):
            raise ValueError(f"seed = {self.seed} is out of range; choose one below 2^32, and 0 without a rotation")
        object.__setattr__(self, "rotated", bool(self.rotated))

    @property
    def name(self) -> str:
        """The name that files record."""
        return "bitshift"

    @property
    def version(self) -> int:
        """Version of the payload."""
        return 1

    @property
    def parameters(self) -> dict[str, int | float]:
        """Bits, states, whether weights are rotated, and the seed."""
        return {"bits": self.bits, "states": self.states, "rotated": int(self.rotated), "seed": self.seed}

    @property
    def states_log(self) -> int:
        """Base-2 logarithm of the number of states."""
        return self.states.bit_length() - 1

    def size(self, shape: tuple[int, int]) -> int:
        """See `Resident.size`."""
        return payload_size(self.bits, shape)

    def encode(
        self,
        weights: npt.NDArray[np.float32],
        progress: Progress | None = None,
        feedback: Feedback | None = None,
    ) -> bytes:
        """The payload of a matrix; see `Hyperfunction.encode`.

        Args:
            weights: the matrix.
            progress: called with the number of weights just done.
            feedback: how errors of rows count, after the rotation (`turned`); by default all alike, for themselves.

        Raises:
            ValueError: besides, there are more than 2^17 columns, or a magnitude is above 2^100.
        """
        matrix = _checked(weights)
        found = BitshiftRows(self, matrix)
        rows, columns = matrix.shape
        height = max((CHUNK if self.device is None else DEVICE_CHUNK) // max(columns, 1), 1)
        for at in range(0, rows if columns else 0, height):
            some = matrix[at : at + height]
            found.code(self.turned(some), feedback)
            if progress:
                progress(some.size)
        return found.payload()

    def turned(self, rows: Floats, back: bool = False) -> Floats:
        """For encoders. Rows as they are coded: rotated, or as they are; with `back`, coded rows as they were."""
        if not self.rotated or not rows.size:
            return rows
        found = kernels.bitshift_rotate(np.ascontiguousarray(rows, np.float32), rows.shape[1], self.seed, int(back))
        return np.frombuffer(found, np.float32).reshape(rows.shape)

    def decode(self, payload: bytes, shape: tuple[int, int], threads: int = 1) -> npt.NDArray[np.float32]:
        """The matrix; see `Hyperfunction.decode`. All parameters are those that the payload records."""
        Payload.parse(payload, shape)
        return _decoded(payload, shape, np.arange(shape[0]), threads)

    def rows(
        self, payload: bytes, shape: tuple[int, int], indices: Sequence[int] | npt.NDArray[np.int64], threads: int = 1
    ) -> npt.NDArray[np.float32]:
        """See `Resident.rows`."""
        Payload.parse(payload, shape)
        wanted = np.asarray(indices, np.int64).reshape(-1)
        if wanted.size and not 0 <= int(wanted.min()) <= int(wanted.max()) < shape[0]:
            raise ValueError(f"a row is not one of {shape[0]}; choose from 0 to {shape[0] - 1}")
        return _decoded(payload, shape, wanted, threads)

    def product(
        self, payload: bytes, shape: tuple[int, int], x: npt.NDArray[np.float32], threads: int = 1
    ) -> npt.NDArray[np.float32]:
        """See `Resident.product`."""
        Payload.parse(payload, shape)
        if x.ndim != 2 or x.shape[1] != shape[1]:
            raise ValueError(f"activations have shape {x.shape}; rows of {shape[1]} are needed")
        found = kernels.bitshift_product(payload, *shape, np.ascontiguousarray(x, np.float32), threads)
        return np.frombuffer(found, np.float32).reshape(x.shape[0], shape[0])

    def check(self, payload: bytes) -> None:
        """See `Hyperfunction.check`: all parameters."""
        if len(payload) < HEADER.size:
            return  # too short to be a payload, as `decode` will report
        states_log, bits, flags, _, seed, *_ = HEADER.unpack_from(payload)
        if (states_log, bits, bool(flags), seed) != (self.states_log, self.bits, self.rotated, self.seed):
            raise CorruptError("the bitshift payload has other parameters than its record", 0)


class BitshiftRows:
    """A payload in the making, whose rows are coded one after another, some at a time.

    Args:
        recipe: the bitshift trellis.
        guide: a matrix of the shape of the payload and about its values, from which the unit of factors is taken: the
            rows of most power have exponents around `SCALE_EXPONENT`.

    Raises:
        ValueError: as for `Bitshift.encode`.
    """

    def __init__(self, recipe: Bitshift, guide: Floats) -> None:
        matrix = _checked(guide)
        rows, columns = self._shape = matrix.shape
        self._recipe, self._at = recipe, 0
        largest = float(_roots(matrix).max(initial=0.0)) / GAUSSIAN[recipe.bits]
        self._scale = _clipped(largest * 2.0 ** (15 - SCALE_EXPONENT // EXPONENTS_PER_OCTAVE)) if largest else 0.0
        self._words = np.full((rows, recipe.bits * width_of(columns) // 32), 0xFFFFFFFF, np.uint32)
        self._exponents = np.zeros(rows, np.uint8)
        self._power = self._along = 0.0  # of all rows: their squares, and their products with what is decoded

    def code(self, rows: Floats, feedback: Feedback | None = None) -> Floats:
        """Code the next rows, as `Bitshift.turned` gives them; returns them as decoded, before they are turned back."""
        search = _RowSearch(self._recipe, rows, self._scale)
        search.try_factors(_roots(rows) / GAUSSIAN[self._recipe.bits])
        if feedback is not None:
            search.feed_back(feedback)
        some = slice(self._at, self._at + len(rows))
        self._words[some], self._exponents[some] = search.words, search.exponents
        self._at += len(rows)
        self._power += float(_powers(rows).sum())
        self._along += float(np.einsum("ij,ij->", rows, search.decoded, dtype=np.float64))
        return search.decoded

    def payload(self) -> bytes:
        """The payload, after the last row."""
        recipe, scale = self._recipe, self._scale
        if recipe.unbiased and self._along > 0:
            scale = _clipped(scale * self._power / self._along)
        seed = recipe.seed if recipe.rotated else None
        return pack(recipe.states_log, recipe.bits, seed, scale, self._shape, self._words, self._exponents)


class _RowSearch:
    """The search for the best factor of each row, and its words, over some rows."""

    def __init__(self, recipe: Bitshift, rows: Floats, scale: float) -> None:
        self._recipe, self._rows, self._scale = recipe, rows, scale
        count, columns = rows.shape
        self._width = width_of(columns)
        self.words = np.full((count, recipe.bits * self._width // 32), 0xFFFFFFFF, np.uint32)
        self.exponents = np.zeros(count, np.int64)  # 0 is a row of zeros, whose error is the power of the row
        self._errors = _powers(rows)
        self.decoded = np.zeros_like(rows)

    def try_factors(self, roots: npt.NDArray[np.float64]) -> None:
        """Find the best factors. `roots`: those that would be best if the rows were Gaussian."""
        solid = np.flatnonzero(self._errors)
        first = self._guess(solid, roots)
        self._try(solid, first)
        up = self._try(solid, first + STRIDE)
        down = np.zeros_like(up)
        down[~up] = self._try(solid[~up], first[~up] - STRIDE)
        moving, way = solid[up | down], np.where(up, STRIDE, -STRIDE)[up | down]
        for _ in range(MAX_STRIDES - 1):
            better = self._try(moving, self.exponents[moving] + way)
            moving, way = moving[better], way[better]

    def feed_back(self, feedback: Feedback) -> None:
        """Search once more with feedback, from seam to seam of the strings so far; rows keep what costs less."""
        solid = np.flatnonzero(self.exponents)
        if not solid.size:
            return
        rows = self._rows[solid]
        factors = factors_of(self._scale, self.exponents[solid].astype(np.uint8))[:, None]
        (count, columns), log, bits = rows.shape, self._recipe.states_log, self._recipe.bits
        targets = np.zeros((count, self._width), np.float32)
        targets[:, :columns] = rows / factors
        importance, matrix = np.zeros(self._width, np.float32), np.zeros((self._width, self._width), np.float32)
        importance[:columns] = feedback.importance / feedback.importance.mean()
        matrix[:columns, :columns] = feedback.matrix
        seams = self.words[solid, 0] >> np.uint32(32 - log + bits)
        found = kernels.bitshift_feedback_search(log, bits, self._width, seams, targets, importance, matrix)
        words = np.frombuffer(found[0], np.uint32).reshape(count, -1)
        decoded = np.frombuffer(found[1], np.int8).reshape(count, -1)[:, :columns] * factors
        won = feedback.costs(decoded - rows) < feedback.costs(self.decoded[solid] - rows)
        self.words[solid[won]] = words[won]
        self.decoded[solid[won]] = decoded[won]

    def _guess(self, solid: Integers, roots: npt.NDArray[np.float64]) -> Integers:
        """Exponents of least estimated error: that of values within reach, and of all beyond it."""
        bits, magnitudes = self._recipe.bits, np.abs(self._rows[solid])
        centre = SCALE_EXPONENT + np.rint(EXPONENTS_PER_OCTAVE * np.log2(roots[solid] / self._reference)).astype(int)
        found = np.zeros((GUESSES.size, solid.size))
        for i, apart in enumerate(GUESSES.tolist()):
            factors = factors_of(self._scale, np.clip(centre + apart, 1, MAX_EXPONENT).astype(np.uint8))
            beyond = np.maximum(magnitudes - factors[:, None] * np.float32(REACH[bits]), np.float32(0))
            found[i] = ERROR[bits] * factors.astype(np.float64) ** 2 * magnitudes.shape[1]
            found[i] += np.einsum("ij,ij->i", beyond, beyond, dtype=np.float64)
        guess: Integers = np.clip(centre + GUESSES[found.argmin(0)], 1, MAX_EXPONENT)
        return guess

    @property
    def _reference(self) -> float:
        """The factor of `SCALE_EXPONENT`."""
        return float(factors_of(self._scale, np.array([SCALE_EXPONENT], np.uint8))[0])

    def _try(self, places: Integers, exponents: Integers) -> npt.NDArray[np.bool_]:
        """Search rows with these exponents, and keep what is better than before; which rows that is."""
        better = np.zeros(places.size, np.bool_)
        possible = (exponents >= 1) & (exponents <= MAX_EXPONENT)
        places, exponents = places[possible], exponents[possible]
        if not places.size:
            return better
        rows = self._rows[places]
        factors = factors_of(self._scale, exponents.astype(np.uint8))[:, None]
        unit, (count, columns) = 16 << self._recipe.bits, rows.shape
        targets = np.zeros((count, self._width), np.int16)
        targets[:, :columns] = np.clip(np.rint(rows / factors * np.float32(unit)), -32767, 32767)
        words, values = self._search(targets)
        decoded = values[:, :columns] * factors
        errors = _powers(decoded - rows)
        won = errors < self._errors[places]
        self._errors[places[won]] = errors[won]
        self.exponents[places[won]] = exponents[won]
        self.words[places[won]] = words[won]
        self.decoded[places[won]] = decoded[won]
        better[possible] = won
        return better

    def _search(self, targets: npt.NDArray[np.int16]) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.int8]]:
        """The words of rows, and the values of their weights."""
        recipe, columns = self._recipe, self._rows.shape[1]
        log = recipe.states_log
        if recipe.device is not None:
            from kolmo.hyperfunctions.bitshift_torch import bitshift_search

            return bitshift_search(log, recipe.bits, columns, targets, recipe.device)
        words, values = kernels.bitshift_search(log, recipe.bits, self._width, columns, targets.tobytes())
        count = targets.shape[0]
        return np.frombuffer(words, np.uint32).reshape(count, -1), np.frombuffer(values, np.int8).reshape(count, -1)


def is_made_for(columns: int) -> bool:
    """Whether rows of so many weights waste little; if not, the trellis takes fewer bits at the same error."""
    return MIN_COLUMNS <= columns <= MAX_COLUMNS and width_of(columns) - columns <= MAX_FREE_PART * columns


def _checked(weights: Floats) -> Floats:
    """The weights as a contiguous matrix, checked."""
    if weights.ndim != 2:
        raise ValueError(f"a matrix has two dimensions, this one {weights.ndim}; reshape it")
    if not np.isfinite(weights).all():
        raise ValueError("a weight is not a finite number; store this matrix as it is, or repair it")
    if weights.shape[1] > MAX_COLUMNS:
        raise ValueError(f"a row of {weights.shape[1]} weights is longer than {MAX_COLUMNS}; take the trellis for it")
    matrix = np.ascontiguousarray(weights, np.float32)
    if float(np.abs(matrix).max(initial=0.0)) > MAX_MAGNITUDE:
        raise ValueError(f"a weight of {np.abs(matrix).max()} is above 2^100; store this matrix as it is")
    return matrix


def _clipped(scale: float) -> float:
    """A scale within its bounds."""
    return float(np.float32(min(max(scale, SCALES[0]), SCALES[1])))


def _roots(matrix: Floats) -> npt.NDArray[np.float64]:
    """The root mean square of each row, which a rotation does not change."""
    roots: npt.NDArray[np.float64] = np.sqrt(_powers(matrix) / max(matrix.shape[1], 1))
    return roots


def _powers(rows: Floats) -> npt.NDArray[np.float64]:
    """The sum of squares of each row."""
    found: npt.NDArray[np.float64] = np.einsum("ij,ij->i", rows, rows, dtype=np.float64)
    return found


def _decoded(payload: bytes, shape: tuple[int, int], wanted: Integers, threads: int) -> Floats:
    """Rows of a payload that was checked."""
    found = kernels.bitshift_rows(payload, *shape, np.ascontiguousarray(wanted, np.int64), 1, threads)
    return np.frombuffer(found, np.float32).reshape(wanted.size, shape[1])
