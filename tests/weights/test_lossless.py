"""Base and residual: C against its specification, exact round trips of every float, hostile payloads, whole files."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

import kolmo
from helpers.implementations import IMPLEMENTATIONS, NATIVE
from kolmo.cli import group
from kolmo.errors import CorruptError, KolmoError
from kolmo.hyperfunctions.torus import Torus
from kolmo.hyperfunctions.trellis import Trellis
from kolmo.hyperfunctions.trellis_payload import HEADER, checksum
from kolmo.native import reference
from kolmo.native.dispatch import SLOW
from kolmo.safetensors import read_span
from kolmo.weights.format import lossless, reader
from kolmo.weights.format.reader import ShrunkFile
from kolmo.weights.sources.dtypes import from_floats, to_floats

Bits = npt.NDArray[np.integer[Any]]
quick = pytest.mark.skipif(SLOW, reason="too slow in Python")
DTYPES = {"BF16": 2, "F16": 2, "F32": 4, "F64": 8}
MANTISSAS = {"BF16": 7, "F16": 10, "F32": 23, "F64": 52}


def bits_of(dtype: str, count: int, seed: int = 0, scale: float = 0.05) -> Bits:
    """Floats of a dtype as integers: weights, and one of each kind that is rare."""
    size, mantissa = DTYPES[dtype], MANTISSAS[dtype]
    weights = (np.random.default_rng(seed).standard_normal(count) * scale).astype(np.float32)
    bits: Bits = np.frombuffer(from_floats(weights, dtype), f"<u{size}").astype(f"u{size}")
    sign = 1 << 8 * size - 1
    rare = [0, sign, 1, sign | 1, 1 << mantissa - 1, 3 << mantissa - 1, sign | 1 << mantissa]
    bits[: len(rare)] = np.array(rare, bits.dtype)[:count]
    return bits


def round_trip(data: bytes, dtype: str, columns: int) -> tuple[bytes, bytes]:
    code, rest = lossless.encode(data, dtype, columns)
    shape = len(data) // DTYPES[dtype] // columns, columns
    assert lossless.decode(code, rest, dtype, shape) == data
    return code, rest


@pytest.mark.skipif(NATIVE is None, reason="the C kernels were not built")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("depth", [0, 1, 8])
def test_c_equals_the_reference(dtype: str, depth: int) -> None:
    assert NATIVE is not None
    for seed, (zeros, dropped, below) in enumerate([(0, 0, 3), (1, 0, 6), (1, 4, -2), (0, 0, 40)]):
        bits = bits_of(dtype, 600, seed)
        bits[::9] = 0
        bits = bits >> dropped << dropped
        bias = (1 << 8 * DTYPES[dtype] - 2 - MANTISSAS[dtype]) - 1
        exponent = max(bias - 2 - below, bias - 14, 1)
        data = bits.tobytes()
        fixed = lossless.KIND[dtype], dropped, exponent, depth, zeros, 7
        coded = NATIVE.residual_encode(*fixed, 0, data, b"")
        assert coded == reference.residual_encode(*fixed, 0, data, b"")
        weights = np.frombuffer(data, f"<u{DTYPES[dtype]}")
        values = to_floats(weights.astype(f"<u{DTYPES[dtype]}").tobytes(), dtype)
        levels = (values * 2.0 ** (bias - exponent)).astype(np.int32).tobytes()
        for kernels in (NATIVE, reference):
            assert kernels.residual_decode(*fixed[:5], 0, 7, 0, levels, *coded) == data
        for phase in (0, 3):  # rows of their own
            rows = -(-(600 + phase) // 7)
            counts = bytes([dropped // 2, dropped, dropped, 0, 0][i % 5] for i in range(rows))
            coded = NATIVE.residual_encode(*fixed, phase, data, counts)
            assert coded == reference.residual_encode(*fixed, phase, data, counts)
            for kernels in (NATIVE, reference):
                assert kernels.residual_decode(*fixed[:5], 1, 7, phase, levels, *coded) == data


@pytest.mark.parametrize("kernels", IMPLEMENTATIONS)
def test_what_the_kernels_refuse(kernels: ModuleType) -> None:
    bits = bits_of("BF16", 64)
    fixed = 0, 0, 120, 1, 1, 8
    code, raw = kernels.residual_encode(*fixed, 0, bits.tobytes(), b"")
    decoded = *fixed[:5], 0, 8, 0
    levels = (to_floats(bits.astype("<u2").tobytes(), "BF16") * 128).astype(np.int32)
    refused = [(4, 0, 120, 1, 1, 8), (0, 8, 120, 1, 1, 8), (0, 0, 0, 1, 1, 8), (0, 0, 255, 1, 1, 8)]
    for wrong in [*refused, (0, 0, 120, 9, 1, 8), (0, 0, 120, 1, 1, 0), (0, 3, 120, 1, 1, 8)]:
        with pytest.raises(ValueError, match="do not fit"):
            kernels.residual_encode(*wrong, 0, bits.tobytes(), b"")
    for phase, counts in [(8, b""), (-1, b""), (0, bytes(7)), (0, bytes(9)), (1, bytes(8)), (0, b"\x08" + bytes(7))]:
        with pytest.raises(ValueError, match="do not fit"):
            kernels.residual_encode(*fixed, phase, bits.tobytes(), counts)
    for value in (0x7F80, 0xFFC1, 0x7E80):  # infinite, no number, too large for a level
        with pytest.raises(ValueError, match="do not fit"):
            kernels.residual_encode(*fixed, 0, np.array([value], np.uint16).tobytes(), b"")
    huge = np.where(np.arange(64) == 40, 1 << 21, levels).astype(np.int32)
    lowest = np.where(np.arange(64) == 40, -(1 << 31), levels).astype(np.int32)
    other = np.where(np.arange(64) == 40, levels + 4096, levels).astype(np.int32)
    for parts in [(code + b"\1" * 9, raw), (code, raw[:-1]), (code, raw + b"\0")]:
        with pytest.raises(CorruptError, match="not those of these levels"):
            kernels.residual_decode(*decoded, levels.tobytes(), *parts)
    for changed in (huge, lowest, other):
        with pytest.raises(CorruptError, match="not those of these levels"):
            kernels.residual_decode(*decoded, changed.tobytes(), code, raw)
    with pytest.raises(CorruptError, match="not those of these levels"):  # a float that would be infinite
        kernels.residual_decode(0, 0, 254, 1, 1, 0, 8, 0, np.array([2], np.int32).tobytes(), b"", b"")
    rows = kernels.residual_encode(*fixed, 3, bits.tobytes(), bytes(9))
    assert kernels.residual_decode(*fixed[:5], 1, 8, 3, levels.tobytes(), *rows) == bits.tobytes()
    with pytest.raises(CorruptError, match="not those of these levels"):  # a row that drops more than there is
        kernels.residual_decode(*fixed[:5], 1, 8, 3, levels.tobytes(), b"\xff" * 40, b"\x3f" * 200)


@given(data=st.data(), dtype=st.sampled_from(sorted(DTYPES)))
@settings(max_examples=40, deadline=None)
def test_any_finite_floats(data: st.DataObject, dtype: str) -> None:
    size, mantissa = DTYPES[dtype], MANTISSAS[dtype]
    columns, rows = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 12))
    exponents = data.draw(st.tuples(*[st.integers(0, (1 << 8 * size - 1 - mantissa) - 2)] * 2).map(sorted))
    seed = data.draw(st.integers(0, 99))
    draw = np.random.default_rng(seed)
    exponent = draw.integers(exponents[0], exponents[1] + 1, rows * columns).astype(np.uint64)
    lower = draw.integers(0, 1 << mantissa, rows * columns).astype(np.uint64)
    sign = draw.integers(0, 2, rows * columns).astype(np.uint64)
    bits = sign << np.uint64(8 * size - 1) | exponent << np.uint64(mantissa) | lower
    try:
        round_trip(bits.astype(f"<u{size}").tobytes(), dtype, columns)
    except ValueError:  # of binary64 and the largest binary32
        assert exponents[1] - (1 << 8 * size - 2 - mantissa) > 80


@quick
def test_near_the_entropy() -> None:
    weights = np.random.default_rng(0).standard_normal((512, 512)).astype(np.float32)
    sizes = {}
    for dtype in DTYPES:
        code, rest = round_trip(from_floats(weights, dtype), dtype, 512)
        sizes[dtype] = 8 * (len(code) + len(rest)) / weights.size
    assert sizes["BF16"] < 10.5  # 10.46 is the entropy
    assert sizes["F16"] < 13.51
    assert sizes["F32"] < 26.51
    assert sizes["F64"] == pytest.approx(sizes["F32"], abs=0.01)  # they were F32 once
    short = from_floats(to_floats(from_floats(weights, "BF16"), "BF16"), "F32")
    assert 8 * sum(map(len, round_trip(short, "F32", 512))) / weights.size < sizes["BF16"] + 0.01
    rows = weights * np.exp2(np.arange(512) % 5 - 2, dtype=np.float32)[:, None]
    scaled = 8 * sum(map(len, round_trip(from_floats(rows, "BF16"), "BF16", 512))) / weights.size
    assert scaled < 10.7  # of all rows together the entropy is 11.0


@quick
def test_rows_that_were_shorter_floats_once() -> None:
    weights = np.random.default_rng(0).standard_normal((512, 1000)).astype(np.float32)
    tuned = weights.copy()
    old = np.random.default_rng(1).random(512) < 0.4
    tuned[old] = weights[old].astype(np.float16)
    tuned[7] = 0
    bits = {"all": weights, "some": tuned}
    sizes = {name: 8 * sum(map(len, round_trip(one.tobytes(), "F32", 1000))) / one.size for name, one in bits.items()}
    assert sizes["all"] - sizes["some"] == pytest.approx(
        13 * (tuned.size - 1000 - 1000 * (~old).sum()) / tuned.size, rel=0.02
    )
    narrow = weights.reshape(-1, 2)  # lowest bits that are 0 by chance are not worth a flag in most rows
    flags = round_trip(narrow.tobytes(), "F32", 2)[1][1]
    assert not flags & lossless.ROWS


@quick
def test_structure_in_the_mantissa_is_found() -> None:
    grid = np.random.default_rng(0).integers(-7, 8, (256, 256)).astype(np.float32) * np.float32(0.013)
    code, rest = round_trip(from_floats(grid, "BF16"), "BF16", 256)
    assert 8 * (len(code) + len(rest)) / grid.size < 4.3  # 15 values: 3.91
    zeros = bytes(2 * 65536)
    assert sum(map(len, round_trip(zeros, "BF16", 256))) < 400


@quick
def test_tiles_and_threads() -> None:
    data = bits_of("F16", 600 * 1000).astype("<u2").tobytes()
    code, rest = lossless.encode(data, "F16", 1000)
    for threads in (1, 3):
        assert lossless.decode(code, rest, "F16", (600, 1000), threads) == data


def test_damaged_and_hostile_payloads() -> None:
    data = bits_of("BF16", 60 * 20).astype("<u2").tobytes()
    shape = 60, 20
    code, rest = round_trip(data, "BF16", 20)

    def sealed(head: tuple[int, int, int], body: bytes) -> bytes:
        return lossless.HEAD.pack(*head, checksum(lossless.HEAD.pack(*head, 0), body, shape)) + body

    dropped, flags, exponent, _ = lossless.HEAD.unpack_from(rest)
    body = rest[lossless.HEAD.size :]
    head = dropped, flags, exponent
    assert sealed(head, body) == rest
    step = 2.0 ** (exponent - 127)
    shifted = Trellis(step, 1).encode_levels(lossless.BASE.decode_levels(code, shape) + 1)
    hostile = [
        (code, rest[:5], "within its head"),
        (code, rest[:-1], "checksum"),
        (code, sealed(head, body[:4]), "too short"),
        (code, sealed(head, body[:-1]), "not that of a matrix"),
        (code, sealed(head, b"\xff" * 8 + body[8:]), "not that of a matrix"),
        (code, sealed((8, flags, exponent), body), "head"),
        (code, sealed((0, flags | 64, exponent), body), "head"),
        (code, sealed((0, flags | 32, exponent), body), "not those of these levels"),
        (code, sealed((0, flags & 16 | 9, exponent), body), "head"),
        (code, sealed((0, flags, 0), body), "head"),
        (code, sealed((0, flags, 255), body), "head"),
        (code, sealed((0, flags, exponent + 1), body), "another step"),
        (code[:-1], rest, "checksum"),
        (shifted, rest, "not those of these levels"),
    ]
    for base, residual, message in hostile:
        with pytest.raises(CorruptError, match=message):
            lossless.decode(base, residual, "BF16", shape)
    with pytest.raises(CorruptError, match="checksum"):
        lossless.decode(code, rest, "BF16", (20, 60))


def test_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """docs/residual.md, on three weights by hand: a level with its residual, one below the step, a zero."""
    monkeypatch.setattr(lossless, "_depth", lambda *_: 0)
    monkeypatch.setattr(lossless, "_exponent", lambda *_: 127)
    weights = np.array([[-2.75, 0.375, -0.0]], np.float32)
    code, rest = lossless.encode(weights.tobytes(), "F32", 3)
    assert HEADER.unpack_from(code)[3] == 1.0
    assert lossless.BASE.decode_levels(code, (1, 3)).tolist() == [[-2, 0, 0]]
    assert lossless.decode_base(code, (1, 3)).tolist() == [[-2.5, 0, 0]]
    dropped, flags, exponent, _ = lossless.HEAD.unpack_from(rest)
    assert (dropped, flags, exponent) == (20, 16, 127)  # mantissas .011, .100: 3 bits
    coded, raw = lossless.SIZES.unpack_from(rest, lossless.HEAD.size)
    assert len(rest) == lossless.HEAD.size + lossless.SIZES.size + coded + raw
    # 2.75 = 1.011 * 2: of three bits the upper one is the level's, the lower ones, 11, are raw; then 0 (sign) and 100
    assert rest[-raw:] == bytes([0b10000_11 & 0b11 | 0b1000 << 2])


def model() -> dict[str, npt.NDArray[Any]]:
    draw = np.random.default_rng(3)
    return {
        "embed.weight": (draw.standard_normal((96, 48)) * 0.05).astype(np.float16),
        "conv.weight": (draw.standard_normal((24, 8, 3, 3)) * 0.05).astype(np.float32),
        "experts.up": (draw.standard_normal((3, 20, 32)) * 0.05).astype(np.float64),
        "noise.weight": draw.integers(0, 0x7F000000, (40, 40)).astype(np.int32).view(np.float32),
        "norm.weight": draw.standard_normal(2048).astype(np.float16),
        "broken.weight": np.full((40, 40), np.nan, np.float32),
        "ids": np.arange(2048).reshape(2, 1024),
        "kept.weight": draw.standard_normal((64, 32)).astype(np.float32),
    }


@pytest.fixture
def exact(tmp_path: Path) -> Path:
    source = model()
    kolmo.shrink(
        {**source, "head.weight": source["embed.weight"]},
        tmp_path / "m",
        kolmo.Lossless(),
        selection=kolmo.Selection(keep=["kept*"]),
    )
    return tmp_path / "m"


def test_files(exact: Path, tmp_path: Path) -> None:
    source = model()
    found = kolmo.load(exact)
    assert all(found[name].tobytes() == array.tobytes() for name, array in source.items())
    assert found["head.weight"] is found["embed.weight"]
    file = ShrunkFile(exact)
    assert {name for name, one in file.record.coded.items() if one.base} >= {"embed.weight", "conv.weight"}
    assert file.stored_size("conv.weight") < source["conv.weight"].nbytes
    kolmo.expand(exact, tmp_path / "again")
    kolmo.shrink(tmp_path / "again", tmp_path / "lossy", hyperfunction="torus")
    again = tmp_path / "once"
    report = kolmo.shrink(tmp_path / "again", again, kolmo.Lossless())
    assert report.lossless
    assert all(one.error == 0 for one in report.tensors if one.kind == "coded")
    kolmo.shrink(tmp_path / "again", tmp_path / "raw", kolmo.Lossless(), selection=kolmo.Selection(keep=["*"]))
    wanted = ShrunkFile(exact).record.content(file.header.places)
    assert {report.content, kolmo_content(tmp_path / "raw")} == {wanted}  # however it is coded
    assert kolmo_content(tmp_path / "lossy") != wanted


def kolmo_content(path: Path) -> str:
    file = ShrunkFile(path)
    return file.record.content(file.header.places)


def test_the_base_alone(exact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[tuple[int, int]] = []
    spans = read_span

    def watched(file: IO[bytes], path: Path, begin: int, size: int) -> bytes:
        read.append((begin, size))
        return spans(file, path, begin, size)

    monkeypatch.setattr(reader, "read_span", watched)
    near = kolmo.load(exact, ["conv.weight", "norm.weight"], base=True)
    file = ShrunkFile(exact)
    (begin, size), base = file.span("conv.weight"), file.record.coded["conv.weight"].base
    assert sorted(read) == sorted([(begin, base), file.span("norm.weight")])
    assert base < size / 3
    before = model()["conv.weight"]
    assert near["conv.weight"].dtype == before.dtype
    assert near["norm.weight"].tobytes() == model()["norm.weight"].tobytes()
    lost = float(((near["conv.weight"] - before) ** 2).mean() / before.var())
    assert 0.001 < lost < 0.1
    kolmo.expand(exact, tmp_path / "near", base=True)
    kolmo.shrink(model(), tmp_path / "lossy", hyperfunction="torus")
    with pytest.raises(KolmoError, match="no residuals"):
        kolmo.load(tmp_path / "lossy", base=True)
    with pytest.raises(KolmoError, match="no residuals"):
        kolmo.expand(tmp_path / "lossy", tmp_path / "x", base=True)


@pytest.mark.parametrize(
    "change",
    [
        lambda record, entry: entry.append(7),
        lambda record, entry: entry.__setitem__(5, None),
        lambda record, entry: entry.__setitem__(6, {"base": -1}),
        lambda record, entry: entry.__setitem__(6, {"base": 1.5}),
        lambda record, entry: entry.__setitem__(6, {"base": 1 << 40}),
        lambda record, entry: record["coded"]["noise.weight"].append({"base": 9}),
        lambda record, entry: record.update(
            hyperfunctions=[["torus", 1, list(Torus().parameters), list(Torus().parameters.values())]]
        ),
        lambda record, entry: record["hyperfunctions"][0][3 + entry[5]].__setitem__(0, 0.75),
    ],
)
def test_hostile_records(exact: Path, change: Any) -> None:
    data = exact.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    record = json.loads(header["__metadata__"]["kolmo"])
    change(record, record["coded"]["conv.weight"])
    header["__metadata__"]["kolmo"] = json.dumps(record)
    text = json.dumps(header).encode()
    exact.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + length :])
    with pytest.raises(KolmoError):
        ShrunkFile(exact).read("conv.weight")


def test_flipped_bytes_are_noticed(exact: Path) -> None:
    file = ShrunkFile(exact)
    data = bytearray(exact.read_bytes())
    (begin, size), base = file.span("conv.weight"), file.record.coded["conv.weight"].base
    for at in (0, base // 2, base - 1, base, base + 20, size - 1):
        data[begin + at] ^= 4
        exact.write_bytes(data)
        with pytest.raises(CorruptError, match=r"conv\.weight"):
            kolmo.load(exact, ["conv.weight"])
        data[begin + at] ^= 4


def test_a_base_of_another_length(exact: Path) -> None:
    data = exact.read_bytes()
    base = ShrunkFile(exact).record.coded["conv.weight"].base
    there = f'\\"base\\":{base}}}'.encode()  # a string within the header
    assert data.count(there) == 1
    exact.write_bytes(data.replace(there, there.replace(str(base).encode(), str(base + 1).encode())))
    for near in (False, True):
        with pytest.raises(CorruptError, match=r"conv\.weight"):
            kolmo.load(exact, ["conv.weight"], base=near)


def test_commands(exact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*arguments: str) -> Any:
        return CliRunner().invoke(group, list(arguments))

    monkeypatch.chdir(tmp_path)
    kolmo.expand(exact, "plain")
    assert run("shrink", "plain", "-o", "out", "--lossless").exit_code == 0
    assert run("expand", "out", "-o", "back").exit_code == 0
    assert Path("back").read_bytes() == Path("plain").read_bytes()
    assert run("expand", "out", "-o", "near", "--base").exit_code == 0
    assert Path("near").read_bytes() != Path("plain").read_bytes()
    shown = run("info", "out")
    assert "lossless" in shown.output
    assert json.loads(run("info", "out", "--json").output)["lossless"] is True
    assert run("shrink", "plain", "-o", "x", "--lossless", "--bits", "3").exit_code == 2
    assert run("shrink", "plain", "-o", "x", "--lossless", "--prune", "0.5").exit_code == 2
