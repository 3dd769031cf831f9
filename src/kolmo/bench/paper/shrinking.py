"""Models in folders once more with small weights, so that the U counts what was measured.

`kolmo.shrink` is on this floor, so the caller hands it in. What it is not: it shrinks nothing itself.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

from kolmo.bench.paper.codecs import Codec, Tokenised, codecs_of
from kolmo.progress import Phases

Shrink = Callable[[Path, Path], object]
"""Makes a folder of small weights, the second, of a folder of transformers, the first."""
FOLDER = "shrunk"  # of the folder of figures


def with_shrunk(
    codecs: Sequence[Codec], shrink: Shrink, output: Path, progress: Phases
) -> tuple[list[Codec], dict[str, str]]:
    """The compressors, each model in a folder followed by itself with small weights; labels of these by the model's.

    A folder of small weights that an earlier run made of the same weights is taken as it is.
    """
    found: list[Codec] = []
    labels: dict[str, str] = {}
    for codec in codecs:
        found.append(codec)
        source = Path(codec.key.partition(":")[2])
        if not (isinstance(codec, Tokenised) and codec.key.startswith("hf:") and source.is_dir()):
            continue
        if codec.facts.parameters is None:  # small weights already
            continue
        target = output / FOLDER / hashlib.sha256(codec.identity.encode()).hexdigest()[:16]
        if not target.is_dir():
            target.parent.mkdir(parents=True, exist_ok=True)
            with progress(f"{codec.label} shrinking", 0):
                shrink(source, target)
        (small,) = codecs_of([f"hf:{target}"])
        small.label = f"{codec.label}, shrunk"
        labels[codec.label] = small.label
        found.append(small)
    return found, labels
