"""GGUF without a loss: `kolmo shrink --lossless` beside zstd and xz, type by type, everything decoded and compared.

    python benchmarks/weights_gguf.py --weights FILE --ggml LIBRARY --gguf MODEL.gguf

The first rows are tensors of a real model (`--weights`, those of two dimensions whose columns 256 divides), quantised
by ggml itself (`--ggml`: libggml-base, as in llama-cpp-python) to each type, without a matrix of importance. Then, for
each GGUF file, the first tensors of each type up to `--megabytes`. All get the same bytes. zstd and xz are whole
processes; kolmo's code is that of the parts of the tensors, without the file around them.
"""

from __future__ import annotations

import argparse
import ctypes
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from harness import sections
from harness.measuring import log
from harness.tables import table
from kolmo.safetensors import read_header
from kolmo.weights.gguf import coding
from kolmo.weights.gguf.coding import Part, row_bytes, type_name
from kolmo.weights.gguf.layout import read_layout

PEERS = {"zstd -19": ["zstd", "-19", "-q", "-c"], "xz -9": ["xz", "-9", "-c"]}
MADE = (2, 3, 6, 7, 8, 10, 11, 12, 13, 14, 20, 23)  # types that ggml quantises without a matrix of importance
Tensor = tuple[int, int, bytes]  # type, columns, bytes


def quantised(path: Path, library: Path, megabytes: float) -> Iterator[tuple[str, list[Tensor]]]:
    """A model's tensors in each type."""
    quantize = ctypes.CDLL(str(library)).ggml_quantize_chunk
    quantize.restype = ctypes.c_size_t
    quantize.argtypes = [ctypes.c_int, *[ctypes.c_void_p] * 2, *[ctypes.c_int64] * 3, ctypes.c_void_p]
    data, matrices = path.read_bytes(), []
    for place in read_header(path).places.values():
        if place.dtype == "F32" and len(place.shape) == 2 and place.shape[1] % 256 == 0:
            values = np.frombuffer(data[place.begin : place.begin + place.size], np.float32)
            matrices.append(values.reshape(place.shape).copy())
    for kind in MADE:
        found: list[Tensor] = []
        for one in matrices:
            rows, columns = one.shape
            out = np.zeros(rows * row_bytes(kind, columns), np.uint8)
            quantize(kind, one.ctypes.data, out.ctypes.data, 0, rows, columns, None)
            found.append((kind, columns, out.tobytes()))
            if sum(len(tensor[2]) for tensor in found) > megabytes * 1e6:
                break
        yield f"{path.stem}, {type_name(kind)}", found


def stored(path: Path, megabytes: float) -> Iterator[tuple[str, list[Tensor]]]:
    """The tensors of a GGUF file, type by type."""
    with open(path, "rb") as file:
        parts = read_layout(file, str(path)).parts
        for kind in sorted({one.kind for one in parts}):
            found: list[Tensor] = []
            for one in parts:
                if one.kind == kind and sum(len(tensor[2]) for tensor in found) < megabytes * 1e6:
                    file.seek(one.begin)
                    found.append((kind, one.columns, file.read(one.size)))
            yield f"{path.name}, {type_name(kind)}", found


def ours(tensors: list[Tensor]) -> tuple[int, float, float]:
    """Bytes of the codes, and CPU seconds of coding and decoding."""
    size, coding_time, decoding_time = 0, 0.0, 0.0
    for kind, columns, data in tensors:
        start = time.process_time()
        code = coding.encode(Part(0, kind, columns, len(data)), data)
        between = time.process_time()
        assert coding.decode(Part(0, kind, columns, len(data), len(code)), code) == data
        size, coding_time = size + len(code), coding_time + between - start
        decoding_time += time.process_time() - between
    return size, coding_time, decoding_time


def peer(command: list[str], data: bytes) -> int:
    """Bytes that a command makes."""
    packed = subprocess.run(command, input=data, capture_output=True, check=True).stdout
    again = subprocess.run([command[0], "-d", "-q", "-c"], input=packed, capture_output=True, check=True).stdout
    assert again == data
    return len(packed)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, help="a safetensors file, quantised to each type")
    parser.add_argument("--ggml", type=Path, help="libggml-base of ggml")
    parser.add_argument("--gguf", type=Path, action="append", default=[], help="a GGUF file; may be repeated")
    parser.add_argument("--megabytes", type=float, default=4.0, help="of each type")
    parser.add_argument("--markdown", type=Path, help="write the section into this report")
    given = parser.parse_args()
    if given.weights and not given.ggml:
        sys.exit("--weights needs --ggml")
    samples = list(quantised(given.weights, given.ggml, given.megabytes)) if given.weights else []
    samples += [one for path in given.gguf for one in stored(path, given.megabytes)]
    if not samples:
        sys.exit("give --weights or --gguf")
    peers = {name: command for name, command in PEERS.items() if shutil.which(command[0])}
    rows = []
    for name, tensors in samples:
        data = b"".join(one for _, _, one in tensors)
        weights = sum(len(one) // row_bytes(kind, columns) * columns for kind, columns, one in tensors)
        size, coded, decoded = ours(tensors)
        others = [peer(command, data) for command in peers.values()]
        bits = [f"{8 * one / weights:.3f}" for one in (len(data), size, *others)]
        rows.append([name, f"{weights / 1e6:.2f}", *bits, f"{100 - 100 * size / len(data):.1f} %"])
        rows[-1].append(f"{1e9 * coded / weights:.0f} / {1e9 * decoded / weights:.0f}")
        log(" | ".join(rows[-1]))
    heads = ["tensors", "million weights", "GGUF", "kolmo", *peers, "smaller", "ns a weight, coding / decoding"]
    text = "\n".join([sections.command(), "Bits a weight:\n", table(heads, rows)])
    print(text)
    if given.markdown:
        sections.replace(given.markdown, "GGUF without a loss", text)


if __name__ == "__main__":
    main()
