"""The kind of pictures: what headers announce, what is guessed, and blocks of any size."""

from __future__ import annotations

import io
import random
import struct
import tarfile
from array import array

import numpy as np
import pytest

from kolmo.coder.binary import BinaryDecoder, BinaryEncoder
from kolmo.errors import CorruptError
from kolmo.native.dispatch import SLOW
from kolmo.predictors.embedded.kinds.image import Image
from kolmo.predictors.embedded.kinds.image.guess import guess_layouts
from kolmo.predictors.embedded.kinds.image.headers import BGR, RGB, find_pixels
from kolmo.predictors.embedded.kinds.image.model import (
    COLOUR,
    FULL,
    GREY,
    SHAPES,
    pack_prior,
    plain_prior,
    stored_prior,
    unpack_prior,
)

WIDTH, HEIGHT = 21, 16


def photograph(width: int, height: int, channels: int, seed: int = 1) -> bytes:
    """A smooth picture with a little noise."""
    rng = np.random.default_rng(seed)
    y, x, c = np.mgrid[:height, :width, :channels]
    waves = 128 + 60 * np.sin(x / 17 + c / 9) + 50 * np.cos(y / 11 - c / 7 + x / 41)
    return bytes(np.clip(waves + rng.normal(size=waves.shape) * 2, 0, 255).astype(np.uint8))


