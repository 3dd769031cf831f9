"""The pipeline as a whole, over a GitHub that is made here: one corpus, whatever happens on the way to it."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from github_made import TOKEN, GitHub, Reply, make_repository, module, node

pytest.importorskip("datatrove")
pytest.importorskip("rensa")

from kolmo.collection.engine import StageEngine, last_stage, run_stages
from kolmo.collection.fetching import Fetcher
from kolmo.collection.github.fetch import RepositoryShards, RepositorySource
from kolmo.collection.github.git import Limits
from kolmo.collection.github.pipeline import GitHub as Pipeline
from kolmo.collection.github.tokens import ESTIMATE
from kolmo.collection.manifest import ManifestEntry
from kolmo.collection.pipelines import Access, Missing
from kolmo.collection.stages import Work
from kolmo.corpus.documents import Document
from kolmo.errors import KolmoError

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 12345\n"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[GitHub, Path]]:
    """Seven repositories, one of which is gone and one of which is too large."""
    root = tmp_path_factory.mktemp("hub")
    big = module(1)
    contents: list[dict[str, bytes | str]] = [
        {"a.py": big, "b.py": module(2), "notes.md": b"# no\n", "lfs.py": LFS, "up.py": "/etc/passwd"},
        {"copy.py": big, "spaces.py": module(2).replace(b"    ", b"\t"), "near.py": big + b"# one more\n"},
        {"far.py": module(3), "bad.py": b"# \xe9", "sub": "submodule " + "1" * 40, "huge.py": b"#" * (1 << 20) + b"#"},
        {"test_it.py": b"# unit tests\n" + module(4), "auto.py": b"# auto-generated\n" + module(5)},
        {f"conf{n}.py": b"# configuration file\n" + module(100 + n) for n in range(8)},
        {"noise.py": os.urandom(400_000), "p.py": module(6)},
    ]
    nodes = []
    for number, files in enumerate(contents):
        commit = make_repository(root / f"owner/r{number}.git", files)
        nodes.append(node(number, f"2026-01-01T00:00:0{number}Z", defaultBranchRef={"target": {"oid": commit}}))
    nodes.append(node(9, "2026-01-01T00:00:09Z"))
    nodes.append(node(10, "2026-01-01T00:00:10Z", isPrivate=True))
    with GitHub(nodes).serving() as hub:
        yield hub, root


@pytest.fixture(autouse=True)
def token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_TOKEN", TOKEN)


def pipeline_of(made: tuple[GitHub, Path], folder: Path, each: int = 2, seed: int = 5) -> Pipeline:
    hub, root = made
    return Pipeline(
        Access(str(folder / "cache"), rate=1e6, first_pause=0.01),
        "2026-01-01",
        "2026-01-01",
        seed=seed,
        tokenizer=(ESTIMATE, None),
        api=hub.url,
        source=RepositorySource(root.as_uri(), Limits(disk=300_000), pause=0.01),
        shards=RepositoryShards(each),
    )


def documents_of(pipeline: Pipeline, work: Work) -> list[Document]:
    stage = last_stage(pipeline.stages(work))
    return [document for index in range(work.shards(stage)) for document in work.read(stage, index)]


def run(pipeline: Pipeline, folder: Path, workers: int = 1) -> tuple[list[Document], dict[str, Any], Work]:
    work = Work(str(folder))
    counts = run_stages(pipeline.stages(work), work, StageEngine(workers=workers))
    return documents_of(pipeline, work), counts.record(), work


@pytest.fixture(scope="module")
def undisturbed(
    made: tuple[GitHub, Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[list[Document], dict[str, Any], Work, Pipeline]:
    folder = tmp_path_factory.mktemp("undisturbed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GITHUB_TOKEN", TOKEN)
        pipeline = pipeline_of(made, folder)
        return *run(pipeline, folder / "work"), pipeline


Undisturbed = tuple[list[Document], dict[str, Any], Work, Pipeline]


def test_documents(undisturbed: Undisturbed) -> None:
    documents = undisturbed[0]
    names = [document.name for document in documents]
    assert [name for name in names if "conf" not in name] == ["owner/r0/a.py", "owner/r0/b.py", "owner/r2/far.py"] + [
        name for name in names if "test_it" in name
    ]
    first = documents[0]
    assert first.content.encode() == module(1)
    assert first.subset == "python"
    assert first.date == "2026-01-01"
    assert {**first.meta, "commit": ""} == {
        "repository": "owner/r0",
        "path": "a.py",
        "licence": "MIT",
        "stars": 10,
        "created": "2026-01-01T00:00:00Z",
        "pushed": "2026-11-01T00:00:00Z",
        "commit": "",
        "copies": 2,
    }


def test_every_file_and_repository_is_counted(undisturbed: Undisturbed) -> None:
    counts = undisturbed[1]
    assert counts["search"] == {"in": 8, "kept": 7, "dropped": {"private": 1}}
    assert counts["fetch"] == {"in": 7, "kept": 5, "dropped": {"git_too_large": 1, "git_unavailable": 1}}
    dropped = {"lfs_pointer": 1, "not_utf8": 1, "submodule": 1, "symlink": 1, "too_large": 1}
    assert counts["files"] == {"in": 21, "kept": 16, "dropped": dropped}
    assert counts["exact_duplicates"] == {"in": 16, "kept": 14, "dropped": {"same_bytes": 1, "same_text": 1}}
    heuristics = counts["heuristics"]
    assert heuristics["in"] == 14
    assert heuristics["dropped"]["auto_generated"] == 1
    assert 2 <= heuristics["dropped"]["config_or_test"] <= 9
    near = counts["near_duplicates"]
    assert near["in"] == heuristics["kept"]
    assert near["dropped"] == {"near_duplicate": 1}
    assert near["kept"] == len(undisturbed[0])


def test_clusters_are_written(undisturbed: Undisturbed) -> None:
    work = undisturbed[2]
    lines = Path(work.file("extremes", 0, "clusters.jsonl")).read_text().splitlines()
    (cluster,) = map(json.loads, lines)
    (extreme,) = cluster["extremes"]
    assert (extreme["repository"], extreme["path"], extreme["copies"]) == ("owner/r0", "a.py", 2)
    assert [file[:2] for file in extreme["files"]] == [["owner/r0", "a.py"], ["owner/r1", "near.py"]]


@pytest.mark.parametrize(("workers", "each"), [(2, 2), (1, 20)])
def test_workers_and_shards_change_no_byte(
    made: tuple[GitHub, Path], undisturbed: Undisturbed, tmp_path: Path, workers: int, each: int
) -> None:
    documents, counts, _ = run(pipeline_of(made, tmp_path, each), tmp_path / "work", workers)
    assert documents == undisturbed[0]
    assert counts == undisturbed[1]


def test_another_seed_drops_other_files(made: tuple[GitHub, Path], undisturbed: Undisturbed, tmp_path: Path) -> None:
    documents, _, _ = run(pipeline_of(made, tmp_path, 20, seed=6), tmp_path / "work")
    assert documents != undisturbed[0]


KILL = """
import os, pickle, random, signal, sys, time
from kolmo.collection.engine import StageEngine, run_stages
from kolmo.collection.stages import Work
import kolmo.collection.tasks

