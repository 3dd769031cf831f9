"""Deflate streams of our own: the reference's bytes, zlib's bytes, and the content again."""

from __future__ import annotations

import hashlib
import random
import zlib
from types import ModuleType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.implementations import IMPLEMENTATIONS, NATIVE
from kolmo.native.deflate import reference, rows, trees

# zlib-ng calls itself zlib too, and makes other streams
ORIGINAL = "ng" not in zlib.ZLIB_RUNTIME_VERSION
DRAW = random.Random(1)
PIECES = [DRAW.randbytes(DRAW.randrange(1, 40)) for _ in range(6)]
CONTENTS = {
    "nothing": b"",
    "one byte": b"a",
    "three": b"abc",
    "a repeat": b"abcabcabc",
    "zeros": bytes(1500),
    "random": DRAW.randbytes(1000),
    "words": b"".join(DRAW.choice([b"one ", b"two ", b"three ", b"more of it, "]) for _ in range(700)),
    "pieces": b"".join(DRAW.choice(PIECES) if DRAW.random() < 0.8 else DRAW.randbytes(3) for _ in range(200)),
    "skewed": bytes(min(int(DRAW.expovariate(0.1)), 255) for _ in range(3000)),
}
# Of the streams of all contents above at level l, memory 8, window 15, joined: the start of the SHA-256.
DIGESTS = (
    "fa818af3c92f",
    "0866e4eb4249",
    "0fecd82ba764",
    "0f78e1d08652",
    "28175f850e33",
    "e9ea74fc7248",
    "e76b1d2dc156",
    "979c1b9aff11",
    "979c1b9aff11",
)
IMPOSSIBLE = [(0, 8, 15, 0), (10, 8, 15, 0), (6, 0, 15, 0), (6, 10, 15, 0), (6, 8, 8, 0), (6, 8, 16, 0), (6, 8, 15, 2)]


def by_zlib(content: bytes, level: int, memory: int, window: int, filtered: int = 0) -> bytes:
    strategy = zlib.Z_FILTERED if filtered else zlib.Z_DEFAULT_STRATEGY
    engine = zlib.compressobj(level, zlib.DEFLATED, -window, memory, strategy)
    return engine.compress(content) + engine.flush()


@pytest.mark.parametrize("kernels", IMPLEMENTATIONS)
@pytest.mark.parametrize("level", range(1, 10))
def test_its_streams_never_change(kernels: ModuleType, level: int) -> None:
    joined = b"".join(kernels.deflate(content, level, 8, 15, 0) for content in CONTENTS.values())
    assert hashlib.sha256(joined).hexdigest()[:12] == DIGESTS[level - 1]


@pytest.mark.skipif(not ORIGINAL, reason="this Python has another zlib")
@pytest.mark.parametrize("kernels", IMPLEMENTATIONS)
@pytest.mark.parametrize("level", range(1, 10))
@pytest.mark.parametrize(("memory", "window"), [(8, 15), (9, 15), (1, 9), (5, 12)])
def test_zlib_makes_the_same(kernels: ModuleType, level: int, memory: int, window: int) -> None:
    for content in CONTENTS.values():
        for filtered in (0, 1):
            expected = by_zlib(content, level, memory, window, filtered)
            assert kernels.deflate(content, level, memory, window, filtered) == expected


@pytest.mark.parametrize("level", range(1, 10))
def test_the_kernel_gives_the_reference_bytes_of_many_blocks(level: int) -> None:
    if NATIVE is None:
        pytest.skip("the C kernels are not built here")
    content = b"".join(CONTENTS.values())
    for memory, window in ((1, 9), (2, 10), (3, 13)):
        for filtered in (0, 1):
            expected = reference.deflate(content, level, memory, window, filtered)
            assert NATIVE.deflate(content, level, memory, window, filtered) == expected


@pytest.mark.skipif(NATIVE is None or not ORIGINAL, reason="needs the C kernels and the original zlib")
@pytest.mark.parametrize("size", [257, 258, 259, 32767, 65273, 65274, 65275, 65536, 65537, 140_000])
def test_the_edges_of_the_window(size: int) -> None:
    assert NATIVE is not None
    draw = random.Random(size)
    for content in (bytes(size), draw.randbytes(size), bytes(draw.choices(b"abcdef", k=size))):
        for level in (1, 4, 6, 9):
            for window in (9, 15):
                assert NATIVE.deflate(content, level, 8, window, 0) == by_zlib(content, level, 8, window)


