"""Makes `lanes.kmo`: `python tests/independent/files/make.py FOLDER`, once. A text of 4 MiB, which has two lanes.

Beside it, `lanes.starts` holds the first bytes of each lane, which is what the test decodes.
"""

from __future__ import annotations

import sys
from pathlib import Path

import kolmo

ROOT = Path(__file__).parents[3]
NETWORK = ROOT / "tests/golden/v0.1.0/networks/v1-tiny.safetensors"
SIZE, LANES, START = 4 << 20, 2, 150


def text() -> bytes:
    """A program again and again, numbered."""
    program = (ROOT / "tests/golden/v0.1.0/v1-code-1.raw").read_bytes()
    return b"".join(b"%d %s\n" % (number, program) for number in range(SIZE // len(program)))[:SIZE]


def main(folder: Path) -> None:
    """Write both files."""
    raw = text()
    (folder / "lanes.kmo").write_bytes(kolmo.compress(raw, predictor=f"network:{NETWORK}:5"))
    step = SIZE // LANES
    (folder / "lanes.starts").write_bytes(b"".join(raw[lane * step :][:START] for lane in range(LANES)))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
