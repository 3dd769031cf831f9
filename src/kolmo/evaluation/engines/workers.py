"""An engine of worker processes on this machine, each with a copy of the model on its own device.

What it is not: it does not distribute batches (`evaluation.engines.worker_pool`), and does not use other machines
(`evaluation.engines.ray_engine`).
"""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import replace
from typing import IO, NoReturn

from kolmo.errors import PredictorError
from kolmo.evaluation.engines.worker_pool import ModelServer, Worker, WorkerPool
from kolmo.evaluation.scorers.scorers import ScorerOptions
from kolmo.parallel import available_cores

END_SECONDS = 5.0  # time that a worker process has to end before it is killed


class ProcessEngine(WorkerPool):
    """A worker pool of processes on this machine."""

    @classmethod
    def open(cls, spec: str, options: ScorerOptions, devices: Sequence[str]) -> ProcessEngine:
        """Start one worker for each device.

        Args:
            spec: the model specification.
            options: the options of the model; `device` is ignored. Workers on the CPU share its cores.
            devices: the devices, such as cuda:0, cuda:1, or cpu, cpu.

        Raises:
            PredictorError: no devices are given, a worker ends, or the model cannot be opened.
            MissingExtraError: a package that the model needs is not installed.
        """
        if not devices:
            raise PredictorError(f"{spec}: no devices are given to run on; name some, such as cuda:0, cuda:1")
        cores = available_cores()
        shares = [
            max(cores // len(devices), 1) if device.startswith("cpu") and len(devices) > 1 else 0 for device in devices
        ]
        each = [
            replace(options, device=device, threads=options.threads or share)
            for device, share in zip(devices, shares, strict=True)
        ]
        workers: list[Worker] = []
        try:
            for device in devices:
                workers.append(ProcessWorker(device))
        except BaseException:
            for worker in workers:
                worker.end()
                worker.join()
            raise
        return cls(workers, spec, each)

    @property
    def processes(self) -> list[int]:
        """Process ids of the workers that have not ended."""
        return [worker.process.pid for worker in self._alive if isinstance(worker, ProcessWorker)]


class ProcessWorker:
    """A process that runs `serve`. It reads numbered requests from standard input, and writes answers to its output.

    It is a new interpreter, not a process of `multiprocessing`, which would run the user's main module again. It ends
    when its input is closed, so it does not outlive the driver.

    Args:
        where: the device, for messages.
    """

    far = False

    def __init__(self, where: str) -> None:
        self.where = where
        code = f"import sys; sys.path[:] = {sys.path!r}; from kolmo.evaluation.engines.workers import serve; serve()"
        self.process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self.process.stdin
        assert self.process.stdout
        self._requests, self._answers = self.process.stdin, self.process.stdout
        self._lock = threading.Lock()
        self._waiting: dict[int, Future[bytes]] = {}
        self._over = False
        self._sent = 0
        self._thread = threading.Thread(target=self._receive, name=f"kolmo {where}", daemon=True)
        self._thread.start()

    def send(self, request: bytes, urgent: bool) -> Future[bytes]:
        """As in `Worker`."""
        future: Future[bytes] = Future()
        with self._lock:
            self._sent += 1
            number = self._sent
            if self._over:
                future.set_exception(EOFError(self._describe_end()))
                return future
            self._waiting[number] = future
        try:
            _write(self._requests, 2 * number + (not urgent), request)
        except (OSError, ValueError):  # the process has ended, which `_receive` reports
            pass
        except BaseException:  # Ctrl-C, perhaps after half of the request
            self.process.kill()
            raise
        return future

    def reason(self, error: Exception) -> str:
        """As in `Worker`."""
        return str(error)

    def end(self) -> None:
        """As in `Worker`."""
        with suppress(OSError):
            self._requests.close()

    def join(self) -> None:
        """As in `Worker`."""
        try:
            self.process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._thread.join(END_SECONDS)
        if not self._thread.is_alive():
            self._answers.close()

    def _receive(self) -> None:
        """Complete the futures with their answers, until the process closes its output."""
        with suppress(OSError):
            while found := _read(self._answers):
                number, answer = found
                with self._lock:
                    future = self._waiting.pop(number // 2)
                future.set_result(answer)
        with self._lock:
            self._over = True
        for future in self._waiting.values():
            future.set_exception(EOFError(self._describe_end()))

    def _describe_end(self) -> str:
        """A description of how the process ended."""
        try:
            code = self.process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            return "it no longer answers"
        if code >= 0:
            return f"exit status {code}"
        with suppress(ValueError):
            return f"killed by {signal.Signals(-code).name}"
        return f"killed by signal {-code}"


def serve() -> None:
    """The main function of a worker process: answer requests, the urgent ones first, until the input is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the driver handles Ctrl-C, and ends its workers
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)  # output printed by models must not mix with the answers
    todo: queue.PriorityQueue[tuple[bool, int, bytes]] = queue.PriorityQueue()

    def receive() -> NoReturn:
        while found := _read(requests):
            number, request = found
            todo.put((bool(number & 1), number, request))
        os._exit(0)  # at once: nothing waits for the answer that is being computed

    threading.Thread(target=receive, daemon=True).start()
    server = ModelServer()
    while True:
        _, number, request = todo.get()
        try:
            _write(answers, number, server.answer(request))
        except OSError:  # the driver has ended
            os._exit(0)


def _write(file: IO[bytes], number: int, data: bytes) -> None:
    """Write a message: its number and its size, 8 bytes each, then its data. The inverse of `_read`."""
    file.write(number.to_bytes(8, "little") + len(data).to_bytes(8, "little"))
    file.write(data)
    file.flush()


def _read(file: IO[bytes]) -> tuple[int, bytes] | None:
    """Read the number and data of a message; None at the end, or if the message is incomplete."""
    head = file.read(16)
    size = int.from_bytes(head[8:], "little")
    data = file.read(size) if len(head) == 16 else b""
    return (int.from_bytes(head[:8], "little"), data) if len(head) == 16 and len(data) == size else None
