"""Evaluation by language models: the paper's number, other evaluators' numbers, and that nothing depends on batches."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed; pip install 'kolmo-codelength[hf]'")
pytest.importorskip("transformers", reason="transformers is not installed; pip install 'kolmo-codelength[hf]'")
pytest.importorskip("pyarrow", reason="pyarrow is not installed; pip install 'kolmo-codelength[eval]'")

from harness.models import CONTEXT, FAMILIES  # noqa: E402
from kolmo.corpus import Corpus, Document  # noqa: E402
from kolmo.errors import KolmoError, PredictorError  # noqa: E402
from kolmo.evaluation import run as running  # noqa: E402
from kolmo.evaluation.engines.engines import LocalEngine  # noqa: E402
from kolmo.evaluation.evaluate import evaluate, texts  # noqa: E402
from kolmo.evaluation.opening import open_scorer  # noqa: E402
from kolmo.evaluation.results.store import RowStore  # noqa: E402
from kolmo.evaluation.scorers.scorers import LITERAL_ID, ScorerOptions  # noqa: E402
from kolmo.evaluation.scorers.token_scorers import TokenScorer  # noqa: E402
from kolmo.evaluation.scorers.torch_scorer import TorchScorer, has_plain_head  # noqa: E402
from kolmo.evaluation.windows.modes import MODES, Mode  # noqa: E402
from kolmo.evaluation.windows.passages import ScoredPassage  # noqa: E402
from kolmo.predictors.registry import resolve  # noqa: E402

TEXT = (Path(__file__).parents[2] / "examples" / "sample.txt").read_bytes().decode()
PARTS = [TEXT[:1800], TEXT[3000:3400], "", TEXT[20000:23000], "Ende.", TEXT[40000:40600]]
LN2 = math.log(2)


def published(folder: Path, contents: list[str], block: int, stride: int) -> tuple[float, int, int, float]:
    """(nats, windows, scored tokens, bits per character) by the published script, line by line, in float32."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    model.eval()
    kept = [content for content in contents if len(content) > 0]
    characters = sum(len(content) for content in kept)
    data = np.concatenate([np.array(tokenizer.encode(content, verbose=False), np.int64) for content in kept])
    length = block + 1
    losses = []
    scored = 0
    begin = previous_end = 0
    count = math.floor((len(data) - length) / stride + 1)
    with torch.no_grad():
        for _ in range(count):
            end = min(begin + length, len(data))
            fresh = end - previous_end
            window = torch.from_numpy(data[begin:end])[None]
            mask = torch.ones(length, dtype=torch.bool)
            mask[:-fresh] = False
            previous_end = end
            begin += stride
            logits = model(window[:, :block]).logits
            targets = window[:, 1:].clone()
            targets[0, ~mask[1:]] = -1
            loss = torch.nn.functional.cross_entropy(
                logits.reshape(-1, logits.size(-1)).float(), targets.reshape(-1), ignore_index=-1, reduction="sum"
            )
            losses.append(loss.item())
            scored += int(mask[1:].sum())
    total = float(np.array(losses).sum())
    return total, count, scored, total / (characters * np.log(2))


@pytest.mark.parametrize(("family", "block", "stride"), [("llama", 100, 30), ("gpt2", 127, 64), ("stories", 500, 128)])
def test_paper_mode_is_the_published_number(
    folder_of: Callable[[str], Path], family: str, block: int, stride: int
) -> None:
    nats, _, scored, bits = published(folder_of(family), PARTS, block, stride)
    for batch in (1, 8):
        found = evaluate(
            f"hf:{folder_of(family)}",
            texts("real", PARTS),
            mode="paper",
            dtype="float32",
            block_size=block,
            stride=stride,
            batch_size=batch,
        )[0]
        assert found.metrics["tokens"] == scored
        assert found.metrics["nats"] == pytest.approx(nats, rel=1e-6)
        assert found.bits_per_character == pytest.approx(bits, rel=1e-6)


