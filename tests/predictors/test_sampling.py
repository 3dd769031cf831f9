"""Sampling: the arithmetic of a choice, predictors that go on from a prompt, and `kolmo sample`."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import os
import signal
import subprocess
import sys
from itertools import islice, pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from test_neural import mixer

import kolmo
from helpers import order0
from helpers.implementations import IMPLEMENTATIONS, NATIVE
from kolmo.cli import group
from kolmo.errors import KolmoError, MissingExtraError, PredictorError
from kolmo.native import reference, tables
from kolmo.native.dispatch import SLOW
from kolmo.predictors import registry
from kolmo.predictors.base import Predictor
from kolmo.predictors.choice import Choice, Randomness, choose, remapped_bits
from kolmo.predictors.classical import compressors as classical
from kolmo.predictors.classical.compressors import Classical
from kolmo.predictors.embedded import cm, context_mixing
from kolmo.sampling import pieces

PROMPT = b"the zebra quietly folds nine umbrellas\n" * 12
LOGITS = np.log([0.1, 0.4, 0.2, 0.0625, 0.2375])
GRID = [(i + 0.5) / 1000 for i in range(1000)]
BIG = 40 if SLOW else 400  # bytes of a sample

# choose


def shares(**options: Any) -> list[float]:
    counts = np.bincount([choose(LOGITS, u, **options) for u in GRID], minlength=5)
    return [round(float(share), 3) for share in counts / len(GRID)]


def test_choose_follows_the_distribution() -> None:
    assert shares() == pytest.approx([0.1, 0.4, 0.2, 0.0625, 0.2375], abs=0.001)
    assert choose(LOGITS + 700, 0.3) == choose(LOGITS, 0.3)  # any common scale
    assert choose(LOGITS.astype(np.float32), 0.3) == 1
    assert choose(LOGITS, 0.0) == 0
    assert choose(LOGITS, 1 - 2**-53) == 4


def test_temperature() -> None:
    assert {choose(LOGITS, u, temperature=0) for u in (0, 0.5, 0.999)} == {1}
    assert choose(np.zeros(3), 0.9, temperature=0) == 0
    assert choose(LOGITS, 0.999, temperature=1e-310) == 1
    squares = np.exp(2 * LOGITS) / np.exp(2 * LOGITS).sum()
    assert shares(temperature=0.5) == pytest.approx(squares.tolist(), abs=0.001)
    assert shares(temperature=1e9) == pytest.approx([0.2] * 5, abs=0.001)


def test_top_k_and_top_p() -> None:
    assert shares(top_k=1) == [0, 1, 0, 0, 0]
    assert shares(top_k=2) == pytest.approx([0, 0.4 / 0.6375, 0, 0, 0.2375 / 0.6375], abs=0.001)
    assert shares(top_k=99) == shares()
    assert shares(top_p=1.0) == shares()
    assert shares(top_p=0.3) == [0, 1, 0, 0, 0]
    assert shares(top_p=0.41) == shares(top_k=2)
    assert shares(top_p=0.65) == shares(top_k=3)
    assert shares(top_k=2, top_p=0.62) == [0, 1, 0, 0, 0]  # of the two, the first has 0.627
    assert [choose(np.zeros(4), u, top_k=2) for u in (0.1, 0.6, 0.9)] == [0, 1, 1]


def test_the_impossible_is_never_chosen() -> None:
    logits = np.array([-math.inf, 0.0, -math.inf, -math.inf])
    assert {choose(logits, u) for u in (0.0, 0.5, 1.0)} == {1}
    for bad in ([], [-math.inf] * 2, [0.0, math.nan], [0.0, math.inf]):
        with pytest.raises(ValueError, match="nothing to choose"):
            choose(np.array(bad), 0.5)


@pytest.mark.parametrize(
    "options", [{"temperature": -1}, {"temperature": math.nan}, {"top_k": 0}, {"top_p": 0}, {"top_p": 1.5}]
)
def test_choices_that_make_no_sense(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="is not a number"):
        choose(LOGITS, 0.5, **options)
    with pytest.raises(ValueError, match="is not a number"):
        kolmo.sample(b"", "cm:1", 5, **options)


def test_randomness_is_the_same_for_ever() -> None:
    whole = Randomness(7).take(3000)
    assert whole[:8].hex() == "3af4548599513df1"
    parts = Randomness(7)
    assert b"".join(parts.take(count) for count in (0, 1, 1023, 5, 1971)) == whole
    assert Randomness(8).take(16) != whole[:16]
    randomness = Randomness(1)
    numbers = [randomness.uniform() for _ in range(500)]
    assert all(0 <= u < 1 for u in numbers)
    assert 0.45 < sum(numbers) / 500 < 0.55


# The kernels: what was scored is a prompt.


def mixed(kernels: ModuleType, prompt: bytes, size: int) -> bytes:
    shape = context_mixing.FULL
    config = context_mixing.configuration(shape, 14, 10)
    model = kernels.ContextMixer(config, tables.packed(), context_mixing.prior(shape), len(prompt) + size)
    model.costs(prompt)
    made = [model.decode(kernels.BinaryDecoder(Randomness(k).take(100)), 1) for k in range(size)]
    with pytest.raises(ValueError, match="one direction"):
        model.costs(b"")
    return b"".join(made)


def sampled(kernels: ModuleType, prompt: bytes, size: int, threads: int = 1) -> bytes:
    model = mixer(kernels, len(prompt) + size, 1, threads)
    model.score(prompt + bytes(size), len(prompt))
    made = b""
    for k in range(size):
        model.decode(kernels.BinaryDecoder(Randomness(k).take(100)), 1)
        made += model.content(len(prompt) + k, len(prompt) + k + 1)
    assert model.content() == prompt + made
    return made


@pytest.mark.skipif(NATIVE is None, reason="the C kernels are not built here")
@pytest.mark.parametrize("prompt", [b"", b"q", PROMPT[:50]])
def test_kernels_draw_the_same(prompt: bytes) -> None:
    assert mixed(NATIVE, prompt, 12) == mixed(reference, prompt, 12)
    expected = sampled(reference, prompt, 12)
    assert sampled(NATIVE, prompt, 12) == expected
    assert sampled(NATIVE, prompt, 12, threads=2) == expected


@pytest.mark.parametrize("kernels", IMPLEMENTATIONS)
def test_decoding_goes_on_after_a_prompt(kernels: ModuleType) -> None:
    """The other way round: what was coded after a prompt is decoded after it."""
    prompt, rest = PROMPT[:30], PROMPT[30:50]
    encoder = kernels.BinaryEncoder()
    writer = mixer(kernels, 50, 1)
    writer.encode(kernels.BinaryEncoder(), prompt + rest, 30)
    writer.encode(encoder, prompt + rest, 20)
    reader = mixer(kernels, 50, 1)
    reader.score(prompt + bytes(20), 30)
    decoder = kernels.BinaryDecoder(encoder.finish())
    reader.decode(decoder, 10)
    assert reader.content(0, 40) == PROMPT[:40]
    for first, last in ((0, 41), (-1, 5), (5, 4)):
        with pytest.raises(ValueError, match="not decoded yet"):
            reader.content(first, last)
    reader.decode(decoder, 10)
    assert reader.content() == prompt + rest


@pytest.mark.parametrize("kernels", IMPLEMENTATIONS)
def test_only_one_lane_goes_on(kernels: ModuleType) -> None:
    model = mixer(kernels, 100, 2)
    model.score(bytes(100), 10)
    with pytest.raises(ValueError, match="one direction"):
        model.decode(kernels.BinaryDecoder(bytes(20)), 1)
    lanes = mixer(kernels, 100, 2)
    lanes.decode(kernels.BinaryDecoder(bytes(1000)), 10)
    with pytest.raises(ValueError, match="not decoded yet"):
        lanes.content(0, 5)


# Predictors


@pytest.mark.parametrize("spec", ["cm:1", "neural:5", "classical:gzip"])
def test_a_sample_is_reproducible_and_begins_a_longer_one(spec: str) -> None:
    long = kolmo.sample(PROMPT, spec, 70, seed=3, temperature=1)
    assert len(long) == 70
    assert kolmo.sample(PROMPT, spec, 70, seed=3, temperature=1) == long
    assert kolmo.sample(PROMPT, spec, 33, seed=3, temperature=1) == long[:33]
    assert b"".join(pieces(PROMPT, spec, 70, seed=3, choice=Choice())) == long
    assert kolmo.sample(PROMPT, spec, 0) == b""
    begun = pieces(PROMPT, spec, 1 << 20, seed=3, choice=Choice())
    assert b"".join(islice(begun, 2)) in (long[:64], long[:2])  # as it is made
    assert len({kolmo.sample(b"", spec, 70, seed=seed) for seed in range(3)}) == 3


def test_seeds_differ_unless_given() -> None:
    assert kolmo.sample(size=30, predictor="cm:1") != kolmo.sample(size=30, predictor="cm:1")
    assert len(kolmo.sample("größer", "cm:1", 5)) == 5


def test_cm_draws_the_same_everywhere() -> None:
    plain = kolmo.sample(PROMPT[:39], "cm:1", 20, seed=2, temperature=1)
    assert plain.hex() == "7b74224ae22240d9bb2e2e64bc9a336821df6e4e"
    assert hashlib.sha256(remapped_bits(0.7) or b"").hexdigest()[:16] == "80adfedae142a51b"
    assert kolmo.sample(PROMPT[:39], "cm:1", 20, seed=2).hex() == "7649b36163074323b0b16ee769298f6e3b6e6e5f"


@pytest.mark.parametrize("spec", ["cm:4", "neural:5"])
def test_the_prompt_matters(spec: str) -> None:
    assert kolmo.sample(PROMPT, spec, 39, seed=1) == PROMPT[:39]
    assert b"umbrella" not in kolmo.sample(b"", spec, 39, seed=1)


@pytest.mark.skipif(SLOW, reason="takes a while in NumPy")
@pytest.mark.parametrize(("spec", "temperature"), [("cm:1", 1), ("cm:4", 1), ("cm:4", 0.9)])
def test_samples_follow_the_probabilities(spec: str, temperature: float) -> None:
    """Of all bits to which the model gave about the probability p, sharpened by the temperature, a share of p came."""
    size, prompt = 6000, b"".join(b"%d bottles of beer on the wall\n" % n for n in range(99))
    if temperature != 1:  # after which even a cold sample has bits of every probability
        prompt = (Path(__file__).parents[2] / "LICENSE").read_bytes()
    sample = kolmo.sample(prompt, spec, size, seed=5, temperature=temperature)
    predictor = registry.resolve(spec)
    assert isinstance(predictor, cm.ContextMixing)
    shape, bits_of_trees = context_mixing.LEVELS[predictor.level]
    model = context_mixing.start(shape, context_mixing.MIN_SAMPLE_ROOM, bits_of_trees)
    costs = np.frombuffer(model._mixer.costs(prompt + sample), "=u2").astype(float)[8 * len(prompt) :] / 65536
    bits = np.unpackbits(np.frombuffer(sample, np.uint8))
    ones = np.where(bits, costs, 1 - costs)
    if temperature != 1:
        ones = 1 / (1 + (1 / ones - 1) ** (1 / temperature))
    statistic, edges = 0.0, [0, 0.03, 0.2, 0.4, 0.5, 0.6, 0.8, 0.97, 1]
    for low, high in pairwise(edges):
        there = (ones >= low) & (ones < high)
        variance = (ones[there] * (1 - ones[there])).sum()
        assert variance > 5
        statistic += (bits[there].sum() - ones[there].sum()) ** 2 / variance
    assert statistic < 26.1  # chi-square of 8 degrees of freedom: one in a thousand


@pytest.mark.parametrize("spec", ["cm:4", "neural:5"])
def test_temperature_of_bits(spec: str) -> None:
    coldest = {kolmo.sample(PROMPT, spec, 60, seed=seed, temperature=0) for seed in range(3)}
    assert len(coldest) == 1  # the likeliest bit each time, whatever the seed
    prompt = (Path(__file__).parents[2] / "LICENSE").read_bytes()[:3000]
    costs = []
    for temperature in (0.0, 0.7, 1.0, 2.0):
        sample = kolmo.sample(prompt, spec, 300, seed=1, temperature=temperature)
        model = registry.resolve(spec).start(len(prompt) + 300)
        costs.append(float(model.score(prompt + sample)[-300:].sum()))
    assert costs == sorted(costs)
    assert costs[0] < costs[2] / 2


def test_tables_of_temperatures() -> None:
    assert remapped_bits(1) is None
    for temperature in (1e-310, 0.5, 3.0):
        table = np.frombuffer(remapped_bits(temperature) or b"", "<u2").astype(int)
        assert table.shape == (4096,)
        assert table.min() >= 1
        assert (np.diff(table) >= 0).all()
        assert (table + table[::-1] == 65536).all()
    assert table[4095] < 65536 * 0.96  # 3.0: flatter
    cold = np.frombuffer(remapped_bits(1e-310) or b"", "<u2")
    assert set(cold.tolist()) == {1, 65535}


def test_binary_prompts_are_left_to_the_plain_mixer(monkeypatch: pytest.MonkeyPatch) -> None:
    noise = np.random.default_rng(1).bytes(600)
    with_network = kolmo.sample(PROMPT, "neural:5", 20, seed=1)
    monkeypatch.setattr("kolmo.predictors.embedded.text.NeuralModel._mixer", None)  # cannot be called
    assert len(kolmo.sample(noise, "neural:5", 20, seed=1)) == 20
    with pytest.raises(TypeError):
        kolmo.sample(PROMPT, "neural:5", 20, seed=1)
    assert with_network


@pytest.mark.parametrize("spec", ["cm:2", "neural:6"])
def test_what_these_cannot_honour(spec: str) -> None:
    for options in ({"top_k": 5}, {"top_p": 0.9}):
        with pytest.raises(PredictorError, match="no top-k or top-p; leave them out"):
            kolmo.sample(b"", spec, 5, **options)
    assert len(kolmo.sample(b"", "cm:1", 5, top_p=1.0)) == 5
    with pytest.raises(PredictorError, match="1 GiB"):
        kolmo.sample(b"x", spec, 1 << 30)


def test_predictors_that_do_not_sample() -> None:
    with pytest.raises(PredictorError, match="'order0' does not sample; choose another"):
        kolmo.sample(b"", "order0", 5)
    with pytest.raises(PredictorError, match="unknown predictor"):
        kolmo.sample(b"", "nothing", 5)


class Tokens(order0.Order0):
    """A model with a distribution over tokens, which may end before the sample does."""

    words = (b"red ", b"green ", b"blue ", b"")

    def continuation(self, prompt: bytes, size: int, randomness: Randomness, choice: Choice) -> Any:
        logits = np.log([0.5, 0.25, 0.2, 0.05])
        while piece := self.words[choose(logits, randomness.uniform(), choice.temperature, choice.top_k, choice.top_p)]:
            yield piece


def test_a_plugin_samples_by_the_protocol() -> None:
    assert kolmo.sample(b"", Tokens(), 10, temperature=0) == b"red red re"
    assert 0 < len(kolmo.sample(b"", Tokens(), 100_000, seed=1)) < 100_000


# Classical compressors


@pytest.fixture(params=["gzip", "bz2", "xz", "zstd", "brotli"])
def compressor(request: pytest.FixtureRequest) -> Classical:
    if request.param in ("zstd", "brotli"):
        pytest.importorskip({"zstd": "zstandard"}.get(request.param, request.param))
    found = registry.resolve(f"classical:{request.param}")
    assert isinstance(found, Classical)
    return found


def test_classical_is_a_predictor(compressor: Classical) -> None:
    assert isinstance(compressor, Predictor)
    assert len(compressor.fingerprint()) == 4
    again = registry.restore("classical", 1, compressor.fingerprint(), compressor.parameters())
    assert isinstance(again, Classical)
    assert again.kind == compressor.kind
    assert compressor.memory(10) <= compressor.memory(1000)


def test_the_rule(compressor: Classical) -> None:
    """p(x | context) in proportion to 2^-(|C(context x)| - |C(context)|)."""
    context = b"abcdefgh" * 40
    probabilities = compressor.distribution(context)
    assert probabilities.shape == (256,)
    assert probabilities.sum() == pytest.approx(1)
    sizes = np.array([compressor.compressor.bare_size(context + bytes([x])) for x in range(256)])
    assert np.log2(probabilities / probabilities.max()) == pytest.approx(-8.0 * (sizes - sizes.min()))
    if compressor.kind != "zstd":  # to which all bytes are the same, or one more
        assert probabilities.argmax() == ord("a")


@pytest.mark.parametrize("size", [0, 50, 1024 - classical.UNREACHED_BYTES - 2, 40_000])
def test_deflate_follows_its_context(size: int) -> None:
    """Copies of one compressor, with a window that grows, find what compressing all anew finds."""
    text = np.random.default_rng(3).integers(97, 123, size, np.uint8).tobytes()
    text += text[:20] + b"quiz"
    context = classical.COMPRESSORS["gzip"].context(text)
    for x in b"zebra":
        sizes = context.sizes()
        anew = [len(classical.COMPRESSORS["gzip"].compress(text + bytes([y]))) for y in range(0, 256, 17)]
        assert {a - b for a, b in zip(anew, sizes[::17], strict=True)} == {anew[0] - sizes[0]}
        context.learn(x)
        text += bytes([x])


@pytest.mark.parametrize("kind", ["gzip", "xz"])
def test_classical_repeats_its_context(kind: str) -> None:
    assert kolmo.sample(b"abcdefgh" * 40, f"classical:{kind}", 8, temperature=0) == b"abcdefgh"


@pytest.mark.parametrize("data", [b"", b"x", PROMPT, bytes(3000)], ids=["empty", "byte", "text", "zeros"])
def test_classical_scores_sum_to_the_size(compressor: Classical, data: bytes) -> None:
    ticks: list[int] = []
    bits = compressor.start(max(len(data), 1)).score(data, ticks.append)
    assert bits.shape == (len(data),)
    assert (bits >= 0).all()
    assert sum(ticks) == len(data)
    if data:
        assert bits.sum() == pytest.approx(8 * len(compressor.compress(data)))


def test_scores_grow_where_the_new_is(monkeypatch: pytest.MonkeyPatch) -> None:
    data = PROMPT + np.random.default_rng(2).bytes(300) + PROMPT
    model = Classical("gzip").start(len(data))
    bits = model.score(data)
    third = len(PROMPT)
    assert bits[third : third + 300].sum() > 2000
    assert bits[third + 300 :].sum() < 200
    monkeypatch.setattr(classical, "MAX_PREFIX_BYTES", len(data))  # two prefixes are all that there is time for
    coarse = model.score(data)
    assert len(set(coarse[1:].tolist())) == 2
    assert coarse.sum() == pytest.approx(bits.sum())


def test_classical_drives_no_coder(tmp_path: Path) -> None:
    with pytest.raises(PredictorError, match=r"^classical:xz cannot drive the coder; use xz itself$"):
        kolmo.compress(PROMPT, predictor="classical:xz")
    with pytest.raises(PredictorError, match="use bzip2 itself"):
        Classical("bz2").start(4).decode(kolmo.coder.binary.BinaryDecoder(b""))
    assert kolmo.decompress(kolmo.compress(b"", predictor="classical:gzip")) == b""
    for spec in ("classical", "classical:", "classical:rar"):
        with pytest.raises(PredictorError, match="classical takes gzip, bz2, xz, zstd, brotli, not"):
            registry.resolve(spec)
    with pytest.raises(PredictorError, match="version 2"):
        registry.restore("classical", 2, b"abcd", b"xz")
    with pytest.raises(PredictorError, match="not"):
        registry.restore("classical", 1, b"abcd", b"\xff")


@pytest.mark.parametrize(("kind", "module"), [("zstd", "zstandard"), ("brotli", "brotli")])
def test_missing_compressors_name_the_command(kind: str, module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=f"^classical:{kind} needs {module}; install it with: pip install"):
        kolmo.sample(b"", f"classical:{kind}", 5)
    with pytest.raises(KolmoError, match="pip install"):
        Classical(kind).start(5)


# The command


def run(*arguments: str, data: bytes | None = None) -> Result:
    return CliRunner().invoke(group, ["sample", *arguments], input=data)


def test_command_writes_the_bytes_and_no_more(tmp_path: Path) -> None:
    expected = kolmo.sample(PROMPT, "cm:1", BIG, seed=7)
    file = tmp_path / "prompt.txt"
    file.write_bytes(PROMPT)
    seed = ("-1", "-n", str(BIG), "--seed", "7")
    for arguments, data in (
        (("--prompt", PROMPT.decode()), None),
        (("--prompt-file", str(file)), None),
        (("--prompt-file", "-"), PROMPT),
        (("-",), PROMPT),
    ):
        done = run(*seed, *arguments, data=data)
        assert (done.stdout_bytes, done.stderr) == (expected, "")
    assert run(*seed, "--echo", "-", data=PROMPT).stdout_bytes == PROMPT + expected
    assert run("-m", "cm:1", *seed[1:], "-", data=PROMPT).stdout_bytes == expected
    assert run(*seed).stdout_bytes == kolmo.sample(b"", "cm:1", BIG, seed=7)
    out = tmp_path / "out"
    assert run(*seed, "-o", str(out), "-", data=PROMPT).stdout_bytes == b""
    assert out.read_bytes() == expected
    again = run(*seed, "-o", str(out))
    assert "already exists; use -f" in again.stderr
    assert out.read_bytes() == expected
    assert run(*seed, "-f", "-o", str(out)).stderr == ""
    assert out.read_bytes() != expected
    assert run(*seed, "-v").stderr.startswith(f"cm:1                 : {BIG} bytes, seed 7, ")


def test_command_with_several_predictors() -> None:
    done = run("-m", "cm:1", "-m", "classical:gzip", "-m", "cm:1", "-n", "20", "--seed", "2", "-", data=PROMPT)
    one, two = (kolmo.sample(PROMPT, spec, 20, seed=2) for spec in ("cm:1", "classical:gzip"))
    first, second = one + b"\n" * (one[-1:] != b"\n"), two + b"\n" * (two[-1:] != b"\n")
    first = b"==> cm:1, seed 2 <==\n" + first
    assert done.stdout_bytes == first + b"\n==> classical:gzip, seed 2 <==\n" + second + b"\n" + first


def test_command_as_json(tmp_path: Path) -> None:
    arguments = ["-m", "cm:1", "-m", "cm:2", "-n", "30", "--prompt", "q\udcff"]
    records = [json.loads(line) for line in run(*arguments, "--json").stdout.splitlines()]
    assert [record["model"] for record in records] == ["cm:1", "cm:2"]
    for record in records:
        sample = kolmo.sample(b"q\xff", record["model"], 30, seed=record["seed"])
        assert base64.b64decode(record["bytes"]) == sample
        assert record["text"] == sample.decode("utf-8", "replace")
        assert (record["prompt"], record["size"]) == ("q\ufffd", 30)
        assert record["seconds"] >= 0
    assert records[0]["seed"] == records[1]["seed"] != json.loads(run("-1", "--json").stdout)["seed"]
    assert run(*arguments, "--json", "-o", str(tmp_path / "x")).stdout == ""
    assert len((tmp_path / "x").read_text().splitlines()) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-m", "nothing"], "unknown predictor"),
        (["-m", "cm:1", "-2"], "exclude each other"),
        (["--prompt", "a", "-"], "exclude each other"),
        (["--prompt", "a", "--prompt-file", "b"], "exclude each other"),
        (["-n", "0"], "not a size"),
        (["-n", "x"], "not a size"),
        (["--seed", "x"], "not a valid integer"),
        (["--temperature", "-1"], "not in the range"),
        (["--temperature", "nan"], "temperature nan"),
        (["--top-k", "0"], "not in the range"),
        (["--top-p", "0"], "not in the range"),
        (["--top-p", "1.1"], "not in the range"),
        (["file.txt"], "is not '-'"),
    ],
)
def test_wrong_usage(arguments: list[str], message: str) -> None:
    done = run(*arguments)
    assert done.exit_code == 2
    assert message in done.stderr
    assert done.stdout == ""


def status_of(result: Result) -> int:
    return result.return_value if isinstance(result.return_value, int) else result.exit_code


def command(*arguments: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(group, ["sample", *arguments], standalone_mode=False)
    return status_of(done), done.stdout, done.stderr


def test_failures_are_one_line_and_the_others_go_on(tmp_path: Path) -> None:
    missing = str(tmp_path / "none")
    assert command("--prompt-file", missing) == (
        1,
        "",
        f"kolmo: {missing}: No such file or directory; check the name\n",
    )
    assert "is a folder" in command("--prompt-file", str(tmp_path))[2]
    status, out, err = command("-m", "cm:1", "-m", "classical:gzip", "--top-k", "3", "-n", "5", "--seed", "1")
    assert status == 1
    assert err.count("\n") == 1
    assert "cm samples by decoding random bits" in err
    assert out.startswith("==> classical:gzip, seed 1 <==\n")
    path = tmp_path / "out"
    assert command("-m", "order0", "-o", str(path))[0] == 1
    assert not path.exists()
    status, out, _ = command("-m", "order0", "--json")
    assert json.loads(out) == {
        "file": "order0",
        "error": "predictor 'order0' does not sample; choose another, such as cm or neural",
    }


def on_a_terminal(*arguments: str, interrupt: bool = False) -> tuple[int, bytes]:
    import pty

    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "kolmo", "sample", *arguments],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env={**os.environ, "PYTHONPATH": str(Path(kolmo.__file__).parents[1])},
    )
    os.close(slave)
    shown = b""
    while True:
        try:
            piece = os.read(master, 1 << 12)
        except OSError:  # its end, on Linux
            break
        if not piece:
            break
        shown += piece
        if interrupt:
            process.send_signal(signal.SIGINT)
            interrupt = False
    os.close(master)
    return process.wait(timeout=60), shown


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_terminals_are_shown_nothing_that_they_obey() -> None:
    status, shown = on_a_terminal("-1", "-n", "300", "--seed", "4", "--prompt", "a\x1b[2Jb\xe4\u20ac", "--echo")
    assert status == 0
    text = shown.decode("utf-8")
    assert text.startswith("a\\x1b[2Jb\xe4\u20ac")
    assert all(c.isprintable() or c in "\r\n\t" for c in text)
    assert text.endswith("\n")


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_an_interrupt_ends_the_line() -> None:
    status, shown = on_a_terminal("-1", "-n", "100M", "--prompt", "so it goes. " * 9, interrupt=True)
    assert status == 130
    assert b"\nkolmo: interrupted" in shown
    assert b"Traceback" not in shown


@pytest.mark.parametrize(
    ("given", "error"),
    [((5,), TypeError), ((b"a", 5), TypeError), ((b"a", "cm:1", 2.5), TypeError), ((b"a", "cm:1", -1), ValueError)],
)
def test_arguments_of_a_wrong_type(given: tuple[Any, ...], error: type[Exception]) -> None:
    with pytest.raises(error, match=r"must be|bytes-like"):
        kolmo.sample(*given)
