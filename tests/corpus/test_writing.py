"""Documents written as the readers of the same room, and `datasets`, read them."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from kolmo.corpus import Document, open_corpus
from kolmo.corpus.writing import FORMATS, file_digest, write_documents
from kolmo.errors import KolmoError

DOCUMENTS = [
    Document("plain\r\ntext\n", "cc", meta={"url": "u", "lines": [1, 2], "none": None}),
    Document("\ufeffé\u2028\U0001f600\0", "python", meta={"stars": 3}),
    Document("x" * 5000, "arxiv_math"),
]


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("size", [10**9, 1])
def test_what_is_written_is_read(tmp_path: Path, form: str, size: int) -> None:
    if form == "parquet":
        pytest.importorskip("pyarrow", reason="needs pyarrow: pip install 'kolmo-codelength[eval]'")
    written = write_documents(DOCUMENTS, str(tmp_path), "test", format=form, file_bytes=size)
    assert [file.documents for file in written] == ([3] if size > 1 else [1, 1, 1])
    found = [one for file in written for one in open_corpus(str(tmp_path / file.path))]
    assert [(one.content, one.subset, dict(one.meta)) for one in found] == [
        (one.content, one.subset, dict(one.meta)) for one in DOCUMENTS
    ]
    for file in written:
        assert (file.size, file.sha256) == (
            (tmp_path / file.path).stat().st_size,
            file_digest(str(tmp_path / file.path)),
        )
    again = write_documents(iter(DOCUMENTS), str(tmp_path / "again"), "test", format=form, file_bytes=size)
    assert again == written


def test_files_beyond_the_last_are_removed(tmp_path: Path) -> None:
    write_documents(DOCUMENTS, str(tmp_path), "test", file_bytes=1)
    (tmp_path / "other-00001.jsonl").touch()
    write_documents(DOCUMENTS[:1], str(tmp_path), "test", file_bytes=1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other-00001.jsonl", "test-00000.jsonl"]


def test_keys_are_in_one_order_and_gzip_has_no_time(tmp_path: Path) -> None:
    (file,) = write_documents(DOCUMENTS[:1], str(tmp_path), "test", format="jsonl.gz")
    data = (tmp_path / file.path).read_bytes()
    assert data[4:8] == b"\0\0\0\0"
    assert list(json.loads(gzip.decompress(data))) == ["content", "subset", "meta"]


def test_nothing_and_what_is_no_text(tmp_path: Path) -> None:
    (file,) = write_documents([], str(tmp_path), "test")
    assert (file.documents, file.size) == (0, 0)
    with pytest.raises(KolmoError, match="half of a surrogate pair"):
        write_documents([Document("a\ud800")], str(tmp_path / "b"), "test")
    assert list((tmp_path / "b").iterdir()) == []
    with pytest.raises(KolmoError, match="no format csv"):
        write_documents([], str(tmp_path), "test", format="csv")
