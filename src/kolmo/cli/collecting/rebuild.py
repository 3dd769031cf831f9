"""`kolmo collect rebuild`: the same files again, from the recipe of a manifest."""

from __future__ import annotations

import os

import click

from kolmo.cli import options
from kolmo.cli.collecting import shared
from kolmo.cli.console import Console
from kolmo.foreign import short

NAMED = 10  # documents that messages name without -v


@click.command("rebuild")
@options.output("Folder of the corpus.", default="rebuilt", show_default=True)
@click.option("--file", "files", multiple=True, metavar="FILE", type=options.PATH, help="A source's file that is here.")
@click.option("--base-url", metavar="URL", help="Where the sources are; default: where the pipeline finds them.")
@click.option("--cache", metavar="DIR", help="Where downloads are kept.")
@shared.contact
@shared.rate
@options.quiet
@options.verbose
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
@click.argument("manifest", metavar="MANIFEST", type=options.PATH)
def command(
    *,
    manifest: str,
    output: str,
    files: tuple[str, ...],
    base_url: str | None,
    cache: str | None,
    contact: str | None,
    rate: float,
    quiet: bool,
    verbose: bool,
    as_json: bool,
) -> int:
    """Make the corpus of a MANIFEST again, by its recipe.

    Status 1 where a document or a file is not the same; what is missing is named.
    """
    from kolmo.collection.pipelines import Access
    from kolmo.collection.rebuilding import HIDDEN, REBUILD, rebuild

    console = Console(quiet, verbose, as_json)
    with console.guarded(manifest):
        folder = cache or os.path.join(output, HIDDEN, REBUILD, "cache")
        access = Access(os.path.abspath(folder), contact, rate)
        done = rebuild(manifest, output, access, {"files": files, "base_url": base_url})
        for place, why in done.missing if verbose else done.missing[:NAMED]:
            console.warn(f"{short(place, 200)}: {why}")
        if not done.is_same:
            console.status = 1
            console.say(
                f"{manifest}: {done.missing_count} documents could not be made again, {len(done.different)} files are "
                f"different; the others are in {output}"
            )
        console.line(f"{output}: {done.documents} documents, {len(done.files)} files with the manifest's SHA-256")
        if as_json:
            console.record({**vars(done), "same": done.is_same})
    return console.status
