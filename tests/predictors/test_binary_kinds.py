"""Programs, records and floats: coded and decoded, found by headers and statistics; hostile parameters."""

from __future__ import annotations

import contextlib
import random
import struct
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kolmo.errors import CorruptError
from kolmo.native.dispatch import SLOW, kernels
from kolmo.predictors.embedded.cm import ContextMixing
from kolmo.predictors.embedded.kinds.base import Kind
from kolmo.predictors.embedded.kinds.executables import ARM64, X86_32, X86_64, Code, find_code
from kolmo.predictors.embedded.kinds.program import Program
from kolmo.predictors.embedded.kinds.record import Float, Record

DRAW = random.Random(5)
CODE = b"".join(
    b"\x48\x8b\x45\xf8\xe8"
    + (5000 - 20 * k).to_bytes(4, "little", signed=True)
    + b"\x48\x89\x45\xf0\x0f\xb6\xc0\x5d\xc3\x90\x90"
    for k in range(400)
)
WALK = np.cumsum(np.random.default_rng(1).integers(1, 900, 4000))
PRICES = (100 + np.cumsum(np.random.default_rng(2).normal(0, 0.1, 4000))).astype("<f8").tobytes()
ROWS = b"".join(
    struct.pack("<IHHfI", 10**6 + 7 * k, k % 5, DRAW.randrange(300), DRAW.gauss(0, 1), 9) for k in range(2000)
)

EXAMPLES: list[tuple[Kind, tuple[int, ...]]] = [
    (Program(), (X86_64, 0)),
    (Program(), (ARM64, 3)),
    (Program(), (X86_32, 1)),
    (Record(), (20, 4, 0, 3)),
    (Record(), (1000, 8, 0, 0)),
    (Record(), (1, 1, 0, 0)),
    (Record(), (7, 3, 1, 2)),
    (Float(), (8, 8, 0, 0)),
    (Float(), (65536, 4, 1, 1)),
]


def coded(kind: Kind, level: int, parameters: tuple[int, ...], data: bytes) -> bytes:
    encoder = kernels.BinaryEncoder()
    kind.model(level, len(data), parameters).encode(encoder, data)
    return encoder.finish()


@pytest.mark.parametrize(("kind", "parameters"), EXAMPLES)
@pytest.mark.parametrize("level", [1, 4, 5])
def test_any_bytes_come_back(kind: Kind, parameters: tuple[int, ...], level: int) -> None:
    for size in (1, 2, 3, 9, 100 if SLOW else 1500):
        data = (CODE[:40] + PRICES[:30] + DRAW.randbytes(20) + ROWS)[:size]
        payload = coded(kind, level, parameters, data)
        model = kind.model(level, size, parameters)
        assert model.decode(kernels.BinaryDecoder(payload)) == data
        bits = kind.model(level, size, parameters).score(data)
        assert bits.shape == (size,)
        assert abs(float(bits.sum()) / 8 - len(payload)) < 8


def test_costs_stand_at_their_bytes() -> None:
    data = PRICES[3 : 3 + 8 * (10 if SLOW else 2000)]
    bits = Float().model(1, len(data), (8, 8, 0, 5)).score(data)
    high = bits[4::8]  # signs and exponents are sure
    assert float(high.mean()) < 1.5 < float(bits[0::8].mean())


@settings(max_examples=60, deadline=None)
@given(parameters=st.tuples(*[st.integers(0, (1 << 31) - 1) | st.integers(0, 9)] * 4))
def test_other_parameters_are_corrupt(parameters: tuple[int, ...]) -> None:
    record, width, order, offset = parameters
    if 1 <= width <= 8 and width <= record <= 65536 and order < 2 and offset < width:
        assert Record().model(1, 10, parameters)
    else:
        with pytest.raises(CorruptError):
            Record().model(1, 10, parameters)
    if record < 3 and width < 4:
        assert Program().model(1, 10, parameters[:2])
    else:
        with pytest.raises(CorruptError):
            Program().model(1, 10, parameters[:2])


@pytest.mark.parametrize(("kind", "parameters"), EXAMPLES)
def test_any_payload_decodes_or_is_corrupt(kind: Kind, parameters: tuple[int, ...]) -> None:
    for payload in (b"", DRAW.randbytes(40)):
        with contextlib.suppress(CorruptError):
            assert len(kind.model(1, 64, parameters).decode(kernels.BinaryDecoder(payload))) == 64


