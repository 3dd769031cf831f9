"""Fuzz target for GGUF files without a loss: the reader of their headers, and that of what kolmo made of them.

    python fuzz/gguf_files.py [CORPUS] -max_total_time=600     with atheris (pip install "kolmo[fuzz]"), else for ever
    python fuzz/gguf_files.py [FOLDER_OR_FILE ...]             without: every file once, and its mutations

A finding is any exception other than `KolmoError`, or a GGUF file that does not come back. Seeds: a small GGUF file and
what it shrinks to, made anew in each run. What it is not: a proof; nearly all damage of a shrunk file ends at a
checksum, so codes of parts are also decoded alone.
"""

from __future__ import annotations

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
SHARE = 20  # of the tests' file: the NumPy kernels take a minute for the whole of it


def seeds(folder: Path) -> None:
    """Write the seeds into a folder."""
    (folder / "model.gguf").write_bytes(small_file(SHARE))
    file.shrink(folder / "model.gguf", folder / "model.gguf.kolmo")


def check(data: bytes) -> str:
    """Read `data` as a GGUF file, as a shrunk one, and as the code of a part; returns what each came to.

    Raises:
        AssertionError: a GGUF file does not come back.
    """
    with tempfile.TemporaryDirectory() as folder:
        path, small, again = (Path(folder) / name for name in ("given", "small", "again"))
        path.write_bytes(data)
        said = []
        try:
            file.shrink(path, small, threads=1)
        except KolmoError as error:
            said.append(str(error))
        else:
            file.expand(small, again, threads=1)
            assert again.read_bytes() == data, "another file comes back"
            said.append("shrunk")
        again.unlink(missing_ok=True)
        try:
            file.expand(path, again, threads=1)
            said.append("expanded")
        except KolmoError as error:
            said.append(str(error))
        return "; ".join([*said, _part(data)]).replace(folder, "")


def _part(data: bytes) -> str:
    """As the code of a part: the fuzzer chooses the type, and all that is in the code; returns what it came to."""
    number = data[0] % len(KINDS) if data else 0
    kind, columns = KINDS[number], 256
    part = Part(0, kind, columns, ROWS * coding.row_bytes(kind, columns))
    code = data[1 : part.size]
    name = chr(ord("A") + number)  # a letter, as numbers are left out of outcomes
    try:
        found = coding.decode(replace(part, stored=len(code)), code)
    except KolmoError as error:
        return f"{name}: {error}"
    assert len(found) == part.size, "a part of another size"
    return f"{name}: decoded"


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made:
        seeds(Path(made))
        sys.exit(main(check, Path(made), sys.argv[1:]))
