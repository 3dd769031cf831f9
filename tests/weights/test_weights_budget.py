"""Limits of loss: any function of decoded tensors, and bits per character of a model that is loaded once."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
from click.testing import CliRunner, Result

import kolmo
from kolmo.cli import group
from kolmo.errors import KolmoError, ShrinkWarning
from kolmo.hyperfunctions import TrellisOptions
from kolmo.native.dispatch import SLOW
from kolmo.weights.choice.budget import Trial, chosen, search
from kolmo.weights.choice.losses import DecodedTensors

kernels = pytest.mark.skipif(SLOW, reason="trellises by the score take minutes without the C kernels")
SOURCE: dict[str, Any] = {
    f"layer.{k}.weight": (np.random.default_rng(k).standard_normal((40, 64)) * 0.05).astype(np.float16)
    for k in range(2)
} | {"norm": np.ones(64, np.float32)}


def squares(state: DecodedTensors) -> float:
    """Squared error of all tensors."""
    return sum(float(np.square(state[name].astype(np.float64) - SOURCE[name]).sum()) for name in SOURCE)


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(group, list(map(str, arguments)), standalone_mode=False)


@pytest.mark.parametrize("power", [1.0, 2.0, 3.3])
@pytest.mark.parametrize("before", [0.0, 0.3])
@pytest.mark.parametrize("room", [1e-4, 0.1, 3.0])
def test_search(power: float, before: float, room: float) -> None:
    """A loss that saturates, from a guess that may be far off."""

    def measure(step: float) -> Trial:
        return Trial(step, 0, before + 4 * -math.expm1(-((step / 3) ** power)))

    trials = search(measure, before + room, before, -20, 5, 1.0)
    best = chosen(trials, before + room)
    assert best
    assert 0.94 * room <= best.loss - before <= room
    assert len(trials) <= 10


def test_search_of_losses_that_are_strange() -> None:
    def steps(step: float) -> Trial:  # an accuracy
        return Trial(step, 0, math.floor(step * 20) / 100)

    trials = search(steps, 0.02, 0.0, -20, 5, 1.0)
    assert chosen(trials, 0.02).loss == 0.02  # type: ignore[union-attr]
    trials = search(steps, 0.0, 0.0, -20, 5, 1.0)
    assert 0.049 < chosen(trials, 0.0).step < 0.05  # type: ignore[union-attr]
    assert chosen(search(lambda step: Trial(step, 0, math.nan), 1, 0, -20, 5, 1.0), 1) is None
    assert search(lambda step: Trial(step, 0, 0.0), 1, 0, -20, 5, 1.0)[-1].step == 32
    r = np.random.default_rng(0)
    noisy = search(lambda step: Trial(step, 0, float(step**2 * r.uniform(0, 2))), 0.1, 0, -20, 5, 1.0)
    assert chosen(noisy, 0.1)
    assert len(noisy) < 20


@kernels
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"hyperfunction": TrellisOptions(states=64)},
        {"selection": kolmo.Selection(keep="layer.0.*")},
        {"selection": kolmo.Selection(prune=0.1)},
    ],
)
def test_any_loss(tmp_path: Path, settings: dict[str, Any]) -> None:
    seen: list[float] = []

    def loss(state: DecodedTensors) -> float:
        assert set(state) == set(SOURCE)
        assert all(state[name].dtype == SOURCE[name].dtype for name in SOURCE)
        seen.append(squares(state))
        return seen[-1]

    report = kolmo.shrink(SOURCE, tmp_path / "m", kolmo.MaxLoss(0.2, loss), **settings)
    budget = report.budget
    assert budget
    assert len(seen) == len(budget.trials) + 2
    assert 0.95 * (0.2 - budget.before) <= budget.loss - budget.before <= 0.2
    assert (budget.before > 0) == (settings.get("selection", kolmo.Selection()).prune > 0)
    best = chosen(budget.trials, 0.2)
    assert best
    assert best.size == report.size
    assert best.loss == budget.loss
    decoded = kolmo.load(tmp_path / "m")
    lost = sum(float(np.square(decoded[name].astype(np.float64) - SOURCE[name]).sum()) for name in SOURCE)
    assert lost == budget.loss
    assert report.record()["budget"]["trials"][-1]["step"] == budget.trials[-1].step
    assert "of at most 0.2" in report.lines()[-1]


@kernels
def test_limits_that_cannot_be_kept(tmp_path: Path) -> None:
    with pytest.raises(KolmoError, match=r"pruning alone has a loss of .*, above 0\.001"):
        kolmo.shrink(SOURCE, tmp_path / "m", kolmo.MaxLoss(0.001, squares), selection=kolmo.Selection(prune=0.5))
    with pytest.raises(KolmoError, match="the model before coding has a loss of 1"):
        kolmo.shrink(SOURCE, tmp_path / "m", kolmo.MaxLoss(0.5, lambda state: 1.0))
    with pytest.raises(KolmoError, match="exceeded with every step"):
        kolmo.shrink(SOURCE, tmp_path / "m", kolmo.MaxLoss(0.5, lambda state: 0.0 if state.exact else math.nan))
    losses = iter([0.0, 0.5, 9.0])  # not the same of the same file
    with pytest.raises(KolmoError, match="not repeatable"):
        kolmo.shrink(SOURCE, tmp_path / "m", kolmo.MaxLoss(0.5, lambda state: next(losses)))
    assert not list(tmp_path.iterdir())


@kernels
def test_sensitivities(tmp_path: Path) -> None:
    """Errors of one kind cost a hundred times as much; a third kind does not matter at all."""
    r = np.random.default_rng(3)
    source = {f"{kind}.{k}.weight": r.standard_normal((64, 64)).astype(np.float32) for kind in "abc" for k in range(2)}

    def loss(state: DecodedTensors) -> float:
        costs = {"a": 100.0, "b": 1.0, "c": 0.0}
        return sum(costs[name[0]] * float(np.square(state[name] - source[name]).mean()) for name in source)

    even = kolmo.shrink(source, tmp_path / "m", kolmo.MaxLoss(0.5, loss))
    report = kolmo.shrink(source, tmp_path / "n", kolmo.MaxLoss(0.5, loss, sensitivities=True))
    assert report.size < 0.9 * even.size
    assert report.budget
    assert report.budget.loss <= 0.5
    found = report.budget.factors
    assert set(found) == {"a.*.weight", "b.*.weight", "c.*.weight"}
    assert found["a.*.weight"] < 1 < found["b.*.weight"] <= found["c.*.weight"]
    assert "steps by sensitivity" in "\n".join(report.lines())


@kernels
def test_nothing_to_code(tmp_path: Path) -> None:
    with pytest.warns(ShrinkWarning, match="nothing was coded with loss"):
        report = kolmo.shrink({"norm": SOURCE["norm"]}, tmp_path / "m", kolmo.MaxLoss(0.3, lambda state: 0.25))
    assert report.budget
    assert (report.budget.loss, report.budget.trials) == (0.25, ())


@pytest.mark.parametrize(
    "arguments",
    [
        ["--max-delta-bpc", "0.1"],
        ["--corpus", "x"],
        ["--mode", "paper"],
        ["--limit", "3"],
        ["--device", "cpu"],
        ["--sensitivities"],
        ["--max-delta-bpc", "0", "--corpus", "x"],
        ["--max-delta-bpc", "nan", "--corpus", "x"],
        *(
            ["--max-delta-bpc", "0.1", "--corpus", "x", *other]
            for other in (["--bits", "3"], ["--step", "1"], ["--target-bytes", "1M"], ["--method", "torus"])
        ),
    ],
)
def test_usage(tmp_path: Path, arguments: list[str]) -> None:
    result = run("shrink", tmp_path / "model", "-o", tmp_path / "m", *arguments)
    assert isinstance(result.exception, click.UsageError)


def test_no_torch_without_a_limit(tmp_path: Path) -> None:
    np.savez(tmp_path / "m.npz", **SOURCE)
    code = f"""
