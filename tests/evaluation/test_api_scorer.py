"""Models behind servers: numbers as from the same model here, other servers' ways, and everything that may go wrong."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

import kolmo.evaluation.scorers.servers.connection as api_server
from harness.models import stories
from helpers.completions_server import WINDOW, AnswerError, Bigrams, CompletionsServer, Folder, refusal
from kolmo.errors import KolmoError, PredictorError
from kolmo.evaluation.opening import open_scorer
from kolmo.evaluation.scorers.scorers import ScorerOptions
from kolmo.evaluation.scorers.servers.connection import RefusedError, Server
from kolmo.evaluation.scorers.servers.scorer import ApiScorer
from kolmo.evaluation.windows.passages import ScoredPassage
from kolmo.evaluation.windows.windows import strict

TEXTS = ["The sea was calm that morning.", "Où est le café? 東京\n", "", "a", "tab\tand \x00 nul"]
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def _no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("KOLMO_API_KEY", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def served() -> Iterator[CompletionsServer]:
    with CompletionsServer(Bigrams()) as server:
        yield server


@pytest.fixture
def opened() -> Iterator[Callable[..., ApiScorer]]:
    """Opens scorers that do not wait long, and closes them."""
    made: list[ApiScorer] = []

    def make(rest: str, *, timeout: float = 20.0, tries: int = 4, **options: Any) -> ApiScorer:
        server = Server(rest.partition("#")[0], timeout=timeout, tries=tries, pause=0.01)
        made.append(ApiScorer.open(rest, ScorerOptions(**options), server))
        return made[-1]

    yield make
    for scorer in made:
        scorer.close()


def passages(scorer: ApiScorer, texts: list[str], block: int = 16, stride: int = 5) -> list[ScoredPassage]:
    found, place = [], 0
    for tokens in scorer.tokenise(texts, "exact"):
        ids = tokens.ids[tokens.ids >= 0].astype(np.int64)
        for window in strict(len(ids), block, stride):
            part = np.concatenate([[scorer.start], ids[window.first : window.last]])
            found.append(ScoredPassage(part, window.scored, place + window.last - window.scored))
        place += len(ids)
    return found


def expected(passage: ScoredPassage) -> list[float]:
    return [-value for value in Bigrams().logprobs(passage.tokens.tolist())[-passage.scored :]]


def check(scorer: ApiScorer, texts: list[str] | None = None) -> None:
    batch = passages(scorer, texts or TEXTS)
    for passage, nats in zip(batch, scorer.score(batch), strict=True):
        assert nats.dtype == np.float32
        assert nats.tolist() == pytest.approx(expected(passage), rel=1e-6)


# numbers


def test_costs_of_a_fake(served: CompletionsServer, opened: Callable[..., ApiScorer]) -> None:
    scorer = opened(served.url)
    check(scorer)
    assert scorer.start == 256
    assert scorer.window == WINDOW - 2
    assert not scorer.whole
    assert [(r["echo"], r["logprobs"], r["max_tokens"], r["temperature"]) for r in served.requests] == [
        (True, 1, 0, 0)
    ] * len(served.requests)
    assert {r["model"] for r in served.requests} == {"served"}
    assert all(isinstance(prompt, list) for r in served.requests for prompt in r["prompt"])
    assert scorer.identity.settings == {"server": served.url, "model": "served", "tokenizer": "server"}
    assert scorer.identity.facts == {"window": WINDOW - 2, "owned_by": "vllm", "root": "/models/served"}
    json.dumps(dict(scorer.identity.settings))


def test_many_passages_go_in_several_requests_over_few_connections(
    served: CompletionsServer, opened: Callable[..., ApiScorer]
) -> None:
    scorer = opened(served.url)
    texts = [f"text number {k}, as good as any other" * 3 for k in range(60)]
    before = len(served.requests)
    check(scorer, texts)
    sent = [len(request["prompt"]) for request in served.requests[before:]]
    assert max(sent) == 8
    assert sum(sent) == len(passages(scorer, texts))
    assert served.connections <= 10
    most, tokens = scorer.budget(1900)
    assert most >= 64
    assert tokens >= 1900 * 64


def test_a_request_has_a_limit_of_tokens(served: CompletionsServer, opened: Callable[..., ApiScorer]) -> None:
    scorer = opened(served.url)
    before = len(served.requests)
    long = np.full(9000, 65, np.int64)
    nats = scorer.score([ScoredPassage(long, 2, 0) for _ in range(3)])
    assert [len(request["prompt"]) for request in served.requests[before:]] == [1, 1, 1]
    assert all(len(one) == 2 for one in nats)


@pytest.mark.parametrize("how", ["exact", "default", "plain"])
def test_costs_of_a_real_model_are_those_that_it_has_here(
    tmp_path: Path, opened: Callable[..., ApiScorer], how: Any
) -> None:
    pytest.importorskip("torch", reason="running a model needs torch: pip install 'kolmo-codelength[hf]'")
    pytest.importorskip("transformers", reason="a model needs transformers: pip install 'kolmo-codelength[hf]'")
    folder = stories(tmp_path / "stories260K")
    here = open_scorer(f"hf:{folder}")
    texts = ["Once upon a time, there was a little girl. She loved to play.", "Où? 東京 <s> ok", 'Lily said: "no"\n']
    with CompletionsServer(Folder(folder)) as server:
        there = opened(server.url, tokenizer=str(folder))
        assert there.start == here.start
        assert here.window is not None
        assert there.window == here.window - 2
        for ours, theirs in zip(here.tokenise(texts, how), there.tokenise(texts, how), strict=True):
            assert ours.ids.tolist() == theirs.ids.tolist()
            assert ours.lengths.tolist() == theirs.lengths.tolist()
            if ours.nats is not None:
                assert theirs.nats is not None
                np.testing.assert_array_equal(ours.nats, theirs.nats)
        batch = passages(there, texts, block=32, stride=9)
        for mine, other in zip(here.score(batch), there.score(batch), strict=True):
            np.testing.assert_allclose(other, mine, atol=1e-4)
        bare = opened(server.url)  # the server's own tokenizer
        assert bare.start == there.start
        plain = [text for text in texts if "<s>" not in text]  # which is a special token to the server
        for text, tokens, wanted in zip(plain, bare.tokenise(plain, how), there.tokenise(plain, how), strict=True):
            assert tokens.lengths.sum() == len(text.encode())
            assert how == "exact" or tokens.ids.tolist() == wanted.ids.tolist()


@pytest.mark.parametrize(("mode", "block"), [("strict", 40), ("paper", 40), ("lm-eval", 40), ("llama.cpp", 40)])
def test_an_evaluation_says_the_same(tmp_path: Path, mode: str, block: int) -> None:
    pytest.importorskip("torch", reason="running a model needs torch: pip install 'kolmo-codelength[hf]'")
    pytest.importorskip("transformers", reason="a model needs transformers: pip install 'kolmo-codelength[hf]'")
    from kolmo.evaluation.evaluate import evaluate, texts

    folder = stories(tmp_path / "stories260K")
    corpus = texts("stories", ["Once upon a time, there was a little girl. " * 5, "She loved to play. Où?\n" * 4])
    with CompletionsServer(Folder(folder)) as server:
        here = evaluate(f"hf:{folder}", corpus, mode=mode, block_size=block, dtype="float32")[0].metrics
        there = evaluate(f"api:{server.url}", corpus, mode=mode, block_size=block, tokenizer=str(folder))[0].metrics
    assert there["tokens"] == here["tokens"]
    assert there["nats"] == pytest.approx(here["nats"], rel=1e-5)
    assert there["bits_per_token"] == pytest.approx(here["bits_per_token"], rel=1e-5)


def test_tokens_without_transformers(
    tmp_path: Path, served: CompletionsServer, opened: Callable[..., ApiScorer], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tokenizers", reason="a tokenizer needs tokenizers: pip install 'kolmo-codelength[hf]'")
    from helpers.tokenizers_made import byte_level

    made = byte_level(300)
    made.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(PredictorError, match=r"names neither beginning nor end of text; put .* there"):
        opened(served.url, tokenizer=str(tmp_path))
    end = made.token_to_id("<|endoftext|>")
    config = {"eos_token_id": end, "vocab_size": 400, "max_position_embeddings": 99}
    (tmp_path / "config.json").write_text(json.dumps(config), "utf-8")
    served.style = "bare"
    served.rules.append(lambda payload: None if set(payload["prompt"][0]) == {end} else pytest.fail("only probes"))
    monkeypatch.setattr(Bigrams, "logprobs", lambda self, ids: [-1.0] * (len(ids) - 1))
    scorer = opened(served.url, tokenizer=str(tmp_path / "tokenizer.json"))
    assert scorer.start == end
    assert scorer.window == 97
    for how in ("exact", "default", "plain"):
        for text, tokens in zip(TEXTS, scorer.tokenise(TEXTS, how), strict=True):
            assert tokens.lengths.sum() == len(text.encode())
    with pytest.raises(PredictorError, match="no such folder; give a tokenizer's folder, or an id"):
        opened(served.url, tokenizer=str(tmp_path / "absent"))
    (tmp_path / "config.json").write_text("{", "utf-8")
    with pytest.raises(PredictorError, match=r"config.json: cannot be read as JSON; get the file again"):
        opened(served.url, tokenizer=str(tmp_path))


# other servers


def no_zero(payload: dict[str, Any]) -> None:
    if payload["max_tokens"] == 0:
        raise refusal(400, "max_tokens must be at least 1, got 0.")


def no_batch(payload: dict[str, Any]) -> None:
    if isinstance(payload["prompt"][0], list):
        raise refusal(422, "Input should be a valid integer")


def no_echo(payload: dict[str, Any]) -> None:
    if payload.get("echo"):
        raise refusal(400, "Only no echo is supported")


@pytest.mark.parametrize(
    "rules",
    [[no_zero], [no_batch], [no_zero, no_batch], [no_echo], [no_echo, no_zero, no_batch]],
    ids=lambda rules: "+".join(rule.__name__ for rule in rules),
)
def test_other_ways(served: CompletionsServer, opened: Callable[..., ApiScorer], rules: list[Any]) -> None:
    served.rules = rules
    scorer = opened(served.url)
    failures = len(served.requests)
    check(scorer)
    for request in served.requests[failures:]:
        for rule in rules:
            rule(request)


def test_a_server_without_what_is_needed(served: CompletionsServer, opened: Callable[..., ApiScorer]) -> None:
    def no_prompt(payload: dict[str, Any]) -> None:
        if payload.get("echo") or payload.get("prompt_logprobs") is not None:
            raise refusal(400, "Only no echo\nis supported")

    served.rules = [no_prompt]
    with pytest.raises(
        RefusedError,
        match=r"^http://127.0.0.1:\d+/v1/completions: HTTP 400 \(Only no echo is supported\); see docs/servers.md",
    ):
        opened(served.url)
    assert len(served.requests) == 6


def test_generated_tokens_alone_are_not_enough(served: CompletionsServer, opened: Callable[..., ApiScorer]) -> None:
    def only_made(answer: Any) -> Any:  # llama.cpp before it refused
        for choice in answer["choices"]:
            choice["logprobs"] = {"token_logprobs": [-1.0]}
            choice.pop("prompt_logprobs", None)
        return answer

    served.faults = [only_made] * 10
    with pytest.raises(PredictorError, match=r"log-probabilities of 1 tokens where [23] were sent"):
        opened(served.url)


@pytest.mark.parametrize("style", ["vllm", "llama.cpp"])
@pytest.mark.parametrize("spells", [True, False])
def test_the_servers_tokenizer(opened: Callable[..., ApiScorer], style: str, spells: bool) -> None:
    with CompletionsServer(Bigrams(), style, spells=spells) as server:
        scorer = opened(server.url)
        for text, tokens in zip(TEXTS, scorer.tokenise(TEXTS, "exact"), strict=True):
            assert tokens.ids.tolist() == list(text.encode())
            assert tokens.lengths.tolist() == [1] * len(text.encode())
        plain, default = (scorer.tokenise(["sea"], how)[0] for how in ("plain", "default"))
        assert plain.ids.tolist() == [115, 101, 97]
        assert default.ids.tolist() == [256, 115, 101, 97]
        assert default.lengths.tolist() == [0, 1, 1, 1]
        assert scorer.window == (WINDOW - 2 if style == "vllm" else None)
        assert ("/detokenize" in server.asked) == (not spells)
        check(scorer)


def test_tokens_that_do_not_give_the_text_back(opened: Callable[..., ApiScorer]) -> None:
    class Small(Bigrams):
        def tokenize(self, text: str, special: bool) -> tuple[list[int], list[str]]:
            return super().tokenize(text.lower(), special)

    with CompletionsServer(Small()) as server:
        scorer = opened(server.url)
        check(scorer, ["small letters"])
        with pytest.raises(
            PredictorError,
            match=r"/detokenize: does not restore the text that begins with 'Large .* tokenizer",
        ):
            scorer.tokenise(["small letters", "Large letters"], "exact")
        assert scorer.tokenise(["Large"], "plain")[0].lengths.tolist() == [1] * 5


def test_bytes_of_tokens_that_nobody_spells_out(opened: Callable[..., ApiScorer]) -> None:
    class Pairs(Bigrams):
        """Two characters a token."""

        def tokenize(self, text: str, special: bool) -> tuple[list[int], list[str]]:
            return [256] * special + [ord(text[k]) % 200 for k in range(0, len(text), 2)], []

        def detokenize(self, ids: list[int]) -> str:
            return "ab" * len(ids)

    with CompletionsServer(Pairs(), spells=False) as server:
        tokens = opened(server.url).tokenise(["ab" * 100], "exact")[0]
        assert tokens.lengths.tolist() == [2] * 100
        odd = opened(server.url).tokenise(["abé" * 51], "plain")[0]
        assert odd.lengths.sum() == 4 * 51
        assert odd.lengths.min() >= 2


@pytest.mark.parametrize("token", ["\u2581the", "<0x0A>", "\u0120the", " the"])
def test_spellings(token: str) -> None:
    from kolmo.evaluation.scorers.servers.server_tokens import _lengths_of

    data = b"\n" if token == "<0x0A>" else b" the"
    found = _lengths_of([token, "x"], data + b"x")
    assert found is not None
    assert found.tolist() == [len(data), 1]
    if data != b"\n":
        again = _lengths_of([token, "x"], b"thex")  # SentencePiece puts a space before a text
        assert again is not None
        assert again.tolist() == [3, 1]
    assert _lengths_of([token, "x"], b"another") is None
    assert _lengths_of([None, "x"], b"another") is None


def test_a_start_where_the_tokenizer_adds_none(opened: Callable[..., ApiScorer]) -> None:
    with CompletionsServer(Bigrams(), "llama.cpp") as server:
        server.special = False
        assert opened(server.url).start == ord("a")
    with CompletionsServer(Bigrams()) as server:
        server.special = False
        with pytest.raises(PredictorError, match=r"/tokenize: does not say which token begins a text; .* tokenizer"):
            opened(server.url)
    with (
        CompletionsServer(Bigrams(), "bare") as server,
        pytest.raises(
            PredictorError,
            match=r"the server has no tokenizer; give the model's tokenizer in the argument tokenizer",
        ),
    ):
        opened(server.url)


# names and URLs


def test_models(served: CompletionsServer, opened: Callable[..., ApiScorer]) -> None:
    served.models = ["org/base", "org/tuned"]
    with pytest.raises(
        PredictorError,
        match=r"/v1/models: does not have exactly one model \(it lists org/base, org/tuned\); name one: api:",
    ):
        opened(served.url)
    with pytest.raises(PredictorError, match=r"has no model 'org/bass' \(it lists org/base"):
        opened(f"{served.url}#org/bass")
    scorer = opened(f"{served.url}/v1/#org/tuned")
    assert scorer.identity.name == "org/tuned"
    assert scorer.identity.spec == f"api:{served.url}#org/tuned"
    assert served.requests[-1]["model"] == "org/tuned"
    served.models = []
    with pytest.raises(PredictorError, match=r"it lists none"):
        opened(served.url)
    assert opened(f"{served.url}#any").identity.name == "any"


@pytest.mark.parametrize("end", ["", "/", "/v1", "/v1/", "/v1/completions"])
def test_urls(end: str) -> None:
    assert Server(f"http://here:80{end}").url == "http://here:80"
    assert Server(f"https://there/api{end}").url == "https://there/api"
    assert Server(f"http://me:secret@[::1]:80{end}").url == "http://[::1]:80"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost:8000",
        "ftp://here",
        "http://",
        "http://here:99999",
        "http://he re",
        "http://here/?a=b",
        "http://hé",
    ],
)
def test_what_is_no_url(url: str) -> None:
    with pytest.raises(
        PredictorError, match=r"^api:.*: is not the URL of a server; give one like api:http://localhost:8000/v1$"
    ):
        open_scorer(f"api:{url}")


def test_secrets_are_not_shown() -> None:
    for url in ("http://me:secret@here:99999", "http://me:secret@127.0.0.1:9/v1"):
        with pytest.raises(PredictorError) as caught:
            open_scorer(f"api:{url}")
        assert "secret" not in str(caught.value)
        assert "me:" not in str(caught.value)


def test_options_that_a_server_decides(served: CompletionsServer) -> None:
    for options in (ScorerOptions(dtype="float32"), ScorerOptions(attention="eager")):
        with pytest.raises(PredictorError, match=r"the server decides this; leave the argument (dtype|attention) out"):
            open_scorer(f"api:{served.url}", options)
    assert served.asked == []


def test_keys(monkeypatch: pytest.MonkeyPatch, opened: Callable[..., ApiScorer]) -> None:
    with CompletionsServer(Bigrams(), key="open sesame") as server:
        with pytest.raises(RefusedError, match=r"HTTP 401 \(who are you\?\); set KOLMO_API_KEY to the server's key"):
            opened(server.url)
        monkeypatch.setenv("OPENAI_API_KEY", "open sesame")
        opened(server.url)
        monkeypatch.setenv("KOLMO_API_KEY", "wrong")
        with pytest.raises(RefusedError, match="HTTP 401"):
            opened(server.url)
        server.key = ""
        opened(server.url.replace("//", "//me:a%20b@"))
        assert server.senders[-1] == "Basic bWU6YSBi"
    monkeypatch.setenv("KOLMO_API_KEY", "a\nb")
    with pytest.raises(PredictorError, match="characters that are not allowed in a key"):
        Server("http://here")


def test_the_key_of_openai_does_not_travel_in_plain_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk")
    names = {
        url: Server(url)._client._headers.get("Authorization")
        for url in ("http://here", "https://here", "http://localhost")
    }
    assert names == {"http://here": None, "https://here": "Bearer sk", "http://localhost": "Bearer sk"}


# faults


def say(status: int, message: str = "later", **headers: str) -> Callable[[Any], Any]:
    def fault(answer: Any) -> Any:
        raise refusal(status, message, **headers)

    return fault


def raw(body: bytes, cut: int = 0) -> Callable[[Any], Any]:
    def fault(answer: Any) -> Any:
        raise AnswerError(200, body, cut=cut)

    return fault


def changed(change: Callable[[dict[str, Any]], None]) -> Callable[[Any], Any]:
    def fault(answer: Any) -> Any:
        change(answer)
        return answer

    return fault


def drop(answer: Any) -> Any:
    """Close the connection without a word."""
    raise ConnectionAbortedError


@pytest.mark.parametrize(
    "faults",
    [
        [say(500)],
        [say(429, Retry_After="0")],
        [say(503, Retry_After="Wed, 21 Oct 2015 07:28:00 GMT"), say(502), say(500)],
        [say(429, Retry_After="soon")],
        [raw(b'{"choices": [', cut=100)],
        [drop],
        [drop, say(500), drop],
    ],
    ids=lambda faults: f"{len(faults)}",
)
def test_what_passes_is_tried_again(
    served: CompletionsServer, opened: Callable[..., ApiScorer], faults: list[Any]
) -> None:
    scorer = opened(served.url)
    served.faults = list(faults)
    check(scorer)
    assert served.faults == []


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (say(500, "engine dead"), r"HTTP 500 \(engine dead\), 4 times; see what the server reports"),
        (say(429), r"HTTP 429 \(later\), 4 times"),
        (drop, r"the server closes the connection without an answer, 4 times; check that the server still works"),
        (raw(b"{", cut=9), r"the answer ends too early, 4 times"),
    ],
)
def test_what_does_not_pass(
    served: CompletionsServer, opened: Callable[..., ApiScorer], fault: Any, message: str
) -> None:
    scorer = opened(served.url)
    served.faults = [fault] * 9
    with pytest.raises(PredictorError, match=rf"^http://127.0.0.1:\d+/v1/completions: {message}"):
        scorer.score(passages(scorer, ["a"]))
    served.faults.clear()
    check(scorer)  # the next is as good as new


def first_choice(change: Callable[[dict[str, Any]], None]) -> Callable[[Any], Any]:
    return changed(lambda answer: change(answer["choices"][0]))


def values(*new: Any) -> Callable[[Any], Any]:
    def change(choice: dict[str, Any]) -> None:
        found = choice["logprobs"]["token_logprobs"]
        found[-len(new) :] = new

    return first_choice(change)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (
            raw(b"<html>hello"),
            r"the answer is not JSON, or is incomplete \('<html>hello', 11 bytes\); give the URL of an",
        ),
        (raw(b""), r"the answer is not JSON, or is incomplete \('', 0 bytes\)"),
        (raw(b'{"choices": [{"ind'), r"the answer is not JSON, or is incomplete"),
        (raw(b"[" * 100_000), r"the answer is not JSON, or is incomplete"),
        (raw(b"[]"), r"answers with no list of choices"),
        (raw(b'{"choices": null}'), r"answers with no list of choices"),
        (raw(b'{"choices": [1]}'), r"answers with no list of choices"),
        (changed(lambda answer: answer["choices"].pop()), r"answers with 1 choices to 2 prompts"),
        (first_choice(lambda choice: choice.update(index=0)), r"choices that are not numbered from 0 on"),
        (first_choice(lambda choice: choice.update(index=[])), r"choices that are not numbered from 0 on"),
        (first_choice(lambda choice: choice.update(index=True)), r"choices that are not numbered from 0 on"),
        (
            first_choice(lambda choice: choice.update(logprobs=None)),
            r"answers with no log-probabilities; kolmo needs those",
        ),
        (
            first_choice(lambda choice: choice["logprobs"]["token_logprobs"].pop()),
            r"log-probabilities of 1 tokens where 2",
        ),
        (
            first_choice(lambda choice: choice["logprobs"]["token_logprobs"].append(-1)),
            r"log-probabilities of 3 tokens .*add",
        ),
        (
            changed(lambda answer: answer["usage"].update(prompt_tokens=7)),
            r"7 prompt tokens where 4 were sent \(it must",
        ),
        (values(None), r"gives None as the log-probability of a token"),
        (values(math.nan), r"gives nan as the log-probability"),
        (values(-math.inf), r"gives -inf as the log-probability"),
        (values("x" * 999), r"gives 'x+...x+' as the log-probability"),
        (values(True), r"gives True as the log-probability"),
        (values(0.7), r"gives 0.7, above 0, as the log-probability"),
        (values(-9999.0), r"gives a token of the text the probability 0; give the model's own tokenizer in"),
        (
            say(400, "This model's maximum context length is 2 tokens"),
            r"HTTP 400 \(This model's maximum context length",
        ),
        (
            say(307, "", Location="http://elsewhere"),
            r"HTTP 307 \(.*\); give the URL that it redirects to, http://elsewhere",
        ),
    ],
)
def test_answers_that_are_wrong(
    served: CompletionsServer, opened: Callable[..., ApiScorer], fault: Any, message: str
) -> None:
    scorer = opened(served.url)
    batch = passages(scorer, ["a", "b"])
    served.faults = [fault]
    with pytest.raises(PredictorError, match=rf"^http://127.0.0.1:\d+/v1/completions: .*{message}") as caught:
        scorer.score(batch)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500
    check(scorer)


def test_rounding_is_forgiven(served: CompletionsServer, opened: Callable[..., ApiScorer]) -> None:
    scorer = opened(served.url)
    served.faults = [values(1e-7)]
    assert scorer.score(passages(scorer, ["a"]))[0].tolist() == [0.0]


def test_a_slow_server(served: CompletionsServer, opened: Callable[..., ApiScorer]) -> None:
    scorer, asked, over = opened(served.url), opened(served.url, timeout=2), threading.Event()

    def hold(answer: dict[str, Any]) -> None:
        over.wait(600)

    served.faults = [changed(hold)]  # so an error comes before the answer, or none does
    with pytest.raises(PredictorError, match=r"no answer within 2 seconds; check that the server still works"):
        asked.score(passages(scorer, ["a"]))
    assert not over.is_set()
    over.set()
    check(scorer)


def test_a_server_that_goes(served: CompletionsServer, opened: Callable[..., ApiScorer]) -> None:
    scorer = opened(served.url)
    url = served.url
    served.faults = [drop]
    served.close()
    with pytest.raises(PredictorError, match=r"Connection refused, 4 times; check that the server still works"):
        scorer.score(passages(scorer, ["a"]))
    with pytest.raises(PredictorError, match=r"/v1/models: Connection refused; start the server, or correct"):
        open_scorer(f"api:{url}")  # said at the first try: no "4 times"


def test_one_failure_stops_all(served: CompletionsServer, opened: Callable[..., ApiScorer]) -> None:
    scorer = opened(served.url)
    batch = passages(scorer, [f"text number {k}" for k in range(200)])
    over, answered = threading.Event(), list[bool]()
    served.faults = [say(400, "no")] + [changed(lambda answer: answered.append(over.wait(600)))] * 7
    with pytest.raises(PredictorError, match=r"HTTP 400 \(no\)"):
        scorer.score(batch)
    assert not answered  # none of the others was waited for
    over.set()
    served.faults.clear()
    served.rules.clear()
    check(scorer)


def test_an_answer_without_end(
    served: CompletionsServer, opened: Callable[..., ApiScorer], monkeypatch: pytest.MonkeyPatch
) -> None:
    scorer = opened(served.url)
    monkeypatch.setattr(api_server, "MAX_ANSWER_BYTES", 1 << 20)
    served.faults = [raw(b" " * (3 << 20))]
    with pytest.raises(PredictorError, match=r"/v1/completions: the answer is larger than 1 MiB"):
        scorer.score(passages(scorer, ["a"]))


def test_through_the_front_door(served: CompletionsServer) -> None:
    """`open_scorer` knows URLs."""
    scorer = open_scorer(served.url)
    assert isinstance(scorer, ApiScorer)
    assert scorer.identity.kind == "api"
    check(scorer)
    scorer.close()
    with pytest.raises(KolmoError):
        open_scorer("api:")


# answers of every wrong kind


def nested(depth: int) -> Any:
    found: Any = []
    for _ in range(depth):
        found = [found]
    return found


WRONG: list[Any] = [
    None,
    True,
    0,
    5,
    -1,
    10**18,
    10**400,  # what a float cannot be
    math.inf,
    math.nan,
    -1e308,
    "",
    "5",
    "\x1b[2J\n\u202e" * 1000,
    "half \ud83d",
    [],
    [5],
    [None],
    [{}],
    [[]] * 3,
    {},
    {"data": 5},
    {"id": 5},
    nested(500),
]


class Answers:
    """A server without HTTP: the usual answers, one part of one of them replaced.

    Attributes:
        parts: places in all answers so far: the path asked for, and keys and indices on the way.
        wrong: the place whose part is replaced, and by what.
    """

    url = "http://127.0.0.1:1"

    def __init__(self, style: str, wrong: tuple[tuple[Any, ...], Any] | None = None) -> None:
        self._server = CompletionsServer(Bigrams(), style)
        self.wrong = wrong
        self.parts: dict[tuple[Any, ...], None] = {}

    def get(self, path: str) -> Any:
        return self.post(path, None)

    def post(self, path: str, payload: Any, tries: int = 1, largest: int | None = None) -> Any:
        try:
            answer = self._server.answer(path, payload)
        except AnswerError as error:
            raise RefusedError(f"{self.url}{path}: HTTP {error.status}", error.status) from None
        return self._walk((path,), answer)

    def stop(self) -> None: ...

    def go(self) -> None: ...

    def close(self) -> None: ...

    def _walk(self, place: tuple[Any, ...], value: Any) -> Any:
        self.parts[place] = None
        if self.wrong and self.wrong[0] == place:
            return self.wrong[1]
        if isinstance(value, dict):
            return {key: self._walk((*place, key), one) for key, one in value.items()}
        if isinstance(value, list):
            return [self._walk((*place, k), one) for k, one in enumerate(value)]
        return value


def through(answers: Answers) -> None:
    scorer = ApiScorer.open(answers.url, ScorerOptions(), cast(Server, answers))
    for how in ("exact", "default"):
        for tokens in scorer.tokenise(["café", ""], cast(Any, how)):
            assert tokens.ids.dtype == np.int32
    for nats in scorer.score([ScoredPassage(np.array([256, 97, 98]), 2, 0), ScoredPassage(np.array([256, 97]), 1, 2)]):
        assert np.isfinite(nats).all()


@pytest.mark.parametrize("style", ["vllm", "llama.cpp"])
def test_no_part_of_an_answer_is_trusted(style: str) -> None:
    """Each part of each answer is replaced by each value; what is said then is one line that names the server.

    Of a list, the first element and the last one stand for all.
    """
    usual = Answers(style)
    through(usual)
    places = {tuple(min(key, 1) if isinstance(key, int) else key for key in place): place for place in usual.parts}
    assert len(places) > 20
    said = []
    for place in places.values():
        for value in WRONG:
            try:
                through(Answers(style, (place, value)))
            except PredictorError as error:
                said.append(str(error))
    assert len(said) > 100
    assert [message for message in said if not message.startswith(Answers.url)] == []
    assert [message for message in said if not message.isprintable() or len(message) > 400] == []


def test_other_models_of_a_command_go_on(served: CompletionsServer, tmp_path: Path) -> None:
    """A server whose answers are wrong is one line and exit status 1, and the next model is evaluated."""
    (tmp_path / "text.txt").write_text("The sea was calm.", "utf-8")
    served.faults = [lambda answer: answer, values(-(10**400))]
    with CompletionsServer(Bigrams()) as other:
        other.models = ["\x1b]0;title\x07" + "m" * 100_000]
        models = [f"api:{served.url}#served", "classical:xz", f"api:{other.url}"]
        files = ["--corpus", str(tmp_path / "text.txt"), "-o", str(tmp_path / "results")]
        done = subprocess.run(
            [sys.executable, "-m", "kolmo", "eval", "--context", "16", *models, *files],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"kolmo: {served.url}/v1/completions: gives ")
    assert "xz" in done.stdout
    assert "mmm...mmm" in done.stdout
    assert all(len(one) < 200 and one.isprintable() for one in done.stdout.splitlines())
