"""Files of many kinds, to try the network's gate on: made here, or taken from KOLMO_DATA, Python and the system.

What it is not: the files that tools are compared on (`harness.files`).
"""

from __future__ import annotations

import base64
import ensurepip
import gzip
import io
import json
import lzma
import math
import py_compile
import random
import struct
import sysconfig
import tarfile
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

from harness.files import text_folder

KIB, MIB = 1 << 10, 1 << 20
LIBRARY = Path(sysconfig.get_path("stdlib"))


def tar(paths: Iterable[Path], limit: int) -> bytes:
    """A tar archive of whole files up to `limit` bytes; owners and times are fixed."""
    out, left = io.BytesIO(), limit
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for path in paths:
            content = path.read_bytes()
            if (left := left - len(content)) < 0:
                break
            entry = tarfile.TarInfo(path.name)
            entry.size, entry.mtime, entry.mode = len(content), 1_600_000_000, 0o644
            archive.addfile(entry, io.BytesIO(content))
    return out.getvalue()


def joined(*parts: bytes) -> bytes:
    """Parts one after another."""
    return b"".join(parts)


def text(name: str, limit: int | None = None) -> bytes:
    """The beginning of a file below bench/text."""
    return (text_folder() / name).read_bytes()[:limit]


def other(folder: str, pattern: str, limit: int | None = None) -> bytes:
    """The beginning of the first file below bench/`folder` that matches."""
    return sorted((text_folder().parent / folder).glob(pattern))[0].read_bytes()[:limit]


def noise(size: int, seed: int = 1) -> bytes:
    """Random bytes."""
    return random.Random(seed).randbytes(size)


def library(limit: int) -> bytes:
    """Python's library as text."""
    return joined(*(path.read_bytes() for path in sorted(LIBRARY.glob("*.py"))))[:limit]


def headers(limit: int) -> Iterable[Path]:
    """C headers of the system."""
    return (path for path in sorted(Path("/usr/include").glob("*.h")) if path.stat().st_size < limit)


def mail() -> bytes:
    """Messages of a mailbox: headers, then a text's paragraphs."""
    draw, paragraphs = random.Random(2), text("canterbury/lcet10.txt").split(b"\n\n")
    names = b"alice bob carol dave erin frank grace heidi".split()
    messages = []
    for number in range(40):
        sender, receiver = draw.sample(names, 2)
        body = b"\n\n".join(paragraphs[3 * number : 3 * number + 3])
        messages.append(
            b"From %s@example.org Mon Jan %2d 10:%02d:00 2024\nMessage-ID: <%s@mail.example.org>\n"
            b"From: %s@example.org\nTo: %s@example.com\nSubject: Re: part %d of the report\n"
            b"Content-Type: text/plain; charset=us-ascii\n\n%s\n\n"
            % (sender, number % 28 + 1, number, draw.randbytes(8).hex().encode(), sender, receiver, number, body)
        )
    return joined(*messages)


def compiled() -> bytes:
    """The bytecode of one of Python's modules."""
    with tempfile.TemporaryDirectory() as folder:
        target = str(Path(folder) / "made.pyc")
        mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
        py_compile.compile(str(LIBRARY / "argparse.py"), target, dfile="argparse.py", invalidation_mode=mode)
        return Path(target).read_bytes()


def shared_object() -> bytes:
    """An extension module of this Python, or one that is installed with this package."""
    from kolmo.native.dispatch import kernels

    found = sorted(Path(sysconfig.get_path("platstdlib"), "lib-dynload").glob("_decimal*.so"))
    return (found[0] if found else Path(str(kernels.__file__))).read_bytes()[: 256 * KIB]


def wheel(limit: int | None = None) -> bytes:
    """The wheel of pip that comes with Python."""
    (found,) = sorted((Path(ensurepip.__path__[0]) / "_bundled").glob("pip-*.whl"))
    return found.read_bytes()[:limit]


def image_bytes() -> bytes:
    """An uncompressed image, 8 bits a channel: smooth, with some noise."""
    draw = random.Random(3)
    return bytes(
        min(max(int(128 + 80 * math.sin(x / 40 + c) * math.cos(y / 30) + draw.gauss(0, 3)), 0), 255)
        for y in range(200)
        for x in range(256)
        for c in range(3)
    )