with open(sys.argv[1], "rb") as file:
    pipeline, folder = pickle.load(file)
work = Work(folder)
stages = pipeline.stages(work)
for stage in stages:
    child = os.fork()
    if child == 0:
        os.setsid()
        run_stages(stages, work, StageEngine())
        os._exit(0)
    deadline = time.monotonic() + 60
    while not os.path.exists(work.stage(stage.name)) and time.monotonic() < deadline:
        time.sleep(0.002)
    time.sleep(random.Random(stage.name).uniform(0, 0.2))
    os.killpg(child, signal.SIGKILL)
    print(stage.name, os.waitpid(child, 0)[1] == signal.SIGKILL, flush=True)
"""


def test_killed_at_each_stage_and_run_again(
    made: tuple[GitHub, Path], undisturbed: Undisturbed, tmp_path: Path
) -> None:
    pipeline, folder = pipeline_of(made, tmp_path), tmp_path / "work"
    (tmp_path / "pickled").write_bytes(pickle.dumps((pipeline, str(folder))))
    command = [sys.executable, "-c", KILL, str(tmp_path / "pickled")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    killed = [line.split() for line in done.stdout.splitlines()]
    assert [name for name, _ in killed] == ["search", "fetch", "exact", "filter", "candidates", "extremes", "near"]
    assert ["fetch", "True"] in killed
    documents, counts, _ = run(pipeline, folder)
    assert documents == undisturbed[0]
    assert counts == undisturbed[1]


def test_no_secret_in_any_file_or_pickle(undisturbed: Undisturbed) -> None:
    work, pipeline = undisturbed[2:]
    said = pickle.dumps(pipeline.stages(work)) + json.dumps([pipeline.settings(), pipeline.notes(work)]).encode()
    for path in Path(work.folder).rglob("*"):
        if path.is_file():
            said += path.read_bytes()
    assert TOKEN.encode() not in said
    assert TOKEN not in repr(pipeline)


def test_settings_and_notes(undisturbed: Undisturbed) -> None:
    _, _, work, pipeline = undisturbed
    assert json.loads(json.dumps(pipeline.settings()))["tokenizer"] == ESTIMATE
    assert pipeline.notes(work)["tokenizer"] == ESTIMATE
    assert "rensa" in pipeline.notes(work)["near_duplicates"]
    (source,) = pipeline.sources(work)
    assert source["repositories"] == 7


def test_a_dry_run_asks_once(made: tuple[GitHub, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub, _ = made
    hub.asked.clear()
    pipeline = pipeline_of(made, tmp_path)
    plan = pipeline.plan()
    assert len(hub.asked) == 1
    assert plan.details == {"repositories": 8}
    assert plan.download_bytes == 8 * 100 * 1024
    assert TOKEN not in repr(plan)
    for name in ("GITHUB_TOKEN", "GH_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    plan = pipeline.plan()
    assert plan.download_bytes is None
    assert "GITHUB_TOKEN" in plan.lines[1]


def test_a_refused_token_ends_the_run(made: tuple[GitHub, Path], tmp_path: Path) -> None:
    hub, _ = made
    hub.first = [Reply(401, {}, {"message": f"Bad credentials {TOKEN}"})]
    with pytest.raises(KolmoError, match="refuses the token") as caught:
        run(pipeline_of(made, tmp_path), tmp_path / "work")
    assert TOKEN not in str(caught.value)
    for path in (tmp_path / "work").rglob("*"):
        if path.is_file():
            assert TOKEN.encode() not in path.read_bytes()


def test_nothing_is_found(made: tuple[GitHub, Path], tmp_path: Path) -> None:
    pipeline = replace(pipeline_of(made, tmp_path), since="2025-01-01", until="2025-01-02")
    documents, counts, _ = run(pipeline, tmp_path / "work")
    assert documents == []
    assert counts["search"] == {"in": 0, "kept": 0, "dropped": {}}


@pytest.mark.parametrize(("since", "until"), [("2026-02-01", "2026-01-01"), ("soon", None), (None, "2026-02-30")])
def test_days_that_make_no_span(
    made: tuple[GitHub, Path], tmp_path: Path, since: str | None, until: str | None
) -> None:
    with pytest.raises(KolmoError, match=r"exchange them|is not a day"):
        _ = replace(pipeline_of(made, tmp_path), since=since, until=until).window


def test_rebuilding_gives_every_content(made: tuple[GitHub, Path], undisturbed: Undisturbed, tmp_path: Path) -> None:
    documents, _, _, pipeline = undisturbed
    entries = [ManifestEntry.of(document) for document in documents]
    contents = list(pipeline.rebuild(iter(entries), Work(str(tmp_path / "again"))))
    assert contents == [document.content for document in documents]


@pytest.mark.parametrize("value", [None, "x", -1, 10**400, 1e999, float("nan"), [], 2_000_000_000])
def test_limits_of_a_manifest(tmp_path: Path, value: Any) -> None:
    settings = {"repository_seconds": value, "repository_bytes": value}
    limits = Pipeline.of_manifest(settings, Access(str(tmp_path)), {}).source.limits
    assert 300 <= limits.seconds <= 3600
    assert 1 << 30 <= limits.disk <= 16 << 30


def test_rebuilding_names_what_is_gone(made: tuple[GitHub, Path], undisturbed: Undisturbed, tmp_path: Path) -> None:
    documents, _, _, pipeline = undisturbed
    entry = ManifestEntry.of(documents[0])
    changes: list[dict[str, Any]] = [
        {"path": "none.py"},
        {"path": "up.py"},
        {"path": 7},
        {"path": "\ud800"},
        {"commit": "1" * 40},
        {"commit": "--upload-pack=touch x"},
        {"repository": "../../etc"},
        {"repository": "owner/gone"},
        {"repository": None},
    ]
    entries = [ManifestEntry(entry.sha256, {**entry.meta, **change}) for change in changes] + [entry]
    found = list(pipeline.rebuild(entries, Work(str(tmp_path / "again"))))
    assert found[-1] == documents[0].content
    assert all(isinstance(one, Missing) for one in found[:-1])
    assert [one.entry for one in found[:-1] if isinstance(one, Missing)] == entries[:-1]
    assert hashlib.sha256(documents[0].content.encode()).hexdigest() == entry.sha256


def test_git_waits_for_its_turn_and_an_outage_drops_nothing(tmp_path: Path) -> None:
    slept: list[float] = []
    fetcher = Fetcher(rate=0.1, pace_folder=str(tmp_path / "pace"), sleep=slept.append)
    source = RepositorySource("http://127.0.0.1:9", pause=0)
    with pytest.raises(KolmoError, match="run it again later"), source.commit("o/n", "1" * 40, str(tmp_path), fetcher):
        pass
    assert [round(seconds) for seconds in slept] == [10, 20, 30]  # it is tried four times
