"""Weights that stay codes while they compute: products, and a model that generates, beside torch and llama.cpp.

    python benchmarks/weights_resident.py products [--threads T]
    python benchmarks/weights_resident.py generate MODEL WORK [--gguf FILE] [--threads T]

`products`: CPU time of a product of a 4096 x 4096 matrix with 1, 4, 16 and 64 rows of activations, the median of
--repeat rounds in which all ways take turns, so that a busy machine slows them alike. Words are random: any are valid
weights, and no kernel's time depends on them.

`generate`: MODEL is a folder of transformers; WORK takes its files, in bfloat16 and shrunk (those that are there are
used). Each row is a process of its own, which generates --tokens tokens after a prompt of 16, without sampling. Time is
CPU time and wall time per token, the best of three. Memory is the largest resident set while it generates, less that
after the imports; Linux. With --gguf llama.cpp does the same with a file of its own (llama-cpp-python).
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from kolmo.hyperfunctions.bitshift_payload import pack
from kolmo.native.dispatch import kernels

WIDTH = 4096
COUNTS = (1, 4, 16, 64)
BITS = (4, 3, 2)
PROMPT = 16
WAYS = {  # way -> folder in WORK
    "float32": "plain",
    "bfloat16": "plain",
    "resident 4": "bitshift4",
    "resident 2": "bitshift2",
    "resident 4, float activations": "bitshift4",
    "streamed, packed, float32": "trellis4",
    "streamed, packed": "trellis4",
    "streamed, from the file": "trellis4",
}


def payload(bits: int) -> Any:
    """A square matrix of random words."""
    rng = np.random.default_rng(bits)
    words = rng.integers(0, 2**32, (WIDTH, WIDTH // 32 * bits), np.uint32)
    made = pack(12, bits, 7, 0.001, (WIDTH, WIDTH), words, np.full(WIDTH, 208, np.uint8))
    return np.frombuffer(made, np.uint8)


def products(repeat: int, threads: int) -> None:
    """The table of products."""
    import torch

    torch.set_num_threads(threads)
    codes = {bits: payload(bits) for bits in BITS}
    plain = {"float32": torch.randn(WIDTH, WIDTH)}
    plain["bfloat16"] = plain["float32"].bfloat16()
    print("| rows of activations | " + " | ".join(plain) + " | " + " | ".join(f"{bits} bits" for bits in BITS) + " |")
    print("|---|" + "---|" * (len(plain) + len(BITS)))
    with torch.inference_mode():
        for count in COUNTS:
            x = torch.randn(count, WIDTH)
            linear = torch.nn.functional.linear
            ways: list[Callable[[], Any]] = [partial(linear, x.to(one.dtype), one) for one in plain.values()]
            for code in codes.values():
                ways.append(partial(kernels.bitshift_product, code, WIDTH, WIDTH, x.numpy(), threads))
            times: list[list[float]] = [[] for _ in ways]
            for turn in range(repeat + 1):
                for way, taken in zip(ways, times, strict=True):
                    start = time.process_time()
                    way()
                    if turn:
                        taken.append(1e3 * (time.process_time() - start))
            print(f"| {count} | " + " | ".join(f"{statistics.median(taken):.2f}" for taken in times) + " |", flush=True)


def memory(key: str) -> float:
    """Megabytes of a line of this process's status."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key)) * 1024 / 1e6


def generated(way: str, folder: Path, tokens: int, threads: int) -> dict[str, float]:
    """One row with transformers."""
    import torch
    import transformers.models.llama.modeling_llama

    import kolmo.transformers

    assert transformers.models.llama.modeling_llama
    torch.set_num_threads(threads)
    before = memory("VmRSS")
    options: dict[str, Any] = {"dtype": "float32" if "float32" in way else "bfloat16"}
    if way.startswith("streamed"):
        cache = 0 if "file" in way else None
        model = kolmo.transformers.stream(folder, cache=cache, **options)
    else:
        if "activations" in way:
            options["quantization_config"] = kolmo.transformers.KolmoConfig(activations="float")
        model = transformers.AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=False, **options)
    model.eval()
    ids = torch.arange(1, PROMPT + 1)[None] * 37

    def work(count: int) -> Any:
        return model.generate(ids, max_new_tokens=count, min_new_tokens=count, do_sample=False, pad_token_id=0)

    with torch.inference_mode():
        work(1)
        return measured(lambda: work(tokens), tokens, before)


