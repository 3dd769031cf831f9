"""Commits of repositories that are large, broken or hostile: read as they are, or counted under a reason."""

from __future__ import annotations

import hashlib
import os
import socket
import stat
import threading
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from github_made import TOKEN, git, make_repository

from kolmo.collection.github import git as git_module
from kolmo.collection.github.files import SourceFile, source_file, source_files
from kolmo.collection.github.git import Commit, GitError, Limits, fetched
from kolmo.collection.github.languages import LANGUAGES, language_of
from kolmo.errors import KolmoError

PYTHON = LANGUAGES["python"]
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 12345\n"
FILE = ("file",)


@contextmanager
def commit_of(folder: Path, oid: str, limits: Limits | None = None, scratch: Path | None = None) -> Iterator[Commit]:
    where = None if scratch is None else str(scratch)
    with fetched(folder.as_uri(), oid, limits or Limits(), where, FILE) as commit:
        yield commit


def read(folder: Path, oid: str, limits: Limits | None = None) -> tuple[dict[str, str], Counter[str]]:
    dropped: Counter[str] = Counter()
    with commit_of(folder, oid, limits) as commit:
        return {file.path: file.content for file in source_files(commit, PYTHON, dropped)}, dropped


def test_what_is_taken_and_what_is_left_out(tmp_path: Path) -> None:
    files: dict[str, bytes | str] = {
        "a.py": b"x = 1\r\n",
        "bom.py": b"\xef\xbb\xbfx = 2\n",
        "empty.py": b"",
        "large.py": b"#" * (1 << 20),
        "huge.py": os.urandom((1 << 20) + 1),
        "pack/b.PY": b"y = 1\n",
        "happy": b"the original's test for `py` takes this one\n",
        "notes.txt": b"text\n",
        "lfs.py": LFS,
        "latin.py": b"# \xe9\n",
        "zero.py": b"x = 1\0",
        "inside.py": "a.py",
        "outside.py": "/etc/passwd",
        "up.py": "../../../../etc/passwd",
        "module": "submodule " + "1" * 40,
        "module.py": "submodule " + "2" * 40,
        "bad\udcff.py": b"z = 1\n",
        "a b\n\tc.py": b"w = 1\n",
        "\ufffd.py": b"v = 1\n",
    }
    oid = make_repository(tmp_path / "r", files)
    found, dropped = read(tmp_path / "r", oid)
    assert found == {
        "a b\n\tc.py": "w = 1\n",
        "a.py": "x = 1\r\n",
        "bom.py": "\ufeffx = 2\n",
        "empty.py": "",
        "large.py": "#" * (1 << 20),
        "pack/b.PY": "y = 1\n",
        "\ufffd.py": "v = 1\n",
    }
    assert dropped == {
        "too_large": 1,
        "lfs_pointer": 1,
        "not_utf8": 1,
        "binary": 1,
        "symlink": 3,
        "submodule": 2,
        "path_not_utf8": 1,
    }


def test_the_extension_is_taken_with_its_dot() -> None:
    """Defect of the original: an extension test without the dot."""
    assert PYTHON.has("a/b.py")
    for path in ("happy", "a/.py", "copy", "x.spy", "b.pyc", "py"):
        assert not PYTHON.has(path), path


def test_the_table_of_languages() -> None:
    assert len(LANGUAGES) == 30
    for language in LANGUAGES.values():
        assert language.extensions
        assert all(extension[0] == "." and extension == extension.lower() for extension in language.extensions)
    assert language_of("Dockerfile").has("a/Dockerfile")
    assert language_of("c++").subset == "cpp"
    with pytest.raises(KolmoError, match="choose one of"):
        language_of("brainfuck")


def test_a_file_that_cannot_be_read_leaves_no_other_files_content(tmp_path: Path) -> None:
    """Defect of the original: on a read error the previous file's content is written under the new path."""
    oid = make_repository(tmp_path / "r", {"a.py": b"a = 1\n", "b.py": b"\xff", "c.py": b"c = 1\n"})
    assert read(tmp_path / "r", oid) == ({"a.py": "a = 1\n", "c.py": "c = 1\n"}, {"not_utf8": 1})
    assert source_file("a.py", None) == "too_large"