def samples() -> bytes:
    """A sound, 16 bits, little-endian."""
    draw = random.Random(4)
    values = (int(6000 * math.sin(t / 9) + 3000 * math.sin(t / 31) + draw.gauss(0, 300)) for t in range(60_000))
    return joined(*(struct.pack("<h", value) for value in values))


def floats() -> bytes:
    """Numbers in binary32: weights of a network."""
    draw = random.Random(5)
    return struct.pack("<40000f", *(draw.gauss(0, 0.02) for _ in range(40_000)))


def table() -> bytes:
    """Numbers with commas."""
    draw = random.Random(6)
    rows = (f"{n},{draw.uniform(0, 1000):.3f},{draw.randrange(10**6)},{draw.gauss(0, 1):.5f}\n" for n in range(5_000))
    return "".join(rows).encode()


def json_lines() -> bytes:
    """Records, one a line."""
    draw, words = random.Random(7), text("canterbury/alice29.txt").decode("latin-1").split()
    rows = (
        {
            "id": n,
            "user": f"u{draw.randrange(900)}",
            "score": round(draw.random(), 4),
            "text": " ".join(words[9 * n : 9 * n + 9]),
        }
        for n in range(1_500)
    )
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def log() -> bytes:
    """A server's log."""
    draw = random.Random(8)
    paths = ["/", "/index.html", "/api/v1/items", "/static/app.js", "/favicon.ico", "/login"]
    return "".join(
        f"10.0.{draw.randrange(4)}.{draw.randrange(255)} - - [12/Mar/2024:10:{n // 60 % 60:02d}:{n % 60:02d} +0000] "
        f'"GET {draw.choice(paths)} HTTP/1.1" {draw.choice([200, 200, 200, 304, 404])} {draw.randrange(20000)}\n'
        for n in range(2_500)
    ).encode()


