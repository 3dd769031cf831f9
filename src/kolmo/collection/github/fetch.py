"""The stage that fetches repositories and brings in their files, a few repositories a shard.

A repository counts as a whole: its files go on when all of them have been read. So a fetch that breaks off leaves no
part of a repository in the corpus.

What it is not: it does not decide which files stay (see `filters`).
"""

from __future__ import annotations

import json
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import islice

from kolmo.collection.document import from_line, to_line
from kolmo.collection.fetching import Fetcher
from kolmo.collection.github.exact_duplicates import record
from kolmo.collection.github.files import source_files
from kolmo.collection.github.git import Commit, GitError, Limits, fetched
from kolmo.collection.github.languages import Language
from kolmo.collection.github.search import Repository
from kolmo.collection.pipelines import Access
from kolmo.collection.stages import Shard, Work
from kolmo.corpus.documents import Document
from kolmo.errors import KolmoError
from kolmo.foreign import short

SEARCH, FETCH = "search", "fetch"  # stages
REPOSITORIES = "repositories.jsonl"  # file of the stage `search`
DIGESTS = "digests.bin"  # file of each shard of `fetch`: a record of `exact_duplicates` a document
REPOSITORIES_PER_SHARD = 20
HELD_BYTES = 32 << 20  # of a repository's files in memory; more of them wait on the disk
TRIES = 4  # of a fetch that failed for a reason that may pass
UNREACHABLE = "git_unreachable"
PASSING = ("git_failed", UNREACHABLE)
PROTOCOLS = ("https", "http", "file")


@dataclass(frozen=True)
class RepositorySource:
    """Where repositories are fetched from.

    Attributes:
        base: address before a repository's name.
        limits: of one repository.
        pause: seconds before a fetch is tried again; doubled before each further try.
    """

    base: str = "https://github.com"
    limits: Limits = field(default_factory=Limits)
    pause: float = 10.0

    def __post_init__(self) -> None:
        if self.base.partition("://")[0] not in PROTOCOLS:
            raise KolmoError(f"{short(self.base)}: is not an address that begins with https://; correct it")

    def url(self, name: str) -> str:
        """The address of a repository.

        >>> Source().url("owner/name")
        'https://github.com/owner/name.git'
        """
        return f"{self.base.rstrip('/')}/{name}.git"

    @contextmanager
    def commit(self, name: str, oid: str, scratch: str, fetcher: Fetcher) -> Iterator[Commit]:
        """A commit of a repository, for as long as the context lasts.

        Args:
            name: owner and name.
            oid: of the commit.
            scratch: folder for temporary folders.
            fetcher: says when the host may be asked next.

        Raises:
            GitError: it cannot be had; what may pass was tried again.
            KolmoError: the host cannot be reached, which is not the repository's fault.
        """
        protocols = (self.base.partition("://")[0],)
        with ExitStack() as stack:
            for attempt in range(1, TRIES + 1):
                if protocols != ("file",):
                    fetcher.wait_turn(self.base)
                try:
                    found = stack.enter_context(fetched(self.url(name), oid, self.limits, scratch, protocols))
                    break
                except GitError as error:
                    if attempt == TRIES and error.reason == UNREACHABLE:
                        raise KolmoError(f"{short(self.base)}: {error}; run it again later, it goes on there") from None
                    if error.reason not in PASSING or attempt == TRIES:
                        raise
                time.sleep(self.pause * 2 ** (attempt - 1))
            yield found


@dataclass(frozen=True)
class RepositoryShards:
    """Which repositories a shard has: so many of them, in the order of the search.

    Attributes:
        each: repositories of a shard. No output depends on it but the number of files of the stages.
    """

    each: int = REPOSITORIES_PER_SHARD

    def __call__(self, work: Work) -> int:
        """How many shards there are."""
        with open(work.file(SEARCH, 0, REPOSITORIES), "rb") as file:
            return -(-sum(1 for _ in file) // self.each)

    def read(self, work: Work, index: int) -> Iterator[Repository]:
        """The repositories of a shard."""
        with open(work.file(SEARCH, 0, REPOSITORIES), "rb") as file:
            for line in islice(file, index * self.each, (index + 1) * self.each):
                yield Repository(**json.loads(line))


@dataclass(frozen=True)
class FetchFiles:
    """Brings in the source files of the shard's repositories."""

    language: Language
    source: RepositorySource
    shards: RepositoryShards
    access: Access
    name: str = "files"

    def run(self, documents: Iterable[Document], shard: Shard) -> Iterator[Document]:
        """The files of each repository, in the order of their paths.

        Counts repositories under `fetch` and files under `files`.
        """
        yield from documents
        fetcher = self.access.fetcher()
        with open(shard.output(DIGESTS), "wb") as digests:
            for repository in self.shards.read(shard.work, shard.index):
                shard.counts.take(FETCH)
                with tempfile.SpooledTemporaryFile(HELD_BYTES) as held:
                    reason, dropped = self._hold(repository, held, shard.scratch, fetcher)
                    if reason is not None:
                        shard.counts.drop(FETCH, reason)
                        continue
                    for why, count in sorted(dropped.items()):
                        shard.counts.lose(self.name, why, count)
                    held.seek(0)
                    for line in held:
                        keys, _, rest = line.partition(b" ")
                        digests.write(bytes.fromhex(keys.decode()))
                        shard.counts.take(self.name)
                        yield from_line(rest)

    def _hold(
        self, repository: Repository, held: tempfile.SpooledTemporaryFile[bytes], scratch: str, fetcher: Fetcher
    ) -> tuple[str | None, Counter[str]]:
        """Write a repository's files as lines, each after its digests; why it cannot be read, and files dropped."""
        dropped: Counter[str] = Counter()
        try:
            with self.source.commit(repository.name, repository.commit, scratch, fetcher) as commit:
                for file in source_files(commit, self.language, dropped):
                    name, meta = f"{repository.name}/{file.path}", meta_of(repository, file.path)
                    line = to_line(Document(file.content, self.language.subset, name, meta))
                    held.write(record(file.digest, file.squeezed).hex().encode() + b" " + line)
        except GitError as error:
            return error.reason, dropped
        return None, dropped


def meta_of(repository: Repository, path: str) -> dict[str, object]:
    """What is kept of a file beside its content."""
    return {
        "repository": repository.name,
        "path": path,
        "licence": repository.licence,
        "stars": repository.stars,
        "created": repository.created,
        "pushed": repository.pushed,
        "commit": repository.commit,
    }
