"""What the commands that collect share: options, the plan of --dry-run, progress, the last line."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import date, datetime, timezone
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar

import click

from kolmo.cli import options
from kolmo.cli.console import Console, print_lines

if TYPE_CHECKING:
    from kolmo.collection.collecting import Collected
    from kolmo.collection.engine import Progress
    from kolmo.collection.pipelines import Access, CollectionPipeline

Function = TypeVar("Function", bound=Callable[..., Any])
ENGINES = ("local", "slurm", "ray")
FORMATS = ("jsonl", "jsonl.gz", "parquet")  # as in corpus/writing.py, which help must not load


@dataclass(frozen=True)
class Run:
    """The shared options' values. `until` is the last day as the run was begun with it, where it goes on."""

    output: str
    since: str | None
    until: str | None
    seed: int
    format: str
    file_size: int
    engine: str
    workers: int
    slurm_partition: str
    slurm_time: str
    cache: str | None
    contact: str | None
    rate: float
    restart: bool
    keep_work: bool
    dry_run: bool
    quiet: bool
    verbose: bool
    as_json: bool

    def until_of(self, name: str, subset: str | None = None) -> str:
        """The last day: the one given, that of the run which goes on, or today (UTC)."""
        from kolmo.collection.collecting import begun_until

        if self.until is not None:
            return self.until
        begun = None if self.restart else begun_until(self.output, name, subset)
        return begun or datetime.now(timezone.utc).date().isoformat()

    def access(self, name: str) -> Access:
        """Manners on the network, and the cache of a pipeline."""
        from kolmo.collection.collecting import work_folder
        from kolmo.collection.pipelines import Access

        cache = self.cache or os.path.join(work_folder(self.output, name), "cache")
        return Access(os.path.abspath(cache), self.contact, self.rate)


def collecting(function: Function) -> Function:
    """Add the shared options; the command gets their values as `run: Run`, and its own ones by name."""

    @wraps(function)  # with the options that it has already
    def called(**values: Any) -> Any:
        mine = {name: values.pop(name) for name in Run.__dataclass_fields__}
        return function(run=Run(**mine), **values)

    decorated: Any = called
    for decorate in reversed(_DECORATORS):
        decorated = decorate(decorated)
    return decorated  # type: ignore[no-any-return]


