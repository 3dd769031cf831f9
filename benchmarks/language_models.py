"""Language models as compressors, measured: what coding adds to a model's own steps, and lanes against one by one.

    python benchmarks/language_models.py --markdown docs/benchmarks/language_models.md

Text: --text FILE (its first 1 MB), by default $KOLMO_DATA/bench/text/dickens. The model that reads it is
tests/models/stories260K; models of random weights stand for larger ones where only time is measured. All times are CPU
seconds of this process with one torch thread; rivals take turns.
"""

from __future__ import annotations

import argparse
import copy
import math
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
import transformers

import kolmo
from harness.models import stories
from harness.report import machine
from kolmo.codec.blocks import decode_block, encode_block
from kolmo.native.dispatch import kernels
from kolmo.predictors.language_models import grids
from kolmo.predictors.language_models.huggingface import HuggingFace
from kolmo.predictors.language_models.torch_models import backend as torch_backend
from kolmo.predictors.language_models.torch_models.backend import cache_name
from kolmo.predictors.language_models.torch_models.growing import grow_in_place
from kolmo.predictors.registry import resolve
from kolmo.predictors.settings import RunSettings

Seconds = float


def timed(work: Callable[[], object]) -> Seconds:
    """CPU seconds."""
    start = time.process_time()
    work()
    return time.process_time() - start


def medians(repeat: int, **work: Callable[[], object]) -> dict[str, Seconds]:
    """Median CPU seconds of each, taking turns."""
    taken: dict[str, list[Seconds]] = {name: [] for name in work}
    for _ in range(repeat):
        for name, one in work.items():
            taken[name].append(timed(one))
    return {name: statistics.median(times) for name, times in taken.items()}


def coding_cost(vocabulary: int, lanes: int, repeat: int) -> list[str]:
    """A model's step against the coding of its tokens: a Llama of GPT-2's size, random weights."""
    torch.manual_seed(1)
    config = transformers.LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=768,
        intermediate_size=2048,
        num_hidden_layers=12,
        num_attention_heads=12,
        max_position_embeddings=256,
    )
    model: Any = transformers.LlamaForCausalLM(config)
    model.eval()
    name = cache_name(model)
    tokens = torch.randint(0, vocabulary, (lanes, 1))
    with torch.inference_mode():
        out = model(input_ids=torch.randint(0, vocabulary, (lanes, 64)), use_cache=True, logits_to_keep=1)
        logits = np.ascontiguousarray(out.logits[:, -1].numpy()) * 20
    tables = grids.tables(grids.tolerance(1e-4, 4))
    tree = kernels.TokenTree(tables, vocabulary)
    targets = np.random.default_rng(1).integers(0, vocabulary, (lanes, 1)).astype(np.int32)
    encoders = [kernels.TokenEncoder(tree) for _ in range(lanes)]
    payload = np.random.default_rng(1).bytes(1 << 16)
    decoders = [kernels.TokenDecoder(tree, payload) for _ in range(lanes)]

    def step() -> None:
        with torch.inference_mode():
            model(input_ids=tokens, use_cache=True, **{name: out[name]})

    def encode() -> None:
        for encoder, row, target in zip(encoders, logits, targets, strict=True):
            encoder.encode(row, 4, target)

    def decode() -> None:
        for decoder, row in zip(decoders, logits, strict=True):
            decoder.decode(row, 4)

    step()
    taken = medians(repeat, step=step, encode=encode, decode=decode)
    parameters = sum(p.numel() for p in model.parameters()) / 1e6
    cells = [f"{vocabulary:,}", f"{parameters:.0f} M", str(lanes)]
    cells += [f"{taken[name] / lanes * 1e6:,.0f}" for name in ("step", "encode", "decode")]
    cells += [f"{100 * taken[name] / taken['step']:.2f} %" for name in ("encode", "decode")]
    return cells


def bare(model: Any, start: int, lanes: int, steps: int) -> None:
    """Batched, cached, greedy generation and nothing else."""
    tokens = torch.full((lanes, 1), start)
    name, cache = cache_name(model), None
    with torch.inference_mode():
        for _ in range(steps):
            out = model(input_ids=tokens, use_cache=True, logits_to_keep=1, **{name: cache})
            cache = out[name]
            tokens = out.logits[:, -1:].argmax(-1)