def test_an_object_that_is_damaged(tmp_path: Path) -> None:
    folder = tmp_path / "r"
    oid = make_repository(folder, {"a.py": b"a = 1\n", "b.py": b"b = 1\n"})
    blob = hashlib.sha1(b"blob 6\0b = 1\n").hexdigest()
    path = folder / "objects" / blob[:2] / blob[2:]
    path.chmod(stat.S_IWUSR | stat.S_IRUSR)
    path.write_bytes(zlib.compress(b"blob 6\0x = 1\n"))
    assert read(folder, oid) == ({"a.py": "a = 1\n"}, {"too_large": 1})  # it is missing, as what a filter leaves out


def test_nothing_but_the_commit_is_fetched_and_no_hook_runs(tmp_path: Path) -> None:
    folder = tmp_path / "r"
    first = make_repository(
        folder, {"a.py": b"a = 1\n", ".gitmodules": b"[submodule]\n", ".gitattributes": b"*.py filter=evil\n"}
    )
    second = git(folder, "commit-tree", f"{first}^{{tree}}", "-p", first, "-m", "two")
    git(folder, "update-ref", "refs/heads/master", second)
    trace = tmp_path / "hooked"
    (folder / "hooks").mkdir(exist_ok=True)
    for name in ("post-checkout", "post-merge", "reference-transaction", "pre-auto-gc"):
        hook = folder / "hooks" / name
        hook.write_text(f"#!/bin/sh\ntouch {trace}\n")
        hook.chmod(0o755)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    with commit_of(folder, second, scratch=scratch) as commit:
        assert [entry.path for entry in commit.entries()] == [b".gitattributes", b".gitmodules", b"a.py"]
        objects = git(Path(commit.folder), "cat-file", "--batch-all-objects", "--batch-check")
        assert first not in objects
        names = {path.name for path in Path(commit.folder).rglob("*")}
        assert "a.py" not in names
    assert not trace.exists()
    assert not list(scratch.iterdir())


def test_an_older_commit_is_fetched_exactly(tmp_path: Path) -> None:
    folder = tmp_path / "r"
    first = make_repository(folder, {"a.py": b"a = 1\n"})
    make_repository(folder, {"a.py": b"a = 2\n"})
    assert read(folder, first)[0] == {"a.py": "a = 1\n"}


@pytest.mark.parametrize(
    ("name", "oid", "reason"),
    [("r", "1" * 40, "git_gone"), ("none", "1" * 40, "git_unavailable")],
)
def test_what_is_not_there(tmp_path: Path, name: str, oid: str, reason: str) -> None:
    make_repository(tmp_path / "r", {"a.py": b"a = 1\n"})
    with pytest.raises(GitError) as caught:
        read(tmp_path / name, oid)
    assert caught.value.reason == reason


def test_too_large_for_the_disk(tmp_path: Path) -> None:
    files: dict[str, bytes | str] = {f"{number}.py": os.urandom(500_000) for number in range(5)}
    oid = make_repository(tmp_path / "r", files)
    with pytest.raises(GitError) as caught:
        read(tmp_path / "r", oid, Limits(disk=1 << 20))
    assert caught.value.reason == "git_too_large"