def parse_day(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """A day as YYYY-MM-DD."""
    if value is None:
        return None
    try:
        return date.fromisoformat(value).isoformat()
    except ValueError:
        raise click.BadParameter(f"{value!r} is not a day; write it like 2026-10-01", ctx, param) from None


contact = click.option("--contact", metavar="ADDRESS", help="Your address, for the user agent; default: KOLMO_CONTACT.")
rate = click.option(
    "--rate",
    type=click.FloatRange(min=0, min_open=True),
    default=1.0,
    show_default=True,
    metavar="N",
    help="Most requests a second to one host.",
)
_DECORATORS = (
    click.option("--since", metavar="DATE", callback=parse_day, help="First day of documents, YYYY-MM-DD."),
    click.option("--until", metavar="DATE", callback=parse_day, help="Last day; default: today."),
    options.output("Folder of the corpus; runs resume.", default="corpus", show_default=True),
    options.seed("Seed of all random choices.", default=0, show_default=True),
    click.option(
        "--format", type=click.Choice(FORMATS), default="jsonl", show_default=True, help="Format of documents."
    ),
    click.option(
        "--file-size",
        callback=options.parse_size,
        default="1000000000",
        show_default=True,
        metavar="SIZE",
        help="Approximate bytes of an output file.",
    ),
    click.option("--engine", type=click.Choice(ENGINES), default="local", show_default=True, help="Where to run."),
    click.option(
        "--workers", type=click.IntRange(min=1), default=1, show_default=True, metavar="N", help="Tasks at a time."
    ),
    click.option("--slurm-partition", metavar="NAME", default="", help="Partition for --engine slurm."),
    click.option(
        "--slurm-time", metavar="TIME", default="24:00:00", show_default=True, help="Time limit of a Slurm job."
    ),
    click.option("--cache", metavar="DIR", help="Where downloads are kept; default: nowhere, once they were read."),
    contact,
    rate,
    click.option("--restart", is_flag=True, help="Begin again, and forget what was collected in this folder."),
    click.option("--keep-work", is_flag=True, help="Keep the folders of the stages."),
    click.option("--dry-run", is_flag=True, help="Print what would be done, and the bytes to download; do nothing."),
    options.quiet,
    options.verbose,
    click.option("--json", "as_json", is_flag=True, help="Print a JSON object for each pipeline."),
)


def carry_out(run: Run, pipelines: Sequence[Callable[[], CollectionPipeline]], names: Sequence[str]) -> int:
    """Run pipelines one after the other, or show their plans; returns the exit status.

    Args:
        run: the options.
        pipelines: make each, within the place where errors are told.
        names: theirs.
    """
    console = Console(run.quiet, run.verbose, run.as_json)
    for make, name in zip(pipelines, names, strict=True):
        with console.guarded(name):
            if run.dry_run:
                with _traceless(run, name):
                    _show_plan(run, make(), console)
            else:
                _collect(run, make(), console)
    return console.status


@contextmanager
def _traceless(run: Run, name: str) -> Iterator[None]:
    """Remove what a plan has downloaded, and folders that were made for it, also when it fails."""
    from kolmo.collection.collecting import work_folder

    try:
        yield
    finally:
        work = work_folder(run.output, name)
        if run.cache is None and not os.path.exists(os.path.join(work, "settings.json")):
            shutil.rmtree(os.path.join(work, "cache"), ignore_errors=True)
            with suppress(OSError):
                os.removedirs(work)


def _collect(run: Run, pipeline: CollectionPipeline, console: Console) -> None:
    from kolmo.collection.collecting import collect
    from kolmo.collection.engine import StageEngine

    engine = StageEngine(run.engine, run.workers, run.slurm_partition, run.slurm_time)
    with stage_progress(console) as progress:
        done = collect(
            pipeline,
            run.output,
            engine=engine,
            format=run.format,
            file_bytes=run.file_size,
            restart=run.restart,
            keep_work=run.keep_work,
            progress=progress,
        )
    if not done.documents:
        console.warn(f"{run.output}: no document of {pipeline.name} was kept; {done.manifest} says why")
    again = ", was complete" if done.was_complete else ""
    console.line(f"{run.output}: {done.documents} documents of {pipeline.name}{again} ({done.manifest})")
    if run.as_json:
        console.record(_record(done))


def _record(done: Collected) -> dict[str, Any]:
    record = done.record
    return {
        "pipeline": record.pipeline,
        "subset": record.subset,
        "manifest": done.manifest,
        "documents": done.documents,
        "was_complete": done.was_complete,
        "first_date": record.first_date,
        "last_date": record.last_date,
        "files": list(record.files),
        "counts": dict(record.counts),
        "notes": dict(record.notes),
    }


def _show_plan(run: Run, pipeline: CollectionPipeline, console: Console) -> None:
    plan = pipeline.plan()
    size = "unknown" if plan.download_bytes is None else f"about {plan.download_bytes / 1e6:,.1f} MB"
    requests = "unknown" if plan.requests is None else f"about {plan.requests:,}"
    if run.as_json:
        console.record(
            {
                "pipeline": pipeline.name,
                "plan": list(plan.lines),
                "requests": plan.requests,
                "download_bytes": plan.download_bytes,
                **plan.details,
            }
        )
        return
    print_lines([*plan.lines, f"{pipeline.name}: requests {requests}, download {size}, into {run.output}"])


@contextmanager
def stage_progress(console: Console) -> Iterator[Progress | None]:
    """A bar for each stage, where anyone would see it; yields what to call, or None."""
    if not console.shows_progress():
        yield None
        return
    from tqdm import tqdm

    bars: list[Any] = []

    def show(stage: str, ended: int, total: int) -> None:
        if not bars or bars[-1].desc != f"{stage}: ":
            if bars:
                bars[-1].close()
            bars.append(tqdm(total=total, desc=stage, unit="shard", leave=False, delay=0.3))
        bars[-1].update(ended - bars[-1].n)

    try:
        yield show
    finally:
        if bars:
            bars[-1].close()
