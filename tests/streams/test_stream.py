"""Python's shapes of compression, by the behaviours that gzip's and bz2's own tests ask for."""

from __future__ import annotations

import bz2
import copy
import io
import os
import pickle
import random
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any, cast

import fsspec  # type: ignore[import-untyped]
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kolmo
import kolmo.fsspec
from helpers import order0
from kolmo.archive.streams import compress_stream
from kolmo.errors import CorruptError, MemoryLimitError, PredictorError, TruncatedError
from kolmo.streams.file import KolmoFile

LINES = [b"line %d of a file that is not very long\n" % n for n in range(60)] + [b"no end of line"]
DATA = b"".join(LINES)
BLOCK = 500


def packed(data: bytes = DATA, block_size: int = BLOCK) -> bytes:
    return kolmo.compress(data, predictor="order0", block_size=block_size)


def opened(data: bytes, threads: int = 1) -> KolmoFile:
    return kolmo.open(io.BytesIO(data), threads=threads)


class Pipe(io.RawIOBase):
    """Reads forward only, little at a time."""

    def __init__(self, data: bytes) -> None:
        self.file = io.BytesIO(data)

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        return self.file.read(min(size, 11))


@given(st.binary(max_size=2000), st.integers(1, 900))
@settings(deadline=None, max_examples=40)
def test_whole_round_trip(data: bytes, block_size: int) -> None:
    assert kolmo.decompress(packed(data, block_size)) == data


def test_buffers_of_all_kinds() -> None:
    expected = packed()
    for data in (bytearray(DATA), memoryview(DATA), memoryview(bytearray(DATA)).cast("B")):
        assert kolmo.compress(data, predictor="order0", block_size=BLOCK) == expected
    assert kolmo.decompress(bytearray(expected)) == DATA
    assert kolmo.decompress(memoryview(expected)) == DATA


def test_wrong_arguments() -> None:
    with pytest.raises(PredictorError, match="level 0"):
        kolmo.compress(b"", 0)
    with pytest.raises(PredictorError, match="known here"):
        kolmo.compress(b"", predictor="none")
    with pytest.raises(ValueError, match="block size"):
        kolmo.compress(b"", predictor="order0", block_size=0)


@given(st.lists(st.binary(max_size=700), max_size=6), st.integers(1, 3))
@settings(deadline=None, max_examples=40)
def test_compressor_pieces(pieces: list[bytes], threads: int) -> None:
    compressor = kolmo.Compressor(predictor="order0", block_size=300, threads=threads)
    out = b"".join(compressor.compress(piece) for piece in pieces) + compressor.flush()
    assert out == packed(b"".join(pieces), 300)


def test_compressor_after_the_end() -> None:
    compressor = kolmo.Compressor(predictor="order0")
    compressor.flush()
    with pytest.raises(ValueError, match="flush"):
        compressor.compress(b"more")
    with pytest.raises(ValueError, match="twice"):
        compressor.flush()


@pytest.mark.parametrize("size", [1, 2, 7, 100, 10**6])
@pytest.mark.parametrize("data", [b"", b"x", DATA[:400], DATA])
def test_decompressor_pieces(size: int, data: bytes) -> None:
    source = packed(data) + b"after"
    decompressor = kolmo.Decompressor()
    out = b""
    rest = b""
    for at in range(0, len(source), size):
        if decompressor.eof:
            rest += source[at : at + size]
        else:
            out += decompressor.decompress(source[at : at + size])
    assert out == data
    assert decompressor.eof
    assert not decompressor.needs_input
    assert decompressor.unused_data + rest == b"after"
    with pytest.raises(EOFError):
        decompressor.decompress(b"")


@pytest.mark.parametrize("limit", [1, 33, 499, 500, 501, 5000])
def test_decompressor_max_length(limit: int) -> None:
    source = packed()
    decompressor = kolmo.Decompressor()
    out = [decompressor.decompress(source, limit)]
    while not decompressor.eof or len(out[-1]) == limit:
        assert not decompressor.needs_input
        if decompressor.eof and sum(map(len, out)) == len(DATA):
            break
        out.append(decompressor.decompress(b"", limit))
        assert len(out[-1]) <= limit
    assert b"".join(out) == DATA
    assert decompressor.eof