@pytest.mark.parametrize("kernels", IMPLEMENTATIONS)
@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.sampled_from([b"a", b"ab", b"xyz", b"\0\0\0\0", b"the ", b"\xff\x10\x20", b"0123456789" * 4]), max_size=60
    ),
    st.integers(1, 9),
    st.integers(1, 9),
    st.integers(9, 15),
)
def test_the_content_comes_back(kernels: ModuleType, parts: list[bytes], level: int, memory: int, window: int) -> None:
    content = b"".join(parts)
    packed = kernels.deflate(content, level, memory, window, 0)
    assert zlib.decompress(packed, -15) == content
    assert len(packed) <= len(content) + len(content) // 20 + 64


@pytest.mark.parametrize("kernels", IMPLEMENTATIONS)
@pytest.mark.parametrize("parameters", IMPOSSIBLE)
def test_impossible_parameters(kernels: ModuleType, parameters: tuple[int, int, int, int]) -> None:
    with pytest.raises(ValueError, match="do not fit"):
        kernels.deflate(b"content", *parameters)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 2000), min_size=286, max_size=286), st.integers(0, 3))
def test_codes_are_complete(counts: list[int], steep: int) -> None:
    """Also those that had to be shortened: the code words fill the code space exactly."""
    counts = [count >> (steep * place // 16 % 12) for place, count in enumerate(counts)]
    lengths, _ = trees.code_lengths(counts, [0] * 286, 15)
    assert sum(2 ** (15 - length) for length in lengths if length) == 1 << 15


def test_long_codes_are_shortened() -> None:
    fibonacci = [1, 1]
    while len(fibonacci) < 22:
        fibonacci.append(fibonacci[-1] + fibonacci[-2])
    lengths, _ = trees.code_lengths(fibonacci, [0] * 22, 15)
    assert max(lengths) == 15
    assert sum(2 ** (15 - length) for length in lengths) == 1 << 15


def allowed(kernels: ModuleType, content: bytes, level: int, most: int) -> bool:
    try:
        return bool(kernels.deflate(content, level, 8, 15, 0, most))
    except OverflowError:
        return False


@pytest.mark.parametrize("level", [1, 3, 4, 6, 9])
def test_all_give_up_after_the_same_comparisons(level: int) -> None:
    two_letters = bytes(DRAW.choices(b"ab", k=1500))
    for content in (two_letters, CONTENTS["words"], bytes(600), b""):
        first, last = -1, 1 << 24  # the least number of comparisons that suffices
        while last - first > 1:
            middle = (first + last) // 2
            first, last = (first, middle) if allowed(NATIVE or reference, content, level, middle) else (middle, last)
        assert last < 1 << 24
        for kernels in filter(None, (reference, NATIVE)):
            assert allowed(kernels, content, level, last)
            assert first < 0 or not allowed(kernels, content, level, first)


@pytest.mark.skipif(NATIVE is None, reason="takes long in Python")
def test_a_hostile_content_ends_soon() -> None:
    assert NATIVE is not None
    with pytest.raises(OverflowError, match="more comparisons"):
        NATIVE.deflate(bytes(DRAW.choices(b"ab", k=1 << 16)), 9, 9, 15, 0, 1 << 24)


@pytest.mark.parametrize("kernels", IMPLEMENTATIONS)
@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=200), st.integers(1, 24), st.integers(1, 4))
def test_rows_are_split_and_joined(kernels: ModuleType, content: bytes, row: int, pixel: int) -> None:
    pixel = min(pixel, row)
    filtered = bytes(b % 6 if at % (row + 1) == 0 else b for at, b in enumerate(content))
    apart = kernels.split_rows(filtered, row, pixel)
    assert apart == rows.split_rows(filtered, row, pixel)
    assert kernels.join_rows(apart, row, pixel) == rows.join_rows(apart, row, pixel) == filtered


@pytest.mark.parametrize("kernels", IMPLEMENTATIONS)
def test_rows_as_png_filters_them(kernels: ModuleType) -> None:
    pixels = [[10, 20, 30, 41], [11, 25, 200, 3], [255, 0, 7, 7], [1, 2, 3, 4], [9, 9, 9, 9]]
    filtered = [0, 10, 20, 30, 41, 1, 11, 14, 175, 59, 2, 244, 231, 63, 4, 3, 130, 2, 255, 255, 4, 8, 0, 0, 0]
    apart = kernels.split_rows(bytes(filtered), 4, 1)
    assert apart[:5] == bytes(range(5))
    assert [list(apart[k : k + 4]) for k in range(5, 25, 4)] == pixels
    for bad in ((0, 1), (4, 0), (4, 5), (32_769, 1)):
        with pytest.raises(ValueError, match="do not fit"):
            kernels.split_rows(b"content", *bad)
