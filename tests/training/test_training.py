"""Training: cells, texts, models, the loop and its interruptions, products, `kolmo train`."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs torch: pip install 'kolmo-codelength[train]'")
import click
from click.testing import CliRunner

import kolmo
from kolmo.cli import group
from kolmo.errors import KolmoError
from kolmo.predictors import model_locations
from kolmo.predictors.embedded import network, network_file
from kolmo.progress import Progress
from kolmo.training import loop, optim, validation
from kolmo.training.monitor import Monitor, Status
from kolmo.training.networks import cells, models
from kolmo.training.networks.models import GatedRecurrent, ModelShape, NetworkShape
from kolmo.training.networks.transformer import TRANSFORMERS, Transformer, TransformerShape
from kolmo.training.products.export import quantise
from kolmo.training.products.folder import RunFolder
from kolmo.training.run import Job, choose_dtype, train
from kolmo.training.settings import Budget, Settings, compare
from kolmo.training.texts import data
from kolmo.training.texts.vocabulary import ByteVocabulary

WORDS = ("the", "of", "and", "to", "in", "a", "is", "that", "for", "it", "was", "on", "with", "which", "this", "had")
RECURRENT = NetworkShape(2, 64, 32, 32, ((2, 6),))
TRANSFORMER = TransformerShape(layers=2, width=32, heads=4, context=32)
SIZES = ["--layers", "2", "--state", "64", "--embedding", "32", "--slot", "32", "--tables", "2:6"]
FAST = ["--lanes", "4", "--window", "32", "--budget", "24steps", "--dtype", "fp32", "-T", "1"]
LINES = b"".join(b"%d bottles of beer on the wall\n" % (n % 100) for n in range(2500))


def prose(size: int, seed: int) -> bytes:
    """Words in no order, lines of ten."""
    draw = random.Random(seed)
    words = " ".join(draw.choice(WORDS) + ("\n" if n % 10 == 9 else "") for n in range(size // 3))
    return words.encode()[:size]


@pytest.fixture(autouse=True)
def _few_validations(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    monkeypatch.setattr(loop, "MAX_VALIDATIONS", 4)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.txt").write_bytes(prose(70_000, 1))
    (tmp_path / "b.txt").write_bytes(LINES)
    (tmp_path / "extra.txt").write_bytes(prose(999, 2))
    return tmp_path


def settings(budget: int = 24, **changes: Any) -> Settings:
    return dataclasses.replace(Settings(Budget(budget, "steps"), lanes=4, steps=32), **changes)


def corpus(folder: Path) -> data.TrainingCorpus:
    return data.open_training_corpus([(folder / "a.txt", 2.0), (folder / "b.txt", 1.0)])


# Cells


def cell_results(dtype: Any, native: bool, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    monkeypatch.setattr(cells, "NATIVE", native)
    torch.manual_seed(3)
    x = (torch.randn(9, 5, 64) * 3).requires_grad_()
    z = torch.randn(9, 5, 3 * 64).to(dtype).requires_grad_()
    bias, before = torch.randn(64).requires_grad_(), torch.randn(5, 64)
    u = cells.normalise(x, 24.0, True, dtype)
    smooth = cells.normalise(x, 16.0, False, dtype)
    y, last = cells.recur(z, bias, before)
    weights = (torch.randn(9, 5, 64) for _ in range(3))
    sum((part.float() * w).sum() for part, w in zip((u, smooth, y), weights, strict=True)).backward()
    assert u.dtype == y.dtype == dtype
    assert bool((u.float() == u.float().round()).all())
    assert not last.requires_grad
    return [u, smooth, y, last, x.grad, z.grad, bias.grad]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
@pytest.mark.parametrize("threads", [1, 2])
def test_native_cells_are_torch_cells(dtype: Any, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    if not cells.NATIVE:
        pytest.skip("the C kernels are not built")
    torch.set_num_threads(threads)
    native, plain = (cell_results(dtype, choice, monkeypatch) for choice in (True, False))
    close = 2e-5 if dtype == torch.float32 else 2e-2
    for ours, theirs in zip(native, plain, strict=True):
        torch.testing.assert_close(ours.float(), theirs.float(), rtol=close, atol=close)


@pytest.mark.parametrize("steps", [1, 2, 3, 7, 64, 100])
def test_scans_agree(steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(steps)
    keep, add, up = torch.rand(steps, 3, 5), torch.randn(steps, 3, 5), torch.randn(steps, 3, 5)
    before = torch.randn(3, 5)
    torch.testing.assert_close(cells.scan_pairs(keep, add), cells.scan_steps(keep, add))
    k, a, h = keep.clone().requires_grad_(), add.clone().requires_grad_(), before
    rows = []
    for t in range(steps):
        h = k[t] * h + a[t]
        rows.append(h)
    expected = torch.stack(rows)
    expected.backward(up)
    for scan in (cells.scan_pairs, cells.scan_steps):
        monkeypatch.setattr(cells, "_scan", scan)
        k2, a2 = keep.clone().requires_grad_(), add.clone().requires_grad_()
        found = cells._Scan.apply(k2, a2, before)
        found.backward(up)
        torch.testing.assert_close(found, expected)
        torch.testing.assert_close(k2.grad, k.grad)
        torch.testing.assert_close(a2.grad, a.grad)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_trains(folder: Path) -> None:
    job = Job(folder / "run", RECURRENT, [(folder / "a.txt", None)], settings(dtype="bfloat16"), device="cuda")
    assert train(job).finished


# Texts


def test_held_out_pieces_are_never_read(folder: Path) -> None:
    source = data.open_source(folder / "a.txt")
    marked = source.text.copy()
    for first, last in source.held_out:
        marked[first:last] = 255
    sampler = data.Sampler([dataclasses.replace(source, text=marked)], lanes=8, steps=64, seed=1)
    before = None
    for _ in range(200):
        symbols, jumped = sampler.batch()
        assert symbols.shape == (65, 8)
        assert symbols.max() < 255
        if before is not None:
            assert (symbols[0] == before)[~jumped].all()
        before = symbols[-1]
    passage = source.passage()
    assert len(passage.pieces) == data.HELD_OUT_PIECES
    assert sum(map(len, passage.pieces)) == len(source.text) // 20 // 4 * 4


def test_sampler_goes_on(folder: Path) -> None:
    one, other = (data.Sampler(corpus(folder).sources, 4, 32, seed=5) for _ in range(2))
    for _ in range(100):
        one.batch()
    other.restore(json.loads(json.dumps(one.state())))
    for _ in range(100):
        for ours, theirs in zip(one.batch(), other.batch(), strict=True):
            assert (ours == theirs).all()
    with pytest.raises(ValueError, match="other lanes"):
        data.Sampler(corpus(folder).sources, 5, 32, seed=5).restore(one.state())


def test_weights_are_shares(folder: Path) -> None:
    sampler = data.Sampler(corpus(folder).sources, lanes=16, steps=64, seed=1)
    beer = [bytes(lane).count(b"beer") > 0 for _ in range(400) for lane in sampler.batch()[0].T]
    assert 0.23 < np.mean(beer) < 0.43


def test_folders_are_sources(folder: Path) -> None:
    deep = folder / "d" / "e"
    deep.mkdir(parents=True)
    (deep / "2").write_bytes(LINES)
    (folder / "d" / "1").write_bytes(b"first")
    (folder / "d" / ".hidden").write_bytes(b"never")
    source = data.open_source(folder / "d")
    assert source.text.tobytes() == b"first" + LINES
    assert source.weight == source.size == 5 + len(LINES)


def test_a_run_inside_its_source_goes_on(folder: Path) -> None:
    texts = folder / "texts"
    (texts / "runs").mkdir(parents=True)
    (texts / "a.txt").write_bytes(LINES)
    (texts / "runs" / "z.txt").write_bytes(b"beside the run")
    command = ["texts", *SIZES, *FAST, "-o", "texts/runs/one"]
    assert run(*command)[0] == 0
    begun = json.loads((texts / "runs" / "one" / "config.json").read_text())
    assert begun["sources"][0]["bytes"] == len(LINES) + len(b"beside the run")
    (texts / "runs" / "one" / "card.md").unlink()  # as if killed just before
    assert run(*command)[0] == 0
    assert (texts / "runs" / "one" / "card.md").exists()
    assert only_line([*command[:-1], "texts"]).startswith("kolmo: texts: is the folder of the run as well as a source")


def test_text_that_is_too_short(folder: Path) -> None:
    with pytest.raises(KolmoError, match=r"extra.txt: 999 bytes are too few .* 65536"):
        data.open_source(folder / "extra.txt")
    with pytest.raises(KolmoError, match=r"a.txt: too short for windows of 30000"):
        data.Sampler([data.open_source(folder / "a.txt")], 1, 30_000, 1)


def test_byte_pairs_lose_nothing(folder: Path) -> None:
    pytest.importorskip("tokenizers", reason="pip install tokenizers")
    from kolmo.training.texts.vocabulary import BytePairs

    vocabulary = BytePairs.train(corpus(folder).sources, 300)
    assert vocabulary.size == 300
    assert vocabulary.lengths.max() > 2
    again = BytePairs.load(vocabulary.text(), vocabulary.name)
    for text in (
        b"",
        LINES[:999],
        "Größe: 3 µm\r\n\n".encode(),
        bytes(range(256)) * 2,
        b"\xff\xfe the \xc3",
        b"\xe2\x82",
    ):
        symbols = vocabulary.encode(np.frombuffer(text, np.uint8))
        assert vocabulary.decode(symbols) == text
        assert vocabulary.lengths[symbols].sum() == len(text)
        assert (again.encode(np.frombuffer(text, np.uint8)) == symbols).all()
    encoded = data.encode(corpus(folder), vocabulary)
    for source, plain in zip(encoded.sources, corpus(folder).sources, strict=True):
        pieces = [vocabulary.decode(piece) for piece in source.passage().pieces]
        assert pieces == [piece.tobytes() for piece in plain.passage().pieces]
        assert vocabulary.decode(source.text) == plain.text.tobytes()


# Models


def predictions(shape: ModelShape, symbols: Any, parts: int = 1) -> Any:
    """Logits of an untrained model whose head is not zero, from all steps in so many passes."""
    torch.manual_seed(7)
    model = models.build(shape)
    torch.nn.init.normal_(model.head)
    feed, state = loop.Feed(model, symbols.shape[1], "cpu"), model.start(symbols.shape[1])
    with torch.no_grad():
        passes: list[Any] = [model(*feed.take(part), state) for part in np.split(symbols, parts)]
    return torch.cat(passes)


@pytest.mark.parametrize(
    "shape",
    [RECURRENT, TRANSFORMER, dataclasses.replace(TRANSFORMER, positions="learned")],
    ids=["recurrent", "sinusoidal", "learned"],
)
def test_the_future_does_not_change_the_past(shape: ModelShape) -> None:
    symbols = np.random.default_rng(1).integers(0, 256, (32, 3), np.uint8)
    changed = symbols.copy()
    changed[20, 1] ^= 1
    before, after = predictions(shape, symbols), predictions(shape, changed)
    torch.testing.assert_close(before[:20], after[:20], rtol=0, atol=1e-5)
    torch.testing.assert_close(before[:, [0, 2]], after[:, [0, 2]], rtol=0, atol=1e-5)
    assert bool(((before[20:, 1] - after[20:, 1]).abs().amax(-1) > 1e-4).all())


@pytest.mark.parametrize("native", [True, False])
def test_state_goes_over_windows(native: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cells, "NATIVE", native and cells.NATIVE)
    symbols = np.random.default_rng(2).integers(0, 256, (64, 3), np.uint8)
    torch.testing.assert_close(predictions(RECURRENT, symbols), predictions(RECURRENT, symbols, 2))


def test_transformers_have_the_sizes_they_are_named_by() -> None:
    for name, parameters in {"200k": 200e3, "800k": 800e3, "3.2m": 3.2e6}.items():
        model = Transformer(TRANSFORMERS[f"transformer-{name}"])
        assert abs(model.count() / parameters - 1) < 0.05
        assert model.shape.context == 2048
        assert {id(p) for p in (*model.matrices(), *model.rest())} == {id(p) for p in model.parameters()}
    assert TRANSFORMERS["transformer-200k"] == TransformerShape(layers=4, width=64, heads=4, context=2048)


def test_shapes_come_back_from_json() -> None:
    for shape in (RECURRENT, TRANSFORMER):
        assert models.shape_from(json.loads(json.dumps(models.build(shape).describe()))) == shape
    for nonsense in ({}, {"kind": "oracle"}, {"kind": "transformer", "depth": 1}):
        with pytest.raises(KolmoError):
            models.shape_from(nonsense)


# The loop


def test_muon_makes_singular_values_one() -> None:
    torch.manual_seed(1)
    for shape in ((2, 24, 16), (1, 16, 40)):
        values = torch.linalg.svdvals(optim.orthogonalise(torch.randn(shape), torch.float32))
        assert 0.5 < float(values.min()) < float(values.max()) < 1.3


def test_schedule() -> None:
    rates = [optim.schedule(i / 1000, 0.01, 0.04) for i in range(1001)]
    assert rates[0] < 0.02
    assert max(rates) == pytest.approx(1, abs=0.01)
    assert rates.index(max(rates)) == pytest.approx(10, abs=1)
    assert rates[-1] == pytest.approx(0.04)


def test_it_learns(folder: Path) -> None:
    text = data.open_training_corpus([(folder / "b.txt", None)])
    trainer = loop.Trainer(RECURRENT, settings(150, steps=64, lanes=8), text, RunFolder(make(folder / "run")))
    assert trainer.run()
    assert trainer.validation(lambda: False)["b.txt"] < 1.0
    assert trainer.seen == 150 * 64 * 8


def test_the_state_reaches_further_than_gradients(folder: Path) -> None:
    """A line's first letter comes back at its end, 9 bytes later: over windows of 8 only the state can tell."""
    draw = random.Random(4)
    (folder / "copy.txt").write_text("".join(f"{x}01234567{x}\n" for x in (draw.choice("ab") for _ in range(7000))))
    text = data.open_training_corpus([(folder / "copy.txt", None)])
    trainer = loop.Trainer(RECURRENT, settings(300, steps=8, lanes=16), text, RunFolder(make(folder / "run")))
    trainer.run()
    assert (
        trainer.validation(lambda: False)["copy.txt"] * 11 < 1.4
    )  # one bit a line is chance; two, had the letter been forgotten


