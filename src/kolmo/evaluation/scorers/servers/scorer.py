"""`api:URL`: a model behind an OpenAI-compatible server that tells how likely the tokens of a prompt are.

    POST /v1/completions   {"prompt": [[1, 263, 931], ...], "echo": true, "logprobs": 1, "max_tokens": 0}
    answer                 choices[i].logprobs.token_logprobs: [null, -4.2, -0.7]

That is OpenAI's first protocol, which vLLM and SGLang still speak. Servers that refuse to make no token are asked for
one, which is dropped; of vLLM `prompt_logprobs` works too. What a server does is tried when it is opened, with two
short prompts at once. docs/servers.md has the servers, and their flags.

What it is not: it starts no server, and cannot know what weights one has. Nor does it send text to be scored: ids alone
say what the windows of `evaluation.windows.windows` hold.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from kolmo.errors import KolmoError, PredictorError
from kolmo.evaluation.scorers.scorers import Identity, Options, Tokenised
from kolmo.evaluation.scorers.servers.connection import TRIES, RefusedError, Server
from kolmo.evaluation.scorers.servers.own_tokens import OwnTokens, find_folder
from kolmo.evaluation.scorers.servers.server_tokens import ServerTokens
from kolmo.evaluation.windows.modes import Texts
from kolmo.evaluation.windows.passages import Batch, Nats
from kolmo.foreign import quoted, reason, short

ANSWER_BYTES = 1 << 20  # of an answer, at most, and
TOKEN_BYTES = 1 << 10  # for each token that was sent; servers take 50 to 200
PARALLEL = 8  # requests at once
AT_ONCE = 8  # passages of a request
TOKENS = 16384  # of a request
ROUNDING = 1e-3  # by which a log-probability may be above 0
IMPOSSIBLE = -9999.0  # what servers write for minus infinity
ROOM = {"sglang": 8}  # places of a context that a server keeps for itself
USUAL_ROOM = 2  # the token that is scored last is sent too, and one more may be made
NEEDS = "kolmo needs those of the prompt's tokens, as vLLM and SGLang give them (docs/servers.md)"
ANSWERS = ("answers with what cannot be used", "docs/servers.md says what a server must offer")
TOKENIZER = ("fails", "give the folder of the model's own tokenizer as the argument tokenizer")

Prompt = list[int]


@dataclass(frozen=True)
class Way:
    """How to ask for the log-probabilities of prompts.

    Attributes:
        fields: of the request.
        read: those of one prompt, from its choice: its tokens, and perhaps some that were made behind them.
        made: tokens that are made behind a prompt, at most.
        at_once: prompts of a request, at most.
    """

    fields: dict[str, Any]
    read: Callable[[dict[str, Any], Prompt], list[Any]]
    made: int
    at_once: int = AT_ONCE


def _read_echo(choice: dict[str, Any], prompt: Prompt) -> list[Any]:
    logprobs = choice.get("logprobs")
    found = logprobs.get("token_logprobs") if isinstance(logprobs, dict) else None
    if not isinstance(found, list):
        raise ValueError("no log-probabilities")
    return found


def _read_prompt(choice: dict[str, Any], prompt: Prompt) -> list[Any]:
    found = choice.get("prompt_logprobs")
    if not isinstance(found, list):
        raise ValueError("no log-probabilities")
    if len(found) != len(prompt):
        return found
    values = []
    for token, entry in zip(prompt, found, strict=True):
        one = entry.get(str(token)) if isinstance(entry, dict) else None
        values.append(one.get("logprob") if isinstance(one, dict) else one)
    return values


WAYS = (
    Way({"echo": True, "logprobs": 1, "max_tokens": 0}, _read_echo, made=0),
    Way({"echo": True, "logprobs": 1, "max_tokens": 1}, _read_echo, made=1),
    Way({"prompt_logprobs": 1, "max_tokens": 1}, _read_prompt, made=0),
)


class ApiScorer:
    """A model behind a server.

    Args:
        identity: of the model.
        server: where it is.
        model: its name there.
        tokens: its tokenizer.
        way: how to ask.
        window: tokens that it sees.
    """

    whole = False

    def __init__(
        self,
        identity: Identity,
        server: Server,
        model: str,
        tokens: OwnTokens | ServerTokens,
        way: Way,
        window: int | None,
    ) -> None:
        self.identity = identity
        self.window = window
        self._server, self._model, self._tokens, self._way = server, model, tokens, way

    @classmethod
    def open(cls, rest: str, options: Options, server: Server | None = None) -> ApiScorer:
        """The scorer of a spec `api:URL` or `api:URL#MODEL`.

        Args:
            rest: the spec without `api:`.
            options: `tokenizer` and `cache_dir` count.
            server: that of the URL, where one is made already.

        Raises:
            PredictorError: the server cannot be reached, does not have the model, or does not offer what is needed.
            MissingExtraError: a tokenizer was given and `tokenizers` is not installed.
        """
        url, _, wanted = rest.partition("#")
        for name in ("dtype", "attention"):
            if getattr(options, name):
                raise PredictorError(f"api:{url}: the server has its own {name}; leave it out, and set it there")
        server = server or Server(url)
        try:
            with _blaming(server.url):
                return cls._open(url, wanted, options, server)
        except BaseException:
            server.close()
            raise

    @classmethod
    def _open(cls, url: str, wanted: str, options: Options, server: Server) -> ApiScorer:
        model, facts = _model(server, wanted)
        tokens: OwnTokens | ServerTokens
        if options.tokenizer:
            with _blaming(options.tokenizer, TOKENIZER):
                tokens = OwnTokens(find_folder(options.tokenizer, options.cache_dir))
        else:
            tokens = ServerTokens(server, model)
        way = _find_way(server, model, tokens.start)
        length = facts.get("max_model_len")
        length = length if type(length) is int and length > 0 else tokens.window
        window = None if length is None else max(length - ROOM.get(str(facts.get("owned_by")), USUAL_ROOM), 1)
        spec = f"api:{server.url}" + (f"#{wanted}" if wanted else "")
        settings = {"server": server.url, "model": model, "tokenizer": tokens.digest}
        told = {name: short(facts[name], 200) for name in ("owned_by", "root") if isinstance(facts.get(name), str)}
        identity = Identity(spec, short(model, 200), "api", settings, {"window": window, **told})
        return cls(identity, server, model, tokens, way, window)

    @property
    def start(self) -> int:
        """Beginning of text, or else its end."""
        return self._tokens.start

    def tokenise(self, texts: Sequence[str], how: Texts) -> list[Tokenised]:
        """As in `Scorer`."""
        if isinstance(self._tokens, OwnTokens):
            with _blaming(f"{self.identity.spec}: its tokenizer", TOKENIZER):
                return [self._tokens.encode(text, how) for text in texts]
        with _blaming(self._server.url):
            return self._in_parallel([partial(self._tokens.encode, text, how) for text in texts])

    def budget(self, block: int) -> tuple[int, int]:
        """What keeps all connections busy, twice over."""
        return 2 * PARALLEL * self._way.at_once, 2 * PARALLEL * TOKENS

    def score(self, batch: Batch) -> list[Nats]:
        """As in `Scorer`."""
        groups: list[Batch] = []
        room = 0
        for passage in batch:
            if not groups or len(groups[-1]) == self._way.at_once or len(passage.tokens) > room:
                groups.append([])
                room = TOKENS
            groups[-1].append(passage)
            room -= len(passage.tokens)
        with _blaming(self._server.url):
            found = self._in_parallel([partial(self._score, group) for group in groups])
        return [nats for group in found for nats in group]

    def close(self) -> None:
        """Let the connections go."""
        self._server.close()

    def _score(self, batch: Batch) -> list[Nats]:
        prompts = [passage.tokens.tolist() for passage in batch]
        found = ask(self._server, self._model, self._way, prompts)
        return [
            _nats(f"{self._server.url}/v1/completions", values[len(values) - passage.scored :])
            for passage, values in zip(batch, found, strict=True)
        ]

    def _in_parallel(self, jobs: Sequence[Callable[[], Any]]) -> list[Any]:
        """Results of jobs, in order. Where one fails, the others are stopped."""
        self._server.go()
        if len(jobs) < 2:
            return [job() for job in jobs]
        with ThreadPoolExecutor(min(len(jobs), PARALLEL)) as pool:
            futures = [pool.submit(job) for job in jobs]
            try:
                done, left = wait(futures, return_when=FIRST_EXCEPTION)
                if not left:
                    return [future.result() for future in futures]
                raise next(error for future in done if (error := future.exception()))
            finally:
                if any(not future.done() for future in futures):
                    pool.shutdown(wait=False, cancel_futures=True)
                    self._server.stop()


@contextmanager
def _blaming(place: str, problem: tuple[str, str] = ANSWERS) -> Iterator[None]:
    """Whatever goes wrong within for a server's answer, or in a tokenizer, becomes an error that names it.

    Raises:
        PredictorError: something went wrong that is not an error of kolmo's already.
    """
    try:
        yield
    except KolmoError:
        raise
    except Exception as error:
        what, remedy = problem
        raise PredictorError(f"{place}: {what} ({reason(error)}); {remedy}") from error


class UnfitError(PredictorError):
    """The server's answer is not what was asked for."""


