"""Makes `bitshift.json`: `python tests/independent/files/make_bitshift.py FILE`, once.

Each case has a payload, and SHA-256 of the decoded weights and of the product with the activations of `activations`.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

CASES = {  # bits, states, rotated, seed, shape
    "rotated": (2, 4096, True, 5, (19, 70)),
    "plain": (3, 4096, False, 0, (17, 33)),
    "large": (4, 65536, True, 1, (5, 64)),
}


def activations(columns: int) -> npt.NDArray[np.float32]:
    """Three rows; the second is 0."""
    values = (np.arange(3 * columns) * 37 % 101 - 50).reshape(3, columns) / 16
    values[1] = 0
    return values.astype(np.float32)


def matrix(shape: tuple[int, int]) -> npt.NDArray[np.float32]:
    """Rows of several scales, one of them 0."""
    values = (np.arange(shape[0] * shape[1]) * 7919 % 2003 - 1001).reshape(shape) / 512
    values *= 2.0 ** (np.arange(shape[0]) % 7 - 3)[:, None]
    values[2] = 0
    return values.astype(np.float32)


def main(path: Path) -> None:
    """Write the file."""
    bitshift: Any = importlib.import_module("kolmo.hyperfunctions.bitshift")
    cases = {}
    for name, (bits, states, rotated, seed, shape) in CASES.items():
        recipe = bitshift.Bitshift(bits, states, rotated, seed)
        payload = recipe.encode(matrix(shape))
        product = recipe.product(payload, shape, activations(shape[1]))
        cases[name] = {
            "shape": shape,
            "payload": payload.hex(),
            "weights": hashlib.sha256(recipe.decode(payload, shape).tobytes()).hexdigest(),
            "product": hashlib.sha256(product.tobytes()).hexdigest(),
        }
    path.write_text(json.dumps(cases, indent=1) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