def test_paper_mode_counts_the_windows(folder_of: Callable[[str], Path]) -> None:
    engine = Counting(TorchLike())
    corpus = texts("ten thousand", ["a" * 2500] * 4)
    result = go(engine, corpus, MODES["paper"], Path(folder_of("llama")).parent / "windows")
    assert engine.passages == 16
    assert result["metrics"]["tokens"] == 9580
    assert result["metrics"]["characters"] == 10000
    assert all(len(passage.tokens) == 1901 for passage in engine.seen)
    short = texts("short", ["a" * 1900])
    with pytest.raises(KolmoError, match="no token of"):
        go(Counting(TorchLike()), short, MODES["paper"], Path(folder_of("llama")).parent / "short")


class TorchLike:
    """A model of tokens without torch: one for each character, at the same cost everywhere."""

    def __init__(self) -> None:
        from kolmo.evaluation.scorers.scorers import ModelIdentity

        self.identity = ModelIdentity("flat", "flat", "hf", {"flat": 1})
        self.start, self.window, self.whole = 0, None, False

    def tokenise(self, texts: Any, how: str) -> Any:
        from kolmo.evaluation.scorers.scorers import Tokenised

        return [Tokenised(np.ones(len(t), np.int32), np.ones(len(t), np.int32)) for t in texts]

    def budget(self, block: int) -> tuple[int, int]:
        return 4, 1 << 30

    def score(self, batch: list[ScoredPassage]) -> Any:
        return [np.full(passage.scored, 1.5, np.float32) for passage in batch]


class Counting(LocalEngine):
    def __init__(self, scorer: Any) -> None:
        super().__init__(scorer)
        self.seen: list[ScoredPassage] = []

    @property
    def passages(self) -> int:
        return len(self.seen)

    def run(self, batches: Any) -> Any:
        for batch, nats in super().run(batches):
            self.seen += batch
            yield batch, nats


def go(engine: Any, corpus: Corpus, mode: Mode, folder: Path) -> dict[str, Any]:
    fitted = running.mode_for(engine, mode)
    found = running.scan(corpus, stream=fitted.stream)
    return running.run(engine, corpus, fitted, RowStore(folder), found)


@pytest.mark.parametrize("mode", ["paper", "llama.cpp"])
def test_a_stream_goes_on(tmp_path: Path, mode: str, folder_of: Callable[[str], Path]) -> None:
    """With more documents, only windows that score something new are run; the numbers are those of one run."""
    sized = MODES[mode].sized(100, 30 if mode == "paper" else None)
    parts = [TEXT[k * 333 : (k + 1) * 333] for k in range(12)]
    documents = [Document(part) for part in parts]

    def run(limit: int, folder: Path) -> tuple[dict[str, Any], Counting]:
        engine = Counting(open_scorer(f"hf:{folder_of('stories')}"))
        return go(engine, Corpus("some", "some", documents, limit), sized, folder), engine

    run(5, tmp_path / "grown")
    grown, second = run(12, tmp_path / "grown")
    whole, first = run(12, tmp_path / "whole")
    for name in ("documents", "characters", "tokens", "nats"):
        assert grown["metrics"][name] == pytest.approx(whole["metrics"][name], rel=1e-5)
    assert 0 < second.passages < first.passages * 0.75
    again, third = run(12, tmp_path / "grown")
    assert third.passages == 0
    assert again["metrics"] == grown["metrics"]
    fewer, fourth = run(5, tmp_path / "grown")
    assert fourth.passages == 0
    assert fewer["metrics"]["documents"] == 5


def test_a_stream_depends_on_what_came_before(tmp_path: Path, folder_of: Callable[[str], Path]) -> None:
    sized = MODES["paper"].sized(100, 30)
    for first in ("a" * 300, "b" * 300):
        engine = Counting(open_scorer(f"hf:{folder_of('stories')}"))
        go(engine, texts("some", [first, TEXT[:600]]), sized, tmp_path)
        assert engine.passages > 5  # nothing of the other stream is taken


@pytest.mark.parametrize("family", ["llama", "gpt2", "rwkv", "mamba", "mistral"])
def test_strict_mode_does_not_depend_on_batches(folder_of: Callable[[str], Path], family: str) -> None:
    parts = [PARTS[0][:800], PARTS[1], "", PARTS[3][:2000], "Ende."]
    found = [
        evaluate(f"hf:{folder_of(family)}", texts("real", parts), block_size=96, stride=32, batch_size=size)[0]
        for size in (1, 16)
    ]
    values = [result.bits_per_character for result in found]
    assert values == pytest.approx([values[0]] * 2, rel=1e-4)
    one, other = (np.concatenate([row.token_nats for row in result.rows()]) for result in found)
    assert len(one) > 16 * 32  # more windows than one batch has
    np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("family", [name for name in FAMILIES if name != "rwkv"])
