"""Other programs under limits: time, memory and output, and the whole process group is killed when one is passed.

`run_limited` runs a command once (pandoc, git). `LimitedWorker` keeps a Python process that calls one function
again and again (extraction of a page), and makes a new one after it had to kill it. What it is not: a sandbox for files
or network; give the command options that forbid these.
"""

from __future__ import annotations

import os
import select
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from typing import IO, Any

HEAD = struct.Struct("<BQ")  # kind of a message, bytes that follow
OK, FAILED = 0, 1
START_SECONDS = 60.0  # that a worker may take to import its module
MAX_REPLY_BYTES = 1 << 30
LIMITED = 'ulimit -v "$1" && ulimit -t "$2" && ulimit -c 0 && shift 2 && exec "$@"'  # KiB, seconds of processor time
WORKER = "from kolmo.collection.workers import serve; serve()"


class LimitError(Exception):
    """A program passed a limit, or died.

    Attributes:
        why: "timeout", "memory", "output" or "crash", for counts.
    """

    def __init__(self, why: str, message: str = "") -> None:
        super().__init__(message or why)
        self.why = why


@dataclass(frozen=True)
class Finished:
    """What a command left: its exit status and what it wrote."""

    status: int
    stdout: bytes
    stderr: bytes


def run_limited(
    command: Sequence[str],
    *,
    seconds: float,
    memory: int,
    data: bytes = b"",
    cwd: str | None = None,
    environment: Mapping[str, str] | None = None,
    largest: int = 1 << 26,
) -> Finished:
    """Run a command under limits; nothing of its process group outlives the call.

    Args:
        command: program and arguments; no shell reads them.
        seconds: until it must have ended; also of processor time, which holds if this process is killed.
        memory: bytes of address space of each of its processes.
        data: its standard input.
        cwd: its folder.
        environment: all of its environment; None: this process's.
        largest: bytes of standard output, and of standard error, at most.

    Raises:
        LimitError: it passed a limit. A command that dies for want of memory ends with a status of its own instead.
        FileNotFoundError: there is no such program.

    Example:
        >>> run_limited(["cat"], seconds=5, memory=1 << 30, data=b"x").stdout
        b'x'
    """
    _find(command[0], environment)
    limited = ["/bin/sh", "-c", LIMITED, "sh", str(memory >> 10), str(int(seconds) + 1), *command]
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        limited,
        stdin=pipe,
        stdout=pipe,
        stderr=pipe,
        cwd=cwd,
        env=None if environment is None else dict(environment),
        start_new_session=True,
    )
    try:
        found = _exchange(process, data, time.monotonic() + seconds, largest)
        status = process.wait(timeout=10)
    finally:
        _kill_group(process)
    if status == -signal.SIGXCPU:
        raise LimitError("timeout")
    if status == -signal.SIGKILL:
        raise LimitError("memory", "it was killed, probably for want of memory")
    return Finished(status, found[0], found[1])


