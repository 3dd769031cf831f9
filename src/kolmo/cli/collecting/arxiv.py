"""`kolmo collect arxiv`: papers of mathematics from arXiv."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from kolmo.cli import options
from kolmo.cli.collecting.shared import Run, carry_out, collecting

if TYPE_CHECKING:
    from kolmo.collection.arxiv.pipeline import ArXiv


@click.command("arxiv")
@click.option(
    "--archive",
    default="s3://arxiv",
    show_default=True,
    metavar="URL",
    help="Where src/ with the tar files is: a bucket, another URL, or a folder.",
)
@click.option(
    "--metadata",
    "snapshots",
    multiple=True,
    metavar="FILE",
    type=options.PATH,
    help="Snapshot of arXiv's metadata, JSON lines; default: ask the OAI-PMH server.",
)
@click.option(
    "--oai-url",
    default="https://oaipmh.arxiv.org/oai",
    show_default=True,
    metavar="URL",
    help="The OAI-PMH server.",
)
@click.option("--tars", type=click.IntRange(min=1), metavar="N", help="Tar files at most, the oldest ones.")
@click.option(
    "--pandoc-seconds",
    type=click.IntRange(min=1),
    default=60,
    show_default=True,
    metavar="N",
    help="Most seconds of processor time for a paper; then the fallback.",
)
@click.option(
    "--pandoc-memory",
    callback=options.parse_size,
    default="1G",
    show_default=True,
    metavar="SIZE",
    help="Largest heap for a paper; then the fallback.",
)
@collecting
def command(
    *,
    run: Run,
    archive: str,
    snapshots: tuple[str, ...],
    oai_url: str,
    tars: int | None,
    pandoc_seconds: int,
    pandoc_memory: int,
) -> int:
    """Collect papers of mathematics from arXiv, as Markdown.

    The bucket's requester pays: --dry-run tells the bytes. Keys come from the environment (AWS_ACCESS_KEY_ID ...).
    """

    def make() -> ArXiv:
        from kolmo.collection.arxiv.pipeline import ArXiv

        return ArXiv(
            run.access("arxiv"),
            archive,
            snapshots,
            oai_url,
            since=run.since,
            until=run.until_of("arxiv"),
            limit=tars,
            seconds=pandoc_seconds,
            heap=pandoc_memory,
            keeps_downloads=run.cache is not None,
        )

    return carry_out(run, [make], ["arxiv"])
