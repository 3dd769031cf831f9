"""One commit of a repository through `git`, which is run so that a repository can neither harm nor hold anything up.

The commit is fetched without its history into a bare repository, and files are read out of git's own store by
`git ls-tree` and `git cat-file`. Nothing is checked out: so no hook, filter or LFS download runs, no symbolic link is
followed or made, no submodule is fetched, and no path of the repository becomes a path on this machine. The settings
that forbid each of these are given all the same.

Every process has a time limit, a limit on its memory and one on the size of the files that it writes. It is a process
group of its own that is killed as a whole, reads nothing from the terminal, and sees neither the user's configuration
nor the token.

What it is not: a client for the web interface (see `graphql`).
"""

from __future__ import annotations

import os
import re
import select
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from kolmo.errors import KolmoError
from kolmo.foreign import short

PASSED_ON = (
    "PATH",
    "http_proxy",
    "https_proxy",
    "HTTPS_PROXY",
    "no_proxy",
    "NO_PROXY",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
)
SETTINGS = {
    "core.hooksPath": os.devnull,
    "core.symlinks": "false",
    "core.fsmonitor": "false",
    "core.askPass": "",
    "core.bigFileThreshold": "1m",  # larger files are streamed, not held in memory
    "credential.helper": "",
    "credential.interactive": "false",
    "fetch.fsckObjects": "false",  # old repositories break its rules; nothing is checked out
    "fetch.recurseSubmodules": "false",
    "fetch.unpackLimit": "1",  # always one pack, which the file size limit holds for
    "fetch.bundleURI": "",
    "filter.lfs.smudge": "",
    "filter.lfs.process": "",
    "filter.lfs.required": "false",
    "gc.auto": "0",
    "http.followRedirects": "initial",  # a repository that was renamed
    "http.lowSpeedLimit": "1000",  # bytes a second
    "http.lowSpeedTime": "30",  # seconds
    "maintenance.auto": "false",
    "pack.threads": "1",
    "protocol.allow": "never",
    "protocol.version": "2",
    "submodule.recurse": "false",
}
LIMITED = 'ulimit -v "$1" && ulimit -f "$2" && ulimit -t "$3" && ulimit -c 0 && shift 3 && exec "$@"'
BARE = "[core]\n\trepositoryformatversion = 0\n\tbare = true\n"
ENTRY = re.compile(rb"(\d{6}) (blob|commit|tree) ([0-9a-f]{40,64})\t(.*)", re.DOTALL)
GONE = ("not our ref", "unadvertised object", "couldn't find remote ref", "remote error: upload-pack")
MISSING = (
    "not found",
    "not appear to be a git repository",
    "could not read username",
    "authentication failed",
    "does not exist",
    "terminal prompts disabled",
)
UNREACHABLE = (
    "could not resolve host",
    "could not resolve proxy",
    "failed to connect",
    "couldn't connect",
    "connection refused",
    "returned error: 429",
)
MAX_ENTRIES = 500_000  # files of one commit
MAX_WORDS = 64 << 10  # bytes that git says to stderr


@dataclass(frozen=True)
class Limits:
    """What one repository may take.

    Attributes:
        seconds: for all of its processes together.
        memory: bytes of address space of a process.
        disk: bytes of a file that is written.
        file: bytes of a source file; larger ones are not fetched where the server can leave them out.
    """

    seconds: float = 300.0
    memory: int = 4 << 30
    disk: int = 1 << 30
    file: int = 1 << 20


@dataclass(frozen=True)
class TreeEntry:
    """A file in a commit: mode in octal digits as git writes it, object id, path as bytes."""

    mode: str
    oid: str
    path: bytes


class GitError(Exception):
    """A repository cannot be read; `reason` says why in one word, for counts.

    Reasons: `git_gone` (the commit), `git_unavailable` (the repository), `git_time`, `git_memory`, `git_too_large`,
    `git_too_many_files`, `git_failed`; `git_unreachable` is not the repository's fault: its host cannot be reached, or
    wants fewer requests.
    """

    def __init__(self, reason: str, words: str = "") -> None:
        super().__init__(f"{reason}: {words}" if words else reason)
        self.reason = reason


