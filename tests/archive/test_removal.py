"""What becomes of inputs and of files' attributes: nothing is removed that was not read and is not safe elsewhere."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import kolmo
from helpers.order0 import Order0
from kolmo import targets
from kolmo.archive.files import compress_file, decompress_file
from kolmo.archive.listing import list_stream
from kolmo.archive.sources import InputKeptError, open_source
from kolmo.codec.frames import make_header
from kolmo.errors import KolmoError
from kolmo.targets import Target, TargetFolder, check_folder, check_target, is_temporary, umask

DATA = b"a line of a log that goes on\n" * 400
P = Order0()
HEADER = make_header(P, 1 << 23)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("log").write_bytes(DATA)
    os.utime("log", ns=(10**18, 10**18))
    return tmp_path


def once(act: Callable[[], object]) -> Callable[[int], None]:
    """A report that does something when it is called first, which is while the input is read."""
    waiting = [act]

    def progress(size: int) -> None:
        if waiting:
            waiting.pop()()

    return progress


def append() -> None:
    with open("log", "ab") as file:
        file.write(b"one more line\n")


def rotate() -> None:
    os.rename("log", "log.1")
    Path("log").write_bytes(DATA)
    os.utime("log", ns=(10**18, 10**18))


def rewrite() -> None:
    """Other bytes of the same size, and the time set back."""
    Path("log").write_bytes(DATA.upper())
    os.utime("log", ns=(10**18, 10**18))


def touch() -> None:
    os.utime("log")


def link() -> None:
    os.rename("log", "elsewhere")
    os.symlink("elsewhere", "log")


def make_folder() -> None:
    os.rename("log", "elsewhere")
    os.mkdir("log")


def vanish() -> None:
    os.rename("log", "elsewhere")


CHANGES = [append, rotate, rewrite, touch, link, make_folder, vanish]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_changed_inputs_are_kept(folder: Path, change: Callable[[], None]) -> None:
    with pytest.raises(InputKeptError, match=r"^log: .*kept"):
        compress_file("log", "log.kmo", P, block_size=500, remove=True, progress=once(change))
    assert DATA.startswith(kolmo.decompress(Path("log.kmo").read_bytes())[:500])
    if change is vanish:
        assert Path("elsewhere").read_bytes() == DATA
    else:
        assert os.path.lexists("log")
    if change is rotate:
        assert Path("log").read_bytes() == Path("log.1").read_bytes() == DATA


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_changed_archives_are_kept(folder: Path, change: Callable[[], None]) -> None:
    packed = kolmo.compress(DATA, predictor=P, block_size=500)
    Path("log").write_bytes(packed)
    os.utime("log", ns=(10**18, 10**18))
    try:
        with pytest.raises(KolmoError, match=r"^log: "):
            decompress_file("log", "out", remove=True, progress=once(change))
    finally:
        assert os.path.lexists("log") or Path("elsewhere").read_bytes() == packed


def test_unchanged_inputs_are_removed(folder: Path) -> None:
    compress_file("log", "log.kmo", P, remove=True)
    assert os.listdir() == ["log.kmo"]
    decompress_file("log.kmo", "log", remove=True)
    assert os.listdir() == ["log"]
    assert Path("log").read_bytes() == DATA


def test_hard_links_keep_the_other_name(folder: Path) -> None:
    os.link("log", "other")
    compress_file("log", "log.kmo", P, remove=True)
    assert sorted(os.listdir()) == ["log.kmo", "other"]
    assert Path("other").read_bytes() == DATA


def test_links_are_kept_by_remove(folder: Path) -> None:
    os.symlink("log", "link")
    with pytest.raises(InputKeptError, match="link: is a symbolic link, so it is kept"):
        compress_file("link", "link.kmo", P, remove=True)
    assert Path("log").read_bytes() == DATA


def test_outputs_that_hold_nothing_remove_nothing(folder: Path) -> None:
    compress_file("log", os.devnull, P, remove=True, force=True)
    with open("stream", "wb") as stream:
        compress_file("log", stream, P, remove=True)
        compress_file("log", f"/dev/fd/{stream.fileno()}", P, remove=True)
    assert Path("log").read_bytes() == DATA
    assert kolmo.decompress(Path("stream").read_bytes()) == 2 * DATA


def test_descriptors_are_written_and_never_replaced(folder: Path) -> None:
    with open("out", "wb") as out:
        out.write(b"before")
        out.flush()
        command = [sys.executable, "-m", "kolmo", "compress", "-1f", "--rm", "-o", "/dev/stdout", "log"]
        subprocess.run(command, check=True, stdout=out)
    assert kolmo.decompress(Path("out").read_bytes().removeprefix(b"before")) == Path("log").read_bytes() == DATA
    assert os.path.islink("/dev/stdout")


@pytest.mark.skipif(sys.platform == "win32", reason="has no locks")
def test_an_output_is_not_taken_for_an_input_before_its_own_input_is_gone(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A decompression within the last moment of a compression would otherwise lose both files."""
    unlink = os.unlink
    told = []

    def late(path: str) -> None:
        if path == "log":
            with pytest.raises(KolmoError, match=r"log\.kmo: another process works on it") as caught:
                decompress_file("log.kmo", "log", force=True, remove=True)
            told.append(caught.value)
        unlink(path)

    monkeypatch.setattr(os, "unlink", late)
    compress_file("log", "log.kmo", P, remove=True)
    monkeypatch.setattr(os, "unlink", unlink)
    assert len(told) == 1
    assert not os.path.exists("log")
    decompress_file("log.kmo", "log", remove=True)
    assert Path("log").read_bytes() == DATA
    assert not os.path.exists("log.kmo")