def against_generation(folder: Path, data: bytes, lanes: int, steps: int, repeat: int) -> list[str]:
    """Decoding in lanes against bare generation of as many tokens in as many lanes."""
    model = HuggingFace.from_spec(str(folder), chunk=steps)
    vocabulary = model.backend.vocabulary
    ids = vocabulary.tokenise(data).ids[: lanes * steps]
    text = b"".join(vocabulary.bytes_of(int(token)) for token in ids)
    text = text[: len(text) // 2 * 2]
    model.settings = RunSettings(verify=False, batch=lanes)
    kind, payload = encode_block(model, text)
    count = len(vocabulary.tokenise(text).ids)

    def decode() -> None:
        if decode_block(model, kind, payload, len(text)) != text:
            raise SystemExit("not the same bytes")

    network = model.backend.model  # type: ignore[attr-defined]
    taken = medians(repeat, bare=lambda: bare(network, model.backend.start, lanes, steps), decode=decode)
    speeds = lanes * steps / taken["bare"], count / taken["decode"]
    return [str(lanes), str(steps), f"{speeds[0]:,.0f}", f"{speeds[1]:,.0f}", f"{100 * speeds[1] / speeds[0]:.0f} %"]


def against_one_by_one(folder: Path, data: bytes) -> tuple[list[list[str]], str]:
    """1 MB both ways in lanes, against a loop over single tokens: no lanes, a probability table for each."""
    model = HuggingFace.from_spec(str(folder))
    ids = model.backend.vocabulary.tokenise(data).ids
    few = ids[:1500]

    def loop() -> None:
        lanes = model.backend.lanes(1, 0)
        before = model.backend.start
        for at, token in enumerate(few):
            if at % 500 == 499:
                lanes = model.backend.lanes(1, 0)
            logits = lanes.feed(np.array([[before]], np.int64), 1)[0, 0]
            np.exp(logits - logits.max()).cumsum()
            before = int(token)

    single = len(few) / timed(loop)
    model.settings = RunSettings(verify=False)
    packed: list[tuple[int, bytes]] = []
    encoding = timed(lambda: packed.append(encode_block(model, data)))
    kind, payload = packed[0]
    decoded: list[bytes] = []
    decoding = timed(lambda: decoded.append(decode_block(model, kind, payload, len(data))))
    if decoded[0] != data:
        raise SystemExit("not the same bytes")
    rows = [["one by one", f"{single:,.0f}", "1"]]
    for name, seconds in (("encoding, --no-verify", encoding), ("decoding", decoding)):
        rows.append([name, f"{len(ids) / seconds:,.0f}", f"{len(ids) / seconds / single:.1f}"])
    lanes = model.lanes(len(ids))
    note = (
        f"{len(data):,} bytes, {len(ids):,} tokens in {lanes} chunks: {len(payload):,} bytes; {model.notes[0]}; "
        "decoded and compared."
    )
    return rows, note


def where_bytes_go(model: HuggingFace, data: bytes) -> list[str]:
    """A file's bytes by what they are for; one pass, without the decoder's."""
    model.settings = RunSettings(verify=False)
    model.tolerance = "auto"
    block = model.start(len(data), torch.get_num_threads())
    chunks = block.coder.split(model.backend.vocabulary.tokenise(data).ids)
    chosen, noise = block.choose_tolerance(chunks)
    rounded = grids.Tolerance(chosen.step, grids.NO_CHOICES)
    trees = [kernels.TokenTree(grids.tables(one), model.backend.size) for one in (rounded, chosen)]
    encoders = [kernels.TokenEncoder(trees[1]) for _ in chunks]
    ideal = nearest = 0.0
    for lane, at, logits in block.coder.passes(chunks, None):
        wanted = chunks[lane][at : at + len(logits)]
        costs = [np.frombuffer(trees[0].costs(logits, logits.itemsize, wanted, coded)) for coded in (False, True)]
        ideal, nearest = ideal + costs[0].sum() / math.log(256), nearest + costs[1].sum() / math.log(256)
        encoders[lane].encode(logits, logits.itemsize, wanted)
    written = sum(len(encoder.finish()) for encoder in encoders)
    model.tolerance = (chosen.slack - grids.ROUNDING[model.backend.itemsize]) / 2
    whole = len(kolmo.compress(data, predictor=model))
    cells = [f"{len(data):,}", f"{noise:.2g}", f"{chosen.slack:.2g}", f"{ideal:,.1f}", f"{nearest - ideal:.1f}"]
    return [
        *cells,
        f"{written - nearest:.1f}",
        f"{whole - written}",
        f"{whole:,}",
        f"{100 * (written / ideal - 1):.1f} %",
    ]


def with_memory(folder: Path, files: list[Path]) -> list[list[str]]:
    """Code lengths of files by the model alone and with its memory, by teacher forcing on the finest grid."""
    models = [HuggingFace.from_spec(str(folder), memory_tokens=tokens) for tokens in (0, None)]
    rows = []
    for path in files:
        data = path.read_bytes()
        sizes, seconds, tokens, lanes = [], [], 0, 0
        for model in models:
            block = model.start(len(data), torch.get_num_threads())
            tokens = len(model.backend.vocabulary.tokenise(data).ids)
            lanes = len(block.coder.lengths(tokens))
            start = time.process_time()
            sizes.append(block.score(data).sum() / 8)
            seconds.append(time.process_time() - start)
        alone, mixed = sizes
        change = f"{100 * (mixed / alone - 1):+.1f} %"
        times = f"{1000 * seconds[0] / tokens:.2f} / {1000 * seconds[1] / tokens:.2f}"
        rows.append(
            [path.name, f"{len(data):,}", f"{tokens:,}", f"{lanes}", f"{alone:,.0f}", f"{mixed:,.0f}", change, times]
        )
    return rows


def of_windows(folder: Path, path: Path, tokens: int = 8192) -> list[list[str]]:
    """Code lengths of a file's first tokens in one lane, without a memory, under several windows."""
    rows = []
    for context, slides in ((1024, False), (1024, True), (2048, True), (tokens, True)):
        model = HuggingFace.from_spec(str(folder), context=context, chunk=2 * tokens, memory_tokens=0)
        model.record = replace(model.record, slides=slides)
        ids = model.backend.vocabulary.tokenise(path.read_bytes()).ids[:tokens]
        start = time.process_time()
        (costs,) = model.start(1, torch.get_num_threads()).coder.costs([ids], None)
        taken = 1000 * (time.process_time() - start) / len(ids)
        how = "sliding" if slides else "half read again"
        rows.append([f"{context:,}", how, f"{costs.sum() / math.log(256):,.1f}", f"{taken:.1f}"])
    return rows


def speed(spec: str, data: bytes) -> list[str]:
    """CPU seconds of a command's parts: opening a model, coding a text both ways, decoding, and bare generation."""
    opened: list[Any] = []
    seconds = [timed(lambda: opened.append(resolve(spec)))]
    model = opened[0]
    packed: list[tuple[int, bytes]] = []
    for verify in (True, False):
        model.settings = RunSettings(verify=verify)
        seconds.append(timed(lambda: packed.append(encode_block(model, data))))
    decoded: list[bytes] = []
    seconds.append(timed(lambda: decoded.append(decode_block(model, *packed[0], len(data)))))
    if decoded[0] != data:
        raise SystemExit("not the same bytes")
    tokens = len(model.backend.vocabulary.tokenise(data).ids)
    lengths = model.start(len(data), 1).coder.lengths(tokens)
    lanes, steps = model.batch(len(lengths)), max(lengths)
    if spec.startswith("hf:"):
        seconds.append(timed(lambda: bare(model.backend.model, model.backend.start, lanes, steps)))
    else:
        seconds.append(timed(lambda: bare_lanes(model.backend, lanes, steps)))
    cells = [spec.partition(":")[0], f"{len(data):,}", f"{tokens:,}", f"{lanes}", *(f"{one:.1f}" for one in seconds)]
    return [*cells, f"{100 * seconds[-1] / seconds[-2]:.0f} %"]


def bare_lanes(backend: Any, lanes: int, steps: int) -> None:
    """Like `bare`, with a model of llama.cpp."""
    reader = backend.lanes(lanes, 1)
    tokens = np.full((lanes, 1), backend.start)
    for _ in range(steps):
        tokens = reader.feed(tokens, 1)[:, -1:].argmax(-1)


def step_in_context(folder: Path, data: bytes, context: int, steps: int) -> list[str]:
    """Milliseconds of a step of one lane that has read a context, with the cache of transformers and in place."""
    backend: Any = HuggingFace.from_spec(str(folder)).backend
    ids = backend.vocabulary.tokenise(data).ids.astype(np.int64)[None, : context + steps]
    one = backend.lanes(1, 1)
    with mock.patch.object(torch_backend, "grow_in_place"):
        one.feed(ids[:, :context], 1)
    other = backend.lanes(1, 1)
    other._caches = copy.deepcopy(one._caches)
    grow_in_place(other._caches[0][backend.cache])
    both = (one, other)
    for lanes in both:
        lanes.feed(ids[:, context : context + 1], 1)
    taken = [0.0, 0.0]
    for at in range(context + 1, context + steps):
        for k, lanes in enumerate(both):
            taken[k] += timed(lambda lanes=lanes, at=at: lanes.feed(ids[:, at : at + 1], 1))  # type: ignore[misc]
    copied, in_place = (1000 * seconds / (steps - 1) for seconds in taken)
    return [f"{context:,}", f"{copied:.0f}", f"{in_place:.0f}", f"{100 * (in_place / copied - 1):+.0f} %"]


WINDOWS = ["window", "when full", "bytes", "ms a token"]
SPEED = [
    "model",
    "bytes",
    "tokens",
    "lanes",
    "opening",
    "encoding",
    "encoding, --no-verify",
    "decoding",
    "generation",
    "generation / decoding",
]
CONTEXTS = ["tokens of context", "copied", "in place", ""]
MEMORY = ["file", "bytes", "tokens", "chunks", "alone", "with memory", "", "ms a token, alone / with"]
SPLIT = [
    "bytes",
    "noise",
    "tolerance",
    "-log2 p",
    "rounding",
    "choices, ends",
    "container, record, numbers",
    "file",
    "over",
]


def table(head: list[str], rows: list[list[str]]) -> str:
    """Markdown."""
    lines = ["| " + " | ".join(head) + " |", "|" + " ---: |" * len(head)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--text", type=Path, help="a text; its first 1 MB are read")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="100 KB and one repeat")
    parser.add_argument("--model", type=Path, help="a folder: of its files alone, say where the bytes go")
    parser.add_argument("--bytes", type=int, nargs="+", default=[8192], help="sizes of the text for --model")
    parser.add_argument("--memory", type=Path, nargs="+", help="files: with --model, what its memory saves on each")
    parser.add_argument("--windows", type=Path, help="a file: with --model, what long windows save on its beginning")
    parser.add_argument("--markdown", type=Path, help="write the report here too")
    parser.add_argument(
        "--speed", nargs="+", metavar="SPEC", help="hf:FOLDER, gguf:FILE: the time of each part of a command"
    )
    parser.add_argument(
        "--contexts", type=int, nargs="+", default=[], help="with --model: tokens before a measured step"
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.speed:
        text = options.text or Path(os.environ.get("KOLMO_DATA", ".")) / "bench/text/dickens"
        rows = [speed(spec, text.read_bytes()[:size]) for spec in options.speed for size in options.bytes]
        print(table(SPEED, rows))
        return
    if options.model:
        text = options.text or Path(os.environ.get("KOLMO_DATA", ".")) / "bench/text/dickens"
        if options.windows:
            print(table(WINDOWS, of_windows(options.model, options.windows)))
            return
        if options.contexts:
            data = text.read_bytes()[: 8 * max(options.contexts)]
            print(table(CONTEXTS, [step_in_context(options.model, data, size, 9) for size in options.contexts]))
            return
        if options.memory:
            print(table(MEMORY, with_memory(options.model, options.memory)))
            return
        model = HuggingFace.from_spec(str(options.model), memory_tokens=0)
        print(table(SPLIT, [where_bytes_go(model, text.read_bytes()[:size]) for size in options.bytes]))
        return
    source = options.text or Path(os.environ.get("KOLMO_DATA", ".")) / "bench/text/dickens"
    data = source.read_bytes()[: 100_000 if options.quick else 1_000_000]
    repeat = 1 if options.quick else options.repeat
    with tempfile.TemporaryDirectory() as work:
        folder = stories(Path(work))
        costs = [coding_cost(size, lanes, 4 * repeat) for size in (32_000, 128_000) for lanes in (1, 8)]
        lanes = [against_generation(folder, data, n, 250, repeat) for n in (8, 32, 64)]
        rows, note = against_one_by_one(folder, data)
    parts = [
        "# Language models as compressors, measured",
        "",
        "CPU time of one process, one torch thread, rivals taking turns; ratios count. What is measured: the head of",
        "`benchmarks/language_models.py`.",
        "",
        "```",
        f"KOLMO_DATA=DIR python benchmarks/language_models.py {' '.join(sys.argv[1:])}".rstrip(),
        "```",
        "",
        "## Coding beside a model's own step: microseconds of a token",
        "",
        table(
            ["vocabulary", "parameters", "lanes", "step", "encode", "decode", "encode / step", "decode / step"], costs
        ),
        "",
        "A Llama of 12 layers, width 768, random weights, 64 tokens of context.",
        "",
        "## Decoding against bare batched generation: tokens a second",
        "",
        table(["lanes", "tokens of each", "generation", "decoding", "ratio"], lanes),
        "",
        "stories260K: 5 layers, width 64, the least work that a model can hide coding behind.",
        "",
        "## Lanes against one token at a time: tokens a second",
        "",
        table(["", "tokens/s", "times"], rows),
        "",
        note,
        "",
        "## Machine",
        "",
        *(f"- {name}: {value}" for name, value in machine().items()),
        f"- torch {torch.__version__}, transformers {transformers.__version__}",
        "",
    ]
    report = "\n".join(parts)
    print(report)
    if options.markdown:
        options.markdown.write_text(report, "utf-8")


if __name__ == "__main__":
    main()
