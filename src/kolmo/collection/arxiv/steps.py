"""The steps of the pipeline `arxiv`: which tar files, metadata, papers as one TeX text each, Markdown.

What it is not: the order in which they run; see `pipeline`.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import IO, Any

from kolmo.collection.arxiv import main_file, metadata
from kolmo.collection.arxiv.encodings import Decoded, declared, decode
from kolmo.collection.arxiv.harvest import RATE, Harvest
from kolmo.collection.arxiv.ids import ArxivId, month_of, month_of_day, parse_id
from kolmo.collection.arxiv.markdown import HEAP_BYTES, PANDOC_SECONDS, Converter
from kolmo.collection.arxiv.metadata import Paper, PaperTable
from kolmo.collection.arxiv.source_list import SourceTar, tar_of
from kolmo.collection.arxiv.storage import Archive
from kolmo.collection.arxiv.tar_members import FileReader, TarError, TarMembers, TarReader
from kolmo.collection.arxiv.tex.flattening import flatten
from kolmo.collection.arxiv.unpacking import UnusableError, unpack
from kolmo.collection.extras import extra
from kolmo.collection.pipelines import Access
from kolmo.collection.stages import Shard, Work, read_json
from kolmo.corpus.documents import Document
from kolmo.corpus.writing import file_digest
from kolmo.errors import KolmoError

SUBSET = "arxiv_math"
LISTING, METADATA, SOURCES, MARKDOWN = "listing", "metadata", "sources", "markdown"  # stages
TARS, PAPERS, READ = "tars.json", "papers.sqlite", "read.json"  # their files
MAX_RECORD_BYTES = 4 << 20  # of a line of the snapshot
FIRST_ID = re.compile(rb'\{"id": ?"(\d\d(?:0[1-9]|1[0-2]))\.\d{4,5}"')  # how the lines of a snapshot begin
WITHDRAWN = "%auto-ignore"  # first words of what arXiv keeps of a paper that was taken back


@dataclass(frozen=True)
class Days:
    """The days on which papers were first submitted.

    Attributes:
        since: first one; None: no bound.
        until: last one; None: no bound.
    """

    since: str | None = None
    until: str | None = None

    def why_not(self, day: str) -> str | None:
        """Why a paper of a day is dropped; None: it is not."""
        if not day and (self.since or self.until):
            return "no date"
        if self.since and day < self.since:
            return "before the first day"
        return "after the last day" if self.until and day > self.until else None

    def why_not_month(self, month: int) -> str | None:
        """The same of a month's tar files.

        An identifier is given when a paper is announced, so that those of the last days of a month belong to the next.
        """
        if self.since and month < month_of_day(self.since):
            return "before the first day"
        return "after the last day" if self.until and month > month_of_day(self.until) + 1 else None


@dataclass(frozen=True)
class ListTars:
    """Notes which tar files of the archive are to be read, in order of time."""

    archive: Archive
    days: Days
    limit: int | None = None
    name: str = "tar files"

    def run(self, documents: Iterable[Document], shard: Shard) -> Iterator[Document]:
        """See `Step`; there are no documents yet."""
        chosen: list[SourceTar] = []
        for tar in self.archive.tars():
            shard.counts.take(self.name)
            why = self.days.why_not_month(tar.month)
            if why is None and self.limit is not None and len(chosen) >= self.limit:
                why = "beyond the limit"
            if why is None:
                chosen.append(tar)
            else:
                shard.counts.drop(self.name, why)
        _write(shard, TARS, [tar.record() for tar in chosen])
        yield from ()


@dataclass(frozen=True)
class ReadMetadata:
    """Makes the table of papers: from snapshots, or from the OAI-PMH server where there is none."""

    snapshots: tuple[str, ...]
    server: str
    days: Days
    access: Access
    name: str = "metadata"

    def run(self, documents: Iterable[Document], shard: Shard) -> Iterator[Document]:
        """See `Step`; there are no documents yet."""
        months = {tar.month for tar in listed_tars(shard.work)}
        read: list[dict[str, Any]] = []
        papers = self._snapshots(months, shard, read) if self.snapshots else self._harvest(shard, read)
        PaperTable(shard.output(PAPERS)).write(self._of_months(papers, months, shard))
        _write(shard, READ, read)
        yield from ()

    def _of_months(self, papers: Iterable[Paper], months: set[int], shard: Shard) -> Iterator[Paper]:
        for paper in papers:
            shard.counts.take(self.name)
            identifier = parse_id(paper.id)
            if identifier is not None and identifier.month in months:
                yield paper
            else:
                shard.counts.drop(self.name, "of another month")

    def _harvest(self, shard: Shard, read: list[dict[str, Any]]) -> Iterator[Paper]:
        from dataclasses import replace

        folder = os.path.join(self.access.cache, f"oai-{self.days.since or 'all'}")
        harvest = Harvest(self.server, self.days.since, folder)
        access = replace(self.access, rate=min(self.access.rate, RATE)) if _is_arxiv(self.server) else self.access
        yield from harvest.papers(access.fetcher())
        read += harvest.sources()

    def _snapshots(self, months: set[int], shard: Shard, read: list[dict[str, Any]]) -> Iterator[Paper]:
        loads = extra("orjson").loads
        for path in self.snapshots:
            with _opened(path) as file:
                while line := file.readline(MAX_RECORD_BYTES):
                    if not line.strip():
                        continue
                    if (match := FIRST_ID.match(line)) and month_of(match[1].decode()) not in months:
                        shard.counts.lose(self.name, "of another month")  # not worth parsing: most are
                        continue
                    try:
                        record = loads(line)
                        paper = metadata.paper_of(record) if isinstance(record, dict) else None
                    except ValueError:
                        paper = None
                    if paper is None:
                        shard.counts.lose(self.name, "damaged record")
                    else:
                        yield paper
            read.append({"url": os.path.basename(path), "bytes": os.path.getsize(path), "sha256": file_digest(path)})


@dataclass(frozen=True)
class ReadPapers:
    """The papers of a shard's tar file, each as one TeX text."""

    archive: Archive
    days: Days
    keeps_downloads: bool = False
    name: str = "papers"

    def run(self, documents: Iterable[Document], shard: Shard) -> Iterator[Document]:
        """See `Step`; the documents are made here."""
        tar = listed_tars(shard.work)[shard.index]
        shard.counts.take(self.name, 0)
        path = self.archive.fetch(tar.filename, tar.size, tar.md5)
        found = 0
        with open(path, "rb") as file, PaperTable(shard.input(METADATA, 0, PAPERS)) as table:
            members = TarMembers(FileReader(file))
            seen: set[str] = set()
            try:
                for member in members:
                    if member.kind == "folder":
                        continue
                    found += 1
                    shard.counts.take(self.name)
                    chosen = self._choose(member.name, member.kind, table, seen)
                    if isinstance(chosen, str):
                        shard.counts.drop(self.name, chosen)
                        continue
                    document = self._document(members.part(), member.name, chosen, tar, shard)
                    if document is not None:
                        yield document
                if not members.ended:
                    raise TarError("it ends between two members")
            except TarError:
                lost = max((tar.items or 0) - found, 1)
                shard.counts.lose(self.name, "damaged tar file of the archive", lost)
        source = {"url": tar.filename, "bytes": os.path.getsize(path), "sha256": file_digest(path)}
        _write(shard, READ, [{**source, "md5": tar.md5} if tar.md5 else source])
        if not self.keeps_downloads:
            self.archive.forget(tar.filename)

    def _choose(self, name: str, kind: str, table: PaperTable, seen: set[str]) -> Paper | str:
        """The paper of a member, or the reason to drop it."""
        identifier = member_id(name)
        if kind != "file" or identifier is None:
            return "not a paper"
        if identifier.name in seen:
            return "second copy"
        seen.add(identifier.name)
        paper = table.find(identifier.name)
        if paper is None:
            return "no metadata"
        if isinstance(paper, str):
            return "another category"
        if why := self.days.why_not(paper.created):
            return why
        return "PDF only" if name.lower().endswith(".pdf") else paper

    def _document(self, source: TarReader, name: str, paper: Paper, tar: SourceTar, shard: Shard) -> Document | None:
        try:
            tex = read_tex(source, name)
        except UnusableError as error:
            shard.counts.drop(self.name, error.why)
            return None
        for what, count in sorted(tex.tallies.items()):
            shard.counts.tally(self.name, what, count)
        version = paper.version_at(tar.packed)
        meta = {**paper.meta(version), "source": tar.filename, "encoding": tex.encoding}
        return Document(tex.text, SUBSET, f"{paper.id}v{version}", meta)


