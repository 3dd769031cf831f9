"""Weights that stay codes while they compute: products, and a model that generates, beside torch and llama.cpp.

    python benchmarks/weights_resident.py products [--threads T]
    python benchmarks/weights_resident.py generate MODEL WORK [--gguf FILE] [--threads T]

`products`: CPU time of a product of a 4096 x 4096 matrix with 1, 4, 16 and 64 rows of activations, the median of
--repeat rounds in which all ways take turns, so that a busy machine slows them alike. Words are random: any are valid
weights, and no kernel's time depends on them.

`generate`: MODEL is a folder of transformers; WORK takes its files, in bfloat16 and shrunk (those that are there are
used). Each row is a process of its own, which continues a sentence by --tokens tokens, each the likeliest; the texts
are printed below the table. Time is CPU time and wall time per token, the best of three. Memory is the largest resident
set while it generates, less that after the imports; Linux. With --gguf llama.cpp does the same with a file of its own,
of the same tokenizer, through the low-level interface of llama-cpp-python. --only takes the rows of these names.
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
PROMPT = "The sea was calm that morning, and the boats lay still in the harbour. An old man"
LLAMA = "llama.cpp"
WAYS = {  # way -> folder in WORK
    "float32": "plain",
    "bfloat16": "plain",
    "resident 4": "bitshift4",
    "resident 3": "bitshift3",
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


def generated(way: str, folder: Path, prompt: list[int], tokens: int, threads: int) -> dict[str, Any]:
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
    ids = torch.tensor([prompt])

    def work(count: int) -> list[int]:
        found = model.generate(ids, max_new_tokens=count, min_new_tokens=count, do_sample=False, pad_token_id=0)
        return [int(token) for token in found[0, len(prompt) :]]

    with torch.inference_mode():
        return measured(work, tokens, before)


def generated_by_llama(path: Path, prompt: list[int], tokens: int, threads: int) -> dict[str, Any]:
    """One row with llama.cpp."""
    import llama_cpp as llama

    before = memory("VmRSS")
    llama.llama_backend_init()
    options = llama.llama_model_default_params()
    options.use_extra_bufts = False  # its weights in the order of AMX stop some builds with an illegal instruction
    model = llama.llama_model_load_from_file(str(path).encode(), options)
    settings = llama.llama_context_default_params()
    settings.n_ctx, settings.n_threads, settings.n_threads_batch = 512, threads, threads
    context = llama.llama_init_from_model(model, settings)
    size = llama.llama_vocab_n_tokens(llama.llama_model_get_vocab(model))

    def likeliest(ids: list[int]) -> int:
        array = (llama.llama_token * len(ids))(*ids)  # must live until the end of the call
        assert llama.llama_decode(context, llama.llama_batch_get_one(array, len(ids))) == 0
        return int(np.ctypeslib.as_array(llama.llama_get_logits_ith(context, -1), (size,)).argmax())

    def work(count: int) -> list[int]:
        llama.llama_memory_clear(llama.llama_get_memory(context), True)
        found = [likeliest(prompt)]
        while len(found) < count:
            found.append(likeliest(found[-1:]))
        return found

    return measured(work, tokens, before)


def measured(work: Callable[[int], list[int]], tokens: int, before: float) -> dict[str, Any]:
    """Times per token in milliseconds, the best of three; memory in megabytes; the tokens."""
    work(1)
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    cpu, wall, found = [], [], []
    for _ in range(3 if tokens > 4 else 1):
        start, begin = time.process_time(), time.perf_counter()
        found = work(tokens)
        cpu.append(1e3 * (time.process_time() - start) / tokens)
        wall.append(1e3 * (time.perf_counter() - begin) / tokens)
    return {"cpu": min(cpu), "wall": min(wall), "memory": memory("VmHWM") - before, "tokens": found}


def prepare(source: Path, folder: Path) -> None:
    """One of the model's folders, if it is not there yet: plain, or the name of a hyperfunction and its bits."""
    import torch
    import transformers

    import kolmo

    if folder.exists():
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    if folder.name == "plain":
        model = transformers.AutoModelForCausalLM.from_pretrained(source, dtype=torch.bfloat16, trust_remote_code=False)
        model.save_pretrained(folder)
    else:
        kolmo.shrink(source, folder, kolmo.Bits(int(folder.name[-1])), hyperfunction=folder.name[:-1])


def generate(given: argparse.Namespace) -> None:
    """The table of a model that generates."""
    import transformers

    tokenizer: Any = transformers.AutoTokenizer.from_pretrained(given.model, trust_remote_code=False)
    prompt, texts = tokenizer(PROMPT)["input_ids"], []
    ways = {way: given.work / folder for way, folder in WAYS.items()} | ({LLAMA: given.gguf} if given.gguf else {})
    print("| weights | CPU, ms per token | wall, ms per token | memory, MB |")
    print("|---|---|---|---|")
    for way, folder in ways.items():
        if given.only and way not in given.only:
            continue
        if way != LLAMA:
            prepare(given.model, folder)
        tokens = 3 if "from the file" in way else given.tokens
        job = json.dumps([way, str(folder), prompt, tokens, given.threads])
        done = subprocess.run([sys.executable, __file__, "one", job], stdout=subprocess.PIPE, check=True, text=True)
        row = json.loads(done.stdout.splitlines()[-1])
        print(f"| {way} | {row['cpu']:.1f} | {row['wall']:.1f} | {row['memory']:.0f} |", flush=True)
        texts.append(f"- {way}: {tokenizer.decode(row['tokens'])!r}")
    print(f"\n{PROMPT!r} goes on:\n\n" + "\n".join(texts))


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
    other.add_argument("--only", nargs="+", metavar="ROW")
    row = kinds.add_parser("one")  # a row, in a process of its own
    row.add_argument("job", type=json.loads)
    given = parser.parse_args()
    if given.kind == "products":
        products(given.repeat, given.threads)
    elif given.kind == "generate":
        generate(given)
    else:
        way, folder, *settings = given.job
        measure = generated_by_llama if way == LLAMA else partial(generated, way)
        print(json.dumps(measure(Path(folder), *settings)))


if __name__ == "__main__":
    main()
