"""Conversions between the bytes of tensors, binary32, arrays of NumPy and tensors of torch.

bfloat16 needs no library: it is the upper half of a binary32. Bytes are little-endian, as in safetensors, on every
machine. What it is not: a reader of files.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float32]

FLOATS = ("F64", "F32", "F16", "BF16")  # dtypes that can be coded
SLAB = 1 << 20  # weights per pass, where a copy of the whole tensor is not needed
NUMPY = {
    "BOOL": "?",
    "U8": "u1",
    "I8": "i1",
    "U16": "<u2",
    "I16": "<i2",
    "U32": "<u4",
    "I32": "<i4",
    "U64": "<u8",
    "I64": "<i8",
    "F16": "<f2",
    "F32": "<f4",
    "F64": "<f8",
    "C64": "<c8",
}
NAMES = {np.dtype(code): name for name, code in NUMPY.items()}
TORCH = {
    "BOOL": "bool",
    "U8": "uint8",
    "I8": "int8",
    "U16": "uint16",
    "I16": "int16",
    "U32": "uint32",
    "I32": "int32",
    "U64": "uint64",
    "I64": "int64",
    "F16": "float16",
    "BF16": "bfloat16",
    "F32": "float32",
    "F64": "float64",
    "C64": "complex64",
    "F8_E5M2": "float8_e5m2",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E8M0": "float8_e8m0fnu",
    "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2FNUZ": "float8_e5m2fnuz",
}
FROM_TORCH = {name: dtype for dtype, name in TORCH.items()}


def to_floats(data: bytes, dtype: str) -> Floats:
    """A tensor whose dtype is in `FLOATS` as a vector of binary32; values beyond its range become infinite."""
    if dtype == "BF16":
        bits = np.frombuffer(data, "<u2").astype(np.uint32)
        bits <<= 16
        return bits.view(np.float32)
    with np.errstate(over="ignore"):
        return np.frombuffer(data, NUMPY[dtype]).astype(np.float32)


def from_floats(values: Floats, dtype: str) -> bytes:
    """The mirror of `to_floats`, for finite values: rounded to the nearest, ties to even, clipped to stay finite."""
    if dtype == "F16":
        most = np.finfo(np.float16).max
        values = np.clip(values, -most, most)
    if dtype != "BF16":
        return values.astype(NUMPY[dtype], copy=False).tobytes()
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    rounded = bits >> 16  # in place from here on, because a tensor may be a large part of the memory
    rounded &= np.uint32(1)
    rounded += np.uint32(0x7FFF)
    rounded += bits
    rounded >>= 16
    halves = rounded.astype("<u2")
    halves[halves & 0x7FFF == 0x7F80] -= 1
    return halves.tobytes()


def as_numpy(data: bytes, dtype: str, shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """A tensor as a new array: BF16 as binary32, which represents it; other dtypes that NumPy lacks as uint8."""
    if dtype == "BF16":
        return to_floats(data, dtype).reshape(shape)
    code = np.dtype(NUMPY.get(dtype, "u1"))
    return np.frombuffer(data, code).astype(code.newbyteorder("=")).reshape(shape)


def numpy_dtype(values: npt.NDArray[Any]) -> str:
    """The dtype of an array as safetensors name it; bfloat16 is that of the package ml_dtypes.

    Raises:
        KeyError: safetensors do not have the dtype.
    """
    return "BF16" if values.dtype.name == "bfloat16" else NAMES[values.dtype.newbyteorder("<")]


def from_numpy(values: npt.NDArray[Any]) -> bytes:
    """The bytes of an array."""
    dtype = numpy_dtype(values)
    return values.view(np.uint16).astype("<u2").tobytes() if dtype == "BF16" else values.astype(NUMPY[dtype]).tobytes()


def as_torch(data: bytes, dtype: str, shape: tuple[int, ...]) -> Any:
    """A tensor of torch in memory that torch allocates, because the alignment can change how products are rounded."""
    import torch

    tensor = torch.empty(len(data), dtype=torch.uint8)
    tensor.numpy()[:] = np.frombuffer(data, np.uint8)
    return tensor.view(getattr(torch, TORCH[dtype])).reshape(shape)


def torch_dtype(tensor: Any) -> str:
    """The dtype of a tensor of torch as safetensors name it.

    Raises:
        KeyError: safetensors do not have the dtype.
    """
    return FROM_TORCH[str(tensor.dtype).removeprefix("torch.")]


def from_torch(tensor: Any) -> bytes:
    """The bytes of a tensor of torch."""
    import torch

    found: bytes = (
        tensor.detach().resolve_conj().resolve_neg().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
    )
    return found