@dataclass(frozen=True)
class ToMarkdown:
    """Each paper's TeX as Markdown."""

    seconds: int = PANDOC_SECONDS
    heap: int = HEAP_BYTES
    name: str = "markdown"

    def run(self, documents: Iterable[Document], shard: Shard) -> Iterator[Document]:
        """See `Step`."""
        counts = shard.counts
        counts.take(self.name, 0)
        with Converter(self.seconds, self.heap) as convert:
            for document in documents:
                counts.take(self.name)
                done = convert(document.content)
                for failure in done.failures:
                    counts.tally(self.name, failure)
                if done.endless:
                    counts.tally(self.name, "endless macro taken out", done.endless)
                if not done.converter:
                    counts.drop(self.name, "cannot be converted")
                    continue
                counts.tally(self.name, f"by {done.converter}")
                yield Document(done.text, SUBSET, document.name, {**document.meta, "converter": done.converter})


@dataclass(frozen=True)
class PaperTex:
    """A paper as one text.

    Attributes:
        text: TeX.
        encoding: codecs of its files, joined by "+", the main file's first.
        tallies: files by how they were decoded, and what was left out.
    """

    text: str
    encoding: str
    tallies: Counter[str]


def read_tex(source: TarReader, name: str) -> PaperTex:
    """A paper's source as one text.

    Args:
        source: the bytes of a member of the archive.
        name: of the member, for a paper that is a single file.

    Raises:
        UnusableError: it is not TeX, or nobody can say which file is the paper.
    """
    identifier = member_id(name)
    paper = unpack(source, f"{identifier.name.replace('/', '') if identifier else 'paper'}.tex")
    if not any(path.lower().endswith(main_file.TEX_ENDINGS) for path in paper.files):
        raise UnusableError("no TeX file")
    decoded: dict[str, Decoded] = {}
    hint: str | None = None

    def text_of(path: str) -> str:
        if path not in decoded:
            decoded[path] = decode(paper.files[path], hint)
        return decoded[path].text

    main = main_file.main_file(sorted(paper.files), text_of)
    if main is None:
        raise UnusableError("no main file")
    hint = declared(paper.files[main])
    decoded.clear()  # others may have been decoded without the hint
    if text_of(main).lstrip().startswith(WITHDRAWN):
        raise UnusableError("withdrawn")
    flat = flatten(main, paper.files.keys(), text_of)
    if not flat.text.strip():
        raise UnusableError("empty")
    tallies = paper.tallies + flat.tallies
    used = dict.fromkeys(flat.included)
    for path in used:
        tallies[f"encoding {decoded[path].encoding} ({decoded[path].how})"] += 1
    return PaperTex(flat.text, "+".join(dict.fromkeys(decoded[path].encoding for path in used)), tallies)


