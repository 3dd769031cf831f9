"""The main job on a file that ships with the repository: compress, decompress, compare, print the sizes.

    python examples/first_run.py

Calls the real command line, `kolmo compress` and `kolmo decompress`, in a temporary folder; nothing stays behind.
The sample, its source and its licence: examples/README.md. What it is not: a benchmark (docs/benchmarks/lossless.md).
"""

from __future__ import annotations

import gzip
import lzma
import subprocess
import sys
import tempfile
from pathlib import Path

from kolmo.native.dispatch import SLOW

SAMPLE = Path(__file__).parent / "sample.txt"
SLOW_PART = 2_048  # bytes of the sample that are used where no C kernels were built
LEVELS = (1, 5, 9)


def kolmo(*arguments: str | Path) -> None:
    """Run the command line; an error ends this program too."""
    done = subprocess.run([sys.executable, "-m", "kolmo", *map(str, arguments)], check=False)
    if done.returncode:
        sys.exit(done.returncode)


def packed_size(source: Path, level: int) -> int:
    """Size of `source` after `kolmo compress`; it counts only if `kolmo decompress` gives every byte back."""
    packed, restored = source.with_suffix(f".{level}.kmo"), source.with_suffix(f".{level}.restored")
    kolmo("compress", f"-{level}", source, "-o", packed)
    kolmo("decompress", packed, "-o", restored)
    if restored.read_bytes() != source.read_bytes():
        sys.exit(f"{packed}: decompressed, it is not the original; please report this")
    return packed.stat().st_size


def main() -> None:
    """Measure every compressor on the sample and print a table."""
    data = SAMPLE.read_bytes()
    about = f"{SAMPLE.name}: {len(data):,} bytes of an English book"
    if SLOW:
        data = data[:SLOW_PART]
        about += f", cut to {len(data):,}:\nno C kernels were built here, and the NumPy ones are slow"
    sizes = {
        "original": len(data),
        "gzip -9": len(gzip.compress(data, 9, mtime=0)),
        "xz -9e": len(lzma.compress(data, preset=9 | lzma.PRESET_EXTREME)),
    }
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / SAMPLE.name
        source.write_bytes(data)
        for level in LEVELS:
            sizes[f"kolmo -{level}"] = packed_size(source, level)

    print(f"{about}\n")
    print(f"{'':<10}{'bytes':>10}{'of original':>14}{'bits per byte':>16}")
    for name, size in sizes.items():
        print(f"{name:<10}{size:>10,}{size / len(data):>14.1%}{8 * size / len(data):>16.3f}")
    print("\nkolmo's files were decompressed and compared with the original: equal in every byte.")


if __name__ == "__main__":
    main()
