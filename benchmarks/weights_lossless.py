"""Lossless: `kolmo shrink --lossless` beside its peers, file by file, everything decoded and compared.

    KOLMO_DATA=DIR python benchmarks/weights_lossless.py --markdown docs/benchmarks/weights.md

Each row is one safetensors file, of made matrices (weights_core.py, with a deviation of 0.02) or of a real model: its
original tensors, and the same as bfloat16 or float16. All get that file: kolmo shrinks it, ZipNN, zstd and xz compress
its bytes. Sizes are whole files, headers included, over the numbers in it. Computed, not run:

- DFloat11, which needs a GPU: a Huffman code of the exponents of all tensors, eight more bits for sign and mantissa,
  without its tables.
- Entropy of the values of a matrix, of 16 bits each: what a code for single values cannot beat, if the values were
  known. Where a matrix has few weights for so many values it is too low for any code that has to learn them.

Speeds are millions of bytes in each second of CPU time, coding and decoding in memory, one thread, the best of
--repeat; for kolmo those of the payloads of coded tensors, without checksums and file. zstd and xz are whole processes.
"""

from __future__ import annotations

import argparse
import heapq
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import kolmo
from harness import sections
from harness.measuring import log
from harness.tables import table
from kolmo.safetensors import lay_out, read_header, write_header
from kolmo.weights.format import lossless
from kolmo.weights.format.reader import ShrunkFile
from kolmo.weights.sources.dtypes import from_floats
from weights_core import gaussian, heavy

Tensors = dict[str, npt.NDArray[Any]]
MANTISSAS = {"BF16": 7, "F16": 10, "F32": 23}
ZIPNN = {"BF16": "bfloat16", "F16": "float16", "F32": "float32"}
PROCESSES = {
    "zstd -19": (["zstd", "-19", "-q", "-c"], ["zstd", "-d", "-q", "-c"]),
    "xz -9e": (["xz", "-9e", "-c"], ["xz", "-d", "-c"]),
}


def models(data: Path | None, size: int) -> Iterator[tuple[str, Tensors, list[str]]]:
    """Names, tensors, and the dtypes to measure."""
    halves = ["BF16", "F16", "F32"]
    yield f"Gaussian {size}x{size}", {"weight": 0.02 * gaussian(size, size)}, halves
    yield f"heavy-tailed {size}x{size}", {"weight": 0.02 * heavy(size, size)}, halves
    if data is None:
        return
    yield "stories260K", stories(data / "stories260K" / "stories260K.bin"), halves
    yield "ResNet-56", resnet(data / "resnet_cifar10" / "resnet56-4bfd9763.th"), halves
    for name in ("shakespeare", "darwin"):
        yield f"charrnn {name}", charrnn(data / "charrnn" / name), halves


def stories(path: Path) -> Tensors:
    """llama2.c's file of a Llama: seven integers, then the tensors."""
    wide, hidden, layers, heads, kv, words, _ = np.fromfile(path, np.int32, 7).tolist()
    inner = wide // heads * kv
    shapes = {
        "embedding": (words, wide),
        "attention_norm": (layers, wide),
        "wq": (layers, wide, wide),
        "wk": (layers, inner, wide),
        "wv": (layers, inner, wide),
        "wo": (layers, wide, wide),
        "ffn_norm": (layers, wide),
        "w1": (layers, hidden, wide),
        "w2": (layers, wide, hidden),
        "w3": (layers, hidden, wide),
        "norm": (wide,),
    }
    values, found = np.fromfile(path, np.float32, offset=28), {}
    for name, shape in shapes.items():
        found[name], values = values[: np.prod(shape)].reshape(shape), values[np.prod(shape) :]
    return found


def resnet(path: Path) -> Tensors:
    """A torch file."""
    import torch

    state = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
    return {name: tensor.numpy() for name, tensor in state.items()}


def charrnn(folder: Path) -> Tensors:
    """Raw binary32 files and a manifest."""
    entries = json.loads((folder / "manifest.json").read_text())
    found = {}
    for name, entry in entries.items():
        values = np.fromfile(folder / entry["filename"], np.float32)
        if values.size == np.prod(entry["shape"]):
            found[name] = values.reshape(entry["shape"])
    return found


def as_file(path: Path, tensors: Tensors, dtype: str) -> int:
    """A safetensors file, floats in this dtype; returns the numbers in it."""
    parts, bodies = [], []
    for name, array in tensors.items():
        if array.dtype == np.float32:
            parts.append((name, dtype, array.shape))
            bodies.append(from_floats(array, dtype))
        else:
            parts.append((name, "I64", array.shape))
            bodies.append(array.astype(np.int64).tobytes())
    path.write_bytes(write_header({"format": "pt"}, lay_out(parts)) + b"".join(bodies))
    return sum(array.size for array in tensors.values())


def best(work: Callable[[], Any], repeat: int) -> tuple[Any, float]:
    """What it gives, and the least CPU seconds, of children too."""

    def spent() -> float:
        times = os.times()
        return times.user + times.system + times.children_user + times.children_system

    least = float("inf")
    for _ in range(repeat):
        start = spent(), time.process_time()
        result = work()
        children = spent() - start[0] - (time.process_time() - start[1])
        least = min(least, time.process_time() - start[1] + max(children, 0))
    return result, least