import sys, numpy, kolmo
kolmo.shrink(dict(numpy.load({str(tmp_path / "m.npz")!r})), {str(tmp_path / "m")!r}, hyperfunction="torus")
print(*sys.modules)"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "pyarrow", "onnx", "transformers"} & set(done.stdout.split())


@kernels
def test_a_module_of_torch(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    body = torch.nn.Sequential(torch.nn.Linear(64, 40), torch.nn.BatchNorm1d(40), torch.nn.Linear(40, 64))
    body(torch.randn(64, 64))  # gives its norm something to remember
    body.eval()
    other = torch.nn.Sequential(torch.nn.Linear(64, 40), torch.nn.BatchNorm1d(40), torch.nn.Linear(40, 64)).eval()

    def distance() -> float:
        with torch.no_grad():
            return float((other(torch.eye(64)) - body(torch.eye(64))).square().mean())

    def loss(state: DecodedTensors) -> float:
        other.load_state_dict(state)
        return distance()

    report = kolmo.shrink(body, tmp_path / "m", kolmo.MaxLoss(1e-4, loss))
    assert {one.name for one in report.tensors if one.kind == "coded"} == {"0.weight", "2.weight"}
    assert {one.name for one in report.tensors if one.kind == "raw"} >= {"1.running_mean", "1.num_batches_tracked"}
    other.load_state_dict(kolmo.load(tmp_path / "m", framework="pt"))
    assert 0.9e-4 < distance() <= 1e-4


STORIES = """Once upon a time, there was a little girl named Lily. She loved to play outside in the park. One day, she
saw a big dog. The dog was sad because it lost its ball. Lily wanted to help the dog. They looked under the tree and
found it.

Tom and his mom went to the store. Tom saw a red toy car and wanted it. His mom said, "You can have it if you are
good." Tom was very happy. He said thank you and gave his mom a big hug. They went home and played with the car.

One day, a little bird was flying in the sky. It saw a shiny rock on the ground. The bird picked it up and took it to
its nest. The other birds were happy to see the rock. They all became friends and played together every day.
"""


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    pytest.importorskip("pyarrow")
    path = tmp_path / "corpus.jsonl"
    documents = [story.replace("\n", " ").strip() for story in STORIES.split("\n\n")]
    path.write_text("".join(json.dumps({"content": one}) + "\n" for one in documents), "utf-8")
    return path


@kernels
def test_bits_per_character(
    tmp_path: Path, folder_of: Callable[[str], Path], corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is reported is what the expanded folder has, and the model was loaded once."""
    from kolmo.evaluation.evaluate import evaluate
    from kolmo.predictors.language_models.torch_models import backend as torch_backend

    folder, loaded, load = folder_of("stories"), list[Any](), torch_backend.load

    def counted(*given: Any, **named: Any) -> Any:
        loaded.append(given)
        return load(*given, **named)

    monkeypatch.setattr(torch_backend, "load", counted)
    arguments = ["--max-delta-bpc", "0.2", "--corpus", str(corpus), "--limit", "3", "--device", "cpu", "--json"]
    result = run("shrink", folder, "-o", tmp_path / "m", *arguments)
    assert result.return_value == 0, result.output
    budget = json.loads(result.output)["budget"]
    facts = budget["facts"]
    assert len(loaded) == 1
    assert (facts["corpus"], facts["mode"], facts["documents"], facts["characters"]) == ("corpus", "strict", 3, 684)
    assert facts["delta"] == budget["loss"] == pytest.approx(facts["after"] - facts["before"])
    assert facts["low"] <= budget["loss"] <= facts["high"]
    assert 0 < budget["loss"] <= 0.2
    shutil.copytree(folder, tmp_path / "again")
    kolmo.expand(tmp_path / "m", tmp_path / "again" / "model.safetensors", force=True)
    found = evaluate([f"hf:{folder}", f"hf:{tmp_path / 'again'}"], str(corpus), limit=3, device="cpu")
    assert found[0].bits_per_character == pytest.approx(facts["before"], abs=1e-6)
    assert found[1].bits_per_character == pytest.approx(facts["after"], abs=1e-6)


@kernels
def test_names_without_their_prefix_and_other_weights(
    tmp_path: Path, folder_of: Callable[[str], Path], corpus: Path
) -> None:
    from safetensors.numpy import load_file, save_file

    from kolmo.weights.choice.bpc import BitsPerCharacter

    folder = tmp_path / "gpt2"
    shutil.copytree(folder_of("gpt2"), folder)
    tensors = {k.removeprefix("transformer."): v for k, v in load_file(folder / "model.safetensors").items()}
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    report = kolmo.shrink(folder, tmp_path / "m", kolmo.MaxDeltaBpc(0.3, str(corpus), limit=2, device="cpu"))
    assert report.budget
    assert 0 != report.budget.loss <= 0.3
    save_file({**tensors, "spare.weight": tensors["wte.weight"] + 1}, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(KolmoError, match=r"'spare.weight' is not a parameter .*; keep it exact, by the argument keep"):
        kolmo.shrink(folder, tmp_path / "n", kolmo.MaxDeltaBpc(0.3, str(corpus), limit=2, device="cpu"))
    with pytest.raises(KolmoError, match=r"mode llama\.cpp gives no bits per character"):
        BitsPerCharacter(folder, str(corpus), mode="llama.cpp")
    with pytest.raises(KolmoError, match="needs a folder of transformers"):
        kolmo.shrink(SOURCE, tmp_path / "n", kolmo.MaxDeltaBpc(0.3, str(corpus)))
    assert not (tmp_path / "n").exists()


@kernels
def test_pruning_spends_too(tmp_path: Path, folder_of: Callable[[str], Path], corpus: Path) -> None:
    way: dict[str, Any] = {"corpus": str(corpus), "limit": 3, "device": "cpu"}
    report = kolmo.shrink(
        folder_of("stories"), tmp_path / "m", kolmo.MaxDeltaBpc(0.5, **way), selection=kolmo.Selection(prune=0.05)
    )
    assert report.budget
    assert report.budget.before != 0
    with pytest.raises(KolmoError, match="pruning alone has a loss of"):
        kolmo.shrink(
            folder_of("stories"), tmp_path / "n", kolmo.MaxDeltaBpc(0.01, **way), selection=kolmo.Selection(prune=0.7)
        )
