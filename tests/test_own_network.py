"""`network:PATH`: a network of one's own as a predictor; its priors; what it asks of files, memory and people."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import kolmo
from golden.make import NETWORK, NETWORKS, encode_network
from implementations import NATIVE
from kolmo.coder.binary import BinaryDecoder, BinaryEncoder
from kolmo.errors import KolmoError, MemoryLimitError, PredictorError
from kolmo.native import reference, tables
from kolmo.native.dispatch import SLOW
from kolmo.predictors import neural, whereabouts
from kolmo.predictors.context_mixing import configuration, inflated_prior, prior, prior_of, table_sizes
from kolmo.predictors.network import PRIORS, NetworkShape, Weights, dump, is_network, load, prior_tensors, save
from kolmo.predictors.neural import SHAPES, Way
from kolmo.predictors.own_network import MARK, Network, OwnNetwork, open_network, parse
from kolmo.predictors.registry import level_of, model_of, resolve, restore
from kolmo.predictors.settings import Settings, use
from test_network import SMALL, header_of, make, with_header

TEXT = b"def gcd(a: int, b: int) -> int:\n    while b:\n        a, b = b, a % b\n    return a\n" * (1 if SLOW else 6)
GOLDEN = sorted(NETWORK.parent.glob("*.kmo"))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A machine that knows no model."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "cache"))
    before = use(model=None)
    yield whereabouts.index()
    use(**vars(before))
    if NATIVE:
        NATIVE.force_path(NATIVE.PATHS[-1])


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    """A run's folder, `notes`, with the golden network in it."""
    folder = tmp_path / "secret" / "notes"
    folder.mkdir(parents=True)
    shutil.copy(NETWORK, folder / "network.safetensors")
    return folder


def tiny() -> Weights:
    return load(NETWORK)


# -- files that were written --


def test_there_are_golden_files_of_every_kind() -> None:
    assert {path.stem for path in GOLDEN} == set(NETWORKS)
    assert tiny().priors


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_golden_files_open(path: Path) -> None:
    raw = path.with_suffix(".raw").read_bytes()
    if SLOW and len(raw) > 1500:
        pytest.skip("takes a minute in NumPy")
    with pytest.raises(PredictorError, match="not known on this machine"):
        kolmo.decompress(path.read_bytes())
    use(model=str(NETWORK))
    assert kolmo.decompress(path.read_bytes()) == raw


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
@pytest.mark.parametrize("kernel", NATIVE.PATHS if NATIVE else ("reference",))
def test_the_writer_still_writes_these_bytes_on_every_path(path: Path, kernel: str) -> None:
    case = NETWORKS[path.stem]
    if SLOW and len(case.raw) > 1500:
        pytest.skip("takes a minute in NumPy")
    if NATIVE and not SLOW:
        NATIVE.force_path(kernel)
    assert encode_network(case) == path.read_bytes()


@pytest.mark.skipif(SLOW, reason="takes a minute in NumPy")
def test_the_long_golden_file_hears_the_network() -> None:
    raw = (NETWORK.parent / "v1-network-long.raw").read_bytes()
    model = resolve(f"network:{NETWORK}").start(len(raw))
    assert isinstance(model, neural.NeuralModel)
    assert model._choose(raw, None) == (Way.NETWORK, b"")


# -- which network it is --


def test_a_file_names_its_network_and_no_path(run_folder: Path, cache: Path) -> None:
    packed = kolmo.compress(TEXT, predictor=f"network:{run_folder}")
    assert b"secret" not in packed
    mark = tiny().fingerprint[:MARK]
    assert b"\x05" + mark + b"notes" in packed
    assert json.loads(cache.read_text()) == {mark.hex(): str(run_folder.resolve() / "network.safetensors")}
    assert kolmo.decompress(packed) == TEXT
    parameters = resolve(f"network:{run_folder}:7").parameters()
    assert level_of("network", parameters) == 7
    assert model_of("network", parameters) == f"notes, hash {mark.hex()}"
    assert level_of("network", b"") is None
    assert model_of("network", b"\x05") is None


def test_on_another_machine_it_is_given(run_folder: Path, cache: Path, tmp_path: Path) -> None:
    packed = kolmo.compress(TEXT, predictor=f"network:{run_folder}:6")
    cache.unlink()
    message = f"written with the network 'notes' of hash {tiny().fingerprint[:MARK].hex()}, which is not known"
    with pytest.raises(PredictorError, match=message):
        kolmo.decompress(packed)
    elsewhere = tmp_path / "elsewhere.safetensors"
    shutil.move(run_folder / "network.safetensors", elsewhere)
    for spec in (str(elsewhere), f"network:{elsewhere}"):
        use(model=spec)
        assert kolmo.decompress(packed) == TEXT
    use(model=None)
    assert kolmo.decompress(packed) == TEXT  # it is known now


