"""The pipeline `github`: its settings, stages, and how its documents are made again from a recipe.

What it is not: the work itself, which the modules beside this one do.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import date, datetime, timedelta, timezone
from itertools import groupby
from typing import Any

from kolmo.collection.fetching import Fetcher
from kolmo.collection.github import filters, heuristics, near_duplicates
from kolmo.collection.github.fetch import FETCH, REPOSITORIES, SEARCH, FetchFiles, RepositoryShards, RepositorySource
from kolmo.collection.github.files import LINK, MAX_FILE_BYTES, SUBMODULE, source_file
from kolmo.collection.github.git import Commit, GitError, Limits
from kolmo.collection.github.graphql import URL, GraphQL, place_of, token_of_environment
from kolmo.collection.github.languages import Language, language_of
from kolmo.collection.github.search import COMMIT, NAME, SearchWindow, preview, search
from kolmo.collection.github.tokens import find_tokenizer
from kolmo.collection.manifest import ManifestEntry
from kolmo.collection.pipelines import Access, Missing, Plan
from kolmo.collection.stages import Shard, Stage, Work
from kolmo.corpus.documents import Document
from kolmo.corpus.writing import file_digest
from kolmo.errors import KolmoError
from kolmo.foreign import printable

MIN_STARS = 10
FIRST_DAY = "2007-10-01"  # GitHub's first repository is of that month
MAX_SECONDS, MAX_DISK_BYTES = 3600.0, 16 << 30  # of a repository, that a manifest may ask for
JOURNAL = "journal.jsonl"  # of the search


@dataclass(frozen=True)
class Search:
    """Asks GitHub for the repositories, and writes them down in the order of their creation."""

    api: str
    language: str
    window: SearchWindow
    access: Access
    name: str = SEARCH

    def run(self, documents: Iterable[Document], shard: Shard) -> Iterator[Document]:
        """No document; a file of repositories. The token is read here, so it is in no pickled step."""
        yield from documents
        os.makedirs(shard.work.stage(shard.stage), exist_ok=True)
        journal = os.path.join(shard.work.stage(shard.stage), JOURNAL)
        with open(shard.output(REPOSITORIES), "w", encoding="utf-8") as file:
            for found in search(_server(self.api, self.access), self.language, self.window, journal):
                shard.counts.take(self.name, len(found.repositories))
                for reason, count in sorted(found.skipped.items()):
                    shard.counts.lose(self.name, reason, count)
                for repository in found.repositories:
                    file.write(json.dumps(asdict(repository)) + "\n")


@dataclass(frozen=True)
class GitHub:
    """Source files of repositories that were created in a span of days. See `Pipeline` for what the methods do.

    Attributes:
        access: to the network.
        since, until: first and last day, in UTC; None: no bound, and today.
        language: which files, and which repositories are searched.
        min_stars: of a repository.
        seed: of the heuristics that drop by chance.
        tokenizer: name and path of what counts tokens.
        api: address of the GraphQL interface.
        source: where repositories are fetched from.
        shards: how many repositories a task fetches.
    """

    access: Access
    since: str | None = None
    until: str | None = None
    language: Language = field(default_factory=lambda: language_of("python"))
    min_stars: int = MIN_STARS
    seed: int = 0
    tokenizer: tuple[str, str | None] = field(default_factory=find_tokenizer)
    api: str = URL
    source: RepositorySource = field(default_factory=RepositorySource)
    shards: RepositoryShards = field(default_factory=RepositoryShards)

    name = "github"
    packages = ("datatrove", "numpy", "rensa", "tokenizers")

    @classmethod
    def usual(cls, access: Access, since: str | None, until: str | None, seed: int) -> GitHub:
        """The pipeline as `kolmo collect all` runs it: Python."""
        return cls(access, since, until, seed=seed)

    @classmethod
    def of_manifest(cls, settings: Mapping[str, Any], access: Access, places: Mapping[str, Any]) -> GitHub:
        """The pipeline that rebuilds: repositories, commits and paths are in the recipe.

        Args:
            settings: of the manifest.
            access: to the network.
            places: `base_url`, before the names of repositories.
        """
        usual = Limits()
        limits = Limits(
            seconds=_within(settings.get("repository_seconds"), usual.seconds, MAX_SECONDS),
            disk=int(_within(settings.get("repository_bytes"), usual.disk, MAX_DISK_BYTES)),
        )
        return cls(
            access,
            tokenizer=("", None),
            source=RepositorySource(str(places.get("base_url") or RepositorySource.base), limits),
        )

    @property
    def subset(self) -> str:
        """The name of the documents' subset, by the language."""
        return self.language.subset

    @property
    def kept_files(self) -> dict[str, tuple[str, str]]:
        """The clusters of near duplicates join the output."""
        return {f"near-duplicates-{self.subset}.jsonl": (filters.EXTREMES, filters.CLUSTERS)}

    @property
    def window(self) -> SearchWindow:
        """All that is searched."""
        begin = _midnight(self.since or FIRST_DAY)
        end = _midnight(self.until or datetime.now(timezone.utc).date().isoformat()) + timedelta(days=1)
        if end <= begin:
            raise KolmoError(f"until ({self.until}) is before since ({self.since}); exchange them")
        return SearchWindow(int(begin.timestamp()), int(end.timestamp()), self.min_stars)

    def settings(self) -> dict[str, Any]:
        """See `Pipeline`."""
        return {
            "since": self.since,
            "until": self.until,
            "language": self.language.name,
            "min_stars": self.min_stars,
            "max_file_bytes": MAX_FILE_BYTES,
            "seed": self.seed,
            "tokenizer": self.tokenizer[0],
            "max_line": heuristics.MAX_LINE_CHARACTERS,
            "mean_line": heuristics.MAX_MEAN_LINE_CHARACTERS,
            "alphanumeric": heuristics.MIN_ALPHANUMERIC_FRACTION,
            "characters_per_token": heuristics.MIN_CHARACTERS_PER_TOKEN,
            "drop_probability": heuristics.DROP_PROBABILITY,
            "similarity": near_duplicates.MIN_SIMILARITY,
            "permutations": near_duplicates.PERMUTATIONS,
            "bands": [near_duplicates.BANDS, near_duplicates.ROWS],
            "repository_seconds": self.source.limits.seconds,
            "repository_bytes": self.source.limits.disk,
        }

    def plan(self) -> Plan:
        """See `Pipeline`. One request is made, where there is a token."""
        window = self.window
        line = f"search: {self.language.name}, fork:false {window.qualifiers()}"
        try:
            server = _server(self.api, self.access)
        except KolmoError as error:
            return Plan((line, f"repositories: not known ({error})"))
        count, mean = preview(server, self.language.name, window)
        size = int(count * mean * 1024)
        requests = -(-count // 50) + count
        lines = (
            line,
            f"repositories: {count:,}",
            f"to fetch: about {size / 1e9:,.1f} GB or less, by {requests:,} requests",
        )
        return Plan(lines, requests, size, {"repositories": count})

    def stages(self, work: Work) -> list[Stage]:
        """See `Pipeline`; `filters` says what each of them is."""
        window = self.window
        silent = {"keeps_documents": False, "reads_documents": False}
        filtering = [
            filters.DropExactDuplicates(),
            filters.DropByHeuristics(self.seed, self.tokenizer),
            filters.SignDocuments(),
        ]
        return [
            Stage(SEARCH, [Search(self.api, self.language.name, window, self.access)], shards=1, **silent),
            Stage(
                FETCH,
                [FetchFiles(self.language, self.source, self.shards, self.access)],
                shards=self.shards,
                reads_documents=False,
            ),
            Stage(filters.EXACT, [filters.FindExactDuplicates()], shards=1, **silent),
            Stage(filters.FILTER, filtering),
            Stage(filters.CANDIDATES, [filters.FindCandidates()], shards=1, **silent),
            Stage(filters.EXTREMES, [filters.ChooseExtremes()], shards=filters.extreme_shards_of, **silent),
            Stage(filters.NEAR, [filters.DropNearDuplicates()]),
        ]

    def sources(self, work: Work) -> Iterable[Mapping[str, Any]]:
        """See `Pipeline`: the list of repositories, by its digest."""
        path = work.file(SEARCH, 0, REPOSITORIES)
        with open(path, "rb") as file:
            count = sum(1 for _ in file)
        return [{"url": self.api, "repositories": count, "bytes": os.path.getsize(path), "sha256": file_digest(path)}]

    def notes(self, work: Work) -> dict[str, Any]:
        """See `Pipeline`."""
        return {
            "tokenizer": self.tokenizer[0],
            "near_duplicates": f"{near_duplicates.fingerprint()}; exact Jaccard similarity of token sets decides",
        }

    def rebuild(self, entries: Iterable[ManifestEntry], work: Work) -> Iterator[str | Missing]:
        """See `Pipeline`. Each file is from exactly the commit that the recipe names."""
        os.makedirs(work.folder, exist_ok=True)
        fetcher = self.access.fetcher()
        for (name, commit), group in groupby(entries, _origin):
            yield from self._again(name, commit, list(group), work.folder, fetcher)

    def _again(
        self, name: str, oid: str, entries: list[ManifestEntry], scratch: str, fetcher: Fetcher
    ) -> Iterator[str | Missing]:
        done = 0
        try:
            if not NAME.fullmatch(name) or not COMMIT.fullmatch(oid):
                raise GitError("git_failed", "the recipe names no repository and commit")
            with self.source.commit(name, oid, scratch, fetcher) as commit:
                for content in _contents(commit, entries):
                    yield content
                    done += 1
        except GitError as error:
            yield from (Missing(entry, f"{name} at {oid[:12]}: {error}") for entry in entries[done:])


def _contents(commit: Commit, entries: list[ManifestEntry]) -> Iterator[str | Missing]:
    wanted = {str(entry.meta.get("path")).encode("utf-8", "replace"): "" for entry in entries}
    for one in commit.entries():
        if one.path in wanted and one.mode not in (LINK, SUBMODULE):
            wanted[one.path] = one.oid
    oids = [wanted[str(entry.meta.get("path")).encode("utf-8", "replace")] for entry in entries]
    found = commit.contents([oid for oid in oids if oid], MAX_FILE_BYTES)
    for entry, oid in zip(entries, oids, strict=True):
        path = str(entry.meta.get("path"))
        made = source_file(path, next(found)) if oid else "not in the commit"
        yield Missing(entry, f"{path}: {made}") if isinstance(made, str) else made.content


def _origin(entry: ManifestEntry) -> tuple[str, str]:
    return str(entry.meta.get("repository")), str(entry.meta.get("commit"))


def _server(api: str, access: Access) -> GraphQL:
    place = place_of(api)
    token = token_of_environment()
    fetcher = replace(access, tries=1).fetcher({place: {"Authorization": f"Bearer {token}"}})
    return GraphQL(api, token, fetcher, say=_tell)


def _within(value: object, least: float, most: float) -> float:
    """A limit of a manifest, which nobody needs to trust."""
    return float(min(value, most)) if isinstance(value, int | float) and value >= least else least


def _tell(line: str) -> None:
    """Say why nothing happens for a while, where somebody watches."""
    if sys.stderr is not None and sys.stderr.isatty():
        print(f"kolmo: {printable(line)}", file=sys.stderr)


def _midnight(day: str) -> datetime:
    try:
        found = date.fromisoformat(day)
    except ValueError:
        raise KolmoError(f"{day}: is not a day; write it as 2026-10-01") from None
    return datetime(found.year, found.month, found.day, tzinfo=timezone.utc)
