"""Pictures, sounds and records on the page of `kolmo explain`."""

from __future__ import annotations

import base64
import re
import struct
import zlib
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from helpers.order0 import Order0
from kolmo.predictors.base import BlockPart
from kolmo.report import Explanation, explain
from kolmo.report.page import pictures, png, rows

WIDTH, HEIGHT = 40, 30


def explained(data: bytes, *parts: BlockPart) -> Explanation:
    return replace(explain(data, Order0(), measure=False), parts=parts)


def image(data: bytes, stride: int, channels: int, first: int = 0, **more: int) -> BlockPart:
    return BlockPart("image", first, len(data) - first, {"stride": stride, "channels": channels, **more})


def unpacked(file: bytes) -> tuple[tuple[int, ...], list[bytes], bytes]:
    """Head, names of chunks, and the inflated content of a PNG file."""
    assert file.startswith(png.SIGNATURE)
    at, head, names, content = 8, (), [], b""
    while at < len(file):
        (size,), name = struct.unpack(">I", file[at : at + 4]), file[at + 4 : at + 8]
        value = file[at + 8 : at + 8 + size]
        assert struct.unpack(">I", file[at + 8 + size : at + 12 + size]) == (zlib.crc32(name + value),)
        names.append(name)
        if name == b"IHDR":
            head = struct.unpack(">IIBBBBB", value)
        elif name == b"IDAT":
            content = zlib.decompress(value)
        at += 12 + size
    return head, names, content


@pytest.mark.parametrize("shape", [(3, 5), (3, 5, 3), (1, 1), (1, 1, 3)])
def test_png_of_a_picture(shape: tuple[int, ...]) -> None:
    values = np.random.default_rng(3).integers(0, 256, shape, np.uint8)
    head, names, content = unpacked(png.picture(values))
    assert head == (shape[1], shape[0], 8, 0 if len(shape) == 2 else 2, 0, 0, 0)
    assert names == [b"IHDR", b"IDAT", b"IEND"]
    step, at, found = (1 if len(shape) == 2 else 3), 0, bytearray()
    for _ in range(shape[0]):
        assert content[at] == png.LEFT
        row = bytearray(content[at + 1 : at + 1 + step * shape[1]])
        for k in range(step, len(row)):
            row[k] = row[k] + row[k - step] & 255
        found += row
        at += 1 + len(row)
    assert bytes(found) == values.tobytes()
    assert at == len(content)