def test_a_tree_that_unfolds_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten folders, each of which holds the next ten times: 10**10 files in twelve objects."""
    folder = tmp_path / "r"
    make_repository(folder, {"a.py": b"a = 1\n"})
    tree = git(folder, "rev-parse", "HEAD^{tree}")
    for _ in range(10):
        tree = git(folder, "mktree", data=b"".join(b"040000 tree %s\td%d\n" % (tree.encode(), n) for n in range(10)))
    oid = git(folder, "commit-tree", tree, "-m", "bomb")
    git(folder, "update-ref", "refs/heads/master", oid)
    monkeypatch.setattr(git_module, "MAX_ENTRIES", 20_000)
    with commit_of(folder, oid) as commit, pytest.raises(GitError) as caught:
        list(source_files(commit, LANGUAGES["rust"], Counter()))
    assert caught.value.reason == "git_too_many_files"


def test_a_file_that_unfolds_without_end(tmp_path: Path) -> None:
    """40 MB of zeros in 40 kB, within 32 MB of memory: git streams them, and they are not held here."""
    oid = make_repository(tmp_path / "r", {"a.py": b"a = 1\n", "bomb.py": bytes(40_000_000)})
    git(tmp_path / "r", "config", "uploadpack.allowFilter", "false")
    git(tmp_path / "r", "config", "core.bigFileThreshold", "1m")  # the server has the same limits here
    found, dropped = read(tmp_path / "r", oid, Limits(memory=32_000_000))
    assert found == {"a.py": "a = 1\n"}
    assert dropped == {"too_large": 1}


def test_a_server_that_does_not_leave_large_files_out(tmp_path: Path) -> None:
    folder = tmp_path / "r"
    oid = make_repository(folder, {"a.py": b"a = 1\n", "huge.py": bytes(2 << 20)})
    git(folder, "config", "uploadpack.allowFilter", "false")
    assert read(folder, oid) == ({"a.py": "a = 1\n"}, {"too_large": 1})


@contextmanager
def listening(answer: bytes) -> Iterator[str]:
    """A server that says one thing to everybody, and then nothing more."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        kept = []

        def serve() -> None:
            while True:
                try:
                    connection, _ = sock.accept()
                except OSError:
                    return
                kept.append(connection)
                connection.recv(1 << 16)
                connection.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{sock.getsockname()[1]}/r.git"
        for connection in kept:
            connection.close()
        sock.shutdown(socket.SHUT_RDWR)
    thread.join()


def test_a_server_that_stalls(tmp_path: Path) -> None:
    began = time.monotonic()
    with listening(b"") as url, pytest.raises(GitError) as caught, fetched(url, "1" * 40, Limits(1.0), None, ("http",)):
        pass
    assert caught.value.reason == "git_time"
    assert time.monotonic() - began < 5


def test_a_server_that_wants_a_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the terminal nor a program is asked, and the user's own credentials are not used."""
    asked = tmp_path / "asked"
    program = tmp_path / "ask"
    program.write_text(f"#!/bin/sh\ntouch {asked}\necho secret\n")
    program.chmod(0o755)
    (tmp_path / ".gitconfig").write_text(f"[credential]\n\thelper = {program}\n[core]\n\taskPass = {program}\n")
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login a password b\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("GIT_ASKPASS", str(program))
    monkeypatch.setenv("SSH_ASKPASS", str(program))
    answer = b'HTTP/1.1 401 No\r\nWWW-Authenticate: Basic realm="x"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n'
    with (
        listening(answer) as url,
        pytest.raises(GitError) as caught,
        fetched(url, "1" * 40, Limits(20), None, ("http",)),
    ):
        pass
    assert caught.value.reason == "git_unavailable"
    assert not asked.exists()


@pytest.mark.parametrize("url", ["ext::sh -c touch% {}", "file:///{}", "ssh://127.0.0.1/{}", "-oProxyCommand=touch {}"])
def test_protocols_that_are_not_allowed(tmp_path: Path, url: str) -> None:
    trace = tmp_path / "trace"
    with pytest.raises(GitError) as caught, fetched(url.format(trace), "1" * 40, Limits(20)):
        pass
    assert caught.value.reason == "git_failed"
    assert not trace.exists()


def test_git_sees_no_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = tmp_path / "seen"
    program = tmp_path / "git"
    program.write_text(f"#!/bin/sh\n/usr/bin/env > {seen}\nexit 1\n")
    program.chmod(0o755)
    for name in ("GITHUB_TOKEN", "GH_TOKEN", "GIT_CONFIG_PARAMETERS", "GIT_DIR"):
        monkeypatch.setenv(name, TOKEN)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    with pytest.raises(GitError), fetched("https://127.0.0.1/x", "1" * 40, Limits(20)):
        pass
    assert "GIT_TERMINAL_PROMPT=0" in seen.read_text()
    assert TOKEN not in seen.read_text()


def test_no_process_outlives_a_reader_that_stops(tmp_path: Path) -> None:
    oid = make_repository(tmp_path / "r", {f"{number}.py": b"x = %d\n" % number for number in range(200)})
    with commit_of(tmp_path / "r", oid) as commit:
        files = source_files(commit, PYTHON, Counter())
        first = next(files)
        folder = commit.folder
        del files
    assert isinstance(first, SourceFile)
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                assert os.readlink(f"/proc/{entry}/cwd") != folder
            except OSError:
                continue
