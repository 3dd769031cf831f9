"""Documents and files: what is read is what was written, and what cannot be read is named."""

from __future__ import annotations

import gzip
import json
import os
import random
from collections.abc import Callable
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.limits import bytes_read
from kolmo.corpus import Corpus, Document, files, open_corpus
from kolmo.corpus.documents import plain
from kolmo.errors import KolmoError

TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
RECORDS: list[dict[str, Any]] = [
    {"content": "one\r\ntwo\u2028three\x85", "subset": "cc", "meta": {"date": "2023-09-01"}},
    {"content": "", "subset": "cc"},
    {"text": "\ufeffb", "subset": "python", "url": "https://example.org"},
    {"content": "c\U0001f40d", "meta": '{"a": [1]}'},
]


def write_lines(path: Path, records: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    data = "".join(json.dumps(record) + "\n" for record in records).encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def contents(corpus: Corpus) -> list[str]:
    return [document.content for document in corpus]


def refusal(spec: object) -> str:
    with pytest.raises(KolmoError) as caught:
        list(open_corpus(str(spec)))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", ["a.jsonl", "a.ndjson", "a.jsonl.gz", "a.json.gz", "A.JSONL"])
def test_json_lines(tmp_path: Path, name: str) -> None:
    path = write_lines(tmp_path / name, RECORDS)
    corpus = open_corpus(str(path))
    assert list(corpus) == [
        Document("one\r\ntwo\u2028three\x85", "cc", f"{name}:1", {"date": "2023-09-01"}),
        Document("\ufeffb", "python", f"{name}:3", {"url": "https://example.org"}),
        Document("c\U0001f40d", "", f"{name}:4", {"a": [1]}),
    ]
    assert list(corpus) == list(corpus)
    assert (corpus.name.lower(), corpus.source) == ("a", str(path))


def test_json_list(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    for indent in (None, 2):
        path.write_text("\ufeff" + json.dumps(RECORDS, indent=indent), "utf-8", newline="")
        assert [d.name for d in open_corpus(str(path))] == ["a.json item 1", "a.json item 3", "a.json item 4"]
    write_lines(path, RECORDS)  # as the hub has them, too
    assert [d.name for d in open_corpus(str(path))] == ["a.json:1", "a.json:3", "a.json:4"]


def test_json_list_of_strings(tmp_path: Path) -> None:
    """The form of a whole family of public sets; uncheatable_eval's among them."""
    strings = ["one\r\ntwo\u2028three", "", "\ufeffb", "c\U0001f40d", ' "quoted" ']
    kept = [text for text in strings if text]
    for name in ("a.json", "a.json.gz"):
        path = tmp_path / name
        for indent in (None, 2):
            data = json.dumps(strings, indent=indent).encode()
            path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
            corpus = open_corpus(str(path))
            assert contents(corpus) == kept
            assert [d.name for d in corpus] == [f"{name} item {k}" for k in (1, 3, 4, 5)]
            assert contents(open_corpus(str(path), limit=2)) == kept[:2]
    lines = tmp_path / "b.jsonl"
    lines.write_text("".join(json.dumps(text) + "\n" for text in strings))
    assert contents(open_corpus(str(lines))) == kept
    (tmp_path / "c.json").write_text('["a", {"content": "b", "subset": "s"}]')
    assert [(d.content, d.subset) for d in open_corpus(str(tmp_path / "c.json"))] == [("a", ""), ("b", "s")]
    with pytest.raises(KolmoError, match='item 1: is a string, which has no column "body"'):
        list(open_corpus(str(tmp_path / "a.json"), column="body"))


COLUMNS: list[dict[str, Any]] = [
    {"title": "Ein Titel", "body": "the text", "content": "other", "when": "2026-02-03", "n": 7},
    {"title": None, "body": "more text", "content": "other", "when": None, "n": 8},
]


@pytest.mark.parametrize("kind", ["a.jsonl", "a.json", "a.json.gz", "a.parquet", "folder"])
def test_columns_that_are_asked_for(tmp_path: Path, kind: str) -> None:
    path = tmp_path / kind
    if kind == "a.parquet":
        pa = pytest.importorskip("pyarrow", reason="needs pyarrow")
        pytest.importorskip("pyarrow.parquet", reason="needs pyarrow").write_table(pa.Table.from_pylist(COLUMNS), path)
    elif kind == "folder":
        path.mkdir()
        write_lines(path / "x.jsonl", COLUMNS)
    elif kind == "a.jsonl":
        write_lines(path, COLUMNS)
    else:
        data = json.dumps(COLUMNS).encode()
        path.write_bytes(gzip.compress(data) if kind.endswith(".gz") else data)
    spec = str(path)
    found = list(open_corpus(spec, column="body", name_column="title", date_column="when"))
    assert [d.content for d in found] == ["the text", "more text"]
    assert found[0].name == "Ein Titel"
    assert found[1].name == list(open_corpus(spec))[1].name  # null: as without
    assert [d.date for d in found] == ["2026-02-03", ""]
    assert [d.name for d in open_corpus(spec, name_column="n")] == ["7", "8"]
    assert contents(open_corpus(spec)) == ["other", "other"]
    assert contents(open_corpus(f"new={spec}", column="body")) == ["the text", "more text"]
    for asked in ({"column": "x\ny"}, {"name_column": "x\ny"}, {"date_column": "x\ny"}):
        with pytest.raises(KolmoError) as caught:
            list(open_corpus(spec, limit=1, **asked))
        assert 'no column "x\\ny"; there is: "title", "body", "content", "when", "n"' in str(caught.value)
        assert "\n" not in str(caught.value)
    with pytest.raises(KolmoError, match='column "n" has no string'):
        list(open_corpus(spec, column="n"))


def test_columns_that_some_records_lack(tmp_path: Path) -> None:
    path = str(write_lines(tmp_path / "a.jsonl", [{"t": "a", "n": "first", "d": "2026-01-01"}, {"t": "b"}]))
    found = list(open_corpus(path, column="t", name_column="n", date_column="d"))
    assert [(d.content, d.name, d.date) for d in found] == [("a", "first", "2026-01-01"), ("b", "a.jsonl:2", "")]
    write_lines(tmp_path / "a.jsonl", [{"t": "a"}, {"n": "b"}])
    with pytest.raises(KolmoError, match=r'a\.jsonl:2: has no column "t"; there is: "n"'):
        list(open_corpus(path, column="t"))
    write_lines(tmp_path / "a.jsonl", [{"t": "a", "n": "\ud83d"}])
    with pytest.raises(KolmoError, match="half of a surrogate pair"):
        list(open_corpus(path, column="t", name_column="n"))
    write_lines(tmp_path / "a.jsonl", [{f"column {k} " + "x" * 1000: "a" for k in range(500)}])
    with pytest.raises(KolmoError) as caught:
        list(open_corpus(path, column="t" * 10_000))
    assert len(str(caught.value)) < 4000


def test_texts_have_no_columns(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a")
    (tmp_path / "a.csv").write_text("x,y")
    for spec in ("a.txt", "a.csv", "."):
        with pytest.raises(KolmoError, match="no columns"):
            list(open_corpus(str(tmp_path / spec), column="x"))


def test_framing_is_no_content(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"content": "a"}\r\n\r\n \t{"content": "b"} \n\n{"content": "c"}')
    assert [(d.content, d.name) for d in open_corpus(str(path))] == [
        ("a", "a.jsonl:1"),
        ("b", "a.jsonl:3"),
        ("c", "a.jsonl:5"),
    ]


@pytest.mark.parametrize("packed", [False, True])
@given(content=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1))
@settings(max_examples=50, deadline=None)
def test_a_text_is_exactly_the_file(tmp_path_factory: pytest.TempPathFactory, packed: bool, content: str) -> None:
    path = tmp_path_factory.mktemp("text") / ("a.txt.gz" if packed else "a.txt")
    path.write_bytes(gzip.compress(content.encode()) if packed else content.encode())
    (document,) = open_corpus(str(path))
    assert (document.content, document.name) == (content, path.name)


def test_line_ends_and_marks_stay(tmp_path: Path) -> None:
    for data in (
        b"a\r\nb\rc\n",
        b"\xef\xbb\xbfa",
        b"a\n\n ",
        b"x" * files.READ_BYTES + "é".encode() * files.READ_BYTES,
    ):
        (tmp_path / "a.py").write_bytes(data)
        (document,) = open_corpus(str(tmp_path / "a.py"))
        assert document.content.encode() == data


@given(st.lists(st.tuples(TEXT, TEXT, st.dictionaries(TEXT, st.none() | st.integers() | TEXT)), min_size=1))
@settings(max_examples=50, deadline=None)
def test_what_is_written_as_lines_comes_back(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str, dict[str, Any]]]
) -> None:
    folder = tmp_path_factory.mktemp("lines")
    records = [{"content": content, "subset": subset, "meta": meta} for content, subset, meta in rows]
    path = write_lines(folder / "a.jsonl", records)
    found = [{"content": d.content, "subset": d.subset, "meta": d.meta} for d in open_corpus(str(path))]
    assert found == records
    lines = "".join(json.dumps(record, ensure_ascii=False) + "\r\n" for record in records)
    path.write_bytes(lines.encode())
    assert [{"content": d.content, "subset": d.subset, "meta": d.meta} for d in open_corpus(str(path))] == records


