"""`kolmo collect github` from the command line to a folder that is evaluated, and made again from its manifest."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from github_made import TOKEN, GitHub, make_repository, module, node

pytest.importorskip("datatrove")
pytest.importorskip("rensa")

from kolmo.cli import main
from kolmo.corpus import open_corpus


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[GitHub, Path]]:
    root = tmp_path_factory.mktemp("hub")
    rust = "".join(f"    let name_{n} = for_{n};\n" for n in range(30)).encode()
    nodes = []
    for number in range(3):
        files = {"a.py": module(number), "b.py": module(number) + b"# copy\n", "c.rs": b"// for \n" + rust}
        commit = make_repository(root / f"owner/r{number}.git", files)
        nodes.append(node(number, f"2026-01-0{number + 1}T00:00:00Z", defaultBranchRef={"target": {"oid": commit}}))
    with GitHub(nodes).serving() as hub:
        yield hub, root


@pytest.fixture(autouse=True)
def token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_TOKEN", TOKEN)


def kolmo(*arguments: str) -> int:
    with pytest.raises(SystemExit) as left:
        main(arguments)
    assert isinstance(left.value.code, int)
    return left.value.code


def collect(made: tuple[GitHub, Path], *arguments: str) -> int:
    hub, root = made
    places = ["--api-url", hub.url, "--base-url", root.as_uri()]
    return kolmo("collect", "github", "--since", "2026-01-01", *places, "--rate", "1e6", *arguments)


def last_object(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    out, err = capsys.readouterr()
    assert TOKEN not in out + err
    found: dict[str, Any] = json.loads(out.splitlines()[-1])
    return found


def test_collected_and_made_again(
    made: tuple[GitHub, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, again = tmp_path / "corpus", tmp_path / "again"
    assert collect(made, "-o", str(folder), "--json") == 0
    record = last_object(capsys)
    assert record["documents"] == 3
    assert (record["first_date"], record["last_date"]) == ("2026-01-01", "2026-01-03")
    assert record["counts"]["near_duplicates"] == {"in": 6, "kept": 3, "dropped": {"near_duplicate": 3}}
    documents = list(open_corpus(f"{folder}:python"))
    assert [document.content.encode() for document in documents] == [module(number) for number in range(3)]
    assert {document.meta["copies"] for document in documents} == {2}
    clusters = (folder / "near-duplicates-python.jsonl").read_text().splitlines()
    assert [json.loads(line)["extremes"][0]["path"] for line in clusters] == ["a.py"] * 3

    manifest = folder / "manifest-python.json"
    assert kolmo("collect", "rebuild", str(manifest), "-o", str(again), "--base-url", made[1].as_uri()) == 0
    written = json.loads(manifest.read_text())["files"][0]["path"]
    assert (again / written).read_bytes() == (folder / written).read_bytes()
    for path in [*folder.rglob("*"), *again.rglob("*")]:
        assert not path.is_file() or TOKEN.encode() not in path.read_bytes()

    assert collect(made, "-o", str(folder), "--json") == 0
    assert last_object(capsys)["was_complete"]


def test_another_language_is_another_subset(
    made: tuple[GitHub, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert collect(made, "-o", str(tmp_path), "--language", "Rust", "--json") == 0
    assert last_object(capsys)["subset"] == "rust"
    (document,) = open_corpus(f"{tmp_path}:rust")
    assert document.subset == "rust"
    assert document.meta["path"] == "c.rs"
    assert "rust" in (tmp_path / "README.md").read_text()


def test_the_plan(made: tuple[GitHub, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert collect(made, "-o", str(tmp_path / "corpus"), "--dry-run", "--json") == 0
    record = last_object(capsys)
    assert record["repositories"] == 3
    assert record["download_bytes"] == 3 * 100 * 1024
    assert not list((tmp_path / "corpus").rglob("*.jsonl"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--base-url", "ext::sh -c id"], "is not an address"),
        (["--api-url", "http://example.org"], "a token is sent to no other"),
        (["--tokenizer", "none.json"], "cannot be read"),
    ],
)
def test_bad_arguments(
    made: tuple[GitHub, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    assert collect(made, "-o", str(tmp_path / "corpus"), *arguments) == 1
    said = capsys.readouterr().err
    assert message in said
    assert len(said.splitlines()) == 1
    assert TOKEN not in said


def test_a_language_that_is_not_in_the_table(
    made: tuple[GitHub, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert collect(made, "-o", str(tmp_path / "corpus"), "--language", "Klingon") == 2
    assert "is not in the table of languages" in capsys.readouterr().err


def test_without_a_token(
    made: tuple[GitHub, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("GITHUB_TOKEN", "GH_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    assert collect(made, "-o", str(tmp_path / "corpus")) == 1
    assert "GITHUB_TOKEN: is not set" in capsys.readouterr().err
