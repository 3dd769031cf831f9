"""Which tensors are coded, and as which matrix. A matrix is the tensor itself, cut into rows; no weight moves.

What it is not: a coder. It sees only names, dtypes and shapes.
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

MIN_WEIGHTS = 1024  # a tensor of fewer weights gains less than the header of a payload takes
MAX_KERNEL_WIDTH = 16  # of a convolution along a line; a larger last dimension is the input of an expert
BUFFERS = re.compile(
    r"(^|[._])(bias|gain|running_mean|running_var|num_batches_tracked|masks?|ids|index|indices|alibi|slopes|pe|"
    r"(inv_)?freqs?(_cis|_cos|_sin)?|(cos|sin)(_cached?)?|relative_coords_table|mel_filters|window)$"
)


def is_coded(name: str, dtype: str, shape: Sequence[int], keep: Sequence[str] = ()) -> bool:
    """Whether a tensor is coded: large, of floats, not a vector, not a buffer by its name, not in `keep` (globs)."""
    if dtype not in FLOATS or prod(shape) < MIN_WEIGHTS or sum(size > 1 for size in shape) < 2:
        return False
    return not BUFFERS.search(name) and not any(fnmatchcase(name, pattern) for pattern in keep)


def columns_of(shape: Sequence[int]) -> int:
    """Number of columns of the matrix as which a tensor is coded.

    (out, in) stays as it is; (out, in, kh, kw) and (out, in, k) become (out, rest); (experts, out, in) becomes
    (experts out, in).
    """
    if len(shape) == 3 and shape[2] > MAX_KERNEL_WIDTH:
        return shape[2]
    return prod(shape[1:])


def to_matrix(values: npt.NDArray[Any], columns: int) -> npt.NDArray[Any]:
    """The weights of a tensor, in their order, as a matrix."""
    return values.reshape(-1, columns)


def from_matrix(matrix: npt.NDArray[Any], shape: Sequence[int]) -> npt.NDArray[Any]:
    """The tensor again: the mirror of `to_matrix`."""
    return matrix.reshape(tuple(shape))