@dataclass
class Commit:
    """One commit, fetched into a temporary folder. Use it within `fetched`."""

    folder: str
    oid: str
    limits: Limits
    deadline: float
    protocols: Sequence[str]

    def entries(self) -> Iterator[TreeEntry]:
        """All files, links and submodules of the commit, in git's order.

        Raises:
            GitError: there are too many, or the commit cannot be read.
        """
        rest = b""
        count = 0
        with self._running(["ls-tree", "-r", "-z", "--full-tree", self.oid]) as process:
            for part in process.output():
                *whole, rest = (rest + part).split(b"\0")
                for line in whole:
                    count += 1
                    if count > MAX_ENTRIES:
                        raise GitError("git_too_many_files")
                    match = ENTRY.fullmatch(line)
                    if match is None:
                        raise GitError("git_failed", "an entry of the tree cannot be read")
                    yield TreeEntry(match[1].decode(), match[3].decode(), match[4])
                if len(rest) > 1 << 20:
                    raise GitError("git_failed", "a path is longer than 1 MiB")

    def contents(self, oids: Sequence[str], largest: int) -> Iterator[bytes | None]:
        """The content of each object, in order; None where it is larger than `largest` bytes.

        An object that the server did not send counts as too large: the filter is why objects are left out. One that is
        damaged there has another name here, so it is missing, too.

        Raises:
            GitError: an object cannot be read.
        """
        if not oids:
            return
        with tempfile.TemporaryFile() as asked:
            asked.write("".join(oid + "\n" for oid in oids).encode())
            asked.seek(0)
            with self._running(["cat-file", "--batch"], stdin=asked) as process:
                stream = _Stream(process.output())
                for oid in oids:
                    head = stream.line().split()
                    if len(head) == 2 and head[1] == b"missing":
                        yield None
                        continue
                    if len(head) != 3 or head[0] != oid.encode() or head[1] != b"blob" or not head[2].isdigit():
                        raise GitError("git_failed", "an object cannot be read")
                    size = int(head[2])
                    if size <= largest:
                        yield stream.take(size)
                    else:
                        stream.skip(size)
                        yield None
                    stream.take(1)

    @contextmanager
    def _running(self, arguments: Sequence[str], stdin: IO[bytes] | None = None) -> Iterator[_Process]:
        process = _Process(arguments, self.folder, self.limits, self.deadline, self.protocols, stdin)
        try:
            yield process
        finally:
            process.end()


@contextmanager
def fetched(
    url: str, oid: str, limits: Limits, folder: str | None = None, protocols: Sequence[str] = ("https",)
) -> Iterator[Commit]:
    """One commit of a repository, without its history, for as long as the context lasts.

    Args:
        url: of the repository.
        oid: of the commit, all digits.
        limits: what it may take.
        folder: where temporary folders are made; None: the system's own place.
        protocols: that git may speak.

    Raises:
        GitError: it cannot be had.
        KolmoError: git is not there.
    """
    if shutil.which("git") is None:
        raise KolmoError("git: is not there; install it, repositories are fetched by it")
    with tempfile.TemporaryDirectory(prefix="kolmo-git-", dir=folder, ignore_cleanup_errors=True) as place:
        commit = Commit(place, oid, limits, time.monotonic() + limits.seconds, protocols)
        for name in ("objects", "refs"):
            Path(place, name).mkdir()
        Path(place, "HEAD").write_text("ref: refs/heads/none\n")
        Path(place, "config").write_text(BARE)
        arguments = [
            *("-c", f"remote.origin.url={url}", "fetch", "--quiet", "--depth=1", "--no-tags"),
            *("--no-recurse-submodules", "--no-write-fetch-head", f"--filter=blob:limit={limits.file + 1}"),
            *("origin", oid),
        ]
        with commit._running(arguments) as process:
            for _ in process.output():
                pass
        Path(place, "config").write_text(BARE)  # without the remote, nothing more is fetched for what was left out
        yield commit


