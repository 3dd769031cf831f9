"""Views of binary data are bijections; views and contexts have the same bits in C, on every path, as in Python."""

from __future__ import annotations

import random
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.implementations import NATIVE
from kolmo.native import reference, tables
from kolmo.native.binary.views import ARM64, NONE, VALUES, VIEWS, X86_32, X86_64
from kolmo.predictors.embedded.context_mixing import Shape, configuration, plain_prior

needs_native = pytest.mark.skipif(NATIVE is None, reason="the C kernels are not built here")

PROGRAM = Shape("any program", (1, 2, 20, *range(48, 64)), (1, 20, 21))
RECORD = Shape("any record", (1, 2, 20, *range(64, 84)), (1, 22, 23, 24))
draw = random.Random(3)
X86_CODE = (
    bytes.fromhex("554889e5e8100000004c8d0d45100000c5f877c4e27918c162f17c4828c0660f3a0fc108f7c001000000f6c101c3")
    + bytes.fromhex("0f8420010000a1010203040506070848b8010203040506070866b80102c804000166f7c10102eb0541ffd3c3") * 3
)
ARM_CODE = b"".join(
    struct.pack("<I", word)
    for k in range(40)
    for word in (0x94000000 + 997 * k, 0x90000000 | (k & 3) << 29 | k << 7 | 3, 0x97FFFF00 - k, 0xF94003E0 + k)
)
SERIES = b"".join(struct.pack("<d", 20 + k / 100) for k in range(60))
RECORDS = b"".join(struct.pack("<QHBf", 10**15 + 997 * k, k % 7, 65 + k % 3, k / 9) for k in range(40))
ANY = draw.randbytes(400)


@pytest.mark.parametrize("view", range(VIEWS))
@settings(max_examples=100, deadline=None)
@given(data=st.binary(max_size=80), width=st.integers(1, 8))
def test_a_view_is_a_bijection(view: int, data: bytes, width: int) -> None:
    shown = reference.binary_view(view, width, 0, data)
    assert len(shown) == len(data)
    assert reference.binary_view(view, width, 1, shown) == data
    if NATIVE:
        assert NATIVE.binary_view(view, width, 0, data) == shown
        assert NATIVE.binary_view(view, width, 1, data) == reference.binary_view(view, width, 1, data)


@needs_native
@pytest.mark.parametrize("view", range(VIEWS))
@pytest.mark.parametrize("data", [X86_CODE, ARM_CODE, SERIES, ANY, draw.randbytes(20000)])
def test_views_are_those_of_the_reference(view: int, data: bytes) -> None:
    for width in (1, 4, 7, 8):
        shown = NATIVE.binary_view(view, width, 0, data)
        assert shown == reference.binary_view(view, width, 0, data)
        assert NATIVE.binary_view(view, width, 1, shown) == data


def test_calls_of_one_function_are_shown_alike() -> None:
    calls = b"".join(b"\xe8" + (500 - at - 5).to_bytes(4, "little") for at in range(0, 100, 5))
    assert reference.binary_view(X86_64, 1, 0, calls) == b"\xe8\x00\x00\x01\xf4" * 20
    assert reference.binary_view(X86_32, 1, 0, calls) == b"\xe8\x00\x00\x01\xf4" * 20
    data = b"".join(b"\x48\x8b\x05" + (500 - at - 7).to_bytes(4, "little") for at in range(0, 70, 7))
    assert reference.binary_view(X86_64, 1, 0, data) == b"\x48\x8b\x05\x00\x00\x01\xf4" * 10
    assert reference.binary_view(X86_32, 1, 0, data) != b"\x48\x8b\x05\x00\x00\x01\xf4" * 10
    links = b"".join((0x94000000 + 500 - at).to_bytes(4, "little") for at in range(20))
    assert reference.binary_view(ARM64, 1, 0, links) == b"\x94\x00\x01\xf4" * 20


def test_an_unknown_view_is_an_error() -> None:
    for kernels in (reference, NATIVE or reference):
        for view, width in ((VIEWS, 4), (-1, 4), (VALUES, 0), (VALUES, 9)):
            with pytest.raises(ValueError, match="no such view"):
                kernels.binary_view(view, width, 0, b"")


@needs_native
@pytest.mark.parametrize(
    ("shape", "binary", "data"),
    [
        (PROGRAM, (X86_64, 1, 1), reference.binary_view(X86_64, 1, 0, X86_CODE)),
        (PROGRAM, (X86_32, 1, 1), X86_CODE),
        (PROGRAM, (ARM64, 1, 1), reference.binary_view(ARM64, 4, 0, ARM_CODE)),
        (PROGRAM, (X86_64, 1, 1), ANY),
        (RECORD, (VALUES, 8, 8), reference.binary_view(VALUES, 8, 0, SERIES)),
        (RECORD, (VALUES, 15, 1), RECORDS),
        (RECORD, (NONE, 15, 5), RECORDS),
        (RECORD, (VALUES, 300, 4), RECORDS),
        (RECORD, (VALUES, 1, 1), ANY),
        (RECORD, (VALUES, 65536, 8), ANY),
    ],
)
def test_contexts_are_those_of_the_reference(shape: Shape, binary: tuple[int, int, int], data: bytes) -> None:
    arguments = configuration(shape, 14, 10, binary), tables.packed(), plain_prior(shape), len(data)
    expected = reference.ContextMixer(*arguments).costs(data)
    for path in NATIVE.PATHS:
        NATIVE.force_path(path)
        assert NATIVE.ContextMixer(*arguments).costs(data) == expected, path
    NATIVE.force_path(NATIVE.PATHS[-1])


@needs_native
@settings(max_examples=20, deadline=None)
@given(
    data=st.binary(min_size=1, max_size=100),
    view=st.integers(0, VIEWS - 1),
    record=st.integers(8, 40),
    width=st.integers(1, 8),
)
def test_any_layout_gives_the_reference_bits(data: bytes, view: int, record: int, width: int) -> None:
    shape = Shape("any", (0, 1, 3, 50, 55, 61, 70, 75, 77, 82), (1, 20, 21, 22, 23, 24))
    arguments = configuration(shape, 14, 10, (view, record, width)), tables.packed(), plain_prior(shape), len(data)
    assert NATIVE.ContextMixer(*arguments).costs(data) == reference.ContextMixer(*arguments).costs(data)


@needs_native
@pytest.mark.parametrize(
    "binary",
    [(-1, 8, 8), (VIEWS, 8, 8), (VALUES, 0, 1), (VALUES, 8, 0), (VALUES, 16, 9), (VALUES, 3, 4), (VALUES, 65537, 4)],
)
def test_the_kernel_refuses_layouts_that_do_not_fit(binary: tuple[int, int, int]) -> None:
    for shape in (PROGRAM, RECORD):
        with pytest.raises(ValueError, match="does not fit"):
            NATIVE.ContextMixer(configuration(shape, 14, 10, binary), tables.packed(), plain_prior(shape), 10)