def ours(path: Path, repeat: int) -> tuple[int, float, float]:
    """Bytes of the shrunk file, which was expanded and compared; seconds of coding and decoding its payloads."""
    small, again = path.with_suffix(".small"), path.with_suffix(".again")
    kolmo.shrink(path, small, kolmo.Lossless(), threads=1, force=True)
    kolmo.expand(small, again, threads=1, force=True)
    before, after = read_header(path).places, read_header(again).places
    old, new = path.read_bytes(), again.read_bytes()
    for name, one in before.items():
        other = after[name]
        assert (one.dtype, one.shape) == (other.dtype, other.shape), name
        assert old[one.begin : one.begin + one.size] == new[other.begin : other.begin + other.size], name
    matrices = []
    for name, coded in ShrunkFile(small).record.coded.items():
        place = before[name]
        matrices.append((old[place.begin : place.begin + place.size], coded))
    payloads, coding = best(lambda: [lossless.encode(data, one.dtype, one.columns) for data, one in matrices], repeat)
    both = list(zip(payloads, matrices, strict=True))
    decoded, decoding = best(
        lambda: [lossless.decode(code, rest, one.dtype, one.matrix) for (code, rest), (_, one) in both], repeat
    )
    assert decoded == [data for data, _ in matrices]
    total = sum(len(data) for data, _ in matrices) / 1e6
    return small.stat().st_size, total / coding, total / decoding


def zipnn(path: Path, dtype: str, repeat: int) -> tuple[int, float, float]:
    """The same of ZipNN."""
    from zipnn import ZipNN

    data = path.read_bytes()
    coder = ZipNN(input_format="byte", bytearray_dtype=ZIPNN[dtype], threads=1)
    packed, coding = best(lambda: coder.compress(bytearray(data)), repeat)  # changes what it is given
    again, decoding = best(lambda: coder.decompress(packed), repeat)
    assert bytes(again) == data
    return len(packed), len(data) / 1e6 / coding, len(data) / 1e6 / decoding


def process(name: str, path: Path) -> tuple[int, float, float]:
    """The same of a command."""
    data = path.read_bytes()
    commands = [
        lambda given, line=line: subprocess.run(line, input=given, capture_output=True, check=True).stdout
        for line in PROCESSES[name]
    ]
    packed, coding = best(lambda: commands[0](data), 1)
    again, decoding = best(lambda: commands[1](packed), 1)
    assert again == data
    return len(packed), len(data) / 1e6 / coding, len(data) / 1e6 / decoding


def huffman(counts: npt.NDArray[np.int64]) -> int:
    """Bits of all symbols in a Huffman code."""
    heap, total = [int(count) for count in counts if count], 0
    heapq.heapify(heap)
    while len(heap) > 1:
        merged = heapq.heappop(heap) + heapq.heappop(heap)
        total += merged
        heapq.heappush(heap, merged)
    return total


def computed(tensors: Tensors, dtype: str) -> tuple[float, float]:
    """Bits a number of a Huffman code of exponents, and of the entropy of values; floats alone, no headers."""
    size, mantissa = (2 if dtype != "F32" else 4), MANTISSAS[dtype]
    arrays = [a for a in tensors.values() if a.dtype == np.float32]
    bits = [np.frombuffer(from_floats(a, dtype), f"<u{size}").astype(np.int64) for a in arrays]
    whole = np.concatenate(bits)
    exponents = whole >> mantissa & (1 << 8 * size - 1 - mantissa) - 1
    coded = huffman(np.bincount(exponents)) + whole.size * (1 + mantissa)
    entropy = 0.0
    for one in bits:
        part = np.unique(one, return_counts=True)[1] / max(one.size, 1)
        entropy -= one.size * float((part * np.log2(part)).sum())
    return coded / whole.size, entropy / whole.size if dtype != "F32" else float("nan")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=2048, help="rows and columns of the made matrices")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--markdown", type=Path, help="write the section into this report")
    given = parser.parse_args()
    data = Path(os.environ["KOLMO_DATA"]) / "models" if "KOLMO_DATA" in os.environ else None
    peers: dict[str, Callable[[Path, str], tuple[int, float, float]]] = {
        name: lambda path, dtype, name=name: process(name, path)  # type: ignore[misc]
        for name, (command, _) in PROCESSES.items()
        if shutil.which(command[0])
    }
    if find_spec("zipnn"):
        peers = {"ZipNN": lambda path, dtype: zipnn(path, dtype, given.repeat), **peers}
    sizes, speeds = [], []
    with tempfile.TemporaryDirectory() as folder:
        for name, tensors, dtypes in models(data, given.size):
            for dtype in dtypes:
                path = Path(folder) / "model.safetensors"
                count = as_file(path, tensors, dtype)
                results = {"kolmo": ours(path, given.repeat)}
                results |= {name: measure(path, dtype) for name, measure in peers.items()}
                code, entropy = computed(tensors, dtype)
                figures = [f"{8 * size / count:.3f}" for size, _, _ in results.values()]
                below = f"{100 - 100 * results['kolmo'][0] / results['ZipNN'][0]:.1f} %" if "ZipNN" in results else "-"
                limits = [f"{code:.3f}", f"{entropy:.3f}" if entropy == entropy else "-"]
                sizes.append([f"{name}, {dtype}", *figures, below, *limits])
                speeds.append([f"{name}, {dtype}", *(f"{a:.0f} / {b:.0f}" for _, a, b in results.values())])
                log(" | ".join([*sizes[-1], *speeds[-1][1:]]))
    tools = ["kolmo", *peers]
    text = "\n".join(
        [
            sections.command(),
            "Bits a number, whole files:\n",
            table(["file", *tools, "below ZipNN", "DFloat11, computed", "entropy of values"], sizes),
            "MB a CPU second, coding / decoding:\n",
            table(["file", *tools], speeds),
            f"- ZipNN {metadata.version('zipnn') if 'ZipNN' in peers else 'is not installed'}, NumPy {np.__version__}",
        ]
    )
    print(text)
    if given.markdown:
        sections.replace(given.markdown, "Lossless", text)


if __name__ == "__main__":
    main()
