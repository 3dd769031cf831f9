"""Identifiers old and new, and the order of months."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kolmo.collection.arxiv.ids import month_of, month_of_day, parse_id
from kolmo.collection.arxiv.source_list import parse_source_list
from kolmo.collection.arxiv.steps import member_id
from kolmo.errors import KolmoError


@pytest.mark.parametrize(
    ("text", "name", "version"),
    [
        ("math0001001", "math/0001001", None),  # as files of the archive are called, which the original never matched
        ("math/0001001", "math/0001001", None),
        ("math.GT/0309136v3", "math/0309136", 3),
        ("alg-geom9202004", "alg-geom/9202004", None),
        ("cond-mat.dis-nn/9901001", None, None),  # a subject class has two capitals
        ("cond-mat/9901001", "cond-mat/9901001", None),
        ("math-ph0001001v1", "math-ph/0001001", 1),
        ("0704.0001", "0704.0001", None),
        ("2610.00001v12", "2610.00001", 12),
        ("arXiv:1501.00001v1", "1501.00001", 1),
        ("https://arxiv.org/abs/math/0309136v2", "math/0309136", 2),
        ("oai:arXiv.org:0704.0001", "0704.0001", None),
        ("2613.00001", None, None),  # month 13
        ("2600.00001", None, None),
        ("math/0801001", None, None),  # old identifiers ended in March 2007
        ("0612.0001", None, None),  # and new ones began then
        ("2610.00001v0", None, None),
        ("2610.000010", None, None),
        ("x" * 1000, None, None),
        ("", None, None),
    ],
)
def test_identifiers(text: str, name: str | None, version: int | None) -> None:
    found = parse_id(text)
    assert (found.name if found else None) == name
    assert (found.version if found else None) == version


@given(st.sampled_from(["math", "alg-geom", "q-alg"]), st.integers(91, 99), st.integers(1, 12), st.integers(0, 999))
def test_old_identifiers_of_files_and_of_metadata_are_one(archive: str, year: int, month: int, number: int) -> None:
    digits = f"{year}{month:02}{number:03}"
    found = member_id(f"{digits[:4]}/{archive}{digits}.gz")
    assert found is not None
    assert found == parse_id(f"{archive}/{digits}")


def test_the_nineties_come_first() -> None:
    order = ["9107", "9912", "0001", "0703", "0704", "2610", "9012"]  # 9012 is of the year 2090
    assert sorted(["2610", "9012", "0703", "9912", "0001", "9107", "0704"], key=month_of) == order
    assert month_of_day("1999-12-31") == month_of("9912")


def listing(*names: str) -> bytes:
    files = "".join(f"<file><filename>{name}</filename><size>7</size></file>" for name in names)
    return f"<arXivSRC>{files}</arXivSRC>".encode()


def test_the_source_list_is_in_order_of_time() -> None:
    names = ["src/arXiv_src_0001_001.tar", "src/arXiv_src_9912_001.tar", "src/arXiv_src_9107_002.tar"]
    found = parse_source_list(listing(*names, names[0]), "m.xml")
    assert [tar.filename for tar in found] == [names[2], names[1], names[0]]
    assert found[0].size == 7


@pytest.mark.parametrize(
    "data",
    [
        listing("../../etc/passwd"),
        listing("src/arXiv_src_2613_001.tar"),
        listing(),
        b"<arXivSRC><file>",
        b"\x00" * 100,
        b"",
        b'<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/hostname">]><arXivSRC>&b;</arXivSRC>',
        b"<a>" * 100_000,
    ],
    ids=["outside", "month", "empty", "cut", "zeros", "nothing", "entity", "deep"],
)
def test_a_bad_source_list_is_refused_in_one_line(data: bytes) -> None:
    with pytest.raises(KolmoError, match=r"^m\.xml: "):
        parse_source_list(data, "m.xml")
