"""The command `kolmo` in a process of its own, with the predictor `order0`: on pipes and on a pseudo-terminal."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import kolmo

DATA = b"".join(b"%d bottles of beer on the wall\n" % n for n in range(99))
HERE = Path(__file__).parents[1]
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), str(Path(kolmo.__file__).parents[1])])}
COMMAND = [sys.executable, "-c", "from helpers import order0; from kolmo.cli import main; main()"]
O0 = ["-m", "order0"]


def spawn(arguments: Sequence[str], data: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([*COMMAND, *arguments], input=data, env=ENVIRONMENT, capture_output=True, timeout=60)


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


def on_terminal(arguments: list[str], typed: bytes = b"", **pipes: int) -> tuple[int, bytes]:
    """Run on a pseudo-terminal; streams named in `pipes` are not on it. Returns the status and the screen."""
    master, slave = pty.openpty()
    ends = {"stdin": slave, "stdout": slave, "stderr": slave, **pipes}
    process = subprocess.Popen([*COMMAND, *arguments], env=ENVIRONMENT, **ends)  # type: ignore[call-overload]
    os.close(slave)
    if typed:
        os.write(master, typed)
    screen = b""
    while True:
        try:
            piece = os.read(master, 4096)
        except OSError:
            break
        if not piece:
            break
        screen += piece
    os.close(master)
    return process.wait(60), screen
