"""Folders and the hub: which files of a folder are the corpus, and data sets by name."""

from __future__ import annotations

import builtins
import importlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from helpers.limits import ends_within
from kolmo.corpus import Corpus, hub, open_corpus
from kolmo.errors import KolmoError, MissingExtraError

NAMES = ("python", "cc", "arxiv_math")
CARD = (
    "---\nlicense: cc-by-nc-sa-4.0\nconfigs:\n"
    + "".join(f"- config_name: {n}\n  data_files:\n  - split: test\n    path:\n    - data/{n}.jsonl\n" for n in NAMES)
    + "---\n\n# A card\n"
)


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """The paper's data set, as it lies on the hub."""
    folder = tmp_path / "hkust-nlp" / "llm-compression"
    for name in NAMES:
        meta = {"date": "2023-09-01"}
        fill(folder, {f"data/{name}.jsonl": lines(*(f"{name} {i}" for i in range(3)), subset=name, meta=meta)})
    return fill(folder, {"README.md": CARD, ".gitattributes": "x"})


def fill(folder: Path, written: Mapping[str, str | bytes]) -> Path:
    for name, content in written.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


def lines(*texts: str, **others: object) -> str:
    return "".join(json.dumps({"content": text, **others}) + "\n" for text in texts)


def contents(corpus: Corpus) -> list[str]:
    return [document.content for document in corpus]


def read(spec: object) -> list[str]:
    return contents(open_corpus(str(spec)))


def refusal(spec: object) -> str:
    with pytest.raises(KolmoError) as caught:
        list(open_corpus(str(spec)))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def card(data_files: str, **others: str) -> str:
    more = "".join(f"\n  {key}: {value}" for key, value in others.items())
    return f"---\nconfigs:\n- config_name: x\n  data_files: {data_files}{more}\n---\n"


def test_texts(tmp_path: Path) -> None:
    fill(
        tmp_path,
        {
            "b.txt": "b\r\n",
            "a/z.py": "z",
            "a/b.json": "{}",
            "a.md": "a",
            "empty.txt": "",
            "photo.jpg": b"\xff\xd8",
            "zero": b"a\0",
            "notes.txt.gz": b"no gzip",
            "data/x.jsonl": lines("x"),
            ".hidden": "h",
            ".git/config": "g",
        },
    )
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "link.txt").symlink_to(tmp_path / "b.txt")
    corpus = open_corpus(str(tmp_path))
    for _ in range(2):
        assert [(d.name, d.content) for d in corpus] == [
            ("a.md", "a"),
            ("a/b.json", "{}"),
            ("a/z.py", "z"),
            ("b.txt", "b\r\n"),
            ("link.txt", "b\r\n"),
        ]
        assert [Path(line.split(": ")[0]).name for line in corpus.skipped] == [
            "x.jsonl",
            "notes.txt.gz",
            "photo.jpg",
            "zero",
        ]
    assert f"{tmp_path / 'photo.jpg'}: byte 0 is not UTF-8" in corpus.skipped[2]


def test_texts_of_which_none_is_one(tmp_path: Path) -> None:
    fill(tmp_path, {"a": b"\xff", "b": b"\xfe"})
    assert "a: byte 0 is not UTF-8" in refusal(tmp_path)
    assert "holds no files" in refusal(fill(tmp_path / "c", {".hidden": "x"}))


def test_file_names_that_are_no_text(tmp_path: Path) -> None:
    try:
        (tmp_path / os.fsdecode(b"\xff.txt")).write_text("a")
    except OSError:
        pytest.skip("this file system has no such names")
    (document,) = open_corpus(str(tmp_path))
    assert document.name == "\\xff.txt"


def test_shards(tmp_path: Path) -> None:
    fill(tmp_path, {"b.jsonl": lines("b"), "a/0.jsonl": lines("a", "a2"), "c.ndjson": lines("c")})
    fill(tmp_path, {"manifest.json": "{}", "LICENSE": "x", "README.md": "# x", "CHANGES.md": "x"})
    corpus = open_corpus(str(tmp_path))
    assert [d.name for d in corpus] == ["a/0.jsonl:1", "a/0.jsonl:2", "b.jsonl:1", "c.ndjson:1"]
    assert corpus.skipped == [f"{tmp_path / 'CHANGES.md'}: lies beside data; name it to read it"]


