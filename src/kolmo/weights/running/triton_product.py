"""Products with a payload of the bitshift trellis on a GPU: the functions of the C kernels, with tensors of torch.

`triton_kernels` computes; this file allocates, launches, and says what to do where triton is not installed. The results
have the bits of kolmo.native.bitshift_product. What it is not: a check of the words, any of which are valid.
"""

from __future__ import annotations

import functools
import math
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from kolmo.errors import MissingExtraError
from kolmo.hyperfunctions.bitshift_payload import ALIGNMENT, HEADER, OCTAVES, Payload, width_of

if TYPE_CHECKING:
    import torch

GPU = ("cuda",)  # kinds of devices on which these functions compute
TURN_BLOCK = 1024  # numbers of a row that a program loads at once
ROUND_BLOCK = 1024
DECODE_COLUMNS = 512
COUNTS = 1, 16, 32, 64, 128  # rows of activations of a program


class Head(NamedTuple):
    """What the header of a payload says, on the side of Python, so that no product waits for the GPU to tell it."""

    states_log: int
    bits: int
    rotated: bool
    seed: int
    scale: float
    rows: int
    columns: int

    @classmethod
    def of(cls, payload: Payload) -> Head:
        """The head of a payload that was checked."""
        return cls(payload.states_log, payload.bits, payload.rotated, payload.seed, payload.scale, *payload.shape)

    @property
    def row_words(self) -> int:
        """Words of a row."""
        return self.bits * width_of(self.columns) // ALIGNMENT


def product(code: torch.Tensor, head: Head, x: torch.Tensor) -> torch.Tensor:
    """The product of a matrix with rows of activations.

    Args:
        code: uint8, the payload, on a GPU.
        head: of this payload.
        x: binary32, (count, columns), contiguous, on the same device.

    Returns:
        Binary32, (count, rows). All of a row is NaN if an activation, rotated, is not a finite number.

    Raises:
        MissingExtraError: triton is not installed.
    """
    import torch

    kernels, count, width = _kernels(code.device), x.shape[0], width_of(head.columns)
    y = torch.empty((count, head.rows), dtype=torch.float32, device=code.device)
    if not y.numel() or not width:
        return y.zero_()
    turned = rotate(x, head.seed, back=False) if head.rotated else x
    q = torch.empty((count, width), dtype=torch.int8, device=code.device)
    units = torch.empty(count, dtype=torch.float32, device=code.device)
    at_once = next((one for one in COUNTS if count <= one), COUNTS[-1])
    height, columns = (16, 256) if at_once == 1 else (64, 64)
    with _on(code.device):
        kernels.round_rows[(count,)](turned, q, units, head.columns, width, BLOCK=ROUND_BLOCK, enable_fp_fusion=False)
        kernels.multiply[(-(-head.rows // height), -(-count // at_once))](
            *_tables(code, head),
            *(q, units, y, head.rows, count, head.row_words, width, head.scale),
            **{"BITS": head.bits, "STATES": head.states_log, "ROWS": height, "COLUMNS": columns, "COUNT": at_once},
            num_warps=4 if at_once <= 32 else 8,  # with fewer, the sums of more rows do not fit the registers
            enable_fp_fusion=False,
        )
    return y


def rows(code: torch.Tensor, head: Head, places: torch.Tensor, restore: bool) -> torch.Tensor:
    """Some rows of a matrix, binary32, (number of places, columns).

    Args:
        code: as for `product`.
        head: likewise.
        places: int64, numbers of rows, each from 0 to rows - 1, on the device of the code.
        restore: whether rotated rows are turned back.

    Raises:
        MissingExtraError: triton is not installed.
    """
    import torch

    kernels = _kernels(code.device)
    found = torch.empty((places.numel(), head.columns), dtype=torch.float32, device=code.device)
    if not found.numel():
        return found
    with _on(code.device):
        kernels.decode[(places.numel(), -(-head.columns // DECODE_COLUMNS))](
            *_tables(code, head),
            *(places.contiguous(), found, head.rows, head.columns, head.row_words, head.scale),
            **{"BITS": head.bits, "STATES": head.states_log, "COLUMNS": DECODE_COLUMNS},
            enable_fp_fusion=False,
        )
    return _turned(found, head.seed, back=True) if restore and head.rotated else found


def rotate(x: torch.Tensor, seed: int, back: bool) -> torch.Tensor:
    """Rows of numbers, rotated, or turned back: a new tensor.

    Args:
        x: binary32, (count, columns), on a GPU.
        seed: of the signs, 32 bits.
        back: whether to turn back.

    Raises:
        MissingExtraError: triton is not installed.
    """
    import torch

    return _turned(x.clone(memory_format=torch.contiguous_format), seed, back)


def _turned(x: torch.Tensor, seed: int, back: bool) -> torch.Tensor:
    """The same rows, turned in place."""
    count, columns = x.shape
    if x.numel():
        m = 1 << columns.bit_length() - 1
        root = float(np.float32(1 / math.sqrt(m)))
        signed = seed - (1 << 32) if seed >> 31 else seed
        turn = _kernels(x.device).turn
        with _on(x.device):
            turn[(count,)](x, signed, columns, m, root, BACK=back, BLOCK=TURN_BLOCK, enable_fp_fusion=False)
    return x


def _tables(code: torch.Tensor, head: Head) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The words and the exponents of a payload, which are views, and the sixteenths of an octave."""
    import torch

    words, exponents = code[HEADER.size :].split([code.numel() - HEADER.size - head.rows, head.rows])
    return words.view(torch.int32), exponents, _octaves(code.device)


@functools.cache
def _octaves(device: torch.device) -> torch.Tensor:
    import torch

    with torch.inference_mode(False):
        return torch.tensor(OCTAVES, device=device)


def _kernels(device: torch.device) -> Any:
    try:
        from kolmo.weights.running import triton_kernels
    except ImportError as error:
        raise MissingExtraError(
            f"weights that stay small compute on {device} with triton ({error}); "
            "install torch for CUDA, which brings it, or move the module to the CPU"
        ) from None
    return triton_kernels


def _on(device: torch.device) -> Any:
    """A context in which kernels are launched on a device."""
    import torch

    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()
