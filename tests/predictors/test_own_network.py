"""`network:PATH`: a network of one's own as a predictor; its priors; what it asks of files, memory and people."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import numpy as np
import pytest
from click.testing import CliRunner
from test_network import SMALL, header_of, make, with_header

import kolmo
from golden import find
from golden.make import NETWORK, NETWORKS, encode_network
from helpers.implementations import NATIVE
from kolmo.cli import group
from kolmo.coder.binary import BinaryDecoder, BinaryEncoder
from kolmo.errors import KolmoError, MemoryLimitError, PredictorError
from kolmo.native import reference, tables
from kolmo.native.dispatch import SLOW
from kolmo.predictors import model_locations as model_locations
from kolmo.predictors.embedded import neural
from kolmo.predictors.embedded.context_mixing import configuration, inflated_prior, prior, prior_of, table_sizes
from kolmo.predictors.embedded.kinds.base import Segment
from kolmo.predictors.embedded.kinds.general import PLAIN
from kolmo.predictors.embedded.kinds.segments import TEXT as TEXT_CODE
from kolmo.predictors.embedded.kinds.segments import write_segments
from kolmo.predictors.embedded.network import PRIORS, NetworkShape, Weights, prior_tensors
from kolmo.predictors.embedded.network_file import dump, is_network, load, save
from kolmo.predictors.embedded.neural_levels import SHAPES
from kolmo.predictors.embedded.own_network import MARK_BYTES, Network, OwnNetwork, default_level, open_network, parse
from kolmo.predictors.embedded.text import Text
from kolmo.predictors.registry import BUILTIN, level_of, model_of, resolve, restore
from kolmo.predictors.settings import RunSettings
from kolmo.training.products import priors
from kolmo.training.products.priors import MIN_TEXT_BYTES, TRAINED_BYTES_PER_TEXT_BYTE, samples_of, with_priors

TEXT = b"def gcd(a: int, b: int) -> int:\n    while b:\n        a, b = b, a % b\n    return a\n" * (1 if SLOW else 6)
QUICK = ("v1-network-prose-5", "v1-network-prose-9")  # in NumPy
GOLDEN = find("networks/*.kmo")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A machine that knows no model."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "cache"))
    yield model_locations.index()
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
    if SLOW and path.stem not in QUICK:
        pytest.skip("takes a minute in NumPy")
    with pytest.raises(PredictorError, match="not known on this machine"):
        kolmo.decompress(path.read_bytes())
    assert kolmo.decompress(path.read_bytes(), settings=RunSettings(model=str(NETWORK))) == raw


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
@pytest.mark.parametrize("kernel", NATIVE.PATHS if NATIVE and not SLOW else ("reference",))
def test_the_writer_still_writes_these_bytes_on_every_path(path: Path, kernel: str) -> None:
    case = NETWORKS[path.stem]
    if SLOW and path.stem not in QUICK:
        pytest.skip("takes a minute in NumPy")
    if not SLOW:
        NATIVE.force_path(kernel)
    assert encode_network(case) == path.read_bytes()


@pytest.mark.skipif(SLOW, reason="takes a minute in NumPy")
def test_the_long_golden_file_uses_the_network() -> None:
    raw = (NETWORK.parent / "v1-network-long.raw").read_bytes()
    predictor = resolve(f"network:{NETWORK}")
    assert isinstance(predictor, neural.Neural)
    assert [segment.code for segment in predictor.choose(raw).segments] == [TEXT_CODE]


# -- which network it is --


def test_a_file_names_its_network_and_no_path(run_folder: Path, cache: Path) -> None:
    packed = kolmo.compress(TEXT, predictor=f"network:{run_folder}")
    assert b"secret" not in packed
    mark = tiny().fingerprint[:MARK_BYTES]
    assert b"\x03" + mark + b"notes" in packed
    assert json.loads(cache.read_text()) == {mark.hex(): str(run_folder.resolve() / "network.safetensors")}
    assert kolmo.decompress(packed) == TEXT
    parameters = resolve(f"network:{run_folder}:7").parameters()
    assert level_of("network", parameters) == 7
    assert model_of("network", 1, parameters) == f"notes, hash {mark.hex()}"
    assert level_of("network", b"") is None
    assert model_of("network", 1, b"\x05") is None


def test_on_another_machine_it_is_given(run_folder: Path, cache: Path, tmp_path: Path) -> None:
    packed = kolmo.compress(TEXT, predictor=f"network:{run_folder}:6")
    cache.unlink()
    message = f"written with the network 'notes' of hash {tiny().fingerprint[:MARK_BYTES].hex()}, which is not known"
    with pytest.raises(PredictorError, match=message):
        kolmo.decompress(packed)
    elsewhere = tmp_path / "elsewhere.safetensors"
    shutil.move(run_folder / "network.safetensors", elsewhere)
    for spec in (str(elsewhere), f"network:{elsewhere}"):
        assert kolmo.decompress(packed, settings=RunSettings(model=spec)) == TEXT
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
            assert one.fingerprint[:MARK_BYTES].hex() in str(caught.value)
        assert "give the writer's as RunSettings(model=PATH)" in str(caught.value)
    save(replace(weights, about={"texts": "renamed"}), run_folder / "network.safetensors")
    assert kolmo.decompress(packed) == TEXT  # words for people are not part of it


def test_levels_choose_the_mixer(run_folder: Path) -> None:
    fingerprints = set()
    for level in range(1, 10):
        network = resolve(f"network:{run_folder}:{level}")
        assert network.fingerprint() == resolve(f"network:{run_folder}", level=level).fingerprint()
        assert network.parameters()[0] == level
        fingerprints.add(network.fingerprint())
    assert len(fingerprints) == 9
    assert resolve(f"network:{run_folder}").fingerprint() == resolve(f"network:{run_folder}:3").fingerprint()
    for level in (0, 10):
        with pytest.raises(PredictorError, match=f"network has levels 1 to 9, not {level}"):
            resolve(f"network:{run_folder}:{level}")
    with pytest.raises(PredictorError, match="exclude each other"):
        resolve(f"network:{run_folder}:7", level=8)
    os.rename(run_folder, run_folder.with_name("notes:7"))
    assert resolve(f"network:{run_folder}:7").parameters()[0] == 3  # a path that is there is a path


def test_the_default_level_is_in_proportion_to_the_network(tmp_path: Path) -> None:
    tables = ((2, 4), (3, 4))
    for shape, level in (
        (SMALL, 3),
        (NetworkShape(3, 192, 64, 64, tables), 3),  # tiny
        (NetworkShape(4, 256, 64, 64, (*tables, (0, 4))), 5),  # small
        (NetworkShape(), 5),
    ):
        assert default_level(shape) == level
    save(make(NetworkShape(4, 256, 64, 64, (*tables, (0, 4)))), tmp_path / "small")
    assert resolve(f"network:{tmp_path / 'small'}").parameters()[0] == 5


@pytest.mark.parametrize(
    ("name", "label"),
    [("a\nb\x1b[31m.safetensors", "ab[31m"), ("\u00e4" * 40 + ".safetensors", "\u00e4" * 16), ("x", "x")],
)
def test_names_in_files_are_short_and_printable(name: str, label: str, tmp_path: Path) -> None:
    shutil.copy(NETWORK, tmp_path / name)
    parameters = resolve(f"network:{tmp_path / name}").parameters()
    assert parse(parameters) == (3, tiny().fingerprint[:MARK_BYTES], label)


@pytest.mark.parametrize(
    "parameters",
    [b"", b"\x05", b"\x05abc", b"\x00abcd", b"\x0aabcd", b"\x05abcd\xff", b"\x05abcd\n", b"\x05abcd" + b"n" * 33],
)
def test_parameters_that_nobody_wrote(parameters: bytes) -> None:
    with pytest.raises(PredictorError, match="network version 2 has no parameters"):
        restore("network", 2, b"abcd", parameters)
    with pytest.raises(PredictorError, match="network version 1 is not known here"):
        restore("network", 1, b"abcd", parameters)


# -- places where there is no network --


def test_folders_and_files_without_one(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "floats").mkdir()
    (tmp_path / "floats" / "model.safetensors").touch()
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / "checkpoint.pt").touch()
    (tmp_path / "text").write_bytes(TEXT)
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
    expected = {
        "": "network: names no file",
        "none": "none: No such file or directory",
        "\0": "name a run's folder",
        "empty": "empty: has no network.safetensors",
        "floats": "only recurrent networks of kolmo train are exact",
        "begun": "its training has not ended",
        "text": "does not begin as a safetensors file of a network",
        **({"pipe": "pipe: Not a regular file"} if hasattr(os, "mkfifo") else {}),
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
    with pytest.raises(PredictorError, match=r"its tensors end at byte \d+, the file at \d+"):
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
        (lambda: _metadata("priors", None), r"tensor 'prior\.\w+\.\w+' is none of a network's"),
        (lambda: _metadata("texts", ""), "its metadata have 'texts'"),
        (lambda: _metadata("texts", "a\nb"), "its metadata have 'texts'"),
        (lambda: _metadata("bits_per_byte", "1e9"), "its metadata have 'bits_per_byte'"),
        (lambda: _metadata("trained_bytes", 12), "its metadata have 'trained_bytes'|are not strings"),
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


@pytest.mark.skipif(SLOW, reason="NumPy's mixers do not give back what they learned")
def test_priors_are_learned_from_what_was_held_out() -> None:
    lines = [
        b"%03d GET /images/photo%d.png HTTP/1.1 200 %d\n" % (n % 256, n * 7 % 97, n * n % 5003) for n in range(900)
    ]
    held_out, today = b"".join(lines[:600]), b"".join(lines[600:])[:1500]
    before = replace(tiny(), priors=b"")
    after = with_priors(before, [held_out[:12_000], held_out[12_000:]], 1 << 20)
    assert after == with_priors(before, [held_out[:12_000], held_out[12_000:]], 1 << 20)
    assert after.weights == before.weights
    for level in (3, 5, 7):
        kinds = [Text(Network.levels, OwnNetwork(weights, "x")) for weights in (before, after)]
        sizes = [kind.model(level, len(today)).score(today).sum() for kind in kinds]
        assert sizes[1] < 0.95 * sizes[0]


def test_priors_take_time_in_proportion(monkeypatch: pytest.MonkeyPatch) -> None:
    pieces = [bytes(16_384)] * 28
    sizes = [
        sum(map(len, samples_of(pieces, max(trained // TRAINED_BYTES_PER_TEXT_BYTE, MIN_TEXT_BYTES))))
        for trained in (0, 1 << 22, 1 << 30)
    ]
    assert sizes[0] <= MIN_TEXT_BYTES < sizes[1] <= 1 << 16 < sizes[2] == 28 * 16_384
    assert samples_of([], 100) == []
    monkeypatch.setattr(priors, "CAN_LEARN", False)
    untaught = with_priors(replace(tiny(), priors=b""), pieces, 1 << 20)
    assert [untaught.prior(name) for name, _, _ in PRIORS] == [inflated_prior(shape) for shape in SHAPES]


def test_flips_and_cuts_of_a_network_are_refused_or_another_network() -> None:
    data, draw = NETWORK.read_bytes(), random.Random(1)
    header = 8 + int.from_bytes(data[:8], "little")
    places = [draw.randrange(header) for _ in range(150)] + [draw.randrange(header, len(data)) for _ in range(50)]
    refused = 0
    for at in places:
        flipped = bytearray(data)
        flipped[at] ^= 1 << draw.randrange(8)
        try:
            found = load(bytes(flipped))
        except PredictorError:
            refused += 1
            continue
        assert found.fingerprint != tiny().fingerprint or (at < header and found.about != tiny().about)
    assert refused > 100
    for size in (0, 7, 8, 100, header, header + 1, len(data) - 1):
        with pytest.raises(PredictorError):
            load(data[:size])


def test_flips_of_a_file_are_found() -> None:
    """Up to the payload: the record of the predictor, its network's mark and name among it."""
    path = NETWORK.parent / "v1-network-prose-5.kmo"
    data, raw = path.read_bytes(), path.with_suffix(".raw").read_bytes()
    settings = RunSettings(model=str(NETWORK))
    assert kolmo.decompress(data, settings=settings) == raw
    for at in range(50):
        for bit in range(8):
            flipped = bytearray(data)
            flipped[at] ^= 1 << bit
            with pytest.raises(KolmoError):
                kolmo.decompress(bytes(flipped), settings=settings)


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
        shipped = neural.Neural(level).kinds()[TEXT_CODE].memory(level, 1000)
        models = [Network(source, level) for source in (small, large)]
        sizes = [model.kinds()[TEXT_CODE].memory(level, 1000) - shipped for model in models]
        assert all(model.memory(1000) >= shipped + more for model, more in zip(models, sizes, strict=True))
        assert len(small.weights.weights) < sizes[0] < sizes[1]
        assert sizes[1] > 3 * len(large.weights.weights)
    packed = kolmo.compress(TEXT, predictor=f"network:{NETWORK}")
    with pytest.raises(MemoryLimitError):
        kolmo.decompress(packed, memory_limit=1 << 20)


