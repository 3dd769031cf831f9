"""The exact network: one page (docs/neural.md), the same bits from NumPy, C on every path, and torch; and its file."""

from __future__ import annotations

import hashlib
import json
import math
import random
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import golden
from helpers.implementations import IMPLEMENTATIONS, NATIVE
from kolmo.errors import PredictorError
from kolmo.native import reference, tables
from kolmo.native.network import reference as reference_network
from kolmo.native.network.reference import Hasher
from kolmo.predictors.embedded.network import NetworkShape, Weights
from kolmo.predictors.embedded.network_file import dump, load, save

SMALL = NetworkShape(2, 64, 32, 32, ((2, 6), (0, 5), (4, 4)))
SHAPES = {
    "small": SMALL,
    "no tables": NetworkShape(1, 128, 64, 0, ()),
    "wide": NetworkShape(1, 64, 256, 96, ((0, 4), (2, 5), (3, 6), (4, 7), (0, 8), (2, 9), (3, 10), (4, 4))),
    "deep": NetworkShape(5, 192, 64, 64, ((3, 8),)),
}
LARGEST = NetworkShape(1, 1024, 512, 64, ((2, 4), (3, 4), (4, 4), (0, 4)) * 2)
PATHS = NATIVE.PATHS if NATIVE else ()
TEXT = Path(__file__).read_bytes()
Change = Callable[[dict[str, Any]], Any]


@pytest.fixture(autouse=True)
def _restore_path() -> Iterator[None]:
    yield
    if NATIVE:
        NATIVE.force_path(NATIVE.PATHS[-1])


def make(shape: NetworkShape, seed: int = 1, kind: str = "plain") -> Weights:
    """A network of random weights, the same on every machine: sensible ones, or what strains the arithmetic."""
    draw = random.Random(seed)

    def floats(name: str, count: int) -> Any:
        width, state = shape.width, shape.state
        size = {"embedding_scale": 0.01, "in_scale": 1e-3 / width**0.5, "bias": 2.0, "out_scale": 8e-4 / state**0.5}
        size |= {"head_scale": 2e-3 / width**0.5, "head_bias": 0.3, "scale": 0.2}
        if kind == "loud":  # inputs of more than 1024: 4096 times that is rounded to less than whole numbers
            size["embedding_scale"] = 100.0
        values = np.frombuffer(draw.randbytes(4 * count), "<i4") / 2.0**31
        if kind == "huge":
            return np.where(values < 0, -(2.0**20), 2.0**20)
        if kind == "tiny":  # down to subnormal numbers
            return values * 2.0**-126
        if kind == "mixed":
            return np.sign(values) * 2.0 ** (40 * values - 20)
        return values * size.get(name.split(".")[-1], size.get(name.split("_")[-1], 1.0))

    parts: list[Any] = []
    for name, dtype, sizes, _, _ in shape.tensors():
        count = math.prod(sizes)
        if dtype == "I8":
            raw = np.frombuffer(draw.randbytes(count), np.int8)
            extreme = np.where(raw < 0, -127, 127) if kind != "huge" else np.full(count, 127)
            parts.append((np.maximum(raw, -127) if kind in ("plain", "loud") else extreme).astype(np.int8))
        elif dtype == "U8":
            nibbles = np.frombuffer(draw.randbytes(2 * count), np.uint8) % 15 + 1
            parts.append(nibbles[::2] | nibbles[1::2] << 4)
        elif dtype == "F16":
            parts.append(np.clip(floats(name, count), -60000, 60000).astype("<f2"))
        else:
            parts.append(floats(name, count).astype("<f4"))
    return Weights(shape, b"".join(part.tobytes() for part in parts))


def run(kernels: Any, weights: Weights, lanes: int, symbols: bytes) -> bytes:
    return bytes(kernels.Network(weights.config, weights.weights).start(lanes).step(symbols))


def numbers(sums: bytes, lanes: int) -> Any:
    return np.frombuffer(sums, "=u4").reshape(-1, lanes, 512)


