"""Calibration: factors of covariances, codes with scales, moments of networks, interrupted runs, refusals."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import kolmo
from harness.models import TEXT, tiny
from independent.weights import bitshift as independent
from kolmo.cli import group
from kolmo.errors import CorruptError, KolmoError, ShrinkWarning
from kolmo.hyperfunctions import BitshiftOptions, TorusOptions, TrellisOptions
from kolmo.hyperfunctions.bitshift import Bitshift
from kolmo.hyperfunctions.trellis import Trellis
from kolmo.native.dispatch import SLOW
from kolmo.weights.calibration.coder import Guide, encode_guided
from kolmo.weights.calibration.factors import MAX_DAMPING, Factor, factorise
from kolmo.weights.calibration.network import bind
from kolmo.weights.calibration.samples import _places
from kolmo.weights.format import scales
from kolmo.weights.format.codes import decode, encode
from kolmo.weights.format.reader import ShrunkFile
from kolmo.weights.format.record import Coded, _is_second_part
from kolmo.weights.sources.checkpoint import open_checkpoint
from kolmo.weights.sources.dtypes import from_floats, to_floats

torch = pytest.importorskip("torch")
kernels = pytest.mark.skipif(SLOW, reason="trellises by the score take minutes without the C kernels")


def covariance(n: int, seed: int = 1) -> Any:
    """Correlated inputs of very different size."""
    draw = np.random.default_rng(seed)
    mixed = draw.standard_normal((n, n)) * np.exp(draw.standard_normal(n))
    return mixed @ mixed.T / n


def loss(errors: Any, h: Any) -> float:
    """Sum over outputs of e H e^T; errors have one row per output."""
    return float(np.einsum("oi,ij,oj->", errors, h, errors))


WIDE = [(48, 96), (96, 128), (128, 64)]


def network(seed: int = 0, sizes: Sequence[tuple[int, int]] = ((48, 96), (96, 80), (80, 40))) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        parts: list[Any] = []
        for inputs, outputs in sizes:
            parts += [torch.nn.Linear(inputs, outputs), torch.nn.ReLU()]
        return torch.nn.Sequential(*parts[:-1])


def batches(count: int, seed: int = 5) -> list[Any]:
    """Correlated inputs for `network`."""
    draw = np.random.default_rng(seed)
    mixing = np.random.default_rng(2).standard_normal((48, 48)) * np.exp(np.random.default_rng(3).standard_normal(48))
    return [torch.tensor(draw.standard_normal((32, 48)) @ mixing, dtype=torch.float32) for _ in range(count)]


def test_factor_is_the_loss() -> None:
    """The sum over inputs of d (e + feedback)^2 is e H e^T."""
    h, e = covariance(40), np.random.default_rng(7).standard_normal((3, 40))
    found = factorise(h, 1e-9)
    parts = found.importance * np.square(e + e @ found.feedback)
    assert parts.sum() == pytest.approx(loss(e, h), rel=1e-5)
    assert not np.tril(found.feedback).any()


@pytest.mark.parametrize("kind", ["dead", "twice", "one sample", "none", "huge"])
def test_singular_covariances(kind: str) -> None:
    """Dead inputs, duplicates, too few samples: a factor with positive importance, whatever the damping takes."""
    h = covariance(24)
    if kind == "dead":
        h[3] = h[:, 3] = 0
    elif kind == "twice":
        h[5], h[:, 5] = h[4], h[:, 4]
        h[5, 5] = h[4, 4]
    elif kind == "one sample":
        h = np.outer(h[0], h[0])
    elif kind == "none":
        h = np.zeros((24, 24))
    else:
        h[7] *= 1e6
        h[:, 7] *= 1e6
    found = factorise(h.astype(np.float32), 0.01)
    assert found.damping <= MAX_DAMPING
    assert (found.importance > 0).all()
    assert np.isfinite(found.feedback).all()
    if kind == "dead":  # it may be needed on other text: coarse, but not lost
        assert found.importance[3] > 1e-4 * np.median(found.importance)


def test_a_covariance_that_is_not_one() -> None:
    h = covariance(8)
    h[0, 1] = h[1, 0] = 100 * h.max()
    assert factorise(h, 0.01).damping == MAX_DAMPING
    assert factorise(-h, 0.01).damping == MAX_DAMPING
    with pytest.raises(ValueError, match="finite"):
        factorise(np.full((2, 2), np.nan), 0.01)


@kernels
@pytest.mark.parametrize("by_input", [False, True])
@pytest.mark.parametrize("dtype", ["F32", "BF16"])
def test_codes_with_feedback(dtype: str, by_input: bool) -> None:
    """Decoded as the encoder foresaw, with much less loss than without a calibration; wild weights come back."""
    outputs, inputs = 90, 70
    weights = (np.random.default_rng(4).standard_normal((outputs, inputs)) * 0.05).astype(np.float32)
    stored = weights.T.copy() if by_input else weights.copy()
    stored[0, 1] = 2.0**100
    data = from_floats(stored.reshape(-1), dtype)
    values = to_floats(data, dtype)
    h = covariance(inputs)
    factor = factorise(h, 0.001)
    guide = Guide(factor.importance, np.linspace(0.5, 2, outputs), by_input)
    one = Coded(dtype, stored.shape, stored.shape[1], "0" * 16)
    code = encode_guided(one, data, values, Trellis(0.02), 0.04, guide, factor)
    assert (code.wild, code.transposed, code.base) == (1, int(not by_input), 0)
    assert 0 < code.scales < 200
    entry = Coded(dtype, stored.shape, stored.shape[1], "0" * 16, len(code.data), 0, 0, 1, code.scales, code.transposed)
    back = to_floats(decode(entry, code.data, code.by), dtype).reshape(stored.shape)
    assert back[0, 1] == 2.0**100
    error = back - values.reshape(stored.shape)
    error = error.T if by_input else error
    plain = Trellis(0.02).decode(Trellis(0.02).encode(weights), weights.shape) - weights
    assert loss(error, h) < 0.4 * loss(plain, h)
    damaged = bytearray(code.data)
    damaged[-code.scales - entry.tail + 3] ^= 1
    with pytest.raises(CorruptError):
        decode(entry, bytes(damaged), code.by)


@kernels
@pytest.mark.parametrize("by_input", [False, True])
@pytest.mark.parametrize("bits", [2, 3, 4])
def test_fixed_rates_with_feedback(bits: int, by_input: bool) -> None:
    """The payload is an ordinary one of the same size, with less loss; wild weights come back."""
    outputs, inputs = 96, 128
    weights = (np.random.default_rng(4).standard_normal((outputs, inputs)) * 0.05).astype(np.float32)
    weights[1, 0] = 2.0**100
    stored = weights.T.copy() if by_input else weights
    h = covariance(inputs)
    factor, function = factorise(h, 0.01), Bitshift(bits)
    guide = Guide(factor.importance, np.linspace(0.5, 2, outputs), by_input)
    one = Coded("F32", stored.shape, stored.shape[1], "0" * 16)
    data = stored.tobytes()
    plain, code = (
        encode(one, data, stored.reshape(-1), function, 0.04, None),
        encode_guided(one, data, stored.reshape(-1), function, 0.04, guide, factor),
    )
    assert (code.by, code.wild, code.scales, code.transposed) == (function, 1, 0, 0)
    assert len(code.data) == len(plain.data)
    losses = []
    for each in (plain, code):
        entry = Coded("F32", stored.shape, stored.shape[1], "0" * 16, len(each.data), 0, 0, 1)
        back = to_floats(decode(entry, each.data, function), "F32").reshape(stored.shape)
        near = independent.decode(each.data[: -entry.tail], *stored.shape).weights()
        assert np.array_equal(near[3], back[3])
        error = (back - stored).T if by_input else back - stored
        assert error[1, 0] == 0
        losses.append(loss(error, h))
    assert losses[1] < 0.8 * losses[0]


@kernels
@pytest.mark.filterwarnings("ignore:.*could be used")  # of three tensors no sum is quite 3.4 bits
def test_a_module_of_fixed_rate(tmp_path: Path) -> None:
    """At the same size the outputs lose less, and the file computes from its codes; bits in between follow losses."""
    model, fresh = network(sizes=WIDE), batches(1, seed=9)[0]

    def loss_of(path: Path) -> float:
        other = network(1, WIDE)
        kolmo.resident(other, path, activations="float")
        with torch.no_grad():
            return float((other(fresh) - model(fresh)).square().mean() / model(fresh).square().mean())

    for name, samples in (("plain", None), ("calibrated", batches(8))):
        report = kolmo.shrink(model, tmp_path / name, kolmo.Bits(3), hyperfunction="bitshift", calibrate=samples)
        if samples is None:
            assert [one.parameters.get("bits") for one in report.tensors if one.parameters] == [None, 3, 3]
    assert loss_of(tmp_path / "calibrated") < 0.7 * loss_of(tmp_path / "plain")
    assert (tmp_path / "calibrated").stat().st_size < 1.1 * (tmp_path / "plain").stat().st_size
    report = kolmo.shrink(model, tmp_path / "mixed", kolmo.Bits(3.4), hyperfunction="bitshift", calibrate=batches(8))
    assert len({one.parameters.get("bits") for one in report.tensors if one.parameters} - {None}) == 2


def test_a_code_that_is_not_smaller_is_the_tensor() -> None:
    weights = np.random.default_rng(4).standard_normal((32, 32)).astype(np.float16)
    factor = Factor(np.zeros((32, 32), np.float32), np.ones(32), 0.01)
    one = Coded("F16", (32, 32), 32, "0" * 16)
    data = weights.tobytes()
    for step in (1e-5, 2.0**-99):
        code = encode_guided(
            one,
            data,
            weights.astype(np.float32).ravel(),
            Trellis(step, 1),
            0.0,
            Guide(np.ones(32), np.ones(32)),
            factor,
        )
        assert code.by is None
        assert code.data == data


def test_scales() -> None:
    exponents = np.arange(-scales.MAX_EXPONENT, scales.MAX_EXPONENT + 1)
    assert (scales.nearest_exponents(scales.scales_of(exponents)) == exponents).all()
    packed = scales.pack(exponents[:7], exponents[-3:])
    rows, columns = scales.unpack(packed, (7, 3))
    assert (rows == exponents[:7]).all()
    assert (columns == exponents[-3:]).all()
    with pytest.raises(CorruptError):
        scales.unpack(packed, (7, 4))
    with pytest.raises(CorruptError, match="bounds"):
        scales.unpack(scales.pack(np.array([scales.MAX_EXPONENT + 1]), np.array([0])), (1, 1))
    assert np.isinf(scales.scaled(np.full((1, 1), 3e38, np.float32), np.array([8]), np.array([0]))).all()


@pytest.mark.parametrize(
    ("value", "good"),
    [
        ({"scales": 5}, True),
        ({"scales": 5, "transposed": 1, "wild": 2}, True),
        ({"wild": 2}, True),
        ({"base": 2}, True),
        ({"transposed": 1}, False),
        ({"scales": 5, "transposed": 2}, False),
        ({"scales": 5, "base": 2}, False),
        ({"scales": 0}, False),
        ({"scales": True}, False),
        ({"columns": 5}, False),
        ({}, False),
        ([5], False),
    ],
)
def test_second_part_of_an_entry(value: Any, good: bool) -> None:
    assert _is_second_part(value) == good


@kernels
@pytest.mark.parametrize("states", [1, 8])
def test_a_module_on_samples(tmp_path: Path, states: int) -> None:
    """The outputs on samples of the same kind lose much less, at the same size."""
    model, fresh = network(), batches(1, seed=9)[0]
    options = TrellisOptions(states)

    def loss_of(path: Path) -> float:
        other = network(1)
        other.load_state_dict(kolmo.load(path, framework="pt"))
        with torch.no_grad():
            return float((other(fresh) - model(fresh)).square().mean() / model(fresh).square().mean())

    kolmo.shrink(model, tmp_path / "plain", kolmo.Bits(3), hyperfunction=options)
    report = kolmo.shrink(model, tmp_path / "calibrated", kolmo.Bits(3), hyperfunction=options, calibrate=batches(8))
    assert 2.9 < report.coded.bits <= 3.0
    assert loss_of(tmp_path / "calibrated") < 0.5 * loss_of(tmp_path / "plain")
    assert model.training
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert [path.name for path in tmp_path.iterdir() if "calibration" in path.name] == []
    assert all(one.transposed for one in ShrunkFile(tmp_path / "calibrated").record.coded.values())


@kernels
def test_damaged_codes_of_an_interrupted_run_are_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = batches(8)
    kolmo.shrink(network(), tmp_path / "whole", kolmo.Bits(3), calibrate=samples)

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("kolmo.weights.shrink.compare", stop)  # all tensors are coded by then
        with pytest.raises(KeyboardInterrupt):
            kolmo.shrink(network(), tmp_path / "small", kolmo.Bits(3), calibrate=samples)
    codes = sorted((tmp_path / "small.calibration").glob("*/*.npz"))
    assert len(codes) > 3
    codes[0].write_bytes(b"")
    codes[1].write_bytes(codes[1].read_bytes()[:-40])
    middle = bytearray(codes[2].read_bytes())
    middle[len(middle) // 4] ^= 1
    codes[2].write_bytes(middle)
    kolmo.shrink(network(), tmp_path / "small", kolmo.Bits(3), calibrate=samples)
    assert (tmp_path / "small").read_bytes() == (tmp_path / "whole").read_bytes()


@kernels
def test_an_interrupted_run_goes_on(tmp_path: Path) -> None:
    """The sums that were kept are taken up, and the file is the same; other samples begin anew."""
    samples, calls = batches(16), 0

    class Counted(torch.nn.Sequential):  # type: ignore[misc, name-defined]
        def forward(self, given: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == limit:
                raise KeyboardInterrupt
            return super().forward(given)

    def shrink(given: Any) -> None:
        kolmo.shrink(Counted(*network()), tmp_path / "small", kolmo.Bits(3), calibrate=given, force=True)

    limit = -1
    shrink(samples)
    whole, count = (tmp_path / "small").read_bytes(), calls
    (tmp_path / "small").unlink()
    for part, saved in ((0.1, 0), (0.3, 1), (0.9, 2)):  # in importances, and in codes of the first and a later step
        calls, limit = 0, int(part * count)
        with pytest.raises(KeyboardInterrupt):
            shrink(samples)
        assert not (tmp_path / "small").exists()
        assert (tmp_path / "small.calibration" / "moments.npz").exists()
        assert min(len(list((tmp_path / "small.calibration").glob("*/"))), 2) == saved  # steps, perhaps a third one
        calls, limit = 0, -1
        shrink(samples)
        assert calls <= (0.5 if saved == 2 else 1) * count - 8  # samples with gradients
        assert (tmp_path / "small").read_bytes() == whole
        assert not (tmp_path / "small.calibration").exists()
        (tmp_path / "small").unlink()
    calls, limit = 0, int(0.9 * count)
    with pytest.raises(KeyboardInterrupt):
        shrink(samples)
    calls, limit = 0, -1
    shrink(batches(16, seed=6))
    assert calls >= 0.5 * count


def test_one_calibration_at_a_time_for_a_target(tmp_path: Path) -> None:
    """Another run would replace the sums, and remove the folder at its end."""
    told: list[str] = []

    class Impatient(torch.nn.Sequential):  # type: ignore[misc, name-defined]
        def forward(self, given: Any) -> Any:
            if not told:
                with pytest.raises(KolmoError, match=r"small\.calibration: another run calibrates there") as caught:
                    kolmo.shrink(network(), tmp_path / "small", kolmo.Bits(3), calibrate=batches(2), force=True)
                told.append(str(caught.value))
            return super().forward(given)

    kolmo.shrink(Impatient(*network()), tmp_path / "small", kolmo.Bits(3), calibrate=batches(2))
    assert len(told) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["small"]


def test_a_work_folder_of_someone_else(tmp_path: Path) -> None:
    (tmp_path / "small.calibration").mkdir()
    (tmp_path / "small.calibration" / "thesis.txt").write_text("mine")
    with pytest.raises(KolmoError, match="in the way"):
        kolmo.shrink(network(), tmp_path / "small", calibrate=batches(2))
    assert (tmp_path / "small.calibration" / "thesis.txt").read_text() == "mine"
    (tmp_path / "small.calibration" / "of.json").write_text('"of another one"')  # begun there, and left
    kolmo.shrink(network(), tmp_path / "small", calibrate=batches(2))
    assert [path.name for path in (tmp_path / "small.calibration").iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize("left", [[], [".kolmo-0123abcd.tmp"], ["moments.npz", "0123456789abcdef"]])
def test_a_work_folder_of_a_run_that_was_killed(tmp_path: Path, left: list[str]) -> None:
    """As it was made, and as it was removed: the file that says whose it is is not there."""
    folder = tmp_path / "small.calibration"
    folder.mkdir()
    for name in left:
        (folder / name).write_bytes(b"half")
    kolmo.shrink(network(), tmp_path / "small", kolmo.Bits(3), calibrate=batches(2))
    assert [path.name for path in tmp_path.iterdir()] == ["small"]


class Experts(torch.nn.Module):  # type: ignore[misc, name-defined]
    """A part that no sample reaches, an embedding, convolutions, and a parameter that no module of torch holds."""

    def __init__(self) -> None:
        super().__init__()
        self.table = torch.nn.Embedding(64, 32)
        self.line = torch.nn.Conv1d(32, 48, 3, padding=1)
        self.plane = torch.nn.Conv2d(1, 33, 7, stride=2, padding=3)
        self.used = torch.nn.Linear(48, 64, bias=False)
        self.idle = torch.nn.Linear(48, 64, bias=False)
        self.own = torch.nn.Parameter(torch.randn(64, 48) / 7)

    def forward(self, ids: Any, twice: bool = False) -> Any:
        hidden = self.line(self.table(ids).transpose(1, 2))
        plane = self.plane(hidden[:, None]).mean((1, 2, 3))
        rows = hidden.transpose(1, 2)
        return {"out": (self.used(rows) + rows @ self.own.T) * (2 if twice else 1) + plane[:, None, None]}


@kernels
def test_what_no_sample_reaches(tmp_path: Path) -> None:
    """It is coded as without a calibration, which the report says."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = Experts()
    samples: list[Any] = [(torch.arange(16)[None] * 3 % 64, True), {"ids": torch.arange(24)[None] % 64}]
    with pytest.warns(ShrinkWarning, match="no sample reached them .* 'own', 'idle.weight'"):
        report = kolmo.shrink(model, tmp_path / "small", kolmo.Bits(4), calibrate=samples)
    coded = ShrunkFile(tmp_path / "small").record.coded
    assert {name for name, one in coded.items() if one.scales} == {"line.weight", "plane.weight", "used.weight"}
    assert report.coded.bits <= 4
    model.load_state_dict(kolmo.load(tmp_path / "small", framework="pt"))