def test_a_changed_network_is_named_with_both_hashes(run_folder: Path, tmp_path: Path) -> None:
    packed = kolmo.compress(TEXT, predictor=f"network:{run_folder}")
    weights = tiny()
    changed = bytearray(weights.priors)
    changed[0] ^= 1
    others = {
        "weights": make(NetworkShape(1, 64, 64, 0, ())),
        "priors": replace(weights, priors=bytes(changed)),
        "no priors": replace(weights, priors=b""),
    }
    for other in others.values():
        save(other, run_folder / "network.safetensors")
        with pytest.raises(PredictorError) as caught:
            kolmo.decompress(packed)
        for one in (weights, other):
            assert one.fingerprint[:MARK].hex() in str(caught.value)
        assert "give the writer's with --model PATH" in str(caught.value)
    save(replace(weights, about={"texts": "renamed"}), run_folder / "network.safetensors")
    assert kolmo.decompress(packed) == TEXT  # words for people are not part of it


def test_levels_choose_the_mixer(run_folder: Path) -> None:
    fingerprints = set()
    for level in range(5, 10):
        network = resolve(f"network:{run_folder}:{level}")
        assert network.fingerprint() == resolve(f"network:{run_folder}", level=level).fingerprint()
        assert network.parameters()[0] == level
        fingerprints.add(network.fingerprint())
    assert len(fingerprints) == 5
    assert resolve(f"network:{run_folder}").fingerprint() == resolve(f"network:{run_folder}:5").fingerprint()
    for level in (0, 4, 10):
        with pytest.raises(PredictorError, match=f"network has levels 5 to 9, not {level}"):
            resolve(f"network:{run_folder}:{level}")
    with pytest.raises(PredictorError, match="exclude each other"):
        resolve(f"network:{run_folder}:7", level=8)
    os.rename(run_folder, run_folder.with_name("notes:7"))
    assert resolve(f"network:{run_folder}:7").parameters()[0] == 5  # a path that is there is a path


@pytest.mark.parametrize(
    ("name", "label"),
    [("a\nb\x1b[31m.safetensors", "ab[31m"), ("\u00e4" * 40 + ".safetensors", "\u00e4" * 16), ("x", "x")],
)
def test_names_in_files_are_short_and_printable(name: str, label: str, tmp_path: Path) -> None:
    shutil.copy(NETWORK, tmp_path / name)
    parameters = resolve(f"network:{tmp_path / name}").parameters()
    assert parse(parameters) == (5, tiny().fingerprint[:MARK], label)


@pytest.mark.parametrize(
    "parameters",
    [b"", b"\x05", b"\x05abc", b"\x04abcd", b"\x0aabcd", b"\x05abcd\xff", b"\x05abcd\n", b"\x05abcd" + b"n" * 33],
)
def test_parameters_that_nobody_wrote(parameters: bytes) -> None:
    with pytest.raises(PredictorError, match="network version 1 has no parameters"):
        restore("network", 1, b"abcd", parameters)
    with pytest.raises(PredictorError, match="network version 2 is not known here"):
        restore("network", 2, b"abcd", parameters)


# -- places where there is no network --


def test_folders_and_files_without_one(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "floats").mkdir()
    (tmp_path / "floats" / "model.safetensors").touch()
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / "checkpoint.pt").touch()
    (tmp_path / "text").write_bytes(TEXT)
    os.mkfifo(tmp_path / "pipe")
    expected = {
        "": "network: names no file",
        "none": "none: No such file or directory",
        "\0": "name a run's folder",
        "empty": "empty: has no network.safetensors",
        "floats": "only recurrent networks of kolmo train are exact",
        "begun": "its training has not ended",
        "text": "not a safetensors file of a network",
        "pipe": "pipe: Not a regular file",
    }
    for name, message in expected.items():
        path = str(tmp_path / name) if name else ""
        with pytest.raises(PredictorError, match=message):
            resolve(f"network:{path}")
        assert not is_network(path)
    assert is_network(NETWORK)


