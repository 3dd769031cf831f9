"""The compressors beside which kolmo is measured, with command lines as their users write them.

A program that is installed is run as it is; compressors of Python's library, and of packages that are installed, run
in a process of their own (`worker`). Pictures and sounds are also given to the codecs made for them.

What it is not: a choice of what is fair. All run on one thread, at a level that favours size.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from kolmo.bench.media import is_picture, is_sound
from kolmo.errors import KolmoError

DISTRIBUTIONS = {"kolmo": "kolmo-codelength", "PIL": "pillow"}  # module -> distribution, where they differ
PLAIN, PACKED, RESTORED = "{plain}", "{packed}", "{restored}"  # placeholders of command lines


def _every(path: Path) -> bool:
    return True


@dataclass(frozen=True)
class Tool:
    """A compressor.

    Attributes:
        key: its name on the command line.
        label: its name in tables.
        programs: programs, of which the first that is installed is run; or modules of Python, for `worker`.
        encode, decode: arguments, with placeholders. Without that of its output a command writes to standard output.
        suffix: of packed files.
        takes: whether it is for a file.
        module: whether `programs` are modules.
        pixels: whether the content that has to come back is pixels or samples, and not the bytes of the file.
    """

    key: str
    label: str
    programs: tuple[str, ...]
    encode: str
    decode: str
    suffix: str = ".packed"
    takes: Callable[[Path], bool] = _every
    module: bool = False
    pixels: bool = False

    def command(self) -> list[str] | None:
        """The start of its command line; None: it is not installed."""
        if self.programs == ("kolmo",):
            return [sys.executable, "-m", "kolmo"]
        if self.module:
            here = all(name in sys.stdlib_module_names or find_spec(name) for name in self.programs)
            return [sys.executable, "-m", "kolmo.bench.worker"] if here else None
        found = next(filter(None, map(shutil.which, self.programs)), None)
        return [found] if found else None

    def version(self) -> str:
        """Its version, as well as it can be found out; "" where it cannot."""
        from importlib.metadata import PackageNotFoundError, version

        if self.programs == ("kolmo",) or self.module:
            try:
                return version(DISTRIBUTIONS.get(self.programs[0], self.programs[0]))
            except PackageNotFoundError:
                return "of Python " + ".".join(map(str, sys.version_info[:3]))
        command = self.command()
        if command is None:
            return ""
        try:
            asked = subprocess.run(
                [*command, "--version"], stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=20
            )
        except (OSError, subprocess.TimeoutExpired):
            return ""
        match = re.search(rb"\d+\.\d+[.\d]*", asked.stdout[:2000] + b"\n" + asked.stderr[:2000])
        return match.group().decode().rstrip(".") if match else ""


def _program(key: str, label: str, programs: Sequence[str], encode: str, decode: str, suffix: str) -> Tool:
    return Tool(key, label, tuple(programs), encode, decode, suffix)


def _library(
    key: str,
    label: str,
    modules: Sequence[str],
    suffix: str,
    takes: Callable[[Path], bool] = _every,
    media: bool = False,
) -> Tool:
    name = key.removesuffix("-python")
    return Tool(
        key,
        label,
        tuple(modules),
        f"{name} encode {PLAIN} {PACKED}",
        f"{name} decode {PACKED} {RESTORED}",
        suffix,
        takes,
        module=True,
        pixels=media,
    )


PROGRAMS = (
    _program("gzip", "gzip -9", ["gzip"], f"-9 -c {PLAIN}", f"-d -c {PACKED}", ".gz"),
    _program("bzip2", "bzip2 -9", ["bzip2"], f"-9 -c {PLAIN}", f"-d -c {PACKED}", ".bz2"),
    _program("xz", "xz -9e", ["xz"], f"-9e -T1 -c {PLAIN}", f"-d -T1 -c {PACKED}", ".xz"),
    _program("zstd", "zstd -19", ["zstd"], f"-q -T1 -19 -c {PLAIN}", f"-q -d -c {PACKED}", ".zst"),
    _program("brotli", "brotli -q 11", ["brotli"], f"-q 11 -w 24 -c {PLAIN}", f"-d -c {PACKED}", ".br"),
    _program("bzip3", "bzip3 -b 16", ["bzip3"], f"-e -b 16 -c {PLAIN}", f"-d -c {PACKED}", ".bz3"),
    _program("lz4", "lz4 -9", ["lz4"], f"-q -9 -c {PLAIN}", f"-q -d -c {PACKED}", ".lz4"),
    _program(
        "7z",
        "7z PPMd o16 256 MiB",
        ["7zz", "7z", "7za"],
        f"a -bd -mmt=1 -m0=PPMd:o=16:mem=256m {PACKED} {PLAIN}",
        f"e -so -mmt=1 {PACKED}",
        ".7z",
    ),
    _program(
        "zpaq",
        "zpaq -m5",
        ["zpaq"],
        f"add {PACKED} {PLAIN} -method 5 -threads 1",
        f"extract {PACKED} {PLAIN} -to {RESTORED} -force -threads 1",
        ".zpaq",
    ),
    _program("paq8px", "paq8px -8", ["paq8px"], f"-8 {PLAIN} {PACKED}", f"-d {PACKED} {RESTORED}", ".paq8px"),
)
LIBRARIES = (  # taken where there is no program of the name before the dash
    _library("gzip-python", "gzip -9 (Python)", ["zlib"], ".gz"),
    _library("bzip2-python", "bzip2 -9 (Python)", ["bz2"], ".bz2"),
    _library("xz-python", "xz -9e (Python)", ["lzma"], ".xz"),
    _library("zstd-python", "zstd -19 (Python)", ["zstandard"], ".zst"),
    _library("brotli-python", "brotli -q 11 (Python)", ["brotli"], ".br"),
    _library("png", "PNG", ["PIL"], ".png", is_picture, True),
    _library("webp", "WebP lossless", ["PIL"], ".webp", is_picture, True),
    _library("jxl", "JPEG XL -e 9", ["imagecodecs"], ".jxl", is_picture, True),
    _library("flac", "FLAC -8", ["soundfile"], ".flac", is_sound, True),
)
PEERS = {tool.key: tool for tool in (*PROGRAMS, *LIBRARIES)}


def kolmo(level: int) -> Tool:
    """Kolmo at a level."""
    return Tool(
        f"kolmo-{level}",
        f"kolmo -{level}",
        ("kolmo",),
        f"compress -{level} -c -T 1 {PLAIN}",
        f"decompress -c -T 1 {PACKED}",
        ".kmo",
    )


def chosen(names: Sequence[str] | None) -> list[Tool]:
    """The peers of these names that are installed; None: all of them that are.

    Raises:
        KolmoError: a name is not known, or not installed.
    """
    if names is None:
        programs = [tool for tool in PROGRAMS if tool.command()]
        there = {tool.key for tool in programs}
        others = [tool for tool in LIBRARIES if tool.key.removesuffix("-python") not in there and tool.command()]
        return [*programs, *others]
    found = []
    for name in names:
        ways = [PEERS[key] for key in (name, f"{name}-python") if key in PEERS]
        if not ways:
            raise KolmoError(f"compressor {name!r} is not known; choose from {', '.join(PEERS)}")
        here = next((tool for tool in ways if tool.command()), None)
        if here is None:
            raise KolmoError(f"compressor {name!r} is not installed; leave it out, or install {ways[0].programs[0]}")
        found.append(here)
    return found