def test_decompressor_waits_and_fails() -> None:
    source = packed()
    decompressor = kolmo.Decompressor()
    assert decompressor.decompress(source[:-1]) == DATA
    assert decompressor.needs_input
    assert not decompressor.eof
    assert decompressor.decompress(source[-1:]) == b""
    assert decompressor.eof
    with pytest.raises(kolmo.FormatError):
        kolmo.Decompressor().decompress(b"\x1f")
    with pytest.raises(MemoryLimitError, match="raise the limit"):
        kolmo.Decompressor(memory_limit=100).decompress(source)
    broken = bytearray(source)
    broken[-20] ^= 1
    with pytest.raises(CorruptError):
        kolmo.Decompressor().decompress(broken)


def test_one_frame_at_a_time() -> None:
    decompressor = kolmo.Decompressor()
    assert decompressor.decompress(packed(b"one") + packed(b"two")) == b"one"
    assert kolmo.Decompressor().decompress(decompressor.unused_data) == b"two"
    assert kolmo.decompress(packed(b"one") + packed(b"two")) == b"onetwo"


def test_read_all_and_in_parts() -> None:
    with opened(packed()) as file:
        assert file.read() == DATA
        assert file.read() == b""
        assert file.read(10) == b""
    with opened(packed()) as file:
        out = b""
        while piece := file.read(37):
            assert file.tell() == len(out) + len(piece)
            out += piece
        assert out == DATA
    with opened(packed()) as file:
        assert file.read(0) == b""
        assert file.read(None) == DATA
    with opened(packed()) as file:
        out = b""
        while piece := file.read1():
            out += piece
        assert out == DATA


def test_readinto_and_peek() -> None:
    with opened(packed()) as file:
        buffer = bytearray(900)
        assert file.readinto(buffer) == 900
        assert buffer == DATA[:900]
        assert 0 < file.readinto1(buffer) <= 900
    with opened(packed()) as file:
        assert DATA.startswith(file.peek(5))
        assert file.peek()[:1] == DATA[:1]
        assert file.tell() == 0
        assert file.read(3) == DATA[:3]


def test_lines() -> None:
    with opened(packed()) as file:
        assert list(file) == LINES
    with opened(packed()) as file:
        assert file.readline() == LINES[0]
        assert file.readline(4) == LINES[1][:4]
        assert file.readlines() == [LINES[1][4:], *LINES[2:]]


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("block_size", [64, BLOCK, 1 << 20])
def test_seek_anywhere(threads: int, block_size: int) -> None:
    dice = random.Random(block_size + threads)
    plain = io.BytesIO(DATA + DATA)
    with opened(packed(block_size=block_size) * 2, threads) as file:
        assert file.seekable()
        for _ in range(60):
            whence = dice.randrange(3)
            offset = dice.randrange(2 * len(DATA) + 1)  # past the end: see test_seek_is_clamped
            if whence == 1:
                offset -= plain.tell()
            elif whence == 2:
                offset = dice.randrange(-2 * len(DATA), 1)
            assert file.seek(offset, whence) == plain.seek(offset, whence)
            size = dice.choice([0, 1, 30, 700])
            assert file.read(size) == plain.read(size)
            assert file.tell() == plain.tell()
        with pytest.raises(ValueError, match="whence"):
            file.seek(0, 7)