def test_nothing_is_read_that_does_not_fit_the_header(tmp_path: Path) -> None:
    """A file of many gigabytes, most of them a hole: its header claims less, or too much."""
    header, rest = header_of(dump(make(SMALL)))
    path = tmp_path / "network.safetensors"
    path.write_bytes(with_header(header, rest))
    os.truncate(path, 1 << 40)
    with pytest.raises(PredictorError, match=r"its tensors have \d+ bytes, but \d+ are there"):
        load(path)
    large = NetworkShape(1, 64, 64, 1024 - 64, ((2, 24),))
    header = {"__metadata__": {"format": "kolmo-network", "version": "1", **large.metadata()}}
    for name, dtype, sizes, begin, end in large.tensors():
        header[name] = {"dtype": dtype, "shape": sizes, "data_offsets": (begin, end)}
    path.write_bytes(with_header(header, b""))
    os.truncate(path, path.stat().st_size + large.tensors()[-1].end)
    with pytest.raises(PredictorError, match="at most 1073741824 are read"):
        load(path)


# -- priors --


def test_priors_are_those_of_the_mixers() -> None:
    for (name, contexts, weights), shape in zip(PRIORS, SHAPES, strict=True):
        assert shape.name == f"neural-{name}"
        assert (contexts, weights) == (len(shape.contexts), len(shape.selectors) * shape.inputs + 16)
        assert tiny().prior(name) != inflated_prior(shape)
        assert len(tiny().prior(name) or b"") == len(inflated_prior(shape))
        assert prior_of(shape, inflated_prior(shape)) == prior(shape)


def test_a_file_holds_priors(tmp_path: Path) -> None:
    weights = replace(make(SMALL), priors=tiny().priors, about={"texts": "a, b", "trained_bytes": "12"})
    save(weights, tmp_path / "n")
    found = load(tmp_path / "n")
    assert found == weights
    assert found.about == weights.about
    assert found.fingerprint != make(SMALL).fingerprint == replace(weights, priors=b"").fingerprint
    safetensors = pytest.importorskip("safetensors.numpy")
    tensors = safetensors.load_file(tmp_path / "n")
    assert tensors["prior.full.weights"].dtype == np.int16
    (tmp_path / "n").write_bytes(safetensors.save(tensors, {**header_of(dump(weights))[0]["__metadata__"]}))
    assert load(tmp_path / "n") == weights


def test_without_priors_the_shipped_ones_count(tmp_path: Path) -> None:
    save(replace(tiny(), priors=b""), tmp_path / "n")
    source = open_network(str(tmp_path / "n"))
    for shape in SHAPES:
        assert source.prior(shape) == prior(shape)
        assert open_network(str(NETWORK)).prior(shape) != prior(shape)
    packed = kolmo.compress(TEXT, predictor=f"network:{tmp_path / 'n'}")
    assert kolmo.decompress(packed) == TEXT
    assert packed != kolmo.compress(TEXT, predictor=f"network:{NETWORK}")


def _metadata(name: str, value: Any) -> bytes:
    header, rest = header_of(dump(replace(make(SMALL), priors=tiny().priors)))
    if value is None:
        del header["__metadata__"][name]
    else:
        header["__metadata__"][name] = value
    return with_header(header, rest)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (lambda: _metadata("priors", "2"), "its priors are of version '2'"),
        (lambda: _metadata("priors", None), r"tensor 'prior\.full\.\w+' is none of a network's"),
        (lambda: _metadata("texts", ""), "it says of itself 'texts'"),
        (lambda: _metadata("texts", "a\nb"), "it says of itself 'texts'"),
        (lambda: _metadata("bits_per_byte", "1e9"), "it says of itself 'bits_per_byte'"),
        (lambda: _metadata("trained_bytes", 12), "it says of itself 'trained_bytes'|are not the strings"),
        (lambda: _metadata("other", "x"), "its metadata are not the strings"),
    ],
)
def test_hostile_headers(data: Any, message: str) -> None:
    with pytest.raises(PredictorError, match=message):
        load(data())


def test_weights_of_priors_are_bounded() -> None:
    """Beyond 15 a mixer's step could leave 32 bits, which is undefined in C."""
    (place,) = (place for place in prior_tensors() if place.name == "prior.large.weights")
    for value, good in ((30720, True), (-30720, True), (30721, False), (-32768, False)):
        priors = bytearray(tiny().priors)
        priors[place.begin + 6 : place.begin + 8] = value.to_bytes(2, "little", signed=True)
        if good:
            replace(tiny(), priors=bytes(priors))
            continue
        with pytest.raises(PredictorError, match=r"tensor 'prior\.large\.weights' is not within"):
            replace(tiny(), priors=bytes(priors))
    with pytest.raises(PredictorError, match="bytes of priors"):
        replace(tiny(), priors=b"x")