def ask(server: Server, model: str, way: Way, prompts: list[Prompt], tries: int = TRIES) -> list[list[Any]]:
    """What a server writes for each token of each prompt: a number, or null for the first.

    Raises:
        UnfitError: the answer is another than a list of the right length for each prompt.
    """
    prompt = prompts if way.at_once > 1 else prompts[0]
    payload = {"model": model, "prompt": prompt, "temperature": 0, **way.fields}
    largest = ANSWER_BYTES + TOKEN_BYTES * sum(map(len, prompts))
    answer = server.post("/v1/completions", payload, tries, largest)
    try:
        return _read(answer, way, prompts)
    except ValueError as error:
        raise UnfitError(f"{server.url}/v1/completions: answers with {error}; {NEEDS}") from None


def _read(answer: Any, way: Way, prompts: list[Prompt]) -> list[list[Any]]:
    choices = answer.get("choices") if isinstance(answer, dict) else None
    if not isinstance(choices, list) or not all(isinstance(choice, dict) for choice in choices):
        raise ValueError("no list of choices")
    if len(choices) != len(prompts):
        raise ValueError(f"{len(choices)} choices to {len(prompts)} prompts")
    places = [choice.get("index", k) for k, choice in enumerate(choices)]
    if not all(type(place) is int for place in places) or sorted(places) != list(range(len(prompts))):
        raise ValueError("choices that are not numbered from 0 on")
    usage = answer.get("usage")
    read = usage.get("prompt_tokens") if isinstance(usage, dict) else None
    sent = sum(map(len, prompts))
    if type(read) is int and read > sent:
        raise ValueError(f"{quoted(read, 20)} prompt tokens where {sent} were sent (it must add none of its own)")
    found: list[list[Any]] = [[] for _ in prompts]
    for place, choice in zip(places, choices, strict=True):
        prompt = prompts[place]
        values = way.read(choice, prompt)
        if not len(prompt) <= len(values) <= len(prompt) + way.made:
            raise ValueError(
                f"log-probabilities of {len(values)} tokens where {len(prompt)} were sent (it must add none of its own)"
            )
        found[place] = values[: len(prompt)]
    return found