def make(folder: Path) -> Path:
    folder.mkdir()
    return folder


class Stopping(Monitor):
    """Stops a training politely, or as abruptly as a crash."""

    def __init__(self, stop: int, crash: int) -> None:
        self.last, self.stops_at, self.crashes_at = 0, stop, crash

    def step(self, status: Status) -> None:
        self.last = status.step
        if status.step == self.crashes_at:
            raise ZeroDivisionError

    def stop(self) -> bool:
        return self.last == self.stops_at


def log(folder: Path) -> list[dict[str, Any]]:
    return [{k: v for k, v in entry.items() if k != "seconds"} for entry in RunFolder(folder).entries()]


def test_killed_between_a_validation_and_the_next_checkpoint(folder: Path) -> None:
    run = RunFolder(folder / "one")
    made = loop.Trainer(RECURRENT, settings(), corpus(folder), run, save_every=0)
    make(folder / "one")
    while made._due() == 0:
        made._learn()
    made.save()
    made._validate()
    again = loop.Trainer(RECURRENT, settings(), corpus(folder), run, save_every=0)
    saved = run.load()
    assert saved is not None
    again.restore(saved)
    assert again.validated == again._due() == 1


@pytest.mark.parametrize("shape", [RECURRENT, TRANSFORMER], ids=["recurrent", "transformer"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_interrupted_is_as_good_as_in_one_go(shape: ModelShape, dtype: str, folder: Path) -> None:
    def trainer(name: str, monitor: Monitor | None = None) -> loop.Trainer:
        run = RunFolder(folder / name)
        made = loop.Trainer(shape, settings(dtype=dtype), corpus(folder), run, save_every=0, monitor=monitor)
        if saved := run.load():
            made.restore(saved)
        return made

    make(folder / "one")
    whole = trainer("one")
    assert whole.run()
    make(folder / "many")
    assert not trainer("many", Stopping(stop=7, crash=-1)).run()
    with pytest.raises(ZeroDivisionError):
        trainer("many", Stopping(stop=-1, crash=20)).run()
    with (folder / "many" / "log.jsonl").open("a") as file:
        file.write('{"step": 21, "train": 0.0}\n{"step": 20, "tr')  # what a crash may leave
    last = trainer("many")
    assert last.step == 19
    assert last.run()
    assert log(folder / "many") == log(folder / "one")
    assert [entry["step"] for entry in log(folder / "one") if "validation" in entry] == [6, 12, 18, 24]
    for ours, theirs in zip(whole.model.parameters(), last.model.parameters(), strict=True):
        assert torch.equal(ours, theirs)


# Validation


def ragged(*sizes: int) -> list[data.Passage]:
    """A passage of pieces for each size, the last ones shorter."""
    text = np.frombuffer(prose(40_000, 9), np.uint8)
    pieces = [[text[k * 5000 : k * 5000 + size - 7 * k] for k in range(3)] for size in sizes]
    return [data.Passage(f"of {size}", tuple(found)) for size, found in zip(sizes, pieces, strict=True)]


def spread_out(model: Any) -> Any:
    """A model whose head is not zero, so that texts differ."""
    torch.manual_seed(5)
    torch.nn.init.normal_(model.head, 0, 0.1)
    return model


@pytest.mark.parametrize("shape", [RECURRENT, TRANSFORMER], ids=["recurrent", "transformer"])
@pytest.mark.parametrize("at_once", [64, 1 << 14])
def test_passages_side_by_side_cost_what_each_costs(
    shape: ModelShape, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside others, in portions, and counted by hand from the model's logits."""
    model, passages = spread_out(models.build(shape)), ragged(100, 60, 900, 33)
    alone = [validation.validate(model, [p], ByteVocabulary(), torch.float32) for p in passages]
    monkeypatch.setattr(validation, "SYMBOLS_AT_ONCE", at_once)
    parts: list[int] = []
    together = validation.validate(model, passages, ByteVocabulary(), torch.float32, progress=parts.append)
    assert together is not None
    assert list(together) == [p.name for p in passages]
    for passage, one in zip(passages, alone, strict=True):
        assert one is not None
        assert together[passage.name] == pytest.approx(one[passage.name], rel=1e-5)
    assert min(parts) >= 0  # a portion may hold nothing but padding
    assert sum(parts) == validation.count_scored(passages)
    assert validation.validate(model, passages, ByteVocabulary(), torch.float32, lambda: True) is None
    assert not model.quantised
    bits = 0.0
    model.quantised = True
    for piece in passages[3].pieces:  # shorter than a Transformer's context: one window
        state, feed = model.start(1), loop.Feed(model, 1, "cpu")
        with torch.no_grad():
            logits = model(*feed.take(piece[:-1, None]), state)[:, 0].double()
        bits -= float(logits.log_softmax(-1)[torch.arange(len(piece) - 1), piece[1:].astype(int)].sum() / np.log(2))
    size = sum(len(piece) - 1 for piece in passages[3].pieces)
    assert together[passages[3].name] == pytest.approx(bits / size, rel=1e-5)


@pytest.mark.parametrize("threads", [1, 3])
def test_the_exact_network_scores_alike_by_kernels_and_by_torch(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(2)
    model, passages = spread_out(GatedRecurrent(RECURRENT)), ragged(700, 300, 90)
    weights = quantise(model)
    torch.set_num_threads(threads)
    found = []
    for slow in (False, True):
        monkeypatch.setattr(validation, "SLOW", slow)
        parts: list[int] = []
        found.append(validation.exact_scores(weights, passages, progress=parts.append))
        assert min(parts) >= 0  # a portion may hold nothing but padding
        assert sum(parts) == validation.count_scored(passages)
    assert found[0] == pytest.approx(found[1], rel=1e-12)
    floats = validation.validate(model, passages, ByteVocabulary(), torch.float32)
    assert found[0] == pytest.approx(floats, rel=0.02)


def held_out(sources: int) -> list[data.Passage]:
    """As much as so many large sources hold out."""
    piece = np.zeros(data.HELD_OUT_BYTES // data.HELD_OUT_PIECES, np.uint8)
    return [data.Passage(str(n), (piece,) * data.HELD_OUT_PIECES) for n in range(sources)]


@pytest.mark.parametrize("sources", [1, 14])
@pytest.mark.parametrize("budget", ["1MB", "4MB", "30MB", "900MB", "2000steps", "3m", "2h"])
def test_validation_is_in_proportion_to_the_budget(
    budget: str, sources: int, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Symbols that all validations of a run score, each at its place, against those that are trained on."""
    monkeypatch.undo()
    chosen = Settings(Budget.parse(budget))
    speed = 20_000  # symbols a second of training, and three times as many of validation
    trainer = loop.Trainer(RECURRENT, chosen, corpus(folder), RunFolder(make(folder / "run")))
    trainer.passages = held_out(sources)
    trainer.validations = trainer._validations()
    monkeypatch.setattr(trainer, "epochs", lambda: 0.0)  # as of a text that is never read again
    scored = []
    while trainer.progress < 1:
        trainer.step += 1
        trainer.seen += 32 * 256
        trainer.spent += 32 * 256 / speed
        if trainer._due() > trainer.validated:
            each = trainer.portion()
            trainer.validated, trainer.pace = trainer._due(), 3.0 * speed
            scored.append(validation.count(validation.beginnings(trainer.passages, each)))
    assert 4 <= len(scored) == trainer.validations <= 32
    least = sources * data.HELD_OUT_PIECES * validation.SHORTEST_PIECE
    assert sum(scored[:-1]) <= max(0.2 * trainer.seen, least * (len(scored) - 1))
    assert scored[-1] <= max(0.1 * trainer.seen, least)
    if budget == "900MB":  # as ever: nothing is gained by less
        assert scored == [sources << 16] * 32


def test_a_slow_validation_scores_less(folder: Path) -> None:
    """With a budget of time the measured pace counts; with one of steps or bytes the clock has no say."""
    portions = {}
    for budget in ("10m", "300MB"):
        trainer = loop.Trainer(RECURRENT, Settings(Budget.parse(budget)), corpus(folder), RunFolder(folder / budget))
        trainer.passages, trainer.step, trainer.seen, trainer.spent = held_out(14), 4000, 4000 << 13, 300.0
        for pace in (None, 1e6, 2000.0, 1.0):
            trainer.pace = pace
            portions[budget, pace] = trainer.portion()
    assert portions["300MB", None] == portions["300MB", 1e6] == portions["300MB", 1.0]
    assert portions["10m", None] == portions["10m", 1e6] is None
    assert portions["10m", 2000.0] == 512  # a quarter (of 4 validations) of 10 % of 600 s at 2,000 symbols a second
    assert portions["10m", 1.0] == 256


def test_a_checkpoint_of_more_validations_still_validates(folder: Path) -> None:
    """Runs of earlier versions counted up to 32 of them, where this one makes 4."""
    run = RunFolder(make(folder / "run"))
    trainer = loop.Trainer(RECURRENT, settings(), corpus(folder), run, monitor=Stopping(stop=13, crash=-1))
    assert not trainer.run()
    saved = run.load()
    assert saved is not None
    again = loop.Trainer(RECURRENT, settings(), corpus(folder), run)
    again.restore({**saved, "validated": 17})
    assert again.validated == again._due() == 2
    assert again.run()
    assert [entry["step"] for entry in log(folder / "run") if "validation" in entry] == [6, 12, 18, 24]


def test_the_log_and_the_card_say_how_much_was_scored(folder: Path) -> None:
    (folder / "long.txt").write_bytes(prose(600_000, 3))
    job = Job(folder / "run", RECURRENT, [(folder / "long.txt", None)], settings())
    assert train(job).finished
    found = [entry for entry in log(folder / "run") if "validation" in entry]
    held = 600_000 // 20 // 4 * 4
    assert [(entry["scored"], entry["held_out"], entry["piece"]) for entry in found] == [(1024, held, 256)] * 4
    assert f"its beginning, 1,024 of {held:,} bytes in all." in (folder / "run" / "card.md").read_text()


COUNTED = ("validating", "scoring the exact network")


class Phases(Monitor):
    """Writes down what a training says it is doing."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def step(self, status: Status) -> None:
        self.begin("training")

    @contextmanager
    def phase(self, name: str, total: int = 0) -> Iterator[Progress]:
        self.begin(name)
        done: list[int] = []
        yield done.append
        assert sum(done) == (total if name in COUNTED else 0)

    def begin(self, name: str) -> None:
        if self.names[-1:] != [name]:
            self.names.append(name)


def test_phases_are_named(folder: Path) -> None:
    phases = Phases()
    train(Job(folder / "run", RECURRENT, [(folder / "a.txt", None)], settings()), phases)
    assert phases.names[:3] == ["reading the texts", "training", "validating"]
    assert phases.names.count("validating") == 4
    end = ["validating", "saving", "exporting", "scoring the exact network", "learning the priors"]
    assert phases.names[-5:] == end


def test_a_loss_that_is_no_number_ends_it(folder: Path) -> None:
    trainer = loop.Trainer(RECURRENT, settings(), corpus(folder), RunFolder(make(folder / "run")))
    with torch.no_grad():
        trainer.model.head_bias[3] = float("nan")
    with pytest.raises(KolmoError, match="lower the argument rate"):
        trainer.run()


def test_budgets() -> None:
    for text, seconds in (("2h", 7200), ("90m", 5400), ("1.5h", 5400), ("10s", 10), ("1d", 86400)):
        assert Budget.parse(text) == Budget(seconds, "seconds")
    assert Budget.parse("300MB") == Budget(300 << 20, "bytes")
    assert Budget.parse("2000steps") == Budget(2000, "steps")
    for budget in (Budget(5400.5, "seconds"), Budget(3 << 40, "bytes"), Budget(7, "steps")):
        assert Budget.parse(str(budget)) == budget
    for nonsense in ("", "2", "300M", "h", "-1h", "0s", "1e3s", "٣h", "2 weeks"):
        with pytest.raises(ValueError, match=r"budget|learn"):
            Budget.parse(nonsense)


def test_differences_are_named() -> None:
    old = {"settings": {"lanes": 4, "seed": 1}, "sources": [{"name": "a", "bytes": 5}]}
    assert compare(old, old) is None
    assert compare(old, {**old, "settings": {"lanes": 8, "seed": 1}}) == "settings lanes 4, not 8"
    assert compare(old, {**old, "sources": [{"name": "a", "bytes": 6}]}) == "sources a bytes 5, not 6"
    assert compare(old, {**old, "sources": []}) == "1 sources, not 0"


def test_dtype_follows_the_machine() -> None:
    assert choose_dtype("cuda") == "bfloat16"
    assert choose_dtype("cpu") in ("bfloat16", "float32")


# The command


def run(*arguments: str) -> tuple[int, str]:
    """Status, and all that was printed."""
    result = CliRunner().invoke(group, ["train", *arguments], standalone_mode=False)
    if isinstance(result.exception, click.ClickException):
        return result.exception.exit_code, result.exception.format_message()
    if result.exception is not None:
        raise result.exception
    return result.return_value, result.output


def only_line(arguments: list[str]) -> str:
    status, output = run(*arguments)
    assert status == 1
    assert output.startswith("kolmo: ")
    assert output.count("\n") == 1
    return output


def test_from_text_to_network(folder: Path) -> None:
    command = ["a.txt=2", "b.txt=1", *SIZES, *FAST, "--validate", "extra.txt", "-o", "run", "--json"]
    status, output = run(*command)
    assert status == 0
    *entries, end = map(json.loads, output.splitlines())
    assert [entry["bytes"] for entry in entries if "validation" in entry] == [768, 1536, 2304, 3072]
    assert end["finished"]
    for scores in end["scores"].values():
        assert scores["exact"] == pytest.approx(scores["float"], abs=0.01)
    assert set(end["scores"]) == {"a.txt", "b.txt", "extra.txt"}
    weights = network_file.load(folder / "run" / "network.safetensors")
    assert weights.shape == RECURRENT
    assert len(weights.priors) == network.prior_tensors()[-1].end
    bits = (2 * end["scores"]["a.txt"]["exact"] + end["scores"]["b.txt"]["exact"]) / 3
    assert weights.about == {"texts": "a.txt, b.txt", "trained_bytes": "3072", "bits_per_byte": f"{bits:.4f}"}
    assert model_locations.recall(weights.fingerprint[:4]) == str((folder / "run" / "network.safetensors").resolve())
    card = (folder / "run" / "card.md").read_text()
    for fact in (
        data.sha256(data.read_text(folder / "b.txt")),
        "kolmo train a.txt=2 b.txt=1 -o run --layers 2",
        f"{torch.__version__}",
        f"{end['scores']['b.txt']['exact']:.4f}",
        "3,072 bytes in 24 steps",
        weights.fingerprint.hex(),
        "kolmo compress -m network:PATH FILE",
    ):
        assert fact in card
    model = models.load(folder / "run")
    assert isinstance(model, GatedRecurrent)
    assert model.shape == RECURRENT
    if (folder / "run" / "curve.png").exists():
        assert (folder / "run" / "curve.png").read_bytes().startswith(b"\x89PNG")

    text = LINES[:700]
    (folder / "today.log").write_bytes(text)
    *_, first, second = run(*command[:-1], "-v")[1].splitlines()
    typed = first.partition(": ")[2].strip().removeprefix("kolmo ").replace("FILE", "today.log").split()
    assert typed == ["compress", "-m", "network:run", "today.log"]
    assert "give run/network.safetensors along: kolmo decompress --model PATH" in second
    assert CliRunner().invoke(group, typed, standalone_mode=False).return_value == 0
    assert kolmo.decompress((folder / "today.log.kmo").read_bytes()) == text

    made = (folder / "run" / "network.safetensors").stat()
    status, output = run(*command)  # there is nothing left to do
    assert status == 0
    assert json.loads(output.splitlines()[-1]) == end
    assert (folder / "run" / "network.safetensors").stat() == made

    (folder / "run" / "card.md").unlink()  # as if killed just before
    assert run(*command)[0] == 0
    assert (folder / "run" / "card.md").read_text() == card
    for changes, difference in (
        (["--seed", "2"], "settings seed 1, not 2"),
        (["--budget", "25steps"], "settings budget 24steps, not 25steps"),
        (["--layers", "3"], "model layers 2, not 3"),
    ):
        assert f"run: was begun with {difference}" in only_line([*command[:-1], *changes])
    (folder / "b.txt").write_bytes(LINES[::-1])
    assert "sources b.txt sha256" in only_line(command[:-1])


def test_going_on_from_other_weights(folder: Path) -> None:
    assert run("a.txt", *SIZES, *FAST, "-o", "first")[0] == 0
    exact = models.build(RECURRENT)
    models.fill(exact, folder / "first" / "network.safetensors")
    trained = models.load(folder / "first")
    for ours, theirs in zip(exact.parameters(), trained.parameters(), strict=True):
        if theirs.ndim > 1 and theirs.shape[-1] != 1 << 6:
            torch.testing.assert_close(ours, theirs, rtol=0, atol=0.08 * float(theirs.detach().abs().max()))
    for init in ("first", "first/checkpoint.pt", "first/network.safetensors"):
        out = init.replace("/", "-") + "-on"
        status, output = run("a.txt", *SIZES, *FAST, "--budget", "1steps", "--json", "--init", init, "-o", out)
        assert status == 0
        assert json.loads(output.splitlines()[0])["train"] < 5
        assert "init_sha256" in json.loads((folder / out / "config.json").read_text())
    assert "another kind or size" in only_line(["a.txt", "--model", "tiny", *FAST, "--init", "first", "-o", "x"])
    assert "no weights" in only_line(["a.txt", "--init", "nowhere", "-o", "x"])
    assert "no weights of kolmo's" in only_line(["a.txt", "--init", "a.txt", "-o", "x"])


def test_byte_pairs_in_a_transformer(folder: Path) -> None:
    pytest.importorskip("tokenizers", reason="pip install tokenizers")
    pytest.importorskip("safetensors", reason="pip install safetensors")
    arguments = ["b.txt", "--model", "transformer-200k", *FAST, "--validate", "extra.txt", "-o", "run"]
    status, output = run(*arguments, "--vocabulary", "bpe:300", "--json")
    assert status == 0
    scores = json.loads(output.splitlines()[-1])["scores"]
    assert scores["b.txt"]["float"] < 4  # of bits per byte: the average symbol is about three bytes
    model = models.load(folder / "run")
    assert isinstance(model, Transformer)
    assert model.shape == dataclasses.replace(TRANSFORMERS["transformer-200k"], context=32, vocabulary=300)
    assert json.loads((folder / "run" / "tokenizer.json").read_text())["model"]["type"] == "BPE"
    kept = (folder / "run" / "tokenizer.json").read_bytes(), (folder / "run" / "tokens.npz").read_bytes()
    assert "settings vocabulary bpe:300, not bpe:301" in only_line([*arguments, "--vocabulary", "bpe:301"])
    (folder / "run" / "checkpoint.pt").unlink()
    alone = models.load(folder / "run")  # from model.safetensors
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), alone.parameters(), strict=True))
    assert kept == ((folder / "run" / "tokenizer.json").read_bytes(), (folder / "run" / "tokens.npz").read_bytes())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.txt"], "none.txt: no such file or folder"),
        (["extra.txt"], "extra.txt: 999 bytes are too few"),
        (["a.txt", "./a.txt"], "two texts have this name"),
        (["a.txt", "--validate", "none.txt"], "none.txt: no such file"),
        (["a.txt", "--window", "50000"], "too short for windows of 50000"),
        (["a.txt", "--rate", "nan"], "rate"),
        (["a.txt", "-o", "a.txt"], "a.txt: "),
    ],
)
def test_errors_are_one_line(arguments: list[str], message: str, folder: Path) -> None:
    assert message in only_line([*SIZES, *FAST, "-o", "run", *arguments])
    assert not (folder / "run" / "config.json").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["a.txt"],
        ["a.txt=0", "-o", "run"],
        ["a.txt=nan", "-o", "run"],
        ["a.txt=1", "b.txt", "-o", "run"],
        ["a.txt", "-o", "run", "--budget", "long"],
        ["a.txt", "-o", "run", "--state", "65"],
        ["a.txt", "-o", "run", "--tables", "2"],
        ["a.txt", "-o", "run", "--tables", "9:9"],
        ["a.txt", "-o", "run", "--vocabulary", "bpe:300"],
        ["a.txt", "-o", "run", "--vocabulary", "bpe:3"],
        ["a.txt", "-o", "run", "--positions", "learned"],
        ["a.txt", "-o", "run", "--model", "transformer-200k", "--slot", "32"],
        ["a.txt", "-o", "run", "--model", "oracle"],
    ],
)
def test_usage_errors(arguments: list[str], folder: Path) -> None:
    assert run(*arguments)[0] == 2
    assert not (folder / "run").exists()


