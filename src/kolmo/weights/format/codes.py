"""The code of one tensor: a payload with its wild weights, a base with its residual, or the tensor's own bytes.

    payload [scales] [places of wild weights, wild weights]        a hyperfunction's payload
    base residual                                                  exact (kolmo.weights.format.lossless)
    bytes of the tensor                                            verbatim, where no payload is smaller

What it is not: a reader or writer of files; it sees one tensor.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from kolmo.errors import CorruptError
from kolmo.hyperfunctions.base import Choosing, Hyperfunction
from kolmo.hyperfunctions.bitshift import Bitshift
from kolmo.hyperfunctions.trellis import Trellis
from kolmo.progress import Progress
from kolmo.safetensors import BYTES
from kolmo.weights.choice.values import MAX_GRID_LEVEL, TYPICAL_SCALES, is_wild
from kolmo.weights.format import lossless, scales
from kolmo.weights.format.groups import from_matrix, to_matrix
from kolmo.weights.format.record import CHECKSUM_DIGITS, PLACE_BYTES, Coded
from kolmo.weights.sources.dtypes import from_floats, to_floats

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float32]

WORKING_BYTES = 24  # memory in bytes that one weight takes while it is coded or decoded
# With a fixed rate, weights above TYPICAL_SCALES scales are stored apart if they are few and have much of the power.
FEW, FEW_PART = 4, 1 / 4096  # either
MUCH_POWER = 1 / 4  # relative to all others; then the error of the others falls by 1 dB
CAPACITY_BYTES = 1 << 30  # memory in bytes for all tensors in work together; a single tensor may exceed it


class Code(NamedTuple):
    """The code of a tensor, with what the record has to say about it.

    Attributes:
        data: the code.
        by: the hyperfunction that made its payload; None if the code is verbatim.
        base: length in bytes of the base at its start; 0 if there is none.
        wild: number of wild weights at its end.
        scales: length in bytes of the scales behind the payload; 0 if there are none.
        transposed: 1 if the payload is that of the transposed matrix, else 0.
    """

    data: bytes
    by: Hyperfunction | None = None
    base: int = 0
    wild: int = 0
    scales: int = 0
    transposed: int = 0


def checksum_of(data: bytes) -> str:
    """The checksum of a tensor's bytes, as the record has it."""
    return hashlib.sha256(data).hexdigest()[:CHECKSUM_DIGITS]


