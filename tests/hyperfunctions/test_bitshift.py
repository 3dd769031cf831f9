"""The bitshift trellis: C against its specification, hostile payloads, rows alone, how near it comes to the bound."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from helpers.implementations import NATIVE
from kolmo.errors import CorruptError
from kolmo.hyperfunctions.base import Resident, restore
from kolmo.hyperfunctions.bitshift import Bitshift, Feedback, is_made_for
from kolmo.hyperfunctions.bitshift_lines import BitshiftLines
from kolmo.hyperfunctions.bitshift_payload import HEADER, Payload, checksum, factors_of, pack, payload_size
from kolmo.native.bitshift import feedback, reference
from kolmo.native.dispatch import SLOW

Floats = npt.NDArray[np.float32]
quick = pytest.mark.skipif(SLOW, reason="too slow in Python")


def gaussian(rows: int, columns: int, seed: int = 0) -> Floats:
    return np.random.default_rng(seed).standard_normal((rows, columns)).astype(np.float32)


def gap(weights: Floats, payload: bytes) -> float:
    """Decibels above the Gaussian bound, from the payload alone and all of it."""
    decoded = Bitshift().decode(payload, (weights.shape[0], weights.shape[1]))
    error = float(((weights.astype(np.float64) - decoded) ** 2).mean() / weights.var(dtype=np.float64))
    return float(10 * np.log10(error * 4 ** (8 * len(payload) / weights.size)))


def with_checksum(payload: bytes, shape: tuple[int, int]) -> bytes:
    """The payload with a checksum that fits, as an attacker would write it."""
    body = payload[HEADER.size :]
    head = payload[: HEADER.size - 4]
    return head + struct.pack("<I", checksum(head + bytes(4), body, shape)) + body


CASES = {  # states_log, bits, width, columns, rows, deviation in values
    "2 bits": (12, 2, 64, 64, 3, 40),
    "3 bits, free weights": (12, 3, 96, 65, 3, 40),
    "4 bits": (12, 4, 224, 224, 2, 40),
    "one column": (12, 3, 32, 1, 2, 40),
    "beyond all values": (12, 2, 160, 150, 2, 500),
    "zeros": (12, 4, 32, 32, 1, 0),
    "65536 states": (16, 3, 32, 30, 1, 40),
    "no rows": (16, 2, 32, 32, 0, 40),
}


@pytest.mark.skipif(NATIVE is None, reason="no compiled kernels")
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_every_path_gives_the_reference_bits(case: tuple[int, int, int, int, int, int]) -> None:
    assert NATIVE is not None
    states_log, bits, width, columns, rows, deviation = case
    drawn = np.random.default_rng(3).standard_normal((rows, width)) * deviation * (16 << bits)
    targets = np.clip(np.rint(drawn), -32768, 32767).astype(np.int16).tobytes()
    expected = reference.bitshift_search(states_log, bits, width, columns, targets)
    try:
        for path in NATIVE.PATHS:
            NATIVE.force_path(path)
            assert NATIVE.bitshift_search(states_log, bits, width, columns, targets) == expected
    finally:
        NATIVE.force_path(NATIVE.PATHS[-1])


@pytest.mark.skipif(NATIVE is None, reason="no compiled kernels")
@pytest.mark.parametrize(
    "arguments",
    [(11, 2, 32, 32, 64), (12, 1, 32, 32, 64), (12, 5, 32, 32, 64), (12, 2, 16, 16, 32), (12, 2, 33, 33, 66),
     (12, 2, 64, 32, 128), (12, 2, 32, 33, 64), (12, 2, 32, 32, 63), (12, 2, 1 << 18, 1 << 18, 1 << 19)],
    ids=str,
)  # fmt: skip
def test_arguments_that_do_not_fit(arguments: tuple[int, int, int, int, int]) -> None:
    assert NATIVE is not None
    for kernel in (NATIVE.bitshift_search, reference.bitshift_search):
        with pytest.raises(ValueError, match="do not fit"):
            kernel(*arguments[:4], bytes(arguments[4]))


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_no_string_of_a_short_row_is_better(bits: int) -> None:
    """The search is compared with itself at every seam: turned rows have turned strings of about the same error."""
    width, unit = 32, 16 << bits
    row = np.rint(np.random.default_rng(bits).standard_normal(width) * 34 * unit).astype(np.int16)
    errors = []
    for turn in range(0, width, 8):
        turned = np.roll(row, turn)
        _, values = reference.bitshift_search(12, bits, width, width, turned.tobytes())
        errors.append(float(((np.frombuffer(values, np.int8) - turned / unit) ** 2).sum()))
    assert max(errors) < 1.5 * min(errors)


@quick
@pytest.mark.parametrize(("bits", "states", "shape"), [(3, 4096, (2, 40)), (4, 65536, (1, 32))])
def test_torch_finds_the_same(bits: int, states: int, shape: tuple[int, int]) -> None:
    pytest.importorskip("torch", reason="needs torch")
    weights = gaussian(*shape)
    weights[0, 3] = 20
    assert Bitshift(bits, states, device="cpu").encode(weights) == Bitshift(bits, states).encode(weights)
    assert Bitshift(bits, states, device="cpu").parameters == Bitshift(bits, states).parameters


def test_it_keeps_the_protocol() -> None:
    function = Bitshift(3, 65536, seed=7)
    assert isinstance(function, Resident)
    assert restore("bitshift", function.parameters) == function
    for wrong in ({"bits": 5}, {"bits": 3.0}, {"states": 8}, {"rotated": 2}, {"seed": -1}, {"seed": 1, "rotated": 0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            Bitshift(**wrong)


@quick
@pytest.mark.parametrize(("bits", "most"), [(2, 0.73), (3, 0.87), (4, 1.05)])
def test_gap_to_the_bound(bits: int, most: float) -> None:
    weights = gaussian(16, 2048)
    payload = Bitshift(bits).encode(weights)
    assert len(payload) == Bitshift(bits).size((16, 2048)) == payload_size(bits, (16, 2048))
    assert most - 0.15 < gap(weights, payload) < most


@quick
@pytest.mark.parametrize(("bits", "kept"), [(2, 0.97), (3, 0.994), (4, 0.998)])
def test_energy(bits: int, kept: float) -> None:
    """With least error a matrix loses part of its norm; what is unbiased differs in its scale alone."""
    weights = gaussian(40, 256) * np.linspace(0.1, 1, 40, dtype=np.float32)[:, None]
    least, unbiased = (Bitshift(bits, unbiased=unbiased).encode(weights) for unbiased in (False, True))
    assert least[16:] == unbiased[16:]
    decoded = [Bitshift(bits).decode(payload, (40, 256)).astype(np.float64) for payload in (least, unbiased)]
    power = float(np.square(weights, dtype=np.float64).sum())
    norms = [float(np.sqrt(np.square(one).sum() / power)) for one in decoded]
    assert norms == pytest.approx([kept, 1 / kept], abs=0.01)
    along = [float((one * weights).sum() / power) for one in decoded]
    assert along == pytest.approx([kept**2, 1], abs=0.01)
    assert along[1] == pytest.approx(1, abs=1e-6)
    errors = [float(np.linalg.norm(one - weights)) for one in decoded]
    assert errors[0] < errors[1] < 1.05 * errors[0]
    assert not Bitshift(bits).decode(Bitshift(bits, unbiased=True).encode(0 * weights), (40, 256)).any()


def smooth_feedback(columns: int, seed: int = 3) -> tuple[Feedback, npt.NDArray[np.float64]]:
    """The feedback of correlated inputs, and their covariance."""
    mixed = np.random.default_rng(seed).standard_normal((columns, columns)) + 2 * np.eye(columns, k=1)
    h = mixed @ mixed.T / columns + 0.1 * np.eye(columns)
    r = np.linalg.cholesky(h[::-1, ::-1])[::-1, ::-1]
    roots = np.diagonal(r)
    return Feedback(np.square(roots).astype(np.float32), np.triu(r / roots, 1).astype(np.float32)), h


@pytest.mark.skipif(NATIVE is None, reason="no compiled kernels")
@pytest.mark.parametrize(
    ("states_log", "bits", "width", "rows"), [(12, 2, 96, 2), (12, 3, 64, 2), (12, 4, 64, 1), (16, 4, 32, 1)]
)
def test_feedback_of_every_path_gives_the_reference_bits(states_log: int, bits: int, width: int, rows: int) -> None:
    assert NATIVE is not None
    draw = np.random.default_rng(3)
    targets = (draw.standard_normal((rows, width)) * 40).astype(np.float32)
    importance = np.exp(draw.standard_normal(width)).astype(np.float32)
    matrix = np.triu(draw.standard_normal((width, width)) * 0.2, 1).astype(np.float32)
    seams = draw.integers(0, 1 << states_log - bits, rows).astype(np.uint32)
    given = (states_log, bits, width, seams, targets, importance, matrix)
    expected = feedback.bitshift_feedback_search(*given)
    try:
        for path in NATIVE.PATHS:
            NATIVE.force_path(path)
            assert NATIVE.bitshift_feedback_search(*given) == expected
    finally:
        NATIVE.force_path(NATIVE.PATHS[-1])
    begins = np.frombuffer(expected[0], np.uint32).reshape(rows, -1)[:, 0] >> np.uint32(32 - states_log + bits)
    assert begins.tolist() == seams.tolist()


@pytest.mark.skipif(NATIVE is None, reason="no compiled kernels")
@pytest.mark.parametrize(
    "change",
    [
        (0, 11),
        (1, 5),
        (2, 33),
        (2, 64),
        (3, bytes(5)),
        (3, b"\0\4\0\0"),
        (4, bytes(124)),
        (5, bytes(4)),
        (6, bytes(4092)),
    ],
    ids=str,
)
def test_arguments_that_do_not_fit_the_feedback(change: tuple[int, Any]) -> None:
    assert NATIVE is not None
    given: list[Any] = [12, 2, 32, bytes(4), bytes(128), bytes(128), bytes(4096)]
    kernels: list[Any] = [NATIVE.bitshift_feedback_search, feedback.bitshift_feedback_search]
    for kernel in kernels:
        kernel(*given)
        with pytest.raises(ValueError, match="do not fit"):
            kernel(*given[: change[0]], change[1], *given[change[0] + 1 :])


@quick
@pytest.mark.parametrize("bits", [2, 3, 4])
@pytest.mark.parametrize("columns", [70, 160])
def test_feedback_costs_less(bits: int, columns: int) -> None:
    """Half a dB and more, where the errors of the weights themselves grow."""
    weights, (given, h) = gaussian(24, columns), smooth_feedback(columns)
    function = Bitshift(bits, rotated=False)
    errors = [
        function.decode(function.encode(weights, feedback=one), weights.shape) - weights.astype(np.float64)
        for one in (None, given)
    ]
    assert function.encode(0 * weights, feedback=given) == function.encode(0 * weights)
    costs = [float(np.einsum("oi,ij,oj->", e, h, e)) for e in errors]
    assert given.costs(errors[1].astype(np.float32)).sum() == pytest.approx(costs[1], rel=1e-4)
    assert costs[1] < 0.91 * costs[0]
    assert np.square(errors[1]).sum() > np.square(errors[0]).sum()


@quick
def test_lines() -> None:
    """Row after row makes the same payload as all at once."""
    function, weights = Bitshift(3, seed=5), gaussian(20, 70)
    lines = BitshiftLines(function, weights)
    decoded = np.stack([lines.quantise(row) for row in weights])
    assert lines.payload() == function.encode(weights)
    assert (function.decode(lines.payload(), weights.shape) == decoded).all()


@quick
def test_more_states_are_better() -> None:
    weights = gaussian(2, 2048)
    assert gap(weights, Bitshift(2, 65536).encode(weights)) < gap(weights, Bitshift(2).encode(weights)) - 0.1


@quick
def test_rotation_makes_tails_harmless() -> None:
    weights = np.random.default_rng(1).standard_t(4, (16, 576)).astype(np.float32)
    weights[3, 100] = 60
    assert gap(weights, Bitshift(3).encode(weights)) < 1.0
    assert gap(weights, Bitshift(3, rotated=False).encode(weights)) > 5


@quick
def test_each_row_has_a_factor_of_its_own() -> None:
    rows = gaussian(6, 256) * np.array([[1], [0.02], [300], [0], [1e-9], [2.5]], np.float32)
    decoded = Bitshift(4).decode(Bitshift(4).encode(rows), (6, 256))
    for near, row in zip(decoded[[0, 1, 2, 3, 5]], rows[[0, 1, 2, 3, 5]], strict=True):
        assert ((near - row) ** 2).sum() <= 0.01 * (row**2).sum()
    assert not decoded[4].any()  # nothing is nearer than 0 with the least factor


@quick
@pytest.mark.parametrize("scale", [1e-29, 1e29])
def test_magnitudes_at_the_bounds(scale: float) -> None:
    weights = gaussian(3, 128) * np.float32(scale)
    decoded = Bitshift(4).decode(Bitshift(4).encode(weights), (3, 128))
    assert float(np.abs(decoded - weights).max()) < scale
    tiny = weights / np.float32(scale) * np.float32(1e-36)  # below the least factor
    assert not Bitshift(4).decode(Bitshift(4).encode(tiny), (3, 128)).any()
    with pytest.raises(ValueError, match="above 2"):
        Bitshift(4).encode(np.full((2, 64), 2e30, np.float32))


def test_too_many_columns() -> None:
    with pytest.raises(ValueError, match="131072"):
        Bitshift(4).encode(np.zeros((1, (1 << 17) + 1), np.float32))
    payload = pack(12, 2, None, 0.0, (0, 1 << 18), np.zeros((0, 0), np.uint32), np.zeros(0, np.uint8))
    with pytest.raises(CorruptError, match="131072 columns"):
        Bitshift(2).decode(payload, (0, 1 << 18))


@quick
@pytest.mark.parametrize("shape", [(37, 70), (16, 64), (1, 33)], ids=str)
def test_rows_alone(shape: tuple[int, int]) -> None:
    payload = Bitshift(3).encode(gaussian(*shape))
    whole = Bitshift(3).decode(payload, shape)
    wanted = np.random.default_rng(2).integers(0, shape[0], 9)
    assert Bitshift(3).rows(payload, shape, wanted).tobytes() == whole[wanted].tobytes()
    assert Bitshift(3).rows(payload, shape, []).shape == (0, shape[1])
    for wrong in (-1, shape[0]):
        with pytest.raises(ValueError, match="choose from 0"):
            Bitshift(3).rows(payload, shape, [wrong])
    found = Payload.parse(payload, shape)
    assert found.rows(np.arange(shape[0])).shape == (shape[0], found.words_per_row)


@quick
def test_products_are_near() -> None:
    weights, x = gaussian(40, 100), gaussian(5, 100, 1)
    payload = Bitshift(4).encode(weights)
    expected = x @ Bitshift(4).decode(payload, (40, 100)).T
    found = Bitshift(4).product(payload, (40, 100), x)
    assert found.shape == (5, 40)
    assert float(np.abs(found - expected).max()) < 0.03 * float(np.abs(expected).max())
    with pytest.raises(ValueError, match="rows of 100"):
        Bitshift(4).product(payload, (40, 100), x[:, :99])


def test_a_worked_payload() -> None:
    """The layout of docs/bitshift.md, by hand: 17 rows of 32 weights, so that the second group has one row."""
    words = np.arange(34, dtype=np.uint32).reshape(17, 2)
    exponents = np.arange(17, dtype=np.uint8)
    payload = pack(12, 2, 5, 0.5, (17, 32), words, exponents)
    assert payload[:12] == bytes([12, 2, 1, 0, 5, 0, 0, 0]) + struct.pack("<f", 0.5)
    stored = np.frombuffer(payload, "<u4", 34, 16)
    assert stored[:18].tolist() == [*range(0, 32, 2), 1, 3]
    assert stored[32:].tolist() == [32, 33]
    assert payload[-17:] == bytes(range(17))
    assert Payload.parse(payload, (17, 32)).rows(np.array([16, 2])).tolist() == [[32, 33], [4, 5]]
    assert factors_of(0.5, np.array([0, 240, 255, 16], np.uint8)).tolist() == pytest.approx(
        [0, 0.5, 0.5 * 2 ** (15 / 16), 0.5 * 2**-14]
    )


def test_each_byte_counts() -> None:
    shape = (3, 40)
    words = np.random.default_rng(1).integers(0, 1 << 32, (3, 6), np.uint32)
    payload = pack(12, 3, 9, 0.01, shape, words, np.array([1, 200, 255], np.uint8))
    Bitshift(3, seed=9).decode(payload, shape)
    Bitshift(3, seed=9).check(payload)
    for at in range(len(payload)):
        for flip in (1, 0x80):
            damaged = bytearray(payload)
            damaged[at] ^= flip
            with pytest.raises(CorruptError):
                Bitshift(3).decode(bytes(damaged), shape)


@pytest.mark.parametrize(
    ("at", "value"),
    [(0, b"\x0b"), (0, b"\x10\x05"), (1, b"\x01"), (1, b"\x04"), (2, b"\x02"), (2, b"\0"), (3, b"\x01"),
     (8, struct.pack("<f", -1)), (8, struct.pack("<f", -0.0)), (8, struct.pack("<f", np.nan)),
     (8, struct.pack("<f", np.inf)), (8, struct.pack("<f", 2.0**101)), (8, struct.pack("<f", 2.0**-101))],
)  # fmt: skip
def test_headers_of_an_attacker(at: int, value: bytes) -> None:
    shape = (3, 40)
    payload = pack(12, 3, 9, 0.01, shape, np.zeros((3, 6), np.uint32), np.ones(3, np.uint8))
    damaged = with_checksum(payload[:at] + value + payload[at + len(value) :], shape)
    with pytest.raises(CorruptError, match=r"header|not that of a matrix"):
        Bitshift(3).decode(damaged, shape)


def test_parameters_of_another_record() -> None:
    payload = pack(12, 3, 9, 0.01, (1, 32), np.zeros((1, 3), np.uint32), np.ones(1, np.uint8))
    for other in (Bitshift(4, seed=9), Bitshift(3), Bitshift(3, 65536, seed=9), Bitshift(3, rotated=False)):
        with pytest.raises(CorruptError, match="other parameters"):
            other.check(payload)


def test_shapes_that_it_is_made_for() -> None:
    assert [n for n in (27, 63, 64, 65, 72, 96, 144, 150, 576, 1 << 17, (1 << 17) + 1) if is_made_for(n)] == [
        64, 96, 144, 150, 576, 1 << 17,
    ]  # fmt: skip