def test_seek_decodes_only_the_block(monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[int] = []
    start = order0.Order0.start

    def counting(self: order0.Order0, size: int, threads: int = 1) -> order0.Order0Model:
        decoded.append(size)
        return start(self, size, threads)

    source = packed()
    monkeypatch.setattr(order0.Order0, "start", counting)
    with opened(source) as file:
        file.seek(4 * BLOCK + 10)
        assert file.read1(20) == DATA[4 * BLOCK + 10 :][:20]
        assert len(decoded) == 1
        file.seek(BLOCK + 5)
        assert file.read1(20) == DATA[BLOCK + 5 :][:20]
        assert len(decoded) == 2


def test_modes_and_what_they_refuse(tmp_path: Path) -> None:
    path = tmp_path / "x.kmo"
    with kolmo.open(path, "xb", predictor="order0") as file:
        assert file.writable()
        assert not file.readable()
        assert file.name == str(path)
        assert file.write(DATA[:10]) == 10
        assert file.write(memoryview(DATA)[10:]) == len(DATA) - 10
        assert file.tell() == len(DATA)
        file.flush()
        for call in (file.read, file.readline, file.peek, lambda: file.seek(5)):
            with pytest.raises(io.UnsupportedOperation):
                call()
    with pytest.raises(FileExistsError):
        kolmo.open(path, "xb", predictor="order0")
    with kolmo.open(path) as file:
        assert file.readable()
        assert not file.writable()
        assert file.fileno() > 0
        with pytest.raises(io.UnsupportedOperation):
            file.write(b"x")
        assert file.read() == DATA
    assert file.closed
    for call in (file.read, file.tell, file.readable, file.fileno):
        with pytest.raises(ValueError, match="closed"):
            call()
    file.close()
    for mode in ("", "rw", "z", "r+", "U", "rbt"):
        with pytest.raises(ValueError, match="mode"):
            kolmo.open(path, mode)
    with pytest.raises(ValueError, match="text"):
        kolmo.open(path, "rb", encoding="utf-8")
    with pytest.raises(FileNotFoundError):
        kolmo.open(tmp_path / "none.kmo")


def test_writing_does_not_seek_but_tells() -> None:
    target = io.BytesIO()
    with kolmo.open(target, "wb", predictor="order0") as file:
        assert not file.seekable()
        file.write(b"ab")
        assert file.tell() == 2
        for offset, whence in ((0, 0), (2, 0), (5, 0), (0, 1), (0, 2)):
            with pytest.raises(io.UnsupportedOperation):
                file.seek(offset, whence)
    assert kolmo.decompress(target.getvalue()) == b"ab"


def test_wrong_level_leaves_the_file(tmp_path: Path) -> None:
    path = tmp_path / "x.kmo"
    path.write_bytes(packed())
    with pytest.raises(PredictorError):
        kolmo.open(path, "wb", level=77)
    assert path.read_bytes() == packed()


def test_append_is_a_frame_more(tmp_path: Path) -> None:
    path = tmp_path / "x.kmo"
    for part in (b"one ", b"", b"two"):
        with kolmo.open(os.fsencode(path), "ab", predictor="order0") as file:
            file.write(part)
    with kolmo.open(str(path)) as file:
        assert file.read() == b"one two"


def test_text(tmp_path: Path) -> None:
    path = tmp_path / "x.kmo"
    with kolmo.open(path, "wt", encoding="utf-16", newline="\r\n", predictor="order0") as file:
        file.write("größer\nals\n")
    with kolmo.open(path, "rt", encoding="utf-16") as file:
        assert list(file) == ["größer\n", "als\n"]
        file.seek(0)
        assert file.readline() == "größer\n"
    with kolmo.open(path, "rt", encoding="utf-16", newline="") as file:
        assert file.read() == "größer\r\nals\r\n"
    with kolmo.open(path, "rt", encoding="ascii", errors="ignore") as file:
        assert "als" in file.read().replace("\0", "")


def test_file_objects_stay_open() -> None:
    target = io.BytesIO()
    with kolmo.open(target, "wb", predictor="order0") as file:
        file.write(DATA)
    assert not target.closed
    assert kolmo.decompress(target.getvalue()) == DATA
    target.seek(0)
    with kolmo.open(target) as file:
        assert file.read(5) == DATA[:5]
    assert not target.closed


def test_file_object_that_does_not_start_at_zero() -> None:
    file = io.BytesIO(b"before" + packed())
    file.seek(6)
    with kolmo.open(file) as inner:
        inner.seek(1000)
        assert inner.read() == DATA[1000:]


def test_pipes_read_forward() -> None:
    with kolmo.open(Pipe(packed() * 2)) as file:
        assert not file.seekable()
        assert file.read(100) == DATA[:100]
        with pytest.raises(io.UnsupportedOperation):
            file.seek(0)
        assert file.read() == DATA[100:] + DATA


@pytest.mark.parametrize("size", [0, 3, 30, 200, -1])
def test_truncated(size: int) -> None:
    source = packed()[:size]
    whole = b""
    with opened(source) as file:
        with pytest.raises(TruncatedError) as caught:  # noqa: PT012 - what came before counts
            while piece := file.read1():
                whole += piece
        assert caught.value.offset == len(source)
    assert DATA.startswith(whole)
    assert len(whole) % BLOCK == 0 or whole == DATA
    with opened(source) as file:
        for _ in range(2):  # never a clean end
            with pytest.raises(EOFError):
                file.read()
    with opened(source) as file, pytest.raises(EOFError):
        file.seek(0, io.SEEK_END)


def test_seek_in_a_truncated_file() -> None:
    with opened(packed()[:-30]) as file:
        file.seek(BLOCK + 3)
        assert file.read(20) == DATA[BLOCK + 3 :][:20]
        file.seek(len(DATA) - 1)
        with pytest.raises(TruncatedError):
            file.read()


def test_memory_limit() -> None:
    with kolmo.open(io.BytesIO(packed()), memory_limit=100) as file, pytest.raises(MemoryLimitError):
        file.read()


def test_same_manners_as_bz2() -> None:
    with opened(packed()) as ours, bz2.open(io.BytesIO(bz2.compress(DATA))) as theirs:
        steps: list[Callable[[KolmoFile | bz2.BZ2File], object]] = [
            lambda f: f.read(10),
            lambda f: f.seek(5),
            lambda f: f.readline(),
            lambda f: f.tell(),
            lambda f: f.seek(0, io.SEEK_END),
            lambda f: f.read(1),
            lambda f: f.seek(0),
            lambda f: f.readlines(100),
            lambda f: (f.readable(), f.writable(), f.seekable()),
        ]
        for step in steps:
            assert step(ours) == step(theirs)


def test_fsspec(tmp_path: Path) -> None:
    path = str(tmp_path / "x.txt.kmo")
    Path(path).write_bytes(packed(b"gr\xc3\xbc\xc3\x9fe\n"))
    with fsspec.open(path, "rt", compression="kolmo", encoding="utf-8") as file:
        assert file.read() == "grüße\n"
    with fsspec.open(path, "rb", compression="infer") as file:
        assert file.read() == "grüße\n".encode()


@pytest.mark.parametrize("code", ["import kolmo.fsspec, fsspec", "import fsspec, kolmo", "import fsspec, kolmo.fsspec"])
def test_fsspec_registers(code: str) -> None:
    check = f"{code}; from fsspec.compression import compr; assert 'kolmo' in compr"
    root = str(Path(kolmo.__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": root}
    assert subprocess.run([sys.executable, "-c", check], env=environment, timeout=60).returncode == 0


# -- as the standard library's own: what ecosystems do with file objects --


def test_archives_can_be_written_into_a_file(tmp_path: Path) -> None:
    path = tmp_path / "x.npz.kmo"
    with kolmo.open(path, "wb", predictor="order0") as file:
        np.savez(file, first=np.arange(5), second=np.ones((2, 3)))
    with kolmo.open(path) as file, np.load(file) as arrays:
        assert arrays["first"].tolist() == [0, 1, 2, 3, 4]
        assert arrays["second"].shape == (2, 3)
    target = io.BytesIO()
    with kolmo.open(target, "wb", predictor="order0") as file, zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a", b"first")
        archive.writestr("b", b"second")
    with opened(target.getvalue()) as file, zipfile.ZipFile(file) as archive:
        assert archive.testzip() is None
        assert archive.read("b") == b"second"
    target = io.BytesIO()
    with kolmo.open(target, "wb", predictor="order0") as file, tarfile.open(fileobj=file, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("a"))
    with opened(target.getvalue()) as file, tarfile.open(fileobj=file) as tar:
        assert tar.getnames() == ["a"]


untyped: Any = kolmo  # what these tests pass, a type checker refuses


@pytest.mark.parametrize(
    "call",
    [
        lambda: untyped.open(None),
        lambda: untyped.open(123.4),
        lambda: untyped.open(io.BytesIO(), None),
        lambda: untyped.open(io.BytesIO(), level="5"),
        lambda: untyped.open(io.BytesIO(), "wb", level="5"),
        lambda: untyped.open(io.BytesIO(), "wb", predictor=5),
        lambda: untyped.open(io.BytesIO(), threads="2"),
        lambda: untyped.open(io.BytesIO(), memory_limit="2G"),
        lambda: untyped.compress(b"", "5"),
        lambda: untyped.compress(b"", 5.0),
        lambda: untyped.compress(b"", None),
        lambda: untyped.compress(b"", threads="2"),
        lambda: untyped.compress(b"", block_size="8M"),
        lambda: untyped.compress("text"),
        lambda: untyped.compress(None),
        lambda: untyped.decompress("text"),
        lambda: untyped.decompress(5),
        lambda: untyped.decompress(packed(), threads=1.5),
        lambda: untyped.Compressor(level=[]),
        lambda: untyped.Compressor().compress("text"),
        lambda: untyped.Decompressor(memory_limit=None),
        lambda: untyped.Decompressor().decompress("text"),
        lambda: untyped.Decompressor().decompress(b"", "all"),
        lambda: untyped.open(io.BytesIO(), "wb", predictor="order0").write("text"),
    ],
)
def test_wrong_types(call: Callable[[], object]) -> None:
    with pytest.raises(TypeError, match=r"must be|is required") as caught:
        call()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "call",
    [
        lambda: untyped.open(io.BytesIO(), level=10),
        lambda: untyped.open(io.BytesIO(), "wb", level=0),
        lambda: untyped.open(io.BytesIO(), threads=-1),
        lambda: untyped.open(io.BytesIO(), "wb", threads=-1),
        lambda: untyped.compress(b"", -1),
        lambda: untyped.compress(b"", 10**30),
        lambda: untyped.compress(b"", threads=-1),
        lambda: untyped.compress(b"", block_size=-5),
        lambda: untyped.compress(b"", block_size=1 << 31),
        lambda: untyped.decompress(packed(), threads=-1),
        lambda: untyped.decompress(packed(), memory_limit=-1),
        lambda: untyped.Compressor(threads=-3),
        lambda: untyped.Compressor().flush(7),
        lambda: untyped.compress(np.arange(10)[::2]),
        lambda: untyped.compress(np.ones((3, 4)).T),
        lambda: untyped.compress(memoryview(b"abcdef")[::2]),
    ],
)
def test_wrong_values(call: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match=r"level|threads|block size|memory_limit|mode|contiguous"):
        call()


def test_levels_of_numpy_count() -> None:
    assert untyped.decompress(untyped.compress(b"x", np.int64(1), threads=np.int8(1))) == b"x"
    with pytest.raises(PredictorError):  # an error of kolmo, too
        untyped.compress(b"", 10)


def test_arrays_of_any_shape_and_item() -> None:
    for array in (
        np.zeros((0, 3)),
        np.zeros((2, 0), np.uint8),
        np.arange(6, dtype=">i4").reshape(2, 3),
        np.zeros(3, [("a", "<u2"), ("b", "S3")]),
        np.array([True, False]),
        np.array(7.5),
    ):
        raw = array.tobytes()
        packed_array = untyped.compress(array, predictor="order0")
        assert untyped.decompress(packed_array) == raw
        compressor = untyped.Compressor(predictor="order0")
        assert untyped.decompress(compressor.compress(array) + compressor.flush()) == raw
        target = io.BytesIO()
        with untyped.open(target, "wb", predictor="order0") as file:
            assert file.write(array) == len(raw)
        assert untyped.decompress(target.getvalue()) == raw
    assert untyped.decompress(np.frombuffer(packed(), np.uint8)) == DATA
    assert untyped.compress(memoryview(bytearray(6)).cast("B", (2, 3)), predictor="order0") == packed(bytes(6))


@pytest.mark.parametrize("threads", [1, 2])
def test_seek_is_clamped(threads: int) -> None:
    ours = opened(packed() * 2, threads)
    theirs = bz2.BZ2File(io.BytesIO(bz2.compress(DATA) * 2))
    places = [(-5, 0), (10, 0), (10**6, 0), (-10, 1), (10**6, 1), (-(10**6), 1), (5, 2), (-7, 2), (-(10**6), 2)]
    with ours, theirs:
        for offset, whence in places:
            assert ours.seek(offset, whence) == theirs.seek(offset, whence)
            assert ours.tell() == theirs.tell()
            assert ours.read(20) == theirs.read(20)


def test_padding_after_a_frame() -> None:
    source, pad = packed(), bytes(200_001)
    for data in (source + b"\0", source + pad, source + bytes(4) + source + pad):
        content = DATA * data.count(b"\xb5KMO")
        assert kolmo.decompress(data) == content
        with kolmo.open(Pipe(data)) as file:
            assert file.read() == content
        with opened(data) as file:
            assert file.seek(0, io.SEEK_END) == len(content)
            file.seek(-3, io.SEEK_END)
            assert file.read() == content[-3:]
    decompressor = kolmo.Decompressor()
    assert decompressor.decompress(source + b"\0\0") == DATA
    assert decompressor.unused_data == b"\0\0"
    for data in (source + bytes(9) + b"x", source + b"x", source + b"x" + bytes(9)):
        with pytest.raises(CorruptError, match=f"at byte {data.rindex(b'x')}"):
            kolmo.decompress(data)
    with pytest.raises(kolmo.FormatError):
        kolmo.decompress(bytes(8) + source)


def so_far(data: bytes) -> bytes:
    """What can be read of a file whose end is not written yet."""
    decompressor = kolmo.Decompressor()
    return decompressor.decompress(data) if data else b""


@given(st.lists(st.one_of(st.none(), st.binary(max_size=400)), max_size=8), st.integers(1, 3))
@settings(deadline=None, max_examples=40)
def test_flush_brings_all_that_was_written(parts: list[bytes | None], threads: int) -> None:
    """None is a flush."""
    compressor = kolmo.Compressor(predictor="order0", block_size=300, threads=threads)
    out = content = b""
    for part in parts:
        if part is None:
            out += compressor.flush(kolmo.Compressor.FLUSH_BLOCK)
            assert so_far(out) == content
            assert compressor.flush(kolmo.Compressor.FLUSH_BLOCK) == b""  # no empty blocks
        else:
            out += compressor.compress(part)
            content += part
    out += compressor.flush()
    assert kolmo.decompress(out) == content
    with opened(out) as file:
        assert file.seek(0, io.SEEK_END) == len(content)
        file.seek(len(content) // 2)
        assert file.read() == content[len(content) // 2 :]


def test_flush_of_a_file_makes_it_readable_so_far(tmp_path: Path) -> None:
    path = tmp_path / "log.kmo"
    with kolmo.open(path, "wt", encoding="utf-8", predictor="order0") as log:
        written = ""
        for line in ("one\n", "two\n", "three\n"):
            log.write(line)
            log.flush()
            log.flush()
            written += line
            assert so_far(path.read_bytes()) == written.encode()
            with kolmo.open(path) as reader, pytest.raises(TruncatedError):  # the end is missing, and no more
                reader.read()
            log.write("lost if the power fails before the next flush\n")
            written += "lost if the power fails before the next flush\n"
        size = path.stat().st_size
    assert path.stat().st_size > size
    with kolmo.open(path, "rt", encoding="utf-8") as reader:
        reader.buffer.flush()
        assert reader.read() == written


def test_closing_flushes_without_a_block_more(tmp_path: Path) -> None:
    """A text layer flushes before it closes: that must not cost the short form of the frame."""
    path = tmp_path / "x.kmo"
    with kolmo.open(path, "wt", encoding="ascii", predictor="order0") as text:
        text.write(DATA.decode())
    assert path.read_bytes() == packed(DATA, 1 << 20)
    with kolmo.open(path, "wb", predictor="order0") as file:
        file.flush()
        file.write(b"")
        file.flush()
    assert path.read_bytes() == packed(b"")
    with kolmo.open(path, "wb", predictor="order0") as file:
        file.write(DATA)
        file.flush()
    assert kolmo.decompress(path.read_bytes()) == DATA


def test_an_unknown_encoding_leaks_no_file(tmp_path: Path) -> None:
    with pytest.raises(LookupError):
        kolmo.open(tmp_path / "x.kmo", "wt", encoding="none", predictor="order0")


READ = "import pickle, sys; print(pickle.load(sys.stdin.buffer).open().read())"


@pytest.mark.parametrize("compression", ["kolmo", "infer"])
def test_a_pickled_open_file_works_in_a_fresh_process(tmp_path: Path, compression: str) -> None:
    """As dask, Ray and multiprocessing send them to their workers."""
    path = str(tmp_path / "x.txt.kmo")
    Path(path).write_bytes(kolmo.compress(b"hello", 1))
    dumps: list[Callable[[object], bytes]] = [pickle.dumps, lambda file: pickle.dumps(file, 2)]
    if find_spec("cloudpickle"):
        import cloudpickle  # type: ignore[import-not-found,import-untyped,unused-ignore]

        dumps.append(cloudpickle.dumps)
    for dump in dumps:
        data = dump(fsspec.open(path, "rt", compression=compression))
        done = subprocess.run([sys.executable, "-c", READ], input=data, capture_output=True, timeout=60, check=False)
        assert done.stdout.strip() == b"hello", done.stderr
    plain = fsspec.open(str(tmp_path / "plain.gz"), compression="infer")
    assert b"kolmo" not in pickle.dumps(plain).replace(str(tmp_path).encode(), b"")
    assert pickle.loads(pickle.dumps(plain)).compression == "gzip"


# Errors and interruptions, after which nothing may be missing without a word


class Flaky(io.BytesIO):
    """A file of which one read, or one write, fails."""

    fails_at = -1

    def _count(self) -> None:
        self.fails_at -= 1
        if self.fails_at == 0:
            raise TimeoutError("the network")

    def read(self, size: int | None = -1) -> bytes:
        self._count()
        return super().read(size)

    def write(self, data: Any) -> int:
        self._count()
        return super().write(data)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("read", [5, 6, 7, 9, 13, 20])
def test_a_read_that_fails_is_not_the_end(read: int, threads: int) -> None:
    source = Flaky(packed(block_size=200))
    file = kolmo.open(source, threads=threads)
    source.fails_at = read
    out, failures = b"", 0
    while True:
        try:
            piece = file.read1()
        except TimeoutError:
            failures += 1
            continue
        if not piece:
            break
        out += piece
    assert (out, failures) == (DATA, 1)


def test_a_read_that_fails_where_the_file_cannot_seek() -> None:
    source = Flaky(packed(block_size=200))
    source.seekable = lambda: False  # type: ignore[method-assign]
    file = kolmo.open(source)
    source.fails_at = 9
    with pytest.raises(TimeoutError):
        file.read()
    for _ in range(2):
        with pytest.raises(kolmo.KolmoError, match="interrupted"):
            file.read()


def test_a_log_that_grows_is_read_further(tmp_path: Path) -> None:
    with kolmo.open(tmp_path / "log", "wb", predictor="order0") as writer, kolmo.open(tmp_path / "log") as reader:
        for line in LINES[:3]:
            writer.write(line)
            writer.flush()
            assert reader.readline() == line
            with pytest.raises(TruncatedError):
                reader.readline()


class Stumbling(order0.Order0):
    """Fails at one of its blocks, once."""

    def __init__(self, fails_at: int) -> None:
        super().__init__()
        self.fails_at = fails_at

    def start(self, size: int, threads: int = 1) -> order0.Order0Model:
        self.fails_at -= 1
        if self.fails_at == 0:
            raise MemoryError("once")
        return super().start(size, threads)


def content(data: bytes) -> bytes:
    """What a file decodes to, up to its end or to where it is cut."""
    decompressor = kolmo.Decompressor()
    found = decompressor.decompress(data)
    assert decompressor.eof or decompressor.needs_input
    return found


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("fails_at", range(1, 8))
@pytest.mark.parametrize("size", [60, 1000])  # of a write: less and more than a block
def test_a_block_that_cannot_be_coded_leaves_no_hole(fails_at: int, threads: int, size: int) -> None:
    """One thread tries it again; with more the frame stays without an end."""
    pieces = [DATA[at : at + size] for at in range(0, len(DATA), size)]
    predictor = Stumbling(fails_at)
    compressor = kolmo.Compressor(predictor=predictor, block_size=200, threads=threads)
    out, failures, last = b"", 0, False
    for _ in range(3 * len(pieces)):
        try:
            if pieces:
                piece = pieces.pop(0)
                out += compressor.compress(piece)
            else:
                out += compressor.flush()
                last = True
                break
        except MemoryError:
            failures += 1
    assert failures == 1 if threads == 1 else failures > 1
    assert last == (threads == 1)
    if last:
        assert kolmo.decompress(out) == DATA
    else:
        assert DATA.startswith(content(out))


@pytest.mark.parametrize("threads", [1, 2])
def test_a_file_whose_block_cannot_be_coded(threads: int) -> None:
    out = io.BytesIO()
    file = kolmo.open(out, "wb", predictor=Stumbling(2), block_size=200, threads=threads)
    with pytest.raises(MemoryError), file:
        file.writelines(LINES)
    assert DATA.startswith(content(out.getvalue()))


@pytest.mark.parametrize("write", [1, 2, 3])
def test_nothing_follows_a_write_that_failed(write: int) -> None:
    out = Flaky()
    file = kolmo.open(out, "wb", predictor="order0", block_size=200)
    out.fails_at = write
    failures: list[str] = []
    for line in LINES:
        try:
            file.write(line)
        except (TimeoutError, kolmo.KolmoError) as error:
            failures.append(str(error))
    file.close()
    assert failures[0] == "the network"
    assert set(failures[1:]) == {"the file: is not whole, as an earlier write failed; write it anew"}
    if write > 1:
        assert DATA.startswith(content(out.getvalue()))


@pytest.mark.parametrize("given", [{"max_length": 1000}, {"memory_limit": 1000}])
def test_limits_of_a_decompressor_hold_in_every_call(given: dict[str, Any]) -> None:
    decompressor = kolmo.Decompressor(**given)
    data = kolmo.compress(bytes(100_000), 1)
    for piece in (data, b"", b""):
        with pytest.raises((kolmo.SizeLimitError, MemoryLimitError), match="limit"):
            decompressor.decompress(piece)


def test_a_decompressor_goes_on_after_ctrl_c(monkeypatch: pytest.MonkeyPatch) -> None:
    data, calls = packed(block_size=200), 0
    decode = order0.Order0Model.decode

    def interrupted(*given: Any) -> bytes:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt
        return decode(*given)

    monkeypatch.setattr(order0.Order0Model, "decode", interrupted)
    decompressor = kolmo.Decompressor()
    with pytest.raises(KeyboardInterrupt):
        decompressor.decompress(data)
    assert decompressor.decompress(b"") == DATA
    assert decompressor.eof


@pytest.mark.parametrize("threads", [0, 1, 2])
@pytest.mark.parametrize("mode", ["wb", "wt"])
def test_a_file_that_is_open_when_the_interpreter_ends(tmp_path: Path, mode: str, threads: int) -> None:
    value = "b'line\\n' * 999" if mode == "wb" else "'line\\n' * 999"
    code = (
        f"import kolmo\nclass Log:\n    file = kolmo.open('log', '{mode}', 1, threads={threads}, block_size=2000)\n"
        f"Log.file.write({value})\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, check=True)
    assert done.stderr == b""
    assert kolmo.decompress((tmp_path / "log").read_bytes()) == b"line\n" * 999


def test_threads_that_write_to_one_file_take_turns() -> None:
    lines = [b"%d of one of four threads\n" % number for number in range(400)]
    out = io.BytesIO()
    with kolmo.open(out, "wb", 1, block_size=5000) as file, ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: [file.write(line) for line in lines], range(4)))
    assert sorted(kolmo.decompress(out.getvalue()).splitlines(keepends=True)) == sorted(lines * 4)


def test_file_objects_that_only_read_or_only_write() -> None:
    out: list[bytes] = []

    class Sink:
        def write(self, data: bytes) -> None:
            out.append(data)

    class Source:
        def __init__(self, data: bytes) -> None:
            self.file = io.BytesIO(data)

        def read(self, size: int = -1) -> bytes:
            return self.file.read(size)

    with kolmo.open(Sink(), "wb", 1) as file:
        file.write(DATA)
    assert kolmo.open(Source(b"".join(out))).read() == DATA


def test_a_file_that_has_no_data_yet() -> None:
    class Empty:
        def read(self, size: int = -1) -> bytes | None:
            return None

    with pytest.raises(BlockingIOError, match="no data yet"):
        kolmo.open(Empty()).read()
    with pytest.raises(BlockingIOError, match="no data yet"):
        compress_stream(cast(IO[bytes], Empty()), io.BytesIO(), order0.Order0())


@pytest.mark.skipif(os.name == "nt", reason="pipes always block there")
def test_standard_input_and_output_that_do_not_block() -> None:
    """A parent may hand over such pipes; that they are empty or full for a while is not an end or an error."""
    code = "from kolmo.cli import main; main()"
    (given, feed), (taken, result) = os.pipe(), os.pipe()
    os.set_blocking(given, False)
    os.set_blocking(result, False)
    data = random.Random(0).randbytes(300_000)  # more than a pipe holds
    process = subprocess.Popen([sys.executable, "-c", code, "compress", "-1", "-c"], stdin=given, stdout=result)
    os.close(given)
    os.close(result)

    def write() -> None:
        time.sleep(1)  # it has begun to read by then
        with open(feed, "wb") as file:
            file.write(data)

    with ThreadPoolExecutor(1) as pool, open(taken, "rb") as file:
        pool.submit(write)
        out = file.read(1)
        time.sleep(1)  # the pipe is full by then
        out += file.read()
    assert process.wait(60) == 0
    assert kolmo.decompress(out) == data


@pytest.mark.parametrize("made", [kolmo.Compressor, kolmo.Decompressor])
def test_no_copies_of_incremental_objects(made: Callable[[], object]) -> None:
    with pytest.raises(TypeError):
        copy.copy(made())


def test_a_predictor_that_decodes_something_else(monkeypatch: pytest.MonkeyPatch) -> None:
    data = packed()
    monkeypatch.setattr(order0.Order0Model, "decode", lambda *given: bytearray(DATA[:BLOCK]))
    with pytest.raises(PredictorError, match="order0 decoded a bytearray, not bytes"):
        kolmo.decompress(data)
