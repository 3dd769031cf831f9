"""Metadata from arXiv's OAI-PMH server, page by page; pages that came are kept, so that a harvest goes on where it was.

The format is arXivRaw, the one with the versions and their dates. What it is not: a mirror; deleted records are
passed over.
"""

from __future__ import annotations

import gzip
import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode
from xml.etree.ElementTree import Element

from kolmo.collection.arxiv.metadata import Paper, paper_of
from kolmo.collection.arxiv.xml_trees import parse_xml, text_of
from kolmo.collection.fetching import Fetcher
from kolmo.errors import KolmoError
from kolmo.foreign import quoted
from kolmo.targets import replacing

SERVER = "https://oaipmh.arxiv.org/oai"
SET = "math"
FORMAT = "arXivRaw"
RATE = 1 / 3  # requests a second, as arXiv's terms of use ask
MAX_PAGES = 100_000
MAX_PAGE_BYTES = 64 << 20
MAX_TOKEN_CHARACTERS = 2000


@dataclass(frozen=True)
class Harvest:
    """A request for the records of the set `math` that changed since a day.

    Attributes:
        server: address of the OAI-PMH interface.
        since: a day, "YYYY-MM-DD"; None: from the beginning. A paper of that day or later has changed since then.
        folder: where its pages are kept.
    """

    server: str
    since: str | None
    folder: str

    def papers(self, fetcher: Fetcher) -> Iterator[Paper]:
        """The papers, in the server's order.

        Raises:
            KolmoError: the server refuses, or answers with something else than records.
        """
        for root in self._pages(fetcher):
            for record in root.iter("record"):
                if (paper := _paper(record)) is not None:
                    yield paper

    def sources(self) -> list[dict[str, Any]]:
        """The pages that were read, for the manifest."""
        found = []
        for number in range(MAX_PAGES):
            if not os.path.exists(path := self._path(number)):
                break
            with gzip.open(path, "rb") as file:
                data = file.read()
            digest = hashlib.sha256(data).hexdigest()
            found.append({"url": f"{self.server}#page-{number}", "bytes": len(data), "sha256": digest})
        return found

    def _pages(self, fetcher: Fetcher) -> Iterator[Element]:
        os.makedirs(self.folder, exist_ok=True)
        token: str | None = ""
        number = 0
        restarted = False
        while token is not None and number < MAX_PAGES:
            kept = self._kept(number)
            where = f"{self.server}, page {number}"
            data = kept or fetcher.get(self._url(token), largest=MAX_PAGE_BYTES).data
            root = parse_xml(data, where)
            code = _error(root, where)
            if code == "badResumptionToken" and not restarted:  # it has expired: what came is of an older list
                restarted = True
                self._forget()
                token, number = "", 0
                continue
            if code == "noRecordsMatch":
                return
            if code:
                raise KolmoError(f"{where}: refuses with {quoted(code)}; try again later")
            if kept is None:
                self._keep(number, data)
            yield root
            number += 1
            token = _token(root)

    def _url(self, token: str) -> str:
        query: Mapping[str, str]
        if token:
            query = {"verb": "ListRecords", "resumptionToken": token}
        else:
            query = {"verb": "ListRecords", "metadataPrefix": FORMAT, "set": SET}
            if self.since:
                query = {**query, "from": self.since}
        return f"{self.server}?{urlencode(query)}"

    def _path(self, number: int) -> str:
        return os.path.join(self.folder, f"page-{number:05d}.xml.gz")

    def _kept(self, number: int) -> bytes | None:
        try:
            with gzip.open(self._path(number), "rb") as file:
                return file.read(MAX_PAGE_BYTES)
        except FileNotFoundError:
            return None

    def _keep(self, number: int, data: bytes) -> None:
        path = self._path(number)
        with replacing(path) as file:
            file.write(gzip.compress(data, 6, mtime=0))

    def _forget(self) -> None:
        for number in range(MAX_PAGES):
            if not os.path.exists(path := self._path(number)):
                break
            os.unlink(path)


def _error(root: Element, where: str) -> str:
    error = root.find("error")
    if error is not None:
        return error.get("code", "an error")
    if root.find("ListRecords") is None:
        raise KolmoError(f"{where}: answers without records; check that the address is that of an OAI-PMH server")
    return ""


def _token(root: Element) -> str | None:
    found = root.find("ListRecords/resumptionToken")
    text = (found.text or "").strip() if found is not None else ""
    if len(text) > MAX_TOKEN_CHARACTERS:
        raise KolmoError("the OAI-PMH server names a resumption token of unusual length; try again later")
    return text or None


def _paper(record: Element) -> Paper | None:
    header, raw = record.find("header"), record.find(f"metadata/{FORMAT}")
    if raw is None or (header is not None and header.get("status") == "deleted"):
        return None
    dates = sorted((_number(element.get("version", "")), text_of(element, "date")) for element in raw.iter("version"))
    versions = [{"version": f"v{number}", "created": date} for number, date in dates]
    fields = ("id", "title", "authors", "abstract", "doi", "license", "journal-ref", "categories")
    return paper_of({**{name: text_of(raw, name) for name in fields}, "versions": versions})


def _number(version: str) -> int:
    digits = version.removeprefix("v")
    return int(digits) if digits.isascii() and digits.isdecimal() and len(digits) < 6 else 0
