"""`kolmo shrink`: a checkpoint with small weights, and a table of what that did to them."""

from __future__ import annotations

import os
import time
import warnings
from typing import Any

import click

from kolmo.cli import options
from kolmo.cli.console import Console, may_overwrite, print_lines
from kolmo.cli.inputs import check_weights
from kolmo.errors import ShrinkWarning

METHODS = ("trellis", "torus")
PRESETS = ("llm", "unet", "mobilenet")


def parse_target(ctx: click.Context, param: click.Parameter, value: str | None) -> int | None:
    """A size, or none."""
    return None if value is None else options.parse_size(ctx, param, value)


@click.command("shrink")
@click.argument("model", type=options.PATH)
@options.place
@click.option(
    "--method", type=click.Choice(METHODS), default="trellis", show_default=True, help="How weights become integers."
)
@click.option(
    "--bits",
    type=click.FloatRange(0, min_open=True),
    metavar="B",
    help="Trellis: bits of a coded weight on average; default 4.",
)
@click.option(
    "--step", type=click.FloatRange(0, min_open=True), metavar="S", help="Trellis: distance of levels, for all tensors."
)
@click.option("--target-bytes", callback=parse_target, metavar="SIZE", help="Trellis: the file takes at most SIZE.")
@click.option(
    "--max-delta-bpc",
    type=click.FloatRange(0, min_open=True),
    metavar="X",
    help="Trellis: the smallest file that loses at most X bits per character on the corpus.",
)
@click.option("--corpus", metavar="C", help="For --max-delta-bpc: a corpus, as of kolmo eval.")
@click.option(
    "--mode", type=click.Choice(options.MODES), help="For --max-delta-bpc: rule of evaluation; default strict."
)
@options.limit("For --max-delta-bpc: documents of the corpus.")
@options.device("For --max-delta-bpc: cpu, cuda; default: cuda where it is.")
@click.option(
    "--sensitivities",
    is_flag=True,
    help="For --max-delta-bpc: measure each kind of tensors first, and choose its step by that.",
)
@click.option("--preset", type=click.Choice(PRESETS), help="Torus: published settings; default llm.")
@click.option(
    "--states",
    type=click.Choice(["1", "8", "64"]),
    default="8",
    show_default=True,
    help="Trellis: 64 for 0.17 dB less error at four times the work; 1 for none.",
)
@click.option(
    "--least-error",
    is_flag=True,
    help="Trellis: the least squared error for the bits, though networks lose more by it at 2 or 3 bits.",
)
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
    *, model: str, output: str, method: str, force: bool, quiet: bool, verbose: bool, as_json: bool, **given: Any
) -> int:
    """Shrink the weights of MODEL into OUT.

    MODEL is a safetensors file, a folder with one or with shards, a torch state dict, or a model in ONNX. Matrices are
    coded with loss unless --lossless is given; norms, biases and all that is small stay exact. Of a folder with a
    config.json, OUT is a folder that transformers open, unless it ends in .safetensors or .kolmo. Read OUT with
    kolmo.load in Python, or kolmo expand.
    """
    from kolmo.weights.choice.budget import check
    from kolmo.weights.shrink import plan, shrink
    from kolmo.weights.sources.folder import companions, makes_folder

    sizes = {key: given.pop(key) for key in ("bits", "step", "target_bytes", "preset", "max_delta_bpc")}
    measured = {key: given.pop(key) for key in ("corpus", "mode", "limit", "device")}
    states = int(given.pop("states"))
    try:
        plan(
            method,
            **sizes,
            states=states,
            least_error=given["least_error"],
            prune=given["prune"],
            lossless=given["lossless"],
        )
        check(max_delta_bpc=sizes["max_delta_bpc"], sensitivities=given["sensitivities"], **measured)
    except ValueError as error:
        raise click.UsageError(options.as_flags(str(error))) from None
    console = Console(quiet, verbose, as_json)
    with console.guarded(model), console.writing_to(output):
        check_weights(model)
        if method == "trellis":
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
                method,
                **sizes,
                **measured,
                states=states,
                force=force,
                progress=console.progress,
                **given,
            )
        for text in report.warnings:
            console.warn(f"{model}: {text}")
        if as_json:
            seconds = round(time.perf_counter() - start, 3)
            console.record({"file": model, "output": output, "seconds": seconds, **report.record()})
        elif not quiet:
            print_lines(report.lines(each=verbose))
    return console.status