FAMILIES = {"gpt2": 9, "gpt_neox": 9, "llama": 15, "mistral": 15, "qwen2": 15}  # layers

PLAIN = {"gpt2": "transformer.wpe.weight", "llama": "model.embed_tokens.weight"}  # the embedding that is nothing else


@pytest.mark.parametrize("family", FAMILIES)
def test_families(tmp_path: Path, family: str) -> None:
    """All matrices of a language model are found, GPT-2's with one row per input."""
    transformers = pytest.importorskip("transformers")
    folder = tiny(tmp_path / "model", family)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    checkpoint = open_checkpoint(folder)
    names = [name for name, tensor in checkpoint.tensors.items() if len(tensor.shape) == 2]
    found = bind(model, checkpoint, names)
    assert names == list(found)
    assert sum(bool(one.layers) for one in found.values()) == FAMILIES[family]
    assert all(one.layers or one.tables for one in found.values())
    assert all(one.by_input == (family == "gpt2" and ".h." in f".{one.name}") for one in found.values())


@kernels
@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_a_folder_on_a_corpus(tmp_path: Path, family: str) -> None:
    transformers = pytest.importorskip("transformers")
    folder, small = tiny(tmp_path / "model", family), tmp_path / "small"
    (tmp_path / "texts.txt").write_text(TEXT, "utf-8")
    goal = ["--bits", "4", "--calibrate", tmp_path / "texts.txt", "--calibration-tokens", "600", "-q"]
    result = CliRunner().invoke(group, ["shrink", *map(str, [folder, "-o", small, *goal])], standalone_mode=False)
    assert not result.exception, result.output
    file = ShrunkFile(small)
    lossy = list(file.record.coded.items())
    assert 8 * sum(one.stored for _, one in lossy) <= 4 * sum(one.count for _, one in lossy)
    importlib.import_module("kolmo.transformers")

    model = transformers.AutoModelForCausalLM.from_pretrained(small)
    decoded = kolmo.load(small, framework="pt")
    held = {name.removeprefix("transformer."): value for name, value in model.state_dict().items()}
    for name, value in decoded.items():
        assert torch.equal(held[name.removeprefix("transformer.")], value), name
    assert [name for name, one in lossy if not one.scales] == [PLAIN[family]]


