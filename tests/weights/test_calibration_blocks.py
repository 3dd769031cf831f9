"""Calibration block by block: the blocks of networks, samples on their way through them, weights for changed inputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import kolmo
from harness.models import tiny
from kolmo.errors import ShrinkWarning
from kolmo.native.dispatch import SLOW
from kolmo.progress import no_phases
from kolmo.weights.calibration import calibrate, sequence
from kolmo.weights.calibration.blocks import Blocks, Walk, find
from kolmo.weights.calibration.factors import CORRECTED_PART, Factor, correction, factorise
from kolmo.weights.calibration.moments import Inputs, Moments, recording
from kolmo.weights.calibration.network import Held, bind
from kolmo.weights.sources.checkpoint import open_checkpoint

torch = pytest.importorskip("torch")
kernels = pytest.mark.skipif(SLOW, reason="trellises by the score take minutes without the C kernels")
nn: Any = torch.nn


def seeded(make: Any) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return make().eval()


def bound_of(model: Any) -> Any:
    checkpoint = open_checkpoint(model)
    return bind(model, checkpoint, [name for name, one in checkpoint.tensors.items() if len(one.shape) > 1])


def whole_run(model: Any, bound: Any, sample: Any) -> dict[str, list[Any]]:
    with torch.no_grad(), recording(bound) as rows:
        model(sample)
    return rows


def walked(model: Any, blocks: Blocks, bound: Any, samples: list[Any]) -> list[dict[str, list[Any]]]:
    """The inputs of all layers where all samples pass one block before the next."""
    walk: Walk = Walk(model, blocks, samples)
    found: list[dict[str, list[Any]]] = [{} for _ in samples]
    for k in range(len(blocks.modules)):
        for number in range(len(samples)):
            for _ in range(2):  # what the first time changes in place must not matter
                with recording(blocks.within(k, bound)) as rows:
                    walk.run(k, number, stays=True)
            walk.run(k, number)
            found[number] |= rows
    return found


def same(a: dict[str, list[Any]], b: dict[str, list[Any]]) -> bool:
    return a.keys() == b.keys() and all(
        len(x) == len(b[name]) and all(map(torch.equal, x, b[name])) for name, x in a.items()
    )


class Skipping(nn.Module):  # type: ignore[misc]
    """The last block gets what the first one returned, as in a U-Net."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.ModuleList([nn.Linear(48, 40), nn.Linear(40, 40)])
        self.up = nn.Linear(80, 48)

    def forward(self, given: Any) -> Any:
        first = self.down[0](given)
        return self.up(torch.cat([first, torch.relu(self.down[1](first))], -1))


