"""`kolmo decompress`: `.kmo` files and streams to their contents."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any

import click

from kolmo.cli import options
from kolmo.cli.inputs import SUFFIX
from kolmo.cli.writing import Writing, each_file, writing_options
from kolmo.errors import KolmoError
from kolmo.progress import Progress

if TYPE_CHECKING:
    from kolmo.archive.streams import Summary
    from kolmo.predictors.settings import RunSettings

MEMORY = 2 << 30


@dataclass(frozen=True)
class Decompress:
    """The verb: `each_file` calls it for every input."""

    names: bool
    threads: int
    memory: int
    max_size: int | None = None
    settings: RunSettings = field(default_factory=options.run_settings)
    packs: bool = False
    notes: tuple[str, ...] = ()

    def target(self, path: str) -> str:
        """FILE without .kmo, or the stored name where that is wanted and there is one.

        Raises:
            KolmoError: the name does not end in .kmo.
        """
        folder, name = os.path.split(path)
        if self.names and os.path.isfile(path):
            from kolmo.archive.files import peek_header, safe_name

            with open(path, "rb") as file:
                stored = safe_name(peek_header(file, path).name)
            if stored is not None:
                return os.path.join(folder, stored)
        if not name.endswith(SUFFIX) or name == SUFFIX:
            raise KolmoError(f"{path}: does not end in {SUFFIX}, so that its output has no name; use -o FILE or -c")
        return path[: -len(SUFFIX)]

    def total(self, path: str) -> int | None:
        """The content's size by the blocks' heads."""
        from kolmo.archive.listing import list_stream

        with open(path, "rb") as file:
            return list_stream(file).raw_size or None

    def matches(self, path: str, target: str) -> bool:
        """Whether `target` has as many bytes as the input's blocks."""
        from kolmo.archive.listing import list_stream

        with open(path, "rb") as file:
            listing = list_stream(file, name=path)
        return listing.error is None and listing.raw_size == os.path.getsize(target)

    def run(
        self,
        source: str | IO[bytes],
        target: str | IO[bytes],
        *,
        force: bool,
        remove: bool,
        progress: Progress | None,
    ) -> Summary:
        """Decompress one input."""
        from kolmo.archive.files import decompress_file

        return decompress_file(
            source,
            target,
            threads=self.threads,
            memory_limit=self.memory,
            size_limit=self.max_size,
            use_stored=self.names,
            force=force,
            remove=remove,
            progress=progress,
            settings=self.settings,
        )


@click.command("decompress")
@options.memory
@options.max_size
@click.option("--name", "names", is_flag=True, help="Use the stored name, time and mode.")
@options.language_models
@options.model_elsewhere
@writing_options
def command(
    *,
    memory: int,
    max_size: int | None,
    names: bool,
    device: str | None,
    batch: int | None,
    model: str | None,
    **shared: Any,
) -> int:
    """Decompress FILES, each FILE.kmo to FILE; inputs are kept.

    Without FILES, and for -, standard input goes to standard output. In folders (-r), an input whose output is there
    already, no older and of its size, counts as done; -u renews older outputs. Of a damaged file, the whole blocks
    before the damage are kept as FILE.partial.
    """
    job = Writing(**shared)
    settings = options.run_settings(device=device, batch=batch, model=model)
    return each_file(job, Decompress(names, job.threads, memory, max_size, settings))
