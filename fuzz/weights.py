"""Fuzz target for shrunk checkpoints: header, record, payloads, checksums, by two readers that must agree.

    python fuzz/weights.py [CORPUS] -max_total_time=600     with atheris (pip install "kolmo[fuzz]"), else for ever
    python fuzz/weights.py [FOLDER_OR_FILE ...]             without: every file once, and its mutations

A finding is any exception other than `KolmoError`, or two readers that disagree. Seeds: the golden weights. What it
is not: a proof; nearly all damage ends at a checksum, so payloads are also read with checksums made to fit.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
from pathlib import Path

import numpy as np
from fuzzing import main

import kolmo
from kolmo.errors import KolmoError
from kolmo.hyperfunctions.trellis import Trellis
from kolmo.hyperfunctions.trellis_payload import HEADER, checksum
from kolmo.weights.format import lossless

GOLDEN = Path(__file__).resolve().parent.parent / "tests" / "golden" / "v0.1.0" / "weights"
SHAPES = ((40, 30), (12, 90), (1, 7))  # that payloads are read with


def check(data: bytes) -> str:
    """Read `data` as a file, whole and tensor by tensor, and as a payload; returns the error of the file.

    Raises:
        AssertionError: the readers disagree.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "small"
        path.write_bytes(data)
        try:
            whole = kolmo.load(path)
            said = "read"
        except KolmoError as error:
            whole, said = None, str(error).replace(folder, "")
        with contextlib.suppress(KolmoError):
            kolmo.load(path, base=True)
        if whole is not None:
            for name, values in whole.items():
                assert kolmo.load(path, [name])[name].tobytes() == values.tobytes(), f"{name} read alone is another"
    for shape in SHAPES:
        _payload(data, shape)
        _residual(data, shape)
    return said


def _payload(data: bytes, shape: tuple[int, int]) -> None:
    """As a trellis payload whose head is sound: the fuzzer chooses flags, states, activity and all that follows."""
    first = [*data[:4], 0, 0, 0, 0]
    head = ((0, 3, 6)[first[0] % 3], first[1] % 4, first[2] + 64 * first[3], 1.0, *[0] * 6)
    body = data[4:]
    with contextlib.suppress(KolmoError):
        found = Trellis(1.0).decode(HEADER.pack(*head, checksum(HEADER.pack(*head, 0), body, shape)) + body, shape)
        assert found.shape == shape


def _residual(data: bytes, shape: tuple[int, int]) -> None:
    """As a residual of a sound head and sound sizes, on a base of made levels: the fuzzer chooses all else."""
    first = [*data[:6], *[0] * 6]
    dtype = ("BF16", "F16", "F32", "F64")[first[0] % 4]
    bias = {"F16": 15, "F64": 1023}.get(dtype, 127)
    exponent = bias - first[1] % 15
    levels = np.arange(shape[0] * shape[1]) % (first[2] + 1) - first[3]
    base = Trellis(2.0 ** (exponent - bias), 1).encode_levels(levels.astype(np.int32).reshape(shape))
    body = data[6:]
    code = len(body) * first[4] // 256
    body = lossless.SIZES.pack(code, len(body) - code) + body
    head = first[5] % 8, first[5] // 8, exponent
    rest = lossless.HEAD.pack(*head, checksum(lossless.HEAD.pack(*head, 0), body, shape)) + body
    with contextlib.suppress(KolmoError):
        lossless.decode(base, rest, dtype, shape)


if __name__ == "__main__":
    sys.exit(main(check, GOLDEN, sys.argv[1:]))
