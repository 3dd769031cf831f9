"""An ordered parallel map with a bounded number of items in flight, so endless streams take constant memory.

The kernels release the interpreter's lock, so threads are enough. Results come in the order of the items,
whatever the number of threads; with one thread the work runs in the caller's own, and nothing is started.
What it is not: it knows no blocks and no files.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor, wait
from types import TracebackType
from typing import Generic, TypeVar

from kolmo.arguments import whole_number
from kolmo.progress import Progress, no_progress

Item = TypeVar("Item")
Result = TypeVar("Result")

POLL_SECONDS = 0.1  # time between two checks of progress and of Ctrl-C
SPIN_COUNT = 1000  # times that a thread of OpenMP looks for the others before it sleeps, instead of 300,000


def available_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def physical_memory() -> int:
    """Bytes of memory in the machine; a modest guess where the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return 4 << 30


def let_threads_sleep() -> None:
    """Make the threads of OpenMP sleep soon when they wait for each other: on a busy machine, spinning takes most time.

    It has an effect on GNU's library where that is loaded later, and none where the user has chosen a policy.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", str(SPIN_COUNT))


class Pipeline(Generic[Item, Result]):
    """`put` items, take results in order; `drain` gives the rest; `close` stops everything within one slice.

    Args:
        work: makes a result of an item; calls its second argument with the bytes done between slices.
        threads: worker threads; 0 is one for each core.
        capacity: upper bound on the sum of the weights in flight (one item alone may exceed it).
        progress: called in the consumer's thread with the bytes done since the last call.

    Raises:
        TypeError, ValueError: `threads` is not an integer from 0 on.
    """

    def __init__(
        self,
        work: Callable[[Item, Progress], Result],
        *,
        threads: int = 1,
        capacity: int | None = None,
        progress: Progress | None = None,
    ) -> None:
        self._work = work
        self._threads = whole_number(threads, "threads", 0) or available_cores()
        self._capacity = capacity
        self._progress = progress
        self._pool: ThreadPoolExecutor | None = None
        self._pending: deque[tuple[Future[Result], int]] = deque()
        self._load = 0
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._done = 0

    def __enter__(self) -> Pipeline[Item, Result]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def put(self, item: Item, weight: int = 0) -> Iterator[Result]:
        """Take on an item; yields the results that are ready, and waits for some where too much is in flight.

        The iterator must be used up: the item is taken on at its end.
        """
        if self._threads == 1:
            yield self._work(item, self._progress or no_progress)
            return
        while self._pending and (self._is_full(weight) or self._pending[0][0].done()):
            yield self._next()
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._threads, "kolmo")
        try:
            future = self._pool.submit(self._work, item, self._count)
        except RuntimeError:  # the interpreter ends, and its threads take on nothing more
            future = _done_here(self._work, item, self._count)
        self._pending.append((future, weight))
        self._load += weight

    def drain(self) -> Iterator[Result]:
        """The results that are still out, in order. An item that failed stays the next: no result skips it."""
        while self._pending:
            yield self._next()

    def close(self) -> None:
        """Stop all work and end the threads. Harmless when all is done."""
        self._stop.set()
        self._pending.clear()
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None

    def _is_full(self, weight: int) -> bool:
        if len(self._pending) > self._threads:  # one waits ready, so that no thread does
            return True
        return self._capacity is not None and self._load + weight > self._capacity

    def _next(self) -> Result:
        future, weight = self._pending[0]
        while not future.done():
            wait([future], POLL_SECONDS)  # on some systems Ctrl-C does not interrupt a wait without a limit
            self._show()
        self._show()
        result = future.result()
        self._pending.popleft()
        self._load -= weight
        return result

    def _count(self, size: int) -> None:
        if self._stop.is_set():
            raise CancelledError
        with self._lock:
            self._done += size

    def _show(self) -> None:
        with self._lock:
            done, self._done = self._done, 0
        if done and self._progress:
            self._progress(done)


def _done_here(work: Callable[[Item, Progress], Result], item: Item, progress: Progress) -> Future[Result]:
    """What a thread would have made of an item."""
    future: Future[Result] = Future()
    try:
        future.set_result(work(item, progress))
    except Exception as error:
        future.set_exception(error)
    return future


def ordered_map(pipeline: Pipeline[Item, Result], items: Iterable[tuple[Item, int]]) -> Iterator[Result]:
    """Results of all (item, weight), in order. An error of `items` comes after the results before it."""
    failure: Exception | None = None
    source = iter(items)
    with pipeline:
        while True:
            try:
                item, weight = next(source)
            except StopIteration:
                break
            except Exception as error:
                failure = error
                break
            yield from pipeline.put(item, weight)
        yield from pipeline.drain()
        if failure:
            raise failure