@dataclass
class _Process:
    """A git process that ends in time."""

    arguments: Sequence[str]
    folder: str
    limits: Limits
    deadline: float
    protocols: Sequence[str]
    stdin: IO[bytes] | None = None

    def __post_init__(self) -> None:
        settings = {**SETTINGS, **{f"protocol.{name}.allow": "always" for name in self.protocols}}
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        self._words = tempfile.TemporaryFile()  # noqa: SIM115 (closed by `end`)
        try:
            self._popen = subprocess.Popen(
                ["/bin/sh", "-c", LIMITED, "sh", *map(str, self._ceilings()), "git", *options, *self.arguments],
                cwd=self.folder,
                env=_environment(self.folder, self.protocols),
                stdin=subprocess.DEVNULL if self.stdin is None else self.stdin,
                stdout=subprocess.PIPE,
                stderr=self._words,
                start_new_session=True,
            )
        except BaseException:
            self._words.close()
            raise

    def output(self) -> Iterator[bytes]:
        """What the process prints, in parts.

        Raises:
            GitError: it takes too long, or fails.
        """
        assert self._popen.stdout is not None
        descriptor = self._popen.stdout.fileno()
        while True:
            left = self.deadline - time.monotonic()
            if left <= 0 or not select.select([descriptor], [], [], left)[0]:
                raise GitError("git_time")
            part = os.read(descriptor, 1 << 18)
            if not part:
                break
            yield part
        try:
            status = self._popen.wait(max(self.deadline - time.monotonic(), 0.0))
        except subprocess.TimeoutExpired:
            raise GitError("git_time") from None
        if status:
            raise self._error(status)

    def end(self) -> None:
        """Kill what still runs of the process and of those that it began."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._popen.pid, signal.SIGKILL)
        self._popen.wait()
        if self._popen.stdout is not None:
            self._popen.stdout.close()
        self._words.close()

    def _is_full(self) -> bool:
        """Whether a file has reached the limit; git does not say that one of its processes was killed for that."""
        largest = 0
        for path in Path(self.folder).rglob("*"):
            with suppress(OSError):  # removed meanwhile
                largest = max(largest, path.stat().st_size)
        return largest >= self.limits.disk >> 9 << 9

    def _ceilings(self) -> tuple[int, int, int]:
        return self.limits.memory >> 10, self.limits.disk >> 9, int(self.limits.seconds) + 1

    def _error(self, status: int) -> GitError:
        self._words.seek(0)
        words = self._words.read(MAX_WORDS).decode("utf-8", "replace")
        told = words.lower()
        if status == -signal.SIGXCPU:
            return GitError("git_time")
        if self._is_full():
            return GitError("git_too_large")
        if "out of memory" in told or "cannot allocate" in told or "mmap failed" in told:
            return GitError("git_memory")
        if any(mark in told for mark in UNREACHABLE):
            return GitError("git_unreachable", short(words.strip().rpartition("\n")[2], 200))
        if any(mark in told for mark in GONE):
            return GitError("git_gone")
        if any(mark in told for mark in MISSING):
            return GitError("git_unavailable")
        return GitError("git_failed", short(words.strip().rpartition("\n")[2], 200))


class _Stream:
    """Bytes that come in parts, read by length and by line."""

    def __init__(self, parts: Iterator[bytes]) -> None:
        self._parts, self._held = parts, bytearray()

    def line(self) -> bytes:
        """The next line, without its end."""
        while (end := self._held.find(b"\n")) < 0:
            if len(self._held) > 1 << 16 or not self._more():
                raise GitError("git_failed", "git's answer cannot be read")
        found = bytes(self._held[:end])
        del self._held[: end + 1]
        return found

    def take(self, size: int) -> bytes:
        """The next bytes."""
        while len(self._held) < size:
            if not self._more():
                raise GitError("git_failed", "git's answer ends too early")
        found = bytes(self._held[:size])
        del self._held[:size]
        return found

    def skip(self, size: int) -> None:
        """Pass over bytes without holding them."""
        while size:
            if not self._held and not self._more():
                raise GitError("git_failed", "git's answer ends too early")
            step = min(size, len(self._held))
            del self._held[:step]
            size -= step

    def _more(self) -> bool:
        part = next(self._parts, b"")
        self._held += part
        return bool(part)


def _environment(folder: str, protocols: Sequence[str]) -> dict[str, str]:
    """Of a git process: nothing of the user's that could hold a secret or change what is done."""
    return {
        **{name: os.environ[name] for name in PASSED_ON if name in os.environ},
        "HOME": folder,
        "XDG_CONFIG_HOME": folder,
        "LC_ALL": "C",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ASKPASS": "",
        "SSH_ASKPASS": "",
        "GIT_SSH_COMMAND": "false",
        "GIT_LFS_SKIP_SMUDGE": "1",
        "GIT_ALLOW_PROTOCOL": ":".join(protocols),
        "GIT_NO_LAZY_FETCH": "1",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_CEILING_DIRECTORIES": os.path.dirname(folder),
    }
