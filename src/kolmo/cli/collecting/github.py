"""`kolmo collect github`: source files of repositories on GitHub."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from kolmo.cli import options
from kolmo.cli.collecting.shared import Run, carry_out, collecting
from kolmo.errors import KolmoError

if TYPE_CHECKING:
    from kolmo.collection.github.pipeline import GitHub


@click.command("github")
@click.option("--language", default="python", show_default=True, metavar="NAME", help="Of 30 in a table.")
@click.option(
    "--min-stars", type=click.IntRange(min=0), default=10, show_default=True, help="Of a repository, at least."
)
@click.option("--tokenizer", metavar="FILE", type=options.PATH, help="tokenizer.json; default: CodeParrot's if here.")
@click.option(
    "--repository-seconds",
    type=click.IntRange(min=1),
    default=300,
    show_default=True,
    help="For a repository, at most.",
)
@click.option(
    "--repository-size",
    callback=options.parse_size,
    default="1000000000",
    show_default=True,
    metavar="SIZE",
    help="Of a fetched commit, packed, at most.",
)
@click.option(
    "--api-url", default="https://api.github.com/graphql", show_default=True, metavar="URL", help="Of the search."
)
@click.option("--base-url", default="https://github.com", show_default=True, metavar="URL", help="Of repositories.")
@collecting
def command(
    *,
    run: Run,
    language: str,
    min_stars: int,
    tokenizer: str | None,
    repository_seconds: int,
    repository_size: int,
    api_url: str,
    base_url: str,
) -> int:
    """Collect source files of GitHub's repositories that were created since a day.

    The token for the search is GITHUB_TOKEN or GH_TOKEN of the environment; repositories are fetched without one. Of
    files that are equal, or nearly, one stays; what was generated, is configuration or a test, is mostly dropped.
    """
    from kolmo.collection.github.languages import language_of

    try:
        chosen = language_of(language)
    except KolmoError as error:
        raise click.UsageError(str(error)) from None

    def make() -> GitHub:
        from kolmo.collection.github.fetch import RepositorySource
        from kolmo.collection.github.git import Limits
        from kolmo.collection.github.pipeline import GitHub
        from kolmo.collection.github.tokens import find_tokenizer

        return GitHub(
            run.access("github"),
            run.since,
            run.until_of("github", chosen.subset),
            language=chosen,
            min_stars=min_stars,
            seed=run.seed,
            tokenizer=find_tokenizer(tokenizer),
            api=api_url,
            source=RepositorySource(base_url, Limits(seconds=float(repository_seconds), disk=repository_size)),
        )

    return carry_out(run, [make], ["github"])
