"""A checkpoint of a billion weights through `kolmo shrink` and `kolmo expand`: peak memory, and time of a weight.

    python benchmarks/weights_billion.py --markdown docs/benchmarks/weights.md

The checkpoint is made here, tensor by tensor, in --work (needs about 5 GB): bfloat16 in the shapes of a LLaMA, Gaussian
with log-normal scales of rows and columns (deviation 0.3 and 0.2). Both commands run as their users run them, one after
another. Peak: the most resident memory of each process. Times: of the whole process, by the weights of the checkpoint.
The expanded file is compared with the source, tensor by tensor.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from math import log10, prod
from pathlib import Path

import numpy as np

from harness import sections
from harness.measuring import log, run
from harness.tables import own_peak, table
from harness.tools import kolmo
from kolmo.bench.processes import Cost
from kolmo.safetensors import lay_out, read_header, read_span, write_header
from kolmo.weights.sources.dtypes import from_floats, to_floats

SLAB = 1 << 22  # weights that are made and compared at once


def shapes(layers: int, width: int, hidden: int, keys: int, vocabulary: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names and shapes of a LLaMA's tensors."""
    yield "model.embed_tokens.weight", (vocabulary, width)
    for layer in range(layers):
        at = f"model.layers.{layer}"
        yield f"{at}.input_layernorm.weight", (width,)
        yield f"{at}.self_attn.q_proj.weight", (width, width)
        yield f"{at}.self_attn.k_proj.weight", (keys, width)
        yield f"{at}.self_attn.v_proj.weight", (keys, width)
        yield f"{at}.self_attn.o_proj.weight", (width, width)
        yield f"{at}.post_attention_layernorm.weight", (width,)
        yield f"{at}.mlp.gate_proj.weight", (hidden, width)
        yield f"{at}.mlp.up_proj.weight", (hidden, width)
        yield f"{at}.mlp.down_proj.weight", (width, hidden)
    yield "model.norm.weight", (width,)
    yield "lm_head.weight", (vocabulary, width)


def write(path: Path, tensors: list[tuple[str, tuple[int, ...]]]) -> None:
    """The checkpoint, a slab in memory at a time."""
    draw = np.random.default_rng(1)
    with path.open("wb") as file:
        file.write(write_header({"format": "pt"}, lay_out((name, "BF16", shape) for name, shape in tensors)))
        for _, shape in tensors:
            columns = shape[-1]
            scales = 0.02 * np.exp(0.2 * draw.standard_normal(columns)).astype(np.float32)
            height = max(SLAB // columns, 1)
            rows = prod(shape[:-1])
            for first in range(0, rows, height):
                count = min(height, rows - first)
                slab = draw.standard_normal((count, columns), np.float32) * scales
                slab *= np.exp(0.3 * draw.standard_normal((count, 1))).astype(np.float32)
                file.write(from_floats(slab, "BF16"))


def distance(first: Path, second: Path) -> float:
    """Squared error over squares, of all tensors of 1024 weights or more."""
    error = power = 0.0
    places = read_header(first).places, read_header(second).places
    with first.open("rb") as before, second.open("rb") as after:
        for name, place in places[0].items():
            other = places[1][name]
            if (place.dtype, place.shape) != (other.dtype, other.shape):
                raise SystemExit(f"{name}: came back as {other.dtype} {other.shape}")
            for at in range(0, place.size, 2 * SLAB):
                size = min(2 * SLAB, place.size - at)
                one = to_floats(read_span(before, first, place.begin + at, size), "BF16")
                two = to_floats(read_span(after, second, other.begin + at, size), "BF16")
                error += float(np.square(one - two, dtype=np.float64).sum())
                power += float(np.square(one, dtype=np.float64).sum())
    return error / power


def main() -> None:
    """Make, shrink, expand, compare, report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=20)
    parser.add_argument("--width", type=int, default=2048)
    parser.add_argument("--hidden", type=int, default=5632)
    parser.add_argument("--keys", type=int, default=256, help="rows of the key and value matrices")
    parser.add_argument("--vocabulary", type=int, default=32000)
    parser.add_argument("--bits", type=float, default=4.0)
    parser.add_argument("--threads", type=int, default=0, help="of kolmo; 0: one for each core")
    parser.add_argument("--work", type=Path, help="a folder for the files; a temporary one if none is given")
    parser.add_argument("--markdown", type=Path, help="write the section into this report")
    given = parser.parse_args()
    program = kolmo(1).program()
    if program is None:
        raise SystemExit("kolmo is not installed; pip install it first")
    tensors = list(shapes(given.layers, given.width, given.hidden, given.keys, given.vocabulary))
    count = sum(prod(shape) for _, shape in tensors)
    with tempfile.TemporaryDirectory(dir=given.work) as folder:
        work = Path(folder)
        plain, small, again = (work / name for name in ("model.safetensors", "small", "again.safetensors"))
        log(f"writing {count:,} weights")
        write(plain, tensors)
        threads = ["--threads", str(given.threads)] if given.threads else []
        costs = {}
        log("kolmo shrink")
        costs["shrink"] = run(
            [*program, "shrink", plain.name, "-o", small.name, "--bits", str(given.bits), *threads], work
        )
        log("kolmo expand")
        costs["expand"] = run([*program, "expand", small.name, "-o", again.name, *threads], work)
        log("comparing")
        error = distance(plain, again)
        sizes = plain.stat().st_size, small.stat().st_size
    rate = 8 * sizes[1] / count

    def row(name: str, cost: Cost) -> list[str]:
        times = (f"{1e6 * seconds / count:.3f}" for seconds in (cost.cpu, cost.wall))
        return [f"kolmo {name}", f"{cost.peak / 1e9:.2f}", f"{cost.cpu:.0f}", f"{cost.wall:.0f}", *times]

    head = ["", "peak GB", "CPU s", "wall s", "CPU, us a weight", "wall, us a weight"]
    largest = max(tensors, key=lambda one: prod(one[1]))
    text = "\n".join(
        [
            sections.command(),
            table(head, [row(name, cost) for name, cost in costs.items()]),
            f"{count:,} weights in {len(tensors)} tensors, the largest {' x '.join(map(str, largest[1]))}: "
            f"{sizes[0]:,} bytes, shrunk {sizes[1]:,}, {rate:.3f} bits a weight; expanded and compared, "
            f"{10 * log10(error):.2f} dB, {10 * log10(error) + 20 * log10(2) * rate:.2f} dB from 2^(-2R). "
            f"The least peak that can be seen is this program's own, {own_peak() / 1e9:.2f} GB.",
        ]
    )
    print(text)
    if given.markdown:
        sections.replace(given.markdown, "A billion weights", text)


if __name__ == "__main__":
    main()
