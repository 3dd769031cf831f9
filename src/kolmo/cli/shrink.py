"""`kolmo shrink`: a checkpoint with small weights, and a table of what that did to them."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

import click

from kolmo.cli import options
from kolmo.cli.arguments import options_as_flags
from kolmo.cli.console import Console, may_overwrite, print_lines
from kolmo.cli.inputs import check_weights
from kolmo.errors import ShrinkWarning
from kolmo.hyperfunctions.families import OPTIONS, Option, options_of

if TYPE_CHECKING:
    from kolmo.hyperfunctions.families import FamilyOptions
    from kolmo.weights.calibration.options import Calibration
    from kolmo.weights.goals import Goal

DEFAULT_METHOD = "trellis"
GOALS = ("bits", "step", "target_bytes", "max_delta_bpc", "lossless")  # parameters of which at most one is given
CALIBRATED = ("calibration_tokens",)  # parameters that belong to calibrate
MEASURED = ("corpus", "mode", "limit", "device", "sensitivities")  # parameters that belong to max_delta_bpc


def method_options(function: options.Function) -> options.Function:
    """The options that the families of hyperfunctions declare, each with the names of its families in the help."""
    found: dict[str, list[tuple[str, Option]]] = {}
    for name, family in OPTIONS.items():
        for one in options_of(family):
            found.setdefault(one.name, []).append((name, one))
    for key, several in reversed(found.items()):
        if isinstance(several[0][1].default, bool):
            texts = [f"{name.capitalize()}: {one.help}" for name, one in several]
            declare = click.option(options.flag_of(key), key, is_flag=True, default=None, help=" ".join(texts))
        else:
            texts = [
                f"{name.capitalize()}: {one.help.rstrip('.')}; default {one.default or 'that of the setting'}."
                for name, one in several
            ]
            choices = dict.fromkeys(str(choice) for _, one in several for choice in one.choices)
            kind = _type_of(several[0][1].default, choices)
            metavar = "X" if kind is click.FLOAT else None
            declare = click.option(options.flag_of(key), key, type=kind, metavar=metavar, help=" ".join(texts))
        function = declare(function)
    return function


def _type_of(default: Any, choices: Collection[str]) -> click.ParamType:  # type: ignore[type-arg]
    """The type of an option of a family."""
    if choices:
        return click.Choice([*choices])
    return click.FLOAT if isinstance(default, float) else options.Numbers()


def chosen_family(method: str, given: dict[str, Any]) -> FamilyOptions:
    """The family of a method, with those of its options that were given.

    Raises:
        ValueError: an option of another method was given.
    """
    known = {one.name for one in options_of(OPTIONS[method])}
    for name, family in OPTIONS.items():
        for one in options_of(family):
            if one.name not in known and given[one.name] is not None:
                flag = options.flag_of(one.name)
                raise ValueError(f"{flag} is not for {method}, but for {name}; leave {flag} out")
    own = {one.name: given[one.name] for one in options_of(OPTIONS[method]) if given[one.name] is not None}
    by_text = {one.name: {str(choice): choice for choice in one.choices} for one in options_of(OPTIONS[method])}
    return OPTIONS[method](**{name: by_text[name].get(value, value) for name, value in own.items()})


def chosen_goal(given: dict[str, Any]) -> Goal:
    """The goal that was given, or the default one.

    Raises:
        ValueError: several were given, one is out of its range, or a parameter of another one was given.
    """
    from kolmo.weights import goals

    found = [name for name in GOALS if given[name] not in (None, False)]
    if len(found) > 1:
        first, second = map(options.flag_of, found[:2])
        raise ValueError(f"{first} and {second} exclude each other; give one of them")
    measured = {name: given[name] for name in MEASURED if given[name] not in (None, False)}
    name = found[0] if found else ""
    if name == "max_delta_bpc":
        return goals.MaxDeltaBpc(given[name], measured.pop("corpus", None), **measured)
    if given["calibrate"] is not None:
        measured.pop("device", None)
    if measured:
        first = options.flag_of(next(iter(measured)))
        raise ValueError(f"{first} is for --max-delta-bpc; give that, or leave {first} out")
    if name == "lossless":
        return goals.Lossless()
    kinds = {"bits": goals.Bits, "step": goals.Step, "target_bytes": goals.Bytes}
    return kinds[name](given[name]) if found else goals.DEFAULT_GOAL


def chosen_calibration(given: dict[str, Any]) -> Calibration | None:
    """The calibration that was given; None for none.

    Raises:
        ValueError: it is out of its range, or a parameter of it was given without it.
    """
    from kolmo.weights.calibration.options import Calibration

    own = {name.removeprefix("calibration_"): given[name] for name in CALIBRATED if given[name] is not None}
    if given["calibrate"] is None:
        if own:
            raise ValueError("--calibration-tokens is for --calibrate; give that, or leave --calibration-tokens out")
        return None
    return Calibration(given["calibrate"], **own, device=given["device"])


@click.command("shrink")
@click.argument("model", type=options.PATH)
@options.place
@click.option(
    "--method",
    type=click.Choice(list(OPTIONS)),
    default=DEFAULT_METHOD,
    show_default=True,
    help="How weights become integers.",
)
@click.option(
    "--bits",
    type=click.FloatRange(0, min_open=True),
    metavar="B",
    help="Bits of a coded weight on average; default 4. Bitshift: 2 to 4; factors come on top.",
)
@click.option(
    "--step", type=click.FloatRange(0, min_open=True), metavar="S", help="Trellis: distance of levels, for all tensors."
)
@click.option(
    "--target-bytes",
    callback=options.parse_size_or_none,
    metavar="SIZE",
    help="The file takes at most SIZE.",
)
@click.option(
    "--max-delta-bpc",
    type=click.FloatRange(0, min_open=True),
    metavar="X",
    help="The smallest file that loses at most X bits per character on the corpus.",
)
@click.option("--corpus", metavar="C", help="For --max-delta-bpc: a corpus, as of kolmo eval.")
@options.mode("For --max-delta-bpc: rule of evaluation, as of kolmo eval; default strict.")
@options.limit("For --max-delta-bpc: documents of the corpus.")
@options.device("For --max-delta-bpc and --calibrate: cpu, cuda; default: cuda where it is.")
@click.option(
    "--sensitivities",
    is_flag=True,
    help="For --max-delta-bpc: measure each kind of tensors first, and choose its step by that.",
)
@click.option(
    "--calibrate",
    metavar="CORPUS",
    help="Run MODEL on text first, and code its weights so that its outputs lose least; a corpus, as of kolmo eval.",
)
@click.option(
    "--calibration-tokens",
    type=click.IntRange(512),
    metavar="N",
    help="For --calibrate: tokens that are read; default 65536.",
)
@method_options
@click.option("--lossless", is_flag=True, help="Give back every tensor exact to the bit.")
@click.option(
    "--prune",
    type=click.FloatRange(0, 1, max_open=True),
    default=0.0,
    metavar="P",
    help="First make this part of the coded weights 0, the smallest.",
)
@click.option("--prune-each", is_flag=True, help="Prune each tensor by so much, not the whole model.")
@click.option(
    "--exact", "keep", multiple=True, metavar="GLOB", help="Leave tensors of such names exact; may be repeated."
)
@options.threads
@click.option("-f", "--force", is_flag=True, help="Overwrite OUT.")
@options.quiet
@click.option("-v", "--verbose", is_flag=True, help="Print each tensor, not groups of them.")
@click.option("--json", "as_json", is_flag=True, help="Print the table as a JSON object.")
def command(
    *,
    model: str,
    output: str,
    method: str,
    threads: int,
    force: bool,
    quiet: bool,
    verbose: bool,
    as_json: bool,
    **given: Any,
) -> int:
    """Shrink the weights of MODEL into OUT.

    MODEL is a safetensors file, a folder with one or with shards, a torch state dict, or a model in ONNX. Matrices are
    coded with loss unless --lossless is given; norms, biases and all that is small stay exact. With --lossless, MODEL
    may also be a GGUF file, which kolmo expand restores byte by byte. Of a folder with a config.json, OUT is a folder
    that transformers open, unless it ends in .safetensors or .kolmo. Read OUT with kolmo.load in Python, or kolmo
    expand.
    """
    from kolmo.weights.goals import Selection, agreed
    from kolmo.weights.shrink import shrink
    from kolmo.weights.sources.folder import companions, makes_folder
    from kolmo.weights.sources.kinds import is_gguf

    try:
        family, goal = chosen_family(method, given), chosen_goal(given)
        selection = Selection(given["keep"], given["prune"], given["prune_each"])
        calibration = chosen_calibration(given)
        agreed(goal, family, selection, calibration is not None)
    except ValueError as error:
        raise click.UsageError(options_as_flags(str(error), click.get_current_context().command)) from None
    console = Console(quiet, verbose, as_json)
    with console.guarded(model), console.writing_to(output):
        check_weights(model)
        if given["lossless"] and os.path.isfile(model) and is_gguf(model):
            if given["keep"]:
                raise click.UsageError("--exact is not for GGUF files, which come back byte by byte; leave it out")
            shrink_gguf(model, output, console, threads=threads, force=force)
            return console.status
        if method == DEFAULT_METHOD:
            console.warn_if_slow(os.path.getsize(model) if os.path.isfile(model) else None)
        if os.path.exists(output) and not force:
            force = may_overwrite(output, console, ask=True)
        if makes_folder(model, output) and (left := companions(model).left):
            console.warn(f"{model}: does not come along: {', '.join(left)}")
        start = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ShrinkWarning)  # they are in the report
            report = shrink(
                model,
                output,
                goal,
                hyperfunction=family,
                selection=selection,
                calibrate=calibration,
                threads=threads,
                force=force,
                progress=console.progress,
            )
        for text in report.warnings:
            console.warn(f"{model}: {text}")
        if as_json:
            seconds = round(time.perf_counter() - start, 3)
            console.record({"file": model, "output": output, "seconds": seconds, **report.record()})
        elif not quiet:
            print_lines(report.lines(each=verbose))
    return console.status


def shrink_gguf(model: str, output: str, console: Console, *, threads: int, force: bool) -> None:
    """A GGUF file, without a loss."""
    from kolmo.weights.gguf.file import shrink

    console.warn_if_slow(os.path.getsize(model))
    if os.path.exists(output) and not force:
        force = may_overwrite(output, console, ask=True)
    start = time.perf_counter()
    shrunk = shrink(model, output, threads=threads, force=force, progress=console.progress)
    if console.json:
        seconds = round(time.perf_counter() - start, 3)
        console.record({"file": model, "output": output, "seconds": seconds, **shrunk.record()})
    elif not console.quiet:
        print_lines(shrunk.lines())
