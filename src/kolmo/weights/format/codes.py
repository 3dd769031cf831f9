"""The code of one tensor: a payload with its wild weights, a base with its residual, or the bytes themselves."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from kolmo.codec.pipeline import Report
from kolmo.errors import CorruptError
from kolmo.hyperfunctions.base import Hyperfunction
from kolmo.hyperfunctions.trellis import Trellis
from kolmo.weights.choice.values import MOST_LEVEL, is_wild
from kolmo.weights.format import lossless
from kolmo.weights.format.groups import from_matrix
from kolmo.weights.format.record import DIGEST, Coded
from kolmo.weights.sources.dtypes import from_floats
from kolmo.weights.sources.safetensors import BYTES

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float32]


WORKING = 24  # bytes of memory that a weight takes while it is coded
CAPACITY = 1 << 30  # of all tensors in work; one alone may exceed it
DIVIDED = 1 << 22  # weights of a tensor whose payload is decoded by several threads


class Code(NamedTuple):
    """A tensor's code, as it goes to the file; of an exact one, so many bytes are its base.

    `wild` weights are at its end; it is a payload of the hyperfunction `by`, None if of none.
    """

    data: bytes
    by: Hyperfunction | None = None
    base: int = 0
    wild: int = 0


def digest(data: bytes) -> str:
    """Of a tensor's bytes, as the record has it."""
    return hashlib.sha256(data).hexdigest()[:DIGEST]


def _encode_exact(one: Coded, data: bytes, report: Report) -> Code:
    try:
        base, rest = lossless.encode(data, one.dtype, one.columns, report)
    except ValueError:  # infinities, or too large for any step
        return Code(data)
    return Code(base + rest, lossless.BASE, len(base)) if len(base) + len(rest) < one.size else Code(data)


def _tamed(weights: Floats, data: bytes, one: Coded, scale: float, function: Hyperfunction) -> tuple[Floats, bytes]:
    """Weights whose wild ones are 0, and these: their places, then their bytes."""
    if not scale:
        return weights, b""
    wild = is_wild(weights, scale)
    if isinstance(function, Trellis):  # no step may be too fine for a weight
        wild |= ~(np.abs(weights) < np.float32(function.step) * np.float32(MOST_LEVEL))
    if not wild.any():
        return weights, b""
    places = np.flatnonzero(wild).astype("<u8")
    bytes_of = np.frombuffer(data, np.uint8).reshape(-1, BYTES[one.dtype])
    return np.where(wild, np.float32(0), weights), places.tobytes() + bytes_of[places.astype(np.int64)].tobytes()


def _restore_wild(one: Coded, data: bytes, tail: bytes) -> bytes:
    """The mirror of `_tamed`: put wild weights in their places.

    Raises:
        CorruptError: the places are none.
    """
    places = np.frombuffer(tail, "<u8", one.wild)
    if int(places[-1]) >= one.count or bool((places[1:] <= places[:-1]).any()):
        raise CorruptError("the places of wild weights are not in order, or not in the tensor", one.stored - one.tail)
    found = np.frombuffer(data, np.uint8).reshape(-1, BYTES[one.dtype]).copy()
    found[places.astype(np.int64)] = np.frombuffer(tail, np.uint8, offset=8 * one.wild).reshape(-1, BYTES[one.dtype])
    return found.tobytes()


def decode(one: Coded, code: bytes, hyperfunction: Hyperfunction, threads: int = 1) -> bytes:
    """A coded tensor's bytes; of a code that ends with its base, what that knows of them.

    Raises:
        CorruptError: the code is damaged.
    """
    if one.verbatim:
        return code
    if one.base and len(code) > one.base:
        return lossless.decode(code[: one.base], code[one.base :], one.dtype, one.matrix, threads)
    if one.base:
        return from_floats(lossless.decode_base(code, one.matrix, threads), one.dtype)
    payload, tail = code[: len(code) - one.tail], code[len(code) - one.tail :]
    data = from_floats(from_matrix(hyperfunction.decode(payload, one.matrix, threads), one.shape), one.dtype)
    return _restore_wild(one, data, tail) if one.wild else data
