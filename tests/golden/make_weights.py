"""Makes the golden files of shrunk checkpoints: `PYTHONPATH=tests python -m golden.make_weights`, once.

Files that exist are never replaced. Beside each stands the SHA-256 of the checkpoint that it expands to.
"""

from __future__ import annotations

import hashlib
import random
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import kolmo
from golden import RELEASE, record
from kolmo.hyperfunctions import TorusOptions, TrellisOptions
from kolmo.weights.goals import DEFAULT_GOAL

HERE = RELEASE / "weights"


@dataclass(frozen=True)
class Case:
    """How a file is written: arguments of `kolmo.shrink`."""

    goal: Any = DEFAULT_GOAL
    hyperfunction: Any = "trellis"
    prune: float = 0.0
    wide: bool = False  # rows that are long enough for the bitshift trellis, too


CASES = {
    "v1-trellis-8": Case(kolmo.Step(0.25)),
    "v1-trellis-64": Case(kolmo.Step(0.25), TrellisOptions(states=64)),
    "v1-trellis-1": Case(kolmo.Step(0.5), TrellisOptions(states=1)),
    "v1-trellis-coarse": Case(kolmo.Step(4.0)),
    "v1-trellis-fine": Case(kolmo.Step(2.0**-12)),
    "v1-trellis-pruned": Case(kolmo.Step(0.25), prune=0.6),
    "v1-lossless": Case(kolmo.Lossless()),
    "v1-bitshift-3": Case(kolmo.Bits(3), "bitshift", wide=True),
    "v1-bitshift-mixed": Case(kolmo.Bits(2.6), "bitshift", wide=True),
    "v1-torus-llm": Case(hyperfunction=TorusOptions("llm")),
    "v1-torus-mobilenet": Case(hyperfunction=TorusOptions("mobilenet")),
}
CALIBRATED = (
    "v1-calibrated"  # opened alone: sums of floats, which no two machines need to have in common, decide its codes
)


def checkpoint(wide: bool = False) -> dict[str, npt.NDArray[Any]]:
    """Tensors of many kinds; sums of twelve dice are nearly Gaussian, and the same with every NumPy."""
    dice = random.Random(0)

    def draw(*shape: int) -> npt.NDArray[np.float32]:
        count = int(np.prod(shape))
        rolls = np.frombuffer(dice.randbytes(12 * count), np.uint8).reshape(count, 12).astype(np.int64)
        values: npt.NDArray[np.float32] = ((rolls.sum(1) - 1530) / 256).astype(np.float32).reshape(shape)
        return values

    scales = (2.0 ** np.arange(-3, 3, 6 / 40)).astype(np.float32)[:, None]
    tensors: dict[str, npt.NDArray[Any]] = {
        "matrix": draw(40, 30) * scales,
        "outlier": draw(33, 35),
        "conv.weight": draw(12, 10, 3, 3).astype(np.float16),
        "experts": draw(3, 20, 24).astype(np.float64),
        "line": draw(1030, 2),
        "norm.weight": draw(40),
        "steps": np.arange(3, dtype=np.int64),
        "mask": np.arange(2048).reshape(64, 32) % 3 == 0,
        "empty": np.zeros((0, 4), np.float32),
    }
    tensors["outlier"][3, 5] = 900
    tensors["wild"] = draw(40, 30)
    tensors["wild"][3, 5], tensors["wild"][7, 7] = 1e9, -np.inf
    tensors["zeros"] = np.zeros((40, 30), np.float16)
    tensors["constant"] = np.full((40, 30), 0.1, np.float32)
    tensors["tied"] = tensors["matrix"]
    if wide:
        tensors["wide"] = draw(21, 96) * scales[:21]
        tensors["odd"] = draw(17, 150).astype(np.float16)
        tensors["loud"] = draw(16, 128)
        tensors["loud"][3, 5] = 900
    return tensors


def write(name: str, path: Path) -> None:
    """Write the case of this name."""
    case = CASES[name]
    selection = kolmo.Selection(prune=case.prune)
    kolmo.shrink(checkpoint(case.wide), path, case.goal, hyperfunction=case.hyperfunction, selection=selection)


def write_calibrated(path: Path) -> None:
    """Write a calibrated network of two layers; takes torch."""
    import torch

    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(64, 40), torch.nn.ReLU(), torch.nn.Linear(40, 32))
    samples = [torch.randn(32, 64) * torch.linspace(0.1, 3, 64) for _ in range(8)]
    kolmo.shrink(network, path, kolmo.Bits(3), calibrate=samples)


def expanded(path: Path) -> str:
    """SHA-256 of the checkpoint that a file holds."""
    with tempfile.TemporaryDirectory() as folder:
        kolmo.expand(path, Path(folder) / "plain")
        return hashlib.sha256((Path(folder) / "plain").read_bytes()).hexdigest()


def main() -> None:
    """Write the files that do not exist yet."""
    for name in (*CASES, CALIBRATED):
        path = HERE / f"{name}.safetensors"
        if not path.exists():
            if name == CALIBRATED:
                write_calibrated(path)
            else:
                write(name, path)
            path.with_suffix(".sha256").write_text(expanded(path) + "\n")
            print(f"{name}: {path.stat().st_size} bytes")
    record()


if __name__ == "__main__":
    main()