def test_nor_on_the_length_of_the_cache(folder_of: Callable[[str], Path], family: str) -> None:
    """Logits of a window at once, against those of pieces of it behind a cache of what came before."""
    scorer = open_scorer(f"hf:{folder_of(family)}")
    assert isinstance(scorer, TorchScorer)
    backend = scorer.backend
    random = np.random.default_rng(1)
    sizes = ((97, 32), (90, 89), (60, 5))
    batch = [ScoredPassage(random.integers(1, 200, length), scored, 0) for length, scored in sizes]
    right = scorer.score(batch)
    row = backend.size * backend.itemsize * len(batch)
    for tokens in (1, 7, 64, 200):  # of a piece
        pieces = TokenScorer(scorer.identity, backend, logit_bytes=tokens * row).score(batch)
        for one, other in zip(right, pieces, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)
    assert np.concatenate(right).mean() > 1


def test_strict_mode_is_what_compression_costs(folder_of: Callable[[str], Path]) -> None:
    """One window: the file that `kolmo compress` writes with the same model is as long, but for the coder's grid."""
    spec = f"hf:{folder_of('stories')}"
    # Where a model is all but sure and wrong, the coder, never that sure, pays less: so a text of the model's own kind.
    story = "Once upon a time, there was a little girl named Lily. She loved to play outside in the park. One day, "
    story += 'she saw a big red ball. She wanted to play with it, but it was too high. Her mom said, "Let me help you."'
    result = evaluate(spec, texts("real", [story]), block_size=512)[0]
    packed = resolve(spec, memory_tokens=0).start(len(story.encode())).score(story.encode()).sum()
    assert result.metrics["nats"] / LN2 == pytest.approx(packed, rel=5e-3)
    assert result.bits_per_character is not None
    assert result.bits_per_character < 1.2


def test_bytes_that_no_token_covers_are_paid_for(folder_of: Callable[[str], Path], tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    folder = tmp_path / "lossy"
    AutoModelForCausalLM.from_pretrained(folder_of("llama")).save_pretrained(folder)
    words = {"[UNK]": 0, **{word: k + 1 for k, word in enumerate(["the", "cat", "sat"])}}
    description: dict[str, Any] = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [],
        "normalizer": None,
        "pre_tokenizer": {"type": "Whitespace"},
        "post_processor": None,
        "decoder": None,
        "model": {"type": "WordLevel", "vocab": words, "unk_token": "[UNK]"},
    }
    (folder / "tokenizer.json").write_text(json.dumps(description))
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
    strict = evaluate(f"hf:{folder}", texts("some", ["the cat, unheard of, sat"]), block_size=96)[0]
    (row,) = strict.rows()
    assert LITERAL_ID in row.token_ids
    assert row.token_bytes.sum() == row.bytes
    assert not np.isnan(row.token_nats).any()
    assert row.token_nats[row.token_ids == LITERAL_ID].sum() > 20


def test_lm_eval_mode_is_lm_eval_s_number(folder_of: Callable[[str], Path]) -> None:
    harness: Any = pytest.importorskip("lm_eval.models.huggingface", reason="lm-eval[hf]", exc_type=ImportError)
    from lm_eval.api.instance import Instance

    kept = [part for part in PARTS if part]
    for family in ("stories",):
        theirs: Any = harness.HFLM(pretrained=str(folder_of(family)), device="cpu", dtype="float32", batch_size=1)
        requests = [Instance(request_type="loglikelihood_rolling", doc={}, arguments=(part,), idx=0) for part in kept]
        right = -sum(theirs.loglikelihood_rolling(requests, disable_tqdm=True))
        mine = evaluate(f"hf:{folder_of(family)}", texts("real", kept), mode="lm-eval")[0]
        assert mine.metrics["nats"] == pytest.approx(right, rel=1e-5)
        sizes = sum(len(part.encode()) for part in kept)
        assert mine.metrics["bits_per_byte"] == pytest.approx(right / sizes / LN2, rel=1e-5)
        assert mine.metrics["byte_perplexity"] == pytest.approx(math.exp(right / sizes), rel=1e-5)


