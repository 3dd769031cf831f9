"""`kolmo models`: where on this machine the models are that `.kmo` files may need."""

from __future__ import annotations

import os

import click

from kolmo.cli import options
from kolmo.cli.console import Console, print_lines
from kolmo.errors import KolmoError

COLUMNS = "{:<8} {:<9} {}"


@click.command("models")
@click.option("--add", multiple=True, metavar="PATH", help="Note the model in PATH, a folder or file; may be repeated.")
@click.option("--forget", multiple=True, metavar="WHAT", help="Remove a path, or a hash; may be repeated.")
@options.json_lines
@options.quiet
def command(*, add: tuple[str, ...], forget: tuple[str, ...], as_json: bool, quiet: bool) -> int:
    """List the models that are known here: kind, hash, path.

    Each model that was used, and each network that was trained here, is noted, so that decompress finds it by the hash
    in a file. Nothing of a model is copied; only its path is kept.
    """
    from kolmo.predictors import model_locations as whereabouts

    console = Console(quiet, json=as_json)
    for path in add:
        with console.guarded(path):
            _add(path)
    for what in forget:
        with console.guarded(what):
            if not whereabouts.forget(what):
                raise KolmoError(f"{what}: is not among the known models; kolmo models lists their hashes and paths")
    if add or forget:
        return console.status
    known = whereabouts.known()
    if not known and not as_json:
        console.warn("no models are known here yet; using one with -m, or --add PATH, notes it")
    if known and not as_json and not quiet:
        print_lines([COLUMNS.format("Kind", "Hash", "Path")])
    for marks, place in known.items():
        exists, kind = os.path.exists(place), _kind(place)
        if as_json:
            console.record({"kind": kind, "hash": marks, "path": place, "exists": exists})
        else:
            print_lines([COLUMNS.format(kind, marks, place) + ("" if exists else " (not there)")])
    return console.status


def _kind(place: str) -> str:
    """By its path alone: of a language model in a folder, in a GGUF file, or a network."""
    if place.endswith(".gguf"):
        return "gguf"
    return "network" if place.endswith(".safetensors") and not os.path.isdir(place) else "hf"


def _add(path: str) -> None:
    """Open a model, which notes it."""
    from kolmo.predictors.embedded.network_file import is_network
    from kolmo.predictors.embedded.own_network import PRODUCT
    from kolmo.predictors.registry import resolve

    if is_network(path) or is_network(os.path.join(path, PRODUCT)):
        resolve(f"network:{path}")
    elif not os.path.exists(path):
        raise KolmoError(f"{path}: no such file or folder; check the name")
    else:
        resolve(f"gguf:{path}" if path.endswith(".gguf") else f"hf:{path}")
