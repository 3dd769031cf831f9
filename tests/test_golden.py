"""Decoding is a promise: every file of a released format opens for ever, and the newest still write their own."""

from __future__ import annotations

from pathlib import Path

import pytest

import kolmo
from golden import RELEASE, RELEASES, find, make_weights, measured, sums
from golden.make import CASES, encode

FILES = find("*.kmo")
WEIGHTS = find("weights/*.safetensors")


@pytest.mark.parametrize("release", sorted(RELEASES.glob("v*")), ids=lambda path: path.name)
def test_no_file_of_a_release_has_changed(release: Path) -> None:
    assert measured(release) == sums(release)


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
    raw = (RELEASE / f"{name}.raw").read_bytes()
    assert encode(name, raw) == (RELEASE / f"{name}.kmo").read_bytes()


def test_there_are_shrunk_checkpoints_of_every_kind() -> None:
    assert {path.stem for path in WEIGHTS} == {*make_weights.CASES, make_weights.CALIBRATED}


@pytest.mark.parametrize("path", WEIGHTS, ids=lambda path: path.stem)
def test_a_shrunk_checkpoint_expands(path: Path) -> None:
    assert make_weights.expanded(path) == path.with_suffix(".sha256").read_text().strip()


@pytest.mark.filterwarnings("ignore::kolmo.errors.ShrinkWarning")  # coarse steps lose much
@pytest.mark.parametrize("name", sorted(make_weights.CASES))
def test_shrink_still_writes_these_bytes(name: str, tmp_path: Path) -> None:
    make_weights.write(name, tmp_path / "small")
    assert (tmp_path / "small").read_bytes() == (RELEASE / "weights" / f"{name}.safetensors").read_bytes()
