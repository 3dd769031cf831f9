"""`kolmo sample`: what predictors expect after a prompt, printed as it is made; several of them one after another."""

from __future__ import annotations

import base64
import codecs
import json
import os
import sys
import time
from contextlib import nullcontext
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

import click

from kolmo.cli import options
from kolmo.cli.console import STDOUT, Console, is_terminal, may_overwrite, standard_output
from kolmo.cli.flags import LevelCommand
from kolmo.cli.inputs import open_input
from kolmo.foreign import MAX_LINE, printable, short
from kolmo.sampling import DEFAULT_TEMPERATURE

if TYPE_CHECKING:
    from kolmo.predictors.base import Predictor
    from kolmo.predictors.choice import Choice


@click.command("sample", cls=LevelCommand)
@options.levels
@click.option(
    "-m", "--predictor", "specs", multiple=True, metavar="SPEC", help="Predictor, like cm:9; may be repeated."
)
@click.option("--prompt", metavar="TEXT", help="What the sample goes on from; nothing by default.")
@click.option("--prompt-file", metavar="FILE", type=options.PATH, help="The prompt is a file; - is standard input.")
@click.option(
    "-n",
    "--size",
    callback=options.parse_size,
    default="500",
    show_default=True,
    metavar="BYTES",
    help="Length of the sample.",
)
@options.seed("The same seed gives the same sample.")
@click.option(
    "--temperature",
    type=click.FloatRange(min=0),
    default=DEFAULT_TEMPERATURE,
    show_default=True,
    metavar="T",
    help="1 draws as the predictor expects, below 1 prefers the likely, 0 takes the likeliest.",
)
@click.option("--top-k", type=click.IntRange(min=1), metavar="K", help="Draw from the K likeliest only.")
@click.option(
    "--top-p",
    type=click.FloatRange(min=0, min_open=True, max=1),
    metavar="P",
    help="Draw from the likeliest only that have the probability P together.",
)
@click.option("--echo", is_flag=True, help="Print the prompt before the sample.")
@options.output("Write to OUT; - is standard output.")
@options.device("Language models: cpu, cuda; default: cuda where it is.")
@click.option("-f", "--force", is_flag=True, help="Overwrite; read a prompt from a terminal.")
@options.quiet
@options.verbose
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object for each predictor.")
@click.argument("source", default=None, required=False, metavar="[-]", type=click.Choice(["-"]))
def command(
    *,
    specs: tuple[str, ...],
    prompt: str | None,
    prompt_file: str | None,
    source: str | None,
    size: int,
    seed: int | None,
    temperature: float,
    top_k: int | None,
    top_p: float | None,
    echo: bool,
    output: str | None,
    device: str | None,
    force: bool,
    quiet: bool,
    verbose: bool,
    as_json: bool,
    level: int | None = None,
) -> int:
    """Print what a predictor expects after a prompt, byte by byte.

    With - the prompt is standard input. Several predictors, given by repeated -m, go on from the same prompt, each
    under a line with its name and the seed.
    """
    if sum(given is not None for given in (prompt, prompt_file, source)) > 1:
        raise click.UsageError("--prompt, --prompt-file and - exclude each other; give one of them")
    from kolmo.predictors.choice import Choice
    from kolmo.predictors.registry import DEFAULT_LEVEL
    from kolmo.sampling import new_seed

    try:
        choice = Choice(temperature, top_k, top_p)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    settings = options.run_settings(device=device)
    to_stdout = output in (None, "-")
    console = Console(quiet, verbose, as_json and to_stdout, data_on_stdout=not as_json)
    chosen = []
    for spec in specs:
        try:
            chosen.append((spec, options.chosen_predictor(spec, level, settings)))
        except options.Failure as error:  # the others go on
            console.fail(error.message, spec)
    if not specs:
        predictor = options.chosen_predictor(None, level)
        chosen = [(f"{predictor.name}:{level or DEFAULT_LEVEL}", predictor)]
    if not chosen:
        return console.status
    given = source or prompt_file
    with console.guarded(given or STDOUT):
        start = os.fsencode(prompt or "") if given is None else _read(given, force)
        if isinstance(output, str) and not to_stdout and os.path.isfile(output) and not force:
            force = may_overwrite(output, console, ask=given != "-")
        job = Job(chosen, start, size, new_seed() if seed is None else seed, choice, echo, as_json, console)
        job.run(None if to_stdout else output, force)
    return console.status