def test_llama_cpp_mode_by_its_description(folder_of: Callable[[str], Path]) -> None:
    """Chunks of one stream, the beginning of text in place of each one's first token, the second half counts."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = folder_of("stories")
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    model: Any = AutoModelForCausalLM.from_pretrained(folder)
    model.eval()
    ids = tokenizer.encode(TEXT[:4000], verbose=False)
    assert ids[0] == tokenizer.bos_token_id
    size, total, count = 128, 0.0, 0
    for first in range(0, len(ids) // size * size, size):
        chunk = [ids[0], *ids[first + 1 : first + size]]
        with torch.no_grad():
            costs = -torch.log_softmax(model(torch.tensor([chunk])).logits[0].double(), -1)
        for place in range(size // 2, size - 1):
            total += float(costs[place, chunk[place + 1]])
            count += 1
    mine = evaluate(f"hf:{folder}", texts("one", [TEXT[:4000]]), mode="llama.cpp", block_size=size)[0]
    assert mine.metrics["tokens"] == count
    assert mine.metrics["token_perplexity"] == pytest.approx(math.exp(total / count), rel=1e-5)
    assert mine.bits_per_character is None  # half of the text is not scored: there is no such number


@pytest.mark.parametrize("family", ["llama", "stories"])  # whose tokenizers add nothing, and BOS
@pytest.mark.parametrize("most", [None, 2])
def test_perplexity_as_papers_on_quantised_weights_have_it(
    folder_of: Callable[[str], Path], family: str, most: int | None
) -> None:
    """Documents joined by blank lines, tokenised once, disjoint full windows, the mean of their losses."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder, size = folder_of(family), 64
    parts = [TEXT[:1500], "", TEXT[1500:1510], "", "", TEXT[2000:4200]]
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    model.eval()
    ids = tokenizer("\n\n".join(parts), return_tensors="pt", verbose=False).input_ids
    losses = []
    for first in range(0, ids.shape[1] // size * size, size):
        batch = ids[:, first : first + size]
        with torch.no_grad():
            losses.append(float(model(batch, labels=batch).loss))
    wanted = math.exp(sum(losses[:most]) / len(losses[:most]))
    mine = evaluate(f"hf:{folder}", texts("one", parts), mode="perplexity-2048", block_size=size, windows=most)[0]
    assert mine.metrics["token_perplexity"] == pytest.approx(wanted, rel=1e-5)
    assert mine.metrics["tokens"] == len(losses[:most]) * (size - 1)
    assert mine.bits_per_character is None


@pytest.mark.parametrize("family", ["llama", "stories"])  # whose tokenizers add nothing, and BOS
@pytest.mark.parametrize("mode", ["uncheatable", "uncheatable-bos"])
def test_uncheatable_modes_by_their_description(folder_of: Callable[[str], Path], family: str, mode: str) -> None:
    """Until 2025: the tokenizer's own call, chunks, first tokens unscored. Since: BOS, plain chunks, all scored."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = folder_of(family)
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    model.eval()
    kept = [part for part in PARTS if part]
    start = [] if mode == "uncheatable" else [open_scorer(f"hf:{folder}").start]  # BOS, where there is one
    total, count = 0.0, 0
    for part in kept:
        ids = tokenizer.encode(part, add_special_tokens=mode == "uncheatable", verbose=False)
        for first in range(0, len(ids), 64):
            chunk = torch.tensor([[*start, *ids[first : first + 64]]])
            with torch.no_grad():
                costs = -torch.log_softmax(model(chunk).logits[0].double(), -1)
            total += float(costs[:-1].gather(1, chunk[0, 1:, None]).sum())
            count += chunk.shape[1] - 1
    mine = evaluate(f"hf:{folder}", texts("real", kept), mode=mode, dtype="float32", block_size=64)[0]
    assert mine.metrics["tokens"] == count
    assert mine.metrics["nats"] == pytest.approx(total, rel=1e-6)
    assert mine.bits_per_character == pytest.approx(total / LN2 / sum(map(len, kept)), rel=1e-6)
    assert MODES[mode].block == {"uncheatable": 1024, "uncheatable-bos": 4000}[mode]


def test_special_tokens_of_uncheatable_matter(folder_of: Callable[[str], Path]) -> None:
    """The evaluator's number on a model whose tokenizer adds BOS is not the one without it."""
    folder = folder_of("stories")
    story = "Once upon a time, there was a little girl named Lily. She had a red ball. " * 8
    found = evaluate(f"hf:{folder}", texts("some", [story]), mode="uncheatable", block_size=256, dtype="float32")[0]
    (row,) = found.rows()
    assert row.token_ids[0] == 1  # BOS opens the first chunk, and goes unscored
    assert np.isnan(row.token_nats[0])
    assert not np.isnan(row.token_nats[1])
    assert found.record["mode"]["name"] == "uncheatable"


@pytest.mark.parametrize(("given", "special"), [(None, True), (True, True), (False, False)])
def test_lm_eval_with_and_without_special_tokens(
    folder_of: Callable[[str], Path], given: bool | None, special: bool
) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = folder_of("stories")
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    model.eval()
    text, size = PARTS[1], 64
    ids = tokenizer.encode(text, add_special_tokens=special, verbose=False)
    total = 0.0
    for first in range(0, len(ids), size):  # that harness's disjoint windows; the last one reaches back
        last = min(first + size, len(ids))
        context = [tokenizer.bos_token_id, *ids[: last - 1]] if first == 0 else ids[max(last - size - 1, 0) : last - 1]
        with torch.no_grad():
            costs = -torch.log_softmax(model(torch.tensor([context])).logits[0].double(), -1)
        wanted = torch.tensor(ids[first:last])
        total += float(costs[-len(wanted) :].gather(1, wanted[:, None]).sum())
    mine = evaluate(
        f"hf:{folder}", texts("one", [text]), mode="lm-eval", block_size=size, dtype="float32", add_bos_token=given
    )[0]
    assert mine.metrics["tokens"] == len(ids)
    assert mine.metrics["nats"] == pytest.approx(total, rel=1e-6)
    assert mine.mode == ("lm-eval" if special else "lm-eval-no-bos")  # so no table ranks the two together


def test_logits_that_are_bent_go_the_longer_way(folder_of: Callable[[str], Path]) -> None:
    spec = f"hf:{folder_of('llama')}"
    plain = open_scorer(spec)
    assert isinstance(plain, TorchScorer)
    model = plain.backend.model
    head = model.get_output_embeddings()
    batch = [ScoredPassage(np.arange(1, 90), 40, 0), ScoredPassage(np.arange(5, 60), 40, 0)]
    straight = np.concatenate(plain.score(batch))

    forward = model.forward

    def bent(*arguments: Any, **named: Any) -> Any:
        out = forward(*arguments, **named)
        out["logits"] = 5 * torch.tanh(out["logits"] / 5)
        return out

    model.forward = bent
    assert not has_plain_head(plain.backend)
    longer = np.concatenate(TokenScorer(plain.identity, plain.backend).score(batch))
    with torch.no_grad():
        for k, passage in enumerate(batch):
            logits = 5 * torch.tanh(head(model.base_model(torch.from_numpy(passage.tokens[None, :-1]))[0]) / 5)
            costs = -torch.log_softmax(logits[0, -40:].double(), -1)
            right = costs.gather(1, torch.from_numpy(passage.tokens[-40:, None]))[:, 0].numpy()
            np.testing.assert_allclose(longer[40 * k : 40 * k + 40], right, rtol=1e-4, atol=1e-4)
    assert np.abs(longer - straight).max() > 0.1


def test_out_of_memory_halves_the_batch(folder_of: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    scorer = open_scorer(f"hf:{folder_of('llama')}")
    assert isinstance(scorer, TorchScorer)
    score = scorer._score
    sizes = []

    def small(batch: list[ScoredPassage]) -> Any:
        sizes.append(len(batch))
        if len(batch) > 2:
            raise RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory")
        return score(batch)

    batch = [ScoredPassage(np.arange(k + 1, k + 60), 40, k) for k in range(7)]
    right = np.concatenate(scorer.score(batch))
    monkeypatch.setattr(scorer, "_score", small)
    np.testing.assert_allclose(np.concatenate(scorer.score(batch)), right, rtol=1e-4, atol=1e-4)
    assert sizes[:3] == [7, 3, 1]

    def never(batch: list[ScoredPassage]) -> Any:
        raise RuntimeError("CUDA out of memory. Tried to allocate 3 GiB")

    monkeypatch.setattr(scorer, "_score", never)
    with pytest.raises(PredictorError, match="lower the argument block_size"):
        scorer.score(batch)


def test_streams_side_by_side_change_nothing(folder_of: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    from kolmo.evaluation.scorers import torch_scorer

    scorer = open_scorer(f"hf:{folder_of('llama')}", ScorerOptions(threads=2))
    assert isinstance(scorer, TorchScorer)
    batch = [ScoredPassage(np.arange(k + 1, k + 90 - 3 * k), 20, k) for k in range(9)]
    whole = np.concatenate(scorer.score(batch))
    monkeypatch.setattr(torch_scorer, "CPU_THREAD_TOKENS", 90)  # a passage at a time
    before = torch.get_num_threads()
    np.testing.assert_allclose(np.concatenate(scorer.score(batch)), whole, rtol=1e-4, atol=1e-4)
    assert torch.get_num_threads() == before
    config = scorer.backend.model.config
    assert torch_scorer.has_fixed_positions(config)
    config.rope_parameters = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0}
    assert not torch_scorer.has_fixed_positions(config)


def test_a_block_that_the_model_cannot_see(folder_of: Callable[[str], Path]) -> None:
    spec = f"hf:{folder_of('llama')}"
    with pytest.raises(KolmoError, match=f"lower the argument block_size to {CONTEXT}"):
        evaluate(spec, texts("real", PARTS), mode="paper")
    found = evaluate(spec, texts("real", PARTS))[0]
    assert found.record["mode"]["block"] == CONTEXT


def test_what_is_recorded(folder_of: Callable[[str], Path]) -> None:
    record = evaluate(f"hf:{folder_of('llama')}", texts("real", PARTS), dtype="bfloat16")[0].record
    settings = record["model"]["settings"]
    assert settings["dtype"] == "bfloat16"
    assert {len(settings[name]) for name in ("weights", "config", "tokenizer")} == {16}
    assert record["model"]["facts"]["device"] == "cpu"
    assert record["run"]["versions"]["torch"] == torch.__version__
    assert record["corpus"]["digest"] == running.scan(texts("real", PARTS), stream=False).text_hash


@pytest.mark.parametrize("mode", ["strict", "paper", "lm-eval", "uncheatable", "uncheatable-bos", "llama.cpp"])
def test_gguf_is_the_same_model(folder_of: Callable[[str], Path], tmp_path: Path, mode: str) -> None:
    pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed; pip install 'kolmo-codelength[gguf]'")
    from helpers import gguf_made

    path = gguf_made.stories(tmp_path / "stories.gguf")
    given: dict[str, Any] = {"mode": mode, "block_size": 200, "stride": 64 if mode in ("strict", "paper") else None}
    story = "Once upon a time, there was a little girl named Lily. " * 20
    kept = [story, story[10:700]] if mode != "llama.cpp" else [story]
    mine = evaluate(f"gguf:{path}", texts("some", kept), **given)[0]
    right = evaluate(f"hf:{folder_of('stories')}", texts("some", kept), dtype="float32", **given)[0]
    assert mine.metrics["tokens"] == right.metrics["tokens"]
    assert mine.metrics["nats"] == pytest.approx(right.metrics["nats"], rel=1e-4)
    for one, other in zip(mine.rows(), right.rows(), strict=True):
        np.testing.assert_array_equal(one.token_ids, other.token_ids)
        assert one.token_bytes.sum() == other.token_bytes.sum() == one.bytes


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_same_on_a_gpu(folder_of: Callable[[str], Path]) -> None:
    values = [
        evaluate(f"hf:{folder_of('stories')}", texts("real", PARTS), device=device)[0].bits_per_character
        for device in ("cpu", "cuda")
    ]
    assert values[1] == pytest.approx(values[0], rel=1e-4)
