"""Trainings that begin to overfit: they go back, and do the end of their schedule."""

from __future__ import annotations

import dataclasses
import json
import math
import random
from pathlib import Path
from typing import Any

import pytest

torch: Any = pytest.importorskip("torch", reason="training needs torch: pip install 'kolmo-codelength[train]'")
from click.testing import CliRunner  # noqa: E402

from kolmo.cli import group  # noqa: E402
from kolmo.errors import KolmoError  # noqa: E402
from kolmo.training import loop, validation  # noqa: E402
from kolmo.training.early_stop import EarlyStop, tail_progress, tail_steps  # noqa: E402
from kolmo.training.monitor import Monitor, Status  # noqa: E402
from kolmo.training.networks.models import NetworkShape  # noqa: E402
from kolmo.training.products.folder import RunFolder  # noqa: E402
from kolmo.training.settings import Budget, Settings  # noqa: E402
from kolmo.training.texts import data  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")

SHAPE = NetworkShape(2, 64, 32, 32, ((2, 6),))
BUDGET = 60  # steps, with a validation after every third
SCRIPT = 3.0, 2.0, 1.9, 2.5, 2.4, 2.3, 2.2, 2.1, 2.0  # bits per byte of the validations, from the first on
BEST, STOPPED = 9, 21  # steps: the third validation, and the fourth after it


@pytest.fixture
def text(tmp_path: Path) -> Path:
    draw = random.Random(1)
    path = tmp_path / "notes.txt"
    path.write_text("\n".join("".join(draw.choices("abcdefgh ", k=40)) for _ in range(2000)))
    return path


