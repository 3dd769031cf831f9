"""Weights made small by kolmo and by its peers: a dictionary of matrices in, bytes and decoded matrices out.

Sizes are all bytes that decoding needs: codes, scales, heads; of kolmo and NNCodec the whole file, of the others, which
have no file of their own for a matrix, codes as packed as they can be and scales as stored. Peers that are not
installed are left out, with the reason.

    pip install --no-deps nncodec hqq bitsandbytes gguf llama-cpp-python termcolor
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import importlib.util
import io
import os
import sys
import tempfile
import types
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

import kolmo
from kolmo.hyperfunctions import TrellisOptions
from kolmo.hyperfunctions.torus import PRESETS, Torus
from kolmo.weights.format.reader import ShrunkFile

Floats = npt.NDArray[np.float32]
Weights = dict[str, Floats]
GROUP = 64


class Coded(NamedTuple):
    """All bytes, what they decode to, and how many of the bytes are a header of names, shapes and digests."""

    size: int
    decoded: Weights
    header: int = 0


@dataclass(frozen=True)
class Method:
    """A quantiser with its settings. Methods of a `family` differ in size only, and make a curve."""

    family: str
    setting: str
    code: Callable[[Weights], Coded]


def in_file(weights: Weights, *goal: Any, **settings: Any) -> Coded:
    """`kolmo shrink`: the whole file, read back."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "small"
        kolmo.shrink(weights, path, *goal, **settings)
        file, size = ShrunkFile(path), path.stat().st_size
        return Coded(size, kolmo.load(path), size - sum(map(file.stored_size, file.names)))


def trellis(states: int, bits: float, least_error: bool = False) -> Method:
    """Ours, in a file of so many bits a weight."""

    def code(weights: Weights) -> Coded:
        size = int(bits * _count(weights) / 8)
        return in_file(weights, kolmo.Bytes(size), hyperfunction=TrellisOptions(states, least_error))

    return Method(f"kolmo, {states} states{', least error' * least_error}", f"{bits:g} bit", code)


def torus(setting: str, recipe: Torus) -> Method:
    """The published hyper-compression."""
    return Method("torus", setting, partial(in_file, hyperfunction=recipe))


def torus_preset(name: str) -> Method:
    """One of its published settings."""
    return torus(f"preset {name}", PRESETS[name])


def torus_best(bits: int) -> Method:
    """Of squares from 2 to 16 deviations wide, the one of least squared error, at so many bits a pair.

    Without the published limit of error, and with one ring, which needs the last of the bits.
    """

    def code(weights: Weights) -> Coded:
        deviation = float(
            np.sqrt(sum(np.square(w, dtype=np.float64).sum() for w in weights.values()) / _count(weights))
        )
        points = (1 << bits - 1) - 1
        recipes = [Torus(side * deviation, points, 1, 0.0, 0.0) for side in (2, 3, 4, 6, 8, 11, 16)]
        return min((in_file(weights, hyperfunction=one) for one in recipes), key=partial(_error, weights))

    return Method("torus", f"{bits} bits a pair, best square", code)