def test_parquet(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow", reason="needs pyarrow")
    pq = pytest.importorskip("pyarrow.parquet", reason="needs pyarrow")
    table = pa.table(
        {
            "content": ["a", "", "c\r\n"],
            "subset": pa.array(["cc", "cc", None]).dictionary_encode(),
            "meta": [{"k": 1, "at": datetime(2023, 9, 1, 23)}] * 3,
            "created": [date(2024, 1, 2)] * 3,
            "image": [b"x"] * 3,
            "tags": [["x"]] * 3,
            "far": pa.array([10**15, 1, 1], pa.timestamp("s")),
        }
    )
    path = tmp_path / "a.parquet"
    pq.write_table(table, path, row_group_size=2)
    meta = {"k": 1, "at": "2023-09-01T23:00:00", "created": "2024-01-02"}
    found = list(open_corpus(str(path)))
    assert found == [
        Document("a", "cc", "a.parquet row 0", {**meta, "far": None}),
        Document("c\r\n", "", "a.parquet row 2", {**meta, "far": "1970-01-01T00:00:01"}),
    ]
    assert found[0].date == "2024-01-02"
    json.dumps([d.meta for d in found])


@given(st.lists(st.tuples(TEXT, TEXT, TEXT, st.integers(-(2**63), 2**63 - 1)), min_size=1, max_size=40))
@settings(max_examples=30, deadline=None)
def test_what_is_written_as_parquet_comes_back(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str, str, int]]
) -> None:
    pa = pytest.importorskip("pyarrow", reason="needs pyarrow")
    pq = pytest.importorskip("pyarrow.parquet", reason="needs pyarrow")
    folder = tmp_path_factory.mktemp("parquet")
    records = [{"content": c, "subset": s, "meta": {"a": a, "n": n}} for c, s, a, n in rows]
    pq.write_table(pa.Table.from_pylist(records), folder / "a.parquet", row_group_size=7)
    write_lines(folder / "a.jsonl", records)
    parquet, lines = (list(open_corpus(str(folder / name))) for name in ("a.parquet", "a.jsonl"))
    assert [{"content": d.content, "subset": d.subset, "meta": d.meta} for d in parquet] == records
    assert [(d.content, d.subset, d.meta) for d in lines] == [(d.content, d.subset, d.meta) for d in parquet]