def elf(code: bytes, machine: int = 62) -> bytes:
    sections = [(0, 0, 0, 0), (1, 6, 64, len(code)), (1, 2, 64 + len(code), 8)]
    head = (
        b"\x7fELF\2\1\1"
        + bytes(9)
        + struct.pack("<HHIQQQIHHHHHH", 3, machine, 1, 0, 0, 72 + len(code), 0, 64, 0, 0, 64, 3, 0)
    )
    table = b"".join(
        struct.pack("<IIQQQQIIQQ", 0, kind, flags, 0, first, size, 0, 0, 0, 0) for kind, flags, first, size in sections
    )
    return head + code + bytes(8) + table


def pe(code: bytes, machine: int = 0x8664) -> bytes:
    head = (
        b"MZ"
        + bytes(58)
        + struct.pack("<I", 64)
        + b"PE\0\0"
        + struct.pack("<HHIIIHH", machine, 1, 0, 0, 0, 16, 0)
        + bytes(16)
    )
    first = len(head) + 40
    return head + struct.pack("<8sIIIIIIHHI", b".text", len(code), 0, len(code), first, 0, 0, 0, 0, 0x60000020) + code


def mach(code: bytes, cpu: int = 0x0100000C) -> bytes:
    size = 72 + 80
    head = b"\xcf\xfa\xed\xfe" + struct.pack("<IIIIIII", cpu, 0, 6, 1, size, 0, 0)
    segment = struct.pack("<II16sQQQQIIII", 0x19, size, b"__TEXT", 0, 0, 0, 0, 7, 7, 1, 0)
    section = struct.pack(
        "<16s16sQQIIIIIIII", b"__text", b"__TEXT", 0, len(code), 32 + size, 2, 0, 0, 0x80000400, 0, 0, 0
    )
    return head + segment + section + code


def test_headers_say_where_code_is() -> None:
    for make, architecture in ((elf, X86_64), (pe, X86_64), (mach, ARM64)):
        program = make(CODE)
        assert find_code(program) == [Code(program.index(CODE), len(CODE), architecture)]
        inside = b"before " + program + b" between " + program
        assert [code.first for code in find_code(inside)] == [inside.index(CODE), inside.rindex(CODE)]
    assert find_code(elf(CODE, 183))[0].architecture == ARM64
    assert find_code(pe(CODE, 0x14C))[0].architecture == X86_32
    assert not find_code(elf(CODE, 8))


def test_false_headers_are_no_harm() -> None:
    for make in (elf, pe, mach):
        program = make(CODE)
        for cut in range(0, 400, 7):
            for code in find_code(program[:cut]) + find_code(program[:cut] + DRAW.randbytes(300)):
                assert 0 <= code.first <= code.first + code.size <= cut + 300
    start = time.process_time()
    find_code((b"\x7fELF\2\1\1" + b"\xff" * 57) * 4000 + b"MZ" * 20000)
    assert time.process_time() - start < 20


def test_statistics_say_what_data_are() -> None:
    assert (X86_64, 0) in Program().guess(CODE)
    assert Record().guess(WALK.astype("<u8").tobytes())[0] == (8, 8, 0, 0)
    assert Record().guess(WALK.astype(">u4").tobytes())[0] == (4, 4, 1, 0)
    assert Float().guess(PRICES) == [(8, 8, 0, 0)]
    assert Float().guess(PRICES[3:])[0] == (8, 8, 0, 5)
    assert Record().guess(ROWS)[0][0] == 16
    table = b"".join(b"%-300d;end of row" % DRAW.randrange(10**6) for _ in range(200))
    assert Record().guess(table)[0][0] == 311
    text = Path(__file__).read_bytes()
    for kind in (Program(), Record(), Float()):
        for data in (b"", b"x", bytes(5000), DRAW.randbytes(9000), text):
            for parameters in kind.guess(data):
                kind.model(1, max(len(data), 1), parameters)
        assert not kind.guess(text)
        assert not kind.guess(DRAW.randbytes(9000))


@pytest.mark.skipif(SLOW, reason="takes long without the C kernels")
@pytest.mark.parametrize(
    ("data", "name"),
    [
        (CODE, "program"),
        (elf(CODE), "program"),
        (ROWS, "record"),
        (WALK.astype("<u8").tobytes(), "record"),
        (PRICES, "float"),
    ],
)
def test_blocks_of_these_kinds_are_smaller_than_plain_ones(data: bytes, name: str) -> None:
    predictor = ContextMixing(5)
    encoder = kernels.BinaryEncoder()
    predictor.start(len(data)).encode(encoder, data)
    payload = encoder.finish()
    assert name in [part.kind for part in predictor.parts(payload, len(data))]
    assert predictor.start(len(data)).decode(kernels.BinaryDecoder(payload)) == data
