"""`kolmo train`: from texts to a network that predicts them, in a folder that can be left and gone on with."""

from __future__ import annotations

import math
import shlex
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from kolmo.cli import options
from kolmo.cli.console import MAX_TITLE_CHARACTERS, Console
from kolmo.cli.training_models import NUMERIC, RECURRENT, TRANSFORMERS, choose_settings, choose_shape
from kolmo.errors import MissingExtraError
from kolmo.foreign import short
from kolmo.installing import install
from kolmo.progress import Progress
from kolmo.targets import check_folder
from kolmo.training.monitor import Monitor

if TYPE_CHECKING:
    from kolmo.training.monitor import Status
    from kolmo.training.run import Job, Outcome
    from kolmo.training.settings import Budget

PRODUCT = "network.safetensors"  # of a recurrent network


def parse_source(
    ctx: click.Context, param: click.Parameter, values: tuple[str, ...]
) -> list[tuple[Path, float | None]]:
    """SOURCE[=WEIGHT] each; weights for all or for none."""
    parsed = [_one_source(value, ctx, param) for value in values]
    if len({weight is None for _, weight in parsed}) > 1:
        raise click.BadParameter("give all sources a weight, or none: then their sizes count", ctx, param)
    return parsed


def _one_source(value: str, ctx: click.Context, param: click.Parameter) -> tuple[Path, float | None]:
    name, equals, number = value.rpartition("=")
    if not equals or Path(value).exists():
        return Path(value), None
    try:
        weight = float(number)
    except ValueError:
        return Path(value), None
    if not 0 < weight < math.inf:
        raise click.BadParameter(f"{value!r}: a weight is a number above 0", ctx, param)
    return Path(name), weight


def parse_budget(ctx: click.Context, param: click.Parameter, value: str) -> Budget:
    """See `Budget`."""
    from kolmo.training.settings import Budget

    try:
        return Budget.parse(value)
    except ValueError as error:
        raise click.BadParameter(f"{error}; write it like 2h, 90m, 300MB or 2000steps", ctx, param) from None


