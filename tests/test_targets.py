"""`replacing`, the writer of the program's own files, and that nothing in the package writes whole files otherwise."""

from __future__ import annotations

import os
import re
import stat
from contextlib import suppress
from pathlib import Path

import pytest

import kolmo
from kolmo.errors import KolmoError
from kolmo.targets import is_temporary, publish, replacing, umask


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was brought to the disk or renamed, in order."""
    done: list[str] = []
    fsync, rename = os.fsync, os.replace

    def record(descriptor: int) -> None:
        done.append("fsync folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "fsync file")
        fsync(descriptor)

    def renamed(old: str, new: str) -> None:
        done.append("replace")
        rename(old, new)

    monkeypatch.setattr(os, "fsync", record)
    monkeypatch.setattr(os, "replace", renamed)
    return done


def test_policy_of_fsync(tmp_path: Path, synced: list[str]) -> None:
    path = tmp_path / "x"
    with replacing(path) as file:
        file.write(b"new")
    assert synced == ["replace"]
    synced.clear()
    with replacing(path) as file:
        file.write(b"newer")
    assert synced == ["fsync file", "replace", "fsync folder"]
    synced.clear()
    with replacing(tmp_path / "y", durable=True) as file:
        file.write(b"dear")
    assert synced == ["fsync file", "replace", "fsync folder"]
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == {"x": b"newer", "y": b"dear"}
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask()


def test_publishing_follows_the_policy(tmp_path: Path, synced: list[str]) -> None:
    path, partial = tmp_path / "x", tmp_path / "x.partial"
    for content, expected in ((b"new", ["replace"]), (b"newer", ["fsync file", "replace", "fsync folder"])):
        partial.write_bytes(content)
        publish(str(partial), str(path))
        assert synced == expected
        synced.clear()
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == {"x": b"newer"}
    with pytest.raises(OSError, match="No such file") as caught:
        publish(str(partial), str(path), durable=True)
    assert caught.value.filename is not None
    assert path.read_bytes() == b"newer"


@pytest.mark.parametrize("old", [None, b"old"])
def test_an_error_leaves_what_was_there(tmp_path: Path, old: bytes | None) -> None:
    path = tmp_path / "x"
    if old is not None:
        path.write_bytes(old)
    with suppress(ZeroDivisionError), replacing(path) as file:
        file.write(b"half")
        (name,) = {p.name for p in tmp_path.iterdir()} - {"x"}
        assert is_temporary(name)
        raise ZeroDivisionError
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == ({} if old is None else {"x": old})


def test_a_full_disk_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left") as caught, replacing(path) as file:
        file.write(b"new")
    assert caught.value.filename == str(path)
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("x", b"old")]


def test_names_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(KolmoError, match="is a folder"), replacing(tmp_path):
        pass
    with pytest.raises(FileNotFoundError), replacing(tmp_path / "none" / "x"):
        pass


def test_no_other_writer_of_whole_files() -> None:
    root = Path(kolmo.__file__).parent
    renames = re.compile(r"\bos\.(replace|rename|fsync)\(|\.rename\(|\bmkstemp\(")
    found = {p.relative_to(root).as_posix() for p in root.rglob("*.py") if renames.search(p.read_text("utf-8"))}
    # The journal of the search on GitHub and the figures of a benchmark are appended to, and are not whole files.
    assert found == {
        "targets/files.py",
        "targets/folders.py",
        "targets/renaming.py",
        "collection/github/search.py",
        "bench/paper/run.py",
        "bench/paper/continuations.py",
    }
