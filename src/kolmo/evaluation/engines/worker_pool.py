"""A data-parallel engine: a pool of workers, each with a copy of the model.

    driver                                      worker
    WorkerPool._spread --request--> Worker.send ----> ModelServer.answer: open, tokenise, budget, score
                 <-- Future -------------------

Each worker holds a few batches at a time, and gets the next when it returns one. If a worker ends, its batches are
scored by the others.

What it is not: it does not start workers (`evaluation.engines.workers`, `evaluation.engines.ray_engine`), and does not
split a model over several workers.
"""

from __future__ import annotations

import atexit
import pickle
import traceback
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, as_completed, wait
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from kolmo.errors import KolmoError, PredictorError
from kolmo.evaluation.opening import open_scorer
from kolmo.evaluation.scorers.scorers import ModelIdentity, Scorer, ScorerOptions, Tokenised, named
from kolmo.evaluation.windows.modes import TokenRule
from kolmo.evaluation.windows.passages import Nats, PassageBatch
from kolmo.predictors.guard import reason

BATCHES_PER_WORKER = 2  # batches that a worker holds: one that is scored, and one that waits
TEXT_PIECES_PER_WORKER = 4  # pieces that a list of texts is cut into for tokenising, per worker

Label = TypeVar("Label")
Request = tuple[str, tuple[Any, ...]]  # a method of the server, and its arguments


# -- in the worker --


@dataclass(frozen=True)
class ScorerDescription:
    """The attributes of a worker's scorer, which the worker sends when the scorer is open; see `scorers.Scorer`."""

    identity: ModelIdentity
    start: int | None
    window: int | None
    whole: bool


class ModelServer:
    """Answers requests with a scorer. Requests and answers are bytes; the worker transports them."""

    _scorer: Scorer
    _spec = "the model"

    def answer(self, request: bytes) -> bytes:
        """Call the requested method; the answer is its result or its error. This never raises an error itself."""
        try:
            method, arguments = pickle.loads(request)
            with named(self._spec):
                value = getattr(self, method)(*arguments)
            return pickle.dumps((value, None, ""), pickle.HIGHEST_PROTOCOL)
        except Exception as error:
            return _packed(error)

    def open(self, spec: str, options: ScorerOptions) -> ScorerDescription:
        """Open the scorer. This must be the first request."""
        self._spec = spec
        scorer = self._scorer = open_scorer(spec, options)
        return ScorerDescription(scorer.identity, scorer.start, scorer.window, scorer.whole)

    def tokenise(self, texts: Sequence[str], how: TokenRule) -> list[Tokenised]:
        """As in `Scorer`."""
        return self._scorer.tokenise(texts, how)

    def budget(self, block: int) -> tuple[int, int]:
        """As in `Scorer`."""
        return self._scorer.budget(block)

    def score(self, batch: PassageBatch) -> list[Nats]:
        """As in `Scorer`."""
        return self._scorer.score(batch)


def _packed(error: Exception) -> bytes:
    """Pickle an error with its traceback as text. An error that cannot be unpickled becomes a `PredictorError`."""
    text = "".join(traceback.format_exception(error))
    try:
        packed = pickle.dumps((None, error, text))
        pickle.loads(packed)
    except Exception:
        return pickle.dumps((None, PredictorError(reason(error)), text))
    return packed


