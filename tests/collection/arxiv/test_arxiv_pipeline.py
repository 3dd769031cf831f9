"""The pipeline from tar files to a complete folder and back: counts, resumption, workers, buckets, rebuilding."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from arxiv_made import LICENCE, Made, packed, tex, write_archive

pytest.importorskip("pytest_httpserver")
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from kolmo.cli import main
from kolmo.collection.arxiv.pipeline import ArXiv
from kolmo.collection.collecting import collect
from kolmo.collection.engine import StageEngine
from kolmo.collection.manifest import read_recipe
from kolmo.collection.pipelines import Access
from kolmo.collection.rebuilding import rebuild
from kolmo.corpus import open_corpus
from kolmo.errors import KolmoError

SUBFILE = b"\\documentclass[main]{subfiles}\\begin{document}\\section{Second} sub\\end{document}"
OLD = ("Sat, 1 Jan 2000 10:00:00 GMT",)
PAPERS = {
    "9912_001": [Made("math/9912001", tex("Of the nineties."), versions=("Wed, 1 Dec 1999 10:00:00 GMT",))],
    "0001_001": [Made("math/0001001", b"A plain note of one file.", versions=OLD), Made("math-ph/0001001", tex("no"))],
    "2610_001": [
        Made("2610.00001", tex("One \\input{../../etc/passwd} file.", "\\title{T}")),
        Made(
            "2610.00002",
            {
                "main.tex": tex("\\input{intro}\\subfile{two}\\input{main}"),
                "intro.tex": b"Intro.\n",
                "two.tex": SUBFILE,
                "x.sty": b"\\broken{",
            },
            versions=("Mon, 5 Oct 2026 10:00:00 GMT", "Thu, 5 Nov 2026 10:00:00 GMT", "Fri, 5 Feb 2027 10:00:00 GMT"),
        ),
        Made("2610.00003", b"%PDF-1.5", ending="pdf"),
        Made("2610.00004", b"%PDF-1.5"),
        Made("2610.00005", tex("Physics."), categories="math-ph math.MP"),
        Made("2610.00006", tex("Computing."), categories="cs.LG math.ST"),
        Made("2610.00007", tex("Unknown."), known=False),
        Made("2610.00008", tex("Before."), versions=("Wed, 30 Sep 2026 23:00:00 GMT",)),
        Made("2610.00009", {"a.tex": b"A", "b.tex": b"B"}),
        Made("2610.00010", {"a.bbl": b"A"}),
        Made("2610.00011", b"%auto-ignore\nThis paper has been withdrawn."),
        Made("2610.00012", tex("caf\xe9").decode().encode("latin-1")),
        Made("2610.00013", tex("\\begin{foo} broken }")),
        Made("2610.00014", {"a.tex": tex("\\title{X}First."), "b.tex": b"Other."}, more={"doi": "10.1/d"}),
        Made("2610.00015", b"% only a comment\n"),
        Made("not-a-paper", tex("x"), known=False),
    ],
    "2611_001": [Made("2611.00001", tex("Later."), versions=("Sat, 31 Oct 2026 20:00:00 GMT",))],
    "2612_001": [Made("2612.00001", tex("Too late."), versions=("Tue, 1 Dec 2026 20:00:00 GMT",))],
}


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_archive(tmp_path_factory.mktemp("archive"), PAPERS)


def pipeline(archive: Path, cache: Path, **more: Any) -> ArXiv:
    snapshots = (str(archive / "metadata.jsonl"),)
    return ArXiv(
        Access(str(cache), rate=1000, first_pause=0.01),
        **{
            "url": str(archive),
            "snapshots": snapshots,
            "since": "2026-10-01",
            "until": "2026-10-31",
            "seconds": 20,
            **more,
        },
    )


def documents(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "arxiv_math" / "test-00000.jsonl").read_text().splitlines()]


def status_of(*arguments: str) -> Any:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    return ended.value.code


def content(folder: Path) -> dict[str, bytes]:
    """All that must not differ between two runs."""
    names = ("README.md", "manifest-arxiv_math.json", "arxiv_math/test-00000.jsonl")
    return {name: (folder / name).read_bytes() for name in names}


@pytest.fixture(scope="module")
def collected(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("collected")
    collect(pipeline(archive, folder / "cache"), str(folder))
    return folder


def test_what_is_kept_and_why_the_rest_is_not(collected: Path) -> None:
    found = {document["meta"]["id"]: document for document in documents(collected)}
    assert list(found) == ["2610.00001", "2610.00002", "2610.00012", "2610.00013", "2610.00014", "2611.00001"]
    assert found["2610.00001"]["content"] == "---\ntitle: T\n---\n\nOne file.\n"
    assert found["2610.00002"]["content"] == "Intro.\n\n# Second\n\nsub\n"
    assert found["2610.00012"]["content"] == "caf\xe9\n"
    counts = json.loads((collected / "manifest-arxiv_math.json").read_text())["counts"]
    assert counts["tar files"] == {
        "in": 5,
        "kept": 2,
        "dropped": {"after the last day": 1, "before the first day": 2},
    }
    assert counts["papers"]["dropped"] == {
        "PDF only": 2,
        "another category": 2,
        "before the first day": 1,
        "no TeX file": 1,
        "no main file": 1,
        "no metadata": 1,
        "not a paper": 1,
        "withdrawn": 1,
    }
    assert counts["papers"]["tallies"] == {
        "encoding latin-1 (latin-1)": 1,
        "encoding utf-8 (utf-8)": 8,
        "input of a file within itself taken out": 1,
        "input outside the paper's folder taken out": 1,
        "style file left out": 1,
    }
    assert counts["markdown"] == {
        "in": 7,
        "kept": 6,
        "dropped": {"cannot be converted": 1},
        "tallies": {
            "by pandoc": 5,
            "by pylatexenc": 1,
            "pandoc: cannot be parsed": 1,
            "pandoc: empty": 1,
            "pylatexenc: empty": 1,
        },
    }


def test_the_meta(collected: Path) -> None:
    found = {document["meta"]["id"]: document for document in documents(collected)}
    assert found["2610.00002"] == {
        "content": "Intro.\n\n# Second\n\nsub\n",
        "subset": "arxiv_math",
        "meta": {
            "id": "2610.00002",
            "version": 2,  # the newest when the tar file was made
            "title": "On the paper 2610.00002",
            "authors": "A. Person and B. Person",
            "abstract": "We prove it.",
            "doi": "",
            "licence": LICENCE,
            "journal_ref": "",
            "categories": ["math.CO", "cs.DM"],
            "created": "2026-10-05",
            "updated": "2026-11-05",
            "source": "src/arXiv_src_2610_001.tar",
            "encoding": "utf-8",
            "converter": "pandoc",
        },
    }
    assert found["2610.00014"]["meta"]["doi"] == "10.1/d"
    corpus = list(open_corpus(f"{collected}:arxiv_math"))
    assert [document.date for document in corpus[:1]] == ["2026-10-05"]


def test_old_identifiers_find_their_metadata(archive: Path, tmp_path: Path) -> None:
    """math0001001 of the tar file is math/0001001 of the metadata; 9912 comes before 0001 and is not left out."""
    until = {"since": None, "until": "2000-12-31"}
    collect(pipeline(archive, tmp_path / "cache", **until), str(tmp_path))
    found = [(document["meta"]["id"], document["content"]) for document in documents(tmp_path)]
    assert found == [("math/9912001", "Of the nineties.\n"), ("math/0001001", "A plain note of one file.\n")]


def test_a_folder_of_tar_files_alone_is_an_archive(archive: Path, collected: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    for path in (archive / "src").glob("*.tar"):
        shutil.copy(path, bare)
    done = collect(pipeline(archive, tmp_path / "cache", url=str(bare)), str(tmp_path / "out"))
    assert done.documents == 6
    assert [document["content"] for document in documents(tmp_path / "out")] == [
        document["content"] for document in documents(collected)
    ]
    with pytest.raises(KolmoError, match="holds neither"):
        pipeline(archive, tmp_path, url=str(tmp_path / "no")).plan()


def test_two_workers_give_the_same_bytes(archive: Path, collected: Path, tmp_path: Path) -> None:
    collect(pipeline(archive, tmp_path / "cache"), str(tmp_path), engine=StageEngine(workers=2))
    assert content(tmp_path) == content(collected)


def test_a_run_that_is_killed_at_each_stage_goes_on(archive: Path, collected: Path, tmp_path: Path) -> None:
    command = [
        *(sys.executable, "-m", "kolmo", "collect", "arxiv", "-q", "-o", str(tmp_path), "--pandoc-seconds", "20"),
        *("--archive", str(archive), "--metadata", str(archive / "metadata.jsonl")),
        *("--since", "2026-10-01", "--until", "2026-10-31"),
    ]
    work = tmp_path / ".collect" / "arxiv"
    for stage in ("listing", "metadata", "sources", "markdown"):
        process = subprocess.Popen(command, start_new_session=True)
        deadline = time.monotonic() + 120
        while not (work / stage).exists():
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.001)
        os.killpg(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        assert not (tmp_path / "manifest-arxiv_math.json").exists()
    assert subprocess.run(command, check=False, timeout=120).returncode == 0
    assert content(tmp_path) == content(collected)
    assert not work.exists()


def test_a_truncated_tar_file_loses_what_is_behind(archive: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(archive, broken)
    path = broken / "src" / "arXiv_src_2610_001.tar"
    path.write_bytes(path.read_bytes()[:4000])
    (broken / "src" / "arXiv_src_2611_001.tar").write_bytes(b"\x1f\x8bno tar file" * 100)
    done = collect(pipeline(archive, tmp_path / "cache", url=str(broken)), str(tmp_path / "out"))
    papers = done.record.counts["papers"]
    assert done.documents >= 1
    assert papers["in"] == len(PAPERS["2610_001"]) + 1
    assert papers["dropped"]["damaged tar file of the archive"] > 5


def test_rebuilding_gives_the_same_bytes(archive: Path, collected: Path, tmp_path: Path) -> None:
    manifest = str(collected / "manifest-arxiv_math.json")
    done = rebuild(manifest, str(tmp_path / "again"), Access(str(tmp_path / "cache")), {"base_url": str(archive)})
    assert done.is_same
    assert content(tmp_path / "again") == content(collected)
    tar = str(archive / "src" / "arXiv_src_2610_001.tar")
    assert status_of("collect", "rebuild", manifest, "-o", str(tmp_path / "file"), "--file", tar) == 0
    assert content(tmp_path / "file") == content(collected)


def test_rebuilding_from_a_server_of_papers(
    archive: Path, collected: Path, tmp_path: Path, httpserver: HTTPServer
) -> None:
    sources = {paper.id: packed(paper.source) for papers in PAPERS.values() for paper in papers}
    asked: list[str] = []

    def answer(request: Request) -> Response:
        asked.append(request.path)
        name = request.path.removeprefix("/e-print/").rpartition("v")[0]
        if name == "2610.00014":
            return Response("gone", 404)
        return Response(packed(tex("changed")) if name == "2610.00012" else sources[name])

    httpserver.expect_request("/e-print/2610.00001v1").respond_with_handler(answer)
    for path in ("/e-print/2610.00002v2", "/e-print/2610.00012v1", "/e-print/2610.00013v1"):
        httpserver.expect_request(path).respond_with_handler(answer)
    for path in ("/e-print/2610.00014v1", "/e-print/2611.00001v1"):
        httpserver.expect_request(path).respond_with_handler(answer)
    access = Access(str(tmp_path / "cache"), rate=1000, first_pause=0.01)
    manifest = str(collected / "manifest-arxiv_math.json")
    done = rebuild(manifest, str(tmp_path / "again"), access, {"base_url": httpserver.url_for("/e-print")})
    assert done.documents == 4
    assert done.missing == [
        ("2610.00012 1", "the content is another (SHA-256)"),
        ("2610.00014 1", "the paper is gone (HTTP 404)"),
    ]
    assert asked == [f"/e-print/{entry.meta['id']}v{entry.meta['version']}" for entry in read_recipe(manifest)]


def test_a_recipe_of_lies_is_told(archive: Path, collected: Path, tmp_path: Path) -> None:
    text = (collected / "manifest-arxiv_math.json").read_text()
    lies = text.replace('"src/arXiv_src_2610_001.tar", "encoding"', '"../../../etc/passwd", "encoding"')
    path = tmp_path / "manifest-arxiv_math.json"
    path.write_text(lies.replace('"source": "src/arXiv_src_2611_001.tar"', '"source": "src/arXiv_src_2609_001.tar"'))
    done = rebuild(str(path), str(tmp_path / "again"), Access(str(tmp_path / "cache")), {"base_url": str(archive)})
    assert [why for _, why in done.missing] == ["the entry names no tar file"] * 5 + [
        "src/arXiv_src_2609_001.tar is gone"
    ]


def test_a_plan_tells_the_bytes(archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--archive", str(archive), "--since", "1999-12-01", "--until", "1999-12-31"]
    assert status_of("collect", "arxiv", "--dry-run", "--json", "-o", str(tmp_path / "out"), *options) == 0
    plan = json.loads(capsys.readouterr().out)
    assert [tar["filename"] for tar in plan["tars"]] == ["src/arXiv_src_9912_001.tar", "src/arXiv_src_0001_001.tar"]
    assert plan["download_bytes"] == 0
    assert not (tmp_path / "out" / "arxiv_math").exists()


def test_an_archive_on_a_server(archive: Path, collected: Path, tmp_path: Path, httpserver: HTTPServer) -> None:
    asked: list[str] = []

    def answer(request: Request) -> Response:
        asked.append(request.path)
        path = archive / request.path.lstrip("/")
        return Response(path.read_bytes()) if path.is_file() else Response("", 404)

    httpserver.expect_request("/src/arXiv_src_manifest.xml").respond_with_handler(answer)
    for month in ("2610", "2611"):
        httpserver.expect_request(f"/src/arXiv_src_{month}_001.tar").respond_with_handler(answer)
    cache = tmp_path / "cache"
    run = pipeline(archive, cache, url=httpserver.url_for("/"))
    plan = run.plan()
    sizes = [(archive / "src" / f"arXiv_src_{month}_001.tar").stat().st_size for month in ("2610", "2611")]
    assert plan.download_bytes == sum(sizes)
    collect(run, str(tmp_path / "out"))
    assert content(tmp_path / "out")["arxiv_math/test-00000.jsonl"] == content(collected)["arxiv_math/test-00000.jsonl"]
    assert sum(path.endswith(".tar") for path in asked) == 2
    assert not list(cache.rglob("*.tar"))  # what was read is removed


def test_metadata_from_the_server_when_there_is_no_snapshot(
    archive: Path, tmp_path: Path, httpserver: HTTPServer
) -> None:
    record = (
        '<record><metadata><arXivRaw xmlns="http://arxiv.org/OAI/arXivRaw/"><id>2610.00001</id><title>Harvested</title>'
        '<version version="v1"><date>Mon, 5 Oct 2026 10:00:00 GMT</date></version><categories>math.AG</categories>'
        "</arXivRaw></metadata></record>"
    )
    page = f'<OAI-PMH xmlns="http://www.openarchives.org/OAI/2.0/"><ListRecords>{record}</ListRecords></OAI-PMH>'
    httpserver.expect_request("/oai").respond_with_data(page)
    server = httpserver.url_for("/oai")
    done = collect(pipeline(archive, tmp_path / "cache", snapshots=(), server=server), str(tmp_path / "out"))
    assert [document["meta"]["title"] for document in documents(tmp_path / "out")] == ["Harvested"]
    assert done.record.counts["papers"]["dropped"]["no metadata"] > 10
    assert server in done.record.sources[0]["url"]


@pytest.fixture
def bucket(archive: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    boto3 = pytest.importorskip("boto3")
    server_module = pytest.importorskip("moto.server")
    pytest.importorskip("s3fs")
    for name, value in (
        ("AWS_ACCESS_KEY_ID", "SECRETKEYID"),
        ("AWS_SECRET_ACCESS_KEY", "SECRETACCESS"),
        ("AWS_DEFAULT_REGION", "us-east-1"),
    ):
        monkeypatch.setenv(name, value)
    server = server_module.ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    client = boto3.client("s3", region_name="us-east-1", endpoint_url=f"http://{host}:{port}")
    client.create_bucket(Bucket="arxiv")
    for path in (archive / "src").iterdir():
        client.upload_file(str(path), "arxiv", f"src/{path.name}")
    yield "s3://arxiv"
    client.close()
    server.stop()


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning")
def test_a_bucket_where_the_requester_pays(
    archive: Path, collected: Path, tmp_path: Path, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kolmo.collection.arxiv import storage

    monkeypatch.setattr(storage, "PIECE_BYTES", 3000)
    run = pipeline(archive, tmp_path / "cache", url=bucket)
    plan = run.plan()
    assert plan.download_bytes == sum(
        (archive / "src" / f"arXiv_src_{month}_001.tar").stat().st_size for month in ("2610", "2611")
    )
    assert "requester pays" in plan.lines[1]
    collect(run, str(tmp_path / "out"))
    assert content(tmp_path / "out")["arxiv_math/test-00000.jsonl"] == content(collected)["arxiv_math/test-00000.jsonl"]
    for path in (tmp_path / "out").rglob("*"):
        assert path.is_dir() or b"SECRET" not in path.read_bytes()
    archive_of = run.archive
    with pytest.raises(KolmoError, match="is not there"):
        archive_of.fetch("src/arXiv_src_2601_001.tar")
    with pytest.raises(KolmoError, match="another MD5"):
        archive_of.fetch("src/arXiv_src_2610_001.tar", sizes(archive), "0" * 32)
    assert archive_of._system(f"{bucket}/x")[0].req_kw == {"RequestPayer": "requester"}


def sizes(archive: Path) -> int:
    return (archive / "src" / "arXiv_src_2610_001.tar").stat().st_size


def test_a_download_goes_on_where_it_was(archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over fsspec, here its memory file system; reads that fail are tried again."""
    import fsspec  # type: ignore[import-untyped]
    from fsspec.implementations.memory import MemoryFileSystem  # type: ignore[import-untyped]

    from kolmo.collection.arxiv import storage

    monkeypatch.setattr(storage, "PIECE_BYTES", 1000)
    name = "src/arXiv_src_2610_001.tar"
    data = (archive / name).read_bytes()
    system = fsspec.filesystem("memory")
    system.pipe_file(f"/ax/{name}", data)
    asked: list[int] = []
    read = MemoryFileSystem.cat_file

    def cat_file(self: Any, path: str, start: int = 0, end: int | None = None, **more: Any) -> bytes:
        asked.append(start)
        if len(asked) == 3:
            raise OSError("broken")
        if len(asked) == 6:
            raise KeyboardInterrupt
        return bytes(read(self, path, start=start, end=end, **more))

    monkeypatch.setattr(MemoryFileSystem, "cat_file", cat_file)
    made = storage.Archive("memory://ax", Access(str(tmp_path), first_pause=0.01))
    with pytest.raises(KeyboardInterrupt):
        made.fetch(name, len(data))
    path = made.fetch(name, len(data))
    assert Path(path).read_bytes() == data
    assert asked[:8] == [0, 1000, 2000, 2000, 3000, 4000, 4000, 5000]
