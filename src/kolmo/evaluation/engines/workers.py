"""Workers on this machine: processes, each with a copy of the model on a device of its own, as one engine.

What it is not: it knows nothing of batches (`evaluation.engines.worker_pool` hands them out), or of other machines
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
from kolmo.evaluation.scorers.scorers import Options

PATIENCE = 5.0  # seconds that a worker's process has to end


class ProcessEngine(WorkerPool):
    """Processes of this machine."""

    @classmethod
    def open(cls, spec: str, options: Options, devices: Sequence[str]) -> ProcessEngine:
        """A worker for each device.

        Args:
            spec: of the model.
            options: of the model; its device does not count. Workers on the CPU share the cores that there are.
            devices: as cuda:0, cuda:1, or cpu, cpu.

        Raises:
            PredictorError: there are no devices, a worker ends, or the model cannot be opened.
            MissingExtraError: it needs what is not installed.
        """
        if not devices:
            raise PredictorError(f"{spec}: no devices are given to run it on; name some, as cuda:0, cuda:1")
        cores = os.cpu_count() or 1
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
        """Ids of the processes of the workers that live."""
        return [worker.process.pid for worker in self._alive if isinstance(worker, ProcessWorker)]


class ProcessWorker:
    """A process that runs `serve`. Numbered requests go down its standard input, answers come up its output.

    A new interpreter rather than `multiprocessing`, which runs the user's main module again. The process ends with its
    input, so it does not outlive the driver, however that ends.
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
        self._thread = threading.Thread(target=self._listen, name=f"kolmo {where}", daemon=True)
        self._thread.start()

    def send(self, request: bytes, urgent: bool) -> Future[bytes]:
        """As in `Worker`."""
        future: Future[bytes] = Future()
        with self._lock:
            self._sent += 1
            number = self._sent
            if self._over:
                future.set_exception(EOFError(self._how()))
                return future
            self._waiting[number] = future
        try:
            _write(self._requests, 2 * number + (not urgent), request)
        except (OSError, ValueError):  # its end, of which `_listen` tells
            pass
        except BaseException:  # Ctrl-C, perhaps in the midst of the request
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
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._thread.join(PATIENCE)
        if not self._thread.is_alive():
            self._answers.close()

    def _listen(self) -> None:
        """Hand answers to those who wait for them, until there are no more."""
        with suppress(OSError):
            while found := _read(self._answers):
                number, answer = found
                with self._lock:
                    future = self._waiting.pop(number // 2)
                future.set_result(answer)
        with self._lock:
            self._over = True
        for future in self._waiting.values():
            future.set_exception(EOFError(self._how()))

    def _how(self) -> str:
        """How the process ended."""
        try:
            code = self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            return "it no longer answers"
        if code >= 0:
            return f"exit status {code}"
        with suppress(ValueError):
            return f"killed by {signal.Signals(-code).name}"
        return f"killed by signal {-code}"


def serve() -> None:
    """What a worker's process does: answer requests, the urgent ones first, until its input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the driver's; it lets its workers end
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)  # what models print is not an answer
    todo: queue.PriorityQueue[tuple[bool, int, bytes]] = queue.PriorityQueue()

    def listen() -> NoReturn:
        while found := _read(requests):
            number, request = found
            todo.put((bool(number & 1), number, request))
        os._exit(0)  # at once: what is in work is of no use to anybody

    threading.Thread(target=listen, daemon=True).start()
    server = ModelServer()
    while True:
        _, number, request = todo.get()
        try:
            _write(answers, number, server.answer(request))
        except OSError:  # nobody listens any more
            os._exit(0)


def _write(file: IO[bytes], number: int, data: bytes) -> None:
    """A message: its number and size, 8 bytes each, and itself. The mirror of `_read`."""
    file.write(number.to_bytes(8, "little") + len(data).to_bytes(8, "little"))
    file.write(data)
    file.flush()


def _read(file: IO[bytes]) -> tuple[int, bytes] | None:
    """The number of a message, and itself; None where there are no more whole ones."""
    head = file.read(16)
    size = int.from_bytes(head[8:], "little")
    data = file.read(size) if len(head) == 16 else b""
    return (int.from_bytes(head[:8], "little"), data) if len(head) == 16 and len(data) == size else None
