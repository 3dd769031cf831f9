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
    from kolmo.weights.gguf.file import ShrunkGguf


@click.command("expand")
@click.argument("file", type=options.PATH)
@options.place
@click.option("--base", is_flag=True, help="For a lossless file: only the coarse copy, without its residuals.")
@options.threads
@click.option("-f", "--force", is_flag=True, help="Overwrite OUT.")
@options.quiet
@options.verbose
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
def command(
    *, file: str, output: str, base: bool, threads: int, force: bool, quiet: bool, verbose: bool, as_json: bool
) -> int:
    """Make a plain safetensors file OUT of FILE, which kolmo shrink wrote; or a folder of a folder.

    OUT has all tensors under their names, in their dtypes; the coded ones as close as they were coded. If FILE was
    made from a model in ONNX and OUT ends in .onnx, OUT is that model. If FILE was made from a GGUF file, OUT is that
    file, byte by byte. FILE may also be a folder of the published code of Hyper-Compression.
    """
    from kolmo.weights.format.reader import ShrunkFile
    from kolmo.weights.format.table import names_in
    from kolmo.weights.gguf.file import is_shrunk, open_shrunk
    from kolmo.weights.running.expand import expand
    from kolmo.weights.sources.hyper_compression import PublishedFolder, is_published

    console = Console(quiet, verbose, as_json)
    with console.guarded(file), console.writing_to(output):
        check_weights(file)
        if os.path.exists(output) and not force:
            force = may_overwrite(output, console, ask=True)
        start = time.perf_counter()
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
        console.line(f"{file:<20} : {packed} => {size} bytes, {output}")
        if as_json:
            seconds = round(time.perf_counter() - start, 3)
            console.record(
                {"file": file, "output": output, "packed_size": packed, "raw_size": size, "seconds": seconds}
            )
    return console.status
