"""`kolmo models`: which predictors there are, and where on this machine the models are that `.kmo` files may need."""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib.util import find_spec

import click

from kolmo.cli import options
from kolmo.cli.console import Console, print_lines
from kolmo.errors import KolmoError
from kolmo.installing import install

COLUMNS = "{:<8} {:<9} {}"
PREDICTOR_COLUMNS = "{:<9} {:<15} {:<5} {}"


@dataclass(frozen=True)
class Needs:
    """What a predictor takes as its argument, and what must be installed for it.

    Attributes:
        use: the spec to type.
        about: what it is, and what it cannot do.
        modules: that are imported when it is used; an extra of kolmo installs them.
        extra: that extra; None where nothing is needed.
    """

    use: str
    about: str
    modules: tuple[str, ...] = ()
    extra: str | None = None

    @property
    def ready(self) -> bool:
        """Whether all modules are installed; none is imported."""
        return all(find_spec(module) for module in self.modules)


PREDICTORS = {
    "neural": Needs("neural:5", "the embedded network and mixer: levels 5 to 9"),
    "cm": Needs("cm:4", "the mixer alone: levels 1 to 4, and cm:1 to cm:9"),
    "network": Needs("network:PATH", "a network of kolmo train with that mixer"),
    "hf": Needs("hf:FOLDER_OR_ID", "a language model of transformers", ("torch", "transformers"), "hf"),
    "gguf": Needs("gguf:FILE", "a language model in GGUF, by llama.cpp", ("llama_cpp",), "gguf"),
    "classical": Needs("classical:xz", "gzip, bz2, xz, zstd, brotli for reference: eval and sample only"),
    "api": Needs("api:URL", "a server with log-probabilities of the prompt: eval only"),
}


@click.command("models")
@click.option("--add", multiple=True, metavar="PATH", help="Note the model in PATH, a folder or file; may be repeated.")
@click.option("--forget", multiple=True, metavar="WHAT", help="Remove a path, or a hash; may be repeated.")
@options.json_lines
@options.quiet
def command(*, add: tuple[str, ...], forget: tuple[str, ...], as_json: bool, quiet: bool) -> int:
    """List the predictors and the models that are known here.

    Of a predictor: what it needs; of a model: kind, hash, path. Each model that was used, and each network that was
    trained here, is noted, so that decompress finds it by the hash in a file. Nothing of a model is copied; only its
    path is kept.
    """
    from kolmo.predictors import model_locations

    console = Console(quiet, json=as_json)
    for path in add:
        with console.guarded(path):
            _add(path)
    for what in forget:
        with console.guarded(what):
            if not model_locations.forget(what):
                raise KolmoError(f"{what}: is not among the known models; kolmo models lists their hashes and paths")
    if add or forget:
        return console.status
    _list_predictors(console, as_json, quiet)
    known = model_locations.known()
    if not known and not as_json:
        console.warn("no models are known here yet; using one with -m, or --add PATH, notes it")
    if known and not as_json and not quiet:
        print_lines(["", COLUMNS.format("Kind", "Hash", "Path")])
    for marks, place in known.items():
        exists, kind = os.path.exists(place), _kind(place)
        if as_json:
            console.record({"kind": kind, "hash": marks, "path": place, "exists": exists})
        else:
            print_lines([COLUMNS.format(kind, marks, place) + ("" if exists else " (not there)")])
    return console.status


def _list_predictors(console: Console, as_json: bool, quiet: bool) -> None:
    """A line for each predictor: of kolmo, and of other packages."""
    from kolmo.predictors.registry import known

    others = {name: Needs(f"{name}:...", "of another package") for name in known() if name not in PREDICTORS}
    lines = [PREDICTOR_COLUMNS.format("Predictor", "Use", "Ready", "What it is")]
    for name, needs in {**PREDICTORS, **others}.items():
        missing = needs.extra if not needs.ready else None
        if as_json:
            remedy = install(missing) if missing else None
            console.record({"predictor": name, "use": needs.use, "ready": needs.ready, "install": remedy})
        about = f"{needs.about}; {install(missing)}" if missing else needs.about
        lines.append(PREDICTOR_COLUMNS.format(name, needs.use, "yes" if needs.ready else "no", about))
    if not as_json and not quiet:
        print_lines(lines)


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