def encode(
    one: Coded, data: bytes, weights: Floats, function: Hyperfunction, scale: float, progress: Progress | None
) -> Code:
    """Code a tensor with loss; verbatim where that is not smaller, or where the step is too small for a weight.

    Args:
        one: dtype, shape and columns.
        data: its bytes.
        weights: its weights after pruning, binary32, in a vector.
        function: the hyperfunction.
        scale: the tensor's scale (`values.Nature`), from which wild weights are told; 0 if there are none.
        progress: called with the number of weights just done.
    """
    tame, tail = without_wild(weights, data, one, scale, function)
    try:
        payload = function.encode(to_matrix(tame, one.columns), progress)
    except ValueError:  # a weight is too large for this step
        payload = None
    if payload is not None and len(payload) + len(tail) < one.size:
        by = function.chosen(payload) if isinstance(function, Choosing) else function
        return Code(payload + tail, by, wild=len(tail) // (PLACE_BYTES + BYTES[one.dtype]))
    return Code(data if len(tail) else from_floats(weights, one.dtype))


def encode_exact(one: Coded, data: bytes, progress: Progress | None) -> Code:
    """Code a tensor as base and residual; verbatim where that is not smaller, or impossible."""
    try:
        base, rest = lossless.encode(data, one.dtype, one.columns, progress)
    except ValueError:  # infinities, or magnitudes too large for any step
        return Code(data)
    if len(base) + len(rest) >= one.size:
        return Code(data)
    return Code(base + rest, lossless.hyperfunction_of(base), len(base))


def encode_grid(one: Coded, data: bytes, function: Trellis) -> Code:
    """Code a tensor whose values are multiples of the step; verbatim if that is not exact or not smaller."""
    weights = to_floats(data, one.dtype)
    levels = np.rint(weights.astype(np.float64) / function.step).astype(np.int32)
    payload = function.encode_levels(to_matrix(levels, one.columns))
    if len(payload) >= one.size or decode(one, payload, function) != data:
        return Code(data)
    return Code(payload, function)


def decode(one: Coded, code: bytes, function: Hyperfunction | None, threads: int = 1) -> bytes:
    """The bytes of a coded tensor: the mirror of the three encoders.

    Args:
        one: the record's entry; `by` does not matter.
        code: the code, or only the base of an exact tensor, which then gives the tensor with loss.
        function: the hyperfunction that the record names; None if the code is verbatim.
        threads: number of threads that decode a payload.

    Raises:
        CorruptError: the code is damaged, or was made with other parameters than the record names.
    """
    if function is None:
        return code
    function.check(code)
    if one.base and len(code) > one.base:
        return lossless.decode(code[: one.base], code[one.base :], one.dtype, one.matrix, threads)
    if one.base:
        return from_floats(lossless.decode_base(code, one.matrix, threads), one.dtype)
    end, at = len(code) - one.tail, len(code) - one.extra
    payload, packed, tail = code[:at], code[at:end], code[end:]
    matrix = function.decode(payload, one.payload_shape, threads)
    if one.scales:
        matrix = scales.scaled(matrix, *scales.unpack(packed, one.payload_shape))
    if one.transposed:
        matrix = np.ascontiguousarray(matrix.T)
    data = from_floats(from_matrix(matrix, one.shape), one.dtype)
    return _with_wild(one, data, tail) if one.wild else data


def decode_slabs(one: Coded, code: bytes, function: Hyperfunction | None, threads: int = 1) -> Iterator[bytes]:
    """The bytes of a coded tensor in consecutive pieces: of a plain trellis payload a tile at a time, else one piece.

    Args:
        one: as for `decode`.
        code: likewise.
        function: likewise.
        threads: likewise.

    Raises:
        CorruptError: as `decode`.
    """
    if not isinstance(function, Trellis) or one.base or one.extra:
        yield decode(one, code, function, threads)
        return
    function.check(code)
    for tile in function.decode_tiles(code, one.matrix, threads):
        yield from_floats(tile, one.dtype)


def without_wild(
    weights: Floats, data: bytes, one: Coded, scale: float, function: Hyperfunction
) -> tuple[Floats, bytes]:
    """The weights with 0 in place of wild ones, and the wild ones: their places, then their bytes."""
    if not scale:
        return weights, b""
    wild = is_wild(weights, scale)
    if isinstance(function, Trellis):  # the step must not be too small for any weight
        wild |= ~(np.abs(weights) < np.float32(function.step) * np.float32(MAX_GRID_LEVEL))
    if isinstance(function, Bitshift):
        wild |= _loud(weights, wild, scale)
    if not wild.any():
        return weights, b""
    places = np.flatnonzero(wild).astype("<u8")
    bytes_of = np.frombuffer(data, np.uint8).reshape(-1, BYTES[one.dtype])
    return np.where(wild, np.float32(0), weights), places.tobytes() + bytes_of[places.astype(np.int64)].tobytes()


def _loud(weights: Floats, wild: npt.NDArray[np.bool_], scale: float) -> npt.NDArray[np.bool_]:
    """Weights that are far above all others, if they are few: they would set the factors of their rows."""
    loud = ~wild & (np.abs(weights) > np.float32(TYPICAL_SCALES * scale))
    if not 0 < np.count_nonzero(loud) <= max(FEW, FEW_PART * weights.size):
        return np.zeros_like(wild)
    power = float(np.square(weights[loud], dtype=np.float64).sum())
    others = float(np.square(weights[~(loud | wild)], dtype=np.float64).sum())
    return loud if power > MUCH_POWER * others else np.zeros_like(wild)


def _with_wild(one: Coded, data: bytes, tail: bytes) -> bytes:
    """The mirror of `without_wild`: put wild weights in their places.

    Raises:
        CorruptError: the places are not in order, or not in the tensor.
    """
    found = np.frombuffer(data, np.uint8).reshape(-1, BYTES[one.dtype]).copy()
    found[wild_places(one, tail)] = np.frombuffer(tail, np.uint8, offset=8 * one.wild).reshape(-1, BYTES[one.dtype])
    return found.tobytes()


def wild_weights(one: Coded, code: bytes) -> tuple[npt.NDArray[np.int64], Floats]:
    """The places of wild weights in a tensor, and these weights.

    Raises:
        CorruptError: the places are not in order, or not in the tensor.
    """
    tail = code[len(code) - one.tail :]
    return wild_places(one, tail), to_floats(tail[8 * one.wild :], one.dtype)


def wild_places(one: Coded, tail: bytes) -> npt.NDArray[np.int64]:
    """The places of wild weights in a tensor.

    Raises:
        CorruptError: the places are not in order, or not in the tensor.
    """
    places = np.frombuffer(tail, "<u8", one.wild)
    if places.size and (int(places[-1]) >= one.count or bool((places[1:] <= places[:-1]).any())):
        raise CorruptError("the places of wild weights are not in order, or not in the tensor", one.stored - one.tail)
    return places.astype(np.int64)
