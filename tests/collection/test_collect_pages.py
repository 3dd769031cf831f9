"""Records to documents: titles, fields, days, HTML in many shapes, and pages that would hang an extractor."""

from __future__ import annotations

import gzip
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from archives_made import english, pages_of, write_warc, write_wet

from kolmo.collection.common_crawl.pages import MAX_DEPTH, Pages, domain_of, is_deep
from kolmo.collection.counts import Counts
from kolmo.corpus import Document

BODY = "".join(f"<p>{line}</p>" for line in english(1, 12))


def read(path: Path, **others: Any) -> tuple[list[Document], dict[str, Any]]:
    counts = Counts()
    with path.open("rb") as file, Pages(counts, path.name, **others) as pages:
        documents = list(pages.read(file))
    record = counts.record().get("documents", {"in": 0, "kept": 0, "dropped": {}})
    assert record["in"] == record["kept"] + sum(record["dropped"].values())
    assert record["kept"] == len(documents)
    return documents, record


def html(path: Path, pages: Sequence[bytes | str], headers: Sequence[tuple[str, str]] = ()) -> Path:
    made = [(f"https://a.test/{n}", page.encode() if isinstance(page, str) else page) for n, page in enumerate(pages)]
    return write_warc(path, made, headers)


def test_text_records(tmp_path: Path) -> None:
    path = write_wet(tmp_path / "a.wet.gz", [*pages_of(0, 3), ("https://short.test/", ["Title", "x" * 299])])
    documents, counts = read(path)
    assert counts["dropped"] == {"short": 1}
    first = documents[0]
    assert first.subset == "cc"
    assert first.content.split("\n")[0] == "Home"
    assert first.meta["title"] == "Title 0"
    assert first.meta["url"] == "https://site0.test/0"
    assert first.meta["source_domain"] == "site0.test"
    assert first.meta["digest"].startswith("sha1:")
    assert first.meta["cc_segment"] == "a.wet.gz"
    assert first.meta["original_length"] == len(first.content)
    assert first.meta["original_nlines"] == len(first.content.split("\n")) == len(first.meta["line_ids"])
    assert list(first.meta) == [
        *("url", "date_download", "digest", "source_domain", "title", "language", "language_score", "original_nlines"),
        *("nlines", "original_length", "length", "line_ids", "perplexity", "bucket", "cc_segment"),
    ]


def test_days(tmp_path: Path) -> None:
    path = write_wet(tmp_path / "a.wet.gz", pages_of(0, 3), "2026-10-05T23:59:59Z")
    assert len(read(path, since="2026-10-05", until="2026-10-05")[0]) == 3
    assert read(path, since="2026-10-06")[1]["dropped"] == {"before the first day": 3}
    assert read(path, until="2026-10-04")[1]["dropped"] == {"after the last day": 3}


def test_html_is_extracted(tmp_path: Path) -> None:
    page = f"<html><head><title> A\n title </title></head><body><nav>Menu</nav><main>{BODY}</main></body></html>"
    documents, _ = read(html(tmp_path / "a.warc.gz", [page]))
    assert documents[0].meta["title"] == "A title"
    assert english(1, 12)[0] in documents[0].content
    assert "<p>" not in documents[0].content


@pytest.mark.parametrize("declared", ["header", "meta", "neither"])
def test_encodings(tmp_path: Path, declared: str) -> None:
    words = "Überall wird Größe für möglich gehalten, während die Bäume höher wachsen. " * 8
    meta = '<meta charset="windows-1252">' if declared == "meta" else ""
    kind = "text/html; charset=windows-1252" if declared == "header" else "text/html"
    page = f"<html><head>{meta}<title>t</title></head><body><p>{words}</p></body></html>".encode("windows-1252")
    documents, _ = read(html(tmp_path / "a.warc.gz", [page], [("Content-Type", kind)]))
    assert "Größe für möglich" in documents[0].content