def nearest(bits: int) -> Method:
    """Round to nearest in groups of 64: the largest magnitude is the outermost level; scales in binary16."""

    def code(weights: Weights) -> Coded:
        size, decoded = 0, {}
        for name, values in weights.items():
            groups = _groups(values)
            at = np.abs(groups).argmax(1)[:, None]
            scale = np.take_along_axis(groups, at, 1) / -(2 ** (bits - 1))
            scale = scale.astype(np.float16).astype(np.float32)
            levels = np.rint(groups / np.where(scale == 0, 1, scale)).clip(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
            decoded[name] = _shaped(levels * scale, values)
            size += groups.size * bits // 8 + 2 * len(groups)
        return Coded(size, decoded)

    return Method("round to nearest, g64", f"{bits} bit", code)


def hqq(bits: int) -> Method:
    """HQQ in groups of 64 along rows, its optimiser on; scales and zeros in binary16, codes packed without waste."""
    torch, quantiser = _torch(), _peer("hqq.core.quantize").Quantizer

    def code(weights: Weights) -> Coded:
        size, decoded = 0, {}
        for name, values in weights.items():
            groups = torch.from_numpy(_groups(values))
            packed, meta = quantiser.quantize(
                groups, nbits=bits, group_size=GROUP, axis=1, compute_dtype=torch.float32, device="cpu"
            )
            meta["scale"], meta["zero"] = (meta[part].half().float() for part in ("scale", "zero"))
            meta["compute_dtype"] = torch.float32
            decoded[name] = _shaped(quantiser.dequantize(packed, meta).numpy(), values)
            size += groups.numel() * bits // 8 + 2 * (meta["scale"].numel() + meta["zero"].numel())
        return Coded(size, decoded)

    return Method("HQQ, g64", f"{bits} bit", code)


def nf4() -> Method:
    """Bitsandbytes NF4 in blocks of 64 with nested scales, as its CPU backend codes it."""
    torch, functional = _torch(), _peer("bitsandbytes.functional")

    def code(weights: Weights) -> Coded:
        size, decoded = 0, {}
        for name, values in weights.items():
            groups = torch.from_numpy(_groups(values))
            packed, state = functional.quantize_4bit(
                groups, blocksize=GROUP, quant_type="nf4", compress_statistics=True
            )
            decoded[name] = _shaped(functional.dequantize_4bit(packed, state).numpy(), values)
            size += packed.numel() + state.absmax.numel() + 4 * state.state2.absmax.numel() + 4
        return Coded(size, decoded)

    return Method("bitsandbytes NF4", "block 64, nested", code)


def ggml(kind: str) -> Method:
    """Ggml's own quantiser; of none and of equal importances, what has the least squared error."""
    library, quants, kinds = _ggml(), _peer("gguf.quants"), _peer("gguf.constants")
    number = kinds.GGMLQuantizationType[kind]
    block, bytes_of_block = kinds.GGML_QUANT_SIZES[number]
    floats = ctypes.POINTER(ctypes.c_float)

    def once(row: Floats, importance: Floats | None) -> Floats:
        packed = np.zeros(row.size // block * bytes_of_block, np.uint8)
        wrote = library.ggml_quantize_chunk(
            ctypes.c_int(number),
            row.ctypes.data_as(floats),
            packed.ctypes.data_as(ctypes.c_void_p),
            ctypes.c_int64(0),
            ctypes.c_int64(1),
            ctypes.c_int64(row.size),
            None if importance is None else importance.ctypes.data_as(floats),
        )
        assert wrote == packed.size
        found: Floats = quants.dequantize(packed.reshape(1, -1), number).reshape(-1)
        return found

    def code(weights: Weights) -> Coded:
        size, decoded = 0, {}
        for name, values in weights.items():
            row = _groups(values, block).reshape(-1)
            tries = [once(row, np.ones(row.size, np.float32))]
            if not library.ggml_quantize_requires_imatrix(ctypes.c_int(number)):
                tries.append(once(row, None))
            best = min(tries, key=lambda one: float(np.square(one - row, dtype=np.float64).sum()))
            decoded[name] = _shaped(best, values)
            size += row.size // block * bytes_of_block
        return Coded(size, decoded)

    return Method("ggml", kind, code)


def nncodec(qp: int, rate: float) -> Method:
    """NNCodec: dependent quantisation, parameter optimisation; `rate` is lambda_scale, by default 0 there."""
    compress, decompress = _nncodec()

    def code(weights: Weights) -> Coded:
        given = {name: np.ascontiguousarray(values, np.float32).copy() for name, values in weights.items()}
        with contextlib.redirect_stdout(io.StringIO()):
            stream = compress(
                given,
                bitstream_path=None,
                qp=qp,
                use_dq=True,
                param_opt=True,
                row_skipping=True,
                lambda_scale=rate,
                return_bitstream=True,
            )
            decoded = decompress(bytearray(stream))
        return Coded(len(stream), {name: decoded[name].reshape(values.shape) for name, values in weights.items()})

    return Method("NNCodec" + (f", lambda {rate:g}" if rate else ""), f"QP {qp}", code)


def available(makers: list[Callable[[], Method]]) -> tuple[list[Method], list[str]]:
    """The methods that can run here, and for the others why not, each reason once."""
    found, missing = [], []
    for make in makers:
        try:
            found.append(make())
        except (ImportError, OSError, AttributeError) as error:
            missing.append(f"{make.func.__name__ if isinstance(make, partial) else make.__name__}: {error}")
    return found, list(dict.fromkeys(missing))


def versions() -> dict[str, str]:
    """Of the peers."""
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for name in ("nncodec", "hqq", "bitsandbytes", "gguf", "llama_cpp_python", "torch"):
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def _count(weights: Weights) -> int:
    return sum(values.size for values in weights.values())


def _error(weights: Weights, coded: Coded) -> float:
    """Sum of squared errors."""
    return sum(float(np.square(coded.decoded[name] - w, dtype=np.float64).sum()) for name, w in weights.items())


def _groups(values: Floats, size: int = GROUP) -> Floats:
    """Weights in rows of a group, filled up with zeros."""
    flat = values.reshape(-1)
    return np.ascontiguousarray(np.pad(flat, (0, -flat.size % size)).reshape(-1, size), np.float32)


def _shaped(groups: npt.NDArray[Any], values: Floats) -> Floats:
    return groups.reshape(-1)[: values.size].reshape(values.shape).astype(np.float32)


def _peer(name: str) -> Any:
    with contextlib.redirect_stdout(io.StringIO()):
        return importlib.import_module(name)


def _torch() -> Any:
    return _peer("torch")


@cache
def _ggml() -> ctypes.CDLL:
    """The library that llama-cpp-python brings."""
    found = importlib.util.find_spec("llama_cpp")
    if found is None or not found.origin:
        raise ImportError("No module named 'llama_cpp'")
    folder = Path(found.origin).parent / "lib"
    library = ctypes.CDLL(str(folder / "libggml-base.so"), ctypes.RTLD_GLOBAL)
    library.ggml_quantize_chunk.restype = ctypes.c_size_t
    library.ggml_quantize_requires_imatrix.restype = ctypes.c_bool
    return library


@cache
def _nncodec() -> tuple[Any, Any]:
    """Compress and decompress, without the training frameworks that the package loads beside them."""
    for name in ("pytorch_model", "tensorflow_model", "use_case_init"):
        sys.modules.setdefault(f"nncodec.framework.{name}", types.ModuleType(name))
    frame = sys.modules.setdefault("nncodec.framework", types.ModuleType("nncodec.framework"))
    for name in ("pytorch_model", "tensorflow_model", "use_case_init"):
        setattr(frame, name, sys.modules[f"nncodec.framework.{name}"])
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    module = _peer("nncodec.nnc.compression")
    return module.compress, module.decompress
