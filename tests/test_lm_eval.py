"""The adapter for lm-evaluation-harness: its numbers are those of `kolmo eval`, in Python and by the command."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip(
    "lm_eval", reason="the harness is heavy, and not in .[dev]: pip install 'kolmo-codelength[lm-eval]'"
)

import kolmo.lm_eval
from harness.models import stories
from helpers.completions_server import Bigrams, CompletionsServer
from kolmo.bits import LN2
from kolmo.errors import KolmoError, PredictorError
from kolmo.evaluation.evaluate import evaluate, texts
from kolmo.evaluation.scorers.servers.scorer import ApiScorer
from kolmo.lm_eval import KolmoLM
from kolmo.lm_eval.__main__ import main
from kolmo.predictors.registry import resolve

pytestmark = [
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.usefixtures("one_thread"),
]  # warnings: the harness's own
TEXTS = ["The sea was calm that morning, and the boats lay still.", "Où est le café? " * 9, "a"]
CHOICES = [" the harbour", " xqzv#", " the light and the harbour"]


class Request:
    """What the harness hands over."""

    def __init__(self, *arguments: Any) -> None:
        self.args = arguments


def rolling(model: KolmoLM, contents: list[str]) -> list[float]:
    return model.loglikelihood_rolling([Request(content) for content in contents])


def conditional(model: KolmoLM, pairs: list[tuple[str, str]]) -> list[tuple[float, bool]]:
    return model.loglikelihood([Request(*pair) for pair in pairs])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("torch", reason="running a model needs torch: pip install 'kolmo-codelength[hf]'")
    pytest.importorskip("transformers", reason="a model needs transformers: pip install 'kolmo-codelength[hf]'")
    return stories(tmp_path_factory.mktemp("stories260K"))


# costs


@pytest.mark.parametrize("spec", ["cm:3", "neural:5"])
def test_continuations_of_bytes(spec: str) -> None:
    model = KolmoLM(spec)
    context = TEXTS[0]
    found = conditional(model, [(context, choice) for choice in [*CHOICES, CHOICES[0]]])
    for choice, (value, greedy) in zip([*CHOICES, CHOICES[0]], found, strict=True):
        data = (context + choice).encode()
        bits = resolve(spec).start(len(data)).score(data)[len(context.encode()) :]
        assert value == pytest.approx(-bits.sum() * LN2, rel=1e-6)
        assert greedy == bool((bits < 1).all())
    assert found[0] == found[3]
    assert conditional(model, [("", TEXTS[0]), (TEXTS[0], ""), ("", "")])[1:] == [(0.0, True)] * 2
    assert conditional(model, [("", TEXTS[0])])[0][0] == pytest.approx(rolling(model, [TEXTS[0]])[0])


def test_greedy_where_all_is_expected() -> None:
    context = "the same procedure as every year, " * 12
    (value, greedy), (_, other) = conditional(KolmoLM("cm:5"), [(context, "the same procedure"), (context, "another")])
    assert greedy
    assert value > -3
    assert not other


@pytest.mark.parametrize("spec", ["cm:3", "neural:5", "classical:xz"])
def test_texts_as_kolmo_eval_has_them(spec: str) -> None:
    found = rolling(KolmoLM(spec), [*TEXTS, ""])
    for text, value in zip(TEXTS, found, strict=False):
        result = evaluate(spec, texts("one", [text]))[0]
        assert value == pytest.approx(-result.metrics["nats"], rel=1e-12)
    assert found[-1] == 0.0
    assert math.copysign(1, found[-1]) == 1


def test_texts_of_a_language_model(folder: Path) -> None:
    model = KolmoLM(f"hf:{folder}", block_size=24, stride=7, batch_size="2")
    contents = ["Once upon a time, there was a little girl. " * 4, 'Lily said: "no" 東京\n']
    for text, value in zip(contents, rolling(model, contents), strict=True):
        result = evaluate(f"hf:{folder}", texts("one", [text]), block_size=24, stride=7)[0]
        assert value == pytest.approx(-result.metrics["nats"], rel=1e-6)
        assert conditional(model, [("", text)])[0][0] == pytest.approx(value, rel=1e-6)
    info = model.get_model_info()["kolmo"]
    assert (info["kind"], info["block"], info["stride"], info["dtype"]) == ("hf", 24, 7, "float32")
    json.dumps(info)


def test_continuations_of_a_language_model(folder: Path) -> None:
    model = KolmoLM(str(folder))
    context = "Once upon a time, there was a little girl named"
    pairs = [
        (context, " Lily. She loved to play."),
        (context, " Xq. 東京"),
        (context[:-3], "med Lily"),
        (context * 9, " L"),
    ]
    for (before, after), (value, _) in zip(pairs, conditional(model, pairs), strict=True):
        whole, part = rolling(model, [before + after, before])
        if after.startswith(" "):  # no token holds bytes of both
            assert value == pytest.approx(whole - part, abs=1e-3)
        else:
            assert value < whole - part
    expected, other = conditional(model, pairs[:2])
    assert expected[0] > other[0]
    assert conditional(model, [("Once upon a", " time"), ("Once upon a", " zebra")])[0][1]
    assert not conditional(model, [("Once upon a", " zebra")])[0][1]


def test_a_long_continuation(folder: Path) -> None:
    """It may need several windows."""
    model = KolmoLM(str(folder), block_size=16, stride=5)
    before, after = "Once upon a time, there was", " a little girl. She loved to play outside in the park." * 3
    whole, part = rolling(model, [before + after, before])
    assert conditional(model, [(before, after)])[0][0] == pytest.approx(whole - part, abs=1e-3)


def test_a_server() -> None:
    with CompletionsServer(Bigrams()) as server:
        model = KolmoLM(server.url)
        table = Bigrams().table
        assert conditional(model, [("ab", "c")])[0][0] == pytest.approx(table[98, 99])
        with pytest.raises(
            PredictorError, match="cannot generate text in kolmo; use the harness's own model local-completions"
        ):
            model.generate_until([Request("ab", {})])
        assert isinstance(model._scorer, ApiScorer)
        model._scorer.close()


def test_a_compressor() -> None:
    model = KolmoLM("classical:gzip")
    found = conditional(model, [("the same procedure as ", "the same procedure"), ("the same procedure as ", "")])
    size = -found[0][0] / LN2 / 8
    assert size == pytest.approx(round(size), rel=1e-5)  # whole bytes
    assert 0 < size < 18
    assert found[1] == (0.0, True)


# generation


def generated(model: KolmoLM, context: str, **given: Any) -> str:
    return model.generate_until([Request(context, given)])[0]


def test_generation(folder: Path) -> None:
    model = KolmoLM(str(folder))
    start = "Once upon a time, there was a little girl named"
    story = generated(model, start, until=["\n\n"], max_gen_toks=20)
    assert story.startswith(" Lily. She loved to play outside")
    assert len(story.encode()) == 80
    assert generated(model, start, until=[" play", "loved"], max_gen_toks=20) == " Lily. She "
    assert generated(model, start, until=". Sh", do_sample=False, temperature=0.7) == " Lily"
    drawn = {"max_gen_toks": 30, "temperature": 1.0}
    assert generated(model, start, **drawn) == generated(model, start, **drawn)
    both = model.generate_until([Request(start, drawn), Request(start, drawn)])
    assert both[0] != both[1]
    with pytest.raises(PredictorError, match=r"temperature -1.0 is not a number from 0 up; change gen_kwargs"):
        generated(model, start, temperature=-1)


def test_generation_of_what_has_no_top_k() -> None:
    model = KolmoLM("cm:2")
    with pytest.raises(PredictorError, match=r"no top-k or top-p.*: leave top_k and top_p out of gen_kwargs$"):
        generated(model, TEXTS[0], do_sample=True, top_k=5)
    likeliest = generated(model, TEXTS[1] * 9, max_gen_toks=10)
    assert likeliest == generated(model, TEXTS[1] * 9, max_gen_toks=10, until=["\0"])
    found = generated(model, TEXTS[1] * 9, do_sample=True, max_gen_toks=10)
    assert 0 < len(found) <= 40


def test_stop_strings_across_pieces() -> None:
    from kolmo.lm_eval.model import _cut_at_stop

    assert _cut_at_stop(iter([b"ab", b"cd", b"ef"]), [b"bcd", b"de"]) == b"a"
    assert _cut_at_stop(iter([b"ab", b"cd", b"ef"]), [b"e", b"cde"]) == b"ab"
    assert _cut_at_stop(iter([b"ab", b"cd"]), []) == b"abcd"


def test_arguments() -> None:
    with pytest.raises(PredictorError, match="model argument 'pretrained' is not known to kolmo; it takes predictor,"):
        KolmoLM.create_from_arg_string("pretrained=gpt2", {"batch_size": 1})
    with pytest.raises(KolmoError, match="unknown predictor 'nonsense'"):
        KolmoLM("nonsense:1")
    model = KolmoLM.create_from_arg_string("predictor=cm:1", {"batch_size": "auto", "device": None})
    assert model._batch is None


def test_the_default_device_is_one_that_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert KolmoLM("cm:1", device="cuda:0")._options.device is None
    assert KolmoLM("cm:1", device="cuda:1")._options.device == "cuda:1"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert KolmoLM("cm:1", device="cuda:0")._options.device == "cuda:0"


# the harness itself


@pytest.fixture
def tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with two tasks, whose data are local."""
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    made = tmp_path / "tasks"
    made.mkdir()
    rows: dict[str, list[dict[str, Any]]] = {
        "kolmo_texts": [{"text": text} for text in TEXTS],
        "kolmo_choices": [
            {"question": "One two three four one two three", "choices": [" four", " cow"], "answer": 0},
            {"question": "la la la la la la la", "choices": [" 5", " la"], "answer": 1},
        ],
    }
    for name, found in rows.items():
        lines = "".join(json.dumps(row) + "\n" for row in found)
        (made / f"{name}.jsonl").write_text(lines, "utf-8")
        common = f"""task: {name}
dataset_path: json
dataset_kwargs:
  data_files: {{test: {json.dumps(str(made / f"{name}.jsonl"))}}}
  cache_dir: {json.dumps(str(tmp_path / "cache"))}
test_split: test
"""
        (made / f"{name}.yaml").write_text(common + TASKS[name], "utf-8")
    return made


