"""One process, and what it took: CPU time, wall time, memory."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kolmo.errors import KolmoError
from kolmo.foreign import short

# Defaults that users set for these programs would change what is measured.
DEFAULTS = {"GZIP", "BZIP", "BZIP2", "XZ_OPT", "XZ_DEFAULTS", "ZSTD_CLEVEL", "ZSTD_NBTHREADS"}
THREADS = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
RSS_UNIT = 1 if sys.platform == "darwin" else 1024
MAX_MESSAGE_BYTES = 100_000  # of a program's errors, that are read


class ToolError(KolmoError):
    """A program failed, or did not give the content back."""


@dataclass(frozen=True)
class Cost:
    """What a process and the children that it waited for took.

    Attributes:
        cpu: seconds of CPU time, of user and system; where the system does not tell them, seconds of wall time.
        wall: seconds.
        peak: the most bytes resident at a time; 0 where the system does not tell them.
    """

    cpu: float
    wall: float
    peak: int


def environment(*, one_thread: bool = True) -> dict[str, str]:
    """The environment of a process that is measured: without users' defaults, and by default with one thread."""
    kept = {key: value for key, value in os.environ.items() if key not in DEFAULTS}
    return kept | THREADS if one_thread else kept


def run(command: Sequence[str], folder: Path, output: Path | None = None, *, one_thread: bool = True) -> Cost:
    """Run a command in a folder, its standard output in a file.

    Args:
        command: program and arguments.
        folder: where it runs.
        output: takes its standard output; None: nothing does.
        one_thread: whether numerical libraries in it are told to take one thread.

    Raises:
        ToolError: it cannot be started, or its exit status is not 0.
    """
    variables = environment(one_thread=one_thread)
    with open(output or os.devnull, "wb") as out, tempfile.TemporaryFile() as errors:
        start = time.perf_counter()
        try:
            process = subprocess.Popen(
                command, cwd=folder, env=variables, stdin=subprocess.DEVNULL, stdout=out, stderr=errors
            )
        except OSError as error:
            raise ToolError(f"{short(command[0])}: {error.strerror}; leave it out, or install it again") from None
        try:
            cost = wait(process, start)
        except BaseException:
            process.kill()
            process.wait()
            raise
        if process.returncode:
            errors.seek(0)
            lines = errors.read(MAX_MESSAGE_BYTES).decode(errors="replace").split("\n")
            said = next((line.strip() for line in reversed(lines) if line.strip()), "no message")
            raise ToolError(f"exit status {process.returncode}: {short(said, 200)}")
    return cost


def wait(process: subprocess.Popen[bytes], start: float) -> Cost:
    """Wait for a child that was started at `start` of `time.perf_counter`; sets its return code."""
    if sys.platform == "win32":  # which tells neither
        process.wait()
        wall = time.perf_counter() - start
        return Cost(wall, wall, 0)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return Cost(usage.ru_utime + usage.ru_stime, time.perf_counter() - start, usage.ru_maxrss * RSS_UNIT)