def bmp(width: int, height: int, bits: int, palette: bytes = b"") -> bytes:
    stride = (width * bits // 8 + 3) // 4 * 4
    first = 54 + len(palette)
    head = b"BM" + struct.pack(
        "<IIIIiiHHIIIIII", first + stride * height, 0, first, 40, width, height, 1, bits, 0, 0, 0, 0, 0, 0
    )
    return head + palette + photograph(stride, height, 1)


def tga(width: int, height: int, kind: int, depth: int) -> bytes:
    return (
        struct.pack("<BBBHHBHHHHBB", 3, 0, kind, 0, 0, 0, 0, 0, width, height, depth, 0x20)
        + b"abc"
        + photograph(width, height, depth // 8)
    )


def tiff(width: int, height: int, channels: int, order: str) -> bytes:
    pixels = photograph(width, height, channels)
    rows = 5
    strips = [pixels[at : at + rows * width * channels] for at in range(0, len(pixels), rows * width * channels)]
    offsets = [8 + sum(map(len, strips[:k])) for k in range(len(strips))]
    after = 8 + len(pixels)
    bits_at, offsets_at, counts_at = after, after + 2 * channels, after + 2 * channels + 4 * len(strips)
    directory_at = counts_at + 4 * len(strips)

    def short(tag: int, value: int) -> bytes:
        return struct.pack(order + "HHIHH", tag, 3, 1, value, 0)

    entries = [short(256, width), short(257, height)]
    if channels > 2:
        entries.append(struct.pack(order + "HHII", 258, 3, channels, bits_at))
    else:
        entries.append(short(258, 8))
    entries += [short(259, 1), short(262, 2 if channels > 2 else 1)]
    entries += [struct.pack(order + "HHII", 273, 4, len(strips), offsets_at), short(277, channels)]
    entries.append(struct.pack(order + "HHII", 279, 4, len(strips), counts_at))
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", directory_at)
    lists = struct.pack(f"{order}{channels}H", *[8] * channels)
    lists += struct.pack(f"{order}{len(strips)}I", *offsets) + struct.pack(f"{order}{len(strips)}I", *map(len, strips))
    return head + pixels + lists + struct.pack(order + "H", len(entries)) + b"".join(entries) + bytes(4)


GREYS = b"".join(bytes([k, k, k, 0]) for k in range(256))
FILES = [
    (b"P6\n21 16\n255\n" + photograph(21, 16, 3), 13, 1008, 63, 3, RGB),
    (b"P5 # a comment\n21 16 255\n" + photograph(21, 16, 1), 25, 336, 21, 1, BGR),
    (bmp(21, 16, 24), 54, 1024, 64, 3, BGR),
    (bmp(21, 16, 32), 54, 1344, 84, 4, BGR),
    (bmp(21, 16, 8, GREYS), 54 + 1024, 384, 24, 1, BGR),
    (tga(21, 16, 2, 24), 21, 1008, 63, 3, BGR),
    (tga(21, 16, 3, 8), 21, 336, 21, 1, BGR),
    (tiff(21, 16, 3, "<"), 8, 1008, 63, 3, RGB),
    (tiff(21, 16, 1, ">"), 8, 336, 21, 1, BGR),
]


@pytest.mark.parametrize(("file", "first", "size", "stride", "channels", "order"), FILES)
def test_headers(file: bytes, first: int, size: int, stride: int, channels: int, order: int) -> None:
    """A picture is found alone and inside other data, and not where it is cut."""
    for before in (b"", b"BMP6\n P5 II*\0" + bytes(100)):
        segments = Image().find(before + file + b"after")
        assert [(s.first, s.size, s.parameters) for s in segments] == [
            (len(before) + first, size, (stride, channels, order))
        ]
    assert Image().find(file[: first + size - 1]) == []


def test_pictures_in_a_tar() -> None:
    """Pictures are found between other members."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for number, (file, *_) in enumerate(FILES):
            member = tarfile.TarInfo(f"{number}.image")
            member.size = len(file)
            tar.addfile(member, io.BytesIO(file))
    assert [p.size for p in find_pixels(buffer.getvalue())] == [size for _, _, size, *_ in FILES]


@pytest.mark.parametrize("seed", range(8))
def test_hostile_headers(seed: int) -> None:
    """Damaged headers announce nothing outside the data, and raise nothing."""
    draw = random.Random(seed)
    for file, *_ in FILES:
        data = bytearray(file)
        for _ in range(6):
            data[draw.randrange(140)] = draw.choice((0, 255, draw.randrange(256)))
        for p in find_pixels(bytes(data)):
            assert p.first >= 0
            assert p.first + p.size <= len(data)
            assert p.channels in (1, 2, 3, 4)
            assert p.stride >= p.channels


def test_many_headers_take_bounded_time() -> None:
    """Data full of magic numbers."""
    for magic in (b"BM", b"II*\0", b"MM\0*", b"P6 ", b"P5\n1 ", b"\0\2\0\0\0\0\0"):
        assert find_pixels(magic * 20000) == []


@pytest.mark.parametrize(("width", "channels"), [(100, 1), (67, 3), (50, 4)])
def test_layouts_are_guessed(width: int, channels: int) -> None:
    """Rows and channels of raw pixels."""
    assert guess_layouts(photograph(width, 90, channels))[0] == (width * channels, channels)


def test_no_layout_of_other_data() -> None:
    """Text and random bytes are no pictures; a patch of papers is tried as one."""
    assert guess_layouts(random.Random(1).randbytes(5000)) == []
    assert guess_layouts(b"A sentence of words, and another one that differs. " * 99) != [(64, 1)]
    assert guess_layouts(bytes(3000)) == []
    assert guess_layouts(b"abc") == []
    assert guess_layouts(photograph(64, 32, 1))[0] == (64, 1)


@pytest.mark.parametrize("level", [1, 4, 5])
@pytest.mark.parametrize(
    ("size", "parameters"),
    [(1, (9, 3, 1)), (700 if not SLOW else 80, (64, 3, 0)), (201, (201, 1, 0)), (90, (11, 4, 1))],
)
def test_round_trip(level: int, size: int, parameters: tuple[int, ...]) -> None:
    """A segment of any size, also less than a row, and its score."""
    data = photograph(parameters[0], size // parameters[0] + 1, 1)[:size]
    kind = Image()
    encoder = BinaryEncoder()
    kind.model(level, size, parameters).encode(encoder, data)
    code = encoder.finish()
    assert kind.model(level, size, parameters).decode(BinaryDecoder(code)) == data
    bits = kind.model(level, size, parameters).score(data)
    assert abs(bits.sum() / 8 - len(code)) < 4 + 0.001 * len(code)
    with pytest.raises(CorruptError):
        kind.model(level, max(size, 300), parameters).decode(BinaryDecoder(code[: len(code) // 2]))


@pytest.mark.parametrize(
    "parameters",
    [(0, 1, 0), (2, 3, 0), (9, 0, 0), (9, 5, 0), (9, 1, 1), (9, 3, 2), (1 << 15 | 1, 3, 1), ((1 << 31) - 1, 1, 0)],
)
def test_parameters_that_no_encoder_writes(parameters: tuple[int, ...]) -> None:
    """Refused before any memory is taken."""
    with pytest.raises(CorruptError):
        Image().model(5, 1 << 20, parameters)


def test_priors_are_stored_exactly() -> None:
    """What is unpacked packs to the same bytes."""
    for shape in SHAPES:
        for rows in (GREY, COLOUR):
            stored = stored_prior(shape, rows)
            unpacked = unpack_prior(shape, rows, stored)
            assert len(unpacked) == len(plain_prior(shape, rows))
            assert unpack_prior(shape, rows, pack_prior(shape, rows, unpacked)) == unpacked
    numbers = array("i", plain_prior(FULL, GREY))
    assert len(numbers) * 4 == len(plain_prior(FULL, GREY))


def test_digests() -> None:
    """They depend on the level's shape alone."""
    digests = [Image().digest(level) for level in range(1, 10)]
    assert digests[0] == digests[2] != digests[3] != digests[4] == digests[8]
