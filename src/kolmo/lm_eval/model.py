"""The model `kolmo` of lm-evaluation-harness: everything that `kolmo eval` measures, for the harness's tasks.

    loglikelihood           -(nats of the continuation after the context)
    loglikelihood_rolling   -(nats of the text), those of `kolmo eval` in mode strict
    generate_until          `kolmo sample`, up to a stop string

A continuation costs what it costs as the end of context and continuation, scored as one text. So a language model's
tokens are those of the whole; one that begins in the context and ends in the continuation counts in full. A predictor
of bytes learns as it reads, and nothing can be taken back: each continuation is scored with its context anew. Equal
requests are scored once.

`is_greedy` is true where each token (byte) of the continuation costs less than a bit. Then each has a probability above
a half and is surely the likeliest. It may be the likeliest with less, which code lengths do not tell: some
continuations that greedy decoding would make are called not greedy, none the other way round.

What it is not: it applies no chat template, and takes only text.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt

from kolmo.bits import LN2
from kolmo.errors import MissingExtraError, PredictorError
from kolmo.evaluation.engines.engines import LocalEngine
from kolmo.evaluation.opening import full_spec, open_scorer
from kolmo.evaluation.run import mode_for
from kolmo.evaluation.scorers.scorers import LITERAL, Options, Tokenised
from kolmo.evaluation.windows.modes import MODES
from kolmo.evaluation.windows.passages import Passage, batches
from kolmo.foreign import quoted
from kolmo.installing import install
from kolmo.predictors.base import Predictor
from kolmo.predictors.choice import Choice
from kolmo.predictors.registry import LANGUAGE_MODELS, resolve
from kolmo.predictors.settings import DEFAULT_SETTINGS, RunSettings
from kolmo.sampling import pieces

try:
    from lm_eval.__main__ import cli_evaluate
    from lm_eval.api.model import LM
    from lm_eval.api.registry import register_model
except ImportError as error:
    raise MissingExtraError(f"kolmo.lm_eval needs lm-eval ({error}); {install('lm-eval')}") from None

GROUP = 1 << 18  # characters of the texts that are put into batches together
TOKENS = 256  # of what is generated, where a task says nothing
TOKEN = 4  # bytes that a task's token is taken for
SIZES = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
NO_LIMIT = 1 << 40
DEFAULT_DEVICE = "cuda:0"  # of the harness

Costs = npt.NDArray[np.float64]


@register_model("kolmo")
class KolmoLM(LM):
    """A model for the harness.

    Args:
        predictor: neural:5, cm:5, network:PATH, classical:xz, hf:FOLDER_OR_ID, gguf:FILE, api:URL.
        batch_size: windows at once; 1 (the harness's default) and auto: as many as are worth it.
        max_batch_size: plays no part.
        device: of a language model; the harness asks for the first CUDA device unless it is told otherwise, so that is
            the CPU where there is none.
        dtype: of its arithmetic; default float32.
        attention: its implementation in transformers.
        tokenizer: of a server's model.
        cache_dir: where models of the hub are kept.
        block_size: tokens that it reads before it predicts one, at most; default 1900.
        stride: tokens that each further window scores; default 512.
        seed: of what is generated; the k-th request has seed + k.

    Raises:
        PredictorError: there is no such model, or argument.
        MissingExtraError: the model needs what is not installed.
    """

    def __init__(
        self,
        predictor: str = "neural:5",
        *,
        batch_size: int | str | None = None,
        max_batch_size: int | None = None,
        device: str | None = None,
        dtype: str | None = None,
        attention: str | None = None,
        tokenizer: str | None = None,
        cache_dir: str | None = None,
        block_size: int | None = None,
        stride: int | None = None,
        seed: int = 1234,
        **unknown: Any,
    ) -> None:
        super().__init__()
        if unknown:
            names = "predictor, dtype, attention, tokenizer, cache_dir, block_size, stride, seed"
            raise PredictorError(f"model argument {quoted(min(unknown))} is not known to kolmo; it takes {names}")
        self._spec = full_spec(str(predictor))
        self._options = Options(dtype, _there(device), attention, cache_dir, tokenizer)
        self._scorer = open_scorer(self._spec, self._options)
        self._engine = LocalEngine(self._scorer)  # whose errors name the model
        self._mode = mode_for(self._engine, MODES["strict"].sized(block_size, stride))
        given = str(batch_size)
        self._batch = int(given) if given.isdecimal() and int(given) > 1 else None
        self._seed = seed
        self._sampler: Predictor | None = None

    def get_model_info(self) -> dict[str, Any]:
        """What goes into the harness's results: what the model is, and how it is read."""
        identity = self._scorer.identity
        settings = {**identity.settings, "block": self._mode.block, "stride": self._mode.stride}
        return {"kolmo": {"model": identity.name, "kind": identity.kind, **settings, **identity.facts}}

    def loglikelihood(self, requests: list[Any], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """(log-likelihood in nats, is_greedy) of each request's continuation after its context."""
        pairs = [(str(request.args[0]), str(request.args[1])) for request in requests]
        wanted = list(dict.fromkeys(pairs))
        if self._scorer.identity.kind == "classical":
            found = self._differences(wanted, disable_tqdm)
        else:
            jobs = [(context + continuation, len(context.encode())) for context, continuation in wanted]
            found = self._costs(jobs, disable_tqdm)
        answers = {}
        for pair, costs in zip(wanted, found, strict=True):
            answers[pair] = _negative(costs), bool((costs < LN2).all())
            self.cache_hook.add_partial("loglikelihood", pair, answers[pair])
        return [answers[pair] for pair in pairs]

    def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = False) -> list[float]:
        """Log-likelihood in nats of each request's text."""
        texts = [str(request.args[0]) for request in requests]
        wanted = list(dict.fromkeys(texts))
        answers = {}
        for text, costs in zip(wanted, self._costs([(text, 0) for text in wanted], disable_tqdm), strict=True):
            answers[text] = _negative(costs)
            self.cache_hook.add_partial("loglikelihood_rolling", (text,), answers[text])
        return [answers[text] for text in texts]

    def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
        """Text that the model expects after each request's context, up to the first stop string.

        A token of a task's limit is taken for four bytes.

        Raises:
            PredictorError: the model does not generate, or not at this temperature.
        """
        answers = []
        for k, request in enumerate(_shown(requests, disable_tqdm)):
            context, given = str(request.args[0]), dict(request.args[1])
            answers.append(self._generate(context, given, self._seed + k))
            self.cache_hook.add_partial("generate_until", request.args, answers[-1])
        return answers

    def _generate(self, context: str, given: dict[str, Any], seed: int) -> str:
        until = given.get("until") or []
        stops = [stop.encode() for stop in ([until] if isinstance(until, str) else until) if stop]
        size = TOKEN * int(next((given[name] for name in SIZES if given.get(name) is not None), TOKENS))
        sampled = given.get("do_sample")
        temperature = given.get("temperature")
        if sampled is False or temperature is None:
            temperature = 1.0 if sampled else 0.0
        try:
            choice = Choice(float(temperature), given.get("top_k"), given.get("top_p"))
        except ValueError as error:
            raise PredictorError(f"lm_eval: {error}; change gen_kwargs") from None
        try:
            made = pieces(context, self._predictor(), size, seed=seed, choice=choice)
        except PredictorError as error:
            if choice.top_k is choice.top_p is None or self._spec.partition(":")[0] in LANGUAGE_MODELS:
                raise
            raise PredictorError(f"{error}: leave top_k and top_p out of gen_kwargs") from None
        return _until(made, stops).decode("utf-8", "replace")

    def _predictor(self) -> Predictor:
        """The predictor that samples; of a language model a second one in memory."""
        if self._sampler is None:
            kind = self._spec.partition(":")[0]
            if kind == "api":
                raise PredictorError(
                    f"{self._scorer.identity.spec} generates nothing here; use the harness's own model "
                    "local-completions for such tasks"
                )
            dtype = self._options.dtype if kind in LANGUAGE_MODELS else None
            self._sampler = _on(self._options.device, self._spec, dtype)
        return self._sampler

    def _differences(self, pairs: Sequence[tuple[str, str]], quiet: bool) -> list[Costs]:
        """A compressor's costs of continuations: what the files get larger by; at least nothing."""
        wholes = self._costs([(context + continuation, 0) for context, continuation in pairs], quiet)
        contexts = list(dict.fromkeys(context for context, _ in pairs))
        before = dict(zip(contexts, self._costs([(context, 0) for context in contexts], quiet), strict=True))
        return [
            np.maximum([whole.sum() - before[context].sum()], 0) if continuation else np.zeros(0)
            for (context, continuation), whole in zip(pairs, wholes, strict=True)
        ]

    def _costs(self, jobs: Sequence[tuple[str, int]], quiet: bool) -> list[Costs]:
        """Nats of the tokens of each text that end behind a byte of it: all of them behind byte 0."""
        found: list[Costs] = []
        waiting = iter(_shown(jobs, quiet))
        while group := list(_up_to(waiting, GROUP)):
            found += self._score(group)
        return found

    def _score(self, jobs: Sequence[tuple[str, int]]) -> list[Costs]:
        scorer, mode = self._engine, self._mode
        texts = [_Text(tokens, begin) for (_, begin), tokens in zip(jobs, self._tokenise(jobs), strict=True)]
        flat = np.full(sum(len(text.ids) for text in texts), np.nan)
        passages, offset = [], 0
        for text in texts:
            first = 0 if scorer.whole else text.first
            for window in mode.plan(len(text.ids), mode.block, mode.stride):
                scored = min(window.scored, window.last - first)
                if scored > 0:
                    ids = text.ids[window.first : window.last]
                    ids = ids if scorer.start is None else np.concatenate([[scorer.start], ids])
                    passages.append(Passage(ids, scored, offset + window.last - scored))
            offset += len(text.ids)
        most, tokens = scorer.budget(mode.block)
        most, tokens = (self._batch, NO_LIMIT) if self._batch else (most, tokens)
        for batch in batches(passages, most, tokens):
            for passage, nats in zip(batch, scorer.score(batch), strict=True):
                flat[passage.place : passage.place + passage.scored] = nats
        parts = np.split(flat, np.cumsum([len(text.ids) for text in texts])[:-1])
        return [text.costs(part) for text, part in zip(texts, parts, strict=True)]

    def _tokenise(self, jobs: Sequence[tuple[str, int]]) -> list[Tokenised]:
        """Empty texts have no tokens; compressors would count what an empty file takes."""
        found = iter(self._engine.tokenise([text for text, _ in jobs if text], "exact"))
        nothing = Tokenised(np.zeros(0, np.int32), np.zeros(0, np.int32))
        return [next(found) if text else nothing for text, _ in jobs]


class _Text:
    """A text's tokens, and which of them count.

    Attributes:
        ids: of the model's tokens.
        first: of these, the first that counts.
    """

    def __init__(self, tokens: Tokenised, begin: int) -> None:
        self._counts = np.cumsum(tokens.lengths) > begin
        self._own = tokens.ids != LITERAL
        self._known = tokens.nats
        self.ids = tokens.ids[self._own].astype(np.int64)
        self.first = int((~self._counts[self._own]).sum())

    def costs(self, nats: Costs) -> Costs:
        """Of all that counts, from those of the model's tokens."""
        whole = np.full(len(self._own), np.nan) if self._known is None else self._known.astype(np.float64)
        whole[self._own] = nats
        return whole[self._counts]


def run() -> None:
    """The harness's command, with the arguments of this process."""
    cli_evaluate()


def _negative(costs: Costs) -> float:
    """A log-likelihood; 0.0, not -0.0, where there is nothing."""
    return 0.0 - math.fsum(costs)


def _shown(items: Sequence[Any], quiet: bool) -> Any:
    """The same, with a bar on a terminal."""
    from tqdm import tqdm

    return tqdm(items, desc="kolmo", disable=True if quiet else None)


def _up_to(jobs: Iterator[tuple[str, int]], characters: int) -> Iterator[tuple[str, int]]:
    """The next jobs: until their texts are so long."""
    for text, begin in islice(jobs, characters):
        yield text, begin
        characters -= len(text)
        if characters <= 0:
            return


def _until(made: Iterator[bytes], stops: list[bytes]) -> bytes:
    """What is made, up to the first stop string."""
    found = bytearray()
    reach = max(map(len, stops), default=0)
    for piece in made:
        begin = max(len(found) - reach, 0)
        found += piece
        places = [place for stop in stops if (place := found.find(stop, begin)) >= 0]
        if places:
            return bytes(found[: min(places)])
    return bytes(found)


def _there(device: str | None) -> str | None:
    """The device, or None, which is the best one there is, where the harness's default is not there."""
    if device != DEFAULT_DEVICE:
        return device
    try:
        import torch
    except ImportError:
        return None
    return device if torch.cuda.is_available() else None


def _on(device: str | None, spec: str, dtype: str | None) -> Predictor:
    """A predictor; a language model on this device."""
    settings = RunSettings(device=device) if device else DEFAULT_SETTINGS
    return resolve(spec, settings=settings, dtype=dtype)
