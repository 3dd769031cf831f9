"""`api:URL`: a model behind an OpenAI-compatible server that returns log-probabilities of the tokens of a prompt.

    POST /v1/completions   {"prompt": [[1, 263, 931], ...], "echo": true, "logprobs": 1, "max_tokens": 0}
    answer                 choices[i].logprobs.token_logprobs: [null, -4.2, -0.7]

This is OpenAI's legacy completions protocol, which vLLM and SGLang support. Servers that refuse to generate zero tokens
are asked for one, which is dropped; vLLM's `prompt_logprobs` works too. Which request a server supports is tried with
two short prompts when it is opened. docs/servers.md lists servers and the options that they need.

What it is not: it does not start servers, and cannot check which weights a server has. Prompts are token ids, not text,
since windows are defined on tokens.
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
from kolmo.evaluation.scorers.scorers import ModelIdentity, ScorerOptions, Tokenised
from kolmo.evaluation.scorers.servers.connection import MAX_TRIES, RefusedError, Server
from kolmo.evaluation.scorers.servers.own_tokens import OwnTokens, find_folder
from kolmo.evaluation.scorers.servers.server_tokens import ServerTokens
from kolmo.evaluation.windows.modes import TokenRule
from kolmo.evaluation.windows.passages import Nats, PassageBatch
from kolmo.foreign import quoted, reason, short

MAX_ANSWER_BASE_BYTES = 1 << 20  # size of an answer with log-probabilities, plus
MAX_ANSWER_BYTES_PER_TOKEN = 1 << 10  # for each token of the request; servers send 50 to 200
MAX_PARALLEL_REQUESTS = 8  # requests that are sent at the same time
MAX_REQUEST_PASSAGES = 8  # passages of one request
MAX_REQUEST_TOKENS = 16384  # tokens of one request
MAX_POSITIVE_LOGPROB = 1e-3  # rounding error by which a log-probability may exceed 0
MINUS_INFINITY_LOGPROB = -9999.0  # value that servers write for minus infinity
RESERVED_TOKENS = {"sglang": 8}  # tokens of the context length that a server reserves
DEFAULT_RESERVED_TOKENS = 2  # for other servers: the last scored token is sent too, and one more may be generated
PROMPT_REMEDY = "kolmo needs those of the prompt's tokens, as vLLM and SGLang give them (docs/servers.md)"
ANSWER_PROBLEM = ("the answer cannot be used", "see docs/servers.md for what a server must support")
TOKENIZER_PROBLEM = ("fails", "give the folder of the model's own tokenizer in the argument tokenizer")

Prompt = list[int]


@dataclass(frozen=True)
class PromptProtocol:
    """A form of request for the log-probabilities of prompts, and of its answer.

    Attributes:
        fields: the fields of the request.
        read: returns the log-probabilities in one choice of the answer: those of the prompt's tokens, and perhaps of
            generated tokens after them.
        generated: the largest number of generated tokens.
        max_prompts: the largest number of prompts in a request.
    """

    fields: dict[str, Any]
    read: Callable[[dict[str, Any], Prompt], list[Any]]
    generated: int
    max_prompts: int = MAX_REQUEST_PASSAGES


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


PROTOCOLS = (
    PromptProtocol({"echo": True, "logprobs": 1, "max_tokens": 0}, _read_echo, generated=0),
    PromptProtocol({"echo": True, "logprobs": 1, "max_tokens": 1}, _read_echo, generated=1),
    PromptProtocol({"prompt_logprobs": 1, "max_tokens": 1}, _read_prompt, generated=0),
)


class ApiScorer:
    """The scorer of a model behind a server.

    Args:
        identity: the identity of the model.
        server: the server.
        model: the name of the model on the server.
        tokens: the tokenizer of the model.
        protocol: the form of request that the server supports.
        window: the context length that can be used, in tokens; None if it is unknown.
    """

    whole = False

    def __init__(
        self,
        identity: ModelIdentity,
        server: Server,
        model: str,
        tokens: OwnTokens | ServerTokens,
        protocol: PromptProtocol,
        window: int | None,
    ) -> None:
        self.identity = identity
        self.window = window
        self._server, self._model, self._tokens, self._protocol = server, model, tokens, protocol

    @classmethod
    def open(cls, rest: str, options: ScorerOptions, server: Server | None = None) -> ApiScorer:
        """Open the scorer of `api:URL` or `api:URL#MODEL`.

        Args:
            rest: the specification without `api:`.
            options: the options of the model, of which `tokenizer` and `cache_dir` are used.
            server: an existing connection to the URL; default: a new one.

        Raises:
            PredictorError: the server cannot be reached, does not have the model, or does not support the protocol.
            MissingExtraError: a tokenizer is given and `tokenizers` is not installed.
        """
        url, _, wanted = rest.partition("#")
        for name in ("dtype", "attention"):
            if getattr(options, name):
                raise PredictorError(
                    f"api:{url}: the server decides this; leave the argument {name} out, and set it there"
                )
        server = server or Server(url)
        try:
            with _errors_named(server.url):
                return cls._open(url, wanted, options, server)
        except BaseException:
            server.close()
            raise

    @classmethod
    def _open(cls, url: str, wanted: str, options: ScorerOptions, server: Server) -> ApiScorer:
        model, facts = _model(server, wanted)
        tokens: OwnTokens | ServerTokens
        if options.tokenizer:
            with _errors_named(options.tokenizer, TOKENIZER_PROBLEM):
                tokens = OwnTokens(find_folder(options.tokenizer, options.cache_dir))
        else:
            tokens = ServerTokens(server, model)
        protocol = _find_protocol(server, model, tokens.start)
        length = facts.get("max_model_len")
        length = length if type(length) is int and length > 0 else tokens.window
        window = (
            None
            if length is None
            else max(length - RESERVED_TOKENS.get(str(facts.get("owned_by")), DEFAULT_RESERVED_TOKENS), 1)
        )
        spec = f"api:{server.url}" + (f"#{wanted}" if wanted else "")
        settings = {"server": server.url, "model": model, "tokenizer": tokens.hash}
        told = {name: short(facts[name], 200) for name in ("owned_by", "root") if isinstance(facts.get(name), str)}
        identity = ModelIdentity(spec, short(model, 200), "api", settings, {"window": window, **told})
        return cls(identity, server, model, tokens, protocol, window)

    @property
    def start(self) -> int:
        """The token for beginning of text, else that for end of text."""
        return self._tokens.start

    def tokenise(self, texts: Sequence[str], how: TokenRule) -> list[Tokenised]:
        """As in `Scorer`."""
        if isinstance(self._tokens, OwnTokens):
            with _errors_named(f"{self.identity.spec}: its tokenizer", TOKENIZER_PROBLEM):
                return [self._tokens.encode(text, how) for text in texts]
        with _errors_named(self._server.url):
            return self._in_parallel([partial(self._tokens.encode, text, how) for text in texts])

    def budget(self, block: int) -> tuple[int, int]:
        """As in `Scorer`: twice as much as all parallel requests take, which keeps all connections busy."""
        return 2 * MAX_PARALLEL_REQUESTS * self._protocol.max_prompts, 2 * MAX_PARALLEL_REQUESTS * MAX_REQUEST_TOKENS

    def score(self, batch: PassageBatch) -> list[Nats]:
        """As in `Scorer`."""
        groups: list[PassageBatch] = []
        tokens_left = 0
        for passage in batch:
            if not groups or len(groups[-1]) == self._protocol.max_prompts or len(passage.tokens) > tokens_left:
                groups.append([])
                tokens_left = MAX_REQUEST_TOKENS
            groups[-1].append(passage)
            tokens_left -= len(passage.tokens)
        with _errors_named(self._server.url):
            found = self._in_parallel([partial(self._score, group) for group in groups])
        return [nats for group in found for nats in group]

    def close(self) -> None:
        """Close the connections to the server."""
        self._server.close()

    def _score(self, batch: PassageBatch) -> list[Nats]:
        prompts = [passage.tokens.tolist() for passage in batch]
        found = request_logprobs(self._server, self._model, self._protocol, prompts)
        return [
            _nats(f"{self._server.url}/v1/completions", values[len(values) - passage.scored :])
            for passage, values in zip(batch, found, strict=True)
        ]

    def _in_parallel(self, jobs: Sequence[Callable[[], Any]]) -> list[Any]:
        """Run jobs in parallel, and return their results in order. If one fails, the others are stopped."""
        self._server.go()
        if len(jobs) < 2:
            return [job() for job in jobs]
        with ThreadPoolExecutor(min(len(jobs), MAX_PARALLEL_REQUESTS)) as pool:
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
def _errors_named(place: str, problem: tuple[str, str] = ANSWER_PROBLEM) -> Iterator[None]:
    """A context in which any exception becomes an error that names the server or tokenizer.

    Raises:
        PredictorError: an exception that is not a `KolmoError` was raised.
    """
    try:
        yield
    except KolmoError:
        raise
    except Exception as error:
        what, remedy = problem
        raise PredictorError(f"{place}: {what} ({reason(error)}); {remedy}") from error


class UnusableAnswerError(PredictorError):
    """The answer of the server does not have the required form."""


def request_logprobs(
    server: Server, model: str, protocol: PromptProtocol, prompts: list[Prompt], tries: int = MAX_TRIES
) -> list[list[Any]]:
    """Request the log-probabilities of prompts: for each token a number, or None for the first.

    Raises:
        UnusableAnswerError: the answer does not have a list of the right length for each prompt.
    """
    prompt = prompts if protocol.max_prompts > 1 else prompts[0]
    payload = {"model": model, "prompt": prompt, "temperature": 0, **protocol.fields}
    largest = MAX_ANSWER_BASE_BYTES + MAX_ANSWER_BYTES_PER_TOKEN * sum(map(len, prompts))
    answer = server.post("/v1/completions", payload, tries, largest)
    try:
        return _read(answer, protocol, prompts)
    except ValueError as error:
        raise UnusableAnswerError(f"{server.url}/v1/completions: answers with {error}; {PROMPT_REMEDY}") from None


def _read(answer: Any, protocol: PromptProtocol, prompts: list[Prompt]) -> list[list[Any]]:
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
        values = protocol.read(choice, prompt)
        if not len(prompt) <= len(values) <= len(prompt) + protocol.generated:
            raise ValueError(
                f"log-probabilities of {len(values)} tokens where {len(prompt)} were sent (it must add none of its own)"
            )
        found[place] = values[: len(prompt)]
    return found


def _nats(place: str, values: list[Any]) -> Nats:
    """Costs from log-probabilities.

    Raises:
        UnusableAnswerError: a log-probability is not a number, is above 0, or is minus infinity.
    """
    _check(place, values)
    if min(values, default=0) <= MINUS_INFINITY_LOGPROB:
        raise UnusableAnswerError(
            f"{place}: gives a token of the text the probability 0; give the model's own tokenizer in the argument "
            "tokenizer, or start the server without constraints on generation"
        )
    return np.maximum(-np.array(values, np.float64), 0).astype(np.float32)


def _check(place: str, values: list[Any]) -> None:
    for value in values:
        if type(value) not in (int, float) or not _is_finite(value):
            raise UnusableAnswerError(
                f"{place}: gives {quoted(value, 40)} as the log-probability of a token; {PROMPT_REMEDY}"
            )
        if value > MAX_POSITIVE_LOGPROB:
            raise UnusableAnswerError(
                f"{place}: gives {value:.4g}, above 0, as the log-probability of a token; {PROMPT_REMEDY}"
            )


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer beyond all floats
        return False


def _model(server: Server, wanted: str) -> tuple[str, dict[str, Any]]:
    """The name of the model on the server, and the server's record of it."""
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
    problem = f"has no model {quoted(wanted)}" if wanted else "does not have exactly one model"
    raise PredictorError(f"{server.url}/v1/models: {problem} (it lists {known}); name one: api:{server.url}#MODEL")


def _find_protocol(server: Server, model: str, start: int) -> PromptProtocol:
    """The first protocol by which the server answers two prompts, in one request or in two.

    Raises:
        PredictorError: the server supports none of them.
    """
    prompts = [[start, start], [start, start, start]]
    first: PredictorError | None = None
    for protocol in PROTOCOLS:
        for max_prompts in (MAX_REQUEST_PASSAGES, 1):
            tried = replace(protocol, max_prompts=max_prompts)
            try:
                for group in [prompts] if max_prompts > 1 else [[prompt] for prompt in prompts]:
                    for values in request_logprobs(server, model, tried, group, tries=2):
                        _check(f"{server.url}/v1/completions", values[1:])
                return tried
            except (RefusedError, UnusableAnswerError) as error:
                if isinstance(error, RefusedError) and error.status in (401, 403, 404, 429):
                    raise
                first = first or error
    raise first or AssertionError
