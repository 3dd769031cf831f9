"""A server of completions for tests, as vLLM, SGLang and llama.cpp answer, over a model of bytes or a real one.

What it is not: it generates nothing. Where a token is to be made, it is always token 0.
"""

from __future__ import annotations

import importlib
import json
import threading
from collections.abc import Callable
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from kolmo.predictors.language_models.token_table import byte_alphabet

WINDOW = 64


class Model(Protocol):
    """What is served."""

    window: int

    def logprobs(self, ids: list[int]) -> list[float]:
        """Of each token but the first, given those before it."""
        ...

    def tokenize(self, text: str, special: bool) -> tuple[list[int], list[str]]:
        """Tokens and how they are spelt."""
        ...

    def detokenize(self, ids: list[int]) -> str: ...


class Bigrams:
    """Bytes, and 256 that begins a text; what follows a byte was drawn once."""

    window = WINDOW

    def __init__(self) -> None:
        self.table, self.letters = _bigrams()

    def logprobs(self, ids: list[int]) -> list[float]:
        return [float(self.table[a, b]) for a, b in pairwise(ids)]

    def tokenize(self, text: str, special: bool) -> tuple[list[int], list[str]]:
        data = text.encode()
        return [256] * special + list(data), ["<s>"] * special + [self.letters[byte] for byte in data]

    def detokenize(self, ids: list[int]) -> str:
        return bytes(token for token in ids if token < 256).decode("utf-8", "replace")


@cache
def _bigrams() -> tuple[npt.NDArray[np.float64], dict[int, str]]:
    """Logarithms of the probabilities, and how bytes are spelt."""
    logits = np.random.default_rng(5).normal(0, 2, (257, 257))
    table = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    return table, {byte: letter for letter, byte in byte_alphabet().items()}


class Folder:
    """A model of transformers in a folder; one thread at a time."""

    def __init__(self, folder: Path) -> None:
        transformers: Any = importlib.import_module("transformers")
        self._lock = threading.Lock()
        self._tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        self._model = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
        self.window = int(self._model.config.max_position_embeddings)

    def logprobs(self, ids: list[int]) -> list[float]:
        torch: Any = importlib.import_module("torch")
        with self._lock, torch.inference_mode():
            logits = self._model(torch.tensor([ids])).logits[0, :-1].float()
            found = logits.log_softmax(-1).gather(1, torch.tensor(ids[1:])[:, None])[:, 0]
            return [float(value) for value in found]

    def tokenize(self, text: str, special: bool) -> tuple[list[int], list[str]]:
        with self._lock:
            ids = self._tokenizer(text, add_special_tokens=special)["input_ids"]
            return ids, self._tokenizer.convert_ids_to_tokens(ids)

    def detokenize(self, ids: list[int]) -> str:
        with self._lock:
            return str(self._tokenizer.decode(ids))


class AnswerError(Exception):
    """An answer other than the usual one."""

    def __init__(self, status: int, body: bytes, headers: dict[str, str] | None = None, cut: int = 0) -> None:
        self.status, self.body, self.headers, self.cut = status, body, headers or {}, cut


def refusal(status: int, message: str, **headers: str) -> AnswerError:
    return AnswerError(status, json.dumps({"error": {"message": message}}).encode(), headers)


Fault = Callable[[Any], Any]