class Twice(nn.Module):  # type: ignore[misc]
    """A block that is called several times."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(48, 48), nn.Linear(48, 48)])

    def forward(self, given: Any) -> Any:
        for layer in [*self.layers, *self.layers]:
            given = torch.tanh(layer(given))
        return given


class Outside(nn.Linear):  # type: ignore[misc]
    """A layer that is itself no member of any list, but has one."""

    def __init__(self) -> None:
        super().__init__(48, 48)
        self.more = nn.ModuleList([nn.Linear(48, 48), nn.Linear(48, 48)])

    def forward(self, given: Any) -> Any:
        given = super().forward(given)
        for layer in self.more:
            given = layer(given)
        return given


def changing() -> Any:
    """A block changes what the block before it returned, in place."""
    return nn.Sequential(nn.Linear(48, 48), nn.Sequential(nn.ReLU(inplace=True), nn.Linear(48, 48)), nn.Linear(48, 40))


@pytest.mark.parametrize(
    ("make", "count", "keeps_all"),
    [
        (changing, 3, False),
        (Skipping, 3, True),
        (Twice, 1, False),
        (Outside, 1, False),
        (lambda: nn.Linear(48, 40), 1, False),
    ],
)
def test_blocks(make: Any, count: int, keeps_all: bool) -> None:
    """Layers get the same inputs, bit by bit, as in a whole run; a network without blocks is one."""
    model = seeded(make)
    samples = list(torch.randn(3, 5, 48, generator=torch.Generator().manual_seed(1)))
    bound = bound_of(model)
    blocks = find(model, bound, samples[0])
    assert (len(blocks.modules), blocks.keeps_all) == (count, keeps_all)
    assert sorted([*blocks.first, *(name for names in blocks.names for name in names)]) == sorted(bound)
    assert (blocks.first == ()) == (count > 1)
    for sample, rows in zip(samples, walked(model, blocks, bound, samples), strict=True):
        assert same(rows, whole_run(model, bound, sample))
    assert all("forward" not in vars(module) for module in model.modules())
    assert not any(module._forward_pre_hooks for module in model.modules())


@pytest.mark.parametrize("family", ["gpt2", "gpt_neox", "llama", "mistral", "qwen2"])
def test_blocks_of_families(tmp_path: Path, family: str) -> None:
    """Layers of language models are blocks, and a tied output matrix is coded before them."""
    transformers = pytest.importorskip("transformers")
    folder = tiny(tmp_path / "model", family)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    checkpoint = open_checkpoint(folder)
    bound = bind(model, checkpoint, [name for name, one in checkpoint.tensors.items() if len(one.shape) == 2])
    samples = [{"input_ids": torch.arange(3, 3 + length)[None] * 7 % 290} for length in (20, 33)]
    blocks = find(model, bound, samples[0])
    assert not blocks.keeps_all
    assert len(blocks.modules) == model.config.num_hidden_layers + 1  # and the output layer
    assert all(one.tables for name, one in bound.items() if name in blocks.first)
    found = walked(model, blocks, bound, samples)
    for sample, rows in zip(samples, found, strict=True):
        with torch.no_grad(), recording(bound) as wanted:
            model(**sample)
        assert same(rows, wanted)


def test_corrected_weights_are_nearer() -> None:
    """W + W C is half-way to the solution of least squares, and W itself where inputs did not change."""
    draw = np.random.default_rng(1)
    x, w = draw.standard_normal((200, 12)), draw.standard_normal((5, 12))
    z = x + 0.3 * draw.standard_normal(x.shape) @ draw.standard_normal((12, 12))
    h = z.T @ z / len(z)
    factor = factorise(h, 1e-9)
    found = w + w @ correction(h, z.T @ (x - z) / len(z), factor)
    wanted = np.linalg.lstsq(z, x @ w.T, rcond=None)[0].T
    assert np.allclose(found - w, CORRECTED_PART * (wanted - w), atol=1e-4)
    assert not correction(h, np.zeros((12, 12)), factor).any()
    useless = Factor(factor.feedback, factor.importance, 1.0)
    assert not correction(h, z.T @ (x - z), useless).any()


def test_shifts_of_the_same_rows_only() -> None:
    """A layer that gets chosen rows, as an expert, has none."""
    model = seeded(lambda: nn.ModuleDict({"router": nn.Linear(48, 40), "expert": nn.Linear(48, 40)}))
    bound = bound_of(model)
    x = torch.randn(20, 48, generator=torch.Generator().manual_seed(1))

    def run(given: Any, count: int) -> None:
        model["router"](given)
        model["expert"](given[:count].clone())

    with recording(bound) as rows:
        run(x, 7)
    sums = Inputs()
    with sums.watching(bound, rows):
        run(x * 0.5, 7)
    assert list(sums.shifts) == ["router.weight"]
    assert np.allclose(sums.shifts["router.weight"], 0.25 * (x.T @ x).numpy(), rtol=1e-4, atol=1e-4)
    assert sums.rows == {"router.weight": 20, "expert.weight": 7}


def test_weights_come_back() -> None:
    model = seeded(changing)
    bound, checkpoint = bound_of(model), open_checkpoint(model)
    before = {name: (p.data_ptr(), p.clone()) for name, p in model.named_parameters()}
    held = Held(bound, checkpoint, kept=True)
    for name in bound:
        held.put(name, bytes(checkpoint.tensors[name].size))
    held.release(bound)
    assert not model[0].weight.any()
    with held.originally():
        assert torch.equal(model[0].weight, before["0.weight"][1])
    assert not model[0].weight.any()
    held.restore()
    assert all(
        (p.data_ptr(), True) == (before[n][0], torch.equal(p, before[n][1])) for n, p in model.named_parameters()
    )


def test_memory_is_that_of_a_block(tmp_path: Path) -> None:
    """Only importances remain of blocks that are through, also in the file."""
    model = seeded(changing)
    samples, bound = [torch.randn(9, 48)] * 4, bound_of(model)
    blocks = find(model, bound, samples[0])
    network = sequence.Network(model, samples)
    found = calibrate.measure(network, bound, blocks, 0.05, tmp_path / "moments.npz", no_phases)
    again = Moments.load(tmp_path / "moments.npz")
    for one in (found, again):
        assert one.inputs.covariances == {}
        assert set(one.importance) == set(bound)
        assert list(one.inputs.leaders) == list(bound)
        assert (one.block, one.measured) == (3, 4)


@kernels
def test_blocks_lose_less(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind coded blocks, with corrected weights, a deep network loses less than measured as it is."""

    def make() -> Any:
        parts = [part for _ in range(6) for part in (nn.Linear(64, 64), nn.Tanh())]
        return nn.Sequential(*parts)

    model = seeded(make)
    draw = torch.Generator().manual_seed(1)
    mixing = torch.randn(64, 64, generator=draw)
    samples = [torch.randn(64, 64, generator=draw) @ mixing for _ in range(16)]

    def loss_of(name: str) -> float:
        report = kolmo.shrink(model, tmp_path / name, kolmo.Bits(2), calibrate=samples[:12])
        assert 1.95 < report.coded.bits <= 2
        other = make()
        other.load_state_dict(kolmo.load(tmp_path / name, framework="pt"))
        with torch.no_grad():
            return sum(float((other(one) - model(one)).square().mean()) for one in samples[12:])

    by_blocks = loss_of("blocks")
    monkeypatch.setattr(calibrate, "find", lambda model, bound, sample: Blocks.whole(model, bound))
    assert by_blocks < 0.95 * loss_of("whole")


