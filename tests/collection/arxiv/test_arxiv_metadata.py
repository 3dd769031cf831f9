"""Metadata: records, the table, and the harvest from a server."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import parse_qs

import pytest

pytest.importorskip("pytest_httpserver")
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from kolmo.collection.arxiv.harvest import Harvest
from kolmo.collection.arxiv.metadata import Paper, PaperTable, paper_of
from kolmo.collection.fetching import Fetcher
from kolmo.errors import KolmoError

RECORD = {
    "id": "math/0001001",
    "title": "On  a\n small lemma",
    "authors": "A. Person",
    "abstract": "  We prove\n it. \ud800",
    "doi": "10.1/x",
    "license": None,
    "journal-ref": "J. 1 (2000)",
    "categories": "math.CO cs.DM",
    "versions": [
        {"version": "v1", "created": "Sat, 1 Jan 2000 10:00:00 GMT"},
        {"version": "v2", "created": "Tue, 1 Feb 2000 10:00:00 GMT"},
    ],
}


def made(**more: object) -> Paper:
    paper = paper_of({**RECORD, **more})
    assert paper is not None
    return paper


def test_a_record() -> None:
    assert made().meta(2) == {
        "id": "math/0001001",
        "version": 2,
        "title": "On a small lemma",
        "authors": "A. Person",
        "abstract": "We prove it. ?",
        "doi": "10.1/x",
        "licence": "",
        "journal_ref": "J. 1 (2000)",
        "categories": ["math.CO", "cs.DM"],
        "created": "2000-01-01",
        "updated": "2000-02-01",
    }


@pytest.mark.parametrize(
    ("categories", "is_mathematics"),
    [
        ("math.CO cs.DM", True),
        ("math", True),
        ("math-ph math.MP", False),
        ("cs.DM math.CO", False),
        ("mathematics.X", False),
        ("", False),
        (None, False),
    ],
)
def test_mathematics_is_by_the_primary_category(categories: str | None, is_mathematics: bool) -> None:
    assert made(categories=categories).is_mathematics is is_mathematics


def test_the_version_is_that_of_the_day_on_which_the_tar_file_was_made() -> None:
    assert [made().version_at(day) for day in ("", "1999-01-01", "2000-01-15", "2000-02-01", "2026-01-01")] == [
        2,
        1,
        1,
        2,
        2,
    ]


@pytest.mark.parametrize("record", [{}, {"id": None}, {"id": ["x"]}, {"id": "no"}])
def test_records_without_identifier_are_none(record: dict[str, object]) -> None:
    assert paper_of(record) is None


def test_strange_records_do_no_harm() -> None:
    paper = made(versions="v1", title=["a"], update_date="2000-01-05")
    assert (paper.versions, paper.title) == (("2000-01-05",), "['a']")
    assert made(categories={"a": 1}).primary == ""
    days = ["Wed, 31 Dec 2025 01:02:03 GMT", "Thu, 1 Jan 2026 01:02:03 GMT", "Fri, 30 Feb 2026 01:02:03 GMT", [1], None]
    assert made(versions=[{"created": day} for day in days]).versions == ("2025-12-31", "2026-01-01", "", "", "")


def test_the_table_keeps_the_later_record_and_only_mathematics(tmp_path: Path) -> None:
    path = str(tmp_path / "a %?#b.sqlite")
    papers = [made(), made(title="Later"), made(id="2610.00001", categories="cs.LG")]
    assert PaperTable(path).write(papers) == 2
    with PaperTable(path) as table:
        assert table.find("math/0001001") == made(title="Later")
        assert table.find("2610.00001") == "cs.LG"
        assert table.find("2610.00002") is None


def oai(*ids: str, token: str = "", deleted: str = "") -> str:
    records = "".join(
        f"<record><header><identifier>oai:arXiv.org:{name}</identifier></header><metadata>"
        f'<arXivRaw xmlns="http://arxiv.org/OAI/arXivRaw/"><id>{name}</id><title>T\n &amp; {name}</title>'
        '<version version="v2"><date>Wed, 7 Oct 2026 00:00:00 GMT</date></version>'
        '<version version="v1"><date>Tue, 6 Oct 2026 00:00:00 GMT</date></version>'
        "<categories>math.AG</categories><license>L</license><journal-ref>J</journal-ref></arXivRaw></metadata></record>"
        for name in ids
    )
    if deleted:
        records += (
            f'<record><header status="deleted"><identifier>oai:arXiv.org:{deleted}</identifier></header></record>'
        )
    return (
        '<OAI-PMH xmlns="http://www.openarchives.org/OAI/2.0/"><ListRecords>'
        f"{records}<resumptionToken>{token}</resumptionToken></ListRecords></OAI-PMH>"
    )


def error(code: str) -> str:
    return f'<OAI-PMH xmlns="http://www.openarchives.org/OAI/2.0/"><error code="{code}">no</error></OAI-PMH>'


class Server:
    """Answers in turn; notes what was asked."""

    def __init__(self, server: HTTPServer, *answers: str | Response) -> None:
        self.asked: list[dict[str, list[str]]] = []
        self.answers = list(answers)
        server.expect_request("/oai").respond_with_handler(self.answer)
        self.url = server.url_for("/oai")

    def answer(self, request: Request) -> Response:
        self.asked.append(parse_qs(request.query_string.decode()))
        answer = self.answers.pop(0)
        return answer if isinstance(answer, Response) else Response(answer, content_type="text/xml")


def fetcher(waits: list[float] | None = None) -> Fetcher:
    return Fetcher(rate=1000, tries=3, first_pause=0.01, sleep=(waits if waits is not None else []).append)


def test_a_harvest_goes_from_page_to_page(httpserver: HTTPServer, tmp_path: Path) -> None:
    waits: list[float] = []
    slow = Response("busy", 503, {"Retry-After": "7"})
    server = Server(httpserver, oai("2610.00001", token="a|1 b"), slow, oai("math/0001001", deleted="2610.00003"))
    harvest = Harvest(server.url, "2026-10-01", str(tmp_path))
    papers = list(harvest.papers(fetcher(waits)))
    assert [paper.id for paper in papers] == ["2610.00001", "math/0001001"]
    assert papers[0].title == "T & 2610.00001"
    assert papers[0].versions == ("2026-10-06", "2026-10-07")
    assert (papers[0].licence, papers[0].journal_ref) == ("L", "J")
    assert server.asked[0] == {
        "verb": ["ListRecords"],
        "metadataPrefix": ["arXivRaw"],
        "set": ["math"],
        "from": ["2026-10-01"],
    }
    assert server.asked[2] == {"verb": ["ListRecords"], "resumptionToken": ["a|1 b"]}
    assert 7.0 in waits
    assert [source["bytes"] > 0 for source in harvest.sources()] == [True, True]


def test_a_harvest_that_broke_off_goes_on(httpserver: HTTPServer, tmp_path: Path) -> None:
    gone = [Response("gone", 500)] * 3
    server = Server(httpserver, oai("2610.00001", token="t"), *gone, oai("2610.00002"))
    harvest = Harvest(server.url, None, str(tmp_path))
    with pytest.raises(KolmoError, match="HTTP 500"):
        list(harvest.papers(fetcher()))
    assert [paper.id for paper in harvest.papers(fetcher())] == ["2610.00001", "2610.00002"]
    assert len(server.asked) == 5
    assert [paper.id for paper in harvest.papers(fetcher())] == ["2610.00001", "2610.00002"]
    assert len(server.asked) == 5  # all is here


def test_an_expired_token_begins_the_harvest_again(httpserver: HTTPServer, tmp_path: Path) -> None:
    bad = error("badResumptionToken")
    server = Server(httpserver, oai("2610.00001", token="t"), bad, oai("2610.00005", token="u"), oai("2610.00002"))
    harvest = Harvest(server.url, None, str(tmp_path))
    assert [paper.id for paper in harvest.papers(fetcher())] == ["2610.00001", "2610.00005", "2610.00002"]
    assert len(harvest.sources()) == 2
    server.answers = [oai("2610.00001", token="t"), bad, bad]
    with pytest.raises(KolmoError, match="badResumptionToken"):
        list(Harvest(server.url, None, str(tmp_path / "other")).papers(fetcher()))


def test_what_a_server_may_say(httpserver: HTTPServer, tmp_path: Path) -> None:
    server = Server(httpserver, error("noRecordsMatch"), error("badArgument"), "<html/>", "no XML")
    assert list(Harvest(server.url, None, str(tmp_path)).papers(fetcher())) == []
    for words in ("badArgument", "without records", "is not XML"):
        with pytest.raises(KolmoError, match=words):
            list(Harvest(server.url, None, str(tmp_path)).papers(fetcher()))
    assert list(tmp_path.iterdir()) == []