def test_parquet_that_is_wrong(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow", reason="needs pyarrow")
    pq = pytest.importorskip("pyarrow.parquet", reason="needs pyarrow")
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"content": ["a", None]}), path)
    assert "a.parquet, row 1: has no string" in refusal(path)
    pq.write_table(pa.table({"contents": ["a"]}), path)
    assert 'no column "content"; there is: "contents"' in refusal(path)
    pq.write_table(pa.table({"content": pa.array([b"a", b"\xff"])}), path)
    assert "a.parquet, row 1: byte 0 of `content` is not UTF-8" in refusal(path)
    pq.write_table(pa.table({"content": [str(i) * 50 for i in range(1000)]}), path)
    good = path.read_bytes()
    chance = random.Random(1)
    for attempt in range(60):
        data = bytearray(good)
        if attempt % 2:
            del data[chance.randrange(len(data)) :]
        else:
            data[chance.choice((chance.randrange(len(data)), len(data) - 1 - chance.randrange(600)))] ^= 0x55
        path.write_bytes(data)
        try:
            list(open_corpus(str(path)))
        except KolmoError as error:
            assert "a.parquet" in str(error)  # noqa: PT017
            assert "\n" not in str(error)  # noqa: PT017


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b'{"content": "a"}\n{"content": "b"\n', "a.jsonl:2: is not a JSON object (Expecting ',' delimiter"),
        (b'{"content": "a"}\n["b"]\n', "a.jsonl:2: is not a JSON object"),
        (b'{"content": "a"}\n"b\n', "a.jsonl:2: is not a JSON object (Invalid control character"),
        (b'{"content": "a"}\n"b\\ud83d"\n', "a.jsonl:2: character 1 is half of a surrogate pair"),
        (b'{"content": "a"}\nnull\n', "a.jsonl:2: is not a JSON object"),
        (b'{"content": "a"} {"content": "b"}\n', "a.jsonl:1: is not a JSON object (Extra data"),
        (b'\n{"subset": "cc"}\n', "a.jsonl:2: has no string `content`"),
        (b'{"content": null}\n', "a.jsonl:1: has no string"),
        (b'{"content": 7}\n', "a.jsonl:1: has no string"),
        (b'{"content": "a\\ud83d"}\n', "a.jsonl:1: character 1 is half of a surrogate pair"),
        (b'{"content": "a", "subset": "\\udc00"}\n', "a.jsonl:1: character 0 is half"),
        (b'{"content": "\xff"}\n', "a.jsonl:1: byte 13 is not UTF-8"),
        (b'{"content": "a"}\n{"content": "\xe2\x82', "a.jsonl:2: byte 30 is not UTF-8"),
        (b'{"content": "a"}\n{"content": "\0"}\n', "a.jsonl:2: byte 30 is zero"),
        (b'{"content": "a", "n": ' + b"1" * 5000 + b"}\n", "a.jsonl:1: is not JSON that can be read here"),
        (b'{"content": "a", "n": ' + b"[" * 10**6 + b"\n", "a.jsonl:1: is not JSON that can be read here"),
        (b"", "holds no text"),
        (b'{"content": ""}\n', "holds no text"),
    ],
)
def test_lines_that_are_wrong(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "a.jsonl").write_bytes(data)
    assert message in refusal(tmp_path / "a.jsonl")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[{"content": "a"}, ["b"]]', "a.json, item 2: is not a JSON object"),
        ('["a", 7]', "a.json, item 2: is not a JSON object"),
        ('["a", "\\udc00"]', "a.json, item 2: character 0 is half of a surrogate pair"),
        ('["a", "b]', "a.json, item 2: is not JSON (Unterminated string"),
        ('[{"content": "a"}, {"content": ]', "a.json, item 2: is not JSON (Expecting value"),
        ('[{"content": "a"} {"content": "b"}]', "a.json, item 1: no comma"),
        ('[{"content": "a"},]', "a.json, item 2: is no JSON"),
        ('[{"content": "a"}', "a.json, item 1: no comma"),
        ("[" * 10**6, "a.json, item 1: is not JSON that can be read here"),
        ("[]", "holds no text"),
        ('{\n "content": "a"\n}', "a.json:1: is not a JSON object"),
        ("17", "a.json:1: is not a JSON object"),
    ],
)
def test_lists_that_are_wrong(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "a.json").write_text(text)
    assert message in refusal(tmp_path / "a.json")


