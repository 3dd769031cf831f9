"""What a test may cost, counted so that a busy machine makes no difference: CPU time, and bytes read."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import pytest

CPU_SECONDS = 60.0  # far above what anything takes that is not caught in a loop


@contextmanager
def ends_within(seconds: float = CPU_SECONDS) -> Iterator[None]:
    """Fail, rather than go on, when the code within takes so much CPU time."""
    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGPROF, _fail)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def _fail(number: int, frame: FrameType | None) -> None:
    raise AssertionError("it takes far more CPU time than it should")


def bytes_read() -> int:
    """Bytes that this process has read from files so far."""
    path = Path("/proc/self/io")
    if not path.exists():
        pytest.skip("needs Linux, which counts the bytes that a process reads")
    return int(path.read_text("ascii").split()[1])