def test_splits_by_name(tmp_path: Path) -> None:
    fill(
        tmp_path,
        {
            "data/train-00000-of-00002.jsonl": lines("t0"),
            "data/train-00001-of-00002.jsonl": lines("t1"),
            "data/x_valid.jsonl": lines("v"),
            "test/part0.jsonl": lines("e"),
        },
    )
    assert read(tmp_path) == read(f"{tmp_path}@test") == ["e"]
    assert read(f"{tmp_path}@validation") == read(f"{tmp_path}@dev") == ["v"]
    assert read(f"{tmp_path}@train") == ["t0", "t1"]
    assert "has no split none; give one with @SPLIT: train, validation, test" in refusal(f"{tmp_path}@none")
    fill(tmp_path, {"latest.jsonl": lines("l")})  # "test" is no word of it: so all are read, rather than too few
    assert read(tmp_path) == ["t0", "t1", "v", "l", "e"]
    assert read(f"{tmp_path}@test") == ["e"]


def test_configurations_by_name(tmp_path: Path) -> None:
    fill(
        tmp_path,
        {
            "cc/test/0.jsonl": lines("a"),
            "cc/train/0.jsonl": lines("no"),
            "data/python.jsonl": lines("b"),
            "math-00000-of-00001.jsonl": lines("c"),
            "math_2.jsonl": lines("no"),
        },
    )
    assert read(f"{tmp_path}:cc") == ["a"]
    assert read(f"{tmp_path}:cc@train") == ["no"]
    assert read(f"{tmp_path}:python") == ["b"]
    assert read(f"{tmp_path}:math") == ["c"]
    assert open_corpus(f"{tmp_path}:cc").name == "cc"
    assert open_corpus(f"mine={tmp_path}:cc@train").name == "mine"
    assert "has no configuration none" in refusal(f"{tmp_path}:none")
    assert "has no split test; leave it out" in refusal(f"{tmp_path}:python@test")


def test_texts_have_configurations_and_no_splits(tmp_path: Path) -> None:
    fill(tmp_path, {"a/x.txt": "x", "b/y.txt": "y"})
    assert read(f"{tmp_path}:a") == ["x"]
    assert "texts, which have no splits" in refusal(f"{tmp_path}@test")


