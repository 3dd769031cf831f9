"""Which tensors are coded, and as which matrix: every view is the tensor itself, cut into rows, so nothing moves.

What it is not: it codes nothing, and knows no module, only names, dtypes and shapes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from fnmatch import fnmatchcase
from math import prod
from typing import TYPE_CHECKING, Any

from kolmo.weights.sources.dtypes import FLOATS

if TYPE_CHECKING:
    import numpy.typing as npt

SMALLEST = 1024  # weights that pay for a payload's head
LONGEST_KERNEL = 16  # of a convolution along a line; a wider last dimension is an expert's input
BUFFERS = re.compile(
    r"(^|[._])(bias|gain|running_mean|running_var|num_batches_tracked|masks?|ids|index|indices|alibi|slopes|pe|"
    r"(inv_)?freqs?(_cis|_cos|_sin)?|(cos|sin)(_cached?)?|relative_coords_table|mel_filters|window)$"
)


def is_coded(name: str, dtype: str, shape: Sequence[int], keep: Sequence[str] = ()) -> bool:
    """Whether a tensor is one of weights: floats, large, no vector, no buffer by its name, none to `keep` (globs)."""
    if dtype not in FLOATS or prod(shape) < SMALLEST or sum(size > 1 for size in shape) < 2:
        return False
    return not BUFFERS.search(name) and not any(fnmatchcase(name, pattern) for pattern in keep)


def columns_of(shape: Sequence[int]) -> int:
    """Columns of the matrix that a tensor is viewed as.

    (out, in) is itself; (out, in, kh, kw) and (out, in, k) are (out, rest); (experts, out, in) are (experts out, in).
    """
    if len(shape) == 3 and shape[2] > LONGEST_KERNEL:
        return shape[2]
    return prod(shape[1:])


def to_matrix(values: npt.NDArray[Any], columns: int) -> npt.NDArray[Any]:
    """A tensor's weights, in its order, as a matrix."""
    return values.reshape(-1, columns)


def from_matrix(matrix: npt.NDArray[Any], shape: Sequence[int]) -> npt.NDArray[Any]:
    """The tensor again: the mirror of `to_matrix`."""
    return matrix.reshape(tuple(shape))
