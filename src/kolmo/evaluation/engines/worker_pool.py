"""Crews: copies of one model, each in a worker of its own, together an engine. Data parallel.

    driver                                      worker
    WorkerPool._spread --request--> Worker.send ----> ModelServer.answer: open, tokenise, budget, score
                 <-- Future -------------------

Each has a few batches at a time, and gets the next when one is through. One that ends gives its batches to the others.

What it is not: it starts no workers (`evaluation.engines.workers`, `evaluation.engines.ray_engine`), and splits no
model over several.
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
from kolmo.evaluation.scorers.scorers import Identity, Options, Scorer, Tokenised, named
from kolmo.evaluation.windows.modes import Texts
from kolmo.evaluation.windows.passages import Batch, Nats
from kolmo.predictors.guard import reason

AHEAD = 2  # batches of a worker: one in work, one that waits
PIECES = 4  # of a list of texts, for each worker

Label = TypeVar("Label")
Request = tuple[str, tuple[Any, ...]]  # a method of the server, and its arguments


# -- in the worker --


@dataclass(frozen=True)
class Card:
    """What a worker says of its scorer when that is open; see `scorers.Scorer`."""

    identity: Identity
    start: int | None
    window: int | None
    whole: bool


class ModelServer:
    """Answers requests with a scorer. Bytes in, bytes out: how they travel is not its business."""

    _scorer: Scorer
    _spec = "the model"

    def answer(self, request: bytes) -> bytes:
        """What the method returns, or the error that it raises, which names the model; raises none itself."""
        try:
            method, arguments = pickle.loads(request)
            with named(self._spec):
                value = getattr(self, method)(*arguments)
            return pickle.dumps((value, None, ""), pickle.HIGHEST_PROTOCOL)
        except Exception as error:
            return _packed(error)

    def open(self, spec: str, options: Options) -> Card:
        """Open the scorer; comes before all else."""
        self._spec = spec
        scorer = self._scorer = open_scorer(spec, options)
        return Card(scorer.identity, scorer.start, scorer.window, scorer.whole)

    def tokenise(self, texts: Sequence[str], how: Texts) -> list[Tokenised]:
        """As in `Scorer`."""
        return self._scorer.tokenise(texts, how)

    def budget(self, block: int) -> tuple[int, int]:
        """As in `Scorer`."""
        return self._scorer.budget(block)

    def score(self, batch: Batch) -> list[Nats]:
        """As in `Scorer`."""
        return self._scorer.score(batch)


def _packed(error: Exception) -> bytes:
    """An error as an answer, with its traceback as text; some errors can be pickled, yet not be read back."""
    text = "".join(traceback.format_exception(error))
    try:
        packed = pickle.dumps((None, error, text))
        pickle.loads(packed)
    except Exception:
        return pickle.dumps((None, PredictorError(reason(error)), text))
    return packed


class _WorkerError(Exception):
    """The traceback of an error that came over from a worker, as its cause."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


# -- in the driver --


class Worker(Protocol):
    """The driver's end of a worker.

    Attributes:
        where: for people: a device, or a node.
        far: whether that is another machine, so that every error must say which.
    """

    where: str
    far: bool

    def send(self, request: bytes, urgent: bool) -> Future[bytes]:
        """Its server's answer. Where the worker ends before, the future fails; `send` itself never does.

        Args:
            request: for `ModelServer.answer`.
            urgent: whether it goes before what is not, but for what is in work.
        """
        ...

    def reason(self, error: Exception) -> str:
        """Why it ended, of the error that a future failed with."""
        ...

    def end(self) -> None:
        """Make it end, whatever it does. Harmless when it has."""
        ...

    def join(self) -> None:
        """Wait until it has ended, and let go of all that was held for it."""
        ...


