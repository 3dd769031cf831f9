"""`kolmo test`: decode and compare every checksum, write nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from kolmo.cli import options
from kolmo.cli.console import STDIN, Console
from kolmo.cli.inputs import expand, open_input

if TYPE_CHECKING:
    from kolmo.predictors.settings import RunSettings


@click.command("test")
@options.memory
@options.max_size
@options.recursive
@options.threads
@options.quiet
@options.verbose
@options.json_lines
@options.language_models
@options.model_elsewhere
@click.option("-f", "--force", is_flag=True, help="Follow links; read from a terminal.")
@click.argument("files", nargs=-1, type=options.PATH)
def command(
    *,
    files: tuple[str, ...],
    memory: int,
    max_size: int | None,
    recursive: bool,
    threads: int,
    quiet: bool,
    verbose: bool,
    as_json: bool,
    force: bool,
    device: str | None,
    batch: int | None,
    model: str | None,
) -> int:
    """Test FILES: decode them and compare every checksum.

    Without FILES, and for -, standard input is tested.
    """
    settings = options.run_settings(device=device, batch=batch, model=model)
    console = Console(quiet, verbose, as_json)
    for path in expand(files, console, recursive=recursive, force=force, packed=True):
        shown = STDIN if path == "-" else path
        with console.guarded(shown):
            _test(path, shown, threads, memory, max_size, settings, force, console)
    return console.status


def _test(
    path: str,
    shown: str,
    threads: int,
    memory: int,
    max_size: int | None,
    settings: RunSettings,
    force: bool,
    console: Console,
) -> None:
    from kolmo.archive.listing import list_stream
    from kolmo.archive.streams import check_stream

    with open_input(path, force=force) as file:
        total = None
        if path != "-" and file.seekable():
            listing = list_stream(file)
            total = listing.raw_size or None
            file.seek(0)
            if listing.is_extreme:
                console.warn(f"{shown}: {listing.describe_extreme()}")
        console.warn_if_slow(total)
        with console.progress(shown, total) as progress:
            summary = check_stream(
                file,
                name=shown,
                threads=threads,
                memory_limit=memory,
                size_limit=max_size,
                progress=progress,
                settings=settings,
            )
    console.line(f"{shown:<20} : OK, {summary.raw_size} bytes")
    if console.json:
        sizes = {"raw_size": summary.raw_size, "packed_size": summary.packed_size}
        console.record({"file": shown, "ok": True, **sizes})
