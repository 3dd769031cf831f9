"""Streams and files: sizes, times, modes, damaged inputs, failing outputs. Nothing half-written may stay."""

from __future__ import annotations

import errno
import io
import os
from pathlib import Path
from typing import Any

import pytest

import kolmo
from helpers.order0 import Order0
from kolmo.archive.files import compress_file, decompress_file, safe_name
from kolmo.archive.listing import list_stream
from kolmo.archive.streams import Summary, check_stream, compress_stream, decompress_stream
from kolmo.codec.frames import even_blocks
from kolmo.errors import CorruptError, MemoryLimitError, PredictorError, TruncatedError
from kolmo.targets import TargetExistsError

DATA = b"a file of some length, with some words in it\n" * 60
P = Order0()


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "a.txt"
    path.write_bytes(DATA)
    path.chmod(0o640)
    os.utime(path, ns=(10**18 + 123, 10**18 + 456789))
    return path


def packed(data: bytes = DATA, block_size: int = 500) -> bytes:
    return kolmo.compress(data, predictor=P, block_size=block_size)


def test_streams_in_constant_pieces() -> None:
    class Dribble(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            return super().read(min(size or 0, 7))

        def write(self, data: object, /) -> int:
            return super().write(bytes(data)[:5])  # type: ignore[call-overload]

    target = Dribble()
    summary = compress_stream(Dribble(DATA), target, P, size=len(DATA), block_size=500)
    assert target.getvalue() == packed()
    assert summary == Summary(len(DATA), len(packed()))
    plain = Dribble()
    assert decompress_stream(Dribble(packed()), plain) == summary
    assert plain.getvalue() == DATA
    assert check_stream(io.BytesIO(packed()), threads=2) == summary


def test_listing() -> None:
    first = io.BytesIO()
    compress_stream(io.BytesIO(DATA), first, P, block_size=500, name="ä.txt", mtime=5, mode=0o644)
    data = first.getvalue() + packed(b"") + packed(b"short")
    listing = list_stream(io.BytesIO(data))
    assert listing.error is None
    assert listing.raw_size == len(DATA) + 5
    assert listing.packed_size == len(data)
    one, empty, short = listing.frames
    assert (one.name, one.mtime, one.mode) == ("ä.txt", 5, 0o644)
    assert (one.predictor, one.version, one.level) == ("order0", 1, None)
    assert one.fingerprint == P.fingerprint().hex()
    assert one.blocks == -(-len(DATA) // 500)
    assert one.ratio == len(DATA) / one.packed_size
    assert (empty.blocks, empty.raw_size, empty.ratio) == (0, 0, None)
    assert (short.blocks, short.raw_size, short.name) == (1, 5, None)
    assert short.checksum is not None
    assert len(short.checksum) == 16
    cut = list_stream(io.BytesIO(data[: one.packed_size - 30]), name="x")
    assert isinstance(cut.error, TruncatedError)
    assert cut.frames[0].checksum is None


def test_file_round_trip_keeps_time_and_mode(source: Path, tmp_path: Path) -> None:
    target, back = tmp_path / "a.txt.kmo", tmp_path / "b.txt"
    summary = compress_file(str(source), str(target), P)
    assert summary == Summary(len(DATA), target.stat().st_size)
    decompress_file(str(target), str(back))
    assert back.read_bytes() == source.read_bytes() == DATA
    for path in (target, back):
        assert path.stat().st_mtime_ns == source.stat().st_mtime_ns
        assert path.stat().st_mode & 0o7777 == 0o640
    assert names(tmp_path) == ["a.txt", "a.txt.kmo", "b.txt"]


def test_stored_attributes(source: Path, tmp_path: Path) -> None:
    target, back = tmp_path / "x.kmo", tmp_path / "b.txt"
    compress_file(str(source), str(target), P, store_name=True)
    frame = list_stream(io.BytesIO(target.read_bytes())).frames[0]
    assert (frame.name, frame.mode, frame.mtime) == ("a.txt", 0o640, source.stat().st_mtime_ns)
    os.utime(target, (1, 1))
    target.chmod(0o600)
    decompress_file(str(target), str(back), use_stored=True)
    assert back.stat().st_mtime_ns == source.stat().st_mtime_ns
    assert back.stat().st_mode & 0o777 == 0o640


def test_streams_as_ends(source: Path, tmp_path: Path) -> None:
    out = io.BytesIO()
    compress_file(str(source), out, P)
    target = tmp_path / "from_stream"
    mask = os.umask(0o027)
    try:
        decompress_file(io.BytesIO(out.getvalue()), str(target))
    finally:
        os.umask(mask)
    assert target.read_bytes() == DATA
    assert target.stat().st_mode & 0o777 == 0o640


def test_existing_targets(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "t"
    target.write_bytes(b"old")
    with pytest.raises(TargetExistsError, match="t: already exists; use force=True"):
        compress_file(str(source), str(target), P)
    assert target.read_bytes() == b"old"
    compress_file(str(source), str(target), P, force=True)
    assert kolmo.decompress(target.read_bytes()) == DATA
    link = tmp_path / "dangling"
    link.symlink_to("nowhere")
    with pytest.raises(TargetExistsError):
        compress_file(str(source), str(link), P)


def test_devices_are_written_directly(source: Path) -> None:
    compress_file(str(source), os.devnull, P)
    assert not os.path.isfile(os.devnull)


def test_truncated_input_leaves_its_whole_blocks(source: Path, tmp_path: Path) -> None:
    bad, out = tmp_path / "bad.kmo", tmp_path / "out"
    bad.write_bytes(packed()[:800])
    with pytest.raises(TruncatedError) as caught:
        decompress_file(str(bad), str(out))
    assert caught.value.offset == 800
    assert str(caught.value).startswith(f"{bad}: ends too early: within block ")
    partial = tmp_path / "out.partial"
    kept = partial.read_bytes()
    assert f"its first {len(kept)} bytes are good and kept in {partial}" in str(caught.value)
    assert len(kept) > 0
    assert len(kept) % even_blocks(len(DATA), 500) == 0
    assert DATA.startswith(kept)
    assert names(tmp_path) == ["a.txt", "bad.kmo", "out.partial"]
    with pytest.raises(TruncatedError, match=r"partial exists"):
        decompress_file(str(bad), str(out))
    assert partial.read_bytes() == kept


def test_nothing_recovered_leaves_nothing(tmp_path: Path) -> None:
    bad = tmp_path / "bad.kmo"
    for data in (b"", b"no kolmo file", packed()[:40]):
        bad.write_bytes(data)
        with pytest.raises(kolmo.FormatError, match="nothing of it could be recovered"):
            decompress_file(str(bad), str(tmp_path / "out"))
        assert names(tmp_path) == ["bad.kmo"]


def test_damage_in_the_middle(tmp_path: Path) -> None:
    bad = tmp_path / "bad.kmo"
    data = bytearray(packed())
    data[1000] ^= 4
    bad.write_bytes(data)
    with pytest.raises(CorruptError, match=r"block \d: its content .*, at byte \d+; "):
        decompress_file(str(bad), str(tmp_path / "out"), threads=3)
    assert DATA.startswith((tmp_path / "out.partial").read_bytes())


def test_other_refusals_keep_nothing(tmp_path: Path) -> None:
    path = tmp_path / "x.kmo"
    path.write_bytes(packed())
    with pytest.raises(MemoryLimitError, match=rf"^{path}: block 1, at byte \d+, needs \d+ bytes .*memory_limit="):
        decompress_file(str(path), str(tmp_path / "out"), memory_limit=10)
    path.write_bytes(packed().replace(P.fingerprint(), b"abcd"))
    with pytest.raises(CorruptError):
        decompress_file(str(path), str(tmp_path / "out"))
    assert names(tmp_path) == ["x.kmo"]


def test_predictor_errors_name_the_file(tmp_path: Path) -> None:
    class Other(Order0):
        def fingerprint(self) -> bytes:
            return b"abcd"

    path = tmp_path / "x.kmo"
    path.write_bytes(kolmo.compress(DATA, predictor=Other()))
    with pytest.raises(PredictorError, match=rf"^{path}: written by .* fingerprint 61626364"):
        decompress_file(str(path), str(tmp_path / "out"))


class Breaks:
    """Stands for a disk that fills up, or for Ctrl-C, after so many bytes."""

    def __init__(self, file: Any, error: BaseException) -> None:
        self.file = file
        self.error = error
        self.left = 700

    def write(self, data: bytes) -> int:
        self.left -= len(data)
        if self.left < 0:
            raise self.error
        return int(self.file.write(data))

    def __getattr__(self, name: str) -> object:
        return getattr(self.file, name)


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "full"), KeyboardInterrupt()], ids=["full", "ctrl-c"])
@pytest.mark.parametrize("threads", [1, 2])
def test_failing_outputs_leave_nothing(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, threads: int
) -> None:
    fdopen = os.fdopen
    path = tmp_path / "x.kmo"
    path.write_bytes(packed())
    monkeypatch.setattr(os, "fdopen", lambda *args: Breaks(fdopen(*args), error))
    with pytest.raises(type(error)):
        compress_file(str(source), str(tmp_path / "new"), P, block_size=500, threads=threads)
    with pytest.raises(type(error)):
        decompress_file(str(path), str(tmp_path / "new"), threads=threads)
    assert names(tmp_path) == ["a.txt", "x.kmo"]
    assert source.read_bytes() == DATA


def test_interrupted_by_the_report(source: Path, tmp_path: Path) -> None:
    def interrupt(size: int) -> None:
        raise KeyboardInterrupt

    for threads in (1, 2):
        with pytest.raises(KeyboardInterrupt):
            compress_file(str(source), str(tmp_path / "n"), P, block_size=500, threads=threads, progress=interrupt)
    assert names(tmp_path) == ["a.txt"]


@pytest.mark.parametrize(
    ("stored", "used"),
    [
        ("a.txt", "a.txt"),
        ("../../etc/passwd", "passwd"),
        ("/abs/x", "x"),
        ("..\\..\\win.ini", "win.ini"),
        ("..", None),
        ("a/..", None),
        ("", None),
        (None, None),
        ("x/", None),
        ("a\x1b[2Jb", None),
        ("a\x00b", None),
        ("ä b.txt", "ä b.txt"),
    ],
)
def test_safe_name(stored: str | None, used: str | None) -> None:
    assert safe_name(stored) == used
