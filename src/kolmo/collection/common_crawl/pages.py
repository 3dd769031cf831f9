"""Records of Common Crawl to documents: text records of WET files, HTML responses of WARC files.

The title leaves the content: of WET it is the first line, of HTML the element `title`. What it is not: a judge of
quality.
"""

from __future__ import annotations

import base64
import hashlib
import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import IO, Any
from urllib.parse import urlsplit

from kolmo.collection.common_crawl.archives import ArchiveRecord, parse_headers, read_records
from kolmo.collection.counts import Counts
from kolmo.collection.workers import LimitedWorker, LimitError
from kolmo.corpus.dates import day_of
from kolmo.corpus.documents import Document

STEP = "documents"
MIN_LENGTH = 300  # characters of a content
EXTRACTION = "kolmo.collection.common_crawl.extraction:extract"
EXTRACTION_SECONDS = 60.0  # of one page; deep nesting, which takes long, is refused before
EXTRACTION_BYTES = 3 << 30  # of address space
MAX_DEPTH = 2000  # elements within each other; extraction takes time as its square
MAX_HTML_BYTES = 16 << 20  # of a page, unpacked
HTML = ("text/html", "application/xhtml+xml")
TAG = re.compile(rb"<(/?)([a-zA-Z][a-zA-Z0-9]*)")
FLAT = frozenset(  # void elements, and those that the next of their kind closes
    b"area base br col embed hr img input link meta param source track wbr p li td th tr dt dd option thead tbody "
    b"tfoot colgroup optgroup html head body".split()
)


@dataclass
class Pages:
    """Makes documents of a file's records, and counts what it leaves out.

    Attributes:
        counts: of the step `documents`.
        segment: name of the file, for the meta.
        since, until: days; pages downloaded before or after are left out.
        min_length: characters of a content.
    """

    counts: Counts
    segment: str
    since: str | None = None
    until: str | None = None
    min_length: int = MIN_LENGTH
    only: Mapping[str, Any] | None = None  # (url, digest) of the pages that are wanted; None: all
    _worker: LimitedWorker | None = field(default=None, repr=False)

    def __enter__(self) -> Pages:
        return self

    def __exit__(self, *error: object) -> None:
        if self._worker is not None:
            self._worker.close()
            self._worker = None

    def read(self, file: IO[bytes]) -> Iterator[Document]:
        """The documents of a WET or WARC file, in order."""
        for record in read_records(file, lambda reason: self.counts.lose(STEP, reason)):
            kind = record.headers.get("warc-type", "").lower()
            if kind == "conversion":
                make = self._of_text
            elif kind == "response":
                make = self._of_response
            else:
                self.counts.tally(STEP, f"{kind or 'untyped'} records passed over")
                continue
            url = record.headers.get("warc-target-uri", "").strip("<>")
            digest = _digest(record)
            if self.only is not None and f"{url} {digest}" not in self.only:
                continue
            self.counts.take(STEP)
            made = self._dated(record) or make(record)
            if isinstance(made, str):
                self.counts.drop(STEP, made)
                continue
            title, content = made
            if len(content) < self.min_length:
                self.counts.drop(STEP, "short")
                continue
            yield self._document(record, url, digest, title, content)

    def _document(self, record: ArchiveRecord, url: str, digest: str, title: str, content: str) -> Document:
        lines = content.count("\n") + 1
        meta = {
            "url": url,
            "date_download": record.headers.get("warc-date", ""),
            "digest": digest,
            "source_domain": domain_of(url),
            "title": title,
            "language": "",
            "language_score": 0.0,
            "original_nlines": lines,
            "nlines": lines,
            "original_length": len(content),
            "length": len(content),
            "line_ids": list(range(lines)),
            "perplexity": None,
            "bucket": "all",
            "cc_segment": self.segment,
        }
        return Document(content, "cc", f"{url} {digest}", meta)

    def _dated(self, record: ArchiveRecord) -> str:
        """The reason why the day of the record is not wanted, or ""."""
        if self.since is None and self.until is None:
            return ""
        day = day_of({"date": record.headers.get("warc-date", "")})
        if not day:
            return "no date"
        if self.since is not None and day < self.since:
            return "before the first day"
        return "after the last day" if self.until is not None and day > self.until else ""

    def _of_text(self, record: ArchiveRecord) -> tuple[str, str] | str:
        title, _, content = record.block.decode("utf-8", "replace").replace("\0", "\ufffd").partition("\n")
        return title.strip(), content.removesuffix("\n")

    def _of_response(self, record: ArchiveRecord) -> tuple[str, str] | str:
        head, width = record.block.find(b"\r\n\r\n"), 4
        if head < 0:
            head, width = record.block.find(b"\n\n"), 2
        if head < 0 or not record.block.startswith(b"HTTP/"):
            return "not an HTTP answer"
        status = record.block[:head].split(None, 2)[1:2]
        if status != [b"200"]:
            return "HTTP status other than 200"
        headers = parse_headers(record.block[:head])
        kind, _, rest = headers.get("content-type", "").partition(";")
        if kind.strip().lower() not in HTML:
            return "not HTML"
        body = _unpacked(record.block[head + width :], headers)
        if isinstance(body, str):
            return body
        if is_deep(body):
            return f"HTML nested deeper than {MAX_DEPTH} elements"
        charset = re.search(r"charset\s*=\s*[\"']?([A-Za-z0-9_.:-]+)", rest, re.IGNORECASE)
        if self._worker is None:
            self._worker = LimitedWorker(EXTRACTION, seconds=EXTRACTION_SECONDS, memory=EXTRACTION_BYTES)
        try:
            text = self._worker((charset[1] if charset else "").encode() + b"\0" + body).decode("utf-8", "replace")
        except LimitError as error:
            return f"extraction: {error.why}"
        title, _, content = text.partition("\n")
        return title, content


