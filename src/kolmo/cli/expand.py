"""`kolmo expand`: a plain checkpoint of a shrunk one."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import click

from kolmo.cli import options
from kolmo.cli.console import Console, may_overwrite
from kolmo.cli.inputs import check_weights

if TYPE_CHECKING:
    from kolmo.weights.export.source import Exported
    from kolmo.weights.gguf.file import ShrunkGguf

TYPES = {"gguf": ("f16", "f32", "bf16", "q8_0"), "compressed-tensors": ("int8", "int4")}  # the first is the default


@click.command("expand")
@click.argument("file", type=options.PATH)
@options.place
@click.option("--base", is_flag=True, help="For a lossless file: only the coarse copy, without its residuals.")
@click.option(
    "--to",
    type=click.Choice(list(TYPES)),
    help="From the folder of a model, make a GGUF file for llama.cpp, or a folder for vLLM.",
)
@click.option(
    "--type",
    "kind",
    type=click.Choice([kind for kinds in TYPES.values() for kind in kinds]),
    help="With --to: of the matrices; default f16 for gguf (which has f32, bf16 and q8_0 too), int8 for "
    "compressed-tensors (which has int4 too).",
)
@options.threads
@click.option("-f", "--force", is_flag=True, help="Overwrite OUT.")
@options.quiet
@options.verbose
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
def command(
    *,
    file: str,
    output: str,
    base: bool,
    to: str | None,
    kind: str | None,
    threads: int,
    force: bool,
    quiet: bool,
    verbose: bool,
    as_json: bool,
) -> int:
    """Make a plain checkpoint OUT of FILE, a shrunk one.

    FILE is what kolmo shrink wrote, and OUT a safetensors file; of a folder, OUT is a folder. OUT has all tensors under
    their names, in their dtypes; the coded ones as close as they were coded. If FILE was made from a model in ONNX and
    OUT ends in .onnx, OUT is that model. If FILE was made from a GGUF file, OUT is that file, byte by byte. FILE may
    also be a folder of the published code of Hyper-Compression.

    With --to gguf, FILE is the folder of a model, shrunk or plain, and OUT a GGUF file that llama.cpp runs; with --to
    compressed-tensors OUT is a folder that vLLM and transformers load.
    """
    if kind and kind not in TYPES.get(to or "", ()):
        where = " or ".join(name for name, kinds in TYPES.items() if kind in kinds)
        raise click.UsageError(f"--type {kind} is for --to {where}; give that, or leave --type out")
    console = Console(quiet, verbose, as_json)
    with console.guarded(file), console.writing_to(output):
        check_weights(file)
        if os.path.exists(output) and not force:
            force = may_overwrite(output, console, ask=True)
        start, error = time.perf_counter(), None
        if to:
            kind = kind or TYPES[to][0]
            packed, made = _export(console, file, output, to, kind, base=base, threads=threads, force=force)
            size, error = made.size, made.error
        else:
            packed, size = _expand(console, file, output, base=base, threads=threads, force=force)
        console.line(f"{file:<20} : {packed} => {size} bytes, {output}")
        if as_json:
            seconds = round(time.perf_counter() - start, 3)
            record = {"file": file, "output": output, "packed_size": packed, "raw_size": size, "seconds": seconds}
            console.record(record if error is None else {**record, "relative_error": error})
    return console.status


def _expand(console: Console, file: str, output: str, *, base: bool, threads: int, force: bool) -> tuple[int, int]:
    """Write OUT in the format that FILE was made from; returns the bytes of both."""
    from kolmo.weights.format.reader import ShrunkFile
    from kolmo.weights.format.table import names_in
    from kolmo.weights.gguf.file import is_shrunk, open_shrunk
    from kolmo.weights.running.expand import expand
    from kolmo.weights.sources.hyper_compression import PublishedFolder, is_published

    shrunk: ShrunkFile | ShrunkGguf
    if is_published(file):
        published = PublishedFolder(file)
        is_slow, total, packed = False, published.raw_size, published.packed_size
    elif is_shrunk(file):
        shrunk = open_shrunk(file)
        is_slow, total, packed = True, shrunk.size, os.path.getsize(shrunk.path)
    else:
        shrunk = ShrunkFile(file)
        is_slow = "trellis" in names_in(shrunk.record.hyperfunctions)
        total, packed = sum(map(shrunk.raw_size, shrunk.names)), os.path.getsize(shrunk.path)
    if is_slow:
        console.warn_if_slow(packed)
    with console.progress(file, total) as progress:
        size = expand(file, output, base=base, threads=threads, force=force, progress=progress)
    return packed, size


def _export(
    console: Console, file: str, output: str, to: str, kind: str, *, base: bool, threads: int, force: bool
) -> tuple[int, Exported]:
    """Write OUT in the format of another program; returns the bytes of the weights in FILE, and what was made."""
    from kolmo.weights.export import compressed_tensors, llamacpp
    from kolmo.weights.export.source import open_source

    source = open_source(file)
    if source.is_slow:
        console.warn_if_slow(source.stored)
    export = llamacpp.export if to == "gguf" else compressed_tensors.export
    with console.progress(file, source.size) as progress:
        made = export(file, output, kind=kind, base=base, threads=threads, force=force, progress=progress)
    for note in made.notes:
        console.warn(note)
    if made.error is not None:
        console.line(f"{file:<20} : {kind} alone has a squared error of {made.error:.2g} of the weights' squares")
    return source.stored, made