def test_answers_that_are_left_out_are_counted(tmp_path: Path) -> None:
    page = f"<html><body>{BODY}</body></html>".encode()
    assert read(html(tmp_path / "a.warc.gz", [page], [("Content-Type", "application/pdf")]))[1]["dropped"] == {
        "not HTML": 1
    }
    packed = html(
        tmp_path / "b.warc.gz", [gzip.compress(page)], [("Content-Type", "text/html"), ("Content-Encoding", "gzip")]
    )
    assert len(read(packed)[0]) == 1
    broken = html(tmp_path / "c.warc.gz", [b"no gzip"], [("Content-Type", "text/html"), ("Content-Encoding", "gzip")])
    assert read(broken)[1]["dropped"] == {"damaged content encoding": 1}
    bomb = html(
        tmp_path / "d.warc.gz",
        [gzip.compress(bytes(40 << 20))],
        [("Content-Type", "text/html"), ("Content-Encoding", "gzip")],
    )
    assert read(bomb)[1]["dropped"] == {"HTML larger than 16 MiB": 1}
    half = len(page) // 2
    chunks = b"%x\r\n%s\r\n%x;x=y\r\n%s\r\n0\r\n\r\n" % (half, page[:half], len(page) - half, page[half:])
    chunked = html(tmp_path / "e.warc.gz", [chunks], [("Content-Type", "text/html"), ("Transfer-Encoding", "chunked")])
    assert len(read(chunked)[0]) == 1


def test_thirty_thousand_nested_elements_are_counted_and_no_hang(tmp_path: Path) -> None:
    deep = "<div>" * 30_000 + BODY + "</div>" * 30_000
    bold = "<b>" * 30_000 + BODY
    fine = "<html><body>" + "<p>a <b>word</b><br>" * 4000 + BODY + "</body></html>"
    begin = time.monotonic()
    documents, counts = read(html(tmp_path / "a.warc.gz", [deep, bold, fine, f"<body>{BODY}</body>"]))
    assert time.monotonic() - begin < 30
    assert len(documents) == 2
    assert counts["dropped"] == {f"HTML nested deeper than {MAX_DEPTH} elements": 2}


def test_an_extraction_that_passes_its_limit_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The check of depth is rough; what it lets through is killed in time, and the next page has a new worker."""
    monkeypatch.setattr("kolmo.collection.common_crawl.pages.is_deep", lambda html: False)
    monkeypatch.setattr("kolmo.collection.common_crawl.pages.EXTRACTION_SECONDS", 1.5)
    deep = "<div>" * 60_000 + BODY + "</div>" * 60_000
    documents, counts = read(html(tmp_path / "a.warc.gz", [f"<body>{BODY}</body>", deep, f"<body>{BODY}</body>"]))
    assert len(documents) == 2
    assert counts["dropped"] == {"extraction: timeout": 1}


def test_depth_counts_what_is_open() -> None:
    assert not is_deep(b"<div></div>" * 5000)
    assert not is_deep(b"<p>" * 5000)
    assert is_deep(b"<DIV class=x>" * 5000)
    assert not is_deep(b"</div>" * 5000 + b"<div>" * 1999)


def test_hosts() -> None:
    assert domain_of("http://[broken") == ""
    assert domain_of("https://USER@Host.test:8080/x") == "host.test"


def test_a_record_without_a_digest_gets_one(tmp_path: Path) -> None:
    text = "Title\n" + "\n".join(english(3, 9)) + "\n"
    head = "WARC/1.0\r\nWARC-Type: conversion\r\nWARC-Target-URI: <https://a.test/>\r\n"
    head += f"Content-Length: {len(text)}\r\n\r\n"
    path = tmp_path / "a.wet"
    path.write_bytes(head.encode() + text.encode())
    documents, _ = read(path)
    assert documents[0].meta["url"] == "https://a.test/"
    assert documents[0].meta["digest"].startswith("sha1:")
