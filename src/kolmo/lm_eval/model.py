"""The model `kolmo` for lm-evaluation-harness: runs its tasks on every model that `kolmo eval` supports.

    loglikelihood           -(nats of the continuation after the context)
    loglikelihood_rolling   -(nats of the text), as in `kolmo eval` in mode strict
    generate_until          `kolmo sample`, up to a stop string

Context and continuation are scored as one text, and the cost of the continuation is that of its end. So the tokens of a
language model are those of the whole text, and a token that begins in the context and ends in the continuation counts
in full. A byte predictor adapts as it reads and cannot return to an earlier state, so the context is read again for
each continuation. Equal requests are scored once.

`is_greedy` is true if each token (byte) of the continuation costs less than one bit. Each then has a probability above
1/2, and is the most probable one. A token with a lower probability may be the most probable one too, but its code
length does not show that. So `is_greedy` may be false for the greedy continuation, but is never true for another one.

What it is not: it does not apply chat templates, and takes only text.
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
from kolmo.evaluation.scorers.scorers import LITERAL_ID, ScorerOptions, Tokenised
from kolmo.evaluation.windows.modes import MODES
from kolmo.evaluation.windows.passages import NO_TOKEN_LIMIT, ScoredPassage, batches
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

GROUP_CHARACTERS = 1 << 18  # characters of the texts whose windows are sorted into batches together
DEFAULT_GENERATED_TOKENS = 256  # limit of generation if the task sets none
BYTES_PER_TOKEN = 4  # bytes that are generated for each token of a task's limit
LIMIT_NAMES = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
DEFAULT_DEVICE = "cuda:0"  # the device that the harness requests by default

Costs = npt.NDArray[np.float64]


@register_model("kolmo")
class KolmoLM(LM):
    """A model for lm-evaluation-harness.

    Args:
        predictor: the model specification: neural:5, cm:5, network:PATH, classical:xz, hf:FOLDER_OR_ID, gguf:FILE or
            api:URL.
        batch_size: windows in a batch; 1 (the default of the harness) and auto: as many as the model suggests.
        max_batch_size: ignored; the harness passes it.
        device: the device of a language model. The harness requests the first CUDA device by default; on a machine
            without one, the CPU is used then.
        dtype: the floating-point type of a language model; default: float32.
        attention: the implementation of attention in transformers.
        tokenizer: the tokenizer of a server's model: a folder or an id of the hub.
        cache_dir: the folder for models from the hub.
        block_size: the largest number of tokens that the model reads before it predicts one; default: 1900.
        stride: the number of tokens that each window after the first scores; default: 512.
        seed: the seed of generation; request number k, from 0, uses seed + k.

    Raises:
        PredictorError: the model cannot be opened, or an argument is unknown.
        MissingExtraError: a package that the model needs is not installed.
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
        self._options = ScorerOptions(dtype, _available_device(device), attention, cache_dir, tokenizer)
        self._scorer = open_scorer(self._spec, self._options)
        self._engine = LocalEngine(self._scorer)  # its errors name the model
        self._mode = mode_for(self._engine, MODES["strict"].sized(block_size, stride))
        given = str(batch_size)
        self._batch = int(given) if given.isdecimal() and int(given) > 1 else None
        self._seed = seed
        self._sampler: Predictor | None = None

    def get_model_info(self) -> dict[str, Any]:
        """The record of the model in the results of the harness: its identity, settings and windows."""
        identity = self._scorer.identity
        settings = {**identity.settings, "block": self._mode.block, "stride": self._mode.stride}
        return {"kolmo": {"model": identity.name, "kind": identity.kind, **settings, **identity.facts}}

    def loglikelihood(self, requests: list[Any], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """The pair (log-likelihood in nats, is_greedy) of each request's continuation after its context."""
        pairs = [(str(request.args[0]), str(request.args[1])) for request in requests]
        wanted = list(dict.fromkeys(pairs))
        if self._scorer.identity.kind == "classical":
            found = self._differences(wanted, disable_tqdm)
        else:
            jobs = [(context + continuation, len(context.encode())) for context, continuation in wanted]
            found = self._costs(jobs, disable_tqdm)
        answers = {}
        for pair, costs in zip(wanted, found, strict=True):
            answers[pair] = _loglikelihood(costs), bool((costs < LN2).all())
            self.cache_hook.add_partial("loglikelihood", pair, answers[pair])
        return [answers[pair] for pair in pairs]

    def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = False) -> list[float]:
        """The log-likelihood in nats of each request's text."""
        texts = [str(request.args[0]) for request in requests]
        wanted = list(dict.fromkeys(texts))
        answers = {}
        for text, costs in zip(wanted, self._costs([(text, 0) for text in wanted], disable_tqdm), strict=True):
            answers[text] = _loglikelihood(costs)
            self.cache_hook.add_partial("loglikelihood_rolling", (text,), answers[text])
        return [answers[text] for text in texts]

    def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
        """Generate text after each request's context, up to the first stop string.

        For each token of a task's limit, four bytes are generated.

        Raises:
            PredictorError: the model cannot generate text, or not with these settings.
        """
        answers = []
        for k, request in enumerate(_with_bar(requests, disable_tqdm)):
            context, given = str(request.args[0]), dict(request.args[1])
            answers.append(self._generate(context, given, self._seed + k))
            self.cache_hook.add_partial("generate_until", request.args, answers[-1])
        return answers

    def _generate(self, context: str, given: dict[str, Any], seed: int) -> str:
        until = given.get("until") or []
        stops = [stop.encode() for stop in ([until] if isinstance(until, str) else until) if stop]
        size = BYTES_PER_TOKEN * int(
            next((given[name] for name in LIMIT_NAMES if given.get(name) is not None), DEFAULT_GENERATED_TOKENS)
        )
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
        return _cut_at_stop(made, stops).decode("utf-8", "replace")

    def _predictor(self) -> Predictor:
        """The predictor that generates text. A language model is loaded a second time for this."""
        if self._sampler is None:
            kind = self._spec.partition(":")[0]
            if kind == "api":
                raise PredictorError(
                    f"{self._scorer.identity.spec} cannot generate text in kolmo; use the harness's own model "
                    "local-completions for such tasks"
                )
            dtype = self._options.dtype if kind in LANGUAGE_MODELS else None
            self._sampler = _resolve_on(self._options.device, self._spec, dtype)
        return self._sampler

    def _differences(self, pairs: Sequence[tuple[str, str]], quiet: bool) -> list[Costs]:
        """The costs of continuations under a compressor: the growth of the compressed size, at least 0."""
        wholes = self._costs([(context + continuation, 0) for context, continuation in pairs], quiet)
        contexts = list(dict.fromkeys(context for context, _ in pairs))
        before = dict(zip(contexts, self._costs([(context, 0) for context in contexts], quiet), strict=True))
        return [
            np.maximum([whole.sum() - before[context].sum()], 0) if continuation else np.zeros(0)
            for (context, continuation), whole in zip(pairs, wholes, strict=True)
        ]

    def _costs(self, jobs: Sequence[tuple[str, int]], quiet: bool) -> list[Costs]:
        """The nats of the tokens of each text that end after a given number of its bytes.

        Args:
            jobs: pairs of a text and the number of bytes at its beginning that are only context.
            quiet: whether to show no progress bar.
        """
        found: list[Costs] = []
        waiting = iter(_with_bar(jobs, quiet))
        while group := list(_next_group(waiting, GROUP_CHARACTERS)):
            found += self._score(group)
        return found

    def _score(self, jobs: Sequence[tuple[str, int]]) -> list[Costs]:
        scorer, mode = self._engine, self._mode
        texts = [_ScoredText(tokens, begin) for (_, begin), tokens in zip(jobs, self._tokenise(jobs), strict=True)]
        flat = np.full(sum(len(text.ids) for text in texts), np.nan)
        passages, offset = [], 0
        for text in texts:
            first = 0 if scorer.whole else text.first
            for window in mode.window_rule(len(text.ids), mode.block, mode.stride):
                scored = min(window.scored, window.last - first)
                if scored > 0:
                    ids = text.ids[window.first : window.last]
                    ids = ids if scorer.start is None else np.concatenate([[scorer.start], ids])
                    passages.append(ScoredPassage(ids, scored, offset + window.last - scored))
            offset += len(text.ids)
        most, tokens = scorer.budget(mode.block)
        most, tokens = (self._batch, NO_TOKEN_LIMIT) if self._batch else (most, tokens)
        for batch in batches(passages, most, tokens):
            for passage, nats in zip(batch, scorer.score(batch), strict=True):
                flat[passage.place : passage.place + passage.scored] = nats
        parts = np.split(flat, np.cumsum([len(text.ids) for text in texts])[:-1])
        return [text.costs(part) for text, part in zip(texts, parts, strict=True)]

    def _tokenise(self, jobs: Sequence[tuple[str, int]]) -> list[Tokenised]:
        """The tokens of each text. Empty texts have none; a compressor would count the size of an empty file."""
        found = iter(self._engine.tokenise([text for text, _ in jobs if text], "exact"))
        nothing = Tokenised(np.zeros(0, np.int32), np.zeros(0, np.int32))
        return [next(found) if text else nothing for text, _ in jobs]


