"""Fuzz target for GGUF files without a loss: the reader of their headers, and that of what kolmo made of them.

    python fuzz/gguf_files.py [CORPUS] -max_total_time=600     with atheris (pip install "kolmo[fuzz]"), else for ever
    python fuzz/gguf_files.py [FOLDER_OR_FILE ...]             without: every file once, and its mutations

A finding is any exception other than `KolmoError`, or a GGUF file that does not come back. Seeds: a small GGUF file and
what it shrinks to, made anew in each run. What it is not: a proof; nearly all damage of a shrunk file ends at a
checksum, so codes of parts are also decoded alone.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from fuzzing import main

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from helpers.gguf_bytes import small_file
from kolmo.errors import KolmoError
from kolmo.weights.gguf import coding, file
from kolmo.weights.gguf.coding import Part
from kolmo.weights.gguf.fields import TYPES

KINDS = sorted([*TYPES, *coding.FLOATS])
ROWS = 3  # of the parts that are decoded alone


def seeds(folder: Path) -> None:
    """Write the seeds into a folder."""
    (folder / "model.gguf").write_bytes(small_file())
    file.shrink(folder / "model.gguf", folder / "model.gguf.kolmo")


def check(data: bytes) -> None:
    """Read `data` as a GGUF file, as a shrunk one, and as the code of a part.

    Raises:
        AssertionError: a GGUF file does not come back.
    """
    with tempfile.TemporaryDirectory() as folder:
        path, small, again = (Path(folder) / name for name in ("given", "small", "again"))
        path.write_bytes(data)
        with contextlib.suppress(KolmoError):
            file.shrink(path, small, threads=1)
            file.expand(small, again, threads=1)
            assert again.read_bytes() == data, "another file comes back"
        again.unlink(missing_ok=True)
        with contextlib.suppress(KolmoError):
            file.expand(path, again, threads=1)
    _part(data)


def _part(data: bytes) -> None:
    """As the code of a part: the fuzzer chooses the type, and all that is in the code."""
    kind = KINDS[data[0] % len(KINDS)] if data else KINDS[0]
    columns = 256
    part = Part(0, kind, columns, ROWS * coding.row_bytes(kind, columns))
    code = data[1 : part.size]
    with contextlib.suppress(KolmoError):
        assert len(coding.decode(replace(part, stored=len(code)), code)) == part.size, "a part of another size"


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made:
        seeds(Path(made))
        sys.exit(main(check, Path(made), sys.argv[1:]))
