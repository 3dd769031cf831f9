"""Several processes that write to one folder, and processes that are killed: who gets a name, and what stays."""

from __future__ import annotations

import os
import platform
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kolmo.errors import KolmoError
from kolmo.predictors.model_locations import add_entry, read_entries
from kolmo.targets import (
    LOCK,
    Attributes,
    Target,
    TargetExistsError,
    TargetFolder,
    is_temporary,
    locked,
    remove_abandoned,
    renaming,
    replacing,
    temporaries,
)
from kolmo.targets.locks import try_lock

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="has neither forks nor these locks")
OPERATIONS = {"open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.chmod", "ctypes.dlsym"}


def forked(act: Callable[[], object]) -> int:
    """Run something in a fork; returns the fork's number."""
    child = os.fork()
    if not child:
        try:
            act()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return child


def ended(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def dying(act: Callable[[], object], operation: int) -> Callable[[], object]:
    """Something that is killed just before one of its file operations."""

    def run() -> object:
        count = 0

        def hook(event: str, arguments: tuple[Any, ...]) -> None:
            nonlocal count
            if event in OPERATIONS:
                count += 1
                if count == operation:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(hook)
        return act()

    return run


@pytest.fixture(params=["renameat2", "without"])
def renames(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """With Linux's call for renames, and as on other systems."""
    if request.param == "without":
        monkeypatch.setattr(renaming, "_renamed", lambda old, new, flag: False)
    elif sys.platform != "linux":
        pytest.skip("Linux has this call")
    return str(request.param)


def test_of_two_files_of_one_name_the_first_stays(tmp_path: Path, renames: str) -> None:
    path = str(tmp_path / "x")
    with Target(path, False) as first, Target(path, False) as second:
        first.file.write(b"first")
        second.file.write(b"second")
        first.keep(Attributes())
        with pytest.raises(TargetExistsError, match="already exists"):
            second.keep(Attributes())
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == {"x": b"first"}


@pytest.mark.skipif(sys.platform != "linux", reason="Linux can refuse in the rename itself")
def test_a_name_taken_after_the_last_look_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x"
    with Target(str(path), False) as target:
        path.write_bytes(b"another's")
        monkeypatch.setattr(os.path, "lexists", lambda path: False)
        with pytest.raises(TargetExistsError):
            target.keep(Attributes())
    assert path.read_bytes() == b"another's"


def test_of_two_folders_of_one_name_the_first_stays(tmp_path: Path, renames: str) -> None:
    for taken in (False, True):  # an empty folder of the name may be taken
        path = tmp_path / f"x{taken}"
        if taken:
            path.mkdir()
        with TargetFolder(str(path), False, lambda _: True) as first, TargetFolder(str(path), False, bool) as second:
            (Path(first.path) / "first").touch()
            (Path(second.path) / "second").touch()
            first.keep()
            with pytest.raises(TargetExistsError):
                second.keep()
        assert os.listdir(path) == ["first"]
    assert sorted(os.listdir(tmp_path)) == ["xFalse", "xTrue"]


def test_folders_replace_each_other(tmp_path: Path, renames: str) -> None:
    for name in ("first", "second"):
        with TargetFolder(str(tmp_path / "x"), True, lambda _: True) as folder:
            (Path(folder.path) / name).write_text(name)
            folder.keep()
    assert os.listdir(tmp_path) == ["x"]
    assert os.listdir(tmp_path / "x") == ["second"]


@pytest.mark.skipif(sys.platform != "linux", reason="Linux can exchange two folders in one step")
def test_a_replaced_folder_is_whole_whenever_the_process_is_killed(tmp_path: Path) -> None:
    target = tmp_path / "x"

    def replace() -> None:
        with TargetFolder(str(target), True, lambda _: True) as folder:
            for name in ("a", "b"):
                (Path(folder.path) / name).write_text("new")
            folder.keep()

    states, operation, status = [], 0, -signal.SIGKILL
    while status == -signal.SIGKILL:
        target.mkdir(exist_ok=True)
        for name in ("a", "b"):
            (target / name).write_text("old")
        operation += 1
        status = ended(forked(dying(replace, operation)))
        states.append({(target / name).read_text() for name in ("a", "b")})
    assert status == 0
    assert operation > 8
    assert all(len(state) == 1 for state in states)
    assert states[0] == {"old"}
    assert states[-1] == {"new"}
    assert os.listdir(tmp_path) == ["x"]  # what the killed processes left was removed by the next


def test_temporaries_of_killed_processes_are_removed_by_the_next(tmp_path: Path) -> None:
    (tmp_path / ".kolmo-notours.tmp").write_text("of another length")
    (tmp_path / ".kolmo-abcdefgh.tmp.old").write_text("kept aside")

    def write() -> None:
        with replacing(tmp_path / "x") as file:
            file.write(b"half")
            os.kill(os.getpid(), signal.SIGKILL)

    def make() -> None:
        with TargetFolder(str(tmp_path / "y"), False, bool) as folder:
            (Path(folder.path) / "half").touch()
            os.kill(os.getpid(), signal.SIGKILL)

    for act in (write, make):
        assert ended(forked(act)) == -signal.SIGKILL
    left = [p for p in tmp_path.iterdir() if is_temporary(p.name)]
    assert len(left) == 1  # the second process removed the first one's
    with replacing(tmp_path / "z") as file:
        file.write(b"whole")
        assert [p for p in left if p.exists()] == []
    assert sorted(p.name for p in tmp_path.iterdir()) == [".kolmo-abcdefgh.tmp.old", ".kolmo-notours.tmp", "z"]


def test_temporaries_of_living_processes_stay(tmp_path: Path) -> None:
    with replacing(tmp_path / "x") as file, TargetFolder(str(tmp_path / "y"), False, bool) as folder:
        file.write(b"whole")
        file.flush()
        assert ended(forked(lambda: remove_abandoned(str(tmp_path)))) == 0
        remove_abandoned(str(tmp_path))  # by another thread, for instance
        (Path(folder.path) / "whole").touch()
        folder.keep()
    assert (tmp_path / "x").read_bytes() == b"whole"
    assert os.listdir(tmp_path / "y") == ["whole"]


def test_a_temporary_that_another_process_is_about_to_remove_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between its making and its lock, a new temporary looks abandoned."""
    seen: list[str] = []

    def taken(descriptor: int) -> bool | None:
        (path,) = (p for p in tmp_path.iterdir() if is_temporary(p.name) and p.name not in seen)
        seen.append(path.name)
        if len(seen) % 2:  # the other process holds the lock, and removes the file a moment later
            doomed.append(path)
            return False
        return try_lock(descriptor)

    doomed: list[Path] = []
    monkeypatch.setattr(temporaries, "try_lock", taken)
    with replacing(tmp_path / "x") as file:
        doomed.pop().unlink()
        file.write(b"whole")
    with TargetFolder(str(tmp_path / "y"), False, bool) as folder:
        doomed.pop().rmdir()
        (Path(folder.path) / "whole").touch()
        folder.keep()
    assert len(seen) == 4
    assert sorted(os.listdir(tmp_path)) == ["x", "y"]


def test_foreign_things_of_a_temporary_name_stay(tmp_path: Path) -> None:
    own = temporaries.own_prefix()
    (tmp_path / "aim").write_text("precious")
    (tmp_path / f"{own}aaaa.tmp").symlink_to(tmp_path / "aim")
    os.mkfifo(tmp_path / f"{own}bbbb.tmp")
    (tmp_path / f"{own}cccc.tmp").write_text("half")
    before = sorted(os.listdir(tmp_path))
    remove_abandoned(str(tmp_path))
    assert sorted({*before} - {*os.listdir(tmp_path)}) == [f"{own}cccc.tmp"]


def test_temporaries_of_other_machines_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a file system is shared, but its locks are not."""

    def write() -> None:
        with replacing(tmp_path / "x") as file:
            file.write(b"half")
            os.kill(os.getpid(), signal.SIGKILL)

    assert ended(forked(write)) == -signal.SIGKILL
    left = os.listdir(tmp_path)
    temporaries.own_prefix.cache_clear()
    monkeypatch.setattr(platform, "node", lambda: "another")
    remove_abandoned(str(tmp_path))
    assert os.listdir(tmp_path) == left
    monkeypatch.undo()
    temporaries.own_prefix.cache_clear()
    remove_abandoned(str(tmp_path))
    assert os.listdir(tmp_path) == []


def test_a_lock_excludes_processes_and_threads(tmp_path: Path) -> None:
    path = tmp_path / "new" / LOCK

    def take() -> None:
        locked(path, "busy").__enter__()

    with locked(path, "busy"):
        assert ended(forked(take)) == 1
        assert in_thread(path) == 1
    assert ended(forked(take)) == 0  # and dies with the lock
    assert in_thread(path) == 0
    assert not path.exists()


def test_a_lock_ends_with_its_process_whatever_that_has_forked(tmp_path: Path) -> None:
    """A helper process that outlives a killed run must not keep the next run out."""
    path = tmp_path / LOCK
    into, out = os.pipe()

    def run() -> None:
        with locked(path, "busy"):
            if os.fork() == 0:
                os.write(out, str(os.getpid()).encode())
            signal.pause()

    killed = forked(run)
    helper = int(os.read(into, 20))
    os.kill(killed, signal.SIGKILL)
    assert ended(killed) == -signal.SIGKILL
    try:
        with locked(path, "busy"):
            assert os.path.exists(path)
    finally:
        os.kill(helper, signal.SIGKILL)
        os.close(into)
        os.close(out)


def test_a_fork_that_leaves_a_lock_leaves_it_to_its_parent(tmp_path: Path) -> None:
    path = tmp_path / LOCK
    holding = locked(path, "busy")
    holding.__enter__()
    assert ended(forked(lambda: holding.__exit__(None, None, None))) == 0
    assert path.exists()
    assert in_thread(path) == 1
    holding.__exit__(None, None, None)
    assert not path.exists()


def test_a_file_is_free_when_its_target_ends_whatever_was_forked(tmp_path: Path) -> None:
    """A worker that was forked while a file was written must not keep others from it."""
    path = tmp_path / "made"
    with Target(str(path), False) as target:
        target.file.write(b"content")
        helper = forked(signal.pause)
        target.keep(Attributes())
    try:
        with path.open("rb") as file:
            assert try_lock(file.fileno())
    finally:
        os.kill(helper, signal.SIGKILL)
        ended(helper)


def in_thread(path: Path) -> int:
    found = []

    def take() -> None:
        try:
            with locked(path, "busy"):
                found.append(0)
        except KolmoError:
            found.append(1)

    thread = threading.Thread(target=take)
    thread.start()
    thread.join()
    return found[0]


def test_waiting_for_a_lock_whose_file_is_removed(tmp_path: Path) -> None:
    """Many processes count in one file, and each that is through removes the lock file."""
    path, count = tmp_path / "work" / LOCK, tmp_path / "count"
    count.write_text("0")

    def add() -> None:
        for _ in range(20):
            with locked(path):
                before = int(count.read_text())
                count.write_text(str(before + 1))

    assert [ended(child) for child in [forked(add) for _ in range(4)]] == [0] * 4
    assert count.read_text() == "80"
    assert os.listdir(path.parent) == []


def test_entries_that_processes_add_at_once_are_all_kept(tmp_path: Path) -> None:
    path = tmp_path / "cache" / "entries.json"

    def add(first: int) -> None:
        for n in range(first, first + 10):
            add_entry(path, f"name {n}", "value", 1000)

    children = [forked(lambda k=k: add(10 * k)) for k in range(4)]  # type: ignore[misc]
    assert [ended(child) for child in children] == [0] * 4
    assert sorted(read_entries(path)) == sorted(f"name {n}" for n in range(40))
