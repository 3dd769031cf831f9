"""Makes the golden files of a release: `PYTHONPATH=tests:benchmarks python -m golden.make`, once.

Files that exist are never replaced: decoding them is the promise that the tests keep.
"""

from __future__ import annotations

import random
import struct
import tempfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import kolmo
from golden import RELEASE, record
from kolmo.native.dispatch import kernels

ROOT = Path(__file__).parents[2]
PROSE = (
    b"Whether I shall turn out to be the hero of my own life, or whether that station will be held by anybody else, "
    b"these pages must show. To begin my life with the beginning of my life, I record that I was born (as I have been "
    b"informed and believe) on a Friday, at twelve o'clock at night. It was remarked that the clock began to strike, "
    b"and I began to cry, simultaneously.\n"
)
CODE = (
    b"def gcd(a: int, b: int) -> int:\n    while b:\n        a, b = b, a % b\n    return a\n\n\n"
    b"class Fraction:\n    def __init__(self, above: int, below: int = 1) -> None:\n"
    b"        common = gcd(above, below)\n        self.above, self.below = above // common, below // common\n\n"
    b"    def __add__(self, other: Fraction) -> Fraction:\n"
    b"        return Fraction(self.above * other.below + other.above * self.below, self.below * other.below)\n\n"
    b"    def __mul__(self, other: Fraction) -> Fraction:\n"
    b"        return Fraction(self.above * other.above, self.below * other.below)\n\n"
    b'    def __repr__(self) -> str:\n        return f"{self.above}/{self.below}" '
    b"if self.below > 1 else str(self.above)\n"
)
RECORDS = b"".join(n.to_bytes(4, "little") + b"\0\0" + (n * n % 251).to_bytes(2, "big") for n in range(300))


def noise(count: int, most: int, seed: int) -> list[int]:
    """Integers from -`most` to `most`, the same every time."""
    draw = random.Random(seed)
    return [draw.randint(-most, most) for _ in range(count)]


def picture(width: int, height: int) -> bytes:
    """A PPM file: slopes of three colours with some noise."""
    places = [(x, y) for y in range(height) for x in range(width)]
    pixels = [(40 + 3 * x + y, 60 + 2 * x + 2 * y, 30 + x + 3 * y) for x, y in places]
    flat = [value + more for pixel, more in zip(pixels, noise(len(pixels), 2, 5), strict=True) for value in pixel]
    return f"P6\n{width} {height}\n255\n".encode() + bytes(min(max(value, 0), 255) for value in flat)


def sound(count: int) -> bytes:
    """A WAV file: an oscillation of 16 bits, by a recursion in integers, with some noise."""
    before, now, samples = 0, 1500, []
    for more in noise(count, 40, 6):
        before, now = now, (2 * now * 32000 >> 15) - before
        samples.append(max(min(now, 30000), -30000) + more)
    body = struct.pack(f"<{count}h", *samples)
    head = struct.pack("<4sIHHIIHH4sI", b"fmt ", 16, 1, 1, 8000, 16000, 2, 16, b"data", len(body))
    return struct.pack("<4sI4s", b"RIFF", 4 + len(head) + len(body), b"WAVE") + head + body


def program(count: int) -> bytes:
    """Instructions of x86-64, among them calls of few functions from many places."""
    code, draw = b"", random.Random(7)
    for _ in range(count):
        place = draw.randrange(8, 80, 8)
        code += bytes([0x48, 0x8B, 0x45, 256 - place, 0x48, 0x89, 0xC7, 0xE8])
        code += struct.pack("<i", draw.choice((100, 2000, 4200)) - len(code) - 4)
        code += bytes([0x48, 0x89, 0x45, 256 - place, 0x0F, 0x84]) + struct.pack("<i", draw.randrange(16, 200))
    return code


def archive(members: dict[str, bytes]) -> bytes:
    """A zip file of deflated members; its deflate is kolmo's own, since that of Python differs from build to build."""
    out, directory = bytearray(), bytearray()
    for name, content in members.items():
        packed = kernels.deflate(content, 6, 8, 15, 0)
        head = struct.pack("<HHIIIIHH", 0, 8, 0x5C210000, zlib.crc32(content), len(packed), len(content), len(name), 0)
        directory += b"PK\1\2\x14\0\x14\0" + head + bytes(10) + struct.pack("<I", len(out)) + name.encode()
        out += b"PK\3\4\x14\0" + head + name.encode() + packed
    end = struct.pack("<HHHHIIH", 0, 0, len(members), len(members), len(directory), len(out), 0)
    return bytes(out + directory) + b"PK\5\6" + end


FLOATS = struct.pack("<600d", *(100 + k / 7 + more / 1024 for k, more in enumerate(noise(600, 512, 8))))
KINDS = {
    "image": PROSE + picture(40, 30) + PROSE[:90],
    "audio": sound(2500) + PROSE,
    "program": program(250),
    "float": FLOATS,
    "deflate": archive({"prose.txt": PROSE * 2 + PROSE[:200], "code.py": CODE, "floats": FLOATS}),
}


@dataclass(frozen=True)
class Case:
    """A content, and how it is written."""

    raw: bytes
    level: int = 5
    predictor: str = "cm"
    block_size: int | None = None
    frames: int = 1


