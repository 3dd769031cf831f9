"""Makes `lanes.kmo`: `python tests/independent/files/make.py FOLDER`, once. A text of two lanes, so of 4 MiB: the licence again and again.

Beside it, `lanes.starts` holds the first bytes of each lane, which is what the test decodes.
"""

from __future__ import annotations

import sys
from pathlib import Path

import kolmo

ROOT = Path(__file__).parents[3]
NETWORK = ROOT / "tests/golden/networks/v1-tiny.safetensors"
SIZE, LANES, START = 4 << 20, 2, 150


def text() -> bytes:
    """The licence, numbered."""
    licence = (ROOT / "LICENSE").read_text(encoding="utf-8")
    copies = "".join(f"Copy {number} of the licence\n{licence}" for number in range(2 * SIZE // len(licence)))
    return copies.encode()[:SIZE]


def main(folder: Path) -> None:
    """Write both files."""
    raw = text()
    (folder / "lanes.kmo").write_bytes(kolmo.compress(raw, predictor=f"network:{NETWORK}:5"))
    step = SIZE // LANES
    (folder / "lanes.starts").write_bytes(b"".join(raw[lane * step :][:START] for lane in range(LANES)))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
