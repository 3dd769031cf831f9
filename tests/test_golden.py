"""Decoding is a promise: every file of a released format opens for ever, and version 1 of `cm` still writes its own."""

from __future__ import annotations

from pathlib import Path

import pytest

import kolmo
from golden.make import CASES, encode

GOLDEN = Path(__file__).parent / "golden"
FILES = sorted(GOLDEN.glob("*.kmo"))


def test_there_are_golden_files_of_every_kind() -> None:
    assert {path.stem for path in FILES} == set(CASES)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_opens(path: Path) -> None:
    raw = path.with_suffix(".raw").read_bytes()
    assert kolmo.decompress(path.read_bytes()) == raw
    with kolmo.open(path) as file:
        assert file.read() == raw


@pytest.mark.parametrize("name", sorted(CASES))
def test_the_writer_still_writes_these_bytes(name: str) -> None:
    raw = (GOLDEN / f"{name}.raw").read_bytes()
    assert encode(name, raw) == (GOLDEN / f"{name}.kmo").read_bytes()