TASKS = {
    "kolmo_texts": """output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{text}}"
metric_list: [{metric: bits_per_byte}, {metric: byte_perplexity}, {metric: word_perplexity}]
""",
    "kolmo_choices": """output_type: multiple_choice
doc_to_text: "{{question}}"
doc_to_choice: "{{choices}}"
doc_to_target: "{{answer}}"
target_delimiter: ""
metric_list: [{metric: acc}, {metric: acc_norm}]
""",
}


@pytest.mark.parametrize("spec", ["neural:5", "hf"])
def test_tasks(tasks: Path, spec: str, request: pytest.FixtureRequest) -> None:
    import lm_eval
    from lm_eval.tasks import TaskManager

    spec = str(request.getfixturevalue("folder")) if spec == "hf" else spec
    found = lm_eval.simple_evaluate(
        model="kolmo",
        model_args={"predictor": spec},
        tasks=["kolmo_texts", "kolmo_choices"],
        task_manager=TaskManager(include_path=str(tasks), include_defaults=False),
        bootstrap_iters=0,
    )
    ours = evaluate(spec, texts("all", TEXTS))[0]
    theirs = found["results"]["kolmo_texts"]
    assert theirs["bits_per_byte,none"] == pytest.approx(ours.metrics["bits_per_byte"], rel=1e-6)
    assert theirs["byte_perplexity,none"] == pytest.approx(ours.metrics["byte_perplexity"], rel=1e-6)
    assert theirs["word_perplexity,none"] == pytest.approx(ours.metrics["word_perplexity"], rel=1e-6)
    if spec == "neural:5":
        assert found["results"]["kolmo_choices"]["acc,none"] == 1.0
    assert found["config"]["kolmo"]["kind"] == ("predictor" if spec == "neural:5" else "hf")


