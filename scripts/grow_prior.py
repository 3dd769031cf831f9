"""Make the priors of version 2 from those of version 1: `python scripts/grow_prior.py BEFORE TEXTS LINES`.

BEFORE holds the files of version 1 (git show b93c4dc:src/kolmo/predictors/embedded/priors/NAME.bin), TEXTS the texts
of `train_prior.py`, LINES code and lines (logs, tables, JSON). Contexts that version 1 had keep their probabilities,
and the final mixer and the maps their numbers; the probabilities of new contexts, and the first layer's weights, are
what a run over samples of both folders learns. The same folders give the same priors.
"""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path

import numpy as np

import train_prior
from kolmo.predictors.embedded import neural_levels, text
from kolmo.predictors.embedded.context_mixing import SHAPES, Shape, inflate, pack_prior, plain_prior, unpack_prior
from kolmo.training.products import priors

MATCHES, FINAL = 32, 16
MOST = 100_000  # bytes of a sample that are used
WEIGHTS = {"wiki_en": 6, "code": 10, "novels_en": 4, "books_en": 3, "nltk": 3, "latex": 2}
_FULL = (0, 1, 2, 3, 4, 6, 8, 9, 10, 11, 14, 15, 16, 17, 18, 19, 20, 22, 23, 25, 27, 29)
_LARGE = (*_FULL, 5, 7, 12, 13, 21, 24, 26, 28, 30, 31, 32, 33, 34, 35)
# Version 1: contexts, selectors, whether it reads a network.
BEFORE = {
    "fast": ((1, 3, 5, 8), (1,), False),
    "light": ((1, 2, 3, 4, 6, 8, 9, 17, 18, 20), (1, 2, 3), False),
    "medium": ((0, 1, 2, 3, 4, 6, 8, 9, 10, 16, 17, 18, 20, 27), (1, 0, 2, 3, 6), False),
    "full": (_FULL, (1, 0, 2, 3, 4, 6, 7), False),
    "large": (_LARGE, (1, 0, *range(2, 12)), False),
    "neural-fast": ((1, 2, 3, 5, 8), (1, 14), True),
    "neural-light": ((1, 2, 3, 4, 6, 8, 9, 15, 17, 18, 19, 20, 25), (1, 14, 2, 3, 6), True),
    "neural-full": ((*_FULL, 5, 28, 31, 35, 37, 38, 39), (1, 2, 3, 4, 5, 6, 7, 13, 15), True),
    "neural-large": (
        (*(c for c in _LARGE if c not in (5, 24, 29, 32)), 36, 37, 38, 39),
        (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 13, 15),
        True,
    ),
}


def grown(shape: Shape, stored: bytes) -> bytes:
    """A prior of the shape (the layout of `plain_prior`) from that of version 1: new contexts have a small weight."""
    contexts, selectors, network = BEFORE[shape.name]
    m, s = len(contexts), len(selectors)
    inputs, rest = 2 * m + 3 + 2 * network + 7 & ~7, 2 * m + 3 + 2 * network
    averages, numbers = 256 * m + MATCHES, s * (2 * m + 3 + 2 * network + 7 & ~7) + FINAL
    data = inflate(stored)
    maps = np.frombuffer(data, "<u2", averages).astype(np.int64) << 16 | 1 << 15
    maps |= np.frombuffer(data, np.uint8, averages, 2 * averages)
    weights = np.frombuffer(data, "<i2", numbers, 3 * averages).astype(np.int64) << 16
    sets, final = weights[: s * inputs].reshape(s, inputs), weights[s * inputs :]
    prior = np.frombuffer(plain_prior(shape), np.int32).astype(np.int64)
    n = len(shape.contexts)
    new = np.zeros((len(shape.selectors), shape.inputs), np.int64)
    for i, context in enumerate(shape.contexts):
        if context in contexts:
            at = contexts.index(context)
            prior[256 * i + 1 : 256 * (i + 1)] = maps[256 * at + 1 : 256 * (at + 1)]
        for row, selector in zip(new, shape.selectors, strict=True):
            old = sets[selectors.index(selector) if selector in selectors else 0]
            row[i] = old[at] if context in contexts else (1 << 27) // 12
            row[n + i] = old[m + at] if context in contexts else 0
            row[2 * n : 2 * n + rest - 2 * m] = old[2 * m : rest]
    first, last = 256 * n, 256 * n + MATCHES
    prior[first:last] = maps[256 * m :]
    prior[last : last + new.size] = new.ravel()
    for j, selector in enumerate(shape.selectors):
        prior[last + new.size + j] = (
            final[selectors.index(selector)] if selector in selectors else (1 << 27) // len(new)
        )
    prior[last + new.size + len(new) : last + new.size + FINAL] = 0
    prior[last + new.size + FINAL :] = np.frombuffer(data, "<u2", -1, 3 * averages + 2 * numbers)
    return (prior & 0xFFFFFFFF).astype(np.uint32).tobytes()


def main() -> None:
    """Draw the samples, train every shape, write the files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("before", "texts", "lines"):
        parser.add_argument(name, type=Path)
    options = parser.parse_args()
    texts = train_prior.take_samples(options.texts, WEIGHTS, 2_500_000, 1)
    train_prior.SIZES = (2_000, 8_000, 30_000)
    lines = train_prior.take_samples(options.lines, {"structured": 2}, 150_000, 7)
    samples = [sample[:MOST] for sample in (*lines, *texts)]
    print(f"{len(samples)} samples, {sum(map(len, samples)):,} bytes, {hashlib.sha256(b''.join(samples)).hexdigest()}")
    for shape in (*SHAPES, *neural_levels.SHAPES):
        began = grown(shape, (options.before / f"{shape.name}.bin").read_bytes())
        packed = priors.train_prior(shape, samples, began, text.network() if shape.network else None)
        prior, learned = (np.frombuffer(p, np.int32) for p in (began, unpack_prior(shape, packed)))
        prior = prior.copy()
        for i, context in enumerate(shape.contexts):
            if context not in BEFORE[shape.name][0]:
                prior[256 * i : 256 * (i + 1)] = learned[256 * i : 256 * (i + 1)]
        first = 256 * len(shape.contexts) + MATCHES
        last = first + len(shape.selectors) * shape.inputs
        prior[first:last] = learned[first:last]
        packed = pack_prior(shape, prior.tobytes())
        (train_prior.PRIORS / f"{shape.name}.bin").write_bytes(packed)
        print(f"| `{shape.name}.bin` | {len(packed):,} | `{hashlib.sha256(packed).hexdigest()}` |")


if __name__ == "__main__":
    main()