class CompletionsServer:
    """A server on a free port of this machine, until the end of a `with`.

    Attributes:
        style: "vllm", "llama.cpp", or "bare": no tokenizer.
        faults: each is taken by one request of completions, and given the usual answer; it returns another, or raises
            an `AnswerError`.
        rules: called with each request of completions; may raise an `AnswerError`.
        key: that must be sent.
        spells: whether tokens come with how they are spelt.
        asked: paths of all requests, in order.
        requests: payloads of completions.
        senders: what was said in `Authorization`, of each request.
    """

    def __init__(self, model: Model, style: str = "vllm", *, key: str = "", spells: bool = True) -> None:
        self.model, self.style, self.key, self.spells = model, style, key, spells
        self.models = ["served"]
        self.faults: list[Fault] = []
        self.rules: list[Callable[[dict[str, Any]], None]] = []
        self.asked: list[str] = []
        self.requests: list[dict[str, Any]] = []
        self.senders: list[str | None] = []
        self.special = True  # whether the tokenizer adds a beginning of text
        self.connections = 0
        self._http: ThreadingHTTPServer | None = None

    def __enter__(self) -> CompletionsServer:
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def setup(self) -> None:
                owner.connections += 1
                super().setup()

            def do_GET(self) -> None:
                self._answer(None)

            def do_POST(self) -> None:
                self._answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

            def _answer(self, payload: Any) -> None:
                owner.senders.append(self.headers["Authorization"])
                try:
                    if owner.key and self.headers["Authorization"] != f"Bearer {owner.key}":
                        raise refusal(401, "who are you?")
                    answer = AnswerError(200, json.dumps(owner.answer(self.path, payload)).encode())
                except AnswerError as other:
                    answer = other
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    self.send_header(name.replace("_", "-"), value)
                self.send_header("Content-Length", str(len(answer.body) + answer.cut))
                self.end_headers()
                self.wfile.write(answer.body)
                self.close_connection = answer.cut > 0

            def log_message(self, *arguments: Any) -> None:
                """Say nothing."""

        class Quiet(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *arguments: Any) -> None:
                """A client that went away is part of the test."""

        self._http = Quiet(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        if self._http:
            self._http.shutdown()
            self._http.server_close()
        self._http = None

    @property
    def url(self) -> str:
        assert self._http
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    def answer(self, path: str, payload: Any) -> Any:
        self.asked.append(path)
        if path == "/v1/models":
            facts = {"object": "model", "owned_by": self.style, "root": "/models/served"}
            if self.style == "vllm":
                facts["max_model_len"] = self.model.window  # type: ignore[assignment]
            return {"object": "list", "data": [{"id": name, **facts} for name in self.models]}
        if path == "/v1/completions":
            return self._complete(payload)
        if path == "/tokenize" and self.style != "bare":
            return self._tokenize(payload)
        if path == "/detokenize" and self.style != "bare":
            text = self.model.detokenize(payload["tokens"])
            return {"prompt" if self.style == "vllm" else "content": text}
        if path == "/props" and self.style == "llama.cpp":
            return {"bos_token": "", "eos_token": "a"}
        raise refusal(404, "Not Found")

    def _tokenize(self, payload: dict[str, Any]) -> dict[str, Any]:
        if self.style == "vllm":
            ids, words = self.model.tokenize(payload["prompt"], payload["add_special_tokens"] and self.special)
            return {"tokens": ids, "count": len(ids), "token_strs": words if self.spells else None}
        if "content" not in payload:
            return {"tokens": []}
        ids, _ = self.model.tokenize(payload["content"], payload["add_special"] and self.special)
        if not self.spells:
            return {"tokens": ids}
        return {"tokens": [{"id": token, "piece": "<s>" if token == 256 else [token]} for token in ids]}

    def _complete(self, payload: dict[str, Any]) -> Any:
        self.requests.append(payload)
        for rule in self.rules:
            rule(payload)
        prompts = payload["prompt"] if isinstance(payload["prompt"][0], list) else [payload["prompt"]]
        made = payload["max_tokens"]
        choices: list[dict[str, Any]] = []
        for prompt in prompts:
            values = [None, *self.model.logprobs(prompt)]
            choice: dict[str, Any] = {"index": len(choices), "text": "", "finish_reason": "length"}
            if payload.get("echo") and payload.get("logprobs") is not None:
                found = values + [-1.0] * made
                choice["logprobs"] = {"token_logprobs": found, "tokens": ["?"] * len(found)}
            if payload.get("prompt_logprobs") is not None:
                choice["prompt_logprobs"] = [
                    None if value is None else {"999999": {"logprob": -0.5}, str(token): {"logprob": value, "rank": 3}}
                    for token, value in zip(prompt, values, strict=True)
                ]
            choices.insert(0, choice)  # in another order than asked for; `index` counts
        usage = {"prompt_tokens": sum(map(len, prompts)), "completion_tokens": made * len(prompts)}
        answer: Any = {"object": "text_completion", "choices": choices, "usage": usage}
        return self.faults.pop(0)(answer) if self.faults else answer