@pytest.mark.parametrize("columns", [1, 2, 7])
def test_png_with_a_palette(columns: int) -> None:
    levels = np.random.default_rng(3).integers(0, 16, (4, columns), np.uint8)
    head, names, content = unpacked(png.indexed(levels, pictures.HEAT))
    assert head == (columns, 4, 4, 3, 0, 0, 0)
    assert names == [b"IHDR", b"PLTE", b"IDAT", b"IEND"]
    width = 1 + (columns + 1) // 2
    for k in range(4):
        row = content[k * width : (k + 1) * width]
        assert row[0] == png.UNFILTERED
        assert [row[1 + c // 2] >> (0 if c % 2 else 4) & 15 for c in range(columns)] == levels[k].tolist()


def sources(page: str) -> list[bytes]:
    found = re.findall(r'<img alt="[a-z ]+" width=\d+ height=\d+ src="data:image/png;base64,([A-Za-z0-9+/=]+)">', page)
    assert len(found) == page.count("<img") == page.count('src="')
    return [base64.b64decode(source) for source in found]


def test_a_page_with_a_picture() -> None:
    data = b"head" + np.arange(HEIGHT * WIDTH * 3, dtype=np.uint8).tobytes()
    page = explained(data, BlockPart("text", 0, 4, {}), image(data, 3 * WIDTH, 3, 4)).html()
    assert '; img-src data:"' in page
    assert "://" not in page
    seen, heat = sources(page)
    assert unpacked(seen)[0][:4] == (WIDTH, HEIGHT, 8, 2)
    assert unpacked(heat)[0][:4] == (WIDTH, HEIGHT, 4, 3)
    assert "image from byte 4 on (width 40, 3 channels): 40 &times; 30 pixels" in page
    assert "image 100% (width 40, 3 channels)" in page
    without = explained(data).html()
    assert "img-src" not in without
    assert "Pictures and sounds" not in without


@pytest.mark.parametrize(
    ("parameters", "size"),
    [
        ({}, 5000),
        ({"stride": 0, "channels": 1}, 5000),
        ({"stride": 2, "channels": 3}, 5000),
        ({"stride": 100, "channels": 9}, 5000),
        ({"stride": 1 << 30, "channels": 1}, 5000),
        ({"stride": 100, "channels": 1}, 399),
    ],
)
def test_what_is_no_picture_is_not_drawn(parameters: dict[str, int], size: int) -> None:
    assert not list(pictures.pictures(explained(bytes(size), BlockPart("image", 0, size, parameters))))
    sound = {name: value for name, value in parameters.items() if name != "stride"}
    assert not list(pictures.pictures(explained(bytes(size), BlockPart("audio", 0, size, sound))))


def test_rows_need_not_be_whole_and_large_pictures_are_shrunk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "MAX_SIDE", 16)
    data = bytes(k % 251 for k in range(50 * 33 + 20))
    seen, heat = sources(explained(data, image(data, 50, 1)).html())
    assert unpacked(seen)[0][:2] == unpacked(heat)[0][:2] == (13, 9)  # each point 4 x 4
    assert unpacked(sources(explained(data, image(data, 50, 4)).html())[0])[0][:4] == (4, 11, 8, 2)


def test_only_the_largest_are_drawn() -> None:
    data = bytes(100) * 40
    parts = [BlockPart("image", 400 * k, 400 - k, {"stride": 10, "channels": 1}) for k in range(9)]
    page = explained(data, *parts).html()
    assert len(sources(page)) == 2 * pictures.MAX_DRAWN
    assert f"The largest {pictures.MAX_DRAWN} of 9." in page


def test_means_of_squares() -> None:
    values = np.arange(3.0 * 5).reshape(3, 5, 1)
    found = pictures._shrunk(values, 2)[:, :, 0]
    assert found.tolist() == [[3.0, 5.0, 6.5], [10.5, 12.5, 14.0]]


def bmp(height: int, first: int = 54) -> bytes:
    head = b"BM" + struct.pack("<IHHI", 0, 0, 0, first) + struct.pack("<IiiHHIIiiII", 40, 4, height, 1, 24, *[0] * 6)
    return head + b"".join(bytes([row]) * 12 for row in range(10, 10 + abs(height)))


@pytest.mark.parametrize(("height", "first_row"), [(5, 14), (-5, 10)])
def test_a_bmp_stands_upright(height: int, first_row: int) -> None:
    data = b"before" + bmp(height)
    seen, _ = sources(explained(data, image(data, 12, 3, 60, order=0)).html())
    assert unpacked(seen)[2][1:4] == bytes([first_row]) * 3


@pytest.mark.parametrize(
    ("bits", "values", "more"),
    [
        (8, [-128, 0, 127], {"unsigned": 1}),
        (8, [-128, 0, 127], {}),
        (16, [-32768, 0, 32767], {}),
        (16, [-32768, 0, 32767], {"unsigned": 1}),
        (16, [-2, 3, 5], {"big": 1}),
        (24, [-8388608, -1, 8388607], {}),
    ],
)
def test_samples(bits: int, values: list[int], more: dict[str, int]) -> None:
    order: Any = "big" if "big" in more else "little"
    middle = 1 << bits - 1 if "unsigned" in more else 0
    data = b"".join((value + middle).to_bytes(bits // 8, order, signed=not middle) for value in values)
    assert pictures._samples(data, {"bits": bits, **more}).tolist() == values


def test_a_sound_that_begins_within_a_frame() -> None:
    data = bytes([7]) + struct.pack("<200h", *range(200))
    page = explained(data, BlockPart("audio", 0, len(data), {"bits": 16, "channels": 1, "phase": 1})).html()
    assert "200 samples" in page


@pytest.mark.parametrize(("bits", "channels"), [(8, 1), (16, 1), (16, 2), (24, 2)])
def test_a_page_with_a_sound(bits: int, channels: int) -> None:
    frames = 3000
    data = bytes(k * k % 253 for k in range(frames * channels * bits // 8 + 1))
    page = explained(data, BlockPart("audio", 0, len(data), {"bits": bits, "channels": channels})).html()
    assert "<img" not in page
    figure = page[page.index('<svg class="wave"') : page.index("</figcaption>")]
    assert figure.count("M") == pictures.MAX_SIDE
    heights = [float(value) for pair in re.findall(r"M\d+\.5 ([\d.]+)V([\d.]+)", figure) for value in pair]
    assert min(heights) >= 0
    assert max(heights) <= pictures.PLOT_HEIGHT
    assert f"{len(data) // (channels * bits // 8):,} samples" in figure
    assert set(re.findall(r'stroke="(#\w+)"', figure)) <= set(pictures.WAVE)


def test_silence_and_equal_costs_can_be_drawn() -> None:
    data = b"\x80" * 400
    flat = replace(explained(data, BlockPart("audio", 0, 400, {"bits": 8, "channels": 1})), costs=np.zeros(400))
    assert "wave" in flat.html()
    assert sources(replace(flat, parts=(image(data, 20, 1),)).html())


def test_records_are_rows() -> None:
    data = bytes(range(40)) + bytes(22 * 9) + bytes(100 * 3) + bytes(4 * 9) + bytes(5)
    edges = [40, 40 + 22 * 9, 40 + 22 * 9 + 300, 40 + 22 * 9 + 336]
    parts = (
        BlockPart("text", 0, 40, {}),
        BlockPart("record", edges[0], 22 * 9, {"width": 22}),
        BlockPart("record", edges[1], 300, {"width": 100}),
        BlockPart("float", edges[2], 36, {"width": 4}),
        BlockPart("plain", edges[3], 5, {}),
    )
    found = explained(data, *parts)
    offsets = rows.Rows.of(found).offsets.tolist()
    assert offsets[:3] == [0, 16, 32]
    assert offsets[3:12] == [40 + 22 * k for k in range(9)]
    assert offsets[12:24] == [edges[1] + 100 * k + 32 * m for k in range(3) for m in range(4)]
    assert offsets[24:27] == [edges[2], edges[2] + 16, edges[2] + 32]
    assert offsets[27] == edges[3]
    page = found.html()
    code = "".join(re.findall(r"<i[^>]*>([0-9a-f]{2})</i>", page[page.index('id="text"') :]))
    assert bytes.fromhex(code) == data
    links = re.findall(r'<a href="#(O\d+)">', page)
    assert links
    assert all(page.count(f" id={link} ") == 1 for link in links)
    assert "--row:98ch" in page


def test_many_parts_take_linear_time() -> None:
    parts = tuple(
        BlockPart(("record", "plain")[k % 2], 30 * k, 30, {"width": 5} if k % 2 == 0 else {}) for k in range(20_000)
    )
    found = explained(bytes(30 * len(parts)), *parts)
    assert len(rows.Rows.of(found).offsets) >= 2 * len(parts)


def test_parts_of_a_content(monkeypatch: pytest.MonkeyPatch) -> None:
    data = b"some words and more words\n" * 60
    found = explain(data, "cm:1")
    assert [(part.kind, part.first, part.size) for part in found.parts] == [("plain", 0, len(data))]
    assert found.record()["kinds"] == [{"kind": "plain", "size": len(data), "parts": 1, "parameters": {}}]
    assert "plain 100%" in found.html()
    import sys

    monkeypatch.setattr(sys.modules["kolmo.report.explain"], "DEFAULT_BLOCK_LIMIT", 600)
    assert [part.first for part in explain(data, "cm:1").parts] == [0, 520, 1040]
    assert explain(data, Order0()).parts == ()
    assert explain(data, Order0()).record()["kinds"] == []