@pytest.mark.skipif(sys.platform == "win32", reason="has no locks")
def test_an_input_that_is_to_be_removed_is_worked_on_once(folder: Path) -> None:
    with (
        open_source("log", to_remove=True),
        pytest.raises(KolmoError, match="log: another process works on it; wait"),
    ):
        compress_file("log", "log.kmo", P, remove=True)
    assert not os.path.exists("log.kmo")
    with open_source("log", to_remove=True):
        compress_file("log", "log.kmo", P)  # it stays, so it may be read
    assert kolmo.decompress(Path("log.kmo").read_bytes()) == DATA


def test_the_order_of_a_removal(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The output's bytes, its name, the name on the disk; only then the input goes."""
    done: list[str] = []
    for place, name in ((os, "fsync"), (os, "replace"), (targets.files, "rename_new"), (os, "unlink")):
        original = getattr(place, name)

        def record(*arguments: Any, name: str = name, original: Callable[..., Any] = original) -> Any:
            kind = ""
            if name == "fsync":
                kind = " folder" if stat.S_ISDIR(os.fstat(arguments[0]).st_mode) else " file"
            done.append(name + kind)
            return original(*arguments)

        monkeypatch.setattr(place, name, record)
    compress_file("log", "log.kmo", P, remove=True)
    assert done == ["fsync file", "rename_new", "fsync folder", "unlink"]
    done.clear()
    compress_file("log.kmo", "new", P)
    assert done == ["rename_new"]
    compress_file("log.kmo", "new", P, force=True)  # the older file is replaced by what is on the disk
    assert done == ["rename_new", "fsync file", "replace", "fsync folder"]


@pytest.mark.parametrize("failing", [0, 1], ids=["file", "folder"])
def test_failing_fsync_keeps_the_input(folder: Path, monkeypatch: pytest.MonkeyPatch, failing: int) -> None:
    calls: list[int] = []

    def fsync(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == failing + 1:
            raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(OSError, match="cannot be brought safely to the disk") as caught:
        compress_file("log", "log.kmo", P, remove=True)
    assert caught.value.filename == "log.kmo"
    assert Path("log").read_bytes() == DATA
    assert sorted(os.listdir()) == ["log"] + ["log.kmo"] * failing


def test_folders_are_on_the_disk_before_they_replace_others(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("model").mkdir()
    Path("model/old").write_bytes(b"old")

    def fsync(descriptor: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fsync)
    with TargetFolder("model", True, lambda path: True) as made:
        Path(made.path, "new").write_bytes(b"new")
        with pytest.raises(OSError, match="cannot be brought safely"):
            made.keep()
    assert os.listdir("model") == ["old"]
    assert sorted(os.listdir()) == ["log", "model"]


def test_temporary_names_are_short_and_known(folder: Path) -> None:
    for name in ("n" * 255, "ä" * 127, "\N{SNOWMAN}" * 85):
        with Target(name, False) as target:
            assert is_temporary(os.path.basename(target.place))
            target.file.write(b"x")
            target.keep(targets.Attributes())
        assert Path(name).read_bytes() == b"x"
        with Target(name, True) as target:
            target.file.write(b"part")
            assert "kept in" in target.keep_partial(targets.Attributes())
        (partial,) = (found for found in os.listdir() if found.endswith(".partial"))
        assert Path(partial).read_bytes() == b"part"
        os.unlink(partial)
    assert not any(map(is_temporary, ("a.tmp", ".kolmo-x.tmp", "log", ".log.abcdefgh.tmp")))


def test_targets_are_checked_before_the_work(folder: Path) -> None:
    def refuse(size: int) -> None:
        raise AssertionError("worked first")

    Path("d").mkdir()
    for name, message in (
        ("d", "d: is a folder; name a file in it"),
        ("d/", "d/: is a folder"),
        ("none/x", "No such file or directory: 'none/x'"),
        ("log/x", "Not a directory: 'log/x'"),
        ("n" * 256, "File name too long"),
        ("x/" * 3000, "No such file or directory|File name too long"),
        ("log", "log: already exists"),
    ):
        Path("d.txt").write_bytes(DATA)
        with pytest.raises((KolmoError, OSError), match=message):
            check_target(name, False)
        with pytest.raises((KolmoError, OSError), match=message) as caught:
            compress_file("d.txt", name, P, progress=refuse)
        assert getattr(caught.value, "filename", None) in (None, name)
        assert ".tmp" not in str(caught.value)
    with pytest.raises(KolmoError, match=r"log is not a folder"):
        check_folder("log/deep/er")
    with pytest.raises(KolmoError, match=r"^log: is not a folder"):
        check_folder("log")
    check_folder("d")
    check_folder("new/er")
    assert sorted(os.listdir()) == ["d", "d.txt", "log"]


def test_owner_group_mode_and_times_follow(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.chmod("log", 0o7640)
    os.utime("log", ns=(10**18 + 5, 10**18 + 7))
    given = os.stat("log")
    asked: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "fchown", lambda descriptor, owner, group: asked.append((owner, group)))
    status = os.stat_result(
        (given.st_mode, given.st_ino, given.st_dev, 1, 4321, 8765, given.st_size, 0, 0, 0),
        {"st_mtime_ns": given.st_mtime_ns, "st_atime_ns": given.st_atime_ns},
    )
    fstat = os.fstat
    first = [status]
    monkeypatch.setattr(os, "fstat", lambda descriptor: first.pop() if first else fstat(descriptor))
    compress_file("log", "log.kmo", P)
    assert asked == [(-1, 8765), (4321, -1)]  # the group first: an owner that is set may forbid the rest
    made = os.stat("log.kmo")
    assert stat.S_IMODE(made.st_mode) == 0o640
    assert (made.st_mtime_ns, made.st_atime_ns) == (10**18 + 7, 10**18 + 5)


@pytest.mark.parametrize(
    ("mode", "cut"),
    [(0o640, 0o600), (0o644, 0o644), (0o664, 0o644), (0o604, 0o600), (0o775, 0o755), (0o4751, 0o711), (0o672, 0o622)],
)
def test_a_group_that_cannot_be_set_gives_nobody_more(
    folder: Path, monkeypatch: pytest.MonkeyPatch, mode: int, cut: int
) -> None:
    """Members of the new group, and those of the old one, who are others now, get what both had."""

    def refuse(descriptor: int, owner: int, group: int) -> None:
        raise PermissionError(errno.EPERM, "no")

    monkeypatch.setattr(os, "fchown", refuse)
    with Target("new", False) as target:
        target.keep(targets.Attributes(mode=mode, owner=os.getuid() + 1, group=os.getgid() + 1))
    assert stat.S_IMODE(os.stat("new").st_mode) == cut
    with Target("same", False) as target:  # an owner alone changes nothing
        target.keep(targets.Attributes(mode=mode, owner=os.getuid() + 1, group=os.stat("new").st_gid))
    assert stat.S_IMODE(os.stat("same").st_mode) == mode & 0o777


@pytest.mark.skipif(os.name == "nt" or os.geteuid() != 0, reason="needs root, who may give files away")
def test_root_keeps_owners(folder: Path) -> None:
    os.chown("log", 65534, 12345)
    os.chmod("log", 0o640)
    compress_file("log", "log.kmo", P)
    decompress_file("log.kmo", "back")
    for name in ("log.kmo", "back"):
        status = os.stat(name)
        assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (65534, 12345, 0o640)


def test_stored_modes_respect_the_umask(folder: Path) -> None:
    os.chmod("log", 0o6777)
    compress_file("log", "log.kmo", P, store_name=True)
    mask = os.umask(0o027)
    try:
        assert umask() == 0o027
        decompress_file("log.kmo", "stored", use_stored=True)
        decompress_file("log.kmo", "own")
    finally:
        os.umask(mask)
    assert stat.S_IMODE(os.stat("stored").st_mode) == 0o750
    assert stat.S_IMODE(os.stat("own").st_mode) == 0o777


TIMES = [
    -1,
    -(10**9),
    -(10**9) * 2**31 - 7,
    0,
    2**63 - 1,
    2**63,
    2**63 + 10**9,
    10**9 * 253402300800,
    -(10**9) * 10**11,
]


@pytest.mark.parametrize("time", TIMES)
def test_times_far_away_are_recorded(folder: Path, time: int) -> None:
    header = replace(HEADER, name="log", mtime=time)
    with open("far", "wb") as file:
        file.write(header.to_bytes() + kolmo.compress(b"x", predictor=P)[len(HEADER.to_bytes()) :])
    with open("far", "rb") as file:
        (frame,) = list_stream(file).frames
    assert frame.mtime == time
    done = subprocess.run(
        [sys.executable, "-m", "kolmo", "list", "-v", "far"], check=True, capture_output=True, text=True
    )
    assert "modified" in done.stdout
    decompress_file("far", "near", use_stored=True)  # as near as the file system comes
    assert Path("near").read_bytes() == b"x"


@pytest.mark.parametrize("time", [-1, -(10**18), 9 * 10**18, 2**63 + 10**9])
def test_times_far_away_follow(folder: Path, time: int) -> None:
    os.utime("log", ns=(time, time))
    kept = os.stat("log").st_mtime_ns  # what this file system makes of it
    compress_file("log", "log.kmo", P, store_name=True)
    assert os.stat("log.kmo").st_mtime_ns == kept
    os.utime("log.kmo")
    decompress_file("log.kmo", "back", use_stored=True)
    assert os.stat("back").st_mtime_ns == kept