def run(*arguments: str, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(path or "")}
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, timeout=300, check=False, env=environment
    )


def test_command(tasks: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """In this process, and without the harness's own tasks, whose files take long to list."""
    from lm_eval.tasks import TaskManager

    monkeypatch.setattr("lm_eval.tasks.TaskManager", partial(TaskManager, include_defaults=False))
    output = tasks.parent / "out"
    common = ["--model", "kolmo", "--tasks", "kolmo_texts", "--include_path", str(tasks), "--output_path", str(output)]
    monkeypatch.setattr(sys, "argv", ["lm_eval", *common, "--model_args", "predictor=cm:3"])
    main()
    ours = evaluate("cm:3", texts("all", TEXTS))[0].metrics["bits_per_byte"]
    assert f"|{ours:.4f}|" in capsys.readouterr().out.replace(" ", "")
    written = json.loads(next(output.rglob("results_*.json")).read_text("utf-8"))
    assert written["results"]["kolmo_texts"]["bits_per_byte,none"] == pytest.approx(ours, rel=1e-9)
    assert written["config"]["kolmo"]["model"] == "cm:3"

    monkeypatch.setattr(sys, "argv", ["lm_eval", *common, "--model_args", "predictor=cm:77"])
    with pytest.raises(SystemExit, match=r"^kolmo.lm_eval: cm has levels 1 to 9, not 77; use cm:1 to cm:9$"):
        main()


def test_without_the_harness(tmp_path: Path) -> None:
    """One line, from the command; and an error of ours on import."""
    (tmp_path / "lm_eval.py").write_text("raise ImportError(\"No module named 'lm_eval'\")", "utf-8")
    message = "kolmo.lm_eval needs lm-eval (No module named 'lm_eval'); pip install 'kolmo-codelength[lm-eval]'"
    done = run("-m", "kolmo.lm_eval", "--help", path=tmp_path)
    assert (done.returncode, done.stderr.strip()) == (1, f"kolmo.lm_eval: {message}")
    done = run("-c", "import kolmo.lm_eval", path=tmp_path)
    assert done.stderr.splitlines()[-1] == f"kolmo.errors.MissingExtraError: {message}"


def test_it_is_found_by_later_releases() -> None:
    """Their entry point names the class by the name that it has."""
    from importlib.metadata import entry_points

    from lm_eval.api.registry import get_model

    assert get_model("kolmo") is KolmoLM
    assert kolmo.lm_eval.KolmoLM is KolmoLM
    for point in entry_points(group="lm_eval.models"):
        if point.name == "kolmo":
            assert point.load() is KolmoLM
            assert point.value == f"{KolmoLM.__module__}:{KolmoLM.__name__}"