CASES = {
    "v1-empty": Case(b""),
    "v1-one-byte": Case(b"k"),
    "v1-random": Case(random.Random(0).randbytes(700)),
    "v1-zeros": Case(bytes(4000), level=1),
    "v1-records": Case(RECORDS, level=5),
    "v1-utf8": Case("Fünf große Bären · 五頭の大きな熊 · пять больших медведей.\n".encode() * 6, level=3),
    "v1-blocks": Case(PROSE * 3 + CODE, level=5, block_size=700),
    "v1-frames": Case(PROSE + CODE[:600], level=1, frames=3),
    "v1-mixed": Case(PROSE + random.Random(1).randbytes(600) + CODE[:500], level=2, block_size=600),
    **{f"v1-prose-{level}": Case(PROSE, level=level) for level in range(1, 10)},
    **{f"v1-code-{level}": Case(CODE, level=level) for level in (1, 5, 9)},
    **{f"v1-neural-prose-{level}": Case(PROSE, level, "neural") for level in range(5, 10)},
    **{f"v1-{kind}": Case(raw, level=3) for kind, raw in KINDS.items()},
    **{f"v1-neural-{kind}": Case(raw, predictor="neural") for kind, raw in KINDS.items()},
    "v1-neural-code": Case(CODE, predictor="neural"),
    "v1-neural-records": Case(RECORDS, predictor="neural"),
    "v1-neural-segments": Case(
        PROSE * 20 + random.Random(2).randbytes(18_000) + (PROSE + CODE) * 8, predictor="neural"
    ),
    "v1-neural-blocks": Case(PROSE * 2 + CODE, block_size=900, predictor="neural"),
}


def encode(name: str, raw: bytes) -> bytes:
    """Write `raw` as the case of this name is written."""
    case = CASES[name]
    step = -(-len(raw) // case.frames) or 1
    pieces = [raw[start : start + step] for start in range(0, len(raw), step)] or [b""]
    return b"".join(
        kolmo.compress(piece, predictor=f"{case.predictor}:{case.level}", block_size=case.block_size)
        for piece in pieces
    )


NETWORK = RELEASE / "networks" / "v1-tiny.safetensors"  # see `make_network`
NETWORKS = {
    **{f"v1-network-prose-{level}": Case(PROSE, level, "network") for level in range(1, 10)},
    "v1-network-code": Case(CODE, predictor="network"),
    "v1-network-blocks": Case(PROSE * 2 + CODE, block_size=900, predictor="network"),
    "v1-network-long": Case((PROSE + CODE) * 5, predictor="network"),  # long enough for the gate
}


def encode_network(case: Case) -> bytes:
    """Write a case of `NETWORKS`."""
    return kolmo.compress(case.raw, predictor=f"network:{NETWORK}:{case.level}", block_size=case.block_size)


def make_networks() -> None:
    """The files of a network of one's own, and the network itself, trained on kolmo's own source."""
    if not NETWORK.exists():
        from kolmo.training.networks.models import NetworkShape
        from kolmo.training.run import Job, train
        from kolmo.training.settings import Budget, Settings

        folder = Path(tempfile.mkdtemp())
        text = folder / "kolmo.txt"
        text.write_bytes(b"".join(path.read_bytes() for path in sorted((ROOT / "src" / "kolmo").rglob("*.py"))))
        settings = Settings(Budget(150, "steps"))
        job = Job(folder / "run", NetworkShape(1, 64, 64, 0, ()), [(text, None)], settings)
        NETWORK.write_bytes((train(job).product or folder).read_bytes())
    for name, case in NETWORKS.items():
        packed = NETWORK.parent / f"{name}.kmo"
        if not packed.exists():
            packed.with_suffix(".raw").write_bytes(case.raw)
            packed.write_bytes(encode_network(case))
            print(f"{name}: {len(case.raw)} -> {packed.stat().st_size} bytes")


STORY = b"Once upon a time, there was a little boat. It was sad, and it had no friends. One day, a girl came to play.\n"
MODELS: dict[str, tuple[bytes, dict[str, Any]]] = {  # content, options; versions 1 and 2 have chunks of a given length
    "v1-hf-story": (STORY * 2, {"chunk": 4096, "memory_tokens": 0}),
    "v1-hf-chunks": (STORY * 3 + bytes(range(128, 160)), {"chunk": 40, "memory_tokens": 0}),
    "v2-hf-memory": (STORY * 4 + STORY[:50] * 2, {"chunk": 100, "memory_tokens": 256}),
    "v3-hf-sliding": (STORY * 4 + STORY[:50] * 2, {"context": 64, "memory_tokens": 256}),
}


def make_models() -> None:
    """The files of language models: of stories260K in float64, whose noise is far below what is tolerated."""
    from harness.models import stories
    from kolmo.predictors.language_models.huggingface import HuggingFace

    folder = stories(Path(tempfile.gettempdir()) / "stories260K")
    for name, (raw, options) in MODELS.items():
        packed = RELEASE / "models" / f"{name}.kmo"
        if not packed.exists():
            model = HuggingFace.from_spec(str(folder), dtype="float64", **options)
            packed.with_suffix(".raw").write_bytes(raw)
            packed.write_bytes(kolmo.compress(raw, predictor=model))


def main() -> None:
    """Write the files that do not exist yet."""
    for name, case in CASES.items():
        raw, packed = RELEASE / f"{name}.raw", RELEASE / f"{name}.kmo"
        if not raw.exists():
            raw.write_bytes(case.raw)
            packed.write_bytes(encode(name, case.raw))
            print(f"{name}: {len(case.raw)} -> {packed.stat().st_size} bytes")
    make_networks()
    if {path.stem for path in (RELEASE / "models").glob("*.kmo")} != set(MODELS):
        make_models()
    record()


if __name__ == "__main__":
    main()
