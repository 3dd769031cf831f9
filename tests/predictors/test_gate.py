"""Which blocks use the network: several kinds of data, and their sizes at level 5 beside level 4."""

from __future__ import annotations

import base64
import bz2
import gzip
import io
import lzma
import random
import struct
import sysconfig
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import kolmo
from kolmo.coder.binary import BinaryEncoder
from kolmo.errors import PredictorError
from kolmo.native.dispatch import SLOW
from kolmo.predictors.embedded import gate, neural, text
from kolmo.predictors.embedded.gate import MAX_TRIAL_BYTES, MIN_GOOD_SAMPLES, SAMPLE_BYTES, looks_packed
from kolmo.predictors.embedded.kinds.deflate.kind import Deflate
from kolmo.predictors.embedded.neural import Neural
from kolmo.predictors.embedded.segmented import Choice
from kolmo.predictors.embedded.text import SHIPPED

pytestmark = pytest.mark.skipif(SLOW, reason="takes minutes in NumPy")

MORE = 5  # bytes that level 5 may have more: four for its longer name, and five bits for the kind of each block
MORE_OF_SEVERAL = 64  # where it is of several kinds: their list, and more models that start afresh
LIBRARY = Path(sysconfig.get_path("stdlib"))
C = b"""#include <stdio.h>

/* Return the greatest common divisor of two numbers. */
static unsigned int gcd(unsigned int a, unsigned int b) {
    while (b != 0) {
        unsigned int rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

int main(int argc, char *argv[]) {
    for (int i = 1; i + 1 < argc; i++) printf("%u\\n", gcd(atoi(argv[i]), atoi(argv[i + 1])));
    return 0;
}
"""
MAIL = b"""From: Alice Smith <alice@example.org>
To: bob@example.com
Subject: Re: the meeting next week
Date: Mon, 11 Mar 2024 10:02:17 +0100
Content-Type: text/plain; charset=us-ascii

Dear Bob,

thank you for your message. I think that we should meet on Thursday afternoon, since most of us will be in the office by
then, and talk about the results of the experiment before we send the report to the others. Please let me know whether
that is possible for you. If not, we will have to find another day.

Best regards,
Alice
"""
TEXT = (
    MAIL[150:]
    + b"It is a truth universally acknowledged that nobody likes to wait for a program that could be faster.\n"
)


def noise(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


def tar(*contents: bytes) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for number, content in enumerate(contents):
            entry = tarfile.TarInfo(f"folder/file{number}")
            entry.size, entry.mtime = len(content), 1_600_000_000
            archive.addfile(entry, io.BytesIO(content))
    return out.getvalue()


def modules(*names: str) -> list[bytes]:
    return [(LIBRARY / f"{name}.py").read_bytes() for name in names]


def png() -> bytes:
    """A noisy image of 128 x 128 pixels."""
    draw = np.random.default_rng(1)
    rows = np.clip(np.cumsum(draw.normal(0, 6, (128, 384)), axis=1) + 128, 0, 255).astype(np.uint8)
    raw = b"".join(b"\0" + row.tobytes() for row in rows)

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">IIBBBBB", 128, 128, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(raw, 9)) + chunk(b"IEND", b"")


def wheel() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for number, content in enumerate(modules("tarfile", "heapq", "abc")):
            archive.writestr(zipfile.ZipInfo(f"package/module{number}.py"), content, zipfile.ZIP_DEFLATED, 9)
    return out.getvalue()


def book() -> bytes:
    return modules("tarfile")[0]