def beginning(code: int) -> bytes:
    """The payload of a block of one kind, without its content."""
    encoder = BinaryEncoder()
    write_segments(encoder, [Segment(code, 0, 1)])
    return encoder.finish()


def test_larger_networks_expand_less() -> None:
    assert NetworkShape().products == 3_047_424
    larger = NetworkShape(6, 640, 128, 128, ((2, 4),) * 4)
    expected = {SMALL: 1024, NetworkShape(): 1024, larger: 1024 * 3_047_424 // larger.products}
    expected[NetworkShape(32, 1024, 1024, 0, ())] = 64
    for shape, most in expected.items():
        source = OwnNetwork(tiny(), "x")
        network = Network(source, 5)
        source.weights = SimpleNamespace(shape=shape)  # type: ignore[assignment]
        assert network.expansion(beginning(TEXT_CODE)) == most
        assert network.expansion(beginning(PLAIN)) == neural.Neural(5).expansion(beginning(PLAIN)) == 1 << 13


def test_threads_and_blocks(run_folder: Path) -> None:
    data = TEXT * 3
    packed = {kolmo.compress(data, predictor=f"network:{run_folder}", block_size=300, threads=n) for n in (1, 3)}
    assert len(packed) == 1
    for threads in (1, 2):
        assert kolmo.decompress(packed.copy().pop(), threads=threads) == data


def lanes(predictor: neural.Neural, size: int) -> int:
    """Lanes of a text of `size` bytes."""
    return Text(predictor.levels, predictor.source).lanes(predictor.level, size)


def test_lanes_are_those_of_the_level(run_folder: Path) -> None:
    network = resolve(f"network:{run_folder}:5")
    assert isinstance(network, Network)
    for size in (1, 1 << 21, 1 << 22, 1 << 23, 1 << 30):
        assert lanes(network, size) == lanes(neural.Neural(5), size)


@pytest.mark.skipif(SLOW, reason="takes minutes in NumPy")
def test_several_lanes_decode(run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(Network.levels, 5, replace(Network.levels[5], lane=1000))
    network = resolve(f"network:{run_folder}:5")
    data = TEXT * 12
    encoder = BinaryEncoder()
    network.start(len(data), 2).encode(encoder, data)
    assert isinstance(network, Network)
    assert lanes(network, len(data)) == 4
    assert network.start(len(data), 1).decode(BinaryDecoder(encoder.finish())) == data


def test_it_samples_and_explains(run_folder: Path) -> None:
    spec = f"network:{run_folder}"
    size = 20 if SLOW else 200
    assert len(kolmo.sample(b"def ", predictor=spec, size=size, seed=1)) == size
    from kolmo.report import explain

    assert explain(TEXT, resolve(spec), name="x").totals.bits_per_byte


def test_every_reader_takes_settings_and_keeps_them_to_itself(run_folder: Path, cache: Path, tmp_path: Path) -> None:
    packed = kolmo.compress(TEXT, predictor=f"network:{run_folder}")
    settings = RunSettings(model=str(run_folder))
    file = tmp_path / "x.kmo"
    file.write_bytes(packed)

    def whole(given: RunSettings) -> bytes:
        return kolmo.decompress(packed, settings=given)

    def in_pieces(given: RunSettings) -> bytes:
        return kolmo.Decompressor(settings=given).decompress(packed)

    def by_file(given: RunSettings) -> bytes:
        with kolmo.open(file, settings=given) as stream:
            return bytes(stream.read())

    for read in (whole, in_pieces, by_file):
        for _ in range(2):
            cache.unlink()
            with pytest.raises(PredictorError, match="not known on this machine"):
                read(RunSettings())
            assert read(settings) == TEXT


def test_a_network_takes_no_dtype() -> None:
    with pytest.raises(KolmoError):
        resolve(f"network:{NETWORK}", dtype="float32")


# -- the command line --


def call(*arguments: object) -> tuple[int, list[str], list[str]]:
    """Status, lines of standard output, lines of standard error."""
    result = CliRunner().invoke(group, [str(argument) for argument in arguments], standalone_mode=False)
    if isinstance(result.exception, click.ClickException):
        return result.exception.exit_code, [], [result.exception.format_message()]
    if result.exception is not None:
        raise result.exception
    return result.return_value or 0, result.stdout.splitlines(), result.stderr.splitlines()


def test_every_verb_takes_it(run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("today.log").write_bytes(TEXT[:200])
    spec = f"network:{run_folder}"
    assert call("compress", "-9", "-m", spec, "today.log") == (0, [], [])
    status, shown, _ = call("list", "-v", "today.log.kmo")
    assert status == 0
    assert f"    model        notes, hash {tiny().fingerprint[:MARK_BYTES].hex()}" in shown
    assert "network:9" in shown[1]
    assert call("test", "today.log.kmo")[0] == 0
    assert call("explain", "-m", f"{spec}:7", "today.log") == (0, [], [])
    assert call("sample", "-m", spec, "-7", "-n", 5 if SLOW else 50, "--seed", 1, "-o", "sample")[0] == 0
    model_locations.index().unlink()
    status, _, errors = call("decompress", "-f", "today.log.kmo")
    assert status == 1
    assert len(errors) == 1
    assert "give its run's folder" in errors[0]
    assert call("decompress", "-f", "--model", run_folder, "today.log.kmo") == (0, [], [])
    assert Path("today.log").read_bytes() == TEXT[:200]
    for wrong, level in ((f"{spec}:10", None), (f"{spec}:3", "-4"), ("network:none", None), ("network:", None)):
        status, _, errors = call("compress", "-f", *([level] if level else []), "-m", wrong, "today.log")
        assert (status, len(errors)) == (1, 1)


def test_evaluation_takes_it(run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pyarrow")
    monkeypatch.chdir(tmp_path)
    Path("text.txt").write_bytes(TEXT)
    (result,) = kolmo.evaluate([f"network:{run_folder}:6"], "text.txt")
    bits = resolve(f"network:{run_folder}:6").start(len(TEXT)).score(TEXT).sum()
    assert result.bits_per_character == pytest.approx(bits / len(TEXT), rel=1e-5)


def test_info(run_folder: Path) -> None:
    weights = tiny()
    for path in (run_folder, run_folder / "network.safetensors"):
        status, lines, _ = call("info", path)
        assert status == 0
        text = "\n".join(lines)
        for fact in (
            weights.fingerprint.hex(),
            f"{int(weights.about['trained_bytes']):,} bytes of kolmo.txt",
            f"{weights.about['bits_per_byte']} bits per byte",
            "49,472 parameters",
        ):
            assert fact in text
        assert "priors     : learned with the network" in lines
        assert lines[-1] == f"use        : kolmo compress -m network:{path} FILE"
        record = json.loads(call("info", "--json", path)[1][0])
        assert record["priors"] is True
        assert (record["size"], record["hash"]) == (NETWORK.stat().st_size, weights.fingerprint.hex())
        about = [int(weights.about["trained_bytes"]), float(weights.about["bits_per_byte"])]
        assert [record["trained_bytes"], record["bits_per_byte"]] == about
    save(replace(weights, priors=b"", about={}), run_folder / "network.safetensors")
    status, lines, _ = call("info", run_folder)
    assert "priors     : none; those of kolmo are used" in lines
    assert not any(line.startswith(("trained", "held")) for line in lines)
    (run_folder / "network.safetensors").write_bytes(NETWORK.read_bytes()[:-1])
    status, lines, errors = call("info", run_folder)
    assert (status, lines, len(errors)) == (1, [], 1)
    assert re.search(r"ends at byte \d+, its tensors at \d+; the file is damaged", errors[0])


def test_parameters_are_those_of_the_card() -> None:
    assert NetworkShape().parameters == 10_422_400  # predictors/embedded/networks/README.md


def test_known_models(run_folder: Path, tmp_path: Path) -> None:
    def models(*arguments: str) -> list[str]:
        """The lines about models, behind those about predictors."""
        status, lines, errors = call("models", *arguments)
        assert (status, errors) == (0, [])
        return [line for line in lines if '"predictor"' not in line] if arguments else lines[lines.index("") + 1 :]

    assert models("--json") == models("-q") == []
    assert call("models", "--add", run_folder) == (0, [], [])
    mark, path = tiny().fingerprint[:MARK_BYTES].hex(), str(run_folder.resolve() / "network.safetensors")
    head, line = models()
    assert head.split() == ["Kind", "Hash", "Path"]
    assert line.split() == ["network", mark, path]
    model_locations.remember(b"abcd", tmp_path / "gone.gguf")
    model_locations.remember(b"efgh", tmp_path)
    records = [json.loads(line) for line in models("--json")]
    assert [(r["kind"], r["exists"]) for r in records] == [("network", True), ("gguf", False), ("hf", True)]
    assert models()[2].endswith("gone.gguf (not there)")
    assert call("models", "--forget", path, "--forget", b"abcd".hex()) == (0, [], [])
    assert [json.loads(line)["kind"] for line in models("--json")] == ["hf"]
    for arguments in (["--forget", path], ["--add", tmp_path / "none"], ["--add", tmp_path / "cache"]):
        status, _, errors = call("models", *arguments)
        assert (status, len(errors)) == (1, 1)


def test_predictors_and_what_they_need(monkeypatch: pytest.MonkeyPatch) -> None:
    from kolmo.cli import models

    _, lines, _ = call("models")
    assert lines[0].split()[:3] == ["Predictor", "Use", "Ready"]
    assert [line.split()[0] for line in lines[1:8]] == [*models.PREDICTORS]
    assert set(models.PREDICTORS) - {"api"} == set(BUILTIN)
    monkeypatch.setattr(models, "find_spec", lambda name: None)
    records = {
        one["predictor"]: one for line in call("models", "--json")[1] if "predictor" in (one := json.loads(line))
    }
    assert records["cm"]["ready"]
    assert not records["hf"]["ready"]
    assert records["hf"]["install"] == "pip install 'kolmo-codelength[hf]'"
    assert "no    a language model of transformers; pip install" in call("models")[1][4]


@pytest.mark.parametrize("options", [[], ["--lossless"], ["--method", "torus"], ["--bits", "2"]])
def test_shrink_leaves_it_alone(options: list[str], run_folder: Path, tmp_path: Path) -> None:
    for source in (run_folder, run_folder / "network.safetensors"):
        status, lines, errors = call("shrink", source, "-o", tmp_path / "out", *options)
        assert (status, lines) == (1, [])
        (line,) = errors
        assert line.endswith("is a network of kolmo train, which is small already; use it as it is")
        assert not (tmp_path / "out").exists()