class Chain(nn.Module):  # type: ignore[misc]
    """A block of six layers with inputs of their own, and one that nothing reaches."""

    def __init__(self) -> None:
        super().__init__()
        self.idle = nn.Linear(32, 32)
        self.steps = nn.ModuleList([nn.Linear(32, 32) for _ in range(6)])

    def forward(self, given: Any) -> Any:
        for step in self.steps:
            given = given + torch.tanh(step(given))
        return given


class Chains(nn.Module):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([Chain(), Chain()])

    def forward(self, given: Any) -> Any:
        return self.layers[1](self.layers[0](given))


@kernels
def test_groups_of_a_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first three groups of layers are coded one by one, the rest together, idle layers last; weights come back."""
    model, groups = seeded(Chains), []
    code = sequence._Pass._code

    def noted(self: Any, names: Any, inputs: Any) -> None:
        groups.append([name.removesuffix(".weight") for name in names])
        code(self, names, inputs)

    monkeypatch.setattr(sequence._Pass, "_code", noted)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    samples = list(torch.randn(4, 24, 32, generator=torch.Generator().manual_seed(1)))
    with pytest.warns(ShrinkWarning, match="no sample reached them .* 'layers.0.idle.weight'"):
        report = kolmo.shrink(model, tmp_path / "small", kolmo.Bits(3), calibrate=samples)
    assert report.coded.bits <= 3
    steps = [[f"layers.{k}.steps.{i}" for i in range(6)] for k in range(2)]
    each = [[*([one] for one in steps[k][:3]), [*steps[k][3:], f"layers.{k}.idle"]] for k in range(2)]
    assert groups[:9] == [[], *each[0], *each[1]]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