def test_the_bits_are_frozen() -> None:
    text = "\nOnce upon a time there was a Größe; it(1) = naïve, and so it went on: 数字. ".encode() * 6
    sums = numbers(run(reference, make(SMALL), 3, text[: len(text) // 3 * 3]), 3)
    digest = hashlib.sha256(sums.astype("<u4").tobytes()).hexdigest()
    assert digest == "2608ee1a3dbf64a7cda518b015910b4ecd2f9db7fc8bd14aca3fe774672e2310"


def test_sums_are_of_weights() -> None:
    sums = numbers(run(reference, make(SMALL), 2, TEXT[:100]), 2)
    assert (sums[..., 1] == sums[..., 256:].sum(-1)).all()
    assert (sums[..., 2:4].sum(-1) == sums[..., 1]).all()
    assert (sums[..., 0] == 0).all()
    assert sums[..., 256:].min() >= 1
    assert (sums[..., 256:].max(-1) == 1 << 22).all()
    assert len(np.unique(sums[..., 1])) > 50


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("kind", ["plain", "loud", "huge", "tiny", "mixed"])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_every_path_gives_the_reference_bits(shape: NetworkShape, kind: str, path: str) -> None:
    NATIVE.force_path(path)
    weights = make(shape, 2, kind)
    for lanes in (1, 2, 3, 5, 16, 17, 33):
        symbols = TEXT[lanes : lanes + 9 * lanes]
        assert run(NATIVE, weights, lanes, symbols) == run(reference, weights, lanes, symbols), lanes


@pytest.mark.skipif(NATIVE is None, reason="the C kernels are not built here")
def test_a_text_again_and_again_gives_the_reference_bits() -> None:
    """Values within the network that ships grow beyond 1024 there, and C once rounded them otherwise than NumPy."""
    from kolmo.predictors.embedded import text

    symbols = b"\n" + (golden.RELEASE / "v1-neural-blocks.raw").read_bytes()[:559]
    expected = run(reference, text.network(), 1, symbols)
    for path in PATHS:
        NATIVE.force_path(path)
        assert run(NATIVE, text.network(), 1, symbols) == expected, path


@pytest.mark.skipif(NATIVE is None, reason="the C kernels are not built here")
@pytest.mark.parametrize("kind", ["plain", "huge"])
def test_the_largest_sizes(kind: str) -> None:
    weights = make(LARGEST, 3, kind)
    expected = run(reference, weights, 7, TEXT[:35])
    for path in PATHS:
        NATIVE.force_path(path)
        assert run(NATIVE, weights, 7, TEXT[:35]) == expected, path


@pytest.mark.parametrize("kernels", IMPLEMENTATIONS)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_any_cut_into_steps_and_lanes_gives_the_same_bits(kernels: ModuleType, data: st.DataObject) -> None:
    lanes, steps = data.draw(st.integers(1, 20)), data.draw(st.integers(0, 30))
    symbols = data.draw(st.binary(min_size=lanes * steps, max_size=lanes * steps) | st.just(TEXT[: lanes * steps]))
    weights = make(SMALL)
    expected = numbers(run(reference, weights, lanes, symbols), lanes)
    if NATIVE:
        NATIVE.force_path(data.draw(st.sampled_from(NATIVE.PATHS)))
    running = kernels.Network(weights.config, weights.weights).start(lanes)
    edges = sorted({0, lanes, *data.draw(st.lists(st.integers(0, lanes), max_size=3))})
    for first, last in pairwise(edges):  # ranges of lanes, each cut in its own way
        cuts = sorted({0, steps, *data.draw(st.lists(st.integers(0, steps), max_size=4))})
        for a, b in pairwise(cuts):
            sums = numbers(running.step(symbols[a * lanes : b * lanes], first, last), lanes)
            assert (sums[:, first:last] == expected[a:b, first:last]).all()
            assert not sums[:, :first].any()
            assert not sums[:, last:].any()


@pytest.mark.parametrize("kernels", IMPLEMENTATIONS)
def test_a_lane_knows_nothing_of_the_others(kernels: ModuleType) -> None:
    weights, lanes = make(SMALL), 5
    symbols = np.frombuffer(TEXT[: 40 * lanes], np.uint8).reshape(-1, lanes)
    together = numbers(run(kernels, weights, lanes, symbols.tobytes()), lanes)
    for lane in range(lanes):
        alone = numbers(run(kernels, weights, 1, symbols[:, lane].tobytes()), 1)
        assert (alone[:, 0] == together[:, lane]).all()


@pytest.mark.parametrize("kernels", IMPLEMENTATIONS)
def test_kernels_refuse_what_does_not_fit(kernels: ModuleType) -> None:
    good = make(SMALL)
    config = np.frombuffer(good.config, "=i4")
    assert config.tolist() == [2, 64, 32, 32, 3, 2, 6, 0, 5, 4, 4]
    changes = [(0, 0), (0, 33), (0, -1), (1, 0), (1, 96), (1, 1088), (1, -64), (2, 0), (2, 16), (2, 64), (3, 0)]
    changes += [(3, -32), (3, 1 << 30), (4, 2), (4, 9), (4, -1), (5, 1), (5, 5), (6, 3), (6, 25), (6, 7)]
    for at, value in changes:
        bad = config.copy()
        bad[at] = value
        with pytest.raises(ValueError, match="fit the kernel"):
            kernels.Network(bad.tobytes(), good.weights)
    for blob in (b"", good.weights[:-1], good.weights + b"\0"):
        with pytest.raises(ValueError, match="the weights do not fit the kernel"):
            kernels.Network(good.config, blob)
    for bytes_of_config in (b"", good.config[:-1], good.config[:-4], good.config + bytes(4), bytes(400)):
        with pytest.raises(ValueError, match="fit the kernel"):
            kernels.Network(bytes_of_config, good.weights)
    for name, raw in WRONG_VALUES:
        with pytest.raises(ValueError, match="out of its range"):
            kernels.Network(good.config, with_value(good, name, raw))
    network = kernels.Network(good.config, good.weights)
    for lanes in (0, -1, 65537):
        with pytest.raises(ValueError, match="lanes"):
            network.start(lanes)
    running = network.start(3)
    with pytest.raises(ValueError, match="whole number of steps"):
        running.step(b"abcd")
    for first, last in ((-1, 2), (0, 4), (2, 2), (2, 1)):
        with pytest.raises(ValueError, match="not among"):
            running.step(b"abc", first, last)
    assert running.step(b"") == b""


WRONG_VALUES = [
    ("embedding", b"\x80"),
    ("layer.1.in", b"\x80"),
    ("layer.0.out", b"\x80"),
    ("head", b"\x80"),
    ("table.1", b"\x10"),
    ("table.2", b"\x0f"),
    ("table.0_scale", struct.pack("<e", math.inf)),
    ("table.0_scale", struct.pack("<e", math.nan)),
    ("layer.0.bias", struct.pack("<f", math.nan)),
    ("layer.1.in_scale", struct.pack("<f", -math.inf)),
    ("head_bias", struct.pack("<f", 2.0**20 + 1)),
]


def with_value(weights: Weights, name: str, raw: bytes) -> bytes:
    """The tensors' bytes with the last value of one replaced."""
    (place,) = [place for place in weights.shape.tensors() if place.name == name]
    return weights.weights[: place.end - len(raw)] + raw + weights.weights[place.end :]


@pytest.mark.skipif(NATIVE is None, reason="the C kernels are not built here")
def test_lanes_in_two_threads_are_an_error_not_a_crash() -> None:
    weights = make(SHAPES["deep"])
    running = NATIVE.Network(weights.config, weights.weights).start(4)
    errors = []

    def use() -> None:
        try:
            running.step(TEXT[:8000])
        except RuntimeError as error:
            errors.append(error)

    threads = [threading.Thread(target=use) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all("another thread" in str(error) for error in errors)


def test_exp2_and_logarithms_are_what_they_claim() -> None:
    exp2, log = tables.exp2_weights(), tables.logarithms()
    assert (len(exp2), exp2.itemsize, len(log), log.itemsize) == (1024, 4, 1024, 2)
    for i in range(1024):
        assert abs(exp2[i] - 2 ** (22 - i / 1024)) < 0.500001
        assert abs(log[i] - 4096 * math.log1p((i + 0.5) / 1024)) < 0.500001


@pytest.mark.parametrize("kernels", IMPLEMENTATIONS)
def test_stretch_is_the_logarithm_of_the_odds(kernels: ModuleType) -> None:
    draw = random.Random(5)
    pairs = [(1, 1), (1, 1 << 30), (1 << 30, 1), (1023, 1024), (3, 2)]
    pairs += [(draw.randrange(1, 1 << draw.randrange(1, 31)), draw.randrange(1, 1 << 30)) for _ in range(500)]
    for zeros, ones in pairs:
        stretch = kernels.network_stretch(zeros, ones)
        assert stretch == reference.network_stretch(zeros, ones)
        assert abs(stretch - min(max(256 * math.log(ones / zeros), -2047), 2047)) < 1.7


def plain_entries(tables: tuple[tuple[int, int], ...], text: bytes) -> list[list[int]]:
    """The page's "Hashed tables", byte by byte."""
    low32 = 0xFFFFFFFF
    c4 = word = 0
    inside = False
    out = []
    for c in text:
        c4 = (c4 << 8 | c) & low32
        if 65 <= c <= 90 or 97 <= c <= 122 or c >= 128:
            lower = c + 32 if 65 <= c <= 90 else c
            word = ((word if inside else 0) + lower + 1) * 0x2F0B4C47 & low32
            inside, key0 = True, word
        else:
            inside, key0 = False, word + (c + 1) * 0x9E3779B1 & low32
        row = []
        for order, bits in tables:
            key = c4 % 256**order if order else key0
            key = (key ^ key >> 15) * 0x9E3779B1 & low32
            row.append(((key ^ key >> 13) * 0x2F0B4C47 & low32) >> 32 - bits)
        out.append(row)
    return out


@given(text=st.binary(max_size=60) | st.text(max_size=40).map(str.encode), lanes=st.integers(1, 3))
def test_hashes_are_the_page_s(text: bytes, lanes: int) -> None:
    orders = ((2, 14), (3, 24), (4, 4), (0, 15))
    steps = len(text) // lanes
    symbols = np.frombuffer(text[: steps * lanes], np.uint8).reshape(steps, lanes)
    hasher = Hasher(orders, lanes)
    found = np.concatenate([hasher.step(symbols[:2]), hasher.step(symbols[2:])], 1)
    for lane in range(lanes):
        assert found[:, :, lane].T.tolist() == plain_entries(orders, symbols[:, lane].tobytes())


# The file.


def header_of(file: bytes) -> tuple[dict[str, Any], bytes]:
    (size,) = struct.unpack_from("<Q", file)
    return json.loads(file[8 : 8 + size]), file[8 + size :]


def with_header(header: Any, rest: bytes) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + rest


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_a_file_holds_a_network(shape: NetworkShape, tmp_path: Path) -> None:
    weights = make(shape)
    save(weights, tmp_path / "net.safetensors")
    again = load(tmp_path / "net.safetensors")
    assert again == weights
    assert load(dump(weights)) == weights
    assert [path.name for path in tmp_path.iterdir()] == ["net.safetensors"]
    text = f"{shape.layers},{shape.state},{shape.embedding},{shape.slot}," + ",".join(
        f"{a}:{b}" for a, b in shape.tables
    )
    assert again.fingerprint == hashlib.sha256(text.encode() + weights.weights).digest()
    assert make(shape, 2).fingerprint != weights.fingerprint


def test_safetensors_reads_and_writes_it_too(tmp_path: Path) -> None:
    library = pytest.importorskip("safetensors.numpy")
    weights = make(SMALL)
    save(weights, tmp_path / "ours")
    tensors = library.load_file(tmp_path / "ours")
    assert set(tensors) == {place.name for place in SMALL.tensors()}
    for name, values in tensors.items():
        assert np.array_equal(values, weights.tensor(name))
    library.save_file(tensors, tmp_path / "theirs", {"format": "kolmo-network", "version": "1", **SMALL.metadata()})
    assert (tmp_path / "theirs").read_bytes() != (tmp_path / "ours").read_bytes()
    assert load(tmp_path / "theirs") == weights


def claim(name: str, value: Any) -> Change:
    return lambda header: header["__metadata__"].update({name: value})


def alter(tensor: str, **values: Any) -> Change:
    return lambda header: header[tensor].update(values)


HOSTILE: dict[str, Change] = {
    "no metadata": lambda header: header.pop("__metadata__"),
    "metadata no object": lambda header: header.update(__metadata__=[]),
    "another format": claim("format", "pt"),
    "another version": claim("version", "3"),
    "more metadata": claim("author", "x"),
    "metadata no strings": claim("layers", 2),
    "no layers": claim("layers", "0"),
    "many layers": claim("layers", "33"),
    "endless layers": claim("layers", "9" * 5000),
    "signed layers": claim("layers", "+2"),
    "more layers than there are": claim("layers", "3"),
    "less layers than there are": claim("layers", "1"),
    "odd state": claim("state", "65"),
    "huge state": claim("state", "9984"),
    "huge slot": claim("slot", "9984"),
    "odd embedding": claim("embedding", "48"),
    "tables no text": claim("tables", "2:6;0:5;4:4"),
    "huge tables": claim("tables", "2:24,0:24,4:24"),
    "order 1": claim("tables", "1:6,0:5,4:4"),
    "too many tables": claim("tables", ",".join(["2:6"] * 9)),
    "few bits": claim("tables", "2:6,0:5,4:3"),
    "tensor missing": lambda header: header.pop("head"),
    "tensor too many": lambda header: header.update(tail=header["head"]),
    "tensor no object": lambda header: header.update(head=[]),
    "another dtype": alter("head", dtype="U8"),
    "another shape": alter("head", shape=[128, 256]),
    "shape of truths": alter("head_bias", shape=[256.0]),
    "more than a tensor": alter("head", more=1),
    "offsets no list": alter("head", data_offsets=7),
    "offsets of three": alter("head", data_offsets=[0, 1, 2]),
    "offsets reversed": alter("head", data_offsets=[9, 3]),
    "offsets negative": alter("embedding_scale", data_offsets=[-1024, 0]),
    "offsets true": alter("embedding", data_offsets=[False, 8192]),
    "offsets a fraction": alter("embedding", data_offsets=[0.0, 8192.0]),
    "offsets beyond the end": alter("embedding", data_offsets=[1 << 62, (1 << 62) + 8192]),
    "overlap": lambda header: header["head_scale"].update(data_offsets=header["head_bias"]["data_offsets"]),
}


@pytest.mark.parametrize("change", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_headers_are_refused(change: Change, tmp_path: Path) -> None:
    header, rest = header_of(dump(make(SMALL)))
    change(header)
    path = tmp_path / "hostile.net"
    path.write_bytes(with_header(header, rest))
    with pytest.raises(PredictorError, match=r"hostile\.net: .*; the file is damaged"):
        load(path)


def test_hostile_bytes_are_refused() -> None:
    file = dump(make(SMALL))
    header, rest = header_of(file)
    text = json.dumps(header)
    duplicate = text[:-1] + ', "head": ' + json.dumps(header["head"]) + "}"
    files = [b"", file[:7], file[:8], file[:100], file[:-1], file + b"\0", bytes(len(file)), b"\xff" * len(file)]
    files += [with_header(broken, rest) for broken in (b"{", b"[]", b"12", b'"a"', b"\xff\xfe", duplicate.encode())]
    files += [with_header(b"[" * 60000, rest), with_header(text.encode() + b" " * 70000, rest)]
    files += [with_header(header, b"\0" + rest), with_header(b'{"a":' + b"9" * 9000 + b"}", rest)]
    for hostile in files:
        with pytest.raises(PredictorError, match="the network: "):
            load(hostile)


@pytest.mark.parametrize(("name", "raw"), WRONG_VALUES)
def test_a_value_out_of_range_is_refused_with_its_place(name: str, raw: bytes) -> None:
    file = dump(make(SMALL))
    (size,) = struct.unpack_from("<Q", file)
    with pytest.raises(PredictorError, match=f"value .* of tensor '{name}' is "):
        load(file[: 8 + size] + with_value(make(SMALL), name, raw))


def test_weights_check_themselves() -> None:
    weights = make(SMALL)
    with pytest.raises(PredictorError, match="65 layers"):
        Weights(replace(SMALL, layers=65), weights.weights)
    with pytest.raises(PredictorError, match="bytes of tensors"):
        Weights(SMALL, weights.weights[1:])
    with pytest.raises(PredictorError, match="no-such-file"):
        load("no-such-file")


@settings(max_examples=200, deadline=None)
@given(at=st.integers(0, 2600), value=st.integers(0, 255))
def test_a_flipped_byte_is_refused_or_a_network(at: int, value: int) -> None:
    file = bytearray(dump(make(SMALL)))
    file[at] = value
    try:
        weights = load(bytes(file))
    except PredictorError:
        return
    run(NATIVE or reference, weights, 1, b"\n")


# torch.


@pytest.fixture
def torch() -> Any:
    return pytest.importorskip("torch", reason="torch is not installed")


def run_torch(torch: Any, weights: Weights, lanes: int, symbols: bytes, cuts: list[int], device: str = "cpu") -> Any:
    from kolmo.training.networks.exact import ExactNetwork

    running = ExactNetwork(weights, device).start(lanes)
    rows = torch.frombuffer(bytearray(symbols), dtype=torch.uint8).reshape(-1, lanes)
    parts = [running.step(rows[a:b]).cpu() for a, b in zip([0, *cuts], [*cuts, len(rows)], strict=True)]
    return torch.cat(parts).numpy()


@pytest.mark.parametrize("kind", ["plain", "loud", "huge", "tiny", "mixed"])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_torch_gives_the_reference_bits(torch: Any, shape: NetworkShape, kind: str) -> None:
    weights = make(shape, 4, kind)
    for lanes in (1, 3, 17):
        expected = numbers(run(reference, weights, lanes, TEXT[: 12 * lanes]), lanes)
        assert (run_torch(torch, weights, lanes, TEXT[: 12 * lanes], [1, 6]) == expected).all()


@pytest.mark.gpu
def test_a_gpu_gives_the_reference_bits(torch: Any) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    for shape in (*SHAPES.values(), LARGEST):
        for kind in ("plain", "loud", "huge", "tiny", "mixed"):
            weights = make(shape, 6, kind)
            for lanes in (1, 64):
                expected = numbers(run(reference, weights, lanes, TEXT[: 40 * lanes]), lanes)
                assert (run_torch(torch, weights, lanes, TEXT[: 40 * lanes], [1, 30], "cuda") == expected).all()


@pytest.mark.skipif(NATIVE is None, reason="the C kernels are not built here")
def test_flushing_of_subnormals_around_it_changes_nothing(torch: Any) -> None:
    weights = make(SMALL, 2, "tiny")
    expected = run(reference, weights, 2, TEXT[:40])
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor cannot flush")
    try:
        assert (torch.tensor(1e-30) * 1e-10).item() == 0
        for path in PATHS:
            NATIVE.force_path(path)
            assert run(NATIVE, weights, 2, TEXT[:40]) == expected, path
        assert (torch.tensor(1e-30) * 1e-10).item() == 0
    finally:
        torch.set_flush_denormal(False)


def test_an_exported_network_predicts_as_the_trained_one(torch: Any) -> None:
    from kolmo.training.networks.models import GatedRecurrent
    from kolmo.training.products.export import quantise

    torch.manual_seed(1)
    shape = NetworkShape(2, 64, 64, 32, ((2, 8), (0, 8)))
    model, lanes = GatedRecurrent(shape), 16
    steps = len(TEXT) // lanes
    text = np.frombuffer(TEXT[: steps * lanes], np.uint8).reshape(lanes, steps).T.copy()
    hashes = torch.from_numpy(Hasher(shape.tables, lanes).step(text))
    data = torch.from_numpy(text.astype(np.int64))

    def loss(part: slice, state: Any) -> Any:
        following = data[part.start + 1 : part.stop + 1]
        logits = model(data[part], hashes[:, part], state)
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1), following.flatten()) / math.log(2)

    optimiser = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(3):
        state = model.start(lanes)
        for at in range(0, steps - 65, 64):
            optimiser.zero_grad()
            loss(slice(at, at + 64), state).backward()
            optimiser.step()
    model.quantised = True
    with torch.no_grad():
        trained = float(loss(slice(0, steps - 1), model.start(lanes)))
    weights = quantise(model)
    assert load(dump(weights)) == weights
    sums = numbers(run(NATIVE or reference, weights, lanes, text[:-1].tobytes()), lanes).astype(float)
    weight = np.take_along_axis(sums[..., 256:], text[1:, :, None].astype(np.int64), -1)[..., 0]
    exact = float(-np.log2(weight / sums[..., 1]).mean())
    assert trained < 4
    assert abs(exact / trained - 1) < 0.01, (exact, trained)


def test_rows_of_zeros_and_wide_steps_are_exported(torch: Any) -> None:
    from kolmo.training.networks.models import LEVELS, GatedRecurrent
    from kolmo.training.products.export import quantise

    model = GatedRecurrent(SMALL)
    with torch.no_grad():
        model.tables[0][:2] = 0
        model.tables[0][2] = 1e-7  # below a half of the least binary16 times 7
        model.tables[0][3] = torch.linspace(-2.1e-6, 2.1e-6, 32)  # steps that binary16 rounds coarsely
        model.outward[0, 0, :5] = 0
    weights = quantise(model)
    pairs, step = weights.tensor("table.0"), weights.tensor("table.0_scale").astype(float)
    values = np.stack([pairs & 15, pairs >> 4], -1).reshape(len(pairs), -1).astype(int) - 8
    wanted = model.tables[0].detach().numpy()
    assert (np.abs(values * step[:, None] - wanted) <= step[:, None] / 2 + 1e-6).all()
    assert not values[:2].any()
    assert not weights.tensor("layer.0.out")[:5].any()
    row = model.outward[0, 0, 5].detach().numpy()
    levels, scale = weights.tensor("layer.0.out")[5].astype(float), float(weights.tensor("layer.0.out_scale")[5]) * 16
    assert scale == pytest.approx(np.abs(row).max() / LEVELS, rel=0.02)
    assert np.abs(levels * scale - row).max() < 3 * scale
    assert scale == pytest.approx((levels @ row) / (levels @ levels))


def test_matrices_on_the_trellis_are_stored_as_indices(torch: Any) -> None:
    from kolmo.training.networks.models import GatedRecurrent
    from kolmo.training.products.export import quantise

    weights = quantise(GatedRecurrent(SMALL))
    file = dump(weights)
    header, at = json.loads(file[8 : 8 + struct.unpack("<Q", file[:8])[0]]), 8 + struct.unpack("<Q", file[:8])[0]
    assert header["__metadata__"]["version"] == "2"
    assert load(file) == weights
    begin, end = header["layer.1.in"]["data_offsets"]
    indices = np.frombuffer(file[at + begin : at + end], np.int8).reshape(192, 128)
    for row, levels in zip(indices.tolist(), weights.tensor("layer.1.in").tolist(), strict=True):
        state = 0
        for index, level in zip(row, levels, strict=True):
            assert level == 2 * index + (state & 1)
            state = state >> 1 ^ (5 if state & 1 else 0) ^ (2 if index & 1 else 0)
    for index, message in ((-64, r"layer\.1\.in.*-128"), (-65, "beyond -64..63"), (64, "beyond -64..63")):
        wrong = bytearray(file)
        wrong[at + begin] = index % 256
        with pytest.raises(PredictorError, match=message):
            load(bytes(wrong))
    assert json.loads(dump(make(SMALL))[8:][:200].split(b"}")[0] + b"}}")["__metadata__"]["version"] == "1"


def test_rows_far_from_zero_are_normalised_as_in_training(torch: Any) -> None:
    from kolmo.training.networks.cells import normalise
    from kolmo.training.networks.exact import _normalise

    x = torch.randn(7, 384, generator=torch.Generator().manual_seed(3)) * torch.tensor([3000.0] + [1.0] * 383)
    exact = _normalise(x, 16.0)
    assert (exact == normalise(x, 16.0, True, torch.float32)).float().mean() > 0.999
    assert (exact.numpy() == reference_network.normalise(x.numpy(), 16.0)).all()
