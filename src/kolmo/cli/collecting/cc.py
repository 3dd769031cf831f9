"""`kolmo collect cc`: web pages from Common Crawl."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from kolmo.cli import options
from kolmo.cli.collecting.shared import Run, carry_out, collecting

if TYPE_CHECKING:
    from kolmo.collection.common_crawl.pipeline import CommonCrawl

BUCKETS = ("head", "middle", "tail", "all")


@click.command("cc")
@click.option("--dump", metavar="YEAR-WEEK", help="Dump, such as 2026-40; default: the newest.")
@click.option("--source", type=click.Choice(["wet", "warc"]), default="wet", show_default=True, help="Text, or HTML.")
@click.option(
    "--segments",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    metavar="N",
    help="Files of the dump to read.",
)
@click.option(
    "--first",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    metavar="N",
    help="Number of the first of them.",
)
@click.option("--language", "languages", multiple=True, metavar="CODE", help="Keep it; default: en; all: every one.")
@click.option("--no-language", "unwanted", multiple=True, metavar="CODE", help="Do not keep it.")
@click.option(
    "--language-threshold",
    type=click.FloatRange(0, 1),
    default=0.5,
    show_default=True,
    metavar="P",
    help="Least probability of the language.",
)
@click.option(
    "--min-length",
    type=click.IntRange(min=1),
    default=300,
    show_default=True,
    metavar="N",
    help="Least number of characters of a document.",
)
@click.option(
    "--group",
    type=click.IntRange(min=1),
    default=18,
    show_default=True,
    metavar="N",
    help="Segments whose lines are compared.",
)
@click.option(
    "--bucket", "buckets", multiple=True, type=click.Choice(BUCKETS), help="Keep it; may be repeated; default: head."
)
@click.option("--scorer", default="neural:5", show_default=True, metavar="SPEC", help="Predictor that ranks documents.")
@click.option(
    "--scored-characters",
    type=click.IntRange(min=1),
    default=2000,
    show_default=True,
    metavar="N",
    help="Characters at a document's beginning that it scores.",
)
@click.option("--kenlm", metavar="DIR", type=options.PATH, help="KenLM models that rank documents instead.")
@click.option("--cutoffs", metavar="TABLE", type=options.PATH, help="Cut-offs of languages, CSV.")
@click.option(
    "--base-url", default="https://data.commoncrawl.org", show_default=True, metavar="URL", help="Where the data are."
)
@click.option(
    "--index-url",
    default="https://index.commoncrawl.org/collinfo.json",
    show_default=True,
    metavar="URL",
    help="List of the dumps.",
)
@collecting
@click.argument("files", nargs=-1, metavar="[FILES...]", type=options.PATH)
def command(
    *,
    run: Run,
    files: tuple[str, ...],
    dump: str | None,
    source: str,
    segments: int,
    first: int,
    languages: tuple[str, ...],
    unwanted: tuple[str, ...],
    language_threshold: float,
    min_length: int,
    group: int,
    buckets: tuple[str, ...],
    scorer: str,
    scored_characters: int,
    kenlm: str | None,
    cutoffs: str | None,
    base_url: str,
    index_url: str,
) -> int:
    """Collect web pages from Common Crawl.

    They come from a dump, or from WARC and WET FILES of your own. Lines that two pages share are dropped, the language
    is named, and the pages that read best are kept.
    """

    def make() -> CommonCrawl:
        from kolmo.collection.common_crawl.listing import Origin, own_files
        from kolmo.collection.common_crawl.perplexity import choose
        from kolmo.collection.common_crawl.pipeline import CommonCrawl

        own = own_files(files) if files else ()
        return CommonCrawl(
            run.access("cc"),
            Origin(dump, source, first, segments, own, base_url.rstrip("/"), index_url),
            since=run.since,
            until=run.until_of("cc"),
            seed=run.seed,
            languages=() if "all" in languages else languages or ("en",),
            unwanted=unwanted,
            threshold=language_threshold,
            min_length=min_length,
            group=group,
            buckets=buckets or ("head",),
            choice=choose(kenlm, cutoffs, scorer, scored_characters),
            keeps_downloads=run.cache is not None,
        )

    return carry_out(run, [make], ["cc"])