def test_windows_are_spread() -> None:
    texts = ["a" * 100, "b" * 50, "c" * 250]
    found = _places(texts, 400, 8, 0.0)
    assert [text[0] for text, _ in found] == ["a", "a", "b", "c", "c", "c", "c", "c"]
    assert all(0 <= at < len(text) for phase in np.arange(8) / 8 for text, at in _places(texts, 400, 8, phase))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda: {"goal": kolmo.Lossless()}, "Lossless exclude"),
        (lambda: {"goal": kolmo.Step(0.1)}, "Step exclude"),
        (lambda: {"selection": kolmo.Selection(prune=0.5)}, "prune exclude"),
        (lambda: {"hyperfunction": TorusOptions()}, "needs the trellis or bitshift"),
        (lambda: {"hyperfunction": BitshiftOptions(least_error=True)}, "least_error"),
        (lambda: {"hyperfunction": TrellisOptions(least_error=True)}, "least_error"),
        (lambda: {"goal": kolmo.MaxLoss(0.1, len, sensitivities=True)}, "sensitivities exclude"),
        (lambda: {"calibrate": kolmo.Calibration()}, "corpus or samples"),
        (lambda: {"calibrate": kolmo.Calibration("x", tokens=100)}, "window"),
        (lambda: {"calibrate": kolmo.Calibration("x", damping=0)}, "damping"),
    ],
)
def test_contradictions(tmp_path: Path, change: Callable[[], dict[str, Any]], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        kolmo.shrink(network(), tmp_path / "small", **{"calibrate": batches(1), **change()})


def test_refusals(tmp_path: Path) -> None:
    weights = {"a.weight": np.random.default_rng(1).standard_normal((40, 40)).astype(np.float32)}
    with pytest.raises(KolmoError, match="a folder of transformers, or a module"):
        kolmo.shrink(weights, tmp_path / "small", calibrate=batches(1))
    with pytest.raises(KolmoError, match="on samples"):
        kolmo.shrink(network(), tmp_path / "small", calibrate="texts.txt")
    with pytest.raises(KolmoError, match="no samples"):
        kolmo.shrink(network(), tmp_path / "small", calibrate=[])
    with pytest.raises(KolmoError, match="not finite"):
        kolmo.shrink(network(), tmp_path / "small", calibrate=[torch.full((2, 48), 1e30)])
    with pytest.raises(TypeError, match="calibrate"):
        kolmo.shrink(network(), tmp_path / "small", calibrate=3)  # type: ignore[arg-type]
    flags = ["shrink", str(tmp_path), "-o", "x", "--calibration-tokens", "600"]
    result = CliRunner().invoke(group, flags)
    assert result.exit_code == 2
    assert "--calibration-tokens is for --calibrate" in result.output
