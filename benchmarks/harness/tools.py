"""The compressors beside which kolmo is measured, and kolmo: command lines as their users write them."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass

PLAIN, PACKED, RESTORED = "{plain}", "{packed}", "{restored}"  # placeholders in a tool's command lines


@dataclass(frozen=True)
class Tool:
    """A compressor: its command lines, with placeholders for the three files.

    A command without its output's placeholder writes to stdout.
    """

    label: str
    programs: tuple[str, ...]  # the first one installed is used
    encode: str
    decode: str
    version: str = "--version"
    suffix: str = ".packed"

    def program(self) -> list[str] | None:
        """The start of the command line, or None where the tool is not installed."""
        if self.programs == ("kolmo",):
            # This interpreter's package rather than whichever script comes first on the path.
            command = [sys.executable, "-m", "kolmo"]
            probe = subprocess.run([*command, "--version"], stdin=subprocess.DEVNULL, capture_output=True, check=False)
            return command if probe.returncode == 0 else None
        found = next(filter(None, map(shutil.which, self.programs)), None)
        return [found] if found else None

    def version_text(self, program: Sequence[str]) -> str:
        """The version number that the tool prints of itself, wherever it prints it."""
        asked = [*program, *self.version.split()]
        done = subprocess.run(asked, stdin=subprocess.DEVNULL, capture_output=True, check=False)
        match = re.search(rb"\d+\.\d+[.\d]*", done.stdout[:2000] + b"\n" + done.stderr[:2000])
        return match.group().decode().rstrip(".") if match else "unknown"


PEERS = {
    "gzip-9": Tool("gzip -9", ("gzip",), f"-9 -c {PLAIN}", f"-d -c {PACKED}", suffix=".gz"),
    "bzip2-9": Tool("bzip2 -9", ("bzip2",), f"-9 -c {PLAIN}", f"-d -c {PACKED}", version="--help", suffix=".bz2"),
    "xz-9e": Tool("xz -9e", ("xz",), f"-9e -T1 -c {PLAIN}", f"-d -T1 -c {PACKED}", suffix=".xz"),
    "zstd-19": Tool("zstd -19", ("zstd",), f"-q -T1 -19 -c {PLAIN}", f"-q -d -c {PACKED}", suffix=".zst"),
    "zstd-22": Tool(
        "zstd --ultra -22",
        ("zstd",),
        f"-q -T1 --ultra -22 -c {PLAIN}",
        f"-q -d --long=31 -c {PACKED}",
        suffix=".zst",
    ),
    "brotli-11": Tool("brotli -q 11 -w 24", ("brotli",), f"-q 11 -w 24 -c {PLAIN}", f"-d -c {PACKED}", suffix=".br"),
    "bzip3-16": Tool("bzip3 -b 16", ("bzip3",), f"-e -b 16 -c {PLAIN}", f"-d -c {PACKED}", suffix=".bz3"),
    "ppmd-16": Tool(
        "7z PPMd o16 256 MiB",
        ("7zz", "7z", "7za"),
        f"a -bd -mmt=1 -m0=PPMd:o=16:mem=256m {PACKED} {PLAIN}",
        f"e -so -mmt=1 {PACKED}",
        version="",
        suffix=".7z",
    ),
    "zpaq-5": Tool(
        "zpaq -m5",
        ("zpaq",),
        f"add {PACKED} {PLAIN} -method 5 -threads 1",
        f"extract {PACKED} {PLAIN} -to {RESTORED} -force -threads 1",
        version="",
        suffix=".zpaq",
    ),
    **{
        f"paq8px-{level}": Tool(
            f"paq8px -{level}",
            ("paq8px",),
            f"-{level} {PLAIN} {PACKED}",
            f"-d {PACKED} {RESTORED}",
            version="",
            suffix=".paq8px",
        )
        for level in (6, 8)
    },
}


def kolmo(level: int, threads: int = 1) -> Tool:
    """Kolmo at one level."""
    options = f"-c -T {threads}"
    return Tool(
        f"kolmo -{level}",
        ("kolmo",),
        f"compress -{level} {options} {PLAIN}",
        f"decompress {options} {PACKED}",
        suffix=".kmo",
    )