def domain_of(url: str) -> str:
    """The host that a URL names, or "" where it names none.

    >>> domain_of("https://a.test:80/x")
    'a.test'
    """
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def is_deep(html: bytes) -> bool:
    """Whether elements are nested more deeply than MAX_DEPTH, roughly; the same answer on every machine."""
    if html.count(b"<") <= MAX_DEPTH:
        return False
    depth = 0
    for closing, name in TAG.findall(html):
        if name.lower() in FLAT:
            continue
        depth += -1 if closing else 1
        if depth < 0:
            depth = 0
        elif depth > MAX_DEPTH:
            return True
    return False


def _digest(record: ArchiveRecord) -> str:
    """Of WET the block's, of WARC the payload's, as Common Crawl's index has them; made where the record lacks it."""
    found = record.headers.get("warc-payload-digest") or record.headers.get("warc-block-digest")
    return found or "sha1:" + base64.b32encode(hashlib.sha1(record.block).digest()).decode()


def _unpacked(body: bytes, headers: Mapping[str, str]) -> bytes | str:
    """The body without its transfer and content encodings, or the reason why not."""
    if headers.get("transfer-encoding", "").strip().lower() == "chunked":
        body = _dechunked(body)
    encoding = headers.get("content-encoding", "").strip().lower()
    if encoding in ("gzip", "x-gzip", "deflate"):
        unpacker = zlib.decompressobj(47 if encoding != "deflate" or body[:1] == b"\x78" else -15)
        try:
            body = unpacker.decompress(body, MAX_HTML_BYTES + 1)
        except zlib.error:
            return "damaged content encoding"
    elif encoding not in ("", "identity") and b"<" not in body[:1000]:  # crawlers leave the header, and unpack
        return "unknown content encoding"
    return "HTML larger than 16 MiB" if len(body) > MAX_HTML_BYTES else body


def _dechunked(body: bytes) -> bytes:
    """Chunks put together; the body as it is where it does not consist of chunks."""
    parts: list[bytes] = []
    at = 0
    while True:
        end = body.find(b"\r\n", at, at + 20)
        size = body[at:end].split(b";")[0].strip() if end >= 0 else b""
        try:
            count = int(size, 16)
        except ValueError:
            return b"".join(parts) if parts else body
        if count <= 0:
            return b"".join(parts)
        parts.append(body[end + 2 : end + 2 + count])
        at = end + 2 + count + 2
