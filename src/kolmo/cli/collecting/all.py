"""`kolmo collect all`: the three pipelines with their usual settings, one after the other."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import click

from kolmo.cli.collecting.shared import Run, carry_out, collecting

if TYPE_CHECKING:
    from kolmo.collection.pipelines import CollectionPipeline

NAMES = ("cc", "github", "arxiv")


@click.command("all")
@collecting
def command(*, run: Run) -> int:
    """Collect from Common Crawl, GitHub and arXiv.

    Each has its usual settings. One that fails does not stop the others.
    """

    def make(name: str) -> CollectionPipeline:
        from kolmo.collection.pipelines import pipeline_class

        return pipeline_class(name).usual(run.access(name), run.since, run.until_of(name), run.seed)

    return carry_out(run, [partial(make, name) for name in NAMES], NAMES)