class LimitedWorker:
    """A function of bytes to bytes in a process of its own.

    Args:
        function: "module:name"; it is called with bytes and returns bytes. What it raises is a `LimitError` "crash",
            and `MemoryError` one of "memory".
        seconds: for one call.
        memory: bytes of address space of the process.

    Example:
        >>> with Worker("zlib:compress", seconds=5, memory=1 << 30) as worker:  # doctest: +SKIP
        ...     packed = worker(b"text")
    """

    def __init__(self, function: str, *, seconds: float, memory: int) -> None:
        self._function, self._seconds, self._memory = function, seconds, memory
        self._process: subprocess.Popen[bytes] | None = None
        self.starts = 0

    def __enter__(self) -> LimitedWorker:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __call__(self, data: bytes) -> bytes:
        """The function's value.

        Raises:
            LimitError: a limit was passed; the next call has a new process.
        """
        process = self._started()
        try:
            kind, reply = self._ask(process, data, time.monotonic() + self._seconds)
        except BaseException:
            self.close()
            raise
        if kind == OK:
            return reply
        why, _, message = reply.decode("utf-8", "replace").partition(":")
        if why == "memory":  # what it holds now is anybody's guess
            self.close()
        raise LimitError(why, message)

    def close(self) -> None:
        """End the process, whatever it does."""
        if self._process is not None:
            _kill_group(self._process)
            self._process = None

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is not None and self._process.poll() is None:
            return self._process
        self.close()
        self.starts += 1
        self._process = subprocess.Popen(
            [sys.executable, "-c", WORKER, self._function, str(self._memory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        )
        kind, reply = _reply(self._process, time.monotonic() + START_SECONDS)
        if kind != OK:
            self.close()
            raise ImportError(reply.decode("utf-8", "replace"))
        return self._process

    def _ask(self, process: subprocess.Popen[bytes], data: bytes, deadline: float) -> tuple[int, bytes]:
        assert process.stdin is not None
        descriptor = process.stdin.fileno()
        view = memoryview(HEAD.pack(OK, len(data)) + data)
        os.set_blocking(descriptor, False)
        while view:
            left = deadline - time.monotonic()
            if left <= 0:
                raise LimitError("timeout")
            if select.select([], [descriptor], [], left)[1]:
                try:
                    view = view[os.write(descriptor, view[: 1 << 16]) :]
                except BrokenPipeError:
                    raise LimitError("crash", "the process died") from None
        return _reply(process, deadline)


def serve() -> None:
    """The other side of `LimitedWorker`: read a message, call, answer, until the input ends."""
    import resource

    function, memory = sys.argv[1], int(sys.argv[2])
    die_with_parent()
    into, out = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)  # what the function prints must not be taken for an answer
    try:
        module, _, name = function.partition(":")
        call: Callable[[bytes], bytes] = getattr(import_module(module), name)
    except Exception as error:
        _send(out, FAILED, f"{type(error).__name__}: {error}".encode())
        return
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _send(out, OK, b"")
    while len(head := into.read(HEAD.size)) == HEAD.size:
        data = into.read(HEAD.unpack(head)[1])
        try:
            kind, reply = OK, call(data)
        except MemoryError:
            kind, reply = FAILED, b"memory:"
        except Exception as error:
            kind, reply = FAILED, f"crash:{type(error).__name__}: {error}".encode("utf-8", "replace")
        _send(out, kind, reply)


def _send(out: IO[bytes], kind: int, data: bytes) -> None:
    out.write(HEAD.pack(kind, len(data)))
    out.write(data)
    out.flush()


def _reply(process: subprocess.Popen[bytes], deadline: float) -> tuple[int, bytes]:
    assert process.stdout is not None
    kind, size = HEAD.unpack(_read(process.stdout.fileno(), HEAD.size, deadline))
    if size > MAX_REPLY_BYTES:
        raise LimitError("output")
    return kind, _read(process.stdout.fileno(), size, deadline)


def _read(descriptor: int, size: int, deadline: float) -> bytes:
    data = bytearray()
    while len(data) < size:
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([descriptor], [], [], left)[0]:
            raise LimitError("timeout")
        piece = os.read(descriptor, min(size - len(data), 1 << 20))
        if not piece:
            raise LimitError("crash", "the process died")
        data += piece
    return bytes(data)


def _exchange(process: subprocess.Popen[bytes], data: bytes, deadline: float, largest: int) -> list[bytes]:
    """Feed the input and take both outputs, until both are closed."""
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    outputs = {process.stdout.fileno(): bytearray(), process.stderr.fileno(): bytearray()}
    order = list(outputs)
    open_outputs = set(outputs)
    view = memoryview(data)
    into: Any = process.stdin
    os.set_blocking(into.fileno(), False)
    while open_outputs:
        if into is not None and not view:
            into.close()
            into = None
        left = deadline - time.monotonic()
        if left <= 0:
            raise LimitError("timeout")
        readable, writable, _ = select.select(list(open_outputs), [into] if into is not None else [], [], left)
        if writable:
            try:
                view = view[os.write(into.fileno(), view[: 1 << 16]) :]
            except BrokenPipeError:  # it reads no further
                view = view[:0]
        for descriptor in readable:
            piece = os.read(descriptor, 1 << 16)
            if not piece:
                open_outputs.discard(descriptor)
            outputs[descriptor] += piece
            if len(outputs[descriptor]) > largest:
                raise LimitError("output")
    return [bytes(outputs[descriptor]) for descriptor in order]


def _find(program: str, environment: Mapping[str, str] | None) -> None:
    import shutil

    path = None if environment is None else environment.get("PATH")
    if shutil.which(program, path=path) is None:
        raise FileNotFoundError(2, "no such program", program)


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    with suppress(subprocess.TimeoutExpired):
        process.wait(timeout=10)
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream is not None:
            with suppress(OSError):
                stream.close()


def die_with_parent(parent: int | None = None) -> None:
    """On Linux, be killed when the process that started this one ends, however it does.

    Args:
        parent: number of that process, which may have ended already; None: not known.
    """
    if sys.platform == "linux":
        import ctypes

        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
        if parent is not None and os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)
