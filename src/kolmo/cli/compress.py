"""`kolmo compress`: files and streams to `.kmo`."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

import click

from kolmo.cli import options
from kolmo.cli.flags import LevelCommand
from kolmo.cli.inputs import SUFFIX
from kolmo.cli.writing import Writing, each_file, writing_options
from kolmo.progress import Progress

if TYPE_CHECKING:
    from kolmo.archive.streams import Summary
    from kolmo.predictors.base import Predictor

MAX_BLOCK = 1 << 30


@dataclass(frozen=True)
class Compress:
    """The verb: `each_file` calls it for every input."""

    predictor: Predictor
    block_size: int
    names: bool
    threads: int
    packs: bool = True

    @property
    def notes(self) -> list[str]:
        """What the predictor has to say of the last block."""
        return list(self.predictor.notes)

    def target(self, path: str) -> str:
        """FILE.kmo."""
        return path + SUFFIX

    def total(self, path: str) -> int | None:
        """The input's size."""
        return os.path.getsize(path) or None

    def matches(self, path: str, target: str) -> bool:
        """Whether `target` is a whole .kmo file of as many bytes as the input has."""
        from kolmo.archive.listing import list_stream

        with open(target, "rb") as file:
            listing = list_stream(file, name=target)
        return listing.error is None and listing.raw_size == os.path.getsize(path)

    def run(
        self,
        source: str | IO[bytes],
        target: str | IO[bytes],
        *,
        force: bool,
        remove: bool,
        progress: Progress | None,
    ) -> Summary:
        """Compress one input."""
        from kolmo.archive.files import compress_file

        return compress_file(
            source,
            target,
            self.predictor,
            block_size=self.block_size,
            threads=self.threads,
            store_name=self.names,
            force=force,
            remove=remove,
            progress=progress,
        )


@click.command("compress", cls=LevelCommand)
@options.levels
@click.option("-d", "--decompress", "reverse", is_flag=True, help="Do what kolmo decompress does.")
@click.option("-m", "--predictor", metavar="SPEC", help="Predictor in place of a level, like cm:9 or network:FOLDER.")
@click.option(
    "--block-size",
    callback=options.parse_size,
    default="8M",
    show_default=True,
    metavar="SIZE",
    help="Bytes that decode on their own, at most 1G.",
)
@click.option("--name", "names", is_flag=True, help="Store name, time and mode (with -d: use them).")
@options.language_model_files
@options.language_models
@click.option("--no-verify", is_flag=True, help="Language models: encode in batched passes, not on the decoder's way.")
@writing_options
def command(
    *,
    reverse: bool,
    predictor: str | None,
    block_size: int,
    names: bool,
    dtype: str | None,
    context: int | None,
    chunk: int | None,
    memory_tokens: int | None,
    tolerance: str | float | None,
    device: str | None,
    batch: int | None,
    no_verify: bool,
    level: int | None = None,
    **shared: Any,
) -> int:
    """Compress FILES, each to FILE.kmo; inputs are kept.

    Without FILES, and for -, standard input goes to standard output. In folders (-r), an input whose output is there
    already, no older and of its size, counts as done, so that an archive job can be repeated; -u renews older outputs.
    """
    job = Writing(**shared)
    settings = options.run_settings(device=device, batch=batch, verify=False if no_verify else None)
    if reverse:
        from kolmo.cli.decompress import MEMORY, Decompress

        return each_file(job, Decompress(names, job.threads, MEMORY, settings=settings))
    if block_size > MAX_BLOCK:
        raise click.UsageError(f"--block-size {block_size} is too large; at most 1G is possible")
    given = {"dtype": dtype, "context": context, "chunk": chunk, "tolerance": tolerance, "memory_tokens": memory_tokens}
    chosen = options.chosen_predictor(predictor, level, settings, **given)
    return each_file(job, Compress(chosen, block_size, names, job.threads))