def _nats(place: str, values: list[Any]) -> Nats:
    """Costs from log-probabilities.

    Raises:
        UnfitError: one is not a number, is above 0, or says that its token cannot be.
    """
    _check(place, values)
    if min(values, default=0) <= IMPOSSIBLE:
        raise UnfitError(
            f"{place}: says that a token of the text is impossible; give the model's own as the argument "
            "tokenizer, or start the server without limits on what is generated"
        )
    return np.maximum(-np.array(values, np.float64), 0).astype(np.float32)


def _check(place: str, values: list[Any]) -> None:
    for value in values:
        if type(value) not in (int, float) or not _is_finite(value):
            raise UnfitError(f"{place}: gives {quoted(value, 40)} as the log-probability of a token; {NEEDS}")
        if value > ROUNDING:
            raise UnfitError(f"{place}: gives {value:.4g}, above 0, as the log-probability of a token; {NEEDS}")


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer beyond all floats
        return False


def _model(server: Server, wanted: str) -> tuple[str, dict[str, Any]]:
    """The model's name, and what the server says of it."""
    try:
        answer = server.get("/v1/models")
    except RefusedError as error:
        if wanted and error.status in (404, 405, 501):
            return wanted, {}
        raise
    data = answer.get("data") if isinstance(answer, dict) else None
    listed = data if isinstance(data, list) else []
    models = {one["id"]: one for one in listed if isinstance(one, dict) and isinstance(one.get("id"), str)}
    if not models and wanted:
        return wanted, {}
    if wanted in models:
        return wanted, models[wanted]
    if len(models) == 1 and not wanted:
        return next(iter(models.items()))
    known = ", ".join(short(name) for name in list(models)[:8]) or "none"
    problem = f"has no model {quoted(wanted)}" if wanted else "does not have one model alone"
    raise PredictorError(f"{server.url}/v1/models: {problem} (it names {known}); name one: api:{server.url}#MODEL")


def _find_way(server: Server, model: str, start: int) -> Way:
    """The first way in which the server answers two prompts, at once or one after the other.

    Raises:
        PredictorError: there is none.
    """
    prompts = [[start, start], [start, start, start]]
    first: PredictorError | None = None
    for way in WAYS:
        for at_once in (AT_ONCE, 1):
            tried = replace(way, at_once=at_once)
            try:
                for group in [prompts] if at_once > 1 else [[prompt] for prompt in prompts]:
                    for values in ask(server, model, tried, group, tries=2):
                        _check(f"{server.url}/v1/completions", values[1:])
                return tried
            except (RefusedError, UnfitError) as error:
                if isinstance(error, RefusedError) and error.status in (401, 403, 404, 429):
                    raise
                first = first or error
    raise first or AssertionError