PACKED: dict[str, Callable[[], bytes]] = {
    **{f"random, {size} bytes": partial(noise, size) for size in (64, 200, 511, 512, 1000, 4096, 4097, 50_000)},
    "png": png,
    "wheel": wheel,
    "gz": lambda: gzip.compress(book(), mtime=0),
    "xz": lambda: lzma.compress(book()),
    "bz2": lambda: bz2.compress(book()),
    "gz of 3 KB": lambda: gzip.compress(book()[:3000], mtime=0),
    "zeros before and behind": lambda: bytes(20_000) + noise(40_000) + bytes(20_000),
    "an island of text": lambda: noise(30_000) + MAIL + noise(30_000, 2),
}
HEARD: dict[str, Callable[[], bytes]] = {
    "tar of Python": lambda: tar(*modules("bisect", "copy")),
    "tar of C": lambda: tar(*[C.replace(b"gcd", b"gcd%d" % n) for n in range(8)]),
    "tar of mail": lambda: tar(*[MAIL.replace(b"Bob", b"Bob %d" % n) for n in range(8)]),
    "zeros, then Python": lambda: bytes(30_000) + modules("bisect")[0],
    "pages with a little text": lambda: b"".join((C * 3)[7 * n :][:800].ljust(4096, b"\0") for n in range(8)),
    "Python, then random": lambda: modules("copy")[0] + noise(12_000),
    "a line of text": lambda: TEXT[:100],
    "1 KB of text": lambda: TEXT,
}
OTHER: dict[str, Callable[[], bytes]] = {
    "zeros": lambda: bytes(50_000),
    "a period": lambda: bytes(range(256)) * 200,
    "base64": lambda: base64.encodebytes(noise(20_000)),
    "sound": lambda: np.random.default_rng(1).normal(0, 3000, 20_000).astype("<i2").tobytes(),
    "loud sound": lambda: (
        (20_000 * np.sin(np.arange(20_000) / 9) + np.random.default_rng(1).normal(0, 900, 20_000))
        .astype("<i2")
        .tobytes()
    ),
    "floats": lambda: np.random.default_rng(1).normal(0, 1, 10_000).astype("<f4").tobytes(),
    "numbers": lambda: np.arange(4_000, dtype="<u4").tobytes(),
}
SMALL: dict[str, Callable[[], bytes]] = {
    "one byte": lambda: b"k",
    "numbers": lambda: np.arange(500, dtype="<u2").tobytes(),
    "squares": lambda: struct.pack("<150i", *(n * n % 977 for n in range(150))),
    "letters": lambda: bytes(random.Random(3).choices(b"ACGT", k=800)),
    "hexadecimal": lambda: noise(300).hex().encode(),
    "base64": lambda: base64.b64encode(noise(300)),
    "a tiny tar": lambda: tar(b"one line\n")[:2048],
}


@pytest.fixture
def without_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """A network that cannot be loaded, and deflate streams that stay packed, as those of other encoders do."""

    def refused() -> None:
        raise AssertionError("the network was loaded")

    neural._fingerprint.cache_clear()
    monkeypatch.setattr(text, "network", refused)
    monkeypatch.setattr(text, "network_kernel", refused)
    monkeypatch.setattr(Deflate, "find", lambda self, data: [])


def coded(data: bytes, level: int = 5) -> tuple[list[str], int]:
    """The kinds of a block's parts, in order, and the bytes of its payload."""
    encoder, predictor = BinaryEncoder(), Neural(level)
    predictor.start(len(data)).encode(encoder, data)
    payload = encoder.finish()
    parts = predictor.parts(payload, len(data))
    assert sum(part.size for part in parts) == len(data)
    return [part.kind for part in parts], len(payload)


def sizes(data: bytes, level: int = 5) -> tuple[int, int]:
    """Bytes of the file at level 4 and at another."""
    archive = kolmo.compress(data, level=level)
    assert kolmo.decompress(archive) == data
    return len(kolmo.compress(data, level=4)), len(archive)


@pytest.mark.parametrize("name", PACKED)
@pytest.mark.usefixtures("without_network")
def test_what_looks_random_is_level_4s_and_loads_no_network(name: str) -> None:
    data = PACKED[name]()
    assert looks_packed(data)
    assert not gate.should_use_network(data, SHIPPED.kernel)
    kinds, _ = coded(data)
    assert "text" not in kinds
    assert "packed" in kinds
    four, five = sizes(data)
    assert five <= four + (MORE if len(kinds) == 1 else MORE_OF_SEVERAL)


