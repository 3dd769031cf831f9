"""The pipeline `arxiv`: the stages from the archive's tar files to Markdown, and from the recipe to the same Markdown.

    listing    which tar files of sources           metadata   titles, categories, dates by identifier
    sources    papers of mathematics as one TeX     markdown   by pandoc, else by pylatexenc
               text each, a shard a tar file

What it is not: the steps; see `steps`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from io import BytesIO
from itertools import groupby
from typing import Any
from urllib.parse import urlsplit

from kolmo.collection.arxiv import harvest, steps
from kolmo.collection.arxiv.ids import parse_id
from kolmo.collection.arxiv.markdown import HEAP_BYTES, PANDOC_SECONDS, Converter
from kolmo.collection.arxiv.source_list import SourceTar
from kolmo.collection.arxiv.steps import Days
from kolmo.collection.arxiv.storage import BUCKET, Archive, GoneError
from kolmo.collection.arxiv.tar_members import FileReader, TarError, TarMembers, TarReader
from kolmo.collection.arxiv.unpacking import UnusableError
from kolmo.collection.fetching import FetchError
from kolmo.collection.manifest import ManifestEntry
from kolmo.collection.pipelines import Access, Missing, Plan
from kolmo.collection.stages import Stage, Work, read_json
from kolmo.errors import KolmoError

USD_PER_GB = 0.09  # of data that leaves S3, about; free within the bucket's region, us-east-1
PAPER_SERVERS = ("e-print", "src")  # last part of the address of a server that has papers one by one
MAX_PAPER_BYTES = 256 << 20  # of a paper's source from such a server


@dataclass(frozen=True)
class ArXiv:
    """Papers of mathematics. See `Pipeline` for what the methods do.

    Attributes:
        access: to the network.
        url: of the archive: a bucket, another URL of fsspec, a server, a folder.
        snapshots: files of metadata in JSON lines; none: the metadata comes from `server`.
        server: address of the OAI-PMH interface.
        since, until: days on which the papers were first submitted.
        limit: tar files at most, the oldest ones; None: all.
        seconds, heap: limits of pandoc for a paper: processor time, bytes.
        keeps_downloads: whether tar files stay in the cache when they were read.
    """

    access: Access
    url: str = BUCKET
    snapshots: tuple[str, ...] = ()
    server: str = harvest.SERVER
    since: str | None = None
    until: str | None = None
    limit: int | None = None
    seconds: int = PANDOC_SECONDS
    heap: int = HEAP_BYTES
    keeps_downloads: bool = False
    archive: Archive = field(init=False, repr=False)
    days: Days = field(init=False, repr=False)

    name = "arxiv"
    packages = ("charset-normalizer", "datatrove", "pylatexenc", "pypandoc_binary")

    def __post_init__(self) -> None:
        object.__setattr__(self, "archive", Archive(self.url, self.access))
        object.__setattr__(self, "days", Days(self.since, self.until))

    @classmethod
    def usual(cls, access: Access, since: str | None, until: str | None, seed: int) -> ArXiv:
        """The pipeline as `kolmo collect all` runs it. Nothing in it is left to chance, so the seed has no effect."""
        return cls(access, since=since, until=until)

    @classmethod
    def of_manifest(cls, settings: Mapping[str, Any], access: Access, places: Mapping[str, Any]) -> ArXiv:
        """The pipeline that rebuilds.

        Args:
            settings: of the manifest.
            access: to the network.
            places: `base_url`: of the archive, or of a server that has papers one by one, such as
                https://export.arxiv.org/e-print. `files`: a folder, or one of its tar files.
        """
        files = places.get("files") or ()
        url = str(places.get("base_url") or "")
        if files:
            first = str(files[0])
            url = first if os.path.isdir(first) else os.path.dirname(first) or "."
            if os.path.basename(url) == "src":
                url = os.path.dirname(url) or "."
        seconds, heap = settings.get("pandoc_seconds"), settings.get("pandoc_heap_bytes")
        return cls(
            access,
            url or BUCKET,
            seconds=seconds if isinstance(seconds, int) else PANDOC_SECONDS,
            heap=heap if isinstance(heap, int) else HEAP_BYTES,
        )

    def settings(self) -> dict[str, Any]:
        """See `Pipeline`."""
        return {
            "archive": "a folder" if self.archive.is_local else self.url,
            "metadata": [os.path.basename(path) for path in self.snapshots] or self.server,
            "since": self.since,
            "until": self.until,
            "tar_limit": self.limit,
            "pandoc_seconds": self.seconds,
            "pandoc_heap_bytes": self.heap,
        }

    def plan(self) -> Plan:
        """See `Pipeline`."""
        chosen = [tar for tar in self.archive.tars() if self.days.why_not_month(tar.month) is None][: self.limit]
        size = sum(tar.size or 0 for tar in chosen)
        papers = sum(tar.items or 0 for tar in chosen)
        months = f" of the months {chosen[0].yymm} to {chosen[-1].yymm}" if chosen else ""
        lines = [f"arxiv: {len(chosen)} tar files{months}, {papers:,} papers of all fields, from {self._place()}"]
        details: dict[str, Any] = {
            "tars": [tar.record() for tar in chosen],
            "papers": papers,
            "settings": self.settings(),
        }
        if self.url.startswith("s3://"):
            cost = size / 1e9 * USD_PER_GB
            details["requester_pays_usd"] = round(cost, 2)
            lines.append(f"arxiv: the requester pays: {size:,} bytes, about {cost:,.2f} USD outside us-east-1")
        metadata = ", ".join(map(os.path.basename, self.snapshots)) or f"{self.server}, a page each three seconds"
        lines.append(f"arxiv: metadata from {metadata}")
        local = self.archive.is_local
        requests = 0 if local else 1 + len(chosen)
        return Plan(tuple(lines), requests, 0 if local else size, details)

    def stages(self, work: Work) -> list[Stage]:
        """See `Pipeline`."""
        for path in self.snapshots:
            if not os.path.isfile(path):
                raise KolmoError(f"{path}: is not a file; name a snapshot of arXiv's metadata in JSON lines")
        metadata = steps.ReadMetadata(self.snapshots, self.server, self.days, self.access)
        papers = steps.ReadPapers(self.archive, self.days, self.keeps_downloads)
        listing = steps.ListTars(self.archive, self.days, self.limit)
        return [
            Stage(steps.LISTING, [listing], 1, keeps_documents=False),
            Stage(steps.METADATA, [metadata], 1, keeps_documents=False),
            Stage(steps.SOURCES, [papers], lambda work: len(steps.listed_tars(work))),
            Stage(steps.MARKDOWN, [steps.ToMarkdown(self.seconds, self.heap)]),
        ]

    def sources(self, work: Work) -> Iterator[Mapping[str, Any]]:
        """See `Pipeline`."""
        yield from read_json(work.file(steps.METADATA, 0, steps.READ)) or ()
        for index in range(work.shards(steps.SOURCES)):
            yield from read_json(work.file(steps.SOURCES, index, steps.READ)) or ()

    def notes(self, work: Work) -> dict[str, Any]:
        """See `Pipeline`."""
        return {
            "version": "the newest version on the day when the tar file was packed, by the days of the metadata",
            "category": "the part of the primary category before its dot is math; math-ph is not",
            "converter": "pandoc; pylatexenc where pandoc failed (see `converter` of each document)",
            "limits": f"pandoc may take {self.seconds} s of processor time and {self.heap} bytes of heap for a paper",
        }

    def rebuild(self, entries: Iterable[ManifestEntry], work: Work) -> Iterator[str | Missing]:
        """See `Pipeline`. From a server of papers each is fetched by identifier and version, else from its tar file."""
        with Converter(self.seconds, self.heap) as convert:
            for source, group in groupby(entries, lambda entry: str(entry.meta.get("source", ""))):
                if self._has_papers():
                    yield from (self._from_server(entry, convert) for entry in group)
                else:
                    yield from self._from_tar(source, list(group), convert)

    def _from_server(self, entry: ManifestEntry, convert: Converter) -> str | Missing:
        identifier = parse_id(str(entry.meta.get("id", "")))
        if identifier is None:
            return Missing(entry, "the entry has no identifier")
        url = f"{self.url.rstrip('/')}/{identifier.name}v{entry.meta.get('version')}"
        try:
            data = self.access.fetcher().get(url, largest=MAX_PAPER_BYTES).data
        except FetchError as error:
            if error.status in (403, 404, 410):
                return Missing(entry, f"the paper is gone (HTTP {error.status})")
            raise
        return _content(entry, _Bytes(data), f"{identifier.name.replace('/', '')}.gz", convert)

    def _from_tar(self, source: str, wanted: list[ManifestEntry], convert: Converter) -> Iterator[str | Missing]:
        if SourceTar.of_name(source) is None:
            yield from (Missing(entry, "the entry names no tar file") for entry in wanted)
            return
        try:
            path = self.archive.fetch(source)
        except GoneError:
            yield from (Missing(entry, f"{source} is gone") for entry in wanted)
            return
        contents: dict[str, str | Missing] = {}
        left = {str(entry.meta.get("id")): entry for entry in wanted}
        with open(path, "rb") as file, suppress(TarError):
            members = TarMembers(FileReader(file))
            for member in members:
                identifier = steps.member_id(member.name)
                if identifier is not None and (entry := left.pop(identifier.name, None)) is not None:
                    contents[identifier.name] = _content(entry, members.part(), member.name, convert)
        for entry in wanted:
            name = str(entry.meta.get("id"))
            found = contents.pop(name) if name in contents else Missing(entry, f"the paper is not in {source}")
            yield found
        if not self.keeps_downloads:
            self.archive.forget(source)

    def _has_papers(self) -> bool:
        return urlsplit(self.url).scheme in ("http", "https") and self.url.rstrip("/").endswith(PAPER_SERVERS)

    def _place(self) -> str:
        return "a folder" if self.archive.is_local else self.url


class _Bytes:
    """Bytes as a reader."""

    def __init__(self, data: bytes) -> None:
        self._file = BytesIO(data)

    def read(self, size: int, /) -> bytes:
        return self._file.read(size)

    def skip(self, size: int, /) -> int:
        return len(self._file.read(size))


def _content(entry: ManifestEntry, source: TarReader, name: str, convert: Converter) -> str | Missing:
    try:
        done = convert(steps.read_tex(source, name).text)
    except UnusableError as error:
        return Missing(entry, f"the source is another: {error.why}")
    return done.text if done.converter else Missing(entry, "the source cannot be converted")