class _ScoredText:
    """The tokens of a text, and which of them count.

    Args:
        tokens: the tokens.
        begin: the number of bytes at the beginning of the text that are only context.

    Attributes:
        ids: the ids of the model's tokens, without literals.
        first: the index of the first of them that counts.
    """

    def __init__(self, tokens: Tokenised, begin: int) -> None:
        self._counts = np.cumsum(tokens.lengths) > begin
        self._own = tokens.ids != LITERAL_ID
        self._known = tokens.nats
        self.ids = tokens.ids[self._own].astype(np.int64)
        self.first = int((~self._counts[self._own]).sum())

    def costs(self, nats: Costs) -> Costs:
        """The costs of all tokens that count, literals included, from the costs of the model's tokens."""
        whole = np.full(len(self._own), np.nan) if self._known is None else self._known.astype(np.float64)
        whole[self._own] = nats
        return whole[self._counts]


def run() -> None:
    """Run the command of the harness with the arguments of this process."""
    cli_evaluate()


def _loglikelihood(costs: Costs) -> float:
    """The log-likelihood of the costs; 0.0, not -0.0, if there are none."""
    return 0.0 - math.fsum(costs)


def _with_bar(items: Sequence[Any], quiet: bool) -> Any:
    """The items, with a progress bar on a terminal."""
    from tqdm import tqdm

    return tqdm(items, desc="kolmo", disable=True if quiet else None)