class WorkerPool:
    """An engine over workers.

    Args:
        workers: which are the pool's from now on: it ends them, also where it cannot be made.
        spec: of the model.
        options: for each worker.

    Raises:
        PredictorError: a worker ends, or does not have the same model as the others.
        KolmoError: as `open_scorer` raises it.
    """

    identity: Identity
    start: int | None
    window: int | None
    whole: bool

    def __init__(self, workers: Sequence[Worker], spec: str, options: Sequence[Options]) -> None:
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
        """Those that live."""
        return len(self._alive)

    def tokenise(self, texts: Sequence[str], how: Texts) -> list[Tokenised]:
        """As in `Scorer`, by all workers."""
        cuts = _cuts([len(text) for text in texts], PIECES * len(self._all))
        requests = ((first, ("tokenise", (texts[first:last], how))) for first, last in cuts)
        found: dict[int, list[Tokenised]] = dict(self._spread(requests, urgent=True))
        return [tokens for first in sorted(found) for tokens in found[first]]

    def budget(self, block: int) -> tuple[int, int]:
        """As in `Scorer`, for one batch."""
        ((_, found),) = self._spread([(None, ("budget", (block,)))], urgent=True)
        passages, tokens = found
        return passages, tokens

    def run(self, batches: Iterable[Batch]) -> Generator[tuple[Batch, list[Nats]], None, None]:
        """As in `Engine`. At most AHEAD batches of each worker, and one more, are drawn and not yet given back."""
        return self._spread((batch, ("score", (batch,))) for batch in batches)

    def close(self) -> None:
        """End all workers, also those in the midst of something."""
        atexit.unregister(self.close)
        self._alive.clear()
        for worker in self._all:
            worker.end()
        for worker in self._all:
            worker.join()
        self._ended = "the engine was closed"

    def _open(self, spec: str, options: Sequence[Options]) -> None:
        opening = {
            worker.send(pickle.dumps(("open", (spec, one))), True): worker
            for worker, one in zip(self._all, options, strict=True)
        }
        cards: dict[Worker, Card] = {}
        for future in as_completed(opening):
            worker = opening[future]
            try:
                answer = future.result()
            except Exception as error:
                raise PredictorError(
                    f"a worker on {worker.where} ended while it opened {spec} ({worker.reason(error)}); "
                    f"if memory ran out, use fewer workers"
                ) from None
            cards[worker] = _value(worker, answer)
        first = cards[self._all[0]]
        for worker, card in cards.items():
            if card.identity.settings != first.identity.settings:
                raise PredictorError(
                    f"{spec} is another model on {worker.where} than on {self._all[0].where}; put the same files there"
                )
        self.identity, self.start, self.window, self.whole = first.identity, first.start, first.window, first.whole

    def _spread(
        self, requests: Iterable[tuple[Label, Request]], *, urgent: bool = False
    ) -> Generator[tuple[Label, Any], None, None]:
        """Hand out requests; yields the label of each, and what it gave, in any order.

        Drawing a request may itself ask the workers for something (`run.batches` tokenises).
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
            if found:  # only now, so that workers are busy while the caller is
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
                    f"{self._ended}, and none is left; rows so far are kept, run again to go on; "
                    f"if memory ran out, with smaller batches or fewer workers"
                )
            else:
                return

    def _idlest(self, loads: Counter[Worker]) -> Worker | None:
        """The worker with the least to do; None where all have enough."""
        worker = min(self._alive, key=lambda worker: loads[worker], default=None)
        return worker if worker and loads[worker] < AHEAD else None

    def _lose(self, worker: Worker, error: Exception) -> None:
        if worker in self._alive:
            self._alive.remove(worker)
            self._ended = f"a worker on {worker.where} ended ({worker.reason(error)})"
            worker.end()


def _value(worker: Worker, answer: bytes) -> Any:
    """What an answer says, or raises."""
    value, error, text = pickle.loads(answer)
    if error is None:
        return value
    if not isinstance(error, KolmoError):  # of what is around the model, as reading the request is
        error = PredictorError(f"a worker on {worker.where} fails ({reason(error)})")
    elif worker.far:
        error = type(error)(f"{worker.where}: {error}")
    raise error from _WorkerError(text)


def _cuts(sizes: Sequence[int], count: int) -> Iterator[tuple[int, int]]:
    """Places (first, last + 1) that cut a list into up to `count` pieces of about the same size."""
    piece = max(-(-sum(sizes) // count), 1)
    first = held = 0
    for last, size in enumerate(sizes, 1):
        held += size
        if held >= piece or last == len(sizes):
            yield first, last
            first, held = last, 0
