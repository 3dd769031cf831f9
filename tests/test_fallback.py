"""What must work without the C kernels: the reference opens small golden files, writes their bytes, has all levels."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from golden import RELEASE, find

SMALL = sorted(path for path in find("*.kmo") if path.with_suffix(".raw").stat().st_size <= 1200)


def run(*arguments: str, data: bytes) -> bytes:
    return subprocess.run(
        [sys.executable, "-m", "kolmo", *arguments],
        input=data,
        stdout=subprocess.PIPE,
        env={**os.environ, "KOLMO_KERNEL": "reference"},
        check=True,
    ).stdout


@pytest.mark.parametrize("path", SMALL, ids=lambda path: path.stem)
def test_the_reference_opens_golden_files(path: Path) -> None:
    assert run("decompress", "-c", "-q", data=path.read_bytes()) == path.with_suffix(".raw").read_bytes()


@pytest.mark.parametrize("level", [1, 5, 9])
def test_the_reference_writes_the_golden_bytes(level: int) -> None:
    path = RELEASE / f"v1-prose-{level}.kmo"
    arguments = ("compress", "-m", f"cm:{level}", "-c", "-q")
    assert run(*arguments, data=path.with_suffix(".raw").read_bytes()) == path.read_bytes()


@pytest.mark.parametrize("level", [5, 9])
def test_the_reference_has_all_levels(level: int) -> None:
    data = b"The house stands on the hill; on the hill stands the house."  # NumPy takes its time with the network
    packed = run("compress", f"-{level}", "-c", "-q", data=data)
    assert len(packed) < len(run("compress", "-m", f"cm:{level}", "-c", "-q", data=data)) < 60 + len(data)
    assert run("decompress", "-c", "-q", data=packed) == data