def measured(work: Callable[[], Any], tokens: int, before: float) -> dict[str, float]:
    """Times per token in milliseconds, the best of three, and memory in megabytes."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    cpu, wall = [], []
    for _ in range(3 if tokens > 4 else 1):
        start, begin = time.process_time(), time.perf_counter()
        work()
        cpu.append(1e3 * (time.process_time() - start) / tokens)
        wall.append(1e3 * (time.perf_counter() - begin) / tokens)
    return {"cpu": min(cpu), "wall": min(wall), "memory": memory("VmHWM") - before}


def generated_by_llama(path: Path, tokens: int, threads: int) -> dict[str, float]:
    """One row with llama.cpp."""
    import llama_cpp

    before = memory("VmRSS")
    model = llama_cpp.Llama(str(path), n_ctx=512, n_threads=threads, n_threads_batch=threads, verbose=False)

    def work(count: int) -> None:
        model.reset()
        for at, _ in enumerate(model.generate([37 * i for i in range(1, PROMPT + 1)], temp=0.0)):
            if at + 1 == count:
                return

    work(1)
    return measured(lambda: work(tokens), tokens, before)


def prepare(source: Path, work: Path) -> None:
    """The model's folders, where they are not there yet."""
    import torch
    import transformers

    import kolmo

    work.mkdir(parents=True, exist_ok=True)
    if not (work / "plain").exists():
        model = transformers.AutoModelForCausalLM.from_pretrained(source, dtype=torch.bfloat16, trust_remote_code=False)
        model.save_pretrained(work / "plain")
    for name, bits, method in (("bitshift4", 4, "bitshift"), ("bitshift2", 2, "bitshift"), ("trellis4", 4, "trellis")):
        if not (work / name).exists():
            kolmo.shrink(source, work / name, kolmo.Bits(bits), hyperfunction=method)


def generate(given: argparse.Namespace) -> None:
    """The table of a model that generates."""
    prepare(given.model, given.work)
    ways = [*WAYS, *(["llama.cpp"] if given.gguf else [])]
    print("| weights | CPU, ms per token | wall, ms per token | memory, MB |")
    print("|---|---|---|---|")
    for way in ways:
        folder = given.gguf if way == "llama.cpp" else given.work / WAYS[way]
        tokens = 3 if "from the file" in way else given.tokens
        command = [sys.executable, __file__, "one", way, str(folder), str(tokens), str(given.threads)]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True, text=True)
        row = json.loads(done.stdout.splitlines()[-1])
        print(f"| {way} | {row['cpu']:.1f} | {row['wall']:.1f} | {row['memory']:.0f} |", flush=True)


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = parser.add_subparsers(required=True, dest="kind")
    one = kinds.add_parser("products")
    one.add_argument("--repeat", type=int, default=15)
    one.add_argument("--threads", type=int, default=1)
    other = kinds.add_parser("generate")
    other.add_argument("model", type=Path)
    other.add_argument("work", type=Path)
    other.add_argument("--gguf", type=Path)
    other.add_argument("--tokens", type=int, default=32)
    other.add_argument("--threads", type=int, default=1)
    row = kinds.add_parser("one")
    row.add_argument("way")
    row.add_argument("folder", type=Path)
    row.add_argument("tokens", type=int)
    row.add_argument("threads", type=int)
    given = parser.parse_args()
    if given.kind == "products":
        products(given.repeat, given.threads)
    elif given.kind == "generate":
        generate(given)
    elif given.way == "llama.cpp":
        print(json.dumps(generated_by_llama(given.folder, given.tokens, given.threads)))
    else:
        print(json.dumps(generated(given.way, given.folder, given.tokens, given.threads)))


if __name__ == "__main__":
    main()