def member_id(name: str) -> ArxivId | None:
    """The identifier that a member of a tar file is named by.

    >>> member_id("0001/math0001001.gz").name
    'math/0001001'
    """
    base = name.rpartition("/")[2]
    stem, dot, ending = base.rpartition(".")
    return parse_id(stem if dot and ending.lower() in ("gz", "pdf", "tar", "tex", "ps", "html", "docx") else base)


def listed_tars(work: Work) -> list[SourceTar]:
    """The tar files that `ListTars` has chosen."""
    return [tar_of(record) for record in read_json(work.file(LISTING, 0, TARS)) or ()]


def _opened(path: str) -> IO[bytes]:
    try:
        file = open(path, "rb")  # noqa: SIM115 -- the caller closes it
        magic = file.peek(2)[:2]
        return io.BufferedReader(gzip.GzipFile(fileobj=file), 1 << 17) if magic == b"\x1f\x8b" else file
    except OSError as error:
        raise KolmoError(f"{path}: {error.strerror}; name a snapshot of arXiv's metadata in JSON lines") from None


def _is_arxiv(server: str) -> bool:
    from urllib.parse import urlsplit

    host = urlsplit(server).hostname or ""
    return host == "arxiv.org" or host.endswith(".arxiv.org")


def _write(shard: Shard, name: str, value: Any) -> None:
    with open(shard.output(name), "w", encoding="utf-8") as file:
        json.dump(value, file, ensure_ascii=False)