def parse_tables(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[tuple[int, int], ...] | None:
    """ORDER:BITS,..., or "none"."""
    if value is None or value == "none":
        return None if value is None else ()
    try:
        pairs = [pair.split(":") for pair in value.split(",")]
        return tuple((int(order), int(bits)) for order, bits in pairs)
    except ValueError:
        raise click.BadParameter(f"{value!r} are not tables; write them like 2:14,3:15,0:15", ctx, param) from None


def parse_vocabulary(ctx: click.Context, param: click.Parameter, value: str) -> str:
    """`bytes` or `bpe:N`."""
    kind, _, number = value.partition(":")
    if value == "bytes":
        return value
    from kolmo.training.texts.vocabulary import MAX_SYMBOLS, MIN_SYMBOLS

    if kind != "bpe" or not (number.isascii() and number.isdecimal() and MIN_SYMBOLS <= int(number) <= MAX_SYMBOLS):
        allowed = f"write bytes, or bpe:N with N from {MIN_SYMBOLS} to {MAX_SYMBOLS}"
        raise click.BadParameter(f"{value!r} is not a vocabulary; {allowed}")
    return f"bpe:{int(number)}"


@click.command("train")
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE[=WEIGHT]...", callback=parse_source)
@options.output("The run's folder.", required=True)
@click.option(
    "--model",
    "network",
    type=click.Choice([*RECURRENT, *TRANSFORMERS, *NUMERIC]),
    default="base",
    show_default=True,
    metavar="NAME",
    help=f"Gated recurrent network ({', '.join(RECURRENT)}), Transformer ({', '.join(TRANSFORMERS)}), or network of "
    f"pixels or of samples of sound ({', '.join(NUMERIC)}).",
)
@click.option(
    "--layers",
    type=click.IntRange(1),
    metavar="N",
    help="Layers of a network, but for Transformers.",
)
@click.option(
    "--state",
    type=click.IntRange(1),
    metavar="N",
    help="Width of a network's layers, but for Transformers.",
)
@click.option("--embedding", type=click.IntRange(1), metavar="N", help="Width of a byte's embedding.")
@click.option("--slot", type=click.IntRange(0), metavar="N", help="Width of a hashed table's entries.")
@click.option(
    "--tables", metavar="LIST", callback=parse_tables, help="ORDER:BITS of hashed tables, like 2:14,3:15,0:15."
)
@click.option(
    "--positions",
    type=click.Choice(["sinusoidal", "learned", "rotary"]),
    help="Positions of a Transformer; default sinusoidal; rotary as published.",
)
@click.option(
    "--published",
    is_flag=True,
    help="A Transformer's rotary positions and batch of 32 x 2048, as published (there for 1000000steps).",
)
@click.option(
    "--vocabulary",
    default="bytes",
    show_default=True,
    metavar="bytes|bpe:N",
    callback=parse_vocabulary,
    help="Symbols of a Transformer.",
)
@click.option(
    "--budget",
    default="2h",
    show_default=True,
    metavar="AMOUNT",
    callback=parse_budget,
    help="Time, text or steps: 90m, 300MB, 2000steps.",
)
@click.option(
    "--lanes",
    type=click.IntRange(1),
    metavar="N",
    help="Texts read at once; default 32, Transformers 8. Of pixels, 1024 of each kind; of samples, 512.",
)
@click.option(
    "--window",
    type=click.IntRange(2),
    metavar="N",
    help="Symbols of each that gradients flow through; default 256, Transformers 2048, their context.",
)
@click.option("--rate", type=float, default=1.0, show_default=True, metavar="FACTOR", help="Factor of learning rates.")
@click.option(
    "--quantise-from",
    type=click.FloatRange(0, 1),
    default=0.85,
    show_default=True,
    metavar="PART",
    help="Part of the budget from which on weights are integers.",
)
@click.option(
    "--no-early-stop",
    is_flag=True,
    help="Spend the whole budget, even where held-out data become worse.",
)
@options.dtype(
    "Arithmetic of matrix products: {}; default: bfloat16 where the machine is made for it.", ("float32", "bfloat16")
)
@options.device("cpu, cuda; default: cuda where it is.")
@options.threads
@options.seed("Seed of all random choices.", default=1, show_default=True)
@click.option(
    "--init",
    type=click.Path(readable=False, path_type=Path),
    metavar="FILE",
    help="Begin with these weights: run, checkpoint, network.",
)
@click.option(
    "--validate",
    multiple=True,
    type=click.Path(readable=False, path_type=Path),
    metavar="FILE",
    help="Measure on FILE too; may be repeated.",
)
@click.option(
    "--save-every",
    type=click.FloatRange(0),
    default=120,
    show_default=True,
    metavar="SECONDS",
    help="Time between checkpoints.",
)
@options.quiet
@click.option("-v", "--verbose", is_flag=True, help="Print a line for each validation, on pipes too.")
@click.option("--json", "as_json", is_flag=True, help="Print the log as JSON objects, and one at the end.")
@click.pass_context
def command(ctx: click.Context, /, *, output: str, quiet: bool, verbose: bool, as_json: bool, **given: Any) -> int:
    """Train a network on SOURCES: texts, pictures or sounds.

    SOURCES are files or folders of text, mixed by their weights, or folders of pictures or of sounds. The same command
    goes on with a run that was interrupted. Pieces of each source are held out for validation, or every tenth picture
    or sound.
    """
    if given["device"] not in (None, "auto", "cpu", "cuda"):
        raise click.UsageError(f"--device {given['device']}: training works on cpu or cuda")
    console = Console(quiet, verbose, as_json)
    with console.guarded(output):
        check_folder(output)
        _require_torch()
        job = _job(Path(output), given, _typed(ctx))
        with _Screen(console, job).watching() as screen:
            from kolmo.training.run import train

            outcome = train(job, screen)
        _tell(console, job, outcome)
        if not outcome.finished:
            console.say(f"{output}: interrupted at {outcome.progress:.1%}, and saved; to go on: {job.command}")
            return 128 + screen.signal
    return console.status


def _require_torch() -> None:
    try:
        import torch  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(f"training needs torch ({error}); {install('train')}") from None


def _job(output: Path, given: dict[str, Any], typed: str) -> Job:
    from kolmo.training.run import Job

    shape = choose_shape(given)
    return Job(
        output,
        shape,
        given["sources"],
        choose_settings(given),
        given["validate"],
        given["init"],
        given["device"] or "auto",
        given["threads"],
        given["save_every"],
        typed,
    )


def _typed(ctx: click.Context) -> str:
    """The command as one would type it, without what is as it would be anyway."""
    words = ["kolmo", "train"]
    for source, weight in ctx.params["sources"]:
        words.append(str(source) if weight is None else f"{source}={weight:.12g}")
    for param in ctx.command.params:
        value = ctx.params.get(param.name or "")
        if ctx.get_parameter_source(param.name or "") != ParameterSource.COMMANDLINE or param.name == "sources":
            continue
        option = next(o for o in reversed(param.opts) if o.startswith("--"))
        if param.name == "tables":
            words += [option, ",".join(f"{order}:{bits}" for order, bits in value or ()) or "none"]
        elif isinstance(value, bool):
            words += [option] if value else []
        else:
            values = value if isinstance(value, tuple) else (value,)
            for one in values:
                words += ["-o" if param.name == "output" else option, str(one)]
    return shlex.join(words)


class _Screen(Monitor):
    """Shows a training on the console, and takes Ctrl-C for it."""

    def __init__(self, console: Console, job: Job) -> None:
        self.console = console
        self.signal = 0  # that came, or 0
        self._asked = False  # by the training, which then will ask again
        self._bar: Any = None
        self._phase = ""
        self._title = short(str(job.folder), MAX_TITLE_CHARACTERS)

    @contextmanager
    def watching(self) -> Iterator[_Screen]:
        """While within, the first Ctrl-C or SIGTERM asks the training to save and stop; a second one stops at once."""
        names = ("SIGINT", "SIGTERM", "SIGHUP")
        before = {}
        with suppress(ValueError):  # not in the main thread
            for number in (getattr(signal, name) for name in names if hasattr(signal, name)):
                if signal.getsignal(number) is not signal.SIG_IGN:  # nohup's wish holds, and a background job's
                    before[number] = signal.signal(number, self._interrupt)
        try:
            yield self
        finally:
            if self._bar is not None:
                self._bar.close()
            for number, handler in before.items():
                signal.signal(number, handler)

    def step(self, status: Status) -> None:
        """Move the bar."""
        bits = "" if status.bits is None else f"{status.bits:.3f} bits/byte, "
        text = f"{bits}{_size(status.rate)}/s, {_size(status.seen)}, {_clock(status.left)} left"
        self._show("training", status.progress, text)

    @contextmanager
    def phase(self, name: str, total: int = 0) -> Iterator[Progress]:
        """Name it on the bar, and move the bar within the phase."""
        done = 0

        def progress(symbols: int) -> None:
            nonlocal done
            done += symbols
            self._show(name, min(done / max(total, 1), 1.0), "")

        progress(0)
        yield progress

    def _show(self, phase: str, done: float, text: str) -> None:
        if not self.console.shows_progress():
            return
        if self._bar is None:
            from tqdm import tqdm

            form = "{desc} {percentage:3.0f}%{postfix} |{bar}|"
            self._bar = tqdm(total=1.0, desc=self._title, bar_format=form, leave=False, dynamic_ncols=True)
        entered, self._phase = phase != self._phase, phase
        self._bar.set_description_str(f"{self._title}: {phase}", refresh=False)
        self._bar.set_postfix_str(text, refresh=False)
        self._bar.update(done - self._bar.n)
        if entered:  # tqdm draws now and then only, and a phase may be long before its first progress
            self._bar.refresh()

    def note(self, entry: dict[str, Any]) -> None:
        """Print it, if it was asked for."""
        with self._aside():
            if self.console.json:
                self.console.record(entry)
            if "validation" in entry:
                scores = "  ".join(f"{name} {bits:.3f}" for name, bits in entry["validation"].items())
                self.console.line(f"{_size(entry['bytes']):>8} {_clock(entry['seconds'])}: {scores}")

    def say(self, message: str) -> None:
        """A line that -q silences."""
        with self._aside():
            self.console.warn(message)

    def stop(self) -> bool:
        """Whether Ctrl-C was pressed; from the first question on, it waits for the next."""
        self._asked = True
        return self.signal != 0

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        if self._asked and not self.signal:
            self.signal = number
            return
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(128 + number)

    @contextmanager
    def _aside(self) -> Iterator[None]:
        """Out of the bar's way."""
        if self._bar is None:
            yield
            return
        with self._bar.external_write_mode(file=sys.stderr):
            yield


def _tell(console: Console, job: Job, outcome: Outcome) -> None:
    if outcome.product is not None:
        size = outcome.product.stat().st_size
        seen, time = _size(outcome.seen), _clock(outcome.seconds)
        console.line(f"{outcome.product} : {size} bytes, trained on {seen} in {time}; more in {job.folder / 'card.md'}")
        if outcome.product.name == PRODUCT:
            spec, product = shlex.quote(f"network:{job.folder}"), shlex.quote(str(outcome.product))
            console.line(f"to compress with it:   kolmo compress -m {spec} FILE")
            console.line(f"to decompress it elsewhere, give {product} along: kolmo decompress --model PATH")
    if console.json:
        console.record(
            {
                "folder": str(job.folder),
                "finished": outcome.finished,
                "product": str(outcome.product) if outcome.product else None,
                "progress": outcome.progress,
                "bytes": outcome.seen,
                "seconds": round(outcome.seconds, 1),
                "scores": outcome.scores,
            }
        )


def _size(count: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.3g} {unit}"
        count /= 1024
    return f"{count:.3g} TiB"


def _clock(seconds: float) -> str:
    if not math.isfinite(seconds):
        return "?"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"