def _next_group(jobs: Iterator[tuple[str, int]], characters: int) -> Iterator[tuple[str, int]]:
    """The next jobs, until their texts have this number of characters together."""
    for text, begin in islice(jobs, characters):
        yield text, begin
        characters -= len(text)
        if characters <= 0:
            return


def _cut_at_stop(made: Iterator[bytes], stops: list[bytes]) -> bytes:
    """The generated text up to the first stop string."""
    found = bytearray()
    reach = max(map(len, stops), default=0)
    for piece in made:
        begin = max(len(found) - reach, 0)
        found += piece
        places = [place for stop in stops if (place := found.find(stop, begin)) >= 0]
        if places:
            return bytes(found[: min(places)])
    return bytes(found)


def _available_device(device: str | None) -> str | None:
    """The device; None, which is the best one available, if it is the harness's default and does not exist."""
    if device != DEFAULT_DEVICE:
        return device
    try:
        import torch
    except ImportError:
        return None
    return device if torch.cuda.is_available() else None


def _resolve_on(device: str | None, spec: str, dtype: str | None) -> Predictor:
    """The predictor of a specification; a language model runs on this device."""
    settings = RunSettings(device=device) if device else DEFAULT_SETTINGS
    return resolve(spec, settings=settings, dtype=dtype)