def islands(island: int, sea: int) -> bytes:
    """Random bytes with pieces of text in them."""
    book = text("canterbury/alice29.txt")
    return joined(
        *(noise(sea, n) + book[n * island : (n + 1) * island] for n in range(max(len(book) // island // 4, 2)))
    )


def genome() -> bytes:
    """Letters of a genome, 60 a line, with some repeats."""
    draw = random.Random(9)
    letters = "".join(draw.choices("ACGT", (3, 2, 2, 3), k=120_000))
    letters += letters[20_000:60_000]
    return "".join(f"{letters[at : at + 60]}\n" for at in range(0, len(letters), 60)).encode()


def sparse() -> bytes:
    """Pages of zeros, each with a little text at its start."""
    lines = library(200 * KIB).split(b"\n")
    return joined(*(b"\n".join(lines[20 * n : 20 * n + 20])[:900].ljust(4096, b"\0") for n in range(30)))


def russian() -> bytes:
    """Words of Cyrillic letters that the network has hardly read, in UTF-8."""
    draw = random.Random(10)
    syllables = ["".join(chr(0x430 + draw.randrange(32)) for _ in range(draw.randint(2, 3))) for _ in range(24)]
    words = ["".join(draw.choices(syllables, k=draw.randint(1, 4))) for _ in range(1_500)]
    return " ".join(draw.choices(words, [1 / (n + 1) for n in range(len(words))], k=4_500)).encode()


KINDS: dict[str, Callable[[], bytes]] = {
    # text
    "prose": lambda: text("canterbury/alice29.txt", 24 * KIB),
    "enwik": lambda: text("enwik5", 24 * KIB),
    "py": lambda: library(24 * KIB),
    "c": lambda: text("calgary/progc", 24 * KIB),
    "lisp": lambda: text("calgary/progl", 24 * KIB),
    "bib": lambda: text("calgary/bib", 24 * KIB),
    "news": lambda: text("calgary/news", 24 * KIB),
    "trans": lambda: text("calgary/trans", 24 * KIB),
    "twitter.json": lambda: text("twitter.json", 24 * KIB),
    "citm_catalog.json": lambda: text("citm_catalog.json", 24 * KIB),
    "mail": lambda: mail()[: 24 * KIB],
    "json lines": lambda: json_lines()[: 24 * KIB],
    "log": lambda: log()[: 24 * KIB],
    "utf-8 cyrillic": lambda: russian()[: 24 * KIB],
    "utf-16": lambda: text("canterbury/alice29.txt", 12_000).decode("latin-1").encode("utf-16-le"),
    # text inside something else
    "tar: 61 KB of Python": lambda: tar(
        [LIBRARY / f"{name}.py" for name in ("abc", "copy", "heapq", "bisect", "queue")], MIB
    ),
    "tar: Python": lambda: tar(sorted((LIBRARY / "email").glob("*.py")), 100 * KIB),
    "tar: small Python": lambda: tar(sorted(LIBRARY.glob("_*.py"), key=lambda p: p.stat().st_size)[:12], 32 * KIB),
    "tar: C headers": lambda: tar(headers(12 * KIB), 40 * KIB),
    "tar: mail": lambda: tar(sorted((LIBRARY / "json").glob("*.py")), KIB) + mail()[:30_000] + bytes(9_000),
    "xml (tar)": lambda: text("xml", 40 * KIB),
    "sparse": lambda: sparse()[: 64 * KIB],
    "zeros, then text": lambda: bytes(50_000) + text("canterbury/alice29.txt", 20_000),
    "text, then random": lambda: text("canterbury/alice29.txt", 16 * KIB) + noise(16 * KIB),
    "text islands of 4 KiB": lambda: islands(4 * KIB, 12 * KIB)[: 32 * KIB],
    "text islands of 512": lambda: islands(512, 4 * KIB)[: 32 * KIB],
    "tar: PNG, then Python": lambda: (
        other("images", "kodim*.png", 60 * KIB) + tar(sorted((LIBRARY / "json").glob("*.py")), 32 * KIB)
    ),
    # neither text nor random
    "base64": lambda: base64.encodebytes(noise(20_000)),
    "base64 of text": lambda: base64.encodebytes(text("canterbury/alice29.txt", 20_000)),
    "hex": lambda: noise(12_000).hex(" ", 2).encode(),
    "hex dump": lambda: b"".join(b"%08x  %s\n" % (n, noise(16, n).hex(" ").encode()) for n in range(0, 8_000, 16)),
    "genome": lambda: genome()[: 24 * KIB],
    "csv": lambda: table()[: 24 * KIB],
    "pyc": lambda: compiled()[: 24 * KIB],
    "so": lambda: shared_object()[: 32 * KIB],
    "geo": lambda: text("calgary/geo", 24 * KIB),
    "obj1": lambda: text("calgary/obj1"),
    "obj2": lambda: text("calgary/obj2", 24 * KIB),
    "pic": lambda: text("calgary/pic", 24 * KIB),
    "sum": lambda: text("canterbury/sum"),
    "kennedy.xls": lambda: text("canterbury/kennedy.xls", 24 * KIB),
    "pixels": lambda: image_bytes()[: 24 * KIB],
    "sound": lambda: samples()[: 24 * KIB],
    "floats": lambda: floats()[: 24 * KIB],
    "zeros": lambda: bytes(200_000),
    "struct, 600 bytes": lambda: struct.pack("<150i", *(n * n % 977 for n in range(150))),
    "pixels, 3 KiB": lambda: image_bytes()[: 3 * KIB],
    "so, 4 KiB": lambda: shared_object()[-4 * KIB :],
    "prose, 1 KiB": lambda: text("canterbury/alice29.txt", KIB),
    # random, or compressed by others
    "random": lambda: noise(MIB),
    "random, 1 KiB": lambda: noise(KIB),
    "random, 4 KiB": lambda: noise(4 * KIB),
    "random, 16 KiB": lambda: noise(16 * KIB),
    "random, 64 KiB": lambda: noise(64 * KIB),
    "png": lambda: other("images", "kodim*.png"),
    "jpeg": lambda: other("images", "imagenet/*.JPEG"),
    "flac": lambda: other("audio", "*.flac"),
    "gz of text": lambda: gzip.compress(text("dickens", 600 * KIB), mtime=0),
    "xz of text": lambda: lzma.compress(text("dickens", 600 * KIB)),
    "wheel": wheel,
    "wheel, 64 KiB": lambda: wheel(64 * KIB),
    "gz, 2 KiB": lambda: gzip.compress(text("canterbury/alice29.txt", 4 * KIB), mtime=0),
}