def test_missing_extras(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "torch", None)
        assert "pip install 'kolmo-codelength[train]'" in only_line(["a.txt", "-o", "run"])
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "tokenizers", None)
        given = ["a.txt", "-o", "run", "--model", "transformer-200k", "--vocabulary", "bpe:300"]
        assert "pip install 'kolmo-codelength[train]'" in only_line(given)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    status, output = run("a.txt", *SIZES, *FAST, "--budget", "2steps", "-o", "run")
    assert status == 0
    assert output.count("\n") == 1
    assert "pip install matplotlib" in output
    assert (folder / "run" / "network.safetensors").exists()


def test_help_does_not_load_torch() -> None:
    code = "import sys\nfrom kolmo.cli import main\ntry: main(['train', '-h'])\nexcept SystemExit: print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "numpy"} & set(done.stdout.split())


def test_the_terminal_shows_progress(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kolmo.cli.console.is_terminal", lambda stream: True)
    status, output = run("a.txt", *SIZES, *FAST, "-o", "run")
    assert status == 0
    assert "bits/byte" in output
    for phase in ("reading the texts", "training", "validating", "saving", "exporting", "scoring the exact network"):
        assert f"run: {phase} " in output
    assert "100%" in output or "B/s" in output
    assert "network.safetensors : " in output
    monkeypatch.setattr("kolmo.cli.console.is_terminal", lambda stream: False)
    assert run("a.txt", *SIZES, *FAST, "-o", "quiet") == (0, "")


def test_one_training_in_a_folder_at_a_time(folder: Path) -> None:
    if sys.platform == "win32":
        pytest.skip("no locks there")
    with RunFolder(folder / "run").locked():
        assert "run: another training is at work there" in only_line(["a.txt", *SIZES, *FAST, "-o", "run"])


def test_damaged_and_old_checkpoints(folder: Path) -> None:
    arguments = ["a.txt", *SIZES, *FAST, "-o", "run"]
    assert run(*arguments)[0] == 0
    checkpoint, config = folder / "run" / "checkpoint.pt", folder / "run" / "config.json"
    content = torch.load(checkpoint, weights_only=True)
    for key in ("seen", "validated", "losses"):  # what the first checkpoints did not hold
        del content[key]
    content["step"] = 12
    torch.save(content, checkpoint)
    config.unlink()
    status, output = run(*arguments, "--json")
    assert status == 0
    assert json.loads(output.splitlines()[-1])["bytes"] == 24 * 32 * 4
    assert config.exists()
    whole = checkpoint.read_bytes()
    checkpoint.write_bytes(whole[: len(whole) // 2])
    assert "checkpoint.pt: damaged; remove it" in only_line(arguments)
    torch.save({"model": {}}, checkpoint)
    config.unlink()
    assert "the checkpoint of another run" in only_line(arguments)
    config.write_text("{")
    assert "config.json: damaged" in only_line(arguments)


def start(arguments: list[str]) -> subprocess.Popen[bytes]:
    path = os.pathsep.join([str(Path(kolmo.__file__).parents[1])])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "kolmo", "train", *arguments]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def wait_for(ready: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    for _ in range(1200):
        if ready():
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    raise AssertionError("never came")


def test_ctrl_c_and_kill(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()  # the other process validates as often as it likes
    monkeypatch.chdir(folder)
    arguments = ["a.txt", *SIZES, *FAST, "--budget", "150steps", "-o"]
    checkpoint = folder / "run" / "checkpoint.pt"
    process = start([*arguments, "run", "--save-every", "0"])
    wait_for(checkpoint.exists, process)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert output == b""
    assert errors.startswith(b"kolmo: run: interrupted at ")
    assert errors.count(b"\n") == 1
    assert b"to go on: kolmo train a.txt -o run --layers 2" in errors
    first = torch.load(checkpoint, weights_only=True)["step"]
    assert 0 < first < 150
    process = start([*arguments, "run", "--save-every", "0"])
    time_of_first = checkpoint.stat().st_mtime_ns
    wait_for(lambda: checkpoint.stat().st_mtime_ns > time_of_first, process)
    process.kill()
    process.communicate()
    assert first < torch.load(checkpoint, weights_only=True)["step"] < 150
    assert run(*arguments, "run")[0] == 0
    assert run(*arguments, "whole")[0] == 0
    assert log(folder / "run") == log(folder / "whole")
    one, other = (folder / name / "network.safetensors" for name in ("run", "whole"))
    assert one.read_bytes() == other.read_bytes()