class Scripted(loop.Trainer):
    """A trainer whose validations come out as in the script; it remembers its weights at some steps."""

    script = SCRIPT

    def __init__(self, text: Path, run: RunFolder, monitor: Monitor | None = None, **changes: Any) -> None:
        settings = Settings(Budget(BUDGET, "steps"), lanes=4, steps=32)
        settings = dataclasses.replace(settings, **changes)
        super().__init__(SHAPE, settings, data.open_training_corpus([(text, None)]), run, save_every=0, monitor=monitor)
        self.validations = BUDGET // 3
        self.weights: dict[int, Any] = {}
        self.rates: list[float] = []

    def epochs(self) -> float:
        return 0.0

    def measure(self) -> dict[str, Any]:
        self.weights[self.step] = {name: value.clone() for name, value in self.model.state_dict().items()}
        number = min(self.step // 3, len(self.script)) - 1
        return {"validation": {"notes.txt": self.script[number]}, "piece": None}

    def learn(self, progress: float) -> Any:
        self.rates.append(progress)
        if self.tail is not None and self.step == self.tail[0]:
            self.weights[-1] = {name: value.clone() for name, value in self.model.state_dict().items()}
        return super().learn(progress)


class Said(Monitor):
    """Remembers what it is told, and stops or crashes at a step."""

    def __init__(self, stop: int = -1, crash: int = -1) -> None:
        self.lines: list[str] = []
        self.last, self.stops_at, self.crashes_at = 0, stop, crash

    def say(self, message: str) -> None:
        self.lines.append(message)

    def step(self, status: Status) -> None:
        self.last = status.step
        if status.step == self.crashes_at:
            raise ZeroDivisionError

    def stop(self) -> bool:
        return self.last == self.stops_at


def folder(path: Path) -> RunFolder:
    path.mkdir(exist_ok=True)
    return RunFolder(path)


def log(run: RunFolder) -> list[dict[str, Any]]:
    return [{key: value for key, value in entry.items() if key != "seconds"} for entry in run.entries()]


def test_it_goes_back_to_the_best_weights_and_to_the_end_of_the_schedule(text: Path, tmp_path: Path) -> None:
    said = Said()
    trainer = Scripted(text, folder(tmp_path / "run"), said)
    assert trainer.run()
    assert trainer.tail == (STOPPED, tail_steps(BEST))
    assert trainer.step == STOPPED + tail_steps(BEST) == 29
    for name, value in trainer.weights[BEST].items():
        assert torch.equal(trainer.weights[-1][name], value)
        assert not torch.equal(trainer.weights[STOPPED][name], value) or not value.any()
    assert trainer.rates[:STOPPED] == pytest.approx([step / BUDGET for step in range(STOPPED)])
    assert trainer.rates[STOPPED:] == pytest.approx([0.85 + 0.15 * step / 8 for step in range(8)])
    assert trainer.progress == 1
    assert [entry["back_to"] for entry in log(trainer.folder) if "back_to" in entry] == [BEST]
    assert trainer.trained["back_to"] == BEST
    assert said.lines == [
        f"{tmp_path / 'run'}: what is held out has become worse since step 9, so the rest of the budget would do harm: "
        "back to the weights of that step, and to the end of the schedule"
    ]


@pytest.mark.parametrize(
    ("script", "changes"),
    [
        (SCRIPT, {"early_stop": False}),
        ((3.0, 2.0, 1.9, 1.93, 1.92, 1.91, 1.93, 1.93, 1.92), {}),  # chance
        ((3.0, 2.0, 1.9, 2.5, 2.5, 2.5, 1.91, 2.5, 2.5, 2.5, 1.91), {}),  # not four in a row
        ((3.0, 2.9, 2.8, 2.7, 2.6, 2.5, 2.4), {}),
    ],
)
def test_it_does_not_go_back(
    script: tuple[float, ...], changes: Any, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Scripted, "script", script)
    trainer = Scripted(text, folder(tmp_path / "run"), **changes)
    assert trainer.run()
    assert (trainer.step, trainer.tail, trainer.trained["back_to"]) == (BUDGET, None, None)
    assert not trainer.early.state()["content"]


@pytest.mark.parametrize("crash", [False, True])
@pytest.mark.parametrize("at", [BEST, BEST + 1, STOPPED - 1, STOPPED, STOPPED + 1, STOPPED + 7])
def test_interrupted_is_as_good_as_in_one_go(at: int, crash: bool, text: Path, tmp_path: Path) -> None:
    whole = Scripted(text, folder(tmp_path / "one"))
    assert whole.run()
    run = folder(tmp_path / "many")
    first = Scripted(text, run, Said(**{"crash" if crash else "stop": at}))
    if crash:
        with pytest.raises(ZeroDivisionError):
            first.run()
    else:
        assert not first.run()
    last = Scripted(text, run)
    saved = run.load()
    assert saved is not None
    last.restore(saved)
    assert last.run()
    assert log(run) == log(whole.folder)
    for ours, theirs in zip(whole.model.parameters(), last.model.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_killed_after_the_validation_that_ends_it(text: Path, tmp_path: Path) -> None:
    """The log has the validation, and that it went back; the checkpoint is of the step before."""
    whole = Scripted(text, folder(tmp_path / "one"))
    assert whole.run()
    run = folder(tmp_path / "many")
    first = Scripted(text, run, Said(stop=STOPPED))
    assert not first.run()
    first._validate()
    assert first.tail is not None
    last = Scripted(text, run)
    saved = run.load()
    assert saved is not None
    last.restore(saved)
    assert last.tail == first.tail
    assert last.run()
    assert log(run) == log(whole.folder)


@pytest.mark.parametrize(
    "damage",
    [
        {"tail": (STOPPED, 0)},
        {"tail": (STOPPED, 10**9)},
        {"tail": (10**9, 8)},
        {"tail": 3},
        {"early": {"step": BEST}},
        {"early": None},
    ],
)
def test_a_damaged_checkpoint_is_refused_in_one_line(damage: Any, text: Path, tmp_path: Path) -> None:
    run = folder(tmp_path / "run")
    assert not Scripted(text, run, Said(stop=STOPPED + 1)).run()
    saved = run.load()
    assert saved is not None
    with pytest.raises(KolmoError, match="the checkpoint of another run"):
        Scripted(text, run).restore({**saved, **damage})


def test_best_weights_that_do_not_fit_are_refused_in_one_line(text: Path, tmp_path: Path) -> None:
    run = folder(tmp_path / "run")
    assert not Scripted(text, run, Said(stop=BEST + 1)).run()
    saved = run.load()
    assert saved is not None
    broken: list[dict[str, Any]] = [{}, {"model": {}, "optimisers": []}]
    for content in broken:
        again = Scripted(text, run)
        again.restore({**saved, "early": {**saved["early"], "content": content}})
        with pytest.raises(KolmoError, match="the checkpoint of another run"):
            again.run()


def test_only_validations_of_the_same_length_are_compared() -> None:
    early = EarlyStop()

    def judge(step: int, bits: float, piece: int | None) -> bool:
        return early.judge(step, {"validation": {"a": bits, "b": bits}, "piece": piece}, dict)

    assert not judge(1, 1.0, 512)
    assert not any(judge(step, 2.0, 512) for step in (2, 3, 4))
    assert not judge(5, 2.5, 1024)  # of more text
    assert early.step == 5
    assert not any(judge(step, 2.6, 1024) for step in (6, 7, 8))
    assert judge(9, 2.6, 1024)


def test_the_end_of_a_schedule() -> None:
    assert tail_steps(850) == 150
    assert tail_steps(1) == 8
    assert (tail_progress(0, 150), tail_progress(150, 150)) == (0.85, 1.0)


@pytest.mark.parametrize("budget", ["2MB", "8MB", "100MB", "10m"])
def test_a_text_that_is_read_again_is_validated_more_often(budget: str, text: Path, tmp_path: Path) -> None:
    """So that what is best is seen, even where the budget's share would come after many readings; that costs little."""
    corpus = data.open_training_corpus([(text, None)])
    trainer = loop.Trainer(SHAPE, Settings(Budget.parse(budget)), corpus, folder(tmp_path / "run"))
    size, places, scored = len(corpus.sources[0].text), [], 0
    while trainer.progress < 1:
        trainer.step += 1
        trainer.seen += 32 * 256
        trainer.spent += 32 * 256 / 40_000
        if trainer._due() > trainer.validated:
            places.append(trainer.seen / size)
            scored += validation.count(validation.beginnings(trainer.passages, trainer.portion()))
            trainer.validated = trainer._due()
    readings = [2 ** (k / 2) for k in range(int(2 * math.log2(trainer.seen / size)) + 1)]
    assert all(any(r <= place < r + 0.2 for place in places) for r in readings)
    assert len(places) <= trainer.validations + len(readings)
    assert scored <= 0.25 * trainer.seen


def test_the_command_says_so_and_can_be_told_not_to(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measure(self: loop.Trainer) -> dict[str, Any]:
        return {"validation": {"notes.txt": 1.0 + self.step / 10}, "scored": 1, "held_out": 1, "piece": None}

    monkeypatch.setattr(loop.Trainer, "measure", measure)
    monkeypatch.setattr(loop.Trainer, "_validations", lambda self: 30)
    arguments = ["train", str(text), "--layers", "2", "--state", "64", "--embedding", "32", "--slot", "32"]
    arguments += ["--tables", "2:6", "--lanes", "4", "--window", "32", "--budget", "60steps", "--dtype", "fp32"]
    run = tmp_path / "run"
    found = CliRunner().invoke(group, [*arguments, "-T", "1", "-o", str(run)])
    assert found.exit_code == 0, found.output
    assert "what is held out has become worse since step 2" in found.output
    card = (run / "card.md").read_text()
    assert "| stopped early | held-out data had become worse since step 2;" in card
    assert "early_stop True" in card
    assert json.loads((run / "log.jsonl").read_text().splitlines()[-1])["step"] == 2 + 4 * 2 + 8
    refused = CliRunner().invoke(
        group, [*arguments, "-T", "1", "-o", str(run), "--no-early-stop"], standalone_mode=False
    )
    assert refused.return_value == 1
    assert "was begun with settings early_stop True, not False" in refused.output
    whole = tmp_path / "whole"
    found = CliRunner().invoke(group, [*arguments, "-T", "1", "--no-early-stop", "-o", str(whole), "--json"])
    assert found.exit_code == 0, found.output
    assert json.loads((whole / "log.jsonl").read_text().splitlines()[-1])["step"] == 60
    assert "stopped early" not in (whole / "card.md").read_text()
