"""Other programs under limits: time, memory, output; the whole process group goes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kolmo.collection.workers import LimitedWorker, LimitError, run_limited

MEMORY = 1 << 30


def double(data: bytes) -> bytes:
    print("noise on standard output")
    return data * 2


def misbehave(data: bytes) -> bytes:
    if data == b"hang":
        time.sleep(60)
    if data == b"grow":
        return bytes(8 << 30)
    if data == b"die":
        os._exit(3)
    if data == b"raise":
        raise ValueError("what")
    return data


def test_a_command_and_its_input() -> None:
    big = b"x" * 3_000_000
    assert run_limited(["cat"], seconds=20, memory=MEMORY, data=big).stdout == big
    done = run_limited(["sh", "-c", "echo out; echo err >&2; exit 3"], seconds=20, memory=MEMORY)
    assert (done.status, done.stdout, done.stderr) == (3, b"out\n", b"err\n")


def test_what_a_command_started_goes_with_it() -> None:
    begin = time.monotonic()
    with pytest.raises(LimitError, match="timeout") as caught:
        run_limited(["sh", "-c", "sleep 77.125 & sleep 77.125"], seconds=0.5, memory=MEMORY)
    assert caught.value.why == "timeout"
    assert time.monotonic() - begin < 10
    assert "77.125" not in subprocess.run(["ps", "-ef"], capture_output=True, text=True, check=True).stdout


def test_memory_and_output_of_a_command() -> None:
    done = run_limited([sys.executable, "-c", "bytearray(4 << 30)"], seconds=20, memory=MEMORY)
    assert done.status != 0
    assert b"MemoryError" in done.stderr
    with pytest.raises(LimitError, match="output"):
        run_limited(["yes"], seconds=20, memory=MEMORY, largest=1000)
    with pytest.raises(FileNotFoundError):
        run_limited(["no-such-program"], seconds=1, memory=MEMORY)


def test_a_worker_answers_again_and_again() -> None:
    with LimitedWorker("test_collect_workers:double", seconds=30, memory=MEMORY) as worker:
        big = os.urandom(2_000_000)
        assert [worker(b"a"), worker(big), worker(b"")] == [b"aa", big * 2, b""]
        assert worker.starts == 1


def test_a_worker_is_made_anew_after_a_limit() -> None:
    with LimitedWorker("test_collect_workers:misbehave", seconds=1.5, memory=MEMORY) as worker:
        for data, why in ((b"hang", "timeout"), (b"grow", "memory"), (b"die", "crash"), (b"raise", "crash")):
            with pytest.raises(LimitError) as caught:
                worker(data)
            assert caught.value.why == why
            assert worker(b"well") == b"well"
        assert worker.starts == 4  # an exception needs no new process


def test_a_worker_whose_function_is_not_there() -> None:
    with (
        pytest.raises(ImportError, match="no_such"),
        LimitedWorker("kolmo.no_such:x", seconds=1, memory=MEMORY) as worker,
    ):
        worker(b"")


def test_a_worker_ends_with_its_parent() -> None:
    code = (
        "import sys, os\n"
        f"sys.path[:0] = {sys.path!r}\n"
        "from kolmo.collection.workers import LimitedWorker\n"
        "worker = LimitedWorker('test_collect_workers:double', seconds=30, memory=1 << 30)\n"
        "worker(b'a')\n"
        "print(worker._process.pid, flush=True)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    pid = int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False).stdout)
    for _ in range(100):
        try:
            if Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z":
                return
        except (FileNotFoundError, ProcessLookupError):
            return
        time.sleep(0.05)
    raise AssertionError("the worker lives on")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent has ended")
def test_a_process_whose_parent_has_ended_already_ends() -> None:
    script = "import os; from kolmo.collection.workers import die_with_parent; die_with_parent({})"
    for parent, status in (("os.getppid()", 0), ("os.getpid()", -9)):
        assert subprocess.run([sys.executable, "-c", script.format(parent)], check=False).returncode == status
