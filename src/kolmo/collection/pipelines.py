"""What every pipeline offers, and which there are.

What it is not: the pipelines; each has a folder of its own, and is imported when it is asked for. Its command is in
cli/collecting/NAME.py: it makes the pipeline from its options and hands it to `shared.carry_out`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Protocol

from kolmo.collection.fetching import RATE, TIMEOUT_SECONDS, TRIES, Fetcher
from kolmo.collection.manifest import ManifestEntry
from kolmo.collection.stages import Stage, Work
from kolmo.errors import KolmoError
from kolmo.foreign import quoted

SUBSETS = {"cc": "cc", "github": "python", "arxiv": "arxiv_math"}  # pipeline to subset of its documents
CLASSES = {
    "cc": "kolmo.collection.common_crawl.pipeline:CommonCrawl",
    "github": "kolmo.collection.github.pipeline:GitHub",
    "arxiv": "kolmo.collection.arxiv.pipeline:ArXiv",
}


@dataclass(frozen=True)
class Access:
    """Manners on the network, and where downloads are kept. None of it determines what is collected.

    Attributes:
        cache: folder of downloads.
        contact: for the user agent; None: of the environment.
        rate: requests a second to one host.
        tries: requests for one answer.
        timeout: seconds for an answer, or the next MiB of a download.
        first_pause: seconds before the second try.
    """

    cache: str
    contact: str | None = None
    rate: float = RATE
    tries: int = TRIES
    timeout: float = TIMEOUT_SECONDS
    first_pause: float = 1.0

    def fetcher(self, secrets: Mapping[str, Mapping[str, str]] | None = None) -> Fetcher:
        """A fetcher; all of one cache folder share its pace. Made within a step's `run`, for it is not pickled."""
        return Fetcher(
            contact=self.contact,
            rate=self.rate,
            tries=self.tries,
            timeout=self.timeout,
            first_pause=self.first_pause,
            pace_folder=f"{self.cache}/pace",
            secrets=secrets,
        )


@dataclass(frozen=True)
class Plan:
    """What a run would do, without doing it.

    Attributes:
        lines: for people, one a line.
        requests: that would be made, about; None: not known before.
        download_bytes: that would be fetched, about; None: not known before.
        details: for --json.
    """

    lines: tuple[str, ...]
    requests: int | None = None
    download_bytes: int | None = None
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Missing:
    """An entry of a recipe whose content cannot be made again, and why."""

    entry: ManifestEntry
    why: str


class CollectionPipeline(Protocol):
    """One source of documents.

    Attributes:
        name: "cc", "github", "arxiv".
        since: first day of documents, "YYYY-MM-DD"; None: no bound.
        until: last day; None: no bound.
        packages: whose versions determine the bytes.
    """

    @property
    def name(self) -> str:
        """See above."""
        ...

    @property
    def since(self) -> str | None:
        """See above."""
        ...

    @property
    def until(self) -> str | None:
        """See above."""
        ...

    @property
    def packages(self) -> tuple[str, ...]:
        """See above."""
        ...

    @classmethod
    def usual(cls, access: Access, since: str | None, until: str | None, seed: int) -> CollectionPipeline:
        """The pipeline with the usual settings, as `kolmo collect all` runs it."""
        ...

    @classmethod
    def of_manifest(cls, settings: Mapping[str, Any], access: Access, places: Mapping[str, Any]) -> CollectionPipeline:
        """The pipeline that rebuilds what a manifest with these settings says.

        Args:
            settings: of the manifest.
            access: to the network.
            places: where sources are, if not at the usual address, by names of the pipeline's own.
        """
        ...

    def settings(self) -> dict[str, Any]:
        """All that determines the bytes, seed and thresholds among it, as JSON; no secret, no path of this machine."""
        ...

    def plan(self) -> Plan:
        """What a run would fetch; asks the network as little as possible and writes only to the cache."""
        ...

    def stages(self, work: Work) -> list[Stage]:
        """The stages; the documents of the last one that keeps some are the output, shard after shard.

        What the network says (a list of files, of repositories) is asked for in a stage, so that a run that goes on
        works with the same.
        """
        ...

    def sources(self, work: Work) -> Iterable[Mapping[str, Any]]:
        """What was read, for the manifest, in a fixed order; called when the stages have ended."""
        ...

    def notes(self, work: Work) -> dict[str, Any]:
        """How choices were made, for the manifest; called when the stages have ended."""
        ...

    def rebuild(self, entries: Iterable[ManifestEntry], work: Work) -> Iterator[str | Missing]:
        """The content of each entry of a recipe, in order.

        Args:
            entries: as the manifest has them; may be many, and is read once.
            work: a folder for what is temporary.
        """
        ...


def subset_of(pipeline: CollectionPipeline) -> str:
    """The subset of a pipeline's documents: its attribute `subset`, where it has one, or else the usual one."""
    return str(getattr(pipeline, "subset", SUBSETS[pipeline.name]))


def kept_files_of(pipeline: CollectionPipeline) -> Mapping[str, tuple[str, str]]:
    """Files of stages that join the output: the name there to stage and file, whose shards are put together.

    They are the attribute `kept_files` of a pipeline that has any.
    """
    found: Mapping[str, tuple[str, str]] = getattr(pipeline, "kept_files", {})
    return found


def pipeline_class(name: str) -> type[CollectionPipeline]:
    """The class of a pipeline, imported now.

    Raises:
        KolmoError: there is none of this name.
    """
    if name not in CLASSES:
        raise KolmoError(f"there is no pipeline {quoted(name)}; there are {', '.join(CLASSES)}")
    module, _, attribute = CLASSES[name].partition(":")
    found: type[CollectionPipeline] = getattr(import_module(module), attribute)
    return found
