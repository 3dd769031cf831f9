"""`kolmo info`: what shrunk checkpoints and trained networks hold, without decoding them."""

from __future__ import annotations

import os
import shlex
from typing import Any

import click

from kolmo.cli import options
from kolmo.cli.console import Console, print_lines
from kolmo.cli.inputs import check_weights


@click.command("info")
@click.argument("files", nargs=-1, required=True, type=options.PATH)
@click.option("-v", "--verbose", is_flag=True, help="Print each tensor, not groups of them.")
@options.json_lines
def command(*, files: tuple[str, ...], verbose: bool, as_json: bool) -> int:
    """Print what shrunk checkpoints and trained networks hold.

    FILES are those that kolmo shrink and kolmo train wrote, or their folders. Of a checkpoint or a GGUF file: tensors
    or types, sizes, bits, digest; only headers are read. Errors of weights are printed when a file is made; they are
    not in it. Of a network: sizes, hash, texts, bits per byte on what was held out of them.
    """
    from kolmo.weights.format.reader import ShrunkFile
    from kolmo.weights.format.record import VERSION
    from kolmo.weights.gguf.file import is_shrunk, open_shrunk
    from kolmo.weights.report import describe

    console = Console(verbose=verbose, json=as_json)
    for path in files:
        with console.guarded(path):
            check_weights(path)
            if facts := _network(path):
                if as_json:
                    console.record({"file": path, **facts})
                else:
                    print_lines(([f"{path}:"] if len(files) > 1 else []) + _network_lines(path, facts))
                continue
            if is_shrunk(path):
                shrunk = open_shrunk(path)
                if as_json:
                    console.record({"file": path, **shrunk.record()})
                else:
                    print_lines(([f"{path}:"] if len(files) > 1 else []) + shrunk.lines())
                    print_lines([f"SHA-256 of the GGUF file: {shrunk.sha256}"])
                continue
            report = describe(ShrunkFile(path))
            if as_json:
                console.record({"file": path, "version": VERSION, **report.record()})
                continue
            if len(files) > 1:
                print_lines([f"{path}:"])
            digest = f"format {VERSION}; SHA-256 of all tensors as they come back: {report.content}"
            print_lines([*report.lines(each=verbose), digest])
    return console.status


def _network(path: str) -> dict[str, Any] | None:
    """What a network's file says, or the one in a run's folder; None where there is no network."""
    from kolmo.predictors.embedded.network_file import is_network, load
    from kolmo.predictors.embedded.own_network import PRODUCT

    file = os.path.join(path, PRODUCT) if os.path.isdir(path) else path
    if not is_network(file):
        return None
    weights = load(file)
    about, numbers = weights.about, weights.shape.metadata()
    return {
        "kind": "network",
        **{name: numbers[name] if name == "tables" else int(numbers[name]) for name in numbers},
        "parameters": weights.shape.parameters,
        "size": os.path.getsize(file),
        "hash": weights.fingerprint.hex(),
        "texts": about.get("texts"),
        "trained_bytes": int(about["trained_bytes"]) if "trained_bytes" in about else None,
        "bits_per_byte": float(about["bits_per_byte"]) if "bits_per_byte" in about else None,
        "priors": bool(weights.priors),
    }


def _network_lines(path: str, facts: dict[str, Any]) -> list[str]:
    sizes = ", ".join(
        f"{name} {'none' if facts[name] == '' else facts[name]}"
        for name in ("layers", "state", "embedding", "slot", "tables")
    )
    lines = [
        f"network    : {sizes}; {facts['parameters']:,} parameters, {facts['size']:,} bytes",
        f"hash       : {facts['hash']}",
    ]
    if facts["trained_bytes"] is not None:
        lines.append(
            f"trained on : {facts['trained_bytes']:,} bytes of {facts['texts'] or 'texts that it does not name'}"
        )
    if facts["bits_per_byte"] is not None:
        lines.append(f"held out   : {facts['bits_per_byte']:.4f} bits per byte, by the network alone")
    lines.append("priors     : " + ("learned with the network" if facts["priors"] else "none; those of kolmo are used"))
    lines.append(f"use        : kolmo compress -m {shlex.quote(f'network:{path}')} FILE")
    return lines