def _read(path: str, force: bool) -> bytes:
    with open_input(path, force=force) as file:
        return file.read()


@dataclass(frozen=True)
class Job:
    """One prompt, and all that go on from it."""

    predictors: list[tuple[str, Predictor]]
    prompt: bytes
    size: int
    seed: int
    choice: Choice
    echo: bool
    json: bool
    console: Console

    def run(self, path: str | None, force: bool) -> None:
        """Into a file, which appears when at least one predictor has spoken, or to standard output."""
        from kolmo.targets import Attributes, Target

        self.console.warn_if_slow(len(self.prompt) + self.size)
        with self.console.writing_to(path or STDOUT), nullcontext() if path is None else Target(path, force) as target:
            screen = target is None and is_terminal(sys.stdout) and not self.json
            out = target.file if target else standard_output(force=True)
            page: Page = Screen() if screen else Page(out, path or STDOUT)
            spoken = 0
            for spec, predictor in self.predictors:
                with self.console.guarded(spec):
                    self._sample(spec, predictor, page, first=not spoken)
                    spoken += 1
            if target and spoken:
                target.keep(Attributes())

    def _sample(self, spec: str, predictor: Predictor, page: Page, *, first: bool) -> None:
        from kolmo.sampling import pieces

        began = time.perf_counter()
        sample = bytearray()
        made = pieces(self.prompt, predictor, self.size, seed=self.seed, choice=self.choice)
        if self.json:
            for piece in made:
                sample += piece
            page.write(json.dumps(self._record(spec, sample, time.perf_counter() - began)).encode() + b"\n")
        else:
            several = len(self.predictors) > 1
            if several:
                page.write(b"\n" * (not first) + f"==> {short(spec, MAX_LINE)}, seed {self.seed} <==\n".encode())
            if self.echo:
                page.write(self.prompt)
            try:
                for piece in made:
                    page.write(piece)
                    sample += piece
            finally:
                page.end(force=several)
        seconds = time.perf_counter() - began
        self.console.line(f"{spec:<20} : {len(sample):,} bytes, seed {self.seed}, {seconds:.1f} s")

    def _record(self, spec: str, sample: bytearray, seconds: float) -> dict[str, Any]:
        return {
            "model": spec,
            "prompt": self.prompt.decode("utf-8", "replace"),
            "text": sample.decode("utf-8", "replace"),
            "bytes": base64.b64encode(sample).decode("ascii"),
            "size": len(sample),
            "seed": self.seed,
            "seconds": round(seconds, 3),
        }


class Page:
    """Where samples go: a file or a pipe, which gets the bytes as they are, and at once."""

    def __init__(self, file: IO[bytes], name: str) -> None:
        self._file, self._name = file, name
        self._newest = b""

    def write(self, data: bytes) -> None:
        """Show the next bytes."""
        try:
            self._file.write(data)
            self._file.flush()
        except OSError as error:
            error.filename = self._name
            raise
        self._newest = data[-1:] or self._newest

    def end(self, *, force: bool) -> None:
        """End the line, by force only: a sample is not longer than was asked for."""
        if force and self._newest != b"\n":
            self.write(b"\n")


class Screen(Page):
    """A terminal: text as UTF-8, though pieces may end within a character, with nothing in it that it would obey."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")
        self._newest = b""

    def write(self, data: bytes) -> None:
        """Show what is whole so far."""
        self._show(self._decoder.decode(data))

    def end(self, *, force: bool) -> None:
        """Show what was left over, and end the line."""
        self._show(self._decoder.decode(b"", True))
        self._decoder.reset()
        if self._newest != b"\n":
            self._show("\n")

    def _show(self, text: str) -> None:
        if text:
            click.echo("".join(c if c in "\n\t" else printable(c) for c in text), nl=False)
            self._newest = text[-1].encode()
