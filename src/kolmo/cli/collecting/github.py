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
@click.option(
    "--language", default="python", show_default=True, metavar="NAME", help="Programming language, one of 30."
)
@click.option(
    "--min-stars",
    type=click.IntRange(min=0),
    default=10,
    show_default=True,
    metavar="N",
    help="Least number of stars of a repository.",
)
@click.option("--tokenizer", metavar="FILE", type=options.PATH, help="tokenizer.json; default: CodeParrot's if here.")
@click.option(
    "--repository-seconds",
    type=click.IntRange(min=1),
    default=300,
    show_default=True,
    metavar="N",
    help="Most seconds that a repository may take.",
)
@click.option(
    "--repository-size",
    callback=options.parse_size,
    default="1000000000",
    show_default=True,
    metavar="SIZE",
    help="Most bytes of a fetched commit, packed.",
)
@click.option(
    "--api-url", default="https://api.github.com/graphql", show_default=True, metavar="URL", help="Where the search is."
)
@click.option(
    "--base-url", default="https://github.com", show_default=True, metavar="URL", help="Where the repositories are."
)
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
    """Collect source files of new repositories on GitHub.

    Those count that were created since a day. The token for the search is GITHUB_TOKEN or GH_TOKEN of the environment;
    repositories are fetched without one. Of files that are equal, or nearly, one stays; what was generated, is
    configuration or a test, is mostly dropped.
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