def test_a_huge_binary_file_is_refused_at_once(tmp_path: Path) -> None:
    for name, head in (("a.jsonl", b"\x7fELF"), ("b.jsonl", b'{"'), ("c.json", b"[\xff"), ("d.txt", b"GIF8")):
        with open(tmp_path / name, "wb") as file:
            file.write(head + bytes(range(1, 256)))
            file.truncate(files.MAX_DOCUMENT_BYTES)  # a hole
        before = bytes_read()
        assert name in refusal(tmp_path / name)
        assert bytes_read() - before < 4 * files.READ_BYTES


def test_long_lines_are_fine_and_claims_are_not_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long = "é" * (3 * files.READ_BYTES)
    path = write_lines(tmp_path / "a.jsonl", [{"content": long}])
    assert contents(open_corpus(str(path))) == [long]
    monkeypatch.setattr(files, "MAX_DOCUMENT_BYTES", 1 << 18)
    monkeypatch.setattr("kolmo.corpus.json_lines.LARGEST", 1 << 18)
    (tmp_path / "bomb.txt.gz").write_bytes(gzip.compress(b"a" * (1 << 20)))
    (tmp_path / "bomb.jsonl.gz").write_bytes(gzip.compress(b'{"content": "' + b"a" * (1 << 20)))
    (tmp_path / "large.txt").write_bytes(b"a" * (1 << 20))
    for name in ("bomb.txt.gz", "bomb.jsonl.gz", "large.txt"):
        assert "too much for one document" in refusal(tmp_path / name)


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-9], lambda data: data[:60] + b"\0" + data[61:], lambda _: b"no"]
)
def test_damaged_gzip(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    path = write_lines(tmp_path / "a.jsonl.gz", RECORDS)
    path.write_bytes(damage(path.read_bytes()))
    assert "a.jsonl.gz" in refusal(path)


def test_texts_that_are_none(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("aé".encode() + b"\xe9b")
    assert refusal(path).startswith(f"{path}: byte 3 is not UTF-8")
    path.write_bytes(b"x" * (files.READ_BYTES - 1) + b"\xe2\x82")
    assert refusal(path).startswith(f"{path}: byte {files.READ_BYTES - 1} is not UTF-8")
    path.write_bytes("a".encode("utf-16-le"))
    assert refusal(path).startswith(f"{path}: byte 1 is zero")
    path.write_bytes(b"")
    assert "holds no text" in refusal(path)


def test_limit_and_subset(tmp_path: Path) -> None:
    path = str(write_lines(tmp_path / "a.jsonl", RECORDS * 2))
    assert contents(open_corpus(path, limit=2)) == ["one\r\ntwo\u2028three\x85", "\ufeffb"]  # the empty one counts not
    assert contents(open_corpus(path, subset="python")) == ["\ufeffb"] * 2
    assert contents(open_corpus(path, subset="python", limit=1)) == ["\ufeffb"]
    assert contents(open_corpus(path, subset="")) == ["c\U0001f40d"] * 2
    with pytest.raises(KolmoError, match=r'no document is of the subset "x"; there is "cc", "python", ""'):
        list(open_corpus(path, subset="x"))
    with pytest.raises(KolmoError, match="a limit of 0"):
        open_corpus(path, limit=0)


def test_only_what_is_asked_for_is_read(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "a.jsonl", RECORDS[:1])
    path.write_bytes(path.read_bytes() + b"\xff")
    assert len(list(open_corpus(str(path), limit=1))) == 1


def test_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_lines(tmp_path / "a.b.jsonl.gz", RECORDS)
    write_lines(tmp_path / "x=a.jsonl", RECORDS)
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "t.txt").write_text("t")
    for spec, name, source in (
        ("a.b.jsonl.gz", "a.b", "a.b.jsonl.gz"),
        ("new-1=a.b.jsonl.gz", "new-1", "a.b.jsonl.gz"),
        ("x=a.jsonl", "x=a", "x=a.jsonl"),
        ("y=x=a.jsonl", "y", "x=a.jsonl"),
        ("sub", "sub", "sub"),
        ("sub/", "sub", "sub/"),
        ("sub/../sub/t.txt", "t", "sub/../sub/t.txt"),
        (".", tmp_path.name, "."),
    ):
        corpus = open_corpus(spec)
        assert (corpus.name, corpus.source) == (name, source)
        assert list(corpus)


def test_paths_that_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.txt").write_text("a")
    for spec in ("none", "none.jsonl", "data/cc.jsonl", "a/b/c", "x=none", "./a/b", "none:cc@test", "\0"):
        assert "no such file or folder" in refusal(spec)  # and the network is not asked
    assert "needs a name" in refusal("")
    assert "only folders have configurations" in refusal("a.txt:cc")
    os.mkfifo("pipe")
    assert "neither a file nor a folder" in refusal("pipe")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a")
    (tmp_path / "a.txt").chmod(0)
    assert "check the name and the permissions" in refusal(tmp_path / "a.txt")


def test_any_documents_make_a_corpus() -> None:
    corpus = Corpus("x", "memory", [Document("a"), Document(""), Document("b", "s")])
    assert contents(corpus) == contents(corpus) == ["a", "b"]
    corpus.subset = "s"
    assert contents(corpus) == ["b"]


@pytest.mark.parametrize(
    ("meta", "day"),
    [
        ({}, ""),
        ({"date": "2023-09-30"}, "2023-09-30"),
        ({"date": "2023-09-30T23:30:00-05:00"}, "2023-09-30"),
        ({"Date": " 2023/09/30 "}, "2023-09-30"),
        ({"date_download": "2023-09-30T01:02:03Z"}, "2023-09-30"),
        ({"createdAt": "2023-09-30"}, "2023-09-30"),
        ({"created": "Mon, 2 Apr 2007 19:18:42 GMT"}, "2007-04-02"),
        ({"timestamp": "20230930010203"}, "2023-09-30"),
        ({"timestamp": 1696031999}, "2023-09-29"),
        ({"timestamp": 1696031999123}, "2023-09-29"),
        ({"timestamp": 1696031999.5e9}, "2023-09-29"),
        ({"date": 20230930}, "2023-09-30"),
        ({"date": datetime(2023, 9, 30, tzinfo=timezone(timedelta(hours=5)))}, "2023-09-30"),
        ({"date": date(1, 2, 3)}, "0001-02-03"),
        ({"date": "soon", "updated": "2023-09-30"}, "2023-09-30"),
        ({"created": "2023-01-01", "updated": "2023-09-30"}, "2023-01-01"),
        ({"date": "2023-09"}, ""),
        ({"date": "03/04/2023"}, ""),
        ({"date": "2023-02-30"}, ""),
        ({"date": "2023-09-301"}, ""),
        ({"date": True}, ""),
        ({"date": float("inf")}, ""),
        ({"date": float("nan")}, ""),
        ({"date": -5}, ""),
        ({"date": 10**400}, ""),
        ({"date": ["2023-09-30"]}, ""),
        ({"other": "2023-09-30"}, ""),
    ],
)
def test_dates(meta: dict[str, Any], day: str) -> None:
    assert Document("a", meta=meta).date == day


@given(st.dictionaries(st.sampled_from(["date", "created"]), st.text() | st.floats() | st.integers() | st.dates()))
@settings(max_examples=300, deadline=None)
def test_a_date_is_one_or_none(meta: dict[str, Any]) -> None:
    day = Document("a", meta=meta).date
    assert day == "" or date.fromisoformat(day).isoformat() == day


def test_plain_values() -> None:
    assert plain({1: (date(2023, 9, 1), b"\xff"), "x": {"y": [None, True, 1.5]}, "t": timedelta(1)}) == {
        "1": ["2023-09-01", "\\xff"],
        "x": {"y": [None, True, 1.5]},
        "t": "1 day, 0:00:00",
    }