class _WorkerError(Exception):
    """The traceback of an error in a worker, attached as the cause of that error."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


# -- in the driver --


class Worker(Protocol):
    """The driver's handle of a worker.

    Attributes:
        where: the device or node of the worker, for messages.
        far: whether the worker runs on another machine, which every error must then name.
    """

    where: str
    far: bool

    def send(self, request: bytes, urgent: bool) -> Future[bytes]:
        """Send a request; the future gets the answer of the server, or fails if the worker ends. This never raises.

        Args:
            request: a request for `ModelServer.answer`.
            urgent: whether it is answered before waiting requests that are not urgent.
        """
        ...

    def reason(self, error: Exception) -> str:
        """Why the worker ended, from the error of a failed future."""
        ...

    def end(self) -> None:
        """Make the worker end, even during a request. No effect if it has ended."""
        ...

    def join(self) -> None:
        """Wait until the worker has ended, and release its resources."""
        ...


class WorkerPool:
    """An engine that distributes batches over workers.

    Args:
        workers: the workers. The pool owns them, and ends them also if its construction fails.
        spec: the model specification.
        options: the options for each worker.

    Raises:
        PredictorError: a worker ends, or has a different model than the others.
        KolmoError: the model cannot be opened (see `open_scorer`).
    """

    identity: ModelIdentity
    start: int | None
    window: int | None
    whole: bool

    def __init__(self, workers: Sequence[Worker], spec: str, options: Sequence[ScorerOptions]) -> None:
        self._all = tuple(workers)
        self._alive = list(workers)
        self._ended = "no worker was started"
        atexit.register(self.close)
        try:
            self._open(spec, options)
        except BaseException:
            self.close()
            raise

    @property
    def workers(self) -> int:
        """The number of workers that have not ended."""
        return len(self._alive)

    def tokenise(self, texts: Sequence[str], how: TokenRule) -> list[Tokenised]:
        """As in `Scorer`; the texts are distributed over all workers."""
        cuts = _cuts([len(text) for text in texts], TEXT_PIECES_PER_WORKER * len(self._all))
        requests = ((first, ("tokenise", (texts[first:last], how))) for first, last in cuts)
        found: dict[int, list[Tokenised]] = dict(self._spread(requests, urgent=True))
        return [tokens for first in sorted(found) for tokens in found[first]]

    def budget(self, block: int) -> tuple[int, int]:
        """As in `Scorer`."""
        ((_, found),) = self._spread([(None, ("budget", (block,)))], urgent=True)
        passages, tokens = found
        return passages, tokens

    def run(self, batches: Iterable[PassageBatch]) -> Generator[tuple[PassageBatch, list[Nats]], None, None]:
        """As in `Engine`. At most BATCHES_PER_WORKER batches for each worker, and one more, are drawn ahead."""
        return self._spread((batch, ("score", (batch,))) for batch in batches)

    def close(self) -> None:
        """End all workers, even during a request."""
        atexit.unregister(self.close)
        self._alive.clear()
        for worker in self._all:
            worker.end()
        for worker in self._all:
            worker.join()
        self._ended = "the engine was closed"

    def _open(self, spec: str, options: Sequence[ScorerOptions]) -> None:
        opening = {
            worker.send(pickle.dumps(("open", (spec, one))), True): worker
            for worker, one in zip(self._all, options, strict=True)
        }
        descriptions: dict[Worker, ScorerDescription] = {}
        for future in as_completed(opening):
            worker = opening[future]
            try:
                answer = future.result()
            except Exception as error:
                raise PredictorError(
                    f"a worker on {worker.where} ended while it opened {spec} ({worker.reason(error)}); "
                    f"if memory ran out, use fewer workers"
                ) from None
            descriptions[worker] = _value(worker, answer)
        first = descriptions[self._all[0]]
        for worker, other in descriptions.items():
            if other.identity.settings != first.identity.settings:
                raise PredictorError(
                    f"{spec} is a different model on {worker.where} than on {self._all[0].where}; "
                    "copy the same files to both"
                )
        self.identity, self.start, self.window, self.whole = first.identity, first.start, first.window, first.whole

    def _spread(
        self, requests: Iterable[tuple[Label, Request]], *, urgent: bool = False
    ) -> Generator[tuple[Label, Any], None, None]:
        """Distribute requests over the workers, and yield the label and result of each, in any order.

        Drawing a request may itself send requests to the workers (`RunState.batches` tokenises).
        """
        coming = iter(requests)
        returned: list[tuple[Label, Request]] = []
        waiting: dict[Future[bytes], tuple[Worker, Label, Request]] = {}
        found: tuple[Label, Any] | None = None
        while True:
            while worker := self._idlest(Counter(worker for worker, _, _ in waiting.values())):
                drawn = returned.pop() if returned else next(coming, None)
                if drawn is None:
                    break
                future = worker.send(pickle.dumps(drawn[1], pickle.HIGHEST_PROTOCOL), urgent)
                waiting[future] = worker, *drawn
            if found:  # only after sending more requests, so that workers are busy while the caller works
                yield found
                found = None
            elif waiting:
                done, _ = wait(waiting, return_when=FIRST_COMPLETED)
                future = done.pop()
                worker, label, request = waiting.pop(future)
                try:
                    answer = future.result()
                except Exception as error:
                    self._lose(worker, error)
                    returned.append((label, request))
                else:
                    found = label, _value(worker, answer)
            elif not self._alive and (returned or next(coming, None)):
                raise PredictorError(
                    f"{self._ended}, and none is left; finished rows are kept, run again to resume; "
                    f"if memory ran out, use smaller batches or fewer workers"
                )
            else:
                return

    def _idlest(self, loads: Counter[Worker]) -> Worker | None:
        """The worker with the fewest batches; None if all have BATCHES_PER_WORKER."""
        worker = min(self._alive, key=lambda worker: loads[worker], default=None)
        return worker if worker and loads[worker] < BATCHES_PER_WORKER else None

    def _lose(self, worker: Worker, error: Exception) -> None:
        if worker in self._alive:
            self._alive.remove(worker)
            self._ended = f"a worker on {worker.where} ended ({worker.reason(error)})"
            worker.end()


def _value(worker: Worker, answer: bytes) -> Any:
    """The result in an answer; its error is raised."""
    value, error, text = pickle.loads(answer)
    if error is None:
        return value
    if not isinstance(error, KolmoError):  # an error outside of the model, such as in reading the request
        error = PredictorError(f"a worker on {worker.where} fails ({reason(error)})")
    elif worker.far:
        error = type(error)(f"{worker.where}: {error}")
    raise error from _WorkerError(text)


def _cuts(sizes: Sequence[int], count: int) -> Iterator[tuple[int, int]]:
    """Pairs (first, last + 1) that cut a list into up to `count` pieces of about the same total size."""
    piece = max(-(-sum(sizes) // count), 1)
    first = held = 0
    for last, size in enumerate(sizes, 1):
        held += size
        if held >= piece or last == len(sizes):
            yield first, last
            first, held = last, 0
