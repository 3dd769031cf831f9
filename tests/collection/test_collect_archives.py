"""Records of WARC and WET files: damaged members cost themselves alone, and are counted."""

from __future__ import annotations

import gzip
import random
import time
import zlib
from collections import Counter
from io import BytesIO

import pytest
from archives_made import pages_of, write_wet

from kolmo.collection.common_crawl import archives
from kolmo.collection.common_crawl.archives import ArchiveRecord, parse_headers, read_records

WET = "WARC/1.0\r\nWARC-Type: conversion\r\nContent-Length: {}\r\n\r\n"


def read(data: bytes) -> tuple[list[ArchiveRecord], dict[str, int]]:
    losses: Counter[str] = Counter()
    return list(read_records(BytesIO(data), lambda why: losses.update([why]))), dict(losses)


def record(text: str) -> bytes:
    return WET.format(len(text)).encode() + text.encode() + b"\r\n\r\n"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write_wet(tmp_path_factory.mktemp("wet") / "whole.wet.gz", pages_of(0, 20)).read_bytes()


def members(data: bytes) -> list[tuple[int, int]]:
    """Begin and end of each gzip member."""
    found, at = [], 0
    while at < len(data):
        unpacker = zlib.decompressobj(31)
        unpacker.decompress(data[at:])
        found.append((at, len(data) - len(unpacker.unused_data)))
        at = found[-1][1]
    return found


def test_a_whole_file(whole: bytes) -> None:
    records, losses = read(whole)
    assert [one.headers["warc-type"] for one in records] == ["warcinfo"] + ["conversion"] * 20
    assert not losses
    assert records[1].block.decode().startswith("Title 0\nHome\n")


def test_a_truncated_file_loses_its_last_record_and_says_so(whole: bytes) -> None:
    begin, end = members(whole)[-1]
    for cut in (begin + 1, begin + 15, (begin + end) // 2, end - 1):
        records, losses = read(whole[:cut])
        assert len(records) == 20
        assert sum(losses.values()) == 1, (cut, losses)
    assert read(whole[:begin]) == (read(whole)[0][:-1], {})


def test_every_flipped_bit_costs_one_record_at_most(whole: bytes) -> None:
    """The others are untouched. Bits that nothing depends on (the header's time) cost none."""
    begin, end = members(whole)[5]
    intact, _ = read(whole)
    chance = random.Random(1)
    for place in [*range(begin, begin + 12), *(chance.randrange(begin, end) for _ in range(60)), *range(end - 8, end)]:
        damaged = bytearray(whole)
        damaged[place] ^= 1 << chance.randrange(8)
        records, losses = read(bytes(damaged))
        assert sum(losses.values()) == 21 - len(records), (place - begin, losses)
        assert records in (intact, intact[:5] + intact[6:]), place - begin


def test_a_saved_error_page_is_counted() -> None:
    body = b'<?xml version="1.0"?><Error><Code>SlowDown</Code></Error>'
    assert read(body) == ([], {archives.FOREIGN: 1})
    assert read(gzip.compress(body)) == ([], {archives.FOREIGN: 1})
    assert read(b"") == ([], {})


def test_headers_go_by_name_and_fold() -> None:
    found = parse_headers(b"WARC/1.0\r\nWARC-TYPE:  response \r\nX: a\r\n b\r\nX: second\r\nnonsense\r\n")
    assert found == {"warc-type": "response", "x": "a b"}


def test_files_that_are_not_packed_and_members_of_several_records() -> None:
    several = record("one") + record("two") + record("three")
    blocks = [b"one", b"two", b"three"]
    for data in (
        several,
        gzip.compress(several),
        gzip.compress(record("one")) + gzip.compress(several[len(record("one")) :]),
    ):
        records, losses = read(data)
        assert [one.block for one in records] == blocks
        assert not losses
    cut = gzip.compress(several)[:-12]
    records, losses = read(cut)
    assert [one.block for one in records] in (blocks[:1], blocks[:2])
    assert sum(losses.values()) == 1
    assert read(several[:-12])[1] == {archives.SHORT: 1}


def test_what_a_record_claims_takes_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    assert read(WET.format(10**18).encode() + b"x" * 100)[1] == {archives.LARGE: 1, archives.SHORT: 1}
    assert read(WET.format("-5").encode())[1] == {archives.FOREIGN: 1}
    assert read(WET.format("9" * 5000).encode())[1] == {archives.FOREIGN: 1}
    monkeypatch.setattr(archives, "MAX_RECORD_BYTES", 100_000)
    large = gzip.compress(record("x" * 2_000_000)) + gzip.compress(record("after"))
    records, losses = read(large)
    assert [one.block for one in records] == [b"after"]
    assert losses == {archives.LARGE: 1}
    assert [one.block for one in read(record("y" * 2_000_000) + record("after"))[0]] == [b"after"]


def test_a_header_without_end() -> None:
    assert read(gzip.compress(b"WARC/1.0\r\n" + b"X" * (3 << 20)))[1] == {archives.FOREIGN: 1}


def test_many_places_that_look_like_members_take_no_long_time() -> None:
    begin = time.monotonic()
    data = (
        gzip.compress(record("one"))
        + b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03" * 20_000
        + gzip.compress(record("two"))
    )
    records, losses = read(data)
    assert [one.block for one in records] == [b"one", b"two"]
    assert sum(losses.values()) == 1
    assert time.monotonic() - begin < 20


def test_padding_behind_the_last_member(whole: bytes) -> None:
    assert read(whole + b"\0" * 1000) == read(whole)