@pytest.mark.parametrize("level", [6, 7, 9])
@pytest.mark.usefixtures("without_network")
def test_so_it_is_at_every_level(level: int) -> None:
    four, size = sizes(noise(20_000), level)
    assert size <= four + MORE


@pytest.mark.parametrize("name", HEARD)
def test_text_is_heard_whatever_lies_around_it(name: str) -> None:
    data = HEARD[name]()
    assert not looks_packed(data)
    assert gate.should_use_network(data, SHIPPED.kernel)
    four, five = sizes(data)
    assert five < four * (0.97 if "random" in name else 0.87)


@pytest.mark.parametrize("name", OTHER)
@pytest.mark.parametrize("level", [5])
def test_other_data_are_left_to_the_levels_own_mixer(name: str, level: int) -> None:
    data = OTHER[name]()
    assert not {"text", "packed"}.intersection(coded(data, level)[0])
    four, size = sizes(data, level)
    assert size <= four * 1.001 + 2 * MORE


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("level", [5, 9])
def test_small_blocks_take_the_best_way(name: str, level: int) -> None:
    data = SMALL[name]()
    four, size = sizes(data, level)
    assert size <= four + MORE
    bits = Neural(level).start(len(data)).score(data).sum()
    encoder = BinaryEncoder()
    Neural(level).start(len(data)).encode(encoder, data)
    assert len(encoder.finish()) == pytest.approx(bits / 8, abs=3)


def test_two_samples_of_eight_are_enough_and_one_is_not() -> None:
    words = (TEXT * 3)[:1500]
    for count in range(4):
        pieces = [noise(8000, n) for n in range(8)]
        for n in range(count):
            pieces[2 * n] = (words * 6)[:8000]
        assert gate.should_use_network(b"".join(pieces), SHIPPED.kernel) == (count >= MIN_GOOD_SAMPLES)


def test_padding_does_not_vote() -> None:
    module = modules("copy")[0]
    for padding in (0, 1000, 10_000, 60_000):
        data = bytes(padding) + module + bytes(padding)
        assert gate.should_use_network(data, SHIPPED.kernel)


def test_a_trial_gives_the_bytes_that_coding_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    def payload(data: bytes) -> bytes:
        encoder = BinaryEncoder()
        Neural(5).start(len(data)).encode(encoder, data)
        return encoder.finish()

    choice = Neural(5).choose(TEXT)
    assert choice.coded is not None
    tried = payload(TEXT)
    monkeypatch.setattr(Neural, "choose", lambda self, data: Choice(choice.segments))
    assert payload(TEXT) == tried


def test_a_block_is_divided_where_its_kind_changes() -> None:
    (module,), packed = modules("argparse"), noise(40_000)
    text = module[:16_000]
    assert coded(packed + text + packed)[0] == ["packed", "text", "packed"]
    kinds, size = coded(text + packed + text)
    assert kinds == ["text", "packed", "text"]
    assert size < len(packed) + 1.5 * coded(text)[1]  # the text before and behind shares one history


def test_a_divided_block_comes_back() -> None:
    data = modules("bisect")[0] * 3 + noise(50_000) + MAIL * 30 + noise(30_001, 2) + bytes(70_000)
    for level in (1, 5):
        assert kolmo.decompress(kolmo.compress(data, level=level)) == data


def test_samples_lie_within_the_block() -> None:
    for size in (MAX_TRIAL_BYTES + 1, 5000, 100_001):
        data = noise(size)
        samples = gate.samples_of(data)
        assert len(samples) == gate.MAX_SAMPLES
        assert all(len(sample) == SAMPLE_BYTES and sample in data for sample in samples)


def test_the_network_is_the_one_that_fingerprints_name(monkeypatch: pytest.MonkeyPatch) -> None:
    assert text.network().fingerprint == text.FINGERPRINT
    monkeypatch.setattr(text, "FINGERPRINT", bytes(32))
    with pytest.raises(PredictorError, match="not the network that this version of kolmo ships; install kolmo again"):
        text.network.__wrapped__()
