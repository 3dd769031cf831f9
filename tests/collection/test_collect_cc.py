"""The pipeline cc on real bytes: from WET and WARC files to a folder, killed, over HTTP, and again from its recipe."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from archives_made import cc, dump, english, pages_of, tree, write_warc, write_wet
from server_made import SLOW_DOWN, Trouble, serving

from kolmo.collection.collecting import collect
from kolmo.collection.common_crawl.listing import Origin
from kolmo.collection.engine import StageEngine
from kolmo.collection.manifest import Manifest, read_manifest, read_recipe
from kolmo.collection.pipelines import Access
from kolmo.collection.rebuilding import rebuild
from kolmo.corpus import open_corpus
from kolmo.errors import KolmoError
from kolmo.targets import LOCK, locked

QUICK: dict[str, Any] = {"rate": 1e6, "timeout": 2.0, "first_pause": 0.01}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Path], Path, Manifest]:
    """Three segments, one of them damaged, and what an undisturbed run makes of them."""
    folder = tmp_path_factory.mktemp("made")
    files = [write_wet(folder / f"s{n}.warc.wet.gz", pages_of(100 * n, 14)) for n in range(2)]
    german = [("https://de.test/", ["Titel", *["Der Hund schläft in der Sonne, und niemand stört ihn dabei."] * 9])]
    last = write_wet(folder / "s2.warc.wet.gz", [*pages_of(200, 9), *german, ("https://short.test/", ["t", "short"])])
    last.write_bytes(last.read_bytes() + write_wet(folder / "x", pages_of(300, 1)).read_bytes()[:-20])
    output = folder / "undisturbed"
    done = collect(cc(folder, [*files, last]), str(output))
    return [*files, last], output, done.record


def documents(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for path in sorted(folder.glob("cc/*.jsonl")) for line in path.read_text().splitlines()]


def test_the_documents_and_the_manifest(made: tuple[list[Path], Path, Manifest]) -> None:
    files, output, manifest = made
    found = documents(output)
    assert len(found) == sum(file["documents"] for file in manifest.files)
    counts = manifest.counts
    assert counts["documents"]["in"] == 14 + 14 + 9 + 2 + 1
    assert counts["documents"]["dropped"] == {"short": 1, "truncated gzip member": 1}
    assert counts["languages"]["dropped"] == {"language not wanted": 1}
    for before, after in zip(list(counts)[:-1], list(counts)[1:], strict=True):
        assert counts[before]["kept"] == counts[after]["in"], (before, after)
    assert counts["buckets"]["kept"] == len(found)
    for document in found:
        assert list(document) == ["content", "subset", "meta"]
        lines = document["content"].split("\n")
        assert not {"Home", "About us", "Contact"} & set(lines)  # every page has them
        meta = document["meta"]
        assert meta["bucket"] in ("head", "middle")
        assert len(lines) == meta["nlines"] == len(meta["line_ids"]) < meta["original_nlines"]
        assert meta["length"] == len(document["content"])
        assert meta["cc_segment"] in [file.name for file in files]
    assert manifest.first_date == manifest.last_date == "2026-10-05"
    assert [source["path"] for source in manifest.sources] == [file.name for file in files]
    entries = list(read_recipe(str(output / "manifest-cc.json")))
    assert [entry.meta for entry in entries] == [document["meta"] for document in found]
    assert "30th and 60th percentile" in manifest.notes["cutoffs"]
    assert read_manifest(str(output / "manifest-cc.json")) == manifest
    assert not (output / ".collect").exists()


def test_the_same_bytes_with_two_workers(made: tuple[list[Path], Path, Manifest], tmp_path: Path) -> None:
    files, output, _ = made
    collect(cc(tmp_path, files), str(tmp_path / "two"), engine=StageEngine(workers=2))
    assert tree(tmp_path / "two") == tree(output)
    assert (tmp_path / "two" / "run-cc.json").exists()


def test_killed_at_every_place_and_gone_on_with(made: tuple[list[Path], Path, Manifest], tmp_path: Path) -> None:
    files, output, _ = made
    script = Path(__file__).parent / "killed_run.py"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run(
        [sys.executable, str(script), *map(str, files), str(tmp_path / "killed")],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=400,
    )
    assert done.returncode == 0, done.stderr
    places = done.stdout.split()
    for stage in ("listing", "documents", "shared", "paragraphs", "scores", "cutoffs", "buckets"):
        assert f"cc/{stage}/done.json" in places
        assert [place for place in places if f"/{stage}/" in place or place.startswith(f"{stage}/")], (stage, places)
    for name in ("test-N.jsonl", "manifest-cc.json", "README.md", "run-cc.json"):
        assert [place for place in places if place.endswith(name)], (name, places)
    assert tree(tmp_path / "killed") == tree(output)
    assert not (tmp_path / "killed" / ".collect").exists()


def test_the_recipe_makes_the_same_bytes(made: tuple[list[Path], Path, Manifest], tmp_path: Path) -> None:
    files, output, manifest = made
    path = str(output / "manifest-cc.json")
    places = {"files": [str(file) for file in files]}
    done = rebuild(path, str(tmp_path / "again"), Access(str(tmp_path / "cache")), places)
    assert done.is_same
    assert done.documents == sum(file["documents"] for file in manifest.files)
    assert tree(tmp_path / "again") == tree(output)
    text = Path(path).read_text()
    assert documents(output)[0]["content"].split("\n")[0] not in text  # the recipe has no text


def test_a_rebuild_names_what_is_gone_or_different(made: tuple[list[Path], Path, Manifest], tmp_path: Path) -> None:
    files, output, _ = made
    first = tmp_path / files[0].name
    write_wet(first, [(url, [*lines[:3], "Another line.", *lines[4:]]) for url, lines in pages_of(0, 14)])
    places = {"files": [str(first), str(files[1])]}
    done = rebuild(str(output / "manifest-cc.json"), str(tmp_path / "again"), Access(str(tmp_path / "c")), places)
    assert not done.is_same
    reasons = {why for _, why in done.missing}
    assert reasons == {"the page is not in its segment", f"segment {files[2].name} is gone"}
    assert done.missing_count == len(done.missing)
    assert done.different == ["cc/test-00000.jsonl"]
    assert not (tmp_path / "again" / "manifest-cc.json").exists()


@pytest.mark.parametrize("form", ["jsonl", "jsonl.gz", "parquet"])
def test_what_opens_the_folder(made: tuple[list[Path], Path, Manifest], tmp_path: Path, form: str) -> None:
    datasets = pytest.importorskip("datasets", reason="needs datasets: pip install 'kolmo-codelength[eval]'")
    files, output, _ = made
    done = collect(cc(tmp_path, files), str(tmp_path / "out"), format=form, file_bytes=9000)
    assert len(done.record.files) > 1
    wanted = [document["content"] for document in documents(output)]
    found = list(open_corpus(f"{tmp_path / 'out'}:cc"))
    assert [document.content for document in found] == wanted
    assert {document.date for document in found} == {"2026-10-05"}
    loaded = datasets.load_dataset(str(tmp_path / "out"), "cc", split="test", cache_dir=str(tmp_path / "hub"))
    assert loaded["content"][:] == wanted
    again = rebuild(
        done.manifest,
        str(tmp_path / "again"),
        Access(str(tmp_path / "cache")),
        {"files": [str(file) for file in files]},
    )
    assert again.is_same
    assert tree(tmp_path / "again") == tree(tmp_path / "out")


def over_http(folder: Path, url: str, **others: Any) -> Any:
    pipeline = cc(folder, [Path(__file__)])
    origin = Origin("2026-40", count=3, base_url=url, index_url=f"{url}/collinfo.json")
    settings = {**vars(pipeline), "origin": origin, "access": Access(str(folder / "cache"), **QUICK), **others}
    return type(pipeline)(**settings)


def test_over_http_with_troubles(tmp_path: Path) -> None:
    """429, 503 with a body, a broken and a stalled connection leave no trace; a missing segment is counted."""
    files = dump(tmp_path)
    segments = sorted(path for path in files if path.endswith(".wet.gz"))
    with serving(files) as server:
        collect(over_http(tmp_path, server.url), str(tmp_path / "calm"))
        server.troubles = {
            "/crawl-data/CC-MAIN-2026-40/wet.paths.gz": [Trouble(503)],
            segments[0]: [Trouble(429, {"Retry-After": "0"}), Trouble(cut=500), Trouble(cut=700)],
            segments[1]: [Trouble(stall=True)],
        }
        done = collect(over_http(tmp_path / "b", server.url), str(tmp_path / "troubled"))
        assert tree(tmp_path / "troubled") == tree(tmp_path / "calm")
        assert {headers["User-Agent"].split("/")[0] for _, _, headers in server.seen} == {"kolmo"}
        assert any("Range" in headers for _, _, headers in server.seen)
        again = rebuild(
            done.manifest, str(tmp_path / "again"), Access(str(tmp_path / "c"), **QUICK), {"base_url": server.url}
        )
        assert again.is_same
        assert tree(tmp_path / "again") == tree(tmp_path / "calm")
        files.pop(segments[2])
        files[segments[1]] = SLOW_DOWN
        done = collect(over_http(tmp_path / "d", server.url), str(tmp_path / "gone"))
        dropped = done.record.counts["documents"]["dropped"]
        assert dropped == {"not a WARC record": 1, "segment not there (HTTP 404)": 1}
        assert done.documents > 0


def test_a_network_that_fails_leaves_a_run_that_goes_on(tmp_path: Path) -> None:
    files = dump(tmp_path)
    segments = sorted(path for path in files if path.endswith(".wet.gz"))
    with serving(files) as server:
        collect(over_http(tmp_path, server.url), str(tmp_path / "calm"))
        server.troubles = {segments[1]: [Trouble(503) for _ in range(6)]}
        pipeline = over_http(tmp_path / "b", server.url)
        with pytest.raises(KolmoError, match=r"stage documents, shard 1: .*HTTP 503.*try again later"):
            collect(pipeline, str(tmp_path / "late"))
        before = len(server.seen)
        collect(pipeline, str(tmp_path / "late"))
        assert tree(tmp_path / "late") == tree(tmp_path / "calm")
        assert segments[0] not in [path for _, path, _ in server.seen[before:]]


def test_the_plan_and_the_newest_dump(tmp_path: Path) -> None:
    files = dump(tmp_path)
    with serving(files) as server:
        pipeline = over_http(tmp_path, server.url)
        plan = pipeline.plan()
        sizes = [len(data) for path, data in files.items() if path.endswith(".wet.gz")]
        assert plan.download_bytes == sum(sizes)
        assert "3 segments of CC-MAIN-2026-40" in plan.lines[0]
        newest = Origin(count=1, base_url=server.url, index_url=f"{server.url}/collinfo.json")
        assert over_http(tmp_path, server.url, origin=newest).plan().details["dump"] == "CC-MAIN-2026-40"
        greedy = Origin("2026-40", count=9, base_url=server.url)
        with pytest.raises(KolmoError, match="lists 3 segments, fewer than 9"):
            over_http(tmp_path, server.url, origin=greedy).plan()
        files["/crawl-data/CC-MAIN-2026-40/wet.paths.gz"] = b"no gzip"
        with pytest.raises(KolmoError, match="is not a gzip list of paths"):
            over_http(tmp_path / "b", server.url).plan()


def test_html_segments(tmp_path: Path) -> None:
    def page(n: int) -> bytes:
        body = "".join(f"<p>{line}</p>" for line in english(n, 9))
        return f"<html><head><title>T{n}</title></head><body><main>{body}</main></body></html>".encode()

    deep = b"<div>" * 30_000
    file = write_warc(
        tmp_path / "a.warc.gz", [(f"https://a.test/{n}", page(n)) for n in range(12)] + [("https://d.test/", deep)]
    )
    done = collect(cc(tmp_path, [file]), str(tmp_path / "out"))
    assert done.record.counts["documents"]["dropped"] == {"HTML nested deeper than 2000 elements": 1}
    assert done.documents == 7
    access = Access(str(tmp_path / "cache"))
    again = rebuild(done.manifest, str(tmp_path / "again"), access, {"files": [str(file)]})
    assert again.is_same


def test_other_settings_another_run_and_a_restart(made: tuple[list[Path], Path, Manifest], tmp_path: Path) -> None:
    files, _, _ = made
    output = str(tmp_path / "out")
    collect(cc(tmp_path, files[:1]), output)
    assert collect(cc(tmp_path, files[:1]), output).was_complete
    with pytest.raises(KolmoError, match="was made with another min_length; use the same"):
        collect(cc(tmp_path, files[:1], min_length=500), output)
    first = tree(Path(output))
    other = collect(cc(tmp_path, files[:1], min_length=500), output, restart=True)
    assert not other.was_complete
    collect(cc(tmp_path, files[:1]), output, restart=True)
    assert tree(Path(output)) == first


def test_one_run_at_a_time(made: tuple[list[Path], Path, Manifest], tmp_path: Path) -> None:
    with (
        locked(tmp_path / "out" / ".collect" / "cc" / LOCK),
        pytest.raises(KolmoError, match="another run of cc works there"),
    ):
        collect(cc(tmp_path, made[0]), str(tmp_path / "out"))


def test_a_corpus_with_nothing_in_it(tmp_path: Path) -> None:
    file = write_wet(tmp_path / "a.wet.gz", [("https://a.test/", ["t", "short"])])
    done = collect(cc(tmp_path, [file]), str(tmp_path / "out"))
    assert done.documents == 0
    assert done.record.counts["documents"]["dropped"] == {"short": 1}
    assert rebuild(done.manifest, str(tmp_path / "b"), Access(""), {"files": [str(file)]}).is_same


DAMAGE: list[tuple[str, Callable[[str], str]]] = [
    ("is not a manifest", lambda text: "{}\n"),
    ("is not a manifest", lambda text: "text"),
    ("is not a manifest of version", lambda text: text.replace('"kolmo_manifest": 1', '"kolmo_manifest": 2')),
    ("ends within its recipe", lambda text: "\n".join(text.split("\n")[:-4])),
    ("lacks sha256 or meta", lambda text: text.replace('"sha256": ', '"sha512": ')),
    ("its fields are not those", lambda text: text.replace('"seed', '"x').replace('"notes"', '"remarks"')),
    ("no pipeline 'x'", lambda text: text.replace('"pipeline": "cc"', '"pipeline": "x"')),
]


@pytest.mark.parametrize("number", range(7))
def test_damaged_manifests(made: tuple[list[Path], Path, Manifest], tmp_path: Path, number: int) -> None:
    files, output, _ = made
    text = (output / "manifest-cc.json").read_text()
    message, change = DAMAGE[number]
    path = tmp_path / "manifest-cc.json"
    path.write_text(change(text))
    with pytest.raises(KolmoError, match=message):
        rebuild(str(path), str(tmp_path / "again"), Access(""), {"files": [str(file) for file in files]})


def test_no_secret_and_no_path_of_this_machine_is_written(
    made: tuple[list[Path], Path, Manifest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("GITHUB_TOKEN", "AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID"):
        monkeypatch.setenv(name, "s3cr3t-value")
    collect(cc(tmp_path, made[0][:1]), str(tmp_path / "out"), keep_work=True)
    for path in (tmp_path / "out").rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            assert b"s3cr3t-value" not in data, path
            if ".collect" not in path.parts:
                assert os.fsencode(tmp_path) not in data, path
