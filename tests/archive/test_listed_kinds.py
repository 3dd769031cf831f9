"""`kolmo list -v` and `--json`: what blocks were taken for, read without decoding, of damaged files too."""

from __future__ import annotations

import io
import json
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

import kolmo
from helpers.fake_kinds import Ramp, announced
from helpers.order0 import Order0
from kolmo.archive.listing import list_stream
from kolmo.cli import group
from kolmo.container import index
from kolmo.container.wire import Reader
from kolmo.predictors.base import BlockPart
from kolmo.predictors.embedded import cm
from kolmo.predictors.embedded.kinds import known
from kolmo.predictors.parts import MAX_SHARES, KindShare, described, shares

NOISE = random.Random(5).randbytes
RAMPS = NOISE(5000) + announced(3, 6400) + NOISE(2000) + announced(5, 640)


@pytest.fixture
def ramps(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """`cm` knows one special kind, which is cheap to test."""
    monkeypatch.setattr(cm, "special_kinds", lambda: {Ramp.code: Ramp()})
    for cached in (cm._kinds, cm._fingerprint, known.special_kinds):
        cached.cache_clear()
    yield
    for cached in (cm._kinds, cm._fingerprint, known.special_kinds):
        cached.cache_clear()


def listed(data: bytes) -> tuple[KindShare, ...] | None:
    (frame,) = list_stream(io.BytesIO(data), kinds=True).frames
    return frame.kinds


@pytest.mark.usefixtures("ramps")
def test_kinds_of_a_frame() -> None:
    packed = kolmo.compress(RAMPS, predictor="cm:1")
    assert kolmo.decompress(packed) == RAMPS
    expected = [("plain", 7012, 2, {}), ("ramp", 6400, 1, {"step": 3}), ("ramp", 640, 1, {"step": 5})]
    found = listed(packed)
    assert found is not None
    assert [(s.kind, s.size, s.parts, s.parameters) for s in found] == expected
    (frame,) = list_stream(io.BytesIO(packed)).frames
    assert frame.kinds is None


@pytest.mark.usefixtures("ramps")
def test_stored_damaged_and_truncated_blocks() -> None:
    packed = bytearray(kolmo.compress(RAMPS + NOISE(20_000), predictor="cm:1", block_size=14_000))
    walked = index.Index.walk(Reader(io.BytesIO(bytes(packed))))
    assert len(walked.spots) == 3
    found = listed(bytes(packed))
    assert found is not None
    assert sum(share.size for share in found) == len(RAMPS) + 20_000
    assert {share.kind for share in found} == {"plain", "ramp", "stored"}
    head = walked.spots[0].offset + walked.spots[0].size - 8000
    packed[head : head + 4000] = bytes(4000)  # within the content: the list of segments stands before it
    assert listed(bytes(packed)) == found
    at = walked.spots[0].offset + 13
    packed[at : at + 40] = b"\x00" * 40
    damaged = listed(bytes(packed))
    assert damaged is not None
    assert sum(share.size for share in damaged) == len(RAMPS) + 20_000
    assert "unknown" in {share.kind for share in damaged}
    listing = list_stream(io.BytesIO(bytes(packed[:-3000])), kinds=True)
    assert listing.error is not None
    assert listing.frames[0].kinds


def test_other_predictors_and_versions_have_no_kinds() -> None:
    assert listed(kolmo.compress(b"abc" * 50, predictor=Order0())) is None
    packed = bytearray(kolmo.compress(b"abc" * 50, predictor="cm:1"))
    assert listed(bytes(packed)) is not None


def test_a_stream_that_cannot_seek() -> None:
    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return False

    packed = kolmo.compress(b"a text of words, " * 50, predictor="cm:1")
    (frame,) = list_stream(Pipe(packed), kinds=True).frames
    assert frame.kinds == listed(packed)


@pytest.mark.usefixtures("ramps")
def test_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("x.kmo").write_bytes(kolmo.compress(RAMPS, predictor="cm:1"))
    shown = CliRunner().invoke(group, ["list", "-v", "x.kmo"]).output
    assert "    kinds        plain 50%, ramp 46% (step 3), ramp 5% (step 5)\n" in shown
    record = json.loads(CliRunner().invoke(group, ["list", "--json", "x.kmo"]).output)
    assert record["frames"][0]["kinds"][1] == {"kind": "ramp", "size": 6400, "parts": 1, "parameters": {"step": 3}}
    many = b"".join(announced(step, 1280) + NOISE(99) for step in range(1, 12))
    Path("y.kmo").write_bytes(kolmo.compress(many, predictor="cm:1"))
    lines = CliRunner().invoke(group, ["list", "-v", "y.kmo"]).output.splitlines()
    at = next(number for number, line in enumerate(lines) if line.startswith("    kinds"))
    assert all(len(line) <= 80 for line in lines[at : at + 4])
    assert lines[at].endswith(",")
    assert lines[at + 1].startswith(" " * 17 + "ramp")


def test_shares_are_bounded() -> None:
    parts = [BlockPart("image", k, 10, {"stride": k, "channels": 1}) for k in range(3 * MAX_SHARES)]
    found = shares(parts)
    assert len(found) == MAX_SHARES + 1
    assert sum(share.size for share in found) == 10 * len(parts)
    phrases = described(found)
    assert phrases[0] == "image 67%"
    assert phrases[1] == "image <1% (width 0, 1 channel)"
    assert phrases[-1].startswith(f"{MAX_SHARES + 1 - 12} more ")
