"""`kolmo info`: what shrunk checkpoints hold, without decoding them."""

from __future__ import annotations

import click

from kolmo.cli import options
from kolmo.cli.console import Console, print_lines
from kolmo.cli.inputs import check_weights


@click.command("info")
@click.argument("files", nargs=-1, required=True, type=options.PATH)
@click.option("-v", "--verbose", is_flag=True, help="Print each tensor, not groups of them.")
@options.json_lines
def command(*, files: tuple[str, ...], verbose: bool, as_json: bool) -> int:
    """Print what FILES, which kolmo shrink wrote, hold: tensors, sizes, bits, digest.

    Only headers are read. Errors of weights are printed when a file is made; they are not in it.
    """
    from kolmo.weights.packing import ShrunkFile
    from kolmo.weights.record import VERSION
    from kolmo.weights.shrink import describe

    console = Console(verbose=verbose, json=as_json)
    for path in files:
        with console.guarded(path):
            check_weights(path)
            report = describe(ShrunkFile(path))
            if as_json:
                console.record({"file": path, "version": VERSION, **report.record()})
                continue
            if len(files) > 1:
                print_lines([f"{path}:"])
            digest = f"format {VERSION}; SHA-256 of all tensors as they come back: {report.content}"
            print_lines([*report.lines(each=verbose), digest])
    return console.status