def test_a_clone(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("yaml", reason="needs PyYAML")
    for spec in (f"{clone}:cc", f"{clone}:cc@test"):
        corpus = open_corpus(spec)
        assert (corpus.name, corpus.source) == ("cc", spec)
        assert contents(corpus) == ["cc 0", "cc 1", "cc 2"]
        assert next((d.subset, d.date, d.meta) for d in corpus) == ("cc", "2023-09-01", {"date": "2023-09-01"})
    assert "several configurations; give one as FOLDER:CONFIG: python, cc, arxiv_math" in refusal(clone)
    assert "has no configuration none" in refusal(f"{clone}:none")
    assert "has no split train; give one with @SPLIT: test" in refusal(f"{clone}:cc@train")
    (clone / "data" / "cc.jsonl").unlink()
    assert "names data/cc.jsonl, which is not in the folder" in refusal(f"{clone}:cc")
    monkeypatch.chdir(clone.parents[1])
    assert read("python") == ["python 0", "python 1", "python 2"]  # the clone lies where its name says
    fill(Path("python"), {"a.txt": "mine"})
    assert read("python") == ["mine"]


@pytest.mark.parametrize(
    ("data_files", "found"),
    [
        ("a/0.jsonl", ["0"]),
        ("./a/*.jsonl", ["0", "1"]),
        ('"**/0.jsonl"', ["r", "0", "b0"]),
        ('["a/1.jsonl", "a/*"]', ["1", "0"]),
        ("{test: a/0.jsonl, train: a/1.jsonl}", ["0"]),
        ("{train: [a/1.jsonl, a/0.jsonl]}", ["1", "0"]),
        ("[{split: validation, path: a/1.jsonl}, {split: train, path: a/0.jsonl}]", ["1"]),
        ("[{split: own, path: 'a/b/**'}]", ["b0"]),
        ("a/[!1].jsonl\n  data_dir: .", ["0"]),
        ("'*.jsonl'\n  data_dir: a/b", ["b0"]),
        ("\n  data_dir: a/b", ["b0"]),
    ],
)
def test_descriptions(tmp_path: Path, data_files: str, found: list[str]) -> None:
    pytest.importorskip("yaml", reason="needs PyYAML")
    texts = {"0.jsonl": "r", "a/0.jsonl": "0", "a/1.jsonl": "1", "a/b/0.jsonl": "b0"}
    fill(tmp_path, {name: lines(text) for name, text in texts.items()})
    fill(tmp_path, {"README.md": card(data_files)})
    assert read(tmp_path) == read(f"{tmp_path}:x") == found


@pytest.mark.parametrize("path", ["../secret.jsonl", "/etc/passwd", "a/../../secret.jsonl", "https://x.org/a.jsonl"])
def test_descriptions_lead_nowhere_else(tmp_path: Path, path: str) -> None:
    pytest.importorskip("yaml", reason="needs PyYAML")
    fill(tmp_path, {"secret.jsonl": lines("secret"), "x/a.jsonl": lines("a"), "x/README.md": card(path)})
    assert "which is not in the folder" in refusal(tmp_path / "x")


@pytest.mark.parametrize(
    "header",
    [
        "configs: [" * 1000,
        "configs:\n- &a {config_name: x}\n- *a\n",
        "configs: !!python/object/apply:os.system [exit 1]\n- x\n",
        "configs:\n\t- x\n",
        "configs: \x01\n",
    ],
)
def test_headers_that_are_hostile(tmp_path: Path, header: str) -> None:
    pytest.importorskip("yaml", reason="needs PyYAML")
    fill(tmp_path, {"a.jsonl": lines("a"), "README.md": f"---\n{header}\n---\n"})
    assert "README.md: its YAML cannot be read" in refusal(tmp_path)


def test_hostile_headers_take_no_time(tmp_path: Path) -> None:
    pytest.importorskip("yaml", reason="needs PyYAML")
    files = {f"{'a' * 50}{i}.jsonl": lines("a") for i in range(100)}
    fill(tmp_path, files)
    for header in (card("1" + ":59" * 300_000), card("'" + "*a" * 5000 + "b'"), card("'" + "**/" * 20_000 + "b'")):
        fill(tmp_path, {"README.md": header})
        with ends_within():
            assert "is not in the folder" in refusal(tmp_path)[-300:]


def test_a_card_without_configurations(tmp_path: Path) -> None:
    fill(tmp_path, {"a.jsonl": lines("a"), "README.md": "---\nlicense: mit\n---\n"})
    assert read(tmp_path) == ["a"]


def test_descriptions_of_other_formats(tmp_path: Path) -> None:
    pytest.importorskip("yaml", reason="needs PyYAML")
    fill(tmp_path, {"a.csv": "a", "README.md": card("a.csv")})
    assert "a.csv is neither JSONL nor Parquet" in refusal(tmp_path)


def test_saved_to_disk(tmp_path: Path) -> None:
    fill(tmp_path, {"data-00000-of-00001.arrow": b"x", "state.json": "{}", "dataset_info.json": "{}"})
    assert "written by save_to_disk" in refusal(tmp_path)


@pytest.fixture
def as_hub(clone: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Any]:
    """The library's own loader, of a folder instead of the hub; the builders that it made."""
    datasets = pytest.importorskip("datasets", reason="needs datasets")
    load, builders = datasets.load_dataset_builder, list[Any]()

    def load_local(repository: str, config: str | None, **options: Any) -> Any:
        assert not options.get("trust_remote_code")
        if repository != hub.REPOSITORY:
            raise datasets.exceptions.DatasetNotFoundError(f"Dataset '{repository}' doesn't exist")
        builders.append(load(str(clone), config, **options))
        return builders[-1]

    monkeypatch.setattr(datasets, "load_dataset_builder", load_local)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    return builders


@pytest.mark.parametrize("limit", [None, 2])
def test_the_hub(as_hub: list[Any], tmp_path: Path, limit: int | None, capfd: pytest.CaptureFixture[str]) -> None:
    cache = str(tmp_path / "cache")
    corpus = open_corpus("arxiv_math", limit=limit, cache_dir=cache)
    as_hub[-1].hash = "0123456789abcdef" * 3
    assert (corpus.name, corpus.source) == ("arxiv_math", "hkust-nlp/llm-compression:arxiv_math@test")
    for _ in range(2):
        found = list(corpus)
        assert [d.content for d in found] == [f"arxiv_math {i}" for i in range(3)][:limit]
        assert [d.name for d in found] == ["row 0", "row 1", "row 2"][:limit]
        assert {d.subset for d in found} == {"arxiv_math"}
        assert {d.date for d in found} == {"2023-09-01"}
        json.dumps([d.meta for d in found])
    assert os.path.isdir(as_hub[-1].cache_dir) == (limit is None)  # a stream is not kept
    assert open_corpus("x=hkust-nlp/llm-compression:cc", cache_dir=cache).name == "x"
    assert capfd.readouterr() == ("", "")


def test_the_hub_refuses(as_hub: list[Any], tmp_path: Path) -> None:
    assert "(Config name is missing. Please pick one" in refusal(hub.REPOSITORY)
    assert "'none' not found" in refusal(f"{hub.REPOSITORY}:none")
    assert "has no split train; give one with @SPLIT: test" in refusal(f"{hub.REPOSITORY}:cc@train")
    assert "no such data set on the hub" in refusal("org/none")


def test_revisions(as_hub: list[Any], clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets", reason="needs datasets")
    load = datasets.load_dataset_builder

    def load_revision(*arguments: Any, **options: Any) -> Any:
        builder = load(*arguments, **options)
        builder.hash = "0123456789" * 4
        return builder

    monkeypatch.setattr(datasets, "load_dataset_builder", load_revision)
    assert open_corpus("cc").source == f"hkust-nlp/llm-compression:cc@test (revision {'0123456789' * 4})"


def test_without_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets", reason="needs datasets")

    def fail(*_: Any, **__: Any) -> Any:
        raise ConnectionError("Couldn't reach\nit")

    monkeypatch.setattr(datasets, "load_dataset_builder", fail)
    for spec in ("cc", "org/name"):
        assert "the hub cannot be reached; download the data set where there is a network" in refusal(spec)


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    fill(tmp_path / "x", {"README.md": card("a.jsonl"), "a.jsonl": lines("a")})
    real = importlib.import_module

    def missing(name: str, package: str | None = None) -> Any:
        if name.split(".")[0] in ("pyarrow", "datasets", "yaml"):
            raise ImportError(f"No module named {name!r}")
        return real(name, package)

    monkeypatch.setattr("kolmo.corpus.extras.import_module", missing)
    for spec, module in ((tmp_path / "a.parquet", "pyarrow"), ("cc", "datasets"), (tmp_path / "x", "yaml")):
        with pytest.raises(MissingExtraError, match=rf"needs {module} .*pip install 'kolmo-codelength\[eval\]'"):
            list(open_corpus(str(spec)))


def test_lines_need_no_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    real = builtins.__import__

    def light(name: str, *arguments: Any, **options: Any) -> Any:
        assert name.split(".")[0] not in ("pyarrow", "datasets", "yaml", "pandas", "numpy")
        return real(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", light)
    assert read(fill(tmp_path, {"a.jsonl": lines("a"), "README.md": "x"})) == ["a"]