@pytest.mark.skipif(not NATIVE, reason="needs the C kernels")
@pytest.mark.parametrize("kind", ["least", "most", "random"])
def test_any_priors_give_the_same_bits_on_every_path(kind: str) -> None:
    draw = random.Random(1)
    priors = bytearray()
    for place in prior_tensors():
        size = place.end - place.begin
        if place.dtype == "I16":
            least, most = -30720, 30720
            values = [{"least": least, "most": most}.get(kind, draw.randint(least, most)) for _ in range(size // 2)]
            priors += np.array(values, "<i2").tobytes()
        else:
            priors += {"least": bytes(size), "most": b"\xff" * size}.get(kind) or draw.randbytes(size)
    source = OwnNetwork(replace(make(SMALL), priors=bytes(priors)), "x")
    data = TEXT[:60] + draw.randbytes(40)
    for shape in SHAPES:
        found = set()
        for module in (reference, *NATIVE.PATHS):
            if module is not reference:
                NATIVE.force_path(module)
            kernels: Any = reference if module is reference else NATIVE
            network = kernels.Network(source.weights.config, source.weights.weights)
            config = configuration(shape, *table_sizes(shape, len(data), 16))
            mixer = kernels.NeuralMixer(config, tables.packed(), source.prior(shape), len(data), 1, 1, network)
            mixer.score(data, len(data))
            found.add(mixer.costs())
        assert len(found) == 1


# -- what else holds for `neural` --


def test_what_looks_packed_does_not_build_the_network(run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = resolve(f"network:{run_folder}")

    def refused(self: OwnNetwork) -> None:
        raise AssertionError("the network was built")

    monkeypatch.setattr(OwnNetwork, "kernel", refused)
    data = random.Random(1).randbytes(600 if SLOW else 20_000)
    packed = kolmo.compress(data, predictor=network)
    assert kolmo.decompress(packed) == data


def test_its_memory_counts() -> None:
    small, large = (
        OwnNetwork(make(shape), "x") for shape in (SMALL, NetworkShape(6, 640, 128, 128, ((2, 14), (3, 15))))
    )
    for level in (5, 9):
        sizes = [Network(source, level).memory(1000) - neural.Neural(level).memory(1000) for source in (small, large)]
        assert len(small.weights.weights) < sizes[0] < sizes[1]
        assert sizes[1] > 3 * len(large.weights.weights)
    packed = kolmo.compress(TEXT, predictor=f"network:{NETWORK}")
    with pytest.raises(MemoryLimitError):
        kolmo.decompress(packed, memory_limit=1 << 20)


def test_threads_and_blocks(run_folder: Path) -> None:
    data = TEXT * 3
    packed = {kolmo.compress(data, predictor=f"network:{run_folder}", block_size=300, threads=n) for n in (1, 3)}
    assert len(packed) == 1
    for threads in (1, 2):
        assert kolmo.decompress(packed.copy().pop(), threads=threads) == data


def test_lanes_are_those_of_the_level(run_folder: Path) -> None:
    network = resolve(f"network:{run_folder}:5")
    assert isinstance(network, Network)
    for size in (1, 1 << 21, 1 << 22, 1 << 23, 1 << 30):
        assert network.lanes(size) == neural.Neural(5).lanes(size)


@pytest.mark.skipif(SLOW, reason="takes minutes in NumPy")
def test_several_lanes_decode(run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    level = replace(neural.LEVELS[5], lane=1000)
    monkeypatch.setitem(neural.LEVELS, 5, level)
    network = resolve(f"network:{run_folder}")
    data = TEXT * 12
    encoder = BinaryEncoder()
    network.start(len(data), 2).encode(encoder, data)
    assert network.lanes(len(data)) == 4  # type: ignore[attr-defined]
    assert network.start(len(data), 1).decode(BinaryDecoder(encoder.finish())) == data


def test_it_samples_and_explains(run_folder: Path) -> None:
    spec = f"network:{run_folder}"
    size = 20 if SLOW else 200
    assert len(kolmo.sample(b"def ", predictor=spec, size=size, seed=1)) == size
    from kolmo.report import explain

    assert explain(TEXT, resolve(spec), name="x").totals.bits_per_byte


def test_settings_hold_for_all_models() -> None:
    assert Settings().model is None
    with pytest.raises(KolmoError):
        resolve(f"network:{NETWORK}", dtype="float32")
